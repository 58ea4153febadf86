"""The mesh problems against what their equations say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("skfem")


def areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = points[triangles].transpose(1, 0, 2)
    return np.abs(np.cross(np.c_[b - a, 0 * a[:, 0]], np.c_[c - a, 0 * a[:, 0]])[:, 2]) / 2


def cotangent_laplacian(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The stiffness matrix of linear elements by its textbook formula, dense."""
    out = np.zeros((len(points), len(points)))
    for triangle in triangles:
        for i in range(3):
            j, k, m = triangle[i], triangle[(i + 1) % 3], triangle[(i + 2) % 3]
            u, v = points[j] - points[m], points[k] - points[m]
            cot = u @ v / abs(u[0] * v[1] - u[1] * v[0])
            out[j, k] -= cot / 2
            out[k, j] -= cot / 2
    return out - np.diag(out.sum(1))


@pytest.mark.parametrize("seed", range(4))
def test_domains(seed):
    from _mesh_data import triangulate

    points, triangles = triangulate(700, np.random.default_rng(seed))
    assert areas(points, triangles).sum() == pytest.approx(1, abs=0.02)
    assert len(points) == pytest.approx(700, rel=0.12)
    assert set(triangles.ravel()) == set(range(len(points)))
    a, b = points[triangles].max(1), points[triangles].min(1)
    assert (a - b).max() < 4 / np.sqrt(700)  # no triangle bridges a bay
    assert areas(points, triangles).min() > 0.02 / 700  # nor is one flat


def solved(problem: str, seed: int = 0, size: float = 300):
    from _mesh_data import solve, triangulate

    rng = np.random.default_rng(seed)
    points, triangles = triangulate(size, rng)
    return points, triangles, solve(problem, points, triangles, rng)


def test_poisson_satisfies_its_equation():
    points, triangles, mesh = solved("poisson")
    stiffness = cotangent_laplacian(points, triangles)
    mass = np.zeros_like(stiffness)
    for triangle, area in zip(triangles, areas(points, triangles)):
        mass[np.ix_(triangle, triangle)] += area / 12 * (1 + np.eye(3))
    f, u = mesh["given"][:, :, 0].double().numpy(), mesh["target"].double().numpy()
    free = mesh["free"][:, 0].numpy() > 0
    assert 0 < (~free).sum() < len(points) / 2
    assert (u[~free] == 0).all()
    np.testing.assert_allclose((stiffness @ u)[free], (mass @ f)[free], atol=1e-5)
    assert np.abs(mass @ f).max() > 1e-3
    columns = mesh["fixed"].numpy()
    np.testing.assert_allclose(columns[:, 0], ~free)
    np.testing.assert_allclose(columns[:, 1:3], points, atol=1e-6)
    np.testing.assert_allclose(np.exp(columns[:, 3]), mass.sum(1) * len(points), rtol=1e-4)
    a, b = points[border(triangles)].transpose(1, 0, 2)  # ends of the sides [S, 2]
    along = ((points[:, None] - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)  # [N, S]
    foot = a + along.clip(0, 1)[..., None] * (b - a)
    distance = np.linalg.norm(points[:, None] - foot, axis=-1).min(1)
    np.testing.assert_allclose(0.3 * columns[:, 4], distance, atol=2e-3)
    np.testing.assert_allclose(mesh["given"][:, :, 0], f, atol=1e-6)


def border(triangles):
    """The sides of one triangle alone, [S, 2]."""
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    sides, count = np.unique(sides, axis=0, return_counts=True)
    return sides[count == 1]


def test_darcy_is_poisson_where_the_coefficient_is_constant(monkeypatch):
    import _mesh_data

    monkeypatch.setattr(_mesh_data, "random_field", lambda points, *_: np.full(len(points), 0.7))
    points, triangles, mesh = solved("darcy")
    stiffness = np.exp(0.7) * cotangent_laplacian(points, triangles)
    load = np.zeros(len(points))
    np.add.at(load, triangles, areas(points, triangles)[:, None] / 3)
    free = mesh["free"][:, 0].numpy() > 0
    for u in mesh["target"].double().numpy().T:
        np.testing.assert_allclose((stiffness @ u)[free], load[free], atol=1e-5)


def test_darcy_flows_less_where_the_coefficient_is_small():
    mesh = solved("darcy")[2]
    assert (mesh["target"][mesh["free"][:, 0] > 0] > 0).all()  # the maximum principle
    assert not torch.allclose(mesh["target"][:, 0], mesh["target"][:, 1], rtol=0.1)


def test_advection_keeps_its_mass_and_loses_energy():
    points, triangles, mesh = solved("advection", size=500)
    share = np.zeros(len(points))
    np.add.at(share, triangles, areas(points, triangles)[:, None] / 3)
    states = mesh["states"].double().numpy()
    assert states.shape[1] == 51
    np.testing.assert_allclose(share @ states, 0, atol=1e-5)
    energy = share @ states**2
    assert energy[0] == pytest.approx(1, rel=0.05)
    assert (np.diff(energy) < 0).all()
    assert energy[-1] > 0.01  # it is not gone after the roll-out
    speed = mesh["fixed"][:, -2:].double().numpy()
    assert np.sqrt(share @ (speed**2).sum(1)) == pytest.approx(0.5, rel=0.15)
    assert (mesh["free"] == 1).all()


def test_advection_moves_with_its_velocity(monkeypatch):
    import _mesh_data

    monkeypatch.setattr(_mesh_data, "KAPPA", 0.0)
    points, _, mesh = solved("advection", size=2000)
    # One step against its own velocity: du = -dt v . grad u, by least squares over neighbours.
    u, v = mesh["states"].double().numpy(), mesh["fixed"][:, -2:].double().numpy()
    row, col = mesh["edge_index"].numpy()
    normal, right = np.zeros((len(points), 2, 2)), np.zeros((len(points), 2))
    way = points[col] - points[row]
    np.add.at(normal, row, way[:, :, None] * way[:, None, :])
    middle = (u[:, 0] + u[:, 1]) / 2
    np.add.at(right, row, way * (middle[col] - middle[row])[:, None])
    slope = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    expected = -_mesh_data.STEP * (v * slope).sum(1)
    change = u[:, 1] - u[:, 0]
    inner = mesh["fixed"][:, 0].numpy() == 0
    assert np.corrcoef(change[inner], expected[inner])[0, 1] > 0.97
    assert change[inner].std() == pytest.approx(expected[inner].std(), rel=0.1)


def test_meshes_are_made_once(tmp_path, monkeypatch):
    import _mesh_data

    first = _mesh_data.meshes("poisson", (60, 90), 2, 3, tmp_path)
    monkeypatch.setattr(_mesh_data, "solve", lambda *_: pytest.fail("made again"))
    again = _mesh_data.meshes("poisson", (60, 90), 2, 3, tmp_path)
    for a, b in zip(first, again):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(first[0]["pos"][:5], first[1]["pos"][:5])
    with pytest.raises(ValueError, match="'problem' must be one of poisson, darcy, advection"):
        _mesh_data.meshes("stokes", (60, 90), 2, 3, tmp_path)


@pytest.mark.parametrize("other", [("poisson", (60, 90), 1, 4), ("darcy", (60, 90), 1, 3)])
def test_sets_differ(tmp_path, other):
    from _mesh_data import meshes

    one, two = meshes("poisson", (60, 90), 1, 3, tmp_path)[0], meshes(*other, tmp_path)[0]
    assert one["pos"].shape != two["pos"].shape or not torch.equal(one["pos"], two["pos"])
