"""The mutants of a module: every one is a change of one expression or statement."""

from __future__ import annotations

import ast
import copy
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
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
    """One change: where, in a statement of which lines, and what stood there."""

    path: Path
    number: int  # among all of the file
    line: int
    lines: tuple[int, int]
    text: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"

    @property
    def name(self) -> str:
        """The same wherever in its file the line stands."""
        return f"{self.path}: {self.text} :: {self.before}  ->  {self.after}"

    @property
    def key(self) -> str:
        """It alone, in its file as that is now."""
        text = hashlib.sha256((ROOT / self.path).read_bytes()).hexdigest()[:6]
        return f"{self} #{self.number} of {text}"

    @property
    def source(self) -> str:
        """What the whole file becomes."""
        tree = ast.parse((ROOT / self.path).read_text())
        (parent, name, at), node, change = list(_every(tree))[self.number]
        new = ast.copy_location(ast.Pass() if change is None else change, node)
        if at is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[at] = new
        return ast.unparse(ast.fix_missing_locations(tree))


def sample(every: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """So many, drawn by their names: a change of other lines leaves them in the sample."""
    met: Counter[str] = Counter()
    ranked = []
    for mutant in every:
        met[mutant.name] += 1
        text = f"{seed} {mutant.name} {met[mutant.name]}"
        ranked.append((hashlib.sha256(text.encode()).hexdigest(), mutant))
    return [mutant for _, mutant in sorted(ranked)[:size]]


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
    lines, tree = source.splitlines(), ast.parse(source)
    spans = dict(statements(tree))
    found = []
    for number, (_, node, change) in enumerate(_every(tree)):
        text = lines[node.lineno - 1]
        if "pragma: no mutate" not in text:
            place = (path, number, node.lineno, spans[node], text.strip())
            found.append(Mutant(*place, *_shown(node, change)))
    return found


def _every(tree: ast.AST) -> Iterator[tuple[Any, Any, ast.AST | None]]:
    for *place, node in places(tree):
        for change in changes(node) if hasattr(node, "lineno") else ():
            yield place, node, change


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
