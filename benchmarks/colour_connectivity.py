"""Colour connectivity (Rampasek and Wolf 2021, HGNet): half of a graph's nodes are red; is the red
one island or two? No neighbourhood tells; does a level?

Two random walks colour half of the nodes of a fixed graph: a grid of 16 x 16 or 32 x 32, the roads
between Europe's cities, those of Minnesota. Colourings of one island and of two are equally many,
no two alike, and drawn by seed; the authors have 15,000 per graph (Minnesota: 6,000), these sets
are smaller (`SETS`). Differences: both walks start anywhere on every graph. Euroroad is read from
`--root` (tasks/euroroad.edges of rampasek/HGNet) and skipped where it is not there.

All systems share the split, the epochs, the optimiser (Adam, one cycle up to 0.005, batches of 32),
batch norm, the read-out (mean, maximum and sum, standardised, a perceptron of two layers), the
number of parameters (within 10% of ours, by their width) and the search: on the smallest grid each
tries all edges (`all`) and those between nodes of one colour (`own`) on one seed, and takes what
validates better to all sets. The epoch is that of the best validation accuracy, ties by loss. The
test part is read once per seed, after the search; seeds draw weights and batches. A set's depth is
what leaves more nodes on its last level than a colouring has parts of one colour, at most.

`counts` is a logistic regression on how many red and blue nodes have how many red neighbours.
`GCN`, `GIN` and `GIN, virtual node` have as many layers as the U-Nets, residual. `PyG GraphUNet`
runs in a process of its own, as its sparse products leak; it has no batch norm and is read off at
its output, as the authors have it. The rows of four words `select, reduce, connect, lift` are a
`GraphUNet` of GINs, read off at every level: this package's words, the paper's, and this package's
with one changed; `no skips` is the first without skip connections, `no levels` with every level the
input graph, `one level more` a level deeper. These all read the edges of ours, `own`.

A line of the CSV file is one run; none is repeated: start again to resume. Budget on two cores: 35
minutes of one core's time for all sets and seeds, 6 of them for colourings and their levels, which
are kept in `--root`.

    python benchmarks/colour_connectivity.py --root DIR --json FILE
    python benchmarks/colour_connectivity.py --root DIR --name 16x16 --budget 600
    python benchmarks/colour_connectivity.py --root DIR --quick
    python benchmarks/colour_connectivity.py --table
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from _classification import LEVELS as OURS
from _classification import PAPER, SEARCH, Config, Row, Runs, Train, measure, search
from _colour_data import colourings, counts, of_one_colour
from _colour_models import CHANGED, RATIO, make
from _common import in_child, merge_json, parser, record, table
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.transforms import Coarsen

RESULTS = Path(__file__).parent / "results" / "colour_connectivity.csv"


class Set(NamedTuple):
    """Colourings for training, validation and test; poolings, epochs and seeds."""

    train: int
    val: int
    test: int
    depth: int
    epochs: int
    seeds: int


SETS = {
    "16x16": Set(500, 200, 600, 4, 12, 3),
    "32x32": Set(200, 100, 300, 5, 12, 2),
    "Euroroad": Set(200, 100, 400, 3, 12, 2),
    "Minnesota": Set(100, 40, 100, 4, 12, 1),
}
QUICK, ABLATED = Set(16, 8, 8, 2, 1, 1), ("16x16", "6x6")
LR, ALONE = 5e-3, "PyG GraphUNet"
MAIN = ("counts", "GCN", "GIN", ALONE, OURS)
SYSTEMS = (
    *(*MAIN, "one level more", "GIN, virtual node", "no levels", "no skips"),
    *(PAPER, *CHANGED),
)
EDGES: list[Config] = [{"edges": "all"}, {"edges": "own"}]


@functools.cache
def parts(name: str, size: Set, edges: str, connect: str, root: Path) -> list[list[Data]]:
    """The colourings for training, validation and test, with their levels where `connect` says how
    these are joined; made once and kept in `root`."""
    words = name, sum(size[:3]), edges, connect, size.depth if connect else 0
    path = root / "colour" / ("-".join(map(str, words)) + ".pt")
    if not path.exists():
        if edges == "own" or connect:
            graphs = sum(parts(name, size, "all", "", root), [])
            graphs = [of_one_colour(data) for data in graphs] if edges == "own" else graphs
        else:
            graphs = colourings(name, sum(size[:3]), 0, root)
        if connect:
            coarsen = Coarsen(size.depth, RATIO, connect)
            # Without the colours, one graph's levels are those of all.
            graphs = coarsen.all(graphs if edges == "own" else graphs[:1])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(graphs, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
    graphs = torch.load(path, weights_only=False)
    if connect and edges == "all":
        plain = sum(parts(name, size, "all", "", root), [])
        graphs = [copy.copy(graphs[0]) for _ in plain]
        for data, own in zip(graphs, plain):
            data.x, data.y = own.x, own.y
    first, second = size.train, size.train + size.val
    return [graphs[:first], graphs[first:second], graphs[second:]]


def train(name: str, size: Set, system: str, config: Config, seed: int, root: Path) -> Row:
    """One run; accuracies in percent."""
    torch.manual_seed(seed)
    if system == "counts":
        return logistic(parts(name, size, "all", "", root), seed < SEARCH)
    words = OURS if system in ("no skips", "one level more") else system
    connect = words.split(", ")[2] if words.startswith("spread") else ""
    made = size._replace(depth=size.depth + (system == "one level more"))
    seen, val, test = parts(name, made, config["edges"], connect, root)
    model, start = make(system, size.depth), time.process_time()
    loader = DataLoader(seen, 32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, epochs=size.epochs, steps_per_epoch=len(loader), pct_start=0.2
    )
    best, state = (-1.0, 0.0, 0), model.state_dict()
    for epoch in range(1, size.epochs + 1):
        model.train()
        for data in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(data), data.y).backward()
            optimizer.step()
            cycle.step()
        found, loss = measure(model, DataLoader(val, 100))
        if (found, -loss) > best[:2]:
            best, state = (found, -loss, epoch), copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    row: Row = {"val": best[0], "val_loss": -best[1], "epoch": best[2], "test": None}
    row["test"] = measure(model, DataLoader(test, 100))[0] if seed < SEARCH else None
    return {**row, "seconds": round(time.process_time() - start, 1)}


def logistic(found: list[list[Data]], final: bool) -> Row:
    """Regression on counts of neighbours, its penalty chosen on validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    start = time.process_time()
    x = [torch.stack([counts(data) for data in part]).numpy() for part in found]
    y = [torch.cat([data.y for data in part]).numpy() for part in found]
    fitted = (
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x[0], y[0])
        for c in (0.01, 0.1, 1.0, 10.0)
    )
    best = max(fitted, key=lambda model: model.score(x[1], y[1]))
    row: Row = {"val": 100 * best.score(x[1], y[1]), "val_loss": 0.0, "epoch": 0.0, "test": None}
    row["test"] = 100 * best.score(x[2], y[2]) if final else None
    return {**row, "seconds": round(time.process_time() - start, 1)}


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--system", nargs="*", choices=SYSTEMS, help="make runs of these alone")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    p.add_argument("--run", default=None, help=argparse.SUPPRESS)  # of a child
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    root = Path(args.root or "data")
    if args.run is not None:
        name, *size, system, config, seed = json.loads(args.run)
        print(json.dumps(train(name, Set(*size), system, config, seed, root)))
        return
    path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    end = None if args.budget is None else time.monotonic() + args.budget
    records = []
    for name in [args.name] if args.name else ["6x6"] if args.quick else SETS:
        size, left = SETS.get(name, QUICK), None if end is None else end - time.monotonic()
        try:
            make_run = None if args.table else runner(name, size, root)
        except FileNotFoundError as error:
            print(f"{name} skipped: {error}")
            continue
        runs = Runs(path, name, make_run, left)
        searched = runs if name in ABLATED else Runs(path, ABLATED[0], None, None)
        systems = args.system or (SYSTEMS if name in ABLATED else SYSTEMS[: len(MAIN) + 1])
        seeds = size.seeds if args.seeds is None else args.seeds
        text, found = compare(runs, searched, systems, seeds)
        print(f"{name}\n{text}\n", flush=True)
        records += found
    merge_json(args.json, records)


