"""A sparse product on threads, each with a block of rows.

scipy's kernels give the interpreter lock back. A matrix is ``(indptr, indices, values)``,
compressed by row, with 4-byte indices.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pyg_gunet.graph.sparse.kernels import Arrays, multiply_block


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
        return multiply_block(left, right, columns, 0, rows)
    # Blocks of rows with equal shares of the products; a few per thread even out the estimate.
    work = _products_before(left, right)
    targets = np.linspace(0, work[-1], 2 * threads + 1)[1:-1]
    cuts = np.unique(np.concatenate([[0], np.searchsorted(work, targets), [rows]]))
    with ThreadPoolExecutor(threads) as pool:
        blocks = list(
            pool.map(lambda ab: multiply_block(left, right, columns, *ab), zip(cuts[:-1], cuts[1:]))
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
