"""Sparse products with dense features against dense ones."""

from __future__ import annotations

import gc

import psutil
import pytest
import torch
from torch import Tensor

from pyg_gunet.graph.sparse.csr import CSR, scale
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map, product


def sparse(rows: int, cols: int, dtype: torch.dtype = torch.float32) -> tuple[CSR, Tensor]:
    torch.manual_seed(rows)
    dense = torch.rand(rows, cols, dtype=dtype) * (torch.rand(rows, cols) < 0.2)
    dense[rows // 2] = 0  # an empty row
    matrix = dense.to_sparse_csr()
    parts = (matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values())
    return CSR(*parts, (rows, cols)), dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [1, 7, 64])
def test_products_equal_dense(dtype: torch.dtype, features: int) -> None:
    matrix, dense = sparse(30, 20, dtype)
    x, y = torch.randn(20, features, dtype=dtype), torch.randn(30, features, dtype=dtype)
    block = SparseBlock(matrix)
    assert block.nnz == matrix.nnz
    assert block.dtype == dtype
    assert torch.allclose(product(matrix, x), dense @ x, atol=1e-5)
    assert torch.allclose(block.matmul(x), dense @ x, atol=1e-5)
    assert torch.allclose(block.matmul(y, transposed=True), dense.t() @ y, atol=1e-5)
    assert torch.allclose(block.add_to(y.clone(), x), y + dense @ x, atol=1e-5)
    assert torch.allclose(block.add_to(x.clone(), y, True), x + dense.t() @ y, atol=1e-5)
    # Columns of a wider tensor are not contiguous.
    wide = torch.randn(20, 2 * features, dtype=dtype)[:, ::2]
    assert torch.allclose(block.matmul(wide), dense @ wide, atol=1e-5)


@pytest.mark.parametrize("features", [1, 2, 8, 64])
def test_what_a_buffer_held_does_not_matter(features: int) -> None:
    matrix, dense = sparse(30, 20)
    x, y = torch.randn(20, features), torch.randn(30, features)
    block = SparseBlock(matrix)
    out = torch.full((30, features), float("nan"))
    assert block.matmul(x, out=out) is out
    assert torch.allclose(out, dense @ x, atol=1e-5)
    out = torch.full((20, features), float("inf"))
    assert torch.allclose(block.matmul(y, True, out), dense.t() @ y, atol=1e-5)
    empty = SparseBlock(
        CSR(torch.zeros(3, dtype=torch.int32), matrix.indices[:0], x[:0, 0], (2, 20))
    )
    assert torch.equal(
        empty.matmul(x, out=torch.full((2, features), float("nan"))), x.new_zeros(2, features)
    )


def test_transpose_in_hand_is_used() -> None:
    matrix, dense = sparse(10, 10)
    other = SparseBlock(matrix, matrix)  # says that the matrix is its own transpose
    x = torch.randn(10, 3)
    assert torch.allclose(other.matmul(x, transposed=True), dense @ x, atol=1e-5)


def test_scale() -> None:
    matrix, dense = sparse(12, 9)
    left, right = torch.rand(12), torch.rand(9)
    x = torch.eye(9)
    scaled = product(scale(matrix, left, right), x)
    assert torch.allclose(scaled, left.view(-1, 1) * dense * right, atol=1e-6)
    assert scale(matrix, None, None).values is matrix.values
    assert scale(matrix, left, None).indices is matrix.indices


def test_no_entries() -> None:
    parts = (torch.zeros(4, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0))
    block = SparseBlock(CSR(*parts, (3, 5)))
    assert torch.equal(block.matmul(torch.randn(5, 2)), torch.zeros(3, 2))
    assert torch.equal(block.matmul(torch.randn(3, 2), transposed=True), torch.zeros(5, 2))


def test_apply_map_differentiates_to_any_order() -> None:
    matrix, dense = sparse(8, 8, torch.float64)

    class Map:
        block = SparseBlock(matrix)

        def apply(self, x: Tensor, transposed: bool) -> Tensor:
            return self.block.matmul(x, transposed)

    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(apply_map(Map(), x), dense @ x)
    assert torch.autograd.gradcheck(lambda v: apply_map(Map(), v), (x,))
    assert torch.autograd.gradgradcheck(lambda v: apply_map(Map(), v), (x,))


def test_autocast_leaves_the_product_alone() -> None:
    matrix, dense = sparse(30, 20)
    x = torch.randn(20, 4)
    expected = dense @ x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(SparseBlock(matrix).matmul(x), expected, atol=1e-5)
        assert product(matrix, x).dtype == torch.float32


def test_kernels_do_not_leak() -> None:
    matrix, _ = sparse(3000, 3000)
    x, out = torch.randn(3000, 16), torch.zeros(3000, 16)

    def work(times: int) -> None:
        for _ in range(times):
            block = SparseBlock(matrix)
            block.matmul(x, transposed=False)
            block.add_to(out, x)

    process = psutil.Process()
    gc.disable()
    try:
        work(20)
        before = process.memory_info().rss
        work(300)
        grown = process.memory_info().rss - before
    finally:
        gc.enable()
    assert grown < 5e6, f"{grown / 1e6:.1f} MB"
