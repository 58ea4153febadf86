"""Nuclei of 220 images, found by networks on pixel graphs and superpixel graphs.

Every system gets the same images, tiles, augmentations, loss, seconds of training (CPU time of one
thread) and way to choose on the validation images, by their panoptic quality, how scores become
instances: the least probability, and connected components or a seeded watershed on the depth, which
is one more output; the command's own code chooses.
Whole images are in one part of a fold alone. Parameters are about equal. Superpixel graphs train a
tenth of the seconds; making superpixels, once, is told apart.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _common import record, table
from _segmentation_cells import (
    BATCH,
    TILE,
    Nuclei,
    Picture,
    hierarchy,
    judge,
    otsu,
    score,
    with_offsets,
)
from _segmentation_rows import append, read
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.nn import BatchNorm, GraphUNet, SAGEConv

from pyg_gunet.nn.direction import DirectionConv
from pyg_gunet.nn.segmentation import SegmentationUNet
from pyg_gunet.transforms import Coarsen, ToSuperpixels

DEPTH, RATIO, LR = 3, 0.25, 1e-2
OUT = 3  # background, nucleus, depth
SECONDS = 30.0
PIXELS_PER_SUPERPIXEL = 16
WORDS: dict[str, Any] = {
    "select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate",
}  # fmt: skip


class Ours(torch.nn.Module):
    """Our network on pixel graphs, by the four words."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.net = SegmentationUNet(
            1, hidden, OUT, DEPTH, RATIO, multi_scale=True, sum_res=False,
            conv=DirectionConv, norm="batch", **WORDS,
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        count, height, width = images.shape
        levels, batch = hierarchy((height, width), count, DEPTH, RATIO)
        return self.net(images.view(-1, 1), levels, batch)


class Defaults(torch.nn.Module):
    """The defaults of our network: the paper's way down and up, on nodes that are spread."""

    def __init__(self, hidden: int = 40) -> None:
        super().__init__()
        self.net = SegmentationUNet(
            1, hidden, OUT, DEPTH, RATIO, multi_scale=True, conv=SAGEConv, norm="batch"
        )

    def forward(self, images: Tensor) -> Tensor:
        count, height, width = images.shape
        levels, batch = hierarchy((height, width), count, DEPTH, RATIO)
        return self.net(images.view(-1, 1), levels.levels[0].graph.edge_index, batch)


class Flat(torch.nn.Module):
    """As many convolutions on the pixels alone."""

    def __init__(self, conv: Callable[[int, int], torch.nn.Module], hidden: int) -> None:
        super().__init__()
        sizes = [1] + [hidden] * 7
        self.convs = torch.nn.ModuleList(conv(a, b) for a, b in zip(sizes, sizes[1:]))
        self.norms = torch.nn.ModuleList(BatchNorm(hidden) for _ in self.convs)
        self.head = torch.nn.Linear(hidden, OUT)
        self.directed = conv is DirectionConv

    def forward(self, images: Tensor) -> Tensor:
        count, height, width = images.shape
        graph = hierarchy((height, width), count, DEPTH, RATIO)[0].levels[0].graph
        x = images.view(-1, 1)
        more = (graph.edge_attr,) if self.directed else ()
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, graph.edge_index, *more)).relu()
        return self.head(x)


class Peer(torch.nn.Module):
    """PyG's GraphUNet."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.net = GraphUNet(1, hidden, OUT, DEPTH, RATIO)

    def forward(self, images: Tensor) -> Tensor:
        count, height, width = images.shape
        levels, batch = hierarchy((height, width), count, DEPTH, RATIO)
        return self.net(images.view(-1, 1), levels.levels[0].graph.edge_index, batch)


class ConvUNet(torch.nn.Module):
    """A convolutional U-Net: the ceiling."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.down = torch.nn.ModuleList(
            self.block(1 if level == 0 else channels, channels) for level in range(DEPTH + 1)
        )
        self.up = torch.nn.ModuleList(self.block(2 * channels, channels) for _ in range(DEPTH))
        self.head = torch.nn.Conv2d(channels, OUT, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> torch.nn.Sequential:
        conv = torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        x, skips = images.unsqueeze(1), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1))
        return self.head(x).movedim(1, -1).reshape(-1, OUT)


