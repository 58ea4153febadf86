"""Cost of the walk operator beside its peers: step time, peak memory, slope and floor.

Every system runs its training steps in a process of its own, one after the other in the same run.
Graphs are synthetic, with power-law degrees and the sizes of the named data sets; features are
random. A step is forward, cross-entropy, backward and an Adam update; times are medians.

    python benchmarks/scale.py [--name CASE] [--device cpu|cuda] [--json FILE] [--quick]

Cases: unet (against PyG's GraphUNet), gcn (against PyG's plain GCN of 7 layers), floor, slope,
auto (where two_hop and walk cost the same), growth (memory over 300 steps), products (the size of
ogbn-products). Without --name all of them run; a case's figures replace those of an earlier run in
the same file. --json also writes the figures as CSV and a plot beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import PeakMemory, heavy_tailed, interleaved, parser, record, table, write_json
from _scale_graphs import auto_graphs, make_graph
from _scale_plot import plot
from pyg_gunet.functional.adjacency import Adjacency
from pyg_gunet.functional.choose import count_products
from pyg_gunet.functional.walk import WalkAdjacency
from torch import Tensor
from torch_geometric.nn import GCN
from torch_geometric.nn import GraphUNet as PyGGraphUNet
from torch_geometric.utils import to_torch_csr_tensor

from pyg_gunet import GraphUNet

FEATURES, CLASSES, HIDDEN, DEPTH = 128, 40, 64, 3
SIZES = {
    "cora": (2_708, 10_556),
    "pubmed": (19_717, 88_648),
    "arxiv/4": (42_336, 578_900),
    "arxiv": (169_343, 2_315_598),
    "products": (2_449_029, 123_718_280),
}
MAX_SECONDS, MAX_GB = 60.0, 16
SLOPE_EDGES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
SLOPE_SYSTEMS = ("small pages", "huge pages")
EDGES_PER_NODE = 13.7  # of ogbn-arxiv, both directions
UNET_SYSTEMS = ("pyg.GraphUNet", "walk", "two_hop", "sampled")
GCN_SYSTEMS = ("GCN edge_index", "GCN csr", "walk", "walk prepared", "walk depth 4")


def make_system(
    name: str, edge_index: Tensor, num_nodes: int, hidden: int
) -> tuple[torch.nn.Module, Any]:
    """``(model, what it takes as edges)``."""
    sizes = (FEATURES, hidden, CLASSES, 4 if name.endswith("depth 4") else DEPTH)
    if name == "pyg.GraphUNet":
        return PyGGraphUNet(*sizes), edge_index
    if name.startswith("GCN"):
        model = GCN(FEATURES, hidden, num_layers=2 * DEPTH + 1, out_channels=CLASSES)
        if name == "GCN csr":
            return model, to_torch_csr_tensor(edge_index, size=(num_nodes, num_nodes))
        return model, edge_index
    edges: Any = edge_index
    if name == "walk prepared":
        edges = WalkAdjacency.from_edge_index(edge_index, None, num_nodes)
    return GraphUNet(*sizes, connect=name.split()[0]), edges


def make_step(
    model: torch.nn.Module, x: Tensor, edges: Any, y: Tensor, bf16: bool = False
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x, edges), y)
        loss.backward()
        optimizer.step()
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def run_child(args: argparse.Namespace) -> dict[str, Any]:
    """One system on one graph, in this process: seconds per step and peak memory."""
    torch.manual_seed(0)
    n, e, device = args.nodes, args.edges, torch.device(args.device)
    edge_index = make_graph(n, e).to(device)
    x, y = torch.randn(n, FEATURES, device=device), torch.randint(CLASSES, (n,), device=device)
    if args.limit:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_GB << 30, MAX_GB << 30))
    seconds: list[float] = []
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        with PeakMemory() as memory:
            model, edges = make_system(args.system, edge_index, n, args.hidden)
            model = model.to(device)
            run = torch.compile(model) if args.variant == "compile" else model
            step = make_step(run, x, edges, y, args.variant == "bf16")
            for _ in range(args.repeats + (args.repeats > 1)):
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
        peak = memory.mb
        if device.type == "cuda":
            peak = (torch.cuda.max_memory_allocated() - base) / 1e6
    except (MemoryError, RuntimeError) as error:
        if "alloc" in str(error) or "memory" in str(error) or isinstance(error, MemoryError):
            return {"fails": "out of memory"}
        raise
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    bare = bare_product(edge_index, n, args.hidden) if args.variant in SLOPE_SYSTEMS else None
    warm = seconds[1:] if len(seconds) > 1 else seconds
    spread = statistics.pstdev(warm)
    return {
        "seconds": statistics.median(warm),
        "std": spread,
        "n": len(warm),
        "mb": peak,
        "total_mb": used,
        "bare": bare,
    }


def bare_product(edge_index: Tensor, num_nodes: int, features: int) -> float:
    """Seconds of one CSR product with the graph, 4-byte indices, into memory in hand."""
    parts = Adjacency.from_edge_index(edge_index, None, num_nodes).matrix.parts  # type: ignore
    matrix = torch.sparse_csr_tensor(*parts, size=(num_nodes, num_nodes))
    x, out = (torch.randn(num_nodes, features) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        out.addmm_(matrix, x, beta=0)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def child(
    system: str, nodes: int, edges: int, args: argparse.Namespace, **options: Any
) -> dict[str, Any]:
    """Runs a system in a process of its own, and stops it at the limits."""
    flags = {"hidden": HIDDEN, "repeats": args.seeds or 5, "limit": 0, "variant": "", **options}
    command = [sys.executable, __file__, "--child", "--system", system, "--device", args.device]
    command += ["--nodes", str(nodes), "--edges", str(edges)]
    for name, value in flags.items():
        command += [f"--{name}={value}"]
    limit = (flags["repeats"] + 1) * MAX_SECONDS + 60 if flags["limit"] else None
    try:
        # torch's allocator then asks the system for pages of 2 MB.
        pages = {"THP_MEM_ALLOC_ENABLE": "1"} if flags["variant"] == "huge pages" else {}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env={**os.environ, **pages},
        )
    except subprocess.TimeoutExpired:
        return {"fails": "over 60 s"}
    if done.returncode in (-9, -6, 137, 134) and flags["limit"]:
        return {"fails": "out of memory"}
    if done.returncode != 0:
        raise RuntimeError(f"{system} failed:\n{done.stderr[-2000:]}")
    out = json.loads(done.stdout.strip().splitlines()[-1])
    if flags["limit"] and out.get("seconds", 0.0) > MAX_SECONDS:
        return {"fails": "over 60 s"}
    return out


def records_of(case: str, system: str, out: dict[str, Any]) -> list[dict[str, Any]]:
    if "fails" in out:
        return [record("scale", case, system, "step", out["fails"])]
    return [
        record("scale", case, system, "seconds", out["seconds"], out["std"], out["n"]),
        record("scale", case, system, "peak_mb", out["mb"], None, out["n"]),
        record("scale", case, system, "process_peak_mb", out["total_mb"], None, out["n"]),
    ]


def ratios(case: str, outs: dict[str, dict[str, Any]], ours: str) -> list[dict[str, Any]]:
    """Every other system's time and memory over ours."""
    result = []
    for system, out in outs.items():
        if system == ours or "fails" in out or "fails" in outs[ours]:
            continue
        for metric, key in (("time_over_walk", "seconds"), ("memory_over_walk", "mb")):
            value = out[key] / max(outs[ours][key], 1e-9)
            result.append(record("scale", case, system, metric, value))
    return result


