"""Products of a sparse matrix with dense features.

On two CPU cores at 32 and 64 features, from 3e4 to 2.3e6 entries, torch's CSR product with 4-byte
indices (MKL's) was the fastest kernel or close to it, many times faster than index_select with
index_add, and leaked nothing. From about 30% of all entries on a dense product is faster still.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.spgemm import transpose as transpose_of

with warnings.catch_warnings():
    # torch says once per process that CSR tensors are in beta; users of a layer need not hear it.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def csr_matmul(
    indptr: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int], x: Tensor
) -> Tensor:
    """``A @ x`` without gradient, for A [M, N] in compressed rows and x [N, F]: [M, F].

    Args:
        indptr (Tensor): Row pointers, [M + 1], int32 or int64.
        indices (Tensor): Columns, [nnz], of the dtype of `indptr`.
        values (Tensor): Values, [nnz], of the dtype of `x`.
        shape (tuple): (M, N).
        x (Tensor): Dense features, [N, F].
    """
    return _product(_tensor(CSR(indptr, indices, values, shape)), x)


class LinearMap(Protocol):
    """A fixed linear map with its transpose, both without gradient."""

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map, or its transpose, of `x` [N, F]."""


@torch.compiler.disable
def apply_map(op: LinearMap, x: Tensor) -> Tensor:
    """``op.apply(x, False)``, differentiable in `x`: the backward pass is the transposed map, so
    nothing is stored between the passes but the map itself."""
    return _Apply.apply(x, op, False)


class _Apply(torch.autograd.Function):
    """Its backward is itself transposed, so gradients of any order exist."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, op: LinearMap, transposed: bool
    ) -> Tensor:
        ctx.op, ctx.transposed = op, transposed
        with torch.autocast(x.device.type, enabled=False):
            return op.apply(x, transposed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return _Apply.apply(grad, ctx.op, not ctx.transposed), None, None


class SparseBlock:
    """A sparse matrix A [M, N] ready for products with it and with its transpose.

    Args:
        matrix (CSR): The matrix.
        transpose (CSR, optional): Its transpose where it is in hand; else it is built at its first
            use. (default: None)
    """

    def __init__(self, matrix: CSR, transpose: CSR | None = None) -> None:
        self.matrix = matrix
        self._forward = _tensor(matrix)
        # The matrices themselves, not each other's blocks: no reference cycle holds their memory.
        self._backward = None if transpose is None else _tensor(transpose)

    @property
    def nnz(self) -> int:
        return self.matrix.nnz

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.values.dtype

    def _pick(self, transposed: bool) -> Tensor:
        if not transposed:
            return self._forward
        if self._backward is None:
            self._backward = _tensor(transpose_of(self.matrix))
        return self._backward

    def matmul(self, x: Tensor, transposed: bool = False, out: Tensor | None = None) -> Tensor:
        """``A @ x``, into `out` where given."""
        if out is not None:
            # Not mm(out=out), which fills a matrix of zeros anew at each call to add them.
            return out.addmm_(self._pick(transposed), x, beta=0)
        return _product(self._pick(transposed), x)

    def add_to(self, out: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
        """``out += A @ x`` in place."""
        return out.addmm_(self._pick(transposed), x)


def _tensor(matrix: CSR) -> Tensor:
    return torch.sparse_csr_tensor(*matrix.parts, size=matrix.shape, check_invariants=False)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    # Autocast would cast the operands to a half precision that the kernel does not know.
    with torch.autocast(x.device.type, enabled=False):
        return matrix @ x


def scale(matrix: CSR, left: Tensor | None, right: Tensor | None) -> CSR:
    """``diag(left) @ A @ diag(right)`` on the indices of A."""
    values = matrix.values
    if right is not None:
        values = values * right.index_select(0, matrix.indices)
    if left is not None:
        lengths = (matrix.indptr[1:] - matrix.indptr[:-1]).long()
        values = values * left.repeat_interleave(lengths, output_size=matrix.nnz)
    return matrix._replace(values=values)
