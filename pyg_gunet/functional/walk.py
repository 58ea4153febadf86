r"""The walk operator: two-hop levels that are never stored.

Level 0 is the graph, :math:`\mathbf{S}_0 = \mathbf{A}` without self loops; level l + 1 connects the
kept nodes by two normalised hops,

.. math::
    \mathbf{S}_{l+1} = \mathbf{P}_{l+1} \mathbf{H}_l \mathbf{H}_l \mathbf{P}_{l+1}^{\top}, \qquad
    \mathbf{H}_l = \mathbf{D}_l^{-1/2} (\mathbf{S}_l + \mathbf{I}) \mathbf{D}_l^{-1/2},

rows = targets, :math:`\mathbf{P}` the rows of the identity that were kept, :math:`\mathbf{D}_l` the
row sums of :math:`\mathbf{S}_l + \mathbf{I}`: the in-degrees. :math:`\mathbf{S}_l` is applied, not
stored. Written out down to level 0 it is a chain of :math:`2^l` products with
:math:`\mathbf{H}_0`; the first factor of every pair reads kept columns alone and the last writes
kept rows alone, so each is a block of :math:`\mathbf{H}_0` with the share of its entries, and level
1 costs one product with the graph, level 2 at ratio 0.5 one and a half, level 3 2.75. The scalings
by :math:`\mathbf{D}_l^{-1/2}` are multiplied into the blocks' values, whose indices all levels
share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional import spgemm
from pyg_gunet.functional.adjacency import Adjacency
from pyg_gunet.functional.hops import Scratch, TwoHop
from pyg_gunet.functional.inputs import as_edges
from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.spmm import SparseBlock, apply_map, scale
from pyg_gunet.functional.structure import Propagation, Structure
from pyg_gunet.functional.validate import (
    check_edge_index,
    check_edge_weight,
    check_num_nodes,
    check_perm,
    outermost,
)


class WalkPropagation(Propagation):
    r"""GCN propagation on a level, ``gcn_norm`` of :math:`\mathbf{S}_l + 2 \mathbf{I}`.

    The backward pass is the same chain transposed; nothing is stored for it.

    Attributes:
        num_nodes (int): Number of nodes of the level, N.
        nnz (int): Scalar products per feature of one application.
    """

    def __init__(self, op: SparseBlock | TwoHop, num_nodes: int) -> None:
        self.op, self.num_nodes, self.nnz = op, num_nodes, op.nnz

    def matmul(self, x: Tensor) -> Tensor:
        """Propagates `x` [N, F] along the walks, from source to target: [N, F]."""
        return apply_map(self, x)

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map or its transpose, without gradient."""
        return self.op.matmul(x.to(self.op.dtype), transposed).to(x.dtype)


