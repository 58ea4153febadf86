"""Auto-encoding of point clouds through one or more pooling levels.

The protocol of "Understanding Pooling in Graph Neural Networks" (Grattarola et al., 2022,
https://arxiv.org/abs/2110.05292): the coordinates of a cloud are the node features; an MLP and one
convolution, pooling, lifting, one convolution on the original graph and an MLP must restore them.
Nothing passes by the pooling. Adam at 5e-4, mean squared error, patience of 1000 steps with a
tolerance of 1e-6, the best weights count.

Every run is cut at the same cap, 20,000 steps or 180 seconds of processor time, whichever comes
first. Each finished run is a line of the CSV file, and is not repeated: start again to resume.

    pip install -e '.[train]' torch-scatter torch-cluster torch-geometric-pool
    python benchmarks/autoencoding.py --root MESHES --case all          # hours: resumable
    python benchmarks/autoencoding.py --quick                           # minutes
    python benchmarks/autoencoding.py --table                           # print only
    python benchmarks/autoencoding.py --picture PNG --name grid2d bunny # top-k beside spread
"""

from __future__ import annotations

import argparse
import copy
import csv
import time
import warnings
from pathlib import Path

import torch
from _autoencoding_data import load, names
from _autoencoding_model import AutoEncoder
from _autoencoding_picture import draw
from _autoencoding_poolers import METHODS, Adjacency
from _autoencoding_table import report

RESULTS = Path(__file__).parent / "results" / "autoencoding.csv"
FIELDS = (
    "name",
    "method",
    "ratio",
    "levels",
    "seed",
    "mse",
    "steps",
    "seconds",
    "stop",
    "nodes",
    "kept",
)
SPREAD = ("gpool-spread", "gpool-spread-fixed", "gpool-spread-propagate", "gpool-words")
FIRST = ("mean", "pyg-topk", *SPREAD, "kmis", "ndp", "mincut", "none")
DEEP = ("pyg-topk", *SPREAD, "kmis", "ndp", "mincut")
CASES = {
    "first": [(method, 0.5, 1) for method in FIRST],
    "rest": [(method, 0.5, 1) for method in METHODS if method not in FIRST],
    "ratios": [(method, ratio, 1) for ratio in (0.25, 0.1) for method in DEEP],
    "levels": [(method, 0.5, 3) for method in DEEP],
}


def train(data, method: str, ratio: float, levels: int, seed: int, steps: int, seconds: float):  # noqa: ANN001
    """One run: the record of it, and the model with its best weights."""
    torch.manual_seed(seed)
    x = data.x
    record = {"steps": 0, "seconds": 0.0, "stop": "closed form", "nodes": x.size(0), "kept": 0}
    if method == "mean":
        return {**record, "mse": float((x - x.mean(0)).square().mean())}, None
    adjacency = Adjacency(data.edge_index, data.edge_attr, None, x.size(0))
    model = AutoEncoder(method, x.size(1), x.size(0), ratio, levels)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, eps=1e-7)
    best, weights, patience, stop = float("inf"), None, 1000, "steps"
    start = time.process_time()
    for step in range(1, steps + 1):
        out, extra, pooled = model(x, adjacency)
        loss = torch.nn.functional.mse_loss(out, x)
        if float(loss) + 1e-6 < best:
            best, patience, kept = float(loss), 1000, pooled[-1].x.size(0) if pooled else x.size(0)
            weights = copy.deepcopy(model.state_dict())
        else:
            patience -= 1
        record["steps"] = step
        if patience == 0 or time.process_time() - start > seconds:
            stop = "patience" if patience == 0 else "time"
            break
        optimizer.zero_grad()
        (loss + extra).backward()
        optimizer.step()
    spent = time.process_time() - start
    model.load_state_dict(weights)
    return {
        **record,
        "mse": best,
        "steps": step,
        "seconds": spent,
        "stop": stop,
        "kept": kept,
    }, model


def done(path: Path) -> set[tuple[str, ...]]:
    if not path.exists():
        return set()
    with path.open() as file:
        return {tuple(row[field] for field in FIELDS[:5]) for row in csv.DictReader(file)}


def append(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def picture(data: list[str], args: argparse.Namespace) -> None:
    rows = []
    for name in data:
        graph, methods = load(name, args.root), []
        for method in args.method or ("pyg-topk", "gpool-spread-fixed"):
            record, model = train(graph, method, 0.5, 1, 0, args.steps, args.seconds)
            with torch.no_grad():
                adjacency = Adjacency(graph.edge_index, graph.edge_attr, None, graph.x.size(0))
                out, _, pooled = model(graph.x, adjacency)
            methods.append((method, record["mse"], pooled[-1].perm, out))
            print(name, method, f"{record['mse']:.3e}", record["steps"], record["stop"], flush=True)
        rows.append((name, graph, methods))
    draw(rows, args.picture)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", help="a folder of meshes (.ply, .off, .obj, .stl)")
    parser.add_argument("--name", nargs="*", help="data sets (default: all)")
    parser.add_argument(
        "--method", nargs="*", choices=METHODS, help="columns (default: the case's)"
    )
    parser.add_argument("--case", default="all", choices=("all", *CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20_000, help="cap of every run")
    parser.add_argument("--seconds", type=float, default=180.0, help="cap, in processor time")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="one line per run, appended to")
    parser.add_argument("--json", type=Path, help="the table as flat records")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="grid and ring, one seed, 1,000 steps")
    parser.add_argument("--picture", type=Path, help="draw top-k beside spread instead (one seed)")
    parser.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if args.quick:
        args.name, args.case, args.seeds, args.steps = (
            args.name or ["grid2d", "ring"],
            "first",
            1,
            1000,
        )
        args.csv = args.csv if args.csv != RESULTS else RESULTS.with_stem("autoencoding_quick")
    if args.picture:
        return picture(args.name or ["grid2d", "bunny"], args)
    cases = list(CASES.values()) if args.case == "all" else [CASES[args.case]]
    print(f"cap: {args.steps} steps or {args.seconds:g} s of processor time per run")
    for case in [] if args.table else cases:
        for name in args.name or names(args.root):
            data = load(name, args.root)
            for seed in range(args.seeds):
                for method, ratio, levels in case:
                    if args.method and method not in args.method:
                        continue
                    key = name, method, str(ratio), str(levels), str(seed)
                    if key in done(args.csv):
                        continue
                    record, _ = train(data, method, ratio, levels, seed, args.steps, args.seconds)
                    append(args.csv, {**dict(zip(FIELDS, key)), **record})
                    print(*key, f"{record['mse']:.3e}", record["steps"], record["stop"], flush=True)
    report(args.csv, args.json)


if __name__ == "__main__":
    main()
