"""Cost of the walk operator and of contracted levels beside peers: time, memory, slope and floor.

Every system runs its training steps in a process of its own, one after the other in the same run.
Graphs are synthetic, with power-law degrees and the sizes of the named data sets; features are
random. A step is forward, cross-entropy, backward and an Adam update; times are medians.

    python benchmarks/scale.py [--name CASE] [--device cpu|cuda] [--json FILE] [--quick]

Cases: unet (against PyG's GraphUNet), gcn (against PyG's plain GCN of 7 layers), floor, slope,
growth (memory over 300 steps), products (the size of ogbn-products). "prepared" systems get what
`model.prepare` made once, whose seconds are a row of their own: with `contract`, whose levels hang
on the graph alone here, all levels. Without --name all of them run; a case's figures replace those
of an earlier run in the same file, with --system those of that system. On one thread times are the
processor's. --json also writes the figures as CSV and a plot beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from _common import PeakMemory, heavy_tailed, parser, record, table, write_json
from _scale_graphs import make_graph
from _scale_plot import plot
from _scale_step import (
    CLASSES,
    DEPTH,
    EDGES_PER_NODE,
    FEATURES,
    GCN_SYSTEMS,
    HIDDEN,
    PAGES,
    SIZES,
    SLOPE_EDGES,
    UNET_SYSTEMS,
    child,
    make_step,
    run_child,
)
from torch import Tensor
from torch_geometric.utils import to_torch_csr_tensor

from pyg_gunet import GraphUNet
from pyg_gunet.graph.walk import Walk


def records_of(case: str, system: str, out: dict[str, Any]) -> list[dict[str, Any]]:
    if "fails" in out:
        return [record("scale", case, system, "step", out["fails"])]
    found = [
        record("scale", case, system, "seconds", out["seconds"], out["std"], out["n"]),
        record("scale", case, system, "peak_mb", out["mb"], None, out["n"]),
        record("scale", case, system, "process_peak_mb", out["total_mb"], None, out["n"]),
    ]
    if out["prepare"] is not None:
        found.append(record("scale", case, system, "prepare_seconds", out["prepare"], None, 1))
    return found


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
    for system in [args.system] if args.system else GCN_SYSTEMS:
        repeats = 2 if system == "GCN edge_index" else args.seeds or 5
        outs[system] = child(system, *SIZES[size], args, repeats=repeats)
        result += records_of(f"gcn {size}", system, outs[system])
        if args.device == "cuda" and "walk" in system:
            for variant in ("bf16", "compile"):
                out = child(system, *SIZES[size], args, repeats=repeats, variant=variant)
                result += records_of(f"gcn {size}", f"{system} {variant}", out)
    return result + (ratios(f"gcn {size}", outs, "walk") if "walk" in outs else [])


def sparse_products(model: GraphUNet, x: Tensor, walks: Walk) -> float:
    """Entries that the sparse products of one training step read, over those of the graph."""
    with torch.no_grad():
        hierarchy = model.states(x, walks)[1]
    entries = []
    for level in hierarchy.levels:
        assert isinstance(level.graph, Walk)
        entries.append(level.graph.nnz)
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
    walks = Walk.from_edge_index(edge_index, None, n)
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
    edges = SLOPE_EDGES[:2] if args.quick else [e for e in SLOPE_EDGES if e <= args.largest]
    points: dict[str, list[tuple[float, float]]] = {}
    result = []
    for e in edges:
        n = int(e / EDGES_PER_NODE)
        repeats = (args.seeds or 5) if e <= 1_000_000 else 2 if e <= 10_000_000 else 1
        for system in [args.system] if args.system else ("walk", "contract prepared"):
            for variant in PAGES[:1] if args.quick or args.system else PAGES:
                out = child(system, n, e, args, hidden=32, repeats=repeats, variant=variant)
                name = system if variant == PAGES[0] else f"{system}, {variant}"
                result += records_of(f"slope {e}", name, out)
                found = {name: out["seconds"]}
                if system == "walk":
                    bare = f"bare product, {variant}"
                    result.append(record("scale", f"slope {e}", bare, "seconds", out["bare"]))
                    found[bare] = out["bare"]
                elif variant == PAGES[0] and out["prepare"] is not None:
                    found["contract, its prepare"] = out["prepare"]
                for key, seconds in found.items():
                    points.setdefault(key, []).append((math.log(e), math.log(seconds)))
    for system, part in points.items():
        fit = statistics.linear_regression([p[0] for p in part], [p[1] for p in part])
        result.append(record("scale", "slope", system, "slope", fit.slope, None, len(part)))
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
    "growth": case_growth,
    "products": case_products,
}


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    p.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--system", help="of gcn and slope this one alone, beside what is there")
    p.add_argument("--largest", type=int, default=SLOPE_EDGES[-1], help="edges, of slope")
    for name, kind in (("variant", str), ("nodes", int), ("edges", int)):
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
        made = {(r["case"], r["system"]) for r in new}
        kept = [
            r
            for r in kept
            if (r["case"], r["system"]) not in made
            and (args.system or r["case"].split()[0] != name)
        ] + new
        write_json(args.json, kept)
        rows = [
            [r["case"], r["system"], r["metric"], _short(r["value"]), r["n"] or ""] for r in new
        ]
        print(table(["case", "system", "metric", "value", "n"], rows), flush=True)
    if args.json:
        edges = {name: size[1] for name, size in SIZES.items()}
        plot(kept, UNET_SYSTEMS, edges, HIDDEN, Path(args.json).with_suffix(".png"))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main()
