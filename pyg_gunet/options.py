"""The options of the command line, read off signatures and docstrings without importing anything:
torch, PyG and Lightning take longer to import than a user waits for ``--help``."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TASKS = {
    "autoencode": ("autoencode", "AutoEncode"),
    "masked": ("masked", "MaskedAutoEncode"),
    "classify": ("classify", "Classify"),
    "classify_graphs": ("classify", "ClassifyGraphs"),
    "regress": ("regress", "Regress"),
    "segment": ("segment", "Segment"),
}
DATA = ("OneGraph", "Graphs", "Images")
GIVEN = (
    "in_channels",
    "num_classes",
    "out_channels",
    "pos_channels",
    "depth_channels",
    "targets_per_graph",
    "seed",
)
READERS = (("data/graphs.py", "read_graphs"), ("data/images.py", "read_images"))


class Option(NamedTuple):
    """An option as its source tells of it."""

    name: str
    kind: str
    default: str
    text: str


def read(path: Path, name: str, bases: tuple[Path, ...] = ()) -> list[Option]:
    """The options of a class or function in a file; where it passes ``**kwargs`` on, those of its
    base, looked for in the same file and in `bases`."""
    for source in (path, *bases):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        nodes = {n.name: n for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
        if name in nodes:
            break
    else:
        return []
    node = function = nodes[name]
    texts = _arguments(ast.get_docstring(node) or "")
    inherited: list[Option] = []
    if isinstance(node, ast.ClassDef):
        own = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        parents = [base.id for base in node.bases if isinstance(base, ast.Name)]
        if not own or own[0].args.kwarg is not None:
            inherited = [o for parent in parents for o in read(path, parent, bases)]
        if not own:
            return inherited
        function = own[0]
        texts.update(_arguments(ast.get_docstring(function) or ""))
    assert isinstance(function, ast.FunctionDef)
    args = function.args
    named = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(named) - len(args.defaults)) + list(args.defaults)
    found = []
    for arg, value in [*zip(named, defaults), *zip(args.kwonlyargs, args.kw_defaults)]:
        if arg.arg in ("self", *GIVEN):
            continue
        kind = "" if arg.annotation is None else ast.unparse(arg.annotation)
        default = "" if value is None else ast.unparse(value)
        found.append(Option(arg.arg, kind, default, texts.get(arg.arg, "")))
    return found + [option for option in inherited if option.name not in {o.name for o in found}]


def _arguments(docstring: str) -> dict[str, str]:
    """The text of every argument of a docstring in Google's style."""
    lines = docstring.partition("Args:\n")[2].splitlines()
    if not lines:
        return {}
    indent = len(lines[0]) - len(lines[0].lstrip())
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth < indent:
            break
        start = re.match(r"(\w+)(?: \([^)]*\))?:\s*(.*)", line.strip()) if depth == indent else None
        if start:
            name = start.group(1)
            found[name] = [start.group(2)]
        elif name and line.strip():
            found[name].append(line.strip())
    texts = {name: " ".join(parts) for name, parts in found.items()}
    return {name: re.sub(r":\w+:`([^`]*)`|``", r"\1", text) for name, text in texts.items()}


def groups(task: str, datamodule: str) -> dict[str, list[Option]]:
    """The options of a task, a data module and Lightning's Trainer, by group."""
    train = HERE / "train"
    found: dict[str, list[Option]] = {}
    if task in TASKS:
        file, name = TASKS[task]
        found["model"] = read(train / f"{file}.py", name, (train / "module.py",))
    found["data"] = read(train / "data.py", datamodule)
    readers = [read(HERE / path, name)[1:] for path, name in READERS if (HERE / path).is_file()]
    spec = importlib.util.find_spec("pytorch_lightning")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found["trainer"] = read(Path(folders[0], "trainer", "trainer.py"), "Trainer") if folders else []
    names = {option.name for options in found.values() for option in options}
    found["data.options"] = [o for reader in readers for o in reader if o.name not in names]
    return found


ALIASES = {"epochs": "trainer.max_epochs", "hosts": "trainer.num_nodes"}
ALIASES |= {"callback": "trainer.callbacks+", "dataset": "data.dataset", "root": "data.root"}


def routed(
    rest: list[str], task: str, datamodule: str, more: dict[str, set[str]] | None = None
) -> list[str]:
    """Options by short name, with hyphens, in the words of the settings: ``--pool-ratios 0.5 100``
    becomes ``--model.pool_ratios=[0.5, 100]``, ``--directed`` becomes
    ``--data.options.directed=true``. What is not known stays as it is; `more` are the names that
    classes of the user's own take."""
    owner = {name: f"{group}.{name}" for group, names in (more or {}).items() for name in names}
    lists, alone = set(), set()  # may have several values; have a list of them even if it is one
    for group, options in groups(task, datamodule).items():
        for option in options:
            owner.setdefault(option.name, f"{group}.{option.name}")
            if re.search("[Ll]ist|Ratios|Sequence", option.kind):
                lists.add(owner[option.name])
            if re.match("list|Sequence|tuple", option.kind):
                alone.add(owner[option.name])
    out: list[str] = []
    i = 0
    while i < len(rest):
        token = rest[i]
        i += 1
        if not token.startswith("--"):
            out.append(token)
            continue
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        name = ALIASES.get(name) or owner.get(name) or name
        values = [value] if equals else []
        while not equals and i < len(rest) and not re.match(r"-[^\d.]", rest[i]):
            if values and name not in lists:
                break
            values.append(rest[i])
            i += 1
        text = "true" if not values else values[0]
        if (len(values) > 1 or name in alone) and text[:1] != "[":
            text = f"[{', '.join(values)}]"
        out.append(f"--{name}={text}")
    return out


def add_help(
    parser: argparse.ArgumentParser, task: str, datamodule: str, shipped: dict[str, Any]
) -> None:
    """Adds the options of a task to a parser, for its help."""
    titles = {
        "model": f"task {task} (--model.NAME, or --NAME)",
        "data": f"data, {datamodule} (--data.NAME, or --NAME)",
        "data.options": "graph and image files (--data.options.NAME, or --NAME)",
        "trainer": "Lightning's Trainer (--trainer.NAME, or --NAME)",
    }
    seen = {"dataset"}
    for group, options in groups(task, datamodule).items():
        added = parser.add_argument_group(titles[group])
        for option in options:
            if option.name in seen:
                continue
            seen.add(option.name)
            value = shipped.get(group, {}).get(option.name)
            text = option.text.replace("%", "%%")
            if value is not None:
                text = f"{re.sub(r' *.default:[^)]*.$', '', text)} (default: {value})"
            elif "default:" not in text.lower() and option.default not in ("", "None"):
                text = f"{text} (default: {option.default})"
            kind = option.kind.removesuffix(" | None").replace("Optional", "") or "VALUE"
            added.add_argument(f"--{group}.{option.name}", metavar=kind, help=text)
