"""Label images and stacks of masks, as the scores take them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.validate import (
    FLOAT_DTYPES,
    check_same_device,
    check_tensor,
    outermost,
)


class ImageNodes(NamedTuple):
    """Pixels as nodes, in the order in which the scores and metrics take them."""

    preds: Tensor
    target: Tensor
    batch: Tensor


def image_nodes(preds: Tensor, target: Tensor) -> ImageNodes:
    """The pixels of a batch of images as the nodes of a batch of graphs, image by image and row by
    row, as :class:`pyg_gunet.transforms.ToGrid` has them: `metric.update(*image_nodes(p, t))`.

    Args:
        preds (Tensor): Labels or instances `[B, H, W]`, or logits `[B, C, H, W]`.
        target (Tensor): Labels or instances `[B, H, W]`.

    Returns:
        ImageNodes: `preds` `[B * H * W]` or `[B * H * W, C]`, `target` and `batch` `[B * H * W]`.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If labels are not integers or logits no floats.

    Example:
        >>> from pyg_gunet import SegmentationMetrics
        >>> metric = SegmentationMetrics(num_classes=3, per_graph=True)
        >>> metric.update(*image_nodes(torch.rand(4, 3, 8, 8), torch.zeros(4, 8, 8).long()))
    """
    check_tensor(preds, "preds")
    check_tensor(target, "target")
    if target.dtype not in LABEL_DTYPES:
        raise TypeError(f"'target' must hold integers (got {target.dtype})")
    if target.dim() != 3:
        raise ValueError(f"'target' must have shape [B, H, W] (got {list(target.shape)})")
    labels = preds.dim() == 3
    if preds.dtype not in (LABEL_DTYPES if labels else FLOAT_DTYPES):
        what = "of shape [B, H, W] must hold integers" if labels else "must be floating point"
        raise TypeError(f"'preds' {what} (got {preds.dtype})")
    size = preds.shape if labels else (*preds.shape[:1], *preds.shape[2:])
    if preds.dim() not in (3, 4) or size != target.shape:
        raise ValueError(
            f"'preds' must have shape [B, H, W] or [B, C, H, W] with those of 'target', "
            f"{list(target.shape)} (got {list(preds.shape)})"
        )
    check_same_device(target, "target", preds=preds)
    flat = preds.reshape(-1) if labels else preds.movedim(1, -1).flatten(0, 2)
    images = torch.arange(target.size(0), device=target.device)
    batch = images.repeat_interleave(target[0].numel() if target.size(0) else 0)
    return ImageNodes(flat, target.reshape(-1), batch)


def masks_to_instances(masks: Tensor, numbers: Tensor | None = None) -> Tensor:
    """One label image, or one number per node, from a mask per instance.

    Args:
        masks (Tensor): Bool, or integers of 0 and 1, `[K, *]`: one mask per instance, none of which
            overlap; `K` may be 0.
        numbers (Tensor, optional): The number of each instance `[K]`, different ones of at least 1.
            (default: 1, 2, ... K)

    Returns:
        Tensor: The instance of each pixel or node `[*]`, int64; 0 for none.

    Raises:
        ValueError: If two masks overlap, a mask holds something else than 0 and 1 or nothing at
            all, or a number is 0, negative or given twice.
        TypeError: If masks are neither bool nor integers, or numbers no integers.

    Example:
        >>> masks_to_instances(torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]]))
        tensor([1, 1, 0, 2])
    """
    check_tensor(masks, "masks")
    if masks.dtype not in (torch.bool, *LABEL_DTYPES):
        raise TypeError(f"'masks' must be bool or integers (got {masks.dtype})")
    if masks.dim() < 2:
        raise ValueError(f"'masks' must have shape [K, *] (got {list(masks.shape)})")
    count = masks.size(0)
    if numbers is None:
        numbers = torch.arange(1, count + 1, device=masks.device)
    check_tensor(numbers, "numbers")
    if numbers.dtype not in LABEL_DTYPES:
        raise TypeError(f"'numbers' must hold integers (got {numbers.dtype})")
    if numbers.shape != (count,):
        raise ValueError(f"'numbers' must have shape [{count}] (got {list(numbers.shape)})")
    check_same_device(masks, "masks", numbers=numbers)
    numbers = numbers.long()
    with outermost() as values:
        if values and count:
            if int(numbers.min()) < 1:
                raise ValueError(
                    f"'numbers' must be at least 1, as 0 is no instance (got {int(numbers.min())})"
                )
            if numbers.unique().numel() < count:
                value, times = numbers.unique(return_counts=True)
                raise ValueError(
                    f"'numbers' must be different (got {int(value[times > 1][0])} twice)"
                )
            wrong = (masks != 0) & (masks != 1)
            if bool(wrong.any()):
                raise ValueError(f"'masks' must hold 0 and 1 (got {int(masks[wrong][0])})")
            empty = (masks == 0).flatten(1).all(dim=1)
            if bool(empty.any()):
                raise ValueError(f"'masks' must not be empty (got mask {int(empty.nonzero()[0])})")
            twice = (masks.sum(dim=0) > 1).nonzero()
            if twice.numel():
                where = tuple(twice[0].tolist())
                both = masks[(slice(None), *where)].nonzero().view(-1)[:2].tolist()
                raise ValueError(
                    f"'masks' must not overlap (got masks {both[0]} and {both[1]} at {list(where)})"
                )
    return (masks.long() * numbers.view(-1, *[1] * (masks.dim() - 1))).sum(dim=0)
