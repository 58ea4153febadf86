"""What the classification benchmarks share: runs kept in a CSV file, draws of configurations, the
search by successive halving, and the table."""

from __future__ import annotations

import csv
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import record, table

from pyg_gunet import GPool

FIELDS = ("name", "system", "config", "seed", "val", "val_loss", "epoch", "test", "seconds")
SEARCH = 1000  # the first seed of the search; test seeds count from 0

# The four words of the paper's way between levels, and of levels that carry information.
PAPER, LEVELS = "topk, keep, two_hop, zero", "spread, mean, contract, interpolate"

Config = dict[str, Any]
Row = dict[str, float | None]
Train = Callable[[str, Config, int, bool], Row]


@torch.no_grad()
def measure(model: torch.nn.Module, held: Iterable[Any]) -> tuple[float, float]:
    """Accuracy in percent and mean loss of ``model(data)`` over batches of graphs."""
    model.eval()
    out, y = zip(*((model(data), data.y) for data in held))
    logits, label = torch.cat(out), torch.cat(y)
    right = (logits.argmax(1) == label).double().mean()
    return 100 * float(right), float(F.cross_entropy(logits, label))


def levels(words: str, still: bool) -> Config:
    """The arguments of a :class:`GraphUNet` for ``"select, reduce, connect, lift"``. Where `still`,
    spread selection reads the graph alone, and levels can be prepared."""
    select, reduce, connect, lift = words.split(", ")
    options = {"select": select, "reduce": reduce, "connect": connect}
    made: Config = {**options, "lift": lift}
    if still and select == "spread":
        made["pool"] = lambda channels, ratio: GPool(channels, ratio, quantiles=1, **options)
    return made


class Runs:
    """The runs of one data set, one line of a CSV file each, made where they are missing.

    Args:
        path (Path): The file.
        name (str): The data set.
        train (callable, optional): ``(system, config, seed, final) -> row`` makes a run; only a
            `final` one reads the test part. None reads the file alone.
        budget (float, optional): No run is started after so many seconds.
        only (sequence, optional): The systems of which runs are made. Default: all.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        train: Train | None,
        budget: float | None,
        only: Sequence[str] | None = None,
    ) -> None:
        self.path, self.name, self.train, self.only = path, name, train, only
        self.end = None if budget is None else time.monotonic() + budget
        self.rows: dict[tuple[str, str, int], Row] = {}
        if path.exists():
            with path.open() as file:
                for row in csv.DictReader(file):
                    if row["name"] == name:
                        key = row["system"], row["config"], int(row["seed"])
                        self.rows[key] = {f: float(row[f]) if row[f] else None for f in FIELDS[4:]}

    def get(self, system: str, config: Config, seed: int) -> Row | None:
        """A run's figures; None where it was not made and none is to be made."""
        key = system, json.dumps(config), seed
        late = self.end is not None and time.monotonic() > self.end
        late = late or (self.only is not None and system not in self.only)
        if key not in self.rows and self.train is not None and not late:
            final = seed < SEARCH
            row = self.train(system, config, seed, final)
            assert (row["test"] is not None) == final
            self.rows[key] = row
            new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(FIELDS)
                writer.writerow([self.name, *key, *(row[f] for f in FIELDS[4:])])
            shown = f"val {row['val']:.1f} epoch {row['epoch']:.0f} {row['seconds']:.1f} s"
            print(system, key[1], seed, shown, flush=True)
        return self.rows.get(key)


def draws(
    system: str, first: Sequence[Config], space: dict[str, Sequence[Any]], count: int
) -> list[Config]:
    """`count` distinct configurations: `first`, the published ones, then random draws from
    `space`, the same whenever asked for this system."""
    generator = random.Random(system)
    found = list(first[:count])
    while len(found) < count:
        config = {key: generator.choice(values) for key, values in space.items()}
        if config not in found:
            found.append(config)
    return found


Choice = tuple[Config, float, float]


def search(
    runs: Runs, system: str, trials: Sequence[Config], stages: Sequence[tuple[int, int]]
) -> Choice | None:
    """Successive halving: each stage ``(keep, seeds)`` gives the `keep` best so far `seeds` seeds.

    Best is highest mean validation accuracy, ties by validation loss.

    Returns:
        The configuration that ends best, its mean accuracy and minus its mean loss; None where a
        run is missing.
    """
    ranked: list[Choice] = [(config, 0.0, 0.0) for config in trials]
    for keep, seeds in stages:
        found = []
        for config, *_ in ranked[:keep]:
            rows = [runs.get(system, config, SEARCH + seed) for seed in range(seeds)]
            done = [row for row in rows if row is not None]
            if len(done) == seeds:
                val, loss = (statistics.mean(_float(row[f]) for row in done) for f in FIELDS[4:6])
                found.append((config, val, -loss))
        if len(found) < min(keep, len(ranked)):
            return None
        ranked = sorted(found, key=lambda item: item[1:], reverse=True)
    return ranked[0]


def best_of(choices: dict[str, Choice], systems: Sequence[str]) -> str | None:
    """The system whose search ended best on validation; None where one has not ended."""
    if not systems or any(system not in choices for system in systems):
        return None
    return max(systems, key=lambda system: choices[system][1:])


def run_all(
    runs: Runs,
    trials: dict[str, list[Config]],
    stages: Sequence[tuple[int, int]],
    seeds: int,
    benchmark: str,
    ours: Sequence[str] = (),
) -> tuple[str, list[dict[str, Any]]]:
    """Searches for every system, then trains the choices on the test seeds, seed by seed.

    No test seed is trained before all searches have ended; without stages there is no search, and a
    system's first configuration is its choice. `ours` are the systems of which the best on
    validation is also shown as ``ours``.

    Returns:
        The table and the records.
    """
    choices = {}
    for system in trials:
        choice = search(runs, system, trials[system], stages)
        if choice is not None:
            choices[system] = choice
    if len(choices) < len(trials):
        missing = [system for system in trials if system not in choices]
        return f"search not finished: {', '.join(missing)}", []
    tests: dict[str, list[float]] = {system: [] for system in trials}
    vals: dict[str, list[float]] = {system: [] for system in trials}
    for seed in range(seeds):
        for system in trials:
            row = runs.get(system, choices[system][0], seed)
            if row is not None:
                tests[system].append(_float(row["test"]))
                vals[system].append(_float(row["val"]))
    for system, found in vals.items():
        if not stages and found:
            choices[system] = choices[system][0], statistics.mean(found), 0.0
    best = best_of(choices, ours)
    if best is not None:
        choices["ours"], tests["ours"] = choices[best], tests[best]
    lines, records = [], []
    for system, (config, val, _) in choices.items():
        values = tests[system]
        if not values:
            continue
        text, count = json.dumps(config), len(values)
        mean, std = statistics.mean(values), statistics.stdev(values) if count > 1 else None
        spread = "" if std is None else f" +- {std:.2f}"
        lines.append([system, text, f"{val:.1f}", f"{mean:.2f}{spread}", count])
        where = benchmark, runs.name, system
        records += [
            record(*where, "test_accuracy", mean, std, count),
            record(*where, "search_val_accuracy", val, None, stages[-1][1] if stages else count),
            record(*where, "configuration", text),
        ]
    return table(["system", "chosen", "validation %", "test accuracy %", "seeds"], lines), records


def _float(value: float | None) -> float:
    assert value is not None
    return value
