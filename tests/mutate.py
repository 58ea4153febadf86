"""``python -m tests.mutate PATHS --tests TESTS``: which small faults in a module do its tests miss?

    python -m tests.mutate pyg_gunet/functional pyg_gunet/metrics --sample 60 --seconds 400 \\
        --tests tests/functional tests/test_metrics.py --state mutants.json

Each mutant is one change of one expression or statement: a comparison, an operator, a number, a
flag, a condition, a statement left out, an argument left out. `--sample` draws so many at `--seed`.
Each runs in a copy of the tree, in a process forked from one that has collected the tests
(:mod:`tests.warm`), and meets those that run its line (:mod:`tests.reach`), the quickest first;
what happens at import is imported anew. A mutant that no test notices has survived: its line is
printed, before and after, unless `tests/equivalent.txt` tells why no test can. With `--state` the
same command goes on where it stopped; `--again` repeats survivors. Exit status 1 where one
survived.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.mutants import ROOT, Mutant, mutants, sample
from tests.reach import Reach, Watch, joined
from tests.warm import Warm, fork

EQUIVALENT = ROOT / "tests" / "equivalent.txt"
LIBRARIES = (
    "pytest",
    "hypothesis",
    "torch",
    "torch._dynamo",
    "torch_geometric.nn",
    "torchmetrics",
    "scipy.sparse.csgraph",
    "scipy.spatial",
    "scipy.optimize",
    "networkx",
)


def pytest_main(options: list[str], plugins: list[Any] | None = None) -> int:
    import pytest

    return int(pytest.main(options, plugins=plugins))


def tree_copy(folder: Path) -> Path:
    """The parts of the tree that the tests need, in a folder of their own."""
    for name in ("pyg_gunet", "tests", "examples", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


class State:
    """What is known, on disk after each step: outcomes in a file, and what each file of tests
    reaches, by its text, in a folder beside it."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.with_suffix(".reach")
        self.load()

    def load(self) -> None:
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {}

    def save(self) -> None:
        _write(self.path, self.results)

    def reach(self, file: str) -> Path:
        text = hashlib.sha256(file.encode() + (ROOT / file).read_bytes()).hexdigest()
        return self.folder / f"{text[:16]}.json"


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(value))
    aside.replace(path)


class Run:
    """Finds what becomes of each mutant, until the time is over."""

    def __init__(self, folder: Path, state: State, args: argparse.Namespace) -> None:
        self.folder, self.state, self.args = folder, state, args
        self.end = time.monotonic() + args.seconds
        self.table = Reach({}, {})

    @property
    def left(self) -> bool:
        return time.monotonic() < self.end

    def look(self, files: list[str]) -> None:
        """Fills in what the tests of these files reach; they have to pass."""
        places = {file: self.state.reach(file) for file in files}
        missing = [file for file in files if not places[file].exists()]

        def write(file: str, record: dict[str, Any]) -> bool:
            _write(places[file], record)
            return self.left

        def work(options: list[str]) -> int:
            watch = Watch(self.folder, write)
            code = pytest_main([*options, *missing], [watch])
            if code in (0, 5):
                for file in missing:
                    if not places[file].exists():  # no test in it
                        write(file, {"lines": {}, "seconds": {}})
            return code

        if missing and self.left:
            code = fork(self.folder, work, float("inf"), float("inf"))
            if code not in (0, 2, 5):  # 2: stopped, the time is over
                raise SystemExit("without a mutant:\n" + (self.folder / "log").read_text())
        known = [path for path in places.values() if path.exists()]
        self.table = joined([json.loads(path.read_text()) for path in known])

    def near(self, mutant: Mutant) -> list[str]:
        return self.table.of(mutant.path.as_posix(), *mutant.lines, self.args.budget)

    def limit(self, near: list[str]) -> float:
        return min(self.args.timeout, 5 + 5 * sum(self.table.seconds[name] for name in near))

    def done(self, mutant: Mutant, near: int, code: str | int) -> bool:
        """Notes an outcome; whether there is time for another. A timeout counts as noticed."""
        result = {0: "survived", "timeout": "timeout"}.get(code, "killed")
        self.state.results[mutant.key] = result
        self.state.save()
        if result != "killed":
            print(f"{result} {near} tests: {mutant}", file=sys.__stderr__, flush=True)
        return self.left

    def warm(self, chosen: list[Mutant], files: list[str]) -> None:
        """Mutants of functions."""
        plugin = Warm(chosen, self.near, self.limit, self.done)
        work = lambda options: pytest_main([*options, *files], [plugin])  # noqa: E731
        fork(self.folder, work, float("inf"), float("inf"))
        self.state.load()

    def cold(self, mutant: Mutant) -> None:
        """One mutant, imported."""
        near = self.near(mutant)
        target = self.folder / mutant.path
        target.write_text(mutant.source)
        try:
            work = lambda options: pytest_main([*options, "-x", *near])  # noqa: E731
            limit = self.limit(near) + 30
            code = fork(self.folder, work, limit, 10 * limit) if near else 0
        finally:
            shutil.copy(ROOT / mutant.path, target)
        self.done(mutant, len(near), code)

    def __call__(self, chosen: list[Mutant], files: list[str]) -> None:
        self.look(files)
        for step in (lambda rest: self.warm(rest, files), lambda rest: [*map(self.timed, rest)]):
            rest = [mutant for mutant in chosen if mutant.key not in self.state.results]
            if rest and self.left:
                step(rest)

    def timed(self, mutant: Mutant) -> None:
        if self.left:
            self.cold(mutant)


