"""Which instances a segmentation finds."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.validate import check_number, check_same_device, check_tensor


def instances_found(preds: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    r"""Whether each true instance comes out as an instance of its own: some predicted one overlaps
    it with an intersection over union above `threshold` (Caicedo et al., "Nucleus segmentation
    across imaging experiments: the 2018 Data Science Bowl", Nature Methods 2019).

    From 0.5 on, no instance can match two others: what is merged or split is not found.

    Args:
        preds (Tensor): The predicted instance of each node `[N]`, 0 for none, as by
            :func:`pyg_gunet.functional.border.connected_instances`.
        target (Tensor): The true instance of each node `[N]`, 0 for none.
        threshold (float): Overlap to exceed, in [0.5, 1). (default: :obj:`0.5`)

    Returns:
        Tensor: One bool per true instance, in the order of their numbers.

    Raises:
        ValueError: If the lengths differ or `threshold` is out of range.
        TypeError: If instances are not integers.

    Example:
        >>> target = torch.tensor([1, 1, 0, 2, 2, 2, 3])
        >>> preds = torch.tensor([4, 4, 0, 5, 5, 0, 0])
        >>> instances_found(preds, target)
        tensor([ True,  True, False])
    """
    for name, label in (("preds", preds), ("target", target)):
        check_tensor(label, name)
        if label.dtype not in LABEL_DTYPES:
            raise TypeError(f"'{name}' must hold integers (got {label.dtype})")
    if preds.dim() != 1 or preds.shape != target.shape:
        raise ValueError(
            f"'preds' and 'target' must be of one shape [N] "
            f"(got {list(preds.shape)} and {list(target.shape)})"
        )
    check_same_device(target, "target", preds=preds)
    check_number(threshold, "threshold", low=0.5, high=1.0)
    true, of_true, true_size = target.unique(return_inverse=True, return_counts=True)
    _, of_pred, pred_size = preds.unique(return_inverse=True, return_counts=True)
    both = (preds != 0) & (target != 0)
    pair, shared = (of_true * pred_size.numel() + of_pred)[both].unique(return_counts=True)
    i = torch.div(pair, pred_size.numel(), rounding_mode="floor")
    j = pair - i * pred_size.numel()
    iou = shared.double() / (true_size[i] + pred_size[j] - shared)
    found = torch.zeros_like(true, dtype=torch.bool)
    found[i[iou > threshold]] = True
    return found[true != 0]
