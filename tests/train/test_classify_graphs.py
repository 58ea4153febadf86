"""The task that classifies graphs."""

from __future__ import annotations

import json

import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet.data import GraphDataset
from pyg_gunet.train import evaluate, fit
from tests.train.conftest import settings


def dataset_of(monkeypatch, labelled=True) -> GraphDataset:
    """Rings and stars: the same nodes, told apart by their edges alone."""
    graphs = []
    for i in range(60):
        n = 6 + i % 7
        ring = torch.stack([torch.arange(n), torch.arange(1, n + 1) % n])
        star = torch.stack([torch.zeros(n - 1, dtype=torch.long), torch.arange(1, n)])
        edges = star if i % 2 else ring
        data = Data(x=torch.ones(n, 2), edge_index=torch.cat([edges, edges.flip(0)], 1))
        if labelled:
            data.y = torch.tensor([i % 2])
        graphs.append(data)
    dataset = GraphDataset("toy", graphs)
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)
    return dataset


@pytest.mark.parametrize("skip", ["sum", "none"])
def test_rings_and_stars(tmp_path, monkeypatch, skip):
    dataset_of(monkeypatch)
    options = {"epochs": 15, "lr": 0.02, "skip": skip, "dropout": 0.0, "batch_size": 16}
    run = fit(settings(task="classify_graphs", **options), tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["test_accuracy"] == run.figures["test_accuracy"] == 1.0
    assert figures["baselines"]["majority class"] < 1.0
    assert "48 train, 6 validation, 6 test" in figures["split"]
    again = evaluate(tmp_path / "run")
    assert again["test_accuracy"] == 1.0
    assert again["val_accuracy"] == figures["val_accuracy"]


@pytest.mark.parametrize(
    "labelled, changes, match",
    [
        (False, {}, "'task' classify_graphs needs several.*60 graph.*'y'"),
        (True, {"loss_fn": "mse"}, "'loss_fn' has no meaning.*'mse'"),
        (True, {"loader": "random"}, "'loader'.*'random'"),
    ],
)
def test_refuses_what_it_cannot_use(tmp_path, monkeypatch, labelled, changes, match):
    dataset_of(monkeypatch, labelled)
    with pytest.raises(ValueError, match=match):
        fit(settings(task="classify_graphs", **changes), tmp_path / "run")


def test_refuses_one_graph(tmp_path):
    with pytest.raises(ValueError, match=r"needs several graphs.*'ring' has 1 graph"):
        fit(settings(task="classify_graphs"), tmp_path / "run")
