"""Training objectives for a log-ratio r = log p/q: scalars to minimise."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.critic.checks import check_scores, full_precision
from pyg_gunet.validate import (
    check_floating,
    check_number,
    check_same_device,
    outermost,
)

# At 511 negatives per positive training collapsed onto the prior; 64 still gained.
MAX_NU = 64.0
# The moving average of `dv_loss` may not lag further behind the batch than this factor, or one
# batch with a large exponential throws the weights far out.
MAX_LAG = 10.0


def check_nu(nu: Any) -> None:
    """A noise ratio in (0, 64]."""
    check_number(nu, "nu", 0.0, MAX_NU)
    if nu == 0:
        raise ValueError(f"'nu' must be positive (got {nu!r})")


def jsd_loss(
    r_p: Tensor, r_q: Tensor, weight_p: Tensor | None = None, weight_q: Tensor | None = None
) -> Tensor:
    r"""The logistic loss of the classifier :math:`\sigma(r(x))` of :math:`P` against :math:`Q`,

    .. math::
        \mathcal{L} = \mathbb{E}_P[\mathrm{softplus}(-r)] + \mathbb{E}_Q[\mathrm{softplus}(r)],

    minimal at :math:`r^* = \log p/q`, where it is :math:`2 \log 2 - 2\,\mathrm{JSD}(P, Q)`
    (Goodfellow et al. 2014; Nowozin et al. 2016, table 6). The gradient with respect to a
    misplaced log-ratio tends to 1 in size and never vanishes.

    Args:
        r_p (Tensor): Log-ratios of samples of :math:`P`, [n].
        r_q (Tensor): Log-ratios of samples of :math:`Q`, [m].
        weight_p (Tensor, optional): Non-negative weights [n]. (default: ``None``, equal)
        weight_q (Tensor, optional): Non-negative weights [m]. (default: ``None``, equal)

    Returns:
        Tensor: A scalar in nats.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If an argument is empty, not one-dimensional or holds NaN.

    Example:
        >>> jsd_loss(torch.zeros(3), torch.zeros(5))  # 2 log 2
        tensor(1.3863)
    """
    return nce_loss(r_p, r_q, 1.0, weight_p, weight_q)


def nce_loss(
    r_p: Tensor,
    r_q: Tensor,
    nu: float = 1.0,
    weight_p: Tensor | None = None,
    weight_q: Tensor | None = None,
) -> Tensor:
    r"""Noise-contrastive estimation with :math:`\nu` noise samples per sample of :math:`P`,

    .. math::
        \mathcal{L} = \mathbb{E}_P[\mathrm{softplus}(-(r - \log\nu))]
        + \nu \, \mathbb{E}_Q[\mathrm{softplus}(r - \log\nu)]

    (Gutmann & Hyvärinen 2012, eq. 8). It is minimal at :math:`r^* = \log p/q` for every
    :math:`\nu`; a larger one moves the boundary of the classifier to :math:`p = \nu q`, which
    helps where :math:`P` and :math:`Q` hardly overlap.

    Args:
        r_p (Tensor): Log-ratios of samples of :math:`P`, [n].
        r_q (Tensor): Log-ratios of samples of :math:`Q`, [m]; any m, the mean is taken.
        nu (float): The noise ratio, in (0, 64]. (default: ``1.0``, the logistic loss)
        weight_p (Tensor, optional): Non-negative weights [n]. (default: ``None``, equal)
        weight_q (Tensor, optional): Non-negative weights [m]. (default: ``None``, equal)

    Returns:
        Tensor: A scalar in nats.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If an argument is empty, not one-dimensional or holds NaN, or `nu` is outside
            (0, 64].

    Example:
        >>> r_p, r_q = torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 0.0, -2.0])
        >>> nce_loss(r_p, r_q, nu=4.0)
        tensor(1.1279)
    """
    check_nu(nu)
    with outermost() as values:
        _check_pair(r_p, r_q, values)
        r_p, r_q = full_precision(r_p), full_precision(r_q)
        shift = math.log(nu)
        positive = _mean(F.softplus(-(r_p - shift)), weight_p, "weight_p", values)
        return positive + nu * _mean(F.softplus(r_q - shift), weight_q, "weight_q", values)


def dv_loss(
    r_p: Tensor, r_q: Tensor, log_mean: Tensor | None = None, penalty: float = 0.1
) -> Tensor:
    r"""The negative Donsker-Varadhan bound, with the bias-corrected gradient of MINE,

    .. math::
        \mathcal{L} = -\mathbb{E}_P[r] + \log \mathbb{E}_Q[e^r]
        + \lambda \big(\log \mathbb{E}_Q[e^r]\big)^2

    (Donsker & Varadhan 1983; Belghazi et al. 2018, eq. 12). The bound does not see a constant added
    to :math:`r`; the penalty picks the constant with :math:`\mathbb{E}_Q[e^r] = 1` (Choi & Lee
    2022), so that here too :math:`r^* = \log p/q`, and keeps exponentials from drifting away.

    Args:
        r_p (Tensor): Log-ratios of samples of :math:`P`, [n].
        r_q (Tensor): Log-ratios of samples of :math:`Q`, [m].
        log_mean (Tensor, optional): Logarithm of the moving average of :math:`\mathbb{E}_Q[e^r]`,
            the denominator of the gradient in place of the batch's own mean. The factor between
            the two is held below 10. (default: ``None``, the batch's mean)
        penalty (float): :math:`\lambda`. (default: ``0.1``)

    Returns:
        Tensor: A scalar in nats; its value does not depend on `log_mean`, its gradient does.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If an argument is empty, not one-dimensional or holds NaN, or `penalty` is
            negative.

    Example:
        >>> dv_loss(torch.tensor([1.0, 3.0]), torch.zeros(4))
        tensor(-2.)
    """
    check_number(penalty, "penalty", 0.0)
    with outermost() as values:
        _check_pair(r_p, r_q, values)
        r_p, r_q = full_precision(r_p), full_precision(r_q)
        log_batch = log_mean_exp(r_q)
        second = log_batch
        if log_mean is not None:
            check_floating(log_mean, "log_mean")
            if log_mean.numel() != 1:
                raise ValueError(f"'log_mean' must be a scalar (got {list(log_mean.shape)})")
            floor = torch.maximum(
                log_mean.detach().to(log_batch), log_batch.detach() - math.log(MAX_LAG)
            )
            ratio = (log_batch - floor).exp()
            second = log_batch.detach() + (ratio - ratio.detach())
        return second - r_p.mean() + penalty * log_batch.square()


def infonce_loss(r_p: Tensor, r_q: Tensor, penalty: float = 0.1) -> Tensor:
    r"""The negative InfoNCE bound: find the sample of :math:`P` among `m` samples of :math:`Q`,

    .. math::
        \mathcal{L} = -\frac1n \sum_i \log \frac{e^{r(p_i)}}
        {\frac{1}{m+1} \big(e^{r(p_i)} + \sum_j e^{r(q_j)}\big)}
        + \lambda \big(\log \mathbb{E}_Q[e^r]\big)^2

    (van den Oord et al. 2018). The bound is at most :math:`\log(m + 1)` and does not see a constant
    added to :math:`r`; the penalty picks the calibrated one, see :func:`dv_loss`.

    Args:
        r_p (Tensor): Log-ratios of samples of :math:`P`, [n].
        r_q (Tensor): Log-ratios of samples of :math:`Q`, [m].
        penalty (float): :math:`\lambda`. (default: ``0.1``)

    Returns:
        Tensor: A scalar in nats.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If an argument is empty, not one-dimensional or holds NaN, or `penalty` is
            negative.

    Example:
        >>> infonce_loss(torch.full((2,), 50.0), torch.zeros(63))  # -log 64, and 0.1 * 0
        tensor(-4.1589)
    """
    check_number(penalty, "penalty", 0.0)
    with outermost() as values:
        _check_pair(r_p, r_q, values)
        r_p, r_q = full_precision(r_p), full_precision(r_q)
        total = torch.logaddexp(r_p, r_q.logsumexp(0))
        bound = (r_p - total).mean() + math.log(r_q.numel() + 1)
        return penalty * log_mean_exp(r_q).square() - bound


def log_mean_exp(x: Tensor) -> Tensor:
    """The logarithm of the mean of ``exp(x)`` over all entries, as a scalar."""
    return x.flatten().logsumexp(0) - math.log(x.numel())


def _check_pair(r_p: Tensor, r_q: Tensor, values: bool) -> None:
    check_scores(r_p, "r_p", values)
    check_scores(r_q, "r_q", values)
    check_same_device(r_p, "r_p", r_q=r_q)


def _mean(x: Tensor, weight: Tensor | None, name: str, values: bool) -> Tensor:
    if weight is None:
        return x.mean()
    check_floating(weight, name)
    if weight.shape != x.shape:
        raise ValueError(f"'{name}' must have shape {list(x.shape)} (got {list(weight.shape)})")
    if values and not bool(((weight >= 0) & weight.isfinite()).all()):
        low = float(weight[~((weight >= 0) & weight.isfinite())][0])
        raise ValueError(f"'{name}' must be finite and at least 0 (got {low})")
    weight = weight.to(x.dtype)
    if values and not bool(weight.sum() > 0):
        raise ValueError(f"'{name}' must have a positive sum (got {float(weight.sum())})")
    return (x * weight).sum() / weight.sum()
