"""Sparse products for connectivity: scipy's kernels on the CPU, torch.sparse on a GPU.

torch's own CSR @ CSR product leaks memory on the CPU, and it runs on one thread. scipy's kernels
take zero-copy views of the tensors. They are called without scipy's matrix objects, which on small
graphs cost more than the products. Where a level has filled up, BLAS multiplies it many times
faster than any sparse kernel does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import psutil
import scipy.sparse as sp
import torch
from scipy.sparse import _sparsetools as kernels
from torch import Tensor
from torch_geometric.utils import coalesce, cumsum

from pyg_gunet.functional.row_blocks import multiply_rows

# Measured on two cores of a server CPU. A sparse product is one multiplication with its scattered
# addition, a dense one a multiply-add inside BLAS; only their ratio decides.
SPARSE_RATE = 3.0e8
DENSE_RATE = 2.5e10
# Below this many products, threads cost more than they bring.
THREADS_FROM = 2_000_000
# Every product may make one entry of the result: 4-byte index, 4-byte value, twice while merging.
BYTES_PER_ENTRY = 16
# Squares of values under this vanish in float32 after few levels; there a dense product would lose
# edges that the sparse one keeps.
DENSE_MIN_VALUE = 1e-6


class CSR(NamedTuple):
    """A sparse matrix in compressed rows, as tensors on any device."""

    indptr: Tensor
    indices: Tensor
    values: Tensor
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        return self.indices.size(0)

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.indptr, self.indices, self.values


class ProductLimitError(MemoryError):
    """An exact two-hop product that would not fit."""


def to_scipy(matrix: CSR) -> sp.csr_matrix:
    """A zero-copy scipy view of a CPU matrix."""
    view: Any = sp.csr_matrix(matrix.shape, dtype=matrix.values.numpy().dtype)
    # Set the arrays by hand: the constructor would check, and where it likes copy, each of them.
    view.indptr, view.indices, view.data = (part.numpy() for part in matrix.parts)
    return view


def from_scipy(matrix: Any) -> CSR:
    """A CSR on the arrays of a scipy matrix."""
    return _from_arrays((matrix.indptr, matrix.indices, matrix.data), matrix.shape)


def _from_arrays(arrays: tuple[np.ndarray, ...], shape: tuple[int, int]) -> CSR:
    indptr, indices, values = (torch.from_numpy(array) for array in arrays)
    return CSR(indptr, indices, values, shape)


def build(row: Tensor, col: Tensor, values: Tensor, num_nodes: int) -> CSR:
    """The CSR of a square matrix from its entries; repeated entries are summed, columns sorted."""
    shape = (num_nodes, num_nodes)
    if _on_scipy(row):
        entries = (values.numpy(), (row.numpy(), col.numpy()))
        matrix = sp.coo_matrix(entries, shape=shape).tocsr()
        matrix.sum_duplicates()
        return from_scipy(matrix)
    index, values = coalesce(torch.stack([row, col]), values, num_nodes, is_sorted=False)
    return CSR(_indptr(index[0], num_nodes), index[1].to(torch.int32), values, shape)


def transpose(matrix: CSR) -> CSR:
    """The transpose, columns sorted."""
    shape = (matrix.shape[1], matrix.shape[0])
    if _on_scipy(matrix.values):
        arrays = tuple(part.numpy() for part in matrix.parts)
        out = (np.empty(shape[0] + 1, arrays[0].dtype), *map(np.empty_like, arrays[1:]))
        kernels.csr_tocsc(*matrix.shape, *arrays, *out)
        return _from_arrays(out, shape)
    row, col, values = to_coo(matrix)
    order = torch.sort(col, stable=True).indices
    return CSR(_indptr(col[order], shape[0]), row[order].to(torch.int32), values[order], shape)


def sort_columns(matrix: CSR) -> CSR:
    """The same matrix with the columns of each row in order."""
    if _on_scipy(matrix.values):
        view = to_scipy(matrix).copy()
        view.sort_indices()
        return from_scipy(view)
    row, col, _ = to_coo(matrix)
    order = torch.sort(row * matrix.shape[1] + col).indices
    return matrix._replace(indices=matrix.indices[order], values=matrix.values[order])


def to_coo(matrix: CSR) -> tuple[Tensor, Tensor, Tensor]:
    """Row (int64), column (int64) and value of every entry, by row."""
    rows = torch.arange(matrix.shape[0], device=matrix.indptr.device)
    row = rows.repeat_interleave(
        (matrix.indptr[1:] - matrix.indptr[:-1]).long(), output_size=matrix.nnz
    )
    return row, matrix.indices.long(), matrix.values


def rows_of(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[perm, :]``."""
    if _on_scipy(matrix.values):
        ptr, col, val = (part.numpy() for part in matrix.parts)
        index = perm.numpy().astype(ptr.dtype)
        indptr = np.zeros(index.size + 1, ptr.dtype)
        np.cumsum(ptr[index + 1] - ptr[index], out=indptr[1:])
        out = (np.empty(indptr[-1], col.dtype), np.empty(indptr[-1], val.dtype))
        kernels.csr_row_index(index.size, index, ptr, col, val, *out)
        return _from_arrays((indptr, *out), (perm.size(0), matrix.shape[1]))
    start, end = matrix.indptr[perm].long(), matrix.indptr[perm + 1].long()
    starts = cumsum(end - start)
    size = int(starts[-1])
    owner = torch.arange(perm.size(0), device=perm.device).repeat_interleave(
        end - start, output_size=size
    )
    take = torch.arange(size, device=perm.device) + (start - starts[:-1])[owner]
    return CSR(
        starts.to(matrix.indptr.dtype),
        matrix.indices[take],
        matrix.values[take],
        (perm.size(0), matrix.shape[1]),
    )


