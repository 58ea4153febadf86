"""Runs that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet.data import GraphDataset
from pyg_gunet.train import fit

SMALL = {"hidden_channels": 8, "depth": 2, "epochs": 4, "accelerator": "cpu"}
RING = {"dropout": 0.1, "pool_ratios": 0.5, "latent_channels": 4}
FILES = ["best.ckpt", "config.yaml", "history.csv", "last.ckpt", "levels.png", "loss.png"]
FILES += ["metrics.json", "reconstruction.png", "report.html"]


def train(out: Path, dataset="ring", task="autoencode", **changes):
    """A short fit."""
    return fit(dataset, task, out, **{**SMALL, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def equal_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module", autouse=True)
def drawn_quickly(quick_pictures):
    pass


@pytest.fixture(scope="module")
def ring_run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "ring", **RING)


def make_graphs(count: int = 20) -> GraphDataset:
    """Many small graphs."""
    torch.manual_seed(0)
    graphs = []
    for n in torch.randint(5, 12, (count,)).tolist():
        edges = torch.combinations(torch.arange(n)).t()[:, ::2]
        graphs.append(Data(x=torch.randn(n, 3), edge_index=torch.cat([edges, edges.flip(0)], 1)))
    return GraphDataset("toy", graphs)


@pytest.fixture
def toy_graphs(monkeypatch):
    """A data set of many small graphs, under any name."""
    dataset = make_graphs()
    monkeypatch.setattr("pyg_gunet.load", lambda name, root, **options: dataset)
    return dataset


def planted(masked: bool = True, targets: bool = False) -> Data:
    """Three classes of 20 nodes, without edges between them."""
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    edges = torch.randint(60, (2, 600))
    edges = edges[:, y[edges[0]] == y[edges[1]]]
    x = torch.nn.functional.one_hot(y, 3) + torch.rand(60, 3)
    data = Data(x=x, y=y, edge_index=edges)
    order = torch.randperm(60)
    for name, part in zip(("train_mask", "val_mask", "test_mask"), order.split(20)):
        if masked:
            data[name] = torch.zeros(60, dtype=torch.bool).index_fill(0, part, True)
    if targets:
        data.y = torch.stack([y + 0.1 * x[:, 0], 2.0 - y], 1).float()
    return data
