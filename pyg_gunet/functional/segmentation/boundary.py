r"""Scores of the boundaries between classes, by hops or by edge lengths.

The boundary of a class runs where a node of it has a neighbour of another class; edges count in
both directions. The rim of an image is no boundary, as nothing lies beyond it: Cheng et al. and
MONAI take it for one. An ignored node is left out with its edges. Classes, graphs and what is
absent mean what they mean in :mod:`pyg_gunet.functional.segmentation.score`: a class without a
boundary in `target` and in `preds` is absent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import (
    Counts,
    label_counts,
    predicted,
)
from pyg_gunet.functional.segmentation.match import over_graphs, ratio
from pyg_gunet.functional.segmentation.score import Absent, Reduction, class_scores
from pyg_gunet.validate import (
    check_edge_index,
    check_edge_weight,
    check_number,
    check_same_device,
    outermost,
)

_OUT = -1


class LabelledGraph(NamedTuple):
    """Two labellings of a graph, its edges without those of ignored nodes, which count in both
    directions; `nodes` `[B]` is what counts in each graph.
    """

    pred: Tensor
    true: Tensor
    row: Tensor
    col: Tensor
    length: Tensor
    batch: Tensor | None
    weight: Tensor
    nodes: Tensor
    num_classes: int


def labelled_graph(
    preds: Tensor,
    target: Tensor,
    edge_index: Tensor,
    num_classes: int,
    ignore_index: int | None,
    batch: Tensor | None,
    edge_length: Tensor | None,
    node_weight: Tensor | None,
) -> LabelledGraph:
    """Checks the arguments of :func:`boundary_iou`, whose errors are raised."""
    counts = label_counts(preds, target, num_classes, ignore_index, batch, node_weight)
    with outermost() as values:
        check_edge_index(edge_index, target.numel(), values, of="target")
        check_edge_weight(edge_length, edge_index.size(1), values, name="edge_length")
        check_same_device(target, "target", edge_index=edge_index, edge_length=edge_length)
        if values and edge_length is not None and bool((edge_length < 0).any()):
            raise ValueError(f"'edge_length' must be at least 0 (got {float(edge_length.min())})")
    pred, true = predicted(preds, 0, False), target.long()
    row, col = edge_index.long()
    length = edge_length
    if length is None:
        length = torch.ones((), dtype=torch.float64, device=row.device).expand(row.numel())
    if ignore_index is not None:
        skip = true == ignore_index
        true, pred = true.masked_fill(skip, _OUT), pred.masked_fill(skip, _OUT)
        inside = ~(skip[row] | skip[col])
        row, col, length = row[inside], col[inside], length[inside]
    return LabelledGraph(
        pred,
        true,
        row,
        col,
        length.detach().double(),
        batch,
        torch.ones_like(true).double() if node_weight is None else node_weight.double(),
        counts.true.double().view(-1, num_classes).sum(-1),
        num_classes,
    )


def band_counts(graph: LabelledGraph, distance: float) -> Counts:
    """The nodes near a boundary, `[B, C + 1]`: the last of what is near none."""
    near = [_band(graph, label, distance) for label in (graph.pred, graph.true)]
    options = (graph.num_classes + 1, _OUT, graph.batch, graph.weight)
    counts = label_counts(near[0], near[1], *options)
    return Counts(*(count.view(-1, graph.num_classes + 1) for count in counts))


def surface_counts(graph: LabelledGraph, distance: float) -> tuple[Tensor, Tensor]:
    """The nodes on a boundary, of both labellings together, that lie near the other's, and all of
    them: `[B, C]`.
    """
    sides = [(label, _surface(graph, label)) for label in (graph.true, graph.pred)]
    cells = graph.nodes.numel() * graph.num_classes
    near, surface = graph.weight.new_zeros(2, cells).unbind()
    for (label, at), (other, other_at) in (sides, sides[::-1]):
        close = torch.zeros_like(at)
        for one in range(graph.num_classes):
            start = torch.zeros_like(graph.weight).masked_fill(
                ~(other_at & (other == one)), torch.inf
            )
            reached = _spread(start, graph.row, graph.col, graph.length, distance) <= distance
            close |= reached & at & (label == one)
        cell = label if graph.batch is None else graph.batch.long() * graph.num_classes + label
        surface.index_add_(0, cell[at], graph.weight[at])
        near.index_add_(0, cell[close], graph.weight[close])
    return near.view(-1, graph.num_classes), surface.view(-1, graph.num_classes)


def _surface(graph: LabelledGraph, label: Tensor) -> Tensor:
    """Whether a node has a neighbour of another class."""
    at = torch.zeros_like(label, dtype=torch.bool)
    crosses = (label[graph.row] != label[graph.col]).nonzero().view(-1)
    at[graph.row[crosses]] = True
    at[graph.col[crosses]] = True
    return at


def _band(graph: LabelledGraph, label: Tensor, distance: float) -> Tensor:
    """The labels, `C` where all nodes within `distance` are of the node's own class."""
    row, col, length = graph.row, graph.col, graph.length
    crosses = (label[row] != label[col]).nonzero().view(-1)
    start = torch.full_like(graph.weight, torch.inf)
    for end in (row, col):
        start.scatter_reduce_(0, end[crosses], length[crosses], "amin")
    # A way to another class stays in the own one until its last edge, with which it starts here: to
    # walk on over such an edge never is the shorter way.
    depth = _spread(start, row, col, length, distance)
    return label.masked_fill((depth > distance) & (label != _OUT), graph.num_classes)


