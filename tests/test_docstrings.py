"""What a docstring tells of an argument's default is what the signature has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

PACKAGES = ("", ".critic", ".data", ".metrics", ".train", ".transforms")
ENTRY = re.compile(r"^ {4}(\w+) \([^\n]*\): (.*?)(?=^ {0,4}\S|\Z)", re.MULTILINE | re.DOTALL)
DEFAULT = re.compile(r"\(default:\s+(?::obj:)?`*(.+?)`*\)\s*$", re.DOTALL)


def callables() -> Iterator[tuple[str, Any]]:
    for package in PACKAGES:
        module = import_module(f"pyg_gunet{package}")
        for name in module.__all__:
            found = getattr(module, name)
            if callable(found):
                yield f"{package}.{name}", found
            for key, method in vars(found).items() if inspect.isclass(found) else ():
                if inspect.isfunction(method) and not key.startswith("_"):
                    yield f"{package}.{name}.{key}", method


def told() -> Iterator[tuple[str, str, Any]]:
    """Arguments, the words on their default, and the default."""
    for name, found in callables():
        parameters = inspect.signature(found).parameters
        for argument, text in ENTRY.findall(inspect.getdoc(found) or ""):
            words = DEFAULT.search(text.strip())
            if words and argument in parameters:
                yield f"{name}: {argument}", words[1], parameters[argument].default


def test_defaults_are_those_of_the_signature():
    """Numbers and words; None and what stands for many values may be told by their meaning."""
    count = 0
    for place, words, default in told():
        assert default is not inspect.Parameter.empty, place
        if isinstance(default, (bool, int, float, str)) and "MiB" not in words:
            first = re.split(r"`*,\s", words)[0].strip("`")
            value = first if isinstance(default, str) else ast.literal_eval(first)
            assert (value.strip("'\"") if isinstance(value, str) else value) == default, place
            count += 1
    assert count > 200
