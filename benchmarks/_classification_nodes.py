"""Training on one citation graph, the same for every system."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, Linear
from torch_geometric.utils import dropout_edge

from pyg_gunet.data import load

EPOCHS, LR, PATIENCE, EVERY = 200, 0.01, 50, 2
# The part of a configuration that is of training; the rest is of the model.
SHARED: dict[str, tuple[Any, ...]] = {
    "dropout": (0.5, 0.6, 0.8),
    "weight_decay": (5e-4, 1e-3, 2e-3),
    "drop": ("entries", "nodes"),
    "edge_dropout": (0.0, 0.3),
    "consistent": (False, True),
}


def citation_graph(name: str, root: str) -> Data:
    """A Planetoid graph, its features' rows of sum 1."""
    data = load(f"Planetoid/{name}", root)[0]
    assert data.x is not None
    data.x = data.x / data.x.sum(dim=1, keepdim=True).clamp(min=1)
    return data


class Grand(torch.nn.Module):
    """Mixed features and a perceptron (Feng et al. 2020): ``MixedGraphUNet`` without its U,
    but with self loops of weight 1, as published, where that has weight 2.

    The mixing comes after the first linear map, which is the same and takes less time.
    """

    def __init__(
        self, in_channels: int, hidden: int, classes: int, mix: int, dropout: float, cached: bool
    ) -> None:
        super().__init__()
        self.first, self.last = Linear(in_channels, hidden), Linear(hidden, classes)
        self.step = APPNP(1, 0.0, cached=cached)
        self.mix, self.dropout = mix, dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = total = F.linear(x, self.first.weight)
        for _ in range(self.mix):
            x = self.step(x, edge_index)
            total = total + x
        x = (total / (self.mix + 1) + self.first.bias).relu()
        return self.last(F.dropout(x, self.dropout, self.training))


class Prepared(torch.nn.Module):
    """A network of this package on the graph that it has prepared, or, in a step that leaves out
    edges, on those that are left; then `propagate` steps of personalised PageRank."""

    def __init__(self, net: Any, data: Data, propagate: int = 0) -> None:
        super().__init__()
        self.net = net
        self.edge_index = data.edge_index
        self.graph = net.prepare(data.edge_index, num_nodes=data.num_nodes)
        self.smooth = APPNP(propagate, 0.1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        whole = edge_index is self.edge_index
        out = self.net(x, self.graph if whole else edge_index)
        return self.smooth(out, edge_index) if self.smooth.K else out


class WordDropout:
    """Dropout on a feature matrix that is mostly zero: draws for the others alone.

    The same distribution as ``F.dropout``, which on Cora takes most of a training step. A buffer
    per pass through the network, whose entries are overwritten by the next step.

    Args:
        x (Tensor): Features, [N, F].
        passes (int): Passes per step.
        rows (bool): Whether whole rows are dropped (DropNode) in place of entries.
    """

    def __init__(self, x: Tensor, passes: int, rows: bool) -> None:
        self.index = x.view(-1).nonzero().view(-1)
        self.row = self.index // x.size(1) if rows else None
        self.ones = x.new_ones(x.size(0))
        self.values = x.view(-1)[self.index]
        self.buffers = [x.clone() for _ in range(passes)]

    def __call__(self, i: int, p: float) -> Tensor:
        buffer = self.buffers[i]
        if self.row is None:
            buffer.view(-1)[self.index] = F.dropout(self.values, p)
        else:
            buffer.view(-1)[self.index] = self.values * F.dropout(self.ones, p)[self.row]
        return buffer


def consistency(outs: list[Tensor]) -> Tensor:
    """The mean squared distance of predictions to their sharpened mean, which is held fixed."""
    probability = torch.stack([out.exp() for out in outs])
    target = probability.mean(0).detach().square()
    target = target / target.sum(-1, keepdim=True)
    return (probability - target).square().sum(-1).mean()


def train(
    data: Data,
    make: Callable[[], torch.nn.Module],
    config: dict[str, Any],
    seed: int,
    epochs: int,
    final: bool,
) -> dict[str, float | None]:
    """One run, its epoch that of best validation accuracy, ties by validation loss. The test nodes
    are read at that epoch, and only where the run is `final`."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=config["weight_decay"])
    passes, p, q = 2 if config["consistent"] else 1, config["dropout"], config["edge_dropout"]
    words = WordDropout(data.x, passes, config["drop"] == "nodes")
    best: tuple[float, float] = (-1.0, 0.0)
    row: dict[str, float | None] = {}
    at, start = 0, time.process_time()
    for epoch in range(epochs):
        model.train()
        outs = []
        for i in range(passes):
            edge_index = data.edge_index
            if q:
                edge_index = dropout_edge(edge_index, q, force_undirected=True)[0]
            outs.append(model(words(i, p), edge_index).log_softmax(-1))
        loss = torch.stack(
            [F.nll_loss(out[data.train_mask], data.y[data.train_mask]) for out in outs]
        ).mean()
        if passes > 1:
            loss = loss + min(1.0, epoch / 50) * consistency(outs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % EVERY != EVERY - 1 and epoch != epochs - 1:
            continue
        model.eval()
        with torch.no_grad():
            out = model(data.x, data.edge_index).log_softmax(-1)
        val_loss = float(F.nll_loss(out[data.val_mask], data.y[data.val_mask]))
        val = accuracy(out, data, data.val_mask)
        if (val, -val_loss) > best:
            best, at = (val, -val_loss), epoch
            test = accuracy(out, data, data.test_mask) if final else None
            row = {"val": val, "val_loss": val_loss, "epoch": epoch + 1, "test": test}
        elif epoch - at >= PATIENCE:
            break
    return {**row, "seconds": round(time.process_time() - start, 2)}


def accuracy(out: Tensor, data: Data, mask: Tensor) -> float:
    """In percent."""
    return 100 * float((out[mask].argmax(1) == data.y[mask]).double().mean())
