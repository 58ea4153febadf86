"""The sparse products beneath two-hop connectivity: kernels, threads, limits, memory."""

from __future__ import annotations

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_gunet.functional.connect import count_products, two_hop
from pyg_gunet.graph.sparse import csr, product
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.spmm import product as features_product
from tests.conftest import (
    dense_adjacency,
    dense_two_hop,
    graphs_with_perm,
    random_graph,
    to_dense,
)


def as_dense(matrix: CSR) -> torch.Tensor:
    """By hand, entry by entry: unsorted columns are fine, repeated ones are not."""
    out = torch.full(matrix.shape, float("nan"), dtype=matrix.values.dtype)
    for row in range(matrix.shape[0]):
        for e in range(int(matrix.indptr[row]), int(matrix.indptr[row + 1])):
            col = int(matrix.indices[e])
            assert out[row, col].isnan()
            out[row, col] = matrix.values[e]
    assert int(matrix.indptr[-1]) == matrix.nnz
    return out.nan_to_num_(0.0)


def is_sorted(matrix: CSR) -> bool:
    row, col, _ = csr.to_coo(matrix)
    key = row * matrix.shape[1] + col
    return bool((key[1:] > key[:-1]).all())


def shuffled_columns(matrix: CSR) -> CSR:
    """The same matrix with the columns of each row in reverse."""
    row, _, _ = csr.to_coo(matrix)
    order = torch.argsort(row * (matrix.nnz + 1) - torch.arange(matrix.nnz))
    return matrix._replace(indices=matrix.indices[order], values=matrix.values[order])


@settings(max_examples=60)
@given(drawn=graphs_with_perm(weights=("positive", "signed")))
def test_kernels_against_dense(backend, drawn):
    graph, perm = drawn
    n = graph.num_nodes
    row, col = graph.edge_index
    proper = row != col
    matrix = csr.build(row[proper], col[proper], graph.edge_weight[proper], n)
    dense = graph.dense()
    assert is_sorted(matrix)
    assert torch.equal(as_dense(matrix), dense)
    for m in (matrix, shuffled_columns(matrix)):
        assert torch.equal(as_dense(csr.transpose(m)), dense.t())
        assert is_sorted(csr.transpose(m))
        assert torch.equal(as_dense(csr.sort_columns(m)), dense)
        assert is_sorted(csr.sort_columns(m))
        assert torch.equal(as_dense(csr.rows_of(m, perm)), dense[perm])
        assert torch.equal(as_dense(csr.columns_of(m, perm)), dense[:, perm])
        assert torch.equal(as_dense(csr.submatrix(m, perm)), dense[perm][:, perm])
        left, right = csr.rows_of(m, perm), csr.columns_of(m, perm)
        found = product.multiply(left, right)
        assert torch.equal(as_dense(found), dense[perm] @ dense[:, perm])
        pattern = (as_dense(left) != 0).double() @ (as_dense(right) != 0).double()
        assert found.nnz >= int((pattern > 0).sum())  # those that cancel are among them
        x = torch.randn(n, 3, dtype=torch.float64)
        torch.testing.assert_close(features_product(m, x), dense @ x)


def test_scipy_views_copy_nothing():
    matrix = csr.build(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2), 2)
    view = csr.to_scipy(matrix)
    view.data[0] = 5.0
    assert matrix.values[0] == 5.0
    assert view.indices.ctypes.data == matrix.indices.data_ptr()
    assert csr.from_scipy(view).values.data_ptr() == matrix.values.data_ptr()


@given(st.integers(1, 9), st.integers(0, 40))
def test_rows_shared_out_to_threads_are_all_there(rows, nnz):
    generator = torch.Generator().manual_seed(rows * 100 + nnz)
    row = torch.randint(rows, (nnz,), generator=generator)
    col = torch.randint(rows, (nnz,), generator=generator)
    matrix = csr.build(row, col, torch.ones(nnz, dtype=torch.float64), rows)
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(product, "THREADS_FROM", 0)
        try:
            torch.set_num_threads(3)
            found = product.multiply(matrix, matrix)
        finally:
            torch.set_num_threads(before)
    dense = as_dense(matrix)
    assert found.shape == (rows, rows)
    assert torch.equal(as_dense(found), dense @ dense)


