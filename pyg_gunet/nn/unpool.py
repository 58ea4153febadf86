"""gUnpool, the unpooling layer of Graph U-Nets."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional.interpolate import propagate_kept
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.validate import (
    check_choice,
    check_edge_index,
    check_edge_weight,
    check_floating,
    check_memory,
    check_perm,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)

LIFTS = ("zero", "nearest", "interpolate", "propagate")
NUM_ITERATIONS = 40  # of 'propagate', as in the paper


class GUnpool(torch.nn.Module):
    r"""gUnpool, the unpooling layer of Graph U-Nets (`Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_, eq. 3):

    .. math::
        \mathbf{X}' = \mathrm{distribute}(0_{N \times F}, \mathbf{X}, \mathbf{i}),

    row ``perm[j]`` of the result is ``x[j]``, all others are zero. No gate is applied again.

    No part of the paper is what else a dropped node may get: the row of its nearest kept node
    (``'nearest'``), the mean of those next to it (``'interpolate'``, the prolongation of
    :func:`~pyg_gunet.functional.interpolate.prolongation`, one sparse product), or forty steps of
    averaging that approach the harmonic function through the kept rows (``'propagate'``,
    :func:`~pyg_gunet.functional.interpolate.propagate_kept`).

    Args:
        lift (str, optional): What dropped nodes get back: ``'zero'``, ``'nearest'``,
            ``'interpolate'`` or ``'propagate'``. (default: ``'zero'``)

    Shapes:
        - **input:** `x` [K, F], `perm` [K], `num_nodes` N, `edge_index` [2, E] or None,
          `edge_weight` [E] or None
        - **output:** [N, F]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> GUnpool()(torch.tensor([[5.0], [7.0]]), torch.tensor([2, 0]), 3)
        tensor([[7.],
                [0.],
                [5.]])
        >>> path = torch.tensor([[0, 1], [1, 2]])
        >>> GUnpool("interpolate")(torch.tensor([[5.0], [7.0]]), torch.tensor([2, 0]), 3, path)
        tensor([[7.],
                [6.],
                [5.]])
    """

    def __init__(self, lift: str = "zero") -> None:
        super().__init__()
        check_choice(lift, "lift", LIFTS)
        self.lift = lift

    def forward(
        self,
        x: Tensor,
        perm: Tensor,
        num_nodes: int,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Puts each row back where it was. Models call it with ``(x, hierarchy, level)``, so that
        hooks see what is lifted.

        Args:
            x (Tensor): Features of the kept nodes, [K, F].
            perm (Tensor): Index of each kept node before pooling, [K].
            num_nodes (int): Number of nodes before pooling, N.
            edge_index (Tensor, optional): Edges before pooling, [2, E]; needed unless `lift` is
                ``'zero'``, which does not read them. (default: None)
            edge_weight (Tensor, optional): Their weights [E], which ``'interpolate'`` reads.
                (default: None, all ones)
        """
        if isinstance(perm, Hierarchy):
            return self._up(x, perm, num_nodes)
        (check_tensor if self.lift == "zero" else check_floating)(x, "x")
        if edge_index is None and self.lift != "zero":
            raise ValueError(f"'edge_index' must be given (got None with lift={self.lift!r})")
        if edge_weight is not None and self.lift != "interpolate":
            raise ValueError(
                f"'edge_weight' goes with lift='interpolate' (got weights with lift={self.lift!r})"
            )
        if not isinstance(num_nodes, torch.SymInt):
            check_positive_int(num_nodes, "num_nodes", 0)
        with outermost() as values:
            check_perm(perm, num_nodes, values)
            if edge_index is not None:
                check_edge_index(edge_index, num_nodes, values, of="num_nodes")
                check_edge_weight(edge_weight, edge_index.size(1), values)
                check_same_device(x, "x", edge_index=edge_index, edge_weight=edge_weight)
        if x.dim() != 2 or perm.size(0) != x.size(0):
            raise ValueError(
                f"'x' must have shape [{perm.size(0)}, F], one row per entry of 'perm' "
                f"(got {list(x.shape)})"
            )
        check_memory(num_nodes * x.size(1) * x.element_size(), "num_nodes", num_nodes)
        if self.lift != "interpolate" or edge_index is None:
            return self._lift(x, perm.long(), num_nodes, edge_index)
        return Transfer.from_edges(perm, edge_index, edge_weight, num_nodes).prolong(x)

    def up(self, x: Tensor, hierarchy: Hierarchy, level: int) -> Tensor:
        """From level ``level + 1`` of a hierarchy to `level`, inside a network, unchecked."""
        return self(x, hierarchy, level)

    def _up(self, x: Tensor, hierarchy: Hierarchy, level: int) -> Tensor:
        if self.lift == "interpolate":
            transfer = hierarchy.transfers[level]
            assert transfer is not None
            return transfer.prolong(x)
        above = hierarchy.levels[level]
        near = None if self.lift == "zero" else above.graph.cover_edges()[0]
        return self._lift(x, hierarchy.perms[level], above.num_nodes, near)

    def _lift(self, x: Tensor, perm: Tensor, num_nodes: int, edge_index: Tensor | None) -> Tensor:
        if edge_index is None or self.lift == "zero":
            return x.new_zeros((num_nodes, x.size(1))).index_copy(0, perm, x)
        steps = NUM_ITERATIONS if self.lift == "propagate" else 0
        return propagate_kept(x, perm, edge_index, num_nodes, steps)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({'' if self.lift == 'zero' else repr(self.lift)})"
