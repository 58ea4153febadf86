"""Hierarchies on another device or in another dtype."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder
from tests.conftest import random_graph

CONNECT = ("walk", "two_hop", "induced", "contract")


@pytest.mark.parametrize("lift", ["zero", "interpolate"])
@pytest.mark.parametrize("connect", CONNECT)
def test_a_hierarchy_moves_to_another_dtype(connect, lift):
    """Made in float32, moved to float64: as if the model had made it of edges."""
    graph = random_graph(40, 60, directed=False, loops=False)
    x = torch.randn(40, 4, dtype=torch.float64)
    torch.manual_seed(0)
    model = GraphUNetAutoEncoder(4, 8, 4, 3, connect=connect, lift=lift).double()
    made = model.prepare(graph.edge_index, num_nodes=40)
    moved = made.to(torch.float64)
    assert moved.depth == made.depth == 3
    torch.testing.assert_close(model(x, moved), model(x, graph.edge_index), rtol=1e-5, atol=1e-5)
    if connect == "walk":  # exact: made anew of ones, not cast from what float32 had rounded
        torch.testing.assert_close(model(x, moved), model(x, graph.edge_index))
    assert made.levels[1].graph.values.dtype == torch.float32  # left as it was


def test_a_batch_of_walks_moves_with_its_perms_and_transfers():
    graph = random_graph(40, 60, directed=False, loops=False)
    inside = (graph.edge_index[0] < 25) == (graph.edge_index[1] < 25)
    edges, batch = graph.edge_index[:, inside], (torch.arange(40) >= 25).long()
    model = GraphUNet(
        4, 8, 3, 2, connect="walk", lift="interpolate",
        pool=lambda c, r: GPool(c, r, select="spread", quantiles=1, reduce="mean"),
    ).double()  # fmt: skip
    made = model.prepare(edges, batch=batch)
    moved = made.to(torch.float64)
    for a, b in zip(made.levels, moved.levels, strict=True):
        assert torch.equal(a.batch, b.batch)
        assert a.num_nodes == b.num_nodes
        assert b.graph.values.dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(made.perms, moved.perms, strict=True))
    assert all(t.share.dtype == torch.float64 for t in moved.transfers)
    x = torch.randn(40, 4, dtype=torch.float64)
    torch.testing.assert_close(model(x, moved, batch), model(x, edges, batch), rtol=1e-5, atol=1e-5)
