"""Correctness of every operator and model on a device, against the CPU; and what makes the host
wait for it."""

from __future__ import annotations

import argparse
import copy
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from _common import heavy_tailed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import GINEConv, SAGEConv

import pyg_gunet
from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    GUnpool,
    HierarchicalReadout,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    SegmentationUNet,
    VariationalAutoEncoder,
    prolongation,
    spread,
)
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.functional.interpolate import nearest_kept, propagate_kept
from pyg_gunet.functional.segmentation import confusion_matrix
from pyg_gunet.functional.select import topk

N, TOLERANCE = 400, 1e-4
Make = Callable[[], torch.nn.Module]


def fixed(channels: int, ratio: float | int) -> GPool:
    return GPool(channels, ratio, select="spread", quantiles=1, reduce="mean", connect="contract")


def models() -> dict[str, Make]:
    """All of ours, in `eval` mode where they draw."""
    size = (8, 16, 3, 3)
    out: dict[str, Make] = {
        f"{select} {reduce} {connect} {lift}": lambda w=(select, reduce, connect, lift): GraphUNet(
            *size, select=w[0], reduce=w[1], connect=w[2], lift=w[3], norm="batch"
        )
        for select in ("topk", "spread")
        for reduce, lift in (("keep", "zero"), ("mean", "interpolate"), ("keep", "propagate"))
        for connect in ("induced", "two_hop", "contract", "walk")
    }
    out |= {
        "SAGEConv": lambda: GraphUNet(*size, connect="contract", conv=SAGEConv),
        "official": lambda: OfficialGraphUNet(*size),
        "mixed": lambda: MixedGraphUNet(*size),
        "segmentation": lambda: SegmentationUNet(*size, multi_scale=True),
        "auto-encoder": lambda: GraphUNetAutoEncoder(8, 16, 4, 3),
        "variational": lambda: VariationalAutoEncoder(GraphUNetAutoEncoder(8, 16, 4, 3)).eval(),
        "read-out": lambda: HierarchicalReadout(GraphUNet(8, 16, 16, 3), 3),
    }
    return out


def difference(a: Any, b: Any) -> float:
    """The largest, relative to the largest value; infinite where shapes differ."""
    if isinstance(a, (tuple, list)):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / a.abs().max().clamp(min=1.0)) if a.numel() else 0.0


def correctness(args: argparse.Namespace) -> dict[str, Any]:
    """Name -> largest difference; what is above the tolerance, or fails, comes under 'wrong'."""
    device = torch.device(args.device)
    torch.manual_seed(0)
    edge_index, x = heavy_tailed(N, 6 * N), torch.randn(N, 8)
    weight = torch.rand(edge_index.size(1)) + 0.5
    batch = torch.arange(N) // (N // 4)
    inside = batch[edge_index[0]] == batch[edge_index[1]]
    edge_index, weight = edge_index[:, inside], weight[inside]
    out: dict[str, Any] = {}
    wrong: dict[str, str] = {}

    def compare(name: str, run: Callable[..., Any], *given: Tensor, tolerance: float = TOLERANCE):
        try:
            here = run(*given)
            there = run(*(value.to(device) for value in given))
            out[name] = difference(here, there)
            if not out[name] <= tolerance:
                wrong[name] = f"differs by {out[name]:.2e}"
        except Exception as error:  # all are to be seen
            wrong[name] = f"{type(error).__name__}: {error}"[:300]

    y = torch.randn(N)
    perm = spread(y, edge_index, 0.3, batch)
    compare("topk", lambda y, b: topk(y, 0.5, b), y, batch)
    for quantiles in (None, 1):
        run = lambda y, e, b: spread(y, e, 0.3, b, quantiles=quantiles)  # noqa: B023, E731
        compare(f"spread {quantiles}", run, y, edge_index, batch)
    compare("induced", lambda e, w, p: induced(e, w, p, N), edge_index, weight, perm)
    compare("two_hop", lambda e, w, p: two_hop(e, w, p, N), edge_index, weight, perm)
    compare("contract", lambda e, w, p: contract(e, w, p, N), edge_index, weight, perm)
    compare("nearest", lambda p, e: nearest_kept(p, e, N), perm, edge_index)
    kept = x[perm]
    compare("propagate", lambda k, p, e: propagate_kept(k, p, e, N), kept, perm, edge_index)
    compare(
        "prolong and restrict",
        lambda k, x, p, e, w: (
            prolongation(p, e, N, w).prolong(k),
            prolongation(p, e, N, w).restrict(x),
            prolongation(p, e, N, w).cluster,
        ),
        kept, x, perm, edge_index, weight,
    )  # fmt: skip
    labels = torch.randint(5, (2, N))
    compare("confusion", lambda t: confusion_matrix(t[0], t[1], 5), labels)
    for name, make in models().items():
        torch.manual_seed(1)
        model = make()
        for kind in ("plain", "learned", "bf16"):
            if kind == "learned" and ("walk" in name or name == "SAGEConv"):
                continue
            step = _step(model, kind)
            tolerance = 5e-2 if kind == "bf16" else TOLERANCE
            if kind == "bf16" and name.startswith(("topk", "spread")):
                continue  # close scores change places in half precision, and nodes with them
            compare(f"{name}, {kind}", step, x, edge_index, batch, weight, tolerance=tolerance)
    attr = torch.randn(edge_index.size(1), 5)
    gine = GraphUNet(
        8, 16, 3, 2, connect="contract",
        conv=lambda i, o: GINEConv(torch.nn.Linear(i, o), edge_dim=5),
    )  # fmt: skip
    compare(
        "edge features",
        lambda x, e, b, a: copy.deepcopy(gine).to(x.device)(x, e, b, edge_attr=a),
        x, edge_index, batch, attr,
    )  # fmt: skip
    masked = MaskedAutoEncoder(GraphUNet(8, 16, 16, 2)).eval()
    compare(
        "masked, embeddings",
        lambda x, e: copy.deepcopy(masked).to(x.device).embed(x, e),
        x, edge_index,
    )  # fmt: skip
    hidden = MaskedLinkEncoder(8, 16).eval()
    compare(
        "masked links, embeddings",
        lambda x, e: copy.deepcopy(hidden).to(x.device).embed(x, e),
        x, edge_index,
    )  # fmt: skip
    compare("masked links, a step", lambda x, e: _drawn_step(hidden, x, e), x, edge_index)
    unpool = GUnpool("interpolate")
    compare("unpool", lambda k, p, e: unpool(k, p, N, e), kept, perm, edge_index)
    if wrong:
        out["wrong"] = wrong
    return out


