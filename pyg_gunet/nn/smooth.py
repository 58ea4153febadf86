"""Propagation without weights: personalised PageRank after a network, mixing before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.nn import APPNP, Linear
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from pyg_gunet.functional.validate import check_number, check_positive_int
from pyg_gunet.nn.levels import Level


class Propagation(torch.nn.Module):
    r"""Steps along the edges of one level, :math:`\hat{A} X`, without parameters.

    :math:`\hat{A}` is the level's GCN propagation, with self loops of weight 2 where the level
    holds a prepared one (as all convolutions of a :class:`GraphUNet`), else of weight 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plain = APPNP(1, 0.0, normalize=False)

    def along(self, level: Level, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """One step, its edges normalised once for all calls."""
        if level.structure is not None:
            return level.structure.propagation().matmul
        edge_index, edge_weight = gcn_norm(*level.edges(), level.num_nodes, dtype=dtype)
        return partial(self.plain, edge_index=edge_index, edge_weight=edge_weight)


class PageRank(Propagation):
    r"""Some steps of personalised PageRank, :math:`Z \leftarrow (1 - \alpha) \hat{A} Z + \alpha H`
    (`Gasteiger et al. 2019 <https://arxiv.org/abs/1810.05997>`_, eq. 4), on one level.

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

    def forward(self, x: Tensor, level: Level) -> Tensor:
        if not self.steps:
            return x
        step, start = self.along(level, x.dtype), x
        for _ in range(self.steps):
            x = (1 - self.teleport) * step(x) + self.teleport * start
        return x

    def extra_repr(self) -> str:
        return f"{self.steps}, teleport={self.teleport}"


class Mixing(Propagation):
    r"""A linear map whose output is averaged over some steps along the edges,
    :math:`\frac{1}{K + 1} \sum_{k=0}^{K} \hat{A}^k X W + b` (`Feng et al. 2020
    <https://arxiv.org/abs/2005.11079>`_, eq. 3), on one level.

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

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.lin.reset_parameters()
        torch.nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, level: Level) -> Tensor:
        x = total = self.lin(x)
        step = self.along(level, x.dtype)
        for _ in range(self.steps):
            x = step(x)
            total = total + x
        return total / (self.steps + 1) + self.bias

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
