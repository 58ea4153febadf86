"""One shape for all pooling layers: features and adjacency in, both pooled and a lift out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

# "fixed" lets the graph alone choose (quantiles=1); "propagate" is that with
# GUnpool("propagate"), "words" with restriction, contracted edges and prolongation.
OURS = ("gpool-topk", "gpool-spread", "gpool-spread-fixed", "gpool-spread-propagate", "gpool-words")
SPARSE_PEERS = ("pyg-topk", "pyg-sag", "random", "ndp", "kmis", "graclus")
DENSE_PEERS = ("mincut", "diffpool", "lapool", "nmf")
METHODS = ("mean", *SPARSE_PEERS, *DENSE_PEERS, *OURS, "none")


class Adjacency(NamedTuple):
    """Edges with weights, or a dense matrix [N, N] that may carry a gradient."""

    edge_index: Tensor | None
    weight: Tensor | None
    dense: Tensor | None
    num_nodes: int


class Pooled(NamedTuple):
    x: Tensor
    adjacency: Adjacency
    lift: Callable[[Tensor], Tensor]
    loss: Tensor | float
    perm: Tensor | None


class Place(torch.nn.Module):
    """Layers that keep nodes: PyG's, GPool, and a fixed random share."""

    def __init__(self, method: str, channels: int, keep: int, ratio: float, last: bool) -> None:
        super().__init__()
        from torch_geometric.nn import SAGPooling, TopKPooling

        from pyg_gunet import GPool, GUnpool

        self.keep = keep
        self.unpool = GUnpool("propagate" if method == "gpool-spread-propagate" else "zero")
        self.layer: torch.nn.Module | None = None
        if method == "pyg-topk":
            self.layer = TopKPooling(channels, ratio)
        elif method == "pyg-sag":
            self.layer = SAGPooling(channels, ratio)
        elif method in OURS:
            select = "topk" if method == "gpool-topk" else "spread"
            # Nothing propagates on the coarsest graph.
            connect = "induced" if last else "two_hop"
            quantiles = 1 if method in ("gpool-spread-fixed", "gpool-spread-propagate") else None
            self.layer = GPool(channels, ratio, select=select, connect=connect, quantiles=quantiles)
        self.register_buffer("fixed", torch.empty(0, dtype=torch.long))

    def forward(self, x: Tensor, adjacency: Adjacency) -> Pooled:
        edge_index, weight, size = adjacency.edge_index, adjacency.weight, x.size(0)
        if self.layer is None:
            from torch_geometric.utils import subgraph

            if self.fixed.numel() == 0:
                self.fixed = torch.randperm(size)[: self.keep].sort().values
            perm, out = self.fixed, x[self.fixed]
            edge_index, weight = subgraph(
                perm, edge_index, weight, relabel_nodes=True, num_nodes=size
            )
        else:
            out, edge_index, weight, _, perm, _ = self.layer(x, edge_index, weight)
        kept = Adjacency(edge_index, weight.detach(), None, perm.numel())
        wide = adjacency.edge_index if self.unpool.lift != "zero" else None
        return Pooled(out, kept, lambda h: self.unpool(h, perm, size, wide), 0.0, perm)


