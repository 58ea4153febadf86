"""All that a GPU must show, in one command of at most 25 minutes:

    PYTHONPATH=. python benchmarks/gpu.py --json benchmarks/results/gpu/CARD.json
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --quick

Parts, the most valuable first; each runs in a process of its own, so that one failure loses nothing
else, and a part that stands in the JSON file is not run again (``--again`` repeats it):

    correctness  every operator and model, forward and backward, here against the CPU
    arxiv        a training step at the size of ogbn-arxiv, beside PyG's GCN and GraphUNet
    small        128 and 1,024 small graphs
    compile      torch.compile and CUDA graphs on prepared levels, against eager
    spread       selection from 1e5 to 1e7 edges
    products     one step at the size of ogbn-products
    scores       a confusion matrix of 1e8 nodes
    syncs        what makes the host wait inside a step on prepared levels
    tests        the suite's CUDA tests
    profile      the kernels of the two slowest systems, as text beside the JSON

Graphs are made here, nothing is read from disk. Times are medians after warm-up, by events on a
GPU.
Without pygsp, ogb, trimesh or torch-scatter, and without installing the package.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import heavy_tailed, write_json
from _gpu_checks import correctness, sync_points
from _scale_graphs import make_graph
from torch import Tensor
from torch_geometric.nn import GCN
from torch_geometric.nn import GraphUNet as PyGGraphUNet
from torch_geometric.utils import to_torch_csr_tensor

from pyg_gunet import GPool, GraphUNet, SegmentationMetrics, repeat_graph, spread

warnings.filterwarnings("ignore")
FEATURES, HIDDEN, CLASSES, DEPTH = 128, 64, 40, 3
LIMIT = {"arxiv": 420, "products": 240, "correctness": 240, "tests": 240}  # seconds; else 150


def structural(channels: int, ratio: float | int) -> GPool:
    """Levels that hang on the graph alone, so that they are prepared once."""
    return GPool(channels, ratio, select="spread", quantiles=1, connect="contract")


def levels(channels: int, ratio: float | int) -> GPool:
    return GPool(channels, ratio, select="spread", quantiles=1, connect="contract", reduce="mean")


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


def kernels(step: Callable[[], Any], device: torch.device) -> int | None:
    """Kernels of one step."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages())


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


def arxiv(args: argparse.Namespace) -> dict[str, Any]:
    n, e = (2_000, 20_000) if args.quick else (169_343, 2_315_598)
    device, out = torch.device(args.device), {}
    edge_index = make_graph(n, e).to(device)
    x = torch.randn(n, FEATURES, device=device)
    names = ["GCN edge_index", "GCN csr", "contract prepared", "levels prepared", "contract"]
    for name in [*names, "walk prepared", "walk", "two_hop", "PyG GraphUNet"]:
        try:
            begin = time.perf_counter()
            model, edges = system(name, edge_index, n)
            made = time.perf_counter() - begin
            step = training(model, x, edges)
            out[name] = timed(step, device, args.repeats) | {"prepare_s": made}
            out[name]["kernels"] = kernels(step, device)
        except (MemoryError, RuntimeError) as error:
            out[name] = {"fails": f"{type(error).__name__}: {error}"[:200]}
    # What a step must move at least: each propagation reads and writes its features once, forward
    # and backward, on levels of half the nodes each, twice on all but the coarsest.
    rows = n * (2 * sum(0.5**level for level in range(DEPTH)) + 0.5**DEPTH)
    moved = 2 * 2 * 4 * HIDDEN * rows
    out["floor"] = {"bytes": moved, "bandwidth_gb_s": bandwidth(device)}
    out["floor"]["ms"] = moved / out["floor"]["bandwidth_gb_s"] / 1e6
    return out


def bandwidth(device: torch.device) -> float:
    """Of memory, by a copy."""
    x = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    y = torch.empty_like(x)
    ms = timed(lambda: y.copy_(x), device, 5)["ms"]
    return 2 * 4 * x.numel() / ms / 1e6


def small(args: argparse.Namespace) -> dict[str, Any]:
    device, out = torch.device(args.device), {}
    for count in (16,) if args.quick else (128, 1024):
        edges, batch, _ = repeat_graph(heavy_tailed(40, 176), 40, count)
        edges, batch = edges.to(device), batch.to(device)
        x, sizes = torch.randn(40 * count, FEATURES, device=device), (FEATURES, HIDDEN, CLASSES, 4)
        ours = {
            "two_hop": GraphUNet(*sizes),
            "walk": GraphUNet(*sizes, connect="walk"),
            "contract": GraphUNet(*sizes, pool=structural),
        }
        for name, model in {"PyG GraphUNet": PyGGraphUNet(*sizes), **ours}.items():
            model.to(device)
            step = training(model, x, edges, batch)
            out[f"{name}, {count} graphs"] = timed(step, device, args.repeats)
        ready = ours["contract"].prepare(edges, num_nodes=40 * count, batch=batch)
        step = training(ours["contract"], x, ready)
        out[f"contract prepared, {count} graphs"] = timed(step, device, args.repeats)
    return out


