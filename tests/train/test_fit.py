"""What a fit writes, and what it learns."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet.data import GraphDataset, load
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.train import TASKS, GraphModule, Task, embed, evaluate, fit, register_task
from pyg_gunet.train.autoencode import AutoEncode
from pyg_gunet.train.baselines import pca_mse
from pyg_gunet.train.tasks import EpochSampler, graph_splits
from tests.train.conftest import FILES, equal_weights, settings, weights


def test_fit_writes_its_files(ring_run):
    assert sorted(os.listdir(ring_run.folder)) == FILES
    assert sorted(path.name for path in ring_run.files) == FILES
    figures = json.loads((ring_run.folder / "metrics.json").read_text())
    assert figures == ring_run.figures
    assert figures["latent_floats"] == 16 * figures["settings"]["latent_channels"]
    rows = (ring_run.folder / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,train_loss,val_loss"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_figures_are_those_of_the_best_checkpoint(ring_run):
    """Recomputed by hand from the weights in the file."""
    data, figures = load("ring")[0], ring_run.figures
    state = weights(ring_run.folder / "best.ckpt")
    chosen = figures["settings"]
    net = GraphUNetAutoEncoder(2, 8, chosen["latent_channels"], 2, select=chosen["select"])
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    mean, scale = data.x.mean(0), (data.x - data.x.mean(0)).square().mean().sqrt()
    with torch.no_grad():
        x_hat = net.eval()((data.x - mean) / scale, data.edge_index, None, data.edge_weight)
    mse = (x_hat * scale + mean - data.x).square().mean()
    assert figures["mse"] == pytest.approx(float(mse), rel=1e-4)
    assert figures["baselines"]["predict the mean"] == pytest.approx(float(scale) ** 2, rel=1e-5)
    expected = pca_mse(data.x, data.x, figures["latent_floats"])[0]
    assert figures["baselines"]["PCA of equal latent size"] == pytest.approx(expected)


def test_evaluate_agrees_with_fit(ring_run):
    for ckpt in (ring_run.folder / "best.ckpt", ring_run.folder):
        figures = evaluate(ckpt)
        assert figures["mse"] == pytest.approx(ring_run.figures["mse"], rel=1e-6)
        assert figures["baselines"] == ring_run.figures["baselines"]


def test_training_learns(tmp_path):
    run = fit(settings(epochs=25, hidden_channels=16, lr=0.02), tmp_path / "run")
    assert run.figures["mse"] < 0.5 * run.figures["baselines"]["PCA of equal latent size"]


def test_same_seed_same_bits(tmp_path, ring_run):
    fit(settings(dropout=0.1), tmp_path / "same")
    fit(settings(dropout=0.1, seed=1), tmp_path / "other")
    assert equal_weights(tmp_path / "same" / "last.ckpt", ring_run.folder / "last.ckpt")
    assert not equal_weights(tmp_path / "other" / "last.ckpt", ring_run.folder / "last.ckpt")


def test_many_graphs_are_split(tmp_path, toy_graphs):
    run = fit(settings(epochs=2), tmp_path / "run")
    assert run.figures["split"].endswith("16 train, 2 validation, 2 test")
    splits = graph_splits(settings(), toy_graphs)
    parts = [loader.dataset for loader in (splits.train, splits.val, splits.test)]
    seen = sorted(float(d.x.sum()) for part in parts for d in part)
    assert seen == sorted(float(d.x.sum()) for d in toy_graphs)  # each graph in one part
    nodes = sum(d.num_nodes for d in parts[2])
    x = torch.cat([d.x for d in parts[2]])
    mean = torch.cat([d.x for d in parts[0]]).mean(0)
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
    run = fit(settings(epochs=50, lr=1e-9, patience=3), tmp_path / "run")
    assert run.figures["epochs"] < 50


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "topk", "connect": "induced"},
        {"skip": "cat", "norm": "graph_norm"},
        {"fill": "propagate"},
        {"loss_fn": "sce", "normalize": "none"},
        {"normalize": "rows", "dataset": "karate"},
        {"pool_ratios": (0.5, 7), "latent_channels": 3},
    ],
)
def test_options_train(tmp_path, changes):
    run = fit(settings(epochs=2, **changes), tmp_path / "run")
    assert np.isfinite(run.figures["mse"])
    if "latent_channels" in changes:
        assert run.figures["latent_floats"] == 7 * 3


def planted(monkeypatch) -> None:
    """Three classes of 20 nodes, without edges between them, in place of any data set."""
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    edges = torch.randint(60, (2, 600))
    edges = edges[:, y[edges[0]] == y[edges[1]]]
    x = torch.nn.functional.one_hot(y, 3) + torch.rand(60, 3)
    data = Data(x=x, y=y, edge_index=edges)
    order = torch.randperm(60)
    for name, part in zip(("train_mask", "val_mask", "test_mask"), order.split(20)):
        data[name] = torch.zeros(60, dtype=torch.bool).index_fill(0, part, True)
    dataset = GraphDataset("planted", [data])
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)


def test_masked_autoencoding_ends_in_a_probe(tmp_path, monkeypatch):
    planted(monkeypatch)
    run = fit(settings(mask=0.5, epochs=3), tmp_path / "run")
    assert run.figures["test_accuracy"] > 0.8
    assert run.figures["propagate"] in (0, 10)
    assert run.figures["baselines"]["probe of the features"] > 0.5
    assert 0 < run.figures["masked_loss"] < 2


def test_classify_on_a_planted_partition(tmp_path, monkeypatch):
    planted(monkeypatch)
    run = fit(settings(task="classify", epochs=25, lr=0.05, dropout=0.2), tmp_path / "run")
    assert run.figures["test_accuracy"] > 0.8
    assert 0 < run.figures["baselines"]["majority class"] < 0.6
    assert evaluate(run.folder)["test_accuracy"] == run.figures["test_accuracy"]
    with pytest.raises(ValueError, match="'classify', which has no embeddings"):
        embed(run.folder, tmp_path / "z.npz")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"dataset": "ring"}, "without y, train_mask, val_mask, test_mask"),
        ({"dataset": "karate"}, "without val_mask, test_mask"),
        ({"dataset": "karate", "latent_channels": 3}, "'latent_channels' has no meaning"),
        ({"dataset": "karate", "loss_fn": "sce"}, "'loss_fn' has no meaning"),
        ({"dataset": "karate", "skip": "none"}, "'skip' must be 'sum' or 'cat'"),
    ],
)
def test_classify_refuses_what_it_cannot_use(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        fit(settings(task="classify", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_new_task_needs_one_registration(tmp_path):
    """An extra loss term is one more entry in `terms`; curves of both are kept."""

    class Shrinking(AutoEncode):
        def terms(self, data):
            z, _ = self.encode(data)
            return {**super().terms(data), "size": 0.1 * z.square().mean()}

    base = TASKS["autoencode"]
    task = Task("shrink", Shrinking, base.channels, base.defaults, base.prepare, base.report)
    try:
        register_task(task)
        run = fit(settings(task="shrink"), tmp_path / "run")
        header = (run.folder / "history.csv").read_text().splitlines()[0]
        assert header == "epoch,train_loss,train_reconstruction,train_size,val_loss"
        with pytest.raises(ValueError, match="'task' must have a new name"):
            register_task(task)
    finally:
        del TASKS["shrink"]
    with pytest.raises(ValueError, match="'task' must be one of 'autoencode', 'classify'"):
        evaluate(run.folder)


def test_the_base_module_has_no_loss():
    with pytest.raises(NotImplementedError):
        GraphModule(settings().as_dict(), {"in_channels": 2}).terms(Data())
