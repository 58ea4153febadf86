"""PyG's loaders and our own parts of a graph: what a step sees, and which of its nodes count."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch_geometric import loader as pyg
from torch_geometric import typing
from torch_geometric.data import Data
from torch_geometric.utils import k_hop_subgraph

from pyg_gunet import GraphUNet
from pyg_gunet.train import fit
from pyg_gunet.train.classify import Classify, counted
from pyg_gunet.train.data import OneGraph
from pyg_gunet.train.loading import NodeParts, sample_neighbors
from tests.conftest import random_graph
from tests.pyg import two_fits

needs_sampling = pytest.mark.skipif(
    not (typing.WITH_PYG_LIB or typing.WITH_TORCH_SPARSE),
    reason="NeighborLoader needs pyg-lib or torch-sparse",
)


def planted(num_nodes: int = 120, seed: int = 0) -> Data:
    """Three classes, edges within them, features that tell."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(num_nodes) % 3
    edges = torch.randint(num_nodes, (2, 12 * num_nodes), generator=generator)
    edges = edges[:, y[edges[0]] == y[edges[1]]].unique(dim=1)
    x = F.one_hot(y, 3) + torch.rand(num_nodes, 3, generator=generator)
    data = Data(x=x, y=y, edge_index=torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1))
    order = torch.randperm(num_nodes, generator=generator)
    for name, part in zip(("train_mask", "val_mask", "test_mask"), order.chunk(3)):
        data[name] = torch.zeros(num_nodes, dtype=torch.bool).index_fill(0, part, True)
    return data


def classifier(**changes) -> Classify:
    torch.manual_seed(0)
    return Classify(3, 3, depth=1, hidden_channels=16, skip="sum", **changes)


def seeds_alone_count(part: Data, seeds: torch.Tensor) -> None:
    """The loss is the mean over the seeds: another label elsewhere changes nothing."""
    module = classifier()
    loss = module.terms(part)["class"]
    logits = module(part)
    torch.testing.assert_close(loss, F.cross_entropy(logits[seeds], part.y[seeds]))
    assert int(module.weight(part)) == int(seeds.sum())
    other = copy.copy(part)
    other.y = torch.where(seeds, part.y, (part.y + 1) % 3)
    assert torch.equal(module.terms(other)["class"], loss)
    assert bool((~seeds).any())
    other.y = (part.y + 1) % 3
    assert not torch.equal(module.terms(other)["class"], loss)


# PyG's loaders ----------------------------------------------------------------------------------


def graph_batches(kind: str) -> pyg.DataLoader:
    dataset = two_fits.graphs()
    graphs = [copy.copy(dataset[i]) for i in range(len(dataset))]
    for i, data in enumerate(graphs):
        data.y = torch.tensor([int(i % 6 == 0)])  # one class has five times the graphs
    if kind == "DataLoader":
        return pyg.DataLoader(graphs, batch_size=5, shuffle=True, follow_batch=["x"])
    if kind == "ImbalancedSampler":
        return pyg.DataLoader(graphs, batch_size=5, sampler=pyg.ImbalancedSampler(graphs))
    sampler = pyg.DynamicBatchSampler(graphs, max_num=40, mode="node", shuffle=True)
    return pyg.DataLoader(graphs, batch_sampler=sampler)


@pytest.mark.parametrize("kind", ["DataLoader", "ImbalancedSampler", "DynamicBatchSampler"])
def test_batches_of_graphs(kind):
    """Every batch trains, and is its graphs; the same graph twice in a batch is two."""
    torch.manual_seed(0)
    model = GraphUNet(3, 8, 2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sizes = []
    for batch in graph_batches(kind):
        out = model(batch.x, batch.edge_index, batch.batch)
        alone = [model(data.x, data.edge_index) for data in batch.to_data_list()]
        torch.testing.assert_close(out, torch.cat(alone))
        optimizer.zero_grad()
        out.square().mean().backward()
        optimizer.step()
        sizes.append(batch.num_nodes)
    assert len(sizes) > 1
    assert kind != "DynamicBatchSampler" or max(sizes) <= 40


def test_random_nodes():
    torch.manual_seed(0)
    data = planted()
    data.number = torch.arange(data.num_nodes)
    model, seen = GraphUNet(3, 8, 3, 2), []
    for part in pyg.RandomNodeLoader(data, num_parts=4, shuffle=True):
        seen.append(part.number)
        same = data.subgraph(part.number)
        expected = model(same.x, same.edge_index)
        torch.testing.assert_close(model(part.x, part.edge_index), expected)
        loss = classifier().terms(part)["class"]  # all its nodes are seeds
        logits = classifier()(part)[part.train_mask]
        torch.testing.assert_close(loss, F.cross_entropy(logits, part.y[part.train_mask]))
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(120))


