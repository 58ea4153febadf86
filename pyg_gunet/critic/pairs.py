"""Mutual information from scored pairs: nodes against graphs, or samples against samples.

Row i is a node (or a sample) that belongs to graph ``target[i]``. Its positive pair is the one
with its own graph; its negatives are the other graphs, graph g counted `weight[g]` times.

**Why the weights.** A node drawn uniformly comes from a large graph more often than from a small
one, so under the joint distribution graph g appears with probability n_g / N. Negatives that draw
graphs uniformly have another marginal, and the critic reads that difference as information: 0.39
nats for independent pairs and graph sizes {5, 50}. With negatives weighted by size, and with each
positive weighted by the weight of its row's negatives, N - n_g, both sides have the same
marginals: exactly, in every batch of at least two graphs, not just in the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.critic.checks import check_scores, full_precision
from pyg_gunet.critic.objective import check_nu
from pyg_gunet.critic.readout import BOUNDS, READOUTS, Estimate, judge, wide
from pyg_gunet.validate import (
    INDEX_DTYPES,
    check_choice,
    check_floating,
    check_number,
    check_same_device,
    check_tensor,
    outermost,
)


class PairScores(NamedTuple):
    r"""The log-ratios of n rows against B graphs.

    Attributes:
        pos (Tensor): Scores of the positive pairs, [n].
        neg (Tensor): Scores of all pairs, [n, B].
        mask (Tensor): Which entries of `neg` are negatives, boolean [n, B].
        target (Tensor): The graph of each row, [n].
        weight (Tensor): How often each graph counts as a negative, [B].
    """

    pos: Tensor
    neg: Tensor
    mask: Tensor
    target: Tensor
    weight: Tensor

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k}={list(v.shape)}" for k, v in zip(self._fields, self))
        return f"PairScores({shapes})"


def dense_pairs(scores: Tensor, target: Tensor, weight: Tensor | None = None) -> PairScores:
    """Sorts a matrix of scores [n, B] into positive and negative pairs.

    Args:
        scores (Tensor): Log-ratios of every row with every graph, [n, B].
        target (Tensor): The graph of each row, [n].
        weight (Tensor, optional): Weights of the graphs as negatives: their numbers of nodes where
            rows are nodes. (default: ``None``, equal)

    Returns:
        PairScores: The pairs.

    Example:
        >>> dense_pairs(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]))
        PairScores(pos=[4], neg=[4, 2], mask=[4, 2], target=[4], weight=[2])
    """
    check_floating(scores, "scores")
    check_tensor(target, "target")
    if target.dtype not in INDEX_DTYPES:
        raise TypeError(f"'target' must be of dtype int64 or int32 (got {target.dtype})")
    check_same_device(scores, "scores", target=target, weight=weight)
    if scores.dim() != 2 or target.shape != scores.shape[:1]:
        raise ValueError(
            f"'scores' must have shape [n, B] with 'target' [n] (got {list(scores.shape)} and "
            f"{list(target.shape)})"
        )
    if weight is None:
        weight = scores.new_ones(scores.size(1))
    check_floating(weight, "weight")
    if weight.shape != scores.shape[1:]:
        raise ValueError(f"'weight' must have shape [{scores.size(1)}] (got {list(weight.shape)})")
    with outermost() as values:
        if values:
            _check_values(target, scores.size(1), weight)
    pos = scores.gather(1, target.long().unsqueeze(1)).squeeze(1)
    graphs = torch.arange(scores.size(1), device=scores.device)
    return PairScores(pos, scores, graphs != target.unsqueeze(1), target, weight)


def _check_values(target: Tensor, graphs: int, weight: Tensor) -> None:
    wrong = (target < 0) | (target >= graphs)
    if bool(wrong.any()):
        raise IndexError(f"'target' must lie in [0, {graphs}) (got {int(target[wrong][0])})")
    wrong = ~((weight >= 0) & weight.isfinite())
    if bool(wrong.any()):
        raise ValueError(f"'weight' must be finite and at least 0 (got {float(weight[wrong][0])})")


def pair_loss(pairs: PairScores, nu: float = 1.0, total: Tensor | None = None) -> Tensor:
    r"""Noise-contrastive loss of scored pairs (``nu=1``: the Jensen-Shannon loss),

    .. math::
        \mathcal{L} = \frac1W \sum_i \sum_{g \ne t_i} s_g \big[
        \mathrm{softplus}(-(r_{i t_i} - \log\nu)) + \nu\,\mathrm{softplus}(r_{ig} - \log\nu) \big],
        \qquad W = \sum_i \sum_{g \ne t_i} s_g .

    Args:
        pairs (PairScores): The pairs.
        nu (float): The noise ratio, in (0, 64], see :func:`nce_loss`. (default: ``1.0``)
        total (Tensor, optional): :math:`W`, where `pairs` are some rows of more.
            (default: ``None``, from `pairs`)

    Returns:
        Tensor: A scalar in nats.

    Raises:
        ValueError: If there is no negative pair, scores hold NaN or `nu` is outside (0, 64].

    Example:
        >>> pairs = dense_pairs(torch.zeros(3, 3), torch.arange(3))
        >>> pair_loss(pairs)  # 2 log 2
        tensor(1.3863)
    """
    check_nu(nu)
    if total is not None:
        check_floating(total, "total")
    with outermost() as values:
        _check_pairs(pairs, values)
        pos, neg = full_precision(pairs.pos), full_precision(pairs.neg)
        weight = pairs.weight.to(pos.dtype)
        share = pairs.mask.to(pos.dtype) @ weight
        if total is None:
            total = share.sum()
        if values and not bool(total > 0):
            raise ValueError(f"'weight' of the negatives must have a positive sum (got {total})")
        shift = math.log(nu)
        positive = (share * F.softplus(-(pos - shift))).sum()
        # `where`, not a product: a masked score of +inf must not turn into NaN.
        noise = torch.where(pairs.mask, F.softplus(neg - shift), torch.zeros_like(neg))
        return (positive + nu * (noise @ weight).sum()) / total


def pair_readout(
    pairs: PairScores | Iterable[PairScores], readout: str = "classifier", clip: float = 5.0
) -> Estimate:
    r"""Reads :math:`I(x; y) = \mathrm{KL}(p(x, y) \,\|\, p(x)\,p(y))` from scored pairs.

    The read-outs are those of :func:`two_sample_readout`, with weighted pairs; ``'infonce'`` sets
    one positive against the negatives of its row and is at most :math:`\log B`. The pairs of one
    graph depend on each other, and so do all pairs that share a row or a graph: the standard error
    sums each graph's share in the linearised read-out (as rows and as negatives: the Hájek
    projection of a two-sample U-statistic) and takes the deviation over graphs.

    Args:
        pairs (PairScores or Iterable[PairScores]): The pairs, whole or in chunks of rows.
        readout (str): ``'classifier'``, ``'dv'``, ``'nwj'``, ``'smile'`` or ``'infonce'``.
            (default: ``'classifier'``)
        clip (float): The cut of ``'smile'``. (default: ``5.0``)

    Returns:
        Estimate: `n_pos` and `n_neg` count pairs.

    Raises:
        ValueError: If fewer than two graphs have rows, scores hold NaN, or an option is unknown.

    Example:
        >>> x = torch.tensor([-1.5, -0.5, 0.5, 1.5])
        >>> pair_readout(dense_pairs(torch.outer(x, x), torch.arange(4)), "infonce").is_bound
        True
    """
    check_choice(readout, "readout", READOUTS)
    check_number(clip, "clip", 0.0)
    if not isinstance(pairs, Iterable) or isinstance(pairs, (Tensor, str)):
        raise TypeError(f"'pairs' must be PairScores or several (got {type(pairs).__name__})")
    sums = _Sums(readout, clip)
    with outermost() as values:
        for chunk in [pairs] if isinstance(pairs, PairScores) else pairs:
            _check_pairs(chunk, values)
            sums.add(chunk)
    return sums.estimate()


class _Sums:
    """What the read-outs need of every row and every graph, gathered chunk by chunk."""

    def __init__(self, readout: str, clip: float) -> None:
        self.readout, self.clip = readout, clip
        self.rows: list[tuple[Tensor, ...]] = []
        self.n_neg = 0
        self.weight: Tensor | None = None

    def add(self, pairs: PairScores) -> None:
        weight = wide(pairs.weight)
        if self.weight is None:
            self.weight = weight
            # Per graph as a negative: log sum of s e^r over rows, sum of s, pull on InfoNCE.
            self.log_col = torch.full_like(weight, -math.inf)
            self.col = torch.zeros_like(weight)
            self.pull = torch.zeros_like(weight)
        pos, neg = wide(pairs.pos), wide(pairs.neg)
        neg = torch.where(pairs.mask, neg, -math.inf)
        log_weight = weight.log()
        share = pairs.mask.to(weight.dtype) @ weight
        whole = (neg + log_weight).logsumexp(1)
        if self.readout == "smile":
            neg = torch.where(pairs.mask, neg.clamp(-self.clip, self.clip), -math.inf)
        weighted = neg + log_weight
        log_row = weighted.logsumexp(1)
        self.log_col = torch.logaddexp(self.log_col, weighted.logsumexp(0))
        self.col += pairs.mask.to(weight.dtype).sum(0) * weight
        self.n_neg += int(pairs.mask.sum())
        term = pos
        if self.readout == "infonce":
            # The negatives' mean, counted as often as there are graphs but one.
            others = (weight > 0).sum() - 1
            noise = log_row - share.log() + others.log()
            total = torch.logaddexp(pos, noise)
            term = pos - total + (others + 1).log()
            soft = (weighted - share.log().unsqueeze(1) + others.log() - total.unsqueeze(1)).exp()
            even = pairs.mask * weight * ((noise - total).exp() / share).unsqueeze(1)
            self.pull += share @ (soft - even)
        self.rows.append((term, share, log_row, whole, pairs.target, pos))

    def estimate(self) -> Estimate:
        if self.weight is None:
            raise ValueError("'pairs' must hold at least one chunk (got none)")
        term, share, log_row, whole, target, pos = (torch.cat(x) for x in zip(*self.rows))
        held = torch.zeros_like(self.weight, dtype=torch.bool).index_fill_(0, target.long(), True)
        count = int(held.sum())
        if count < 2:
            raise ValueError(f"'pairs' must come from at least 2 graphs (got {count})")

        def per_graph(x: Tensor) -> Tensor:
            return torch.zeros_like(self.col).index_add_(0, target.long(), x)

        total = share.sum()
        if not bool(total > 0):
            raise ValueError(f"'weight' of the negatives must have a positive sum (got {total})")
        value = (share * term).sum() / total
        part = per_graph(share * (term - value)) / total
        log_z = log_row.logsumexp(0) - total.log()
        row = per_graph((log_row - log_z).exp() - share)
        noise = (row + (self.log_col - log_z).exp() - self.col) / total
        error_z = (noise[held].square().sum() * count / (count - 1)).sqrt()
        if self.readout == "infonce":
            part = part - self.pull / total
        elif self.readout != "classifier":
            if self.readout == "nwj":
                value, part = value - log_z.exp() + 1, part - noise * log_z.exp()
            else:
                value, part = value - log_z, part - noise
        stderr = (part[held].square().sum() * count / (count - 1)).sqrt()
        log_z = whole.logsumexp(0) - total.log()
        reasons = judge(pos, whole - share.log(), float(value), float(error_z), share / total)
        # Weighted pairs make the means ratios, which are unbiased in the limit only.
        even = bool((self.weight[held] == self.weight[held][0]).all())
        return Estimate(
            value,
            stderr,
            term.numel(),
            self.n_neg,
            self.readout in BOUNDS and even,
            log_z,
            "I(x; y)",
            reasons,
        )


def _check_pairs(pairs: PairScores, values: bool) -> None:
    if not isinstance(pairs, PairScores):
        raise TypeError(f"'pairs' must be PairScores (got {type(pairs).__name__})")
    for name, value in pairs._asdict().items():
        check_tensor(value, name)
    check_scores(pairs.pos, "pos", values)
    if pairs.neg.dim() != 2:
        raise ValueError(f"'neg' must have shape [n, B] (got {list(pairs.neg.shape)})")
    n, graphs = pairs.neg.shape
    if pairs.mask.dtype != torch.bool:
        raise TypeError(f"'mask' must be boolean (got {pairs.mask.dtype})")
    for name, shape in (("pos", (n,)), ("mask", (n, graphs)), ("target", (n,))):
        if getattr(pairs, name).shape != shape:
            raise ValueError(
                f"'{name}' must have shape {list(shape)} (got {list(getattr(pairs, name).shape)})"
            )
    if pairs.weight.shape != (graphs,):
        raise ValueError(f"'weight' must have shape [{graphs}] (got {list(pairs.weight.shape)})")
    if values:
        check_scores(pairs.neg.flatten(), "neg", values)
        if not bool(pairs.mask.any()):
            raise ValueError("'mask' must hold a negative pair (got none)")