def _step(model: torch.nn.Module, kind: str) -> Callable[..., Any]:
    """Output and gradients."""

    def run(x: Tensor, edge_index: Tensor, batch: Tensor, weight: Tensor) -> Any:
        own = copy.deepcopy(model).to(x.device)
        x = x.clone().requires_grad_()
        given = {}
        if kind == "learned":
            given["edge_weight"] = weight.clone().requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=kind == "bf16"):
            out = own(x, edge_index, batch, **given)
        out.float().square().mean().backward()
        grads = [p.grad for p in own.parameters()]
        return [out, x.grad, *grads, *(value.grad for value in given.values())]

    return run


def _drawn_step(model: torch.nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    """Whether all gradients are finite: a device draws numbers of its own."""
    own = copy.deepcopy(model).to(x.device).train()
    own.max_links = edge_index.size(1) // 2  # some links, and some pairs, are drawn
    own.loss(*own(x, edge_index), edge_index).backward()
    return torch.stack([p.grad.isfinite().all() for p in own.parameters()])


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


def prepared() -> dict[str, torch.nn.Module]:
    """Models whose levels hang on the graph alone."""
    return {
        "levels": GraphUNet(8, 16, 3, 3, lift="interpolate", pool=fixed),
        "levels, SAGEConv": GraphUNet(8, 16, 3, 3, conv=SAGEConv, pool=fixed),
        "auto-encoder": GraphUNetAutoEncoder(8, 16, 4, 3),
    }


def sync_points(args: argparse.Namespace) -> dict[str, Any]:
    """Places that make the host wait in a step on prepared levels, checks switched off."""
    device = torch.device(args.device)
    edge_index, x = heavy_tailed(N, 6 * N).to(device), torch.randn(N, 8, device=device)
    out: dict[str, Any] = {}
    for name, model in prepared().items():
        model.to(device)
        ready = model.prepare(edge_index, num_nodes=N)
        model(x, ready).sum().backward()
        with pyg_gunet.validation(False), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
                model(x, ready).sum().backward()
                torch.cuda.set_sync_debug_mode("default")
                text = [(str(w.message), f"{w.filename}:{w.lineno}") for w in seen]
                places = [at for message, at in text if "synchroniz" in message]
            else:
                with HostWaits() as waits:
                    model(x, ready).sum().backward()
                places = waits.places
        out[name] = {"count": len(places), "places": sorted(set(places))}
    return out
