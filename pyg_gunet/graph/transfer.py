r"""What passes between a level and the next coarser one: prolongation, restriction, contraction.

The prolongation :math:`\mathbf{P}` [N, K] is the direct interpolation of algebraic multigrid (Ruge
and Stueben, "Algebraic Multigrid", 1987, section 4.2), with the kept nodes as its coarse ones: the
row of a kept node is its own; that of a dropped node is the mean of the kept nodes next to it,
weighted by its edges; where none is, the mean of its neighbours' rows, ring by ring.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_gunet.graph.graph import lasting, moved
from pyg_gunet.graph.inputs import both_ways, refuse_tangent
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.product import check_entries, count_products, multiply
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map

TIE = 1e-6  # shares this close, relative to the largest, differ by rounding


class Transfer:
    r"""The prolongation of the kept nodes of a level and what follows from it.

    Rows sum to 1, so that constants pass unchanged; a node that no path joins to a kept one has an
    empty row. Edges count in both directions, by their absolute weights; those of weight zero do
    not. Differentiable in the features, and in the weights where they require a gradient.

    Attributes:
        perm (Tensor): The kept nodes, [K].
        num_nodes (int): Number of nodes of the finer level, N.
        row, col, share (Tensor): The entries of :math:`\mathbf{P}`, by row, each once.
    """

    def __init__(
        self, perm: Tensor, num_nodes: int, row: Tensor, col: Tensor, share: Tensor
    ) -> None:
        self.perm, self.num_nodes = perm, num_nodes
        self.row, self.col, self.share = row, col, share
        self._blocks: dict[tuple[bool, torch.dtype], SparseBlock] = {}
        self._cluster: Tensor | None = None

    @classmethod
    @torch.compiler.disable  # its rings are as many as the graph asks for
    def from_edges(
        cls, perm: Tensor, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int
    ) -> Transfer:
        """Builds the prolongation from edges [2, E] and weights [E] or None (all ones).

        Raises:
            MemoryError: If it would not fit, as where many nodes are far from all kept ones.
            NotImplementedError: If weights carry a forward-mode tangent, which it would lose.
        """
        refuse_tangent(edge_weight)
        perm, size = perm.long(), perm.size(0)
        learned = edge_weight is not None and edge_weight.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(learned):
            source, target = both_ways(edge_index)
            if edge_weight is None:
                weight = torch.ones(source.size(0), device=source.device)
            else:
                weight = edge_weight.abs()
                weight = weight if weight.dtype == torch.float64 else weight.float()
                weight = torch.cat([weight, weight])
            proper = ((source != target) & (weight.detach() > 0)).nonzero().view(-1)
            source, target, weight = source[proper], target[proper], weight[proper]
            if weight.numel():  # sums of large weights overflow; powers of two change no share
                exponent = torch.frexp(weight.detach().max()).exponent - 1
                weight = weight / torch.exp2(exponent.to(weight.dtype))
            own = torch.arange(size, device=perm.device)
            parts = [(perm, own, weight.new_ones(size))]
            reached = torch.zeros(num_nodes, dtype=torch.bool, device=perm.device)
            reached[perm] = True
            while True:
                new = (reached[source] & ~reached[target]).nonzero().view(-1)
                if not new.numel():
                    break
                parts.append(
                    _average(parts[-1], source[new], target[new], weight[new], num_nodes, size)
                )
                reached[target[new]] = True
                open_ = (~reached[target]).nonzero().view(-1)
                source, target, weight = source[open_], target[open_], weight[open_]
            row, col, share = (torch.cat(column) for column in zip(*parts))
            if not learned:  # a pass over the rows, no sort
                by_row = csr.to_coo(csr.build(row, col, share, num_nodes, size))
                return cls(perm, num_nodes, *by_row)
            order = torch.sort(row, stable=True).indices
            return cls(perm, num_nodes, row[order], col[order], share[order])

    @property
    def num_kept(self) -> int:
        """Number of kept nodes, K."""
        return self.perm.size(0)

    def prolong(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{P} \mathbf{X}`, features [K, F] of the kept nodes for all: [N, F]."""
        return self._apply(False, x)

    def restrict(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{P}^{\top} \mathbf{X}` with rows of sum 1: every kept node averages over
        the nodes that it stands for, [N, F] to [K, F]."""
        return self._apply(True, x)

    @property
    def cluster(self) -> Tensor:
        r"""For every node the kept node, as a position in `perm`, that weighs most in its row of
        :math:`\mathbf{P}`, the first in `perm` among equals; -1 where the row is empty. [N]"""
        if self._cluster is None:
            self._cluster = self._heaviest()
        return self._cluster

    @lasting
    def _heaviest(self) -> Tensor:
        most = self.share.new_zeros(self.num_nodes)
        most = most.scatter_reduce(0, self.row, self.share, "amax")
        best = (self.share >= (1 - TIE) * most[self.row]).nonzero().view(-1)
        cluster = self.col.new_full((self.num_nodes,), self.num_kept)
        cluster = cluster.scatter_reduce(0, self.row[best], self.col[best], "amin")
        return cluster.masked_fill(cluster == self.num_kept, -1)

    def to(self, *args: Any, **kwargs: Any) -> Transfer:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`."""
        perm, row, col = (moved(part, *args, **kwargs) for part in (self.perm, self.row, self.col))
        return Transfer(perm, self.num_nodes, row, col, self.share.to(*args, **kwargs))

    def _apply(self, down: bool, x: Tensor) -> Tensor:
        if self.share.requires_grad:
            row, col, share, num_rows = self._entries(down)
            terms = share.unsqueeze(-1) * x.index_select(0, col).to(share.dtype)
            return terms.new_zeros((num_rows, x.size(1))).index_add(0, row, terms).to(x.dtype)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if (down, dtype) not in self._blocks:
            self._blocks[down, dtype] = self._block(down, dtype)
        return apply_map(self._blocks[down, dtype], x)

    def _entries(self, down: bool) -> tuple[Tensor, Tensor, Tensor, int]:
        """Rows, columns and values of one direction, and its number of rows."""
        if not down:
            return self.row, self.col, self.share, self.num_nodes
        mass = self.share.new_zeros(self.num_kept).index_add(0, self.col, self.share)
        # A kept node stands for itself: no mass is under 1.
        return self.col, self.row, self.share / mass[self.col], self.num_kept

    @torch.compiler.disable
    @lasting
    def _block(self, down: bool, dtype: torch.dtype) -> SparseBlock:
        row, col, share, num_rows = self._entries(down)
        num_cols = self.num_kept + self.num_nodes - num_rows
        matrix = csr.build(row, col, share.to(dtype), num_rows, num_cols)
        return SparseBlock(matrix, csr.transpose(matrix))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, kept={self.num_kept})"


def _average(
    inner: tuple[Tensor, Tensor, Tensor],
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    num_nodes: int,
    size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of the next ring, `target`, from those of the last one, `inner`, by row."""
    row, col, share = inner
    if not weight.requires_grad:
        left = csr.build(target, source, weight, num_nodes)
        right = csr.build(row, col, share, num_nodes, size)
        products = count_products(left, right)
        check_entries(products, num_nodes, source.device)
        row, col, share = csr.to_coo(csr.sort_columns(multiply(left, right, products)))
        return row, col, share / share.new_zeros(num_nodes).index_add(0, row, share)[row]
    order = torch.sort(row, stable=True).indices
    pointer = cumsum(torch.bincount(row, minlength=num_nodes))
    first, count = pointer[source], pointer.diff()[source]
    total = int(count.sum())
    check_entries(total, num_nodes, source.device)
    edge = torch.arange(source.size(0), device=source.device)
    edge = edge.repeat_interleave(count, output_size=total)
    nth = torch.arange(total, device=source.device) - cumsum(count)[edge]
    entry = order[first[edge] + nth]
    value = weight[edge] * share[entry]
    key, place = (target[edge] * size + col[entry]).unique(return_inverse=True)
    share = value.new_zeros(key.size(0)).index_add(0, place, value)
    row, col = key.div(size, rounding_mode="floor"), key % size
    mass = share.new_zeros(num_nodes).index_add(0, row, share)
    return row, col, share / mass[row]


def contracted(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    edge_attr: Tensor | None,
    cluster: Tensor,
    size: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """:math:`S^T A S` without its diagonal, S [N, K] the indicator of `cluster`: edges between
    clusters, sorted, with the sums of their weights (their number where None) and the means of
    their features."""
    ends = cluster[edge_index.long()]
    inside = ((ends >= 0).all(dim=0) & (ends[0] != ends[1])).nonzero().view(-1)
    ends = ends[:, inside]
    key, place = (ends[0] * size + ends[1]).unique(return_inverse=True)
    weight = torch.ones(inside.size(0), device=ends.device)
    weight = weight if edge_weight is None else edge_weight[inside]
    total = weight.new_zeros(key.size(0)).index_add(0, place, weight)
    if edge_attr is not None:
        edge_attr = edge_attr[inside]
        count = torch.bincount(place, minlength=key.size(0)).view(-1, *[1] * (edge_attr.dim() - 1))
        sums = edge_attr.new_zeros((key.size(0), *edge_attr.shape[1:]))
        edge_attr = sums.index_add(0, place, edge_attr) / count
    size = max(size, 1)
    index = torch.stack([key.div(size, rounding_mode="floor"), key % size])
    return index.to(edge_index.dtype), total, edge_attr
