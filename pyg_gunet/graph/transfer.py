r"""What passes between a level and the next coarser one: prolongation, restriction, contraction.

The prolongation :math:`\mathbf{P}` [N, K] is the direct interpolation of algebraic multigrid (Ruge
and Stueben, "Algebraic Multigrid", 1987, section 4.2), with the kept nodes as its coarse ones: the
row of a kept node is its own; that of a dropped node is the mean of the kept nodes next to it,
weighted by its edges; where none is, the mean of its neighbours' rows, ring by ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_gunet.graph.graph import moved
from pyg_gunet.graph.inputs import near, refuse_tangent, unit_dtype
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.product import check_entries, count_products, multiply
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map, product

TIE = 1e-6  # shares this close, relative to the largest, differ by rounding
# Rings whose rows would have this many times the entries of their edges are not multiplied out.
FILL = 8
BLOCK = 1024  # rows of such a ring that are multiplied out at once


class Transfer:
    r"""The prolongation of the kept nodes of a level and what follows from it.

    Rows sum to 1, so that constants pass unchanged; a node that no path joins to a kept one has an
    empty row. Edges count in both directions, by their absolute weights; those of weight zero do
    not. Differentiable in the features, and in the weights where they require a gradient.

    Where hubs are, the rows of outer rings fill up: they are kept as averages over the ring further
    in, never more entries than edges, and multiplied out where they are asked for alone.

    Attributes:
        perm (Tensor): The kept nodes, [K].
        inner (CSR): The rows of :math:`\mathbf{P}` up to some ring, float32 or float64, each entry
            once.
        outer (tuple[CSR, ...]): The averages [N, N] of each ring further out, over that before it.
    """

    def __init__(self, perm: Tensor, inner: CSR, outer: Sequence[CSR] = ()) -> None:
        self.perm, self.inner, self.outer = perm, inner, tuple(outer)
        self._rings: dict[torch.dtype, _Rings] = {}
        self._mass: Tensor | None = None
        self._cluster: Tensor | None = None

    @classmethod
    def from_entries(
        cls, perm: Tensor, num_nodes: int, row: Tensor, col: Tensor, share: Tensor
    ) -> Transfer:
        r"""From the entries of :math:`\mathbf{P}`, by row, each once."""
        shape = (num_nodes, perm.size(0))
        return cls(perm, CSR(csr.indptr_of(row, num_nodes), col.to(torch.int32), share, shape))

    @classmethod
    @torch.compiler.disable  # its rings are as many as the graph asks for
    def from_edges(
        cls, perm: Tensor, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int
    ) -> Transfer:
        """Builds the prolongation from edges [2, E] and weights [E] or None (all ones).

        Raises:
            MemoryError: If weights learn and many nodes are far from all kept ones.
            NotImplementedError: If weights carry a forward-mode tangent, which it would lose.
        """
        refuse_tangent(edge_weight)
        learned = edge_weight is not None and edge_weight.requires_grad and torch.is_grad_enabled()
        if not learned:
            return lasting(cls._ring_by_ring)(perm, edge_index, edge_weight, num_nodes, False)
        with torch.inference_mode(False):
            return cls._ring_by_ring(perm, edge_index, edge_weight, num_nodes, True)

    @classmethod
    def _ring_by_ring(
        cls,
        perm: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        num_nodes: int,
        learned: bool,
    ) -> Transfer:
        perm, size = perm.long(), perm.size(0)
        source, target, weight = near(edge_index, edge_weight)
        own = torch.arange(size, device=perm.device)
        reached = torch.zeros(num_nodes, dtype=torch.bool, device=perm.device)
        reached[perm] = True
        first = perm, own, weight.new_ones(size)
        parts: list[Any] = [first if learned else csr.build(*first, num_nodes, size)]
        outer: list[CSR] = []
        while True:
            new = (reached[source] & ~reached[target]).nonzero().view(-1)
            if not new.numel():
                break
            ring = source[new], target[new], weight[new], num_nodes
            if learned:
                parts.append(_learned_average(parts[-1], *ring, size))
            else:
                averages = _averages(*ring)
                if outer or count_products(averages, parts[-1]) > FILL * averages.nnz:
                    outer.append(averages)
                else:
                    parts.append(multiply(averages, parts[-1]))
            reached[target[new]] = True
            open_ = (~reached[target]).nonzero().view(-1)
            source, target, weight = source[open_], target[open_], weight[open_]
        if not learned:
            return cls(perm, csr.union(parts), outer)
        row, col, share = (torch.cat(column) for column in zip(*parts))
        order = torch.sort(row, stable=True).indices
        return cls.from_entries(perm, num_nodes, row[order], col[order], share[order])

    @property
    def num_nodes(self) -> int:
        """Number of nodes of the finer level, N."""
        return self.inner.shape[0]

    @property
    def matrix(self) -> CSR:
        r""":math:`\mathbf{P}`, multiplied out.

        Raises:
            MemoryError: If it would not fit.
        """
        parts = [self.inner]
        for ring in self.outer:
            check_entries(count_products(ring, parts[-1]), self.num_nodes, self.perm.device)
            parts.append(multiply(ring, parts[-1]))
        return csr.union(parts) if self.outer else self.inner

    @property
    def row(self) -> Tensor:
        """The row of every entry of :attr:`matrix`, int64; beside it `col` and `share`."""
        return self.matrix.row()

    @property
    def col(self) -> Tensor:
        return self.matrix.indices.long()

    @property
    def share(self) -> Tensor:
        return self.matrix.values

    @property
    def learned(self) -> bool:
        """Whether the shares carry a gradient."""
        return self.inner.values.requires_grad

    @property
    def num_kept(self) -> int:
        """Number of kept nodes, K."""
        return self.perm.size(0)

    def prolong(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{P} \mathbf{X}`, features [K, F] of the kept nodes for all: [N, F]."""
        return self._apply(x, transposed=False)

    def gather(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{P}^{\top} \mathbf{X}`, [N, F] to [K, F]: sums where :meth:`restrict`
        averages."""
        return self._apply(x, transposed=True)

    def restrict(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{P}^{\top} \mathbf{X}` with rows of sum 1: every kept node averages over
        the nodes that it stands for, [N, F] to [K, F]."""
        # In the dtype of the shares: sums of half precision overflow before they are divided.
        out = self.gather(x.to(torch.promote_types(x.dtype, torch.float32)))
        return (out / self.mass.to(out.dtype).unsqueeze(-1)).to(x.dtype)

    @property
    def mass(self) -> Tensor:
        """For how many nodes a kept one stands, itself included: the column sums, [K]."""
        if self.learned:
            return self._weight()
        if self._mass is None:
            self._mass = lasting(self._weight)()
        return self._mass

    def _weight(self) -> Tensor:
        dtype = torch.promote_types(self.inner.values.dtype, torch.float32)  # half counts to 65,504
        ones = torch.ones(self.num_nodes, 1, dtype=dtype, device=self.perm.device)
        return self.gather(ones).view(-1)

    @property
    def cluster(self) -> Tensor:
        r"""For every node the kept node, as a position in `perm`, that weighs most in its row of
        :math:`\mathbf{P}`, the first in `perm` among equals; -1 where the row is empty. [N]"""
        if self._cluster is None:
            self._cluster = self._heaviest()
        return self._cluster

    @lasting
    def _heaviest(self) -> Tensor:
        cluster = _heaviest_of(self.inner)
        for i, ring in enumerate(self.outer):
            # Multiplied out by blocks of rows, of which one column each is kept.
            rows = ring.lengths.nonzero().view(-1)
            for block in rows.split(BLOCK):
                product_ = csr.rows_of(ring, block)
                for inner in (*reversed(self.outer[:i]), self.inner):
                    product_ = multiply(product_, inner)
                cluster[block] = _heaviest_of(product_)
        return cluster

    def to(self, *args: Any, **kwargs: Any) -> Transfer:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`."""
        perm = moved(self.perm, *args, **kwargs)
        inner, *outer = (part.to(*args, **kwargs) for part in (self.inner, *self.outer))
        return Transfer(perm, inner, outer)

    def _apply(self, x: Tensor, transposed: bool) -> Tensor:
        if self.learned:
            to, of = (self.col, self.row) if transposed else (self.row, self.col)
            size = self.num_kept if transposed else self.num_nodes
            terms = self.share.unsqueeze(-1) * x.index_select(0, of).to(self.share.dtype)
            return terms.new_zeros((size, x.size(1))).index_add(0, to, terms).to(x.dtype)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if dtype not in self._rings:
            self._rings[dtype] = _Rings([p.to(dtype) for p in (self.inner, *self.outer)])
        return apply_map(self._rings[dtype], x, transposed)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, kept={self.num_kept})"


