"""Official folds: what a file may hold, and what of it the runs use."""

from __future__ import annotations

import itertools
import json
import re
from copy import deepcopy
from types import SimpleNamespace

import pytest


def two_folds() -> list[dict]:
    """Six graphs, tested by halves."""
    return [
        {"test": [4, 0, 2], "model_selection": [{"train": [1, 5], "validation": [3]}]},
        {"test": [1, 3, 5], "model_selection": [{"train": [0, 2], "validation": [4]}]},
    ]


def written(tmp_path, found) -> str:
    path = tmp_path / "splits.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return str(path)


def test_folds_keep_their_order(tmp_path):
    from _fair_splits import read_splits

    first, second = read_splits(written(tmp_path, two_folds()), 6)
    assert first == ([1, 5], [3], [4, 0, 2])
    assert (second.train, second.val, second.test) == ([0, 2], [4], [1, 3, 5])


def inner(fold: dict) -> dict:
    return fold["model_selection"][0]


BAD = {
    "no test": (lambda f: f[1].pop("test"), "fold 1 of 'splits' must have 'test' (got the keys"),
    "no inner": (lambda f: f[0].pop("model_selection"), "fold 0 of 'splits' must have 'model_"),
    "no train": (lambda f: inner(f[0]).pop("train"), "fold 0 of 'splits' must have 'train'"),
    "no validation": (lambda f: inner(f[1]).pop("validation"), "must have 'validation'"),
    "two inner": (lambda f: f[0]["model_selection"].append({}), "one entry in 'model_selection'"),
    "a fold no dict": (lambda f: f.append([1]), "fold 2 of 'splits' must have 'model_selection'"),
    "out of range": (lambda f: f[0]["test"].append(6), "indices in [0, 6) (got 6)"),
    "negative": (lambda f: inner(f[0])["train"].append(-1), "indices in [0, 6) (got -1)"),
    "a float": (lambda f: f[0]["test"].append(1.0), "indices in [0, 6) (got 1.0)"),
    "a truth": (lambda f: f[0]["test"].append(True), "indices in [0, 6) (got True)"),
    "empty": (
        lambda f: inner(f[0]).update(validation=[]),
        "'validation' of fold 0 of 'splits' must be a list",
    ),
    "no list": (lambda f: f[0].update(test="042"), "must be a list of indices (got '042')"),
    "train in test": (lambda f: f[0]["test"].append(5), "(got 5 in 'train' and in 'test')"),
    "val in train": (lambda f: inner(f[0])["validation"].append(1), "(got 1 in 'train' and in 'v"),
    "twice": (lambda f: inner(f[0])["train"].append(1), "(got 1 in 'train' and in 'train')"),
    "left out": (lambda f: inner(f[0])["train"].pop(), "must hold all 6 graphs (got 5)"),
    "tested twice": (lambda f: f.__setitem__(1, deepcopy(f[0])), "(got 4 in the folds 0 and 1)"),
    "no folds": (lambda f: f.clear(), "'splits' must hold a list of folds (got [])"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name_and_value(name, tmp_path):
    from _fair_splits import read_splits

    folds = two_folds()
    spoil, message = BAD[name]
    spoil(folds)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_splits(written(tmp_path, folds), 6)


@pytest.mark.parametrize("text", ["{", '{"test": []}', "7"])
def test_no_list_of_folds(text, tmp_path):
    from _fair_splits import read_splits

    with pytest.raises(ValueError, match="'splits' must"):
        read_splits(written(tmp_path, text), 6)


def rows(val: dict[tuple[int, int], float], system: str = "GIN") -> list[dict[str, str]]:
    """Lines of the search: (configuration, fold) -> validation accuracy."""
    shared = {"name": "S", "system": system, "final": "False", "failed": "", "test": ""}
    return [
        {**shared, "config": str(config), "fold": str(fold), "val": str(value)}
        for (config, fold), value in val.items()
    ]


def test_the_configuration_is_that_of_best_validation():
    from _fair_runs import chosen

    found = rows({(0, 0): 70.0, (0, 1): 60.0, (1, 0): 60.0, (1, 1): 71.0})
    assert chosen(found, "S", "GIN", [0, 1]) == 1
    assert chosen(found, "S", "GIN", [0]) == 0
    assert chosen(found[:3], "S", "GIN", [0, 1]) is None  # one run is not done
    assert chosen(found, "S", "WL kernel", [0]) is None
    found[0]["failed"] = "exit 1"
    assert chosen(found, "S", "GIN", [0]) is None


def test_gaps_are_paired_over_folds():
    from _fair_runs import official_table

    tests = {"GIN": (71.0, 62.0, 83.0), "no levels": (70.0, 60.0, 80.0)}
    lines = [
        {"name": "S", "system": system, "fold": str(fold), "config": "0", "final": "True",
         "val": "70", "test": str(test), "seconds": "1", "failed": ""}
        for system, values in tests.items() for fold, test in enumerate(values)
    ]  # fmt: skip
    text, records = official_table(lines, "S")
    gap = next(r for r in records if (r["system"], r["metric"]) == ("GIN", "over_control"))
    assert gap["value"] == pytest.approx(2.0)
    assert gap["std"] == pytest.approx(1 / 3**0.5)  # of 1, 2, 3: not that of the folds, about 10
    assert "2.0 +- 0.6" in text


def test_runs_are_averaged_before_folds():
    from _fair_runs import official_table

    tests = {"GIN": {0: (70.0, 72.0), 1: (60.0,)}, "no levels": {0: (69.0,), 1: (61.0,)}}
    lines = [
        {"name": "S", "system": system, "fold": str(fold), "config": "0", "final": "True",
         "run": str(run), "val": "70", "test": str(test), "seconds": "1", "failed": ""}
        for system, folds in tests.items() for fold, runs in folds.items()
        for run, test in enumerate(runs)
    ]  # fmt: skip
    text, records = official_table(lines, "S", "runs")
    found = {r["metric"]: r["value"] for r in records if r["system"] == "GIN"}
    assert found["test_accuracy"] == pytest.approx(65.5)
    assert found["over_control"] == pytest.approx(0.5)
    assert found["runs"] == pytest.approx(1.5)
    assert {r["benchmark"] for r in records} == {"runs"}
    assert text.splitlines()[2].endswith("| 2 | 3 |")


def molecules(count: int = 12):
    """Random trees and cycles with three node labels."""
    import torch
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(0)
    graphs = []
    for number in range(count):
        nodes = 5 + number % 7
        parents = torch.tensor([int(torch.randint(i, (1,), generator=generator))
                                for i in range(1, nodes)])  # fmt: skip
        pairs = torch.stack([torch.arange(1, nodes), parents])
        if number % 2:
            pairs = torch.cat([pairs, torch.tensor([[0], [nodes - 1]])], dim=1)
        edges = torch.cat([pairs, pairs.flip(0)], dim=1).unique(dim=1)
        label = torch.randint(3, (nodes,), generator=generator)
        x = torch.nn.functional.one_hot(label, 3).float()
        graphs.append(Data(x=x, edge_index=edges, y=torch.tensor([number % 2])))
    return graphs


def test_colours_are_those_of_refined_multisets():
    """Against colours that are nested tuples, each round of each node written out."""
    from collections import Counter

    import numpy as np
    from _fair_kernel import colour_counts

    graphs, written_out = molecules(), []
    for data in graphs:
        colours = [("own", int(i)) for i in data.x.argmax(1)]
        source, target = data.edge_index.tolist()
        count = Counter(colours)
        for _ in range(3):
            around = [[colours[s] for s, t in zip(source, target) if t == node]
                      for node in range(len(colours))]  # fmt: skip
            colours = [(own, tuple(sorted(map(repr, near)))) for own, near in zip(colours, around)]
            count += Counter(colours)
        written_out.append(count)
    expected = [[sum(a[c] * b[c] for c in a) for b in written_out] for a in written_out]
    counts = colour_counts(graphs)
    assert np.array_equal((counts @ counts.T).toarray(), np.array(expected))


@pytest.mark.parametrize("counts", [False, True])
def test_every_system_reads_graphs_alone_and_the_control_keeps_all_nodes(counts):
    """No graph of a batch hears of another, and the control is ours but for the levels."""
    import torch
    from _fair_nets import DEPTH, KERNEL, RATIO, SYSTEMS, make, prepared
    from _fair_train import batches
    from torch_geometric.data import Batch

    from pyg_gunet.transforms import Coarsen

    graphs, size = molecules(6), {}
    for data in graphs:  # nodes that are alike would tie, which peers break as rounding has it
        data.x = data.x + torch.rand(data.x.shape, generator=torch.Generator().manual_seed(0))
    for system in SYSTEMS:
        if system == KERNEL:
            continue
        torch.manual_seed(0)
        model = make(system, 3, 2, width=8, dropout=0.1, stem=1, counts=counts).eval()
        size[system] = sum(p.numel() for p in model.parameters())
        connect = prepared(system)
        data = graphs if connect is None else [Coarsen(DEPTH, RATIO, connect)(g) for g in graphs]
        (whole,) = batches(data, len(data))
        together = model(whole)
        alone = torch.cat([model(one) for one in batches(data, 1)])
        assert torch.allclose(together, alone, atol=1e-4), system
        assert together.shape == (6, 2)
    assert size["no levels"] == size["ours: levels"] == size["ours: paper"]

    control = make("no levels", 3, 2, width=8, dropout=0.1, stem=1).eval().bodies[0]
    batch = Batch.from_data_list(graphs)
    states = control.states(torch.randn(batch.num_nodes, 8), batch)
    assert [len(x) for x, _ in states] == [batch.num_nodes] * (DEPTH + 1)


def test_a_run_is_resumed_and_reads_its_test_part_once(tmp_path, monkeypatch):
    import _fair_runs
    import _fair_train

    graphs, splits = molecules(12), []
    for test in (range(6), range(6, 12)):
        rest = [i for i in range(12) if i not in test]
        inner = [{"train": rest[:4], "validation": rest[4:]}]
        splits.append({"test": list(test), "model_selection": inner})
    monkeypatch.setattr(_fair_train, "graphs", lambda *args: (graphs, 3, 2))
    args = SimpleNamespace(
        name="S", root=str(tmp_path), splits=written(tmp_path, splits), states=None, quick=True,
        budget=None, csv=tmp_path / "folds.csv", system=["GIN"], search=True, runs=1,
    )  # fmt: skip
    searched = _fair_runs.official(args, "python")
    assert [row["test"] for row in searched] == ["", ""]
    args.search = False
    monkeypatch.setattr(_fair_train, "fit", None)  # the search has trained what is read
    (last,) = [row for row in _fair_runs.official(args, "python") if row["final"] == "True"]
    assert 0 <= float(last["test"]) <= 100
    assert last["val"] == max(searched, key=lambda row: float(row["val"]))["val"]
    assert len(_fair_runs.official(args, "python")) == 3

    args.runs = 3  # the first is there; two more train anew, from other seeds
    monkeypatch.undo()
    monkeypatch.setattr(_fair_train, "graphs", lambda *args: (graphs, 3, 2))
    three = [row for row in _fair_runs.official(args, "python") if row["final"] == "True"]
    assert [row["run"] for row in three] == ["0", "1", "2"]
    assert len({row["val_loss"] for row in three}) == 3
    drawn = []
    monkeypatch.setattr(_fair_train.torch, "manual_seed", drawn.append)
    for fold, run in itertools.product(range(2), range(3)):
        shared = {"name": "S", "root": str(tmp_path), "splits": str(args.splits), "config": 0}
        shared |= {"system": "GIN", "width": 8, "stem": 2, "epochs": 2, "steps": 4}
        shared |= {"counts": False, "states": str(tmp_path / "states"), "final": False}
        _fair_train.work({**shared, "fold": fold, "run": run})
    assert len(set(drawn)) == 6


def test_a_fold_chooses_for_itself_where_it_has_several_runs(tmp_path, monkeypatch):
    import _fair_runs

    def one(run, python):
        """Folds of even number are better off with the first configuration."""
        good = run["config"] == run["fold"] % 2
        return {"val": 80.0 if good else 60.0, "test": 1.0 if run["final"] else "", "failed": ""}

    monkeypatch.setattr(_fair_runs, "one", one)
    args = SimpleNamespace(
        name="NCI1", root=str(tmp_path), splits="", states=None, quick=False, budget=None,
        csv=tmp_path / "runs.csv", system=["GIN", "WL kernel"], search=False, runs=2,
    )  # fmt: skip
    rows = _fair_runs.official(args, "python")
    final = [row for row in rows if row["final"] == "True" and row["system"] == "GIN"]
    assert [int(row["config"]) for row in final] == [fold % 2 for fold in range(10)] * 2
    assert sum(row["system"] == "WL kernel" for row in rows) == 30  # no second run: the same again
    long = {(row["width"], row["epochs"]) for row in rows}
    args.runs = 1
    with pytest.raises(SystemExit, match="'csv' must hold runs of one width"):
        _fair_runs.official(args, "python")
    args.csv = tmp_path / "one.csv"
    rows = _fair_runs.official(args, "python")
    final = [row for row in rows if row["final"] == "True" and row["system"] == "GIN"]
    assert [int(row["config"]) for row in final] == [0] * 10  # the first fold's, for all
    assert len(long) == 1
    assert long != {(row["width"], row["epochs"]) for row in rows}
