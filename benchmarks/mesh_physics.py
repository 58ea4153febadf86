"""Learned solvers on triangulated random domains: a Graph U-Net by each of its four words against
flat networks and other U-Nets, all at equal parameters, data and epochs.

Poisson's equation, Darcy flow and advection with diffusion (:mod:`_mesh_data`). Networks train on
meshes of 500 to 2,000 nodes and are tested on unseen meshes of up to 32,000. The error is the share
of the variance left. For advection a network says the change in one step; a roll-out feeds its
answer back 50 times. Adam at 3e-3 with a cosine, one random right-hand side, coefficient or moment
of every mesh per epoch. Each system's width is what brings its parameters nearest to those of a
U-Net of width 32 and depth 5. ``speed`` measures one training step on one mesh of each size.

Every run is a process of its own (PyG's GraphUNet leaks) and a line of the CSV file; finished ones
are not repeated: start again to resume. Runs that fail leave a line with the reason; ``--retry``
drops those first.

    pip install -e . scikit-fem          # and, for two peers, torch-scatter torch-geometric-pool
    python benchmarks/mesh_physics.py --root DATA                   # hours: resumable
    python benchmarks/mesh_physics.py --root DATA --name poisson --seeds 1
    python benchmarks/mesh_physics.py --quick                       # a smoke test
    python benchmarks/mesh_physics.py --table                       # print only
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from _common import parser, record, table, write_json
from _mesh_data import PROBLEMS
from _mesh_models import SYSTEMS
from _mesh_train import work
from _runs import attempt, child, resume

RESULTS = Path(__file__).parent / "results" / "mesh_physics.csv"
CHILD = Path(__file__).parent / "_mesh_train.py"
SIZES = (500, 2000, 8000, 32000)
KEY = ("case", "system", "seed")
FIELDS = (
    *KEY,
    "width",
    "parameters",
    "epochs",
    "prepare_seconds",
    "epoch_seconds",
    "train_loss",
    *(f"share_{size}" for size in SIZES),
    *(f"roll_{size}" for size in SIZES),
    "step_seconds",
    "forward_seconds",
    "step_mb",
    "failed",
)


def runs(args) -> list[tuple[dict[str, Any], str]]:  # noqa: ANN001
    """All runs in order, every system once before the second seed, with their Python."""
    shared = {"root": args.root, "threads": args.threads, "memory": args.memory}
    systems = args.system or list(SYSTEMS)
    out: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for problem in [p for p in PROBLEMS if args.name in (None, p)]:
            for system in systems:
                run = {"case": problem, "problem": problem, "system": system, "seed": seed}
                tests = {size: count for size, count in args.tests.items() if size <= args.largest}
                more = {"train": args.train, "meshes": args.meshes, "tests": tests}
                out.append({**run, **shared, **more, "epochs": args.epochs, "batch": args.batch})
    for size in [s for s in SIZES if s <= args.largest and args.name in (None, "speed")]:
        for system in systems:
            run = {"case": f"speed {size}", "problem": "poisson", "system": system, "seed": 0}
            out.append({**run, **shared, "size": size, "repeats": args.repeats})
    pythons = {True: args.peer_python, False: sys.executable}
    return [(run, pythons[SYSTEMS[run["system"]].peer]) for run in out]


def report(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Prints a table per case; returns flat records."""
    records: list[dict[str, Any]] = []
    done = [row for row in rows if row["width"]]
    for case in [p for p in PROBLEMS if any(row["case"] == p for row in done)]:
        metrics = [f for f in FIELDS if f.startswith(("share_", "roll_"))]
        metrics = [f for f in metrics if any(row["case"] == case and row[f] for row in done)]
        body = []
        for system in SYSTEMS:
            mine = [row for row in done if (row["case"], row["system"]) == (case, system)]
            if not mine:
                continue
            seconds = statistics.median(float(row["epoch_seconds"]) for row in mine)
            cells = [system, mine[0]["width"], mine[0]["parameters"], f"{seconds:.2f}"]
            for metric in metrics:
                values = [float(row[metric]) for row in mine if row[metric]]
                if not values:
                    cells.append("")
                    continue
                mean = statistics.mean(values)
                std = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{mean:.4f} +- {std:.4f}")
                n = len(values)
                records.append(record("mesh_physics", case, system, metric, mean, std, n))
            records.append(
                record("mesh_physics", case, system, "epoch_seconds", seconds, None, len(mine))
            )
            body.append([*cells, len(mine)])
        head = [m.replace("share_", "left, ").replace("roll_", "roll-out, ") for m in metrics]
        print(f"\n{case}: share of the variance left on unseen meshes of this many nodes\n")
        print(table(["system", "width", "parameters", "s/epoch", *head, "seeds"], body))
    speed = {s: f"speed {s}" for s in SIZES if any(row["case"] == f"speed {s}" for row in done)}
    if speed:
        body = []
        for system in SYSTEMS:
            cells = [system]
            for case in speed.values():
                mine = [row for row in done if (row["case"], row["system"]) == (case, system)]
                cells.append("" if not mine else "{step_seconds}, {step_mb}".format(**_short(mine)))
                for metric in ("step_seconds", "step_mb") if mine else ():
                    value = float(mine[0][metric])
                    records.append(record("mesh_physics", case, system, metric, value, None, 1))
            if any(cells[1:]):
                body.append(cells)
        print("\nseconds and peak MB of a training step on one mesh of this many nodes\n")
        print(table(["system", *map(str, speed)], body))
    for row in rows:
        if row["failed"]:
            print(f"failed: {row['case']}, {row['system']}, seed {row['seed']}: {row['failed']}")
    return records


