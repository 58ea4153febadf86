"""Runs of a benchmark, each a process of its own and a line of a CSV file: resumable."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
PEERS = ("tgp", "torch_scatter")  # packages that a system may lack


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, fields: tuple[str, ...], row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, fields)
    if not path.exists():
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", newline="") as file:  # at once: two processes may share the file
        file.write(text.getvalue())


def forget_failed(path: Path, fields: tuple[str, ...]) -> None:
    """Drops the lines of runs that failed; written aside, then renamed."""
    rows = [row for row in read(path) if not row["failed"]]
    aside = path.with_suffix(".part")
    aside.unlink(missing_ok=True)
    for row in rows:
        append(aside, fields, row)
    if rows:
        os.replace(aside, path)
    else:
        path.unlink(missing_ok=True)


def resume(
    path: Path,
    key: tuple[str, ...],
    fields: tuple[str, ...],
    runs: Iterable[tuple[Row, str]],
    run_one: Callable[[Row, str], Row],
    retry: bool = False,
) -> list[dict[str, str]]:
    """Does the runs that have no line in the file yet; all lines, old and new.

    Args:
        path (Path): The CSV file.
        key (tuple): The fields that tell one run from another.
        fields (tuple): All fields, `failed` among them.
        runs (iterable): A run, and the Python that it needs.
        run_one (callable): ``(run, python) -> result``. One with `skipped` leaves no line, and
            its `system` is not tried again in this call.
        retry (bool, optional): Drop the lines of runs that failed first. (default: False)
    """
    if retry:
        forget_failed(path, fields)
    skipped = set()
    for run, python in runs:
        # Read anew: another process may have done it.
        done = {tuple(row[field] for field in key) for row in read(path)}
        if run["system"] in skipped or tuple(str(run[field]) for field in key) in done:
            continue
        result = run_one(run, python)
        if "skipped" in result:
            print(f"skipped: {run['system']}: {result['skipped']}", flush=True)
            skipped.add(run["system"])
            continue
        row = {field: str(result.get(field, run.get(field, ""))) for field in fields}
        append(path, fields, row)
        print(*(f"{k}={v}" for k, v in row.items() if v), flush=True)
    return read(path)


def child(script: Path, timeout: float) -> Callable[[Row, str], Row]:
    """``(run, python) -> result`` of `script`, or why there is none."""

    def one(run: Row, python: str) -> Row:
        command = [python, str(script), json.dumps(run)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"more than {timeout:g} s"}
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            return {"failed": f"exit {done.returncode}: {last[:200]}"}
        return json.loads(done.stdout.strip().splitlines()[-1])

    return one


def attempt(work: Callable[[Row], Row], run: Row) -> Row:
    """The run in this process."""
    try:
        return {"failed": "", **work(run)}
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in PEERS:
            raise
        return {"skipped": str(error)}  # not a result: nothing was tried


def serve(work: Callable[[Row], Row]) -> None:
    """The child's side: does the run that the command line names and prints its result."""
    import warnings

    import torch

    run = json.loads(sys.argv[1])
    if run.get("memory"):
        limit = int(run["memory"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(run["threads"])
    warnings.filterwarnings("ignore")
    print(json.dumps(attempt(work, run)))
