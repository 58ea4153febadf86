"""Graphs in the formats of other programs: every test writes the file that it reads."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import is_undirected

from pyg_gunet import load
from pyg_gunet.data import read_graph, read_graphs
from tests.data.conftest import dense

nx = pytest.importorskip("networkx", reason="needs networkx")

# Formats of other programs ----------------------------------------------------------------------


def house(directed=False):
    """Three nodes with a place, a truth value, a class and text; two edges with weights."""
    graph = nx.DiGraph() if directed else nx.Graph()
    for i, name in enumerate("uvw"):
        row = {"x": float(i), "y": float(i * 2), "heavy": i > 1, "class": "ab"[i % 2], "note": "n"}
        graph.add_node(name, **row)
    graph.add_edge("u", "v", weight=0.25)
    graph.add_edge("v", "w", weight=4.0)
    return graph


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("kind", ["graphml", "gexf", "gml", "cyjs"])
def test_formats(tmp_path, kind, directed):
    graph, path = house(directed), tmp_path / f"a.{kind}"
    if kind == "cyjs":
        path.write_text(json.dumps(nx.cytoscape_data(graph)))
    else:
        getattr(nx, f"write_{kind}")(graph, path)
    data = load(path)[0]
    names = ["0", "1", "2"] if kind == "gml" else ["u", "v", "w"]
    assert data.node_id == names
    assert data.feature_names == ["heavy", "x", "y"]
    assert data.x.tolist() == [[0, 0, 0], [0, 1, 2], [1, 2, 4]]
    assert data.pos.tolist() == [[0, 0], [1, 2], [2, 4]]
    assert data.y.tolist() == [0, 1, 0]
    expected = [[0, 0.25, 0], [0.25 * (not directed), 0, 4], [0, 4 * (not directed), 0]]
    assert dense(data).tolist() == expected


def test_parallel_edges_stay(tmp_path):
    graph = nx.MultiGraph([("u", "v"), ("u", "v"), ("v", "v")])
    for kind in ("graphml", "gml"):
        getattr(nx, f"write_{kind}")(graph, tmp_path / f"a.{kind}")
        assert dense(read_graph(tmp_path / f"a.{kind}")).tolist() == [[0, 2], [2, 1]]


def test_gml_of_igraph(write):
    node = 'node\n  [\n    id {}\n    name "{}"\n    graphics [ x {} y {} z 0 ]\n  ]\n'
    edge = "edge\n  [\n    source {}\n    target {}\n    value {}\n  ]\n"
    text = 'Creator "igraph version 0.10"\nVersion 1\ngraph\n[\n  directed 0\n'
    text += "".join(node.format(i, name, i, -i) for i, name in enumerate("abc"))
    text += edge.format(0, 1, 2) + edge.format(1, 2, 3) + edge.format(0, 1, 5) + "]\n"
    data = read_graph(write("a.gml", text), weight="value")
    assert data.pos.tolist() == [[0, 0, 0], [1, -1, 0], [2, -2, 0]]
    assert "x" not in data
    assert dense(data).tolist() == [[0, 7, 0], [7, 0, 3], [0, 3, 0]]


GRAPHML = """<?xml version="1.0"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml">
<key for="node" id="d0" yfiles.type="nodegraphics"/>{}</graphml>"""
YED = """<node id="n{0}"><data key="d0"><y:ShapeNode><y:Geometry height="3" width="3" x="{1}"
y="{2}"/><y:NodeLabel>N{0}</y:NodeLabel><y:Shape type="ellipse"/></y:ShapeNode></data></node>"""


def test_graphml_of_yed(write):
    body = "".join(YED.format(i, i * 10.5, -i) for i in range(3))
    edges = '<edge source="n0" target="n1"/><edge source="n1" target="n2"/>'
    text = GRAPHML.format(f'<graph edgedefault="directed">{body}{edges}</graph>')
    data = read_graph(write("a.graphml", text))
    assert data.pos.tolist() == [[0, 0], [10.5, -1], [21, -2]]
    assert "x" not in data
    assert data.num_edges == 2
    assert load(write("a.graphml", text))[0].x.shape == (3, 5)


@pytest.mark.parametrize(
    "versions",
    [
        [],
        [("gexf.net/1.2draft", "gexf.net/1.3")],
        [("gexf.net/1.2draft", "gephi.org/gexf"), ("attvalue for", "attvalue id")],
        [("http://www.gexf.net/1.2draft", "http:///www.gexf.net/1.1draft")],
    ],
)
def test_gexf_of_gephi(write, versions):
    text = """<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2"
    xmlns:viz="http://www.gexf.net/1.2draft/viz"><graph defaultedgetype="undirected">
    <attributes class="node"><attribute id="m" title="Modularity Class" type="integer"/>
    </attributes><nodes>{}</nodes><edges><edge id="0" source="1" target="0" weight="2.0"/></edges>
    </graph></gexf>"""
    node = """<node id="{0}" label="N"><attvalues><attvalue for="m" value="{1}"/></attvalues>
    <viz:size value="3"/><viz:position x="{0}.5" y="-1" z="0"/></node>"""
    text = text.format(node.format(1, 4) + node.format(0, 7))
    for old, new in versions:
        text = text.replace(old, new)
    data = read_graph(write("a.gexf", text), labels="Modularity Class")
    assert data.node_id == ["0", "1"]
    assert data.y.tolist() == [1, 0]
    assert data.pos.tolist() == [[0.5, -1, 0], [1.5, -1, 0]]
    assert data.edge_weight.tolist() == [2, 2]


PAJEK = {
    "edges": ("*Edges\n1 2 2\n2 3\n", [[0, 2, 0], [2, 0, 1], [0, 1, 0]]),
    "arcs": ("*Arcs\n1 2 2\n2 3 1\n", [[0, 2, 0], [0, 0, 1], [0, 0, 0]]),
    "edges below empty arcs": ("*Arcs\n*Edges\n1 2\n", [[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
    "both": ("*arcs\n1 2\n*edges\n2 3 5\n", [[0, 1, 0], [0, 0, 5], [0, 5, 0]]),
    "lists": ("*Arcslist\n1 2 3\n3 1\n", [[0, 1, 1], [0, 0, 0], [1, 0, 0]]),
    "edge lists": ("*Edgeslist\n1 2 3\n", [[0, 1, 1], [1, 0, 0], [1, 0, 0]]),
    "matrix": ("*Matrix\n0 2 0\n0 0 1\n1 0 0\n", [[0, 2, 0], [0, 0, 1], [1, 0, 0]]),
}


@pytest.mark.parametrize(
    "vertices", ["", '1 "a b" 0.1 0.2 0.5 ic Red\n2 "same" 0.3 0.4 0.5\n3 same .5 .6 .5\n']
)
@pytest.mark.parametrize("case", PAJEK)
def test_pajek(write, case, vertices):
    text, expected = PAJEK[case]
    data = read_graph(write("a.net", f"# 1\n% by hand\n*Network x\n*Vertices 3\n{vertices}{text}"))
    assert data.node_id == ["1", "2", "3"]
    assert dense(data).tolist() == expected
    if vertices:
        torch.testing.assert_close(data.pos[:, 0], torch.tensor([0.1, 0.3, 0.5]))


@pytest.mark.parametrize(
    "text, match",
    [
        ("*Vertices 5 3\n", "line 1: a network of two modes"),
        ("*Vertices 2\n*Edges\n1 3\n", "line 3 names the vertex '3'"),
        ("*Vertices 2\n*Partition x\n1\n", r"line 3: a graph has no section '\*partition'"),
    ],
)
def test_pajek_that_is_no_graph(write, text, match):
    with pytest.raises(ValueError, match=match):
        read_graph(write("a.net", text))


def test_matrix_market(tmp_path, write):
    from scipy.io import mmwrite

    matrix = sp.coo_array(np.array([[1, 2.5, 0], [2.5, 0, 3], [0, 3, 0]]))
    mmwrite(tmp_path / "a.mtx", matrix, symmetry="symmetric")
    data = read_graph(tmp_path / "a.mtx")
    assert data.node_id == ["1", "2", "3"]
    assert dense(data).tolist() == matrix.toarray().tolist()
    assert is_undirected(data.edge_index, data.edge_weight)
    mmwrite(tmp_path / "b.mtx", sp.triu(matrix, 1), symmetry="general")
    assert dense(read_graph(tmp_path / "b.mtx")).tolist() == [[0, 2.5, 0], [0, 0, 3], [0, 0, 0]]
    pattern = "%%MatrixMarket matrix coordinate pattern symmetric\n% c\n4 4 2\n2 1\n4 2\n"
    data = read_graph(write("c.mtx", pattern))
    assert "edge_weight" not in data
    assert (data.num_nodes, data.num_edges) == (4, 4)
    for text, match in (
        (pattern.replace("4 4 2", "4 5 2").replace("symmetric", "general"), "square and real"),
        (pattern.replace("4 4 2", "4 4 3"), "cannot read"),
        ("no banner\n1 1 1\n", "cannot read"),
    ):
        with pytest.raises(ValueError, match=match):
            read_graph(write("d.mtx", text))


def test_several_graphs_are_a_data_set(write):
    graph = '<graph edgedefault="undirected">{}<edge source="a" target="b"/></graph>'
    nodes = '<node id="a"/><node id="b"/>'
    text = GRAPHML.format(graph.format(nodes) + graph.format(nodes + '<node id="c"/>'))
    path = write("a.graphml", text)
    assert [data.num_nodes for data in read_graphs(path)] == [2, 3]
    dataset = load(path)
    assert [data.num_nodes for data in dataset] == [2, 3]
    assert [data.node_id for data in dataset] == [["a", "b"], ["a", "b", "c"]]
    with pytest.raises(ValueError, match="holds 2 graphs"):
        read_graph(path)
    with pytest.raises(ValueError, match="several graphs"):
        read_graph(write("a.gexf", "<gexf><graph></graph><graph ></graph></gexf>"))


ENTITY = '<!DOCTYPE g [<!ENTITY a "{}">{}]><graphml><graph edgedefault="undirected">'


@pytest.mark.parametrize(
    "file, text, match",
    [
        (
            "a.graphml",
            ENTITY.format("x", '<!ENTITY b "&a;&a;">') + "</graph></graphml>",
            "entity 'a'",
        ),
        ("a.graphml", ENTITY.format("x", "").replace('"x"', 'SYSTEM "file:///x"'), "entity"),
        ("a.gexf", ENTITY.format("x", "").replace("graphml", "gexf"), "entity"),
        ("a.graphml", "<graphml><graph", "cannot read"),
        ("a.graphml", "not xml", "cannot read"),
        ("a.graphml", '<graphml><graph edgedefault="undirected"/></graphml>', "holds no node"),
        ("a.gml", "graph [ node [ id 0 ]", "cannot read"),
        ("a.cyjs", "{", "cannot read"),
        ("a.pkl", "x", "must end in one of .graphml"),
        ("a.gz", "x", "must end in one of"),
        ("a.csv.gz", "no gzip", "cannot unpack"),
        ("a.ply", "ply\n", "as a mesh"),
        ("a.obj", "v 0 0 0\n", "no triangle|as a mesh"),
    ],
)
def test_bad_files_are_refused(write, file, text, match):
    with pytest.raises(ValueError, match=match):
        load(write(file, text))


def test_other_bad_paths_and_options_are_refused(tmp_path, write):
    with pytest.raises(ValueError, match="not a folder"):
        read_graph(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        load(str(tmp_path / "missing.graphml"))
    path = write("c.edgelist", "1 2\n" * 10)
    with pytest.raises(ValueError, match="'max_bytes'"):
        load(path, max_bytes=10)
    zeros = write("d.csv.gz", gzip.compress(b"0,1\n" * 10**6))
    with pytest.raises(ValueError, match="unpacks to more than 'max_bytes'"):
        load(zeros, max_bytes=10**5)
    for options, error, match in (
        ({"directed": 1}, TypeError, "'directed'"),
        ({"header": "yes"}, TypeError, "'header'"),
        ({"weight": 3}, TypeError, "'weight'"),
        ({"labels": ["a"]}, TypeError, "'labels'"),
        ({"features": "mass"}, TypeError, "'features' must be a list"),
        ({"targets": [3]}, TypeError, "'targets' must be a list"),
        ({"missing": "ignore"}, ValueError, "'missing'"),
        ({"nodes": tmp_path / "none.csv"}, FileNotFoundError, "none.csv"),
    ):
        with pytest.raises(error, match=match):
            read_graph(path, **options)


# Meshes, saved graphs, folders ------------------------------------------------------------------

TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"


def test_saved_graphs(tmp_path):
    graphs = [Data(x=torch.ones(n, 2), edge_index=torch.tensor([[0], [1]])) for n in (2, 3)]
    torch.save(graphs[0], tmp_path / "one.pt")
    torch.save(graphs, tmp_path / "two.pt")
    torch.save(graphs[0].to_dict(), tmp_path / "dict.pt")
    InMemoryDataset.save(graphs, str(tmp_path / "set.pt"))
    for name, sizes in (("one", [2]), ("two", [2, 3]), ("dict", [2]), ("set", [2, 3])):
        dataset = load(tmp_path / f"{name}.pt")
        assert [data.num_nodes for data in dataset] == sizes
        assert dataset[0].x.equal(graphs[0].x)
    for wrong in (torch.ones(3), [1], Data(x=torch.ones(2, 2))):
        torch.save(wrong, tmp_path / "wrong.pt")
        with pytest.raises(ValueError, match="wrong.pt' must hold graphs"):
            load(tmp_path / "wrong.pt")
    torch.save(Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [7]])), tmp_path / "out.pt")
    with pytest.raises(ValueError, match="'edge_index'"):
        load(tmp_path / "out.pt")


def test_a_folder_is_a_data_set(write, tmp_path):
    write("b.obj", TETRAHEDRON)
    write("a.csv", "0,1\n1,2\n")
    write(".hidden.csv", "0,1\n")
    write("readme.md", "no graph")
    with pytest.raises(ValueError, match="graph 1 of .* must have the attributes"):
        load(tmp_path)
    write("a.obj", TETRAHEDRON + "v 5 5 5\nf 1 2 5\n")
    (tmp_path / "a.csv").unlink()
    assert [data.num_nodes for data in load(tmp_path)] == [5, 4]
    write("targets.csv", "file,volume,area\nb,1.5,2\na.obj,3,4\n")
    assert [data.y.tolist() for data in load(str(tmp_path))] == [[[3, 4]], [[1.5, 2]]]
    write("targets.csv", "file,kind\nb,round\na,flat\n")
    assert [data.y.tolist() for data in load(str(tmp_path))] == [[0], [1]]
    write("targets.csv", "file,volume\na,1\n")
    with pytest.raises(ValueError, match="must say something of 'b.obj'"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no graph or mesh"):
        load(tmp_path / "empty")