def submatrix(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[perm, :][:, perm]``."""
    return columns_of(rows_of(matrix, perm), perm)


def columns_of(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[:, perm]``: column j of the result is column ``perm[j]``."""
    shape = (matrix.shape[0], perm.size(0))
    if _on_scipy(matrix.values):
        return from_scipy(to_scipy(matrix)[:, perm.numpy()])
    position = perm.new_full((matrix.shape[1],), -1)
    position[perm] = torch.arange(perm.size(0), device=perm.device)
    row, col, values = to_coo(matrix)
    col = position[col]
    keep = col >= 0
    return CSR(_indptr(row[keep], shape[0]), col[keep].to(torch.int32), values[keep], shape)


def count_products(left: CSR, right: CSR) -> int:
    """The exact number of scalar products in ``left @ right``, from the degrees alone."""
    length = (right.indptr[1:] - right.indptr[:-1]).long()
    uses = torch.bincount(left.indices, minlength=left.shape[1])
    return int((length * uses).sum())


def check_products(
    products: int, size: int, max_products: int | None, device: torch.device
) -> None:
    """Refuses a product above the limit, with its size and the way out.

    Args:
        products (int): Scalar products to compute.
        size (int): Rows (= columns) of the result.
        max_products (int, optional): The limit. None takes it from the available memory.
        device (torch.device): Where the result will be.

    Raises:
        ProductLimitError: If the product is above the limit.
    """
    if max_products is not None:
        too_many, limit = products > max_products, f"max_products={max_products:,}"
    else:
        need = min(products, size * size) * BYTES_PER_ENTRY
        if need < 2**26:
            return
        if device.type == "cuda":
            available = torch.cuda.mem_get_info(device)[0]
        else:
            available = psutil.virtual_memory().available
        too_many = need > 0.8 * available
        limit = f"{need / 2**30:.1f} GiB of {available / 2**30:.1f} GiB available memory"
    if too_many:
        raise ProductLimitError(
            f"connect='two_hop' on {size:,} kept nodes takes {products:,} products, which is above "
            f"the limit ({limit}); use connect='walk' or 'sampled', a smaller 'ratio', "
            f"connect='induced', or a larger 'max_products'"
        )


def restricted_square(
    matrix: CSR | Tensor,
    perm: Tensor,
    symmetric: bool,
    max_products: int | None,
    dense_share: float,
) -> CSR | Tensor:
    """``B[perm, :] @ B[:, perm]`` with its diagonal set to one.

    Args:
        matrix (CSR or Tensor): B, sparse or dense.
        perm (Tensor): Kept nodes, [K], int64.
        symmetric (bool): Whether B equals its transpose.
        max_products (int, optional): See :func:`check_products`.
        dense_share (float): The share of entries from which the result is kept dense.
    """
    size = perm.size(0)
    if isinstance(matrix, Tensor):
        check_products(size * size * matrix.size(0), size, max_products, matrix.device)
        left = matrix[perm]
        result = _dense_product(
            lambda a, b: left[a:b],
            (lambda a, b: left[a:b].t()) if symmetric else (lambda a, b: matrix[:, perm[a:b]]),
            size,
            symmetric,
            left,
        )
        return result.fill_diagonal_(1)
    left_rows = rows_of(matrix, perm)
    right = transpose(left_rows) if symmetric else columns_of(matrix, perm)
    products = count_products(left_rows, right)
    check_products(products, size, max_products, matrix.values.device)
    if _fills_up(left_rows, right, products, symmetric):
        # Directed: the right factor whole and once, as its columns cannot be cut from its rows.
        factor = None if symmetric else _dense_rows(right, 0, right.shape[0])
        result = _dense_product(
            lambda a, b: _dense_rows(left_rows, a, b),
            (lambda a, b: _dense_rows(left_rows, a, b).t())
            if factor is None
            else (lambda a, b: factor[:, a:b]),
            size,
            symmetric,
            left_rows.values,
        )
        result.fill_diagonal_(1)
        if int(result.count_nonzero()) >= dense_share * result.numel():
            return result
        return _to_csr(result)
    return _set_unit_diagonal(multiply(left_rows, right, products))


def multiply(left: CSR, right: CSR, products: int | None = None) -> CSR:
    """``left @ right``, sparse; entries that cancel to zero stay."""
    if not _on_scipy(left.values):
        out = torch.sparse.mm(_to_torch(left), _to_torch(right))
        return CSR(
            out.crow_indices(), out.col_indices(), out.values(), (left.shape[0], right.shape[1])
        )
    products = count_products(left, right) if products is None else products
    return _with_cancelled(_scipy_product(left, right, products), left, right)


def _scipy_product(left: CSR, right: CSR, products: int) -> CSR:
    rows, columns = left.shape[0], right.shape[1]
    if min(products, rows * columns) >= 2**31:  # beyond 4-byte indices: scipy widens them
        return from_scipy(to_scipy(left) @ to_scipy(right))
    threads = 1 if products < THREADS_FROM else torch.get_num_threads()
    a, b = (tuple(part.numpy() for part in matrix.parts) for matrix in (left, right))
    return _from_arrays(multiply_rows(a, b, columns, threads), (rows, columns))


def _with_cancelled(product: CSR, left: CSR, right: CSR) -> CSR:
    """``left @ right`` with the entries that came out as zero, which scipy leaves out.

    An edge of weight zero still has a gradient, and without its diagonal entry a level would lack
    the identity.
    """
    factors = [m.values for m in (left, right) if m.nnz]
    # Sums of positive products that cannot underflow are positive.
    least = torch.finfo(product.values.dtype).tiny ** 0.5
    if all(bool(values.min() >= least) for values in factors):
        return product
    left = left._replace(values=torch.ones_like(left.values))
    right = right._replace(values=torch.ones_like(right.values))
    full = _scipy_product(left, right, count_products(left, right))
    if full.nnz == product.nnz:
        return product
    full = sort_columns(full)
    (row, col, _), (own_row, own_col, values) = to_coo(full), to_coo(product)
    place = torch.searchsorted(row * full.shape[1] + col, own_row * full.shape[1] + own_col)
    return full._replace(values=torch.zeros_like(full.values).index_copy_(0, place, values))


def _fills_up(left: CSR, right: CSR, products: int, symmetric: bool) -> bool:
    """Whether BLAS beats the sparse kernel on ``B[i, :] @ B[:, i]``, at no more memory."""
    flops = left.shape[0] * right.shape[1] * left.shape[1] * (0.6 if symmetric else 1.0)
    if left.nnz == 0 or products / SPARSE_RATE < flops / DENSE_RATE:
        return False
    # Signed weights can cancel and tiny ones underflow: only the sparse product keeps such edges.
    factors = [left.values] if symmetric else [left.values, right.values]
    return all(bool(values.min() >= DENSE_MIN_VALUE) for values in factors)


def _dense_product(
    rows: Callable[[int, int], Tensor],
    columns: Callable[[int, int], Tensor],
    size: int,
    symmetric: bool,
    like: Tensor,
) -> Tensor:
    """``rows(0, size) @ columns(0, size)`` in blocks; a symmetric result is computed by half."""
    out = like.new_empty((size, size))
    num_blocks = max(1, min(4, size // 256))
    cuts = [size * b // num_blocks for b in range(num_blocks + 1)]
    for p in range(num_blocks):
        lo, hi = cuts[p], cuts[p + 1]
        block = rows(lo, hi)
        for q in range(p if symmetric else 0, num_blocks):
            start, end = cuts[q], cuts[q + 1]
            torch.mm(block, columns(start, end), out=out[lo:hi, start:end])
            if symmetric and q > p:
                out[start:end, lo:hi] = out[lo:hi, start:end].t()
    return out


def _dense_rows(matrix: CSR, start: int, end: int) -> Tensor:
    indptr = matrix.indptr[start : end + 1]
    lo, hi = int(indptr[0]), int(indptr[-1])
    block = CSR(
        indptr - indptr[0],
        matrix.indices[lo:hi],
        matrix.values[lo:hi],
        (end - start, matrix.shape[1]),
    )
    if _on_scipy(matrix.values):
        return torch.from_numpy(to_scipy(block).toarray())
    return _to_torch(block).to_dense()


def _to_csr(dense: Tensor) -> CSR:
    if _on_scipy(dense):
        return from_scipy(sp.csr_matrix(dense.numpy()))
    sparse = dense.to_sparse_csr()
    return CSR(
        sparse.crow_indices().to(torch.int32),
        sparse.col_indices().to(torch.int32),
        sparse.values(),
        (dense.size(0), dense.size(1)),
    )


def _set_unit_diagonal(matrix: CSR) -> CSR:
    """Every row of a restricted square has its diagonal entry: B holds the identity."""
    lengths = (matrix.indptr[1:] - matrix.indptr[:-1]).long()
    rows = torch.arange(
        matrix.shape[0], dtype=matrix.indices.dtype, device=matrix.indices.device
    ).repeat_interleave(lengths, output_size=matrix.nnz)
    matrix.values.masked_fill_(matrix.indices == rows, 1)
    return matrix


def _to_torch(matrix: CSR) -> Tensor:
    return torch.sparse_csr_tensor(*matrix.parts, size=matrix.shape, check_invariants=False)


def _indptr(row: Tensor, num_rows: int) -> Tensor:
    return cumsum(torch.bincount(row, minlength=num_rows)).to(torch.int32)


def _on_scipy(tensor: Tensor) -> bool:
    """Whether scipy multiplies, or torch.sparse: asked here alone, so that tests without a GPU can
    send CPU tensors down the other path."""
    return tensor.device.type == "cpu"