@needs_sampling
def test_neighbors_of_pyg():
    data = planted()
    loader = pyg.NeighborLoader(data, [4, 4], data.train_mask, batch_size=8)
    count = 0
    for part in loader:
        seeds = torch.arange(part.num_nodes) < part.batch_size
        assert torch.equal(counted(part, "train_mask"), seeds)
        seeds_alone_count(part, seeds)
        count += int(seeds.sum())
    assert count == int(data.train_mask.sum())


class DrawnClusters(pyg.ClusterData):
    """Clusters by chance where there is no METIS: the loader and all that follows is the same."""

    def _metis(self, edge_index: torch.Tensor, num_nodes: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randperm(num_nodes, generator=generator) % self.num_parts


def test_clusters_without_metis_say_what_to_install():
    try:
        assert len(pyg.ClusterData(planted(12), num_parts=2, log=False)) == 2
    except ImportError:
        with pytest.raises(ImportError, match="'pyg-lib' or 'torch-sparse'"):
            pyg.ClusterData(planted(12), num_parts=2, log=False)


@pytest.mark.parametrize("kind", [DrawnClusters, pyg.ClusterData])
def test_clusters(kind):
    """Every node once; a batch is the subgraph of its clusters' nodes, training nodes count."""
    data = planted()
    data.number = torch.arange(data.num_nodes)
    try:
        clusters = kind(data, num_parts=4, log=False)
    except ImportError:
        pytest.skip("ClusterData needs METIS, of pyg-lib or of torch-sparse built with it")
    torch.manual_seed(0)
    model, seen = GraphUNet(3, 8, 3, 2), []
    for part in pyg.ClusterLoader(clusters, batch_size=2, shuffle=True):
        seen.append(part.number)
        same = data.subgraph(part.number.sort().values)
        expected = model(same.x, same.edge_index)[part.number.argsort().argsort()]
        torch.testing.assert_close(model(part.x, part.edge_index), expected)
        loss = classifier().terms(part)["class"]
        logits = classifier()(part)[part.train_mask]
        torch.testing.assert_close(loss, F.cross_entropy(logits, part.y[part.train_mask]))
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(120))


@pytest.mark.skipif(not typing.WITH_TORCH_SPARSE, reason="GraphSAINT needs torch-sparse")
@pytest.mark.parametrize("kind", ["Node", "Edge", "RandomWalk"])
def test_graph_saint(kind):
    """Its weights of nodes and edges go into the loss and the convolutions."""
    data = planted()
    sampler = getattr(pyg, f"GraphSAINT{kind}Sampler")
    options = {"walk_length": 2} if kind == "RandomWalk" else {}
    model = GraphUNet(3, 8, 3, 2)
    for part in sampler(data, 30, num_steps=2, sample_coverage=2, log=False, **options):
        logits = model(part.x, part.edge_index, None, part.edge_norm)
        loss = (F.cross_entropy(logits, part.y, reduction="none") * part.node_norm).sum()
        model.zero_grad()
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        plain = model(part.x, part.edge_index)
        assert not torch.allclose(plain, logits)


# Our own parts ----------------------------------------------------------------------------------


