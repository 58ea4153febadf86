"""The mutation script: every mutant is one change that a test could see."""

from __future__ import annotations

import ast
import importlib
import sys

import pytest

from tests import mutants, mutate, warm

SOURCE = '''
"""1 + 1"""
from typing import Literal
Kind = Literal["a", 0]
def f(x: Literal[3], y=2):
    """x < 1"""
    check(x)
    if x < y and not y:
        raise ValueError(f"{x + 1}")
    z = g(x, dim=-1)  # pragma: no mutate
    return h(z, keep=True)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    for room in (mutants, mutate):
        monkeypatch.setattr(room, "ROOT", tmp_path)
    (tmp_path / "m.py").write_text(SOURCE)
    return mutate.Path("m.py")


def test_each_kind_of_change(module):
    found = [(one.line, one.before, one.after) for one in mutants.mutants(module)]
    assert found == [
        (5, "2", "3"),
        (7, "check(x)", "left out"),
        (8, "if x < y and (not y)", "if True"),
        (8, "if x < y and (not y)", "if False"),
        (8, "x < y and (not y)", "x < y or not y"),
        (8, "x < y", "x <= y"),
        (8, "not y", "y"),
        (11, "h(z, keep=True)", "h(z)"),
        (11, "True", "False"),
    ]


def test_a_mutant_is_one_change(module):
    whole = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in mutants.mutants(module):
        lines = mutant.source.splitlines()
        assert sum(a != b for a, b in zip(whole, lines, strict=True)) == 1, mutant


def test_a_sample_is_seeded(module, capsys):
    def drawn(seed):
        assert mutate.main(["m.py", "--tests", "x", "--list", "--sample", "4", "--seed", seed]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(drawn("1")) == 4
    assert drawn("1") == drawn("1") != drawn("2")
    with pytest.raises(SystemExit):
        mutate.main(["nowhere.py", "--tests", "x"])


WARM = """
LIMIT = 3
def small(x, most=2):
    return x < most
class Box:
    @property
    def size(self):
        return 7 * LIMIT
    @staticmethod
    def ones():
        return [y + 1 for y in (0, 0)]
    @functools.lru_cache
    def kept(self):
        return not self
"""


def test_functions_are_changed_in_place_and_imports_are_not(tmp_path, monkeypatch):
    for room in (mutants, warm):
        monkeypatch.setattr(room, "ROOT", tmp_path)
    (tmp_path / "warmed.py").write_text("import functools\n" + WARM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "warmed", raising=False)
    found = {}
    for mutant in mutants.mutants(mutants.Path("warmed.py")):
        module = importlib.reload(importlib.import_module("warmed"))
        box = module.Box()
        done = warm.patch(mutant)
        values = module.small(2), box.size, box.ones(), box.kept()
        found[mutant.before, mutant.after] = done and values
    monkeypatch.delitem(sys.modules, "warmed")
    assert found == {
        ("3", "4"): False,
        ("2", "3"): False,
        ("x < most", "x <= most"): (True, 21, [1, 1], False),
        ("7 * LIMIT", "7 / LIMIT"): (False, 7 / 3, [1, 1], False),
        ("7", "8"): (False, 24, [1, 1], False),
        ("y + 1", "y - 1"): (False, 21, [-1, -1], False),
        ("1", "2"): (False, 21, [2, 2], False),
        ("0", "1"): (False, 21, [1, 2], False),
        ("not self", "self"): (False, 21, [1, 1], box),
    }


def test_mutants_that_no_test_can_tell_are_in_the_package():
    """So that a line that was changed since is looked at again."""
    known = mutate.equivalents()
    paths = {mutants.Path(name.split(": ")[0]) for name in known}
    assert known <= {one.name for path in paths for one in mutants.mutants(path)}
