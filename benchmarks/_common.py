"""What the benchmark scripts share: options, tables, records, graphs, time and memory."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from _tables import table as table  # which needs no torch
from torch import Tensor


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every script takes."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--root", default=None, help="folder of the data sets")
    p.add_argument("--name", default=None, help="one case or data set alone")
    p.add_argument("--seeds", type=int, default=None, help="number of seeds or repetitions")
    p.add_argument("--json", default=None, help="write the figures here as flat records")
    p.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
    return p


def record(
    benchmark: str,
    case: str,
    system: str,
    metric: str,
    value: float | str,
    std: float | None = None,
    n: int | None = None,
) -> dict[str, Any]:
    """One flat record."""
    return {
        "benchmark": benchmark,
        "case": case,
        "system": system,
        "metric": metric,
        "value": value,
        "std": std,
        "n": n,
    }


def write_json(path: str | None, records: Iterable[dict[str, Any]]) -> None:
    """Writes the records aside, then renames: a reader never sees half a file."""
    if path is None:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(target.name + ".part")
    aside.write_text(json.dumps(list(records), indent=1) + "\n")
    os.replace(aside, target)


def merge_json(path: str | None, records: Iterable[dict[str, Any]]) -> None:
    """As :func:`write_json`; the file's records of other cases stay."""
    records = list(records)
    cases = {record["case"] for record in records}
    if path is None or not cases:
        return
    old = json.loads(Path(path).read_text()) if Path(path).exists() else []
    write_json(path, [*(row for row in old if row["case"] not in cases), *records])


def clock(device: str = "cpu") -> Callable[[], float]:
    """Seconds: on one thread the processor's, which other programs do not lengthen."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def interleaved(
    steps: dict[str, Callable[[], Any]], repeats: int, warmup: int = 1
) -> dict[str, Any]:
    """Seconds per call of every system, taken in turns so that noise hits all of them alike.

    Returns:
        dict: system -> list of seconds.
    """
    for _ in range(warmup):
        for step in steps.values():
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    now = clock()
    for _ in range(repeats):
        for name, step in steps.items():
            start = now()
            step()
            seconds[name].append(now() - start)
    return seconds


def median(values: list[float]) -> float:
    return statistics.median(values)


class PeakMemory:
    """The most resident memory above that at entry, sampled every millisecond, in MB."""

    def __enter__(self) -> PeakMemory:
        self.process = psutil.Process()
        self.start = self.peak = self.process.memory_info().rss
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.001):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def __exit__(self, *exc: Any) -> None:
        self.peak = max(self.peak, self.process.memory_info().rss)
        self.stop.set()
        self.thread.join()
        self.mb = (self.peak - self.start) / 1e6


def in_child(script: str, *args: str, **env: str) -> Any:
    """Runs a script in a process of its own (memory starts fresh), `env` added to its environment,
    and returns its last line as JSON."""
    done = subprocess.run(
        [sys.executable, script, *args],
        capture_output=True, text=True, check=False, env={**os.environ, **env},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{script} {' '.join(args)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def heavy_tailed(num_nodes: int, num_edges: int, seed: int = 0, exponent: float = 3.0) -> Tensor:
    """An undirected simple graph [2, num_edges] whose degrees follow a power law (Chung and Lu)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.arange(1, num_nodes + 1, dtype=torch.float64).pow(-1 / (exponent - 1))
    ends = torch.empty(0, dtype=torch.long)
    while ends.numel() < num_edges // 2:
        pair = torch.searchsorted(
            weight.cumsum(0) / weight.sum(),
            torch.rand(2, num_edges, generator=generator, dtype=torch.float64),
        ).clamp(max=num_nodes - 1)
        pair = pair[:, pair[0] != pair[1]].sort(dim=0).values
        ends = torch.cat([ends, pair[0] * num_nodes + pair[1]]).unique()
    ends = ends[torch.randperm(ends.numel(), generator=generator)[: num_edges // 2]]
    label = torch.randperm(num_nodes, generator=generator)
    half = label[torch.stack([ends // num_nodes, ends % num_nodes])]
    return torch.cat([half, half.flip(0)], dim=1)
