"""``python -m tests.mutate PATHS --tests TESTS``: which small faults in a module do its tests miss?

    python -m tests.mutate pyg_gunet/functional pyg_gunet/metrics --sample 60 --seconds 400 \\
        --tests tests/functional tests/test_metrics.py --state mutants.json

Each mutant is one change of one expression or statement: a comparison, an operator, a number, a
flag, a condition, a statement left out, an argument left out. `--sample` draws so many at `--seed`.
Each runs in a copy of the tree, in a process forked from one that has imported the libraries, and
meets the tests that run its line, the quickest first. A mutant that no test notices has survived:
its line is printed, before and after. ``# pragma: no mutate`` on a line, with the reason, leaves it
out. With `--state` the same command goes on where it stopped; `--again` repeats survivors. Exit
status 1 where one survived.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.reach import joined, watch

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
    """One change: where, in a statement of which lines, what stood there, and what the whole file
    becomes."""

    path: Path
    line: int
    lines: tuple[int, int]
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"

    @property
    def key(self) -> str:
        """Its line with what tells it from others that look the same."""
        return f"{self} #{hashlib.sha256(self.source.encode()).hexdigest()[:6]}"


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


def statements(node: ast.AST, span: tuple[int, int] = (1, 1)) -> Iterator[tuple[ast.AST, Any]]:
    """Every node with the lines of its statement: the head alone of one that holds others, all of a
    function for its own arguments."""
    if isinstance(node, ast.stmt):
        body = getattr(node, "body", None)
        whole = body is None or isinstance(node, (ast.FunctionDef, ast.ClassDef))
        last = node.end_lineno if whole else max(node.lineno, body[0].lineno - 1)
        span = (node.lineno, last or node.lineno)
    yield node, span
    for child in ast.iter_child_nodes(node):
        yield from statements(child, span)


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    source = (ROOT / path).read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    found: list[Mutant] = []
    spans = dict(statements(tree))
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
            shown = _shown(node, change)
            span = spans[node]
            found.append(Mutant(path, node.lineno, span, *shown, text))
            if at is None:
                setattr(parent, name, node)
            else:
                getattr(parent, name)[at] = node
    return found


def _shown(*nodes: ast.AST | None) -> list[str]:
    """Before and after, without the long part that both begin with."""
    texts = ["left out" if node is None else _text(node) for node in nodes]
    same = len(os.path.commonprefix(texts))
    cut = same - 20 if same > 40 else 0
    texts = ["..." * bool(cut) + text[cut:] for text in texts]
    return [text if len(text) < 90 else text[:87] + "..." for text in texts]


def _text(node: ast.AST) -> str:
    head = ast.Expr(node.test) if isinstance(node, (ast.If, ast.While)) else node
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(head))).split())
    return f"{type(node).__name__.lower()} {text}" if head is not node else text


def tree_copy(folder: Path) -> Path:
    """The parts of the tree that the tests need, in a folder of their own."""
    for name in ("pyg_gunet", "tests", "examples", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def forked(folder: Path, work: Callable[[list[str]], int], timeout: float) -> int | None:
    """The exit status of work in a process of its own; None where it takes too long."""
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setsid()
            with open(folder / "log", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.chdir(folder)
            sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
            for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "pyg_gunet")]:
                del sys.modules[name]
            options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--no-header"]
            code = work([*options, f"--rootdir={folder}"])
        finally:
            os._exit(code)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def pytest_main(options: list[str]) -> int:
    import pytest

    return int(pytest.main(options))


def reached(folder: Path, file: str, timeout: float) -> dict[str, Any]:
    """What the tests of a file reach; they have to pass."""
    out = folder / "reach.json"
    code = forked(folder, lambda options: watch(folder, [*options, file], out), timeout)
    if code not in (0, 5):  # 5: no test in it
        raise SystemExit(f"{file} fails without a mutant:\n" + (folder / "log").read_text())
    return json.loads(out.read_text())


class State:
    """What is known, on disk after each step."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path and path.exists() else {}
        self.reach: dict[str, Any] = kept.get("reach", {})
        self.results: dict[str, str] = kept.get("results", {})

    def save(self) -> None:
        if self.path:
            aside = self.path.with_suffix(".tmp")
            aside.write_text(json.dumps({"results": self.results, "reach": self.reach}, indent=0))
            aside.replace(self.path)


def run(chosen: list[Mutant], files: list[str], state: State, args: argparse.Namespace) -> None:
    """Fills in what became of each mutant, until the time is over; a timeout counts as noticed."""
    end = time.monotonic() + args.seconds
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = tree_copy(Path(temporary))
        for file in files:
            text = hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
            if state.reach.get(file, {}).get("text") == text:
                continue
            if time.monotonic() > end:
                return
            state.reach[file] = reached(folder, file, 10 * args.timeout) | {"text": text}
            state.save()
        reach = joined([state.reach[file] for file in files])
        for mutant in chosen:
            if mutant.key in state.results:
                continue
            if time.monotonic() > end:
                return
            near = reach.of(mutant.path.as_posix(), *mutant.lines, args.budget)
            target = folder / mutant.path
            target.write_text(mutant.source)
            try:
                work = lambda options: pytest_main([*options, "-x", *near])  # noqa: B023, E731
                code = forked(folder, work, args.timeout) if near else 0
            finally:
                shutil.copy(ROOT / mutant.path, target)
            result = {None: "timeout", 0: "survived"}.get(code, "killed")
            state.results[mutant.key] = result
            state.save()
            if result != "killed":
                print(f"{result} {len(near)} tests: {mutant}", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="modules or folders to mutate")
    parser.add_argument("--tests", nargs="+", required=True, help="files or folders of tests")
    parser.add_argument("--sample", type=int, default=None, help="how many (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds per mutant")
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
    chosen = every
    if args.sample is not None:
        chosen = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    if args.list:
        print(*chosen, sep="\n")
        return 0
    state = State(args.state)
    if args.again:
        state.results = {k: v for k, v in state.results.items() if v != "survived"}
    run(chosen, modules(args.tests, "test_*.py"), state, args)
    results = [state.results.get(mutant.key, "not run") for mutant in chosen]
    counts = ", ".join(f"{results.count(one)} {one}" for one in sorted(set(results)))
    print(f"{len(chosen)} of {len(every)} mutants, seed {args.seed}: {counts}")
    return int(not set(results) <= {"killed", "timeout"})


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