class Words(torch.nn.Module):
    """GPool by all four words on a level that hangs on the graph alone, and so is made once."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        from pyg_gunet import GPool

        words = {"select": "spread", "reduce": "mean", "connect": "contract"}
        self.layer = GPool(channels, ratio, quantiles=1, **words)
        self.made: tuple[Tensor, Any, Adjacency, Tensor] | None = None

    def forward(self, x: Tensor, adjacency: Adjacency) -> Pooled:
        from pyg_gunet import prolongation

        edge_index, weight, size = adjacency.edge_index, adjacency.weight, x.size(0)
        assert edge_index is not None
        if self.made is None or self.made[0] is not edge_index:
            with torch.no_grad():
                _, below, weights, _, perm, _ = self.layer(x, edge_index, weight)
                transfer = prolongation(perm, edge_index, size, weight)
            self.made = edge_index, transfer, Adjacency(below, weights, None, perm.numel()), perm
        _, transfer, kept, perm = self.made
        out = self.layer.gated(x, perm, self.layer.score(x, perm, None), transfer)
        return Pooled(out, kept, transfer.prolong, 0.0, perm)


class Peer(torch.nn.Module):
    """Layers of torch-geometric-pool, each with its own defaults, lift included.

    Those without parameters select once per run: their selection depends on the graph alone.
    """

    def __init__(self, method: str, channels: int, keep: int, ratio: float) -> None:
        super().__init__()
        from tgp import poolers

        self.method, self.channels, self.ratio = method, channels, ratio
        make = {
            "ndp": lambda: poolers.NDPPooling(cached=True),
            "kmis": lambda: poolers.KMISPooling(channels),
            "graclus": lambda: poolers.GraclusPooling(cached=True),
            "mincut": lambda: poolers.MinCutPooling(channels, keep, cache_preprocessing=True),
            "diffpool": lambda: poolers.DiffPool(channels, keep, cache_preprocessing=True),
            "lapool": lambda: poolers.LaPooling(),
            "nmf": lambda: poolers.NMFPooling(keep, cached=True),
        }
        self.layer = make[method]()
        self.fitted = False

    def forward(self, x: Tensor, adjacency: Adjacency) -> Pooled:
        structure, weight = adjacency.edge_index, adjacency.weight
        if adjacency.dense is not None:
            structure = adjacency.dense.unsqueeze(0)
        if self.method == "kmis" and not self.fitted:
            self._fit_order(x, structure, weight)
        out = self.layer(x=x, adj=structure, edge_weight=weight)
        batched = out.x.dim() == 3
        pooled = out.x.squeeze(0)
        count = pooled.size(0)
        if out.edge_index.is_floating_point():
            coarse = Adjacency(None, None, out.edge_index.reshape(count, count), count)
        else:
            weight = out.edge_weight
            weight = torch.ones(out.edge_index.size(1)) if weight is None else weight.detach()
            coarse = Adjacency(out.edge_index, weight, None, count)

        def lift(h: Tensor) -> Tensor:
            h = h.unsqueeze(0) if batched else h
            return self.layer(x=h, so=out.so, lifting=True).reshape(x.size(0), -1)

        loss = sum(out.loss.values()) if out.loss else 0.0
        return Pooled(pooled, coarse, lift, loss, None)

    def _fit_order(self, x: Tensor, structure: Tensor, weight: Tensor | None) -> None:
        """k-MIS has no ratio: the order whose share of nodes comes closest to it."""
        shares = []
        for order in range(1, 9):
            self.layer.selector.order_k = order
            with torch.no_grad():
                count = self.layer(x=x, adj=structure, edge_weight=weight).x.size(-2)
            shares.append(abs(math.log(count / (self.ratio * x.size(0)))))
        self.layer.selector.order_k = 1 + shares.index(min(shares))
        self.fitted = True


class Repeated(torch.nn.Module):
    """NDP halves a graph: smaller ratios take several, one on the other."""

    def __init__(self, method: str, channels: int, keep: int, ratio: float) -> None:
        super().__init__()
        times = max(1, round(math.log(ratio) / math.log(0.5)))
        self.layers = torch.nn.ModuleList(Peer(method, channels, keep, ratio) for _ in range(times))

    def forward(self, x: Tensor, adjacency: Adjacency) -> Pooled:
        lifts = []
        for layer in self.layers:
            pooled = layer(x, adjacency)
            x, adjacency = pooled.x, pooled.adjacency
            lifts.append(pooled.lift)

        def lift(h: Tensor) -> Tensor:
            for one in reversed(lifts):
                h = one(h)
            return h

        return pooled._replace(lift=lift)


def make(method: str, channels: int, keep: int, ratio: float, last: bool) -> torch.nn.Module:
    if method == "gpool-words":
        return Words(channels, ratio)
    if method in ("pyg-topk", "pyg-sag", "random", *OURS):
        return Place(method, channels, keep, ratio, last)
    if method == "ndp":
        return Repeated(method, channels, keep, ratio)
    return Peer(method, channels, keep, ratio)
