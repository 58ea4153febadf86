"""Scores of boundaries and of superpixels against networkx, image morphology and loops."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import ndimage

from pyg_gunet.functional import segmentation as seg
from pyg_gunet.transforms import grid_edges

BOTH = (seg.boundary_iou, seg.surface_dice)


def scene(seed, num_nodes=30, num_edges=45, classes=3):
    """A random graph, directed edges with loops and parallels, and smooth labels on it."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    length = torch.randint(0, 9, (num_edges,), generator=generator).double() / 4
    target = torch.randint(classes, (num_nodes,), generator=generator).sort().values
    wrong = torch.rand(num_nodes, generator=generator) < 0.2
    other = torch.randint(classes, (num_nodes,), generator=generator)
    return torch.where(wrong, other, target), target, edges, length


def ways(num_nodes, edges, length):
    graph = nx.Graph()
    graph.add_nodes_from(range(num_nodes))
    for (s, t), value in zip(edges.t().tolist(), length.tolist()):
        old = graph.get_edge_data(s, t, {"weight": math.inf})["weight"]
        graph.add_edge(s, t, weight=min(old, value))
    return graph, dict(nx.all_pairs_dijkstra_path_length(graph))


def by_definition(preds, target, edges, length, classes, distance, weight):
    """Per class: the boundary IoU and the surface Dice, node by node."""
    n = len(target)
    graph, way = ways(n, edges, length)
    result = []
    for c in range(classes):
        bands, borders = [], []
        for label in (target.tolist(), preds.tolist()):
            own = [v for v in range(n) if label[v] == c]
            near = lambda v, u: way[v].get(u, math.inf) <= distance  # noqa: E731
            bands.append({v for v in own for u in range(n) if label[u] != c and near(v, u)})
            borders.append({v for v in own if any(label[u] != c for u in graph[v])})
        size = lambda nodes: sum(float(weight[v]) for v in nodes)  # noqa: E731
        one, other = borders
        close = [
            {v for v in a if any(way[v].get(u, math.inf) <= distance for u in b)}
            for a, b in ((one, other), (other, one))
        ]
        both, total = size(bands[0] | bands[1]), size(one) + size(other)
        result.append(
            (
                size(bands[0] & bands[1]) / both if both else math.nan,
                (size(close[0]) + size(close[1])) / total if total else math.nan,
            )
        )
    return np.array(result).T


@pytest.mark.parametrize("distance", [0, 1, 1.75, 4])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_definition(seed, distance):
    preds, target, edges, length = scene(seed)
    weight = torch.rand(30, generator=torch.Generator().manual_seed(seed)).double()
    hops, ones = torch.ones(edges.size(1)), torch.ones(30)
    for given, used, by in ((None, hops, None), (length, length, None), (length, length, weight)):
        expected = by_definition(
            preds, target, edges, used, 4, distance, ones if by is None else by
        )
        for score, values in zip(BOTH, expected):
            found = score(preds, target, edges, 4, distance, edge_length=given, node_weight=by)
            np.testing.assert_allclose(found, values, atol=1e-12)
            assert found[3].isnan()  # a class that is nowhere
        logits = torch.nn.functional.one_hot(preds, 4).float()
        options = {"edge_length": given, "node_weight": by}
        for score in BOTH:
            one = score(preds, target, edges, 4, distance, **options)
            other = score(logits, target.int(), edges.int(), 4, distance, **options)
            torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)


def test_ignored_nodes_are_not_there():
    preds, target, edges, _ = scene(0)
    target[::4] = 9
    keep = target != 9
    number = keep.cumsum(0) - 1
    inside = keep[edges].all(dim=0)
    for score in BOTH:
        found = score(preds, target, edges, 3, 2, ignore_index=9)
        alone = score(preds[keep], target[keep], number[edges[:, inside]], 3, 2)
        assert found.equal(alone)
        # A class may be the one to ignore, too.
        found = score(preds, target.where(keep, 3), edges, 4, 2, ignore_index=3)
        assert found[:3].equal(alone)


def test_one_hop_by_default():
    preds, target, edges, _ = scene(0)
    for score in BOTH:
        near, one, far = (score(preds, target, edges, 3, distance) for distance in (0, 1, 2))
        assert score(preds, target, edges, 3).equal(one)
        assert not one.equal(near)
        assert not one.equal(far)


def test_per_graph_and_absent():
    """Graphs: two scenes, one of a single class, an empty one, one that is ignored."""
    scenes = [scene(1), scene(2)]
    preds, target = (torch.cat([one[at] for one in scenes]) for at in (0, 1))
    edges = torch.cat([scenes[0][2], scenes[1][2] + 30], dim=1)
    one = torch.full((4,), 2)
    preds, target = torch.cat([preds, one, one[:2]]), torch.cat([target, one, one[:2] * 0 + 9])
    edges = torch.cat([edges, torch.tensor([[60, 61, 64], [61, 62, 65]])], dim=1)
    batch = torch.tensor([0] * 30 + [1] * 30 + [2] * 4 + [4] * 2)
    for score in BOTH:
        for absent in ("skip", "nan", 0, 1):
            gone = math.nan if isinstance(absent, str) else float(absent)
            found = score(preds, target, edges, 3, 1, 9, batch, absent)
            expected = [score(*one[:3], 3, 1, absent=absent).tolist() for one in scenes]
            expected += [[gone] * 3, [math.nan] * 3, [math.nan] * 3]
            np.testing.assert_allclose(found, expected, atol=1e-12)
            mean = score(preds, target, edges, 3, 1, 9, batch, absent, reduction="mean")
            np.testing.assert_allclose(mean, np.nanmean(expected, axis=0), atol=1e-12)


