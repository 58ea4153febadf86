"""Products of a sparse matrix with dense features."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

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
    return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False) @ x
