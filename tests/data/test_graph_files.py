"""Graphs of other programs: every test writes the file that it reads."""

from __future__ import annotations

import gzip

import pytest
import torch
from torch_geometric.utils import is_undirected

from pyg_gunet import load
from pyg_gunet.data import read_graph
from tests.data.conftest import dense

nx = pytest.importorskip("networkx", reason="needs networkx")


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
