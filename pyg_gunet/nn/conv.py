"""The convolution of a Graph U-Net on prepared propagations."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.nn import GCNConv

from pyg_gunet.functional.structure import Propagation


class UNetConv(GCNConv):
    r"""PyG's ``GCNConv(improved=True)``, which also takes a prepared
    :class:`pyg_gunet.functional.structure.Propagation` in place of `edge_index`.

    The propagation of a level is then normalised once for all its convolutions, and runs at the
    narrower side of the linear map. Parameters, their names and their initial values are those of
    :class:`GCNConv`.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Size of each output sample.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, improved=True)

    def forward(
        self, x: Tensor, edge_index: Tensor | Propagation, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Convolves `x` [N, F] along the edges.

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor or Propagation): Edges [2, E], or a prepared propagation.
            edge_weight (Tensor, optional): Weights [E]; None with a propagation. (default: None)
        """
        if not isinstance(edge_index, Propagation):
            return super().forward(x, edge_index, edge_weight)
        if edge_weight is not None:
            raise ValueError(
                "'edge_weight' must be None with a prepared propagation (got a tensor)"
            )
        if self.in_channels < self.out_channels:
            out = self.lin(edge_index.matmul(x))
        else:
            out = edge_index.matmul(self.lin(x))
        if self.bias is None:
            return out
        if out.dtype != self.bias.dtype:  # under autocast
            return out + self.bias
        return out.add_(self.bias)  # in place: nobody else has seen it
