from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import remove_self_loops, subgraph

from pyg_gunet import sampled_two_hop
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.sparse import product
from pyg_gunet.nn.connect import (
    InducedConnect,
)
from tests.conftest import (
    dense_adjacency,
    dense_two_hop,
    force_dense,
    graphs_with_perm,
    permuted,
    random_batch,
    random_graph,
    to_dense,
)

# --- two_hop against the dense square


@settings(max_examples=100)
@given(graphs_with_perm())
def test_two_hop_is_the_dense_square_on_the_kept_nodes(drawn):
    graph, perm = drawn
    edge_index, weight = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    expected = dense_two_hop(graph.dense(), perm)
    assert torch.equal(to_dense(edge_index, weight, perm.numel()), expected)
    assert weight.dtype == (
        torch.get_default_dtype() if graph.edge_weight is None else torch.float64
    )
    # Sorted by source, then target; and no self loop.
    key = edge_index[0] * perm.numel() + edge_index[1]
    assert bool((key[1:] > key[:-1]).all())
    assert bool((edge_index[0] != edge_index[1]).all())


@settings(max_examples=100)
@given(drawn=graphs_with_perm())
def test_two_hop_on_either_backend(backend, drawn):
    graph, perm = drawn
    edge_index, weight = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    expected = dense_two_hop(graph.dense(), perm)
    assert torch.equal(to_dense(edge_index, weight, perm.numel()), expected)


@settings(max_examples=40)
@given(drawn=graphs_with_perm())
@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
def test_two_hop_through_blas(monkeypatch, backend, share, drawn):
    force_dense(monkeypatch, share)
    graph, perm = drawn
    edge_index, weight = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    expected = dense_two_hop(graph.dense(), perm)
    assert torch.equal(to_dense(edge_index, weight, perm.numel()), expected)


@settings(max_examples=60)
@given(drawn=graphs_with_perm())
def test_edges_are_the_same_from_the_dense_and_the_sparse_product(drawn):
    """Entries that cancel, and edges of weight zero, are edges on either path."""
    graph, perm = drawn
    sparse = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    with pytest.MonkeyPatch.context() as monkeypatch:
        force_dense(monkeypatch)
        dense = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    assert torch.equal(sparse[0], dense[0])
    assert torch.equal(sparse[1], dense[1])


def test_walks_that_cancel_stay_edges_when_only_the_second_steps_are_negative(monkeypatch):
    # 0 -> 1 -> 4 and 0 -> 2 -> 4 with 1 and 2 dropped: the minus stands in B[:, i] alone.
    edge_index = torch.tensor([[0, 0, 1, 2], [1, 2, 4, 4]])
    weight = torch.tensor([1.0, 1.0, 1.0, -1.0])
    perm = torch.tensor([0, 4])
    for dense in (False, True):
        if dense:
            force_dense(monkeypatch)
        index, value = two_hop(edge_index, weight, perm, 5)
        assert index.tolist() == [[0], [1]]
        assert value.tolist() == [0.0]


def test_return_walks_that_cancel_leave_the_identity_in_place(backend):
    """0 -> 1 -> 0 counts -1 and the identity +1: their sum, zero, must not lose the diagonal."""
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    weight = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    perm = torch.tensor([0, 1, 2])
    level = Adjacency.from_edge_index(edge_index, weight, 3, torch.float64)
    expected = dense_adjacency(edge_index, weight, 3, torch.float64)
    for _ in range(2):
        level, expected = level.pool(perm), dense_two_hop(expected, perm)
        assert torch.equal(to_dense(*level.edges(), 3), expected)


@settings(max_examples=100)
@given(graphs_with_perm(), st.integers(1, 3))
def test_levels_repeat_two_hop(drawn, depth):
    graph, perm = drawn
    level = Adjacency.from_edge_index(*graph, torch.float64)
    expected = graph.dense()
    for _ in range(depth):
        level, expected = level.pool(perm), dense_two_hop(expected, perm)
        assert torch.equal(to_dense(*level.edges(), perm.numel()), expected)
        perm = torch.arange(perm.numel()).flip(0)[: max(1, perm.numel() - 1)]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_large_graphs_in_blocks(directed, dense, backend, monkeypatch):
    """Two blocks of rows: 700 kept nodes."""
    if dense:
        force_dense(monkeypatch)
    else:
        monkeypatch.setattr(product, "SPARSE_RATE", 1e30)
    graph = random_graph(1_000, 8_000, directed=directed, dtype=torch.float64)
    perm = torch.randperm(1_000, generator=torch.Generator().manual_seed(0))[:700]
    level = Adjacency.from_edge_index(*graph, torch.float64)
    assert level.symmetric is not directed
    pooled = level.pool(perm)
    assert pooled.is_dense is dense
    expected = dense_two_hop(graph.dense(), perm)
    torch.testing.assert_close(to_dense(*pooled.edges(), 700), expected)
    again = pooled.pool(perm[perm < 700])
    expected = dense_two_hop(expected, perm[perm < 700])
    torch.testing.assert_close(to_dense(*again.edges(), again.num_nodes), expected)


