"""The part segmentation scores of ShapeNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import label_counts
from pyg_gunet.functional.segmentation.score import class_scores
from pyg_gunet.validate import (
    FLOAT_DTYPES,
    INDEX_DTYPES,
    check_batch,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)

_MAX_PARTS = 2**20  # labels; the scores need a table of parts by categories


class PartScores(NamedTuple):
    """Mean IoU of parts: `instance` and `category` are scalars, `per_category` is
    `[num_categories]` with NaN for a category without a shape, `per_shape` is `[B]`.
    """

    instance: Tensor
    category: Tensor
    per_category: Tensor
    per_shape: Tensor


def part_iou(
    preds: Tensor,
    target: Tensor,
    batch: Tensor,
    category: Tensor,
    parts: Sequence[Sequence[int]],
) -> PartScores:
    r"""Mean IoU over the parts of each shape, as ShapeNet's part benchmark scores it (Yi et al.,
    "A Scalable Active Framework for Region Annotation in 3D Shape Collections", 2016).

    The IoU of a shape is the mean over the parts of its category, where a part that is neither
    there nor predicted counts 1. `instance` averages over shapes; `category` first over the shapes
    of a category, then over the categories that have a shape.

    Args:
        preds (Tensor): Part labels `[N]`, or logits `[N, C]`, whose largest entry **among the
            parts of the shape's category** is the label.
        target (Tensor): Part labels `[N]`.
        batch (Tensor): The shape of each node `[N]`, sorted.
        category (Tensor): The category of each shape `[B]`.
        parts (sequence of sequences of int): The part labels of each category, as the values of
            PyG's `ShapeNet.seg_classes`.

    Raises:
        ValueError: If a label of `target` is no part of its shape's category, `category` does not
            fit `batch` or `parts`, a category has no part, or as :func:`confusion_matrix`.
        TypeError: If labels are not integers.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2, 2])
        >>> target = torch.tensor([0, 1, 1, 2, 2])
        >>> batch = torch.tensor([0, 0, 0, 1, 1])
        >>> part_iou(preds, target, batch, torch.tensor([0, 1]), parts=[[0, 1], [2, 3]]).per_shape
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    for name, tensor in (("preds", preds), ("target", target), ("batch", batch)):
        check_tensor(tensor, name)
        if tensor.dim() == 0:
            raise ValueError(f"'{name}' must have shape [N] (got a scalar)")
    check_same_device(target, "target", preds=preds, batch=batch, category=category)
    allowed = _allowed(parts, target.device)
    with outermost() as values:
        check_batch(batch, target.size(0), values, "target")
        shapes = _check_category(category, batch, len(allowed), values)
        if preds.dim() == 2:
            preds = _among(preds, allowed, category, batch, values)
    num_parts = allowed.size(1)
    counts = label_counts(preds, target, num_parts, batch=batch)
    inside = allowed[category[:shapes]]
    with outermost() as values:
        if values and bool((counts.true * ~inside).any()):
            shape, label = (counts.true * ~inside).nonzero()[0].tolist()
            raise ValueError(
                f"'target' must hold parts of the shape's category (got {label} in shape {shape} "
                f"of category {int(category[shape])})"
            )
    # An empty shape has no score, and no say in a mean.
    iou = class_scores(counts, absent=1)["iou"].masked_fill(~inside, 0.0)
    per_shape = iou.sum(-1) / inside.sum(-1)
    scored = ~per_shape.isnan()
    member = torch.nn.functional.one_hot(category[:shapes].long(), len(allowed)).double()
    member = member * scored.unsqueeze(-1)
    per_category = per_shape.nan_to_num(0.0) @ member / member.sum(0)
    return PartScores(per_shape.nanmean(), per_category.nanmean(), per_category, per_shape)


def _among(preds: Tensor, allowed: Tensor, category: Tensor, batch: Tensor, values: bool) -> Tensor:
    """The likeliest part [N] among those of the shape's category."""
    if preds.size(0) != batch.size(0):
        raise ValueError(
            f"'preds' and 'target' must be of one length (got {preds.size(0)} and {batch.size(0)})"
        )
    if preds.dtype not in FLOAT_DTYPES:
        raise TypeError(f"'preds' of shape [N, C] must be floating point (got {preds.dtype})")
    if preds.size(1) < allowed.size(1):
        raise ValueError(
            f"'preds' must hold a logit for each part up to {allowed.size(1) - 1} "
            f"(got shape {list(preds.shape)})"
        )
    logits = preds.detach()[:, : allowed.size(1)]
    if values and bool(logits.isnan().any()):
        where = int(logits.isnan().any(dim=1).nonzero()[0])
        raise ValueError(f"'preds' must not hold NaN (got nan in row {where})")
    return logits.masked_fill(~allowed[category[batch]], -torch.inf).argmax(dim=1)


def check_parts(parts: Sequence[Sequence[int]]) -> None:
    """At least one non-negative part label per category."""
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise TypeError(f"'parts' must be a sequence of sequences of int (got {parts!r:.80})")
    for labels in parts:
        if isinstance(labels, str) or not isinstance(labels, Sequence):
            raise TypeError(f"'parts' must hold sequences of int (got {labels!r:.80})")
        for label in labels:
            check_positive_int(label, "parts", 0, _MAX_PARTS)
    if not len(parts) or not all(len(labels) for labels in parts):
        raise ValueError(f"'parts' must name at least one part per category (got {parts!r})")


def _allowed(parts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Whether a part belongs to a category: `[num_categories, num_parts]`."""
    check_parts(parts)
    highest = max(map(max, parts))
    allowed = torch.zeros(len(parts), max(highest + 1, 2), dtype=torch.bool)
    for row, labels in zip(allowed, parts, strict=True):
        row[list(labels)] = True
    return allowed.to(device)


def _check_category(category: Tensor, batch: Tensor, num_categories: int, values: bool) -> int:
    check_tensor(category, "category")
    if category.dtype not in INDEX_DTYPES:
        raise TypeError(f"'category' must be of dtype int64 or int32 (got {category.dtype})")
    shapes = int(batch[-1]) + 1 if batch.numel() else 0
    if category.dim() != 1 or category.size(0) < shapes:
        raise ValueError(
            f"'category' must have shape [{shapes}], one entry per shape "
            f"(got {list(category.shape)})"
        )
    if values and category.numel():
        low, high = (int(value) for value in torch.aminmax(category))
        if low < 0 or high >= num_categories:
            raise ValueError(
                f"'category' must lie in [0, {num_categories}), one per entry of 'parts' "
                f"(got {low if low < 0 else high})"
            )
    return shapes
