"""Graphs of other programs: every test writes the file that it reads."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import is_undirected, to_dense_adj

from pyg_gunet import load
from pyg_gunet.data import read_graph, read_graphs

nx = pytest.importorskip("networkx", reason="needs networkx")


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def dense(data):
    weight = data.get("edge_weight")
    return to_dense_adj(data.edge_index, edge_attr=weight, max_num_nodes=data.num_nodes)[0]


def pairs(data):
    """The edges by the names of their ends."""
    return {(data.node_id[u], data.node_id[v]) for u, v in data.edge_index.t().tolist()}


# Tables of edges --------------------------------------------------------------------------------

SQUARE = [["0", "1"], ["1", "2"], ["2", "3"], ["3", "0"]]
TABLES = {
    "windows": ("a.csv", "0,1\r\n1,2\r\n2,3\r\n3,0\r\n"),
    "old mac": ("a.csv", "0,1\r1,2\r2,3\r3,0\r"),
    "no end": ("a.csv", "0,1\n1,2\n2,3\n3,0"),
    "spaces": ("a.csv", "0, 1\n 1,2\n2 ,3 \n3,\t0\n"),
    "byte-order mark": ("a.csv", b"\xef\xbb\xbf0,1\n1,2\n2,3\n3,0\n"),
    "utf-16": ("a.csv", "0,1\n1,2\n2,3\n3,0\n".encode("utf-16")),
    "header": ("a.csv", "source,target\n0,1\n1,2\n2,3\n3,0\n"),
    "header in capitals": ("a.csv", "Source,Target\n0,1\n1,2\n2,3\n3,0\n"),
    "header of Gephi": ("a.csv", 'Id,Source,Target\n7,"0","1"\n8,1,2\n9,2,3\n10,3,0\n'),
    "unknown header": ("a.txt", "col1 col2\n0 1\n1 2\n2 3\n3 0\n"),
    "semicolons": ("a.csv", "0;1\n1;2\n2;3\n3;0\n"),
    "tabs": ("a.tsv", "0\t1\n1\t2\n2\t3\n3\t0\n"),
    "tabs at the end": ("a.txt", "0\t1\t\n1\t2\t\n2\t3\t\n3\t0\t\n"),
    "columns of spaces": ("a.txt", "  0   1\n  1   2\n\n  2   3 \n  3   0\n"),
    "comments": ("a.edges", "# of SNAP\n% of KONECT\n0 1 # first\n1 2\n# middle\n2 3\n3 0\n"),
    "twice and turned": ("a.txt", "0 1\n1 0\n1 2\n2 3\n3 0\n0 1\n"),
    "counts come first": ("a.txt", "4 4\n0 1\n1 2\n2 3\n3 0\n"),
    "KONECT": ("out.square", "% sym unweighted\n0 1 \n1 2 \n2 3 \n3 0 \n"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_square_however_it_is_written(write, case):
    path = write(*TABLES[case])
    data = read_graph(path)
    assert data.node_id == ["0", "1", "2", "3"]
    assert pairs(data) == {(u, v) for u, v in SQUARE} | {(v, u) for u, v in SQUARE}
    assert data.num_edges == 8
    assert "edge_weight" not in data
    assert data.validate()
    packed = write(path.name + ".gz", gzip.compress(path.read_bytes()))
    assert read_graph(packed).edge_index.equal(data.edge_index)


def test_names_are_what_stands_between_the_quotes(write):
    data = read_graph(write("a.csv", '"Smith, J",x\nx,"a ""b"""\n"C#",x\n'))
    assert data.node_id == ["Smith, J", "x", 'a "b"', "C#"]
    assert read_graph(write("a.csv", 'x, "Smith, J"\n')).node_id == ["x", "Smith, J"]
    assert read_graph(write("a.csv", '"two\nlines",x\nx,y\n')).node_id == ["two\nlines", "x", "y"]
    assert read_graph(write("a.txt", '"Smith, J" x\n')).node_id == ["Smith, J", "x"]
    assert read_graph(write("a.txt", "New York\tRome\n")).node_id == ["New York", "Rome"]


