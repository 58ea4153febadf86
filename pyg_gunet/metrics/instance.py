"""The scores of instances, of boundaries and of superpixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation import IOU_THRESHOLDS, Counts, class_scores
from pyg_gunet.functional.segmentation.boundary import (
    band_counts,
    labelled_graph,
    surface_counts,
)
from pyg_gunet.functional.segmentation.count import check_ignore_index
from pyg_gunet.functional.segmentation.match import (
    Matches,
    check_thresholds,
    jaccard_score,
    match_counts,
    matching_scores,
    ratio,
)
from pyg_gunet.functional.segmentation.score import Absent
from pyg_gunet.functional.segmentation.superpixel import superpixel_counts
from pyg_gunet.metrics.base import Scores
from pyg_gunet.validate import check_bool, check_choice, check_number, check_positive_int


def _add_settings(metric: Scores, *settings: float) -> None:
    # A MetricCollection shares the counts of metrics whose states agree after the first update.
    # What decides about the counts must therefore be part of the state.
    metric.add_state("settings", torch.tensor(settings, dtype=torch.float64), "max")


def _ignored(ignore_index: int | None) -> tuple[float, float]:
    check_ignore_index(ignore_index)
    return float(ignore_index is not None), float(ignore_index or 0)


class InstanceMetrics(Scores):
    r"""All scores of an instance segmentation from one table of overlaps.

    `compute` gives a dictionary of scalars over all instances seen: `panoptic_quality`,
    `segmentation_quality` and `recognition_quality` at an IoU above 0.5, `aggregated_jaccard`,
    `average_precision_<percent>` at each threshold and `average_precision`, their mean. With
    `per_graph` also `graph_<score>`, the mean over the graphs that have the score, as the Data
    Science Bowl averages over images. What the scores mean, and where other packages differ, is
    told in :mod:`pyg_gunet.functional.segmentation.instance`.

    Args:
        thresholds (sequence of float): The IoU to exceed, in [0, 1]. (default: .5, .55, ... .95)
        ignore_index (int, optional): Nodes with this number in `target` are left out.
            (default: :obj:`None`)
        absent (str or int): What a score is that would divide zero by zero: `'skip'` leaves the
            graph out of the mean, and so does `'nan'`; `0` and `1` are its score.
            (default: :obj:`'skip'`)
        per_graph (bool): Whether to give the means over graphs, too. (default: :obj:`False`)
        **kwargs (optional): Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If a threshold or `absent` is out of range.
        TypeError: If an argument is of the wrong type.

    Example:
        >>> metric = InstanceMetrics(thresholds=[0.5, 0.7])
        >>> target = torch.tensor([1, 1, 1, 1, 0, 2, 2, 2])
        >>> metric.update(torch.tensor([7, 7, 7, 0, 0, 9, 9, 0]), target)
        >>> for name, score in metric.compute().items():
        ...     print(f"{name}: {score:.4f}")
        panoptic_quality: 0.7083
        segmentation_quality: 0.7083
        recognition_quality: 1.0000
        aggregated_jaccard: 0.7143
        average_precision: 0.6667
        average_precision_50: 1.0000
        average_precision_70: 0.3333
    """

    tp: Tensor
    iou: Tensor
    totals: Tensor

    def __init__(
        self,
        thresholds: Sequence[float] = IOU_THRESHOLDS,
        ignore_index: int | None = None,
        absent: Absent = "skip",
        *,
        per_graph: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_thresholds(thresholds)
        check_choice(absent, "absent", ("skip", "nan", 0, 1))
        check_bool(per_graph, "per_graph")
        self.thresholds = tuple(float(threshold) for threshold in thresholds)
        self.ignore_index = ignore_index
        self.absent: Absent = absent
        self.per_graph = per_graph
        zero = per_graph and ("skip", "nan", 0, 1).index(absent)
        _add_settings(self, *_ignored(ignore_index), zero, *self.thresholds)
        # The first entry is for the panoptic quality.
        for name in ("tp", "iou"):
            zeros = torch.zeros(1 + len(self.thresholds), dtype=torch.float64)
            self.add_state(name, zeros, "sum")
        self.add_state("totals", torch.zeros(5, dtype=torch.float64), "sum")
        if per_graph:
            self.add_graph_means(len(self._scores(self._counted())))

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        batch: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> None:
        r"""Matches the instances of some graphs; an instance must come in one update.

        Args:
            preds (Tensor): The predicted instance of each node `[N]`, 0 for none.
            target (Tensor): The true instance of each node `[N]`, 0 for none.
            batch (Tensor, optional): The graph of each node `[N]`, sorted; an instance does not
                reach beyond its graph. (default: :obj:`None`)
            node_weight (Tensor, optional): What each node counts `[N]`, as the pixels of a
                superpixel. (default: 1 each)

        Raises:
            ValueError: If shapes differ, an instance is below 0, or a weight is negative or not
                finite.
            TypeError: If instances are not integers.
        """
        thresholds = (0.5, *self.thresholds)
        counts = match_counts(preds, target, thresholds, self.ignore_index, batch, node_weight)
        per_graph = self.graph_means(self._scores(counts).values()) if self.per_graph else {}
        tp, iou, *totals = (count.sum(dim=0) for count in counts)
        self.add(tp=tp, iou=iou, totals=torch.stack(totals), **per_graph)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all instances seen since the last reset: float64 scalars."""
        result = {name: score[0] for name, score in self._scores(self._counted()).items()}
        return result | self.means_of_graphs(result) if self.per_graph else result

    def _counted(self) -> Matches:
        tp, iou, totals = (one.unsqueeze(0) for one in (self.tp, self.iou, self.totals))
        return Matches(tp, iou, *totals.unbind(dim=1))

    def _scores(self, counts: Matches) -> dict[str, Tensor]:
        found = matching_scores(counts, self.absent)
        precision = found.accuracy[:, 1:]
        names = [f"average_precision_{100 * threshold:g}" for threshold in self.thresholds]
        return {
            "panoptic_quality": found.panoptic_quality[:, 0],
            "segmentation_quality": found.mean_matched_score[:, 0],
            "recognition_quality": found.f1[:, 0],
            "aggregated_jaccard": jaccard_score(counts, self.absent),
            "average_precision": precision.mean(dim=1),
            **dict(zip(names, precision.unbind(dim=1), strict=True)),
        }


