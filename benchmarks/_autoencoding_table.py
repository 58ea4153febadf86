"""Tables of the auto-encoding runs: mean and deviation over the seeds, and the average rank."""

from __future__ import annotations

import csv
import json as json_module
from collections import defaultdict
from pathlib import Path
from statistics import mean, pstdev

NO_POOLING = ("mean", "none")  # they mark the two ends, and take no part in the ranks
Cell = list[dict[str, str]]


def read(path: Path) -> dict[tuple[str, str], dict[str, dict[str, Cell]]]:
    """Runs by (ratio, levels), then data set, then method."""
    tables: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    if path.exists():
        with path.open() as file:
            for row in csv.DictReader(file):
                tables[row["ratio"], row["levels"]][row["name"]][row["method"]].append(row)
    return tables


def ranks(table: dict[str, dict[str, Cell]], tolerance: float = 1e-6) -> dict[str, list[float]]:
    """Ranks by mean error over the data sets; errors that agree to `tolerance`, by default that of
    the protocol's stopping, share a rank. Only data sets that every method has finished count."""
    out = defaultdict(list)
    everyone = {method for cells in table.values() for method in cells}
    for cells in table.values():
        if set(cells) != everyone:
            continue
        pooled = {m: _summary(cell) for m, cell in cells.items() if m not in NO_POOLING}
        for method, (value, _) in pooled.items():
            better = ties = 0
            for other, (theirs, _) in pooled.items():
                if other == method:
                    continue
                tied = abs(theirs - value) <= tolerance
                ties += tied
                better += not tied and theirs < value
            out[method].append(1 + better + ties / 2)
    return out


def _summary(cell: Cell) -> tuple[float, float]:
    errors = [float(row["mse"]) for row in cell]
    return mean(errors), pstdev(errors)


def report(path: Path, json: Path | None) -> None:
    """Prints a table per ratio and number of levels; writes flat records."""
    records = []
    for (ratio, levels), table in read(path).items():
        methods = list(dict.fromkeys(m for cells in table.values() for m in cells))
        print(
            f"\nratio {ratio}, {levels} level(s): mean squared error, deviation over seeds [seeds]"
        )
        print(f"{'':20s}" + "".join(f"{name:>27s}" for name in table) + f"{'rank':>8s}")
        rank = ranks(table)
        for method in methods:
            line = f"{method:20s}"
            for name, cells in table.items():
                if method not in cells:
                    line += f"{'':>27s}"
                    continue
                value, deviation = _summary(cells[method])
                pooled = [_summary(c)[0] for m, c in cells.items() if m not in NO_POOLING]
                mark = "*" if len(pooled) > 1 and value == min(pooled) else " "
                cut = "<" if any(row["stop"] == "time" for row in cells[method]) else " "
                line += f"{value:>12.2e} +-{deviation:8.1e} [{len(cells[method])}]{mark}{cut}"
                case = f"{name}, ratio {ratio}, {levels} level(s)"
                records.append(_record(case, method, "mse", value, deviation, len(cells[method])))
                kept = [int(row["kept"]) / int(row["nodes"]) for row in cells[method]]
                records.append(
                    _record(case, method, "share kept", mean(kept), pstdev(kept), len(kept))
                )
            if method in rank:
                line += f"{mean(rank[method]):8.2f} over {len(rank[method])}"
                case = f"all, ratio {ratio}, {levels} level(s)"
                n = len(rank[method])
                records.append(_record(case, method, "average rank", mean(rank[method]), 0.0, n))
            print(line)
    print("\n[runs]; an empty cell was not run; ranks over the data sets without empty cells")
    print("* least error of those run that pool; < a run was cut by time, not by patience")
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(json_module.dumps(records, indent=1) + "\n")


def _record(case: str, method: str, metric: str, value: float, std: float, n: int) -> dict:
    return {
        "benchmark": "autoencoding",
        "case": case,
        "system": method,
        "metric": metric,
        "value": value,
        "std": std,
        "n": n,
    }
