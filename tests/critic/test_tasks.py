"""The benchmark's tasks have the information they state; its examples and script run."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mi() -> ModuleType:
    path = ROOT / "benchmarks" / "_mi_tasks.py"
    spec = importlib.util.spec_from_file_location("_mi_tasks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_mi_tasks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_there_are_at_least_eight_tasks_with_samples(mi: ModuleType) -> None:
    tasks = mi.tasks()
    assert len({task.name for task in tasks}) == len(tasks) >= 8
    for task in tasks:
        assert 0.1 < task.truth < 3
        x, y = task.sample(50, 0)
        assert x.dtype == y.dtype == torch.float32
        assert len(x) == len(y) == 50
        assert bool(torch.isfinite(torch.cat([x, y], 1)).all())
        assert torch.equal(task.sample(50, 0)[0], x)
        assert not torch.equal(task.sample(50, 1)[0], x)


def test_student_information_matches_its_densities(mi: ModuleType) -> None:
    cov, dof = mi.covariance([0.8, 0.8], 3, 3), 4
    x, y = mi.student(cov, 3, dof)(100_000, torch.Generator().manual_seed(0))
    c = cov.numpy()
    zero = np.zeros(6)
    joint = multivariate_t(zero, c, dof).logpdf(torch.cat([x, y], 1).numpy())
    alone = [
        multivariate_t(zero[:3], c[i, i], dof).logpdf(z.numpy())
        for i, z in ((slice(0, 3), x), (slice(3, 6), y))
    ]
    ratio = joint - alone[0] - alone[1]
    error = ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - mi.student_information(cov, 3, dof)) < 4 * error < 0.05


def test_additive_noise_matches_its_densities(mi: ModuleType) -> None:
    task = mi.additive_noise(0.1)
    _, y = task.sample(200_000, 0)
    y = y.double()
    # The density of y: a trapezoid on [-0.1, 1.1]; that of y given x is 1 / 0.2.
    density = ((y + 0.1).clamp(max=0.2) - (y - 0.9).clamp(min=0.0)) / 0.2
    assert float((math.log(5) - density.log()).mean()) == pytest.approx(task.truth, abs=0.005)


def test_maps_are_one_to_one(mi: ModuleType) -> None:
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    for f in (mi.wiggly_x, mi.wiggly_y, mi.half_cube, torch.asinh):
        assert bool((f(grid).diff() > 0).all()), f
    x = torch.randn(100, 4, dtype=torch.float64)
    turned = mi.spiral(x, [(0, 1), (2, 3)], 0.7)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(mi.spiral(turned, [(0, 1), (2, 3)], -0.7), x)
    roll = mi.swiss_roll(torch.linspace(0, 1, 2001, dtype=torch.float64).unsqueeze(1))
    assert bool((roll.norm(dim=1).diff() > 0).all())  # the radius gives the place on the curve


def test_staircase_has_its_information(mi: ModuleType) -> None:
    assert mi.staircase(6.0).truth == pytest.approx(6.0, abs=1e-9)
    assert mi.staircase_spiral(10.0).truth == pytest.approx(10.0, abs=1e-9)


def test_forward_and_reverse_example_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "kl_forward_reverse.py")]
    command += ["--quick", "--out", str(tmp_path / "kl.png")]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert "KL(P || Q)" in out.stdout
    assert (tmp_path / "kl.png").stat().st_size > 10_000


def test_information_example_runs(tmp_path: Path) -> None:
    """Forty rings and stars under TU's layout; `information.py` names what it reads."""
    raw = tmp_path / "TOY" / "raw"
    raw.mkdir(parents=True)
    edges, owner = [], []
    for graph in range(40):
        nodes = range(6 * graph + 1, 6 * graph + 7)
        ring = (
            zip(nodes, [*nodes[1:], nodes[0]]) if graph % 2 else ((nodes[0], n) for n in nodes[1:])
        )
        edges += [f"{a}, {b}\n{b}, {a}\n" for a, b in ring]
        owner += [f"{graph + 1}\n"] * 6
    labels = [f"{graph % 2}\n" for graph in range(40)]
    attributes = [f"{math.sin(n):.4f}\n" for n in range(240)]
    for part, lines in {
        "A": edges,
        "graph_indicator": owner,
        "graph_labels": labels,
        "node_attributes": attributes,
        "node_labels": [f"{n % 3}\n" for n in range(240)],
    }.items():
        (raw / f"TOY_{part}.txt").write_text("".join(lines))
    command = [sys.executable, str(ROOT / "examples" / "information.py"), "--root", str(tmp_path)]
    command += ["--name", "TU/TOY", "--steps", "10"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("I(x; y) =") == 4


def test_families_have_their_information() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import _mi_default as families

    generator = torch.Generator().manual_seed(0)
    for make in families.FAMILIES:
        for information, d in ((2.0, 1), (4.0, 2)):
            task = make(information, d)
            assert task.truth == pytest.approx(information, abs=0.15)  # cells are whole
            x, y = task.draw(5000, generator)
            assert x.dtype == torch.float64
            assert bool(torch.isfinite(torch.cat([x, y], 1)).all())
            # A second opinion, by nearest neighbours: biased downwards at high information.
            noise = 1e-6 * torch.randn(x.shape, dtype=x.dtype)
            assert families.ksg(x, y + noise) == pytest.approx(task.truth, abs=0.25 * d)


def test_benchmark_writes_flat_records_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "mutual_information.py"), "--quick"]
    command += ["--root", str(tmp_path), "--json", str(tmp_path / "out.json"), "--name", "exact"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert "seed 0: classifier" in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "seed 0: classifier" not in again.stdout  # read from the store
    assert "mean ok, 1/1 seeds" in again.stdout
    records = json.loads((tmp_path / "out.json").read_text())
    keys = {"benchmark", "case", "system", "metric", "value", "std", "n"}
    assert all(set(record) == keys for record in records)


def test_a_peer_runs_in_its_own_interpreter_on_the_same_pairs(tmp_path: Path) -> None:
    package = tmp_path / "latentmi"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lmi.py").write_text(
        "import numpy as np\n"
        "def estimate(x, y, **options):\n"
        "    assert x.shape == y.shape == (10_000, 1)\n"
        "    return np.array([x[0, 0], np.nan]), None, None\n"
    )
    command = [sys.executable, str(ROOT / "benchmarks" / "mutual_information.py"), "--quick"]
    command += ["--root", str(tmp_path), "--name", "peer: normal 1x1"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    refused = subprocess.run([*command, "--peer", "npeet=python"], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "'--peer' takes torch-mist, diffusion-mi, latentmi (got npeet)" in refused.stderr
    command += ["--peer", f"latentmi={sys.executable}"]
    out = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert out.returncode == 0, out.stderr
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import _mi_tasks as mi

    first = float(mi.tasks()[0].sample(10_000, 1000)[0][0])
    assert f"latentmi LMI {first:.3f}" in out.stdout


def test_intervals_are_counted_and_doubts_too() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import mutual_information as table

    rows = [
        {"part": "intervals", "case": "c", "system": "estimate", "truth": 1.0, "seed": seed}
        | {"value": 1.0 + 0.1 * seed, "stderr": 0.1, "seconds": 1.0, "flagged": float(seed == 3)}
        for seed in range(4)
    ]
    entry = table.summarize(rows, 1)[0]  # every repeat counts, whatever the number of seeds
    text = table.verdict(entry, (("estimate", "held", (0.9, 0.98)),))
    assert text == "held by 50.0% of 4: MISSED; flagged 1"
    text = table.verdict(entry, (("estimate", "flagged", (2,)),))
    assert text == "flagged 1 of 4, 2 at most: ok"
