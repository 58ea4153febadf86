"""Matching of true and predicted instances, counted so that graphs and updates add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from pyg_gunet.functional.segmentation.overlap import Overlaps, overlaps
from pyg_gunet.functional.segmentation.score import Absent, Reduction
from pyg_gunet.validate import check_choice, check_number

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


class Matches(NamedTuple):
    """What every score of instances is made of, summable over graphs; float64.

    `tp` and `iou` `[B, T]` are the number of matched pairs and the sum of their IoU at each
    threshold, `n_true` and `n_pred` `[B]` the instances, `shared` and `union` `[B]` the two sums of
    the aggregated Jaccard index, and `nodes` `[B]` what was counted; `B` is 1 without a batch.
    """

    tp: Tensor
    iou: Tensor
    n_true: Tensor
    n_pred: Tensor
    shared: Tensor
    union: Tensor
    nodes: Tensor


class Matching(NamedTuple):
    """The scores of matched instances at each threshold, `[*, T]`, by the names of stardist's
    `matching`: `accuracy` is the average precision of the Data Science Bowl, `mean_matched_score`
    the mean IoU of matched pairs, and `mean_true_score` their sum over all true instances.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    precision: Tensor
    recall: Tensor
    accuracy: Tensor
    f1: Tensor
    mean_true_score: Tensor
    mean_matched_score: Tensor
    panoptic_quality: Tensor


def match_counts(
    preds: Tensor,
    target: Tensor,
    thresholds: Sequence[float],
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Matches:
    """Matches the instances of a segmentation; arguments and errors are those of
    :func:`pyg_gunet.functional.segmentation.matching`.
    """
    check_thresholds(thresholds)
    table = overlaps(preds, target, ignore_index, batch, node_weight)
    graph = table.true.graph
    iou = table.shared / table.union
    level = iou.new_tensor(list(thresholds))
    hit = iou.unsqueeze(-1) > level
    for at in (level < 0.5).nonzero().view(-1).tolist():
        hit[:, at] = _assigned(table, iou, hit[:, at])
    graphs = table.nodes.numel()
    tp, total = iou.new_zeros(2, graphs, len(level)).unbind()
    tp.index_add_(0, graph[table.i], hit.double())
    total.index_add_(0, graph[table.i], hit * iou.unsqueeze(-1))
    # Aggregated Jaccard: the best predicted instance of each true one, and what nobody chose.
    best = iou.new_zeros(graph.numel()).scatter_reduce_(0, table.i, iou, "amax")
    # Pairs come in the order of the predicted numbers: the first of the best is the least.
    at = (iou == best[table.i]).nonzero().view(-1)
    first = torch.full_like(graph, iou.numel()).scatter_reduce_(0, table.i[at], at, "amin")
    found = first < iou.numel()
    chosen = first[found]
    alone = torch.ones_like(table.pred.label, dtype=torch.bool)
    alone[table.j[chosen]] = False
    shared, union = iou.new_zeros(2, graphs).unbind()
    shared.index_add_(0, graph[found], table.shared[chosen])
    union.index_add_(0, graph[found], table.union[chosen])
    union.index_add_(0, graph[~found], table.true.size[~found])
    union.index_add_(0, table.pred.graph[alone], table.pred.size[alone])
    n_true, n_pred = (
        torch.bincount(regions.graph, minlength=graphs).double()
        for regions in (table.true, table.pred)
    )
    return Matches(tp, total, n_true, n_pred, shared, union, table.nodes)


def _assigned(table: Overlaps, iou: Tensor, allowed: Tensor) -> Tensor:
    """The pairs of the matching with the most pairs and then the most IoU, among those allowed."""
    pair = allowed.nonzero().view(-1)
    result = torch.zeros_like(allowed)
    if not pair.numel():
        return result
    i, row = table.i[pair].unique(return_inverse=True)
    j, col = table.j[pair].unique(return_inverse=True)
    # Each true instance has a column of its own for no match, so that a full matching exists. A
    # pair is worth more than all the IoU there can be; one more than that keeps costs above zero.
    worth = 1 + iou[pair] / (2 * i.numel())
    own = torch.arange(i.numel(), device=i.device)
    cost = torch.cat([2 - worth, torch.full_like(own, 2, dtype=worth.dtype)])
    rows, cols = torch.cat([row, own]), torch.cat([col, own + j.numel()])
    graph = csr_array(
        (cost.cpu().numpy(), tuple(at.cpu().numpy().astype(np.int32) for at in (rows, cols))),
        shape=(i.numel(), j.numel() + i.numel()),
    )
    matched = torch.from_numpy(min_weight_full_bipartite_matching(graph)[1]).to(col)
    result[pair] = matched[row] == col
    return result


def check_thresholds(thresholds: Sequence[float]) -> None:
    """At least one IoU in [0, 1)."""
    if isinstance(thresholds, str) or not isinstance(thresholds, Sequence):
        raise TypeError(f"'thresholds' must be a sequence of numbers (got {thresholds!r:.80})")
    if not len(thresholds):
        raise ValueError(f"'thresholds' must hold at least one IoU (got {thresholds!r})")
    for threshold in thresholds:
        check_number(threshold, "thresholds", low=0.0, high=1.0)


def matching_scores(counts: Matches, absent: Absent = "skip") -> Matching:
    """The scores that follow from the counts.

    Raises:
        ValueError: For an unknown `absent`.
    """
    tp, iou = counts.tp, counts.iou
    n_true, n_pred = counts.n_true.unsqueeze(-1), counts.n_pred.unsqueeze(-1)
    fp, fn = n_pred - tp, n_true - tp
    ratios = (
        (tp, n_pred),
        (tp, n_true),
        (tp, tp + fp + fn),
        (2 * tp, n_true + n_pred),
        (iou, n_true),
        (iou, tp),
        (2 * iou, n_true + n_pred),
    )
    some = counts.nodes.unsqueeze(-1) > 0
    return Matching(tp, fp, fn, *(ratio(top, below, some, absent) for top, below in ratios))


def ratio(top: Tensor, below: Tensor, some: Tensor, absent: Absent) -> Tensor:
    """`top / below`, where zero by zero is `absent`, and NaN where nothing was counted."""
    check_choice(absent, "absent", ("skip", "nan", 0, 1))
    value = top / below
    if isinstance(absent, str):
        return value
    return value.masked_fill((below == 0) & some, absent)


def jaccard_score(counts: Matches, absent: Absent = "skip") -> Tensor:
    """The aggregated Jaccard index that follows from the counts, `[*]`."""
    return ratio(counts.shared, counts.union, counts.nodes > 0, absent)


def over_graphs(score: Tensor, batch: Tensor | None, reduction: Reduction) -> Tensor:
    """Of scores `[B, *]` the only one without a batch, all, or the mean of those that are there."""
    check_choice(reduction, "reduction", ("none", "mean"))
    if batch is None:
        return score[0]
    return score.nanmean(dim=0) if reduction == "mean" else score
