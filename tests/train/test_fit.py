"""What a fit writes, and what it learns."""

from __future__ import annotations

import csv
import json
import os
import warnings
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
import torch_geometric
from torch_geometric.data import Data

import pyg_gunet
from pyg_gunet.data import GraphDataset, load
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.train import (
    AutoEncode,
    Classify,
    GraphModule,
    Graphs,
    OneGraph,
    embed,
    evaluate,
    fit,
    load_run,
    predict,
    validate,
)
from pyg_gunet.train.baselines import pca_mse
from pyg_gunet.train.loading import EpochSampler
from pyg_gunet.train.run import versions
from tests.train.conftest import (
    FILES,
    RING,
    SMALL,
    equal_weights,
    make_graphs,
    planted,
    train,
    weights,
)


def test_fit_writes_its_files(ring_run):
    assert sorted(os.listdir(ring_run.folder)) == FILES
    assert sorted(path.name for path in ring_run.files) == FILES
    pictures = [path for path in ring_run.files if path.suffix == ".png"]
    assert {path.read_bytes()[:8] for path in pictures} == {b"\x89PNG\r\n\x1a\n"}
    figures = json.loads((ring_run.folder / "metrics.json").read_text())
    assert figures == ring_run.figures
    assert figures["latent_floats"] == 16 * figures["settings"]["model"]["latent_channels"]
    rows = (ring_run.folder / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,train_loss,val_loss"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_versions_are_told_where_nothing_is_installed_by_name(monkeypatch):
    """A nightly build of PyG, a tree that is not installed."""

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    found = versions()
    assert found["pyg_gunet"] == pyg_gunet.__version__
    assert found["torch-geometric"] == torch_geometric.__version__
    assert found.keys() == {"pyg_gunet", "torch", "torch-geometric", "pytorch-lightning"}


def test_figures_are_those_of_the_best_checkpoint(ring_run):
    """Recomputed by hand from the weights in the file."""
    data, figures = load("ring")[0], ring_run.figures
    state = weights(ring_run.folder / "best.ckpt")
    net = GraphUNetAutoEncoder(2, 8, figures["settings"]["model"]["latent_channels"], 2)
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    mean, scale = data.x.mean(0), (data.x - data.x.mean(0)).square().mean().sqrt()
    with torch.no_grad():
        x_hat = net.eval()((data.x - mean) / scale, data.edge_index, None, data.edge_weight)
    mse = (x_hat * scale + mean - data.x).square().mean()
    assert figures["mse"] == pytest.approx(float(mse), rel=1e-3)
    assert figures["baselines"]["predict the mean"] == pytest.approx(float(scale) ** 2, rel=1e-5)
    expected = pca_mse(data.x, data.x, figures["latent_floats"])[0]
    assert figures["baselines"]["PCA of equal latent size"] == pytest.approx(expected)
    assert {"harmonic interpolation", "biharmonic interpolation"} <= set(figures["baselines"])


def test_test_agrees_with_fit(ring_run):
    for ckpt in (ring_run.folder / "best.ckpt", ring_run.folder):
        figures = evaluate(ckpt)
        assert figures["mse"] == pytest.approx(ring_run.figures["mse"], rel=1e-5)
        assert figures["baselines"] == ring_run.figures["baselines"]
    assert validate(ring_run.folder)["val_loss"] > 0


def test_training_learns(tmp_path):
    run = train(tmp_path / "run", epochs=25, hidden_channels=16, lr=0.02, latent_channels=4)
    assert run.figures["mse"] < 0.1 * run.figures["baselines"]["PCA of equal latent size"]


def test_same_seed_same_bits(tmp_path, ring_run):
    train(tmp_path / "same", **RING)
    train(tmp_path / "other", **RING, seed=1)
    assert equal_weights(tmp_path / "same" / "last.ckpt", ring_run.folder / "last.ckpt")
    assert not equal_weights(tmp_path / "other" / "last.ckpt", ring_run.folder / "last.ckpt")
    train(tmp_path / "large", seed=2**62)  # a product with it would overflow


def test_many_graphs_are_split(tmp_path):
    dataset = make_graphs()
    run = train(tmp_path / "run", dataset, epochs=2)
    assert run.figures["split"].endswith("16 train, 2 validation, 2 test")
    data = Graphs(dataset)
    data.setup()
    seen = sorted(float(d.x.sum()) for part in data.parts for d in part)
    assert seen == sorted(float(d.x.sum()) for d in dataset)  # each graph in one part
    nodes = sum(d.num_nodes for d in data.parts[2])
    x = torch.cat([d.x for d in data.parts[2]])
    mean = torch.cat([d.x for d in data.parts[0]]).mean(0)
    assert run.figures["latent_floats_per_node"] == run.figures["latent_floats"] / nodes
    assert run.figures["baselines"]["predict the mean"] == pytest.approx(
        float((x - mean).square().mean()), rel=1e-5
    )


def test_epoch_sampler_hangs_on_seed_and_epoch():
    a, b = EpochSampler(10, 0), EpochSampler(10, 0)
    assert sorted(a) == list(range(10))
    assert list(a) == list(b)
    b.set_epoch(1)
    assert list(a) != list(b)
    assert list(a) != list(EpochSampler(10, 1))


def test_patience_stops(tmp_path):
    run = train(tmp_path / "run", epochs=50, lr=1e-9, patience=3)
    assert run.figures["epochs"] < 50


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "spread", "connect": "induced", "quantiles": 4},
        {"norm": "graph_norm", "conv": "SAGEConv"},
        {"conv": {"class_path": "torch_geometric.nn.GATConv", "init_args": {"heads": 2}}},
        {"lift": "propagate", "schedule": "constant"},
        {"normalize": "rows", "dataset": "karate"},
        {"pool_ratios": [0.5, 7], "latent_channels": 3},
        {"mi_weight": 0.1, "kl_weight": 0.1},
        {"loader": "random", "batch_nodes": 20},
    ],
)
def test_options_train(tmp_path, changes):
    run = train(tmp_path / "run", epochs=2, **changes)
    assert np.isfinite(run.figures["mse"])
    if "latent_channels" in changes:
        assert run.figures["latent_floats"] == 7 * 3
    assert evaluate(run.folder)["mse"] == pytest.approx(run.figures["mse"], rel=1e-4)


