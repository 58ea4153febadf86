"""Which network segments pixel graphs of digits best, at equal inputs, steps and optimiser.

The node's class is background or the digit its pixel belongs to: a network must see the whole
picture from every inked pixel. Every system gets the ink and the position of each pixel, 20 epochs
of Adam on the same batches, and its last epoch is tested.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import record, table
from _segmentation_rows import append, read
from torch import Tensor
from torch_geometric.nn import GCN, MLP, GraphUNet, SAGEConv

from pyg_gunet import GPool
from pyg_gunet.data import load
from pyg_gunet.data.dataset import split_indices
from pyg_gunet.metrics import SegmentationMetrics
from pyg_gunet.nn.direction import DirectionConv
from pyg_gunet.nn.segmentation import SegmentationUNet

SIDE, CLASSES, HIDDEN, DEPTH = 8, 11, 64, 3
EPOCHS, BATCH, LR = 20, 64, 1e-2


class ConvUNet(torch.nn.Module):
    """A small convolutional U-Net on the image: the ceiling."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.one, self.two = self.block(3, channels), self.block(channels, channels)
        self.three = self.block(channels, channels)
        self.up_two = self.block(2 * channels, channels)
        self.up_one = self.block(2 * channels, channels)
        self.head = torch.nn.Conv2d(channels, CLASSES, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> torch.nn.Sequential:
        conv = torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x.view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2))
        two = self.two(F.max_pool2d(one, 2))
        up = F.interpolate(self.three(F.max_pool2d(two, 2)), scale_factor=2)
        up = F.interpolate(self.up_two(torch.cat([two, up], 1)), scale_factor=2)
        out = self.head(self.up_one(torch.cat([one, up], 1)))
        return out.permute(0, 2, 3, 1).reshape(-1, CLASSES)


