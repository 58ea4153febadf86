"""Scans in parallel rounds against one node after the other."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import Tensor

from pyg_gunet.functional import greedy, spread
from pyg_gunet.functional.greedy import Scans
from pyg_gunet.graph.sparse import csr

# Every size from which another way is taken, so low or high that graphs of this file take it.
WAYS = {
    "as they are": {},
    "chunks of three": {"LEAST": 3, "SHARE": 10**9},
    "chunks of three without tables": {"LEAST": 3, "SHARE": 10**9, "TABLE": -1, "SMALL": 0},
    "windows alone": {"WALKS": 0, "LEAST_WALKS": -1},
    "windows as walks are many": {"LEAST": 9, "SHARE": 10**9, "WALKS": 0, "LEAST_WALKS": 60},
    "lists": {"TABLE": -1},
    "few touched": {"SMALL": -(10**9)},
    "all touched": {"SMALL": 10**9},
    "masks reach": {"MANY": 10**9},
    "lists reach": {"MANY": 1},
}


def star_and_more() -> nx.Graph:
    graph = nx.gnm_random_graph(70, 60, seed=3)
    graph.add_edges_from((0, leaf) for leaf in range(1, 40))
    return graph


GRAPHS = {
    "path": nx.path_graph(60),
    "grid": nx.convert_node_labels_to_integers(nx.triangular_lattice_graph(7, 9)),
    "hub": star_and_more(),
    "heavy tail": nx.barabasi_albert_graph(80, 2, seed=0),
    "parts and isolated nodes": nx.disjoint_union_all(
        [nx.cycle_graph(17), nx.empty_graph(4), nx.gnm_random_graph(40, 50, seed=1)]
    ),
    "no edge": nx.empty_graph(5),
}


def pairs_of(graph: nx.Graph) -> Tensor:
    return torch.tensor(list(graph.edges), dtype=torch.long).view(-1, 2).t()


def scans_of(graph: nx.Graph, order: Tensor) -> Scans:
    return Scans(spread._neighbours(pairs_of(graph), len(graph)), greedy.inverse(order))


def one_by_one(
    graph: nx.Graph, order: list[int], kept: set[int], free: set[int], radius: int
) -> set[int]:
    found = set()
    for node in order:
        ball = set(nx.single_source_shortest_path_length(graph, node, cutoff=radius))
        if node in free and not ball & (kept | found):
            found.add(node)
    return found


def mask(nodes: set[int], size: int) -> Tensor:
    out = torch.zeros(size, dtype=torch.bool)
    out[list(nodes)] = True
    return out


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    for name, value in WAYS[request.param].items():
        assert hasattr(greedy, name)
        monkeypatch.setattr(greedy, name, value)


@pytest.mark.parametrize("scipy", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_independent_sets_are_those_of_a_scan(name, way, scipy, monkeypatch):
    monkeypatch.setattr(csr, "on_scipy", lambda tensor: scipy)
    graph, size = GRAPHS[name], len(GRAPHS[name])
    for seed, radius in enumerate([1, 2, 2, 3, 4, 5, 7]):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(size, generator=generator) if seed else torch.arange(size)
        scans = scans_of(graph, order)
        everything = set(range(size))
        found = scans.independent(None, mask(everything, size), radius)
        expected = one_by_one(graph, order.tolist(), set(), everything, radius)
        assert set(found.nonzero().view(-1).tolist()) == expected

        share = torch.rand(size, generator=generator)
        kept = set((share < 0.1).nonzero().view(-1).tolist())
        free = set((share < 0.7).nonzero().view(-1).tolist())
        found = scans.independent(mask(kept, size), mask(free, size), radius)
        expected = one_by_one(graph, order.tolist(), kept, free, radius)
        assert set(found.nonzero().view(-1).tolist()) == expected


@pytest.mark.parametrize("name", GRAPHS)
def test_several_kept_neighbours_are_counted_as_in_a_scan(name, way):
    graph, size = GRAPHS[name], len(GRAPHS[name])
    for fold in (1, 2, 3, 5):
        generator = torch.Generator().manual_seed(fold)
        order = torch.randperm(size, generator=generator)
        share = torch.rand(size, generator=generator)
        kept = set((share < 0.15).nonzero().view(-1).tolist())
        free = (share < 0.8).nonzero().view(-1).tolist()
        expected: set[int] = set()
        for node in order.tolist():
            have = len(set(graph[node]) & (kept | expected))
            if node in free and node not in kept and have < fold:
                expected.add(node)
        found = scans_of(graph, order).covered(mask(kept, size), mask(set(free), size), fold)
        assert set(found.nonzero().view(-1).tolist()) == expected


def test_windows_grow_with_the_radius_asked_for():
    graph, order = GRAPHS["grid"], torch.randperm(40, generator=torch.Generator().manual_seed(0))
    graph = graph.subgraph(range(40))
    scans, free = scans_of(graph, order), torch.ones(40, dtype=torch.bool)
    for radius in (2, 3, 5):
        found = scans.independent(None, free, radius)
        expected = one_by_one(graph, order.tolist(), set(), set(range(40)), radius)
        assert set(found.nonzero().view(-1).tolist()) == expected


def test_a_scan_stops_when_told_of_what_it_found():
    scans = scans_of(GRAPHS["path"], torch.randperm(60, generator=torch.Generator().manual_seed(0)))
    free = torch.ones(60, dtype=torch.bool)
    heard = []
    some = scans.independent(None, free, 2, lambda new: not heard.append(new))
    assert torch.equal(torch.cat(heard), some.nonzero().view(-1))
    assert len(heard) == 1
    heard.clear()
    found = scans.independent(None, free, 2, lambda new: bool(heard.append(new)))
    assert torch.equal(torch.cat(heard).sort().values, found.nonzero().view(-1))
    assert found.sum() > some.sum()


@pytest.mark.parametrize("way", ["chunks of three", "windows alone", "lists"], indirect=True)
@pytest.mark.parametrize("quantiles", [None, 1])
def test_every_way_selects_the_same(way, quantiles, monkeypatch):
    torch.manual_seed(0)
    # Of each graph its own radius, and of the first none: it keeps all.
    parts = [nx.gnm_random_graph(300, 700, seed=4), nx.path_graph(400), star_and_more()]
    edge_index, batch = pairs_of(nx.disjoint_union_all(parts)), torch.arange(3)
    batch = batch.repeat_interleave(torch.tensor([300, 400, 70]))
    score, k = torch.rand(770), torch.tensor([300, 33, 9])
    out = spread.spread(score, edge_index, k, batch, quantiles=quantiles)
    monkeypatch.undo()
    alone, start = [], 0
    for part, count in zip(parts, k.tolist()):
        end = start + len(part)
        one = spread.spread(score[start:end], pairs_of(part), count, quantiles=quantiles)
        alone.append(one + start)
        start = end
    assert torch.equal(out, torch.cat(alone))


@pytest.mark.parametrize("name", GRAPHS)
def test_components_are_the_same_on_every_device(name, monkeypatch):
    graph, size = GRAPHS[name], len(GRAPHS[name])
    score = torch.rand(size, generator=torch.Generator().manual_seed(0))
    expected = {max(part, key=lambda n: float(score[n])) for part in nx.connected_components(graph)}
    order = score.argsort(descending=True)
    matrix = spread._neighbours(pairs_of(graph), size)
    for scipy in (True, False):
        monkeypatch.setattr(csr, "on_scipy", lambda tensor, scipy=scipy: scipy)
        best = spread._best_of_component(greedy.inverse(order), order, matrix)
        assert set(best.nonzero().view(-1).tolist()) == expected


def test_edges_repeated_until_their_count_comes_round_to_zero_stay():
    pair = torch.tensor([[0], [1]])
    for times in (127, 128, 255, 256, 512):
        edge_index = torch.cat([pair.expand(2, times), torch.tensor([[1, 2], [2, 2]])], dim=1)
        matrix = spread._neighbours(edge_index, 4)
        row, col, values = csr.to_coo(matrix)
        assert torch.stack([row, col]).tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
        assert values.tolist() == [1, 1, 1, 1]


def test_hubs_cost_no_square_of_their_neighbours(monkeypatch):
    largest = 0
    inner = greedy.multiply

    def counted(left, right, products, **kwargs):
        nonlocal largest
        largest = max(largest, products)
        return inner(left, right, products, **kwargs)

    monkeypatch.setattr(greedy, "multiply", counted)
    generator = torch.Generator().manual_seed(0)
    leaves = torch.arange(1, 20000)
    hub = torch.stack([torch.zeros_like(leaves), leaves])
    more = torch.randint(20000, (2, 20000), generator=generator)
    spread.spread(torch.rand(20000, generator=generator), torch.cat([hub, more], dim=1), 0.05)
    assert largest <= greedy.LEAST_WALKS
