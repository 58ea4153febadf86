from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from pyg_gunet.functional import greedy as module
from pyg_gunet.functional.select import topk
from pyg_gunet.functional.spread import CROWDED, spread

EMPTY = torch.empty(2, 0, dtype=torch.long)


def edges_of(graph: nx.Graph) -> Tensor:
    pairs = torch.tensor(list(graph.edges), dtype=torch.long).view(-1, 2).t()
    return torch.cat([pairs, pairs.flip(0)], dim=1)


def random_graph(size: int, degree: float, seed: int) -> Tensor:
    return edges_of(nx.gnm_random_graph(size, int(size * degree / 2), seed=seed))


def distinct(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).double()


def distance(edge_index: Tensor, size: int, kept: Tensor) -> np.ndarray:
    """Hops from every node to the nearest kept one, by scipy."""
    row, col = edge_index.numpy()
    matrix = coo_matrix((np.ones(len(row)), (row, col)), shape=(size, size)).tocsr()
    return dijkstra(matrix, directed=False, indices=kept.numpy(), unweighted=True, min_only=True)


# The definition, one node after the other. ---------------------------------------------------


def scan_radius(graph: nx.Graph, order: list[int], kept: set[int], radius: int, k: int) -> set[int]:
    kept = set(kept)
    for node in order:
        ball = nx.single_source_shortest_path_length(graph, node, cutoff=radius)
        if len(kept) < k and not kept & set(ball):
            kept.add(node)
    return kept


def merged(graph: nx.Graph, order: list[int], first: set[int]) -> nx.Graph:
    place = {node: i for i, node in enumerate(order)}
    centre = {
        node: node if node in first else min((n for n in graph[node] if n in first), key=place.get)
        for node in graph
    }
    out = nx.Graph()
    out.add_nodes_from(first)
    out.add_edges_from((centre[a], centre[b]) for a, b in graph.edges if centre[a] != centre[b])
    return out


def by_definition(score: list[float], graph: nx.Graph, k: int) -> list[int]:
    order = sorted(graph, key=lambda node: (-score[node], node))
    place = {node: i for i, node in enumerate(order)}
    best = [min(part, key=place.get) for part in nx.connected_components(graph)]
    if len(best) > k:
        return sorted(best, key=place.get)[:k]
    everything = len(order)
    first = scan_radius(graph, order, set(), 1, everything)
    while len(first) > CROWDED * k:
        graph = merged(graph, order, first)
        order = sorted(first, key=place.get)
        first = scan_radius(graph, order, set(), 1, everything)
    radius, kept = 1, first
    while len(kept) > k:
        radius += 1
        kept = scan_radius(graph, order, set(), radius, everything)
    for smaller in range(radius - 1, 0, -1):
        kept = scan_radius(graph, order, kept, smaller, k)
    fold, step = 2, 1
    while len(kept) < k:
        for node in order:
            if len(kept) < k and node not in kept and len(kept & set(graph[node])) < fold:
                kept.add(node)
        fold, step = fold + step, fold // 2
    return sorted(kept, key=place.get)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, Tensor, Tensor, int]:
    size = draw(st.integers(1, 28))
    graph = random_graph(size, draw(st.floats(0, 5)), draw(st.integers(0, 10**6)))
    seed = draw(st.integers(0, 10**6))
    ties = draw(st.sampled_from([1, 1, 2, 7]))
    return size, graph, distinct(size, seed) // ties, draw(st.integers(1, size))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_it_is_the_greedy_selection_of_the_definition(case):
    size, edge_index, score, k = case
    graph = nx.Graph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from(edge_index.t().tolist())
    assert spread(score, edge_index, k).tolist() == by_definition(score.tolist(), graph, k)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9, 20])
@pytest.mark.parametrize("graph", [nx.path_graph(130), nx.grid_2d_graph(11, 12)])
def test_small_shares_of_long_graphs_follow_the_definition(graph, k):
    # Deep enough for merged neighbourhoods and radii of several hops.
    graph = nx.convert_node_labels_to_integers(graph)
    score = distinct(len(graph), k)
    out = spread(score, edges_of(graph), k).tolist()
    assert out == by_definition(score.tolist(), graph, k)


