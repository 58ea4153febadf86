"""One sampler for all critics: splits and minibatches of samples, pairs, and whole graphs.

A data set is the arguments of a critic's ``loss``. Its *units* are what may be drawn and split:
rows of every tensor on their own where samples are unpaired (``(p, q)``), rows of all together
where they are pairs (``(x, y)``), and rows of y with all nodes of that graph where there is a
``batch`` (``(x, y, batch)``). Units of one cluster never land on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.validate import INDEX_DTYPES, check_tensor

Batch = tuple[Tensor, ...]


class Sampler:
    r"""Draws from a data set.

    Args:
        data (Tuple[Tensor, ...]): The arguments of ``critic.loss``.
        paired (bool): Whether rows belong together.
        cluster (Tensor or Sequence[Tensor or None], optional): A cluster id per unit; where samples
            are unpaired one for each tensor. (default: ``None``, every unit by itself)
        generator (torch.Generator, optional): Source of the draws, on the CPU, so that one seed
            means one batch on every device. (default: ``None``, the global one)
    """

    def __init__(
        self,
        data: Batch,
        paired: bool,
        cluster: Tensor | Sequence[Tensor | None] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.data, self.generator = data, generator
        # Groups of tensors that are drawn together, and the number of units of each.
        self.groups = [data] if paired else [(x,) for x in data]
        self.sizes = [group[min(1, len(group) - 1)].size(0) for group in self.groups]
        given: Sequence[Any]
        given = [cluster] * len(self.groups) if paired or cluster is None else list(cluster)
        if len(given) != len(self.groups):
            raise ValueError(
                f"'cluster' must hold one tensor for each of {len(self.groups)} samples "
                f"(got {len(given)})"
            )
        self.clusters = [_ids(ids, n) for ids, n in zip(given, self.sizes)]

    def folds(self, count: int) -> list[list[Tensor]]:
        r"""Random folds ``[fold][group]`` of units, each cluster whole in one of them."""
        names = torch.cat(self.clusters).unique()
        fold_of = torch.arange(len(names)) % count
        fold_of = fold_of[torch.randperm(len(names), generator=self.generator)]
        where = [fold_of[torch.searchsorted(names, ids)] for ids in self.clusters]
        return [[(w == k).nonzero().flatten() for w in where] for k in range(count)]

    def split(self, share: float, least: int = 1) -> tuple[Batch, Batch]:
        r"""A training and a held-out part, `share` of the clusters of each group (at least
        `least`) in the second."""
        held: list[Tensor] = []
        rest: list[Tensor] = []
        for ids in self.clusters:
            names = ids.unique()
            n = len(names)
            count = min(max(round(n * share), least), n - least)
            drawn = names[torch.randperm(n, generator=self.generator)[:count]]
            inside = torch.isin(ids, drawn)
            held.append(inside.nonzero().flatten())
            rest.append((~inside).nonzero().flatten())
        return self.take(rest), self.take(held)

    def minibatch(self, size: int) -> Batch:
        r"""Draws `size` units of each group, with replacement; pairs and graphs once at most, as
        none is a negative of itself."""
        units = []
        for group, n in zip(self.groups, self.sizes):
            if len(group) > 1 and 4 * size > n:
                units.append(torch.randperm(n, generator=self.generator)[:size])
                continue
            drawn = torch.randint(n, (size,), generator=self.generator)
            units.append(drawn.unique() if len(group) > 1 else drawn)
        return self.take(units)

    def take(self, units: Sequence[Tensor]) -> Batch:
        r"""The data of some units of each group."""
        out: list[Tensor] = []
        for group, index in zip(self.groups, units):
            if len(group) < 3:
                out += [x[index.to(x.device)] for x in group]
                continue
            x, y, batch = group
            index = index.to(y.device)
            sizes = torch.bincount(batch, minlength=y.size(0))
            start, sizes = (sizes.cumsum(0) - sizes)[index], sizes[index]
            target = torch.arange(len(index), device=y.device).repeat_interleave(sizes)
            first = (sizes.cumsum(0) - sizes)[target]
            rows = start[target] + torch.arange(len(target), device=y.device) - first
            out += [x[rows], y[index], target]
        return tuple(out)


def _ids(cluster: Tensor | None, n: int) -> Tensor:
    if cluster is None:
        return torch.arange(n)
    check_tensor(cluster, "cluster")
    if cluster.dtype not in INDEX_DTYPES:
        raise TypeError(f"'cluster' must be of dtype int64 or int32 (got {cluster.dtype})")
    if cluster.shape != (n,):
        raise ValueError(f"'cluster' must have shape [{n}] (got {list(cluster.shape)})")
    return cluster.cpu().long()
