"""Point clouds and meshes of the auto-encoding protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix

CLOUDS = ("grid2d", "ring", "bunny")
SUFFIXES = (".ply", ".off", ".obj", ".stl")


def names(root: str | None) -> list[str]:
    """The three point clouds, then every mesh in the folder `root`."""
    meshes = [] if root is None else sorted(Path(root).iterdir())
    return [*CLOUDS, *(path.stem for path in meshes if path.suffix in SUFFIXES)]


def load(name: str, root: str | None) -> Data:
    """Coordinates `x` [N, D], `edge_index` [2, E], `edge_attr` [E]: the weights."""
    adjacency, x = _cloud(name) if name in CLOUDS else _mesh(name, root)
    edge_index, weight = from_scipy_sparse_matrix(adjacency.tocoo())
    return Data(
        x=torch.from_numpy(np.asarray(x, dtype=np.float32)),
        edge_index=edge_index,
        edge_attr=weight.float(),
    )


def _cloud(name: str) -> tuple[sparse.spmatrix, np.ndarray]:
    from pygsp import graphs

    if name == "grid2d":
        graph = graphs.Grid2d(N1=8, N2=8)
    elif name == "ring":
        graph = graphs.Ring(N=64)
    else:
        graph = graphs.Bunny()
    return graph.W.astype(np.float32), graph.coords


def _mesh(name: str, root: str | None) -> tuple[sparse.spmatrix, np.ndarray]:
    import trimesh

    paths = [] if root is None else sorted(Path(root).glob(f"{name}.*"))
    paths = [path for path in paths if path.suffix in SUFFIXES]
    if not paths:
        raise ValueError(f"'name' must be one of {names(root)} (got {name!r})")
    mesh = trimesh.load(paths[0], process=False, force="mesh")
    x = np.asarray(mesh.vertices, dtype=np.float64)
    # Centred, divided by the largest coordinate, and every column divided by its norm: as in the
    # reference code of the protocol, which takes the largest coordinate before centring.
    x = (x - x.mean(0)) / np.abs(x).max()
    x = x / np.linalg.norm(x, axis=0)
    a, b = mesh.edges_unique.T
    ones = np.ones(2 * len(a), dtype=np.float32)
    pairs = np.concatenate([a, b]), np.concatenate([b, a])
    return sparse.coo_matrix((ones, pairs), shape=(len(x), len(x))), x
