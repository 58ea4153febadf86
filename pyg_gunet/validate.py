"""Checks at the door: every error names the argument and the value.

Checks of shapes and dtypes always run: they cost nothing. Checks that read tensor *values*
(ranges, sortedness, NaN) wait for the device, so they sit behind one switch, :class:`validation`,
and only the outermost public call does them (:class:`outermost`).
"""

from __future__ import annotations

import math
import sys
import threading
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

INDEX_DTYPES = (torch.int64, torch.int32)
FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_INT = 2**31 - 1  # of sizes and counts
MAX_FLOAT = sys.float_info.max


class _State(threading.local):
    def __init__(self) -> None:
        self.enabled = True
        self.depth = 0


_state = _State()


class validation:
    r"""Switches the checks that read tensor values on or off for this thread.

    Works as a statement and as a context manager, like :class:`torch.set_grad_enabled`. On by
    default; under ``torch.compile`` and in a CUDA graph capture these checks are off by themselves.

    Args:
        enabled (bool): Whether to check values (index ranges, sortedness, NaN).

    Example:
        >>> import pyg_gunet
        >>> with pyg_gunet.validation(False):
        ...     pass  # forward passes in here skip the value checks
    """

    def __init__(self, enabled: bool) -> None:
        if not isinstance(enabled, bool):
            raise TypeError(f"'enabled' must be a bool (got {enabled!r})")
        self.enabled = enabled
        self.previous = [_state.enabled]  # one entry per block that is open
        self.opened = False
        _state.enabled = enabled

    def __enter__(self) -> None:
        if self.opened:  # once more: the constructor did the first
            self.previous.append(_state.enabled)
            _state.enabled = self.enabled
        self.opened = True

    def __exit__(self, *exc: Any) -> None:
        _state.enabled = self.previous.pop()


def checking() -> bool:
    """Whether values may be read for a check: not in a trace, nor in a capture of a CUDA graph."""
    if torch.compiler.is_compiling() or not _state.enabled:
        return False
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


class outermost:
    """Yields whether value checks are due: once, by the outermost public call."""

    def __enter__(self) -> bool:
        self.counted = not torch.compiler.is_compiling()
        if not self.counted:
            return False
        _state.depth += 1
        return _state.depth == 1 and checking()

    def __exit__(self, *exc: Any) -> None:
        if self.counted:
            _state.depth -= 1


def check_features(
    x: Tensor, in_channels: int | None = None, values: bool = True, name: str = "x"
) -> None:
    """Node features [N, F], floating point, N >= 1, and finite where `values`."""
    check_floating(x, name)
    if x.dim() != 2:
        raise ValueError(f"'{name}' must have shape [num_nodes, channels] (got {list(x.shape)})")
    if x.size(0) == 0:
        raise ValueError(f"'{name}' holds no node (got shape {list(x.shape)})")
    if in_channels is not None and x.size(1) != in_channels:
        raise ValueError(f"'{name}' must have {in_channels} channels (got shape {list(x.shape)})")
    if values and not _all_finite(x.detach()):
        where = (~torch.isfinite(x.detach())).nonzero()[0].tolist()
        raise ValueError(f"'{name}' must be finite (got {x[tuple(where)].item()} at {where})")


def check_edge_index(
    edge_index: Tensor,
    num_nodes: int,
    values: bool = True,
    name: str = "edge_index",
    of: str = "x",
) -> None:
    """Edges [2, E] of integers in [0, num_nodes), which the argument `of` tells."""
    check_tensor(edge_index, name)
    if edge_index.dtype not in INDEX_DTYPES:
        raise TypeError(f"'{name}' must be of dtype int64 or int32 (got {edge_index.dtype})")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"'{name}' must have shape [2, E] (got {list(edge_index.shape)})")
    if values and edge_index.numel():
        low, high = (int(v) for v in torch.aminmax(edge_index))
        if low < 0 or high >= num_nodes:
            bad = low if low < 0 else high
            told = "" if of == "num_nodes" else f"{num_nodes} rows of "
            raise IndexError(f"'{name}' must lie in [0, {num_nodes}) for {told}'{of}' (got {bad})")


def check_edge_weight(
    edge_weight: Tensor | None, num_edges: int, values: bool = True, name: str = "edge_weight"
) -> None:
    """One floating-point, finite weight per edge: [E]."""
    if edge_weight is None:
        return
    check_floating(edge_weight, name)
    if edge_weight.dim() != 1 or edge_weight.size(0) != num_edges:
        raise ValueError(
            f"'{name}' must have shape [{num_edges}], one per column of 'edge_index' "
            f"(got {list(edge_weight.shape)})"
        )
    if values and not _all_finite(edge_weight.detach()):
        where = int((~torch.isfinite(edge_weight.detach())).nonzero()[0])
        raise ValueError(f"'{name}' must be finite (got {edge_weight[where].item()} at {where})")


