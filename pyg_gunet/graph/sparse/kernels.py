"""scipy's sparse kernels on plain arrays, ``(indptr, indices, values)`` compressed by row.

They are called without scipy's matrix objects (`benchmarks/kernels.py` shows what that buys). The
module that holds them is not public, so it is guarded: where it is missing or its functions have
other names, scipy's public matrices do the same.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

try:
    from scipy.sparse import _sparsetools as private

    HAVE_PRIVATE = all(
        hasattr(private, name)
        for name in ("csr_tocsc", "csr_row_index", "csr_matmat", "csr_matmat_maxnnz")
    )
except ImportError:
    HAVE_PRIVATE = False

Arrays = tuple[np.ndarray, ...]

# Up to this many products memory for all of them is cheaper than a pass that counts the entries.
COUNT_FROM = 4_000_000


def as_matrix(arrays: Arrays, shape: tuple[int, int]) -> sp.csr_matrix:
    """A zero-copy scipy matrix."""
    view = sp.csr_matrix(shape, dtype=arrays[2].dtype)
    # Set the arrays by hand: the constructor would check, and where it likes copy, each of them.
    view.indptr, view.indices, view.data = arrays
    return view


def as_arrays(matrix: sp.csr_matrix) -> Arrays:
    return matrix.indptr, matrix.indices, matrix.data


def transpose(arrays: Arrays, shape: tuple[int, int]) -> Arrays:
    """The transpose, its columns sorted."""
    if not HAVE_PRIVATE:
        return as_arrays(as_matrix(arrays, shape).tocsc().T)
    out = (np.empty(shape[1] + 1, arrays[0].dtype), *map(np.empty_like, arrays[1:]))
    private.csr_tocsc(*shape, *arrays, *out)
    return out


def take_rows(arrays: Arrays, rows: np.ndarray, shape: tuple[int, int]) -> Arrays:
    """Some rows, in that order."""
    if not HAVE_PRIVATE:
        return as_arrays(as_matrix(arrays, shape)[rows])
    ptr, col, val = arrays
    rows = rows.astype(ptr.dtype)
    indptr = np.zeros(rows.size + 1, ptr.dtype)
    np.cumsum(ptr[rows + 1] - ptr[rows], out=indptr[1:])
    out = (np.empty(indptr[-1], col.dtype), np.empty(indptr[-1], val.dtype))
    private.csr_row_index(rows.size, rows, ptr, col, val, *out)
    return (indptr, *out)


def multiply_block(left: Arrays, right: Arrays, columns: int, lo: int, hi: int) -> Arrays:
    """Rows `lo` to `hi` of ``left @ right``, without the entries that cancel to zero."""
    a_ptr, a_col, a_val = left
    a_ptr = a_ptr[lo : hi + 1]  # positions are absolute, so a block of rows needs no copy
    rows = int(hi - lo)
    if not HAVE_PRIVATE:
        part = slice(int(a_ptr[0]), int(a_ptr[-1])) if rows else slice(0, 0)
        block = (a_ptr - a_ptr[0], a_col[part], a_val[part])
        inner = right[0].size - 1
        product = as_matrix(block, (rows, inner)) @ as_matrix(right, (inner, columns))
        product.eliminate_zeros()
        indptr, indices, values = as_arrays(product)
        return indptr.astype(a_ptr.dtype), indices.astype(a_ptr.dtype), values
    bound = int(np.diff(right[0])[a_col[a_ptr[0] : a_ptr[-1]]].sum()) if rows else 0
    bound = min(bound, rows * columns)
    if bound > COUNT_FROM:
        bound = private.csr_matmat_maxnnz(rows, columns, a_ptr, a_col, right[0], right[1])
    indptr = np.empty(rows + 1, dtype=a_ptr.dtype)
    indices = np.empty(bound, dtype=a_ptr.dtype)
    values = np.empty(bound, dtype=a_val.dtype)
    private.csr_matmat(rows, columns, a_ptr, a_col, a_val, *right, indptr, indices, values)
    nnz = int(indptr[-1])
    if 2 * nnz < bound:  # give the unused half back
        return indptr, indices[:nnz].copy(), values[:nnz].copy()
    return indptr, indices[:nnz], values[:nnz]
