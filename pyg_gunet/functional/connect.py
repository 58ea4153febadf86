"""Connectivity of the nodes that a pooling layer keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn.pool.connect.filter_edges import filter_adj
from torch_geometric.utils import cumsum

from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.inputs import as_edges, refuse_tangent, with_identity
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.product import check_counts
from pyg_gunet.graph.sparse.product import count_products as products_of
from pyg_gunet.graph.transfer import Transfer, contracted
from pyg_gunet.validate import (
    check_edge_attr,
    check_edge_index,
    check_edge_weight,
    check_num_nodes,
    check_perm,
    check_positive_int,
    check_same_device,
    outermost,
)

# The backward pass lists products one by one; this many at a time bounds its memory.
PRODUCTS_PER_CHUNK = 1 << 22


def induced(
    edge_index: Tensor, edge_attr: Tensor | None, perm: Tensor, num_nodes: int
) -> tuple[Tensor, Tensor | None]:
    r"""The subgraph between the kept nodes, :math:`\mathbf{A}_{\mathbf{i},\mathbf{i}}`.

    Graph U-Nets (`Gao and Ji 2019 <https://arxiv.org/abs/1905.05178>`_, eq. 2).

    Args:
        edge_index (Tensor): Edges, [2, E].
        edge_attr (Tensor, optional): Edge features, [E, ...], or None.
        perm (Tensor): Kept nodes, [K]; node j of the result is node ``perm[j]``.
        num_nodes (int): Number of nodes, N.

    Returns:
        tuple: `edge_index` [2, E'] in the order of the input's edges, and their `edge_attr`.

    Raises:
        IndexError: If an index of `edge_index` or `perm` is out of range.
        ValueError: If shapes do not fit.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> induced(edge_index, None, torch.tensor([2, 1]), 3)[0].tolist()
        [[1, 0], [0, 1]]
    """
    with outermost() as values:
        check_num_nodes(num_nodes)
        edge_index, edge_attr = as_edges(edge_index, edge_attr, num_nodes, "edge_attr")
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_perm(perm, num_nodes, values)
        check_same_device(edge_index, "edge_index", edge_attr=edge_attr, perm=perm)
        check_edge_attr(edge_attr, edge_index.size(1))
    return filter_adj(edge_index, edge_attr, perm, num_nodes=num_nodes)


def contract(
    edge_index: Tensor, edge_attr: Tensor | None, perm: Tensor, num_nodes: int
) -> tuple[Tensor, Tensor]:
    r"""Contracts the graph onto the kept nodes: every node goes to the kept node that weighs most
    in its row of the prolongation, see :func:`pyg_gunet.functional.interpolate.prolongation`,

    .. math::
        \mathbf{A}' = \mathbf{S}^{\top} \mathbf{A} \mathbf{S} \text{ without its diagonal},

    :math:`\mathbf{S}` the indicator [N, K]. The aggregation of algebraic multigrid. Never more
    edges than before, and what was connected stays connected. A node that no path joins to a kept
    one leaves with its edges. Among kept nodes of equal weight the first in `perm` is taken: that
    of the best score.

    Args:
        edge_index (Tensor): Edges, [2, E]; directions stay.
        edge_attr (Tensor, optional): Weights [E] or [E, 1], which are summed and tell how near
            nodes are, or features [E, ...], which are averaged. (default: None, the number of
            edges)
        perm (Tensor): Kept nodes, [K]; node j of the result is node ``perm[j]``.
        num_nodes (int): Number of nodes, N.

    Returns:
        tuple: `edge_index` [2, E'] sorted by source then target, and their `edge_attr`.

    Raises:
        IndexError: If an index of `edge_index` or `perm` is out of range.
        ValueError: If shapes do not fit.
        NotImplementedError: If weights carry a forward-mode tangent.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
        >>> contract(path, None, torch.tensor([0, 3]), 6)  # {0, 1} and {2, 3, 4, 5}
        (tensor([[0],
                [1]]), tensor([1.]))
    """
    with outermost() as values:
        check_num_nodes(num_nodes)
        edge_index, edge_attr = as_edges(edge_index, edge_attr, num_nodes, "edge_attr")
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_perm(perm, num_nodes, values)
        check_same_device(edge_index, "edge_index", edge_attr=edge_attr, perm=perm)
        check_edge_attr(edge_attr, edge_index.size(1))
    weight, attr = split_attr(edge_attr)
    refuse_tangent(weight, "edge_attr")
    transfer = Transfer.from_edges(perm, edge_index, weight, num_nodes)
    index, weight, attr = contracted(edge_index, weight, attr, transfer.cluster, perm.size(0))
    return index, join_attr(edge_attr, weight, attr)


def split_attr(edge_attr: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """``(weights [E], features [E, ...])`` of what edges carry: [E] and [E, 1] are weights."""
    if edge_attr is None or edge_attr.shape[1:] not in ((), (1,)):
        return None, edge_attr
    return edge_attr.view(-1), None


def join_attr(given: Tensor | None, weight: Tensor | None, attr: Tensor | None) -> Any:
    """What pooled edges carry, in the form of what was `given`."""
    if attr is not None:
        return attr
    column = given is not None and given.dim() == 2 and weight is not None
    return weight.view(-1, 1) if column and weight is not None else weight


def two_hop(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    perm: Tensor,
    num_nodes: int,
    max_products: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Two-hop connectivity between the kept nodes, computed for the kept nodes only.

    With the self loops of :math:`\mathbf{A}` taken out first,

    .. math::
        \mathbf{A}' = \left( (\mathbf{A} + \mathbf{I})_{\mathbf{i},:} \,
        (\mathbf{A} + \mathbf{I})_{:,\mathbf{i}} \right) \text{ without its diagonal},

    which equals :math:`((\mathbf{A} + \mathbf{I})^2)_{\mathbf{i},\mathbf{i}}` off the diagonal, as
    in Graph U-Nets (`Gao and Ji 2019 <https://arxiv.org/abs/1905.05178>`_, section 3.4), without
    the full square. Weights are walk counts: the sums over walks of at most two steps of the
    products of their edges' weights. Differentiable with respect to `edge_weight`.

    Args:
        edge_index (Tensor): Edges, [2, E]; directed, parallel edges are summed.
        edge_weight (Tensor, optional): One weight per edge, [E]. (default: None, all ones)
        perm (Tensor): Kept nodes, [K]; node j of the result is node ``perm[j]``.
        num_nodes (int): Number of nodes, N.
        max_products (int, optional): The most scalar products that may be computed; their exact
            number is known from the degrees before the first one. (default: None, so many that
            their result fits in 80% of the available memory)

    Returns:
        tuple: `edge_index` [2, E'] sorted by source then target, `edge_weight` [E'].

    Raises:
        MemoryError: If the product is too large.
        OverflowError: If its counts are.
        NotImplementedError: If `edge_weight` carries a forward-mode tangent.
        IndexError: If an index of `edge_index` or `perm` is out of range.
        ValueError: If shapes do not fit.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # 0 - 1 - 2
        >>> two_hop(path, None, torch.tensor([2, 0]), 3)
        (tensor([[0, 1],
                [1, 0]]), tensor([1., 1.]))
    """
    with outermost() as values:
        check_num_nodes(num_nodes)
        edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_edge_weight(edge_weight, edge_index.size(1), values)
        check_perm(perm, num_nodes, values)
        if max_products is not None:
            check_positive_int(max_products, "max_products", maximum=None)
        refuse_tangent(edge_weight)
    return _two_hop(edge_index, edge_weight, perm, num_nodes, max_products)


@torch.compiler.disable
def _two_hop(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    perm: Tensor,
    num_nodes: int,
    max_products: int | None = None,
) -> tuple[Tensor, Tensor]:
    if edge_weight is None:
        return _counts(edge_weight, edge_index, perm, num_nodes, max_products)
    return _TwoHop.apply(edge_weight, edge_index, perm, num_nodes, max_products)


def _counts(
    edge_weight: Tensor | None,
    edge_index: Tensor,
    perm: Tensor,
    num_nodes: int,
    max_products: int | None,
) -> tuple[Tensor, Tensor]:
    dtype = torch.get_default_dtype() if edge_weight is None else edge_weight.dtype
    adjacency = Adjacency.from_edge_index(edge_index, edge_weight, num_nodes, dtype)
    index, weight = adjacency.pool(perm.long(), None, _Limit(max_products)).edges()
    return index.to(edge_index.dtype), check_counts(weight.to(dtype))


class _Limit(NamedTuple):
    """Two-hop connectivity, as :meth:`Adjacency.pool` is told."""

    max_products: int | None
    name: str = "two_hop"


class _TwoHop(torch.autograd.Function):
    """Walk counts, tied to the weights that they came from.

    Backward, for every product of edges (s, j) and (j, t) in ``B[i, :] @ B[:, i]``: each factor's
    weight gets the other factor's times the gradient of entry (s, t). Products are listed anew in
    chunks, so nothing of their number is stored between the passes.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        edge_weight: Tensor,
        edge_index: Tensor,
        perm: Tensor,
        num_nodes: int,
        max_products: int | None,
    ) -> tuple[Tensor, Tensor]:
        return _counts(edge_weight, edge_index, perm, num_nodes, max_products)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        edge_weight, edge_index, perm, *_ = inputs
        ctx.mark_non_differentiable(output[0])
        ctx.save_for_backward(edge_weight, edge_index, output[0], perm)

    @staticmethod
    def backward(ctx: Any, _: Any, grad_out: Tensor) -> Any:  # type: ignore[override]
        edge_weight, edge_index, out_index, perm = ctx.saved_tensors
        grad = two_hop_weight_grad(grad_out, edge_weight, edge_index, out_index, perm.long())
        return grad, *[None] * 4

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise NotImplementedError(
            "'edge_weight' and 'perm' must not be batched by torch.func.vmap: counts differ in "
            f"number (got a batch of {info.batch_size})"
        )


def two_hop_weight_grad(
    grad_out: Tensor, edge_weight: Tensor, edge_index: Tensor, out_index: Tensor, perm: Tensor
) -> Tensor:
    """The gradient [E] in `edge_weight` of walk counts whose gradient is `grad_out` [E']."""
    device, size = perm.device, perm.size(0)
    # A node beyond all edges cannot be reached: N is only needed up to the largest index in use.
    num_nodes = int(torch.cat([edge_index.reshape(-1), perm, perm.new_zeros(1)]).max()) + 1
    position = torch.full((num_nodes,), -1, dtype=torch.long, device=device)
    position[perm] = torch.arange(size, device=device)
    compute = torch.promote_types(edge_weight.dtype, torch.float32)

    # Not detached: the gradient itself depends on the weights, and double backward follows it.
    row, col, weight, edge = with_identity(edge_index, edge_weight, num_nodes, compute)

    from_kept = (position[row] >= 0).nonzero().view(-1)  # entries of B[i, :]
    to_kept = (position[col] >= 0).nonzero().view(-1)  # entries of B[:, i], grouped by row
    to_kept = to_kept[torch.sort(row[to_kept], stable=True).indices]
    ptr = cumsum(torch.bincount(row[to_kept], minlength=num_nodes))
    first, count = ptr[col[from_kept]], ptr.diff()[col[from_kept]]

    key = out_index[0].long() * size + out_index[1].long()  # sorted: edges() sorts by row, column
    grad = torch.zeros(edge_weight.size(0) + 1, dtype=compute, device=device)  # last: the identity
    total = cumsum(count)
    cuts = torch.arange(0, int(total[-1]) + PRODUCTS_PER_CHUNK, PRODUCTS_PER_CHUNK, device=device)
    # One by one, and few: in torch.func of torch 2.8 a tensor does not come as a list.
    bounds = [int(one) for one in torch.searchsorted(total, cuts).clamp(max=count.size(0)).unique()]
    for lo, hi in zip(bounds[:-1], bounds[1:]):
        n = int(total[hi] - total[lo])
        left = torch.arange(lo, hi, device=device).repeat_interleave(count[lo:hi], output_size=n)
        step = torch.arange(n, device=device) + total[lo] - total[left]
        right = to_kept[first[left] + step]
        left = from_kept[left]
        target = position[row[left]] * size + position[col[right]]
        place = torch.searchsorted(key, target).clamp(max=max(key.size(0) - 1, 0))
        if key.size(0) == 0:
            break
        g = torch.where(key[place] == target, grad_out.to(compute)[place], 0)  # 0: the diagonal
        # Not in place: batched gradients would not fit into the plain tensor that they start from.
        grad = grad.index_add(0, edge[left], g * weight[right])
        grad = grad.index_add(0, edge[right], g * weight[left])
    return grad[:-1].to(edge_weight.dtype)


def count_products(edge_index: Tensor, perm: Tensor, num_nodes: int) -> int:
    """The exact number of scalar products of :func:`two_hop`, from the degrees alone."""
    matrix = Adjacency.from_edge_index(edge_index, None, num_nodes).matrix
    assert isinstance(matrix, csr.CSR)
    return products_of(csr.rows_of(matrix, perm), csr.columns_of(matrix, perm))