def check_edge_attr(edge_attr: Tensor | None, num_edges: int, values: bool = False) -> None:
    """One row of what edges carry per edge, [E, ...]; finite where `values`."""
    if edge_attr is None:
        return
    check_tensor(edge_attr, "edge_attr")
    if edge_attr.dim() == 0 or edge_attr.size(0) != num_edges:
        raise ValueError(
            f"'edge_attr' must have {num_edges} rows, one per column of 'edge_index' "
            f"(got shape {list(edge_attr.shape)})"
        )
    if values and edge_attr.is_floating_point() and not _all_finite(edge_attr.detach()):
        where = (~torch.isfinite(edge_attr.detach())).nonzero()[0].tolist()
        raise ValueError(
            f"'edge_attr' must be finite (got {edge_attr[tuple(where)].item()} at {where})"
        )


def _all_finite(x: Tensor) -> bool:
    # A sum carries every NaN and infinity on and reads x once, several times faster than isfinite;
    # only where it overflows by itself do the elements have to be looked at.
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def check_batch(batch: Tensor | None, num_nodes: int, values: bool = True, of: str = "x") -> None:
    """A sorted, non-negative graph id per node, the rows of the argument `of`: [N]."""
    if batch is None:
        return
    check_tensor(batch, "batch")
    if batch.dtype not in INDEX_DTYPES:
        raise TypeError(f"'batch' must be of dtype int64 or int32 (got {batch.dtype})")
    if batch.dim() != 1 or batch.size(0) != num_nodes:
        raise ValueError(
            f"'batch' must have shape [{num_nodes}], one entry per row of '{of}' "
            f"(got {list(batch.shape)})"
        )
    if values and batch.numel():
        if int(batch[0]) < 0:
            raise ValueError(f"'batch' must be non-negative (got {int(batch[0])})")
        falls = batch[1:] < batch[:-1]
        if bool(falls.any()):
            where = int(falls.nonzero()[0])
            raise ValueError(
                f"'batch' must be sorted (got {int(batch[where])} before {int(batch[where + 1])} "
                f"at {where})"
            )
        # Graphs without nodes are legal, but every graph takes some room in what counts nodes.
        check_memory(64 * (int(batch[-1]) + 1), "batch", int(batch[-1]))


def check_within_graphs(edge_index: Tensor, batch: Tensor | None, values: bool = True) -> None:
    """Edges, checked before, that join no two graphs of `batch`."""
    if batch is None or not values:
        return
    apart = batch[edge_index[0]] != batch[edge_index[1]]
    if bool(apart.any()):
        pair = edge_index[:, int(apart.nonzero()[0])].tolist()
        raise ValueError(f"'edge_index' must not join two graphs of 'batch' (got {pair})")


def check_batch_size(batch_size: Any, batch: Tensor | None, values: bool = True) -> None:
    """A number of graphs that holds all that have a node."""
    check_positive_int(batch_size, "batch_size")
    if values:
        found = 1 if batch is None else int(batch[-1]) + 1  # sorted: the last is the highest
        if batch_size < found:
            raise ValueError(f"'batch_size' must be at least {found} (got {batch_size!r})")


def check_perm(perm: Tensor, num_nodes: int, values: bool = True, name: str = "perm") -> None:
    """Indices of kept nodes: [K], distinct integers in [0, num_nodes)."""
    check_tensor(perm, name)
    if perm.dtype not in INDEX_DTYPES:
        raise TypeError(f"'{name}' must be of dtype int64 or int32 (got {perm.dtype})")
    if perm.dim() != 1:
        raise ValueError(f"'{name}' must be one-dimensional (got shape {list(perm.shape)})")
    if values and perm.numel():
        low, high = (int(v) for v in torch.aminmax(perm))
        if low < 0 or high >= num_nodes:
            raise IndexError(
                f"'{name}' must lie in [0, {num_nodes}) (got {low if low < 0 else high})"
            )
        if perm.unique().numel() != perm.numel():
            values_, counts = perm.unique(return_counts=True)
            raise ValueError(
                f"'{name}' must hold each node once (got {int(values_[counts > 1][0])} twice)"
            )


