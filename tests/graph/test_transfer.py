"""Prolongation, restriction and contraction against loops over nodes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_gunet import prolongation
from pyg_gunet.graph import transfer as module
from pyg_gunet.graph.sparse import product
from pyg_gunet.graph.transfer import Transfer
from tests.conftest import Graph, graphs_with_perm, permuted, random_batch, random_graph

PATH = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])


@pytest.fixture(autouse=True, scope="module", params=[module.FILL, 0], ids=["multiplied", "rings"])
def _both_forms(request):
    """Outer rings multiplied out, and kept as averages over the ring before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FILL", request.param)
        patch.setattr(module, "BLOCK", 3 if request.param == 0 else module.BLOCK)
        yield


def weights_of(graph: Graph) -> list[dict[int, float]]:
    """For every node its neighbours in either direction and the sum of the absolute weights."""
    near: list[dict[int, float]] = [{} for _ in range(graph.num_nodes)]
    for e, (s, t) in enumerate(graph.edge_index.t().tolist()):
        w = 1.0 if graph.edge_weight is None else abs(float(graph.edge_weight[e]))
        if s != t and w > 0:
            near[s][t] = near[s].get(t, 0.0) + w
            near[t][s] = near[t].get(s, 0.0) + w
    return near


def dense_prolongation(graph: Graph, perm: Tensor) -> Tensor:
    """From the definition: ring by ring, each row the weighted mean of rows one ring further in."""
    near, k = weights_of(graph), perm.numel()
    out = torch.zeros(graph.num_nodes, k, dtype=torch.float64)
    out[perm] = torch.eye(k, dtype=torch.float64)
    inner, done = set(perm.tolist()), set(perm.tolist())
    while inner:
        ring = {t for s in inner for t in near[s]} - done
        for node in ring:
            share = {s: w for s, w in near[node].items() if s in inner}
            out[node] = sum(w * out[s] for s, w in share.items()) / sum(share.values())
        inner, done = ring, done | ring
    return out


def dense(transfer: Transfer) -> Tensor:
    """P, from its entries, each of which is to be there once, by row."""
    key = transfer.row * max(transfer.num_kept, 1) + transfer.col
    assert key.unique().numel() == key.numel()
    assert bool((transfer.row[1:] >= transfer.row[:-1]).all())
    out = torch.zeros(transfer.num_nodes, transfer.num_kept, dtype=torch.float64)
    return out.index_put((transfer.row, transfer.col), transfer.share.detach().double())


def made(graph: Graph, perm: Tensor) -> Transfer:
    return prolongation(perm, graph.edge_index, graph.num_nodes, graph.edge_weight)


# --- against the definition


@settings(max_examples=150)
@given(drawn=graphs_with_perm())
def test_prolongation_against_a_loop(backend, drawn):
    """Directed or not, self loops, parallel edges, isolated nodes, parts without a kept node."""
    graph, perm = drawn
    transfer = made(graph, perm)
    expected = dense_prolongation(graph, perm)
    torch.testing.assert_close(dense(transfer), expected, atol=1e-6, rtol=1e-6)
    x = torch.randn(perm.numel(), 3, dtype=torch.float64)
    torch.testing.assert_close(transfer.prolong(x), expected @ x, atol=1e-6, rtol=1e-6)
    assert torch.equal(transfer.prolong(x)[perm], x)


@settings(max_examples=100)
@given(drawn=graphs_with_perm())
def test_restriction_is_the_transpose_with_rows_of_sum_one(backend, drawn):
    graph, perm = drawn
    transfer = made(graph, perm)
    expected = dense_prolongation(graph, perm).t()
    expected = expected / expected.sum(1, keepdim=True)
    x = torch.randn(graph.num_nodes, 3, dtype=torch.float64)
    torch.testing.assert_close(transfer.restrict(x), expected @ x, atol=1e-6, rtol=1e-6)


