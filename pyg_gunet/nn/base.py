"""The way down that Graph U-Nets and their auto-encoders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.functional.inputs import as_edges
from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_bool,
    check_choice,
    check_features,
    check_memory,
    check_positive_int,
    check_tensor,
)
from pyg_gunet.nn.levels import (
    CONNECTIONS,
    Hierarchy,
    Level,
    LevelBuilder,
    apply_norm,
    check_dropout,
    check_pool_ratios,
    make_act,
    make_conv,
    make_norm,
)
from pyg_gunet.nn.pool import GPool, GUnpool


class UNetBase(torch.nn.Module):
    """Holds the convolutions and pools of the way down; arguments as in :class:`GraphUNet`.

    A subclass appends its `up_convs` and calls :meth:`finish`.
    """

    levels: LevelBuilder

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        coarsest_channels: int,
        depth: int,
        pool_ratios: float | int | list[float | int],
        act: str | Callable[[Tensor], Tensor],
        conv: Callable[[int, int], torch.nn.Module] | None,
        select: str,
        connect: str,
        gate: str | None,
        dropout: float,
        max_products: int | None,
        max_degree: int,
        cached: bool,
        quantiles: int | None = None,
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_bool(cached, "cached")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.pool_ratios = check_pool_ratios(pool_ratios, depth)
        widest = max(in_channels, coarsest_channels, hidden_channels if depth > 1 else 1)
        check_memory(4 * hidden_channels * widest, "hidden_channels", hidden_channels)
        self.depth = depth
        self.act = make_act(act)
        check_choice(connect, "connect", CONNECTIONS)
        self.select = select
        self.connect = connect
        self.max_products = max_products
        self.cached = cached
        self.dropout = check_dropout(dropout)
        self.down_convs = torch.nn.ModuleList([make_conv(conv, in_channels, hidden_channels)])
        self.pools = torch.nn.ModuleList()
        for i, ratio in enumerate(self.pool_ratios):
            self.pools.append(
                GPool(
                    hidden_channels,
                    ratio,
                    select=select,
                    connect="two_hop" if connect in ("walk", "auto") else connect,
                    gate=gate,
                    max_products=max_products,
                    max_degree=max_degree,
                    quantiles=quantiles,
                )
            )
            out_channels = coarsest_channels if i == depth - 1 else hidden_channels
            self.down_convs.append(make_conv(conv, hidden_channels, out_channels))
        self.up_convs = torch.nn.ModuleList()
        self.unpool = GUnpool()
        # Absent rather than empty without `norm`: the state dict is PyG's.
        self.down_norms: torch.nn.ModuleList | None = None
        self.up_norms: torch.nn.ModuleList | None = None

    def finish(
        self,
        norm: str | Callable[[int], torch.nn.Module] | None,
        num_down: int,
        num_up: int,
        more: Sequence[torch.nn.Module] = (),
    ) -> None:
        """Adds `num_down` and `num_up` normalisations and gets the levels ready, for `more`
        convolutions, too."""
        if norm is not None:
            channels = self.hidden_channels
            self.down_norms = torch.nn.ModuleList(
                make_norm(norm, channels) for _ in range(num_down)
            )
            self.up_norms = torch.nn.ModuleList(make_norm(norm, channels) for _ in range(num_up))
        convs = [*self.down_convs, *self.up_convs, *more]
        self.levels = LevelBuilder(
            convs, self.connect, self.max_products, self.pool_ratios, self.cached
        )

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, and what `cached` holds."""
        self.levels.reset()
        for child in self.children():
            for module in child if isinstance(child, torch.nn.ModuleList) else [child]:
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()

    def descend(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        keep_skips: bool,
        values: bool,
    ) -> tuple[Tensor, Hierarchy]:
        """Features of the coarsest level, [K, coarsest_channels], and the hierarchy."""
        check_features(x, self.in_channels, values)
        edge_index, edge_weight = as_edges(
            edge_index, edge_weight, x.size(0), weighted=self.levels.weighted
        )
        self.levels.check(x, edge_index, batch, edge_weight, values)
        x, edge_index, edge_weight = self.corrupted(x, edge_index, edge_weight)
        level = self.levels.first(x, edge_index, batch, edge_weight)
        hierarchy = Hierarchy([level])
        x = self.enter(x, hierarchy)
        x = self.down(x, level, 0)
        for i, pool in enumerate(self.pools):
            if keep_skips:
                hierarchy.skips.append(x)
            x, level, perm = self.levels.pool(pool, x, level)
            hierarchy.levels.append(level)
            hierarchy.perms.append(perm)
            x = self.down(self.drop(x), level, i + 1)
        return x, hierarchy

    def corrupted(
        self, x: Tensor, edge_index: Tensor | Structure, edge_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | Structure, Tensor | None]:
        """The input after what a training step leaves out of it."""
        return x, edge_index, edge_weight

    def enter(self, x: Tensor, hierarchy: Hierarchy) -> Tensor:
        """What the first convolution of the way down reads."""
        return x

    def check_latent(self, z: Tensor, hierarchy: Hierarchy, channels: int, values: bool) -> None:
        """The features `z` of the coarsest level, [K, channels], at the door of a decoder."""
        check_tensor(z, "z")
        if not isinstance(hierarchy, Hierarchy) or hierarchy.depth != self.depth:
            raise TypeError(
                f"'hierarchy' must be a Hierarchy of {self.depth} poolings, from 'encode' "
                f"(got {hierarchy!r:.80})"
            )
        coarsest = hierarchy.levels[-1].num_nodes
        if z.shape != (coarsest, channels):
            raise ValueError(f"'z' must have shape [{coarsest}, {channels}] (got {list(z.shape)})")
        check_features(z, channels, values, name="z")

    def down(self, x: Tensor, level: Level, i: int) -> Tensor:
        """The i-th convolution of the way down with all that follows it."""
        x = self.levels.convolve(self.down_convs[i], x, level)
        return self.act(self.normalise(self.down_norms, x, level, i))

    def normalise(
        self, norms: torch.nn.ModuleList | None, x: Tensor, level: Level, i: int
    ) -> Tensor:
        """The i-th normalisation, if there is one."""
        if norms is None or i >= len(norms):
            return x
        return apply_norm(norms[i], x, level.batch)

    def drop(self, x: Tensor) -> Tensor:
        """Dropout on features."""
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
