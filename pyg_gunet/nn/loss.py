"""Losses of a node segmentation, on the flat nodes of a graph or of a batch of graphs.

MONAI, torchvision and kornia have Dice and focal losses of images `[B, C, H, W]`; none of them
takes the nodes of graphs of unequal size, and none a weight per node. The values are the same where
both apply, and the docstrings say where a convention differs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES, check_ignore_index
from pyg_gunet.validate import (
    check_batch,
    check_choice,
    check_floating,
    check_number,
    check_same_device,
    check_tensor,
    outermost,
)


class _NodeLoss(Module):
    """What the losses share: the checks, and the nodes that count."""

    def __init__(self, ignore_index: int | None, reduction: str = "mean") -> None:
        super().__init__()
        check_ignore_index(ignore_index)
        check_choice(reduction, "reduction", ("mean", "sum", "none"))
        self.ignore_index = ignore_index
        self.reduction = reduction

    def _counted(
        self, logits: Tensor, target: Tensor, weight: Tensor | None, batch: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, classes and weights, all zero where a node does not count: a factor of zero would
        not do, as infinity times zero is NaN.
        """
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
        check_same_device(logits, "logits", target=target, weight=weight, batch=batch)
        target = target.long()
        skip = torch.zeros_like(target, dtype=torch.bool)
        if self.ignore_index is not None:
            skip = target == self.ignore_index
        with outermost() as values:
            check_batch(batch, num_nodes, values, "logits")
            if values and num_nodes:
                self._check_values(logits.detach(), target, weight, skip)
        if weight is None:
            weight = torch.ones_like(logits[:, 0])
        else:
            skip = skip | (weight == 0)
            weight = weight.to(logits.dtype)
        weight = weight.masked_fill(skip, 0.0)
        return logits.masked_fill(skip.unsqueeze(1), 0.0), target.masked_fill(skip, 0), weight

    def _check_values(
        self, logits: Tensor, target: Tensor, weight: Tensor | None, skip: Tensor
    ) -> None:
        top = logits.max(dim=1).values
        if bool(top.isnan().any()):
            raise ValueError("'logits' must not hold NaN (got nan)")
        endless = top.isinf() & ~skip
        if bool(endless.any()):
            raise ValueError(
                f"'logits' must have a finite maximum in each row "
                f"(got {float(top[endless][0])} in row {int(endless.nonzero()[0])})"
            )
        wrong = ((target < 0) | (target >= logits.size(1))) & ~skip
        if bool(wrong.any()):
            raise ValueError(
                f"'target' must lie in [0, {logits.size(1)}) or be 'ignore_index' "
                f"{self.ignore_index} (got {int(target[wrong][0])})"
            )
        if weight is not None:
            wrong = ~((weight >= 0) & weight.isfinite())
            if bool(wrong.any()):
                raise ValueError(
                    f"'weight' must be finite and at least 0 (got {float(weight[wrong][0])})"
                )

    def _reduce(self, loss: Tensor, weight: Tensor) -> Tensor:
        loss = loss * weight
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        total = weight.sum()
        return loss.sum() / total.where(total > 0, torch.ones_like(total))

    def extra_repr(self) -> str:
        shown = (
            ("ignore_index", None),
            ("label_smoothing", 0.0),
            ("gamma", 2.0),
            ("reduction", "mean"),
        )
        parts = [f"{k}={getattr(self, k)!r}" for k, v in shown if getattr(self, k, v) != v]
        return ", ".join(parts)


