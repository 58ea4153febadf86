"""A sparse product by scipy's kernels on threads, each with a block of rows.

The kernels give the interpreter lock back. A matrix is ``(indptr, indices, values)``, compressed
by row, with 4-byte indices.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import _sparsetools as kernels

# Up to this many products memory for all of them is cheaper than a pass that counts the entries.
COUNT_FROM = 4_000_000

Arrays = tuple[np.ndarray, ...]


def multiply_rows(left: Arrays, right: Arrays, columns: int, threads: int) -> Arrays:
    """``left @ right``, without the entries that cancel to zero.

    Args:
        left (tuple): The left factor.
        right (tuple): The right factor.
        columns (int): Columns of `right`.
        threads (int): How many threads may work.
    """
    rows = left[0].size - 1
    if threads == 1:
        return _block(left, right, columns, 0, rows)
    # Blocks of rows with equal shares of the products; a few per thread even out the estimate.
    work = _products_before(left, right)
    targets = np.linspace(0, work[-1], 2 * threads + 1)[1:-1]
    cuts = np.unique(np.concatenate([[0], np.searchsorted(work, targets), [rows]]))
    with ThreadPoolExecutor(threads) as pool:
        blocks = list(
            pool.map(lambda ab: _block(left, right, columns, *ab), zip(cuts[:-1], cuts[1:]))
        )
    offsets = np.cumsum([0] + [block[1].size for block in blocks], dtype=np.int32)
    indptr = np.concatenate(
        [[0], *(block[0][1:] + start for block, start in zip(blocks, offsets))], dtype=np.int32
    )
    indices = np.concatenate([block[1] for block in blocks])
    values = np.concatenate([block[2] for block in blocks])
    return indptr, indices, values


def _products_before(left: Arrays, right: Arrays) -> np.ndarray:
    """The number of products before each row of ``left @ right``, and their total: [rows + 1]."""
    length = np.diff(right[0])
    total = np.concatenate([[0], np.cumsum(length[left[1]], dtype=np.int64)])
    return total[left[0]]


def _block(left: Arrays, right: Arrays, columns: int, lo: int, hi: int) -> Arrays:
    """Rows `lo` to `hi` of ``left @ right``."""
    a_ptr, a_col, a_val = left
    a_ptr = a_ptr[lo : hi + 1]  # positions are absolute, so a block of rows needs no copy
    rows = int(hi - lo)
    bound = int(np.diff(right[0])[a_col[a_ptr[0] : a_ptr[-1]]].sum()) if rows else 0
    bound = min(bound, rows * columns)
    if bound > COUNT_FROM:
        bound = kernels.csr_matmat_maxnnz(rows, columns, a_ptr, a_col, right[0], right[1])
    indptr = np.empty(rows + 1, dtype=a_ptr.dtype)
    indices = np.empty(bound, dtype=a_ptr.dtype)
    values = np.empty(bound, dtype=a_val.dtype)
    kernels.csr_matmat(rows, columns, a_ptr, a_col, a_val, *right, indptr, indices, values)
    nnz = int(indptr[-1])
    if 2 * nnz < bound:  # give the unused half back
        return indptr, indices[:nnz].copy(), values[:nnz].copy()
    return indptr, indices[:nnz], values[:nnz]
