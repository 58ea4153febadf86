"""What dropped nodes get when a graph is unpooled: their nearest kept node's features, or a mix of
those around them."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.graph.inputs import both_ways
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse.csr import build, scale
from pyg_gunet.graph.sparse.spmm import SparseBlock, apply_map
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.validate import (
    check_edge_index,
    check_edge_weight,
    check_floating,
    check_memory,
    check_perm,
    check_positive_int,
    check_same_device,
    outermost,
)


def prolongation(
    perm: Tensor, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> Transfer:
    r"""The prolongation :math:`\mathbf{P}` [N, K] from the kept nodes to all: the direct
    interpolation of algebraic multigrid (Ruge and Stueben, "Algebraic Multigrid", 1987, section
    4.2) with the kept nodes as coarse ones.

    The row of a kept node is its own. That of a dropped node is the mean of the kept nodes next to
    it, weighted by the edges; where there is none, the mean of its neighbours' rows, ring by ring
    around the kept nodes. Rows sum to 1; that of a node which no path joins to a kept one is empty.
    Edges count in both directions, by their absolute weights; self loops and edges of weight 0 do
    not.

    Args:
        perm (Tensor): Kept nodes, [K], each once.
        edge_index (Tensor): Edges, [2, E].
        num_nodes (int): Number of nodes, N.
        edge_weight (Tensor, optional): Weights, [E]; gradients reach them. (default: None, ones)

    Returns:
        Transfer: with ``prolong(x)``, :math:`\mathbf{P} \mathbf{X}` [N, F], ``restrict(x)``,
        :math:`\mathbf{P}^{\top} \mathbf{X}` with rows of sum 1 [K, F], and ``cluster``, the
        kept node that weighs most in every row [N].

    Raises:
        IndexError: If an index of `edge_index` or `perm` is out of range.
        ValueError: If shapes do not fit.
        MemoryError: If weights learn and many nodes are far from all kept ones.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> transfer = prolongation(torch.tensor([0, 2]), path, 5)
        >>> transfer.prolong(torch.tensor([[0.0], [4.0]])).view(-1)
        tensor([0., 2., 4., 4., 4.])
        >>> transfer.restrict(torch.tensor([[0.0], [3.0], [4.0], [4.0], [4.0]])).view(-1)
        tensor([1.0000, 3.8571])
    """
    check_positive_int(num_nodes, "num_nodes", 0)
    with outermost() as values:
        check_perm(perm, num_nodes, values)
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_edge_weight(edge_weight, edge_index.size(1), values)
    check_same_device(perm, "perm", edge_index=edge_index, edge_weight=edge_weight)
    check_memory(24 * num_nodes, "num_nodes", num_nodes)
    return Transfer.from_edges(perm, edge_index, edge_weight, num_nodes)


def nearest_kept(perm: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""The kept node that every node is nearest to, in hops.

    Edges count as undirected. Of several nearest nodes that which comes first in `perm` is taken:
    the one with the best score, in the order of :func:`topk` and :func:`spread`. A breadth-first
    search from all kept nodes at once, one parallel round per hop; an edge is read until both its
    ends are reached, so that after :func:`spread` the cost is that of a few reads of the edges.

    Args:
        perm (torch.Tensor): Ids of the kept nodes [K], each once.
        edge_index (torch.Tensor): Edges [2, E] of the graph or batch.
        num_nodes (int): Number of nodes N.

    Returns:
        torch.Tensor: For every node the position in `perm` of its nearest kept node [N], or -1
        where no path leads to one.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape does not fit or `perm` repeats a node.
        IndexError: If `perm` or `edge_index` names a node that does not exist.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> nearest_kept(torch.tensor([3, 0]), path, 6)
        tensor([ 1,  1,  0,  0,  0, -1])
    """
    check_positive_int(num_nodes, "num_nodes", 0)
    with outermost() as values:
        check_perm(perm, num_nodes, values)
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
    check_same_device(perm, "perm", edge_index=edge_index)
    check_memory(24 * num_nodes, "num_nodes", num_nodes)  # three columns of 64-bit integers
    none = perm.numel()
    nearest = torch.full((num_nodes,), none, dtype=torch.long, device=perm.device)
    nearest[perm.long()] = torch.arange(none, device=perm.device)
    source, target = both_ways(edge_index)
    while True:
        open_ = (nearest.index_select(0, target) == none).nonzero().view(-1)
        source, target = source.index_select(0, open_), target.index_select(0, open_)
        # All that is reached by now and borders on what is not is equally far.
        found = nearest.scatter_reduce(0, target, nearest.index_select(0, source), "amin")
        if torch.equal(found, nearest):
            return nearest.masked_fill_(nearest == none, -1)
        nearest = found


