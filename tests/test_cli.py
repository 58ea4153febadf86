from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pyg_gunet import cli, options
from pyg_gunet.data import names

pytestmark = pytest.mark.usefixtures("quick_pictures")
QUICK = ["--dataset", "ring", "--hidden-channels", "8", "--depth", "1", "--accelerator", "cpu"]


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
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
    assert figures["settings"]["model"]["pool_ratios"] == 0.25
    assert "pool_ratios: 0.25" in out  # the settings, before training
    table = dict(line.rsplit(None, 1) for line in out.splitlines() if "  " in line[2:])
    assert float(table["  mse, ours"]) == pytest.approx(figures["mse"], rel=1e-3)
    baselines = figures["baselines"]
    assert float(table["  mse, predict the mean"]) == pytest.approx(
        baselines["predict the mean"], rel=1e-3
    )
    assert "1 graph, 64 nodes, 128 edges, 2 features" in out
    for name in ("best.ckpt", "last.ckpt", "metrics.json", "loss.png", "reconstruction.png"):
        assert f"  runs/ring-autoencode/{name}\n" in out
        assert Path("runs/ring-autoencode", name).is_file()
    assert "training: 100%" in err
    assert cli.main(["fit", *QUICK, "--epochs", "1", "--quiet"]) == 0  # the next free folder
    assert Path("runs/ring-autoencode-2/metrics.json").is_file()
    assert capsys.readouterr().out == ""


