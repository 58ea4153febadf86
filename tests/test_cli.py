from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_gunet import cli
from pyg_gunet.data import names

QUICK = ["--dataset", "ring", "--hidden-channels", "8", "--depth", "1", "--accelerator", "cpu"]


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr("pyg_gunet.train.pictures._save", lambda figure, path: path.touch())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, drawn for real."""
    folder = tmp_path_factory.mktemp("runs") / "ring"
    assert cli.main(["fit", *QUICK, "--epochs", "3", "--out", str(folder), "--quiet"]) == 0
    return folder


def error_of(capsys, *argv: object) -> str:
    """The one line on stderr of a command that must fail with code 2."""
    capsys.readouterr()
    assert cli.main([str(arg) for arg in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pyg-gunet: error: ")
    assert err.count("\n") == 1
    return err


def test_fit_prints_figures_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", *QUICK, "--epochs", "2", "--pool-ratios", "0.25"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(Path("runs/ring-autoencode/metrics.json").read_text())
    assert figures["settings"]["pool_ratios"] == [0.25]
    table = dict(line.rsplit(None, 1) for line in out.splitlines() if "  " in line[2:])
    assert float(table["  ours"]) == pytest.approx(figures["mse"], rel=1e-3)
    baselines = figures["baselines"]
    assert float(table["  predict the mean"]) == pytest.approx(
        baselines["predict the mean"], rel=1e-3
    )
    for name in ("best.ckpt", "last.ckpt", "metrics.json", "loss.png", "reconstruction.png"):
        assert f"  runs/ring-autoencode/{name}\n" in out
        assert Path("runs/ring-autoencode", name).is_file()
    assert "training: 100%" in err
    assert cli.main(["fit", *QUICK, "--epochs", "1", "--quiet"]) == 0  # the next free folder
    assert Path("runs/ring-autoencode-2/metrics.json").is_file()
    assert capsys.readouterr().out == ""


def test_pictures_are_written(run):
    for name in ("loss.png", "reconstruction.png"):
        assert (run / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_evaluate_and_embed(run, tmp_path, capsys):
    expected = json.loads((run / "metrics.json").read_text())
    assert cli.main(["evaluate", str(run / "best.ckpt"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["mse"] == pytest.approx(expected["mse"], rel=1e-6)
    assert cli.main(["evaluate", str(run)]) == 0
    assert "PCA of equal latent size" in capsys.readouterr().out
    z = tmp_path / "z.npz"
    assert cli.main(["embed", str(run / "best.ckpt"), "--out", str(z)]) == 0
    assert f"wrote {z}: z [64, 8], graph [64]" in capsys.readouterr().out
    assert np.load(z)["z"].shape == (64, 8)
    assert "'out' exists" in error_of(capsys, "embed", run, "--out", z)
    assert cli.main(["embed", str(run), "--out", str(z), "--level", "graph", "--overwrite"]) == 0
    assert np.load(z)["z"].shape[0] == 1


def test_resume_and_overwrite(run, tmp_path, capsys):
    out = tmp_path / "run"
    fit = ["fit", *QUICK, "--quiet", "--out", str(out)]
    assert cli.main([*fit, "--epochs", "1"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "--overwrite" in error_of(capsys, *fit, "--epochs", "1")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli.main([*fit, "--epochs", "2", "--overwrite"]) == 0
    assert cli.main(["fit", "--resume", str(out), "--epochs", "4", "--quiet"]) == 0
    assert json.loads((out / "metrics.json").read_text())["epochs"] == 4
    message = error_of(capsys, "fit", "--resume", out, "--depth", "2")
    assert "'depth' cannot change on 'resume': the checkpoint has 1 (got 2)" in message


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--dataset", "rabbit"], "'name' must be one of karate, grid"),
        (["--task", "sing"], "'task' must be one of 'autoencode', 'classify'"),
        (["--epochs", "0"], "'epochs' must be at least 1 (got 0)"),
        (["--lr", "nan"], "'lr' must be finite (got nan)"),
        (["--dropout", "1"], "'dropout' must be at most 0.99 (got 1.0)"),
        (["--pool-ratios", "1.5"], "'pool_ratios' must lie in (0, 1] as a share (got 1.5)"),
        (["--select", "random"], "'select' must be one of"),
        (["--connect", "none"], "'connect' must be one of"),
        (["--skip", "all"], "'skip' must be one of 'none', 'sum', 'cat' (got 'all')"),
        (["--norm", "weird"], "weird"),
        (["--task", "classify"], "needs one graph with labels"),
        (["--resume", "nowhere.ckpt"], "'resume' does not exist (got 'nowhere.ckpt')"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(tmp_path, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    base = [] if "--resume" in argv else QUICK
    assert message in error_of(capsys, "fit", *base, *argv)
    assert os.listdir(tmp_path) == []


def test_nan_in_features_is_refused_at_the_door(tmp_path, capsys, monkeypatch):
    from torch_geometric.data import Data

    from pyg_gunet.data import GraphDataset

    data = Data(x=torch.ones(4, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))
    data.x[2, 1] = float("nan")
    dataset = GraphDataset("bad", [data])
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)
    message = error_of(capsys, "fit", *QUICK, "--normalize", "none", "--out", tmp_path / "run")
    assert "'x' must be finite (got nan" in message
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["bomb", "raw bomb", "truncated", "text", "empty", "folder"])
def test_bad_checkpoints_are_one_line_and_write_nothing(run, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    ckpt = tmp_path / "x.ckpt"
    if kind == "bomb":
        torch.save({"state_dict": Bomb(tmp_path / "boom")}, ckpt)
    elif kind == "folder":
        ckpt.mkdir()
    else:
        whole = (run / "last.ckpt").read_bytes()
        raw = pickle.dumps(Bomb(tmp_path / "boom"))
        parts = {"raw bomb": raw, "truncated": whole[:-100], "text": b"hello", "empty": b""}
        ckpt.write_bytes(parts[kind])
    for argv in (["evaluate", ckpt], ["embed", ckpt, "--out", "z.npz"], ["fit", "--resume", ckpt]):
        message = error_of(capsys, *argv)
        assert "does not exist" in message if kind == "folder" else "x.ckpt" in message
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_a_bomb_or_an_entity_as_dataset_is_refused(tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    entity = '<!DOCTYPE g [<!ENTITY a "b">]><graphml>&a;</graphml>'
    (tmp_path / "a.graphml").write_text(entity)
    for file, message in (
        ("a.pt", "not a file written by torch.save"),
        ("a.graphml", "XML entity 'a'"),
    ):
        argv = ("fit", "--dataset", tmp_path / file, "--out", tmp_path / "run")
        assert message in error_of(capsys, *argv)
    assert sorted(os.listdir(tmp_path)) == ["a.graphml", "a.pt"]


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "run" / "last.ckpt"))

    monkeypatch.setattr("pyg_gunet.train.callbacks.SafeCheckpointIO.save_checkpoint", full)
    message = error_of(capsys, "fit", *QUICK, "--out", tmp_path / "run", "--quiet")
    assert "No space left on device" in message
    assert os.listdir(tmp_path) == []


def test_unforeseen_errors_are_named_and_traceback_shows_them(tmp_path, capsys, monkeypatch):
    def fail(*args):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("pyg_gunet.train.run.load", fail)
    out = str(tmp_path / "run")
    assert "RuntimeError: first second" in error_of(capsys, "fit", *QUICK, "--out", out)
    with pytest.raises(RuntimeError):
        cli.main(["fit", *QUICK, "--out", out, "--traceback"])


def test_a_package_of_the_extra_that_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyg_gunet.train", None)
    assert cli.main(["fit", *QUICK, "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("pyg-gunet: error: ")
    assert err.endswith("pip install 'pyg_gunet[train]'\n")


def test_ctrl_c_before_training_is_130(tmp_path, capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_gunet.train.run.load", interrupt)
    assert cli.main(["fit", *QUICK, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "pyg-gunet: interrupted\n"


def test_usage_errors_are_2(capsys):
    for argv in ([], ["fit", "--epochs", "many"], ["fit", "--speed", "3"], ["embed", "x.ckpt"]):
        with pytest.raises(SystemExit) as error:
            cli.main(argv)
        assert error.value.code == 2
    capsys.readouterr()


def test_version_and_help(capsys):
    for argv, text in (
        (["--version"], f"torch {torch.__version__.split('+')[0]}"),
        (["fit", "-h"], "--resume"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(argv)
        assert error.value.code == 0
        assert text in capsys.readouterr().out
    for name in names():
        assert name.split("/")[0] in cli.DATASETS  # the help names every data set


def test_help_imports_nothing_heavy():
    """`pyg_gunet` itself is left out: its own imports are not the command line's."""
    code = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('pyg_gunet'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['pyg_gunet'] = package\n"
        "import pyg_gunet.cli as cli\n"
        "cli.build_parser().format_help()\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    folder = str(Path(cli.__file__).parent)
    subprocess.run([sys.executable, "-c", code, folder], check=True, timeout=60)


# Processes --------------------------------------------------------------------------------------


def start(*argv: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "pyg_gunet.cli", "fit", *QUICK, *map(str, argv)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert path.exists(), process.communicate()[1]


def test_ctrl_c_and_kill_leave_a_checkpoint_to_go_on_from(tmp_path):
    """The weights in the end are those of a run that nobody broke."""
    out, epochs = tmp_path / "broken", 20
    process = start("--epochs", 100_000, "--out", out)
    wait_for(out / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"interrupted; go on with: pyg-gunet fit --resume {out}" in err
    state = torch.load(out / "last.ckpt", weights_only=True)
    assert state["epoch"] >= 0

    out = tmp_path / "killed"
    process = start("--epochs", epochs, "--out", out)
    wait_for(out / "last.ckpt", process)
    process.kill()
    process.communicate(timeout=120)
    assert cli.main(["fit", "--resume", str(out), "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert cli.main(["fit", *QUICK, "--epochs", str(epochs), "--out", str(whole), "--quiet"]) == 0
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(f / name, weights_only=True)["state_dict"] for f in (out, whole))
        assert all(torch.equal(a[key], b[key]) for key in a)