def test_masked_autoencoding_ends_in_a_probe(tmp_path):
    run = train(tmp_path / "run", planted(), "masked", epochs=3, depth=1, hidden_channels=16)
    assert run.figures["test_accuracy"] > 0.8
    assert run.figures["propagate"] in (0, 10)
    assert run.figures["baselines"]["probe of the features"] > 0.5
    assert 0 < run.figures["masked_loss"] < 2


@pytest.mark.parametrize("net", ["plain", "mixed", "official"])
def test_classify_on_a_planted_partition(tmp_path, net):
    options = {"net": net, "lr": 0.05, "input_dropout": 0.2, "dropout": 0.2}
    options |= {} if net == "official" else {"skip": "none"}
    options |= {"depth": 1, "pool_ratios": 0.5, "hidden_channels": 16, "edge_dropout": 0.2}
    run = train(tmp_path / "run", planted(), "classify", **options, epochs=40)
    assert run.figures["test_accuracy"] > 0.75
    assert 0 < run.figures["baselines"]["majority class"] < 0.6
    assert run.figures["split"] == "nodes of one graph, public split: 20 train, 20 val, 20 test"
    again = evaluate(run.folder, dataset=planted())
    assert again["test_accuracy"] > 0.75
    shapes = embed(run.folder, tmp_path / "z.npz", dataset=planted())
    assert shapes["z"] == (60, 3)
    with pytest.raises(ValueError, match="'level' must be nodes"):
        embed(run.folder, tmp_path / "g.npz", dataset=planted(), level="graph")
    data = planted(masked=False)
    del data.y
    data.node_id = [f"n{i}" for i in range(60)]
    assert predict(run.folder, tmp_path / "p.csv", dataset=data)["label"] == (60,)
    rows = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert rows[0][:3] == ["graph", "node_id", "label"]
    assert rows[1][1] == "n0"
    right = [int(row[2]) == i % 3 for i, row in enumerate(rows[1:])]
    assert np.mean(right) > 0.75