def test_weights_of_every_dtype():
    graph = random_graph(20, 60)
    perm = torch.arange(0, 20, 2)
    expected = dense_two_hop(graph.dense(), perm)
    for dtype, tolerance in (
        (torch.float16, 1e-2),
        (torch.bfloat16, 1e-1),
        (torch.float32, 1e-5),
        (torch.float64, 1e-6),
    ):
        index, weight = two_hop(graph.edge_index, graph.edge_weight.to(dtype), perm, 20)
        assert weight.dtype == dtype
        torch.testing.assert_close(
            to_dense(index, weight, 10), expected, atol=tolerance, rtol=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_index_dtypes(dtype, backend):
    graph = random_graph(20, 60)
    perm = torch.arange(0, 20, 2)
    index, weight = two_hop(graph.edge_index.to(dtype), graph.edge_weight, perm.to(dtype), 20)
    assert index.dtype == dtype
    expected = two_hop(*graph[:2], perm, 20)
    assert torch.equal(index.long(), expected[0])
    torch.testing.assert_close(weight, expected[1])


def test_views_as_input():
    """Neither transposed edges nor expanded weights must be contiguous."""
    graph = random_graph(20, 60)
    perm = torch.arange(20)[::2]
    rows = graph.edge_index.t().contiguous().t()
    assert not rows.is_contiguous()
    weight = torch.full((1,), 0.5).expand(60).clone().requires_grad_()
    expanded = torch.full((1,), 0.5, requires_grad=True)
    expected = two_hop(graph.edge_index, weight, perm, 20)[1]
    expected.sum().backward()
    out = two_hop(rows, expanded.expand(60), perm, 20)[1]
    out.sum().backward()
    assert torch.equal(out, expected)
    torch.testing.assert_close(expanded.grad, weight.grad.sum().view(1))


def test_inputs_are_left_alone(backend):
    graph = random_graph(20, 60)
    before = graph.edge_index.clone(), graph.edge_weight.clone()
    index, weight = two_hop(*graph[:2], torch.arange(20), 20)
    weight.fill_(7)
    assert torch.equal(graph.edge_index, before[0])
    assert torch.equal(graph.edge_weight, before[1])


@pytest.mark.parametrize("num_nodes", [0, 3])
def test_no_edges_and_no_nodes(num_nodes, backend):
    for kept in {0, num_nodes}:
        none = torch.empty(2, 0, dtype=torch.long)
        for weight in (None, torch.empty(0), torch.empty(0, requires_grad=True)):
            index, out = two_hop(none, weight, torch.arange(kept), num_nodes)
            assert index.shape == (2, 0)
            assert out.shape == (0,)
            if weight is not None and weight.requires_grad:
                out.sum().backward()
                assert weight.grad.shape == (0,)


def test_batch_equals_alone():
    data = random_batch(dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    perms = [torch.randperm(p.num_nodes, generator=generator) for p in data.parts]
    perms = [perm[: (perm.numel() + 1) // 2] for perm in perms]
    perm = torch.cat([p + start for p, start in zip(perms, data.offsets)])
    for function in (two_hop, induced):
        index, weight = function(data.edge_index, data.edge_weight, perm, data.num_nodes)
        start = 0
        for part, own in zip(data.parts, perms):
            inside = (index[0] >= start) & (index[0] < start + own.numel())
            alone = function(part.edge_index, part.edge_weight, own, part.num_nodes)
            assert torch.equal(index[:, inside] - start, alone[0])
            torch.testing.assert_close(weight[inside], alone[1], atol=1e-12, rtol=0)
            start += own.numel()


@settings(max_examples=50)
@given(graphs_with_perm(), st.randoms(use_true_random=False))
def test_renamed_nodes_rename_the_result(drawn, random):
    graph, perm = drawn
    order = list(range(graph.num_nodes))
    random.shuffle(order)
    order = torch.tensor(order)
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    renamed = permuted(graph, order)
    first = two_hop(*graph[:2], perm, graph.num_nodes)
    second = two_hop(*renamed[:2], place[perm], graph.num_nodes)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


# --- induced


@settings(max_examples=100)
@given(graphs_with_perm())
def test_induced_is_the_subgraph(drawn):
    graph, perm = drawn
    attr = torch.arange(graph.num_edges)
    index, kept = induced(graph.edge_index, attr, perm, graph.num_nodes)
    expected = [
        (perm.tolist().index(s), perm.tolist().index(t), e)
        for e, (s, t) in enumerate(graph.edge_index.t().tolist())
        if s in perm and t in perm
    ]
    assert list(zip(*index.tolist(), kept.tolist())) == expected
    sorted_perm = perm.sort().values
    index, kept = induced(graph.edge_index, attr, sorted_perm, graph.num_nodes)
    reference = subgraph(
        sorted_perm, graph.edge_index, attr, relabel_nodes=True, num_nodes=graph.num_nodes
    )
    assert torch.equal(index, reference[0])
    assert torch.equal(kept, reference[1])


def test_induced_keeps_any_edge_features_and_their_gradient():
    graph = random_graph(10, 40)
    attr = torch.randn(40, 3, 2, requires_grad=True)
    index, kept = induced(graph.edge_index, attr, torch.arange(6), 10)
    assert kept.shape == (index.size(1), 3, 2)
    kept.sum().backward()
    inside = (graph.edge_index < 6).all(dim=0)
    assert torch.equal(attr.grad, inside.view(-1, 1, 1).expand_as(attr).float())


@settings(max_examples=60)
@given(drawn=graphs_with_perm())
def test_induced_levels_of_an_adjacency(backend, drawn):
    graph, perm = drawn
    level = Adjacency.from_edge_index(*graph, torch.float64).pool(perm, None, InducedConnect())
    expected = graph.dense()[perm][:, perm]
    index, weight = level.edges()
    assert torch.equal(to_dense(index, weight, perm.numel()), expected)
    index, weight = level.edges(loops=True)
    proper = remove_self_loops(index)[0].size(1)
    own = {int(s) for s, t in graph.edge_index.t() if s == t}
    assert index[0, proper:].tolist() == [j for j, i in enumerate(perm.tolist()) if i in own]


# --- walk counts that overflow


@pytest.mark.parametrize("value", [1e10, -1e10])
@pytest.mark.parametrize("dense", [False, True])
def test_walk_counts_that_overflow_are_refused(value, dense, monkeypatch):
    monkeypatch.setattr(product, "SPARSE_RATE", 1e-30 if dense and value > 0 else 1e30)
    index = torch.cartesian_prod(torch.arange(8), torch.arange(8)).t()
    weight = torch.full((64,), value)
    perm = torch.arange(8)
    level = Adjacency.from_edge_index(index, weight, 8)
    for call in (
        lambda: two_hop(*two_hop(index, weight, perm, 8), perm, 8),
        lambda: level.pool(perm).pool(perm),
        lambda: sampled_two_hop(*sampled_two_hop(index, weight, perm, 8), perm, 8),
    ):
        with pytest.raises(OverflowError, match="walk counts.*overflow.*'contract' or 'walk'"):
            call()
    half = weight.clamp(-300, 300).half()
    with pytest.raises(OverflowError, match="torch.float16"):
        two_hop(index, half, perm, 8)


# --- bad input

GOOD = {
    "edge_index": torch.tensor([[0, 1], [1, 2]]),
    "edge_weight": torch.ones(2),
    "perm": torch.tensor([0, 2]),
    "num_nodes": 3,
}
BAD = [
    ("edge_index", [[0], [1]], TypeError, "list"),
    ("edge_index", torch.tensor([[0.0, 1.0], [1.0, 2.0]]), TypeError, "float32"),
    ("edge_index", torch.tensor([[0, 1], [1, 3]]), IndexError, "got 3"),
    ("edge_index", torch.tensor([[0, -1], [1, 2]]), IndexError, "got -1"),
    ("edge_index", torch.tensor([0, 1]), ValueError, r"\[2\]"),
    ("edge_index", torch.zeros(3, 2, dtype=torch.long), ValueError, r"\[3, 2\]"),
    ("perm", torch.tensor([0, 3]), IndexError, "got 3"),
    ("perm", torch.tensor([-1, 0]), IndexError, "got -1"),
    ("perm", torch.tensor([2, 2]), ValueError, "got 2 twice"),
    ("perm", torch.tensor([0.0]), TypeError, "float32"),
    ("perm", torch.tensor([[0]]), ValueError, r"\[1, 1\]"),
    ("num_nodes", 2.5, TypeError, "2.5"),
    ("num_nodes", -1, ValueError, "-1"),
]
BAD_WEIGHT = [
    ("edge_weight", torch.ones(2, dtype=torch.long), TypeError, "int64"),
    ("edge_weight", torch.ones(3), ValueError, r"\[3\]"),
    ("edge_weight", torch.ones(2, 1), ValueError, r"\[2, 1\]"),
    ("edge_weight", torch.tensor([1.0, float("nan")]), ValueError, "got nan at 1"),
    ("edge_weight", torch.tensor([float("inf"), 1.0]), ValueError, "got inf at 0"),
]


@pytest.mark.parametrize("name, value, error, match", BAD + BAD_WEIGHT)
def test_two_hop_refuses(name, value, error, match):
    with pytest.raises(error, match=f"'{name}'.*{match}"):
        two_hop(**{**GOOD, name: value})


@pytest.mark.parametrize("function", [induced, contract])
@pytest.mark.parametrize("name, value, error, match", BAD)
def test_induced_and_contract_refuse(function, name, value, error, match):
    given = {k: v for k, v in GOOD.items() if k != "edge_weight"}
    with pytest.raises(error, match=f"'{name}'.*{match}"):
        function(edge_attr=None, **{**given, name: value})


@pytest.mark.parametrize("function", [induced, contract])
def test_features_of_other_edges_are_refused(function):
    with pytest.raises(ValueError, match=r"'edge_attr'.*\[3, 4\]"):
        function(GOOD["edge_index"], torch.ones(3, 4), GOOD["perm"], 3)
