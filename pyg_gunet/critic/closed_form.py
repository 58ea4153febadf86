"""The mutual information of Gaussian vectors, in nats; the divergences of named distributions are
:func:`torch.distributions.kl_divergence`'s."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.critic.checks import (
    check_floating,
    full_precision,
    no_autocast,
)
from pyg_gunet.validate import (
    check_positive_int,
    outermost,
)


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