class WalkAdjacency(Structure):
    r"""One level of walks; make the first by :meth:`from_edge_index`.

    It holds the entries of :math:`\mathbf{H}_0` that lead from and to the level's nodes, and their
    degrees. It can be made once and handed to a model at every step in place of `edge_index`.

    Example:
        >>> ring = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])
        >>> level = WalkAdjacency.from_edge_index(ring, None, 4).pool(torch.tensor([2, 0]))
        >>> level.propagation().matmul(torch.eye(2))
        tensor([[0.9130, 0.0870],
                [0.0870, 0.9130]])
    """

    connect = "walk"

    def __init__(
        self,
        rows: CSR,
        cols: CSR,
        symmetric: bool,
        parent: WalkAdjacency | None = None,
        perm: Tensor | None = None,
        adjacency: Adjacency | None = None,
    ) -> None:
        self.rows, self.cols, self.symmetric = rows, cols, symmetric
        self.parent, self.perm, self.adjacency = parent, perm, adjacency
        self._propagation: WalkPropagation | None = None
        self._cover: Tensor | None = None
        self.scratch: Scratch = Scratch() if parent is None else parent.scratch
        self._pair: tuple[SparseBlock | TwoHop, SparseBlock | TwoHop] | None = None
        if parent is not None:
            ones = rows.values.new_ones((self.num_nodes, 1))
            self.degree = (
                TwoHop(*parent.pair(self, None), None, scratch=self.scratch).matmul(ones).view(-1)
            )
            self.inverse_sqrt = (self.degree + 1.0).rsqrt()

    @classmethod
    @torch.compiler.disable  # sparse kernels and scipy: opaque to a compiler
    def from_edge_index(
        cls,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        num_nodes: int,
        dtype: torch.dtype = torch.float32,
    ) -> WalkAdjacency:
        """Level 0 from edges [2, E] and weights [E] or None (all ones); parallel edges are summed.

        Raises:
            IndexError: If an index of `edge_index` is out of range.
            ValueError: If shapes do not fit, if a weight is negative, or if `edge_weight` requires
                a gradient.
        """
        with outermost() as values:
            check_num_nodes(num_nodes)
            edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
            check_edge_index(edge_index, num_nodes, values)
            check_edge_weight(edge_weight, edge_index.size(1), values)
            check_weights(edge_weight, values)
            adjacency = Adjacency.from_edge_index(edge_index, edge_weight, num_nodes, dtype)
        return cls.from_adjacency(adjacency)

    @classmethod
    @torch.compiler.disable
    def from_adjacency(cls, adjacency: Adjacency) -> WalkAdjacency:
        """Level 0 on a sparse adjacency of non-negative weights."""
        matrix = adjacency.transpose  # rows = targets, with unit diagonal
        assert isinstance(matrix, CSR)
        ones = matrix.values.new_ones((matrix.shape[0], 1))
        root = SparseBlock(matrix).matmul(ones).view(-1).rsqrt()  # the diagonal makes it positive
        hop = scale(matrix, root, root)
        return cls(hop, hop, adjacency.symmetric, adjacency=adjacency)

    @property
    def num_nodes(self) -> int:
        return self.rows.shape[0]

    @property
    def values(self) -> Tensor:
        return self.rows.values

    @property
    def level(self) -> int:
        """Number of poolings above."""
        return 0 if self.parent is None else self.parent.level + 1

    @torch.compiler.disable
    def pool(self, perm: Tensor) -> WalkAdjacency:
        """The level of the kept nodes `perm` [K].

        Raises:
            IndexError, ValueError, TypeError: If `perm` does not hold distinct nodes.
        """
        with outermost() as values:
            check_perm(perm, self.num_nodes, values)
        perm = perm.long()
        rows = spgemm.rows_of(self.rows, perm)
        cols = spgemm.transpose(rows) if self.symmetric else spgemm.columns_of(self.cols, perm)
        return WalkAdjacency(rows, cols, self.symmetric, self, perm)

    @torch.compiler.disable
    def propagation(self) -> WalkPropagation:
        if self._propagation is None:
            self._propagation = WalkPropagation(self._convolution(2.0), self.num_nodes)
        return self._propagation

    def _convolution(self, fill_value: float) -> SparseBlock | TwoHop:
        if self.parent is not None:
            root = (self.degree + fill_value).rsqrt()
            diag = (fill_value * root * root).view(-1, 1)
            return TwoHop(*self.parent.pair(self, root), diag, scratch=self.scratch)
        assert self.adjacency is not None
        matrix, loop = self.adjacency.transpose, self.adjacency.loop
        assert isinstance(matrix, CSR)
        fill = torch.full_like(matrix.values[:1], fill_value).expand(self.num_nodes)
        if loop is not None:
            fill = torch.where(loop.isnan(), fill, loop)
        lengths = (matrix.indptr[1:] - matrix.indptr[:-1]).long()
        nodes = torch.arange(
            self.num_nodes, dtype=matrix.indices.dtype, device=matrix.indices.device
        )
        own = nodes.repeat_interleave(lengths, output_size=matrix.nnz) == matrix.indices
        # One entry per row lies on the diagonal, so they come in the order of the nodes.
        filled = matrix._replace(values=matrix.values.masked_scatter(own, fill))
        root = SparseBlock(filled).matmul(fill.new_ones((self.num_nodes, 1))).view(-1).pow(-0.5)
        root.masked_fill_(root.isinf(), 0.0)
        block = scale(filled, root, root)
        return SparseBlock(block, block if self.symmetric else None)

    def pair(
        self, target: WalkAdjacency, factor: Tensor | None
    ) -> tuple[SparseBlock | TwoHop, SparseBlock | TwoHop]:
        r"""This level's :math:`\mathbf{H}` restricted to the nodes of a deeper level.

        Args:
            target (WalkAdjacency): A deeper level.
            factor (Tensor, optional): A factor per node of `target`, [K].

        Returns:
            tuple: ``diag(factor) H[kept, :]`` and ``H[:, kept] diag(factor)``.
        """
        if self.parent is None:
            rows, cols = scale(target.rows, factor, None), scale(target.cols, None, factor)
            if self.symmetric:
                return SparseBlock(rows, cols), SparseBlock(cols, rows)
            return SparseBlock(rows), SparseBlock(cols)
        if self._pair is None:
            self._pair = self.parent.pair(self, self.inverse_sqrt)
        to_all, from_all = self._pair
        kept = target.index_in(self)
        inner = self.inverse_sqrt[kept]
        outer = inner if factor is None else factor * inner
        to_kept, from_kept = self.parent.pair(target, outer)
        diag = (outer * inner).view(-1, 1)
        return (
            TwoHop(to_kept, from_all, diag, kept, "rows", self.scratch),
            TwoHop(to_all, from_kept, diag, kept, "cols", self.scratch),
        )

    def index_in(self, ancestor: WalkAdjacency) -> Tensor:
        """The index in a level above of every node of this one, [N]."""
        assert self.perm is not None
        assert self.parent is not None
        if self.parent is ancestor:
            return self.perm
        return self.parent.index_in(ancestor)[self.perm]

    @torch.compiler.disable
    def cover_edges(self) -> Tensor:
        """Edges [2, E'] that tell which nodes are near each other: those of the level above with
        every dropped node merged into its first kept neighbour, so never more than the graph's."""
        if self.parent is None:
            assert self.adjacency is not None
            return self.adjacency.edges()[0]
        if self._cover is None:
            assert self.perm is not None
            self._cover = contract(self.parent.cover_edges(), self.perm, self.parent.num_nodes)
        return self._cover

    @torch.compiler.disable
    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor]:
        """As of any level, by source then target, but computed anew at each call where pooled.

        Raises:
            MemoryError: If the level's edges would not fit in memory.
        """
        if self.parent is None:
            assert self.adjacency is not None
            return self.adjacency.edges(loops)
        row, col, weight = spgemm.to_coo(spgemm.sort_columns(spgemm.transpose(self._explicit())))
        off = row != col
        return torch.stack([row[off], col[off]]), weight[off]

    def _explicit(self) -> CSR:
        """``S`` itself, rows = targets."""
        assert self.parent is not None
        assert self.perm is not None
        hop = self.parent.rows
        if self.parent.parent is not None:
            walks, n = self.parent._explicit(), self.parent.num_nodes
            row, col, weight = spgemm.to_coo(walks)
            nodes = torch.arange(n, device=row.device)
            hop = spgemm.build(
                torch.cat([row, nodes]),
                torch.cat([col, nodes]),
                torch.cat([weight, weight.new_ones(n)]),
                n,
            )
            hop = scale(hop, self.parent.inverse_sqrt, self.parent.inverse_sqrt)
        left, right = spgemm.rows_of(hop, self.perm), spgemm.columns_of(hop, self.perm)
        products = spgemm.count_products(left, right)
        spgemm.check_products(products, self.num_nodes, None, left.values.device)
        return spgemm.multiply(left, right, products)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, level={self.level})"


