"""The levels of a U-Net: how each is connected, and what was kept on the way down."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.resolver import activation_resolver, normalization_resolver

from pyg_gunet.functional.adjacency import Adjacency
from pyg_gunet.functional.choose import choose_connect
from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_batch,
    check_choice,
    check_edge_index,
    check_edge_weight,
    check_number,
    check_positive_int,
    check_ratio,
    check_same_device,
)
from pyg_gunet.functional.walk import WalkAdjacency, check_weights
from pyg_gunet.nn.conv import UNetConv

MAX_DEPTH = 1024  # beyond it a typing error, which would take hours to build
CONNECTIONS = ("two_hop", "induced", "walk", "sampled", "auto")


@dataclass(repr=False)
class Level:
    """One level of a hierarchy, finest first: structure alone, no features.

    Attributes:
        num_nodes (int): Number of nodes, N.
        batch (Tensor, optional): Graph id per node [N], or None for one graph.
        structure (Structure, optional): The connectivity where every convolution takes a prepared
            propagation, else None.
        edge_index (Tensor, optional): Edges [2, E], where `structure` is None.
        edge_weight (Tensor, optional): Weights [E], where `structure` is None.
    """

    num_nodes: int
    batch: Tensor | None = None
    structure: Structure | None = None
    edge_index: Tensor | None = None
    edge_weight: Tensor | None = None

    def edges(self) -> tuple[Tensor, Tensor | None]:
        """``(edge_index [2, E], edge_weight [E] or None)`` of this level."""
        if self.structure is not None:
            return self.structure.edges(loops=True)
        assert self.edge_index is not None
        return self.edge_index, self.edge_weight

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes})"


@dataclass(repr=False)
class Hierarchy:
    """What the way down leaves for the way up.

    Attributes:
        levels (list[Level]): From the input graph to the coarsest.
        perms (list[Tensor]): ``perms[l]`` [K] are the nodes of level l that level l + 1 keeps.
        skips (list[Tensor]): Features of the levels above the coarsest, where a model has skip
            connections; else empty, and no tensor in here was computed from features but `perms`.
        stem (Tensor, optional): Features of the input graph before the first level, where a model
            has a stem.
    """

    levels: list[Level] = field(default_factory=list)
    perms: list[Tensor] = field(default_factory=list)
    skips: list[Tensor] = field(default_factory=list)
    stem: Tensor | None = None

    @property
    def depth(self) -> int:
        return len(self.perms)

    def kept(self, level: int) -> Tensor:
        """The input graph's index of every node of a level, [K]."""
        index = torch.arange(self.levels[0].num_nodes, device=self._device())
        for perm in self.perms[:level]:
            index = index[perm]
        return index

    def _device(self) -> torch.device | None:
        return self.perms[0].device if self.perms else None

    def __repr__(self) -> str:
        sizes = [level.num_nodes for level in self.levels]
        return f"{self.__class__.__name__}(num_nodes={sizes}, skips={len(self.skips)})"