# Properties, at sizes where the order is coarse. ---------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 700),
    st.floats(0, 8),
    st.integers(0, 10**6),
    st.floats(0.01, 1.0),
    st.sampled_from([None, 1, 5]),
)
def test_exact_count_coverage_and_determinism(size, degree, seed, share, quantiles):
    edge_index, score = random_graph(size, degree, seed), distinct(size, seed)
    k = max(1, int(share * size))
    perm = spread(score, edge_index, k, quantiles=quantiles)
    assert torch.equal(perm, spread(score, edge_index, k, quantiles=quantiles))
    assert perm.numel() == k == perm.unique().numel()
    if quantiles != 1:  # where the order is that of the scan
        assert bool((score[perm][1:] <= score[perm][:-1]).all())

    graph = nx.Graph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from(edge_index.t().tolist())
    parts = list(nx.connected_components(graph))
    kept = set(perm.tolist())
    if len(parts) > k:
        best = sorted(
            (max(part, key=lambda n: score[n]) for part in parts), key=lambda n: -score[n]
        )
        assert kept == set(best[:k])
        return
    assert all(kept & part for part in parts)
    if quantiles is None:
        assert all(max(part, key=lambda n: score[n]) in kept for part in parts)
    # Any maximal independent set of at most k nodes leaves no node uncovered. A greedy one has
    # at least n / (1 + max degree) and at most n nodes; this bound holds without knowing its size.
    away = distance(edge_index, size, perm)
    assert np.isfinite(away).all()
    if k >= size - nx.maximal_matching(graph).__len__():  # no independent set is larger
        assert away.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 600), st.floats(0.5, 6), st.integers(0, 10**6), st.sampled_from([None, 1, 4]))
def test_permuted_nodes_give_the_same_selection(size, degree, seed, quantiles):
    edge_index, score = random_graph(size, degree, seed), distinct(size, seed)
    shuffle = torch.randperm(size, generator=torch.Generator().manual_seed(seed + 1))
    for k in (max(1, size // 10), max(1, size // 2)):
        perm = spread(score, edge_index, k, quantiles=quantiles)
        moved = torch.empty_like(score)
        moved[shuffle] = score
        assert torch.equal(
            shuffle[perm], spread(moved, shuffle[edge_index], k, quantiles=quantiles)
        )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 6)), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.sampled_from([None, 1]),
)
def test_a_batch_equals_its_graphs_alone(graphs, seed, quantiles):
    scores, edges, alone, batch, counts, start = [], [], [], [], [], 0
    for i, (size, degree) in enumerate(graphs):
        score, edge_index = distinct(size, seed + i), random_graph(size, degree, seed + i)
        k = 1 + (seed + 7 * i) % size
        alone.append(spread(score, edge_index, k, quantiles=quantiles) + start)
        scores.append(score)
        edges.append(edge_index + start)
        batch.append(torch.full((size,), 2 * i))  # every other graph id has no node
        counts += [k, 0]
        start += size
    together = spread(
        torch.cat(scores),
        torch.cat(edges, dim=1),
        torch.tensor(counts),
        torch.cat(batch),
        quantiles=quantiles,
    )
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("edge_index", "size", "ratio", "hops"),
    [
        (edges_of(nx.path_graph(3000)), 3000, 0.1, 10),
        (edges_of(nx.convert_node_labels_to_integers(nx.grid_2d_graph(50, 60))), 3000, 0.1, 4),
        (edges_of(nx.convert_node_labels_to_integers(nx.grid_2d_graph(50, 60))), 3000, 0.5, 1),
        (edges_of(nx.random_regular_graph(6, 3000, seed=0)), 3000, 0.1, 2),
    ],
)
@pytest.mark.parametrize("kind", ["monotone", "random"])
def test_nodes_lie_near_kept_ones(edge_index, size, ratio, hops, kind):
    score = torch.arange(size).double() if kind == "monotone" else distinct(size, 0)
    perm = spread(score, edge_index, ratio)
    assert perm.numel() == int(ratio * size)
    assert distance(edge_index, size, perm).max() <= hops
    # Top-k of a monotone score is far worse.
    if kind == "monotone" and ratio == 0.1:
        assert distance(edge_index, size, topk(score, ratio)).max() > hops


