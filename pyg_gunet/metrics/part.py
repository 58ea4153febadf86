"""The part segmentation scores of ShapeNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation import part_iou
from pyg_gunet.functional.segmentation.part import check_parts
from pyg_gunet.metrics.base import Scores


class PartIoU(Scores):
    r"""Category and instance mean IoU of part segmentation, as ShapeNet's benchmark scores it.

    `compute` gives a dictionary of scalars: `instance_iou`, the mean over shapes, and
    `category_iou`, the mean over categories of the mean over their shapes. An absent part counts 1.

    Args:
        parts (sequence of sequences of int): The part labels of each category, as the values of
            PyG's `ShapeNet.seg_classes`.
        **kwargs (optional): Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If a category has no part, or a part is negative.

    Example:
        >>> metric = PartIoU(parts=[[0, 1], [2, 3]])
        >>> preds, target = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 2])
        >>> metric.update(preds, target, torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1]))
        >>> {name: float(score) for name, score in metric.compute().items()}
        {'instance_iou': 0.75, 'category_iou': 0.75}
    """

    sums: Tensor
    shapes: Tensor

    def __init__(self, parts: Sequence[Sequence[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_parts(parts)
        self.parts = [[int(label) for label in labels] for labels in parts]
        self.add_state("sums", torch.zeros(len(parts), dtype=torch.float64), "sum")
        self.add_state("shapes", torch.zeros(len(parts), dtype=torch.int64), "sum")

    def update(self, preds: Tensor, target: Tensor, batch: Tensor, category: Tensor) -> None:
        r"""Scores some shapes; arguments and errors are those of
        :func:`pyg_gunet.functional.segmentation.part_iou`.

        Args:
            preds (Tensor): Part labels `[N]` or logits `[N, C]`.
            target (Tensor): Part labels `[N]`.
            batch (Tensor): The shape of each node `[N]`, sorted.
            category (Tensor): The category of each shape `[B]`.
        """
        per_shape = part_iou(preds, target, batch, category, self.parts).per_shape
        scored = ~per_shape.isnan()
        category = category[: per_shape.numel()][scored].long()
        self.add(
            sums=torch.zeros_like(self.sums).index_add_(0, category, per_shape[scored]),
            shapes=torch.bincount(category, minlength=len(self.parts)),
        )

    def compute(self) -> dict[str, Tensor]:
        """The scores of all shapes seen since the last reset: float64 scalars."""
        return {
            "instance_iou": self.sums.sum() / self.shapes.sum(),
            "category_iou": (self.sums / self.shapes).nanmean(),
        }
