"""What a network must beat: figures that need no training."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.functional.spread import spread

MOST = 20_000  # nodes up to which a system is factorised


def mean_mse(train_x: Tensor, x: Tensor) -> float:
    """The mean squared error of predicting each feature's training mean.

    Example:
        >>> mean_mse(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
        2.0
    """
    return (x.double() - train_x.double().mean(0)).square().mean().item()


def pca_mse(train_x: Tensor, x: Tensor, floats: int) -> tuple[float, float]:
    r"""The mean squared error of PCA with exactly as many latent floats as an auto-encoder uses.

    Mean and axes are fitted to the training nodes. Of `x`, `floats` scores are kept: as many whole
    components as fit, and of the next component the scores of largest magnitude.

    Args:
        train_x (Tensor): Training features, [M, F].
        x (Tensor): Features to be reconstructed, [N, F].
        floats (int): The size of the latent.

    Returns:
        The error, and the number of components (`floats / N`, at most F).

    Example:
        >>> x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> pca_mse(x, x, 4)  # one component: what is left is the second
        (0.25, 1.0)
    """
    mean = train_x.double().mean(0)
    centred = train_x.double() - mean
    if centred.size(0) >= centred.size(1):
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)  # largest first
    else:
        axes = torch.linalg.svd(centred, full_matrices=False).Vh.T
    whole, rest = divmod(floats, x.size(0))
    target = x.double() - mean
    scores = target @ axes[:, : whole + 1]
    if whole < scores.size(1):
        last = scores[:, whole]
        small = last.abs().argsort(descending=True)[rest:]
        last[small] = 0.0
    left = target - scores @ axes[:, : scores.size(1)].T
    return left.square().mean().item(), min(floats / x.size(0), float(x.size(1)))


def interpolation_mse(data: Data, x: Tensor, floats: int) -> dict[str, float]:
    r"""The mean squared error of the smoothest functions through the features of some kept nodes:
    harmonic (least :math:`x^T L x`, Zhu et al. 2003, eq. 5) and biharmonic (least
    :math:`x^T L^2 x`, Pesenson 2009), from as many floats as an auto-encoder uses. Kept nodes are
    spread over the graph, features unread.

    Args:
        data (Data): A graph, or a batch of graphs.
        x (Tensor): Features, [N, F].
        floats (int): The size of the latent: ``floats / F`` nodes are kept.

    Returns:
        The errors by name; none where there are negative weights, or systems too large to solve.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> data = Data(edge_index=path, num_nodes=5)
        >>> interpolation_mse(data, torch.arange(5.0).view(5, 1), 3)["harmonic interpolation"]
        0.0
    """
    size = x.size(0)
    count = min(max(round(floats / x.size(1)), 1), size)
    weight = data.get("edge_weight")
    if size > MOST or (weight is not None and bool((weight < 0).any())):
        return {}
    batch = data.get("batch")
    ratio = count if batch is None else count / size
    kept = spread(torch.zeros(size), data.edge_index, ratio, batch).numpy()
    values = np.ones(data.num_edges) if weight is None else weight.double().numpy()
    one_way = sparse.csr_matrix((values, tuple(data.edge_index.numpy())), shape=(size, size))
    both = (one_way + one_way.T) / 2
    laplacian = sparse.csr_matrix(sparse.diags(np.asarray(both.sum(1)).ravel()) - both)
    component = connected_components(laplacian, directed=False)[1]
    free = np.isin(component, component[kept])  # elsewhere nothing is known: the mean
    free[kept] = False
    target = x.double().numpy()
    given, open_, errors = target[kept], np.flatnonzero(free), {}
    for name, squared in (("harmonic interpolation", False), ("biharmonic interpolation", True)):
        guess = np.tile(given.mean(0), (size, 1))
        guess[kept] = given
        if open_.size:
            left = laplacian[open_]
            system = (left @ laplacian[:, open_] if squared else left[:, open_]).tocsc()
            known = left @ laplacian[:, kept] if squared else left[:, kept]
            options = {"SymmetricMode": True}
            solver = splu(system, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            guess[open_] = solver.solve(-(known @ given))
        errors[name] = float(np.square(guess - target).mean())
    return errors
