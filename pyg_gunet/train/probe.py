"""What a linear classifier makes of frozen embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.enable_grad()
def probe(
    h: Tensor,
    y: Tensor,
    train: Tensor,
    val: Tensor,
    test: Tensor,
    epochs: int = 300,
    lr: float = 1e-2,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> dict[str, float]:
    r"""Multinomial logistic regression on frozen embeddings, by Adam with weight decay.

    The epoch is that of best validation accuracy, ties by validation loss; the test nodes are read
    at that epoch alone.

    Args:
        h (Tensor): Embeddings, [N, F].
        y (Tensor): Classes, [N].
        train (Tensor): Training nodes, [N], boolean; `val` and `test` alike.
        epochs (int, optional): Steps. (default: 300)
        lr (float, optional): Learning rate. (default: 1e-2)
        weight_decay (float, optional): L2 penalty. (default: 1e-4)
        seed (int, optional): Of the initial weights. (default: 0)

    Returns:
        ``val_accuracy``, ``test_accuracy`` (shares of 1), ``val_loss`` and ``epoch``.
    """
    h = h.detach()
    generator = torch.Generator().manual_seed(seed)
    size = int(y.max()) + 1, h.size(1)
    weight = 0.01 * torch.randn(size, generator=generator).to(h)
    weight, bias = weight.requires_grad_(), h.new_zeros(size[0]).requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr, weight_decay=weight_decay)
    parts = [(h[m], y[m]) for m in (train, val, test)]
    best: tuple[float, float] = (-1.0, 0.0)
    out: dict[str, float] = {}
    for epoch in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(parts[0][0], weight, bias), parts[0][1]).backward()
        optimizer.step()
        with torch.no_grad():
            logits = F.linear(parts[1][0], weight, bias)
            loss = float(F.cross_entropy(logits, parts[1][1]))
            right = float((logits.argmax(1) == parts[1][1]).double().mean())
            if (right, -loss) > best:
                best = right, -loss
                test_right = F.linear(parts[2][0], weight, bias).argmax(1) == parts[2][1]
                out = {
                    "val_accuracy": right,
                    "test_accuracy": float(test_right.double().mean()),
                    "val_loss": loss,
                    "epoch": epoch + 1,
                }
    return out
