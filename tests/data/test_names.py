"""A class, and a feature, means the same in all graphs of a set, and in those of a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet import load
from pyg_gunet.data.names import align_names


def named(classes=None, y=(), features=None, x=()):
    data = Data(edge_index=torch.zeros(2, 0, dtype=torch.long))
    if classes is not None:
        data.class_names, data.y = list(classes), torch.tensor(y)
    if features is not None:
        data.feature_names, data.x = list(features), torch.tensor(x)
    return data


def test_classes_are_numbered_alike_and_gaps_stay():
    graphs = [named("ac", [0, 1, -1]), named("cb", [1, 0]), named(), named("", [-1])]
    align_names(graphs)
    assert [g.y.tolist() for g in graphs if "y" in g] == [[0, 2, -1], [1, 2], [-1]]
    assert all(g.class_names == ["a", "b", "c"] for g in graphs if "y" in g)
    numbers = [named(["2", "10"], [0, 1]), named(["3"], [0])]
    align_names(numbers)
    assert numbers[0].class_names == ["2", "3", "10"]
    assert [g.y.tolist() for g in numbers] == [[0, 2], [1]]


def test_given_names_are_those_that_count():
    graph = named("cb", [1, 0])
    align_names([graph], classes=["b", "a", "c"])
    assert graph.y.tolist() == [0, 2]
    assert graph.class_names == ["b", "a", "c"]
    with pytest.raises(ValueError, match=r"'dataset' must have the class names .*'b' \(got 'z'"):
        align_names([named("z", [0])], classes=["a", "b"])


def test_features_in_one_order_and_words_that_nobody_has_are_zero():
    graphs = [
        named(features=["mass", "hue=red"], x=[[1.0, 1.0]]),
        named(features=["hue=blue", "mass"], x=[[1.0, 2.0]]),
    ]
    align_names(graphs)
    assert all(g.feature_names == ["mass", "hue=blue", "hue=red"] for g in graphs)
    assert [g.x.tolist() for g in graphs] == [[[1.0, 0.0, 1.0]], [[2.0, 1.0, 0.0]]]
    for own, wanted in ((["mass"], ["mass", "size"]), (["mass", "size"], ["mass"])):
        with pytest.raises(ValueError, match=r"feature names .* \(got 'size' on one side alone"):
            align_names([named(features=own, x=[[1.0] * len(own)])], features=wanted)
    with pytest.raises(ValueError, match="'hue=red'"):  # no node tells its hue
        align_names([named(features=["mass"], x=[[1.0]])], features=["mass", "hue=red"])


def test_files_of_a_folder(tmp_path):
    nx = pytest.importorskip("networkx", reason="needs networkx")
    for name, classes in (("a", ["oak", "yew"]), ("b", ["yew", "ash"])):
        graph = nx.path_graph(2)
        nx.set_node_attributes(graph, dict(enumerate(classes)), "class")
        nx.set_node_attributes(graph, {0: 1.0, 1: 2.0}, "mass")
        nx.write_graphml(graph, tmp_path / f"{name}.graphml")
    first, second = load(str(tmp_path))
    assert first.class_names == second.class_names == ["ash", "oak", "yew"]
    assert [first.y.tolist(), second.y.tolist()] == [[1, 2], [2, 0]]
    nx.set_node_attributes(graph, 3.0, "age")
    nx.write_graphml(graph, tmp_path / "c.graphml")
    with pytest.raises(ValueError, match=r"must have the feature names .*'age' on one side"):
        load(str(tmp_path))
