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
from pyg_gunet.graph.inputs import near, refuse_tangent
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.product import check_entries, count_products, multiply
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map, product

TIE = 1e-6  # shares this close, relative to the largest, differ by rounding


class Transfer:
    r"""The prolongation of the kept nodes of a level and what follows from it.

    Rows sum to 1, so that constants pass unchanged; a node that no path joins to a kept one has an
    empty row. Edges count in both directions, by their absolute weights; those of weight zero do
    not. Differentiable in the features, and in the weights where they require a gradient.

    Attributes:
        perm (Tensor): The kept nodes, [K].
        matrix (CSR): :math:`\mathbf{P}`, float32 or float64, each entry once.
    """

    def __init__(self, perm: Tensor, matrix: CSR) -> None:
        self.perm, self.matrix = perm, matrix
        self._blocks: dict[torch.dtype, SparseBlock] = {}
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
            MemoryError: If it would not fit, as where many nodes are far from all kept ones.
            NotImplementedError: If weights carry a forward-mode tangent, which it would lose.
        """
        refuse_tangent(edge_weight)
        perm, size = perm.long(), perm.size(0)
        learned = edge_weight is not None and edge_weight.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(learned):
            source, target, weight = near(edge_index, edge_weight)
            own = torch.arange(size, device=perm.device)
            reached = torch.zeros(num_nodes, dtype=torch.bool, device=perm.device)
            reached[perm] = True
            first = perm, own, weight.new_ones(size)
            parts: list[Any] = [first if learned else csr.build(*first, num_nodes, size)]
            while True:
                new = (reached[source] & ~reached[target]).nonzero().view(-1)
                if not new.numel():
                    break
                ring = source[new], target[new], weight[new], num_nodes, size
                parts.append((_learned_average if learned else _average)(parts[-1], *ring))
                reached[target[new]] = True
                open_ = (~reached[target]).nonzero().view(-1)
                source, target, weight = source[open_], target[open_], weight[open_]
            if not learned:
                return cls(perm, csr.union(parts))
            row, col, share = (torch.cat(column) for column in zip(*parts))
            order = torch.sort(row, stable=True).indices
            return cls.from_entries(perm, num_nodes, row[order], col[order], share[order])

    @property
    def num_nodes(self) -> int:
        """Number of nodes of the finer level, N."""
        return self.matrix.shape[0]

    @property
    def row(self) -> Tensor:
        """The row of every entry, int64; its column is in `col`, its value in `share`."""
        return self.matrix.row()

    @property
    def col(self) -> Tensor:
        return self.matrix.indices.long()

    @property
    def share(self) -> Tensor:
        return self.matrix.values

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
        if self.share.requires_grad:
            return self.share.new_zeros(self.num_kept).index_add(0, self.col, self.share)
        if self._mass is None:
            self._mass = self._weighed()
        return self._mass

    @lasting
    def _weighed(self) -> Tensor:
        return self.share.new_zeros(self.num_kept).index_add(0, self.matrix.indices, self.share)

    @property
    def cluster(self) -> Tensor:
        r"""For every node the kept node, as a position in `perm`, that weighs most in its row of
        :math:`\mathbf{P}`, the first in `perm` among equals; -1 where the row is empty. [N]"""
        if self._cluster is None:
            self._cluster = self._heaviest()
        return self._cluster

    @lasting
    def _heaviest(self) -> Tensor:
        row = self.row
        most = self.share.new_zeros(self.num_nodes)
        most = most.scatter_reduce(0, row, self.share, "amax")
        best = (self.share >= (1 - TIE) * most[row]).nonzero().view(-1)
        row, col = row[best], self.matrix.indices[best].long()
        cluster = col.new_full((self.num_nodes,), self.num_kept)
        cluster = cluster.scatter_reduce(0, row, col, "amin")
        return cluster.masked_fill(cluster == self.num_kept, -1)

    def to(self, *args: Any, **kwargs: Any) -> Transfer:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`."""
        return Transfer(moved(self.perm, *args, **kwargs), self.matrix.to(*args, **kwargs))

    def _apply(self, x: Tensor, transposed: bool) -> Tensor:
        if self.share.requires_grad:
            to, of = (self.col, self.row) if transposed else (self.row, self.col)
            size = self.num_kept if transposed else self.num_nodes
            terms = self.share.unsqueeze(-1) * x.index_select(0, of).to(self.share.dtype)
            return terms.new_zeros((size, x.size(1))).index_add(0, to, terms).to(x.dtype)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if dtype not in self._blocks:
            values = self.share.detach().to(dtype)
            self._blocks[dtype] = SparseBlock(self.matrix._replace(values=values))
        return apply_map(self._blocks[dtype], x, transposed)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, kept={self.num_kept})"


def _average(
    inner: CSR, source: Tensor, target: Tensor, weight: Tensor, num_nodes: int, size: int
) -> CSR:
    """The rows of the next ring, `target`, from those of the last one, `inner`."""
    left = csr.build(target, source, weight, num_nodes)
    products = count_products(left, inner)
    check_entries(products, num_nodes, source.device)
    sums = multiply(left, inner, products)
    mass = product(sums, weight.new_ones(size, 1)).view(-1)
    return csr.scale(sums, mass.where(mass > 0, 1.0).reciprocal(), None)


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
