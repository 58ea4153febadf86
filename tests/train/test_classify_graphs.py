"""The task that classifies graphs."""

from __future__ import annotations

import json

import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_gunet.data import GraphDataset
from pyg_gunet.train import embed, evaluate, fit, load_run
from tests.train.conftest import train


def dataset_of(labelled=True) -> GraphDataset:
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
    return GraphDataset("toy", graphs)


@pytest.mark.parametrize("skip", ["sum", "none"])
def test_rings_and_stars(tmp_path, skip):
    dataset = dataset_of()
    options = {"epochs": 40, "lr": 0.01, "skip": skip, "dropout": 0.0, "batch_size": 16}
    options |= {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
    run = train(tmp_path / "run", dataset, "classify_graphs", normalize="none", **options)
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["test_accuracy"] == run.figures["test_accuracy"] == 1.0
    assert figures["baselines"]["majority class"] < 1.0
    assert "48 train, 6 validation, 6 test" in figures["split"]
    again = evaluate(tmp_path / "run", dataset=dataset)
    assert again["test_accuracy"] == 1.0
    assert again["split"] == "60 graphs, all tested"
    assert embed(run.folder, tmp_path / "z.npz", dataset=dataset)["z"][0] == 60


def test_weights_and_lone_coarse_nodes(tmp_path):
    """By default: edge weights are read, and a batch may end in a single node."""
    dataset = dataset_of()
    graphs = [graph.clone() for graph in dataset]
    for graph in graphs:
        graph.edge_weight = torch.ones(graph.num_edges)
    options = {"out": tmp_path / "run", "accelerator": "cpu", "progress": False}
    weighted = GraphDataset("toy", graphs)
    run = fit(weighted, "classify_graphs", epochs=1, batch_size=1, **options)
    module, data = load_run(run.folder, dataset=weighted)[0], Batch.from_data_list(graphs[:2])
    before = module(data)
    data.edge_weight = 5 * data.edge_weight
    assert not torch.allclose(module(data), before)
    options["out"] = tmp_path / "plain"
    fit(dataset, "classify_graphs", epochs=1, batch_size=1, pool_ratios=0.1, **options)


@pytest.mark.parametrize(
    "labelled, changes, error, match",
    [
        (False, {}, ValueError, "'task' classify_graphs needs several.*60 graph.*'y'"),
        (True, {"mi_weight": 1.0}, TypeError, "unknown option 'mi_weight'"),
        (True, {"loader": "random"}, TypeError, "unknown option 'loader'"),
    ],
)
def test_refuses_what_it_cannot_use(tmp_path, labelled, changes, error, match):
    with pytest.raises(error, match=match):
        train(tmp_path / "run", dataset_of(labelled), "classify_graphs", **changes)
