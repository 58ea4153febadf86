"""Problems of mathematical physics on triangulated random domains, solved by finite elements.

Domains are star-shaped, of area 1; nodes lie on a jittered lattice and on the border, triangulated
by Delaunay. scikit-fem assembles with linear (P1) elements:

- ``poisson``: ``-div grad u = f``, u = 0 on the border, several smooth f per mesh.
- ``darcy``: ``-div(a grad u) = 1``, u = 0 on the border, several lognormal a per mesh.
- ``advection``: ``du/dt + v . grad u = KAPPA div grad u``, v of a random stream function (no
  divergence, along the border), no flux; states every STEP by Crank and Nicolson.

A set is a list of meshes, each a dict of tensors: `pos` [N, 2], `edge_index` [2, E], `free` [N, 1]
(0 where u is known to be 0), `fixed` [N, G] what describes the mesh, and `given` [N, R, C] and
`target` [N, R], or `states` [N, T + 1].
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor

PROBLEMS = ("poisson", "darcy", "advection")
FIELDS = 4  # right-hand sides or coefficients per mesh
STEPS, STEP, SUBSTEPS = 50, 0.02, 2
KAPPA, SPEED = 0.01, 0.5  # of h = 0.05 at 500 nodes: a cell Peclet number of about 1
HALF = 0.3  # unit of the distance to the border, a typical one: domains have area 1
VERSION = 4  # part of the name of cached files
Mesh = dict[str, Tensor]


def meshes(
    problem: str, sizes: tuple[int, int], count: int, seed: int, root: str | os.PathLike[str]
) -> list[Mesh]:
    """`count` meshes of between ``sizes[0]`` and ``sizes[1]`` nodes (log-uniform; counts are kept
    to a few per cent), cached below `root`."""
    if problem not in PROBLEMS:
        raise ValueError(f"'problem' must be one of {', '.join(PROBLEMS)} (got {problem!r})")
    name = f"{problem}-{sizes[0]}-{sizes[1]}-{count}-{seed}-v{VERSION}.pt"
    key = f"{problem} {sizes} {seed}"
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little")

    def make() -> list[Mesh]:
        made = []
        for i in range(count):
            rng = np.random.default_rng((start, i))
            size = float(np.exp(rng.uniform(*np.log(sizes))))
            made.append(solve(problem, *triangulate(size, rng), rng))
        return made

    return cached(Path(root) / "mesh_physics" / name, make)


def cached(path: Path, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What `make` makes, kept in a file; written aside, so that no reader sees half of it."""
    if path.exists():
        return torch.load(path, weights_only=True)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    torch.save(made, aside)
    os.replace(aside, path)
    return made


