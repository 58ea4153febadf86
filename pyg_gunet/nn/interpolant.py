r"""What a latent is without a network: the interpolation of the coarsest level's rows, and the rows
whose interpolation is nearest to the features.

Smoothed prolongation is that of smoothed aggregation multigrid (Vanek, Mandel and Brezina,
"Algebraic Multigrid by Smoothed Aggregation", Computing 56, 1996): a prolongation, then steps of
averaging on the level that it reaches, so that functions of few values are smooth.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.unpool import GUnpool

# Of the eigenvalues of the normal equations, which are at most 1 where rows are averages, the fit
# attends to those above this over the square of its steps: so far do they reach.
REACH = 1.6


class Steps(NamedTuple):
    """How often rows are averaged on the input graph (`fine`) and on each level between it and the
    coarsest (`inner`), and the steps of the fit."""

    fine: int = 0
    inner: int = 0
    fit: int = 0


class Interpolant:
    r"""The linear map :math:`\mathbf{D}` [N, K] from rows of the coarsest level to all nodes: level
    by level lifted, then averaged. Its rows sum to 1 where a path joins a node to a kept one.

    Args:
        hierarchy (Hierarchy): The levels; for a fit they hold transfers.
        unpool (GUnpool): Lifts.
        steps (Steps): How often it averages, and fits.
    """

    def __init__(self, hierarchy: Hierarchy, unpool: GUnpool, steps: Steps) -> None:
        self.hierarchy, self.unpool, self.steps = hierarchy, unpool, steps

    def averaged(self, x: Tensor, level: int, transposed: bool = False) -> Tensor:
        times = self.steps.inner if level else self.steps.fine
        return self.hierarchy.levels[level].graph.smoothed(x, times, transposed)

    def apply(self, z: Tensor) -> Tensor:
        r""":math:`\mathbf{D} \mathbf{Z}`, [K, F] to [N, F]."""
        for i in reversed(range(self.hierarchy.depth)):
            z = self.averaged(self.unpool.up(z, self.hierarchy, i), i)
        return z

    def gather(self, x: Tensor) -> Tensor:
        r""":math:`\mathbf{D}^{\top} \mathbf{X}`, [N, F] to [K, F]."""
        for i, transfer in enumerate(self.hierarchy.transfers):
            assert transfer is not None
            x = transfer.gather(self.averaged(x, i, transposed=True))
        return x

    def fit(self, x: Tensor, z: Tensor) -> Tensor:
        r"""Rows [K, F] whose interpolation is nearer to `x` [N, F] in the mean square than that of
        `z`: steps of Chebyshev's iteration (Saad, "Iterative Methods for Sparse Linear Systems",
        2003, algorithm 12.1) on the normal equations over the column sums of :math:`\mathbf{D}`. A
        linear map of `x` and `z`, for each graph of a batch as for itself."""
        if not self.steps.fit:
            return z
        given, dtype = z.dtype, torch.promote_types(z.dtype, torch.float32)
        x, z = x.to(dtype), z.to(dtype)
        mass = self.gather(x.new_ones(x.size(0), 1)).clamp(min=torch.finfo(x.dtype).tiny)
        low = REACH / (self.steps.fit + 1) ** 2
        middle, radius = (1 + low) / 2, (1 - low) / 2
        rate, step = 0.0, torch.zeros_like(z)
        for _ in range(self.steps.fit):
            left = self.gather(x - self.apply(z)) / mass
            faster = radius / (2 * middle - radius * rate) if rate else radius / middle
            step = faster * rate * step + (2 * faster / radius if rate else 1 / middle) * left
            z, rate = z + step, faster
        return z.to(given)
