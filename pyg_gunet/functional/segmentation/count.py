"""Counting nodes by true and predicted class, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.validate import (
    FLOAT_DTYPES,
    check_batch,
    check_memory,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)

LABEL_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# Nodes counted at a time. On the CPU a block and its cells stay in the cache; elsewhere the block
# only bounds the memory.
_CPU_BLOCK = 1 << 17
_DEVICE_BLOCK = 1 << 24


class Counts(NamedTuple):
    """What every score is made of: nodes per class that are hit, true and predicted, `[*, C]`."""

    hit: Tensor
    true: Tensor
    pred: Tensor


def confusion_matrix(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Tensor:
    r"""Counts the nodes of class :math:`i` predicted as :math:`j` in row `i`, column `j`.

    Nodes are counted in blocks, so that the memory beyond the inputs does not grow with their
    number.

    Args:
        preds (Tensor): Labels `[N]`, or logits `[N, C]`, whose largest entry is the label.
        target (Tensor): Labels `[N]`.
        num_classes (int): The number of classes `C`, at least 2.
        ignore_index (int, optional): Nodes with this label in `target` are left out. Any integer,
            a valid class included. (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. (default: :obj:`None`)
        node_weight (Tensor, optional): What each node counts `[N]`, at least 0: the pixels of a
            superpixel, the area of a mesh vertex. (default: 1 each)

    Returns:
        Tensor: The matrix `[C, C]`, or `[B, C, C]` with `batch`; int64, float64 with `node_weight`.

    Raises:
        ValueError: If a label lies outside `[0, num_classes)` and is not `ignore_index`, a node
            that counts is predicted as an `ignore_index` outside of it, a logit is NaN, a weight is
            negative or not finite, the lengths differ, or `num_classes` is below 2.
        TypeError: If labels are not integers.

    Example:
        >>> preds = torch.tensor([0, 0, 1, 2, 2])
        >>> target = torch.tensor([0, 1, 1, 2, 255])
        >>> confusion_matrix(preds, target, num_classes=3, ignore_index=255)
        tensor([[1, 0, 0],
                [1, 1, 0],
                [0, 0, 1]])
    """
    with outermost() as values:
        graphs = check_labels(preds, target, num_classes, ignore_index, batch, values)
        check_node_weight(node_weight, target, values)
        shape = (num_classes, num_classes) if batch is None else (graphs, num_classes, num_classes)
        check_memory(8 * graphs * num_classes**2, "num_classes", num_classes)
        total = target.new_zeros(graphs * num_classes**2, dtype=_count_dtype(node_weight))
        for pred, true, graph, skip, weight in _blocks(
            preds, target, num_classes, ignore_index, batch, node_weight, values, total.numel()
        ):
            cell = torch.add(pred, true, alpha=num_classes)
            if graph is not None:
                cell.add_(graph, alpha=num_classes**2)
            _count(cell, skip, weight, total)
    return total.view(shape)


def label_counts(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    batch: Tensor | None = None,
    node_weight: Tensor | None = None,
) -> Counts:
    """The hit, true and predicted nodes of each class, `[C]`, or `[B, C]` with `batch`.

    Arguments and errors are those of :func:`confusion_matrix`; with many graphs or classes this
    needs a fraction `3 / C` of its memory.
    """
    if batch is None:
        return counts_of(
            confusion_matrix(preds, target, num_classes, ignore_index, None, node_weight)
        )
    with outermost() as values:
        graphs = check_labels(preds, target, num_classes, ignore_index, batch, values)
        check_node_weight(node_weight, target, values)
        check_memory(24 * graphs * num_classes, "num_classes", num_classes)
        dtype = _count_dtype(node_weight)
        totals = [target.new_zeros(graphs * num_classes, dtype=dtype) for _ in range(3)]
        for pred, true, graph, skip, weight in _blocks(
            preds, target, num_classes, ignore_index, batch, node_weight, values, totals[0].numel()
        ):
            assert graph is not None
            miss = pred != true
            offset = graph * num_classes
            true = true + offset
            _count(true, miss if skip is None else miss | skip, weight, totals[0])
            _count(true, skip, weight, totals[1])
            _count(pred + offset, skip, weight, totals[2])
    return Counts(*(total.view(graphs, num_classes) for total in totals))


def counts_of(confusion: Tensor) -> Counts:
    """The counts of a confusion matrix `[*, C, C]`."""
    return Counts(confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), confusion.sum(-2))


def check_labels(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None,
    batch: Tensor | None,
    values: bool,
) -> int:
    """Checks all but the range of the labels, which the blocks see; returns the graphs' number."""
    check_positive_int(num_classes, "num_classes", minimum=2)
    check_ignore_index(ignore_index)
    check_tensor(preds, "preds")
    check_tensor(target, "target")
    if target.dtype not in LABEL_DTYPES:
        raise TypeError(f"'target' must hold integer labels (got {target.dtype})")
    if target.dim() != 1:
        raise ValueError(f"'target' must have shape [N] (got {list(target.shape)})")
    if preds.dim() == 2:
        if preds.dtype not in FLOAT_DTYPES:
            raise TypeError(f"'preds' of shape [N, C] must be floating point (got {preds.dtype})")
        if preds.size(1) != num_classes:
            raise ValueError(
                f"'preds' must hold one logit for each of {num_classes} classes "
                f"(got shape {list(preds.shape)})"
            )
    elif preds.dim() != 1:
        raise ValueError(
            f"'preds' must be labels [N] or logits [N, {num_classes}] (got {list(preds.shape)})"
        )
    elif preds.dtype not in LABEL_DTYPES:
        raise TypeError(f"'preds' of shape [N] must hold integer labels (got {preds.dtype})")
    if preds.size(0) != target.size(0):
        raise ValueError(
            f"'preds' and 'target' must be of one length (got {preds.size(0)} and {target.size(0)})"
        )
    check_same_device(target, "target", preds=preds, batch=batch)
    if batch is None:
        return 1
    check_batch(batch, target.size(0), values, "target")
    return int(batch[-1]) + 1 if batch.numel() else 0


def check_ignore_index(ignore_index: int | None) -> None:
    """Any integer, or None."""
    if ignore_index is not None and (
        isinstance(ignore_index, bool) or not isinstance(ignore_index, int)
    ):
        raise TypeError(f"'ignore_index' must be an int or None (got {ignore_index!r})")
    if ignore_index is not None and not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"'ignore_index' must fit into 64 bits (got {ignore_index!r})")


