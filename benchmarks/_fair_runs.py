"""Runs over the official folds, the choice between two configurations, and the table."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

from _common import record, table
from _fair_nets import KERNEL, SYSTEMS
from _fair_train import DROPOUT, work
from _runs import Row, attempt, child, read, resume

RESULTS = Path(__file__).parent / "results" / "official_folds.csv"
KEY = ("name", "system", "fold", "config", "run", "final")
FIELDS = (*KEY, "width", "stem", "epochs", "steps", "parameters", "epoch", "val", "val_loss",
          "test", "seconds", "failed")  # fmt: skip
# What half an hour of one core allows, the same for every system of a set: a graph of DD has ten
# times the nodes of one of NCI1. `counts` gives all what the network that reads no edge reads:
# on DD that one alone is strong (Errica et al.).
BUDGET = {"width": 32, "stem": 2, "epochs": 20, "steps": 26, "counts": False}
BUDGETS = {"DD": {"width": 16, "stem": 1, "epochs": 6, "steps": 30, "counts": True}}
SEARCHED = (0,)  # the folds on whose validation parts a configuration is chosen
# With several runs per fold: as Errica et al. do it, every fold chooses for itself; wider, longer.
LONG = {"NCI1": {"width": 64, "epochs": 40}, "DD": {"epochs": 12}}
LEAKS = "PyG GraphUNet"
CHILD = Path(__file__).parent / "_fair_train.py"


def one(run: Row, python: str) -> Row:
    if run["system"] == LEAKS:
        return child(CHILD, 3600)(run, python)
    return attempt(work, run)


def chosen(rows: list[dict[str, str]], name: str, system: str, folds: list[int]) -> int | None:
    """The configuration of best validation accuracy over the folds; None before all are done."""
    found: dict[int, float] = {}
    for config in range(len(DROPOUT)):
        mine = [
            float(row["val"])
            for row in rows
            if (row["name"], row["system"], row["final"]) == (name, system, "False")
            and (int(row["config"]), row["failed"]) == (config, "")
            and int(row["fold"]) in folds
        ]
        if len(mine) < len(folds):
            return None
        found[config] = statistics.mean(mine)
    return max(found, key=lambda config: found[config])


def official(args: Any, python: str) -> list[dict[str, str]]:
    """All runs that have no line yet: the search of every system, then fold after fold. With one
    run per fold, the folds `SEARCHED` choose for all; with several, each chooses for itself."""
    end = time.monotonic() + (float("inf") if args.budget is None else args.budget)
    path, name = args.csv, args.name
    shared: Row = {"name": name, "root": args.root, "splits": str(args.splits), "threads": 1,
                   "states": str(args.states or Path(args.root, "states")), "run": 0,
                   **BUDGETS.get(name, BUDGET)}  # fmt: skip
    shared |= LONG.get(name, {}) if args.runs > 1 else {}
    folds = list(range(10))
    if args.quick:
        shared |= {"width": 8, "steps": 4, "epochs": 2}
        folds = [0]
    budget = [str(shared[field]) for field in ("width", "epochs")]
    for row in read(path):
        if row["name"] == name and [row["width"], row["epochs"]] != budget:
            raise SystemExit(f"'csv' must hold runs of one width and number of epochs of {name}, "
                             f"here {' and '.join(budget)} (got {row['width']} and "
                             f"{row['epochs']} in {path})")  # fmt: skip
    judges = {f: [f] if args.runs > 1 else [s for s in SEARCHED if s in folds] for f in folds}
    systems = args.system or SYSTEMS

    def search() -> Any:
        for fold in sorted({judge for found in judges.values() for judge in found}):
            for system in systems:
                for config in range(len(DROPOUT)):
                    if time.monotonic() < end:
                        yield {**shared, "config": config, "system": system, "fold": fold,
                               "final": False}, python  # fmt: skip

    def final() -> Any:
        for run, fold, system in itertools.product(range(args.runs), folds, systems):
            if run and system == KERNEL:  # the same again
                continue
            config = chosen(read(path), name, system, judges[fold])
            if config is not None and time.monotonic() < end:
                yield {**shared, "config": config, "system": system, "fold": fold, "run": run,
                       "final": True}, python  # fmt: skip

    resume(path, KEY, FIELDS, search(), one)
    return read(path) if args.search else resume(path, KEY, FIELDS, final(), one)


def official_table(
    rows: list[dict[str, str]], name: str, benchmark: str = "official_folds"
) -> tuple[str, list[dict[str, Any]]]:
    """Mean and deviation over the folds of the mean of their runs, and how far each system is from
    the control on the same folds, with the error of that mean. A fold's first run is the searched
    one: its validation accuracy is the better of two."""
    lines, records, control = [], [], "no levels"
    done = [row for row in rows if row["name"] == name and row["test"]]
    by = {s: _by_fold([row for row in done if row["system"] == s], "test") for s in SYSTEMS}
    for system in SYSTEMS:
        own = [row for row in done if row["system"] == system]
        searched = [
            float(row["val"])
            for row in rows
            if (row["name"], row["system"], row["final"]) == (name, system, "False")
        ]
        if not own and not searched:
            continue
        cells: list[Any] = [system, "", "", "", len(by[system]), len(own)]
        if own:
            figures = {"test_accuracy": list(by[system].values())}
            figures["val_accuracy"] = list(_by_fold(own, "val").values())
            gaps = [by[system][f] - by[control][f] for f in by[system] if f in by[control]]
            if system != control and gaps:
                figures["over_control"] = gaps
            seconds = [float(row["seconds"]) for row in own if row["seconds"]]
            figures |= {"seconds": seconds, "runs": [len(own) / len(by[system])]}
            for metric, values in figures.items():
                n, std = len(values), statistics.stdev(values) if len(values) > 1 else 0.0
                if metric == "over_control":
                    std /= n**0.5
                mean = statistics.mean(values)
                records.append(record(benchmark, name, system, metric, mean, std, n))
                shown = f"{mean:.1f} +- {std:.1f}"
                at = {"test_accuracy": 2, "val_accuracy": 1, "over_control": 3}.get(metric)
                if at:
                    cells[at] = shown
        lines.append(cells)
    head = ["system", "validation %", "test %", "over no levels", "folds", "runs"]
    return table(head, lines), records


def _by_fold(rows: list[dict[str, str]], field: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["fold"], []).append(float(row[field]))
    return {fold: statistics.mean(values) for fold, values in found.items()}
