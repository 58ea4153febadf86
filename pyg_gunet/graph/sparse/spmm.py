"""Products of a sparse matrix with dense features.

On two CPU cores at 32 and 64 features, from 3e4 to 2.3e6 entries, torch's CSR product with 4-byte
indices (MKL's) was the fastest kernel or close to it, many times faster than index_select with
index_add, and leaked nothing. From about 30% of all entries on a dense product is faster still.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from pyg_gunet.graph.sparse.csr import CSR, to_torch, transpose

with warnings.catch_warnings():
    # torch says once per process that CSR tensors are in beta; users of a layer need not hear it.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def product(matrix: CSR | Tensor, x: Tensor) -> Tensor:
    """``A @ x`` without gradient, for A [M, N], sparse or dense, and x [N, F]: [M, F]."""
    # Autocast would cast the operands to a half precision that the kernel does not know.
    with torch.autocast(x.device.type, enabled=False):
        if isinstance(matrix, Tensor) and matrix.layout == torch.strided:
            return matrix @ x
        # Not `@`, which fills a matrix with zeros, copies it, and adds to the copy.
        sparse = matrix if isinstance(matrix, Tensor) else to_torch(matrix)
        return x.new_empty((sparse.size(0), x.size(1))).addmm_(sparse, x, beta=0)


class LinearMap(Protocol):
    """A fixed linear map with its transpose, both without gradient."""

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map, or its transpose, of `x` [N, F]."""


@torch.compiler.disable
def apply_map(op: LinearMap, x: Tensor, transposed: bool = False) -> Tensor:
    """``op.apply(x, transposed)``, differentiable in `x`: the backward pass is the other of the two
    maps, so nothing is stored between the passes but the map itself."""
    return _Apply.apply(x, op, transposed)


class _Apply(torch.autograd.Function):
    """Its derivatives are the map itself, so those of any order and mode exist."""

    @staticmethod
    def forward(x: Tensor, op: LinearMap, transposed: bool) -> Tensor:  # type: ignore[override]
        with torch.autocast(x.device.type, enabled=False):
            return op.apply(x, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, ctx.op, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return _Apply.apply(grad, ctx.op, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # type: ignore[override]
        return _Apply.apply(tangent, ctx.op, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, op: LinearMap, transposed: bool) -> Any:
        # A batch of features is more features: [B, N, F] to [N, B * F] and back.
        x = x.movedim(in_dims[0], 1)
        out = _Apply.apply(x.reshape(x.size(0), -1), op, transposed)
        return out.view(out.size(0), *x.shape[1:]), 1


# torch binds the arguments of each call to it; read anew every time, it takes a third of the call.
_Apply.forward.__signature__ = inspect.signature(_Apply.forward)  # type: ignore[attr-defined]


class SparseBlock:
    """A sparse matrix A [M, N] ready for products with it and with its transpose.

    Args:
        matrix (CSR): The matrix.
        turned (CSR, optional): Its transpose where it is in hand; else it is built at its first
            use. (default: None)
    """

    def __init__(self, matrix: CSR, turned: CSR | None = None) -> None:
        self.matrix, self.turned = matrix, turned

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
            return to_torch(self.matrix)
        if self.turned is None:
            with torch.inference_mode(False), torch.no_grad():  # it outlives this pass
                self.turned = transpose(self.matrix)
        return to_torch(self.turned)

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """``A @ x`` or ``A^T @ x`` in the dtype of `x`."""
        return self.matmul(x.to(self.dtype), transposed).to(x.dtype)

    def matmul(self, x: Tensor, transposed: bool = False, out: Tensor | None = None) -> Tensor:
        """``A @ x``, into `out` where given."""
        if out is not None:
            # Not mm(out=out), which fills a matrix of zeros anew at each call to add them.
            return out.addmm_(self._pick(transposed), x, beta=0)
        return product(self._pick(transposed), x)

    def add_to(self, out: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
        """``out += A @ x`` in place."""
        return out.addmm_(self._pick(transposed), x)
