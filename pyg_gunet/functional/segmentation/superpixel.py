r"""How well superpixels keep to the true segments.

Every number is a segment or a superpixel here, 0 as well. Both scores divide by all nodes: none can
be absent from them, and a graph without a node that counts scores NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.match import over_graphs
from pyg_gunet.functional.segmentation.overlap import overlaps
from pyg_gunet.functional.segmentation.score import Reduction


def superpixel_counts(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes that leak, those that can be right, and all, `[B]`, float64."""
    table = overlaps(preds, target, ignore_index, batch, node_weight, background=None)
    graph = table.pred.graph
    leak = torch.minimum(table.shared, table.pred.size[table.j] - table.shared)
    most = torch.zeros_like(table.pred.size).scatter_reduce_(0, table.j, table.shared, "amax")
    leaks, right = torch.zeros_like(table.nodes), torch.zeros_like(table.nodes)
    leaks.index_add_(0, graph[table.j], leak)
    return leaks, right.index_add_(0, graph, most), table.nodes


def undersegmentation_error(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The share of nodes by which superpixels leak over the borders of segments (Neubert and
    Protzel, "Superpixel Benchmark and Comparison", 2012, equation 2):
    :math:`\frac{1}{N} \sum_{s, p : s \cap p \neq \emptyset} \min(|s \cap p|, |p \setminus s|)`.

    0 is best. The variant of van den Bergh et al. is 1 - :func:`achievable_accuracy`, and that of
    Levinshtein et al., which counts a superpixel whole wherever it touches, is not offered.

    Args:
        preds (Tensor): The superpixel of each pixel `[N]`.
        target (Tensor): The true segment of each pixel `[N]`.
        ignore_index (int, optional): Pixels with this number in `target` are left out.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each pixel `[N]`, sorted. (default: :obj:`None`)
        reduction (str): With `batch`: `'none'` for one score per graph, `'mean'` for their mean.
            (default: :obj:`'none'`)
        node_weight (Tensor, optional): What each node counts `[N]`. (default: 1 each)

    Returns:
        Tensor: A float64 scalar, or `[B]` with `batch`. NaN where no node counts.

    Raises:
        ValueError: If shapes differ, a weight is negative or not finite, or `reduction` is unknown.
        TypeError: If numbers are not integers.

    Example:
        >>> target = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> preds = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
        >>> undersegmentation_error(preds, target), achievable_accuracy(preds, target)
        (tensor(0.2500, dtype=torch.float64), tensor(0.8750, dtype=torch.float64))
    """
    leaks, _, nodes = superpixel_counts(preds, target, ignore_index, batch, node_weight)
    return over_graphs(leaks / nodes, batch, reduction)


def achievable_accuracy(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    *,
    reduction: Reduction = "none",
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The achievable segmentation accuracy: the share of nodes that are right when each superpixel
    gets the segment that most of it lies in, :math:`\frac{1}{N} \sum_p \max_s |s \cap p|` (Liu et
    al., "Entropy Rate Superpixel Segmentation", CVPR 2011, equation 12).

    What no network on these superpixels can exceed. Arguments, result and errors are those of
    :func:`undersegmentation_error`.
    """
    _, right, nodes = superpixel_counts(preds, target, ignore_index, batch, node_weight)
    return over_graphs(right / nodes, batch, reduction)
