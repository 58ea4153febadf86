"""Sparse products for connectivity: scipy's kernels on the CPU, torch.sparse on a GPU.

torch's own CSR @ CSR product leaks memory on the CPU, and it runs on one thread. scipy's kernels
take zero-copy views of the tensors, see :mod:`pyg_gunet.graph.sparse.kernels`. Where a level has
filled up, BLAS multiplies it many times faster than any sparse kernel does.
"""

from __future__ import annotations

from collections.abc import Callable

import psutil
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import (
    CSR,
    arrays,
    columns_of,
    from_arrays,
    from_scipy,
    rows_of,
    sort_columns,
    to_coo,
    to_scipy,
    to_torch,
    transpose,
)
from pyg_gunet.graph.sparse.row_blocks import multiply_rows

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


class ProductLimitError(MemoryError):
    """An exact two-hop product that would not fit."""


def count_products(left: CSR, right: CSR) -> int:
    """The exact number of scalar products in ``left @ right``, from the degrees alone."""
    uses = torch.bincount(left.indices, minlength=left.shape[1])
    return int((right.lengths * uses).sum())


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
        too_many, limit = _too_many(min(products, size * size), device)
    if too_many:
        raise ProductLimitError(
            f"connect='two_hop' on {size:,} kept nodes takes {products:,} products, which is above "
            f"the limit ({limit}); use connect='contract', 'walk' or 'sampled', a smaller 'ratio', "
            f"connect='induced', or a larger 'max_products'"
        )


def check_entries(entries: int, num_nodes: int, device: torch.device) -> None:
    """Refuses a prolongation that would not fit.

    Raises:
        ProductLimitError: With the way out.
    """
    too_many, limit = _too_many(4 * entries, device)
    if too_many:
        raise ProductLimitError(
            f"interpolation between the kept and the dropped of {num_nodes:,} nodes takes "
            f"{entries:,} entries, which is above the limit ({limit}): many nodes are far from "
            f"all kept ones; use select='spread', a larger 'ratio', or lift='nearest'"
        )


def _too_many(entries: int, device: torch.device) -> tuple[bool, str]:
    """Whether so many entries of a sparse matrix do not fit in memory, and what they need."""
    need = entries * BYTES_PER_ENTRY
    if need < 2**26:
        return False, ""
    if device.type == "cuda":
        available = torch.cuda.mem_get_info(device)[0]
    else:
        available = psutil.virtual_memory().available
    limit = f"{need / 2**30:.1f} GiB of {available / 2**30:.1f} GiB available memory"
    return need > 0.8 * available, limit


def check_counts(counts: Tensor) -> Tensor:
    """Refuses walk counts so large that sums of them overflow.

    Raises:
        OverflowError: With the way out.
    """
    if counts.numel() and not torch.compiler.is_compiling():
        low, high = torch.aminmax(counts.detach())
        most = max(-float(low), float(high))
        # A degree sums at most all of them.
        if not most * counts.numel() < torch.finfo(counts.dtype).max:
            raise OverflowError(
                f"the walk counts of connect='two_hop' reach {most:.3g} and overflow "
                f"{counts.dtype} (dense or heavily weighted graphs square them at every level); "
                "use connect='contract' or 'walk', fewer levels, smaller weights or float64"
            )
    return counts


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
        return check_counts(result.fill_diagonal_(1))
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
        check_counts(result.fill_diagonal_(1))
        if int(result.count_nonzero()) >= dense_share * result.numel():
            return result
        return _to_csr(result)
    out = _set_unit_diagonal(multiply(left_rows, right, products))
    check_counts(out.values)
    return out


def multiply(left: CSR, right: CSR, products: int | None = None, positive: bool = False) -> CSR:
    """``left @ right``, sparse; entries that cancel to zero stay, and none does if all values are
    `positive` and no smaller than one."""
    if not csr.on_scipy(left.values):
        out = torch.sparse.mm(to_torch(left), to_torch(right))
        return CSR(
            out.crow_indices(), out.col_indices(), out.values(), (left.shape[0], right.shape[1])
        )
    products = count_products(left, right) if products is None else products
    product = _scipy_product(left, right, products)
    return product if positive else _with_cancelled(product, left, right)


def _scipy_product(left: CSR, right: CSR, products: int) -> CSR:
    rows, columns = left.shape[0], right.shape[1]
    if min(products, rows * columns) >= 2**31:  # beyond 4-byte indices: scipy widens them
        return from_scipy(to_scipy(left) @ to_scipy(right))
    threads = 1 if products < THREADS_FROM else torch.get_num_threads()
    product = multiply_rows(arrays(left), arrays(right), columns, threads)
    return from_arrays(product, (rows, columns))


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
    if csr.on_scipy(matrix.values):
        return torch.from_numpy(to_scipy(block).toarray())
    return to_torch(block).to_dense()


def _to_csr(dense: Tensor) -> CSR:
    if csr.on_scipy(dense):
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
    own = matrix.indices == matrix.row(matrix.indices.dtype)
    matrix.values.masked_fill_(own, 1)  # in place: nobody else has seen it
    return matrix
