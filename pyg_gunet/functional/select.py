"""Selection of the nodes that a pooling layer keeps."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import cumsum, scatter

from pyg_gunet.validate import (
    INDEX_DTYPES,
    check_batch,
    check_floating,
    check_number,
    check_ratio,
    check_same_device,
    check_tensor,
    outermost,
)

MAX_PADDING = 4  # from which on graphs of one batch are too unequal for a table of rows
ROUNDING = 1e-6  # an excess under this share of a node is float noise: 0.6 * 25 is 15 nodes


def num_kept(ratio: float | int, sizes: Tensor) -> Tensor:
    r"""Number of nodes that each graph keeps.

    A float `ratio` in (0, 1] is a share: :math:`k_g = \lceil \mathrm{ratio} \cdot n_g \rceil`,
    computed in float64, where an excess under 1e-6 of a node counts as rounding noise. An int
    `ratio` >= 1 is a count, cut at :math:`n_g`. A graph with nodes keeps at least one.

    Args:
        ratio (float or int): Share in (0, 1] or count >= 1.
        sizes (Tensor): Number of nodes of each graph, [B], integer.

    Returns:
        Tensor: :math:`k`, [B], int64.

    Raises:
        ValueError: If `ratio` is out of range.
        TypeError: If `ratio` is no number.

    Example:
        >>> num_kept(0.6, torch.tensor([25, 1, 0, 4])).tolist()
        [15, 1, 0, 3]
        >>> num_kept(3, torch.tensor([25, 1, 0, 4])).tolist()
        [3, 1, 0, 3]
    """
    check_ratio(ratio)
    with outermost() as values:
        _check_counts(sizes, "sizes", None, values)
    if isinstance(ratio, Integral):
        k = torch.full_like(sizes, min(int(ratio), 2**62), dtype=torch.long)
    else:
        share = float(ratio) * sizes.to(torch.float64)
        k = (share - ROUNDING).ceil().clamp_(min=1.0).to(torch.long)
    return torch.minimum(k, sizes.to(torch.long))


def _kept_of_one(ratio: Any, num_nodes: int) -> int:
    """:func:`num_kept` of one graph, in Python, but not cut at its size, which slicing does."""
    check_ratio(ratio)
    if isinstance(ratio, Integral):
        return min(int(ratio), 2**62)
    share = float(ratio) * num_nodes - ROUNDING
    if isinstance(share, torch.SymFloat):  # no comparison, and no `ceil`, goes into an export
        return torch.sym_int(share) + 1
    return max(math.ceil(share), 1)


def graph_sizes(batch: Tensor | None, num_nodes: int, device: torch.device) -> Tensor:
    """Number of nodes per graph, [B], int64; one graph where `batch` is None."""
    if batch is None:
        return torch.full((1,), num_nodes, dtype=torch.long, device=device)
    return torch.bincount(batch)


def topk(
    score: Tensor,
    ratio: float | int | None = 0.5,
    batch: Tensor | None = None,
    min_score: float | None = None,
    *,
    k: Tensor | None = None,
) -> Tensor:
    r"""The best-scored nodes of every graph.

    Graph U-Nets (`Gao and Ji 2019 <https://arxiv.org/abs/1905.05178>`_, eq. 2),
    :math:`\mathbf{i} = \mathrm{rank}(\mathbf{y}, k)`, taken per graph.

    Args:
        score (Tensor): Node scores, [N].
        ratio (float or int, optional): Share or count, see :func:`num_kept`. (default: 0.5)
        batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
        min_score (float, optional): Keep every node whose score is above this threshold instead,
            and at least the best node of each graph; `ratio` is then not used. (default: None)
        k (Tensor, optional): Number of nodes to keep per graph, [B], in place of `ratio`.
            (default: None)

    Returns:
        Tensor: `perm`, [K], int64: node ids, graph by graph, by falling score within a graph, ties
        by node id. With `min_score`, in node order.

    Raises:
        ValueError: If neither `ratio`, `k` nor `min_score` is given, a value is out of range, or a
            score is NaN; infinite ones are legal.
        TypeError: If an argument has the wrong type or dtype.

    Example:
        >>> topk(torch.tensor([0.1, 0.9, 0.5, 0.7]), 0.5).tolist()
        [1, 3]
        >>> topk(torch.tensor([0.1, 0.9, 0.5, 0.7]), 1, torch.tensor([0, 0, 1, 1])).tolist()
        [1, 3]
    """
    with outermost() as values:
        _check(score, batch, values)
        if k is not None:
            sizes = graph_sizes(batch, score.size(0), score.device)
            check_same_device(score, "score", k=k)  # before it is compared
            _check_counts(k, "k", sizes, values)
    if min_score is not None:
        return _above(score, batch, min_score)
    if k is None and ratio is None:
        raise ValueError("'ratio' must be given where 'min_score' is None (got None)")
    if batch is None:
        # From the size alone where it can be: the number of a tensor waits for the device.
        first = _kept_of_one(ratio, score.size(0)) if k is None else int(k)
        return torch.sort(score, descending=True, stable=True).indices[:first]
    if k is None:
        assert ratio is not None
        with outermost():
            k = num_kept(ratio, graph_sizes(batch, score.size(0), score.device))
    sizes = graph_sizes(batch, score.size(0), score.device)
    start = cumsum(sizes)
    place = torch.arange(score.size(0), device=score.device) - start[batch]
    longest = 0 if torch.compiler.is_compiling() or not len(sizes) else int(sizes.max())
    if 0 < longest * len(sizes) <= MAX_PADDING * score.size(0):
        # A row per graph, each sorted by itself: 2.5 times faster than sorts of all nodes. The
        # padding comes last, for it is the least and stands behind its equals.
        table = score.new_full((len(sizes), longest), -math.inf)
        table[batch, place] = score.detach()
        order = torch.sort(table, descending=True, stable=True).indices + start[:-1].view(-1, 1)
        return order[torch.arange(longest, device=score.device) < k.view(-1, 1)]
    order = torch.sort(score, descending=True, stable=True).indices
    batch, regroup = torch.sort(batch[order], stable=True)
    return order[regroup][place < k[batch]]


def _above(score: Tensor, batch: Tensor | None, min_score: float, tol: float = 1e-7) -> Tensor:
    check_number(min_score, "min_score")
    if batch is None:
        batch = torch.zeros(score.size(0), dtype=torch.long, device=score.device)
    batch = batch.long()  # torch before 2.8 scatters by int64 alone
    best = scatter(score, batch, reduce="max")[batch]
    # The best of each graph by >=, not by PyG's > best - tol: float16 rounds that tol away.
    return ((score > min_score) | (score >= best - tol)).nonzero().view(-1)


def _check(score: Tensor, batch: Tensor | None, values: bool) -> None:
    check_floating(score, "score")
    if score.dim() != 1:
        raise ValueError(f"'score' must be one-dimensional (got shape {list(score.shape)})")
    check_batch(batch, score.size(0), values, "score")
    check_same_device(score, "score", batch=batch)
    if values and bool(score.isnan().any()):
        where = int(score.isnan().nonzero()[0])
        raise ValueError(f"'score' must not be NaN (got nan at {where})")


def _check_counts(
    count: Tensor, name: str, sizes: Tensor | None = None, values: bool = True
) -> None:
    """Numbers of nodes per graph, [B], at most `sizes`."""
    check_tensor(count, name)
    if count.dtype not in INDEX_DTYPES:
        raise TypeError(f"'{name}' must be of dtype int64 or int32 (got {count.dtype})")
    if count.dim() != 1 or (sizes is not None and count.shape != sizes.shape):
        wanted = "B" if sizes is None else sizes.numel()
        raise ValueError(
            f"'{name}' must have shape [{wanted}], one entry per graph (got {list(count.shape)})"
        )
    if not values:
        return
    bad = count < 0 if sizes is None else (count < 0) | (count > sizes)
    if bool(bad.any()):
        where = int(bad.nonzero()[0])
        top = "" if sizes is None else f" and at most {int(sizes[where])}, the graph's size"
        raise ValueError(
            f"'{name}' must be at least 0{top} (got {int(count[where])} for graph {where})"
        )
