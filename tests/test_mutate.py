"""The mutation script: every mutant is one change that a test could see."""

from __future__ import annotations

import ast

import pytest

from tests import mutate

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
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    (tmp_path / "m.py").write_text(SOURCE)
    return mutate.Path("m.py")


def test_each_kind_of_change(module):
    found = [(one.line, one.before, one.after) for one in mutate.mutants(module)]
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
    for mutant in mutate.mutants(module):
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
