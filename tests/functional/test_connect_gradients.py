"""Gradients through two-hop connectivity."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, jacrev, jvp
from torch_geometric.nn import GraphConv

from pyg_gunet import GraphUNet, sampled_two_hop
from pyg_gunet.functional import connect
from pyg_gunet.functional.connect import contract, induced, two_hop
from tests.conftest import (
    Graph,
    dense_adjacency,
    dense_two_hop,
    force_dense,
    graphs_with_perm,
    random_graph,
)


def dense_grad(graph: Graph, perm, weight, upstream):
    """The gradient of <upstream, A'> through a dense square."""
    weight = weight.detach().clone().requires_grad_()
    a = dense_adjacency(graph.edge_index, weight, graph.num_nodes, weight.dtype)
    (dense_two_hop(a, perm) * upstream).sum().backward()
    return weight.grad


@settings(max_examples=60)
@given(graphs_with_perm(weights=("positive", "signed")), st.integers(0, 2**16))
@pytest.mark.parametrize("chunk", [None, 3])
def test_gradient_against_dense_autograd(chunk, drawn, seed):
    graph, perm = drawn
    upstream = torch.randn(
        perm.numel(), perm.numel(), generator=torch.Generator().manual_seed(seed)
    ).double()
    weight = graph.edge_weight.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as monkeypatch:
        if chunk:
            monkeypatch.setattr(connect, "PRODUCTS_PER_CHUNK", chunk)
        index, out = two_hop(graph.edge_index, weight, perm, graph.num_nodes)
        (out * upstream[index[0], index[1]]).sum().backward()
    expected = dense_grad(graph, perm, weight, upstream)
    torch.testing.assert_close(weight.grad, expected)


def test_gradient_through_the_dense_path(monkeypatch):
    force_dense(monkeypatch)
    graph = random_graph(12, 60, dtype=torch.float64)
    perm = torch.tensor([4, 0, 7, 11, 2])
    upstream = torch.randn(5, 5, dtype=torch.float64)
    weight = graph.edge_weight.requires_grad_()
    index, out = two_hop(graph.edge_index, weight, perm, 12)
    (out * upstream[index[0], index[1]]).sum().backward()
    torch.testing.assert_close(weight.grad, dense_grad(graph, perm, weight, upstream))


def test_gradcheck_and_gradgradcheck():
    graph = random_graph(8, 20, dtype=torch.float64)
    perm = torch.tensor([5, 1, 0, 7])
    weight = graph.edge_weight.requires_grad_()

    def function(w):
        return two_hop(graph.edge_index, w, perm, 8)[1]

    assert torch.autograd.gradcheck(function, weight)
    assert torch.autograd.gradgradcheck(function, weight)


def test_gradient_through_two_levels():
    graph = random_graph(9, 25, dtype=torch.float64)
    perm, second = torch.tensor([5, 1, 0, 7, 3]), torch.tensor([4, 0, 2])

    def function(w):
        index, out = two_hop(graph.edge_index, w, perm, 9)
        return two_hop(index, out, second, 5)[1]

    assert torch.autograd.gradcheck(function, graph.edge_weight.requires_grad_())


def test_gradient_only_where_asked_for():
    graph = random_graph(9, 25)
    perm = torch.arange(5)
    assert not two_hop(*graph[:2], perm, 9)[1].requires_grad
    weight = graph.edge_weight.clone().requires_grad_()
    assert two_hop(graph.edge_index, weight, perm, 9)[1].requires_grad
    with torch.no_grad():
        assert not two_hop(graph.edge_index, weight, perm, 9)[1].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradient_of_half_weights(dtype):
    graph = random_graph(9, 25)
    weight = graph.edge_weight.to(dtype).requires_grad_()
    two_hop(graph.edge_index, weight, torch.arange(5), 9)[1].sum().backward()
    full = graph.edge_weight.to(dtype).float().requires_grad_()
    two_hop(graph.edge_index, full, torch.arange(5), 9)[1].sum().backward()
    assert weight.grad.dtype == dtype
    torch.testing.assert_close(weight.grad.float(), full.grad, atol=0.05, rtol=0.02)


GRAPH = random_graph(12, 40, dtype=torch.float64, directed=False)
KEPT = torch.tensor([4, 0, 7, 11, 2, 9])
POOLED = {
    "two_hop": lambda w: two_hop(GRAPH.edge_index, w, KEPT, 12)[1],
    "contract": lambda w: contract(GRAPH.edge_index, w, KEPT, 12)[1],
    "contract, a column": lambda w: contract(GRAPH.edge_index, w.view(-1, 1), KEPT, 12)[1],
    "induced": lambda w: induced(GRAPH.edge_index, w, KEPT, 12)[1],
    "sampled": lambda w: sampled_two_hop(GRAPH.edge_index, w, KEPT, 12, 99)[1],
}


def model_of(name, conv=None):
    torch.manual_seed(0)
    model = GraphUNet(4, 8, 3, 2, connect=name, conv=conv).double().eval()
    x = torch.randn(12, 4, dtype=torch.float64)
    return lambda w: model(x, GRAPH.edge_index, edge_weight=w)


FUNCTIONS = {
    **POOLED,
    "model, two_hop": model_of("two_hop"),
    "model, two_hop, GraphConv": model_of("two_hop", GraphConv),
    "model, contract": model_of("contract"),
    "model, induced": model_of("induced"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batched_and_functional_gradients(name):
    function, weight = FUNCTIONS[name], GRAPH.edge_weight.clone()
    one = torch.autograd.functional.jacobian(function, weight)
    assert (one != 0).any()
    many = torch.autograd.functional.jacobian(function, weight, vectorize=True)
    torch.testing.assert_close(many, one)
    torch.testing.assert_close(jacrev(function)(weight), one)
    leaf = weight.clone().requires_grad_()
    function(leaf).square().sum().backward()
    torch.testing.assert_close(grad(lambda w: function(w).square().sum())(weight), leaf.grad)


def test_gradients_of_gradients_by_function():
    def loss(w):
        return POOLED["two_hop"](w).square().sum()

    weight = GRAPH.edge_weight.clone()
    torch.testing.assert_close(
        jacrev(grad(loss))(weight), torch.autograd.functional.hessian(loss, weight)
    )


@pytest.mark.parametrize("name", POOLED)
def test_forward_mode_is_right_or_refused(name):
    function, weight = POOLED[name], GRAPH.edge_weight.clone()
    tangent = torch.randn_like(weight)
    if name in ("induced", "sampled"):  # plain indexing
        expected = torch.autograd.functional.jacobian(function, weight) @ tangent
        torch.testing.assert_close(jvp(function, (weight,), (tangent,))[1], expected)
        with forward_ad.dual_level():
            out = function(forward_ad.make_dual(weight, tangent))
            torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, expected)
        return
    argument = "edge_weight" if name == "two_hop" else "edge_attr"
    match = f"'{argument}' must not carry a forward-mode tangent"
    with pytest.raises(NotImplementedError, match=match):
        jvp(function, (weight,), (tangent,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=match):
        function(forward_ad.make_dual(weight, tangent))
    with pytest.raises(NotImplementedError, match=match):
        torch.autograd.functional.jacobian(
            function, weight, strategy="forward-mode", vectorize=True
        )
