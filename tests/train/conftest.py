"""Runs that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet.data import GraphDataset
from pyg_gunet.settings import Settings
from pyg_gunet.train import fit

SMALL = {"hidden_channels": 8, "depth": 2, "epochs": 4, "accelerator": "cpu"}
FILES = ["best.ckpt", "history.csv", "last.ckpt", "loss.png", "metrics.json", "reconstruction.png"]


def settings(**changes) -> Settings:
    return Settings(**{"dataset": "ring", **SMALL, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def equal_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module", autouse=True)
def quick_pictures():
    """Drawing takes longer than training here: the figures are made, but not rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyg_gunet.train.pictures._save", lambda figure, path: path.touch())
        yield


@pytest.fixture(scope="module")
def ring_run(tmp_path_factory):
    return fit(settings(dropout=0.1), tmp_path_factory.mktemp("runs") / "ring")


@pytest.fixture
def toy_graphs(monkeypatch):
    """A data set of many small graphs, under the name of a graph file."""
    torch.manual_seed(0)
    graphs = []
    for n in torch.randint(5, 12, (20,)).tolist():
        edges = torch.combinations(torch.arange(n)).t()[:, ::2]
        graphs.append(Data(x=torch.randn(n, 3), edge_index=torch.cat([edges, edges.flip(0)], 1)))
    dataset = GraphDataset("toy", graphs)
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)
    return dataset
