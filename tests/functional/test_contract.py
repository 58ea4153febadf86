"""Contraction onto the kept nodes against dense products, and connections as modules."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn.pool.select import SelectOutput

from pyg_gunet import prolongation
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges
from pyg_gunet.nn.connect import (
    ContractConnect,
    InducedConnect,
    LevelConnect,
    SampledConnect,
    TwoHopConnect,
)
from tests.conftest import (
    Graph,
    graphs_with_perm,
    permuted,
    random_batch,
    random_graph,
    to_dense,
)

# --- contract


def indicator(graph: Graph, perm: Tensor) -> Tensor:
    """S [N, K] of what `prolongation` calls clusters."""
    cluster = prolongation(perm, graph.edge_index, graph.num_nodes, graph.edge_weight).cluster
    out = torch.zeros(graph.num_nodes, perm.numel(), dtype=torch.float64)
    inside = (cluster >= 0).nonzero().view(-1)
    out[inside, cluster[inside]] = 1
    return out


@settings(max_examples=100)
@given(drawn=graphs_with_perm())
def test_contract_is_the_dense_product(backend, drawn):
    """By the function, on edges and on a stored adjacency."""
    graph, perm = drawn
    n, k = graph.num_nodes, perm.numel()
    s = indicator(graph, perm)
    expected = (s.t() @ graph.dense() @ s).fill_diagonal_(0)
    index, weight = contract(graph.edge_index, graph.edge_weight, perm, n)
    assert torch.equal(to_dense(index, weight, k), expected)
    key = index[0] * k + index[1]
    assert bool((key[1:] > key[:-1]).all())
    transfer = prolongation(perm, graph.edge_index, n, graph.edge_weight)
    connect = ContractConnect()
    edges = Edges(graph.edge_index, n, graph.edge_weight).pool(perm, transfer, connect)
    assert torch.equal(edges.edge_index, index)
    assert torch.equal(edges.edge_weight, weight)
    stored = Adjacency.from_edge_index(*graph, torch.float64).pool(perm, transfer, connect)
    assert torch.equal(to_dense(*stored.edges(), k), expected)


@settings(max_examples=100)
@given(graphs_with_perm(weights=("none", "positive")), st.integers(1, 4))
def test_contracted_levels_stay_connected_and_small(drawn, depth):
    """Never more edges than before, at any depth; two kept nodes that a path joins stay joined."""
    graph, perm = drawn
    edge_index, weight, n = graph
    for _ in range(depth):
        before = components(edge_index, n)
        index, below = contract(edge_index, weight, perm, n)
        assert index.size(1) <= edge_index.size(1)
        after = components(index, perm.numel())
        for a in range(perm.numel()):
            for b in range(a):
                assert (after[a] == after[b]) == (before[perm[a]] == before[perm[b]])
        edge_index, weight, n = index, below, perm.numel()
        perm = torch.arange(n).flip(0)[: max(1, n - 1)]


def components(edge_index: Tensor, num_nodes: int) -> Tensor:
    graph = nx.Graph(edge_index.t().tolist())
    graph.add_nodes_from(range(num_nodes))
    out = torch.empty(num_nodes, dtype=torch.long)
    for i, part in enumerate(nx.connected_components(graph)):
        out[list(part)] = i
    return out


def test_contract_by_hand():
    path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
    perm = torch.tensor([5, 2, 0])
    # 4 and 6 merge into 5 and 3 into 2 (5 is two hops off), 1 into 2, which comes before 0.
    index, weight = contract(path, None, perm, 7)
    assert index.tolist() == [[1, 2], [0, 1]]
    assert weight.tolist() == [1.0, 1.0]
    # Weights of an edge and of another between the same two clusters add up.
    more = torch.cat([path, torch.tensor([[0], [3]])], dim=1)
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 0.5])
    index, weight = contract(more, weight, torch.tensor([0, 6]), 7)
    assert index.tolist() == [[0], [1]]
    assert weight.tolist() == [8.0]


@settings(max_examples=60)
@given(graphs_with_perm(weights=("none",)))
def test_contract_averages_edge_features(drawn):
    graph, perm = drawn
    attr = torch.randn(graph.num_edges, 2, 3, dtype=torch.float64)
    index, pooled = contract(graph.edge_index, attr, perm, graph.num_nodes)
    assert torch.equal(index, contract(graph.edge_index, None, perm, graph.num_nodes)[0])
    cluster = prolongation(perm, graph.edge_index, graph.num_nodes).cluster.tolist()
    found: dict[tuple[int, int], list[Tensor]] = {}
    for (s, t), row in zip(graph.edge_index.t().tolist(), attr):
        found.setdefault((cluster[s], cluster[t]), []).append(row)
    for (a, b), row in zip(index.t().tolist(), pooled):
        torch.testing.assert_close(row, torch.stack(found[a, b]).mean(0))


def test_contract_keeps_the_form_of_weights_and_their_gradient():
    graph = random_graph(12, 40, dtype=torch.float64)
    perm = torch.tensor([5, 1, 0, 7])
    index, flat = contract(graph.edge_index, graph.edge_weight, perm, 12)
    again, column = contract(graph.edge_index, graph.edge_weight.view(-1, 1), perm, 12)
    assert torch.equal(index, again)
    assert column.shape == (flat.numel(), 1)
    assert torch.equal(column.view(-1), flat)
    weight = graph.edge_weight.clone().requires_grad_()
    transfer = prolongation(perm, graph.edge_index, 12)

    def function(weight):
        edges = Edges(graph.edge_index, 12, weight)
        return edges.pool(perm, transfer, ContractConnect()).edge_weight

    assert torch.autograd.gradcheck(function, weight)
    assert contract(graph.edge_index, weight, perm, 12)[1].requires_grad


def test_contract_in_a_batch_and_in_any_order():
    data = random_batch(dtype=torch.float64)
    perms = [torch.arange(0, p.num_nodes, 2).flip(0) for p in data.parts]
    perm = torch.cat([p + start for p, start in zip(perms, data.offsets)])
    index, weight = contract(data.edge_index, data.edge_weight, perm, data.num_nodes)
    whole, at = to_dense(index, weight, perm.numel()), 0
    for part, own in zip(data.parts, perms):
        here = slice(at, at + own.numel())
        alone = contract(part.edge_index, part.edge_weight, own, part.num_nodes)
        torch.testing.assert_close(whole[here, here], to_dense(*alone, own.numel()))
        whole[here, here] = 0
        at += own.numel()
    assert not bool(whole.any())
    graph, perm = random_graph(30, 60), torch.tensor([3, 11, 29, 0])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    moved = permuted(graph, order)
    first = contract(*graph[:2], perm, 30)
    second = contract(*moved[:2], order.argsort()[perm], 30)
    assert torch.equal(first[0], second[0])
    torch.testing.assert_close(first[1], second[1])


@settings(max_examples=60)
@given(drawn=graphs_with_perm())
def test_the_modules_are_the_functions(drawn):
    """As PyG's `Connect`, and as what a graph pools by, with weights and features at once."""
    graph, perm = drawn
    n, k = graph.num_nodes, perm.numel()
    selected = SelectOutput(perm, n, torch.arange(k), k)
    batch = torch.zeros(n, dtype=torch.long)
    pairs = [(InducedConnect(), induced), (ContractConnect(), contract), (TwoHopConnect(), two_hop)]
    for connect, function in pairs:
        expected = function(graph.edge_index, graph.edge_weight, perm, n)
        out = connect(selected, graph.edge_index, graph.edge_weight, batch)
        assert torch.equal(out.edge_index, expected[0])
        assert (out.edge_attr is None) == (expected[1] is None)
        if expected[1] is not None:
            assert torch.equal(out.edge_attr, expected[1])
        assert out.batch.shape == (k,)
    attr = torch.randn(graph.num_edges, 2, dtype=torch.float64)
    weight = torch.ones(graph.num_edges) if graph.edge_weight is None else graph.edge_weight
    for connect, function in pairs[:2]:
        index, new, features = connect.edges(graph.edge_index, weight, attr, perm, n)
        alone = function(graph.edge_index, weight, perm, n)
        assert torch.equal(index, alone[0])
        assert torch.equal(new, alone[1])
        assert features.shape == (index.size(1), 2)
    kept = induced(graph.edge_index, attr, perm, n)[1]
    assert torch.equal(InducedConnect().edges(graph.edge_index, weight, attr, perm, n)[2], kept)
    for connect in (TwoHopConnect(), SampledConnect()):
        with pytest.raises(ValueError, match="'edge_attr'.*'induced' and 'contract'"):
            connect.edges(graph.edge_index, weight, attr, perm, n)


def test_sampled_connect_draws_alike_in_eval_and_by_its_generator():
    graph, perm = random_graph(60, 900, seed=1), torch.arange(0, 60, 2)
    connect = SampledConnect(3)

    def drawn() -> Tensor:
        index, weight, _ = connect.edges(*graph[:2], None, perm, 60)
        return to_dense(index, weight, 30)

    assert not torch.equal(drawn(), drawn())
    connect.generator = torch.Generator().manual_seed(4)
    first = drawn()
    connect.generator.manual_seed(4)
    assert torch.equal(drawn(), first)
    connect.eval()
    torch.manual_seed(0)
    first = drawn()
    state = torch.get_rng_state()
    assert torch.equal(drawn(), first)
    assert torch.equal(torch.get_rng_state(), state)
    connect.generator = 4
    with pytest.raises(TypeError, match="'generator'.*4"):
        drawn()
    with pytest.raises(ValueError, match="'max_degree'.*0"):
        SampledConnect(0)
    with pytest.raises(ValueError, match="'max_products'.*0"):
        TwoHopConnect(0)
    with pytest.raises(NotImplementedError):
        LevelConnect().edges(*graph[:2], None, perm, 60)
