"""Propagation without weights: personalised PageRank after a network, mixing before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import APPNP, Linear

from pyg_gunet.functional.validate import check_number, check_positive_int
from pyg_gunet.nn.levels import Level


class PageRank(torch.nn.Module):
    r"""Some steps of personalised PageRank, :math:`Z \leftarrow (1 - \alpha) \hat{A} Z + \alpha H`
    (`Gasteiger et al. 2019 <https://arxiv.org/abs/1810.05997>`_, eq. 4), on one level.

    :math:`\hat{A}` is the level's GCN propagation, with self loops of weight 2 where the level
    holds a prepared one (as all convolutions of a :class:`GraphUNet`), else of weight 1.

    Args:
        steps (int, optional): Number of steps; 0 changes nothing. (default: 0)
        teleport (float, optional): :math:`\alpha`. (default: 0.1)
    """

    def __init__(self, steps: int = 0, teleport: float = 0.1) -> None:
        super().__init__()
        check_positive_int(steps, "propagate", minimum=0)
        check_number(teleport, "teleport", 0.0, 1.0)
        self.steps = steps
        self.teleport = teleport
        self.plain = APPNP(steps, teleport) if steps else None

    def forward(self, x: Tensor, level: Level) -> Tensor:
        if self.plain is None:
            return x
        if level.structure is None:
            edge_index, edge_weight = level.edges()
            return self.plain(x, edge_index, edge_weight)
        propagation, start = level.structure.propagation(), x
        for _ in range(self.steps):
            x = (1 - self.teleport) * propagation.matmul(x) + self.teleport * start
        return x

    def extra_repr(self) -> str:
        return f"{self.steps}, teleport={self.teleport}"


class Mixing(torch.nn.Module):
    r"""A linear map whose output is averaged over some steps along the edges,
    :math:`\frac{1}{K + 1} \sum_{k=0}^{K} \hat{A}^k X W + b` (`Feng et al. 2020
    <https://arxiv.org/abs/2005.11079>`_, eq. 3), on one level, whose :math:`\hat{A}` is that of
    :class:`PageRank`.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Size of each output sample.
        steps (int): :math:`K`.
    """

    def __init__(self, in_channels: int, out_channels: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = torch.nn.Parameter(torch.empty(out_channels))
        # One step along the edges, and none of it teleported.
        self.plain = APPNP(1, 0.0)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.lin.reset_parameters()
        torch.nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, level: Level) -> Tensor:
        x = total = self.lin(x)
        edges = level.edges() if level.structure is None else None
        for _ in range(self.steps):
            if level.structure is not None:
                x = level.structure.propagation().matmul(x)
            else:
                assert edges is not None
                x = self.plain(x, *edges)
            total = total + x
        return total / (self.steps + 1) + self.bias

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
