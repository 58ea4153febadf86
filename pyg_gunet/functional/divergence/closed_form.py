"""Closed-form divergences of discrete and Gaussian distributions, in nats."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_gunet.functional.divergence._checks import (
    DIRECTIONS,
    check_broadcast,
    check_floating,
    full_precision,
    no_autocast,
)
from pyg_gunet.validate import (
    check_choice,
    check_positive_int,
    check_same_device,
    outermost,
)


def _directed(forward: Callable[..., Tensor], p: tuple, q: tuple, direction: str) -> Tensor:
    if direction == "forward":
        return forward(*p, *q)
    if direction == "reverse":
        return forward(*q, *p)
    return forward(*p, *q) + forward(*q, *p)


def kl_discrete(p: Tensor, q: Tensor, direction: str = "forward", dim: int = -1) -> Tensor:
    r"""The Kullback-Leibler divergence of two discrete distributions,

    .. math::
        \mathrm{KL}(P \,\|\, Q) = \sum_k p_k \log \frac{p_k}{q_k} .

    A class with :math:`p_k = 0` contributes 0, one with :math:`p_k > 0 = q_k` makes the
    divergence infinite (Cover & Thomas, `Elements of Information Theory`, section 2.3).

    Args:
        p (Tensor): Probabilities, summing to 1 along `dim`.
        q (Tensor): Probabilities of a shape that broadcasts with `p`.
        direction (str): ``'forward'`` for :math:`\mathrm{KL}(P\|Q)`, ``'reverse'`` for
            :math:`\mathrm{KL}(Q\|P)`, ``'jeffreys'`` for their sum. (default: ``'forward'``)
        dim (int): The dimension of the classes. (default: ``-1``)

    Returns:
        Tensor: The divergence in nats, without the dimension `dim`.

    Raises:
        TypeError: If `p` or `q` is not a floating-point tensor.
        ValueError: If an entry is negative or NaN, a sum is not 1, or `direction` is unknown.

    Example:
        >>> p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
        >>> kl_discrete(p, q)
        tensor(0.3466)
        >>> kl_discrete(p, q, direction="reverse")
        tensor(inf)
    """
    check_choice(direction, "direction", DIRECTIONS)
    with outermost() as values:
        for name, x in (("p", p), ("q", q)):
            check_floating(x, name, values)
            if isinstance(dim, bool) or not isinstance(dim, int):
                raise TypeError(f"'dim' must be an int (got {dim!r})")
            if not -x.dim() <= dim < x.dim():
                raise IndexError(f"'dim' must be a dimension of '{name}', {x.dim()}-d (got {dim})")
            if values:
                if bool((x.detach() < 0).any()):
                    raise ValueError(f"'{name}' must be non-negative (got {float(x.min())})")
                total = full_precision(x.detach()).sum(dim)
                # Half-precision probabilities are rounded one by one.
                slack = 1e-2 if x.dtype in (torch.float16, torch.bfloat16) else 1e-4
                worst = (total - 1).abs().max()
                if not bool(worst <= slack):
                    raise ValueError(
                        f"'{name}' must sum to 1 along dimension {dim} (off by {float(worst):.3g})"
                    )
        check_same_device(p, "p", q=q)
        check_broadcast(p=p, q=q)
        p, q = torch.broadcast_tensors(full_precision(p), full_precision(q))

        def forward(p: Tensor, q: Tensor) -> Tensor:
            # The inner `where` keeps log(0) out of the graph: 0 * d log(0) would be NaN.
            held = p > 0
            safe = torch.where(held, p, torch.ones_like(p))
            ratio = safe.log() - torch.where(held, q, torch.ones_like(q)).log()
            return torch.where(held, p * ratio, torch.zeros_like(p)).sum(dim)

        return _directed(forward, (p,), (q,), direction)


def kl_diagonal_gaussian(
    mean_p: Tensor,
    logvar_p: Tensor,
    mean_q: Tensor | None = None,
    logvar_q: Tensor | None = None,
    direction: str = "forward",
) -> Tensor:
    r"""The Kullback-Leibler divergence of two Gaussians with diagonal covariances,

    .. math::
        \mathrm{KL}(P \,\|\, Q) = \frac12 \sum_i \Big( e^{\delta_i} - 1 - \delta_i
        + (\mu^p_i - \mu^q_i)^2 e^{-\lambda^q_i} \Big), \qquad
        \delta_i = \lambda^p_i - \lambda^q_i,

    with :math:`\lambda` the logarithm of the variance (Kingma & Welling 2014, appendix B, for
    the standard normal :math:`Q`).

    Args:
        mean_p (Tensor): Means [..., d].
        logvar_p (Tensor): Logarithms of the variances [..., d].
        mean_q (Tensor, optional): Means of :math:`Q`. (default: ``None``, zero)
        logvar_q (Tensor, optional): Log-variances of :math:`Q`. (default: ``None``, zero)
        direction (str): ``'forward'``, ``'reverse'`` or ``'jeffreys'``. (default: ``'forward'``)

    Returns:
        Tensor: The divergence in nats, [...].

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If an argument holds NaN or `direction` is unknown.

    Example:
        >>> zero = torch.zeros(10)
        >>> kl_diagonal_gaussian(zero, torch.full((10,), 4.0).log())
        tensor(8.0685)
    """
    check_choice(direction, "direction", DIRECTIONS)
    check_floating(mean_p, "mean_p", False)
    mean_q = torch.zeros_like(mean_p) if mean_q is None else mean_q
    logvar_q = torch.zeros_like(mean_p) if logvar_q is None else logvar_q
    named = {"mean_p": mean_p, "logvar_p": logvar_p, "mean_q": mean_q, "logvar_q": logvar_q}
    with outermost() as values:
        for name, x in named.items():
            check_floating(x, name, values)
        check_broadcast(**named)
        check_same_device(mean_p, "mean_p", logvar_p=logvar_p, mean_q=mean_q, logvar_q=logvar_q)

        def forward(mp: Tensor, lp: Tensor, mq: Tensor, lq: Tensor) -> Tensor:
            delta = lp - lq
            # expm1(delta) - delta: no cancellation where the variances are close.
            return 0.5 * (delta.expm1() - delta + (mp - mq).square() * (-lq).exp()).sum(-1)

        mp, lp, mq, lq = (full_precision(x) for x in named.values())
        return _directed(forward, (mp, lp), (mq, lq), direction)


def kl_gaussian(
    mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor, direction: str = "forward"
) -> Tensor:
    r"""The Kullback-Leibler divergence of two Gaussians with full covariances,

    .. math::
        \mathrm{KL}(P \,\|\, Q) = \frac12 \Big( \mathrm{tr}(\Sigma_q^{-1} \Sigma_p) - d
        + (\mu_p - \mu_q)^\top \Sigma_q^{-1} (\mu_p - \mu_q)
        + \log \frac{|\Sigma_q|}{|\Sigma_p|} \Big),

    computed from Cholesky factors.

    Args:
        mean_p (Tensor): Means [..., d].
        cov_p (Tensor): Symmetric positive definite covariances [..., d, d].
        mean_q (Tensor): Means [..., d].
        cov_q (Tensor): Symmetric positive definite covariances [..., d, d].
        direction (str): ``'forward'``, ``'reverse'`` or ``'jeffreys'``. (default: ``'forward'``)

    Returns:
        Tensor: The divergence in nats, [...].

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If a covariance is not [..., d, d], not symmetric or not positive definite, an
            argument holds NaN, or `direction` is unknown.

    Example:
        >>> mean, cov = torch.zeros(2), torch.eye(2)
        >>> kl_gaussian(mean + 1.0, cov, mean, cov)
        tensor(1.)
    """
    check_choice(direction, "direction", DIRECTIONS)
    with outermost() as values:
        for name, x in (("mean_p", mean_p), ("mean_q", mean_q)):
            check_floating(x, name, values)
            if x.dim() < 1:
                raise ValueError(f"'{name}' must have shape [..., d] (got a scalar)")
        check_broadcast(mean_p=mean_p, mean_q=mean_q)
        for name, x, mean in (("cov_p", cov_p, mean_p), ("cov_q", cov_q, mean_q)):
            _check_covariance(x, name, mean.size(-1), values)
        check_same_device(mean_p, "mean_p", cov_p=cov_p, mean_q=mean_q, cov_q=cov_q)
        with no_autocast(mean_p):
            mean_p, mean_q = full_precision(mean_p), full_precision(mean_q)
            tril_p = _cholesky(full_precision(cov_p), "cov_p", values)
            tril_q = _cholesky(full_precision(cov_q), "cov_q", values)

            def forward(mp: Tensor, lp: Tensor, mq: Tensor, lq: Tensor) -> Tensor:
                lead = torch.broadcast_shapes(mp.shape[:-1], mq.shape[:-1], lp.shape[:-2])
                lead = torch.broadcast_shapes(lead, lq.shape[:-2])
                size = mp.size(-1)
                lq = lq.expand(*lead, size, size)
                gap = (mp - mq).expand(*lead, size).unsqueeze(-1)
                white = torch.linalg.solve_triangular(
                    lq, torch.cat([lp.expand(*lead, size, size), gap], dim=-1), upper=False
                )
                # tr(S_q^-1 S_p) and the Mahalanobis term are one Frobenius norm; the diagonal of
                # L_q^-1 L_p is the ratio of the two diagonals, so its logs are the determinants.
                log_diag = lp.diagonal(dim1=-2, dim2=-1).log() - lq.diagonal(dim1=-2, dim2=-1).log()
                return 0.5 * (white.square().sum((-2, -1)) - size) - log_diag.sum(-1)

            return _directed(forward, (mean_p, tril_p), (mean_q, tril_q), direction)


def gaussian_mutual_information(cov: Tensor, x_channels: int) -> Tensor:
    r"""The mutual information of two jointly Gaussian vectors (Cover & Thomas, section 8.5),

    .. math::
        I(x; y) = \frac12 \log \frac{|\Sigma_{xx}| \, |\Sigma_{yy}|}{|\Sigma|} .

    Args:
        cov (Tensor): Joint covariances [..., d, d] of :math:`(x, y)`.
        x_channels (int): How many of the leading coordinates are :math:`x`.

    Returns:
        Tensor: The mutual information in nats, [...].

    Raises:
        ValueError: If `cov` is not symmetric positive definite or `x_channels` not in [1, d).

    Example:
        >>> gaussian_mutual_information(torch.tensor([[1.0, 0.8], [0.8, 1.0]]), 1)
        tensor(0.5108)
    """
    check_positive_int(x_channels, "x_channels")
    with outermost() as values:
        check_floating(cov, "cov", values)
        _check_covariance(cov, "cov", cov.size(-1) if cov.dim() else 0, values)
        if x_channels >= cov.size(-1):
            raise ValueError(
                f"'x_channels' must be below the size of 'cov', {cov.size(-1)} (got {x_channels})"
            )
        with no_autocast(cov):
            cov = full_precision(cov)
            # The leading block of the factor is the factor of the leading block.
            joint = _cholesky(cov, "cov", values).diagonal(dim1=-2, dim2=-1)[..., x_channels:]
            alone = _cholesky(cov[..., x_channels:, x_channels:], "cov", values)
            return (alone.diagonal(dim1=-2, dim2=-1).log() - joint.log()).sum(-1)


def _check_covariance(cov: Tensor, name: str, size: int, values: bool) -> None:
    check_floating(cov, name, values)
    if cov.dim() < 2 or cov.shape[-2:] != (size, size):
        raise ValueError(f"'{name}' must have shape [..., {size}, {size}] (got {list(cov.shape)})")
    if values:
        if not bool(cov.detach().isfinite().all()):
            raise ValueError(f"'{name}' must be finite")
        gap = float((cov.detach() - cov.detach().mT).abs().max())
        if not gap <= 1e-3 * max(float(cov.detach().abs().max()), 1e-30):
            raise ValueError(f"'{name}' must be symmetric (off by {gap:.3g})")


def _cholesky(cov: Tensor, name: str, values: bool) -> Tensor:
    tril, info = torch.linalg.cholesky_ex(cov)
    if values and bool((info > 0).any()):
        low = float(torch.linalg.eigvalsh(cov.detach()).min())
        raise ValueError(f"'{name}' must be positive definite (smallest eigenvalue {low:.3g})")
    return tril