def _spread(start: Tensor, row: Tensor, col: Tensor, length: Tensor, limit: float) -> Tensor:
    """The least of `start` plus the way from there, up to `limit`, along edges both ways.

    Sweeps of Bellman and Ford from the nodes that changed: as many as a way within the limit has
    edges, all graphs at a time, on any device.
    """
    reached, moved = start, start <= limit
    while bool(moved.any()):
        closer = reached.clone()
        for near, far in ((row, col), (col, row)):
            ways = moved[near].nonzero().view(-1)
            reach = reached[near[ways]] + length[ways]
            within = (reach <= limit).nonzero().view(-1)
            closer.scatter_reduce_(0, far[ways[within]], reach[within], "amin")
        reached, moved = closer, closer < reached
    return reached


def boundary_iou(
    preds: Tensor,
    target: Tensor,
    edge_index: Tensor,
    num_classes: int,
    distance: float = 1.0,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    edge_length: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The IoU of what lies near the boundary, for each class (Cheng et al., "Boundary IoU:
    Improving Object-Centric Image Segmentation Evaluation", CVPR 2021): of the nodes of the class
    in `target`, and in `preds`, those with a node of another class within `distance` there.

    Args:
        preds (Tensor): Labels `[N]` or logits `[N, C]`.
        target (Tensor): Labels `[N]`.
        edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
        num_classes (int): The number of classes `C`, at least 2.
        distance (float): How far from the boundary a node counts, in hops or in the unit of
            `edge_length`. (default: :obj:`1.0`)
        ignore_index (int, optional): Nodes with this label in `target` are left out.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)
        absent (str or int): What an absent class scores: `'skip'`, `'nan'`, `0` or `1`.
            (default: :obj:`'skip'`)
        reduction (str): With `batch`: `'none'` for one score per graph, `'mean'` for their mean.
            (default: :obj:`'none'`)
        edge_length (Tensor, optional): The length of each edge `[E]`, at least 0.
            (default: 1 each)
        node_weight (Tensor, optional): What each node counts `[N]`, as the pixels of a superpixel.
            (default: 1 each)

    Returns:
        Tensor: `[C]` of dtype float64, or `[B, C]` with `batch`; the mean over classes is its
        `nanmean(-1)`, and that of two classes is often given of the foreground, `[..., 1]`.

    Raises:
        ValueError: As :func:`confusion_matrix`, and if a distance or length is negative.
        TypeError: If labels are not integers, or lengths no floats.
        IndexError: If an edge ends outside of the nodes.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
        >>> target = torch.tensor([0, 0, 0, 1, 1, 1, 1])
        >>> preds = torch.tensor([0, 0, 1, 1, 1, 1, 1])
        >>> boundary_iou(preds, target, path, num_classes=2, distance=2)
        tensor([0.3333, 0.3333], dtype=torch.float64)
    """
    check_number(distance, "distance", low=0.0)
    options = (ignore_index, batch, edge_length, node_weight)
    graph = labelled_graph(preds, target, edge_index, num_classes, *options)
    iou = class_scores(band_counts(graph, distance), absent)["iou"]
    return over_graphs(iou[..., :-1], batch, reduction)


def surface_dice(
    preds: Tensor,
    target: Tensor,
    edge_index: Tensor,
    num_classes: int,
    distance: float = 1.0,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    absent: Absent = "skip",
    *,
    reduction: Reduction = "none",
    edge_length: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""The share of the boundary nodes of `target` and of `preds` that lie within `distance` of the
    other's boundary of the same class (Nikolov et al., "Clinically Applicable Segmentation of Head
    and Neck Anatomy", JMIR 2021).

    The boundary nodes of a class are those of its own nodes that have a neighbour of another one;
    distances run along the whole graph. On a grid of 4 neighbours this is MONAI's with
    `distance_metric='taxicab'`, but for the rim of the image. Arguments, result and errors are
    those of :func:`boundary_iou`.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
        >>> target = torch.tensor([0, 0, 0, 1, 1, 1, 1])
        >>> preds = torch.tensor([0, 0, 1, 1, 1, 1, 1])
        >>> surface_dice(preds, target, path, num_classes=2, distance=0)
        tensor([0., 0.], dtype=torch.float64)
        >>> surface_dice(preds, target, path, num_classes=2, distance=1)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_number(distance, "distance", low=0.0)
    options = (ignore_index, batch, edge_length, node_weight)
    graph = labelled_graph(preds, target, edge_index, num_classes, *options)
    near, surface = surface_counts(graph, distance)
    score = ratio(near, surface, graph.nodes.unsqueeze(-1) > 0, absent)
    return over_graphs(score, batch, reduction)
