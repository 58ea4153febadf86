"""Training on one citation graph, the same for every system."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, Linear
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import dropout_edge, to_torch_csr_tensor

from pyg_gunet.data import load

LR, EVERY = 0.01, 2


class Protocol(NamedTuple):
    """How every system is trained, after GRAND's own code (`grand_control.py` tells what each of
    these is worth): the epoch of lowest validation loss counts, or of highest `accuracy`, ties by
    loss, once `patience` epochs have gone by without a better one; consistent training makes so
    many `passes` per step, and its weight grows over `ramp` epochs."""

    epochs: int = 1000
    patience: int = 200
    choose: str = "loss"
    passes: int = 4
    ramp: int = 0


PROTOCOL = Protocol()

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

    Args:
        mixed_dropout (float): Dropout on the entries of mixed features, which is published. Without
            it the mixing comes after the first linear map: the same, in a tenth of the time.
        scale (float): A factor on the features. Published code leaves kept rows as they are in
            training and scales all of them at the end: ``1 - dropout``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        classes: int,
        steps: int,
        dropout: float,
        mixed_dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.first, self.last = Linear(in_channels, hidden), Linear(hidden, classes)
        self.steps, self.dropout = steps, dropout
        self.mixed_dropout, self.scale = mixed_dropout, scale
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.training and self.mixed_dropout:
            x = self.mixed(x * self.scale, edge_index)
            x = F.linear(F.dropout(x, self.mixed_dropout), self.first.weight)
        else:
            x = self.mixed(self.scale * F.linear(x, self.first.weight), edge_index)
        x = (x + self.first.bias).relu()
        return self.last(F.dropout(x, self.dropout, self.training))

    def mixed(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The mean over 0 to `steps` steps."""
        if self.kept is None or self.kept[0] is not edge_index:
            edges, weight = gcn_norm(edge_index, None, x.size(0))
            size = (x.size(0), x.size(0))
            self.kept = edge_index, to_torch_csr_tensor(edges.flip(0), weight, size)
        total = x
        for _ in range(self.steps):
            x = self.kept[1] @ x
            total = total + x
        return total / (self.steps + 1)


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
    final: bool,
    protocol: Protocol = PROTOCOL,
) -> dict[str, float | None]:
    """One run, its epoch as the protocol says. The test nodes are read at that epoch, and only
    where the run is `final`."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=config["weight_decay"])
    passes = protocol.passes if config["consistent"] else 1
    p, q = config["dropout"], config["edge_dropout"]
    words = WordDropout(data.x, passes, config["drop"] == "nodes")
    best = (-float("inf"), -float("inf"))
    row: dict[str, float | None] = {}
    at, start = 0, time.process_time()
    for epoch in range(protocol.epochs):
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
            loss = loss + min(1.0, epoch / max(protocol.ramp, 1)) * consistency(outs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % EVERY != EVERY - 1 and epoch != protocol.epochs - 1:
            continue
        model.eval()
        with torch.no_grad():
            out = model(data.x, data.edge_index).log_softmax(-1)
        val_loss = float(F.nll_loss(out[data.val_mask], data.y[data.val_mask]))
        val = accuracy(out, data, data.val_mask)
        rank = (-val_loss, val) if protocol.choose == "loss" else (val, -val_loss)
        if rank > best:
            best, at = rank, epoch
            test = accuracy(out, data, data.test_mask) if final else None
            row = {"val": val, "val_loss": val_loss, "epoch": epoch + 1, "test": test}
        elif epoch - at >= protocol.patience:
            break
    return {**row, "seconds": round(time.process_time() - start, 2)}


def accuracy(out: Tensor, data: Data, mask: Tensor) -> float:
    """In percent."""
    return 100 * float((out[mask].argmax(1) == data.y[mask]).double().mean())
