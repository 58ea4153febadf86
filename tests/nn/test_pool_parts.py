"""What gPool is put together from: reduction, selection and connection, exchanged or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import TopKPooling
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import Select, SelectOutput

from pyg_gunet import GPool, GraphUNet, prolongation
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.nn.connect import ContractConnect, SampledConnect, TwoHopConnect
from tests.conftest import (
    random_graph,
)

SELECTIONS = ("topk", "spread")
CONNECTIONS = ("induced", "two_hop", "contract", "sampled")


# --- reduce


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_gates_what_the_restriction_gives(select, connect, weighted):
    graph = random_graph(20, 60)
    weight = graph.edge_weight if weighted else None
    x = torch.randn(20, 3)
    pool = GPool(3, select=select, reduce="mean", connect=connect, multiplier=2.0)
    out = pool(x, graph.edge_index, weight)
    transfer = prolongation(out.perm, graph.edge_index, 20, weight)
    expected = 2.0 * transfer.restrict(x) * out.score.view(-1, 1)
    torch.testing.assert_close(out.x, expected)
    assert not torch.allclose(out.x, 2.0 * x[out.perm] * out.score.view(-1, 1))
    # Scores are of the nodes' own features.
    keep = GPool(3, select=select, connect=connect)
    keep.load_state_dict(pool.state_dict())
    torch.testing.assert_close(keep(x, graph.edge_index, weight).score, out.score)
    out.x.square().sum().backward()
    assert bool((pool.select.weight.grad != 0).all())


# --- parts that may be exchanged


def test_pygs_parts_in_the_place_of_ours():
    graph = random_graph(20, 60)
    x, attr = torch.randn(20, 3), torch.randn(60, 2)
    theirs = TopKPooling(3)
    pool = GPool(3)
    pool.select, pool.connect = theirs.select, theirs.connect
    for mine, other in zip(pool(x, graph.edge_index, attr), theirs(x, graph.edge_index, attr)):
        torch.testing.assert_close(mine, other)
    batch = torch.arange(20) // 10
    out = pool(x, graph.edge_index, None, batch)
    for mine, other in zip(out, theirs(x, graph.edge_index, None, batch)):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_our_connections_are_exchanged_for_each_other(name):
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    pool, other = GPool(3, connect=name, max_degree=10_000), GPool(3)
    other.load_state_dict(pool.state_dict())
    other.connect = pool.connect
    for mine, exchanged in zip(pool(x, *graph[:2]), other(x, *graph[:2])):
        torch.testing.assert_close(mine, exchanged)
    assert other.connect_name == name
    function = {"induced": induced, "contract": contract}.get(name, two_hop)
    index, weight = function(*graph[:2], other(x, *graph[:2]).perm, 20)
    out = pool(x, *graph[:2])
    assert torch.equal(out.edge_index, index)
    torch.testing.assert_close(out.edge_attr, weight)


def test_options_are_those_of_the_parts():
    assert isinstance(GPool(7, connect="two_hop", max_products=9).connect, TwoHopConnect)
    assert GPool(7, connect="two_hop", max_products=9).connect.max_products == 9
    sampled = GPool(7, connect="sampled", max_degree=5).connect
    assert isinstance(sampled, SampledConnect)
    assert sampled.max_degree == 5
    assert isinstance(GPool(7, connect="contract").connect, ContractConnect)


class Pairs(Select):
    """Puts two nodes into each cluster: not a selection of single nodes."""

    def forward(self, x: Tensor, batch: Tensor) -> SelectOutput:
        nodes = torch.arange(x.size(0))
        return SelectOutput(nodes, x.size(0), nodes // 2, (x.size(0) + 1) // 2)


class First(Select):
    """The first two nodes, without a weight."""

    def forward(self, x: Tensor, batch: Tensor) -> SelectOutput:
        return SelectOutput(torch.arange(2), x.size(0), torch.arange(2), 2)


def test_own_selections():
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    pool = GPool(3)
    pool.select = First()
    out = pool(x, *graph[:2])
    assert out.perm.tolist() == [0, 1]
    assert torch.equal(out.x, x[:2])
    pool.select = Pairs()
    with pytest.raises(ValueError, match="'select' must choose single nodes.*Pairs.*20.*10"):
        pool(x, *graph[:2])


def test_an_exchanged_connection_carries_weights_or_features():
    """Inside a network, where a level has both."""
    graph = random_graph(20, 60)
    x, attr = torch.randn(20, 3), torch.randn(60, 2)

    class Conv(torch.nn.Module):
        def __init__(self, i: int, o: int) -> None:
            super().__init__()
            self.lin = torch.nn.Linear(i, o)

        def forward(self, x, edge_index, edge_weight=None, edge_attr=None):
            return self.lin(x)

    model = GraphUNet(3, 4, 2, depth=1, conv=Conv, connect="induced")
    model.pools[0].connect = FilterEdges()
    with pytest.raises(ValueError, match="'edge_weight' and 'edge_attr' go together.*FilterEdges"):
        model(x, graph.edge_index, None, graph.edge_weight, edge_attr=attr)
    assert model(x, graph.edge_index, None, graph.edge_weight).shape == (20, 2)


def test_prepared_graphs_are_for_models():
    graph = random_graph(20, 60)
    with pytest.raises(TypeError, match="'edge_index' must be edges.*Adjacency"):
        GPool(3)(torch.randn(20, 3), Adjacency.from_edge_index(*graph))


@pytest.mark.parametrize("connect", ["two_hop", "sampled"])
def test_walks_have_no_features(connect):
    graph = random_graph(20, 60)
    with pytest.raises(ValueError, match=rf"'edge_attr'.*{connect}.*\[60, 2\]"):
        GPool(3, connect=connect)(torch.randn(20, 3), graph.edge_index, torch.randn(60, 2))


def test_contract_averages_features():
    graph = random_graph(20, 60)
    attr = torch.randn(60, 2)
    out = GPool(3, connect="contract")(torch.randn(20, 3), graph.edge_index, attr)
    index, pooled = contract(graph.edge_index, attr, out.perm, 20)
    assert torch.equal(out.edge_index, index)
    assert torch.equal(out.edge_attr, pooled)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: GPool(3, reduce="max"), ValueError, "'reduce' must be one of 'keep', 'mean'.*max"),
        (lambda: GPool(3, connect="walk"), ValueError, "'connect' must be one of .*'walk'"),
        (lambda: GPool(3, max_degree=0, connect="sampled"), ValueError, "'max_degree'.*0"),
        (lambda: GPool(3, max_products=0, connect="two_hop"), ValueError, "'max_products'.*0"),
        (lambda: GPool(3, None), ValueError, "'ratio' must be given"),
        (lambda: GPool(3, gate="tanh", min_score=0.1), ValueError, "'gate'.*'min_score'.*tanh"),
        (lambda: GPool(3, 0.5, "spread"), TypeError, "positional"),
    ],
)
def test_bad_options_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