class BoundaryMetrics(Scores):
    r"""Boundary IoU and surface Dice of a node segmentation, by hops or by edge lengths.

    `compute` gives `boundary_iou` and `surface_dice`, means over classes of
    :func:`pyg_gunet.functional.segmentation.boundary_iou` and its sister over all nodes seen; with
    `per_class` also `boundary_iou_<class>` and `surface_dice_<class>`, and with `per_graph` also
    `graph_<score>`, the mean over graphs of each graph's own mean.

    Args:
        num_classes (int): The number of classes `C`, at least 2.
        distance (float): How far from the boundary a node counts, in hops or in the unit of
            `edge_length`. (default: :obj:`1.0`)
        ignore_index (int, optional): Nodes with this label in `target` are left out.
            (default: :obj:`None`)
        absent (str or int): What a class scores without a boundary: `'skip'` leaves it out of the
            mean, `'nan'` makes the mean NaN, `0` and `1` are its score. (default: :obj:`'skip'`)
        per_class (bool): Whether to give each class's scores. (default: :obj:`False`)
        per_graph (bool): Whether to give the means over graphs, too. (default: :obj:`False`)
        **kwargs (optional): Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong type.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
        >>> metric = BoundaryMetrics(num_classes=2, distance=2)
        >>> target = torch.tensor([0, 0, 0, 1, 1, 1, 1])
        >>> metric.update(torch.tensor([0, 0, 1, 1, 1, 1, 1]), target, path)
        >>> {name: round(float(score), 4) for name, score in metric.compute().items()}
        {'boundary_iou': 0.3333, 'surface_dice': 1.0}
    """

    band: Tensor
    surface: Tensor
    nodes: Tensor

    def __init__(
        self,
        num_classes: int,
        distance: float = 1.0,
        ignore_index: int | None = None,
        absent: Absent = "skip",
        *,
        per_class: bool = False,
        per_graph: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int(num_classes, "num_classes", 2, 2**20)
        check_number(distance, "distance", low=0.0)
        check_choice(absent, "absent", ("skip", "nan", 0, 1))
        check_bool(per_class, "per_class")
        check_bool(per_graph, "per_graph")
        self.num_classes = num_classes
        self.distance = float(distance)
        self.ignore_index = ignore_index
        self.absent: Absent = absent
        self.per_class = per_class
        self.per_graph = per_graph
        zero = per_graph and ("skip", "nan", 0, 1).index(absent)
        _add_settings(self, *_ignored(ignore_index), zero, self.distance)
        self.add_state("band", torch.zeros(3, num_classes + 1, dtype=torch.float64), "sum")
        self.add_state("surface", torch.zeros(2, num_classes, dtype=torch.float64), "sum")
        self.add_state("nodes", torch.zeros((), dtype=torch.float64), "sum")
        if per_graph:
            self.add_graph_means(2)

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_length: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> None:
        r"""Counts what lies near the boundaries of some graphs.

        Args:
            preds (Tensor): Labels `[N]` or logits `[N, C]`.
            target (Tensor): Labels `[N]`.
            edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
            batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)
            edge_length (Tensor, optional): The length of each edge `[E]`. (default: 1 each)
            node_weight (Tensor, optional): What each node counts `[N]`. (default: 1 each)

        Raises:
            ValueError, TypeError, IndexError: As
                :func:`pyg_gunet.functional.segmentation.boundary_iou`.
        """
        options = (self.num_classes, self.ignore_index, batch, edge_length, node_weight)
        graph = labelled_graph(preds, target, edge_index, *options)
        band = torch.stack([count.double() for count in band_counts(graph, self.distance)])
        surface = torch.stack(surface_counts(graph, self.distance))
        per_graph = {}
        if self.per_graph:
            scores = self._scores(band, surface, graph.nodes)
            per_graph = self.graph_means(self._mean(score) for score in scores.values())
        self.add(
            band=band.sum(dim=1), surface=surface.sum(dim=1), nodes=graph.nodes.sum(), **per_graph
        )

    def compute(self) -> dict[str, Tensor]:
        """The scores of all nodes seen since the last reset: float64 scalars."""
        scores = self._scores(self.band, self.surface, self.nodes)
        result = {name: self._mean(score) for name, score in scores.items()}
        if self.per_graph:
            result |= self.means_of_graphs(list(scores))
        if self.per_class:
            for name, score in scores.items():
                result |= {f"{name}_{label}": one for label, one in enumerate(score.unbind())}
        return result

    def _scores(self, band: Tensor, surface: Tensor, nodes: Tensor) -> dict[str, Tensor]:
        """Each score `[*, C]`."""
        iou = class_scores(Counts(*band.unbind()), self.absent)["iou"][..., :-1]
        near, total = surface.unbind()
        some = nodes.unsqueeze(-1) > 0
        return {"boundary_iou": iou, "surface_dice": ratio(near, total, some, self.absent)}

    def _mean(self, score: Tensor) -> Tensor:
        return score.nanmean(dim=-1) if self.absent == "skip" else score.mean(dim=-1)


class SuperpixelMetrics(Scores):
    r"""`undersegmentation_error` (less is better) and `achievable_accuracy` of superpixels over all
    pixels seen, as by the functions of these names; with `per_graph` also `graph_<score>`.

    Args:
        ignore_index (int, optional): Pixels with this number in `target` are left out.
            (default: :obj:`None`)
        per_graph (bool): Whether to give the means over graphs, too. (default: :obj:`False`)
        **kwargs (optional): Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument is of the wrong type.

    Example:
        >>> metric = SuperpixelMetrics()
        >>> target = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> metric.update(torch.tensor([0, 0, 1, 1, 1, 2, 2, 2]), target)
        >>> {name: float(score) for name, score in metric.compute().items()}
        {'undersegmentation_error': 0.25, 'achievable_accuracy': 0.875}
    """

    higher_is_better = None
    names = ("undersegmentation_error", "achievable_accuracy")

    totals: Tensor

    def __init__(
        self, ignore_index: int | None = None, *, per_graph: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_bool(per_graph, "per_graph")
        self.ignore_index = ignore_index
        self.per_graph = per_graph
        _add_settings(self, *_ignored(ignore_index), float(per_graph))
        self.add_state("totals", torch.zeros(3, dtype=torch.float64), "sum")
        if per_graph:
            self.add_graph_means(len(self.names))

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        batch: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> None:
        r"""Counts the pixels of some graphs; a superpixel must come in one update.

        Args:
            preds (Tensor): The superpixel of each pixel `[N]`.
            target (Tensor): The true segment of each pixel `[N]`.
            batch (Tensor, optional): The graph of each pixel `[N]`, sorted. (default: :obj:`None`)
            node_weight (Tensor, optional): What each node counts `[N]`. (default: 1 each)

        Raises:
            ValueError: If shapes differ, or a weight is negative or not finite.
            TypeError: If numbers are not integers.
        """
        counts = torch.stack(
            superpixel_counts(preds, target, self.ignore_index, batch, node_weight)
        )
        per_graph = self.graph_means(counts[:2] / counts[2]) if self.per_graph else {}
        self.add(totals=counts.sum(dim=1), **per_graph)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all pixels seen since the last reset: float64 scalars."""
        scores = (self.totals[:2] / self.totals[2]).unbind()
        result = dict(zip(self.names, scores, strict=True))
        return result | self.means_of_graphs(self.names) if self.per_graph else result