def test_dropped_nodes_have_several_kept_neighbours():
    edge_index = edges_of(nx.convert_node_labels_to_integers(nx.grid_2d_graph(20, 20, True)))
    kept = torch.zeros(400)
    kept[spread(distinct(400, 0), edge_index, 0.5)] = 1
    have = torch.zeros(400).index_add_(0, edge_index[1], kept[edge_index[0]])
    assert int(have[kept == 0].min()) >= 2


@pytest.mark.parametrize("size", [2000, 20000])
def test_monotone_scores_need_few_rounds(monkeypatch, size):
    rounds = 0
    inner = module._touched

    def counted(*args):
        nonlocal rounds
        rounds += 1
        return inner(*args)

    monkeypatch.setattr(module, "_touched", counted)
    spread(torch.arange(size).double(), edges_of(nx.path_graph(size)), 0.5)
    assert rounds < 100


# Corners. ------------------------------------------------------------------------------------


def test_complete_graphs_keep_the_best():
    score = distinct(30, 3)
    for k in (1, 2, 17, 30):
        perm = spread(score, edges_of(nx.complete_graph(30)), k)
        assert torch.equal(perm, topk(score, k))


def test_stars_keep_the_best_and_then_leaves():
    edge_index = edges_of(nx.star_graph(9))
    score = torch.tensor([9.0, 1, 2, 3, 4, 5, 6, 7, 8, 0])
    assert spread(score, edge_index, 1).tolist() == [0]
    assert spread(score, edge_index, 3).tolist() == [0, 8, 7]
    # The best is a leaf, and all leaves are too many: any second node would be two hops away.
    assert spread(torch.arange(10).double(), edge_index, 1).tolist() == [9]


def test_paths_alternate():
    edge_index = edges_of(nx.path_graph(8))
    assert spread(-torch.arange(8).double(), edge_index, 4).tolist() == [0, 2, 4, 6]
    assert spread(torch.arange(8).double(), edge_index, 2).tolist() == [7, 3]


@pytest.mark.parametrize("edge_index", [EMPTY, torch.tensor([[0, 1, 1], [0, 1, 1]])])
def test_without_edges_the_best_nodes_are_kept(edge_index):
    score = distinct(7, 1)
    for k in (1, 4, 7):
        assert torch.equal(spread(score, edge_index, k), topk(score, k))


def test_isolated_nodes_come_by_score():
    edge_index = edges_of(nx.path_graph(4))  # and nodes 4, 5 and 6 on their own
    score = torch.tensor([9.0, 8, 7, 6, 5, 10, 4])
    assert spread(score, edge_index, 2).tolist() == [5, 0]
    assert spread(score, edge_index, 5).tolist() == [5, 0, 2, 4, 6]


def test_all_or_no_nodes():
    score, edge_index = distinct(12, 0), random_graph(12, 3, 0)
    assert torch.equal(spread(score, edge_index, 12), score.argsort(descending=True))
    assert torch.equal(spread(score, edge_index, 99), score.argsort(descending=True))
    assert spread(score, edge_index, torch.tensor([0])).tolist() == []
    for quantiles in (None, 1, 5):
        assert spread(torch.empty(0), EMPTY, 3, quantiles=quantiles).tolist() == []


def test_ties_go_by_node_id():
    assert spread(torch.zeros(5), EMPTY, 2).tolist() == [0, 1]
    assert spread(torch.zeros(6), edges_of(nx.path_graph(6)), 3).tolist() == [0, 2, 4]


@pytest.mark.parametrize("quantiles", [None, 1])
def test_direction_loops_and_repetitions_change_nothing(quantiles):
    both = random_graph(60, 4, 0)
    one = both[:, both[0] < both[1]]
    loops = torch.arange(60).expand(2, -1)
    score = distinct(60, 0)
    for k in (5, 20, 40):
        expected = spread(score, both, k, quantiles=quantiles)
        assert torch.equal(expected, spread(score, one, k, quantiles=quantiles))
        messy = torch.cat([one, loops, both.flip(1), one], dim=1)
        assert torch.equal(expected, spread(score, messy, k, quantiles=quantiles))


