"""What Graph U-Nets and their auto-encoders share: parts by name, the steps between levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.graph.level import Hierarchy, Level
from pyg_gunet.nn.door import Door, check_pool
from pyg_gunet.nn.parts import Ratios, check_dropout, check_pool_ratios, made_by, make_act
from pyg_gunet.nn.pool import GPool
from pyg_gunet.nn.unpool import GUnpool
from pyg_gunet.validate import check_choice, check_memory, check_positive_int

CONNECTIONS = ("induced", "two_hop", "contract", "walk", "sampled")

MakePool = Callable[[int, float | int], GPool] | None


class LevelModel(Door):
    """Holds the pools of the way down and knows how a level is made; arguments as in
    :class:`GraphUNet`."""

    # Of 'spread' where no `pool` is given: None or, where levels are to hang on the graph alone, 1.
    quantiles: int | None = None

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        depth: int,
        pool_ratios: Ratios,
        act: str | Callable[[Tensor], Tensor],
        words: tuple[str, str, str, str],
        dropout: float,
        pool: MakePool,
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_memory(4 * hidden_channels**2, "hidden_channels", hidden_channels)
        check_memory(4 * hidden_channels * in_channels, "in_channels", in_channels)
        select, reduce, connect, lift = words
        check_choice(connect, "connect", CONNECTIONS)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.pool_ratios = check_pool_ratios(pool_ratios, depth)
        self.depth = depth
        self.act = make_act(act)
        self.dropout = check_dropout(dropout)
        self.words = words
        self.walks = connect == "walk"
        quantiles = self.quantiles if select == "spread" else None
        # Named before the pools, and so reset before them: the same seed gives PyG's weights.
        self.down_convs = torch.nn.ModuleList()
        self.pools = torch.nn.ModuleList()
        for ratio in self.pool_ratios:
            if pool is not None:
                made: Any = made_by(pool, "pool", "(channels, ratio)", hidden_channels, ratio)
            else:
                made = GPool(
                    hidden_channels,
                    ratio,
                    select=select,
                    reduce=reduce,
                    connect="induced" if self.walks else connect,
                    quantiles=quantiles,
                )
            self.pools.append(check_pool(made, hidden_channels, "pool"))
        self.unpool = GUnpool(lift)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        for child in self.children():
            for module in child if isinstance(child, torch.nn.ModuleList) else [child]:
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()

    # Between levels -------------------------------------------------------------------------

    def coarsen(self, x: Tensor, hierarchy: Hierarchy, i: int) -> Tensor:
        """The i-th pooling: features of level ``i + 1``, which the hierarchy gets unless it has
        it."""
        pool, level = self.pool(i), hierarchy.levels[i]
        if hierarchy.depth > i:
            return pool.down(x, level, (hierarchy.levels[i + 1], *hierarchy.between(i)))[0]
        x, below, perm, transfer = pool.down(x, level, self.unpool.lift == "interpolate")
        hierarchy.append(below, perm, transfer)
        return x

    def convolve(self, conv: torch.nn.Module, x: Tensor, level: Level, channels: int) -> Tensor:
        """A convolution on one level, [N, channels]."""
        out = level.graph.convolve(conv, x)
        if out.size(-1) != channels:
            raise ValueError(
                f"'conv' must map to {channels} channels, heads and all (got {out.size(-1)} from "
                f"{type(conv).__name__})"
            )
        return out

    def drop(self, x: Tensor) -> Tensor:
        """Dropout on features."""
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
