"""Correctness of every operator and model on a device, against the CPU; and what makes the host
wait for it."""

from __future__ import annotations

import argparse
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _common import heavy_tailed
from _gpu_cases import model_cases, special_cases
from _gpu_compare import Case, check
from _gpu_operators import critic_cases, operator_cases, segmentation_cases
from _gpu_systems import levels as fixed
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import SAGEConv

import pyg_gunet
from pyg_gunet import GraphUNet, GraphUNetAutoEncoder

N = 400
Figures = Iterator[tuple[str, Any]]


def cases() -> Iterator[Case]:
    """All that a device must repeat."""
    torch.manual_seed(0)
    n = N // 4  # four graphs, dense enough that their coarsest levels have edges
    edge_index = torch.cat([heavy_tailed(n, 8 * n, seed=i) + n * i for i in range(4)], 1)
    x, batch = torch.randn(N, 8), torch.arange(N) // n
    weight, pos = torch.rand(edge_index.size(1)) + 0.5, torch.rand(N, 2) * 20
    yield from operator_cases(x, edge_index, batch, weight)
    yield from segmentation_cases(edge_index, batch, pos)
    yield from critic_cases()
    yield from special_cases(x, edge_index, batch)
    yield from model_cases(x, edge_index, batch, weight)


def correctness(args: argparse.Namespace) -> Figures:
    """What differs most in each case; beyond the tolerance, or where it fails, 'wrong'."""
    for case in cases():
        yield case.name, check(case, torch.device(args.device))


class HostWaits(TorchDispatchMode):
    """Notes the operators whose result's size or value the host must know: a GPU would hold it up
    there. Seen on a CPU too, but for those inside of kernels that a GPU alone has."""

    ALWAYS = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "is_nonzero", "equal"}

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name.split("::")[1], kwargs or {}
        waits = name in self.ALWAYS or "unique" in name
        waits |= name == "repeat_interleave" and kwargs.get("output_size") is None
        if "index" in name and len(args) > 1 and isinstance(args[1], (list, tuple)):
            waits |= any(one is not None and one.dtype == torch.bool for one in args[1])
        if waits:
            stack = [f for f in traceback.extract_stack() if f"torch{os.sep}" not in f.filename]
            at = stack[-2] if len(stack) > 1 else stack[-1]  # the last is this frame
            self.places.append(f"{name} at {at.filename}:{at.lineno}")
        return func(*args, **kwargs)


def prepared() -> dict[str, Any]:
    """Models whose levels hang on the graph alone."""
    return {
        "levels": GraphUNet(8, 16, 3, 3, lift="interpolate", pool=fixed),
        "levels, SAGEConv": GraphUNet(8, 16, 3, 3, conv=SAGEConv, pool=fixed),
        "auto-encoder": GraphUNetAutoEncoder(8, 16, 4, 3),
    }


def waiting(run: Callable[[], Any], device: torch.device) -> list[str]:
    """Places where `run` makes the host wait."""
    if device.type != "cuda":
        with HostWaits() as waits:
            run()
        return waits.places
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]


def sync_points(args: argparse.Namespace) -> Figures:
    """Places that make the host wait in a step on prepared levels, checks switched off; one is
    'wrong', and so is a search that does not see a wait that is there."""
    device = torch.device(args.device)
    edge_index, x = heavy_tailed(N, 6 * N).to(device), torch.randn(N, 8, device=device)
    if not waiting(lambda: x.sum().item(), device):
        yield "search", {"wrong": "a wait that is there was not seen"}
    for name, model in prepared().items():
        model.to(device)
        ready = model.prepare(edge_index, num_nodes=N)

        def step(model: Any = model, ready: Any = ready) -> None:
            model(x, ready).sum().backward()

        step()
        with pyg_gunet.validation(False):
            places = waiting(step, device)
        found: dict[str, Any] = {"count": len(places), "places": sorted(set(places))}
        yield name, found | ({"wrong": f"{len(places)} waits"} if places else {})
