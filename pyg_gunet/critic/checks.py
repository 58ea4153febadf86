"""Checks and casts shared by the divergence functions."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet import validate

DIRECTIONS = ("forward", "reverse", "jeffreys")


def full_precision(x: Tensor) -> Tensor:
    """Half precision to float32: sums of exponentials do not survive in 8 or 11 bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products keep the dtype of `x`."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def check_floating(x: Tensor, name: str, values: bool) -> None:
    """A floating-point tensor without NaN where `values`; infinities are legal."""
    validate.check_floating(x, name)
    if values and bool(torch.isnan(x.detach()).any()):
        where = torch.isnan(x.detach()).nonzero()[0].tolist()
        raise ValueError(f"'{name}' must not be NaN (got nan at {where})")


def check_broadcast(**tensors: Tensor) -> None:
    """Shapes that broadcast."""
    try:
        torch.broadcast_shapes(*(x.shape for x in tensors.values()))
    except RuntimeError:
        names = " and ".join(f"'{name}'" for name in tensors)
        shapes = " and ".join(str(list(x.shape)) for x in tensors.values())
        raise ValueError(f"{names} must broadcast (got {shapes})") from None


def check_scores(x: Tensor, name: str, values: bool, minimum: int = 1) -> None:
    """Log-ratios [n] with at least `minimum` entries."""
    check_floating(x, name, values)
    if x.dim() != 1 or x.numel() < minimum:
        raise ValueError(
            f"'{name}' must have shape [n] with n >= {minimum} (got shape {list(x.shape)})"
        )