class _OnNodes(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.net(x)


class _NoBatch(_OnNodes):
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.net(x, edge_index)


class _Directed(_OnNodes):
    """The offset between the two ends of an edge, from the positions among the inputs."""

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        offset = x[edge_index[1], 1:] - x[edge_index[0], 1:]
        return self.net(x, edge_index, batch, edge_attr=offset)


def _ours(**kwargs: Any) -> torch.nn.Module:
    return SegmentationUNet(3, HIDDEN, CLASSES, DEPTH, **kwargs)


SAGE: dict[str, Any] = {"conv": SAGEConv, "norm": "batch"}
# Chosen on the validation graphs of one seed, of seven settings: skips concatenated, the mean and
# the maximum over neighbours, a kept set that holds still.
BOTH: dict[str, Any] = {
    "conv": lambda i, o: SAGEConv(i, o, aggr=["mean", "max"]),
    "norm": "batch",
    "sum_res": False,
    "pool": lambda c, r: GPool(c, r, select="spread", connect="two_hop", quantiles=1),
}
# What `pyg-gunet fit --task segment --dataset digits` trains: levels that carry information, and
# neighbours that are told apart by their direction. Chosen on the validation graphs of one seed.
DEFAULT: dict[str, Any] = {
    **{"reduce": "mean", "connect": "contract", "lift": "interpolate", "norm": "batch"},
    "conv": DirectionConv,
    "sum_res": False,
    "pool": lambda c, r: GPool(
        c, r, select="spread", reduce="mean", connect="contract", quantiles=1
    ),
}
SYSTEMS: dict[str, Callable[[], torch.nn.Module]] = {
    "MLP on the pixel": lambda: _OnNodes(MLP([3, HIDDEN, HIDDEN, CLASSES])),
    "PyG GCN, 7 layers": lambda: _NoBatch(GCN(3, HIDDEN, 7, CLASSES, norm="batch")),
    "PyG GraphUNet": lambda: GraphUNet(3, HIDDEN, CLASSES, DEPTH),
    "ours, top-k": lambda: _ours(select="topk", **SAGE),
    "ours, spread": lambda: _ours(**SAGE),
    "ours, spread, multi-scale": lambda: _ours(multi_scale=True, **SAGE),
    "ours, GCN, spread, multi-scale": lambda: _ours(multi_scale=True),
    "ours, spread, multi-scale, mean and max": lambda: _ours(multi_scale=True, **BOTH),
    "the default: `DirectionConv`, levels that carry information": lambda: _Directed(
        SegmentationUNet(3, HIDDEN, CLASSES, 2, multi_scale=True, **DEFAULT)
    ),
    "convolutional U-Net": lambda: _OnNodes(ConvUNet()),
}


class Digits:
    """The pixel graphs as one tensor: all have the same edges."""

    def __init__(self, seed: int) -> None:
        graphs = load("digits")
        pos = (graphs[0].pos - (SIDE - 1) / 2) / ((SIDE - 1) / 2)
        ink = torch.stack([data.x for data in graphs])
        self.x = torch.cat([ink, pos.expand(len(ink), -1, -1)], dim=-1)
        self.y = torch.stack([data.y for data in graphs])
        self.edges = graphs[0].edge_index
        self.train, self.val, self.test = split_indices(len(ink), seed)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, nodes = len(index), SIDE * SIDE
        shift = torch.arange(count) * nodes
        edge_index = (self.edges.unsqueeze(1) + shift.view(-1, 1)).flatten(1)
        graph = torch.arange(count).repeat_interleave(nodes)
        return self.x[index].flatten(0, 1), edge_index, graph, self.y[index].flatten()


def train(system: str, seed: int, epochs: int, limit: int | None = None) -> dict[str, float]:
    """The scores on the test graphs, the CPU seconds of training and the number of parameters."""
    data = Digits(seed)
    train_set = data.train[:limit]
    torch.manual_seed(seed)
    model = SYSTEMS[system]()
    optimizer = torch.optim.Adam(model.parameters(), LR)
    steps = epochs * -(-len(train_set) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for _ in range(epochs):
        for index in train_set[torch.randperm(len(train_set), generator=generator)].split(BATCH):
            x, edge_index, graph, y = data.batch(index)
            optimizer.zero_grad()
            F.cross_entropy(model(x, edge_index, graph), y).backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - start
    metric = SegmentationMetrics(CLASSES, per_class=True)
    model.eval()
    with torch.no_grad():
        for index in data.test.split(BATCH):
            x, edge_index, graph, y = data.batch(index)
            metric.update(model(x, edge_index, graph), y)
    scores = {name: float(value) for name, value in metric.compute().items()}
    return {
        "digit_iou": statistics.mean(scores[f"iou_{c}"] for c in range(1, CLASSES)),
        "mean_iou": scores["mean_iou"],
        "pixel_accuracy": scores["pixel_accuracy"],
        "seconds": seconds,
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def run(
    quick: bool, seeds: int, rows: Path | None, most: int | None = None
) -> list[dict[str, Any]]:
    """The records; prints a table. Finished runs are read from `rows` and added to it. None come
    back where `most` new runs were not enough."""
    torch.set_num_threads(1)
    epochs, limit = (1, 128) if quick else (EPOCHS, None)
    done = read(rows, "digits")
    seeds = 1 if quick else seeds
    missing = [
        (system, seed) for seed in range(seeds) for system in SYSTEMS if (system, seed) not in done
    ]
    for system, seed in missing[:most]:
        done[system, seed] = train(system, seed, epochs, limit)
        append(rows, "digits", system, seed, done[system, seed])
    if most is not None and len(missing) > most:
        print(f"{len(missing) - most} runs are left")
        return []
    records, lines = [], []
    mean: dict[str, float] = {}
    for system in SYSTEMS:
        runs = [done[system, seed] for seed in range(seeds)]
        cells = [system]
        for metric in ("digit_iou", "mean_iou", "pixel_accuracy", "seconds", "parameters"):
            values = [one[metric] for one in runs]
            value = statistics.mean(values)
            std = statistics.stdev(values) if len(values) > 1 else 0.0
            records.append(record("segmentation", "digits", system, metric, value, std, len(runs)))
            precise = metric not in ("seconds", "parameters")
            cells.append(f"{value:.4f} +- {std:.4f}" if precise else f"{value:.0f}")
            if metric == "digit_iou":
                mean[system] = value
        lines.append(cells)
    floor, ceiling = mean["MLP on the pixel"], mean["convolutional U-Net"]
    for cells in lines:
        way = (mean[cells[0]] - floor) / (ceiling - floor)
        records.append(record("segmentation", "digits", cells[0], "way", way, None, seeds))
        cells.append(f"{100 * way:.1f} %")
    header = ["system", "IoU of digits", "mean IoU", "accuracy", "CPU seconds", "parameters"]
    print(table([*header, "way from MLP to convolutional U-Net"], lines))
    return records
