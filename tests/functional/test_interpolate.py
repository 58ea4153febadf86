"""Lifting to dropped nodes: nearest kept nodes, interpolation and feature propagation."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pyg_gunet import GraphUNetAutoEncoder, GUnpool
from pyg_gunet.functional.interpolate import nearest_kept, prolongation, propagate_kept
from tests.conftest import awake, graphs_with_perm, permuted, random_batch, random_graph

PATH = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
EMPTY = torch.empty(2, 0, dtype=torch.long)
NAN = torch.full((4,), torch.nan)


def nearest_oracle(perm: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
    """By networkx, one search per kept node."""
    graph = nx.Graph(edge_index.t().tolist())
    graph.add_nodes_from(range(num_nodes))
    hops = np.full((perm.numel(), num_nodes), np.inf)
    for j, node in enumerate(perm.tolist()):
        for other, length in nx.single_source_shortest_path_length(graph, node).items():
            hops[j, other] = length
    found = torch.from_numpy(hops.argmin(0))  # the first of several
    return found.masked_fill(torch.from_numpy(np.isinf(hops.min(0))), -1)


def dense_step(perm: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
    matrix = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    matrix[edge_index[0], edge_index[1]] = 1
    matrix = ((matrix + matrix.t()) > 0).double().fill_diagonal_(0)
    matrix = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    matrix[perm] = torch.eye(num_nodes, dtype=torch.float64)[perm]
    return matrix


def dense_fill(x: Tensor, perm: Tensor, edge_index: Tensor, num_nodes: int, times: int) -> Tensor:
    nearest = nearest_oracle(perm, edge_index, num_nodes)
    out = torch.zeros(num_nodes, x.size(1), dtype=torch.float64)
    out[nearest >= 0] = x.double()[nearest[nearest >= 0]]
    return torch.linalg.matrix_power(dense_step(perm, edge_index, num_nodes), times) @ out


@settings(max_examples=100)
@given(graphs_with_perm())
def test_against_dense_oracles(pair):
    graph, perm = pair
    nearest = nearest_kept(perm, graph.edge_index, graph.num_nodes)
    assert torch.equal(nearest, nearest_oracle(perm, graph.edge_index, graph.num_nodes))
    x = torch.randn(perm.numel(), 3, generator=torch.Generator().manual_seed(perm.numel())).double()
    for times in (0, 1, 7):
        out = propagate_kept(x, perm, graph.edge_index, graph.num_nodes, times)
        expected = dense_fill(x, perm, graph.edge_index, graph.num_nodes, times)
        torch.testing.assert_close(out, expected)
        assert torch.equal(out[perm], x)


def test_the_limit_is_harmonic():
    graph = random_graph(40, 120, directed=False, loops=False, seed=3)
    perm, x = torch.arange(0, 40, 7), torch.randn(6, 2, dtype=torch.float64)
    out = propagate_kept(x, perm, graph.edge_index, 40, 3000)
    residual = dense_step(perm, graph.edge_index, 40) @ out - out
    assert float(residual.abs().max()) < 1e-10


@pytest.mark.parametrize("times", [0, 5])
def test_batch_equals_alone(times):
    batch = random_batch()
    edge_index, offsets = batch.edge_index, batch.offsets
    num_nodes = batch.batch.numel()
    perm = torch.cat([torch.tensor([start]) for start in offsets] + [torch.tensor([num_nodes - 1])])
    x = torch.randn(perm.numel(), 4)
    out = propagate_kept(x, perm, edge_index, num_nodes, times)
    for part, start in zip(batch.parts, offsets):
        own = (perm >= start) & (perm < start + part.num_nodes)
        alone = propagate_kept(x[own], perm[own] - start, part.edge_index, part.num_nodes, times)
        torch.testing.assert_close(out[start : start + part.num_nodes], alone)


@pytest.mark.parametrize("times", [0, 5])
def test_equivariance(times):
    graph = random_graph(30, 60)
    perm, x = torch.tensor([3, 11, 29, 0]), torch.randn(4, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    moved = permuted(graph, order)
    out = propagate_kept(x, perm, graph.edge_index, 30, times)
    place = torch.empty_like(order)
    place[order] = torch.arange(30)
    again = propagate_kept(x, place[perm], moved.edge_index, 30, times)
    torch.testing.assert_close(again, out[order])


@pytest.mark.parametrize("lift", ["nearest", "interpolate", "propagate"])
def test_gradients(lift):
    graph, perm = random_graph(9, 14), torch.tensor([4, 0, 2])
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def function(x):
        return GUnpool(lift)(x, perm, 9, graph.edge_index)

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    x = torch.tensor([[0.0], [8.0]], dtype=dtype)
    out = propagate_kept(x, torch.tensor([0, 4]), PATH, 5, 200)
    assert out.dtype == dtype
    torch.testing.assert_close(out.view(-1), torch.tensor([0, 2, 4, 6, 8]).to(dtype))
    out = GUnpool("interpolate")(x, torch.tensor([0, 4]), 5, PATH)
    assert out.dtype == dtype
    assert out.view(-1).tolist() == [0, 0, 4, 8, 8]


def test_lifts_are_the_functions():
    graph, perm, x = random_graph(30, 60), torch.tensor([3, 11, 29, 0]), torch.randn(4, 3)
    edges = graph.edge_index
    out = {
        lift: GUnpool(lift)(x, perm, 30, edges) for lift in ("nearest", "interpolate", "propagate")
    }
    assert torch.equal(out["nearest"], propagate_kept(x, perm, edges, 30, 0))
    assert torch.equal(out["propagate"], propagate_kept(x, perm, edges, 30, 40))
    assert torch.equal(out["interpolate"], prolongation(perm, edges, 30).prolong(x))
    weighted = GUnpool("interpolate")(x, perm, 30, edges, graph.edge_weight)
    expected = prolongation(perm, edges, 30, graph.edge_weight).prolong(x)
    assert torch.equal(weighted, expected)
    assert not torch.equal(weighted, out["interpolate"])
    bound = x.abs().amax(0) + 1e-6
    assert all(bool((lifted.abs() <= bound).all()) for lifted in out.values())  # means


def test_int32_and_edges_that_count_once():
    x, perm = torch.tensor([[0.0], [8.0]]), torch.tensor([0, 4])
    plain = propagate_kept(x, perm, PATH, 5, 3)
    more = torch.cat([PATH, PATH[:, :2].flip(0), PATH[:, 1:], torch.tensor([[2], [2]])], dim=1)
    assert torch.equal(propagate_kept(x, perm.int(), more.int(), 5, 3), plain)


def test_edges_of_the_range():
    x = torch.ones(1, 2)
    alone = torch.tensor([0])
    assert propagate_kept(x, alone, EMPTY, 3).tolist() == [[1, 1], [0, 0], [0, 0]]
    assert propagate_kept(x[:0], alone[:0], PATH, 5).abs().sum() == 0
    assert propagate_kept(x[:0], alone[:0], EMPTY, 0).shape == (0, 2)
    everything = torch.arange(5).flip(0)
    assert torch.equal(propagate_kept(torch.eye(5), everything, PATH, 5), torch.eye(5)[everything])


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: GUnpool("mean"), ValueError, "'lift' must be one of .*'mean'"),
        (
            lambda: propagate_kept(torch.ones(1, 1), torch.tensor([0]), PATH, 5, -1),
            ValueError,
            "'num_iterations'.*-1",
        ),
        (
            lambda: GUnpool("nearest")(torch.ones(1, 1), torch.tensor([0]), 5, PATH, torch.ones(4)),
            ValueError,
            "'edge_weight' goes with lift='interpolate'.*'nearest'",
        ),
        (
            lambda: prolongation(torch.tensor([5]), PATH, 5),
            IndexError,
            "'perm'.*5",
        ),
        (
            lambda: prolongation(torch.tensor([0]), PATH, 5, torch.ones(3)),
            ValueError,
            r"'edge_weight' must have shape \[4\].*\[3\]",
        ),
        (
            lambda: GUnpool("interpolate")(torch.ones(1, 1), torch.tensor([0]), 5, PATH, NAN),
            ValueError,
            "'edge_weight' must be finite.*nan",
        ),
        (
            lambda: GUnpool("nearest")(torch.ones(1, 1), torch.tensor([0]), 5),
            ValueError,
            "'edge_index' must be given .*None with lift='nearest'",
        ),
        (
            lambda: GUnpool()(torch.ones(1, 1), torch.tensor([0]), 5, PATH + 1),
            IndexError,
            "'edge_index'.*5",
        ),
        (
            lambda: propagate_kept(torch.ones(2, 1), torch.tensor([0]), PATH, 5),
            ValueError,
            r"'x' must have shape \[1, F\].*\[2, 1\]",
        ),
        (
            lambda: nearest_kept(torch.tensor([0]), PATH + 1, 5),
            IndexError,
            "'edge_index'.*5",
        ),
        (
            lambda: GraphUNetAutoEncoder(2, 4, depth=1, lift="mean"),
            ValueError,
            "'lift' must be one of .*'mean'",
        ),
    ],
)
def test_every_way_back_names_the_argument(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_zeros_come_back_with_and_without_edges():
    """So that one word can be exchanged for another."""
    x, perm = torch.randn(2, 3), torch.tensor([4, 1])
    torch.testing.assert_close(GUnpool()(x, perm, 5, PATH), GUnpool()(x, perm, 5))


def test_repr():
    assert repr(GUnpool("propagate")) == "GUnpool('propagate')"
    assert repr(GUnpool()) == "GUnpool()"


# In an auto-encoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("connect", ["two_hop", "induced", "walk", "sampled", "contract"])
@pytest.mark.parametrize("lift", ["nearest", "interpolate", "propagate"])
def test_auto_encoder_alone_as_in_a_batch(connect, lift):
    batch = random_batch()
    torch.manual_seed(0)
    model = awake(GraphUNetAutoEncoder(3, 8, depth=2, connect=connect, lift=lift)).eval()
    x = torch.randn(batch.batch.numel(), 3)
    out = model(x, batch.edge_index, batch.batch)
    for part, start in zip(batch.parts, batch.offsets):
        rows = slice(start, start + part.num_nodes)
        torch.testing.assert_close(out[rows], model(x[rows], part.edge_index), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lift, better", [("interpolate", 5), ("propagate", 50)])
def test_auto_encoder_reconstructs_a_ring_from_a_tenth(lift, better):
    """Interpolation is exact to one hop beside a kept node, so it lies between."""
    ring = torch.arange(40)
    edges = torch.cat([torch.stack([ring, ring.roll(1)]), torch.stack([ring.roll(1), ring])], dim=1)
    angle = ring * torch.pi / 20
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    errors = {}
    for name in ("zero", lift):
        torch.manual_seed(0)
        model = GraphUNetAutoEncoder(2, 32, depth=1, pool_ratios=0.1, connect="induced", lift=name)
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(300):
            optimizer.zero_grad()
            loss = model.loss(model(x, edges), x)
            loss.backward()
            optimizer.step()
        errors[name] = loss.item()
    assert errors[lift] < errors["zero"] / better
