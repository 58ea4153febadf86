"""scipy's private kernels and its public matrices give the same."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings

from pyg_gunet import GraphUNet
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.sparse import csr, kernels, product
from pyg_gunet.graph.sparse.row_blocks import multiply_rows
from tests.conftest import dense_two_hop, graphs_with_perm, random_graph, to_dense


@pytest.fixture(params=[True, False], ids=["private", "public"])
def private(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not kernels.HAVE_PRIVATE:
        pytest.skip("this scipy has other private kernels")
    monkeypatch.setattr(kernels, "HAVE_PRIVATE", request.param)
    return request.param


def dense(arrays: kernels.Arrays, shape: tuple[int, int]) -> np.ndarray:
    indptr, indices, values = arrays
    assert indptr.dtype == indices.dtype == np.int32
    assert indptr.shape == (shape[0] + 1,)
    out = np.zeros(shape)
    for row in range(shape[0]):
        for e in range(indptr[row], indptr[row + 1]):
            out[row, indices[e]] += values[e]
    return out


def matrix(rows: int, cols: int, seed: int = 0, share: float = 0.2) -> sp.csr_matrix:
    found = sp.random(rows, cols, share, "csr", np.float64, np.random.default_rng(seed))
    found.data[::3] *= -1
    return found


@pytest.mark.parametrize("shape", [(7, 11), (11, 7), (1, 5), (5, 1), (0, 4), (4, 0)])
def test_every_kernel_against_dense(private, shape):
    rows, cols = shape
    made = matrix(rows, cols, 1)
    arrays = (made.indptr.astype(np.int32), made.indices.astype(np.int32), made.data)
    full = made.toarray()
    turned = kernels.transpose(arrays, shape)
    assert np.array_equal(dense(turned, (cols, rows)), full.T)
    assert all(np.all(np.diff(turned[1][a:b]) > 0) for a, b in zip(turned[0], turned[0][1:]))
    if rows:
        some = np.random.default_rng(0).permutation(rows)[: (rows + 1) // 2]
        taken = kernels.take_rows(arrays, some, shape)
        assert np.array_equal(dense(taken, (some.size, cols)), full[some])
    for lo, hi in ((0, rows), (0, 0), (rows // 2, rows)):
        block = kernels.multiply_block(arrays, turned, rows, lo, hi)
        np.testing.assert_allclose(dense(block, (hi - lo, rows)), full[lo:hi] @ full.T, atol=1e-12)


def test_cancelled_entries_are_left_out(private):
    left = sp.csr_matrix(np.array([[1.0, -1.0], [1.0, 1.0]]))
    right = sp.csr_matrix(np.ones((2, 1)))
    args = [(m.indptr.astype(np.int32), m.indices.astype(np.int32), m.data) for m in (left, right)]
    indptr, indices, values = kernels.multiply_block(*args, 1, 0, 2)
    assert (indptr.tolist(), indices.tolist(), values.tolist()) == ([0, 0, 1], [0], [2.0])


@pytest.mark.parametrize("count_from", [0, 10**9])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_in_blocks(private, threads, count_from, monkeypatch):
    """Memory for all products at once, or as much as a counting pass asks for."""
    monkeypatch.setattr(kernels, "COUNT_FROM", count_from)
    made = matrix(40, 30, 2)
    args = [(m.indptr, m.indices, m.data) for m in (made, made.T.tocsr())]
    args = [(a.astype(np.int32), b.astype(np.int32), c) for a, b, c in args]
    found = multiply_rows(*args, 40, threads)
    expected = made.toarray() @ made.toarray().T
    np.testing.assert_allclose(dense(found, (40, 40)), expected, atol=1e-12)


@settings(max_examples=60)
@given(drawn=graphs_with_perm())
def test_two_hop_on_either(private, drawn):
    graph, perm = drawn
    index, weight = two_hop(graph.edge_index, graph.edge_weight, perm, graph.num_nodes)
    assert torch.equal(to_dense(index, weight, perm.numel()), dense_two_hop(graph.dense(), perm))


@pytest.mark.parametrize("directed", [False, True])
def test_levels_are_equal_to_the_last_digit(directed, monkeypatch):
    monkeypatch.setattr(product, "SPARSE_RATE", 1e30)  # never dense
    graph = random_graph(300, 900, directed=directed)
    perm = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:150]
    found = []
    for private in (True, False):
        monkeypatch.setattr(kernels, "HAVE_PRIVATE", private and kernels.HAVE_PRIVATE)
        level = Adjacency.from_edge_index(*graph)
        pooled = level.pool(perm).pool(torch.arange(0, 150, 2))
        found.append((*pooled.edges(), *csr.transpose(pooled.matrix).parts))
    for a, b in zip(*found):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_a_model_trains_alike(monkeypatch):
    graph, x = random_graph(60, 240), torch.randn(60, 4)
    found = []
    for private in (True, False):
        monkeypatch.setattr(kernels, "HAVE_PRIVATE", private and kernels.HAVE_PRIVATE)
        torch.manual_seed(0)
        model = GraphUNet(4, 8, 3, 3)
        out = model(x, graph.edge_index, None, graph.edge_weight)
        found.append((out, *torch.autograd.grad(out.square().sum(), list(model.parameters()))))
    assert all(torch.equal(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("gone", ["module", "function"])
def test_where_the_private_module_is_another(gone, monkeypatch):
    """A scipy without it, or with other names in it: the public matrices are taken."""
    if gone == "module":
        monkeypatch.setattr(sp, "_sparsetools", None, raising=False)
        monkeypatch.delattr(sp, "_sparsetools")
        monkeypatch.setitem(sys.modules, "scipy.sparse._sparsetools", None)
    else:
        monkeypatch.delattr(kernels.private, "csr_row_index")
    try:
        assert importlib.reload(kernels).HAVE_PRIVATE is False
        made = matrix(5, 4)
        arrays = (made.indptr.astype(np.int32), made.indices.astype(np.int32), made.data)
        assert np.array_equal(dense(kernels.transpose(arrays, (5, 4)), (4, 5)), made.toarray().T)
    finally:
        monkeypatch.undo()
        assert importlib.reload(kernels).HAVE_PRIVATE


def test_views_hold_the_arrays_that_they_were_made_of():
    made = matrix(5, 4)
    arrays = (made.indptr, made.indices, made.data)
    view = kernels.as_matrix(arrays, (5, 4))
    assert all(a is b for a, b in zip(kernels.as_arrays(view), arrays))