def check_weights(edge_weight: Tensor | None, values: bool = True) -> None:
    """Weights that the walk operator takes: fixed and non-negative."""
    if edge_weight is None:
        return
    if edge_weight.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "'edge_weight' must not require a gradient with connect='walk', whose weights are "
            "fixed; use connect='sampled' or 'two_hop' (got requires_grad=True)"
        )
    if values and edge_weight.numel() and bool((edge_weight < 0).any()):
        where = int((edge_weight < 0).nonzero()[0])
        raise ValueError(
            f"'edge_weight' must be non-negative with connect='walk' "
            f"(got {edge_weight[where].item()} at {where})"
        )


def contract(edge_index: Tensor, perm: Tensor, num_nodes: int) -> Tensor:
    """Merges every dropped node into its kept neighbour that comes first in `perm`; dropped nodes
    without one are left out. Edges count as undirected.

    Args:
        edge_index (Tensor): Edges, [2, E].
        perm (Tensor): Kept nodes, [K].
        num_nodes (int): Number of nodes, N.

    Returns:
        Tensor: Distinct edges between kept nodes, both directions, [2, E'].
    """
    size = perm.size(0)
    centre = torch.full((num_nodes,), size, dtype=torch.long, device=perm.device)
    centre[perm] = torch.arange(size, device=perm.device)
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1).long()
    nearest = centre.scatter_reduce(0, both[1], centre[both[0]], "amin")
    centre = torch.where(centre < size, centre, nearest)[both]
    centre = centre[:, (centre < size).all(dim=0) & (centre[0] != centre[1])]
    key = (centre[0] * size + centre[1]).unique()
    return torch.stack([key.div(size, rounding_mode="floor"), key % size])
