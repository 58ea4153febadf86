"""What a network must beat: figures that need no training."""

from __future__ import annotations

import torch
from torch import Tensor


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
