"""What a level of a U-Net is made of: a structure that pools, and the map it propagates by."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Propagation(ABC):
    """A fixed linear map of node features along the edges, differentiable in the features."""

    num_nodes: int

    @abstractmethod
    def matmul(self, x: Tensor) -> Tensor:
        """Maps `x` [N, F] from sources to targets: [N, F]."""


class Structure(ABC):
    """The connectivity of one level, without gradient to its weights.

    Attributes:
        connect (str): How the next level connects.
    """

    connect: str

    @property
    @abstractmethod
    def num_nodes(self) -> int:
        """Number of nodes, N."""

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """Its stored weights: of their dtype and on their device it propagates."""

    @abstractmethod
    def pool(self, perm: Tensor) -> Structure:
        """The connectivity of the kept nodes `perm` [K]: the next level."""

    @abstractmethod
    def propagation(self) -> Propagation:
        """GCN propagation with self loops of weight 2, built once."""

    def cover_edges(self) -> Tensor:
        """Edges [2, E'] by which selection judges which nodes are near each other."""
        return self.edges()[0]

    @abstractmethod
    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor]:
        """``(edge_index [2, E], edge_weight [E])`` by source then target, without self loops;
        with `loops`, the input's own self loops come last."""
