"""Torchmetrics classes on :mod:`pyg_gunet.functional.segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.plot import plot_confusion_matrix

from pyg_gunet.functional.segmentation import (
    class_scores,
    confusion_matrix,
    counts_of,
    label_counts,
    part_iou,
    scores,
)
from pyg_gunet.functional.segmentation.count import check_ignore_index
from pyg_gunet.functional.segmentation.part import check_parts
from pyg_gunet.functional.segmentation.score import Absent
from pyg_gunet.validate import check_choice, check_memory, check_positive_int


class SegmentationMetrics(Metric):
    r"""All scores of a node segmentation from one confusion matrix and one update.

    `compute` gives a dictionary of scalars: `pixel_accuracy`, `mean_accuracy`, `mean_iou`,
    `frequency_weighted_iou` (Long et al., "Fully Convolutional Networks for Semantic
    Segmentation", 2015) and `macro_f1`, over all nodes seen; with `per_class` also `iou_<class>`
    and `accuracy_<class>`; with `per_graph` also `graph_<score>`, the mean over the graphs seen of
    each graph's own score. It fits `log_dict`.

    The counts are int64 and are summed over devices: what `compute` returns does not depend on how
    the nodes were split into updates or processes.

    Args:
        num_classes (int): The number of classes `C`, at least 2.
        ignore_index (int, optional): Nodes with this label in `target` are left out.
            (default: :obj:`None`)
        absent (str or int): What a class scores that does not occur in what the score divides by:
            `'skip'` leaves it out of the mean, `'nan'` makes the mean NaN, `0` and `1` are its
            score. (default: :obj:`'skip'`)
        per_class (bool): Whether to give each class's IoU and accuracy. (default: :obj:`False`)
        per_graph (bool): Whether to give the means over graphs, too. (default: :obj:`False`)
        class_names (sequence of str, optional): Names of the classes for the keys and the plot,
            instead of their numbers. (default: :obj:`None`)
        **kwargs (optional): Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If `num_classes` is below 2, `absent` is unknown, or the names do not fit.
        TypeError: If an argument is of the wrong type.

    Example:
        >>> metric = SegmentationMetrics(num_classes=3)
        >>> metric.update(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2]))
        >>> for name, score in metric.compute().items():
        ...     print(f"{name}: {score:.4f}")
        pixel_accuracy: 0.7500
        mean_accuracy: 0.8333
        mean_iou: 0.6667
        frequency_weighted_iou: 0.6250
        macro_f1: 0.7778
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    confusion: Tensor
    graph_sums: Tensor
    graph_counts: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int | None = None,
        absent: Absent = "skip",
        *,
        per_class: bool = False,
        per_graph: bool = False,
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int(num_classes, "num_classes", minimum=2)
        check_memory(8 * num_classes**2, "num_classes", num_classes)
        check_choice(absent, "absent", ("skip", "nan", 0, 1))
        check_choice(per_class, "per_class", (True, False))
        check_choice(per_graph, "per_graph", (True, False))
        check_ignore_index(ignore_index)
        if class_names is not None and not isinstance(class_names, (list, tuple)):
            raise TypeError(f"'class_names' must be a list of str (got {class_names!r})")
        if class_names is not None and len(set(class_names)) != num_classes:
            raise ValueError(
                f"'class_names' must be {num_classes} different names (got {class_names!r})"
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent: Absent = absent
        self.per_class = per_class
        self.per_graph = per_graph
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")
        # A MetricCollection shares the counts of metrics whose states agree after the first update.
        # What decides about the counts must therefore be part of the state.
        settings = [
            ignore_index is not None,
            ignore_index or 0,
            per_graph and ("skip", "nan", 0, 1).index(absent),
        ]
        self.add_state("settings", torch.tensor(settings, dtype=torch.int64), "max")
        if per_graph:
            kinds = len(scores(counts_of(zeros)))
            self.add_state("graph_sums", torch.zeros(kinds, dtype=torch.float64), "sum")
            self.add_state("graph_counts", torch.zeros(kinds, dtype=torch.int64), "sum")

    def update(self, preds: Tensor, target: Tensor, batch: Tensor | None = None) -> None:
        r"""Counts some nodes.

        Args:
            preds (Tensor): Labels `[N]` or logits `[N, C]`.
            target (Tensor): Labels `[N]`.
            batch (Tensor, optional): The graph of each node `[N]`, sorted; only the scores per
                graph need it, and without it they take the nodes for one graph.
                (default: :obj:`None`)

        Raises:
            ValueError: If a label lies outside `[0, num_classes)` and is not `ignore_index`, a
                logit is NaN, or the lengths differ.
            TypeError: If labels are not integers.
        """
        self.confusion += confusion_matrix(preds, target, self.num_classes, self.ignore_index)
        if self.per_graph:
            if batch is None:
                batch = torch.zeros_like(target, dtype=torch.int64)
            counts = label_counts(preds, target, self.num_classes, self.ignore_index, batch)
            values = torch.stack(list(scores(counts, self.absent).values()))
            self.graph_sums += values.nansum(dim=-1)
            self.graph_counts += (~values.isnan()).sum(dim=-1)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all nodes seen since the last reset: float64 scalars."""
        counts = counts_of(self.confusion)
        result = scores(counts, self.absent)
        kinds = list(result)
        if self.per_graph:
            means = (self.graph_sums / self.graph_counts).unbind()
            result.update({f"graph_{name}": mean for name, mean in zip(kinds, means, strict=True)})
        if self.per_class:
            values = class_scores(counts, self.absent)
            for kind in ("iou", "accuracy"):
                for name, value in zip(self._names(), values[kind].unbind(), strict=True):
                    result[f"{kind}_{name}"] = value
        return result

    def plot(self, val: Tensor | None = None, ax: Any = None, **kwargs: Any) -> Any:
        r"""Draws the confusion matrix. Needs matplotlib.

        Args:
            val (Tensor, optional): A confusion matrix `[C, C]` to draw instead of the one counted
                so far, over all processes. (default: :obj:`None`)
            ax (matplotlib.axes.Axes, optional): Where to draw. (default: a new figure)
            **kwargs (optional): `add_text`, `labels` and `cmap` of torchmetrics'
                `plot_confusion_matrix`. Numbers are written by themselves up to ten classes.

        Returns:
            tuple: The figure and its axes.

        Raises:
            ValueError: If `val` is not of shape `[C, C]`.
        """
        if val is None:
            with self.sync_context(
                dist_sync_fn=self.dist_sync_fn,
                should_sync=self._to_sync,
                should_unsync=self._should_unsync,
            ):
                val = self.confusion.clone()
        if val.shape != self.confusion.shape:
            raise ValueError(
                f"'val' must have shape {list(self.confusion.shape)} (got {list(val.shape)})"
            )
        kwargs.setdefault("add_text", self.num_classes <= 10)
        kwargs.setdefault("labels", self._names())
        return plot_confusion_matrix(val, ax=ax, **kwargs)

    def _names(self) -> list[str]:
        return self.class_names or [str(label) for label in range(self.num_classes)]


class PartIoU(Metric):
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

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

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
        self.sums.index_add_(0, category, per_shape[scored])
        self.shapes.index_add_(0, category, torch.ones_like(category))

    def compute(self) -> dict[str, Tensor]:
        """The scores of all shapes seen since the last reset: float64 scalars."""
        return {
            "instance_iou": self.sums.sum() / self.shapes.sum(),
            "category_iou": (self.sums / self.shapes).nanmean(),
        }
