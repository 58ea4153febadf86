"""The scores of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix

from pyg_gunet.functional.segmentation import (
    class_scores,
    confusion_matrix,
    counts_of,
    label_counts,
    scores,
)
from pyg_gunet.functional.segmentation.count import check_ignore_index
from pyg_gunet.functional.segmentation.score import Absent
from pyg_gunet.metrics.base import Scores
from pyg_gunet.validate import (
    check_batch,
    check_choice,
    check_memory,
    check_positive_int,
    outermost,
)


class SegmentationMetrics(Scores):
    r"""All scores of a node segmentation from one confusion matrix and one update.

    `compute` gives a dictionary of scalars: `pixel_accuracy`, `mean_accuracy`, `mean_iou`,
    `frequency_weighted_iou` (Long et al., "Fully Convolutional Networks for Semantic
    Segmentation", 2015) and `macro_f1`, over all nodes seen; with `per_class` also `iou_<class>`
    and `accuracy_<class>`; with `per_graph` also `graph_<score>`, the mean over the graphs seen of
    each graph's own score. It fits `log_dict`.

    The counts are summed over devices, and whole numbers up to 2^53 are exact: what `compute`
    returns does not depend on how the nodes were split into updates or processes. Images come by
    :func:`pyg_gunet.functional.segmentation.image_nodes`: `update(*image_nodes(preds, target))`.

    `ignore_index` leaves nodes out by their true label. A class of that number that is predicted
    elsewhere is wrong there, and as a class that was predicted it has an IoU of 0; torchmetrics
    takes the class out of the mean. For their mean IoU average `iou_<class>` without it.

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

    confusion: Tensor

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
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.float64)
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
            self.add_graph_means(len(scores(counts_of(zeros))))

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        batch: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> None:
        r"""Counts some nodes.

        Args:
            preds (Tensor): Labels `[N]` or logits `[N, C]`.
            target (Tensor): Labels `[N]`.
            batch (Tensor, optional): The graph of each node `[N]`, sorted; only the scores per
                graph need it, and without it they take the nodes for one graph.
                (default: :obj:`None`)
            node_weight (Tensor, optional): What each node counts `[N]`, as the pixels of a
                superpixel. (default: 1 each)

        Raises:
            ValueError: If a label lies outside `[0, num_classes)` and is not `ignore_index`, a
                logit is NaN, a weight is negative or not finite, or the lengths differ.
            TypeError: If labels are not integers.
        """
        options = (self.num_classes, self.ignore_index)
        counts = {"confusion": confusion_matrix(preds, target, *options, None, node_weight)}
        if self.per_graph:
            if batch is None:
                batch = torch.zeros_like(target, dtype=torch.int64)
            per_graph = label_counts(preds, target, *options, batch, node_weight)
            counts |= self.graph_means(scores(per_graph, self.absent).values())
        elif batch is not None:
            with outermost() as values:
                check_batch(batch, target.size(0), values, "target")
        self.add(**counts)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all nodes seen since the last reset: float64 scalars."""
        counts = counts_of(self.confusion)
        result = scores(counts, self.absent)
        if self.per_graph:
            result |= self.means_of_graphs(result)
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
        whole = val.long()
        val = whole if bool((whole == val).all()) else val  # 3, not 3.0
        kwargs.setdefault("add_text", self.num_classes <= 10)
        kwargs.setdefault("labels", self._names())
        return plot_confusion_matrix(val, ax=ax, **kwargs)

    def _names(self) -> list[str]:
        return self.class_names or [str(label) for label in range(self.num_classes)]
