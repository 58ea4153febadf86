"""Mesh files, of surfaces and of simulations with their fields."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.utils import is_undirected, to_networkx

from pyg_gunet import load

meshio = pytest.importorskip("meshio", reason="needs meshio")
TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"
CELLS = {
    "line": nx.path_graph(2),
    "triangle": nx.cycle_graph(3),
    "quad": nx.cycle_graph(4),
    "tetra": nx.complete_graph(4),
    "pyramid": nx.wheel_graph(5),
    "wedge": nx.circular_ladder_graph(3),
    "hexahedron": nx.hypercube_graph(3),
}


@pytest.mark.parametrize("kind", ["obj", "ply", "stl", "off"])
def test_surfaces(tmp_path, kind):
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh")
    path = tmp_path / "a.obj"
    path.write_text(TETRAHEDRON)
    if kind != "obj":
        path = tmp_path / f"a.{kind}"
        trimesh.load(tmp_path / "a.obj").export(path)
    data = load(path)[0]
    assert data.x.sort(0).values.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert data.pos.equal(data.x)
    assert data.num_edges == 12
    assert is_undirected(data.edge_index)


@pytest.mark.parametrize("kind", ["vtk", "vtu"])
@pytest.mark.parametrize("cell", CELLS)
def test_edges_of_every_kind_of_cell(tmp_path, cell, kind):
    count = CELLS[cell].number_of_nodes()
    points = np.random.default_rng(0).random((count, 3))
    meshio.write(tmp_path / f"a.{kind}", meshio.Mesh(points, {cell: [list(range(count))]}))
    data = load(tmp_path / f"a.{kind}")[0]
    graph = to_networkx(data, to_undirected=True)
    assert nx.is_isomorphic(graph, CELLS[cell])
    torch.testing.assert_close(data.pos, torch.tensor(points, dtype=torch.float32))
    assert data.x.equal(data.pos)


@pytest.mark.parametrize("kind", ["vtk", "vtu", "msh"])
def test_fields_at_the_vertices_are_the_features(tmp_path, kind):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    cells = {"triangle": [[0, 1, 2], [1, 3, 2]], "line": [[0, 1]]}
    fields = {"heat": np.array([1.0, 2, 3, 4]), "flow": np.arange(12.0).reshape(4, 3)}
    form = {"file_format": "gmsh22"} if kind == "msh" else {}
    meshio.write(tmp_path / f"a.{kind}", meshio.Mesh(points, cells, point_data=fields), **form)
    data = load(tmp_path / f"a.{kind}")[0]
    expected = np.concatenate([fields["heat"][:, None], fields["flow"]], axis=1)
    assert data.x.tolist() == expected.tolist()
    pairs = {(0, 1), (1, 2), (0, 2), (1, 3), (2, 3)}
    assert set(map(tuple, data.edge_index.t().tolist())) == pairs | {(b, a) for a, b in pairs}


def test_files_that_hold_no_mesh(tmp_path):
    path = tmp_path / "a.vtu"
    path.write_text("no mesh")
    with pytest.raises(ValueError, match="cannot read '.*a.vtu' as a mesh"):
        load(path)
    points = np.zeros((6, 3))
    for cells, match in (
        ({"triangle6": [[0, 1, 2, 3, 4, 5]]}, "cells of type 'triangle6'"),
        ({"vertex": [[0]]}, "no cell with an edge"),
        ({"line": [[0, 6]]}, "vertices beyond its 6 points"),
    ):
        meshio.write(path, meshio.Mesh(points, cells))
        with pytest.raises(ValueError, match=match):
            load(path)
    fields = {"heat": np.array([0, 0, np.nan, 0, 0, 0])}
    meshio.write(path, meshio.Mesh(points, {"line": [[0, 1]]}, point_data=fields))
    with pytest.raises(ValueError, match="a value of 'heat' that is not finite"):
        load(path)


@pytest.mark.parametrize("wrong", ["nan", "inf", "1e39"])  # the last beyond float32
def test_a_vertex_that_is_not_finite(tmp_path, wrong):
    """trimesh by itself leaves it out, and of what hangs on it makes other triangles."""
    path = tmp_path / "a.obj"
    path.write_text(f"v 1 1 1\nv 1 0 0\nv 0 1 0\nv {wrong} 0 0\nf 1 2 3\nf 2 3 4\n")
    with pytest.raises(ValueError, match="holds a vertex that is not finite"):
        load(path)