@pytest.mark.parametrize("directed", [False, True])
def test_threads_change_nothing(directed, num_threads, monkeypatch):
    monkeypatch.setattr(product, "THREADS_FROM", 0)
    monkeypatch.setattr(product, "DENSE_RATE", 1e-30)
    graph = random_graph(300, 1_500, directed=directed, dtype=torch.float64)
    perm = torch.randperm(300)[:200]
    results = []
    for threads in (1, 2, 5):
        num_threads(threads)
        results.append(two_hop(*graph[:2], perm, 300))
    for other in results[1:]:
        assert torch.equal(other[0], results[0][0])
        assert torch.equal(other[1], results[0][1])
    expected = dense_two_hop(graph.dense(), perm)
    torch.testing.assert_close(to_dense(*results[2], 200), expected)


def test_threads_on_fewer_rows_than_threads(num_threads, monkeypatch):
    monkeypatch.setattr(product, "THREADS_FROM", 0)
    monkeypatch.setattr(product, "DENSE_RATE", 1e-30)
    num_threads(4)
    index, weight = two_hop(torch.tensor([[0, 1], [1, 2]]), None, torch.tensor([2, 0]), 3)
    assert index.tolist() == [[1], [0]]
    assert weight.tolist() == [1.0]


# --- the number of products and its limit


@settings(max_examples=100)
@given(drawn=graphs_with_perm())
def test_product_count_against_listing_them(backend, drawn):
    graph, perm = drawn
    b = (
        dense_adjacency(
            graph.edge_index, torch.ones(graph.num_edges), graph.num_nodes, torch.float64
        )
        + torch.eye(graph.num_nodes)
    ) > 0
    expected = sum(
        int(b[s, j]) and int(b[j, t])
        for s in perm.tolist()
        for j in range(graph.num_nodes)
        for t in perm.tolist()
    )
    assert count_products(graph.edge_index, perm, graph.num_nodes) == expected


def test_limit_of_products():
    graph = random_graph(30, 100)
    perm = torch.arange(15)
    products = count_products(graph.edge_index, perm, 30)
    assert two_hop(*graph[:2], perm, 30, max_products=products)[0].size(1) > 0
    with pytest.raises(product.ProductLimitError) as error:
        two_hop(*graph[:2], perm, 30, max_products=products - 1)
    assert isinstance(error.value, MemoryError)
    message = str(error.value)
    assert f"{products:,} products" in message
    assert f"max_products={products - 1:,}" in message
    assert "15 kept nodes" in message
    for way_out in ("'walk'", "'sampled'", "'induced'", "'ratio'", "'max_products'"):
        assert way_out in message


def test_limit_from_the_memory(monkeypatch):
    """A star of 40,000 leaves: the full square of the hub's row is refused before it is made."""
    leaves = torch.arange(1, 40_001)
    star = torch.stack([torch.cat([leaves, 0 * leaves]), torch.cat([0 * leaves, leaves])])
    monkeypatch.setattr(
        product.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**30})
    )
    with pytest.raises(product.ProductLimitError, match=r"1,600,\d+,\d+ products.*1\.0 GiB"):
        two_hop(star, None, leaves, 40_001)


@pytest.mark.parametrize("value, error", [(0, ValueError), (-3, ValueError), (1.5, TypeError)])
def test_bad_limit(value, error):
    with pytest.raises(error, match=r"'max_products'.*" + str(value)):
        two_hop(torch.tensor([[0], [1]]), None, torch.tensor([0]), 2, max_products=value)


# --- memory


def test_three_hundred_products_leave_no_memory_behind():
    """torch's own CSR product would lose some 60 MB here."""
    graph = random_graph(2_000, 6_000, weighted=False)
    perm = torch.arange(1_000)
    process = psutil.Process()

    def run(times: int) -> int:
        for _ in range(times):
            two_hop(graph.edge_index, None, perm, 2_000)
        return process.memory_info().rss

    before = run(50)
    assert run(300) - before < 4 * 2**20
