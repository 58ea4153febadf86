"""The protocol of the classification benchmarks: who reads the test part, and when."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no benchmarks beside the tests")


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])


TRIALS = {name: [{"a": a} for a in range(4)] for name in ("one", "ours: x", "ours: y")}
STAGES = ((4, 1), (2, 3))


def trainer(calls):
    """Validation says that the highest `a` is best; the test figures say the contrary."""

    def train(system, config, seed, final):
        calls.append((system, config["a"], seed, final))
        val = 10.0 * config["a"] + (system == "ours: y")
        test = 100.0 - val + seed % 2 if final else None
        return {"val": val, "val_loss": 1.0, "epoch": 1, "test": test, "seconds": 0.0}

    return train


def test_search_halves_and_test_seeds_come_last(tmp_path):
    from _classification import SEARCH, Runs, run_all

    calls: list = []
    runs = Runs(tmp_path / "runs.csv", "toy", trainer(calls), None)
    _, records = run_all(runs, TRIALS, STAGES, 2, "b", ["ours: x", "ours: y"])
    finals = [call[3] for call in calls]
    assert finals == sorted(finals)  # no test node before the last search has ended
    assert [call[1:3] for call in calls if call[0] == "one" and not call[3]] == [
        (0, SEARCH), (1, SEARCH), (2, SEARCH), (3, SEARCH),
        (3, SEARCH + 1), (3, SEARCH + 2), (2, SEARCH + 1), (2, SEARCH + 2),
    ]  # fmt: skip
    assert {call[1] for call in calls if call[3]} == {3}
    accuracy = {
        r["system"]: (r["value"], r["n"]) for r in records if r["metric"] == "test_accuracy"
    }
    assert accuracy["ours"] == accuracy["ours: y"] == (pytest.approx(69.5), 2)
    assert accuracy["one"] == (pytest.approx(70.5), 2)
    with (tmp_path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(bool(row["test"]) == (int(row["seed"]) < SEARCH) for row in rows)
    again: list = []  # all runs are read back
    other = Runs(tmp_path / "runs.csv", "toy", trainer(again), None)
    assert run_all(other, TRIALS, STAGES, 2, "b", ["ours: x", "ours: y"])[1] == records
    assert again == []


def test_without_stages_the_first_configuration_is_the_choice(tmp_path):
    from _classification import Runs, run_all

    calls: list = []
    runs = Runs(tmp_path / "runs.csv", "toy", trainer(calls), None)
    _, records = run_all(runs, TRIALS, (), 2, "b", ["ours: x", "ours: y"])
    assert {call[1:] for call in calls} == {(0, 0, True), (0, 1, True)}
    found = {(r["system"], r["metric"]): r for r in records}
    assert found["ours", "configuration"]["value"] == '{"a": 0}'
    assert found["ours", "search_val_accuracy"]["value"] == 1.0  # y, the better on validation


def test_no_test_seed_before_all_searches_have_ended(tmp_path):
    from _classification import Runs, run_all

    calls: list = []
    runs = Runs(tmp_path / "runs.csv", "toy", trainer(calls), None, only=["one"])
    text, records = run_all(runs, TRIALS, STAGES, 2, "b")
    assert "ours: x, ours: y" in text
    assert records == []
    assert calls
    assert not any(final for *_, final in calls)
    late = Runs(tmp_path / "runs.csv", "toy", trainer(calls), -1.0)
    assert late.get("ours: x", {"a": 0}, 1000) is None


def test_draws_are_distinct_repeatable_and_start_with_the_published():
    from _classification import draws

    space = {"a": range(4), "b": range(4)}
    first = [{"a": 9, "b": 9}]
    found = draws("GCN", first, space, 12)
    assert found[0] == first[0]
    assert len({tuple(config.items()) for config in found}) == 12
    assert found == draws("GCN", first, space, 12)
    assert found != draws("GAT", first, space, 12)


def test_folds_are_stratified_and_disjoint():
    from _classification_folds import folds

    y = torch.tensor([0] * 60 + [1] * 30)
    found = folds(y, 3)
    assert torch.cat([test for *_, test in found]).sort().values.tolist() == list(range(90))
    for parts in found:
        assert torch.cat(parts).sort().values.tolist() == list(range(90))
        assert [int((y[part] == 1).sum()) for part in parts[1:]] == [3, 3]


def test_dropout_of_words_is_dropout():
    from _classification_nodes import WordDropout

    torch.manual_seed(0)
    x = torch.rand(400, 50) * (torch.rand(400, 50) < 0.3)
    for rows in (False, True):
        words = WordDropout(x, 2, rows)
        out = words(0, 0.4).clone()
        kept = out != 0
        torch.testing.assert_close(out[kept], x[kept] / 0.6)
        assert (kept.sum() / (x != 0).sum()).item() == pytest.approx(0.6, abs=0.06)
        whole = (kept == (x != 0)).all(1) | ~kept.any(1)
        assert bool(whole.all()) == rows
        assert not torch.equal(words(1, 0.4), out)


@pytest.mark.parametrize("final", [False, True])
def test_only_final_runs_read_the_test_nodes(final):
    from _classification_nodes import Protocol, train
    from torch_geometric.nn import GCN

    torch.manual_seed(0)
    edges = torch.randint(30, (2, 90))
    data = Data(x=torch.rand(30, 5), edge_index=torch.cat([edges, edges.flip(0)], 1))
    data.y = torch.arange(30) % 3
    data.train_mask, data.val_mask = torch.arange(30) < 10, torch.arange(30) >= 20
    if final:
        data.test_mask = ~data.train_mask & ~data.val_mask
    config = {"dropout": 0.1, "weight_decay": 0.0, "drop": "nodes", "edge_dropout": 0.2}
    # Without a test mask a run of the search goes through.
    row = train(
        data, lambda: GCN(5, 8, 2, 3), {**config, "consistent": True}, 0, final, Protocol(4)
    )
    assert (row["test"] is not None) == final
    assert 1 <= row["epoch"] <= 4


@pytest.mark.parametrize("propagate", [0, 2])
def test_a_prepared_network_reads_the_edges_that_a_step_leaves(propagate):
    from _classification_nodes import Prepared
    from torch_geometric.nn import APPNP

    from pyg_gunet import GraphUNet

    torch.manual_seed(0)
    edges = torch.randint(20, (2, 60))
    data = Data(x=torch.rand(20, 5), edge_index=torch.cat([edges, edges.flip(0)], 1))
    net = GraphUNet(5, 8, 3, depth=1)
    model = Prepared(net, data, propagate)
    some = data.edge_index[:, data.edge_index.sum(0) % 3 > 0]
    for edge_index in (data.edge_index, some):
        out = net(data.x, edge_index)
        out = APPNP(propagate, 0.1)(out, edge_index) if propagate else out
        torch.testing.assert_close(model(data.x, edge_index), out)
    assert not torch.allclose(model(data.x, some), model(data.x, data.edge_index))


def toy():
    torch.manual_seed(0)
    edges = torch.randint(30, (2, 90))
    data = Data(x=torch.rand(30, 5), edge_index=torch.cat([edges, edges.flip(0)], 1))
    data.y = torch.arange(30) % 3
    data.train_mask, data.val_mask = torch.arange(30) < 10, torch.arange(30) >= 20
    return data


def test_the_epoch_that_counts():
    from _classification_nodes import Protocol, train
    from torch_geometric.nn import GCN

    config = {"dropout": 0.1, "weight_decay": 0.0, "drop": "nodes", "edge_dropout": 0.0}
    config["consistent"] = False
    by_loss, by_accuracy = (
        train(toy(), lambda: GCN(5, 8, 2, 3), config, 0, False, Protocol(60, choose=choose))
        for choose in ("loss", "accuracy")
    )
    assert by_loss["val_loss"] < by_accuracy["val_loss"]
    assert by_loss["val"] < by_accuracy["val"]


def test_grand_mixes_the_same_before_and_after_its_linear_map():
    from _classification_nodes import Grand

    data = toy()
    grand = Grand(5, 8, 3, steps=4, dropout=0.0, mixed_dropout=1e-12, scale=0.5)
    out = grand(data.x, data.edge_index)
    torch.testing.assert_close(out, grand.eval()(data.x, data.edge_index))
    grand.mixed_dropout = 0.5
    assert not torch.allclose(grand.train()(data.x, data.edge_index), out)


def test_levels_of_four_words():
    from _classification import levels

    from pyg_gunet import GraphUNet

    words = "spread, mean, contract, interpolate"
    moving, still = (GraphUNet(5, 8, 3, 2, **levels(words, still)) for still in (False, True))
    assert moving.words == still.words == tuple(words.split(", "))
    assert [moving.structural, still.structural] == [False, True]
    assert {pool.connect_name for pool in still.pools} == {"contract"}
    assert {pool.reduce for pool in still.pools} == {"mean"}
    assert not GraphUNet(5, 8, 3, 2, **levels("topk, keep, walk, zero", True)).structural
