"""How `benchmarks/gpu.py` runs its parts: what fails is told, figures stay, time is bounded."""

from __future__ import annotations

import argparse
import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch


def options(path, **given):
    plain = {"device": "cpu", "quick": True, "again": False, "budget": 25.0, "repeats": 2}
    plain |= {"json": str(path), "name": ["small", "spread"], "slowest": []}
    return argparse.Namespace(**plain | given)


@pytest.fixture
def started(monkeypatch):
    """The parts that were started, and what they give."""
    import gpu

    seen, gives = [], {"small": {"a": {"ms": 1.0}}, "spread": {"b": {"ms": 2.0}}}

    def run_part(name, args, limit, told):
        seen.append((name, args.slowest, limit))
        return {"seconds": 1.0, "figures": gives[name]}

    monkeypatch.setattr(gpu, "run_part", run_part)
    return SimpleNamespace(seen=seen, gives=gives)


def names(started):
    found = [name for name, *_ in started.seen]
    started.seen.clear()
    return found


@pytest.mark.parametrize(
    "bad", [{"fails": "x"}, {"a": {"wrong": "x"}}, {"a": {"fails": "x"}}, {"wrong": {"a": "x"}}]
)
def test_a_part_with_a_fault_fails_the_run_and_is_run_again(tmp_path, started, bad):
    import gpu

    args, good = options(tmp_path / "a.json"), started.gives["small"]
    started.gives["small"] = bad
    assert [one.split()[0] for one in gpu.run(args)] == ["small"]
    assert names(started) == ["small", "spread"]
    started.gives["small"] = good
    assert gpu.run(args) == []
    assert names(started) == ["small"]
    assert gpu.run(args) == []
    assert names(started) == []
    gpu.run(options(tmp_path / "a.json", again=True))
    assert names(started) == ["small", "spread"]


def test_what_does_not_fit_is_a_figure_at_full_size_alone(tmp_path, started):
    import gpu

    started.gives["small"] = {"a": {"does not fit": "out of memory"}}
    assert len(gpu.run(options(tmp_path / "a.json"))) == 1
    full = options(tmp_path / "a.json", quick=False)
    assert gpu.run(full) == []
    names(started)
    assert gpu.run(full) == []
    assert names(started) == []


