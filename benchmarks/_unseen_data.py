"""Graphs to train and to test auto-encoders on: random triangulations with smooth fields, and
meshes of surfaces with coordinates and normals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from _interpolation import biharmonic, harmonic, kept_nodes, spectral
from _mesh_data import random_field, triangulate
from torch_geometric.data import Data

CASES = ("triangulations", "surfaces")
TEST_SURFACES = ("ant", "cow", "fandisk", "nut")
SUFFIXES = (".ply", ".obj", ".off", ".stl")


def triangulations(count: int, sizes: tuple[int, int], seed: int) -> list[Data]:
    """Random meshes with three fields, each a sum of waves of 0.25 to 2 domain widths."""
    out = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        size = float(np.exp(rng.uniform(*np.log(sizes))))
        points, triangles = triangulate(size, rng)
        x = np.stack([random_field(points, rng, 0.25, 2.0) for _ in range(3)], axis=1)
        out.append(_data(x, points, triangles))
    return out


def surfaces(root: str | None, test: bool) -> list[Data]:
    """Meshes of the folder `root`: centred coordinates over their root mean square, and unit
    normals.

    Raises:
        ValueError: If the folder has no meshes, or not those that are tested on.
    """
    import trimesh

    paths = [] if root is None else sorted(Path(root).iterdir())
    paths = [path for path in paths if path.suffix in SUFFIXES]
    missing = set(TEST_SURFACES) - {path.stem for path in paths}
    if missing:
        raise ValueError(f"'root' must hold the meshes {', '.join(sorted(missing))} (got {root!r})")
    out = []
    for path in paths:
        if (path.stem in TEST_SURFACES) != test:
            continue
        mesh = trimesh.load(path, process=True, force="mesh")
        points = mesh.vertices - mesh.vertices.mean(0)
        points = points / np.sqrt((points**2).mean() * 3)
        out.append(_data(np.concatenate([points, mesh.vertex_normals], 1), points, mesh.faces))
    return out


def _data(x: np.ndarray, points: np.ndarray, triangles: np.ndarray) -> Data:
    pairs = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    return Data(
        x=torch.from_numpy(np.ascontiguousarray(x)).float(),
        pos=torch.from_numpy(np.ascontiguousarray(points)).float(),
        edge_index=torch.from_numpy(np.ascontiguousarray(pairs.T.astype(np.int64))),
    )


def load(case: str, quick: bool, root: str | None, test: bool) -> list[Data]:
    if case == "surfaces":
        return surfaces(root, test)
    if quick:
        return triangulations(2 if test else 4, (200, 300), int(test))
    return triangulations(20 if test else 80, (500, 1500), int(test))


def turned(data: Data) -> Data:
    """Surfaces in a random orientation: their six features are two vectors."""
    q = torch.linalg.qr(torch.randn(3, 3))[0]
    data = data.clone()
    data.x = (data.x.view(-1, 2, 3) @ q).reshape(-1, 6)
    return data


def baselines(case: str, floats: float, quick: bool, root: str | None, cache: Path) -> dict:
    """Mean squared error over all nodes of the test graphs, and the variance as `mean`; kept in
    `cache`: eigenvectors of thousands of nodes take minutes."""
    key = f"{case}-{floats}-{quick}"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    if key in known:
        return known[key]
    sums: dict[str, float] = {}
    size = 0
    for data in load(case, quick, root, test=True):
        x, n = data.x.double(), data.num_nodes
        count = kept_count(floats, n, x.size(1))
        perm = kept_nodes(data.edge_index, n, count)
        guesses = {
            "mean": x.mean(0).expand_as(x),
            "harmonic": harmonic(x[perm], perm, data.edge_index, n),
            "biharmonic": biharmonic(x[perm], perm, data.edge_index, n),
            "spectral low-pass": spectral(x, count, data.edge_index, n),
        }
        for name, guess in guesses.items():
            sums[name] = sums.get(name, 0.0) + float((guess - x).square().sum())
        size += x.numel()
    known[key] = {name: value / size for name, value in sums.items()}
    cache.parent.mkdir(parents=True, exist_ok=True)
    aside = cache.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(known, indent=1))
    os.replace(aside, cache)
    return known[key]


def kept_count(floats: float, num_nodes: int, features: int) -> int:
    """Nodes whose raw features are `floats` floats per node of the graph, rounded up, as every
    pooling rounds."""
    return max(1, int(np.ceil(floats * num_nodes / features - 1e-6)))
