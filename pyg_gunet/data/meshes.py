"""Mesh files: surfaces by trimesh, and by meshio those of simulations, with their fields."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from pyg_gunet.files import first_line

SURFACES = (".obj", ".ply", ".stl", ".off")
FIELDS = (".vtk", ".vtu", ".msh")


def _native(values: Any) -> Tensor:
    """Of an array as a file stores it, which of VTK's is big-endian."""
    values = np.asarray(values)
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def _ring(size: int) -> list[tuple[int, int]]:
    return [(i, (i + 1) % size) for i in range(size)]


# Edges between the vertices of a cell, by VTK's numbering of them.
CELLS: dict[str, Iterable[tuple[int, int]]] = {
    "vertex": [],
    "line": [(0, 1)],
    "triangle": _ring(3),
    "quad": _ring(4),
    "tetra": list(combinations(range(4), 2)),
    "pyramid": [*_ring(4), *((i, 4) for i in range(4))],
    "wedge": [*_ring(3), (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)],
    "hexahedron": [
        *_ring(4), *((a + 4, b + 4) for a, b in _ring(4)), *((i, i + 4) for i in range(4)),
    ],
}  # fmt: skip


def read_mesh(path: Path) -> Data:
    """The vertices of a mesh, and the edges of its cells. `x` holds the fields given at the
    vertices, one after the other in the order of the file, or else the positions."""
    return (_read_fields if path.suffix.lower() in FIELDS else _read_surface)(path)


def _read_surface(path: Path) -> Data:
    import trimesh

    try:
        mesh: Any = trimesh.load(path, force="mesh", process=False)
    except Exception as error:  # each format has its own
        raise ValueError(f"cannot read '{path}' as a mesh: {first_line(error)}") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise ValueError(f"'{path}' holds no triangle")
    _check_finite(path, "a vertex", torch.tensor(mesh.vertices))  # `process` would drop it
    mesh.process(merge_tex=True, merge_norm=True)
    edges = torch.tensor(mesh.edges_unique, dtype=torch.long).t()
    return _graph(path, torch.tensor(mesh.vertices), edges, [])


def _read_fields(path: Path) -> Data:
    import meshio

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # it leaves the program where it knows no way
        told = first_line(error) if isinstance(error, Exception) else said.getvalue().strip()
        raise ValueError(f"cannot read '{path}' as a mesh: {told:.200}") from error
    edges = [torch.empty((2, 0), dtype=torch.long)]
    for block in mesh.cells:
        cells = _native(block.data).long()
        pairs = _ring(cells.size(1)) if block.type == "polygon" else CELLS.get(block.type)
        if pairs is None:
            raise ValueError(f"'{path}' holds cells of type {block.type!r}; known are {[*CELLS]}")
        edges += [cells[:, [a, b]].t() for a, b in pairs]
    index = torch.cat(edges, dim=1)
    if not index.numel():
        raise ValueError(f"'{path}' holds no cell with an edge")
    pos = _native(mesh.points)
    if int(index.min()) < 0 or int(index.max()) >= len(pos):
        raise ValueError(f"'{path}' holds a cell of vertices beyond its {len(pos)} points")
    own = [name for name in mesh.point_data if not name.startswith("gmsh:")]  # bookkeeping
    fields = [(name, _native(mesh.point_data[name])) for name in own]
    return _graph(path, pos, index, fields)


def _graph(path: Path, pos: Tensor, edges: Tensor, fields: list[tuple[str, Tensor]]) -> Data:
    for what, values in [("a vertex", pos), *((f"a value of {name!r}", v) for name, v in fields)]:
        _check_finite(path, what, values)
    pos = pos.float()
    columns = [values.float().view(len(pos), -1) for _, values in fields]
    x = torch.cat(columns, dim=1) if columns else pos.clone()
    return Data(x=x, pos=pos, edge_index=to_undirected(edges, num_nodes=len(pos)))


def _check_finite(path: Path, what: str, values: Tensor) -> None:
    if not bool(values.float().isfinite().all()):
        raise ValueError(f"'{path}' holds {what} that is not finite")
