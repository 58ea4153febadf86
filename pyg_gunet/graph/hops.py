"""Two hops between the nodes of a level, as a chain of sparse products that is never multiplied
out: what the walk operator is made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.sparse.spmm import SparseBlock


class Scratch:
    """Buffers for the features between two hops, used again: fresh memory costs the system more
    time than a sparse product takes to fill it. None is in use between two calls."""

    def __init__(self) -> None:
        self.free: dict[tuple[Any, ...], list[Tensor]] = {}

    def take(self, like: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
        """``(shelf, buffer)``: a buffer [size, F] for the features of `like`, and where to put it
        back. Lists give and take in one step, so threads may share them."""
        # A buffer born in inference mode may not be written to outside of it.
        key = (size, like.size(1), like.dtype, like.device, torch.is_inference_mode_enabled())
        shelf = self.free.setdefault(key, [])
        try:
            return shelf, shelf.pop()
        except IndexError:
            return shelf, like.new_empty((size, like.size(1)))

    def __deepcopy__(self, memo: Any) -> Scratch:
        return Scratch()  # what is in it is of no use to anybody

    def __reduce__(self) -> Any:
        return Scratch, ()


def has_memory(x: Tensor) -> bool:
    """Whether a tensor has memory of its own: what a vmap wraps has none."""
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


class TwoHop:
    r"""``left @ right + diag`` between blocks of one level, as a chain of sparse products.

    Args:
        left (SparseBlock or TwoHop): The second hop.
        right (SparseBlock or TwoHop): The first hop.
        diag (Tensor): Weight of the identity [M, 1], or of the rows or columns of it that `kept`
            names.
        kept (Tensor, optional): Nodes [M] that the map is restricted to on one side.
            (default: None)
        side (str, optional): ``'rows'`` or ``'cols'``, where `kept` is. (default: ``'rows'``)
        scratch (Scratch, optional): Where the features between the hops go. (default: None)
    """

    def __init__(
        self,
        left: SparseBlock | TwoHop,
        right: SparseBlock | TwoHop,
        diag: Tensor | None,
        kept: Tensor | None = None,
        side: str = "rows",
        scratch: Scratch | None = None,
    ) -> None:
        self.left, self.right, self.diag, self.kept, self.side = left, right, diag, kept, side
        self.scratch = scratch or Scratch()

    @property
    def nnz(self) -> int:
        """Entries of all blocks that one application reads: its scalar products per feature."""
        return self.left.nnz + self.right.nnz

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map or its transpose in the dtype of `x`, without gradient."""
        return self.matmul(x.to(self.dtype), transposed).to(x.dtype)

    def matmul(self, x: Tensor, transposed: bool = False, out: Tensor | None = None) -> Tensor:
        """The map of `x` [., F], into `out` where given."""
        if not has_memory(x):
            return self._out_of_place(x, transposed)
        if out is None:
            out = x.new_empty((self.shape[1 if transposed else 0], x.size(1)))
        first, second = (self.left, self.right) if transposed else (self.right, self.left)
        shelf, hop = self.scratch.take(x, self.right.shape[0])
        first.matmul(x, transposed, hop)
        if self.diag is None:
            second.matmul(hop, transposed, out)
        elif self.kept is None:
            second.add_to(torch.mul(x, self.diag, out=out), hop, transposed)
        elif (self.side == "rows") != transposed:
            torch.index_select(x, 0, self.kept, out=out)
            second.add_to(out.mul_(self.diag), hop, transposed)
        else:  # the identity's part fills kept rows alone, so it comes last
            second.matmul(hop, transposed, out).index_add_(0, self.kept, x * self.diag)
        shelf.append(hop)
        return out

    def _out_of_place(self, x: Tensor, transposed: bool) -> Tensor:
        """The map under vmap, which cannot write a batch into memory of one."""
        first, second = (self.left, self.right) if transposed else (self.right, self.left)
        out = second.matmul(first.matmul(x, transposed), transposed)
        if self.diag is None:
            return out
        if self.kept is None:
            return out + x * self.diag
        if (self.side == "rows") != transposed:
            return out + x.index_select(0, self.kept) * self.diag
        return out.index_add(0, self.kept, x * self.diag)

    def add_to(self, out: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
        """``out +=`` the map of `x`, in place."""
        first, second = (self.left, self.right) if transposed else (self.right, self.left)
        if self.diag is not None:
            if self.kept is None:
                out.addcmul_(x, self.diag)
            elif (self.side == "rows") != transposed:
                out.addcmul_(x[self.kept], self.diag)
            else:
                out.index_add_(0, self.kept, x * self.diag)
        shelf, hop = self.scratch.take(x, self.right.shape[0])
        second.add_to(out, first.matmul(x, transposed, hop), transposed)
        shelf.append(hop)
        return out
