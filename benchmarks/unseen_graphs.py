"""Auto-encoders trained on some graphs and tested on others, against what needs no training.

``triangulations``: random meshes with three fields of mixed wavelength. ``surfaces``: the meshes of
the folder `--root` with coordinates and normals, tested on four that are held out. Every system
has 1, 0.5 or 0.25 floats per node: a pooling keeps as many nodes as have room for their raw
features. Harmonic and biharmonic interpolation and the spectral low-pass (:mod:`_interpolation`)
get as many floats; the variance is what no floats leave. Bi-stride and NDP pooling keep about a
half each time: their floats come from the width of the latent, and are printed. All systems have
the parameters of a U-Net of width 64 (10%), Adam at 5e-3 with a cosine; ``untrained`` is the error
before training, ``calibrated`` that after our `calibrate` on the training graphs.

Every run is a line of the CSV file and is not repeated: start again to resume. Of runs of several
numbers of epochs the table shows the longest.

    pip install -e '.[train]'   # and, for a peer, torch-scatter torch-geometric-pool
    python benchmarks/unseen_graphs.py --root MESHES              # hours: resumable
    python benchmarks/unseen_graphs.py --name triangulations --seeds 1
    python benchmarks/unseen_graphs.py --quick                    # a smoke test
    python benchmarks/unseen_graphs.py --table                    # print only
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from _common import parser, record, table, write_json
from _runs import attempt, child, resume
from _unseen_data import CASES, baselines
from _unseen_train import PEERS, SYSTEMS, train

RESULTS = Path(__file__).parent / "results" / "unseen_graphs.csv"
CHILD = Path(__file__).parent / "_unseen_train.py"
FLOATS = (1.0, 0.5, 0.25)
KEY = ("case", "floats", "system", "seed", "epochs")
FIELDS = (
    *KEY,
    "width",
    "parameters",
    "per_node",
    "untrained",
    "calibrated",
    "train_mse",
    "mse",
    "epoch_seconds",
    "failed",
)


def runs(args, cases: list[str]) -> list[tuple[dict[str, Any], str]]:  # noqa: ANN001
    """All runs in order, every system once before the second seed, with their Python."""
    out = []
    for seed in range(args.seeds):
        for case in cases:
            for floats in FLOATS:
                for system in args.system or SYSTEMS:
                    run = {"case": case, "floats": floats, "system": system, "seed": seed}
                    run |= {"root": args.root, "quick": args.quick, "threads": args.threads}
                    run |= {"epochs": args.epochs, "batch": args.batch}
                    out.append((run, args.peer_python if system in PEERS else sys.executable))
    return out


def report(rows: list[dict[str, str]], simple: dict[str, dict[float, dict[str, float]]]) -> list:
    """Prints a table per case; returns flat records."""
    records = []
    done = [row for row in rows if row["mse"]]
    for case in CASES:
        body = []
        for name in ("mean", "harmonic", "biharmonic", "spectral low-pass"):
            values = [simple.get(case, {}).get(floats, {}).get(name) for floats in FLOATS]
            if None in values:
                continue
            body.append([name, "", "", *(f"{value:.2e}" for value in values), ""])
            for floats, value in zip(FLOATS, values):
                at = f"{case}, {floats:g} floats per node"
                records.append(record("unseen_graphs", at, name, "mse", value))
        for system in SYSTEMS:
            mine = [row for row in done if (row["case"], row["system"]) == (case, system)]
            if not mine:
                continue
            longest = max(int(row["epochs"]) for row in mine)
            mine = [row for row in mine if int(row["epochs"]) == longest]
            seconds = statistics.median(float(row["epoch_seconds"]) for row in mine)
            cells = [system, mine[0]["parameters"], f"{seconds:.2f}"]
            for floats in FLOATS:
                here = [row for row in mine if float(row["floats"]) == floats]
                if not here:
                    cells.append("")
                    continue
                at = f"{case}, {floats:g} floats per node"
                for metric in ("mse", "untrained", "calibrated", "per_node"):
                    values = [float(row[metric]) for row in here]
                    std = statistics.stdev(values) if len(values) > 1 else None
                    mean = statistics.mean(values)
                    records.append(
                        record("unseen_graphs", at, system, metric, mean, std, len(here))
                    )
                error = [float(row["mse"]) for row in here]
                first = statistics.mean(float(row["untrained"]) for row in here)
                used = statistics.mean(float(row["per_node"]) for row in here)
                std = f" +- {statistics.stdev(error):.1e}" if len(error) > 1 else ""
                cells.append(f"{statistics.mean(error):.2e}{std} ({first:.1e}; {used:.2f})")
            body.append([*cells, len({row["seed"] for row in mine})])
        if body:
            print(f"\n{case}: mean squared error on unseen graphs (untrained; floats per node)\n")
            head = [f"{floats:g} floats per node" for floats in FLOATS]
            print(table(["system", "parameters", "s/epoch", *head, "seeds"], body))
    for row in rows:
        if row["failed"]:
            print("failed:", *(row[field] for field in KEY), row["failed"])
    return records


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--system", nargs="*", choices=SYSTEMS, help="these alone")
    p.add_argument("--epochs", type=int, default=200)
    p.add_argument("--batch", type=int, default=4, help="graphs per step")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--timeout", type=float, default=7200.0, help="seconds per run")
    p.add_argument("--peer-python", default=sys.executable, help="one that has the peers")
    p.add_argument("--csv", type=Path, default=RESULTS, help="one line per run")
    p.add_argument("--retry", action="store_true", help="repeat what failed")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    if args.name not in (None, *CASES):
        p.error(f"'name' must be one of {', '.join(CASES)} (got {args.name!r})")
    args.seeds = args.seeds or (1 if args.quick else 3)
    with tempfile.TemporaryDirectory() as scratch:
        if args.quick:
            args.epochs = 2
            args.csv = Path(scratch) / "quick.csv" if args.csv == RESULTS else args.csv
        cases = [c for c in CASES if args.name in (None, c)]
        if args.root is None and "surfaces" in cases:
            print("surfaces are left out: no --root")
            cases.remove("surfaces")
        todo = [] if args.table else runs(args, cases)
        one = child(CHILD, args.timeout)
        if args.quick:  # a process each would take most of the time
            warnings.filterwarnings("ignore")
            one = lambda run, python: attempt(train, run)  # noqa: E731
        rows = resume(args.csv, KEY, FIELDS, todo, one, args.retry)
        cache = args.csv.with_name(args.csv.stem + "_baselines.json")
        simple = {
            case: {f: baselines(case, f, args.quick, args.root, cache) for f in FLOATS}
            for case in cases
        }
        write_json(args.json, report(rows, simple))


if __name__ == "__main__":
    main()
