"""The walk operator against a dense twin written from its definition."""

from __future__ import annotations

import gc
import os

import psutil
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import coalesce, to_dense_adj

from pyg_gunet import GPool, GraphUNet
from pyg_gunet.graph.walk import Walk, check_weights


def dense_norm(matrix: Tensor) -> Tensor:
    """PyG's `gcn_norm` of a dense matrix, rows = targets: in-degrees on both sides."""
    root = matrix.sum(dim=1).pow(-0.5)
    root[root.isinf()] = 0.0
    return root.view(-1, 1) * matrix * root.view(1, -1)


def dense_adjacency(edge_index: Tensor, edge_weight: Tensor | None, n: int) -> Tensor:
    """Rows = targets; parallel edges are summed."""
    out = torch.zeros(n, n, dtype=torch.float64)
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    return out.index_put((edge_index[1], edge_index[0]), weight.double(), accumulate=True)


def dense_levels(
    edge_index: Tensor, edge_weight: Tensor | None, n: int, perms: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """``(S_l, convolution's matrix)`` per level, from the definition, in float64."""
    a = dense_adjacency(edge_index, edge_weight, n)
    own = torch.full((n,), 2.0, dtype=torch.float64)
    loops = (edge_index[0] == edge_index[1]).nonzero().view(-1).tolist()
    for e in loops:  # the last one counts
        own[edge_index[0, e]] = 1.0 if edge_weight is None else edge_weight[e].double()
    s = a - torch.diag(a.diagonal())
    walks, convs = [s], [dense_norm(s + torch.diag(own))]
    for perm in perms:
        h = dense_norm(s + torch.eye(s.size(0), dtype=s.dtype))
        s = (h @ h)[perm][:, perm]
        walks.append(s)
        convs.append(dense_norm(s + 2 * torch.eye(s.size(0), dtype=s.dtype)))
    return walks, convs


def make_graph(kind: str, n: int = 24, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(n, (2, 3 * n), generator=generator)
    if kind == "undirected":
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        return coalesce(torch.cat([edge_index, edge_index.flip(0)], dim=1)), None
    if kind == "directed":
        return edge_index, None
    weight = torch.rand(edge_index.size(1), generator=generator)
    if kind == "weighted":
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        return edge_index, torch.cat([weight, weight])
    # Self loops, several at one node, parallel edges and an isolated node.
    loops = torch.tensor([[3, 3, 5], [3, 3, 5]])
    edge_index = torch.cat([edge_index, loops, edge_index[:, :7]], dim=1)
    weight = torch.cat([weight, torch.tensor([0.3, 0.7, 1.9]), weight[:7]])
    keep = (edge_index != 1).all(dim=0)
    return edge_index[:, keep], weight[keep]


def make_perms(n: int, depth: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    perms = []
    for _ in range(depth):
        k = (2 * n + 2) // 3
        perms.append(torch.randperm(n, generator=generator)[:k])
        n = k
    return perms


KINDS = ["undirected", "directed", "weighted", "loops"]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_dense_twin_at_depths_0_to_4(kind: str) -> None:
    edge_index, weight = make_graph(kind)
    perms = make_perms(24, 4)
    level = Walk.from_edge_index(edge_index, weight, 24)
    walks, convs = dense_levels(edge_index, weight, 24, perms)
    for depth in range(5):
        if depth > 0:
            level = level.pool(perms[depth - 1])
        n = level.num_nodes
        x = torch.randn(n, 5, requires_grad=True)
        grad = torch.randn(n, 5)
        out = level.propagate(x)
        assert torch.allclose(out.double(), convs[depth] @ x.double(), atol=1e-5)
        out.backward(grad)
        assert x.grad is not None
        assert torch.allclose(x.grad.double(), convs[depth].t() @ grad.double(), atol=1e-5)
        edge_index_, weight_ = level.edges()
        explicit = dense_adjacency(edge_index_, weight_, n)
        off = walks[depth] - torch.diag(walks[depth].diagonal())
        assert torch.allclose(explicit, off, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_level_0_is_gcn_norm(kind: str) -> None:
    edge_index, weight = make_graph(kind)
    ones = torch.ones(edge_index.size(1)) if weight is None else weight
    index, norm = gcn_norm(edge_index, ones, 24, improved=True)
    expected = dense_adjacency(index, norm, 24)
    level = Walk.from_edge_index(edge_index, weight, 24)
    assert torch.allclose(level.propagate(torch.eye(24)).double(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["undirected", "loops"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_gradcheck(kind: str, depth: int) -> None:
    edge_index, weight = make_graph(kind, n=12)
    weight = None if weight is None else weight.double()
    level = Walk.from_edge_index(edge_index, weight, 12, torch.float64)
    for perm in make_perms(12, depth):
        level = level.pool(perm)
    x = torch.randn(level.num_nodes, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(level.propagate, (x,))
    assert torch.autograd.gradgradcheck(level.propagate, (x,))


def test_counts_restricted_products() -> None:
    """One hop of a pair reads kept columns, the other kept rows: never whole matrices."""
    edge_index, _ = make_graph("undirected")
    level = Walk.from_edge_index(edge_index, None, 24)
    whole = level.rows.nnz
    perms = make_perms(24, 2)
    first = level.pool(perms[0])
    second = first.pool(perms[1])
    assert first.nnz == 2 * first.rows.nnz < 2 * whole
    assert second.nnz == 2 * first.rows.nnz + 2 * second.rows.nnz


def test_batch_equals_alone() -> None:
    a, weight_a = make_graph("loops", seed=2)
    b, weight_b = make_graph("loops", n=10, seed=3)
    pa, pb = make_perms(24, 2), make_perms(10, 2, seed=4)
    assert weight_a is not None
    assert weight_b is not None
    both = Walk.from_edge_index(torch.cat([a, b + 24], dim=1), torch.cat([weight_a, weight_b]), 34)
    alone = [
        Walk.from_edge_index(a, weight_a, 24),
        Walk.from_edge_index(b, weight_b, 10),
    ]
    for perm_a, perm_b in zip(pa, pb):
        both = both.pool(torch.cat([perm_a, perm_b + alone[0].num_nodes]))
        alone = [alone[0].pool(perm_a), alone[1].pool(perm_b)]
        x = torch.randn(both.num_nodes, 3)
        split = x.split([level.num_nodes for level in alone])
        expected = torch.cat([lv.propagate(v) for lv, v in zip(alone, split)])
        assert torch.allclose(both.propagate(x), expected, atol=1e-6)


def test_equivariant() -> None:
    edge_index, weight = make_graph("loops")
    relabel = torch.randperm(24)  # node v becomes relabel[v]
    perm = make_perms(24, 1)[0]
    level = Walk.from_edge_index(edge_index, weight, 24).pool(perm)
    other = Walk.from_edge_index(relabel[edge_index], weight, 24).pool(relabel[perm])
    x = torch.randn(perm.size(0), 3)
    expected = level.propagate(x)
    assert torch.allclose(other.propagate(x), expected, atol=1e-6)
    order = torch.randperm(perm.size(0))
    shuffled = Walk.from_edge_index(edge_index, weight, 24).pool(perm[order])
    assert torch.allclose(shuffled.propagate(x[order]), expected[order], atol=1e-6)


def test_stays_normalised_at_depth() -> None:
    """Raw walk counts grow by the squared degree per level; these stay near one."""
    edge_index = torch.cartesian_prod(torch.arange(40), torch.arange(40)).t()
    level = Walk.from_edge_index(edge_index, torch.full((1600,), 1e3), 40)
    for perm in make_perms(40, 4):
        level = level.pool(perm)
        out = level.propagate(torch.ones(level.num_nodes, 1))
        assert bool(((out > 0.5) & (out < 1.5)).all())


def test_half_precision_features_keep_dtype_and_float32_sums() -> None:
    edge_index, weight = make_graph("weighted")
    op = Walk.from_edge_index(edge_index, weight, 24).pool(make_perms(24, 1)[0])
    x = torch.randn(op.num_nodes, 4)
    exact = op.propagate(x)
    half = op.propagate(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), exact, atol=2e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(op.propagate(x), exact)


def test_empty_and_single() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    level = Walk.from_edge_index(none, None, 3).pool(torch.tensor([2, 0]))
    x = torch.randn(2, 4)
    # S = P I I P^T = I: its normalised sum with two more identities is the identity.
    assert torch.allclose(level.propagate(x), x)
    assert level.edges()[0].shape == (2, 0)
    one = Walk.from_edge_index(none, None, 1).pool(torch.tensor([0]))
    assert torch.allclose(one.propagate(x[:1]), x[:1])


def test_refuses_negative_and_learned_weights() -> None:
    edge_index, weight = make_graph("weighted")
    assert weight is not None
    with pytest.raises(ValueError, match="'edge_weight' must be non-negative.*-1.0 at 2"):
        Walk.from_edge_index(edge_index, weight.index_fill(0, torch.tensor(2), -1.0), 24)
    with pytest.raises(ValueError, match="'sampled' or 'two_hop'"):
        Walk.from_edge_index(edge_index, weight.requires_grad_(), 24)
    with torch.no_grad():
        check_weights(weight)


def test_cover_edges_keep_a_connected_graph_connected() -> None:
    path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
    level = Walk.from_edge_index(path, None, 7).pool(torch.tensor([5, 2, 0]))
    edge_index, weight = level.cover_edges()
    # 4 and 6 merge into 5 and 3 into 2 (5 is two hops off), 1 into 2, which comes before 0.
    dense = to_dense_adj(edge_index, edge_attr=weight, max_num_nodes=3)[0]
    assert dense.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_cover_edges_never_outgrow_the_graph() -> None:
    edge_index, _ = make_graph("undirected", n=60)
    level = Walk.from_edge_index(edge_index, None, 60)
    limit = level.cover_edges()[0].size(1)
    for perm in make_perms(60, 3):
        level = level.pool(perm)
        assert level.cover_edges()[0].size(1) <= limit
        assert int(level.cover_edges()[0].max()) < level.num_nodes


def test_no_memory_growth_over_300_steps() -> None:
    torch.manual_seed(0)
    n = 2000
    edge_index = torch.randint(n, (2, 20000))
    perms = make_perms(n, 2)
    x = torch.randn(n, 16, requires_grad=True)

    def step() -> None:
        level = Walk.from_edge_index(edge_index, None, n)
        h = level.propagate(x)
        for perm in perms:
            level = level.pool(perm)
            h = level.propagate(h[perm])
        h.sum().backward()

    process = psutil.Process(os.getpid())
    gc.disable()  # reference cycles must not hold a level's memory
    try:
        for _ in range(30):
            step()
        before = process.memory_info().rss
        for _ in range(300):
            step()
        grown = process.memory_info().rss - before
    finally:
        gc.enable()
    assert grown < 5e6, f"{grown / 1e6:.1f} MB"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_agrees_with_cpu(kind: str) -> None:
    edge_index, weight = make_graph(kind)
    there = None if weight is None else weight.cuda()
    cpu = Walk.from_edge_index(edge_index, weight, 24)
    gpu = Walk.from_edge_index(edge_index.cuda(), there, 24)
    for perm in make_perms(24, 3):
        cpu, gpu = cpu.pool(perm), gpu.pool(perm.cuda())
        x = torch.randn(cpu.num_nodes, 5)
        a, b = x.clone().requires_grad_(), x.cuda().requires_grad_()
        out_a, out_b = cpu.propagate(a), gpu.propagate(b)
        assert torch.allclose(out_a, out_b.cpu(), atol=1e-4)
        out_a.square().sum().backward()
        out_b.square().sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad.cpu(), atol=1e-4)


def test_forward_mode_in_fixed_weights_is_refused() -> None:
    edge_index, weight = make_graph("weighted")
    model = GraphUNet(3, 4, 2, 2, connect="walk")
    x = torch.randn(24, 3)
    for function in (
        lambda w: Walk.from_edge_index(edge_index, w, 24).values,
        lambda w: model(x, edge_index, edge_weight=w),
        lambda w: GPool(3, connect="contract")(x, edge_index, w)[2],
    ):
        with (
            forward_ad.dual_level(),
            pytest.raises(NotImplementedError, match="'edge_weight'.*forward-mode tangent"),
        ):
            function(forward_ad.make_dual(weight, torch.ones_like(weight)))
