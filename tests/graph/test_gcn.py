"""GCN propagation against PyG's `gcn_norm`, PyG's `GCNConv` and a dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from pyg_gunet.graph import adjacency
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.gcn import GCNPropagation, gcn_edges
from pyg_gunet.graph.sparse.spmm import apply_map
from tests.conftest import graphs, permuted, random_graph


def reference(graph, dtype=torch.float64):
    """PyG's normalised adjacency as a dense matrix, rows = targets."""
    weight = graph.edge_weight
    if weight is None:  # where PyG would forget `improved`
        weight = torch.ones(graph.num_edges, dtype=dtype)
    index, weight = gcn_norm(graph.edge_index, weight, graph.num_nodes, improved=True, dtype=dtype)
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=dtype)
    return out.index_put((index[1], index[0]), weight, accumulate=True)


def propagation(graph, dense=False, dtype=torch.float64, lasts=False) -> Callable[[Tensor], Tensor]:
    level = Adjacency.from_edge_index(*graph, dtype)
    matrix, transpose = level.matrix, level.transpose
    if dense:
        matrix = graph.dense(dtype) + torch.eye(graph.num_nodes, dtype=dtype)
        transpose = matrix.t()
    op = GCNPropagation(matrix, transpose, level.loop, lasts)
    return lambda x: apply_map(op, x)


def drawn_edges(graph):
    """The arguments of `Edges`."""
    return graph.edge_index, graph.num_nodes, graph.edge_weight


@settings(max_examples=60)
@given(drawn=graphs(weights=("none", "positive")))
@pytest.mark.parametrize(("dense", "lasts"), [(False, True), (False, False), (True, True)])
def test_against_gcn_norm(backend, dense, lasts, drawn):
    x = torch.randn(drawn.num_nodes, 3, dtype=torch.float64, requires_grad=True)
    expected = reference(drawn)
    out = propagation(drawn, dense, lasts=lasts)(x)  # values stored, or features scaled
    torch.testing.assert_close(out, expected @ x)
    upstream = torch.randn_like(out)
    (grad,) = torch.autograd.grad(out, x, upstream)
    torch.testing.assert_close(grad, expected.t() @ upstream)
    torch.testing.assert_close(Edges(*drawn_edges(drawn)).propagate(x), expected @ x)


@pytest.mark.parametrize("directed", [False, True])
def test_of_a_level_equals_a_convolution_of_pyg(directed):
    graph = random_graph(40, 150, directed=directed, dtype=torch.float64)
    level = Adjacency.from_edge_index(*graph, torch.float64)
    conv = GCNConv(3, 3, improved=True, bias=False).double()
    x = torch.randn(40, 3, dtype=torch.float64)
    out = conv.lin(level.propagate(x))
    torch.testing.assert_close(out, conv(x, *graph[:2]))
    pooled = level.pool(torch.arange(0, 40, 3))
    out = conv.lin(pooled.propagate(x[::3]))
    torch.testing.assert_close(out, conv(x[::3], *pooled.edges()))


def test_normalised_values_are_stored_where_they_last_and_entries_are_few():
    graph = random_graph(40, 150, directed=True, dtype=torch.float64)
    x = torch.randn(40, 3, dtype=torch.float64)
    seen = []
    for lasts in (False, True):
        level = Adjacency.from_edge_index(*graph, torch.float64)
        level.lasts = lasts
        seen.append(level.to(torch.float64).propagate(x))
        assert (level._made().scaling is None) == lasts
    torch.testing.assert_close(*seen)
    full = Adjacency.from_edge_index(*random_graph(99, 6_000, dtype=torch.float64), torch.float64)
    full.lasts = True
    assert full._made().scaling is not None  # more than SPARSE entries a node


def test_parallel_self_loops_as_pyg_has_them():
    graph = random_graph(5, 12, dtype=torch.float64)
    loops = torch.tensor([[2, 2, 4], [2, 2, 4]])
    graph = graph._replace(
        edge_index=torch.cat([graph.edge_index, loops], dim=1),
        edge_weight=torch.cat([graph.edge_weight, torch.tensor([3.0, 0.25, 0.0]).double()]),
    )
    x = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(propagation(graph)(x), reference(graph))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("lasts", [False, True])
def test_a_node_of_no_weight_gets_nothing(dense, lasts):
    """All that leads to node 2 is a self loop of weight 0, and it leads to node 0."""
    edges, weight = torch.tensor([[0, 2, 2], [1, 2, 0]]), torch.tensor([1.0, 0.0, 1.0]).double()
    graph = random_graph(3, 2, dtype=torch.float64)._replace(edge_index=edges, edge_weight=weight)
    expected = reference(graph)
    assert not expected[:, 2].any()
    out = propagation(graph, dense, lasts=lasts)(torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("dense", [False, True])
def test_gradients_of_any_order(dense):
    graph = random_graph(6, 15, dtype=torch.float64)
    op = propagation(graph, dense)
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op, x)
    assert torch.autograd.gradgradcheck(op, x)

    def twice(x):
        return op(torch.tanh(op(x)))

    assert torch.autograd.gradgradcheck(twice, x)


