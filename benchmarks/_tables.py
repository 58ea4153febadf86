"""What the tables of :mod:`tables` are made of: records by name, figures as text, a block."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CORES = "two cores of a server CPU"
Format = Callable[[float], str]


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *[[str(c) for c in row] for row in rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


class Records:
    """The flat records of a JSON file: ``records(case, system, metric)`` is the value, or None."""

    def __init__(self, name: str) -> None:
        found = json.loads((RESULTS / name).read_text())
        self.rows = {(r["case"], r["system"], r["metric"]): r for r in found}

    def __call__(self, case: str, system: str, metric: str) -> Any:
        row = self.rows.get((case, system, metric))
        return None if row is None else row["value"]

    def text(self, case: str, system: str, metric: str, form: Format, spread: bool = False) -> str:
        """The value, with its deviation if asked for; empty where nothing was run."""
        row = self.rows.get((case, system, metric))
        if row is None or isinstance(row["value"], str):
            return "" if row is None else row["value"]
        deviation = f" +- {form(row['std'])}" if spread and row["std"] is not None else ""
        return form(row["value"]) + deviation

    def seeds(self, case: str, system: str, metric: str) -> str:
        """How many runs a value is the mean of."""
        row = self.rows.get((case, system, metric))
        return "" if row is None else str(row["n"])

    def names(self, key: int) -> list[str]:
        """All cases (0), systems (1) or metrics (2), in the order of the file."""
        return list(dict.fromkeys(row[key] for row in self.rows))

    def grid(
        self,
        corner: str,
        rows: dict[str, str],
        columns: dict[str, tuple[str, str]],
        form: Format,
        spread: bool = False,
    ) -> str:
        """A table: heading -> system down, heading -> (case, metric) across."""
        at = columns.values()
        body = [
            [head, *(self.text(case, system, metric, form, spread) for case, metric in at)]
            for head, system in rows.items()
        ]
        return table([corner, *columns], body)


def lines(name: str) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def fixed(digits: int) -> Format:
    return lambda value: f"{value:,.{digits}f}"


def short(value: float) -> str:
    """Three figures."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def small(value: float) -> str:
    return f"{value:.1e}"


def seconds(value: float) -> str:
    return f"{1e3 * value:.0f} ms" if value < 0.2 else f"{short(value)} s"


def bold_least(values: Sequence[float], form: Format) -> list[str]:
    best = min(values)
    return [f"**{form(value)}**" if value == best else form(value) for value in values]


@dataclass
class Block:
    """A table, or a few, with where they come from."""

    make: Callable[[], str]
    files: tuple[str, ...]
    command: str
    day: str
    seeds: str
    version: str
    machine: str

    def text(self) -> str:
        if not self.command:  # a table of figures, each with its own
            return self.make()
        links = ", ".join(f"[{name}](results/{name})" for name in self.files)
        command = self.command
        if "--json" not in command:
            command += f" --json benchmarks/results/{self.files[0]}"
        about = (f"`{command}`", f"version {self.version}", self.day, self.machine, self.seeds)
        return f"{self.make()}\n\n{'; '.join(about)}; {links}."


BLOCKS: dict[str, Block] = {}


def block(
    name: str,
    files: Iterable[str],
    command: str = "",
    day: str = "2026-11-23",
    seeds: str = "",
    version: str = "0.1.0",
    machine: str = CORES,
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Registers a function without arguments that returns Markdown."""

    def register(make: Callable[[], str]) -> Callable[[], str]:
        BLOCKS[name] = Block(make, tuple(files), command, day, seeds, version, machine)
        return make

    return register


def mean_of(rows: Iterable[dict[str, str]], key: str) -> float:
    return statistics.mean(float(row[key]) for row in rows)