def run(chosen: list[Mutant], files: list[str], state: State, args: argparse.Namespace) -> None:
    """In a copy of the tree, from a process that has imported the libraries."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as temporary:
        Run(tree_copy(Path(temporary)), state, args)(chosen, files)


def equivalents() -> set[str]:
    """The names in the list of mutants that no test can tell; a reason stands under each."""
    lines = EQUIVALENT.read_text().splitlines() if EQUIVALENT.exists() else []
    return {line for line in lines if line and line[0] not in " #"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="modules or folders to mutate")
    parser.add_argument("--tests", nargs="+", required=True, help="files or folders of tests")
    parser.add_argument("--sample", type=int, default=None, help="how many (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120.0, help="processor seconds per mutant")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests per mutant")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--list", action="store_true", help="print the sample, run nothing")
    parser.add_argument("--state", type=Path, default=None, help="where outcomes are kept")
    parser.add_argument("--again", action="store_true", help="repeat those that survived")
    args = parser.parse_args(argv)
    for name in args.paths:
        if not (ROOT / name).exists():
            parser.error(f"no such module or folder: {name}")
    every = [one for file in modules(args.paths, "*.py") for one in mutants(Path(file))]
    chosen = every if args.sample is None else sample(every, args.sample, args.seed)
    if args.list:
        print(*chosen, sep="\n")
        return 0
    known = equivalents()
    with tempfile.TemporaryDirectory() as temporary:
        state = State(args.state or Path(temporary) / "state.json")
        if args.again:
            state.results = {k: v for k, v in state.results.items() if v != "survived"}
        state.results |= {one.key: "equivalent" for one in chosen if one.name in known}
        run(chosen, modules(args.tests, "test_*.py"), state, args)
        results = [state.results.get(mutant.key, "not run") for mutant in chosen]
    counts = ", ".join(f"{results.count(one)} {one}" for one in sorted(set(results)))
    print(f"{len(chosen)} of {len(every)} mutants, seed {args.seed}: {counts}")
    for mutant, result in zip(chosen, results):
        if result == "survived":
            print(mutant.name)
    return int(not set(results) <= {"killed", "timeout", "equivalent"})


def modules(names: list[str], pattern: str) -> list[str]:
    """Files, those in folders too, from the root of the tree; doctests are in all of a package."""
    found = []
    for name in names:
        path = ROOT / name
        inside = "*.py" if name.startswith("pyg_gunet") else pattern
        files = sorted(path.rglob(inside)) if path.is_dir() else [path]
        found += [file.relative_to(ROOT).as_posix() for file in files]
    return found


if __name__ == "__main__":
    sys.exit(main())
