"""Gradients through two-hop connectivity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_gunet.functional import connect
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.graph import adjacency
from pyg_gunet.graph.sparse import product
from tests.conftest import (
    Graph,
    dense_adjacency,
    dense_two_hop,
    graphs_with_perm,
    random_graph,
)


def force_dense(monkeypatch: pytest.MonkeyPatch, share: float = 0.0) -> None:
    """Makes every product that may be dense dense."""
    monkeypatch.setattr(product, "SPARSE_RATE", 1e-30)
    monkeypatch.setattr(adjacency, "DENSE_SHARE", share)


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