def test_gradient_is_the_transpose():
    graph = random_graph(12, 40, dtype=torch.float64)
    x = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(12, 2, dtype=torch.float64)
    propagation(graph)(x).backward(upstream)
    torch.testing.assert_close(x.grad, reference(graph).t() @ upstream)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_follows_the_dtype_of_the_features(dtype):
    graph = random_graph(12, 40)
    x = torch.randn(12, 2)
    exact = reference(graph, torch.float32) @ x
    out = propagation(graph, dtype=torch.float32)(x.to(dtype))
    assert out.dtype == dtype
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 5e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(out.float(), exact, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dense", [False, True])
def test_autocast_leaves_single_precision_alone(dense):
    graph = random_graph(12, 40)
    op = propagation(graph, dense, dtype=torch.float32)
    x = torch.randn(12, 2, requires_grad=True)
    expected = op(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = op(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)
    (grad,) = torch.autograd.grad(expected.sum(), x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, grad)


def test_input_is_left_alone():
    graph = random_graph(12, 40)
    x = torch.randn(12, 2)
    before = x.clone()
    propagation(graph, dtype=torch.float32)(x)
    assert torch.equal(x, before)


def test_renamed_nodes_rename_the_result():
    graph = random_graph(30, 100, dtype=torch.float64)
    order = torch.randperm(30)
    x = torch.randn(30, 4, dtype=torch.float64)
    out = propagation(permuted(graph, order))(x[order])
    torch.testing.assert_close(out, propagation(graph)(x)[order])


def test_nodes_without_edges_pass_through():
    op = GCNPropagation(*[torch.eye(3)] * 2)
    torch.testing.assert_close(op.apply(torch.ones(3, 2), False), torch.ones(3, 2))


@pytest.mark.parametrize("share", [0.0, 2.0])
def test_pooled_levels_propagate_alike_dense_and_sparse(monkeypatch, share):
    monkeypatch.setattr("pyg_gunet.graph.sparse.product.SPARSE_RATE", 1e-30)
    monkeypatch.setattr(adjacency, "DENSE_SHARE", share)
    graph = random_graph(40, 200, dtype=torch.float64)
    level = Adjacency.from_edge_index(*graph, torch.float64).pool(torch.arange(0, 40, 2))
    assert level.is_dense is (share == 0.0)
    index, weight = level.edges()
    expected = reference(graph._replace(edge_index=index, edge_weight=weight, num_nodes=20))
    x = torch.eye(20, dtype=torch.float64)
    torch.testing.assert_close(level.propagate(x), expected)


# --- signed weights: degrees count absolute ones


def signed_reference(graph):
    """By the definition: D of the absolute weights, the last of parallel self loops."""
    a = graph.dense().t()
    loops = torch.full((graph.num_nodes,), 2.0, dtype=torch.float64)
    for e, (s, t) in enumerate(graph.edge_index.t().tolist()):
        if s == t:
            loops[s] = graph.edge_weight[e]
    degree = loops.abs()
    for e, (s, t) in enumerate(graph.edge_index.t().tolist()):
        if s != t:  # parallel edges of an edge list count one by one
            degree[t] += graph.edge_weight[e].abs()
    root = degree.pow(-0.5)
    root[root.isinf()] = 0
    return root[:, None] * (a + torch.diag(loops)) * root


@settings(max_examples=60)
@given(drawn=graphs(weights=("signed",)))
def test_signed_weights_against_the_definition(backend, drawn):
    """Parallel edges are summed once into the matrix; here there are none."""
    key = drawn.edge_index[0] * drawn.num_nodes + drawn.edge_index[1]
    once = torch.tensor([int((key == k).nonzero()[0]) for k in key.unique()], dtype=torch.long)
    drawn = drawn._replace(
        edge_index=drawn.edge_index[:, once], edge_weight=drawn.edge_weight[once]
    )
    expected = signed_reference(drawn)
    eye = torch.eye(drawn.num_nodes, dtype=torch.float64)
    assert bool(expected.isfinite().all())
    torch.testing.assert_close(propagation(drawn)(eye), expected)
    torch.testing.assert_close(propagation(drawn, dense=True)(eye), expected)
    torch.testing.assert_close(Edges(*drawn_edges(drawn)).propagate(eye), expected)


def test_weights_of_edges_learn():
    graph = random_graph(7, 20, dtype=torch.float64, loops=False)
    sign = torch.where(torch.arange(graph.num_edges) % 3 == 0, -1.0, 1.0).double()
    weight = (graph.edge_weight * sign).requires_grad_()

    def function(weight):
        return gcn_edges(graph.edge_index, weight, 7, torch.float64)[1]

    assert torch.autograd.gradcheck(function, weight)
    assert torch.autograd.gradgradcheck(function, weight)
