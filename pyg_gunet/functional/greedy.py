"""Greedy scans of a graph's nodes in parallel rounds that touch every edge about once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.product import multiply

# Of the free nodes, this share at a time is told apart by the pairs of them that are near each
# other: the fewer, the more of the others fall to those taken before anything is known of them.
SHARE = 40
LEAST = 2048  # nodes at a time
# Pairs are found along walks, at most so many per edge and step: around hubs there are too many.
WALKS = 8
LEAST_WALKS = 2**20
# Up to this many entries, lists of neighbours are padded to one length: a table is read in one
# operation, and where rounds are short, operations are what they cost.
TABLE = 2**18
# Up to this many nodes, a look at all finds those that changed in less time than the changes tell.
SMALL = 2**14
# From this share of the nodes on, their surroundings are marked hop by hop and not node by node.
MANY = 32
DONE = 2**40  # of a node that is taken or fell: no count comes down to zero from here


class Scans:
    """Scans of one graph, each from the first place to the last.

    Args:
        matrix (CSR): The neighbours of every node, both ways, without self loops.
        place (Tensor): The place of every node in the order of the scans [N], int64.
    """

    def __init__(self, matrix: CSR, place: Tensor) -> None:
        self.matrix, self.place, self.order = matrix, place, inverse(place)
        self.size = place.numel()
        self.short = place.to(torch.int32)  # half the memory to gather from
        self.end, self.length = matrix.indptr[1:].long(), matrix.lengths
        self.window, self.hops = self.worth, 0
        self.last = torch.empty_like(place)

    @cached_property
    def worth(self) -> Tensor:
        """The better the larger, above zero."""
        return self.size - self.short

    @cached_property
    def target(self) -> Tensor:
        return self.matrix.row()

    @cached_property
    def table(self) -> Tensor | None:
        """The neighbours of every node in a column [D, N], ends of lists filled up with the node;
        None where that takes more than twice the memory."""
        nodes = torch.arange(self.size, device=self.place.device)
        width = int(self.length.max()) if self.size else 0
        if width * self.size > 2 * self.matrix.nnz:
            return None
        place = (nodes - (self.end - self.length) * self.size).repeat_interleave(
            self.length, output_size=self.matrix.nnz
        )
        place += torch.arange(self.matrix.nnz, device=place.device) * self.size
        table = nodes.to(torch.int32).repeat(width)
        return table.scatter_(0, place, self.matrix.indices).view(width, self.size)

    @cached_property
    def loops(self) -> CSR:
        """The neighbours of every node and itself."""
        first = torch.arange(self.size + 1, dtype=torch.int32, device=self.place.device)
        ones = torch.ones_like(first[1:], dtype=self.matrix.values.dtype)
        return csr.union([self.matrix, CSR(first, first[:-1], ones, self.matrix.shape)])

    def covered(self, kept: Tensor | None, free: Tensor, fold: int) -> Tensor:
        """Scans the free nodes and takes each that has fewer than `fold` kept neighbours."""
        node = (free if kept is None else free & ~kept).nonzero().view(-1)
        everything = node.numel() == self.size
        rows = self.matrix if everything else csr.rows_of(self.matrix, node)
        near, length = rows.indices, rows.lengths
        have = torch.zeros_like(node)
        if kept is not None:
            have = _sums(kept.index_select(0, near), rows.indptr)
        # Only a better neighbour counts for a node of the scan.
        falls = self.short.index_select(0, node)
        falls = falls.repeat_interleave(length, output_size=near.numel())
        falls = falls < self.short.index_select(0, near)
        if not everything:
            own = torch.full_like(self.short, -1)
            own[node] = torch.arange(node.numel(), dtype=own.dtype, device=node.device)
            near = own.index_select(0, near)
            falls &= near >= 0
        taken = node.index_select(0, _scan(near, rows.indptr, falls, have, fold))
        return torch.zeros_like(free).index_fill_(0, taken, True)

    def independent(
        self,
        kept: Tensor | None,
        free: Tensor,
        radius: int,
        stop: Callable[[Tensor], bool] = lambda new: False,
    ) -> Tensor:
        """Scans the free nodes and takes each that is more than `radius` hops from all kept; or not
        all of these, once `stop` says so, which hears of those taken a few at a time."""
        if radius == 1:
            return self.covered(kept, free, 1)
        found, left = torch.zeros_like(free), self.size
        if kept is not None:
            free = free & ~self.reach(kept.nonzero().view(-1), radius)
        # Windows tell which nodes are best around themselves, at the price of all edges for every
        # hop: for the first round, whose windows grow with the radius, and as long as they help.
        first = windows = kept is None
        chunk = max(self.size // SHARE, LEAST)
        parts: list[Tensor] = []
        while bool(free.any()):
            near = None
            if not windows:
                if not parts:
                    node = self.order.masked_select(free.index_select(0, self.order))
                    parts = list(node.split(chunk))[::-1]
                node = parts.pop()
                node = node.masked_select(free.index_select(0, node))
                near = self.pairs(node, radius)
            if near is None:
                most = self.widened(radius) if first else torch.where(free, self.worth, 0)
                for _ in range(0 if first else radius):
                    most = self.hop(most)
                new, parts = (free & (most == self.worth)).nonzero().view(-1), []
            else:
                row = near.row(torch.int32)
                have = torch.zeros_like(node)
                new = _scan(near.indices, near.indptr, row < near.indices, have, 1)
                new = node.index_select(0, new)
            found.index_fill_(0, new, True)
            if stop(new):
                return found
            free = free & ~self.reach(new, radius)
            first = False
            if near is None:
                before, left = left, int(free.sum())
                windows = chunk < left < before // 2
        return found

    def widened(self, radius: int) -> Tensor:
        """The largest worth within so many hops, from what was asked before."""
        while self.hops < radius:
            self.window, self.hops = self.hop(self.window), self.hops + 1
        return self.window

    def hop(self, value: Tensor) -> Tensor:
        """The largest value of a node and its neighbours."""
        if self.table is not None:
            near = value.index_select(0, self.table.view(-1)).view(self.table.shape)
            return torch.maximum(value, near.amax(0)) if self.table.size(0) else value
        near = value.index_select(0, self.matrix.indices)
        return value.scatter_reduce(0, self.target, near, "amax")

    def reach(self, node: Tensor, radius: int) -> Tensor:
        """Marks what is within so many hops of some nodes."""
        if node.numel() > self.size // MANY and self.table is not None:
            seen = torch.zeros(self.size, dtype=torch.uint8, device=node.device)
            seen.index_fill_(0, node, 1)
            for _ in range(radius):
                seen = self.hop(seen)
            return seen.bool()
        seen = torch.zeros(self.size, dtype=torch.bool, device=node.device)
        seen.index_fill_(0, node, True)
        for hop in range(radius):
            if self.table is None:
                near = _out(self.end, self.length, self.matrix.indices, node)
            else:
                near = self.table.index_select(1, node).view(-1)
            near = near.masked_select(~seen.index_select(0, near)).long()
            seen.index_fill_(0, near, True)
            if hop + 1 < radius:
                node = _once(near, self.last)
        return seen

    def pairs(self, node: Tensor, radius: int) -> CSR | None:
        """Which of some nodes are within so many hops of each other, by their positions; None if
        that takes too many walks."""
        half: CSR | None = csr.rows_of(self.loops, node)
        for _ in range(radius // 2 - 1):
            half = self._walk(half, self.loops)
        rest = self._walk(half, self.loops) if radius % 2 else half
        return None if rest is None else self._walk(half, csr.transpose(rest))

    def _walk(self, left: CSR | None, right: CSR) -> CSR | None:
        if left is None:
            return None
        length = self.length + 1 if right is self.loops else right.indptr.diff()
        walks = int(length.index_select(0, left.indices).sum())
        if walks > max(WALKS * self.loops.nnz, LEAST_WALKS):
            return None
        return multiply(left, right, walks, positive=True)


def _scan(near: Tensor, indptr: Tensor, falls: Tensor, have: Tensor, fold: int) -> Tensor:
    """Takes each node that has fewer than `fold` taken neighbours before it, `have` included: the
    ids of those taken."""
    lists = _Lists(near.index_select(0, falls.nonzero().view(-1)).long(), _sums(falls, indptr))
    # What a node lacks to fall, and what to be taken: the neighbours before it are taken at first.
    # One more stands for the ends of lists.
    state = have.new_full((2, have.numel() + 1), DONE)
    room, lack = state
    torch.sub(fold, have, out=room[:-1])
    torch.sub(1, room[:-1], out=lack[:-1])
    lack.scatter_add_(0, lists.near, torch.ones_like(lists.near))
    less = state.new_full((1,), -1)
    taken: list[Tensor] = []
    gone = (room <= 0).nonzero().view(-1)
    while True:
        state.index_fill_(1, gone, DONE)
        after = lists.of(gone)
        lack.scatter_add_(0, after, less.expand_as(after))
        new = _touched(lack, after) if taken else (lack <= 0).nonzero().view(-1)
        if new.numel() == 0:
            return torch.cat([*taken, new])
        taken.append(new)
        state.index_fill_(1, new, DONE)
        after = lists.of(new)
        room.scatter_add_(0, after, less.expand_as(after))
        gone = _touched(room, after)


class _Lists:
    """Lists of neighbours, one after the other, or where they are short in a table."""

    def __init__(self, near: Tensor, length: Tensor) -> None:
        self.near, self.length, self.end = near, length, length.cumsum(0)
        self.table: Tensor | None = None
        size = length.numel()
        width = int(length.max()) if size else 0
        if width * size <= min(TABLE, 16 * near.numel() + LEAST):
            nth = torch.arange(size, device=near.device) * width
            nth = (nth + length - self.end).repeat_interleave(length, output_size=near.numel())
            nth += torch.arange(near.numel(), device=near.device)
            self.table = near.new_full((size * width,), size).scatter_(0, nth, near)
            self.table = self.table.view(size, width)

    def of(self, node: Tensor) -> Tensor:
        """The neighbours of some nodes, one after the other's; in between, the number of nodes."""
        if self.table is not None:
            return self.table.index_select(0, node).view(-1)
        return _out(self.end, self.length, self.near, node)


