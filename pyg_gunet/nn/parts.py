"""Parts of a network from names or factories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GraphSizeNorm
from torch_geometric.nn.resolver import activation_resolver, normalization_resolver

from pyg_gunet.nn.conv import UNetConv, takes
from pyg_gunet.validate import (
    check_features,
    check_number,
    check_positive_int,
    check_ratio,
    check_tensor,
    outermost,
)

MAX_DEPTH = 1024  # beyond it a typing error, which would take hours to build

Ratios = float | int | list[float | int]

MakeConv = Callable[[int, int], torch.nn.Module] | None
MakeNorm = str | Callable[[int], torch.nn.Module] | None


def make_conv(conv: MakeConv, in_channels: int, out_channels: int) -> torch.nn.Module:
    """A convolution from the user's factory, or the default one."""
    if conv is None:
        return UNetConv(in_channels, out_channels)
    made = made_by(conv, "conv", "(in_channels, out_channels)", in_channels, out_channels)
    if not isinstance(made, torch.nn.Module):
        raise TypeError(f"'conv' must return a torch.nn.Module (got {made!r})")
    return made


def made_by(factory: Any, name: str, takes: str, *args: Any) -> Any:
    """What the user's factory makes of its two arguments."""
    if not callable(factory):
        raise TypeError(f"'{name}' must be a callable {takes} (got {factory!r})")
    try:
        return factory(*args)
    except TypeError as error:
        raise TypeError(f"'{name}' must take {takes}: {error}") from error


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


def make_norm(norm: MakeNorm, channels: int) -> torch.nn.Module:
    """A normalisation by PyG's name for it or from the user's factory."""
    if isinstance(norm, str):
        if norm.replace("_", "").lower() in ("messagenorm", "message"):
            raise ValueError(f"'norm' must normalise node features, not messages (got {norm!r})")
        if norm.replace("_", "").lower() in ("graphsizenorm", "graphsize"):
            return GraphSizeNorm()  # has no channels
        # A batch's coarsest level may have one node: the running statistics stand in.
        single = "".join(filter(str.isalnum, norm)).lower() in ("batch", "batchnorm")
        options = {"allow_single_element": True} if single else {}
        try:
            return normalization_resolver(norm, channels, **options)
        except ValueError as error:
            raise ValueError(f"'norm' must be the name of a normalisation: {error}") from None
        except TypeError as error:
            raise ValueError(
                f"'norm' must be made from channels alone (got {norm!r}: {error})"
            ) from error
    if not callable(norm):
        raise TypeError(f"'norm' must be a name or a callable (channels) (got {norm!r})")
    made = norm(channels)
    if not isinstance(made, torch.nn.Module):
        raise TypeError(f"'norm' must return a torch.nn.Module (got {made!r})")
    return made


def apply_norm(
    norm: torch.nn.Module, x: Tensor, batch: Tensor | None, batch_size: int | None = None
) -> Tensor:
    """Normalises `x`, per graph where the normalisation knows graphs."""
    options: dict[str, Any] = {}
    if takes(norm, "batch"):
        options["batch"] = batch
    if batch_size is not None and takes(norm, "batch_size"):
        options["batch_size"] = batch_size
    return norm(x, **options)


def check_pool_ratios(pool_ratios: Any, depth: int, name: str = "pool_ratios") -> list[float | int]:
    """One ratio per level, from one ratio or a list of them, whose last one stands for all levels
    below it, as in PyG."""
    check_positive_int(depth, "depth", maximum=MAX_DEPTH)
    if isinstance(pool_ratios, (list, tuple)):
        if not 0 < len(pool_ratios) <= depth:
            raise ValueError(
                f"'{name}' must hold at least one ratio and at most one per level, {depth} "
                f"of them (got {list(pool_ratios)!r})"
            )
        ratios = [*pool_ratios, *[pool_ratios[-1]] * (depth - len(pool_ratios))]
    else:
        ratios = [pool_ratios] * depth
    for ratio in ratios:
        check_ratio(ratio, name)
    return ratios


def check_pair(
    x_hat: Tensor, x: Tensor, mask: Tensor | None, name: str = "mask"
) -> tuple[Tensor, Tensor]:
    """A reconstruction and its target at the door of a loss, both of the nodes of `mask`."""
    with outermost() as values:
        check_features(x, None, values)
        check_features(x_hat, None, values, name="x_hat")
        if x_hat.shape != x.shape:
            raise ValueError(
                f"'x_hat' must have the shape of 'x', {list(x.shape)} (got {list(x_hat.shape)})"
            )
        if mask is None:
            return x_hat, x
        check_tensor(mask, name)
        if mask.dtype != torch.bool or mask.shape != x.shape[:1]:
            raise ValueError(
                f"'{name}' must be boolean of shape [{x.size(0)}] "
                f"(got {mask.dtype} of shape {list(mask.shape)})"
            )
        if values and not bool(mask.any()):
            raise ValueError(f"'{name}' must select a node (got none)")
    return x_hat[mask], x[mask]