def test_pictures_are_written(run):
    for name in ("loss.png", "reconstruction.png", "levels.png"):
        assert (run / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_test_embed_and_predict(run, tmp_path, capsys):
    expected = json.loads((run / "metrics.json").read_text())
    for command in ("test", "evaluate"):
        assert cli.main([command, str(run / "best.ckpt"), "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert figures["mse"] == pytest.approx(expected["mse"], rel=1e-5)
    assert cli.main(["test", str(run)]) == 0
    assert "PCA of equal latent size" in capsys.readouterr().out
    assert cli.main(["validate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["val_loss"] > 0
    z = tmp_path / "z.npz"
    assert cli.main(["embed", str(run / "best.ckpt"), "--out", str(z)]) == 0
    assert f"wrote {z}: z [64, 8], graph [64]" in capsys.readouterr().out
    assert np.load(z)["z"].shape == (64, 8)
    assert "'out' exists" in error_of(capsys, "embed", run, "--out", z)
    assert cli.main(["embed", str(run), "--out", str(z), "--level", "graph", "--overwrite"]) == 0
    assert np.load(z)["z"].shape[0] == 1
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "p.csv"), "--dataset=grid"]) == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 65
    assert "'out' must end in" in error_of(capsys, "predict", run, "--out", tmp_path / "p.xls")
    assert "'out' must be a .csv" in error_of(capsys, "predict", run, "--out", tmp_path / "p")
    for command in ("embed", "predict"):
        assert "'out' must name" in error_of(capsys, command, run)
        assert "'CKPT' must name" in error_of(capsys, command)
    assert "unrecognized argument '--depth'" in error_of(capsys, "test", run, "--depth", 3)


def test_resume_and_overwrite(run, tmp_path, capsys):
    out = tmp_path / "run"
    fit = ["fit", *QUICK, "--quiet", "--out", str(out)]
    assert cli.main([*fit, "--epochs", "1"]) == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "--overwrite" in error_of(capsys, *fit, "--epochs", "1")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli.main([*fit, "--epochs", "2", "--overwrite"]) == 0
    assert cli.main(["fit", "--resume", str(out), "--epochs", "4", "--quiet"]) == 0
    assert json.loads((out / "metrics.json").read_text())["epochs"] == 4
    assert capsys.readouterr().err == ""
    assert cli.main(["fit", "--resume", str(out), "--quiet"]) == 0
    assert "all 4 epochs were done already" in capsys.readouterr().err
    for argv, words in (
        (["--depth", "2"], "'depth' cannot change on 'resume': the checkpoint has 1 (got 2)"),
        (["--dataset", "grid"], "'dataset' cannot change on 'resume': the checkpoint has 'ring'"),
        (["--seed", "3"], "'seed' cannot change on 'resume': the checkpoint has 0 (got 3)"),
        (["--speed", "3"], "unknown option 'speed'"),
        (["--seeds", "3"], "'resume' goes without 'seeds'"),
    ):
        assert words in error_of(capsys, "fit", "--resume", out, *argv)


def test_a_config_gives_the_same_run_and_the_command_line_has_the_last_word(run, tmp_path, capsys):
    config = run / "config.yaml"
    stored = yaml.safe_load(config.read_text())
    assert stored["model"]["hidden_channels"] == 8
    fit = ["fit", "--config", str(config), "--quiet", "--out"]
    assert cli.main([*fit, str(tmp_path / "same")]) == 0
    states = [torch.load(f / "last.ckpt", weights_only=True) for f in (run, tmp_path / "same")]
    a, b = (state["state_dict"] for state in states)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert cli.main([*fit, str(tmp_path / "other"), "--hidden-channels", "4"]) == 0
    other = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert other["model"]["hidden_channels"] == 4
    with pytest.raises(SystemExit) as done:
        cli.main(["fit", "--config", str(config), "--print_config", "--lr", "0.5"])
    assert done.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["lr"] == 0.5
    assert printed["trainer"]["max_epochs"] == 3
    argv = ["fit", "--task", "classify", "--print_config", "--dataset"]
    for dataset, kind in (("karate", "plain"), (str(tmp_path / "none.csv"), "mixed")):
        with pytest.raises(SystemExit):  # of karate's nodes most train
            cli.main([*argv, dataset])
        printed = capsys.readouterr().out
        assert yaml.safe_load(printed)["model"]["net"] == kind
        assert ("# by the name of the data alone" in printed) == (kind == "mixed")
    (tmp_path / "bad.yaml").write_text("model: {depht: 3}")
    assert "depht" in error_of(capsys, "fit", *QUICK, "--config", tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 3")
    assert "'config' must hold" in error_of(capsys, "fit", "--config", tmp_path / "list.yaml")


def test_classes_by_path(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text(
        "from pyg_gunet.train import AutoEncode, OneGraph\n"
        "from pytorch_lightning import Callback\n"
        "class Mine(AutoEncode):\n"
        "    def __init__(self, in_channels: int, *, extra: int = 1, **kwargs):\n"
        '        """Args:\n            extra (int): More."""\n'
        "        super().__init__(in_channels, **kwargs)\n"
        "class Data(OneGraph):\n    pass\n"
        "class Watch(Callback):\n"
        "    def on_train_start(self, *args):\n        print('watching')\n"
    )
    monkeypatch.chdir(tmp_path)
    argv = ["fit", *QUICK, "--import", "mine_for_cli", "--model", "mine_for_cli.Mine"]
    argv += ["--extra", "2", "--data", "mine_for_cli.Data", "--callback", "mine_for_cli.Watch"]
    argv += ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"]
    assert cli.main([*argv, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    assert "watching" in capsys.readouterr().out
    assert list(Path("logs").rglob("metrics.csv"))
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["task"], config["model"]["extra"]) == ("mine_for_cli.Mine", 2)
    assert cli.main(["test", "run", "--quiet"]) == 0


def test_several_seeds(tmp_path, capsys):
    out = tmp_path / "runs"
    assert cli.main(["fit", *QUICK, "--epochs", "2", "--seeds", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    values = [json.loads((out / f"seed-{i}" / "metrics.json").read_text())["mse"] for i in (0, 1)]
    row = next(line.split() for line in text.splitlines() if line.startswith("  mse "))
    assert float(row[1]) == pytest.approx(np.mean(values), rel=1e-3)
    assert float(row[2]) == pytest.approx(np.std(values, ddof=1), rel=0.1)
    assert "'seeds' must be at least 1" in error_of(capsys, "fit", *QUICK, "--seeds", "0")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--dataset", "rabbit"], "'dataset' must be one of karate, grid"),
        (["--task", "sing"], "'task' must be one of 'autoencode', 'masked', 'classify'"),
        (["--task", "no.such.Task"], "'task' names no class"),
        (["--data", "pyg_gunet.GPool"], "'datamodule' must name a LightningDataModule"),
        (["--epochs", "0"], "'epochs' must be at least 1"),
        (["--epochs", "many"], "'max_epochs' must be"),
        (["--lr", "nan"], "'lr' must be"),
        (["--dropout", "1"], "'dropout' must be below 1"),
        (["--pool-ratios", "1.5"], "'pool_ratios' must"),
        (["--select", "tpok"], "'select' must be one of 'topk', 'spread' (got 'tpok')"),
        (["--connect", "none"], "'connect' must be one of"),
        (["--norm", "weird"], "weird"),
        (["--speed", "3"], "unrecognized argument --speed=3"),
        (["stray"], "unrecognized argument stray"),
        (["--task", "classify", "--mi-weight", "1"], "unrecognized argument --mi_weight=1"),
        (["--seed", str(2**63)], "'seed' must be at least 0 and an int64"),
        (["--task", "classify"], "needs one graph with labels"),
        (["--resume", "nowhere.ckpt"], "'resume' does not exist (got 'nowhere.ckpt')"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(tmp_path, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    base = [] if "--resume" in argv else [*QUICK, "--quiet"]
    assert message in error_of(capsys, "fit", *base, *argv)
    assert os.listdir(tmp_path) == []


def test_nan_in_features_is_refused_at_the_door(tmp_path, capsys, monkeypatch):
    from torch_geometric.data import Data

    from pyg_gunet.data import GraphDataset

    data = Data(x=torch.ones(4, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))
    data.x[2, 1] = float("nan")
    dataset = GraphDataset("bad", [data])
    monkeypatch.setattr("pyg_gunet.load", lambda name, root: dataset)
    argv = ("fit", *QUICK, "--quiet", "--normalize", "none", "--out", tmp_path / "run")
    assert "'x' must be finite (got nan" in error_of(capsys, *argv)
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
    for argv in (
        ["test", ckpt],
        ["embed", ckpt, "--out", "z.npz"],
        ["predict", ckpt, "--out", "p.csv"],
        ["fit", "--resume", ckpt],
    ):
        message = error_of(capsys, *argv)
        assert "does not exist" in message if kind == "folder" else "x.ckpt" in message
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_a_bomb_or_an_entity_as_dataset_is_refused(tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    entity = '<!DOCTYPE g [<!ENTITY a "b">]><graphml>&a;</graphml>'
    (tmp_path / "a.graphml").write_text(entity)
    for file, message in (("a.pt", "a.pt"), ("a.graphml", "XML entity 'a'")):
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

    monkeypatch.setattr("pyg_gunet.load", fail)
    out = str(tmp_path / "run")
    assert "RuntimeError: first second" in error_of(capsys, "fit", *QUICK, "--out", out)
    with pytest.raises(RuntimeError):
        cli.main(["fit", *QUICK, "--out", out, "--traceback"])


def test_a_package_of_the_extra_that_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    monkeypatch.delitem(sys.modules, "pyg_gunet.train.command", raising=False)
    assert cli.main(["fit", *QUICK, "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("pyg-gunet: error: ")
    assert err.endswith("pip install 'pyg_gunet[train]' brings it\n")
    err = error_of(capsys, "fit", *QUICK, "--import", "nobody")  # which the extra does not bring
    assert err == "pyg-gunet: error: No module named 'nobody'\n"


def test_ctrl_c_before_training_is_130(tmp_path, capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_gunet.load", interrupt)
    assert cli.main(["fit", *QUICK, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "pyg-gunet: interrupted\n"


def test_home_is_expanded_and_a_closed_stderr_has_no_bar(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["fit", *QUICK, "--epochs", "1", "--out", "~/run"]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_usage_errors_are_2(capsys):
    for argv in ([], ["sing"]):
        with pytest.raises(SystemExit) as error:
            cli.main(argv)
        assert error.value.code == 2
    capsys.readouterr()


def test_version_and_help(capsys):
    for argv, text in (
        (["--version"], f"torch {torch.__version__.split('+')[0]}"),
        (["--help"], "predict"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(argv)
        assert error.value.code == 0
        assert text in capsys.readouterr().out
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        assert "--traceback" in capsys.readouterr().out
    for name in names():
        assert (
            name.split("/")[0].split(" of ")[0] in cli.DATASETS or "path" in name
        )  # the help names every data set


@pytest.mark.parametrize("task", options.TASKS)
def test_help_tells_of_every_option(task, capsys):
    """What is read off the source is what the parser takes, and nothing is without a word."""
    from pyg_gunet.train.command import make_parser

    assert cli.main(["fit", "--task", task, "--help"]) == 0
    printed = capsys.readouterr().out
    kind = {"classify_graphs": "Graphs", "segment": "Images"}.get(task, "OneGraph")
    found = options.groups(task, kind)
    taken = {action.dest for action in make_parser(task, kind)._actions}
    for group in ("model", "data", "trainer"):
        names = {f"{group}.{option.name}" for option in found[group]}
        assert names == {
            name for name in taken if name.startswith(f"{group}.") and "help" not in name
        }
        for option in found[group]:
            assert option.text, option.name
            assert option.name == "dataset" or f"--{group}.{option.name} " in printed
    for word in ("two_hop", "induced", "contract", "walk", "sampled", "interpolate"):
        assert word in printed


def test_short_options_are_those_of_the_settings():
    given = ["--pool-ratios", "0.5", "100", "--depth=3", "--dataset", "a b", "--directed"]
    assert options.routed([*given, "--epochs", "2", "--speed", "-1"], "classify", "OneGraph") == [
        "--model.pool_ratios=[0.5, 100]",
        "--model.depth=3",
        "--data.dataset=a b",
        "--data.options.directed=true",
        "--trainer.max_epochs=2",
        "--speed=-1",
    ]
    given = ["--num-neighbors", "5", "--shares", "0.5", "--devices", "2"]
    assert options.routed(given, "classify", "OneGraph") == [
        "--data.num_neighbors=5",
        "--data.shares=[0.5]",
        "--trainer.devices=2",
    ]


def test_help_imports_nothing_heavy():
    """`pyg_gunet` itself is left out: its own imports are not the command line's."""
    code = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('pyg_gunet'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['pyg_gunet'] = package\n"
        "import pyg_gunet.cli as cli\n"
        "assert cli.main(['fit', '--task', 'classify', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    folder = str(Path(cli.__file__).parent)
    subprocess.run([sys.executable, "-c", code, folder], check=True, timeout=60)
