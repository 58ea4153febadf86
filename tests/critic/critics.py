"""What the tests of the critics share."""

from __future__ import annotations

import torch
from torch import Tensor


def scramble(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: critics start at r = 0, which hides mistakes."""
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(0.3 * torch.randn_like(param))
    return module


def node_pairs(graphs: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    batch = torch.arange(graphs).repeat_interleave(torch.arange(graphs) + 2)
    return torch.randn(len(batch), 3), torch.randn(graphs, 2), batch