def compiled(args: argparse.Namespace) -> dict[str, Any]:
    n, e = (1_000, 8_000) if args.quick else (40_000, 400_000)
    device, out = torch.device(args.device), {}
    edge_index, x = make_graph(n, e).to(device), torch.randn(n, FEATURES, device=device)
    modes = {"eager": None, "compile": "default"}
    if device.type == "cuda":
        modes["CUDA graphs"] = "reduce-overhead"
    for name, mode in modes.items():
        model, edges = system("levels prepared", edge_index, n)
        run = model if mode is None else torch.compile(model, mode=mode)
        try:
            out[name] = timed(training(run, x, edges), device, args.repeats)
        except Exception as error:  # a compiler may fail in any way
            out[name] = {"fails": f"{type(error).__name__}: {error}"[:300]}
    return out


def spreading(args: argparse.Namespace) -> dict[str, Any]:
    device, out = torch.device(args.device), {}
    for e in (10_000,) if args.quick else (100_000, 1_000_000, 10_000_000):
        n = e // 14
        edge_index, score = make_graph(n, e).to(device), torch.randn(n, device=device)
        for quantiles in (None, 1):
            step = lambda: spread(score, edge_index, 0.5, quantiles=quantiles)  # noqa: B023, E731
            out[f"{e:.0e} edges, quantiles={quantiles}"] = timed(step, device, 3)
    return out


def products(args: argparse.Namespace) -> dict[str, Any]:
    n, e = (2_000, 40_000) if args.quick else (2_449_029, 123_718_280)
    device, out = torch.device(args.device), {}
    edge_index, x = make_graph(n, e).to(device), torch.randn(n, FEATURES, device=device)
    for name in ("walk prepared", "contract prepared"):
        try:
            model, edges = system(name, edge_index, n)
            out[name] = timed(training(model, x, edges), device, 2)
            del model, edges
        except (MemoryError, RuntimeError) as error:
            out[name] = {"fails": f"{type(error).__name__}: {error}"[:200]}
    return out


def scores(args: argparse.Namespace) -> dict[str, Any]:
    n, device = 10**5 if args.quick else 10**8, torch.device(args.device)
    pred, target = (torch.randint(21, (n,), device=device) for _ in range(2))
    metrics = SegmentationMetrics(21).to(device)
    return {f"{n:.0e} nodes": timed(lambda: metrics.update(pred, target), device, 3)}


def cuda_tests(args: argparse.Namespace) -> dict[str, Any]:
    if args.device == "cpu":
        return {"not run": "they need a CUDA device"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "cuda",
        "tests",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"returncode": done.returncode, "tail": done.stdout[-1500:]}


def profile(args: argparse.Namespace) -> dict[str, Any]:
    n, e = (2_000, 20_000) if args.quick else (169_343, 2_315_598)
    device = torch.device(args.device)
    edge_index, x = make_graph(n, e).to(device), torch.randn(n, FEATURES, device=device)
    out, key = {}, "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    for name in ("contract prepared", "two_hop" if args.quick else "walk prepared"):
        model, edges = system(name, edge_index, n)
        step = training(model, x, edges)
        step()
        with torch.profiler.profile() as seen:
            step()
        out[name] = seen.key_averages().table(sort_by=key, row_limit=25)
    return out


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "correctness": correctness,
    "arxiv": arxiv,
    "small": small,
    "compile": compiled,
    "spread": spreading,
    "products": products,
    "scores": scores,
    "syncs": sync_points,
    "tests": cuda_tests,
    "profile": profile,
}


def machine(device: str) -> dict[str, str]:
    import torch_geometric

    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": card, "torch": torch.__version__, "pyg": torch_geometric.__version__}


def run_part(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """A part in a process of its own; its failure is its result."""
    command = [sys.executable, __file__, "--part", name, "--device", args.device]
    command += ["--repeats", str(args.repeats)] + (["--quick"] if args.quick else [])
    start, limit = time.perf_counter(), LIMIT.get(name, 150)
    ours = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, ours))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, env=env
        )
        lines = done.stdout.strip().splitlines()
        out = json.loads(lines[-1]) if done.returncode == 0 else {"fails": done.stderr[-1500:]}
    except subprocess.TimeoutExpired:
        out = {"fails": f"over {limit} s"}
    return {"seconds": round(time.perf_counter() - start, 1), "figures": out}


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--name", nargs="*", choices=list(PARTS), default=list(PARTS))
    p.add_argument("--json", default=None, help="where figures are kept, part by part")
    p.add_argument("--again", action="store_true", help="repeat parts that are there")
    p.add_argument("--repeats", type=int, default=10)
    p.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
    p.add_argument("--part", default=None, choices=list(PARTS), help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.quick:
        args.repeats = min(args.repeats, 2)
    if args.part:
        torch.manual_seed(0)
        print(json.dumps(PARTS[args.part](args)))
        return
    path = None if args.json is None else Path(args.json)
    kept: dict[str, Any] = json.loads(path.read_text())[0] if path and path.exists() else {}
    kept["machine"] = machine(args.device)
    failed = []
    for name in args.name:
        if name in kept and not args.again and "fails" not in kept[name]["figures"]:
            continue
        kept[name] = run_part(name, args)
        figures = kept[name]["figures"]
        parts = figures.values() if args.quick else ()  # large sizes may not fit a card
        if any({"fails", "wrong"} & set(one) for one in (figures, *parts) if isinstance(one, dict)):
            failed.append(name)
        if name == "profile" and path is not None:
            texts = "\n\n".join(f"{k}\n{v}" for k, v in figures.items())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".txt").write_text(texts + "\n")
        write_json(args.json, [kept])
        shown = figures if name != "profile" else dict.fromkeys(figures, "...")
        print(name, f"{kept[name]['seconds']} s", json.dumps(shown, indent=1)[:3000], flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        raise
