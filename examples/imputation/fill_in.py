"""Filling in silent stations without training: what a network must beat.

Days are rows: `x` [T, N], `seen` [T, N]; what `x` holds where `seen` is False is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from field import conditional_mean, fit_gaussian
from torch import Tensor


class Network(NamedTuple):
    """What the training days and the map tell of a network of N stations.

    Attributes:
        mean (Tensor): Mean of each station over the training days, [N].
        cov (Tensor): Covariance over the training days, [N, N].
        distance (Tensor): Distances between stations, [N, N].
        laplacian (Tensor): Laplacian of the weighted graph, [N, N].
    """

    mean: Tensor
    cov: Tensor
    distance: Tensor
    laplacian: Tensor


def survey(
    x: Tensor, observed: Tensor, edge_index: Tensor, edge_weight: Tensor | None, pos: Tensor | None
) -> Network:
    """A :class:`Network` from training days [T, N] and one day's graph."""
    size = x.size(1)
    weight = x.new_ones(edge_index.size(1)) if edge_weight is None else edge_weight.to(x.dtype)
    dense = x.new_zeros(size, size).index_put(tuple(edge_index), weight, accumulate=True)
    dense = (dense + dense.T) / 2
    dense.fill_diagonal_(0)
    laplacian = torch.diag(dense.sum(1)) - dense
    mean, cov = fit_gaussian(x, observed)
    return Network(mean, cov, distances(edge_index, pos, size).to(x.dtype), laplacian)


def distances(edge_index: Tensor, pos: Tensor | None, size: int) -> Tensor:
    """Distances between stations [N, N]: straight ones, or hops where there are no places."""
    if pos is not None:
        return torch.cdist(pos.double(), pos.double())
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import shortest_path

    row, col = edge_index.cpu().numpy()
    graph = coo_matrix((torch.ones(len(row)).numpy(), (row, col)), (size, size))
    hops = torch.from_numpy(shortest_path(graph, directed=False, unweighted=True))
    finite = hops.isfinite()
    return hops.where(finite, 2 * hops[finite].max()).to(edge_index.device)


def day_mean(net: Network, x: Tensor, seen: Tensor, setting: dict[str, Any]) -> Tensor:
    """The mean of what is seen that day."""
    total = torch.where(seen, x, 0.0).sum(1, keepdim=True)
    return (total / seen.sum(1, keepdim=True).clamp(min=1)).expand_as(x)


def nearest(net: Network, x: Tensor, seen: Tensor, setting: dict[str, Any]) -> Tensor:
    """The mean of the `k` nearest seen stations, by inverse distance to a `power`."""
    far = net.distance.masked_fill(~seen.unsqueeze(1), torch.inf)  # [T, N, N]
    k = min(setting["k"], int(seen.sum(1).min()))
    near, index = far.topk(k, dim=-1, largest=False)
    weight = near.clamp(min=1e-9).pow(-setting["power"])
    weight = weight / weight.sum(-1, keepdim=True)
    value = torch.where(seen, x, 0.0).unsqueeze(1).expand_as(far).gather(-1, index)
    return (weight * value).sum(-1)


def tikhonov(net: Network, x: Tensor, seen: Tensor, setting: dict[str, Any]) -> Tensor:
    """The signal f of least ``sum_seen (f - x)^2 + strength f' L f``."""
    keep = seen.to(x.dtype)
    tiny = 1e-6 * torch.eye(x.size(1), dtype=x.dtype, device=x.device)  # components without a seen
    matrix = torch.diag_embed(keep) + setting["strength"] * net.laplacian + tiny
    right = torch.where(seen, x, 0.0).unsqueeze(-1)
    return torch.linalg.solve(matrix, right).squeeze(-1)


def pca(net: Network, x: Tensor, seen: Tensor, setting: dict[str, Any]) -> Tensor:
    """Probabilistic PCA (Tipping and Bishop 1999): the mean given the seen stations, under the
    first `components` axes and one variance for all that is left."""
    values, axes = torch.linalg.eigh(net.cov)
    r = min(setting["components"], len(values) - 1)
    noise = values[:-r].mean().clamp(min=1e-9)
    axes = axes[:, -r:] * (values[-r:] - noise).clamp(min=0).sqrt()
    cov = axes @ axes.T + noise * torch.eye(len(values), dtype=x.dtype, device=x.device)
    return conditional_mean(x.new_zeros(x.size(1)), cov, x, seen)


class Baseline(NamedTuple):
    """A rule and the settings it is tried at. `centred` says whether it is tried on readings less
    their station's mean, on readings as they are, or both."""

    rule: Callable[[Network, Tensor, Tensor, dict[str, Any]], Tensor]
    settings: tuple[dict[str, Any], ...]
    centred: tuple[bool, ...] = (False, True)


BASELINES = {
    "day's mean": Baseline(day_mean, ({},)),
    "k nearest": Baseline(
        nearest, tuple({"k": k, "power": p} for k in (1, 2, 3, 4, 6, 8, 12, 20) for p in (0, 1, 2))
    ),
    "Tikhonov": Baseline(
        tikhonov, tuple({"strength": s} for s in (1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0))
    ),
    "PCA": Baseline(
        pca, tuple({"components": c} for c in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)), (True,)
    ),
}


def apply(name: str, net: Network, x: Tensor, seen: Tensor, setting: dict[str, Any]) -> Tensor:
    """Readings filled in by a baseline, [T, N]."""
    rule = BASELINES[name].rule
    if not setting["centred"]:
        return rule(net, x, seen, setting)
    return net.mean + rule(net, x - net.mean, seen, setting)


def tuned(
    name: str, net: Network, x: Tensor, seen: Tensor, hidden: Tensor
) -> tuple[dict[str, Any], float]:
    """The setting of least mean absolute error on `hidden`, and that error: for validation days."""
    baseline = BASELINES[name]
    tried = [
        {**setting, "centred": centred}
        for setting in baseline.settings
        for centred in baseline.centred
    ]
    errors = [float((apply(name, net, x, seen, s) - x)[hidden].abs().mean()) for s in tried]
    best = min(range(len(tried)), key=errors.__getitem__)
    return tried[best], errors[best]
