"""Sampled two-hop connectivity: explicit edges of bounded number."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_gunet.graph.inputs import as_edges, with_identity
from pyg_gunet.graph.sparse.product import check_counts
from pyg_gunet.validate import (
    check_edge_index,
    check_edge_weight,
    check_generator,
    check_num_nodes,
    check_perm,
    check_positive_int,
    outermost,
)


def sampled_two_hop(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    perm: Tensor,
    num_nodes: int,
    max_degree: int = 32,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Two-hop connectivity of the kept nodes with at most `max_degree` incoming edges each.

    Stands in for :func:`pyg_gunet.functional.connect.two_hop` where that would fill up. For a kept
    node :math:`t`, every walk :math:`s \to k \to t` of
    :math:`(\mathbf{A} + \mathbf{I})_{\mathbf{i},:} (\mathbf{A} + \mathbf{I})_{:,\mathbf{i}}` is
    drawn with a probability proportional to the product of its two weights, by systematic sampling:
    `max_degree` equidistant points with one random offset per node. So no walk is listed but those
    drawn, and any that weighs more than a share :math:`1 /` `max_degree` is always among them. Each
    point stands for an equal share of the total weight, so every weight of the result has the walk
    count of `two_hop` as its expectation. Nodes with at most `max_degree` walks get all of them,
    exactly as `two_hop` does. Walks back to :math:`t` are drawn and left out.

    The cost is one pass over the edges and :math:`O(K d)` draws for `max_degree` :math:`d`.
    Gradients with respect to `edge_weight` hold the draws fixed; their expectation is the gradient
    of `two_hop`.

    Args:
        edge_index (Tensor): Edges, [2, E]; directed, parallel edges count one by one.
        edge_weight (Tensor or None): One weight per edge, [E], or None for all ones; negative ones
            are drawn by their absolute value.
        perm (Tensor): Kept nodes, [K]; node j of the result is node ``perm[j]``.
        num_nodes (int): Number of nodes, N.
        max_degree (int, optional): The most walks drawn per kept node. (default: 32)
        generator (torch.Generator, optional): Source of the offsets, on the device of `perm`.
            (default: None, torch's own, seeded by :func:`torch.manual_seed`)

    Returns:
        tuple: `edge_index` [2, E'] sorted by source then target, `edge_weight` [E'].

    Raises:
        IndexError: If an index of `edge_index` or `perm` is out of range.
        ValueError: If shapes do not fit, or `max_degree` is below 1.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # 0 - 1 - 2
        >>> sampled_two_hop(path, None, torch.tensor([2, 0]), 3)
        (tensor([[0, 1],
                [1, 0]]), tensor([1., 1.]))
    """
    with outermost() as values:
        check_num_nodes(num_nodes)
        check_positive_int(max_degree, "max_degree")
        check_generator(generator)
        edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_edge_weight(edge_weight, edge_index.size(1), values)
        check_perm(perm, num_nodes, values)
    dtype = torch.get_default_dtype() if edge_weight is None else edge_weight.dtype
    source, target, weight, _ = with_identity(edge_index, edge_weight, num_nodes, dtype)
    place = torch.full((num_nodes,), -1, dtype=torch.long, device=perm.device)
    place[perm] = torch.arange(perm.size(0), device=perm.device)
    with torch.no_grad():
        size = weight.detach().double().abs()
        first = (place[source] >= 0).nonzero().view(-1)  # first steps: from a kept node
        first = first[torch.sort(target[first], stable=True).indices]
        second = (place[target] >= 0).nonzero().view(-1)  # second steps: into one
        second = second[torch.sort(place[target[second]], stable=True).indices]
        into = target[first], num_nodes
        onto, through = (place[target[second]], perm.size(0)), source[second]

        one = torch.ones_like(size)
        count = _Walks.build(one[first], into, one[second], onto, through)
        mass = _Walks.build(size[first], into, size[second], onto, through)
        few = count.total <= max_degree
        number = torch.where(few, count.total.long(), max_degree)
        number[~few & (mass.total == 0)] = 0
        node = torch.arange(perm.size(0), device=perm.device).repeat_interleave(number)
        nth = torch.arange(node.size(0), device=perm.device) - cumsum(number)[:-1][node]
        offset = torch.rand(
            perm.size(0), generator=generator, dtype=torch.float64, device=perm.device
        )
        # The middle of the n-th of all walks where they are few, else a point of n equidistant.
        step = torch.where(few[node], nth + 0.5, (nth + offset[node]) / max_degree)
        a, b = count.locate(node, step, few[node], through)
        c, d = mass.locate(node, step * mass.total[node], ~few[node], through)
        leg2, leg1 = second[torch.where(few[node], a, c)], first[torch.where(few[node], b, d)]
        share = mass.total[node] / (max_degree * size[leg1] * size[leg2])
        share = torch.where(few[node], one.new_ones(()), share)
        from_kept = place[source[leg1]]
        other = (from_kept != node).nonzero().view(-1)
        key, where = (from_kept * perm.size(0) + node)[other].unique(return_inverse=True)
    drawn = weight[leg1[other]] * weight[leg2[other]] * share[other].to(dtype)
    out = drawn.new_zeros(key.size(0)).index_add(0, where, drawn)
    n = max(perm.size(0), 1)
    index = torch.stack([key.div(n, rounding_mode="floor"), key % n])
    check_counts(out)
    return index.to(edge_index.dtype), out


