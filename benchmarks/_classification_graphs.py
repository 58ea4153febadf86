"""Graph classification: the models of all systems."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import (
    GCN,
    GIN,
    MLP,
    GCNConv,
    GraphConv,
    JumpingKnowledge,
    MultiAggregation,
    TopKPooling,
)
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import GraphUNet, HierarchicalReadout, OfficialGraphUNet

HIDDEN = 32
Config = dict[str, Any]


class Flat(torch.nn.Module):
    """Node states, then their mean, maximum and sum: of one level, or of every level of
    :class:`FlatUNet`, whose levels are all the input graph."""

    def __init__(self, body: torch.nn.Module, classes: int, dropout: float) -> None:
        super().__init__()
        self.body, self.dropout = body, dropout
        self.aggregate = MultiAggregation(["mean", "max", "sum"])
        self.join = JumpingKnowledge("cat")
        levels = len(body.up) + 1 if isinstance(body, FlatUNet) else 1
        self.mlp = MLP([3 * HIDDEN * levels, HIDDEN, classes], dropout=dropout, norm=None)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        if isinstance(self.body, FlatUNet):
            xs = self.body.states(x, edge_index)
        elif isinstance(self.body, (PyGGraphUNet, GraphUNet)):
            xs = [self.body(x, edge_index, batch).relu()]
        else:
            xs = [self.body(x, edge_index)]
        vector = self.join([self.aggregate(x, batch, dim_size=size) for x in xs])
        return self.mlp(F.dropout(vector, self.dropout, self.training))


class FlatUNet(torch.nn.Module):
    """The convolutions and skip connections of a Graph U-Net without gPool and gUnpool: every level
    is the input graph. `cached` as in GCNConv."""

    def __init__(
        self,
        features: int,
        hidden: int,
        out: int,
        depth: int,
        dropout: float = 0.0,
        cached: bool = False,
    ) -> None:
        super().__init__()
        sizes = [features] + [hidden] * depth
        ends = [hidden] * (depth - 1) + [out]
        options = {"improved": True, "cached": cached}
        self.down = torch.nn.ModuleList(GCNConv(i, hidden, **options) for i in (*sizes,))
        self.up = torch.nn.ModuleList(GCNConv(hidden, o, **options) for o in ends)
        self.dropout = dropout

    def states(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Those of the last level and of the way up, in the order of a read-out, activated."""
        x, *others = reversed(self._ascend(x, edge_index))
        return [x.relu(), *others]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self._ascend(x, edge_index)[-1]

    def _ascend(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        skips: list[Tensor] = []
        for i, conv in enumerate(self.down):
            x = F.dropout(x, self.dropout, self.training and i > 0)
            x = conv(x, edge_index).relu()
            skips.append(x)
        states = [skips.pop()]
        for i, conv in enumerate(self.up):
            x = F.dropout(states[-1] + skips.pop(), self.dropout, self.training)
            x = conv(x, edge_index)
            states.append(x if i == len(self.up) - 1 else x.relu())
        return states


class TopKHierarchy(torch.nn.Module):
    """PyG's example of TopKPooling: per level a convolution, a pooling, and the mean and maximum of
    what is kept, added up over levels."""

    def __init__(self, features: int, classes: int, depth: int, ratio: float, p: float) -> None:
        super().__init__()
        sizes = [features] + [HIDDEN] * depth
        self.convs = torch.nn.ModuleList(GraphConv(i, HIDDEN) for i in sizes[:-1])
        self.pools = torch.nn.ModuleList(TopKPooling(HIDDEN, ratio) for _ in range(depth))
        self.aggregate = MultiAggregation(["max", "mean"])
        self.mlp = MLP([2 * HIDDEN, HIDDEN, HIDDEN // 2, classes], dropout=p, norm=None)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        read = []
        for conv, pool in zip(self.convs, self.pools):
            x = conv(x, edge_index).relu()
            x, edge_index, _, batch, _, _ = pool(x, edge_index, None, batch)
            read.append(self.aggregate(x, batch, dim_size=size))
        return self.mlp(AddUp()(read))


class AddUp(torch.nn.Module):
    """Read-outs of levels, added up as in Cangea et al. 2018."""

    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.stack(xs).sum(0)


class Ours(torch.nn.Module):
    def __init__(self, net: GraphUNet, classes: int, added: bool = False) -> None:
        super().__init__()
        self.net = HierarchicalReadout(net, classes, mode="max" if added else "cat")
        if added:
            self.net.join = AddUp()  # of the same width as a maximum

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        return self.net(x, edge_index, batch, batch_size=size)


def make(system: str, config: Config, features: int, classes: int) -> torch.nn.Module:
    """The untrained model of a system."""
    depth, p, ratio = config["depth"], config["dropout"], config.get("ratio", 0.8)
    if system in ("GCN", "GIN"):
        return Flat({"GCN": GCN, "GIN": GIN}[system](features, HIDDEN, depth + 1), classes, p)
    if system == "PyG GraphUNet":
        return Flat(PyGGraphUNet(features, HIDDEN, HIDDEN, depth, ratio), classes, p)
    if system == "PyG TopKPooling":
        return TopKHierarchy(features, classes, depth, ratio, p)
    options = {k: v for k, v in config.items() if k not in ("depth", "dropout", "ratio")}
    if options.pop("flat", False):
        return Flat(FlatUNet(features, HIDDEN, HIDDEN, depth, p), classes, p)
    readout = options.pop("readout", "cat")
    kind = OfficialGraphUNet if options.pop("official", False) else GraphUNet
    net = kind(features, HIDDEN, HIDDEN, depth, ratio, dropout=p, **options)
    return Flat(net, classes, p) if readout == "finest" else Ours(net, classes, readout == "sum")