def test_devices_sizes_and_versions_do_not_mix(tmp_path, started, monkeypatch):
    import gpu

    path = tmp_path / "a.json"
    for quick in (True, False):
        gpu.run(options(path, quick=quick))
        assert names(started) == ["small", "spread"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    gpu.run(options(path, device="cuda"))
    assert names(started) == ["small", "spread"]
    monkeypatch.setattr(torch, "__version__", "9.9")
    gpu.run(options(path))
    assert names(started) == ["small", "spread"]
    runs = json.loads(path.read_text())
    told = [(one["machine"]["device"], one["machine"]["quick"]) for one in runs]
    assert told == [("CPU", True), ("CPU", False), ("a card", True), ("CPU", True)]
    assert all({"small", "spread"} < one.keys() for one in runs)


def test_the_budget_bounds_parts_and_those_left_over_are_told_and_run_next(tmp_path, started):
    import gpu

    args = options(tmp_path / "a.json", name=["small"], budget=1.0)
    gpu.run(args)
    assert 59 < started.seen[0][2] <= 60
    args.name, args.budget = ["spread"], 0.3
    assert gpu.run(args) == []
    kept = json.loads((tmp_path / "a.json").read_text())[0]
    assert kept["spread"]["figures"]["not run"].endswith("of the budget left")
    args.budget = 25.0
    names(started)
    gpu.run(args)
    assert started.seen[0][2] == 120
    assert names(started) == ["spread"]


def test_the_profile_is_of_the_systems_that_took_longest(tmp_path, started):
    import gpu

    took = {"walk": 3.0, "two_hop": 1.0, "contract": 5.0, "PyG GraphUNet": 9.0}
    started.gives["arxiv"] = {name: {"ms": ms} for name, ms in took.items()}
    started.gives["arxiv"]["levels prepared"] = {"does not fit": "out of memory"}
    started.gives["profile"] = {"contract": {"text": "table"}}
    gpu.run(options(tmp_path / "a.json", name=["arxiv", "profile"], quick=False))
    assert started.seen[1][1] == ["contract", "walk"]
    assert (tmp_path / "a.txt").read_text() == "contract\ntable\n"


@pytest.mark.parametrize("end", ["time.sleep(60)", "raise SystemExit('no more')", "pass"])
def test_figures_that_came_are_kept_however_a_part_ends(end):
    import gpu

    code = "import json, time; print('noise'); print(json.dumps({'a': {'ms': 1}}), flush=True);"
    told = []
    limit = 3.0 if "sleep" in end else 60.0
    command = [sys.executable, "-c", code + end]
    out = gpu.follow(command, dict(os.environ), limit, lambda one: told.append(len(one["figures"])))
    assert told == [1]
    assert out["figures"].pop("a") == {"ms": 1}
    expected = {"time": {"fails": "over 3 s"}, "rais": {"fails": "no more\n"}, "pass": {}}
    assert out["figures"] == expected[end[:4]]


def test_one_system_that_fails_does_not_lose_the_others(monkeypatch):
    import _gpu_parts as parts

    class TooLarge(torch.nn.Module):
        def __init__(self, *sizes):
            raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(*given, **named):
        raise RuntimeError("CUDA error: an illegal memory access")

    args = argparse.Namespace(device="cpu", quick=True, repeats=1)
    monkeypatch.setattr(parts, "PyGGraphUNet", TooLarge)
    found = dict(parts.small(args))
    assert found.pop("PyG GraphUNet, 16 graphs").keys() == {"does not fit"}
    assert all("ms" in one for one in found.values())
    assert len(found) == 4
    monkeypatch.setattr(parts, "spread", broken)
    assert all(one.keys() == {"fails"} for one in dict(parts.spreading(args)).values())
    monkeypatch.setattr(parts, "SegmentationMetrics", broken)
    assert all(one.keys() == {"fails"} for one in dict(parts.scores(args)).values())


def test_tests_that_fail_or_do_not_run_fail_their_part():
    from _gpu_parts import judged

    assert "fails" not in judged(0, "9 passed", "cuda")
    assert "fails" not in judged(5, "no tests ran", "cpu")
    assert "fails" not in judged(0, "3 skipped", "cpu")
    for code, text, device in (
        (1, "1 failed, 9 passed", "cuda"),
        (1, "1 failed", "cpu"),
        (2, "errors during collection", "cuda"),
        (5, "no tests ran", "cuda"),
        (0, "9 skipped", "cuda"),
    ):
        assert "fails" in judged(code, text, device), (code, text)


def test_kernels_are_counted_without_launches_copies_and_spans():
    from _gpu_systems import launched

    kind = torch.autograd.DeviceType

    def event(name, device, span=False):
        return SimpleNamespace(name=name, device_type=device, is_user_annotation=span)

    seen = [event("gemm", kind.CUDA), event("gemm", kind.CUDA), event("add", kind.CUDA)]
    noise = [event("cudaLaunchKernel", kind.CPU), event("aten::mm", kind.CPU)]
    noise += [event("Memcpy HtoD", kind.CUDA), event("Memset (Device)", kind.CUDA)]
    noise += [event("Optimizer.step#Adam.step", kind.CUDA), event("a span", kind.CUDA, True)]
    assert launched(seen + noise) == 3


def test_the_share_of_the_bandwidth_is_of_bytes_that_must_move():
    from _gpu_systems import floor_bytes, share

    assert share(2e9, 4.0, 1000.0) == {"floor_ms": 2.0, "bandwidth_share": 0.5}
    # Seven propagations of a GCN, on all nodes; of ours on 1, 1/2, 1/4 (twice each) and 1/8.
    assert floor_bytes("GCN csr", 8, 3) == 16 * 64 * 8 * 7 + 8 * 3 * 7
    assert floor_bytes("walk", 8, 3) == 16 * 64 * (2 * (8 + 4 + 2) + 1) + 8 * 3 * 2


def test_a_part_tells_its_figures_line_by_line(monkeypatch, capsys):
    import gpu

    monkeypatch.setitem(gpu.PARTS, "small", lambda args: iter([("a", {"ms": 1}), ("b", {})]))
    gpu.child(argparse.Namespace(part="small"))
    assert capsys.readouterr().out.splitlines() == ['{"a": {"ms": 1}}', '{"b": {}}']
