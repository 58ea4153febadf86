"""The systems that `benchmarks/gpu.py` times, and how."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GCN
from torch_geometric.nn import GraphUNet as PyGGraphUNet
from torch_geometric.utils import to_torch_csr_tensor

from pyg_gunet import GPool, GraphUNet

FEATURES, HIDDEN, CLASSES, DEPTH = 128, 64, 40, 3
OURS = (
    "contract prepared", "levels prepared", "contract", "walk prepared", "walk", "two_hop",
)  # fmt: skip
SYSTEMS = ("GCN edge_index", "GCN csr", *OURS, "PyG GraphUNet")
# What peers say where a card is too small, beside OutOfMemoryError and MemoryError.
TOO_SMALL = ("out of memory", "INSUFFICIENT_RESOURCES", "can't allocate memory")


def structural(channels: int, ratio: float | int) -> GPool:
    """Levels that hang on the graph alone, so that they are prepared once."""
    return GPool(channels, ratio, select="spread", quantiles=1, connect="contract")


def levels(channels: int, ratio: float | int) -> GPool:
    """The same, and rows averaged on the way down."""
    return GPool(channels, ratio, select="spread", quantiles=1, connect="contract", reduce="mean")


def guarded(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `run` gives, or why it gives nothing: 'does not fit' where memory, or the range of a
    number, is too small, which is a figure too; else 'fails'."""
    try:
        return run()
    except Exception as error:  # one system must not lose the figures of the others
        text = f"{type(error).__name__}: {error}"[:300]
        small = isinstance(error, (MemoryError, OverflowError, torch.OutOfMemoryError))
        small |= any(one in text for one in TOO_SMALL)
        return {"does not fit" if small else "fails": text}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def timed(step: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, float]:
    """Milliseconds per call after two warm ones, and the most memory that it takes, in MB."""
    cuda = device.type == "cuda"
    for _ in range(2):
        step()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
    times = []
    for _ in range(repeats):
        if cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - begin))
    out = {"ms": statistics.median(times), "ms_min": min(times), "ms_max": max(times)}
    if cuda:
        out["peak_mb"] = (torch.cuda.max_memory_allocated() - base) / 1e6
    return out


def training(model: torch.nn.Module, x: Tensor, edges: Any, batch: Any = None) -> Callable[[], Any]:
    """A training step: forward, cross-entropy, backward, Adam."""
    y = torch.randint(CLASSES, (x.size(0),), device=x.device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        out = model(x, edges) if batch is None else model(x, edges, batch)
        F.cross_entropy(out, y).backward()
        optimizer.step()

    return step


def launched(events: Iterable[Any]) -> int:
    """Kernels among a profiler's events: what ran on the device, neither the calls that launched
    it, which are the host's, nor copies, nor the spans that a host's annotation covers there."""
    return sum(
        event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(("Memcpy", "Memset", "Optimizer."))
        for event in events
    )


def kernels(step: Callable[[], Any], device: torch.device) -> int | None:
    """Kernels of one step."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    return launched(seen.events())


def system(name: str, edge_index: Tensor, n: int) -> tuple[torch.nn.Module, Any]:
    """``(model, what it takes as edges)``."""
    sizes, device = (FEATURES, HIDDEN, CLASSES, DEPTH), edge_index.device
    if name.startswith("GCN"):
        model = GCN(FEATURES, HIDDEN, 2 * DEPTH + 1, CLASSES).to(device)
        csr = name.endswith("csr")
        return model, to_torch_csr_tensor(edge_index, size=(n, n)) if csr else edge_index
    if name == "PyG GraphUNet":
        return PyGGraphUNet(*sizes).to(device), edge_index
    kind, *prepared = name.split()
    pools = {"contract": structural, "levels": levels}
    lift = "interpolate" if kind == "levels" else "zero"
    if kind in pools:
        ours = GraphUNet(*sizes, lift=lift, pool=pools[kind]).to(device)
    else:
        ours = GraphUNet(*sizes, connect=kind).to(device)
    return ours, ours.prepare(edge_index, num_nodes=n) if prepared else edge_index


def floor_bytes(name: str, n: int, edges: int) -> float:
    """What a step must move at least: each propagation reads and writes its features once, forward
    and backward, on levels of half the nodes each, twice on all but the coarsest (a GCN: on all
    nodes each time), and those on the input's nodes read a number per edge both times."""
    finest, rows = 2, n * (2 * sum(0.5**level for level in range(DEPTH)) + 0.5**DEPTH)
    if name.startswith("GCN"):
        finest, rows = 2 * DEPTH + 1, n * (2 * DEPTH + 1)
    return 2 * 2 * 4 * HIDDEN * rows + 2 * 4 * edges * finest


def bandwidth(device: torch.device) -> float:
    """Of memory, by a copy, in GB/s."""
    x = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    y = torch.empty_like(x)
    ms = timed(lambda: y.copy_(x), device, 5)["ms"]
    return 2 * 4 * x.numel() / ms / 1e6


def share(moved: float, ms: float, gb_s: float) -> dict[str, float]:
    """The least time that `moved` bytes take on a card, and its share of what they took."""
    least = moved / gb_s / 1e6
    return {"floor_ms": least, "bandwidth_share": least / ms}
