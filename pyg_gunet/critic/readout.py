"""Read-outs: from held-out log-ratios to a divergence with its standard error, in nats."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_gunet.critic.checks import DIRECTIONS, check_scores
from pyg_gunet.extras import extra
from pyg_gunet.validate import (
    INDEX_DTYPES,
    check_choice,
    check_number,
    check_same_device,
    check_tensor,
    outermost,
)

READOUTS = ("classifier", "dv", "nwj", "smile", "infonce")
# E[read-out] <= truth for any log-ratio that was not fitted to the same samples. The plug-in
# log E_q[e^r] of 'dv' is too small on average, so it bounds nothing at a finite sample.
BOUNDS = ("nwj", "infonce")
# What an estimate must keep to count as reliable: |log Z|, effective samples behind Z, and the
# share of the variance that one sample in a hundred may make (0.09 for normal log-ratios).
LOG_Z, LEAST_ESS, HEAVY = 0.3, 4.0, 0.6


class Estimate(NamedTuple):
    r"""A divergence or mutual information read from held-out samples.

    Attributes:
        value (Tensor): The estimate in nats, a scalar.
        stderr (Tensor): Its standard error in nats, from the samples of the read-out; what the
            training of the critic adds is not in it.
        n_pos (int): The number of samples of :math:`P` (positive pairs).
        n_neg (int): The number of samples of :math:`Q` (negative pairs).
        is_bound (bool): Whether the read-out is a lower bound of the truth in expectation.
        log_z (Tensor): :math:`\log \mathbb{E}_Q[e^r]`, near 0 for a calibrated log-ratio.
        quantity (str): What was estimated.
        reasons (Tuple[str, ...]): Why the value is not to be believed, in words; empty where
            nothing speaks against it.
        trace (Trace, optional): What :func:`estimate_mi` and :func:`estimate_kl` saw on the way,
            for :meth:`plot`.
    """

    value: Tensor
    stderr: Tensor
    n_pos: int
    n_neg: int
    is_bound: bool
    log_z: Tensor
    quantity: str = "KL(P || Q)"
    reasons: tuple[str, ...] = ()
    trace: Trace | None = None

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against the value."""
        return not self.reasons

    def __float__(self) -> float:
        """The value in nats; warns, once per place, where it is not reliable."""
        if self.reasons:
            text = f"{self.quantity} is not reliable: {'; '.join(self.reasons)}"
            warnings.warn(text, UserWarning, stacklevel=2)
        return float(self.value)

    def plot(self) -> Any:
        """A figure of the training curves, the reading over the steps, and the calibration of the
        log-ratio; of estimates by :func:`estimate_mi` and :func:`estimate_kl`.

        Raises:
            ValueError: If the estimate comes from a read-out alone, which trains nothing.
        """
        if self.trace is None:
            raise ValueError("'plot' needs an estimate by estimate_mi or estimate_kl (no trace)")
        return self.trace.plot(float(self.value), self.quantity)

    def __repr__(self) -> str:
        verdict = "reliable" if self.reliable else f"NOT reliable: {'; '.join(self.reasons)}"
        return (
            f"Estimate({self.quantity} = {float(self.value):.4f} +- {float(self.stderr):.4f} nats, "
            f"n_pos={self.n_pos}, n_neg={self.n_neg}, is_bound={self.is_bound}, "
            f"log_z={float(self.log_z):.4f}, {verdict})"
        )


