"""GCN propagation, normalised: on edges, and on a level's adjacency on the fly.

Equal to PyG's `gcn_norm` with `add_self_loops` where weights are not negative. Degrees count
absolute weights, as those of signed graphs do (Kunegis et al., "Spectral Analysis of Signed Graphs
for Clustering, Prediction and Visualization", SDM 2010, section 3): a sum of signed ones may vanish
or have no root.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import add_remaining_self_loops, coalesce, scatter

from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.spmm import product

SPARSE = 32  # entries a node up to which normalised values are stored, about a row of features
FILL = 2.0  # the weight of an added self loop, as in ``GCNConv(improved=True)``


def gcn_edges(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Edges with self loops, and their normalised weights, differentiable in `edge_weight`."""
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device)
    elif not torch.compiler.is_compiling() and bool((edge_weight.detach() < 0).any()):
        # Of parallel edges the sum counts, as in an adjacency, not each by its absolute weight.
        loop = edge_index[0] == edge_index[1]
        sums = coalesce(edge_index[:, ~loop], edge_weight[~loop], num_nodes)
        edge_index = torch.cat([sums[0], edge_index[:, loop]], dim=1)
        edge_weight = torch.cat([sums[1], edge_weight[loop]])
    edge_index, weight = add_remaining_self_loops(edge_index, edge_weight, FILL, num_nodes)
    source, target = edge_index
    root = _inverse_root(scatter(weight.abs(), target, dim=0, dim_size=num_nodes, reduce="sum"))
    return edge_index, root[source] * weight * root[target]


class GCNPropagation:
    r"""The fixed linear map :math:`\mathbf{D}^{-1/2} (\mathbf{A} + 2 \mathbf{I})^{\top}
    \mathbf{D}^{-1/2}` of a level, a node's own self loop in place of the 2.

    Given is the level's :math:`\mathbf{B} = \mathbf{A} + \mathbf{I}`, as two-hop pooling has it.
    Where it `lasts` and has few entries a node, its normalised values are stored beside it, on the
    same indices, which pays after some ten products; elsewhere the normalisation is two scalings of
    the features. The backward pass is the transposed map and keeps nothing but the graph.

    Args:
        matrix (CSR or Tensor): :math:`\mathbf{B}`, rows = sources, sparse or dense.
        transpose (CSR or Tensor): Its transpose; the same object when symmetric.
        loop (Tensor, optional): Weight of each node's own self loop, NaN where it has none, [N].
            (default: None)
        lasts (bool, optional): Whether many products follow. (default: False)
    """

    def __init__(
        self,
        matrix: CSR | Tensor,
        transpose: CSR | Tensor,
        loop: Tensor | None = None,
        lasts: bool = False,
    ) -> None:
        sizes: CSR | Tensor
        if isinstance(transpose, Tensor):
            values, sizes = transpose, transpose.abs()
        else:
            values, sizes = transpose.values, transpose._replace(values=transpose.values.abs())
        # What the diagonal of B, a one, lacks to the self loop that the convolution wants.
        extra = size = values.new_full((matrix.shape[0],), FILL - 1.0)
        if loop is not None:
            extra = torch.where(loop.isnan(), extra, loop - 1.0)
            size = torch.where(loop.isnan(), size, loop.abs() - 1.0)
        root = _inverse_root(product(sizes, values.new_ones((matrix.shape[0], 1))).view(-1) + size)
        self.dtype = root.dtype
        self.scaling: tuple[Tensor, Tensor] | None = None
        self.matrix: CSR | Tensor = matrix
        self.transpose: CSR | Tensor = transpose
        most = SPARSE * root.size(0) if lasts else -1
        if isinstance(matrix, Tensor) or isinstance(transpose, Tensor) or matrix.nnz > most:
            self.scaling = root.view(-1, 1), (extra * root * root).view(-1, 1)
            return
        self.matrix = self.transpose = _normalised(transpose, extra, root)
        if transpose is not matrix:
            self.matrix = _normalised(matrix, extra, root)

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        """The map or its transpose, without gradient."""
        matrix = self.matrix if transposed else self.transpose
        inner = x.to(self.dtype)
        if self.scaling is None:
            return product(matrix, inner).to(x.dtype)
        root, extra = self.scaling
        return product(matrix, inner * root).mul_(root).addcmul_(extra, inner).to(x.dtype)


def _normalised(matrix: CSR, extra: Tensor, root: Tensor) -> CSR:
    """`matrix` with `extra` on its diagonal, every entry times the roots of its row and column."""
    row = matrix.row()
    values = torch.where(row == matrix.indices, matrix.values + extra[row], matrix.values)
    return csr.scale(matrix._replace(values=values), root, root)


def _inverse_root(degree: Tensor) -> Tensor:
    """``degree ** -0.5``, zero where there is none."""
    root = degree.pow(-0.5)
    return root.masked_fill(root.isinf(), 0.0)