# The loss is the border-weighted one unless a name says otherwise.
SYSTEMS: dict[str, tuple[Callable[[], torch.nn.Module] | None, str]] = {
    "Otsu, untrained": (None, ""),
    "ours": (Ours, "border"),
    "convolutional U-Net": (ConvUNet, "border"),
    "ours, plain loss": (Ours, "plain"),
    "flat GNN, SAGE": (lambda: Flat(SAGEConv, 41), "border"),
    "ours, superpixels": (Ours, "border"),
    "PyG GraphUNet": (Peer, "border"),
    "ours, class weights": (Ours, "class"),
    "ours, default words": (Defaults, "border"),
    "ours, class and border weights": (Ours, "class and border"),
    "flat GNN, our convolution": (lambda: Flat(DirectionConv, 20), "border"),
}


def loss_of(out: Tensor, label: Tensor, depth: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of the classes, and of the depth."""
    entropy = F.cross_entropy(out[:, :2], label.reshape(-1), reduction="none")
    weight = weight.reshape(-1)
    deep = F.binary_cross_entropy_with_logits(out[:, 2], depth.reshape(-1))
    return (entropy * weight).sum() / weight.sum() + deep


def fit(model: torch.nn.Module, step: Callable[[], Tensor], seconds: float) -> tuple[float, int]:
    """Trains for so many CPU seconds under a cosine of them; what was used, and steps."""
    optimizer = torch.optim.Adam(model.parameters(), LR)
    model.train()
    step()  # levels are made once, at the first
    start, used, steps = time.process_time(), 0.0, 0
    while used < seconds:
        for group in optimizer.param_groups:
            group["lr"] = LR * (0.02 + 0.98 * (1 + math.cos(math.pi * used / seconds)) / 2)
        optimizer.zero_grad()
        step().backward()
        optimizer.step()
        used, steps = time.process_time() - start, steps + 1
    model.eval()
    return used, steps


def split(out: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Probability of a nucleus, and depth, [H, W] each."""
    return out[:, :2].softmax(1)[:, 1].view(size), out[:, 2].sigmoid().view(size)


class Superpixels:
    """Superpixel graphs of the images with their levels, made once."""

    def __init__(self) -> None:
        self.made = lru_cache(maxsize=None)(self._made)
        self.seconds: list[float] = []

    def _made(self, picture: Picture) -> Any:
        start = time.process_time()
        count = picture.image.numel() // PIXELS_PER_SUPERPIXEL
        cut = ToSuperpixels(count, compactness=0.1)
        graph = with_offsets(cut(picture.image, instance=picture.instance))
        levels = Coarsen(DEPTH, RATIO)(graph)
        self.seconds.append(time.process_time() - start)
        return levels

    def targets(self, picture: Picture, graph: Any, loss: str) -> list[Tensor]:
        """Class, mean depth and mean weight of every superpixel."""
        area = graph.seg.bincount(minlength=graph.num_nodes).float()
        pixels = (picture.depth, picture.weight(loss))
        means = [
            torch.zeros(len(area)).index_add(0, graph.seg, one.reshape(-1)) / area for one in pixels
        ]
        return [(graph.instance > 0).long(), means[0], means[1] * area]


def train(data: Nuclei, system: str, fold: int, seconds: float, quick: bool) -> dict[str, float]:
    """The scores on the test images of a fold, CPU seconds and the number of parameters."""
    train_set, valid, test = data.fold(fold, quick)
    make, loss = SYSTEMS[system]
    if make is None:
        return {**judge(data, otsu, valid, test), "seconds": 0.0, "steps": 0.0, "parameters": 0.0}
    torch.manual_seed(fold)
    draw = np.random.default_rng(fold)
    model = make()
    for number in train_set:
        data.read(number)
    more: dict[str, float] = {}
    if "superpixels" in system:
        cut = Superpixels()
        ready = {number: cut.made(data.read(number)) for number in train_set}
        aims = {n: cut.targets(data.read(n), ready[n], loss) for n in train_set}
        seconds = seconds / 10
        more["seconds per image of superpixels"] = statistics.mean(cut.seconds)

        def step() -> Tensor:
            chosen = [int(n) for n in draw.choice(train_set, 1)]  # as many nodes as a tile
            batch = Batch.from_data_list([ready[n] for n in chosen])
            parts = [torch.cat(part) for part in zip(*(aims[n] for n in chosen), strict=True)]
            return loss_of(model.net(batch.x, batch.hierarchy(True), batch.batch), *parts)

        seen = [(cut.made(one), one.instance) for one in map(data.read, test)]
        best = score([g.instance[g.seg].view(true.shape) for g, true in seen], [t for _, t in seen])
        more.update({f"{key} of true superpixels": best[key] for key in ("ap50", "pq")})

        def predict(picture: Picture) -> tuple[Tensor, Tensor]:
            graph = cut.made(picture)
            with torch.no_grad():
                out = model.net(graph.x, graph.hierarchy(True))
            return split(out[graph.seg], picture.image.shape)
    else:

        def step() -> Tensor:
            images, *targets = data.tiles(train_set, loss, draw)
            return loss_of(model(images), *targets)

        def predict(picture: Picture) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return split(model(picture.image.unsqueeze(0)), picture.image.shape)

        for size in sorted({tuple(data.read(i).image.shape) for i in (*valid, *test)}):
            hierarchy(size, 1, DEPTH, RATIO)  # not a part of the seconds per image
        hierarchy((TILE, TILE), BATCH, DEPTH, RATIO)
    used, steps = fit(model, step, seconds)
    return {
        **judge(data, predict, valid, test),
        **more,
        "seconds": used,
        "steps": float(steps),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def run(
    quick: bool, folds: int, root: str | None, rows: Path | None, most: int | None = None
) -> list[dict[str, Any]]:
    """The records; prints a table. Finished runs are read from `rows` and added to it. None come
    back where `most` new runs were not enough; with 0 the table is of what is there."""
    base = os.environ.get("PYG_GUNET_DATA")
    folder = Path(root) if root else Path(base) / "nuclei2018" if base else None
    if folder is None or not (folder / "images").is_dir():
        raise SystemExit(f"--root must be the folder with images/ and masks/ (got {folder})")
    torch.set_num_threads(1)
    data = Nuclei(folder)
    seconds, folds = (0.5, 1) if quick else (SECONDS, folds)
    done = read(rows, "nuclei2018")
    missing = [(s, fold) for fold in range(folds) for s in SYSTEMS if (s, fold) not in done]
    for system, fold in missing[:most]:
        done[system, fold] = train(data, system, fold, seconds, quick)
        append(rows, "nuclei2018", system, fold, done[system, fold])
    if most and len(missing) > most:
        print(f"{len(missing) - most} runs are left")
        return []
    return summary(done, folds)


def summary(done: dict[tuple[str, int], dict[str, float]], folds: int) -> list[dict[str, Any]]:
    """The records, and a table of means and deviations over folds."""
    names = ("ap50", "pq", "sq", "ap50 of components", "seconds", "steps", "seconds per image")
    names = (*names, "parameters")
    records, lines = [], []
    for system in SYSTEMS:
        runs = [done[system, fold] for fold in range(folds) if (system, fold) in done]
        if not runs:
            continue
        cells = [system, str(len(runs))]
        for metric in names:
            values = [one[metric] for one in runs]
            value = statistics.mean(values)
            std = statistics.stdev(values) if len(runs) > 1 else 0.0
            case = ("segmentation", "nuclei2018", system, metric)
            records.append(record(*case, value, std, len(runs)))
            if metric in names[:4]:
                cells.append(f"{value:.3f} +- {std:.3f}")
            else:
                cells.append(f"{value:.2f}" if metric == "seconds per image" else f"{value:.0f}")
        lines.append(cells)
        for metric in names[:2]:
            less, half, count = gain(done, system, metric, folds)
            records.append(record(*case[:3], f"ours less it, {metric}", less, half, count))
    print(table(["system", "folds", "AP50", "PQ", "SQ", "AP50, components", *names[4:]], lines))
    return records


def gain(
    done: dict[tuple[str, int], dict[str, float]], system: str, metric: str, folds: int
) -> tuple[float, float, int]:
    """The mean difference of ours over the test images of the folds that both ran, half its 95%
    interval, and how many images."""
    less = [
        value - done[system, fold][name]
        for fold in range(folds)
        if {(system, fold), ("ours", fold)} <= set(done)
        for name, value in done["ours", fold].items()
        if name.startswith(f"{metric} of image ")
    ]
    if len(less) < 2:
        return 0.0, 0.0, len(less)
    return statistics.mean(less), 1.96 * statistics.stdev(less) / len(less) ** 0.5, len(less)
