"""Finished runs in a CSV, so that a broken benchmark goes on where it stopped."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = ("case", "system", "seed", "metric", "value")


def read(path: Path | None, case: str) -> dict[tuple[str, int], dict[str, float]]:
    """The figures of each finished (system, seed)."""
    done: dict[tuple[str, int], dict[str, float]] = {}
    if path is None or not path.exists():
        return done
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["case"] == case:
                key = row["system"], int(row["seed"])
                done.setdefault(key, {})[row["metric"]] = float(row["value"])
    return done


def append(path: Path | None, case: str, system: str, seed: int, figures: dict[str, float]) -> None:
    """Adds the figures of one run."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows((case, system, seed, name, value) for name, value in figures.items())