def test_bands_are_those_of_morphology():
    """On a grid: a class less its erosion, by 4 and by 8 neighbours."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.from_numpy(ndimage.gaussian_filter(noise.numpy(), 3) > 0.5).long()
        for noise in torch.rand(2, 40, 50, generator=generator)
    ]
    preds, target = (image.view(-1) for image in images)
    for connectivity, rank in ((4, 1), (8, 2)):
        kernel = ndimage.generate_binary_structure(2, rank)
        edges = grid_edges(40, 50, connectivity)
        for distance in (1, 3):
            bands = [
                [
                    mask & ~ndimage.binary_erosion(mask, kernel, distance, border_value=1)
                    for mask in (image.numpy() == c for c in (0, 1))
                ]
                for image in images
            ]
            expected = [(a & b).sum() / (a | b).sum() for a, b in zip(*bands)]
            found = seg.boundary_iou(preds, target, edges, 2, distance)
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_node_and_no_edge():
    none = torch.zeros(0, dtype=torch.int64)
    nowhere = torch.zeros(2, 0, dtype=torch.int64)
    two = torch.tensor([0, 1])
    for score in BOTH:
        assert score(none, none, nowhere, 2, absent=1).isnan().all()
        assert score(two, two, nowhere, 2).isnan().all()
        assert score(two, two, nowhere, 2, absent=1).tolist() == [1, 1]


@pytest.mark.parametrize("score", BOTH)
def test_refused_boundaries(score):
    preds, target, edges, length = scene(0)
    with pytest.raises(ValueError, match="'distance'.*-1"):
        score(preds, target, edges, 3, -1)
    with pytest.raises(ValueError, match="'distance'.*nan"):
        score(preds, target, edges, 3, math.nan)
    with pytest.raises(ValueError, match="'edge_length' must be at least 0.*-0.5"):
        score(preds, target, edges, 3, edge_length=length.clamp(max=0) - 0.5)
    with pytest.raises(ValueError, match="'edge_length'.*nan"):
        score(preds, target, edges, 3, edge_length=length * math.nan)
    with pytest.raises(ValueError, match=r"'edge_length'.*\[45\].*\[44\]"):
        score(preds, target, edges, 3, edge_length=length[1:])
    with pytest.raises(IndexError, match=r"'edge_index'.*\[0, 30\).*got 3\d"):
        score(preds, target, edges + 10, 3)
    with pytest.raises(ValueError, match=r"'target'.*\[0, 2\).*got 2"):
        score(preds.clamp(max=1), target, edges, 2)
    with pytest.raises(ValueError, match=r"'preds'.*\[0, 2\).*got 2"):
        score(preds.clamp(min=2), target.clamp(max=1), edges, 2)
    with pytest.raises(ValueError, match="'preds'.*nan in row 0"):
        score(torch.full((30, 3), math.nan), target, edges, 3)
    with pytest.raises(ValueError, match="'node_weight'.*got -1"):
        score(preds, target, edges, 3, node_weight=-torch.ones(30))
    with pytest.raises(ValueError, match="'absent'.*'drop'"):
        score(preds, target, edges, 3, absent="drop")
    with pytest.raises(ValueError, match="'reduction'.*'sum'"):
        score(preds, target, edges, 3, reduction="sum")


class TestSuperpixels:
    def by_definition(self, preds, target, weight):
        leak = right = 0.0
        for p in set(preds.tolist()):
            shares = [float(weight[(preds == p) & (target == s)].sum()) for s in target.unique()]
            leak += sum(min(share, sum(shares) - share) for share in shares)
            right += max(shares)
        total = float(weight.sum())
        return leak / total, right / total

    @pytest.mark.parametrize("seed", range(3))
    def test_against_the_definition(self, seed):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randint(-2, 3, (80,), generator=generator).sort().values
        preds = torch.randint(-1, 2, (80,), generator=generator) + torch.arange(80) // 7
        weight = torch.rand(80, generator=generator).double()
        batch = (torch.arange(80) >= 30).long() * 2  # graph 1 is empty
        graphs = [
            self.by_definition(preds[batch == b], target[batch == b], weight[batch == b])
            for b in (0, 2)
        ]
        scores = (seg.undersegmentation_error, seg.achievable_accuracy)
        for at, score in enumerate(scores):
            whole = self.by_definition(preds, target, torch.ones(80))[at]
            assert float(score(preds, target)) == pytest.approx(whole, abs=1e-12)
            found = score(preds, target, None, batch, node_weight=weight)
            expected = [graphs[0][at], math.nan, graphs[1][at]]
            np.testing.assert_allclose(found, expected, atol=1e-12)
            mean = score(preds, target, None, batch, node_weight=weight, reduction="mean")
            assert float(mean) == pytest.approx(np.nanmean(expected), abs=1e-12)
            kept = target != 2
            assert score(preds, target, 2).equal(score(preds[kept], target[kept]))
            assert score(preds[:0], target[:0]).isnan()

    def test_by_hand(self):
        target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
        assert float(seg.achievable_accuracy(target * 5, target)) == 1
        assert float(seg.undersegmentation_error(target * 5, target)) == 0
        one = torch.zeros_like(target)
        assert float(seg.achievable_accuracy(one, target)) == 4 / 8
        assert float(seg.undersegmentation_error(one, target)) == (3 + 4 + 1) / 8

    def test_labels_and_reductions_that_are_none(self):
        label = torch.tensor([0, 1])
        for score in (seg.undersegmentation_error, seg.achievable_accuracy):
            with pytest.raises(TypeError, match="'preds'.*float32"):
                score(label.float(), label)
            with pytest.raises(ValueError, match="'reduction'.*'sum'"):
                score(label, label, reduction="sum")
