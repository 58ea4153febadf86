r"""Gaussian fields on a fixed set of stations: readings that are missing, given those that are not.

Days are rows: `x` [T, N] with a boolean `seen` [T, N] beside it; what `x` holds elsewhere is not
read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CHUNK = 2**24  # numbers of a batch of matrices: 128 MB in float64


def condition(mean: Tensor, cov: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The conditional of a normal distribution, day by day.

    For a station that is not seen: its mean given the seen ones,
    :math:`\mu_i + \Sigma_{is} \Sigma_{ss}^{-1} (x_s - \mu_s)`, and its deviation. For a seen one
    the same given all *other* seen ones (leave-one-out, Rasmussen and Williams 2006, eq. 5.12), so
    that both are errors of the same kind.

    Args:
        mean (Tensor): Mean of every station [N], or of every day and station [T, N].
        cov (Tensor): Covariance [N, N], or one per day [T, N, N]; positive definite.
        x (Tensor): Readings, [T, N].
        seen (Tensor): Which of them may be read, [T, N], boolean.

    Returns:
        ``(value, deviation, residual)``, [T, N] each; the residual is the reading less the value at
        seen stations, and zero elsewhere.

    Example:
        >>> cov = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> x, seen = torch.tensor([[2.0, 0.0]]), torch.tensor([[True, False]])
        >>> condition(torch.zeros(2), cov, x, seen)[0][0, 1]
        tensor(1.)
    """
    if x.dim() != 2 or seen.shape != x.shape or seen.dtype != torch.bool:
        raise ValueError(
            f"'seen' must be boolean of the shape of 'x', [T, N] "
            f"(got {seen.dtype} of {list(seen.shape)} and 'x' of {list(x.shape)})"
        )
    keep = seen.to(x.dtype)
    # Rows and columns of unseen stations become those of the identity: one factorisation per day
    # of one size, whatever was seen.
    matrix = cov * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    inverse = inverse * keep.unsqueeze(-1) * keep.unsqueeze(-2)
    centred = torch.where(seen, x - mean, 0.0)
    weight = (inverse @ centred.unsqueeze(-1)).squeeze(-1)
    full = cov.expand(x.size(0), -1, -1)
    away = mean + (full @ weight.unsqueeze(-1)).squeeze(-1)
    variance = full.diagonal(dim1=-2, dim2=-1) - ((full @ inverse) * full).sum(-1)
    precision = inverse.diagonal(dim1=-2, dim2=-1)
    tiny = torch.finfo(x.dtype).tiny
    residual = torch.where(seen, weight / precision.clamp(min=tiny), 0.0)
    value = torch.where(seen, x - residual, away)
    variance = torch.where(seen, 1 / precision.clamp(min=tiny), variance)
    return value, variance.clamp(min=tiny).sqrt(), residual


def conditional_mean(mean: Tensor, cov: Tensor, x: Tensor, seen: Tensor) -> Tensor:
    """The values of :func:`condition` at stations that are not seen, and little more work than one
    factorisation a day; arguments as there."""
    keep = seen.to(x.dtype)
    matrix = cov * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
    centred = torch.where(seen, x - mean, 0.0).unsqueeze(-1)
    weight = torch.cholesky_solve(centred, torch.linalg.cholesky(matrix))
    return mean + (cov @ weight).squeeze(-1)


def fit_gaussian(
    x: Tensor, seen: Tensor, steps: int = 10, ridge: float = 1e-3
) -> tuple[Tensor, Tensor]:
    r"""Mean [N] and covariance [N, N] of days with missing readings, by expectation maximisation
    (Dempster, Laird and Rubin 1977).

    Args:
        x (Tensor): Readings, [T, N].
        seen (Tensor): Which there are, [T, N], boolean.
        steps (int, optional): Number of iterations. (default: 10)
        ridge (float, optional): Added to the diagonal, in units of the mean variance.
            (default: 1e-3)
    """
    count = seen.sum(0).clamp(min=1)
    mean = torch.where(seen, x, 0.0).sum(0) / count
    filled = torch.where(seen, x, mean)
    centred = filled - mean
    cov = centred.T @ centred / x.size(0)
    eye = torch.eye(x.size(1), dtype=x.dtype, device=x.device)
    extra = ridge * cov.diagonal().mean().clamp(min=torch.finfo(x.dtype).eps) * eye
    cov = cov + extra
    gaps = (~seen).any(1)
    if not bool(gaps.any()):
        return mean, cov
    for _ in range(steps):
        spread = torch.zeros_like(cov)
        filled = x.clone()
        for rows in _chunks(gaps.nonzero().view(-1), x.size(1)):
            value, part = _expect(mean, cov, x[rows], seen[rows])
            filled[rows] = torch.where(seen[rows], x[rows], value)
            spread += part
        mean = filled.mean(0)
        centred = filled - mean
        cov = (centred.T @ centred + spread) / x.size(0) + extra
    return mean, cov


def _expect(mean: Tensor, cov: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Conditional means of the missing readings, and the sum of their conditional covariances."""
    keep = seen.to(x.dtype)
    matrix = cov * keep.unsqueeze(-1) * keep.unsqueeze(-2) + torch.diag_embed(1 - keep)
    cross = cov * keep.unsqueeze(-1)  # rows: seen stations
    solved = torch.cholesky_solve(cross, torch.linalg.cholesky(matrix))
    value = mean + (solved.mT @ torch.where(seen, x - mean, 0.0).unsqueeze(-1)).squeeze(-1)
    left = cov - cross.mT @ solved
    gone = 1 - keep
    return value, (left * gone.unsqueeze(-1) * gone.unsqueeze(-2)).sum(0)


def _chunks(rows: Tensor, size: int) -> Iterator[Tensor]:
    yield from rows.split(max(1, _CHUNK // size**2))


def distance_covariance(cov: Tensor, distance: Tensor) -> Tensor:
    r"""A covariance with the variances of `cov` and correlations that depend on distance alone:

    .. math::
        \rho(d) = c + (1 - c) \exp(-(d / l)^p)

    with c, l and p fitted to the correlations of `cov` by least squares: the target that a sample
    covariance is shrunk to.

    Args:
        cov (Tensor): Covariance, [N, N].
        distance (Tensor): Distances, [N, N].
    """
    import numpy as np
    from scipy.optimize import curve_fit

    deviation = cov.diagonal().sqrt()
    correlation = cov / deviation.unsqueeze(0) / deviation.unsqueeze(1)
    upper = torch.triu(torch.ones_like(cov, dtype=torch.bool), 1)
    d, rho = distance[upper].cpu().numpy(), correlation[upper].cpu().numpy()

    def model(d: np.ndarray, c: float, scale: float, power: float) -> np.ndarray:
        return c + (1 - c) * np.exp(-((d / scale) ** power))

    middle = float(max(np.median(d), 1e-12))
    bounds = ([0.0, 1e-2 * middle, 0.3], [0.999, 1e2 * middle, 1.9])
    start = (min(max(float(rho.min()), 0.0), 0.99), middle, 1.0)
    try:
        found, _ = curve_fit(model, d, rho, p0=start, bounds=bounds, max_nfev=2000)
    except RuntimeError:  # no convergence: the start is a sane choice
        found = np.asarray(start)
    fitted = model(distance.cpu().numpy(), *found)
    smooth = torch.as_tensor(fitted, dtype=cov.dtype, device=cov.device)
    return smooth * deviation.unsqueeze(0) * deviation.unsqueeze(1)
