"""The forms in which PyG hands edges around, as one, and what is made of edges in many places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch_geometric import EdgeIndex
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import to_edge_index

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def as_edges(
    edge_index: Any,
    edge_attr: Tensor | None,
    num_nodes: int,
    name: str = "edge_weight",
    weighted: bool = True,
) -> tuple[Any, Tensor | None]:
    r"""``(edge_index [2, E], edge_attr)`` as plain tensors, from any form that PyG knows.

    A :class:`torch_geometric.EdgeIndex` gives its tensor. A sparse matrix is read as PyG reads it,
    as the transposed adjacency `adj_t`, rows = targets; its values become `edge_attr`, with their
    gradient. Anything else is passed on to the checks at the door as it is.

    Args:
        edge_index (Tensor, EdgeIndex or SparseTensor): Edges [2, E], or a sparse `adj_t` [N, N],
            COO, CSR or CSC.
        edge_attr (Tensor, optional): What the edges carry; None with a sparse matrix.
        num_nodes (int): Number of nodes, N.
        name (str, optional): What the caller calls `edge_attr`. (default: ``"edge_weight"``)
        weighted (bool, optional): Whether the caller can use weights. If not, a sparse matrix of
            ones, which is how PyG stores a graph without weights, comes without. (default: True)

    Raises:
        ValueError: If a sparse matrix is not [N, N], or comes with a further `edge_attr`.
        TypeError: If its values are not floating point.

    Example:
        >>> adj_t = torch.tensor([[0.0, 0.5], [0.0, 0.0]]).to_sparse()  # from node 1 to node 0
        >>> as_edges(adj_t, None, 2)
        (tensor([[1],
                [0]]), tensor([0.5000]))
    """
    if isinstance(edge_index, SparseTensor):
        _check_matrix(edge_index.sizes(), edge_attr, num_nodes, name)
        row, col, value = edge_index.coo()
    elif isinstance(edge_index, EdgeIndex):
        return edge_index.as_tensor(), edge_attr
    elif isinstance(edge_index, Tensor) and edge_index.layout in _SPARSE:
        _check_matrix(list(edge_index.shape), edge_attr, num_nodes, name)
        if edge_index.layout == torch.sparse_coo:
            # PyG would take it to be coalesced, and loses the gradient of its values.
            edge_index = edge_index.coalesce()
            (row, col), value = edge_index.indices(), edge_index.values()
        else:
            (row, col), value = to_edge_index(edge_index)
    else:
        return edge_index, edge_attr
    if value is not None and not value.is_floating_point():
        raise TypeError(f"the values of 'edge_index' must be floating point (got {value.dtype})")
    if value is not None and not weighted and bool((value.detach() == 1).all()):
        value = None
    return torch.stack([col, row]), value


def _check_matrix(shape: list[int], edge_attr: Tensor | None, num_nodes: int, name: str) -> None:
    if shape != [num_nodes, num_nodes]:
        raise ValueError(
            f"'edge_index' as a sparse matrix must have shape [{num_nodes}, {num_nodes}] "
            f"for {num_nodes} nodes (got {shape})"
        )
    if edge_attr is not None:
        raise ValueError(
            f"'{name}' must be None with a sparse 'edge_index', whose values are the weights "
            f"(got a tensor of shape {list(edge_attr.shape)})"
        )


def both_ways(edge_index: Tensor) -> Tensor:
    """Every edge and its reverse, [2, 2E], int64."""
    edge_index = edge_index.long()
    return torch.cat([edge_index, edge_index.flip(0)], dim=1)


def unit_dtype() -> torch.dtype:
    """Of ones that stand for weights: torch's default, but for one of half precision."""
    default = torch.get_default_dtype()
    return default if default == torch.float64 else torch.float32


def near(edge_index: Tensor, edge_weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``(source, target, size)`` of every edge and its reverse, float32 or float64, without self
    loops and edges of weight zero. Sizes are absolute weights over a power of two, none above 2:
    sums of large ones would overflow, and means do not change; what is nothing beside the largest
    is zero."""
    source, target = both_ways(edge_index)
    if edge_weight is None:
        weight = torch.ones(source.size(0), dtype=unit_dtype(), device=source.device)
    else:
        weight = edge_weight.abs()
        weight = weight if weight.dtype == torch.float64 else weight.float()
        weight = torch.cat([weight, weight])
    if edge_weight is not None and weight.numel():
        largest = weight.detach().where(source != target, 0.0).max()
        exponent = torch.frexp(largest).exponent - 1
        weight = weight / torch.exp2(exponent.to(weight.dtype))
    proper = ((source != target) & (weight.detach() > 0)).nonzero().view(-1)
    return source[proper], target[proper], weight[proper]


def with_identity(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The entries of A + I, A without its self loops: source, target, weight (with its gradient)
    and the index of the edge, E for those of the identity."""
    proper = (edge_index[0] != edge_index[1]).nonzero().view(-1)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    ones = torch.ones(num_nodes, dtype=dtype, device=edge_index.device)
    weight = ones.new_ones(proper.size(0)) if edge_weight is None else edge_weight[proper].to(dtype)
    source = torch.cat([edge_index[0][proper].long(), nodes])
    target = torch.cat([edge_index[1][proper].long(), nodes])
    edge = torch.cat([proper, torch.full_like(nodes, edge_index.size(1))])
    return source, target, torch.cat([weight, ones]), edge


def refuse_tangent(edge_weight: Tensor | None, name: str = "edge_weight") -> None:
    """Refuses weights with a tangent of forward-mode differentiation, which stored levels lose."""
    if edge_weight is None or torch.compiler.is_compiling():
        return
    if unpack_dual(edge_weight).tangent is not None:
        raise NotImplementedError(
            f"'{name}' must not carry a forward-mode tangent, which pooled weights would lose; "
            f"differentiate in reverse mode (got weights of shape {list(edge_weight.shape)})"
        )
