"""Scores, instances and border weights against loops and networkx."""

from __future__ import annotations

import math

import networkx as nx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_gunet import (
    SegmentationMetrics,
    confusion_matrix,
    frequency_weighted_iou,
    macro_f1,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.functional.segmentation import instances_found
from tests.properties.graphs import any_graphs

few = settings(max_examples=40)


@st.composite
def labels(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    classes = draw(st.integers(2, 5))
    n = draw(st.integers(1, 20))
    one = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    return torch.tensor(draw(one)), torch.tensor(draw(one)), classes


@few
@given(labels(), st.integers(0, 4))
def test_scores_against_loops(drawn, ignore):
    preds, target, c = drawn
    counted = [(t, p) for t, p in zip(target.tolist(), preds.tolist()) if t != ignore]
    n = [[sum(pair == (i, j) for pair in counted) for j in range(c)] for i in range(c)]
    assert confusion_matrix(preds, target, c, ignore).tolist() == n
    true = [sum(n[i]) for i in range(c)]
    pred = [sum(n[i][j] for i in range(c)) for j in range(c)]
    iou = [n[i][i] / (true[i] + pred[i] - n[i][i]) for i in range(c) if true[i] + pred[i]]
    recall = [n[i][i] / true[i] for i in range(c) if true[i]]
    f1 = [2 * n[i][i] / (true[i] + pred[i]) for i in range(c) if true[i] + pred[i]]
    total = sum(true)
    if not total:
        return
    weighted = sum(true[i] * n[i][i] / (true[i] + pred[i] - n[i][i]) for i in range(c) if true[i])
    expected = {
        pixel_accuracy: sum(n[i][i] for i in range(c)) / total,
        mean_accuracy: sum(recall) / len(recall),
        mean_iou: sum(iou) / len(iou),
        frequency_weighted_iou: weighted / total,
        macro_f1: sum(f1) / len(f1),
    }
    metric = SegmentationMetrics(c, ignore)
    cut = preds.numel() // 2
    metric.update(preds[:cut], target[:cut])
    metric.update(preds[cut:], target[cut:])
    found = metric.compute()
    for score, value in expected.items():
        assert math.isclose(float(score(preds, target, c, ignore)), value, abs_tol=1e-12)
        assert math.isclose(float(found[score.__name__]), value, abs_tol=1e-12)


def by_networkx(graph, label) -> list[set[int]]:
    g = nx.Graph()
    g.add_nodes_from(i for i, one in enumerate(label) if one)
    g.add_edges_from((s, t) for s, t in graph.edge_index.t().tolist() if label[s] == label[t] != 0)
    return sorted((set(part) for part in nx.connected_components(g)), key=min)


@few
@given(st.data(), any_graphs())
def test_instances_are_components(data, graph):
    n = graph.num_nodes
    label = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    instance = connected_instances(torch.tensor(label), graph.edge_index)
    expected = by_networkx(graph, label)
    assert [set((instance == i + 1).nonzero().view(-1).tolist()) for i in range(len(expected))] == (
        expected
    )
    assert int(instance.max()) == len(expected)


@few
@given(st.data(), any_graphs())
def test_border_weights_along_the_graph(data, graph):
    n = graph.num_nodes
    instance = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    found = border_weight(torch.tensor(instance), edge_index=graph.edge_index, sigma=2.0)
    g = nx.Graph()
    g.add_nodes_from(range(n))
    g.add_edges_from(graph.edge_index.t().tolist())
    for i in range(n):
        hops = nx.single_source_shortest_path_length(g, i)
        nearest = sorted(
            min((hops.get(j, math.inf) for j in range(n) if instance[j] == one), default=math.inf)
            for one in set(instance) - {0}
        )
        d = sum(nearest[:2]) if len(nearest) > 1 else math.inf
        expected = 10 * math.exp(-(d**2) / 8) if instance[i] == 0 and d <= 12 else 0.0
        assert math.isclose(float(found[i]), expected, abs_tol=1e-9)


@few
@given(st.data(), st.integers(1, 15))
def test_instances_found_against_loops(data, n):
    one = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    preds, target = data.draw(one), data.draw(one)
    found = instances_found(torch.tensor(preds), torch.tensor(target)).tolist()

    def nodes(label, which):
        return {i for i, value in enumerate(label) if value == which}

    expected = [
        any(
            len(nodes(target, t) & nodes(preds, p)) > 0.5 * len(nodes(target, t) | nodes(preds, p))
            for p in set(preds) - {0}
        )
        for t in sorted(set(target) - {0})
    ]
    assert found == expected
