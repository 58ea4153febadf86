"""What `benchmarks/gpu.py` looks at, as far as a CPU shows it."""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch


def test_a_step_on_prepared_levels_never_waits_for_a_value():
    import _gpu_checks as checks

    found = checks.sync_points(argparse.Namespace(device="cpu"))
    assert found.keys() == checks.prepared().keys()
    assert all(one == {"count": 0, "places": []} for one in found.values()), found


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
