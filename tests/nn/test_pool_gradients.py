"""Gradients and dtypes of gPool."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet import GPool, GUnpool
from tests.conftest import (
    random_batch,
    random_graph,
)

SELECTIONS = ("topk", "spread")
CONNECTIONS = ("induced", "two_hop", "contract", "sampled")
REDUCTIONS = ("keep", "mean")


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
def test_gradcheck(select, reduce, connect):
    graph = random_graph(8, 24, dtype=torch.float64)
    pool = GPool(3, select=select, reduce=reduce, connect=connect, max_degree=100).double()
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    edge_weight = graph.edge_weight.requires_grad_()

    def function(x, edge_weight, weight):
        out = torch.func.functional_call(
            pool, {"select.weight": weight}, (x, graph.edge_index, edge_weight)
        )
        return out.x, out.edge_attr, out.score

    assert torch.autograd.gradcheck(function, (x, edge_weight, pool.select.weight))


def test_unpool_gradcheck():
    perm = torch.tensor([4, 0, 2])
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: GUnpool()(x, perm, 6), x)
    assert torch.autograd.gradgradcheck(lambda x: GUnpool()(x, perm, 6), x)


def test_two_hop_gradient_reaches_a_column_of_edge_features():
    graph = random_graph(10, 40)
    pool = GPool(3, connect="two_hop")
    x = torch.randn(10, 3)
    flat = graph.edge_weight.clone().requires_grad_()
    column = graph.edge_weight.clone().view(-1, 1).requires_grad_()
    a, b = pool(x, graph.edge_index, flat), pool(x, graph.edge_index, column)
    assert b.edge_attr.shape == (a.edge_attr.numel(), 1)
    a.edge_attr.sum().backward()
    b.edge_attr.sum().backward()
    assert torch.equal(column.grad.view(-1), flat.grad)
    assert bool((flat.grad != 0).any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
def test_dtypes(dtype, select, reduce, connect):
    graph = random_graph(20, 60)
    pool = GPool(3, select=select, reduce=reduce, connect=connect).to(dtype)
    x = torch.randn(20, 3, dtype=dtype, requires_grad=True)
    for weight in (None, graph.edge_weight.to(dtype)):
        out = pool(x, graph.edge_index, weight)
        assert out.x.dtype == out.score.dtype == dtype
        assert out.perm.dtype == out.batch.dtype == out.edge_index.dtype == torch.int64
        if weight is not None or connect in ("two_hop", "sampled"):
            assert out.edge_attr.dtype == dtype
        assert bool(torch.isfinite(out.x).all())
        out.x.sum().backward()
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
def test_indices_of_four_bytes(select, connect):
    data = random_batch()
    x = torch.randn(data.num_nodes, 3)
    for options in ({}, {"min_score": 0.1}) if select == "topk" else ({},):
        pool = GPool(3, select=select, connect=connect, **options).eval()
        a = pool(x, data.edge_index, data.edge_weight, data.batch)
        b = pool(x, data.edge_index.int(), data.edge_weight, data.batch.int())
        assert torch.equal(a.perm, b.perm)
        assert torch.equal(a.batch, b.batch.long())
        assert torch.equal(a.edge_index, b.edge_index.long())
        torch.testing.assert_close(a.x, b.x)


def test_inputs_are_left_alone():
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    before = [t.clone() for t in (x, *graph[:2])]
    for connect in CONNECTIONS:
        GPool(3, connect=connect, multiplier=2.0, reduce="mean")(x, *graph[:2])
    for a, b in zip(before, (x, *graph[:2])):
        assert torch.equal(a, b)