class BorderWeightedCrossEntropy(_NodeLoss):
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
        super().__init__(ignore_index, reduction)
        check_number(label_smoothing, "label_smoothing", low=0.0, high=1.0)
        self.label_smoothing = label_smoothing

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
                `ignore_index`, a row of logits holds NaN or has no finite maximum, or a weight is
                negative or not finite.
            TypeError: If `target` does not hold integers, or another argument no floats.
        """
        logits, target, weight = self._counted(logits, target, weight)
        smoothing = self.label_smoothing
        loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        return self._reduce(loss, weight)


class FocalLoss(_NodeLoss):
    r"""The focal loss :math:`-(1 - p_t)^\gamma \log p_t` with :math:`p_t` the probability of the
    true class (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4), by
    softmax over the classes.

    Their :math:`\alpha_t` is a `weight` per node, as :class:`pyg_gunet.transforms.BorderWeight`
    gives it by class. `'mean'` divides by the sum of the weights, as in
    :class:`BorderWeightedCrossEntropy`; MONAI's with `use_softmax` divides by the classes, too.

    Args:
        gamma (float): How little an easy node counts, at least 0; 0 is cross-entropy.
            (default: :obj:`2.0`)
        ignore_index (int, optional): Nodes with this label are left out. (default: :obj:`None`)
        reduction (str): `'mean'`, `'sum'` or `'none'`. (default: :obj:`'mean'`)

    Raises:
        ValueError: If `gamma` or `reduction` is out of range.
        TypeError: If `ignore_index` is not an int.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> FocalLoss(reduction="none")(logits, torch.tensor([0, 0]))
        tensor([0.1733, 0.0018])
    """

    def __init__(
        self, gamma: float = 2.0, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(ignore_index, reduction)
        check_number(gamma, "gamma", low=0.0)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of some nodes: as :meth:`BorderWeightedCrossEntropy.forward`."""
        logits, target, weight = self._counted(logits, target, weight)
        true = F.one_hot(target, logits.size(1)).bool()
        every = logits.logsumexp(dim=1)
        # In logarithms: the power of 1 - p has no gradient at p = 1 for a gamma below 1.
        others = logits.masked_fill(true, -torch.inf).logsumexp(dim=1)
        easy = (self.gamma * (others - every)).exp() if self.gamma else torch.ones_like(every)
        cross = F.cross_entropy(logits, target, reduction="none")
        return self._reduce(easy * cross, weight)


class DiceLoss(_NodeLoss):
    r"""One minus the soft Dice coefficient (Milletari et al., "V-Net", 3DV 2016, without squares):
    :math:`1 - \frac{1}{C} \sum_c 2 \sum_n w_n p_{nc} y_{nc} / \sum_n w_n (p_{nc} + y_{nc})`.

    With `batch` it is taken graph by graph, and averaged over the graphs with a node that counts,
    so that a small graph says as much as a large one. A class without a node in a graph's `target`
    is absent there and left out of its mean: what is predicted of it costs the classes that it is
    taken from. MONAI's `DiceLoss(softmax=True)` keeps it, with a loss of 1 and hardly a gradient;
    where all classes occur both are the same.

    Args:
        ignore_index (int, optional): Nodes with this label are left out. (default: :obj:`None`)

    Raises:
        TypeError: If `ignore_index` is not an int.

    Example:
        >>> logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 0.0]])
        >>> DiceLoss()(logits, torch.tensor([0, 0, 1]))
        tensor(0.2223)
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        super().__init__(ignore_index)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        r"""The loss of a graph or of a batch of them.

        Args:
            logits (Tensor): A score per node and class `[N, C]`.
            target (Tensor): The class of each node `[N]`.
            weight (Tensor, optional): The weight of each node `[N]`, as the pixels of a superpixel.
                (default: 1 each)
            batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)

        Returns:
            Tensor: A scalar; zero where no node counts.

        Raises:
            ValueError, TypeError: As :meth:`BorderWeightedCrossEntropy.forward`.
        """
        logits, target, weight = self._counted(logits, target, weight, batch)
        # Sums over many nodes would overflow in 16 bits.
        chance = logits.softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
        weight = weight.to(chance.dtype).unsqueeze(1)
        true = F.one_hot(target, logits.size(1)) * weight
        graphs = 1 if batch is None or not batch.numel() else int(batch[-1]) + 1
        of = torch.zeros_like(target) if batch is None else batch.long()
        both, all_true, all_pred = (
            chance.new_zeros(graphs, logits.size(1)).index_add(0, of, value)
            for value in (chance * true, true, chance * weight)
        )
        there = all_true > 0
        dice = 2 * both / (all_true + all_pred).where(there, torch.ones_like(both))
        loss = (1 - dice).masked_fill(~there, 0.0).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        return loss.sum() / there.any(dim=1).sum().clamp(min=1)
