"""The levels of a U-Net, and what the way down leaves for the way up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.graph import Graph, moved
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.graph.walk import Walk


@dataclass(repr=False)
class Level:
    """One level of a hierarchy: structure alone, no features.

    Attributes:
        num_nodes (int): Number of nodes, N.
        batch (Tensor, optional): Graph id per node [N], or None for one graph.
        graph (Graph): The connectivity.
    """

    num_nodes: int
    batch: Tensor | None
    graph: Graph

    def edges(self) -> tuple[Tensor, Tensor | None]:
        """``(edge_index [2, E], edge_weight [E] or None)`` of this level."""
        return self.graph.edges(loops=True)

    def to(self, *args: Any, **kwargs: Any) -> Level:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`."""
        batch = None if self.batch is None else moved(self.batch, *args, **kwargs)
        return Level(self.num_nodes, batch, self.graph.to(*args, **kwargs))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes})"


@dataclass(repr=False)
class Hierarchy:
    """The levels of one input. No tensor in here was computed from features but `perms`, and what
    follows from them.

    Attributes:
        levels (list[Level]): From the input graph to the coarsest.
        perms (list[Tensor]): ``perms[l]`` [K] are the nodes of level l that level l + 1 keeps.
        transfers (list[Transfer or None]): What passes between levels l and l + 1, where `reduce`,
            `connect` or `lift` asks for it.
    """

    levels: list[Level]
    perms: list[Tensor] = field(default_factory=list)
    transfers: list[Transfer | None] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return len(self.perms)

    @property
    def num_nodes(self) -> int:
        """Number of nodes of the input graph."""
        return self.levels[0].num_nodes

    def append(self, level: Level, perm: Tensor, transfer: Transfer | None) -> None:
        """Adds the next coarser level."""
        self.levels.append(level)
        self.perms.append(perm)
        self.transfers.append(transfer)

    def between(self, level: int) -> tuple[Tensor, Transfer | None]:
        """The kept nodes of a level and what passes between it and the next."""
        return self.perms[level], self.transfers[level]

    def kept(self, level: int) -> Tensor:
        """The input graph's index of every node of a level, [K]."""
        device = self.perms[0].device if self.perms else None
        index = torch.arange(self.num_nodes, device=device)
        for perm in self.perms[:level]:
            index = index[perm]
        return index

    def to(self, *args: Any, **kwargs: Any) -> Hierarchy:
        """On another device or in another dtype, as :meth:`torch.Tensor.to`; pooled levels of walks
        are made anew."""
        out = Hierarchy([self.levels[0].to(*args, **kwargs)])
        for level, perm, transfer in zip(self.levels[1:], self.perms, self.transfers):
            perm = moved(perm, *args, **kwargs)
            above = out.levels[-1].graph
            if isinstance(above, Walk):
                batch = None if level.batch is None else moved(level.batch, *args, **kwargs)
                level = Level(level.num_nodes, batch, above.pool(perm))
            else:
                level = level.to(*args, **kwargs)
            out.append(level, perm, None if transfer is None else transfer.to(*args, **kwargs))
        return out

    def __repr__(self) -> str:
        sizes = [level.num_nodes for level in self.levels]
        return f"{self.__class__.__name__}(num_nodes={sizes})"
