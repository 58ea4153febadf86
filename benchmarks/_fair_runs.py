"""Runs over the official folds, the choice between two configurations, and the table."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from _common import record, table
from _fair_nets import SYSTEMS
from _fair_train import DROPOUT, work
from _runs import Row, attempt, child, read, resume

RESULTS = Path(__file__).parent / "results" / "official_folds.csv"
KEY = ("name", "system", "fold", "config", "final")
FIELDS = (*KEY, "width", "stem", "epochs", "steps", "parameters", "epoch", "val", "val_loss",
          "test", "seconds", "failed")  # fmt: skip
# What half an hour of one core allows, the same for every system of a set: a graph of DD has ten
# times the nodes of one of NCI1. `counts` gives all what the network that reads no edge reads:
# on DD that one alone is strong (Errica et al.).
BUDGET = {"width": 32, "stem": 2, "epochs": 20, "steps": 26, "counts": False}
BUDGETS = {"DD": {"width": 16, "stem": 1, "epochs": 6, "steps": 30, "counts": True}}
SEARCHED = (0,)  # the folds on whose validation parts a configuration is chosen
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
    """All runs that have no line yet: the search of every system, then fold after fold."""
    end = time.monotonic() + (float("inf") if args.budget is None else args.budget)
    path, name = args.csv, args.name
    shared: Row = {"name": name, "root": args.root, "splits": str(args.splits), "threads": 1,
                   "states": str(args.states or Path(args.root, "states")),
                   **BUDGETS.get(name, BUDGET)}  # fmt: skip
    folds = list(range(10))
    if args.quick:
        shared |= {"width": 8, "steps": 4, "epochs": 2}
        folds = [0]
    searched = [fold for fold in SEARCHED if fold in folds]
    systems = args.system or SYSTEMS

    def search() -> Any:
        for system in systems:
            for fold in searched:
                for config in range(len(DROPOUT)):
                    if time.monotonic() < end:
                        yield {**shared, "config": config, "system": system, "fold": fold,
                               "final": False}, python  # fmt: skip

    def final() -> Any:
        for fold in folds:
            for system in systems:
                config = chosen(read(path), name, system, searched)
                if config is not None and time.monotonic() < end:
                    yield {**shared, "config": config, "system": system, "fold": fold,
                           "final": True}, python  # fmt: skip

    resume(path, KEY, FIELDS, search(), one)
    return read(path) if args.search else resume(path, KEY, FIELDS, final(), one)


def official_table(
    rows: list[dict[str, str]], name: str, control: str = "no levels"
) -> tuple[str, list[dict[str, Any]]]:
    """Mean and deviation over the folds, and how far each system is from the control on the same
    folds, with the error of that mean."""
    lines, records = [], []
    done = [row for row in rows if row["name"] == name and row["test"]]
    by = {s: {r["fold"]: float(r["test"]) for r in done if r["system"] == s} for s in SYSTEMS}
    for system in SYSTEMS:
        own = [row for row in done if row["system"] == system]
        searched = [
            float(row["val"])
            for row in rows
            if (row["name"], row["system"], row["final"]) == (name, system, "False")
        ]
        if not own and not searched:
            continue
        cells: list[Any] = [system, "", "", "", len(own)]
        val = [float(row["val"]) for row in own]
        if own:
            figures = {"test_accuracy": list(by[system].values()), "val_accuracy": val}
            gaps = [by[system][f] - by[control][f] for f in by[system] if f in by[control]]
            if system != control and gaps:
                figures["over_control"] = gaps
            seconds = [float(row["seconds"]) for row in own if row["seconds"]]
            figures["seconds"] = seconds
            for metric, values in figures.items():
                n, std = len(values), statistics.stdev(values) if len(values) > 1 else 0.0
                if metric == "over_control":
                    std /= n**0.5
                mean = statistics.mean(values)
                records.append(record("official_folds", name, system, metric, mean, std, n))
                shown = f"{mean:.1f} +- {std:.1f}"
                at = {"test_accuracy": 2, "val_accuracy": 1, "over_control": 3}.get(metric)
                if at:
                    cells[at] = shown
        lines.append(cells)
    return table(["system", "validation %", "test %", "over no levels", "folds"], lines), records
