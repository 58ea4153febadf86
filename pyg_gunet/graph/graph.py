"""What the levels of a U-Net are connected by: one protocol, three makers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

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
    """

    num_nodes: int

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


def lasting(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what outlives a pass: outside inference mode, in which tensors would be born that no
    later training step may save, and without gradient."""

    @wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return make(*args, **kwargs)

    return made


def moved(index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An index after the `to` of values beside it: it follows to the device, not to the dtype."""
    return index.to(torch.empty(0, device=index.device).to(*args, **kwargs).device)
