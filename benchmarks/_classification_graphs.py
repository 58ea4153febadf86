"""Graph classification: folds, the models of all systems, and one fold's run."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCN, GIN, MLP, GCNConv, GraphConv, TopKPooling
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import GraphUNet
from pyg_gunet.datasets import load
from pyg_gunet.nn.readout import HierarchicalReadout

EPOCHS, PATIENCE, BATCH, LR = 200, 50, 64, 0.005
HIDDEN = 32
Config = dict[str, Any]


class Flat(torch.nn.Module):
    """Convolutions without pooling, then mean, maximum and sum over the nodes of their output."""

    def __init__(self, body: torch.nn.Module, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.readout = HierarchicalReadout()
        self.mlp = MLP([3 * channels, channels, classes], dropout=dropout, norm=None)
        self.dropout = dropout

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        if isinstance(self.body, PyGGraphUNet):
            x = self.body(x, edge_index, batch).relu()
        else:
            x = self.body(x, edge_index)
        vector = self.readout([x], [batch], size)
        return self.mlp(F.dropout(vector, self.dropout, self.training))


class TopKHierarchy(torch.nn.Module):
    """PyG's example of TopKPooling: per level a convolution, a pooling, and the mean and maximum of
    what is kept, added up over levels."""

    def __init__(self, features: int, classes: int, depth: int, ratio: float, p: float) -> None:
        super().__init__()
        sizes = [features] + [HIDDEN] * depth
        self.convs = torch.nn.ModuleList(GraphConv(i, HIDDEN) for i in sizes[:-1])
        self.pools = torch.nn.ModuleList(TopKPooling(HIDDEN, ratio) for _ in range(depth))
        self.readout = HierarchicalReadout(("max", "mean"), "sum")
        self.mlp = MLP([2 * HIDDEN, HIDDEN, HIDDEN // 2, classes], dropout=p, norm=None)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        xs, batches = [], []
        for conv, pool in zip(self.convs, self.pools):
            x = conv(x, edge_index).relu()
            x, edge_index, _, batch, _, _ = pool(x, edge_index, None, batch)
            xs.append(x)
            batches.append(batch)
        return self.mlp(self.readout(xs, batches, size))


class Ours(torch.nn.Module):
    def __init__(self, features: int, classes: int, **options: Any) -> None:
        super().__init__()
        self.net = GraphUNet(features, HIDDEN, classes, **{"readout": "cat", **options})

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: int) -> Tensor:
        return self.net(x, edge_index, batch, batch_size=size)


def make(system: str, config: Config, features: int, classes: int) -> torch.nn.Module:
    """The untrained model of a system."""
    depth, p, ratio = config["depth"], config["dropout"], config.get("ratio", 0.8)
    if system in ("GCN", "GIN"):
        body = {"GCN": GCN, "GIN": GIN}[system](features, HIDDEN, depth + 1)
        return Flat(body, HIDDEN, classes, p)
    if system == "PyG GraphUNet":
        return Flat(PyGGraphUNet(features, HIDDEN, HIDDEN, depth, ratio), HIDDEN, classes, p)
    if system == "PyG TopKPooling":
        return TopKHierarchy(features, classes, depth, ratio, p)
    options = {k: v for k, v in config.items() if k not in ("depth", "dropout", "ratio")}
    if options.pop("flat", False):
        return Flat(FlatU(features, depth, p), HIDDEN, classes, p)
    return Ours(features, classes, depth=depth, pool_ratios=ratio, dropout=p, **options)


class FlatU(torch.nn.Module):
    """The convolutions and skip connections of a Graph U-Net whose levels are all the input graph:
    neither gPool nor gUnpool."""

    def __init__(
        self, features: int, depth: int, dropout: float, hidden: int = HIDDEN, out: int | None = None
    ) -> None:
        super().__init__()
        sizes = [features] + [hidden] * (depth + 1)
        self.down = torch.nn.ModuleList(GCNConv(i, hidden, improved=True) for i in sizes[:-1])
        ends = [hidden] * (depth - 1) + [out or hidden]
        self.up = torch.nn.ModuleList(GCNConv(hidden, o, improved=True) for o in ends)
        self.dropout, self.plain_end = dropout, out is not None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for i, conv in enumerate(self.down):
            x = F.dropout(x, self.dropout, self.training and i > 0)
            x = conv(x, edge_index).relu()
            skips.append(x)
        skips.pop()
        for i, conv in enumerate(self.up):
            x = F.dropout(x + skips.pop(), self.dropout, self.training)
            x = conv(x, edge_index)
            x = x if self.plain_end and i == len(self.up) - 1 else x.relu()
        return x


def graph_set(name: str, root: str) -> InMemoryDataset:
    """A TU set by its name."""
    return load(f"TU/{name}", root)


def folds(y: Tensor, seed: int, count: int = 10) -> list[tuple[Tensor, Tensor, Tensor]]:
    """``(train, val, test)`` indices of each fold, stratified: every graph is tested once. A tenth
    of what is left of a fold is for validation, or as much as there are classes."""
    from sklearn.model_selection import StratifiedKFold, train_test_split

    labels, out = y.numpy(), []
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for fold, (rest, test) in enumerate(splitter.split(labels, labels)):
        size = max(len(test), len(set(labels)))
        train, val = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=1000 * seed + fold
        )
        out.append((torch.as_tensor(train), torch.as_tensor(val), torch.as_tensor(test)))
    return out


def loaders(graphs: list[Data], parts: tuple[Tensor, Tensor, Tensor]) -> list[DataLoader]:
    train, *rest = ([graphs[int(i)] for i in part] for part in parts)
    # A last batch of one graph is a step on noise, and none that batch norm could take.
    last = len(train) % BATCH == 1 and len(train) > BATCH
    shuffled = DataLoader(train, BATCH, shuffle=True, drop_last=last)
    return [shuffled, *(DataLoader(part, 512) for part in rest)]


@torch.no_grad()
def read(model: torch.nn.Module, loader: Any) -> tuple[float, float]:
    """Accuracy in percent and mean loss."""
    model.eval()
    right, loss, count = 0, 0.0, 0
    for data in loader:
        out = model(data.x, data.edge_index, data.batch, data.num_graphs)
        loss += float(F.cross_entropy(out, data.y, reduction="sum"))
        right += int((out.argmax(1) == data.y).sum())
        count += data.num_graphs
    return 100 * right / count, loss / count


def train_fold(
    dataset: InMemoryDataset,
    system: str,
    configs: list[Config],
    parts: tuple[Tensor, Tensor, Tensor],
    seed: int,
    epochs: int,
) -> dict[str, Any]:
    """Trains every configuration of a system on one fold. Configuration and epoch are those of best
    validation accuracy, ties by validation loss; then the test part is read, once."""
    start, graphs = time.process_time(), list(dataset)
    features, classes = int(dataset.num_node_features), int(dataset.num_classes)
    best: tuple[float, float] = (-1.0, 0.0)
    state, row = None, {}
    for config in configs:
        torch.manual_seed(seed)
        model = make(system, config, features, classes)
        optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=1e-4)
        train, val, _ = loaders(graphs, parts)
        held = list(val)
        top, at = (-1.0, 0.0), 0
        for epoch in range(epochs):
            model.train()
            for data in train:
                out = model(data.x, data.edge_index, data.batch, data.num_graphs)
                optimizer.zero_grad()
                F.cross_entropy(out, data.y).backward()
                optimizer.step()
            accuracy, loss = read(model, held)
            if (accuracy, -loss) > top:
                top, at = (accuracy, -loss), epoch
                if top > best:
                    best, state = top, copy.deepcopy(model.state_dict())
                    row = {"config": config, "val": accuracy, "val_loss": loss, "epoch": epoch + 1}
            elif epoch - at >= PATIENCE:
                break
    model = make(system, row["config"], features, classes)
    model.load_state_dict(state)  # type: ignore[arg-type]
    row["test"] = read(model, loaders(graphs, parts)[2])[0]
    return {**row, "seconds": round(time.process_time() - start, 2)}