def case_unet(args: argparse.Namespace) -> list[dict[str, Any]]:
    result = []
    for size in ("cora",) if args.quick else ("cora", "pubmed", "arxiv/4"):
        outs = {}
        for system in UNET_SYSTEMS:
            heavy = size != "cora" and system == "pyg.GraphUNet"
            repeats = 1 if heavy or (size == "arxiv/4" and system != "walk") else args.seeds or 5
            outs[system] = child(system, *SIZES[size], args, limit=1, repeats=repeats)
            result += records_of(f"unet {size}", system, outs[system])
        result += ratios(f"unet {size}", outs, "walk")
    return result


def case_gcn(args: argparse.Namespace) -> list[dict[str, Any]]:
    size = "cora" if args.quick else "arxiv"
    outs, result = {}, []
    for system in GCN_SYSTEMS:
        repeats = 2 if system == "GCN edge_index" else args.seeds or 5
        outs[system] = child(system, *SIZES[size], args, repeats=repeats)
        result += records_of(f"gcn {size}", system, outs[system])
        if args.device == "cuda" and "walk" in system:
            for variant in ("bf16", "compile"):
                out = child(system, *SIZES[size], args, repeats=repeats, variant=variant)
                result += records_of(f"gcn {size}", f"{system} {variant}", out)
    return result + ratios(f"gcn {size}", outs, "walk")


