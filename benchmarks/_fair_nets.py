"""Networks for the official folds: every system between the same stem and the same head.

Node labels go through one linear map to the width; a body makes states; the mean and the sum of
every level (or layer) are normalised over the batch and read by a perceptron of two layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import MLP, GINConv, MultiAggregation, SAGPooling, TopKPooling
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import GraphUNet

READ = ("mean", "sum")
LEVELS = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
PAPER = {"select": "topk", "reduce": "keep", "connect": "two_hop", "lift": "zero"}
# Every node stays and so does every edge: the same modules, gates and all, on one level.
FLAT = {"select": "topk", "reduce": "keep", "connect": "induced", "lift": "zero"}
WORDS: dict[str, dict[str, str]] = {
    "ours: levels": LEVELS,
    "ours: paper": PAPER,
    "no levels": FLAT,
    **{
        f"ours: {PAPER[word]}": {**LEVELS, word: PAPER[word]}
        for word in ("select", "reduce", "connect", "lift")
    },
}
DEPTH, RATIO = 2, 0.5


def gin(in_channels: int, out_channels: int) -> GINConv:
    """Sums over neighbours, then a perceptron of two layers (Xu et al. 2019)."""
    return GINConv(MLP([in_channels, out_channels, out_channels], norm=None), train_eps=True)


class Blind(torch.nn.Module):
    """A perceptron on each graph's counts of node labels and the logarithm of its size: no edge is
    read (Errica et al. 2020, "molecular fingerprint")."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.channels = features + 1

    def forward(self, data: Data) -> Tensor:
        count = data.x.new_zeros(data.num_graphs, data.x.size(1)).index_add(0, data.batch, data.x)
        return torch.cat([count, data.ptr.diff().view(-1, 1).log()], dim=1)


class Stem(torch.nn.Module):
    """A linear map to the width, and layers of GIN: ``states(data) -> list``, one per layer."""

    def __init__(self, features: int, width: int, layers: int) -> None:
        super().__init__()
        self.lin = torch.nn.Linear(features, width)
        self.convs = torch.nn.ModuleList(gin(width, width) for _ in range(layers))
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width) for _ in range(layers))

    def forward(self, data: Data) -> list[Tensor]:
        states = [self.lin(data.x)]
        for conv, norm in zip(self.convs, self.norms):
            states.append(norm(conv(states[-1], data.edge_index)).relu())
        return states


class Body(torch.nn.Module):
    """What comes after the stem: ``states(x, data) -> [(x, batch), ...]``, all of them read, after
    those of the stem's layers."""

    def __init__(self, features: int, width: int, stem: int, states: int) -> None:
        super().__init__()
        self.stem = Stem(features, width, stem)
        self.aggregate = MultiAggregation(list(READ))
        self.channels = len(READ) * width * (stem + states)

    def forward(self, data: Data) -> Tensor:
        first = self.stem(data)
        pairs = [(x, data.batch) for x in first[1:]] + self.states(first[-1], data)
        size = data.num_graphs
        return torch.cat([self.aggregate(x, batch, dim_size=size) for x, batch in pairs], dim=1)

    def states(self, x: Tensor, data: Data) -> list[tuple[Tensor, Tensor]]:
        raise NotImplementedError


class Layers(Body):
    """GIN goes on, on the one level there is; or, with a pooling of PyG's before every layer, on
    smaller and smaller ones. There is no way up."""

    def __init__(
        self, pool: Callable[..., torch.nn.Module] | None, features: int, width: int, stem: int
    ) -> None:
        super().__init__(features, width, stem, DEPTH)
        self.more = Stem(width, width, DEPTH)
        self.pools = torch.nn.ModuleList()
        if pool is not None:
            self.pools.extend(pool(width, RATIO) for _ in range(DEPTH))

    def states(self, x: Tensor, data: Data) -> list[tuple[Tensor, Tensor]]:
        edges, batch, found = data.edge_index, data.batch, []
        for i in range(DEPTH):
            if self.pools:
                x, edges, _, batch, _, _ = self.pools[i](x, edges, None, batch)
            x = self.more.norms[i](self.more.convs[i](x, edges)).relu()
            found.append((x, batch))
        return found


class PyGUNet(Body):
    """PyG's GraphUNet as it comes: GCN, no norm; its output is read."""

    def __init__(self, features: int, width: int, stem: int) -> None:
        super().__init__(features, width, stem, 1)
        self.net = PyGGraphUNet(width, width, width, DEPTH, RATIO)

    def states(self, x: Tensor, data: Data) -> list[tuple[Tensor, Tensor]]:
        return [(self.net(x, data.edge_index, data.batch).relu(), data.batch)]


class Ours(Body):
    """A :class:`GraphUNet` of GIN convolutions, every level read on the way up."""

    def __init__(self, words: dict[str, str], features: int, width: int, stem: int) -> None:
        super().__init__(features, width, stem, DEPTH + 1)
        ratio = 1.0 if words is FLAT else RATIO
        self.net = GraphUNet(width, width, width, DEPTH, ratio, conv=gin, norm="batch", **words)

    def states(self, x: Tensor, data: Data) -> list[tuple[Tensor, Tensor]]:
        edges: Any = data.edge_index if data.get("levels") is None else data.levels
        found, hierarchy = self.net.states(x, edges, data.batch, batch_size=data.num_graphs)
        found[0] = found[0].relu()
        return [(x, level.batch) for x, level in zip(found, hierarchy.levels)]


class Classifier(torch.nn.Module):
    """Bodies side by side and the head that all systems share."""

    def __init__(self, bodies: list[Any], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.bodies, self.dropout = torch.nn.ModuleList(bodies), dropout
        channels = sum(body.channels for body in bodies)
        self.norm = torch.nn.BatchNorm1d(channels)
        self.head = MLP([channels, width, classes], dropout=dropout, norm="batch_norm")

    def forward(self, data: Data) -> Tensor:
        vector = self.norm(torch.cat([body(data) for body in self.bodies], dim=1))
        return self.head(F.dropout(vector, self.dropout, self.training))


KERNEL = "WL kernel"
SYSTEMS = (
    "structure-blind", KERNEL, "GIN", "PyG TopKPooling", "PyG SAGPooling", "PyG GraphUNet", *WORDS
)  # fmt: skip


def prepared(system: str) -> str | None:
    """The `connect` of levels that hang on the graph alone, and so are made once; None where a
    system makes its own."""
    words = WORDS.get(system, {})
    return words["connect"] if words.get("select") == "spread" else None


def make(
    system: str,
    features: int,
    classes: int,
    width: int,
    dropout: float,
    stem: int,
    counts: bool = False,
) -> Classifier:
    """The untrained network of a system; with `counts` the head reads those of the structure-blind
    one, too, whatever the system."""
    sizes = features, width, stem
    blind = Blind(features)
    if system == "structure-blind":  # cheap: it may be wide
        return Classifier([blind], 4 * width, classes, dropout)
    body: torch.nn.Module
    if system in WORDS:
        body = Ours(WORDS[system], *sizes)
    elif system == "PyG GraphUNet":
        body = PyGUNet(*sizes)
    else:
        pools = {"PyG TopKPooling": TopKPooling, "PyG SAGPooling": SAGPooling}
        body = Layers(pools.get(system), *sizes)
    return Classifier([body, blind] if counts else [body], width, classes, dropout)
