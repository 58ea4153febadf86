"""The sampling baselines against dense solves, and on what they span."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import random_graph


@pytest.fixture
def module():
    import _interpolation

    return _interpolation


def dense_laplacian(graph) -> torch.Tensor:
    a = graph.dense()
    a = (a + a.T) / 2
    return torch.diag(a.sum(1)) - a


def parts(weighted: bool):
    """Two components, a node on its own, and kept nodes in the first component alone."""
    first = random_graph(40, 120, seed=1, weighted=weighted, dtype=torch.float64)
    chain = torch.stack([torch.arange(39), torch.arange(1, 40)])  # connected
    edges = torch.cat([first.edge_index, chain, torch.tensor([[40, 41], [41, 42]])], dim=1)
    weight = None
    if weighted:
        weight = torch.cat([first.edge_weight, torch.full((41,), 0.5, dtype=torch.float64)])
    return first._replace(edge_index=edges, edge_weight=weight, num_nodes=44)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["harmonic", "biharmonic"])
@pytest.mark.parametrize("direct", [True, False])
def test_equals_dense_solve(module, monkeypatch, name, weighted, direct):
    monkeypatch.setattr(module, "DIRECT", 10**6 if direct else 0)
    graph = parts(weighted)
    matrix = dense_laplacian(graph)
    matrix = matrix @ matrix if name == "biharmonic" else matrix
    perm = torch.tensor([33, 2, 17, 8, 25])
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    free = torch.tensor([i for i in range(40) if i not in perm])
    expected = x.mean(0).repeat(44, 1)  # nodes 40 to 43 know nothing
    expected[perm] = x
    expected[free] = torch.linalg.solve(matrix[free][:, free], -matrix[free][:, perm] @ x)
    out = getattr(module, name)(x, perm, graph.edge_index, 44, graph.edge_weight)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [1, 7, 44])
def test_spectral_equals_dense_projection(module, weighted, count):
    graph = parts(weighted)
    x = torch.randn(44, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(dense_laplacian(graph))
    if count in (7, 44):  # a projection is unique where the next eigenvalue is another one
        assert count == 44 or values[count] - values[count - 1] > 1e-6
        kept = vectors[:, :count]
        out = module.spectral(x, count, graph.edge_index, 44, graph.edge_weight)
        torch.testing.assert_close(out, kept @ (kept.T @ x))
    else:  # three components: each of the three constants has the eigenvalue 0
        out = module.spectral(x, 3, graph.edge_index, 44, graph.edge_weight)
        torch.testing.assert_close(out[:40], x[:40].mean(0).expand(40, 2))


def test_sparse_eigenvectors_span_what_dense_ones_span(module, monkeypatch):
    graph = random_graph(300, 900, seed=3, directed=False)
    matrix = module.laplacian(graph.edge_index, 300, graph.edge_weight)
    dense = module.lowest_eigenvectors(matrix, 20)
    monkeypatch.setattr(module, "DENSE", 0)
    made = module.lowest_eigenvectors(matrix, 20)
    np.testing.assert_allclose(made @ made.T, dense @ dense.T, atol=1e-6)

    def fails(*args, **kwargs):
        raise RuntimeError("no factors")

    monkeypatch.setattr("scipy.sparse.linalg.eigsh", fails)
    np.testing.assert_allclose(module.lowest_eigenvectors(matrix, 20), dense, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_survive(module, weighted, dtype):
    graph = parts(weighted)
    ones = torch.full((44, 2), 3.0, dtype=dtype)
    perm, rest = torch.tensor([5, 30]), (graph.edge_index, 44, graph.edge_weight)
    for out in (
        module.harmonic(ones[perm], perm, *rest),
        module.biharmonic(ones[perm], perm, *rest),
        module.spectral(ones, 4, *rest),
    ):
        assert out.dtype == dtype
        torch.testing.assert_close(out, ones)


def test_exact_on_what_they_span(module):
    side = 6
    node = torch.arange(side**2).view(side, side)
    pairs = [(node[:, :-1], node[:, 1:]), (node[:-1], node[1:])]
    edges = torch.cat([torch.stack([a.reshape(-1), b.reshape(-1)]) for a, b in pairs], dim=1)
    matrix = module.laplacian(edges, 36)
    vectors = torch.from_numpy(module.lowest_eigenvectors(matrix, 5))
    x = vectors @ torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(module.spectral(x, 5, edges, 36), x)
    # A harmonic function: linear in the plane, its boundary kept.
    plane = torch.stack([node // side, node % side], dim=-1).view(-1, 2).double()
    border = (plane == 0).any(1) | (plane == side - 1).any(1)
    weight = torch.ones(edges.size(1))
    perm = border.nonzero().view(-1)
    inner = plane[:, :1] * plane[:, 1:]  # xy is harmonic on the grid as well
    for field in (plane, inner):
        out = module.harmonic(field[perm], perm, edges, 36, weight)
        torch.testing.assert_close(out, field)


def test_kept_nodes_are_held_and_all_kept_is_exact(module):
    graph = parts(True)
    x = torch.randn(44, 2, dtype=torch.float64)
    everyone = torch.randperm(44)
    for name in ("harmonic", "biharmonic"):
        solve = getattr(module, name)
        out = solve(x[everyone], everyone, graph.edge_index, 44, graph.edge_weight)
        assert torch.equal(out, x)
        out = solve(x[:9], torch.arange(9), graph.edge_index, 44, graph.edge_weight)
        assert torch.equal(out[:9], x[:9])
        assert bool(out.isfinite().all())


def test_direction_loops_and_parallel_edges(module):
    edges = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])
    perm, x = torch.tensor([0, 2]), torch.tensor([[0.0], [3.0]])
    # Nodes 0 and 1 are joined in both directions, twice as strongly as 1 and 2 by one of weight 1.
    weight = torch.tensor([2.0, 2.0, 1.0, 1.0, 9.0])
    out = module.harmonic(x, perm, edges, 3, weight)
    torch.testing.assert_close(out.view(-1), torch.tensor([0.0, 1.0, 3.0]))
    parallel = torch.tensor([[0, 0, 1], [1, 1, 2]])
    torch.testing.assert_close(module.harmonic(x, perm, parallel, 3), out)


def test_an_edge_of_weight_zero_joins_nothing(module):
    edges, x = torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[4.0]])
    weight = torch.tensor([1.0, 0.0, 1.0])
    for solve in (module.harmonic, module.biharmonic):
        out = solve(torch.cat([x, -x]), torch.tensor([0, 1]), edges, 4, weight)
        torch.testing.assert_close(out.view(-1), torch.tensor([4.0, -4.0, 0.0, 0.0]))


def test_kept_nodes_and_weights_that_make_no_system(module):
    edges = torch.tensor([[0, 1], [1, 2]])
    x = torch.ones(2, 1)
    with pytest.raises(ValueError, match="'perm' must hold a node"):
        module.harmonic(x[:0], torch.tensor([], dtype=torch.long), edges, 3)
    with pytest.raises(ValueError, match=r"'perm' must not repeat a node \(got \[1, 1\]\)"):
        module.biharmonic(x, torch.tensor([1, 1]), edges, 3)
    with pytest.raises(ValueError, match=r"'x_kept' must have shape \[1, F\]"):
        module.harmonic(x, torch.tensor([1]), edges, 3)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'edge_weight' must be finite"):
            module.harmonic(x, torch.tensor([0, 2]), edges, 3, torch.tensor([1.0, bad]))
    for count in (0, 4):
        with pytest.raises(ValueError, match=rf"'count' must lie in \[1, 3\] \(got {count}\)"):
            module.spectral(torch.ones(3, 1), count, edges, 3)


def test_conjugate_gradients_say_when_they_fail(module):
    graph = parts(False)
    system = module.laplacian(graph.edge_index, 44)[:20, :20].tocsr()
    with pytest.raises(RuntimeError, match="not converged after 1 steps"):
        module._conjugate_gradients(system, np.ones((20, 1)), np.zeros((20, 1)), steps=1)


def test_examples(module):
    import doctest

    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 5


@pytest.mark.parametrize(
    "name, floats, harmonic, biharmonic, spectral",
    [("bunny", 1.0, 8.0e-6, 3.1e-6, 1.9e-6), ("logo", 0.75, 42, 29, 18)],
)
def test_figures_of_the_data_sets(module, name, floats, harmonic, biharmonic, spectral):
    from pyg_gunet import load

    data = load(name)[0]
    made = module.errors(data.x, floats, data.edge_index, data.edge_weight)
    expected = {"harmonic": harmonic, "biharmonic": biharmonic, "spectral": spectral}
    for key, value in expected.items():
        assert made[key] == pytest.approx(value, rel=0.03), key
