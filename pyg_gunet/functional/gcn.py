"""GCN propagation on a level's adjacency, normalised on the fly."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.spmm import apply_map, csr_matmul
from pyg_gunet.functional.structure import Propagation


class GCNPropagation(Propagation):
    r"""The fixed linear map :math:`\mathbf{D}^{-1/2} (\mathbf{A} + c \mathbf{I})^{\top}
    \mathbf{D}^{-1/2}` of a level.

    Equal to PyG's `gcn_norm` with `add_self_loops`: in-degrees on both sides, a node's own self
    loop in place of the :math:`c` (2, as in ``GCNConv(improved=True)``). Stored is the level's
    :math:`\mathbf{B} = \mathbf{A} + \mathbf{I}` as it is, shared with two-hop pooling; the
    normalisation is two scalings of the features. The backward pass is the transposed map and keeps
    nothing but the structure.

    Args:
        matrix (CSR or Tensor): :math:`\mathbf{B}`, rows = sources, sparse or dense.
        transpose (CSR or Tensor): Its transpose; the same object when symmetric.
        loop (Tensor, optional): Weight of each node's own self loop, NaN where it has none, [N].
            (default: None)
        fill_value (float, optional): Weight :math:`c` of an added self loop. (default: 2.0)
    """

    def __init__(
        self,
        matrix: CSR | Tensor,
        transpose: CSR | Tensor,
        loop: Tensor | None = None,
        fill_value: float = 2.0,
    ) -> None:
        self.matrix, self.transpose = matrix, transpose
        self.num_nodes = matrix.shape[0]
        values = transpose if isinstance(transpose, Tensor) else transpose.values
        ones = values.new_ones((self.num_nodes, 1))
        # What the diagonal of B, a one, lacks to the self loop that the convolution wants.
        extra = values.new_full((self.num_nodes,), fill_value - 1.0)
        if loop is not None:
            extra = torch.where(loop.isnan(), extra, loop - 1.0)
        degree = _product(transpose, ones).view(-1) + extra
        scale = degree.pow(-0.5)
        scale.masked_fill_(scale.isinf(), 0.0)
        self.scale = scale.view(-1, 1)
        self.extra = (extra * scale * scale).view(-1, 1)

    def matmul(self, x: Tensor) -> Tensor:
        """Propagates `x` [N, F] along the edges, from source to target."""
        return apply_map(self, x)

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map or its transpose, without gradient."""
        matrix = self.matrix if transposed else self.transpose
        inner = x.to(self.scale.dtype)
        out = _product(matrix, inner * self.scale).mul_(self.scale)
        return out.addcmul_(self.extra, inner).to(x.dtype)


def _product(matrix: CSR | Tensor, x: Tensor) -> Tensor:
    if isinstance(matrix, Tensor):
        return matrix @ x
    return csr_matmul(*matrix, x)
