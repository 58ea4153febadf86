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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.gcn import FILL
from pyg_gunet.graph.graph import Connection, Graph
from pyg_gunet.graph.hops import Scratch, TwoHop
from pyg_gunet.graph.inputs import as_edges, refuse_tangent
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR, scale
from pyg_gunet.graph.sparse.product import check_products, count_products, multiply
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map, product
from pyg_gunet.graph.transfer import Transfer, contracted
from pyg_gunet.validate import (
    check_edge_index,
    check_edge_weight,
    check_num_nodes,
    check_perm,
    outermost,
)


class Walk(Graph):
    r"""One level of walks; make the first by :meth:`from_edge_index`.

    It holds the entries of :math:`\mathbf{H}_0` that lead from and to the level's nodes, and their
    degrees. The backward pass of a propagation is the same chain transposed; nothing is stored for
    it.

    Example:
        >>> ring = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])
        >>> level = Walk.from_edge_index(ring, None, 4).pool(torch.tensor([2, 0]))
        >>> level.propagate(torch.eye(2))
        tensor([[0.9130, 0.0870],
                [0.0870, 0.9130]])
    """

    def __init__(
        self,
        rows: CSR,
        cols: CSR,
        symmetric: bool,
        parent: Walk | None = None,
        perm: Tensor | None = None,
        adjacency: Adjacency | None = None,
    ) -> None:
        self.rows, self.cols, self.symmetric = rows, cols, symmetric
        self.parent, self.perm, self.adjacency = parent, perm, adjacency
        self.num_nodes = rows.shape[0]
        self._propagation: SparseBlock | TwoHop | None = None
        self._cover: tuple[Tensor, Tensor | None] | None = None
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
    ) -> Walk:
        """Level 0 from edges [2, E] and weights [E] or None (all ones); parallel edges are summed.

        Raises:
            IndexError: If an index of `edge_index` is out of range.
            ValueError: If shapes do not fit, if a weight is negative, or if `edge_weight` requires
                a gradient.
            NotImplementedError: If it carries a forward-mode tangent.
        """
        with outermost() as values:
            check_num_nodes(num_nodes)
            edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
            check_edge_index(edge_index, num_nodes, values, of="num_nodes")
            check_edge_weight(edge_weight, edge_index.size(1), values)
            check_weights(edge_weight, values)
            adjacency = Adjacency.from_edge_index(edge_index, edge_weight, num_nodes, dtype)
        return cls.from_adjacency(adjacency)

    @classmethod
    @torch.compiler.disable
    @lasting
    def from_adjacency(cls, adjacency: Adjacency) -> Walk:
        """Level 0 on a sparse adjacency of non-negative weights."""
        matrix = adjacency.transpose  # rows = targets, with unit diagonal
        assert isinstance(matrix, CSR)
        ones = matrix.values.new_ones((matrix.shape[0], 1))
        root = product(matrix, ones).view(-1).rsqrt()  # the diagonal makes it positive
        hop = scale(matrix, root, root)
        return cls(hop, hop, adjacency.symmetric, adjacency=adjacency)

    @property
    def values(self) -> Tensor:
        """Stored weights: of their dtype and on their device it propagates."""
        return self.rows.values

    @property
    def level(self) -> int:
        """Number of poolings above."""
        return 0 if self.parent is None else self.parent.level + 1

    @torch.compiler.disable
    @lasting
    def pool(
        self, perm: Tensor, transfer: Transfer | None = None, connect: Connection | None = None
    ) -> Walk:
        """The level of the kept nodes `perm` [K].

        Raises:
            IndexError, ValueError, TypeError: If `perm` does not hold distinct nodes.
        """
        with outermost() as values:
            check_perm(perm, self.num_nodes, values)
        perm = perm.long()
        rows = csr.rows_of(self.rows, perm)
        cols = csr.transpose(rows) if self.symmetric else csr.columns_of(self.cols, perm)
        return Walk(rows, cols, self.symmetric, self, perm)

    def convolve(self, conv: Callable[..., Tensor], x: Tensor) -> Tensor:
        return conv(x, self)

    @torch.compiler.disable
    def propagate(self, x: Tensor) -> Tensor:
        if self._propagation is None:
            self._propagation = lasting(self._convolution)(FILL)
        return apply_map(self._propagation, x)

    @property
    def nnz(self) -> int:
        """Scalar products per feature of one propagation."""
        if self._propagation is None:
            self._propagation = lasting(self._convolution)(FILL)
        return self._propagation.nnz

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
        own = matrix.row(matrix.indices.dtype) == matrix.indices
        # One entry per row lies on the diagonal, so they come in the order of the nodes.
        filled = matrix._replace(values=matrix.values.masked_scatter(own, fill))
        root = product(filled, fill.new_ones((self.num_nodes, 1))).view(-1).pow(-0.5)
        root.masked_fill_(root.isinf(), 0.0)
        block = scale(filled, root, root)
        return SparseBlock(block, block if self.symmetric else None)

    def pair(
        self, target: Walk, factor: Tensor | None
    ) -> tuple[SparseBlock | TwoHop, SparseBlock | TwoHop]:
        r"""This level's :math:`\mathbf{H}` restricted to the nodes of a deeper level.

        Args:
            target (Walk): A deeper level.
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

    def index_in(self, ancestor: Walk) -> Tensor:
        """The index in a level above of every node of this one, [N]."""
        assert self.perm is not None
        assert self.parent is not None
        if self.parent is ancestor:
            return self.perm
        return self.parent.index_in(ancestor)[self.perm]

    @torch.compiler.disable
    def cover_edges(self) -> tuple[Tensor, Tensor | None]:
        """Those of the level above, contracted: never more than the graph's."""
        if self.parent is None:
            assert self.adjacency is not None
            return self.adjacency.edges()
        if self._cover is None:
            self._cover = lasting(self._contracted)()
        return self._cover

    def _contracted(self) -> tuple[Tensor, Tensor]:
        assert self.parent is not None
        assert self.perm is not None
        edge_index, weight = self.parent.cover_edges()
        transfer = Transfer.from_edges(self.perm, edge_index, weight, self.parent.num_nodes)
        return contracted(edge_index, weight, None, transfer.cluster, self.num_nodes)[:2]

    @torch.compiler.disable
    @lasting
    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor]:
        """As of any level, by source then target, but computed anew at each call where pooled.

        Raises:
            MemoryError: If the level's edges would not fit in memory.
        """
        if self.parent is None:
            assert self.adjacency is not None
            return self.adjacency.edges(loops)
        row, col, weight = csr.to_coo(csr.sort_columns(csr.transpose(self._explicit())))
        off = row != col
        return torch.stack([row[off], col[off]]), weight[off]

    @torch.compiler.disable
    @lasting
    def messages(self) -> tuple[Tensor, Tensor]:
        """Those of a pooled level count the walks back to a node on top of its self loop."""
        if self.parent is None:
            return self.edges(loops=True)
        row, col, weight = csr.to_coo(csr.sort_columns(csr.transpose(self._explicit())))
        return torch.stack([row, col]), torch.where(row == col, weight + FILL, weight)

    def _explicit(self) -> CSR:
        """``S`` itself, rows = targets."""
        assert self.parent is not None
        assert self.perm is not None
        hop = self.parent.rows
        if self.parent.parent is not None:
            walks, n = self.parent._explicit(), self.parent.num_nodes
            row, col, weight = csr.to_coo(walks)
            nodes = torch.arange(n, device=row.device)  # its diagonal counts: + I, not A + I
            hop = csr.build(
                torch.cat([row, nodes]),
                torch.cat([col, nodes]),
                torch.cat([weight, weight.new_ones(n)]),
                n,
            )
            hop = scale(hop, self.parent.inverse_sqrt, self.parent.inverse_sqrt)
        left, right = csr.rows_of(hop, self.perm), csr.columns_of(hop, self.perm)
        products = count_products(left, right)
        check_products(products, self.num_nodes, None, left.values.device)
        return multiply(left, right, products)

    def to(self, *args: Any, **kwargs: Any) -> Walk:
        """Of level 0 alone: the others follow from it.

        Raises:
            ValueError: On a pooled level.
        """
        if self.adjacency is None:
            raise ValueError(f"'to' goes with level 0 of walks (got level {self.level})")
        return Walk.from_adjacency(self.adjacency.to(*args, **kwargs))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, level={self.level})"


def check_weights(edge_weight: Tensor | None, values: bool = True) -> None:
    """Weights that the walk operator takes: fixed and non-negative."""
    if edge_weight is None:
        return
    refuse_tangent(edge_weight)
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
