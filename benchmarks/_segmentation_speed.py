"""Seconds and memory of the four scores of a segmentation, from labels in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _common import PeakMemory, interleaved, median, record, table
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from pyg_gunet.metrics import SegmentationMetrics

SIZES, CLASSES = (1_000_000, 10_000_000), (7, 21, 150)
OURS = "pyg_gunet, checks on"
DEFAULT = "torchmetrics, four functions"
COLLECTION = "torchmetrics, collection"
UNCHECKED = "torchmetrics, collection, validate_args=False"


def labels(num_nodes: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions of which four in five are right."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(num_classes, (num_nodes,), generator=generator)
    other = torch.randint(num_classes, (num_nodes,), generator=generator)
    right = torch.rand(num_nodes, generator=generator) < 0.8
    return torch.where(right, target, other), target


def ours(num_classes: int) -> Callable[[Tensor, Tensor], Any]:
    metric = SegmentationMetrics(num_classes)

    def step(preds: Tensor, target: Tensor) -> list[float]:
        metric.reset()
        metric.update(preds, target)
        return [float(value) for value in metric.compute().values()][:4]

    return step


def four_functions(num_classes: int) -> Callable[[Tensor, Tensor], Any]:
    def step(preds: Tensor, target: Tensor) -> list[float]:
        return [
            float(multiclass_accuracy(preds, target, num_classes, average="micro")),
            float(multiclass_accuracy(preds, target, num_classes, average="macro")),
            float(multiclass_jaccard_index(preds, target, num_classes, average="macro")),
            float(multiclass_jaccard_index(preds, target, num_classes, average="weighted")),
        ]

    return step


def collection(num_classes: int, validate_args: bool) -> Callable[[Tensor, Tensor], Any]:
    kwargs = {"num_classes": num_classes, "validate_args": validate_args}
    metrics = MetricCollection(
        {
            "1": MulticlassAccuracy(average="micro", **kwargs),
            "2": MulticlassAccuracy(average="macro", **kwargs),
            "3": MulticlassJaccardIndex(average="macro", **kwargs),
            "4": MulticlassJaccardIndex(average="weighted", **kwargs),
        },
        compute_groups=True,
    )

    def step(preds: Tensor, target: Tensor) -> list[float]:
        metrics.reset()
        metrics.update(preds, target)  # the groups form in the warm-up
        return [float(value) for _, value in sorted(metrics.compute().items())]

    return step


def numpy_scores(num_classes: int) -> Callable[[Tensor, Tensor], Any]:
    def step(preds: Tensor, target: Tensor) -> list[float]:
        cell = target.numpy() * num_classes + preds.numpy()
        n = np.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)
        hit, true, pred = np.diag(n), n.sum(1), n.sum(0)
        iou = hit / (true + pred - hit)
        total = n.sum()
        return [hit.sum() / total, (hit / true).mean(), iou.mean(), (true * iou).sum() / total]

    return step


def run(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """The records; prints a table."""
    torch.set_num_threads(1)
    sizes, classes = ((100_000,), (7, 21)) if quick else (SIZES, CLASSES)
    records, rows = [], []
    for num_nodes in sizes:
        for num_classes in classes:
            preds, target = labels(num_nodes, num_classes, seed=0)
            systems = {
                OURS: ours(num_classes),
                DEFAULT: four_functions(num_classes),
                COLLECTION: collection(num_classes, True),
                UNCHECKED: collection(num_classes, False),
                "numpy.bincount": numpy_scores(num_classes),
            }
            found = {name: step(preds, target) for name, step in systems.items()}
            for name, values in found.items():
                gap = max(abs(a - b) for a, b in zip(values, found["numpy.bincount"], strict=True))
                limit = 1e-12 if name == OURS else 1e-6  # torchmetrics computes in float32
                assert gap < limit, f"{name} is off by {gap}"
            steps = {name: partial(step, preds, target) for name, step in systems.items()}
            seconds = interleaved(steps, repeats)
            case = f"{num_nodes:.0e} nodes, {num_classes} classes".replace("e+0", "e")
            for name, call in steps.items():
                with PeakMemory() as memory:
                    call()
                times = median(seconds[name]) / median(seconds[OURS])
                for metric, value in (
                    ("seconds", median(seconds[name])),
                    ("times ours", times),
                    ("extra MB", memory.mb),
                ):
                    records.append(
                        record("segmentation speed", case, name, metric, value, n=repeats)
                    )
                cells = [f"{median(seconds[name]):.4f}", f"{times:.1f}", f"{memory.mb:.0f}"]
                rows.append([case, name, *cells])
    print(table(["case", "system", "seconds", "times ours", "extra MB"], rows))
    return records