def check_node_weight(node_weight: Tensor | None, target: Tensor, values: bool) -> None:
    """None, or a finite weight >= 0 per node: integers or floats `[N]`."""
    if node_weight is None:
        return
    check_tensor(node_weight, "node_weight")
    if node_weight.dtype not in LABEL_DTYPES + FLOAT_DTYPES:
        raise TypeError(f"'node_weight' must hold numbers (got {node_weight.dtype})")
    if node_weight.shape != target.shape:
        raise ValueError(
            f"'node_weight' must have shape {list(target.shape)}, one per node "
            f"(got {list(node_weight.shape)})"
        )
    check_same_device(target, "target", node_weight=node_weight)
    if values and node_weight.numel():
        wrong = ~((node_weight >= 0) & node_weight.isfinite())
        if bool(wrong.any()):
            bad = node_weight[wrong][0].item()
            raise ValueError(f"'node_weight' must be finite and at least 0 (got {bad})")


def _count_dtype(node_weight: Tensor | None) -> torch.dtype:
    return torch.int64 if node_weight is None else torch.float64


def _blocks(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None,
    batch: Tensor | None,
    node_weight: Tensor | None,
    values: bool,
    cells: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]]:
    """Yields (predicted, true, graph, left out, weight) of some nodes at a time, as int64."""
    # A block no smaller than the result, or clearing the bins would cost more than the counting.
    size = max(_CPU_BLOCK if target.device.type == "cpu" else _DEVICE_BLOCK, 4 * cells)
    if torch.compiler.is_compiling():
        size = max(target.size(0), 1)
    for start in range(0, target.size(0), size):
        part = slice(start, start + size)
        pred, true = predicted(preds[part], start, values), target[part].long()
        graph = None if batch is None else batch[part].long()
        skip = None
        if ignore_index is not None:
            skip = true == ignore_index
            true = true.masked_fill(skip, 0)
            # What was predicted where nothing is asked may itself say so.
            pred = pred.masked_fill(skip & (pred == ignore_index), 0)
        if values:
            _check_range("target", true, num_classes, ignore_index)
            _check_range("preds", pred, num_classes, None)
        weight = None if node_weight is None else node_weight[part].detach().double()
        yield pred, true, graph, skip, weight


def predicted(preds: Tensor, start: int, values: bool) -> Tensor:
    """Labels from labels or logits, of which these are the rows from `start` on."""
    if preds.dim() == 1:
        return preds.long()
    top, label = preds.detach().max(dim=1)
    # The maximum of a row with a NaN is NaN: no second pass over the logits.
    if values and bool(top.isnan().any()):
        where = start + int(top.isnan().nonzero()[0])
        raise ValueError(f"'preds' must not hold NaN (got nan in row {where})")
    return label


def _check_range(name: str, label: Tensor, num_classes: int, ignore_index: int | None) -> None:
    low, high = (int(value) for value in torch.stack(torch.aminmax(label)).tolist())
    if low < 0 or high >= num_classes:
        but = "" if ignore_index is None else f" or be 'ignore_index' {ignore_index}"
        raise ValueError(
            f"'{name}' must lie in [0, {num_classes}){but} (got {low if low < 0 else high})"
        )


def _count(cell: Tensor, skip: Tensor | None, weight: Tensor | None, total: Tensor) -> None:
    """Adds one, or the weight, to `total` at each entry of `cell` that is not to be skipped."""
    cells = total.numel()
    if skip is not None:
        cell = cell.masked_fill(skip, cells)
    if torch.compiler.is_compiling() or _capturing(cell):
        # A histogram's size depends on its values, which these two cannot wait for.
        full = total.new_zeros(cells + 1)
        total += full.scatter_add_(0, cell, torch.ones_like(cell) if weight is None else weight)[
            :cells
        ]
    else:
        total += torch.bincount(cell, weight, minlength=cells + (skip is not None))[:cells]


def _capturing(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
