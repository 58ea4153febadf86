"""Malformed values for one argument, by what the argument should be."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Malformed = tuple[str, Any]


def shown(value: Any) -> str:
    """A short name for a value whose own repr may fail."""
    plain = isinstance(value, (str, bytes, int, float, complex, list, tuple, dict, type(None)))
    text = repr(value) if plain and type(value).__module__ == "builtins" else type(value).__name__
    return text if len(text) < 40 else text[:37] + "..."


NOT_TENSORS: tuple[Any, ...] = ("text", 3, 2.5, b"x", object(), {"a": 1})


@dataclass(frozen=True)
class Kind:
    """What an argument should be.

    Attributes:
        values: Makes malformed values ``(description, value)`` from a good one.
        optional: Whether None is a good value.
        refuse: Further malformed values.
    """

    values: Callable[[Any, random.Random], Iterator[Malformed]]
    optional: bool = False
    refuse: tuple[Any, ...] = field(default=())

    def malformed(self, good: Any, rng: random.Random) -> Iterator[Malformed]:
        if not self.optional:
            yield "None", None
        yield from self.values(good, rng)
        for value in self.refuse:
            yield shown(value), value


def tensors(
    *,
    dtypes: str,
    dim: bool = True,
    rows: bool = True,
    columns: bool = False,
    empty: bool = False,
    finite: bool = True,
    nan: bool = True,
    low: int | float | None = None,
    high: int | None = None,
    optional: bool = False,
    sparse: bool = False,
    legal: tuple[type, ...] = (),
    draws: int = 3,
) -> Kind:
    """A tensor.

    Args:
        dtypes: What it holds: ``'float'``, ``'int'``, ``'label'``, ``'bool'``, ``'any'``.
        dim: Whether the number of dimensions is fixed.
        rows, columns: Whether these sizes are fixed, by itself or by other arguments.
        empty: Whether it must not be empty.
        finite, nan: Whether infinities and NaN are bad.
        low, high: The range of its values.
        optional: Whether None is good.
        sparse: Whether sparse layouts are good.
        legal: Types that are good, too.
        draws: How many random entries get each bad number.
    """
    wrong = {
        "float": (torch.int64, torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn),
        "int": (torch.float32, torch.bool, torch.complex64, torch.uint8, torch.int16),
        "label": (torch.float32, torch.bool, torch.complex64),
        "bool": (torch.float32, torch.int64, torch.uint8),
        "any": (),
    }[dtypes]

    def values(good: Tensor, rng: random.Random) -> Iterator[Malformed]:
        for value in NOT_TENSORS:
            if not isinstance(value, legal):
                yield type(value).__name__, value
        yield "list", good.tolist()
        yield "numpy", np.asarray(good.tolist())
        yield "list of tensors", [good, good]
        for dtype in wrong:
            yield str(dtype), good.to(dtype)
        yield "meta", good.to("meta")
        if not sparse:
            yield "sparse", good.to_sparse()
        if good.dim() == 2 and not sparse:
            yield "csr", good.float().to_sparse_csr() if dtypes == "float" else good.to_sparse_csr()
        if dim:
            yield "one dimension more", good.unsqueeze(0)
            yield "a dimension at the end", good.unsqueeze(-1)
            yield "flat scalar", good.flatten()[0]
            if good.dim() > 1:
                yield "flat", good.flatten()
        if rows:
            yield "a row more", torch.cat([good, good[-1:]])
            yield "a row less", good[:-1]
            yield "no row", good[:0]
            yield "thrice the rows", torch.cat([good] * 3)
        elif empty:
            yield "no row", good[:0]
        if columns and good.dim() > 1:
            yield "a column more", torch.cat([good, good[:, -1:]], dim=1)
            yield "a column less", good[:, :-1]
            yield "no column", good[:, :0]
            if good.size(0) != good.size(1):
                yield "transposed", good.t()
        bad: list[Any] = []
        if dtypes == "float":
            bad += [float("inf"), float("-inf")] * finite + [float("nan")] * nan
        if low is not None:
            bad += [low - 1, low - 1e9] if dtypes == "float" else [low - 1, low - 99]
            if good.dtype == torch.int64:
                bad += [-(2**40), -(2**63)]
        if high is not None:
            bad += [high, high + rng.randint(1, 1000)]
            if good.dtype == torch.int64:
                bad += [2**40, 2**63 - 1]
        for number in bad:
            for _ in range(draws):
                value = good.clone()
                value.view(-1)[rng.randrange(good.numel())] = number
                yield f"holds {number}", value

    return Kind(values, optional)


def ints(
    low: int | None = None,
    high: int | None = 2**31,
    optional: bool = False,
    extra: tuple[Any, ...] = (),
) -> Kind:
    """An int of at least `low` and below `high`."""

    def values(good: Any, rng: random.Random) -> Iterator[Malformed]:
        for value in ("3", "", 1.5, 2.0, True, False, [2], (2,), {}, 1j, b"2", float("nan")):
            yield shown(value), value
        yield "tensor", torch.tensor([2, 3])
        yield "array", np.array([1, 2])
        yield "type", int
        if low is not None:
            for value in (low - 1, low - rng.randint(2, 99), -(2**31), -(2**63), -(10**30)):
                yield shown(value), value
        if high is not None:
            for value in (high, 2**40, 2**63, 2**64, 10**30):
                if value >= high:
                    yield shown(value), value

    return Kind(values, optional, extra)


def numbers(
    low: float | None = None,
    high: float | None = None,
    above: bool = False,
    optional: bool = False,
) -> Kind:
    """A finite number in [`low`, `high`], or above `low`."""

    def values(good: Any, rng: random.Random) -> Iterator[Malformed]:
        for value in ("0.5", "", True, [0.5], {}, 1j, b"1", np.array([0.1, 0.2])):
            yield shown(value), value
        for value in (float("nan"), float("inf"), float("-inf")):
            yield shown(value), value
        if low is not None:
            for value in (low - 1e-6, low - rng.uniform(0, 10), low - 1, -1e300, -(10**400)):
                yield shown(value), value
            if above:
                yield shown(low), low
        if high is not None:
            for value in (high + 1e-6, high + rng.uniform(0, 10), high + 1, 1e300, 10**400):
                yield shown(value), value

    return Kind(values, optional)


def choices(optional: bool = False, also: tuple[Any, ...] = ()) -> Kind:
    """One of a few strings."""
    words = ("", "nonsense", "TOPK", "top-k", "walks", "mean ", 0.25, 17, ["topk"], {"a"}, b"dv")
    return Kind(lambda good, rng: ((shown(w), w) for w in (*words, True, *also)), optional)


def flags(optional: bool = False) -> Kind:
    """True or False."""
    words = ("yes", "", 1, 0, 1.0, [True], torch.tensor(True), b"")
    return Kind(lambda good, rng: ((shown(w), w) for w in words), optional)


def anything(*bad: Any, optional: bool = False) -> Kind:
    """Only the values that are listed are bad."""
    return Kind(lambda good, rng: ((shown(b), b) for b in bad), optional)


def ratios(optional: bool = False) -> Kind:
    """A share in (0, 1] or a count of at least 1."""
    words = ("half", "", True, False, [0.5], (0.5,), {}, 1j, b"1")
    bad = (0, 0.0, -0.0, -1, -0.5, 1.0001, 1.5, 2.5, 1e300, -(10**30))
    infinite = (float("nan"), float("inf"), float("-inf"))
    return Kind(lambda good, rng: ((shown(w), w) for w in (*words, *bad, *infinite)), optional)
