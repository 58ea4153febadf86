"""Sparse matrices in compressed rows, as tensors on any device: to build, cut and turn them."""

from __future__ import annotations

from typing import Any, NamedTuple

import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.utils import coalesce, cumsum

from pyg_gunet.graph.sparse import kernels


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

    @property
    def lengths(self) -> Tensor:
        """Number of entries of every row, int64."""
        return self.indptr.diff().long()

    def row(self, dtype: torch.dtype = torch.long) -> Tensor:
        """The row of every entry."""
        rows = torch.arange(self.shape[0], dtype=dtype, device=self.indptr.device)
        return rows.repeat_interleave(self.lengths, output_size=self.nnz)

    def to(self, *args: Any, **kwargs: Any) -> CSR:
        """On another device or with values of another dtype, as :meth:`torch.Tensor.to`."""
        values = self.values.to(*args, **kwargs)
        return CSR(
            self.indptr.to(values.device), self.indices.to(values.device), values, self.shape
        )


def on_scipy(tensor: Tensor) -> bool:
    """Whether scipy works on a tensor, or torch.sparse: asked here alone, so that tests without a
    GPU can send CPU tensors down the other path."""
    return tensor.device.type == "cpu"


def arrays(matrix: CSR) -> kernels.Arrays:
    """The numpy views of a CPU matrix."""
    return tuple(part.numpy() for part in matrix.parts)


def from_arrays(parts: kernels.Arrays, shape: tuple[int, int]) -> CSR:
    indptr, indices, values = (torch.from_numpy(array) for array in parts)
    return CSR(indptr, indices, values, shape)


def to_scipy(matrix: CSR) -> sp.csr_matrix:
    """A zero-copy scipy view of a CPU matrix."""
    return kernels.as_matrix(arrays(matrix), matrix.shape)


def from_scipy(matrix: Any) -> CSR:
    """A CSR on the arrays of a scipy matrix."""
    return from_arrays(kernels.as_arrays(matrix), matrix.shape)


def to_torch(matrix: CSR) -> Tensor:
    """A zero-copy sparse tensor."""
    return torch.sparse_csr_tensor(*matrix.parts, size=matrix.shape, check_invariants=False)


def build(
    row: Tensor, col: Tensor, values: Tensor, num_rows: int, num_cols: int | None = None
) -> CSR:
    """The CSR of a matrix, square unless `num_cols` is given, from its entries; repeated entries
    are summed, columns sorted."""
    shape = (num_rows, num_rows if num_cols is None else num_cols)
    if on_scipy(row):
        entries = (values.numpy(), (row.numpy(), col.numpy()))
        matrix = sp.coo_matrix(entries, shape=shape).tocsr()
        matrix.sum_duplicates()
        return from_scipy(matrix)  # with 4-byte indices where they suffice: scipy picks them
    index, values = coalesce(torch.stack([row, col]), values, max(shape), is_sorted=False)
    return CSR(indptr_of(index[0], num_rows), index[1].to(torch.int32), values, shape)


def union(parts: list[CSR]) -> CSR:
    """The sum of matrices of one shape that have entries in different rows, columns sorted; it may
    sort them in place."""
    if on_scipy(parts[0].values):
        total = to_scipy(parts[0])
        for part in parts[1:]:
            total = total + to_scipy(part)
        total.sort_indices()
        return from_scipy(total)
    row, col, values = (torch.cat(column) for column in zip(*map(to_coo, parts)))
    return build(row, col, values, *parts[0].shape)


def transpose(matrix: CSR) -> CSR:
    """The transpose, columns sorted."""
    shape = (matrix.shape[1], matrix.shape[0])
    if on_scipy(matrix.values):
        return from_arrays(kernels.transpose(arrays(matrix), matrix.shape), shape)
    order = torch.sort(matrix.indices.long(), stable=True).indices
    row, col = matrix.row(), matrix.indices.long()
    return CSR(
        indptr_of(col[order], shape[0]), row[order].to(torch.int32), matrix.values[order], shape
    )


def sort_columns(matrix: CSR) -> CSR:
    """The same matrix with the columns of each row in order."""
    if on_scipy(matrix.values):
        view = to_scipy(matrix).copy()
        view.sort_indices()
        return from_scipy(view)
    order = torch.sort(matrix.row() * matrix.shape[1] + matrix.indices).indices
    return matrix._replace(indices=matrix.indices[order], values=matrix.values[order])


def to_coo(matrix: CSR) -> tuple[Tensor, Tensor, Tensor]:
    """Row (int64), column (int64) and value of every entry, by row."""
    return matrix.row(), matrix.indices.long(), matrix.values


def rows_of(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[perm, :]``."""
    shape = (perm.size(0), matrix.shape[1])
    if on_scipy(matrix.values):
        return from_arrays(kernels.take_rows(arrays(matrix), perm.numpy(), matrix.shape), shape)
    start, length = matrix.indptr[perm].long(), matrix.lengths[perm]
    starts = cumsum(length)
    size = int(starts[-1])
    owner = torch.arange(perm.size(0), device=perm.device).repeat_interleave(
        length, output_size=size
    )
    take = torch.arange(size, device=perm.device) + (start - starts[:-1])[owner]
    return CSR(starts.to(matrix.indptr.dtype), matrix.indices[take], matrix.values[take], shape)


def submatrix(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[perm, :][:, perm]``."""
    return columns_of(rows_of(matrix, perm), perm)


def columns_of(matrix: CSR, perm: Tensor) -> CSR:
    """``matrix[:, perm]``: column j of the result is column ``perm[j]``."""
    shape = (matrix.shape[0], perm.size(0))
    if on_scipy(matrix.values):
        return from_scipy(to_scipy(matrix)[:, perm.numpy()])
    position = perm.new_full((matrix.shape[1],), -1)
    position[perm] = torch.arange(perm.size(0), device=perm.device)
    row, col, values = to_coo(matrix)
    col = position[col]
    keep = col >= 0
    return CSR(indptr_of(row[keep], shape[0]), col[keep].to(torch.int32), values[keep], shape)


def scale(matrix: CSR, left: Tensor | None, right: Tensor | None) -> CSR:
    """``diag(left) @ A @ diag(right)`` on the indices of A."""
    values = matrix.values
    if right is not None:
        values = values * right.index_select(0, matrix.indices)
    if left is not None:
        values = values * left.repeat_interleave(matrix.lengths, output_size=matrix.nnz)
    return matrix._replace(values=values)


def indptr_of(row: Tensor, num_rows: int) -> Tensor:
    """Row pointers of sorted rows, int32."""
    return cumsum(torch.bincount(row, minlength=num_rows)).to(torch.int32)
