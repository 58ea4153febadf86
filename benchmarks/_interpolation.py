"""Sampling baselines: node features from as many floats as an auto-encoder's latent, without any
learning. Each is linear in the features, exact on what it spans, and keeps constants.

- :func:`harmonic`, :func:`biharmonic`: the smoothest functions through the features of kept nodes,
  least ``x^T L x`` (Zhu et al., "Semi-supervised learning using Gaussian fields and harmonic
  functions", ICML 2003, eq. 5) or least ``x^T L^2 x`` (Pesenson, "Variational splines and
  Paley-Wiener spaces on combinatorial graphs", 2009): K kept nodes store K floats per feature.
- :func:`spectral`: the projection on the K smoothest eigenvectors of the Laplacian. It reads all
  nodes to find its K floats per feature, where the other two may only read K of them.

Edges count as undirected (weights of both directions are averaged), parallel edges add up, self
loops change nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

DIRECT = 20_000  # unknowns up to which a system is factorised; beyond, conjugate gradients
DENSE = 6_000  # nodes up to which all eigenvectors are taken
TOLERANCE = 1e-9


def laplacian(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> sparse.csr_matrix:
    """``L = D - W`` in float64, of the undirected graph.

    Raises:
        ValueError: If a weight is negative or not finite: L has no smoothest function then.

    Example:
        >>> laplacian(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3).toarray()
        array([[ 1., -1.,  0.],
               [-1.,  2., -1.],
               [ 0., -1.,  1.]])
    """
    row, col = edge_index.detach().cpu().numpy()
    if edge_weight is None:
        weight = np.ones(row.size)
    else:
        weight = edge_weight.detach().cpu().double().numpy().reshape(-1)
        bad = ~np.isfinite(weight) | (weight < 0)
        if bad.any():
            raise ValueError(f"'edge_weight' must be finite and at least 0 (got {weight[bad][0]})")
    one_way = sparse.csr_matrix((weight, (row, col)), shape=(num_nodes, num_nodes))
    both = (one_way + one_way.T) / 2
    # Self loops cancel, and no zero is stored: an edge of weight 0 joins no components.
    return sparse.csr_matrix(sparse.diags(np.asarray(both.sum(1)).ravel()) - both)


def harmonic(
    x_kept: Tensor,
    perm: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """Features of all nodes [N, F], in the dtype of `x_kept`: those of the kept nodes held, every
    other node the weighted mean of its neighbours. Nodes that no path joins to a kept one get the
    mean of the kept rows.

    Args:
        x_kept (Tensor): Features of the kept nodes, [K, F].
        perm (Tensor): Their ids, [K], at least one, each once.
        edge_index (Tensor): Edges, [2, E].
        num_nodes (int): Number of nodes N.
        edge_weight (Tensor, optional): Weights, [E]. (default: None, all ones)

    Raises:
        ValueError: If `perm` is empty, repeats a node or has not a row of `x_kept` each, or a
            weight is negative.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> harmonic(torch.tensor([[0.0], [8.0]]), torch.tensor([0, 4]), path, 5).view(-1)
        tensor([0., 2., 4., 6., 8.])
    """
    return _through(laplacian(edge_index, num_nodes, edge_weight), x_kept, perm, squared=False)


def biharmonic(
    x_kept: Tensor,
    perm: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """As :func:`harmonic`, for least ``x^T L^2 x``: smooth through the kept nodes, where a harmonic
    function has a kink.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> x, perm = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([0, 2, 4])
        >>> biharmonic(x, perm, path, 5).view(-1)
        tensor([0.0000, 0.5714, 1.0000, 0.5714, 0.0000])
    """
    return _through(laplacian(edge_index, num_nodes, edge_weight), x_kept, perm, squared=True)


def spectral(
    x: Tensor,
    count: int,
    edge_index: Tensor,
    num_nodes: int,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """The projection of `x` [N, F] on the `count` eigenvectors of L of least eigenvalue.

    Raises:
        ValueError: If `count` is not between 1 and N, or a weight is negative.

    Example:
        >>> pair = torch.tensor([[0], [1]])
        >>> spectral(torch.tensor([[1.0], [3.0]]), 1, pair, 2).view(-1)
        tensor([2., 2.])
    """
    if not 1 <= count <= num_nodes:
        raise ValueError(f"'count' must lie in [1, {num_nodes}] (got {count})")
    vectors = lowest_eigenvectors(laplacian(edge_index, num_nodes, edge_weight), count)
    values = x.detach().cpu().double().numpy()
    return torch.from_numpy(vectors @ (vectors.T @ values)).to(x)


def lowest_eigenvectors(matrix: sparse.spmatrix, count: int) -> np.ndarray:
    """[N, count], orthonormal. Where a graph is small, or `count` is a large share of it, or the
    sparse solver does not converge, all are computed and the first `count` taken."""
    size = matrix.shape[0]
    if size > DENSE and count < size // 8:
        from scipy.sparse.linalg import ArpackNoConvergence, eigsh

        # Shifted by a little: L itself is singular, and 0 is what the smallest are near to.
        shift = -1e-6 * matrix.diagonal().mean() - 1e-12
        start = np.random.default_rng(0).standard_normal(size)
        try:
            vectors = eigsh(matrix.tocsc(), count, sigma=shift, which="LM", v0=start)[1]
            return np.linalg.qr(vectors)[0]
        except (ArpackNoConvergence, RuntimeError):
            pass  # the dense solver below always converges
    from scipy.linalg import eigh

    return eigh(matrix.toarray(), subset_by_index=(0, count - 1), overwrite_a=True)[1]


def kept_nodes(edge_index: Tensor, num_nodes: int, count: int) -> Tensor:
    """The nodes [count] that the baselines keep: spread over the graph, the features unread. All
    scores tie, so nodes are scanned by their number."""
    from pyg_gunet import spread

    return spread(torch.zeros(num_nodes, device=edge_index.device), edge_index, int(count))


def errors(
    x: Tensor, floats: float, edge_index: Tensor, edge_weight: Tensor | None = None
) -> dict[str, float]:
    """Mean squared error of each baseline from `floats` floats per node.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
        >>> errors(x, 0.6, path)["harmonic"]  # nodes 0, 2 and 4 hold a straight line
        0.0
    """
    size = x.size(0)
    count = min(max(round(floats * size / x.size(1)), 1), size)
    perm, target = kept_nodes(edge_index, size, count), x.double()
    graph = (edge_index, size, edge_weight)
    guesses = {
        "harmonic": harmonic(target[perm], perm, *graph),
        "biharmonic": biharmonic(target[perm], perm, *graph),
        "spectral": spectral(target, count, *graph),
    }
    return {name: float((guess - target).square().mean()) for name, guess in guesses.items()}


def _through(matrix: sparse.csr_matrix, x_kept: Tensor, perm: Tensor, squared: bool) -> Tensor:
    """The function through the kept rows of least ``x^T L x``, or ``x^T L^2 x``."""
    size, kept = matrix.shape[0], perm.detach().cpu().numpy()
    if kept.size == 0:
        raise ValueError("'perm' must hold a node (got none)")
    if np.unique(kept).size != kept.size:
        raise ValueError(f"'perm' must not repeat a node (got {kept.tolist()[:10]})")
    if x_kept.dim() != 2 or x_kept.size(0) != kept.size:
        raise ValueError(
            f"'x_kept' must have shape [{kept.size}, F], one row per entry of 'perm' "
            f"(got {list(x_kept.shape)})"
        )
    given = x_kept.detach().cpu().double().numpy()
    out = np.tile(given.mean(0), (size, 1))
    out[kept] = given
    component = connected_components(matrix, directed=False)[1]
    free = np.isin(component, component[kept])  # elsewhere nothing is known: the mean stays
    free[kept] = False
    free = np.flatnonzero(free)
    if free.size:
        # Of L^2 = L L only the blocks that are read: rows of the unknown, by way of all nodes.
        left = matrix[free]
        system = left @ matrix[:, free] if squared else left[:, free]
        known = left @ matrix[:, kept] if squared else left[:, kept]
        out[free] = _solve(system, -(known @ given), out[free])
    return torch.from_numpy(out).to(x_kept)


def _solve(system: sparse.spmatrix, right: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Solves a symmetric positive definite system for all columns of `right`."""
    if system.shape[0] <= DIRECT:
        from scipy.sparse.linalg import splu

        options = {"SymmetricMode": True}
        factors = splu(system.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        return factors.solve(right)
    return _conjugate_gradients(system.tocsr(), right, start)


def _conjugate_gradients(
    system: sparse.csr_matrix, right: np.ndarray, start: np.ndarray, steps: int = 20_000
) -> np.ndarray:
    """All columns at once, scaled by the diagonal: no fill, whatever the graph.

    Raises:
        RuntimeError: If a column has not converged after `steps` steps.
    """
    scale = 1 / system.diagonal()[:, None]
    x = start.copy()
    residual = right - system @ x
    enough = TOLERANCE * np.linalg.norm(right, axis=0) + np.finfo(float).tiny
    ahead = scale * residual
    size = (residual * ahead).sum(0)
    for _ in range(steps):
        if (np.linalg.norm(residual, axis=0) <= enough).all():
            return x
        image = system @ ahead
        share = size / np.maximum((ahead * image).sum(0), np.finfo(float).tiny)
        x += share * ahead
        residual -= share * image
        scaled = scale * residual
        before, size = size, (residual * scaled).sum(0)
        ahead = scaled + size / np.maximum(before, np.finfo(float).tiny) * ahead
    raise RuntimeError(f"conjugate gradients have not converged after {steps} steps")
