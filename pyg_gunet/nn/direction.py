"""A convolution that knows where its neighbours lie: the 3 x 3 filter of any graph in the plane."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MessagePassing

from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map
from pyg_gunet.validate import (
    check_edge_attr,
    check_edge_index,
    check_features,
    check_floating,
    check_positive_int,
    outermost,
)


class DirectionConv(MessagePassing):
    r"""A linear map of its own for the neighbours in each of `sectors` directions,

    .. math::
        \mathbf{x}'_i = \mathbf{W} \mathbf{x}_i + \mathbf{b} + \sum_{s} \mathbf{W}_s \,
        \frac{\sum_{j} a_s(\mathbf{e}_{ji})\, \mathbf{x}_j}{\sum_{j} a_s(\mathbf{e}_{ji})},

    with :math:`a_s` the linear interpolation, over the angle of the offset
    :math:`\mathbf{e}_{ji}` from `j` to `i`, between the two sectors next to it. On a pixel grid of
    8 neighbours and with 8 sectors this is the convolution of a 3 x 3 filter with zeros around the
    picture; a level that ``connect='contract'`` made averages offsets, and so has the filter of its
    own scale. A convolution of symmetric neighbours, as GCN's, cannot tell an edge from its mirror
    image. It moves with the picture and, unlike those, turns neither with it nor without it.

    The products of a fixed graph are made once: `edge_index` and `edge_attr` are recognised while
    they stay the same tensors.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Size of each output sample.
        sectors (int, optional): The number of directions, at least 2. (default: 8)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `edge_attr` [E, 2], the offset
          of each edge's end from its start, which takes no gradient; edges without a length count
          nothing
        - **output:** [N, out_channels]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> right_left = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> DirectionConv(4, 16)(torch.randn(3, 4), path, right_left).shape
        torch.Size([3, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, sectors: int = 8) -> None:
        super().__init__(aggr=None)
        check_positive_int(in_channels, "in_channels")
        check_positive_int(out_channels, "out_channels")
        check_positive_int(sectors, "sectors", minimum=2)
        self.in_channels, self.out_channels, self.sectors = in_channels, out_channels, sectors
        self.lin = torch.nn.Linear((sectors + 1) * in_channels, out_channels)
        self._ready: tuple[tuple[Tensor, int, Tensor, int], SparseBlock] | None = None

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.lin.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        r"""Convolves `x` [N, in_channels]; arguments as above."""
        with outermost() as values:
            check_features(x, self.in_channels, values)
            check_edge_index(edge_index, x.size(0), values)
            check_floating(edge_attr, "edge_attr")
            check_edge_attr(edge_attr, edge_index.size(1), values)
        if edge_attr.dim() != 2 or edge_attr.size(1) != 2:
            raise ValueError(
                f"'edge_attr' must hold an offset in the plane per edge, [{edge_index.size(1)}, 2] "
                f"(got {list(edge_attr.shape)})"
            )
        near = apply_map(self._block(edge_index, edge_attr, x), x).view(x.size(0), -1)
        # Two products: joining x and its neighbours copies the largest tensor of the layer twice.
        own, others = self.lin.weight.split([self.in_channels, near.size(1)], dim=1)
        return F.linear(x, own, self.lin.bias) + F.linear(near, others)

    def _block(self, edge_index: Tensor, edge_attr: Tensor, x: Tensor) -> SparseBlock:
        """The means over each sector, [N * sectors, N]."""
        key = (edge_index, edge_index._version, edge_attr, edge_attr._version)
        if self._ready is not None:
            old, block = self._ready
            same = old[0] is key[0] and old[2] is key[2] and (old[1], old[3]) == (key[1], key[3])
            if same and block.shape[1] == x.size(0) and block.dtype == x.dtype:
                return block
        block = SparseBlock(lasting(sector_means)(edge_index, edge_attr, x.size(0), self.sectors))
        self._ready = key, block
        return block

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_ready": None}  # of another process or copy

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}"
        return f"{type(self).__name__}({sizes}, sectors={self.sectors})"


def sector_means(edge_index: Tensor, offset: Tensor, num_nodes: int, sectors: int) -> csr.CSR:
    """The matrix [N * sectors, N] whose row ``i * sectors + s`` averages over the neighbours of `i`
    in direction `s`; empty where there is none."""
    offset = offset.detach()
    proper = (offset != 0).any(dim=1)
    source, target = edge_index[:, proper].long()
    x, y = offset[proper].unbind(dim=1)
    turn = torch.atan2(y, x) * (sectors / (2 * math.pi)) % sectors
    # A direction that is a sector's own but for rounding is that sector's alone.
    turn = torch.where((turn - turn.round()).abs() < 1e-5, turn.round(), turn)
    low = turn.floor()
    share = turn - low
    low = low.long() % sectors
    row = torch.cat([target * sectors + low, target * sectors + (low + 1) % sectors])
    value = torch.cat([1 - share, share])
    kept = value > 0
    row, col, value = row[kept], source.repeat(2)[kept], value[kept]
    total = value.new_zeros(num_nodes * sectors).index_add(0, row, value)
    return csr.build(row, col, value / total[row], num_nodes * sectors, num_nodes)
