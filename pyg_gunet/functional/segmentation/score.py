r"""Scores of a node segmentation from one confusion matrix.

With :math:`n_{ij}` the number of nodes of class :math:`i` predicted as :math:`j`,
:math:`t_i = \sum_j n_{ij}` the nodes of class :math:`i` and :math:`p_i = \sum_j n_{ji}` the nodes
predicted as :math:`i` (Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015, section 5).

Every score takes the same arguments and gives them the same meaning:

* A node is left out where `target` is `ignore_index`; what was predicted there does not count. A
  class of that number may still be predicted elsewhere: it is wrong there, and has an IoU of 0.
  torchmetrics leaves the class itself out of the mean; :func:`class_iou` shows how to do so.
* A class is *absent* from a score when it does not occur in what the score divides by: from the
  accuracy of a class without a node in `target`, from its IoU and F1 without a node in `target`
  and `preds`. `absent` says what an absent class scores: `'skip'` leaves it out of the mean (NaN
  per class), `'nan'` makes it and the mean NaN, and `0` and `1` are its score.
* No counted node, no score: NaN, whatever `absent`.
* With `batch` there is one score per graph; `reduction='mean'` averages them over the graphs that
  have one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import Counts, label_counts
from pyg_gunet.validate import check_choice

Absent = Literal["skip", "nan", 0, 1]
Reduction = Literal["none", "mean"]


def class_scores(counts: Counts, absent: Absent = "skip") -> dict[str, Tensor]:
    """`accuracy`, `iou` and `f1` of each class, `[*, C]` of dtype float64.

    Args:
        counts (Counts): The nodes of each class that are hit, true and predicted, `[*, C]`.
        absent (str or int): What an absent class scores; `'skip'` and `'nan'` both mean NaN here.
            (default: :obj:`'skip'`)

    Raises:
        ValueError: For an unknown `absent`.
    """
    check_choice(absent, "absent", ("skip", "nan", 0, 1))
    hit, true, pred = (count.double() for count in counts)
    ratios = {
        "accuracy": hit / true,
        "iou": hit / (true + pred - hit),
        "f1": 2 * hit / (true + pred),
    }
    if isinstance(absent, str):
        return ratios
    # Zero by zero is the only NaN here: the class is absent. Without any node nothing is scored.
    some = counts.true.sum(-1, keepdim=True) > 0
    return {name: ratio.masked_fill(ratio.isnan() & some, absent) for name, ratio in ratios.items()}


def scores(counts: Counts, absent: Absent = "skip") -> dict[str, Tensor]:
    """All scores of one segmentation, or of each graph's: `pixel_accuracy`, `mean_accuracy`,
    `mean_iou`, `frequency_weighted_iou` and `macro_f1`.

    Args:
        counts (Counts): The nodes of each class that are hit, true and predicted, `[*, C]`.
        absent (str or int): What an absent class scores. (default: :obj:`'skip'`)

    Returns:
        dict[str, Tensor]: float64, of shape `[*]`.

    Raises:
        ValueError: For an unknown `absent`.
    """
    per_class = class_scores(counts, absent)
    total = counts.true.sum(-1).double()
    mean = torch.nanmean if absent == "skip" else torch.mean
    return {
        "pixel_accuracy": counts.hit.sum(-1) / total,
        "mean_accuracy": mean(per_class["accuracy"], dim=-1),
        "mean_iou": mean(per_class["iou"], dim=-1),
        # An absent class has weight zero, which NaN would undo.
        "frequency_weighted_iou": (counts.true * per_class["iou"].nan_to_num(0.0)).sum(-1) / total,
        "macro_f1": mean(per_class["f1"], dim=-1),
    }


def pixel_accuracy(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The share of nodes that are right, :math:`\sum_i n_{ii} / \sum_i t_i`.

    It divides by all nodes together, so that no class can be absent from it: `absent` is taken for
    the sake of one signature.

    Args:
        preds (Tensor): Labels `[N]` or logits `[N, C]`.
        target (Tensor): Labels `[N]`.
        num_classes (int): The number of classes `C`, at least 2.
        ignore_index (int, optional): Nodes with this label in `target` are left out.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)
        absent (str or int): What an absent class scores: `'skip'`, `'nan'`, `0` or `1`.
            (default: :obj:`'skip'`)
        reduction (str): With `batch`: `'none'` for one score per graph, `'mean'` for their mean.
            (default: :obj:`'none'`)
        node_weight (Tensor, optional): What each node counts `[N]`, as the pixels of a superpixel.
            (default: 1 each)

    Returns:
        Tensor: A float64 scalar, or `[B]` with `batch`. NaN where no node counts.

    Raises:
        ValueError: As :func:`confusion_matrix`, and for an unknown `absent` or `reduction`.
        TypeError: If labels are not integers.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2])
        >>> target = torch.tensor([0, 1, 1, 2])
        >>> pixel_accuracy(preds, target, num_classes=3)
        tensor(0.7500, dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("pixel_accuracy", preds, target, num_classes, *options)


def mean_accuracy(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The mean over classes of the share of their nodes that are right, :math:`n_{ii} / t_i`.

    Arguments, result and errors are those of :func:`pixel_accuracy`.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2])
        >>> target = torch.tensor([0, 1, 1, 2])
        >>> mean_accuracy(preds, target, num_classes=3)
        tensor(0.8333, dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("mean_accuracy", preds, target, num_classes, *options)


def mean_iou(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The mean over classes of the intersection over union, :math:`n_{ii} / (t_i + p_i - n_{ii})`.

    Arguments, result and errors are those of :func:`pixel_accuracy`.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2])
        >>> target = torch.tensor([0, 1, 1, 2])
        >>> mean_iou(preds, target, num_classes=3)
        tensor(0.6667, dtype=torch.float64)
        >>> mean_iou(preds, target, num_classes=3, batch=torch.tensor([0, 0, 1, 1]))
        tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("mean_iou", preds, target, num_classes, *options)


def frequency_weighted_iou(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The IoU of the classes weighted by their share of nodes,
    :math:`\sum_i t_i \, \mathrm{IoU}_i / \sum_i t_i`.

    A class without a node in `target` has weight zero: an absent one changes nothing, whatever
    `absent`. Arguments, result and errors are those of :func:`pixel_accuracy`.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2])
        >>> target = torch.tensor([0, 1, 1, 2])
        >>> frequency_weighted_iou(preds, target, num_classes=3)
        tensor(0.6250, dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("frequency_weighted_iou", preds, target, num_classes, *options)


def macro_f1(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The mean over classes of :math:`2 n_{ii} / (t_i + p_i)`, the score of the superpixel tasks
    of Dwivedi et al., "Long Range Graph Benchmark", NeurIPS 2022.

    Arguments, result and errors are those of :func:`pixel_accuracy`.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2])
        >>> target = torch.tensor([0, 1, 1, 2])
        >>> macro_f1(preds, target, num_classes=3)
        tensor(0.7778, dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("macro_f1", preds, target, num_classes, *options)


def class_accuracy(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The share of each class's nodes that are right, :math:`n_{ii} / t_i`.

    Arguments and errors are those of :func:`pixel_accuracy`.

    Returns:
        Tensor: `[C]` of dtype float64, or `[B, C]` with `batch`; NaN for an absent class unless
        `absent` is a number.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 0])
        >>> target = torch.tensor([0, 1, 1, 0])
        >>> class_accuracy(preds, target, num_classes=3)
        tensor([1.0000, 0.5000,    nan], dtype=torch.float64)
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("class_accuracy", preds, target, num_classes, *options)


def class_iou(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The intersection over union of each class, :math:`n_{ii} / (t_i + p_i - n_{ii})`.

    Arguments and errors are those of :func:`pixel_accuracy`, the result is as that of
    :func:`class_accuracy`.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 0])
        >>> target = torch.tensor([0, 1, 1, 0])
        >>> class_iou(preds, target, num_classes=3, absent=1)
        tensor([0.6667, 0.5000, 1.0000], dtype=torch.float64)

        The mean IoU with the nodes of class 2 left out, and torchmetrics', without class 2 itself:

        >>> preds, target = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 1, 1, 0])
        >>> iou = class_iou(preds, target, num_classes=3, ignore_index=2)
        >>> iou.nanmean(), iou[:2].nanmean()
        (tensor(0.3333, dtype=torch.float64), tensor(0.5000, dtype=torch.float64))
    """
    options = (ignore_index, batch, absent, reduction, node_weight)
    return _score("class_iou", preds, target, num_classes, *options)


def _score(
    name: str,
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None,
    batch: Tensor | None,
    absent: Absent,
    reduction: Reduction,
    node_weight: Tensor | None,
) -> Tensor:
    check_choice(absent, "absent", ("skip", "nan", 0, 1))
    check_choice(reduction, "reduction", ("none", "mean"))
    counts = label_counts(preds, target, num_classes, ignore_index, batch, node_weight)
    if name.startswith("class_"):
        score = class_scores(counts, absent)[name.removeprefix("class_")]
    else:
        score = scores(counts, absent)[name]
    return score.nanmean(dim=0) if batch is not None and reduction == "mean" else score
