"""The command in processes of its own: signals, a kill, a race for a folder, a closed pipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch

from pyg_gunet import cli
from tests.conftest import wait_for
from tests.test_cli import QUICK, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_pictures")


def start(*argv: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "pyg_gunet.cli", "fit", *QUICK, *map(str, argv)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_a_checkpoint_to_go_on_from(tmp_path, number):
    out = tmp_path / "broken"
    process = start("--epochs", 100_000, "--out", out)
    wait_for(out / "last.ckpt", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number, err
    assert f"interrupted; go on with: pyg-gunet fit --resume {out}" in err
    state = torch.load(out / "last.ckpt", weights_only=True)
    assert state["epoch"] >= 0


def test_a_killed_run_ends_as_one_that_nobody_broke(tmp_path):
    out, epochs = tmp_path / "killed", 20
    process = start("--epochs", epochs, "--out", out)
    wait_for(out / "last.ckpt", process)
    process.kill()
    process.communicate(timeout=240)
    assert cli.main(["fit", "--resume", str(out), "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert cli.main(["fit", *QUICK, "--epochs", str(epochs), "--out", str(whole), "--quiet"]) == 0
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(f / name, weights_only=True)["state_dict"] for f in (out, whole))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_runs_that_start_together_get_a_folder_each(tmp_path):
    runs = [start("--epochs", 2, "--seed", i, "--quiet", cwd=tmp_path) for i in range(3)]
    for process in runs:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    folders = list((tmp_path / "runs").iterdir())
    seeds = [json.loads((folder / "metrics.json").read_text())["seed"] for folder in folders]
    assert sorted(seeds) == [0, 1, 2]


def test_a_reader_that_goes_away_is_no_error(run):  # noqa: F811
    command = f"{sys.executable} -m pyg_gunet.cli test {run} --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=240)
    assert done.stdout == "{"
    assert done.stderr == ""
