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
from pyg_gunet.validate import check_batch, check_same_device, check_tensor, outermost


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
        graph = None if batch is None else batch.long()
        weight = None if node_weight is None else node_weight.detach().double()
        keep = None if ignore_index is None else target != ignore_index
        if weight is not None:
            keep = weight > 0 if keep is None else keep & (weight > 0)
        true, pred = target.long(), preds.long()
        if keep is not None:
            true, pred = true[keep], pred[keep]
            graph, weight = (None if one is None else one[keep] for one in (graph, weight))
        true, pred, graph, size = _runs(true, pred, graph, weight)
        true_of, trues = _regions(true, graph, size)
        pred_of, found = _regions(pred, graph, size)
        if values and background is not None:
            for name, label in (("preds", found.label), ("target", trues.label)):
                if label.numel() and int(label.min()) < background:
                    raise ValueError(
                        f"'{name}' must hold {background} for no instance, or a number above "
                        f"(got {int(label.min())})"
                    )
    # Where there is no graph tensor, all is of graph 0.
    nodes = size.sum().view(1) if graph is None else _sums(size, graph, graphs)
    if background is not None:
        # Out of the runs before they are sorted, and out of the regions, of which there are few.
        true_real, pred_real = trues.label != background, found.label != background
        both = (true_real[true_of] & pred_real[pred_of]).nonzero().view(-1)
        true_of = (true_real.cumsum(0) - 1)[true_of[both]]
        pred_of = (pred_real.cumsum(0) - 1)[pred_of[both]]
        size = size[both]
        trues = Regions(*(value[true_real] for value in trues))
        found = Regions(*(value[pred_real] for value in found))
    pair, of = _unique(true_of * found.label.numel() + pred_of)
    i = torch.div(pair, found.label.numel(), rounding_mode="floor")
    j = pair - i * found.label.numel()
    return Overlaps(trues, found, i, j, _sums(size, of, pair.numel()), nodes)


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
    check_batch(batch, target.size(0), values, "target")
    check_node_weight(node_weight, target, values)


def _runs(
    true: Tensor, pred: Tensor, graph: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Nodes that follow each other and agree in everything, as one with their total weight.

    Along the rows of an image there are some tens of nodes to a run; what sorts comes after.
    """
    num_nodes = true.numel()
    starts = torch.ones(num_nodes, dtype=torch.bool, device=true.device)
    torch.ne(true[1:], true[:-1], out=starts[1:])
    starts[1:] |= pred[1:] != pred[:-1]
    if graph is not None:
        starts[1:] |= graph[1:] != graph[:-1]
    first = starts.nonzero().view(-1)
    if weight is None:
        size = torch.diff(first, append=first.new_tensor([num_nodes])).double()
    else:
        size = _sums(weight, starts.cumsum(0) - 1, first.numel())
    return true[first], pred[first], None if graph is None else graph[first], size


def _regions(label: Tensor, graph: Tensor | None, size: Tensor) -> tuple[Tensor, Regions]:
    """The region of each run, and the regions by graph and label."""
    label, of = _unique(label)
    of_graph = torch.zeros_like(label)
    if graph is not None:
        key, of = _unique(graph * label.numel() + of)
        of_graph = torch.div(key, label.numel(), rounding_mode="floor")
        label = label[key - of_graph * label.numel()]
    return of, Regions(of_graph, label, _sums(size, of, label.numel()))


def _sums(value: Tensor, of: Tensor, number: int) -> Tensor:
    return value.new_zeros(number).index_add_(0, of, value)


def _unique(value: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`torch.unique` with the inverse, by a table where the values lie close together."""
    if not value.numel():
        return value, value
    low, high = (int(one) for one in torch.stack(torch.aminmax(value)).tolist())
    if high - low > 4 * value.numel() + 2**16:
        return torch.unique(value, return_inverse=True)
    value = value - low
    seen = torch.zeros(high - low + 1, dtype=torch.bool, device=value.device)
    seen[value] = True
    return seen.nonzero().view(-1) + low, (seen.cumsum(0) - 1)[value]
