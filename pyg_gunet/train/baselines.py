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


def pca_em(x: Tensor, seen: Tensor, components: int, steps: int = 20) -> Tensor:
    r"""PCA of a matrix with hidden entries, by expectation maximisation: hidden entries are filled
    in by the current reconstruction, then mean and axes are fitted anew (Roweis 1998; the limit of
    no noise). It starts from the columns' means.

    Args:
        x (Tensor): Features, [N, F]; what it holds where `seen` is False is not read.
        seen (Tensor): Which entries are known, [N, F], boolean.
        components (int): Latent floats per row.
        steps (int, optional): Iterations. (default: 20)

    Returns:
        The reconstruction, [N, F], in the dtype of `x`.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, 0.0]])
        >>> seen = torch.tensor([[True, True]] * 3 + [[True, False]])
        >>> pca_em(x, seen, 1, steps=200)[3, 1].round()
        tensor(8.)
    """
    known = seen.to(x.dtype)
    count = known.sum(0).clamp(min=1)
    mean = (torch.where(seen, x, 0.0).sum(0)) / count
    filled = torch.where(seen, x, mean)
    components = min(components, min(x.shape))
    guess = filled
    for _ in range(steps):
        mean = filled.mean(0)
        centred = filled - mean
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -components:]
        guess = mean + centred @ axes @ axes.T
        filled = torch.where(seen, x, guess)
    return guess