class _Rings:
    """The prolongation as a map: the inner rows, then ring by ring."""

    def __init__(self, parts: list[CSR]) -> None:
        self.dtype = parts[0].values.dtype
        self.inner, *self.outer = map(SparseBlock, parts)

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        out = x.to(self.dtype)
        if transposed:
            for ring in reversed(self.outer):
                out = out + ring.matmul(out, True)
            return self.inner.matmul(out, True).to(x.dtype)
        out = self.inner.matmul(out)
        for ring in self.outer:
            out = out + ring.matmul(out)
        return out.to(x.dtype)


def _heaviest_of(matrix: CSR) -> Tensor:
    """For every row the column of its largest entry, the first among equals; -1 where it is
    empty."""
    row, col, share = csr.to_coo(matrix)
    most = share.new_zeros(matrix.shape[0]).scatter_reduce(0, row, share, "amax")
    best = (share >= (1 - TIE) * most[row]).nonzero().view(-1)
    none = matrix.shape[1]
    found = col.new_full((matrix.shape[0],), none).scatter_reduce(0, row[best], col[best], "amin")
    return found.masked_fill(found == none, -1)


def _averages(source: Tensor, target: Tensor, weight: Tensor, num_nodes: int) -> CSR:
    """Means over the sources, by weight, for every target: [N, N]."""
    matrix = csr.build(target, source, weight, num_nodes)
    mass = product(matrix, weight.new_ones(num_nodes, 1)).view(-1)
    return csr.scale(matrix, mass.where(mass > 0, 1.0).reciprocal(), None)


def _learned_average(
    inner: tuple[Tensor, Tensor, Tensor],
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    num_nodes: int,
    size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as entries, with the gradient of the weights."""
    row, col, share = inner
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
    weight = torch.ones(inside.size(0), dtype=unit_dtype(), device=ends.device)
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