class Trace(NamedTuple):
    """Training curves ``(part, fold, [(step, held-out loss)])``, readings ``(fold, [(step,
    nats)])``, and held-out log-ratios of both samples."""

    curves: list[tuple[str, int, list[tuple[int, float]]]]
    readings: list[tuple[int, list[tuple[int, float]]]]
    r_p: Tensor
    r_q: Tensor

    @extra()
    def plot(self, value: float, quantity: str) -> Any:
        """See :meth:`Estimate.plot`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        names = list(dict.fromkeys(part for part, _, _ in self.curves))
        for part, fold, curve in self.curves:
            steps, losses = zip(*curve)
            shifted = [loss - losses[0] for loss in losses]
            label = part if fold == 0 else None
            left.plot(steps, shifted, color=f"C{names.index(part)}", label=label)
        left.set(xlabel="step", ylabel="held-out loss less the first", title="training")
        left.legend()
        for _, reading in self.readings:
            middle.plot(*zip(*reading), color="C0", alpha=0.6)
        middle.axhline(value, color="k", linestyle=":")
        middle.set(xlabel="step", ylabel="nats", title=f"{quantity}, fold by fold")
        # Where r says a, the odds of P against Q among held-out samples are to be e^a.
        cuts = torch.cat([self.r_p, self.r_q]).quantile(torch.linspace(0, 1, 16).to(self.r_p))
        for low, high in zip(cuts, cuts[1:]):
            of_p = ((self.r_p >= low) & (self.r_p <= high)).double().mean()
            of_q = ((self.r_q >= low) & (self.r_q <= high)).double().mean()
            if of_p > 0 and of_q > 0:
                right.plot(float(low + high) / 2, float((of_p / of_q).log()), "o", color="C0")
        right.axline((0, 0), slope=1, color="k", linestyle=":")
        right.set(xlabel="log-ratio read", ylabel="log-ratio found", title="calibration")
        return figure


def judge(
    r_p: Tensor,
    r_q: Tensor,
    value: float,
    error_z: float,
    weight_q: Tensor | None = None,
    direction: str = "forward",
    count: int | None = None,
) -> tuple[str, ...]:
    """What speaks against a log-ratio, from its values on held-out samples of P and of Q (`count`
    of them, where `r_q` holds some more than once)."""
    if direction == "reverse":
        r_p, r_q, weight_q = -r_q, -r_p, None
    log_w = r_q - math.log(r_q.numel()) if weight_q is None else r_q + weight_q.log()
    log_z = float(log_w.logsumexp(0))
    ess = math.exp(2 * log_z - float((2 * log_w).logsumexp(0)))
    out = []
    if abs(log_z) > LOG_Z + 3 * error_z:
        out.append(f"log E_Q[e^r] = {log_z:.2f} is far from 0")
    low, high = float(r_p.min()), float(r_q.max())
    if low > high:
        out.append(f"no overlap: every r of P (from {low:.1f}) is above every r of Q ({high:.1f})")
    if value > 1 and ess < LEAST_ESS:
        out.append(f"E_Q[e^r] rests on {ess:.1f} effective samples of {r_q.numel()}")
    ceiling = math.log(count or r_q.numel())
    if value > ceiling:
        out.append(f"{value:.1f} nats: {count or r_q.numel()} samples show ln n = {ceiling:.1f}")
    gap = (r_p - r_p.mean()).square().sort(descending=True).values
    top = float(gap[: max(len(gap) // 100, 1)].sum() / gap.sum().clamp_min(1e-300))
    if len(gap) >= 300 and top > HEAVY:
        out.append(f"heavy tails: 1% of the samples make {top:.0%} of the variance")
    return tuple(out)


def wide(x: Tensor) -> Tensor:
    """Detached and in float64 where the device has it: e^r of single samples may pass 1e38."""
    return x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def two_sample_readout(
    r_p: Tensor,
    r_q: Tensor,
    readout: str = "classifier",
    direction: str = "forward",
    clip: float = 5.0,
    cluster_p: Tensor | None = None,
    cluster_q: Tensor | None = None,
) -> Estimate:
    r"""Reads :math:`\mathrm{KL}(P \| Q)` from log-ratios :math:`r \approx \log p/q` of samples.

    ============== =========================================================== ==================
    `readout`      :math:`\mathrm{KL}(P \| Q)`                                 source
    ============== =========================================================== ==================
    ``classifier`` :math:`\mathbb{E}_P[r]`                                     Sønderby 2017
    ``dv``         :math:`\mathbb{E}_P[r] - \log \mathbb{E}_Q[e^r]`            Belghazi 2018
    ``nwj``        :math:`\mathbb{E}_P[r] - \mathbb{E}_Q[e^r] + 1`             Nguyen 2010
    ``smile``      ``dv`` with :math:`r` in the second term cut to +-`clip`    Song & Ermon 2020
    ``infonce``    one sample of :math:`P` against all of :math:`Q`            van den Oord 2018
    ============== =========================================================== ==================

    The standard error is that of the linearised read-out (delta method), summed within clusters
    first where samples are not independent.

    Args:
        r_p (Tensor): Log-ratios of n >= 2 samples of :math:`P` that the critic was not trained on.
        r_q (Tensor): Log-ratios of m >= 2 samples of :math:`Q` that it was not trained on.
        readout (str): See above. (default: ``'classifier'``)
        direction (str): ``'forward'`` for :math:`\mathrm{KL}(P\|Q)`, ``'reverse'`` for
            :math:`\mathrm{KL}(Q\|P)`, ``'jeffreys'`` for their sum. (default: ``'forward'``)
        clip (float): The cut of ``'smile'``; it is biased even for the exact log-ratio.
            (default: ``5.0``)
        cluster_p (Tensor, optional): A cluster id in [0, C) per sample of :math:`P`; samples of
            one cluster may depend on each other. (default: ``None``, independent)
        cluster_q (Tensor, optional): The same for :math:`Q`; give both or none, one id means one
            cluster on both sides. (default: ``None``)

    Returns:
        Estimate: The value, its standard error, counts, `is_bound` and `log_z`.

    Raises:
        TypeError: If log-ratios are not floating-point tensors.
        ValueError: If there are fewer than two samples (or clusters), NaN, or an unknown option.

    Example:
        >>> r_p, r_q = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([-1.0, 0.0, -2.0, -1.0])
        >>> estimate = two_sample_readout(r_p, r_q)
        >>> print(f"{float(estimate.value):.2f} +- {float(estimate.stderr):.2f}")
        2.00 +- 0.58
    """
    check_choice(readout, "readout", READOUTS)
    check_choice(direction, "direction", DIRECTIONS)
    check_number(clip, "clip", 0.0)
    with outermost() as values:
        check_scores(r_p, "r_p", values, minimum=2)
        check_scores(r_q, "r_q", values, minimum=2)
        check_same_device(r_p, "r_p", r_q=r_q, cluster_p=cluster_p, cluster_q=cluster_q)
        for name, cluster, r in (("cluster_p", cluster_p, r_p), ("cluster_q", cluster_q, r_q)):
            if (cluster is None) != (cluster_p is None):
                raise ValueError("'cluster_p' and 'cluster_q' must be given together (got one)")
            if cluster is not None:
                check_tensor(cluster, name)
            if cluster is not None and cluster.dtype not in INDEX_DTYPES:
                raise TypeError(f"'{name}' must be of dtype int64 or int32 (got {cluster.dtype})")
            if cluster is not None and cluster.shape != r.shape:
                raise ValueError(
                    f"'{name}' must have shape {list(r.shape)} (got {list(cluster.shape)})"
                )
        r_p, r_q = wide(r_p), wide(r_q)
        value, part_p, part_q = r_p.new_zeros(()), torch.zeros_like(r_p), torch.zeros_like(r_q)
        if direction in ("forward", "jeffreys"):
            value, part_p, part_q = _influence(r_p, r_q, readout, clip)
        if direction in ("reverse", "jeffreys"):
            back, back_q, back_p = _influence(-r_q, -r_p, readout, clip)
            value, part_p, part_q = value + back, part_p + back_p, part_q + back_q
        if cluster_p is None or cluster_q is None:
            variance = _sum_of_squares(part_p) + _sum_of_squares(part_q)
        else:
            variance = _clustered(part_p, part_q, cluster_p, cluster_q)
        log_z = r_q.logsumexp(0) - math.log(r_q.numel())
        error_z = float(_sum_of_squares((r_q - log_z).exp() / r_q.numel()).sqrt())
        names = {"forward": "KL(P || Q)", "reverse": "KL(Q || P)", "jeffreys": "J(P, Q)"}
        return Estimate(
            value,
            variance.sqrt(),
            r_p.numel(),
            r_q.numel(),
            readout in BOUNDS,
            log_z,
            names[direction],
            judge(r_p, r_q, float(value), error_z, direction=direction),
        )


def _influence(
    r_p: Tensor, r_q: Tensor, readout: str, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The forward reading and each sample's share in its (linearised) deviation."""
    n, m = r_p.numel(), r_q.numel()
    mean = r_p.mean()
    part_p, part_q = (r_p - mean) / n, torch.zeros_like(r_q)
    if readout == "classifier":
        return mean, part_p, part_q
    if readout == "infonce":
        total = torch.logaddexp(r_p, r_q.logsumexp(0))
        terms = r_p - total + math.log(m + 1)
        # d/dq_j of -mean_i log(e^{p_i} + sum_j e^{q_j}).
        weight = (-total).logsumexp(0) - math.log(n)
        pull = (r_q + weight).exp()
        return terms.mean(), (terms - terms.mean()) / n, -(pull - pull.mean())
    if readout == "smile":
        r_q = r_q.clamp(-clip, clip)
    log_z = r_q.logsumexp(0) - math.log(m)
    if readout == "nwj":
        return mean - log_z.exp() + 1, part_p, -(r_q.exp() - log_z.exp()) / m
    return mean - log_z, part_p, -((r_q - log_z).exp() - 1) / m


def _sum_of_squares(part: Tensor) -> Tensor:
    return part.square().sum() * (part.numel() / (part.numel() - 1))


def _clustered(part_p: Tensor, part_q: Tensor, cluster_p: Tensor, cluster_q: Tensor) -> Tensor:
    _, index = torch.cat([cluster_p, cluster_q]).unique(return_inverse=True)
    count = int(index.max()) + 1
    if count < 2:
        raise ValueError(f"'cluster_p' must hold at least 2 clusters (got {count})")
    total = part_p.new_zeros(count).index_add_(0, index, torch.cat([part_p, part_q]))
    return _sum_of_squares(total)