@pytest.mark.parametrize("choose, monitor", [("loss", "val_loss"), ("accuracy", "val_accuracy")])
def test_the_best_epoch_is_chosen_as_said(tmp_path, choose, monitor):
    run = train(tmp_path / "run", planted(), "classify", epochs=20, choose=choose, lr=0.3)
    rows = list(csv.DictReader((run.folder / "history.csv").open()))
    values = [float(row[monitor]) for row in rows if row[monitor]]
    best = min(values) if choose == "loss" else max(values)
    row = next(row for row in rows if int(row["epoch"]) == run.figures["best_epoch"])
    assert float(row[monitor]) == best


def test_without_a_split_nodes_are_drawn_by_class(tmp_path):
    data = planted(masked=False)
    data.y[:6] = -1
    module = OneGraph(data)
    module.setup()
    masks = [module.whole[f"{part}_mask"] for part in ("train", "val", "test")]
    assert not (masks[0] | masks[1] | masks[2])[:6].any()
    assert int(sum(mask.sum() for mask in masks)) == 54
    for mask in masks:
        assert len(set(data.y[mask].bincount().tolist())) == 1
    run = train(tmp_path / "run", data, "classify", epochs=3)
    assert "split drawn (seed 0)" in run.figures["split"]


@pytest.mark.parametrize("of_graphs", [False, True])
def test_regress(tmp_path, of_graphs):
    dataset = planted(targets=True)
    if of_graphs:
        dataset = make_graphs(60)
        graphs = list(dataset)
        for data in graphs:
            data.y = torch.stack([data.x.mean(), torch.tensor(float(data.num_nodes))])[None]
        graphs[0].y[0, 0] = float("nan")  # not known
        dataset = GraphDataset("sizes", graphs)
    options = {"epochs": 60, "hidden_channels": 32, "lr": 0.02, "depth": 1}
    run = train(tmp_path / "run", dataset, "regress", **options)
    assert run.figures["test_mse"] < 0.5 * run.figures["baselines"]["predict the mean"]
    assert 0.5 < run.figures["test_r2"] <= 1
    again = evaluate(run.folder, dataset=dataset)
    assert np.isfinite(again["test_mse"])
    assert predict(run.folder, tmp_path / "p.npz", dataset=dataset)["target"][1] == 2


@pytest.mark.parametrize(
    "dataset, task, match",
    [
        ("ring", "classify", "needs one graph with labels of its nodes.*'ring' has 1 graph "),
        (
            Data(
                x=torch.eye(4),
                edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]),
                y=torch.tensor([0, 0, 1, 1]),
            ),
            "classify",
            "needs nodes of every part.*none to val",
        ),
        ("ring", "regress", "needs floating-point targets 'y'.*'ring' has none"),
        ("karate", "regress", "'karate' has torch.int64"),
        ("ring", "segment", "needs graphs with a label per node: 'dataset' 'ring' has none"),
        ("ring", "classify_graphs", "needs several graphs with a class each.*'ring' has 1 graph$"),
    ],
)
def test_tasks_refuse_what_they_cannot_use(tmp_path, dataset, task, match):
    with pytest.raises(ValueError, match=match):
        train(tmp_path / "run", dataset, task, depth=1)
    assert not (tmp_path / "run").exists()


class Shrinking(AutoEncode):
    """An extra loss term is one more entry in `terms`."""

    def terms(self, data):
        z, _ = self.encode(data)
        return {**super().terms(data), "size": 0.1 * z.square().mean()}


