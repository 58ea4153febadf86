"""How structure is made: apart from the pass that asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


class _Below(torch.autograd.Function):
    """Runs a function on tensors as they are beneath the transforms of :mod:`torch.func`, in which
    whatever an operation returns is wrapped and has no storage."""

    @staticmethod
    def forward(run: Callable[..., None], *tensors: Tensor) -> Tensor:  # type: ignore[override]
        run(*tensors)
        return torch.empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> None:  # type: ignore[override]
        return None

    @staticmethod
    def vmap(info: Any, in_dims: Any, run: Any, *tensors: Tensor) -> Any:
        raise ValueError(
            "'edge_index' and what is selected must be the same in all parts of a torch.func.vmap; "
            "repeat_graph takes x [B, N, F] (got a batched tensor where levels are made)"
        )


_Below.forward.__signature__ = inspect.signature(_Below.forward)  # type: ignore[attr-defined]


def lasting(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what outlives a pass: outside inference mode, in which tensors would be born that no
    later training step may save, beneath the transforms of torch.func, and without gradient."""

    @wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        at = [i for i, one in enumerate(given) if isinstance(one, Tensor)]
        found: list[Any] = []

        def run(*tensors: Tensor) -> None:
            for i, one in zip(at, tensors):
                given[i] = one
            found.append(make(*given[: len(args)], **dict(zip(kwargs, given[len(args) :]))))

        with torch.inference_mode(False), torch.no_grad():
            _Below.apply(run, *(given[i] for i in at))
        return found[0]

    return made
