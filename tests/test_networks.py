from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.utils import from_networkx

from pyg_gunet import GraphUNet, GraphUNetAutoEncoder
from pyg_gunet.data import read_graph
from pyg_gunet.networks import MAX_EDGES, draw_hierarchy, hierarchy_to_networkx
from tests.conftest import dense_two_hop, random_batch, random_graph

nx = pytest.importorskip("networkx", reason="needs networkx")


def encode(connect: str = "two_hop", directed: bool = False, **options):
    torch.manual_seed(0)
    graph = random_graph(24, 40, directed=directed)
    model = GraphUNet(3, 8, 2, 2, connect=connect, **options)
    _, hierarchy = model.states(torch.randn(24, 3), graph.edge_index, None, graph.edge_weight)
    return graph, hierarchy


@pytest.mark.parametrize("directed", [False, True])
def test_levels_are_the_dense_squares(directed):
    """Nodes under the input's numbers; weights are the walk counts of the dense oracle."""
    graph, hierarchy = encode(directed=directed)
    dense = graph.dense()
    loops = {int(n) for n, m in graph.edge_index.t() if n == m}
    for level in range(3):
        out = hierarchy_to_networkx(hierarchy, level)
        assert out.is_directed() == directed
        kept = hierarchy.kept(level).tolist()
        assert list(out.nodes) == kept
        assert [out.nodes[node]["row"] for node in kept] == list(range(len(kept)))
        if level:
            dense = dense_two_hop(dense, hierarchy.perms[level - 1])
        off = nx.to_numpy_array(out, nodelist=kept)
        np.fill_diagonal(off, 0)
        np.testing.assert_allclose(off, dense.numpy(), rtol=1e-5)
        assert {n for n, m in out.edges if n == m} == (loops if level == 0 else set())
    assert list(hierarchy_to_networkx(hierarchy, -1).nodes) == kept


@pytest.mark.parametrize("connect", ["induced", "contract", "walk", "sampled"])
def test_every_connection_and_pyg_reads_it_back(connect):
    graph, hierarchy = encode(connect)
    out = hierarchy_to_networkx(hierarchy, 1, directed=True)
    index, weight = hierarchy.levels[1].edges()
    back = from_networkx(out)
    assert back.num_nodes == hierarchy.levels[1].num_nodes

    def dense(pairs, values):
        return torch.zeros(back.num_nodes, back.num_nodes).index_put(tuple(pairs), values)

    torch.testing.assert_close(dense(back.edge_index, back.weight.float()), dense(index, weight))


def test_levels_of_a_batch_name_their_graph_and_go_to_a_file(tmp_path):
    data = random_batch(sizes=(8, 6, 9))
    model = GraphUNetAutoEncoder(3, 8, 4, 2)
    _, hierarchy = model.encode(torch.randn(23, 3), data.edge_index, data.batch)
    out = hierarchy_to_networkx(hierarchy, 1)
    assert [out.nodes[n]["graph"] for n in out] == hierarchy.levels[1].batch.tolist()
    nx.write_graphml(out, tmp_path / "level.graphml")
    data = read_graph(tmp_path / "level.graphml")
    assert data.node_id == sorted(map(str, out.nodes), key=int)
    assert data.num_edges == out.number_of_edges() * (1 if out.is_directed() else 2)


def test_levels_that_are_not_there_are_refused():
    _, hierarchy = encode(directed=True)
    for level in (3, -4):
        with pytest.raises(IndexError, match=r"'level' must lie in \[-3, 3\)"):
            hierarchy_to_networkx(hierarchy, level)
    with pytest.raises(ValueError, match="'directed'"):
        hierarchy_to_networkx(hierarchy, 0, directed=False)


# The picture ------------------------------------------------------------------------------------


def collections(figure):
    (axes,) = figure.axes
    kinds = {"_kept": [], "edges": [], "nodes": []}
    for item in axes.collections:
        segments = getattr(item, "_segments3d", None)
        if segments is None:
            kinds["nodes"].append(np.column_stack([np.asarray(part) for part in item._offsets3d]))
        else:
            kinds["_kept" if item.get_label() == "_kept" else "edges"].append(np.asarray(segments))
    return kinds


def test_levels_are_stacked_and_kept_nodes_linked(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    graph, hierarchy = encode()
    pos = torch.rand(24, 3)
    figure = draw_hierarchy(hierarchy, tmp_path / "levels.png", pos=pos)
    assert (tmp_path / "levels.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drawn = collections(figure)
    assert [len(points) for points in drawn["nodes"]] == [24, 12, 6]
    for level, points in enumerate(drawn["nodes"]):
        assert set(points[:, 2]) == {float(level)}
        # A kept node stands above itself.
        own = drawn["nodes"][0][hierarchy.kept(level).numpy(), :2]
        np.testing.assert_allclose(points[:, :2], own)
    for level, links in enumerate(drawn["_kept"], start=1):
        assert len(links) == hierarchy.levels[level].num_nodes
        np.testing.assert_allclose(links[:, 0, :2], links[:, 1, :2])
        assert set(links[:, 0, 2]) == {level - 1.0}
        assert set(links[:, 1, 2]) == {float(level)}
    for level, lines in enumerate(drawn["edges"]):
        out = hierarchy_to_networkx(hierarchy, level)
        assert len(lines) == out.number_of_edges()
    assert len(drawn["edges"]) == 3


def test_one_graph_of_a_batch_is_drawn_alone():
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    data = random_batch(sizes=(8, 6, 9))
    _, hierarchy = GraphUNet(3, 8, 2, 2).states(torch.randn(23, 3), data.edge_index, data.batch)
    drawn = collections(draw_hierarchy(hierarchy, graph=2))
    assert [len(points) for points in drawn["nodes"]] == [9, 5, 3]
    with pytest.raises(ValueError, match="'graph' must be one of the batch"):
        draw_hierarchy(hierarchy, graph=3)
    with pytest.raises(ValueError, match=r"'pos' must have shape \[23, 2\]"):
        draw_hierarchy(hierarchy, pos=torch.rand(22, 2))


def test_more_lines_than_can_be_seen_are_left_out(monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    _, hierarchy = encode()
    monkeypatch.setattr("pyg_gunet.networks.MAX_EDGES", 10)
    assert MAX_EDGES > 10
    counts = [hierarchy_to_networkx(hierarchy, level).number_of_edges() for level in range(3)]
    drawn = collections(draw_hierarchy(hierarchy, pos=torch.rand(24, 2)))["edges"]
    assert [len(lines) for lines in drawn] == [count for count in counts if count <= 10]
    assert len(drawn) < 3


def test_bad_arguments_are_refused():
    _, hierarchy = GraphUNet(2, 4, 2, depth=1).states(torch.rand(3, 2), torch.tensor([[0], [1]]))
    for call, error, match in (
        (lambda: hierarchy_to_networkx(3, 0), TypeError, "'hierarchy' must be a Hierarchy.*3"),
        (
            lambda: draw_hierarchy(hierarchy, pos=torch.full((3, 2), torch.nan)),
            ValueError,
            "'pos' must be finite",
        ),
    ):
        with pytest.raises(error, match=match):
            call()
