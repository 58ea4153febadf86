"""What a training step leaves out of its input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.functional.structure import Structure
from pyg_gunet.nn.levels import check_dropout


class Corruption(torch.nn.Module):
    r"""Dropout on entries of `x`, on whole rows of it, and on edges, in training mode.

    Args:
        entries (float, optional): Dropout on the entries. (default: 0.0)
        nodes (float, optional): Dropout on whole rows. (default: 0.0)
        edges (float, optional): The share of edges left out; an edge and its reverse go together.
            (default: 0.0)
    """

    def __init__(self, entries: float = 0.0, nodes: float = 0.0, edges: float = 0.0) -> None:
        super().__init__()
        self.entries = check_dropout(entries, "input_dropout")
        self.nodes = check_dropout(nodes, "node_dropout")
        self.edges = check_dropout(edges, "edge_dropout")

    @property
    def active(self) -> bool:
        """Whether anything is ever left out."""
        return bool(self.entries or self.nodes or self.edges)

    def forward(
        self, x: Tensor, edge_index: Tensor | Structure, edge_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | Structure, Tensor | None]:
        if not self.training:
            return x, edge_index, edge_weight
        if self.entries:
            x = F.dropout(x, self.entries)
        if self.nodes:
            x = x * F.dropout(x.new_ones(x.size(0), 1), self.nodes)
        if self.edges:
            if isinstance(edge_index, Structure):
                raise ValueError(
                    "'edge_dropout' needs edges, not a prepared structure "
                    f"(got {type(edge_index).__name__})"
                )
            keep = keep_edges(edge_index, self.edges, x.size(0))
            edge_index = edge_index[:, keep]
            edge_weight = None if edge_weight is None else edge_weight[keep]
        return x, edge_index, edge_weight

    def extra_repr(self) -> str:
        return f"entries={self.entries}, nodes={self.nodes}, edges={self.edges}"


def keep_edges(edge_index: Tensor, share: float, num_nodes: int) -> Tensor:
    """Which edges stay [E] where a `share` of pairs of nodes is left out at random: a pair's edges
    share one fate, in both directions and however often they occur."""
    low = edge_index.amin(0).long()
    pair = low * num_nodes + edge_index.amax(0).long()
    _, group = pair.unique(return_inverse=True)
    size = int(group.max()) + 1 if group.numel() else 0
    return (torch.rand(size, device=edge_index.device) >= share)[group]