def compare(
    runs: Runs, searched: Runs, systems: Sequence[str], seeds: int
) -> tuple[str, list[dict[str, Any]]]:
    """The table and the records of what the search among `searched` chose; no test part is read
    before the last search has ended. A system of which a search or all runs are missing is left
    out."""
    alone = {
        "counts": EDGES[0],
        **dict.fromkeys((*CHANGED, PAPER, "no skips", "no levels", "one level more"), EDGES[1]),
    }
    choices = {
        s: alone.get(s) or (search(searched, s, EDGES, [(2, 1)]) or [None])[0] for s in systems
    }
    chosen = {s: config for s, config in choices.items() if config is not None}
    made: dict[str, list[Row]] = {s: [] for s in chosen}
    for seed in range(seeds):
        for system, config in chosen.items():
            row = runs.get(system, config, seed)
            made[system] += [] if row is None else [row]
    lines, records = [], []
    for system, rows in made.items():
        if not rows:
            continue
        for key in ("test", "val", "seconds"):
            values = [float(row[key] or 0.0) for row in rows]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            about = "colour", runs.name, system, key
            records.append(record(*about, statistics.mean(values), spread, len(values)))
        shown = [f"{r['value']:.1f} +- {r['std']:.1f}" for r in records[-3:]]
        records.append(record(*about[:3], "edges", chosen[system]["edges"]))
        lines.append([system, chosen[system]["edges"], *shown, len(rows)])
    header = ["system", "edges", "test accuracy %", "validation %", "seconds", "seeds"]
    return table(header, lines), records


def runner(name: str, size: Set, root: Path) -> Train:
    """Makes one run; in a child's process where the system leaks."""
    parts(name, size, "all", "", root)

    def run(system: str, config: Config, seed: int, final: bool) -> Row:
        assert final == (seed < SEARCH)
        if system != ALONE or size == QUICK:
            return train(name, size, system, config, seed, root)
        words = json.dumps([name, *size, system, config, seed])
        return in_child(__file__, "--root", str(root), "--run", words)

    return run


if __name__ == "__main__":
    main()
