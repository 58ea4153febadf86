"""Masked auto-encoding as a task: what is hidden, what is held out, and by whose settings."""

from __future__ import annotations

import json

import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet import cli
from pyg_gunet.train import MaskedAutoEncode, OneGraph, embed, evaluate, fit, load_run, validate
from pyg_gunet.train.config import adapted, defaults, kind_of
from pyg_gunet.train.masked import held_out
from tests.train.conftest import equal_weights, make_graphs, planted, train

LINKS = {"hide": "links", "hidden_channels": 8, "num_layers": 2, "epochs": 30}


def links(out, data=None, **changes):
    return fit(planted() if data is None else data, "masked", out, **{**LINKS, **changes})


def words() -> Data:
    """Planted classes, features mostly zero."""
    data = planted()
    data.x = torch.cat([data.x > 1, torch.zeros(60, 60)], 1).float()
    return data


@pytest.mark.parametrize("make", [planted, words])
def test_a_run_on_links_from_the_first_step_to_embeddings(tmp_path, make):
    run = links(tmp_path / "run", make())
    figures = run.figures
    assert figures["test_accuracy"] > 0.9 > figures["baselines"]["probe of the features"] / 2
    assert figures["link_auc"] > 0.7
    assert {"val_accuracy", "masked_loss", "propagate"} <= set(figures)
    again = evaluate(run.folder, dataset=make())
    for name in ("val_accuracy", "link_auc", "masked_loss"):
        assert again[name] == pytest.approx(figures[name], rel=1e-5)
    read = validate(run.folder, dataset=make())
    assert read["val_auc"] == pytest.approx(figures["link_auc"], rel=1e-5)
    assert embed(run.folder, tmp_path / "z.npz", dataset=make(), picture=False)["z"] == (60, 16)
    shapes = embed(run.folder, tmp_path / "g.npz", dataset=make(), picture=False, level="graph")
    assert shapes["z"] == (1, 16)
    rows = (run.folder / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,train_loss,val_auc,val_loss"
    assert max(float(row.split(",")[2]) for row in rows[1:] if ",," not in row) == pytest.approx(
        figures["link_auc"], rel=1e-5
    )


def test_the_command_on_a_table_without_labels(tmp_path, capsys):
    edges = planted().edge_index.t().tolist()
    table = tmp_path / "edges.csv"
    table.write_text("source,target\n" + "".join(f"n{a},n{b}\n" for a, b in edges))
    args = ["fit", "--task", "masked", "--dataset", str(table), "--accelerator", "cpu", "--quiet"]
    args += ["--hidden-channels", "8", "--schedule", "constant"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert cli.main([*args, "--epochs", "20", "--out", str(whole)]) == 0
    assert cli.main([*args, "--epochs", "10", "--out", str(halves)]) == 0
    assert cli.main(["fit", "--resume", str(halves), "--epochs", "20", "--quiet"]) == 0
    assert equal_weights(whole / "last.ckpt", halves / "last.ckpt")
    figures = json.loads((whole / "metrics.json").read_text())
    assert figures["settings"]["model"]["hide"] == "links"
    assert "test_accuracy" not in figures
    assert figures["masked_loss"] > 0
    config = str(whole / "config.yaml")  # goes in again as it came out
    assert (
        cli.main([*args, "--config", config, "--epochs", "10", "--out", str(tmp_path / "c")]) == 0
    )
    parts = ["--loader", "random", "--batch-nodes", "20", "--epochs", "10"]
    assert cli.main([*args, *parts, "--out", str(tmp_path / "parts")]) == 0
    assert cli.main([*args, "--mask", "0.3", "--hide", "links"]) == 2
    assert "'mask' goes with hide='features' (got 0.3, hide='links')" in capsys.readouterr().err


def test_what_is_held_out_is_seen_by_no_step():
    model = MaskedAutoEncode(3, hide="links", hidden_channels=8, normalize="none")
    data = OneGraph(planted(), loader="random", batch_nodes=20)
    data.setup()
    model.learn_statistics(data.train_graphs())
    whole, seen = data.whole, []
    held = {tuple(sorted(edge)) for edge in whole.edge_index[:, whole.held_edge].t().tolist()}
    proper = {tuple(sorted(edge)) for edge in whole.edge_index.t().tolist() if edge[0] != edge[1]}
    assert len(held) == round(0.1 * len(proper))
    model.net.register_forward_hook(lambda _, args, out: seen.append(args[:2]))
    whole.x[:, 0] = torch.arange(60.0)  # names the nodes of a part
    for part in [whole, *data.train_dataloader()]:
        model.terms(part)
        x, edges = seen.pop()
        edges = x[:, 0].long()[edges].t().tolist()
        assert edges
        assert not held & {tuple(sorted(edge)) for edge in edges}
    model.eval()
    model._told(whole)
    assert seen[-1][1].size(1) == int((~whole.held_edge).sum())
    assert model.embed(whole)["z"].isfinite().all()
    few = held_out(torch.tensor([[0, 1, 1], [1, 0, 1]]), 0)
    assert not few.any()
    assert not torch.equal(held_out(whole.edge_index, 0), held_out(whole.edge_index, 1))


def test_settings_by_what_is_hidden(tmp_path):
    links, features = defaults("masked"), defaults("masked_features")
    assert kind_of("masked", "karate")[1] == "masked"
    for many in ("TU/MUTAG", "images:here"):
        assert defaults(kind_of("masked", many)[1])["model"] == features["model"]
    for own in ({}, {"depth": 0}, {"hide": "links", "mask": 0.3}, {"lr": 0.1}):
        assert adapted(links, own) == links
    for own in (
        {"depth": 2},
        {"mask": 0.3},
        {"conv": "GATConv"},
        {"norm": "x"},
        {"select": "topk"},
    ):
        assert adapted(links, own) == features
    assert adapted(features, {"hide": "links"}) == links
    run = train(tmp_path / "graphs", make_graphs(), "masked", depth=1)
    assert run.figures["settings"]["model"]["hide"] == "features"
    run = fit(make_graphs(), "masked", tmp_path / "links", **{**LINKS, "epochs": 10})
    assert 0 < run.figures["masked_loss"] < 5
    model, data = load_run(run.folder, dataset=make_graphs())
    assert (model.monitor, model.mode) == ("val_auc", "max")


@pytest.mark.parametrize("name, value", [("depth", 1), ("pool_ratios", 0.3), ("conv", "GATConv")])
def test_options_of_the_other_way(name, value):
    with pytest.raises(ValueError, match=f"'{name}' goes with hide='features'"):
        MaskedAutoEncode(3, hide="links", **{name: value})
    with pytest.raises(ValueError, match="'num_layers' goes with hide='links'"):
        MaskedAutoEncode(3, num_layers=3, **{name: value})
    with pytest.raises(ValueError, match="'hide' must be one of"):
        MaskedAutoEncode(3, hide="nodes")
    with pytest.raises(ValueError, match="'skip' must be one of"):
        MaskedAutoEncode(3, skip="all")


@pytest.mark.parametrize("edges", [[[0], [1]], [[0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1]]])
def test_graphs_of_hardly_a_link_or_of_all(tmp_path, edges):
    data = Data(x=torch.rand(len(edges[0]) // 2 + 2, 3), edge_index=torch.tensor(edges))
    run = links(tmp_path / "run", data, epochs=3)
    assert run.figures["masked_loss"] >= 0


def test_a_graph_without_links_is_refused(tmp_path):
    data = Data(x=torch.rand(4, 3), edge_index=torch.tensor([[0], [0]]))
    with pytest.raises(ValueError, match="'hide' links needs links"):
        links(tmp_path / "run", data)
    assert not (tmp_path / "run").exists()


def test_held_out_links_are_those_that_count(tmp_path):
    """Weights of edges go with their edges."""
    data = planted()
    data.edge_weight = torch.rand(data.num_edges)
    model = MaskedAutoEncode(3, hide="links", hidden_channels=8)
    data.held_edge = held_out(data.edge_index, 0)
    seen = []
    model.net.register_forward_hook(lambda _, args, out: seen.append(args))
    model.terms(data)
    assert torch.equal(seen[0][3], data.edge_weight[~data.held_edge])


def test_settings_of_a_run_on_features_are_settings_of_a_run(tmp_path):
    fit = ["fit", "--quiet", "--accelerator", "cpu", "--epochs", "1", "--out"]
    run = ["--task", "masked", "--hide", "features", "--dataset", "karate"]
    assert cli.main([*fit, str(tmp_path / "a"), *run, "--hidden-channels", "8"]) == 0
    assert cli.main([*fit, str(tmp_path / "b"), "--config", str(tmp_path / "a/config.yaml")]) == 0
    assert equal_weights(tmp_path / "a/last.ckpt", tmp_path / "b/last.ckpt")
