"""Every option of GraphUNet: nodes may come in any order, and gradients are right, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.nn import GraphConv

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    HierarchicalReadout,
    MixedGraphUNet,
    OfficialGraphUNet,
)
from tests.conftest import permuted, random_graph


def pools(**options: Any) -> Callable[[int, float], GPool]:
    return lambda channels, ratio: GPool(channels, ratio, **options)


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no skips": {"sum_res": None},
    "cat": {"sum_res": False, "connect": "induced"},
    "levels": {
        "select": "spread",
        "reduce": "mean",
        "connect": "contract",
        "lift": "interpolate",
    },
    "cat lifted": {"sum_res": False, "connect": "contract", "lift": "propagate"},
    "nearest walk": {"lift": "nearest", "connect": "walk", "reduce": "mean"},
    "batch norm": {"norm": "batch"},
    "graph norm": {"norm": "graph", "connect": "walk"},
    "sigmoid": {"pool": pools(gate="sigmoid", select="spread", connect="two_hop")},
    "tanh": {"pool": pools(gate="tanh", select="spread"), "connect": "walk"},
    "quantiles": {"pool": pools(select="spread", quantiles=4, connect="two_hop")},
    "structural": {"pool": pools(select="spread", quantiles=1, connect="contract")},
    "sampled": {"pool": pools(connect="sampled", max_degree=64)},
    "conv": {"conv": GraphConv, "sum_res": None},
    "conv levels": {"conv": GraphConv, "connect": "contract", "lift": "interpolate"},
    "drop": {"dropout": 0.3},
}


def made(*sizes: int, **options: Any) -> GraphUNet:
    return GraphUNet(*sizes, **options).double()


@pytest.mark.parametrize("name", OPTIONS)
def test_the_order_of_nodes_does_not_matter(name):
    torch.manual_seed(0)
    graph = random_graph(24, 60, dtype=torch.float64)
    x = torch.randn(24, 4, dtype=torch.float64)
    order = torch.randperm(24)
    other = permuted(graph, order)
    model = made(4, 6, 3, 2, act="elu", **OPTIONS[name]).eval()
    out = model(x, graph.edge_index, None, graph.edge_weight)
    again = model(x[order], other.edge_index, None, other.edge_weight)
    assert out.std() > 1e-4
    torch.testing.assert_close(again, out[order])


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name):
    torch.manual_seed(1)
    graph = random_graph(7, 18, dtype=torch.float64)
    x = torch.randn(7, 2, dtype=torch.float64)
    model = made(2, 3, 2, 2, act="tanh", **OPTIONS[name])

    upstream = torch.randn(7, 2, dtype=torch.float64)
    inputs = {"x": x, **dict(model.named_parameters())}
    ways = [{key: torch.randn_like(value) for key, value in inputs.items()} for _ in range(2)]

    def along(*steps):
        """The output, weighted at random, a step along random directions of all inputs."""
        moved = {
            key: value + sum(step * way[key] for step, way in zip(steps, ways))
            for key, value in inputs.items()
        }
        given = moved.pop("x"), graph.edge_index, None, graph.edge_weight
        torch.manual_seed(2)  # of what is dropped, or sampled
        return (torch.func.functional_call(model, moved, given) * upstream).sum()

    zeros = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in ways]
    assert torch.autograd.gradcheck(along, zeros)
    assert all(grad.abs() > 1e-6 for grad in torch.autograd.grad(along(*zeros), zeros))


DROPPED = {  # rows of what is dropped out, in turn, on a path of 16 nodes
    "GraphUNet": (lambda **options: GraphUNet(3, 8, 2, **options), [8, 4, 8, 16]),
    "official": (lambda **options: OfficialGraphUNet(3, 8, 2, **options), [16, 8, 4, 8, 16, 16]),
    "mixed": (lambda **options: MixedGraphUNet(3, 8, 2, **options), [16, 8, 4, 8, 16]),
    "auto-encoder": (lambda **options: GraphUNetAutoEncoder(3, 8, 4, **options), [8, 4, 8, 16]),
    "read-out": (
        lambda **options: HierarchicalReadout(GraphUNet(3, 8, 8, **options), 2),
        [8, 4, 8, 16, 1, 1],
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_at_every_site(name, monkeypatch):
    """Each by itself: a net that drops at one place less is random all the same."""
    build, rows = DROPPED[name]
    met, dropout = [], torch.nn.functional.dropout

    def spy(x, p=0.5, training=True, inplace=False):
        if p:
            met.append((x.size(0), p, training))
        return dropout(x, p, training, inplace)

    monkeypatch.setattr("torch.nn.functional.dropout", spy)
    model = build(depth=2, dropout=0.25)
    path = torch.stack([torch.arange(15), torch.arange(1, 16)])
    for mode in (True, False):
        met.clear()
        model.train(mode)(torch.randn(16, 3), torch.cat([path, path.flip(0)], dim=1))
        assert met == [(size, 0.25, mode) for size in rows]
