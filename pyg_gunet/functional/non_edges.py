"""Pairs of nodes that no edge joins, drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_num_nodes,
    check_within_graphs,
    outermost,
)


def non_edges(
    edge_index: Tensor,
    num_nodes: int,
    batch: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""A pair of different nodes for every edge, with replacement, uniform among those of the
    edge's graph that no edge joins in that direction.

    PyG's :func:`~torch_geometric.utils.batched_negative_sampling` draws by Python's own generator,
    which no seed of PyTorch's repeats, rejects what are edges, and walks through the graphs one by
    one. Here the pairs of all graphs are numbered without the edges, so that a draw is an order
    statistic: exact, and as quick where hardly a pair is free.

    Args:
        edge_index (Tensor): Edges, [2, E].
        num_nodes (int): Number of nodes, N.
        batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
        generator (torch.Generator, optional): Source of the draws. (default: None, PyTorch's own)

    Returns:
        Tensor: Pairs, [2, E], int64; fewer where a complete graph has edges, for which there are
        none.

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 2, 2, 0], [1, 0, 1, 0, 2]])  # all but 1 to 2
        >>> non_edges(edge_index, 3)
        tensor([[1, 1, 1, 1, 1],
                [2, 2, 2, 2, 2]])
    """
    with outermost() as values:
        check_num_nodes(num_nodes)
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_batch(batch, num_nodes, values, of="num_nodes")
        check_within_graphs(edge_index, batch, values)
    source, target = edge_index.long()
    nodes = torch.arange(num_nodes, device=source.device)
    if batch is None:
        batch = torch.zeros_like(nodes)
    size = torch.bincount(batch)
    start, first = cumsum(size), cumsum(size**2)  # of a graph's nodes, and of its pairs
    graph = batch[torch.cat([source, nodes])]
    source, target = torch.cat([source, nodes]), torch.cat([target, nodes])  # no pair with itself
    row, column = source - start[graph], target - start[graph]
    taken = torch.unique(first[graph] + row * size[graph] + column)
    free = taken - torch.arange(taken.numel(), device=taken.device)  # numbers free below each
    below = torch.searchsorted(taken, first)  # of those taken, before each graph
    begin = first - below
    own = graph[: edge_index.size(1)]
    own = own[(begin.diff() > 0)[own]]
    draw = torch.rand(own.shape, generator=generator, dtype=torch.float64, device=own.device)
    count = begin.diff()[own]
    rank = begin[own] + (draw * count).long().clamp(max=count - 1)
    pair = rank + torch.searchsorted(free, rank, right=True) - first[own]
    return torch.stack([pair // size[own], pair % size[own]]) + start[own]
