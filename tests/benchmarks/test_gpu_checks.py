"""What `benchmarks/gpu.py` looks at, as far as a CPU shows it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pyg_gunet


def test_a_step_on_prepared_levels_never_waits_for_a_value():
    import _gpu_checks as checks

    found = dict(checks.sync_points(argparse.Namespace(device="cpu")))
    assert found.keys() == checks.prepared().keys()
    assert all(one == {"count": 0, "places": []} for one in found.values()), found


def test_a_wait_is_a_fault_and_so_is_a_search_that_is_blind(monkeypatch):
    import _gpu_checks as checks

    class Waits(torch.nn.Linear):
        def prepare(self, edge_index, num_nodes):
            return edge_index

        def forward(self, x, ready):
            return super().forward(x) * x.sum().item()

    monkeypatch.setattr(checks, "prepared", lambda: {"waits": Waits(8, 2)})
    here = argparse.Namespace(device="cpu")
    (name, found), *_ = checks.sync_points(here)
    assert (name, found["count"], found["wrong"]) == ("waits", 1, "1 waits")
    monkeypatch.setattr(checks, "waiting", lambda run, device: [])
    assert "not seen" in dict(checks.sync_points(here))["search"]["wrong"]


def test_what_waits_is_seen_at_its_line():
    import _gpu_checks as checks

    x = torch.tensor([1.0, 0.0, 2.0])
    with checks.HostWaits() as waits:
        x.index_select(0, torch.tensor([1])) + x.cumsum(0)
        assert not waits.places
        x[x > 0], x.sum().item(), x.unique(), x.nonzero()
        x.repeat_interleave(torch.tensor([1, 2, 3]), output_size=6)
        x[torch.tensor([0])] = 3.0
        assert len(waits.places) == 4
        x.repeat_interleave(torch.tensor([1, 2, 3]))
        x[x > 0] = torch.ones(2)  # a number alone is filled in without waiting since torch 2.15
    assert len(waits.places) == 6
    assert all(__file__ in place for place in waits.places)


def test_the_script_needs_the_core_alone():
    code = """
import sys
for name in ("pygsp", "ogb", "trimesh", "torch_scatter", "pytorch_lightning", "sklearn"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import gpu
print(*gpu.PARTS)
"""
    command = [sys.executable, "-c", code, sys.path[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "correctness arxiv" in done.stdout, done.stderr


def cases(*names):
    import _gpu_checks as checks

    found = {}
    for case in checks.cases():
        if case.name in names:
            found[case.name] = case
            if len(found) == len(names):
                break
    return [found[name] for name in names]


def test_every_public_name_is_compared_or_left_out_with_a_reason():
    import _gpu_checks as checks
    import _gpu_operators as operators

    shown = {name for case in checks.cases() for name in case.of}
    assert shown | operators.LEFT_OUT.keys() == set(pyg_gunet.__all__)
    assert not shown & operators.LEFT_OUT.keys()
    assert all(len(reason) > 8 for reason in operators.LEFT_OUT.values())


@pytest.mark.parametrize("name", ["weights", "edges", "gradient"])
def test_an_operator_that_is_wrong_on_a_device_is_told(monkeypatch, name):
    """Each time the second call, that of the device, is a little off."""
    import _gpu_compare as compare
    import _gpu_operators as operators

    calls, right = [], operators.induced

    def broken(edge_index, weight, perm, n):
        calls.append(name)
        index, out = right(edge_index, weight, perm, n)
        if len(calls) == 1:
            return index, out
        if name == "edges":
            return index.flip(0), out
        return index, out * 1.0003 if name == "weights" else 0.0 * out + out.detach()

    monkeypatch.setattr(operators, "induced", broken)
    (case,) = cases("induced")
    found = compare.check(case, torch.device("cpu"))
    assert name in found["in"] or name == "weights"  # of which the gradient's are twice as far
    assert found["wrong"].startswith("differs by ")
    monkeypatch.setattr(operators, "induced", right)
    (case,) = cases("induced")
    assert "wrong" not in compare.check(case, torch.device("cpu"))


def test_each_gradient_that_a_device_zeroes_is_told():
    import _gpu_compare as compare

    names = ("mixed", "auto-encoder", "variational, learned", "topk keep contract zero")
    names += ("fixed mean walk nearest, bf16", "SAGEConv, bf16", "KLCritic 2, dv loss")
    for case in cases(*names):
        here = case.run(*case.given)
        there = (case.there or case.run)(*case.given)
        compared = 0
        for key, grad in there["gradients"].items():
            if compare.silent(key, case.quiet):
                continue
            grads = there["gradients"] | {key: torch.zeros_like(grad)}
            found = compare.difference(here, there | {"gradients": grads}, *case[5:])
            assert found[0] > case.relative, (case.name, found)
            assert found[1] == f"gradients.{key}"
            compared += 1
        assert compared > 3


def test_a_gradient_too_small_to_compare_is_told():
    import _gpu_compare as compare

    model = torch.nn.Linear(3, 2)
    half = compare.step(model, lambda own, x: own(x)[:, :1])  # the other row gets zeros
    none = compare.step(model, lambda own, x: x.sum() + 0 * own.weight.sum())
    x = torch.randn(4, 3)
    assert "wrong" not in compare.check(compare.Case("a", half, (x,)), x.device)
    found = compare.check(compare.Case("b", none, (x,)), x.device)
    assert found["wrong"] == "no gradient to compare: weight, bias"
    quiet = compare.Case("c", none, (x,), quiet=("weight", "b*"))
    assert "wrong" not in compare.check(quiet, x.device)


def test_difference_is_taken_tensor_by_tensor():
    from _gpu_compare import difference

    large, small = torch.tensor([1e3]), torch.tensor([0.1])
    far, where = difference({"a": large, "b": small}, {"a": large, "b": small * 1.01})
    assert (round(far, 4), where) == (0.01, "b")
    assert difference(torch.zeros(2), torch.full((2,), 9e-7))[0] < 1e-4
    assert difference(torch.zeros(2), torch.full((2,), 2e-6))[0] > 1e-4
    assert difference(torch.zeros(2), torch.full((2,), 2e-6), quiet=("",))[0] < 1e-4
    other = (torch.tensor([torch.nan]), torch.ones(2), None, torch.tensor([True]))
    assert all(difference(torch.ones(1), one)[0] == float("inf") for one in other[:3])
    assert difference(torch.tensor([False]), other[3])[0] == float("inf")
    assert difference([large], [large, large]) == (float("inf"), "1")


def test_all_that_needs_a_gpu_is_found_by_its_name():
    root = Path(__file__).parents[1]
    for path in root.rglob("test_*.py"):
        after = path.read_text().split("@pytest.mark.skipif(not torch.cuda" + ".is_available()")[1:]
        for text in after:
            name = text[text.index("def ") + 4 : text.index("(", text.index("def "))]
            assert "cuda" in name, f"{path.name}: {name}"
