"""PCA of a matrix with hidden entries."""

from __future__ import annotations

import torch
from torch import Tensor


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
