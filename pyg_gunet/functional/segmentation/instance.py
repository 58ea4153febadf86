r"""Scores of an instance segmentation from one sparse table of overlaps.

An instance is a number above 0 in one graph, and 0 is no instance. Every score takes the same
arguments and gives them the same meaning as those of classes:

* A node is left out where `target` is `ignore_index`; what was predicted there does not count.
* Each node counts `node_weight`: with the pixels of each superpixel, the score of a superpixel
  graph is that of the label image painted from it.
* A predicted and a true instance match where their IoU **exceeds** the threshold, as in the 2018
  Data Science Bowl and in Kirillov et al.; stardist and panoptica take a tie in. From 0.5 on no
  instance can match two others. Below, the matching has the most pairs, and of these the greatest
  sum of IoU, as stardist's; MONAI takes the greatest sum and drops pairs afterwards.
* A score is *absent* from a graph where it would divide zero by zero: the quality of matched pairs
  where there is none, everything else where nothing is there and nothing is predicted. `'skip'`
  and `'nan'` give NaN, and `0` (stardist's and torchmetrics' convention) and `1` are its score.
* A graph without a node that counts has no score: NaN, whatever `absent`.

With several classes, score the instances of one at a time, which is what a panoptic quality of
classes means: `preds.where(pred_class == c, 0)`, `target.where(target_class == c, 0)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.match import (
    IOU_THRESHOLDS,
    Matching,
    jaccard_score,
    match_counts,
    matching_scores,
    over_graphs,
)
from pyg_gunet.functional.segmentation.overlap import overlaps
from pyg_gunet.functional.segmentation.score import Absent, Reduction
from pyg_gunet.validate import check_number


class PanopticQuality(NamedTuple):
    """The panoptic quality `pq` and its two factors: the segmentation quality `sq`, the mean IoU of
    matched pairs, and the recognition quality `rq`, their F1; each `[*]`.
    """

    pq: Tensor
    sq: Tensor
    rq: Tensor


def matching(
    preds: Tensor,
    target: Tensor,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Matching:
    r"""All scores of matched instances at each threshold, by the names of stardist's `matching`
    (Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018).

    Args:
        preds (Tensor): The predicted instance of each node `[N]`, 0 for none, as by
            :func:`pyg_gunet.functional.border.connected_instances`.
        target (Tensor): The true instance of each node `[N]`, 0 for none.
        thresholds (sequence of float): The IoU to exceed, in [0, 1]. (default: .5, .55, ... .95)
        ignore_index (int, optional): Nodes with this number in `target` are left out.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. An instance does not reach
            beyond its graph, whatever its number. (default: :obj:`None`)
        absent (str or int): What an absent score is: `'skip'`, `'nan'`, `0` or `1`.
            (default: :obj:`'skip'`)
        reduction (str): With `batch`: `'none'` for one score per graph, `'mean'` for their mean.
            (default: :obj:`'none'`)
        node_weight (Tensor, optional): What each node counts `[N]`, as the pixels of a superpixel.
            (default: 1 each)

    Returns:
        Matching: Each score `[T]`, or `[B, T]` with `batch`; float64.

    Raises:
        ValueError: If shapes differ, an instance is below 0, a weight is negative or not finite, or
            an option is out of range.
        TypeError: If instances are not integers.

    Example:
        >>> target = torch.tensor([1, 1, 1, 1, 0, 2, 2, 2])
        >>> preds = torch.tensor([7, 7, 7, 0, 0, 9, 0, 0])
        >>> found = matching(preds, target, thresholds=[0.5, 0.75])
        >>> found.tp, found.accuracy
        (tensor([1., 0.], dtype=torch.float64), tensor([0.3333, 0.0000], dtype=torch.float64))
    """
    counts = match_counts(preds, target, thresholds, ignore_index, batch, node_weight)
    scores = matching_scores(counts, absent)
    return Matching(*(over_graphs(score, batch, reduction) for score in scores))


def average_precision(
    preds: Tensor,
    target: Tensor,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The mean over thresholds of TP / (TP + FP + FN), the score of the 2018 Data Science Bowl
    (Caicedo et al., "Nucleus segmentation across imaging experiments", Nature Methods 2019); it
    averages over images by `reduction='mean'`.

    It is not the area under a precision-recall curve that COCO calls so: there are no confidences.
    Arguments and errors are those of :func:`matching`.

    Returns:
        Tensor: A float64 scalar, or `[B]` with `batch`.

    Example:
        >>> target = torch.tensor([1, 1, 1, 1, 0, 2, 2, 2])
        >>> preds = torch.tensor([7, 7, 7, 0, 0, 9, 9, 9])
        >>> average_precision(preds, target)
        tensor(0.6667, dtype=torch.float64)
    """
    counts = match_counts(preds, target, thresholds, ignore_index, batch, node_weight)
    accuracy = matching_scores(counts, absent).accuracy
    return over_graphs(accuracy.mean(dim=-1), batch, reduction)