def triangulate(size: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 2] and triangles [T, 3] of a random domain of area 1, N about `size`."""
    order = np.arange(1, 5)
    amplitude, phase = rng.normal(0, 0.22, 4) / order, rng.uniform(0, 2 * np.pi, 4)

    def radius(angle: np.ndarray) -> np.ndarray:
        wave = (amplitude * np.cos(np.multiply.outer(angle, order) + phase)).sum(-1)
        return np.maximum(1 + wave, 0.35)

    angle = np.linspace(0, 2 * np.pi, 20_001)
    scale = 1 / np.sqrt(trapezoid(radius(angle) ** 2 / 2, angle))
    curve = scale * radius(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    h = np.sqrt(2 / np.sqrt(3) / size)  # side of the triangles of a lattice of `size` nodes
    at = np.linspace(0, along[-1], max(round(along[-1] / h), 8), endpoint=False)
    border = np.stack([np.interp(at, along, curve[:, i]) for i in range(2)], axis=1)

    reach = int(np.ceil(np.abs(curve).max() * 1.5 / h)) + 2
    i, j = np.meshgrid(np.arange(-2 * reach, 2 * reach), np.arange(-2 * reach, 2 * reach))
    lattice = h * np.stack([i.ravel() + j.ravel() / 2, np.sqrt(3) / 2 * j.ravel()], axis=1)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    inner = lattice @ np.array([[cos, -sin], [sin, cos]])
    inner = inner + rng.uniform(-0.3, 0.3, inner.shape) * h
    inner = inner[_inside(inner, radius, scale)]
    inner = inner[cKDTree(curve).query(inner)[0] > 0.5 * h]

    points = np.concatenate([border, inner])
    triangles = Delaunay(points).simplices
    triangles = triangles[_inside(points[triangles].mean(1), radius, scale)]
    used, triangles = np.unique(triangles, return_inverse=True)
    return points[used], triangles.reshape(-1, 3)


def _inside(points: np.ndarray, radius, scale: float) -> np.ndarray:  # noqa: ANN001
    return np.linalg.norm(points, axis=1) < scale * radius(np.arctan2(points[:, 1], points[:, 0]))


def random_field(
    points: np.ndarray, rng: np.random.Generator, shortest: float, longest: float, waves: int = 8
) -> np.ndarray:
    """A sum of waves [N] of these wavelengths and random directions; variance about 1."""
    length = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    wave = 2 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])
    amplitude = rng.normal(size=waves) * np.sqrt(2 / waves)
    return np.cos(points @ wave + phase) @ amplitude


def solve(
    problem: str, points: np.ndarray, triangles: np.ndarray, rng: np.random.Generator
) -> Mesh:
    """The mesh with what is given on it and the solutions."""
    import skfem
    from skfem.helpers import dot, grad
    from skfem.models.poisson import laplace, mass

    mesh = skfem.MeshTri(np.ascontiguousarray(points.T), np.ascontiguousarray(triangles.T))
    basis = skfem.Basis(mesh, skfem.ElementTriP1())
    stiffness, weight = laplace.assemble(basis), mass.assemble(basis)
    border = mesh.boundary_nodes()
    free = np.ones(len(points))
    free[border] = 0
    area = np.asarray(weight.sum(1)).ravel()
    # How dense the mesh is here, relative to the whole mesh, and how far the border is. Nothing
    # tells the size of a triangle: a network that is tested on a finer mesh would read what it has
    # never seen. Which nodes lie on the border does tell it, once averaged over a cluster; the
    # distance does not.
    sides = points[mesh.facets[:, mesh.boundary_facets()]]  # [2, F, 2]
    share = np.linspace(0, 1, 33)[:, None, None]
    along = (sides[0] + share * (sides[1] - sides[0])).reshape(-1, 2)
    border_at = cKDTree(along).query(points)[0] / HALF
    fixed = [1 - free, *points.T, np.log(area * len(points)), border_at]

    def dirichlet(matrix, right: np.ndarray) -> np.ndarray:  # noqa: ANN001
        return skfem.solve(*skfem.condense(matrix, right, D=border))

    out: dict[str, np.ndarray] = {}
    if problem == "poisson":
        fields = [random_field(points, rng, 0.3, 2.0) for _ in range(FIELDS)]
        target = [dirichlet(stiffness, weight @ f) for f in fields]
        given = [f[:, None] for f in fields]
    elif problem == "darcy":
        fields = [random_field(points, rng, 0.2, 1.0) for _ in range(FIELDS)]
        given = [log_a[:, None] for log_a in fields]

        @skfem.BilinearForm
        def flow(u, v, w):  # noqa: ANN001, ANN202
            return np.exp(w["log_a"]) * dot(grad(u), grad(v))

        right = weight @ np.ones(len(points))
        flows = [flow.assemble(basis, log_a=basis.interpolate(log_a)) for log_a in fields]
        target = [dirichlet(matrix, right) for matrix in flows]
    else:
        stream = dirichlet(stiffness, weight @ random_field(points, rng, 0.4, 1.5))
        slope = basis.interpolate(stream).grad  # [2, T, Q], constant on a triangle
        velocity = np.stack([slope[1], -slope[0]])
        speed = SPEED / np.sqrt((velocity**2).sum(0).mean())
        velocity = velocity * speed

        @skfem.BilinearForm
        def advect(u, v, w):  # noqa: ANN001, ANN202
            return dot(w["velocity"], grad(u)) * v

        carry = advect.assemble(basis, velocity=velocity)
        free = np.ones(len(points))
        for component in velocity:  # the mean over the triangles of a node
            spread = skfem.LinearForm(lambda v, w: w["c"] * v).assemble(basis, c=component)
            fixed.append(spread / area)
        dt = STEP / SUBSTEPS
        change = dt / 2 * (KAPPA * stiffness + carry)
        forward, backward = (weight - change).tocsr(), splu((weight + change).tocsc())
        u = random_field(points, rng, 0.3, 1.0)
        u = u - area @ u / area.sum()
        u = u / np.sqrt(area @ u**2)
        states = [u]
        for _ in range(STEPS):
            for _ in range(SUBSTEPS):
                u = backward.solve(forward @ u)
            states.append(u)
        out["states"] = np.stack(states, axis=1)
    if problem != "advection":
        out["given"] = np.stack(given, axis=1)
        out["target"] = np.stack(target, axis=1)
    out |= {"pos": points, "fixed": np.stack(fixed, axis=1), "free": free[:, None]}
    edges = np.concatenate([mesh.facets, mesh.facets[::-1]], axis=1).astype(np.int64)
    made = {key: torch.from_numpy(value).float() for key, value in out.items()}
    return {**made, "edge_index": torch.from_numpy(edges)}
