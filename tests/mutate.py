"""``python -m tests.mutate PATHS --tests TESTS``: which small faults in a module do its tests miss?

    python -m tests.mutate pyg_gunet/functional/segmentation pyg_gunet/metrics \\
        --tests tests/functional/test_segmentation.py tests/test_metrics.py --sample 60 --jobs 2

Each mutant is one change of one expression or statement: a comparison, an operator, a number, a
flag, a condition, a statement left out, an argument left out. `--sample` draws so many at `--seed`.
Each runs in a copy of the tree, in a process forked from one that has imported the libraries. A
mutant that no test notices has survived: its line is printed, before and after. ``# pragma: no
mutate`` on a line, with the reason, leaves it out. Exit status 1 where one survived.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
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
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.USub: ast.UAdd,
}


class Mutant(NamedTuple):
    """One change: where, what stood there, and what the whole file becomes."""

    path: Path
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may stand in the place of a node; None leaves a statement out."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield ast.Compare(node.left, [SWAPS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        changed = copy.copy(node)
        changed.op = SWAPS[type(node.op)]()
        yield changed
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        for value in (True, False):
            if not (value and isinstance(node, ast.While)):  # it would never end
                changed = copy.copy(node)
                changed.test = ast.Constant(value)
                yield changed
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield None
    elif isinstance(node, ast.Call):
        for at, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield ast.Call(node.func, node.args, node.keywords[:at] + node.keywords[at + 1 :])


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node with its parent and the place there, but for annotations, docstrings, the text of
    errors, and what runs at import alone.
    """
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "names", "type_comment"):
            continue
        if isinstance(node, ast.Raise) or _typing(node):
            continue
        for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.Import, ast.ImportFrom)):
                yield node, name, at, child
                yield from places(child)


def _typing(node: ast.AST) -> bool:
    """Whether only a type checker reads it."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id == "Literal"
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    source = (ROOT / path).read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    found = []
    for parent, name, at, node in list(places(tree)):
        if not hasattr(node, "lineno") or "pragma: no mutate" in lines[node.lineno - 1]:
            continue
        for change in changes(node):
            new = ast.Pass() if change is None else change
            if at is None:
                setattr(parent, name, new)
            else:
                getattr(parent, name)[at] = new
            text = ast.unparse(ast.fix_missing_locations(tree))
            shown = ["" if one is None else _short(one) for one in (node, change)]
            found.append(Mutant(path, node.lineno, shown[0], shown[1] or "left out", text))
            if at is None:
                setattr(parent, name, node)
            else:
                getattr(parent, name)[at] = node
    return found


def _short(node: ast.AST) -> str:
    head = node
    if isinstance(node, (ast.If, ast.While)):
        head = ast.Expr(node.test)
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(head))).split())
    text = f"{type(node).__name__.lower()} {text}" if head is not node else text
    return text if len(text) < 90 else text[:87] + "..."


def tree_copy(folder: Path) -> Path:
    """The parts of the tree that the tests need, in a folder of their own."""
    for name in ("pyg_gunet", "tests", "examples", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def killed(folder: Path, tests: list[str], timeout: float) -> str:
    """Runs the tests in a forked process: 'killed', 'survived' or 'timeout'."""
    process = os.fork()
    if not process:
        os.setsid()
        with open(folder / "log", "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(folder)
        sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--no-header"]
        code = 1
        try:
            code = int(pytest.main([*options, f"--rootdir={folder}", *tests]))
        finally:
            os._exit(code)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "timeout"


def run(chosen: list[Mutant], tests: list[str], jobs: int, timeout: float) -> list[str]:
    """What became of each mutant; a timeout counts as noticed."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as temporary:
        folders: Queue[Path] = Queue()
        for job in range(jobs):
            folders.put(tree_copy(Path(temporary) / str(job)))
        folder = folders.get()
        if killed(folder, tests, 10 * timeout) != "survived":
            raise SystemExit("the tests fail without a mutant:\n" + (folder / "log").read_text())
        folders.put(folder)

        def one(mutant: Mutant) -> str:
            folder = folders.get()
            target = folder / mutant.path
            target.write_text(mutant.source)
            try:
                result = killed(folder, tests, timeout)
            finally:
                shutil.copy(ROOT / mutant.path, target)
                folders.put(folder)
            if result != "killed":
                print(f"{result}: {mutant}", flush=True)
            return result

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, chosen))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="modules or folders to mutate")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest is to run")
    parser.add_argument("--sample", type=int, default=None, help="how many (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds per mutant")
    parser.add_argument("--list", action="store_true", help="print the sample, run nothing")
    parser.add_argument("--json", default=None, help="write the outcomes here")
    args = parser.parse_args(argv)
    files = []
    for name in args.paths:
        path = ROOT / name
        if not path.exists():
            parser.error(f"no such module or folder: {name}")
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    every = [mutant for file in files for mutant in mutants(file.relative_to(ROOT))]
    chosen = every
    if args.sample is not None:
        chosen = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    if args.list:
        print(*chosen, sep="\n")
        return 0
    results = run(chosen, args.tests, args.jobs, args.timeout)
    lived = results.count("survived")
    print(
        f"{len(chosen)} of {len(every)} mutants, seed {args.seed}: {results.count('killed')} "
        f"killed, {results.count('timeout')} timed out, {lived} survived"
    )
    if args.json:
        records = [{"mutant": str(m), "result": result} for m, result in zip(chosen, results)]
        Path(args.json).write_text(json.dumps(records, indent=1) + "\n")
    return int(lived > 0)


if __name__ == "__main__":
    sys.exit(main())