def panoptic_quality(
    preds: Tensor,
    target: Tensor,
    threshold: float = 0.5,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> PanopticQuality:
    r"""The panoptic quality of instances and its two factors (Kirillov et al., "Panoptic
    Segmentation", CVPR 2019, equation 1):
    :math:`\mathrm{PQ} = \sum_{TP} \mathrm{IoU} / (TP + FP / 2 + FN / 2)
    = \mathrm{SQ} \cdot \mathrm{RQ}`.

    Where instances are there and none matches, `pq` and `rq` are 0 and `sq` is absent: the mean of
    no IoU. torchmetrics and MONAI put 0 there; the panoptic quality is the same. Nodes to ignore
    are left out everywhere; torchmetrics also forgives an unmatched predicted instance that lies
    mostly on them. Other arguments and errors are those of :func:`matching`.

    Args:
        threshold (float): The IoU to exceed. (default: :obj:`0.5`)

    Returns:
        PanopticQuality: Float64 scalars, or `[B]` with `batch`.

    Example:
        >>> target = torch.tensor([1, 1, 1, 1, 0, 2, 2, 2])
        >>> preds = torch.tensor([7, 7, 7, 0, 0, 9, 0, 0])
        >>> pq, sq, rq = panoptic_quality(preds, target)
        >>> print(f"{pq:.3f} = {sq:.3f} * {rq:.3f}")
        0.375 = 0.750 * 0.500
    """
    check_number(threshold, "threshold", low=0.0, high=1.0)
    found = matching(
        preds,
        target,
        (threshold,),
        ignore_index,
        batch,
        absent,
        reduction=reduction,
        node_weight=node_weight,
    )
    return PanopticQuality(
        found.panoptic_quality[..., 0], found.mean_matched_score[..., 0], found.f1[..., 0]
    )


def aggregated_jaccard(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The aggregated Jaccard index (Kumar et al., "A Dataset and a Technique for Generalized
    Nuclear Segmentation for Computational Pathology", IEEE TMI 2017, algorithm 1): the sum of the
    intersections of each true instance with the predicted one of largest IoU, over the sum of their
    unions and of the predicted instances that no true one chose.

    Several true instances may choose one predicted instance; of several with equal IoU the least
    number is chosen. Arguments and errors are those of :func:`matching`.

    Returns:
        Tensor: A float64 scalar, or `[B]` with `batch`.

    Example:
        >>> target = torch.tensor([1, 1, 1, 1, 0, 2, 2, 2])
        >>> preds = torch.tensor([7, 7, 7, 0, 8, 9, 0, 0])
        >>> aggregated_jaccard(preds, target)  # (3 + 1) / (4 + 3 + 1)
        tensor(0.5000, dtype=torch.float64)
    """
    counts = match_counts(preds, target, (0.5,), ignore_index, batch, node_weight)
    return over_graphs(jaccard_score(counts, absent), batch, reduction)


def instances_found(
    preds: Tensor,
    target: Tensor,
    threshold: float = 0.5,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""Whether each true instance comes out as an instance of its own: some predicted one overlaps
    it with an intersection over union above `threshold`.

    From 0.5 on, no instance can match two others: what is merged or split is not found.

    Args:
        preds (Tensor): The predicted instance of each node `[N]`, 0 for none.
        target (Tensor): The true instance of each node `[N]`, 0 for none.
        threshold (float): Overlap to exceed, in [0.5, 1]. (default: :obj:`0.5`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)
        node_weight (Tensor, optional): What each node counts `[N]`. (default: 1 each)

    Returns:
        Tensor: One bool per true instance, in the order of graphs and of their numbers.

    Raises:
        ValueError: If the lengths differ or an argument is out of range.
        TypeError: If instances are not integers.

    Example:
        >>> target = torch.tensor([1, 1, 0, 2, 2, 2, 3])
        >>> preds = torch.tensor([4, 4, 0, 5, 5, 0, 0])
        >>> instances_found(preds, target)
        tensor([ True,  True, False])
    """
    check_number(threshold, "threshold", low=0.5, high=1.0)
    table = overlaps(preds, target, None, batch, node_weight)
    found = torch.zeros_like(table.true.label, dtype=torch.bool)
    found[table.i[table.shared / table.union > threshold]] = True
    return found
