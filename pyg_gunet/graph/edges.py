"""A level as plain edges, for any convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.gcn import gcn_edges
from pyg_gunet.graph.graph import Connection, Graph, moved
from pyg_gunet.graph.inputs import near
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.validate import checking


class Edges(Graph):
    """Edges with their weights and features, which keep their gradients.

    Args:
        edge_index (Tensor): Edges, [2, E].
        num_nodes (int): Number of nodes, N.
        edge_weight (Tensor, optional): Weights, [E]. (default: None, all ones)
        edge_attr (Tensor, optional): Features, [E, D], which convolutions get as `edge_attr`.
            (default: None)
        weighted (bool, optional): Whether convolutions get the weights, as `edge_weight`.
            (default: True)
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        weighted: bool = True,
    ) -> None:
        self.edge_index, self.num_nodes = edge_index, num_nodes
        self.edge_weight, self.edge_attr, self.weighted = edge_weight, edge_attr, weighted
        self._signed: bool | None = None

    @property
    def signed(self) -> bool:
        """Whether weights are negative, which some convolutions have no root for: read once."""
        if self._signed is None:
            if not checking():
                return False
            self._signed = self.edge_weight is not None and bool((self.edge_weight < 0).any())
        return self._signed

    @signed.setter
    def signed(self, signed: bool) -> None:
        self._signed = signed

    def convolve(self, conv: Callable[..., Tensor], x: Tensor) -> Tensor:
        options: dict[str, Tensor | None] = {}
        if self.weighted:
            options["edge_weight"] = self.edge_weight
        if self.edge_attr is not None:
            options["edge_attr"] = self.edge_attr
        out = conv(x, self.edge_index, **options)
        if self.signed and not bool(out.detach().isfinite().all()):
            raise ValueError(
                f"'edge_weight' holds negative weights, of which {type(conv).__name__} makes NaN; "
                f"use conv=None, whose degrees count absolute ones (got signed weights)"
            )
        return out

    def propagate(self, x: Tensor) -> Tensor:
        (source, target), weight = gcn_edges(
            self.edge_index, self.edge_weight, self.num_nodes, x.dtype
        )
        weight = weight.unsqueeze(-1).to(x.dtype)  # under autocast its own stays wider
        return torch.zeros_like(x).index_add(0, target, weight * x[source])

    def pool(self, perm: Tensor, transfer: Transfer | None, connect: Connection) -> Edges:
        index, weight, attr = connect.edges(
            self.edge_index, self.edge_weight, self.edge_attr, perm, self.num_nodes, transfer
        )
        below = Edges(index, perm.size(0), weight, attr, self.weighted)
        below._signed = self._signed  # sums of weights of one sign keep it
        return below

    def absolute(self) -> Edges:
        weight = None if self.edge_weight is None else self.edge_weight.detach().abs()
        return Edges(self.edge_index, self.num_nodes, weight)

    def smoothed(self, x: Tensor, steps: int, transposed: bool = False) -> Tensor:
        """As of any graph, and differentiable in weights that require a gradient."""
        weight = self.edge_weight
        if not steps or weight is None or not (weight.requires_grad and torch.is_grad_enabled()):
            return super().smoothed(x, steps, transposed)
        source, target, size = near(self.edge_index, weight)
        total = size.new_zeros(self.num_nodes).index_add(0, target, size).unsqueeze(-1)
        alone, given = total.where(total > 0, 1.0), x.dtype
        size, x = size.unsqueeze(-1), x.to(size.dtype)
        for _ in range(steps):
            if transposed:
                x = x / (total + alone)
                x = (alone * x).index_add(0, source, size * x.index_select(0, target))
            else:
                x = (alone * x).index_add(0, target, size * x.index_select(0, source))
                x = x / (total + alone)
        return x.to(given)

    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor | None]:
        return self.edge_index, self.edge_weight

    def to(self, *args: Any, **kwargs: Any) -> Edges:
        weight, attr = (
            None if part is None else part.to(*args, **kwargs)
            for part in (self.edge_weight, self.edge_attr)
        )
        index = moved(self.edge_index, *args, **kwargs)
        moved_edges = Edges(index, self.num_nodes, weight, attr, self.weighted)
        moved_edges._signed = self._signed
        return moved_edges

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}(num_nodes={self.num_nodes}, "
            f"num_edges={self.edge_index.size(1)})"
        )