def _short(rows: list[dict[str, str]]) -> dict[str, str]:
    seconds, mb = float(rows[0]["step_seconds"]), float(rows[0]["step_mb"])
    return {"step_seconds": f"{seconds:.3f}", "step_mb": f"{mb:.0f}"}


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--system", nargs="*", choices=list(SYSTEMS), help="these alone")
    p.add_argument("--epochs", type=int, default=80)
    p.add_argument("--batch", type=int, default=8, help="meshes per step")
    p.add_argument("--meshes", type=int, default=120, help="meshes to train on")
    p.add_argument("--train", type=int, nargs=2, default=(500, 2000), help="their sizes")
    p.add_argument("--largest", type=int, default=SIZES[-1], help="the largest mesh to test on")
    p.add_argument("--repeats", type=int, default=5, help="steps per measurement of speed")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--timeout", type=float, default=7200.0, help="seconds per run")
    p.add_argument("--memory", type=float, default=16.0, help="GB of address space per run")
    p.add_argument("--peer-python", default=sys.executable, help="one that has the peers")
    p.add_argument("--csv", type=Path, default=RESULTS, help="one line per run")
    p.add_argument("--retry", action="store_true", help="repeat what failed")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.tests = {500: 20, 2000: 20, 8000: 8, 32000: 3}
    scratch = tempfile.TemporaryDirectory()
    if args.quick:
        args.epochs, args.meshes, args.train, args.largest = 2, 8, (500, 600), 500
        args.tests, args.repeats = {500: 2}, 1
        args.csv = Path(scratch.name) / "quick.csv" if args.csv == RESULTS else args.csv
    if args.name not in (None, "speed", *PROBLEMS):
        p.error(f"'name' must be one of speed, {', '.join(PROBLEMS)} (got {args.name!r})")
    args.root = args.root or scratch.name
    todo = [] if args.table else runs(args)
    one = child(CHILD, args.timeout)
    if args.quick:  # a process each would take most of the time
        warnings.filterwarnings("ignore")
        one = lambda run, python: attempt(work, run)  # noqa: E731
    rows = resume(args.csv, KEY, FIELDS, todo, one, args.retry)
    write_json(args.json, report(rows))


if __name__ == "__main__":
    main()