def propagate_kept(
    x: Tensor, perm: Tensor, edge_index: Tensor, num_nodes: int, num_iterations: int = 40
) -> Tensor:
    r"""Features of all nodes from those of the kept ones: feature propagation (Rossi et al., "On
    the Unreasonable Effectiveness of Feature Propagation in Learning on Graphs with Missing Node
    Features", `LoG 2022 <https://arxiv.org/abs/2111.12128>`_, section 3).

    Every iteration replaces the features of each dropped node by the mean over its neighbours, and
    holds those of the kept nodes. The limit is the harmonic function on the graph through the
    kept features, a straight line between two kept nodes of a path: nodes at different places
    between kept ones get different mixes of them, which a later layer can tell apart.

    Differences to the paper: the mean is over neighbours (:math:`\mathbf{D}^{-1}\mathbf{A}`, which
    leaves constants as they are), not :math:`\mathbf{D}^{-1/2}\mathbf{A}\mathbf{D}^{-1/2}`; and
    the start is each node's nearest kept node (:func:`nearest_kept`), not zero, so that the
    radius of the selection does not bound how far features go. Edges count as undirected and
    unweighted; self loops and parallel edges change nothing. The map is linear in `x`: its
    backward pass is the transposed map and stores no features.

    Args:
        x (torch.Tensor): Features of the kept nodes [K, F].
        perm (torch.Tensor): Their ids [K], each once.
        edge_index (torch.Tensor): Edges [2, E] of the graph or batch.
        num_nodes (int): Number of nodes N.
        num_iterations (int, optional): Number of iterations, at least 0; with 0 every node has the
            features of its nearest kept node. (default: 40, as in the paper)

    Returns:
        torch.Tensor: Features of all nodes [N, F]; zero where no path leads to a kept node.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape does not fit, `perm` repeats a node or `num_iterations` is negative.
        IndexError: If `perm` or `edge_index` names a node that does not exist.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> x = torch.tensor([[0.0], [8.0]])
        >>> propagate_kept(x, torch.tensor([0, 4]), path, 5, 99).view(-1)
        tensor([0., 2., 4., 6., 8.])
    """
    check_floating(x, "x")
    check_positive_int(num_nodes, "num_nodes", 0)
    with outermost() as values:
        check_perm(perm, num_nodes, values)
    check_positive_int(num_iterations, "num_iterations", 0, 10**6)
    if x.dim() != 2 or perm.size(0) != x.size(0):
        raise ValueError(
            f"'x' must have shape [{perm.size(0)}, F], one row per entry of 'perm' "
            f"(got {list(x.shape)})"
        )
    check_same_device(x, "x", perm=perm, edge_index=edge_index)
    nearest = nearest_kept(perm, edge_index, num_nodes)
    if not perm.numel():
        return x.new_zeros((num_nodes, x.size(1)))
    fill = lasting(_Fill)(x.dtype, nearest, perm, edge_index, num_iterations)
    return apply_map(fill, x)


class _Fill:
    """The map from kept features [K, F] to all [N, F]."""

    def __init__(
        self,
        dtype: torch.dtype,
        nearest: Tensor,
        perm: Tensor,
        edge_index: Tensor,
        num_iterations: int,
    ) -> None:
        self.size, self.num_iterations = perm.numel(), num_iterations
        self.reached = nearest >= 0
        self.nearest = nearest.clamp(min=0)
        # Kept rows hold themselves, the others average: one matrix, the same in every iteration.
        source, target = both_ways(edge_index)
        held = torch.zeros_like(self.reached).index_fill_(0, perm.long(), True)
        averages = ((source != target) & ~held[target]).nonzero().view(-1)
        row = torch.cat([perm.long(), target[averages]])
        col = torch.cat([perm.long(), source[averages]])
        # Half precision has no sparse product, and would lose the small steps of many iterations.
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        ones = torch.ones(row.numel(), dtype=self.dtype, device=row.device)
        matrix = build(row, col, ones, nearest.numel())
        matrix = matrix._replace(values=torch.ones_like(matrix.values))
        count = matrix.lengths.to(self.dtype)
        self.step = SparseBlock(scale(matrix, count.clamp(min=1).reciprocal(), None))

    def apply(self, x: Tensor, transposed: bool) -> Tensor:
        out = x.to(self.dtype)
        if not transposed:
            out = out.index_select(0, self.nearest) * self.reached.unsqueeze(-1)
        for _ in range(self.num_iterations):
            out = self.step.matmul(out, transposed)
        if transposed:
            out = out * self.reached.unsqueeze(-1)
            out = out.new_zeros((self.size, out.size(1))).index_add_(0, self.nearest, out)
        return out.to(x.dtype)
