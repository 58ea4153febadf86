"""The overlaps of two labellings: one sparse table of pairs, over all graphs of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.segmentation.count import (
    LABEL_DTYPES,
    check_ignore_index,
    check_node_weight,
)
from pyg_gunet.functional.validate import check_batch, check_same_device, check_tensor, outermost


class Regions(NamedTuple):
    """The regions of one labelling: `graph`, `label` and `size` `[R]`, by graph and label."""

    graph: Tensor
    label: Tensor
    size: Tensor


class Overlaps(NamedTuple):
    """The regions of two labellings and the pairs of them that share a node.

    Attributes:
        true (Regions): Those of `target`.
        pred (Regions): Those of `preds`.
        i (Tensor): The true region of each pair `[P]`; pairs are sorted by `(i, j)`.
        j (Tensor): The predicted region of each pair `[P]`.
        shared (Tensor): The size of their intersection `[P]`, float64.
        nodes (Tensor): What is counted in each graph `[B]`, float64.
    """

    true: Regions
    pred: Regions
    i: Tensor
    j: Tensor
    shared: Tensor
    nodes: Tensor

    @property
    def union(self) -> Tensor:
        """The size of the union of each pair `[P]`."""
        return self.true.size[self.i] + self.pred.size[self.j] - self.shared


def overlaps(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
    background: int | None = 0,
) -> Overlaps:
    """The table of pairs of two labellings, in time linear in the nodes where neighbours in the
    order of the nodes mostly agree, as pixels do.

    Args:
        preds (Tensor): The predicted region of each node `[N]`.
        target (Tensor): The true region of each node `[N]`.
        ignore_index (int, optional): Nodes with this number in `target` are left out.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted; a region does not reach
            beyond its graph, whatever its number. (default: :obj:`None`)
        node_weight (Tensor, optional): What each node counts `[N]`; a node of weight 0 is left out.
            (default: 1 each)
        background (int, optional): The number that is no region, the least one there may be; with
            :obj:`None` all numbers are regions. (default: :obj:`0`)

    Raises:
        ValueError: If shapes differ, a number lies below `background`, or a weight is negative or
            not finite.
        TypeError: If regions are not integers.
    """
    with outermost() as values:
        check_regions(preds, target, ignore_index, batch, node_weight, values)
        graphs = 1 if batch is None else int(batch[-1]) + 1 if batch.numel() else 0
        graph = torch.zeros_like(target, dtype=torch.int64) if batch is None else batch.long()
        weight = None if node_weight is None else node_weight.detach().double()
        keep = None if ignore_index is None else target != ignore_index
        if weight is not None:
            keep = weight > 0 if keep is None else keep & (weight > 0)
        true, pred = target.long(), preds.long()
        if keep is not None:
            true, pred, graph = true[keep], pred[keep], graph[keep]
            weight = None if weight is None else weight[keep]
        if values and background is not None:
            for name, label in (("preds", pred), ("target", true)):
                if label.numel() and int(label.min()) < background:
                    raise ValueError(
                        f"'{name}' must hold {background} for no instance, or a number above "
                        f"(got {int(label.min())})"
                    )
    true, pred, graph, size = _runs(true, pred, graph, weight)
    nodes = size.new_zeros(graphs).index_add_(0, graph, size)
    true_of, trues = _regions(graph, true, size, background)
    pred_of, preds_ = _regions(graph, pred, size, background)
    both = (true_of >= 0) & (pred_of >= 0)
    pair, of = (true_of * preds_.size.numel() + pred_of)[both].unique(return_inverse=True)
    shared = size.new_zeros(pair.numel()).index_add_(0, of, size[both])
    i = torch.div(pair, preds_.size.numel(), rounding_mode="floor")
    return Overlaps(trues, preds_, i, pair - i * preds_.size.numel(), shared, nodes)


def check_regions(
    preds: Tensor,
    target: Tensor,
    ignore_index: int | None,
    batch: Tensor | None,
    node_weight: Tensor | None,
    values: bool,
) -> None:
    """Two labellings of the same nodes."""
    for name, label in (("preds", preds), ("target", target)):
        check_tensor(label, name)
        if label.dtype not in LABEL_DTYPES:
            raise TypeError(f"'{name}' must hold integers (got {label.dtype})")
    if preds.dim() != 1 or preds.shape != target.shape:
        raise ValueError(
            f"'preds' and 'target' must be of one shape [N] "
            f"(got {list(preds.shape)} and {list(target.shape)})"
        )
    check_ignore_index(ignore_index)
    check_same_device(target, "target", preds=preds, batch=batch)
    check_batch(batch, target.size(0), values)
    check_node_weight(node_weight, target, values)


def _runs(
    true: Tensor, pred: Tensor, graph: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes that follow each other and agree in everything, as one with their total weight.

    Along the rows of an image there are some tens of nodes to a run; what sorts comes after.
    """
    num_nodes = true.numel()
    if not num_nodes:
        return true, pred, graph, true.double()
    starts = torch.ones(num_nodes, dtype=torch.bool, device=true.device)
    starts[1:] = (true[1:] != true[:-1]) | (pred[1:] != pred[:-1]) | (graph[1:] != graph[:-1])
    first = starts.nonzero().view(-1)
    if weight is None:
        size = torch.diff(first, append=first.new_tensor([num_nodes])).double()
    else:
        size = weight.new_zeros(first.numel()).index_add_(0, starts.cumsum(0) - 1, weight)
    return true[first], pred[first], graph[first], size


def _regions(
    graph: Tensor, label: Tensor, size: Tensor, background: int | None
) -> tuple[Tensor, Regions]:
    """The region of each run, -1 on the background, and the regions."""
    inside = slice(None) if background is None else label != background
    number, of = _unique(label[inside])
    key, of = _unique(graph[inside] * number.numel() + of)
    region = torch.full_like(label, -1)
    region[inside] = of
    total = size.new_zeros(key.numel()).index_add_(0, of, size[inside])
    of_graph = torch.div(key, number.numel(), rounding_mode="floor")
    return region, Regions(of_graph, number[key - of_graph * number.numel()], total)


def _unique(value: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`torch.unique` with the inverse, by a table where the values lie close together."""
    if not value.numel():
        return value, value
    low, high = (int(one) for one in torch.stack(torch.aminmax(value)).tolist())
    if high - low > 4 * value.numel() + 2**16:
        return torch.unique(value, return_inverse=True)
    seen = torch.zeros(high - low + 1, dtype=torch.bool, device=value.device)
    seen[value - low] = True
    return seen.nonzero().view(-1) + low, (seen.cumsum(0) - 1)[value - low]