class LevelBuilder:
    """Connects the levels for a set of convolutions and pools.

    Args:
        convs (list): All convolutions of the model.
        connect (str): One of ``CONNECTIONS``.
        max_products (int, optional): See :class:`GPool`.
        ratios (sequence, optional): The pools' ratios, which ``'auto'`` reads.
        cached (bool, optional): Whether the structure of the first call's graph serves all.
    """

    def __init__(
        self,
        convs: Any,
        connect: str,
        max_products: int | None = None,
        ratios: Sequence[float | int] = (),
        cached: bool = False,
    ) -> None:
        check_choice(connect, "connect", CONNECTIONS)
        self.fused = all(isinstance(conv, UNetConv) for conv in convs)
        self.weighted = all(takes_edge_weight(conv) for conv in convs)
        if connect == "walk" and not self.fused:
            raise ValueError(
                "'conv' must be None with connect='walk', which is GCN propagation; another one "
                "goes with connect='sampled' or 'two_hop' (got a 'conv')"
            )
        if cached and (connect == "sampled" or not self.fused):
            raise ValueError(
                f"'cached' goes with a 'conv' of None and a 'connect' other than 'sampled' "
                f"(got cached=True, connect={connect!r})"
            )
        # Another convolution than GCN needs edges: the choice of 'auto' is made.
        self.choice = "two_hop" if connect == "auto" and not self.fused else connect
        self.max_products = max_products
        self.ratios = ratios
        self.cached = cached
        self.reset()

    def reset(self) -> None:
        """Forgets the cached structure and the choice of ``'auto'``."""
        self.connect = self.choice
        self.cache: Structure | None = None

    def check(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        values: bool,
    ) -> None:
        """The checks at a model's door, but for those of `x`."""
        check_batch(batch, x.size(0), values)
        if isinstance(edge_index, Structure):
            self.check_structure(x, edge_index, edge_weight)
            return
        check_edge_index(edge_index, x.size(0), values)
        check_edge_weight(edge_weight, edge_index.size(1), values)
        check_same_device(x, "x", edge_index=edge_index, batch=batch, edge_weight=edge_weight)
        if edge_weight is not None and not self.weighted:
            raise ValueError(
                f"'edge_weight' goes with a 'conv' whose forward takes 'edge_weight' "
                f"(got weights of shape {list(edge_weight.shape)})"
            )
        if self.connect == "walk":
            check_weights(edge_weight, values)

    def check_structure(
        self, x: Tensor, structure: Structure, edge_weight: Tensor | None, name: str = "edge_index"
    ) -> None:
        """A prepared or cached structure in place of edges."""
        if edge_weight is not None and name == "edge_index":
            raise ValueError("'edge_weight' must be None with a prepared structure (got a tensor)")
        made_for = structure.connect
        if not self.fused or self.connect not in (made_for, "auto"):
            raise ValueError(
                f"'{name}' was prepared for connect={made_for!r} and a 'conv' of None "
                f"(got connect={self.connect!r})"
            )
        if structure.num_nodes != x.size(0):
            raise ValueError(
                f"'{name}' holds the structure of {structure.num_nodes} nodes "
                f"(got 'x' with {x.size(0)} rows)"
            )
        values = structure.values
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if (values.dtype, values.device) != (dtype, x.device):
            raise ValueError(
                f"'{name}' was prepared in {values.dtype} on {values.device} "
                f"(got 'x' of {x.dtype} on {x.device})"
            )

    def first(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Level:
        """The input graph as a level."""
        if isinstance(edge_index, Structure):
            return Level(x.size(0), batch, edge_index)
        learned = edge_weight is not None and edge_weight.requires_grad and torch.is_grad_enabled()
        if self.fused and not learned and self.connect != "sampled":
            return Level(x.size(0), batch, self.structure(x, edge_index, edge_weight))
        if self.cached:
            raise ValueError(
                "'edge_weight' must not require a gradient with 'cached' (got requires_grad=True)"
            )
        if self.connect == "auto":
            self.connect = "two_hop"
        if edge_weight is None and self.weighted:  # as PyG's GraphUNet
            edge_weight = x.new_ones(edge_index.size(1))
        return Level(x.size(0), batch, None, edge_index, edge_weight)

    def structure(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Structure:
        """The input graph's structure, made now or, with `cached`, at the first call."""
        if self.cache is not None:
            self.check_structure(x, self.cache, None, "cached")
            return self.cache
        connect = "two_hop" if self.connect in ("walk", "auto") else self.connect
        made: Structure
        made = adjacency = Adjacency.from_edge_index(
            edge_index, edge_weight, x.size(0), x.dtype, connect, self.max_products
        )
        if self.connect == "auto":
            # Once: the two are different maps, and what was learned by one is not for the other.
            assert isinstance(adjacency.matrix, CSR)
            signed = edge_weight is not None and bool((edge_weight < 0).any())
            self.connect = "two_hop" if signed else choose_connect(adjacency.matrix, self.ratios)
        if self.connect == "walk":
            made = WalkAdjacency.from_adjacency(adjacency)
        if self.cached:
            self.cache = made
        return made

    def convolve(self, conv: Callable[..., Tensor], x: Tensor, level: Level) -> Tensor:
        """One convolution on one level."""
        if level.structure is not None:
            return conv(x, level.structure.propagation())
        if self.weighted:
            return conv(x, level.edge_index, edge_weight=level.edge_weight)
        return conv(x, level.edge_index)

    def pool(self, pool: torch.nn.Module, x: Tensor, level: Level) -> tuple[Tensor, Level, Tensor]:
        """``(features, level, perm)`` one level down."""
        edges = level.edge_index if level.structure is None else level.structure
        # Without weights on convolutions that take none, two-hop still counts walks: unused.
        out = pool(x, edges, level.edge_weight, level.batch)
        batch = None if level.batch is None else out.batch
        num_nodes = out.perm.size(0)
        if level.structure is not None:
            return out.x, Level(num_nodes, batch, out.edge_index), out.perm
        return out.x, Level(num_nodes, batch, None, out.edge_index, out.edge_attr), out.perm


def takes_edge_weight(conv: torch.nn.Module) -> bool:
    """Whether a convolution's forward has an argument `edge_weight`."""
    return "edge_weight" in inspect.signature(conv.forward).parameters


def check_pool_ratios(pool_ratios: Any, depth: int) -> list[float | int]:
    """One ratio per level, from one ratio or a list of them."""
    check_positive_int(depth, "depth", maximum=MAX_DEPTH)
    if isinstance(pool_ratios, (list, tuple)):
        if len(pool_ratios) != depth:
            raise ValueError(
                f"'pool_ratios' must hold one ratio per level, {depth} of them "
                f"(got {list(pool_ratios)!r})"
            )
        ratios = list(pool_ratios)
    else:
        ratios = [pool_ratios] * depth
    for ratio in ratios:
        check_ratio(ratio, "pool_ratios")
    return ratios


def make_conv(
    conv: Callable[[int, int], torch.nn.Module] | None, in_channels: int, out_channels: int
) -> torch.nn.Module:
    """A convolution from the user's factory, or the default one."""
    if conv is None:
        return UNetConv(in_channels, out_channels)
    if not callable(conv):
        raise TypeError(f"'conv' must be a callable (in_channels, out_channels) (got {conv!r})")
    try:
        made = conv(in_channels, out_channels)
    except TypeError as error:
        raise TypeError(f"'conv' must take (in_channels, out_channels): {error}") from error
    if not isinstance(made, torch.nn.Module):
        raise TypeError(f"'conv' must return a torch.nn.Module (got {made!r})")
    return made


def check_dropout(dropout: Any, name: str = "dropout") -> float:
    """A probability below one."""
    check_number(dropout, name, 0.0, 1.0)
    if dropout == 1:
        raise ValueError(f"'{name}' must be below 1, which drops everything (got {dropout!r})")
    return float(dropout)


def make_act(act: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A nonlinearity by its name or the user's own."""
    if not isinstance(act, str) and not callable(act):
        raise TypeError(f"'act' must be a name or a callable (got {act!r})")
    try:
        return activation_resolver(act)
    except ValueError as error:
        raise ValueError(f"'act' must be the name of a nonlinearity: {error}") from None


def make_norm(norm: str | Callable[[int], torch.nn.Module] | None, channels: int) -> Any:
    """A normalisation by PyG's name for it or from the user's factory; None for none."""
    if norm is None:
        return None
    if isinstance(norm, str):
        try:
            return normalization_resolver(norm, channels)
        except ValueError as error:
            raise ValueError(f"'norm' must be the name of a normalisation: {error}") from None
    if not callable(norm):
        raise TypeError(f"'norm' must be a name or a callable (channels) (got {norm!r})")
    return norm(channels)


def apply_norm(norm: torch.nn.Module, x: Tensor, batch: Tensor | None) -> Tensor:
    """Normalises `x`, per graph where the normalisation knows graphs."""
    if "batch" in inspect.signature(norm.forward).parameters:
        return norm(x, batch=batch)
    return norm(x)