def sparse_products(model: GraphUNet, x: Tensor, walks: WalkAdjacency) -> float:
    """Entries that the sparse products of one training step read, over those of the graph."""
    with torch.no_grad():
        hierarchy = model.encode(x, walks)[1]
    entries = []
    for level in hierarchy.levels:
        assert isinstance(level.structure, WalkAdjacency)
        entries.append(level.structure.propagation().nnz)
    forward = 2 * sum(entries[:-1]) + entries[-1]
    return 2 * forward / entries[0]


def case_floor(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The measured step over (products it must do) x (time of one bare product)."""
    size = "cora" if args.quick else "arxiv"
    n, device = SIZES[size][0], torch.device(args.device)
    torch.manual_seed(0)
    edge_index = make_graph(*SIZES[size]).to(device)
    x, y = torch.randn(n, FEATURES, device=device), torch.randint(CLASSES, (n,), device=device)
    h = torch.randn(n, HIDDEN, device=device)
    matrix = to_torch_csr_tensor(edge_index, size=(n, n))
    parts = (matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values())
    bare_matrix = torch.sparse_csr_tensor(*parts, size=(n, n))
    model = GraphUNet(FEATURES, HIDDEN, CLASSES, DEPTH, connect="walk").to(device)
    walks = WalkAdjacency.from_edge_index(edge_index, None, n)
    steps = {
        "bare": lambda: bare_matrix @ h,
        "step": make_step(model, x, edge_index, y),
        "prepared": make_step(model, x, walks, y),
    }
    count = sparse_products(model, x, walks)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range((args.seeds or 5) + 1):
        for name, step in steps.items():
            for _ in range(4 if name == "bare" else 1):
                start = time.perf_counter()
                step()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    case, result = f"floor {size}", []
    result.append(record("scale", case, "walk", "products", count))
    for name, value in medians.items():
        spread = statistics.pstdev(seconds[name])
        result.append(record("scale", case, name, "seconds", value, spread, len(seconds[name])))
    for name in ("step", "prepared"):
        over = medians[name] / (count * medians["bare"])
        result.append(record("scale", case, name, "over_floor", over))
    return result


def case_slope(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Step time over edges, beside the bare product of the same graph: with random edges a product
    leaves the caches as the graph grows, and that shows in both slopes."""
    edges = SLOPE_EDGES[:2] if args.quick else SLOPE_EDGES
    points: dict[str, list[tuple[float, float]]] = {}
    result = []
    for e in edges:
        n = int(e / EDGES_PER_NODE)
        repeats = (args.seeds or 5) if e <= 1_000_000 else 2 if e <= 10_000_000 else 1
        for variant in SLOPE_SYSTEMS:
            out = child("walk", n, e, args, hidden=32, repeats=repeats, variant=variant)
            name = "walk" if variant == "small pages" else f"walk, {variant}"
            result += records_of(f"slope {e}", name, out)
            result.append(
                record("scale", f"slope {e}", f"bare product, {variant}", "seconds", out["bare"])
            )
            for system, seconds in (
                (name, out["seconds"]),
                (f"bare product, {variant}", out["bare"]),
            ):
                points.setdefault(system, []).append((math.log(e), math.log(seconds)))
    for system, part in points.items():
        fit = statistics.linear_regression([p[0] for p in part], [p[1] for p in part])
        result.append(record("scale", "slope", system, "slope", fit.slope, None, len(part)))
    return result


def case_auto(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Both connectivities over graphs of growing degree: where does the faster one change?"""
    result = []
    sizes = {2_000: (2, 4)} if args.quick else {10_000: (2, 3, 4, 6, 12), 40_000: (2, 3, 4, 6)}
    for n, degrees in sizes.items():
        for name, edge_index in auto_graphs(n, degrees).items():
            nodes = int(edge_index.max()) + 1
            matrix = Adjacency.from_edge_index(edge_index, None, nodes).matrix
            count = count_products(matrix, [0.5] * DEPTH)  # type: ignore[arg-type]
            x, y = torch.randn(nodes, FEATURES), torch.randint(CLASSES, (nodes,))
            steps = {}
            for connect in ("two_hop", "walk"):
                torch.manual_seed(0)
                model = GraphUNet(FEATURES, HIDDEN, CLASSES, DEPTH, connect=connect)
                steps[connect] = make_step(model, x, edge_index, y)
            seconds = interleaved(steps, args.seeds or 3)
            medians = {connect: statistics.median(values) for connect, values in seconds.items()}
            case = f"auto {name}, {n} nodes"
            products, times = count.two_hop / count.walk, medians["two_hop"] / medians["walk"]
            result.append(record("scale", case, "two_hop over walk", "products", products))
            result.append(record("scale", case, "two_hop over walk", "seconds", times))
    return result


def case_growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Resident memory before and after 300 steps."""
    steps = 20 if args.quick else 300
    n, e = SIZES["cora"]
    torch.manual_seed(0)
    device = torch.device(args.device)
    x, y = torch.randn(n, FEATURES, device=device), torch.randint(CLASSES, (n,), device=device)
    model = GraphUNet(FEATURES, HIDDEN, CLASSES, DEPTH, connect="walk").to(device)
    step = make_step(model, x, heavy_tailed(n, e).to(device), y)
    for _ in range(30):
        step()
    with PeakMemory() as memory:
        for _ in range(steps):
            step()
    grown = (memory.process.memory_info().rss - memory.start) / 1e6
    return [record("scale", "growth cora", "walk", f"mb_over_{steps}_steps", grown, None, steps)]


def case_products(args: argparse.Namespace) -> list[dict[str, Any]]:
    size = SIZES["cora" if args.quick else "products"]
    out = child("walk", *size, args, hidden=32, repeats=1)
    return records_of("products", "walk", out)


CASES = {
    "unet": case_unet,
    "gcn": case_gcn,
    "floor": case_floor,
    "slope": case_slope,
    "auto": case_auto,
    "growth": case_growth,
    "products": case_products,
}


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    p.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    for name, kind in (("system", str), ("variant", str), ("nodes", int), ("edges", int)):
        p.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    for name, kind in (("hidden", int), ("repeats", int), ("limit", int)):
        p.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        print(json.dumps(run_child(args)))
        return
    kept: list[dict[str, Any]] = []
    if args.json and Path(args.json).exists():
        kept = json.loads(Path(args.json).read_text())
    for name in [args.name] if args.name else list(CASES):
        if name not in CASES:
            p.error(f"'--name' must be one of {', '.join(CASES)} (got {name!r})")
        new = CASES[name](args)
        kept = [r for r in kept if r["case"].split()[0] != name] + new
        write_json(args.json, kept)
        rows = [
            [r["case"], r["system"], r["metric"], _short(r["value"]), r["n"] or ""] for r in new
        ]
        print(table(["case", "system", "metric", "value", "n"], rows), flush=True)
    if args.json:
        path = Path(args.json)
        with path.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, kept[0])
            writer.writeheader()
            writer.writerows(kept)
        edges = {name: size[1] for name, size in SIZES.items()}
        plot(kept, UNET_SYSTEMS, edges, HIDDEN, path.with_suffix(".png"))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main()