def check_ratio(ratio: Any, name: str = "ratio") -> None:
    """A share in (0, 1] as a float, or a count >= 1 as an int."""
    if isinstance(ratio, bool) or not isinstance(ratio, Real):
        raise TypeError(f"'{name}' must be a float in (0, 1] or an int >= 1 (got {ratio!r})")
    if isinstance(ratio, Integral):
        if ratio < 1:
            raise ValueError(f"'{name}' must be at least 1 as a count (got {ratio!r})")
    elif not 0.0 < float(ratio) <= 1.0:
        raise ValueError(f"'{name}' must lie in (0, 1] as a share (got {ratio!r})")


def check_positive_int(
    value: Any, name: str, minimum: int = 1, maximum: int | None = MAX_INT
) -> None:
    """An integer from `minimum` to `maximum`."""
    if isinstance(value, torch.SymInt):  # a size under torch.compile or torch.export
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"'{name}' must be an int (got {value!r})")
    if int(value) < minimum:
        raise ValueError(f"'{name}' must be at least {minimum} (got {value!r})")
    if maximum is not None and int(value) > maximum:
        raise ValueError(f"'{name}' must be at most {maximum} (got {value!r})")


def check_num_nodes(num_nodes: Any, bytes_per_node: int = 16) -> None:
    """A number of nodes whose tensors fit into memory."""
    if isinstance(num_nodes, torch.SymInt):  # `int` would make it a constant of the export
        return
    check_positive_int(num_nodes, "num_nodes", 0)
    check_memory(bytes_per_node * int(num_nodes), "num_nodes", num_nodes)


def check_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """A finite real number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"'{name}' must be a number (got {value!r})")
    number: Any = value  # compared before it is converted: an int may be beyond every float
    if not (low <= number <= high and abs(number) <= MAX_FLOAT):
        raise ValueError(f"'{name}' must lie in [{low}, {high}] (got {value!r})")


def check_bool(value: Any, name: str) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"'{name}' must be a bool (got {value!r})")


def check_memory(num_bytes: int, name: str, value: Any) -> None:
    """Refuses a size whose tensors would not fit into the memory of any device here.

    Args:
        num_bytes (int): What they take at least.
        name (str): The argument that asks for it.
        value: Its value.
    """
    if num_bytes < 2**30 or torch.compiler.is_compiling():
        return
    if torch.get_default_device().type == "meta":
        return
    import psutil

    total = psutil.virtual_memory().total
    if torch.cuda.is_available():
        total = max(total, torch.cuda.get_device_properties(0).total_memory)
    if num_bytes > total:
        raise ValueError(
            f"'{name}' asks for {num_bytes / 2**30:.3g} GiB, more than the memory of this machine, "
            f"{total / 2**30:.3g} GiB (got {value!r})"
        )


def check_choice(value: Any, name: str, choices: tuple[Any, ...]) -> None:
    """One of a fixed set of values."""
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        options = ", ".join(repr(c) for c in choices)
        raise ValueError(f"'{name}' must be one of {options} (got {value!r})")


def check_tensor(value: Any, name: str) -> None:
    """A dense torch.Tensor with data."""
    if not isinstance(value, Tensor):
        raise TypeError(f"'{name}' must be a torch.Tensor (got {type(value).__name__})")
    if value.layout is not torch.strided:
        raise TypeError(f"'{name}' must be a dense tensor (got one of layout {value.layout})")
    if value.is_meta and not torch.compiler.is_compiling():
        raise ValueError(f"'{name}' must hold data (got a tensor on the device 'meta')")


def check_floating(x: Any, name: str) -> None:
    """A dense tensor of float16, bfloat16, float32 or float64."""
    check_tensor(x, name)
    if x.dtype not in FLOAT_DTYPES:
        raise TypeError(f"'{name}' must be floating point, of 16, 32 or 64 bits (got {x.dtype})")


def check_generator(generator: Any, name: str = "generator") -> None:
    """A torch.Generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"'{name}' must be a torch.Generator (got {generator!r})")


def check_same_device(reference: Tensor, name: str, **others: Tensor | None) -> None:
    """All tensors on the device of `reference`, whose argument is called `name`."""
    for other_name, other in others.items():
        if other is None:
            continue
        if not isinstance(other, Tensor):
            raise TypeError(f"'{other_name}' must be a torch.Tensor (got {type(other).__name__})")
        if other.device != reference.device:
            raise ValueError(
                f"'{other_name}' must be on the device of '{name}', {reference.device} "
                f"(got {other.device})"
            )