def test_one_level_holds_still_while_scores_move():
    # No two nodes of this graph are alike to three rounds of refinement.
    edge_index = random_graph(200, 6, 1)
    kept = [
        spread(distinct(200, seed), edge_index, 0.4, quantiles=1).sort().values for seed in range(4)
    ]
    assert all(torch.equal(kept[0], other) for other in kept)
    moved = spread(distinct(200, 0), edge_index, 0.4).sort().values
    assert not torch.equal(moved, spread(distinct(200, 1), edge_index, 0.4).sort().values)


def test_levels_order_by_quantiles_of_the_score():
    score = distinct(64, 0)
    with_all = spread(score, random_graph(64, 4, 0), 20, quantiles=64)
    assert torch.equal(with_all, spread(score, random_graph(64, 4, 0), 20))


def test_shares_and_dtypes():
    edge_index, batch = random_graph(30, 3, 0), torch.arange(30) // 20
    score = distinct(30, 0)
    perm = spread(score, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]], 0.3, batch)
    assert batch[perm].tolist() == [0] * 6 + [1] * 3
    half = spread(score.half(), edge_index.int(), torch.tensor([9], dtype=torch.int32))
    assert torch.equal(half, spread(score, edge_index, 9))
    assert half.dtype == torch.int64


def test_no_gradient_is_asked_for():
    score = distinct(10, 0).requires_grad_()
    assert not spread(score, EMPTY, 3).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("quantiles", [None, 1])
def test_cuda_equals_cpu(quantiles):
    edge_index, score = random_graph(3000, 6, 0), distinct(3000, 0)
    for ratio in (0.5, 0.1, 0.01):
        expected = spread(score, edge_index, ratio, quantiles=quantiles)
        out = spread(score.cuda(), edge_index.cuda(), ratio, quantiles=quantiles)
        assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize(
    ("error", "match", "change"),
    [
        (TypeError, "'score' must be a torch.Tensor", {"score": [1.0, 2.0]}),
        (TypeError, "'score' must be floating point", {"score": torch.arange(4)}),
        (ValueError, "'score' must have shape", {"score": torch.rand(4, 1)}),
        (
            ValueError,
            "'score' must be finite .* at 2",
            {"score": torch.tensor([0, 1, torch.nan, 2])},
        ),
        (IndexError, "'edge_index' .*got 4", {"edge_index": torch.tensor([[0], [4]])}),
        (ValueError, "'edge_index' must have shape", {"edge_index": torch.zeros(3, 2).long()}),
        (ValueError, "'batch' must be sorted", {"batch": torch.tensor([0, 1, 0, 1])}),
        (ValueError, "'k' must lie in .*got 1.5", {"k": 1.5}),
        (ValueError, "'k' must be at least 1 .*got 0", {"k": 0}),
        (TypeError, "'k' must be .*got '2'", {"k": "2"}),
        (TypeError, "'k' must be of dtype", {"k": torch.tensor([2.0])}),
        (TypeError, "'k' must be a dense tensor", {"k": torch.tensor([2]).to_sparse()}),
        (ValueError, "'k' must lie in .* graph 0 .*got 5", {"k": torch.tensor([5])}),
        (ValueError, "'k' must lie in .*got -1", {"k": torch.tensor([-1])}),
        (ValueError, r"'k' must have shape \[1\]", {"k": torch.tensor(2)}),
        (
            ValueError,
            r"'edge_index' must not join .*got \[1, 2\]",
            {"batch": torch.tensor([0, 0, 1, 1]), "edge_index": torch.tensor([[0, 1], [1, 2]])},
        ),
        (ValueError, "'quantiles' must be at least 1", {"quantiles": 0}),
    ],
)
def test_bad_input_is_named(error, match, change):
    arguments = {"score": torch.rand(4), "edge_index": EMPTY, "k": 2, **change}
    with pytest.raises(error, match=match):
        spread(**arguments)


def test_one_quantile_reads_nothing_of_the_scores():
    """Of a connected graph whose nodes all look different: neither the set nor its order."""
    edge_index = random_graph(60, 5, 3)
    keep = edge_index[0] != edge_index[1]
    extra = torch.stack([torch.arange(59), torch.arange(1, 60)])  # a path joins them all
    edge_index = torch.cat([edge_index[:, keep], extra], dim=1)
    for count, more in ((1, {"quantiles": 1}), (9, {})):
        kept = [spread(distinct(60, s), edge_index, 20, **more) for s in range(9)]
        assert len({tuple(one.tolist()) for one in kept}) == count
