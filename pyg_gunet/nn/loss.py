"""The loss that goes with :class:`pyg_gunet.transforms.BorderWeight`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES, check_ignore_index
from pyg_gunet.validate import (
    check_choice,
    check_floating,
    check_number,
    check_tensor,
    outermost,
)


class BorderWeightedCrossEntropy(Module):
    r"""Cross-entropy with a weight per node, as in Ronneberger et al., "U-Net: Convolutional
    Networks for Biomedical Image Segmentation", MICCAI 2015, equations 1 and 2.

    The weights are those of :class:`pyg_gunet.transforms.BorderWeight`, which hold the weight of
    the class already. `'mean'` divides by the sum of the weights, as
    :class:`torch.nn.CrossEntropyLoss` does with class weights, so that the size of the weights
    does not change the step; where that sum is zero, because no node counts, the loss is zero.

    Args:
        ignore_index (int, optional): Nodes with this label are left out. (default: :obj:`None`)
        label_smoothing (float): The share of the target spread over all classes, in [0, 1].
            (default: :obj:`0.0`)
        reduction (str): `'mean'`, `'sum'` (the paper's) or `'none'`. (default: :obj:`'mean'`)

    Raises:
        ValueError: If `label_smoothing` or `reduction` is out of range.
        TypeError: If `ignore_index` is not an int.

    Example:
        >>> criterion = BorderWeightedCrossEntropy()
        >>> logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> criterion(logits, torch.tensor([0, 1]), weight=torch.tensor([1.0, 3.0]))
        tensor(1.7685)
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_ignore_index(ignore_index)
        check_number(label_smoothing, "label_smoothing", low=0.0, high=1.0)
        check_choice(reduction, "reduction", ("mean", "sum", "none"))
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        r"""The loss of some nodes.

        Args:
            logits (Tensor): A score per node and class `[N, C]`.
            target (Tensor): The class of each node `[N]`.
            weight (Tensor, optional): The weight of each node `[N]`. (default: 1 each)

        Returns:
            Tensor: A scalar, or `[N]` with `reduction='none'`.

        Raises:
            ValueError: If shapes do not fit, a label lies outside `[0, C)` and is not
                `ignore_index`, or a weight is negative or not finite.
            TypeError: If `target` does not hold integers, or another argument no floats.
        """
        self._check(logits, target, weight)
        target = target.long()
        skip = None if self.ignore_index is None else target == self.ignore_index
        if skip is not None:
            target = target.masked_fill(skip, 0)
        loss = F.cross_entropy(
            logits, target, reduction="none", label_smoothing=self.label_smoothing
        )
        node_weight = torch.ones_like(loss) if weight is None else weight.to(loss.dtype)
        if skip is not None:
            # Not by a weight of zero: infinity times zero is NaN.
            loss, node_weight = loss.masked_fill(skip, 0.0), node_weight.masked_fill(skip, 0.0)
        loss = loss * node_weight
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        total = node_weight.sum()
        return loss.sum() / total.where(total > 0, torch.ones_like(total))

    def _check(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_floating(logits, "logits")
        check_tensor(target, "target")
        if logits.dim() != 2 or logits.size(1) < 2:
            raise ValueError(f"'logits' must have shape [N, C >= 2] (got {list(logits.shape)})")
        if target.dtype not in LABEL_DTYPES:
            raise TypeError(f"'target' must hold integer labels (got {target.dtype})")
        num_nodes, num_classes = logits.shape
        if target.shape != (num_nodes,):
            raise ValueError(f"'target' must have shape [{num_nodes}] (got {list(target.shape)})")
        if weight is not None:
            check_floating(weight, "weight")
            if weight.shape != (num_nodes,):
                raise ValueError(
                    f"'weight' must have shape [{num_nodes}] (got {list(weight.shape)})"
                )
        with outermost() as values:
            if not values or not num_nodes:
                return
            if bool(logits.detach().isnan().any()):
                raise ValueError("'logits' must not hold NaN (got nan)")
            wrong = (target < 0) | (target >= num_classes)
            if self.ignore_index is not None:
                wrong &= target.long() != self.ignore_index
            if bool(wrong.any()):
                raise ValueError(
                    f"'target' must lie in [0, {num_classes}) or be 'ignore_index' "
                    f"{self.ignore_index} (got {int(target[wrong][0])})"
                )
            if weight is not None:
                wrong = ~((weight >= 0) & weight.isfinite())
                if bool(wrong.any()):
                    raise ValueError(
                        f"'weight' must be finite and at least 0 (got {float(weight[wrong][0])})"
                    )

    def extra_repr(self) -> str:
        shown = (("ignore_index", None), ("label_smoothing", 0.0), ("reduction", "mean"))
        parts = [f"{k}={getattr(self, k)!r}" for k, v in shown if getattr(self, k) != v]
        return ", ".join(parts)
