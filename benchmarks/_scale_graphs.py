"""The synthetic graphs of the scale benchmark."""

from __future__ import annotations

import torch
from _common import heavy_tailed
from torch import Tensor


def large_graph(num_nodes: int, num_edges: int) -> Tensor:
    """An undirected graph with power-law degrees, without the sort that a simple one needs."""
    torch.manual_seed(0)
    half = num_edges // 2
    label = torch.randperm(num_nodes)
    edge_index = torch.empty(2, 2 * half, dtype=torch.long)
    for side in (0, 1):  # the rank of weight r^(-1/2) by inversion
        rank = torch.rand(half).square_().mul_(num_nodes).long().clamp_(max=num_nodes - 1)
        edge_index[side, :half] = label[rank]
    edge_index[:, half:] = edge_index[:, :half].flip(0)
    return edge_index


def make_graph(num_nodes: int, num_edges: int) -> Tensor:
    make = large_graph if num_edges > 4_000_000 else heavy_tailed
    return make(num_nodes, num_edges)
