"""Colour connectivity: the networks of all systems, of equal size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _classification import LEVELS as OURS
from _classification import levels
from torch import Tensor
from torch_geometric.nn import MLP, BatchNorm, GCNConv, GINConv, Linear
from torch_geometric.nn import GraphUNet as PyGGraphUNet
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from pyg_gunet import GraphUNet

CHANGED = (
    *("topk, mean, contract, interpolate", "spread, keep, contract, interpolate"),
    *("spread, mean, induced, interpolate", "spread, mean, contract, zero"),
)  # one word of ours
FEATURES, CLASSES, HIDDEN, RATIO = 2, 2, 16, 0.5
Conv = Callable[[int, int], torch.nn.Module]


def gin(in_channels: int, out_channels: int) -> GINConv:
    return GINConv(MLP([in_channels, out_channels, out_channels], norm=None))


def head(width: int, hidden: int) -> torch.nn.Sequential:
    """What reads the class of a graph off its vector; standardised, as sums over a graph's nodes
    differ in few of them."""
    return torch.nn.Sequential(BatchNorm(width), MLP([width, hidden, CLASSES], norm=None))


def reduced(x: Tensor, graphs: int) -> Tensor:
    """Mean, maximum and sum over the nodes of graphs of one size, [B, 3 F]."""
    x = x.view(graphs, -1, x.size(-1))
    return torch.cat([x.mean(1), x.amax(1), x.sum(1)], dim=-1)


class Flat(torch.nn.Module):
    """Layers on the graph as it is, residual and with batch norm, every second one read off. With
    `virtual`, a node that hears all nodes and tells them lies between two layers."""

    def __init__(self, hidden: int, depth: int, conv: Conv, virtual: bool = False) -> None:
        super().__init__()
        sizes = [FEATURES] + [hidden] * (2 * depth)
        self.convs = torch.nn.ModuleList(conv(size, hidden) for size in sizes)
        self.weighted = isinstance(self.convs[0], GCNConv)  # normalised once for all layers
        self.norms = torch.nn.ModuleList(BatchNorm(hidden) for _ in sizes)
        self.virtual = torch.nn.ModuleList(Linear(hidden, hidden) for _ in sizes[1:] if virtual)
        self.head = head(3 * hidden * (depth + 1), hidden)

    def forward(self, data: Any) -> Tensor:
        x, read = data.x, []
        edges = gcn_norm(data.edge_index, None, len(x)) if self.weighted else (data.edge_index,)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            if i > 0 and self.virtual:
                nodes = x.view(data.num_graphs, -1, x.size(-1))
                told = self.virtual[i - 1](nodes.mean(1, keepdim=True)).relu()
                x = (nodes + told).view(x.shape)
            h = norm(conv(x, *edges)).relu()
            x = x + h if i > 0 else h
            if i % 2 == 0:
                read.append(reduced(x, data.num_graphs))
        return self.head(torch.cat(read, dim=-1))


class FlatUNet(torch.nn.Module):
    """The convolutions, skip connections and read-outs of a U-Net whose levels are all the input
    graph."""

    def __init__(self, hidden: int, depth: int, conv: Conv) -> None:
        super().__init__()
        sizes = [FEATURES] + [hidden] * depth
        self.down = torch.nn.ModuleList(conv(size, hidden) for size in sizes)
        self.up = torch.nn.ModuleList(conv(hidden, hidden) for _ in range(depth))
        self.norms = torch.nn.ModuleList(BatchNorm(hidden) for _ in range(2 * depth))
        self.head = head(3 * hidden * (depth + 1), hidden)

    def forward(self, data: Any) -> Tensor:
        x, skips, norms = data.x, [], [*self.norms, torch.nn.Identity()]  # the last has none
        for i, conv in enumerate(self.down):
            x = norms[i](conv(x, data.edge_index)).relu()
            skips.append(x)
        states = [skips.pop()]
        for i, conv in enumerate(self.up, len(self.down)):
            x = norms[i](conv(states[-1] + skips.pop(), data.edge_index)).relu()
            states.append(x)
        return self.head(torch.cat([reduced(x, data.num_graphs) for x in states], dim=-1))


class Finest(torch.nn.Module):
    """PyG's GraphUNet, its output read off."""

    def __init__(self, hidden: int, depth: int) -> None:
        super().__init__()
        self.net = PyGGraphUNet(FEATURES, hidden, hidden, depth, RATIO)
        self.head = head(3 * hidden, hidden)

    def forward(self, data: Any) -> Tensor:
        x = self.net(data.x, data.edge_index, data.batch).relu()
        return self.head(reduced(x, data.num_graphs))


class Levels(torch.nn.Module):
    """A GraphUNet of four words, every level read off; on levels made before where the graph alone
    decides."""

    def __init__(self, hidden: int, depth: int, words: str, skips: bool | None = True) -> None:
        super().__init__()
        sizes = FEATURES, hidden, hidden, depth, RATIO, skips
        self.net = GraphUNet(*sizes, conv=gin, norm="BatchNorm", **levels(words, still=True))
        self.head = head(3 * hidden * (depth + 1), hidden)

    def forward(self, data: Any) -> Tensor:
        edges = data.hierarchy() if "level_size" in data else data.edge_index
        states, _ = self.net.states(data.x, edges, data.batch, batch_size=data.num_graphs)
        states[0] = states[0].relu()
        return self.head(torch.cat([reduced(x, data.num_graphs) for x in states], dim=-1))


MAKERS: dict[str, Callable[[int, int], torch.nn.Module]] = {
    "GCN": lambda hidden, depth: Flat(hidden, depth, partial(GCNConv, normalize=False)),
    "GIN": lambda hidden, depth: Flat(hidden, depth, gin),
    "GIN, virtual node": lambda hidden, depth: Flat(hidden, depth, gin, virtual=True),
    "PyG GraphUNet": Finest,
    "no levels": lambda hidden, depth: FlatUNet(hidden, depth, gin),
    "one level more": lambda hidden, depth: Levels(hidden, depth + 1, OURS),
    "no skips": lambda hidden, depth: Levels(hidden, depth, OURS, skips=None),
}


def make(system: str, depth: int) -> torch.nn.Module:
    """The untrained model of a system, a name or four words, as wide as makes it nearest in size
    to this package's of width `HIDDEN`."""

    def of_width(hidden: int) -> torch.nn.Module:
        return MAKERS[system](hidden, depth) if system in MAKERS else Levels(hidden, depth, system)

    size = parameters(Levels(HIDDEN, depth, OURS))
    width = min(range(HIDDEN // 2, 4 * HIDDEN), key=lambda h: abs(parameters(of_width(h)) - size))
    return of_width(width)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
