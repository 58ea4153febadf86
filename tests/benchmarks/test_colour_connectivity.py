"""The colourings against what their names say, and the protocol's parts."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch


def red_part(data) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(data.num_nodes))
    graph.add_edges_from(data.edge_index.t().tolist())
    return graph.subgraph(data.x[:, 1].nonzero().view(-1).tolist())


@pytest.fixture(scope="module")
def euroroad(tmp_path_factory):
    """A graph of two parts in the format of the authors' list of edges."""
    folder = tmp_path_factory.mktemp("roads")
    edges = [*nx.cycle_graph(20).edges, *nx.path_graph(range(20, 24)).edges]
    lines = [f"{24} {len(edges)}", *(f"{a + 1} {b + 1}" for a, b in edges)]
    (folder / "euroroad.edges").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", ["6x6", "5x8", "Euroroad"])
def test_half_is_red_in_one_island_or_two(euroroad, name):
    from _colour_data import colourings

    graphs = colourings(name, 20, 0, euroroad)
    found = [nx.number_connected_components(red_part(data)) for data in graphs]
    assert found == [1 + int(data.y) for data in graphs]
    assert sorted(found) == [1] * 10 + [2] * 10
    assert found != sorted(found)
    for data in graphs:
        assert int(data.x[:, 1].sum()) == data.num_nodes // 2
        assert (data.x.sum(1) == 1).all()
    assert len({tuple(data.x[:, 1].tolist()) for data in graphs}) == 20


def test_colourings_are_seeded():
    from _colour_data import colourings

    one, again, other = (colourings("6x6", 20, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(one, again))
    assert not all(torch.equal(a.x, b.x) for a, b in zip(one, other))
    with pytest.raises(ValueError, match="'count' must be even"):
        colourings("6x6", 3, 0)


def test_walks_step_along_edges_and_stop_at_half():
    """Two walkers on a path cannot jump: what is red are two intervals that they share."""
    from _colour_data import islands, walks

    ends = torch.arange(29)
    path = torch.cat([torch.stack([ends, ends + 1]), torch.stack([ends + 1, ends])], dim=1)
    colour = walks(path, 30, np.random.default_rng(0), 50)
    assert 0 < len(colour) <= 50
    assert (colour.sum(1) == 15).all()
    assert {islands(row, path) for row in colour} == {1, 2}
    assert islands(np.array([True, False, True] + 27 * [False]), path) == 2


def test_grids_have_no_diagonals():
    from _colour_data import topology

    edge_index, size = topology("3x4")
    want = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4))
    assert size == 12
    assert {tuple(edge) for edge in edge_index.t().tolist()} == {
        edge for a, b in want.edges for edge in ((a, b), (b, a))
    }


def test_roads(euroroad, tmp_path):
    from _colour_data import topology

    edge_index, size = topology("Euroroad", euroroad)
    assert (size, edge_index.size(1)) == (24, 46)
    with pytest.raises(FileNotFoundError, match=r"euroroad\.edges is missing: copy"):
        topology("Euroroad", tmp_path)
    with pytest.raises(ValueError, match="'name' must be one of"):
        topology("moon")
    pytest.importorskip("pygsp")
    edge_index, size = topology("Minnesota")
    graph = nx.Graph(edge_index.t().tolist())
    assert (size, graph.number_of_edges()) == (2642, 3304)
    assert nx.is_connected(graph)


def test_edges_of_one_colour_keep_the_islands():
    from _colour_data import colourings, counts, of_one_colour

    for data in colourings("6x6", 10, 0):
        own = of_one_colour(data)
        red = own.x[:, 1]
        assert (red[own.edge_index[0]] == red[own.edge_index[1]]).all()
        assert nx.number_connected_components(red_part(own)) == 1 + int(data.y)
        assert red_part(own).number_of_edges() == red_part(data).number_of_edges()
        near = [
            [int(red[data.edge_index[1, data.edge_index[0] == i]].sum()) for i in range(36)],
            red.int().tolist(),
        ]
        table = counts(data).view(2, 7)
        assert table.sum() == 36
        for number, colour in zip(*near):
            table[colour, number] -= 1
        assert (table == 0).all()


def test_systems_are_of_one_size():
    from _colour_models import HIDDEN, OURS, Levels, make, parameters
    from colour_connectivity import SYSTEMS

    for depth in (4, 7):
        size = parameters(Levels(HIDDEN, depth, OURS))
        for system in SYSTEMS:
            if system != "counts":
                assert parameters(make(system, depth)) == pytest.approx(size, rel=0.1), system


@pytest.mark.parametrize("edges", ["all", "own"])
@pytest.mark.parametrize(
    "system", ["counts", "GIN, virtual node", "no levels", "spread, mean, contract, interpolate"]
)
def test_a_run(tmp_path, system, edges):
    """Only a final one reads the test part."""
    from colour_connectivity import QUICK, train

    row = train("6x6", QUICK, system, {"edges": edges}, 1000, tmp_path)
    assert row["test"] is None
    assert 0 <= row["val"] <= 100
    again = train("6x6", QUICK, system, {"edges": edges}, 0, tmp_path)
    assert 0 <= again["test"] <= 100


def test_levels_follow_their_graph(tmp_path):
    """Kept levels are those that a graph's own edges give."""
    from colour_connectivity import QUICK, parts

    from pyg_gunet.transforms import Coarsen

    for edges in ("all", "own"):
        for part, plain in zip(
            *(parts("6x6", QUICK, edges, c, tmp_path) for c in ("contract", ""))
        ):
            for data, own in zip(part, plain):
                assert torch.equal(data.x, own.x)
                assert torch.equal(data.y, own.y)
                want = Coarsen(QUICK.depth)(own)
                assert torch.equal(data.level_index_2, want.level_index_2)