@settings(max_examples=100)
@given(graphs_with_perm())
def test_constants_pass_in_both_directions(drawn):
    """To the last bits of the shares; exactly, where shares are dyadic, as below."""
    graph, perm = drawn
    transfer = made(graph, perm)
    rows = torch.zeros(graph.num_nodes).double().index_add(0, transfer.row, transfer.share.double())
    reached = dense_prolongation(graph, perm).sum(1) > 0
    torch.testing.assert_close(rows, reached.double(), atol=1e-6, rtol=0)
    up = transfer.prolong(torch.full((perm.numel(), 2), 3.0, dtype=torch.float64))
    torch.testing.assert_close(up[reached], torch.full_like(up[reached], 3.0))
    assert not bool(up[~reached].any())
    down = transfer.restrict(torch.full((graph.num_nodes, 2), 3.0, dtype=torch.float64))
    torch.testing.assert_close(down, torch.full_like(down, 3.0))


def test_constants_pass_exactly_on_a_grid():
    """Every dropped node of a checkerboard lies between two or four kept ones."""
    side = 8
    node = torch.arange(side * side).view(side, side)
    edges = torch.cat(
        [
            torch.stack([node[:, :-1].reshape(-1), node[:, 1:].reshape(-1)]),
            torch.stack([node[:-1].reshape(-1), node[1:].reshape(-1)]),
        ],
        dim=1,
    )
    row, col = node // side, node % side
    perm = node[((row + col) % 2 == 0) & (row > 0) & (col > 0)]
    transfer = prolongation(perm, edges, side * side)
    up = transfer.prolong(torch.full((perm.numel(), 1), 0.7))
    inside = (row > 1) & (col > 1) & (row < side - 1) & (col < side - 1)
    assert bool((up.view(side, side)[inside] == 0.7).all())


@settings(max_examples=100)
@given(graphs_with_perm())
def test_clusters_against_a_loop(drawn):
    graph, perm = drawn
    p = dense_prolongation(graph, perm)
    cluster = made(graph, perm).cluster
    for node in range(graph.num_nodes):
        most = float(p[node].max()) if perm.numel() else 0.0
        near = [j for j in range(perm.numel()) if float(p[node, j]) >= most * (1 - 1e-5)]
        assert int(cluster[node]) == (near[0] if most > 0 else -1)