def compressed(edge_index: torch.Tensor, num_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    target, order = torch.sort(edge_index[1], stable=True)
    counts = target.bincount(minlength=num_nodes)
    return edge_index[0][order], torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_all_neighbors_are_those_of_pyg(hops):
    graph = random_graph(60, 90, directed=True)
    source, ptr = compressed(graph.edge_index, 60)
    seeds = torch.tensor([7, 3, 50])
    nodes = sample_neighbors(source, ptr, seeds, [-1] * hops)
    expected, *_ = k_hop_subgraph(seeds, hops, graph.edge_index, num_nodes=60)
    assert nodes[:3].tolist() == [7, 3, 50]
    assert torch.equal(nodes.sort().values, expected)


def test_some_neighbors_are_drawn_evenly_and_without_replacement():
    """Of a star's 10 leaves 3 are drawn: each leaf in 3 of 10 draws, and no draw of fewer."""
    source, ptr = torch.arange(1, 11), torch.tensor([0, *[10] * 11])
    generator = torch.Generator().manual_seed(0)
    times = torch.zeros(11)
    for _ in range(1000):
        nodes = sample_neighbors(source, ptr, torch.tensor([0]), [3, 3], generator)
        assert nodes.numel() == nodes.unique().numel() == 4
        times[nodes] += 1
    # Five standard deviations of a binomial count.
    assert bool(((times[1:] - 300).abs() < 5 * (1000 * 0.3 * 0.7) ** 0.5).all())
    alike = [
        sample_neighbors(source, ptr, torch.tensor([0]), [3], torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert torch.equal(*alike)


def test_a_part_keeps_the_order_and_all_attributes():
    data = planted()
    data.edge_weight = torch.arange(data.num_edges).float()
    nodes = data.number = torch.arange(120)
    part = NodeParts(data, nodes, 40)[0]
    nodes = part.number
    dense = torch.zeros(120, 120).index_put(tuple(data.edge_index), data.edge_weight + 1)
    found = torch.zeros(40, 40).index_put(tuple(part.edge_index), part.edge_weight + 1)
    assert torch.equal(found, dense[nodes][:, nodes])
    for key in ("x", "y", "train_mask"):
        assert torch.equal(part[key], data[key][nodes])


@pytest.mark.parametrize("num_neighbors", [None, (2, 2)])
def test_parts_hold_each_node_once_and_hang_on_seed_and_epoch(num_neighbors):
    data = planted()
    data.number = torch.arange(120)
    nodes = data.train_mask.nonzero().view(-1)

    def epoch(number: int, seed: int = 0) -> list[torch.Tensor]:
        parts = NodeParts(data, nodes, 15, num_neighbors, seed)
        parts.epoch = number
        assert len(parts) == 3
        out = []
        for part in parts:
            own = part.get("seed_mask", torch.ones(part.num_nodes, dtype=torch.bool))
            out.append(part.number[own])
            if num_neighbors:
                assert bool(own[: int(own.sum())].all())  # seeds come first
        return out

    first = epoch(0)
    assert [len(part) for part in first] == [15, 15, 10]
    assert torch.equal(torch.cat(first).sort().values, nodes)
    assert all(torch.equal(a, b) for a, b in zip(first, epoch(0)))
    assert not torch.equal(first[0], epoch(1)[0])
    assert not torch.equal(first[0], epoch(0, seed=1)[0])


def test_only_seed_nodes_count():
    data = planted()
    total = 0
    held = OneGraph(data, loader="neighbor", batch_nodes=10, num_neighbors=[3, 3], batch_size=2)
    held.setup()
    for batch in held.train_dataloader():
        assert batch.num_graphs == 2
        seeds_alone_count(batch, batch.seed_mask)
        total += int(batch.seed_mask.sum())
    assert total == 40


def test_a_part_without_training_nodes_is_no_nan():
    data = planted()
    data.train_mask = torch.zeros(120, dtype=torch.bool)
    module = classifier()
    loss = module.terms(data)["class"]
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(not bool(p.grad.any()) for p in module.parameters())


# fit --------------------------------------------------------------------------------------------


SMALL = {"hidden_channels": 16, "depth": 1, "accelerator": "cpu", "batch_size": 2, "lr": 0.02}
PLAIN = {"net": "plain", "skip": "sum", "consistency": 0.0, "dropout": 0.2, **SMALL}


@pytest.mark.parametrize("loader, size", [("random", 20), ("neighbor", 7)])
def test_fit_on_parts_classifies_the_whole_graph(tmp_path, loader, size):
    parts = {"loader": loader, "batch_nodes": size, "epochs": 12}
    run = fit(planted(), "classify", tmp_path / "run", **parts, **PLAIN)
    assert run.figures["test_accuracy"] > 0.9
    assert run.figures["split"].endswith(f"trained in 6 parts ({loader})")


class StopsEarly(Callback):
    """Ends a run as a signal would, after its second epoch."""

    def on_train_epoch_start(self, trainer, module):
        trainer.should_stop |= trainer.current_epoch == 1


def test_resume_on_parts_equals_an_unbroken_run(tmp_path):
    torch.save(planted(), tmp_path / "planted.pt")
    given = {"loader": "neighbor", "batch_nodes": 8, "epochs": 4, **PLAIN}
    name = str(tmp_path / "planted.pt")
    fit(name, "classify", tmp_path / "whole", **given)
    fit(name, "classify", tmp_path / "broken", callbacks=[StopsEarly()], **given)
    fit(resume=tmp_path / "broken")
    whole, broken = ((tmp_path / name / "history.csv").read_text() for name in ("whole", "broken"))
    assert whole == broken
    assert len(whole.splitlines()) == 5


def test_autoencode_on_random_parts(tmp_path):
    data = planted()
    parts = {"loader": "random", "batch_nodes": 50, "epochs": 2}
    run = fit(data, out=tmp_path / "r", **parts, **SMALL)
    assert run.figures["split"] == "one graph, trained in 3 parts (random), tested on all its nodes"
    x = data.x
    mean = float((x - x.mean(0)).square().mean())
    assert run.figures["baselines"]["predict the mean"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"loader": "neighbor"}, "'loader' neighbor goes with a data set that has training nodes"),
        ({"loader": "cluster"}, "'loader' must be one of 'full', 'random', 'neighbor'"),
        ({"num_neighbors": [3, -2]}, "'num_neighbors' must hold a count per hop"),
        ({"num_neighbors": [0.5]}, "'num_neighbors' must hold a count per hop"),
    ],
)
def test_what_does_not_go_is_refused(tmp_path, changes, match):
    data = planted()
    for mask in ("train_mask", "val_mask", "test_mask", "y"):
        del data[mask]
    with pytest.raises(ValueError, match=match):
        fit(data, out=tmp_path / "run", accelerator="cpu", **changes)


def test_many_graphs_are_no_parts(tmp_path):
    with pytest.raises(TypeError, match="'loader'"):
        fit("digits", out=tmp_path / "run", loader="random", accelerator="cpu")