class _Walks(NamedTuple):
    """A measure of all walks into every kept node, laid out on a line by second step, then first.

    Attributes:
        inner, outer (Tensor): Running totals over first and second steps, starting with 0.
        inner_ptr (Tensor): Where the first steps into each node begin, [N + 1].
        outer_ptr (Tensor): Where the second steps into each kept node begin, [K + 1].
        size (Tensor): Measure of each second step alone.
        total (Tensor): Measure of all walks into each kept node, [K].
    """

    inner: Tensor
    inner_ptr: Tensor
    outer: Tensor
    outer_ptr: Tensor
    size: Tensor
    total: Tensor

    @classmethod
    def build(
        cls,
        first: Tensor,
        into: tuple[Tensor, int],
        second: Tensor,
        onto: tuple[Tensor, int],
        through: Tensor,
    ) -> _Walks:
        inner, inner_ptr = cumsum(first), _pointers(*into)
        reach = inner[inner_ptr[1:]] - inner[inner_ptr[:-1]]
        outer, outer_ptr = cumsum(second * reach[through]), _pointers(*onto)
        total = outer[outer_ptr[1:]] - outer[outer_ptr[:-1]]
        return cls(inner, inner_ptr, outer, outer_ptr, second, total)

    def locate(
        self, node: Tensor, position: Tensor, wanted: Tensor, through: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The second and the first step at a position of each node's walks; 0 where not wanted."""
        start = self.outer[self.outer_ptr[node]]
        second = _find(self.outer, start + position, self.outer_ptr, node)
        second = torch.where(wanted, second, 0)
        rest = (start + position - self.outer[second]) / self.size[second].clamp(min=1e-300)
        middle = through[second]
        begin = self.inner[self.inner_ptr[middle]]
        first = _find(self.inner, begin + rest, self.inner_ptr, middle)
        return second, torch.where(wanted, first, 0)


def _find(running: Tensor, position: Tensor, ptr: Tensor, owner: Tensor) -> Tensor:
    """The entry that covers a position, among those of its owner: rounding goes no further."""
    index = torch.searchsorted(running, position, right=True) - 1
    return torch.minimum(torch.maximum(index, ptr[owner]), ptr[owner + 1] - 1)


def _pointers(index: Tensor, size: int) -> Tensor:
    return cumsum(torch.bincount(index, minlength=size))