def _touched(value: Tensor, node: Tensor) -> Tensor:
    """Those of some nodes that came down to zero, each once."""
    if value.numel() < 4 * node.numel() + SMALL:
        return (value <= 0).nonzero().view(-1)
    node = node.masked_select(value.index_select(0, node) <= 0)
    return _once(node, torch.empty_like(value))


def _out(end: Tensor, length: Tensor, near: Tensor, node: Tensor) -> Tensor:
    """The neighbours of some nodes, one after the other's."""
    length = length.index_select(0, node)
    mine = length.cumsum(0)
    size = int(mine[-1]) if mine.numel() else 0
    take = (end.index_select(0, node) - mine).repeat_interleave(length, output_size=size)
    return near.index_select(0, take.add_(torch.arange(size, device=take.device)))


def _once(node: Tensor, last: Tensor) -> Tensor:
    """Without repetitions: of each, the one that was written last."""
    nth = torch.arange(node.numel(), device=node.device)
    last.scatter_(0, node, nth)
    return node.masked_select(last.index_select(0, node) == nth)


def _sums(mask: Tensor, indptr: Tensor) -> Tensor:
    """The number of marked entries in every row."""
    total = torch.zeros(mask.numel() + 1, dtype=torch.int32, device=mask.device)
    torch.cumsum(mask, 0, dtype=torch.int32, out=total[1:])
    return total.index_select(0, indptr).diff().long()


def inverse(permutation: Tensor) -> Tensor:
    out = torch.empty_like(permutation)
    out[permutation] = torch.arange(permutation.numel(), device=permutation.device)
    return out