def test_what_looks_like_no_value_is_a_name(write):
    assert read_graph(write("a.csv", "NA,null\nnull,nan\n")).node_id == ["NA", "null", "nan"]


WRONG = {
    "short line": ("a.txt", "0 1\n# c\n\n1 2\n3\n", "line 5 has fewer columns"),
    "one token first": ("a.txt", "0\n1 2\n", "line 2 has 2 columns, line 1 has 1"),
    "columns come later": ("a.txt", "0 1\n\n1 2 5\n", "line 3 has 3 columns, line 1 has 2"),
    "weight is gone": ("a.csv", "0,1,5\n1,2,\n", "line 2 has fewer columns"),
    "no target": ("a.csv", "source,target\n0,1\n2,\n", "line 3 has fewer columns"),
    "one column": ("a.txt", "1\n", "line 1 must hold 'source target"),
    "four columns": ("a.edgelist", "1 2 3 4\n", "line 1 must hold 'source target"),
    "empty": ("a.edgelist", "", "holds no node"),
    "comments only": ("a.edgelist", "# 1 2\n", "holds no node"),
    "text as weight": ("a.csv", "0,1,1\n1,2,x\n", "'weight' .* must be a number .*'x' of line 2"),
    "nan as weight": ("a.csv", "0,1,1\n#\n1,2,nan\n", "'weight' .* is missing at line 3"),
    "weight beyond float32": ("a.csv", "0,1,1e300\n", r"'weight' .* must be finite .*line 1"),
    "weight beyond floats": ("a.csv", "0,1,1e999\n", r"'weight' .* must be finite \(got inf"),
    "names twice": ("a.csv", "source,target,w,w\n0,1,2,3\n", "line 1 names two columns alike"),
    "two sides": ("out.x", "% bip unweighted\n1 1\n", "bipartite"),
    "open quote": ("a.csv", '0,"1\n', "cannot read .*EOF inside string"),
    "columns without end": ("a.csv", "0," * 10**5, "line 1 has more than 10000 columns"),
    "latin-1": ("a.csv", b"M\xfcller,x\n", "cannot read .*utf-8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_named(write, case):
    file, text, match = WRONG[case]
    with pytest.raises(ValueError, match=match):
        load(write(file, text))


def test_weights_and_directions(write):
    path = write("a.csv", "a,b,0.5\nb,c,2\n")
    data = read_graph(path, directed=True)
    assert data.edge_index.tolist() == [[0, 1], [1, 2]]
    assert data.edge_weight.tolist() == [0.5, 2.0]
    assert data.edge_weight.dtype == torch.float32
    undirected = load(path)[0]
    assert undirected.num_edges == 4
    assert is_undirected(undirected.edge_index, undirected.edge_weight)
    signed = read_graph(write("s.csv", "a,b,-1\na,a,3\n"))
    assert dense(signed).tolist() == [[3, -1], [-1, 0]]
    last = read_graph(write("l.csv", "a,b,1\nb,a,7\n"))
    assert dense(last).tolist() == [[0, 7], [7, 0]]
    konect = read_graph(write("out.k", "% asym posweighted\n1 2 3 1234\n2 1 4 1235\n"))
    assert dense(konect).tolist() == [[0, 3], [4, 0]]


def test_columns_of_edges_by_name(write):
    path = write("a.csv", "from,to,km,lanes,note\n1,2,3.5,2,x\n2,3,1,4,y\n")
    plain = read_graph(path)
    assert "edge_weight" not in plain
    assert "edge_attr" not in plain
    data = read_graph(path, weight="km", edge_features=["lanes", "km"], directed=True)
    assert data.edge_weight.tolist() == [3.5, 1]
    assert data.edge_attr.tolist() == [[2, 3.5], [4, 1]]
    assert read_graph(path, edge_features=["km"]).edge_attr.tolist() == [[3.5], [3.5], [1], [1]]
    with pytest.raises(ValueError, match=r"no edge of .* has 'miles' \(there are .*'km'"):
        read_graph(path, weight="miles")
    with pytest.raises(ValueError, match="'note' .* must be a number .*'x' of line 2"):
        read_graph(path, edge_features=["note"])
    assert read_graph(path, header=True).num_nodes == 3
    named = read_graph(write("n.csv", "who,whom,years\na,b,3\nb,c,4\n"), weight="years")
    assert named.node_id == ["a", "b", "c"]
    assert named.edge_weight.tolist() == [3, 3, 4, 4]
    assert read_graph(write("b.csv", "a,b\nc,d\n"), header=True).node_id == ["c", "d"]
    assert read_graph(write("b.csv", "source,target\n"), header=False).num_nodes == 2


# Nodes ------------------------------------------------------------------------------------------


def test_a_table_of_nodes(write):
    edges = write("e.csv", "10,2\n2,3\n")
    nodes = write(
        "n.csv",
        "\ufeffname,mass,heavy,colour,class,split\r\n"
        '2,1.5,true,"red, dark",B,train\r\n10,2.5,false,blue,A,val\r\n'
        "3,0.5,TRUE,blue,,test\r\n7,1,false,blue,B,\r\n",
    )
    data = read_graph(edges, nodes=nodes)
    assert data.node_id == ["2", "3", "7", "10"]
    assert data.feature_names == ["heavy", "mass"]
    assert data.x.tolist() == [[1, 1.5], [1, 0.5], [0, 1], [0, 2.5]]
    assert data.class_names == ["A", "B"]
    assert data.y.tolist() == [1, -1, 1, 0]
    assert data.train_mask.tolist() == [True, False, False, False]
    assert data.val_mask.tolist() == [False, False, False, True]
    assert data.test_mask.tolist() == [False, True, False, False]
    chosen = read_graph(edges, nodes=nodes, features=["colour", "mass"], labels="heavy")
    assert chosen.feature_names == ["colour=blue", "colour=red, dark", "mass"]
    assert chosen.x.tolist() == [[0, 1, 1.5], [1, 0, 0.5], [1, 0, 1], [1, 0, 2.5]]
    assert chosen.y.tolist() == [1, 1, 0, 0]
    values = read_graph(edges, nodes=nodes, targets=["mass"])
    assert values.y.tolist() == [[1.5], [0.5], [1], [2.5]]
    assert values.feature_names == ["heavy"]
    masks = write("m.csv", "id,train_mask,mass\n2,true,1\n3,false,1\n10,,1\n")
    assert read_graph(edges, nodes=masks).train_mask.tolist() == [True, False, False]
    for options, match in (
        ({"features": ["weight"]}, "no node of .* has 'weight'"),
        ({"labels": "kind"}, "no node of .* has 'kind'"),
        ({"targets": ["colour"]}, "'colour' .* must be a number .*'red, dark' of node '2'"),
        ({"labels": "class", "targets": ["mass"]}, "'labels' must be None with 'targets'"),
    ):
        with pytest.raises(ValueError, match=match):
            read_graph(edges, nodes=nodes, **options)
    with pytest.raises(ValueError, match="'split' .* must be train, val or test .*'tr'"):
        read_graph(edges, nodes=write("n.csv", "id,mass,split\n2,1,tr\n3,1,\n10,1,val\n"))
    with pytest.raises(ValueError, match="'2' again on line 3"):
        read_graph(edges, nodes=write("n.csv", "id,mass\n2,1\n2,1\n"))
    with pytest.raises(ValueError, match="n.csv' as a table: line 3 has 3 columns"):
        read_graph(edges, nodes=write("n.csv", "id,mass\n2,1\n2,1,3\n"))


def test_a_table_of_nodes_beside_the_attributes_of_a_file(write, tmp_path):
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, {0: 1.0, 1: 2.0, 2: 3.0}, "mass")
    nx.set_node_attributes(graph, 7, "size")
    nx.write_graphml(graph, tmp_path / "a.graphml")
    table = write("n.csv", "id,size,age\n2,1,4\n1,2,5\n0,3,6\n")
    data = read_graph(tmp_path / "a.graphml", nodes=table)
    assert data.feature_names == ["age", "mass", "size"]
    assert data.x.tolist() == [[6, 1, 3], [5, 2, 2], [4, 3, 1]]


def test_places_that_some_nodes_lack_are_no_positions(write):
    nodes = "node [ id 0 graphics [ x 1 y 2 ] ] node [ id 1 ] edge [ source 0 target 1 ]"
    data = read_graph(write("a.gml", f"graph [ {nodes} ]"))
    assert data.pos is None
    assert data.num_edges == 2


def test_what_is_missing_is_named_filled_or_dropped(write):
    edges = write("e.csv", "a,b\nb,c\n")
    nodes = write("n.csv", "id,mass,size\na,1,5\nb,,6\nc,3,7\n")
    with pytest.raises(ValueError, match="'mass' .* is missing at node 'b'; missing='fill'"):
        read_graph(edges, nodes=nodes)
    assert read_graph(edges, nodes=nodes, missing="fill").x.tolist() == [[1, 5], [2, 6], [3, 7]]
    dropped = read_graph(edges, nodes=nodes, missing="drop")
    assert dropped.feature_names == ["size"]
    assert dropped.x.tolist() == [[5], [6], [7]]
    with pytest.raises(ValueError, match="'size' .* is missing at node 'd'"):
        read_graph(write("e.csv", "a,d\n"), nodes=write("n.csv", "id,size\na,1\n"))


CLASSES = {
    "by number": (["10", "2", "9.5"], ["2", "9.5", "10"], [2, 0, 1]),
    "unlabelled": (["-1", "10", "2"], ["2", "10"], [-1, 1, 0]),
    "two classes": (["-1", "1", "1"], ["-1", "1"], [0, 1, 1]),
    "words": (["b", "a", "10"], ["10", "a", "b"], [2, 1, 0]),
    "gaps": (["b", "", "a"], ["a", "b"], [1, -1, 0]),
    "gaps in numbers": (["10", "", "2"], ["2", "10"], [1, -1, 0]),
    "truth": (["true", "false", "true"], ["0", "1"], [1, 0, 1]),
    "unknown": (["b", "?", "NaN"], ["b"], [0, -1, -1]),
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes(write, case):
    values, names, expected = CLASSES[case]
    nodes = write("n.csv", "id,class\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values)))
    data = read_graph(write("e.csv", "0,1\n1,2\n"), nodes=nodes)
    assert data.class_names == names
    assert data.y.tolist() == expected


def test_graphml_where_class_is_missing(write, tmp_path):
    graph = nx.path_graph(4)
    nx.set_node_attributes(graph, {0: -1, 1: 10, 3: 2}, "class")
    nx.write_graphml(graph, tmp_path / "a.graphml")
    data = read_graph(tmp_path / "a.graphml")
    assert data.y.tolist() == [-1, 1, -1, 0]
    graph.nodes[1]["mass"] = 1.5
    nx.write_graphml(graph, tmp_path / "b.graphml")
    with pytest.raises(ValueError, match="'mass' of .*b.graphml' is missing at node '0'"):
        read_graph(tmp_path / "b.graphml")
    graph.nodes[1]["mass"] = 10**400
    nx.write_graphml(graph, tmp_path / "c.graphml")
    with pytest.raises(ValueError, match="'mass' of .* must be finite"):
        read_graph(tmp_path / "c.graphml", missing="fill")


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
