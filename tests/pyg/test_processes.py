"""Runs on several processes are those of one."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_gunet.train import AutoEncode, Classify, fit, loading
from pyg_gunet.train.launch import launched, one_by_one
from pyg_gunet.train.loading import EpochSampler, SharedBatches, graph_loader, place
from tests.conftest import wait_for
from tests.pyg import two_fits

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def history(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


pytestmark = pytest.mark.usefixtures("quick_pictures")

# What a process gets ----------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_out_every_step(monkeypatch, world):
    """Each graph is in one share of its step, and no process runs out of steps."""
    shares = []
    for rank in range(world):
        monkeypatch.setattr(loading, "place", lambda rank=rank: (rank, world))
        shares.append(list(SharedBatches(EpochSampler(19, seed=3), 6)))
    monkeypatch.setattr(loading, "place", lambda: (0, 1))
    whole = list(SharedBatches(EpochSampler(19, seed=3), 6))
    assert [len(batch) for batch in whole] == [6, 6, 6, 1]
    for step, batch in enumerate(whole):
        given = [share[step] for share in shares]
        assert all(given)
        assert sorted(i for own in given for i in own if i >= 0) == sorted(batch)
        assert [own for own in given if own[0] < 0] == [[-1 - batch[0]]] * max(
            0, world - len(batch)
        )


def test_a_stand_in_is_marked_and_the_graph_is_not(monkeypatch):
    monkeypatch.setattr(loading, "place", lambda: (1, 2))
    graphs = [Data(x=torch.ones(n, 1), edge_index=torch.zeros(2, 0).long()) for n in (3, 4, 5)]
    batches = list(graph_loader(graphs, 2))
    assert [batch.num_nodes for batch in batches] == [4, 5]
    assert ["stand_in" in batch for batch in batches] == [False, True]
    assert "stand_in" not in graphs[2]


def test_outside_of_a_run_there_is_one_process():
    assert place() == (0, 1)


def test_processes_read_files_one_by_one(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="needs locks on folders")
    monkeypatch.setenv("LOCAL_RANK", "1")
    other = os.open(tmp_path, os.O_RDONLY)
    with one_by_one(str(tmp_path)), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back
    os.close(other)
    with pytest.raises(FileNotFoundError, match="mine"), one_by_one(str(tmp_path / "missing")):
        raise FileNotFoundError("mine")  # an error of what is done inside is not lost


def test_torchrun_sets_the_number_of_processes(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "LOCAL_WORLD_SIZE": "4",
        "WORLD_SIZE": "12",
    }.items():
        monkeypatch.setenv(name, value)
    trainer = launched({"trainer": {"devices": 2}})["trainer"]
    assert (trainer["devices"], trainer["num_nodes"]) == (4, 3)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert launched({"trainer": {"devices": 2}})["trainer"]["devices"] == 2


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"dataset": "ring"}, "'devices' cannot share one graph: 'loader' must be random"),
        ({"batch_size": 1}, "'batch_size' must be at least the number of processes, 2"),
        ({"devices": 1, "hosts": 7}, "number of processes, 7 .got 6"),
        ({"devices": 1, "hosts": 2}, "'hosts' needs torchrun on each, .*got 2"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path, monkeypatch, changes, match):
    monkeypatch.delenv("MASTER_ADDR", raising=False)  # Lightning leaves it
    if changes.get("hosts") == 7:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    options = {"dataset": two_fits.graphs(), "devices": 2, **two_fits.SMALL, **changes}
    if changes.get("dataset") == "ring":
        del options["batch_size"]
    with pytest.raises(ValueError, match=match):
        fit(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


# Runs -------------------------------------------------------------------------------------------


def torchrun(nodes: int, processes: int) -> list[str]:
    """Its command, at a free port of the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}"]
    command += [f"--nproc-per-node={processes}", "--master-addr=127.0.0.1"]
    return [*command, f"--master-port={port}"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun_on_two_processes_equals_one(tmp_path, nodes):
    """Curves, scores and weights, of graphs of unequal size that do not go up in the steps: what
    is averaged over processes instead of summed would show. On one node, and on two of one process
    each, which meet at an address of the loopback."""
    two_fits.main(tmp_path / "one")
    command = torchrun(nodes, 2 // nodes)
    script = [two_fits.__file__, str(tmp_path / "two")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([*command, f"--node-rank={i}", *script], env=ENVIRONMENT, **pipes)
        for i in range(nodes)
    ]
    for process in started:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    assert {path.name for path in (tmp_path / "two").glob("rank*")} == {"rank0", "rank1"}
    for task, score in (("autoencode", "mse"), ("segment", "test_mean_iou")):
        one, two = tmp_path / "one" / task, tmp_path / "two" / task
        rows = history(one)
        assert len(rows) == 5
        for row, other in zip(rows, history(two), strict=True):
            assert other == pytest.approx(row, rel=1e-5, abs=1e-6)
        assert rows[0]["train_loss"] != pytest.approx(rows[-1]["train_loss"], rel=1e-3)
        figures = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
        assert figures[1][score] == pytest.approx(figures[0][score], rel=1e-4)
        trainer = figures[1]["settings"]["trainer"]
        assert (trainer["devices"], trainer["num_nodes"]) == (2 // nodes, nodes)
        files = [sorted(path.name for path in folder.iterdir()) for folder in (one, two)]
        assert files[0] == files[1]  # one checkpoint, one report, nothing put aside
        a, b = weights(one / "last.ckpt"), weights(two / "last.ckpt")
        assert a.keys() == b.keys()
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_killed_process_ends_the_run_which_goes_on_from_its_checkpoint(
    tmp_path, monkeypatch, hosts
):
    """The second process of `--devices 2 --strategy ddp`, or all of the second of torchrun's two
    hosts; one process goes on."""
    out, root = tmp_path / "run", tmp_path / "data"
    write_tu(root / "TOY")
    options = ["--dataset", "TU/TOY", "--root", root, "--depth", 1, "--hidden-channels", 8]
    options += ["--epochs", 100_000, "--accelerator", "cpu", "--out", out, "--quiet"]
    command = ["-m", "pyg_gunet.cli", "fit", *map(str, options)]
    more: dict[str, Any] = {"env": ENVIRONMENT, "stderr": subprocess.PIPE, "text": True}
    if hosts == 1:
        command = [sys.executable, *command, "--devices", "2", "--strategy", "ddp"]
        first = subprocess.Popen(command, **more)
    else:
        command = [*torchrun(2, 1), *command]
        first, second = (
            subprocess.Popen([*command[:3], f"--node-rank={i}", *command[3:]], **more)
            for i in range(2)
        )
    wait_for(out / "last.ckpt", first)
    if hosts == 1:
        os.kill(second_process(first.pid), signal.SIGKILL)
    else:
        for process in (second.pid, second_process(second.pid)):
            os.kill(process, signal.SIGKILL)
    _, err = first.communicate(timeout=120)
    if hosts == 2:
        second.communicate()
    assert first.returncode == (2 if hosts == 1 else 1)  # torchrun's own
    assert "pyg-gunet: error: RuntimeError: another process of the run has ended" in err
    assert f"resume '{out}'" in err

    assert {path.name for path in out.iterdir()} == {"last.ckpt", "best.ckpt"}
    reached = torch.load(out / "last.ckpt", weights_only=True)["epoch"] + 1
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    if hosts == 2:  # as many as before would wait for the other, for ever
        with pytest.raises(ValueError, match="'hosts' needs torchrun.*got 2"):
            fit(resume=out, devices=1)
    run = fit(resume=out, devices=1, hosts=1, epochs=reached + 2)
    assert run.figures["epochs"] == reached + 2
    assert [row["epoch"] for row in history(out)] == list(range(1, reached + 3))
    assert run.figures["mse"] < run.figures["baselines"]["predict the mean"] * 2


def write_tu(folder: Path) -> None:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    lines: dict[str, list[str]] = {"A": [], "graph_indicator": [], "graph_labels": []}
    lines["node_attributes"] = []
    first = 1
    for i, data in enumerate(two_fits.graphs()):
        lines["A"] += [f"{a + first}, {b + first}" for a, b in data.edge_index.t().tolist()]
        lines["graph_indicator"] += [str(i + 1)] * data.num_nodes
        lines["graph_labels"].append(str(i % 2))
        lines["node_attributes"] += [", ".join(map(str, row)) for row in data.x.tolist()]
        first += data.num_nodes
    for part, text in lines.items():
        (raw / f"TOY_{part}.txt").write_text("\n".join(text) + "\n")


def second_process(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("needs /proc: no way to find the second process")
    found = [int(child) for child in children.read_text().split()]
    ours = [c for c in found if b"pyg_gunet" in Path(f"/proc/{c}/cmdline").read_bytes()]
    assert len(ours) == 1
    return ours[0]


# PyG's data modules -----------------------------------------------------------------------------


def trainer(module, data_module, epochs: int = 2) -> dict[str, float]:
    pl = pytest.importorskip("pytorch_lightning")
    from torch_geometric.data.lightning.datamodule import _LightningDataModule

    if not issubclass(_LightningDataModule, pl.LightningDataModule):
        pytest.skip("PyG's data modules are those of 'lightning', not of 'pytorch_lightning'")
    made = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    made.fit(module, data_module)
    return {name: float(value) for name, value in made.callback_metrics.items()}


def test_lightning_dataset_of_pyg():
    from torch_geometric.data.lightning import LightningDataset

    torch.manual_seed(0)
    dataset = two_fits.graphs()
    module = AutoEncode(3, depth=1, hidden_channels=8)
    untrained = [p.clone() for p in module.parameters()]
    metrics = trainer(module, LightningDataset(dataset[:16], dataset[16:], batch_size=4))
    assert 0 < metrics["val_loss"] < 5
    assert not any(torch.equal(a, b) for a, b in zip(untrained, module.parameters()))
    batch = Batch.from_data_list([dataset[i] for i in range(16, 24)])
    with torch.no_grad():
        loss = module.eval().terms(batch)["reconstruction"]
    assert metrics["val_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_lightning_node_data_of_pyg():
    from torch_geometric.data.lightning import LightningNodeData
    from torch_geometric.datasets import KarateClub

    torch.manual_seed(0)
    data = KarateClub()[0]
    data.val_mask, data.test_mask = ~data.train_mask, ~data.train_mask
    module = Classify(34, 4, depth=1, hidden_channels=16, lr=0.02)
    metrics = trainer(module, LightningNodeData(data, loader="full"), epochs=15)
    right = module.eval()(data).argmax(1) == data.y
    assert metrics["val_accuracy"] == pytest.approx(float(right[data.val_mask].float().mean()))
    assert metrics["val_accuracy"] > 0.5