def test_a_task_of_ones_own(tmp_path):
    """By class path and as an object; curves of both terms are kept."""
    run = train(tmp_path / "run", "ring", f"{__name__}:Shrinking")
    header = (run.folder / "history.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,train_reconstruction,train_size,val_loss"
    model, data = load_run(run.folder)
    assert type(model).__name__ == "Shrinking"
    seen = []

    class Watch(__import__("pytorch_lightning").Callback):
        def on_train_epoch_end(self, trainer, module):
            seen.append(trainer.current_epoch)

    module = Shrinking(2, 3, hidden_channels=8, depth=1)
    other = fit(
        OneGraph("ring"), module, tmp_path / "object", epochs=3, accelerator="cpu",
        callbacks=[Watch()], logger="csv",
    )  # fmt: skip
    assert seen == [0, 1, 2]
    assert (tmp_path / "object" / "logs" / "metrics.csv").is_file()
    again, _ = load_run(other.folder)
    left, right = again.state_dict(), weights(other.folder / "best.ckpt")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_checkpoint_that_names_a_strangers_class_is_refused(tmp_path, ring_run):
    """Reading it would import the module, and so run it."""
    state = torch.load(ring_run.folder / "best.ckpt", weights_only=True)
    (tmp_path / "stranger.py").write_text("raise SystemExit('it ran')")
    for change in (
        {"task": "stranger.Task"},
        {"datamodule": "stranger:Data"},
        {"data": {"dataset": "stranger:Set"}},
        {"model": {"conv": {"class_path": "stranger.Conv"}}},
        {"trainer": {"callbacks": [{"class_path": "stranger.Callback"}]}},
    ):
        config = {**state["run"]["config"], **change}
        torch.save({**state, "run": {"config": config}}, tmp_path / "x.ckpt")
        for call in (
            lambda: evaluate(tmp_path / "x.ckpt"),
            lambda: fit(resume=tmp_path / "x.ckpt", out=tmp_path / "run"),
        ):
            with pytest.raises(ValueError, match="asks for 'stranger.*import 'stranger' first"):
                call()


def test_the_base_module_has_no_loss():
    with pytest.raises(NotImplementedError):
        GraphModule(2).terms(Data())
    with pytest.raises(ValueError, match="nothing to predict"):
        GraphModule(2).predict(Data())
    with pytest.raises(ValueError, match="has no embeddings"):
        GraphModule(2).embed(Data())


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("epochs", True, TypeError),
        ("lr", 0.0, ValueError),
        ("lr", float("nan"), ValueError),
        ("seed", -1, ValueError),
        ("seed", 2**63, ValueError),
        ("patience", -1, ValueError),
        ("depth", 0, ValueError),
        ("dropout", 1.0, ValueError),
        ("pool_ratios", 1.5, ValueError),
        ("pool_ratios", [0.5, 0.5, 0.5], ValueError),
        ("conv", "NoConv", ValueError),
        ("normalize", "columns", ValueError),
        ("schedule", "step", ValueError),
        ("batch_size", 0, ValueError),
        ("loader", "some", ValueError),
        ("num_neighbors", [0], ValueError),
        ("shares", [0.5, 0.5], ValueError),
        ("logger", "paper", ValueError),
        ("speed", 3, TypeError),
    ],
)
def test_bad_options_name_themselves_and_read_no_data(tmp_path, monkeypatch, name, value, error):
    if name != "logger":
        monkeypatch.setattr("pyg_gunet.load", lambda *a, **k: pytest.fail("data was read"))
    with pytest.raises(error, match=f"'{name}'"):
        train(tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


def test_slurm_variables_with_one_device_are_no_order(tmp_path, monkeypatch):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert train(tmp_path / "run", epochs=1).figures["epochs"] == 1


def test_options_of_a_module_are_saved_with_it(tmp_path):
    run = train(tmp_path / "run", planted(), "classify", depth=1, epochs=2)
    module = Classify.load_from_checkpoint(run.folder / "best.ckpt", map_location="cpu")
    assert module.hparams["depth"] == 1
    assert SMALL["hidden_channels"] == module.hparams["hidden_channels"]