def test_ties_go_to_the_first_in_perm():
    path = torch.tensor([[0, 1], [1, 2]])
    for perm in ([0, 2], [2, 0]):
        assert prolongation(torch.tensor(perm), path, 3).cluster[1] == 0
    # Thirds that add up in different orders are still equal.
    star = torch.stack([torch.tensor([1, 2, 3, 4, 5, 6]), torch.zeros(6, dtype=torch.long)])
    weight = torch.tensor([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    perm = torch.tensor([6, 1, 4, 3, 2, 5])
    assert prolongation(perm, star, 7, weight).cluster[0] == 2


def test_rings_and_ways_between_them():
    """Kept ends of a path of seven: the middle node is the mean of both sides' rows."""
    transfer = prolongation(torch.tensor([6, 0]), PATH, 7)
    assert len(transfer.outer) == (0 if module.FILL else 3)
    up = transfer.prolong(torch.tensor([[8.0], [0.0]])).view(-1)
    assert up.tolist() == [0, 0, 0, 4, 8, 8, 8]
    assert transfer.cluster.tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_edges_of_weight_zero_and_self_loops_do_not_count():
    loops = torch.cat([PATH, torch.tensor([[1, 3], [1, 3]])], dim=1)
    plain = prolongation(torch.tensor([0, 4]), PATH, 7)
    assert torch.equal(dense(prolongation(torch.tensor([0, 4]), loops, 7)), dense(plain))
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    cut = prolongation(torch.tensor([0, 6]), PATH, 7, weight)
    assert cut.cluster.tolist() == [0, 0, 0, 0, 1, 1, 1]
    signed = prolongation(torch.tensor([0, 2]), PATH[:, :2], 3, torch.tensor([-3.0, 1.0]))
    assert dense(signed)[1].tolist() == [0.75, 0.25]


@pytest.mark.parametrize("num_nodes, kept", [(0, 0), (3, 0), (3, 3), (1, 1)])
def test_ends_of_the_range(num_nodes, kept):
    none = torch.empty(2, 0, dtype=torch.long)
    transfer = prolongation(torch.arange(kept).flip(0), none, num_nodes)
    assert transfer.prolong(torch.ones(kept, 2)).shape == (num_nodes, 2)
    assert transfer.restrict(torch.ones(num_nodes, 2)).shape == (kept, 2)
    assert transfer.cluster.tolist() == list(range(kept))[::-1] + [-1] * (num_nodes - kept)
    assert repr(transfer) == f"Transfer(num_nodes={num_nodes}, kept={kept})"


# --- batch, order, dtypes, copies


def test_batch_equals_alone():
    data = random_batch(dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    perms = [torch.randperm(p.num_nodes, generator=generator) for p in data.parts]
    perms = [perm[: (perm.numel() + 2) // 3] for perm in perms]
    perm = torch.cat([p + start for p, start in zip(perms, data.offsets)])
    whole = dense(prolongation(perm, data.edge_index, data.num_nodes, data.edge_weight))
    at = 0
    for part, own, start in zip(data.parts, perms, data.offsets):
        rows, cols = slice(start, start + part.num_nodes), slice(at, at + own.numel())
        torch.testing.assert_close(whole[rows, cols], dense(made(part, own)))
        whole[rows, cols] = 0
        at += own.numel()
    assert not bool(whole.any())


@settings(max_examples=50)
@given(graphs_with_perm(), st.randoms(use_true_random=False))
def test_renamed_nodes_rename_the_rows(drawn, random):
    graph, perm = drawn
    order = list(range(graph.num_nodes))
    random.shuffle(order)
    order = torch.tensor(order)
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    first, second = made(graph, perm), made(permuted(graph, order), place[perm])
    torch.testing.assert_close(dense(second), dense(first)[order])
    assert torch.equal(second.cluster, first.cluster[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features_of_every_dtype(dtype):
    graph, perm = random_graph(30, 60), torch.tensor([3, 11, 29, 0])
    transfer, exact = made(graph, perm), dense_prolongation(graph, perm)
    x, y = torch.randn(4, 3).to(dtype), torch.randn(30, 3).to(dtype)
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 4e-2}.get(dtype, 1e-5)
    up, down = transfer.prolong(x), transfer.restrict(y)
    assert up.dtype == down.dtype == dtype
    torch.testing.assert_close(up.double(), exact @ x.double(), atol=tolerance, rtol=tolerance)
    mass = exact.sum(0).view(-1, 1)
    expected = exact.t() @ y.double() / mass
    torch.testing.assert_close(down.double(), expected, atol=tolerance, rtol=tolerance)


def test_indices_of_four_bytes():
    graph, perm = random_graph(30, 60), torch.tensor([3, 11, 29, 0])
    small = prolongation(perm.int(), graph.edge_index.int(), 30, graph.edge_weight)
    assert torch.equal(dense(small), dense(made(graph, perm)))


def test_to_another_dtype_and_shared_between_passes():
    graph, perm = random_graph(30, 60), torch.tensor([3, 11, 29, 0])
    transfer = made(graph, perm)
    with torch.inference_mode():  # what is made in here serves training, too
        transfer.prolong(torch.randn(4, 3))
        transfer.restrict(torch.randn(30, 3))
        assert transfer.cluster.numel() == 30
    x = torch.randn(4, 3, requires_grad=True)
    transfer.prolong(x).sum().backward()
    wide = transfer.to(torch.float64)
    assert wide.share.dtype == torch.float64
    assert wide.row.dtype == wide.perm.dtype == torch.int64
    torch.testing.assert_close(dense(wide), dense(transfer))


def test_autocast_leaves_it_alone():
    graph, perm = random_graph(30, 60), torch.tensor([3, 11, 29, 0])
    transfer, x = made(graph, perm), torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transfer.prolong(x), made(graph, perm).prolong(x))


# --- gradients


@pytest.mark.parametrize("down", [False, True])
def test_gradients_in_the_features(down):
    graph, perm = random_graph(9, 16, dtype=torch.float64), torch.tensor([4, 0, 2])
    transfer = made(graph, perm)
    function = transfer.restrict if down else transfer.prolong
    x = torch.randn(9 if down else 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    # The backward pass is the transposed map.
    p = dense_prolongation(graph, perm)
    matrix = p.t() / p.sum(0).view(-1, 1) if down else p
    upstream = torch.randn(3 if down else 9, 2, dtype=torch.float64)
    (grad,) = torch.autograd.grad(function(x), x, upstream)
    torch.testing.assert_close(grad, matrix.t() @ upstream)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_gradients_in_learned_weights(down, signed):
    """Through two rings: node 8 hangs on a path behind the others."""
    graph = random_graph(8, 12, dtype=torch.float64, loops=True)
    tail = torch.tensor([[7, 8, 9], [8, 9, 10]])
    edge_index = torch.cat([graph.edge_index, tail], dim=1)
    weight = torch.cat([graph.edge_weight, torch.tensor([0.5, 2.0, 1.5]).double()])
    if signed:
        weight = weight * torch.where(torch.arange(weight.numel()) % 2 == 0, 1.0, -1.0)
    weight.requires_grad_()
    perm = torch.tensor([4, 0, 2])
    x = torch.randn(11 if down else 3, 2, dtype=torch.float64, requires_grad=True)

    def function(weight, x):
        transfer = prolongation(perm, edge_index, 11, weight)
        return transfer.restrict(x) if down else transfer.prolong(x)

    assert torch.autograd.gradcheck(function, (weight, x))
    assert torch.autograd.gradgradcheck(function, (weight, x))
    assert bool((torch.autograd.grad(function(weight, x).square().sum(), weight)[0] != 0).any())


def test_learned_weights_give_the_values_of_fixed_ones():
    graph, perm = random_graph(30, 60, dtype=torch.float64), torch.tensor([3, 11, 29, 0])
    fixed = made(graph, perm)
    learned = prolongation(perm, graph.edge_index, 30, graph.edge_weight.clone().requires_grad_())
    assert learned.share.requires_grad
    torch.testing.assert_close(dense(learned), dense(fixed))
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(learned.prolong(x), fixed.prolong(x))
    with torch.no_grad():
        weight = graph.edge_weight.clone().requires_grad_()
        assert not prolongation(perm, graph.edge_index, 30, weight).share.requires_grad


def test_vectorised_jacobian():
    graph, perm = random_graph(9, 16, dtype=torch.float64), torch.tensor([4, 0, 2])
    transfer, x = made(graph, perm), torch.randn(3, 2, dtype=torch.float64)
    fast = torch.autograd.functional.jacobian(transfer.prolong, x, vectorize=True)
    torch.testing.assert_close(fast, torch.autograd.functional.jacobian(transfer.prolong, x))


# --- what does not fit


def layered() -> tuple[Tensor, Tensor]:
    """The kept nodes and edges of four layers of 300 nodes, all joined: dense rows behind."""
    layers = torch.arange(4 * 300).view(4, 300)
    pairs = [torch.cartesian_prod(a, b).t() for a, b in zip(layers[:-1], layers[1:])]
    return layers[0], torch.cat(pairs, dim=1)


def test_dense_rows_are_not_multiplied_out_and_refused_where_they_are(monkeypatch):
    perm, edge_index = layered()
    transfer = prolongation(perm, edge_index, 1200)
    stored = sum(part.nnz for part in (transfer.inner, *transfer.outer))
    assert stored <= edge_index.size(1) + 300
    x = torch.randn(300, 2)
    torch.testing.assert_close(transfer.prolong(x)[300:], x.mean(0).expand(900, 2))
    torch.testing.assert_close(transfer.mass, torch.full((300,), 4.0))
    assert torch.equal(transfer.cluster, torch.cat([perm, torch.zeros(900, dtype=torch.long)]))
    monkeypatch.setattr(
        product.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**27})
    )
    with pytest.raises(MemoryError, match=r"1,200 nodes.*entries.*select='spread'"):
        transfer.matrix  # noqa: B018
    with pytest.raises(MemoryError, match=r"1,200 nodes.*entries.*select='spread'"):
        prolongation(perm, edge_index, 1200, torch.ones(edge_index.size(1), requires_grad=True))


def test_shares_within_the_tie_are_ties_and_no_others():
    path, ends = torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 2])
    for more, cluster in ((1e-2, 1), (1e-4, 1), (3e-7, 0), (0.0, 0)):  # the first among equals
        weight = torch.tensor([1.0, 1.0 + more])
        assert prolongation(ends, path, 3, weight).cluster[1] == cluster
