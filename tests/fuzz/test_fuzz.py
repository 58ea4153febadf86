"""The fuzz of the door, as ``python -m tests.fuzz`` prints it, and that it can fail."""

from __future__ import annotations

import random

import pytest
import torch

import pyg_gunet
from tests.fuzz.calls import all_calls
from tests.fuzz.engine import Call, malformed, run
from tests.fuzz.values import ints, tensors


def test_every_malformed_call_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = all_calls()
    report = run(calls, share=0.25)
    assert report.tried >= 2_000
    assert not report.accepted + report.unnamed + report.other
    assert report.refused == report.tried


def test_every_public_name_is_called():
    """But for what only comes back from calls."""
    names = {call.name.split(".")[0] for call in all_calls()}
    results = {"Estimate", "Hierarchy", "Level", "PoolOutput"}
    assert not set(pyg_gunet.__all__) - names - results


def silent(n: int, x: torch.Tensor) -> int:
    return int(n) if x.numel() > 100 else 0


def rude(n: int, x: torch.Tensor) -> int:
    raise ValueError("no")


def broken(n: int, x: torch.Tensor) -> int:
    raise RuntimeError("'n'")


def misleading(n: int, x: torch.Tensor) -> int:
    raise ValueError("'x' is wrong" if x.shape == (3, 2) else "'n' is wrong")


@pytest.mark.parametrize(
    "function, bad",
    [(silent, "accepted"), (rude, "unnamed"), (misleading, "unnamed"), (broken, "other")],
)
def test_the_fuzz_finds_what_is_wrong(function, bad):
    arguments = {"n": (3, ints(1)), "x": (torch.ones(3, 2), tensors(dtypes="float"))}
    report = run([Call("f", lambda: function, arguments)])
    assert getattr(report, bad)
    assert report.refused < report.tried


def test_seeds_draw_other_values():
    def drawn(seed):
        kind = ints(5)
        return [str(value) for _, value in kind.malformed(7, random.Random(seed))]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    call = Call("f", lambda: rude, {"n": (3, ints(1))})
    assert all(len(set(one) & {"n"}) for _, _, one in malformed(call, random.Random(0)))
