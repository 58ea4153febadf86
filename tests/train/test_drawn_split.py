"""A split that no file holds: what was trained on one of its parts is tested on another."""

from __future__ import annotations

import pytest

from pyg_gunet import cli


@pytest.mark.parametrize("other", [(), ("--dataset", "karate")])
def test_a_run_on_a_drawn_split_is_tested(tmp_path, other):
    run = str(tmp_path / "run")
    fit = ("fit", "--task", "classify", "--dataset", "karate", "--epochs", "2", "--out", run)
    assert cli.main([*fit, "--accelerator", "cpu", "--quiet"]) == 0
    assert (
        cli.main(["test", run, "--json", *(f"{a}={b}" for a, b in zip(other[::2], other[1::2]))])
        == 0
    )
    assert cli.main(["validate", run, "--json"]) == 0
