"""What the levels of a U-Net are connected by: one protocol, three makers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pyg_gunet.graph.inputs import near
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map

if TYPE_CHECKING:
    from pyg_gunet.graph.transfer import Transfer


class Connection(Protocol):
    """How the kept nodes of a level connect; the `connect` of a pooling.

    Attributes:
        name (str): ``'induced'``, ``'two_hop'``, ``'contract'`` or ``'sampled'``.
        max_products (int, optional): See :func:`pyg_gunet.functional.connect.two_hop`.
    """

    name: str
    max_products: int | None

    def edges(
        self,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        perm: Tensor,
        num_nodes: int,
        transfer: Transfer | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Edges, weights and features between the nodes `perm` [K]."""


class Graph(ABC):
    """The connectivity of one level: :class:`~pyg_gunet.graph.edges.Edges` for any convolution,
    :class:`~pyg_gunet.graph.adjacency.Adjacency` and :class:`~pyg_gunet.graph.walk.Walk` for GCN
    propagation that is prepared once, without gradient to the weights.

    Attributes:
        num_nodes (int): Number of nodes, N.
        lasts (bool): Whether many steps run on it, as on prepared levels.
    """

    num_nodes: int
    lasts = False

    @abstractmethod
    def convolve(self, conv: Callable[..., Tensor], x: Tensor) -> Tensor:
        """A convolution of features `x` [N, F] along the edges, from source to target."""

    @abstractmethod
    def propagate(self, x: Tensor) -> Tensor:
        r"""One GCN step without parameters, :math:`\mathbf{D}^{-1/2} (\mathbf{A} + 2 \mathbf{I})
        \mathbf{D}^{-1/2} \mathbf{X}`: [N, F]. Degrees count absolute weights."""

    @abstractmethod
    def pool(self, perm: Tensor, transfer: Transfer | None, connect: Connection) -> Graph:
        """The graph of the kept nodes `perm` [K]: the next level."""

    @abstractmethod
    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor | None]:
        """``(edge_index [2, E], edge_weight [E])``; with `loops`, the input's own self loops, too,
        where they are kept apart."""

    def messages(self) -> tuple[Tensor, Tensor | None]:
        """``(edge_index [2, E], edge_weight [E])`` on which PyG's GCN convolution with self loops
        of weight 2 is :meth:`propagate`, message by message."""
        return self.edges(loops=True)

    @abstractmethod
    def to(self, *args: Any, **kwargs: Any) -> Graph:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`."""

    def absolute(self) -> Graph:
        """The graph by the sizes of its weights, without gradient to them; itself where none can be
        negative."""
        return self

    def cover_edges(self) -> tuple[Tensor, Tensor | None]:
        """Edges and weights by which selection and transfers judge which nodes are near."""
        return self.edges()

    def smoothed(self, x: Tensor, steps: int, transposed: bool = False) -> Tensor:
        r"""Features [N, F] after so many times half of every row and half the mean of its
        neighbours' rows, by :meth:`cover_edges`: :math:`(\mathbf{I} + \mathbf{D}^{-1} \mathbf{A})
        / 2`, or its transpose; differentiable in `x`. A node without edges keeps its row."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if steps and dtype not in self.halves:
            self.halves[dtype] = lasting(self._averaging)(dtype)
        for _ in range(steps):
            x = apply_map(self.halves[dtype], x, transposed)
        return x

    @cached_property
    def halves(self) -> dict[torch.dtype, SparseBlock]:
        """The averages of :meth:`smoothed`, as far as they were asked for."""
        return {}

    @torch.compiler.disable
    def _averaging(self, dtype: torch.dtype) -> SparseBlock:
        source, target, weight = near(*self.cover_edges())
        weight = weight.to(torch.float64 if dtype == torch.float64 else torch.float32)
        total = weight.new_zeros(self.num_nodes).index_add_(0, target, weight)
        own = torch.arange(self.num_nodes, device=target.device)
        alone = total.where(total > 0, 1.0)  # as much as all neighbours together
        row, col = torch.cat([target, own]), torch.cat([source, own])
        matrix = csr.build(row, col, torch.cat([weight, alone]), self.num_nodes)
        return SparseBlock(csr.scale(matrix, 1 / (total + alone), None))


def moved(index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An index after the `to` of values beside it: it follows to the device, not to the dtype."""
    return index.to(torch.empty(0, device=index.device).to(*args, **kwargs).device)
