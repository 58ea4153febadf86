r"""Weights that teach a network the gaps between touching instances.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, equation 2: :math:`w = w_c + w_0 \exp(-(d_1 + d_2)^2 / (2 \sigma^2))`, with
:math:`d_1` and :math:`d_2` the distances to the nearest and the second-nearest instance.

All of this is preprocessing: it runs in float64 on the CPU, by scipy, and returns to the device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree
from torch import Tensor
from torch_geometric.utils import coalesce

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_edge_weight,
    check_features,
    check_number,
    check_positive_int,
    check_tensor,
    outermost,
)

# Where d1 + d2 exceeds this many sigma the weight is below 1.6e-8 of w0, and taken for zero.
CUTOFF = 6.0


def connected_instances(label: Tensor, edge_index: Tensor, background: int = 0) -> Tensor:
    r"""Numbers the connected components of equal label.

    Args:
        label (Tensor): The class of each node `[N]`.
        edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
        background (int): The label that forms no instance. (default: :obj:`0`)

    Returns:
        Tensor: The instance of each node `[N]`, int64: 1, 2, ... in the order of their first
        nodes, and 0 on the background.

    Raises:
        TypeError: If `label` or `edge_index` does not hold integers.
        ValueError: If a shape is wrong.
        IndexError: If an edge ends outside of the nodes.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
        >>> connected_instances(torch.tensor([1, 1, 2, 0, 1, 1]), path)
        tensor([1, 1, 2, 0, 3, 3])
    """
    _check_labels(label, "label")
    check_positive_int(background, "background", -(2**63), 2**63 - 1)
    num_nodes = label.size(0)
    with outermost() as values:
        check_edge_index(edge_index, num_nodes, values, of="label")
    row, col = edge_index[:, label[edge_index[0]] == label[edge_index[1]]].cpu().numpy()
    links = _matrix(np.ones(len(row), dtype=np.int8), row, col, num_nodes)
    _, part = connected_components(links, directed=False)
    inside = (label != background).cpu().numpy()
    return torch.from_numpy(in_order(np.where(inside, part + 1, 0))).to(label.device)


def in_order(number: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers above 0 as 1, 2, ... in the order of their first nodes; 0 stays."""
    inside = number > 0
    _, first, which = np.unique(number[inside], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    out = np.zeros(len(number), dtype=np.int64)
    out[inside] = rank[which]
    return out


def border_weight(
    instance: Tensor,
    pos: Tensor | None = None,
    edge_index: Tensor | None = None,
    batch: Tensor | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    background_only: bool = True,
    edge_length: Tensor | None = None,
) -> Tensor:
    r"""The border term :math:`w_0 \exp(-(d_1 + d_2)^2 / (2 \sigma^2))` of each node.

    :math:`d_1` and :math:`d_2` are the distances to the nearest node of the nearest and of the
    second-nearest instance in the same graph: Euclidean with `pos`, and without it along the
    undirected graph. Where :math:`d_1 + d_2 > 6 \sigma`, and where there is no second instance,
    the term is zero.

    Args:
        instance (Tensor): The instance of each node `[N]`; 0 is the background.
        pos (Tensor, optional): Coordinates `[N, D]`. (default: :obj:`None`)
        edge_index (Tensor, optional): The edges `[2, E]`, needed without `pos`.
            (default: :obj:`None`)
        batch (Tensor, optional): The graph of each node `[N]`, sorted. An instance does not reach
            beyond its graph, whatever its number. (default: :obj:`None`)
        w0 (float): The weight where two instances touch. (default: :obj:`10.0`)
        sigma (float): The width of the border, in the unit of the distances.
            (default: :obj:`5.0`)
        background_only (bool): Whether nodes of an instance get zero, as in the paper, or the
            term with :math:`d_1 = 0`. (default: :obj:`True`)
        edge_length (Tensor, optional): The length of each edge `[E]` without `pos`.
            (default: 1 per edge)

    Returns:
        Tensor: The term of each node `[N]`, float64.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If neither `pos` nor `edge_index` is given, `edge_length` comes with `pos`, or
            an argument is out of range.

    Example:
        >>> instance = torch.tensor([1, 0, 0, 2])
        >>> border_weight(instance, pos=torch.tensor([[0.0], [1.0], [2.0], [3.0]]), sigma=3.0)
        tensor([0.0000, 6.0653, 6.0653, 0.0000], dtype=torch.float64)
    """
    _check_labels(instance, "instance")
    num_nodes = instance.size(0)
    check_number(w0, "w0", low=0.0)
    check_number(sigma, "sigma")
    if sigma <= 0:
        raise ValueError(f"'sigma' must be positive (got {sigma!r})")
    if not isinstance(background_only, bool):
        raise TypeError(f"'background_only' must be a bool (got {background_only!r})")
    with outermost() as values:
        check_batch(batch, num_nodes, values, "instance")
        if pos is not None:
            if edge_length is not None:
                raise ValueError("'edge_length' has no use where 'pos' gives the distances")
            if num_nodes or pos.numel():
                check_features(pos, values=values, name="pos")
            if pos.size(0) != num_nodes:
                raise ValueError(f"'pos' must have {num_nodes} rows (got {list(pos.shape)})")
        elif edge_index is None:
            raise ValueError("'pos' or 'edge_index' must be given (got None for both)")
        else:
            check_edge_index(edge_index, num_nodes, values, of="instance")
            check_edge_weight(edge_length, edge_index.size(1), values, name="edge_length")
            if values and edge_length is not None and bool((edge_length < 0).any()):
                raise ValueError(f"'edge_length' must be at least 0 (got {edge_length.min()})")
    owner = _owners(instance, batch)
    asked = np.flatnonzero(owner < 0) if background_only else np.arange(num_nodes)
    reach = CUTOFF * sigma
    if pos is not None:
        first, second = _euclidean(owner, asked, _apart(pos, batch, reach), reach)
    else:
        assert edge_index is not None
        first, second = _along_graph(owner, asked, edge_index, edge_length, reach)
    total = first + second
    near = total <= reach
    term = np.zeros(num_nodes)
    term[asked[near]] = w0 * np.exp(-(total[near] ** 2) / (2.0 * sigma**2))
    return torch.from_numpy(term).to(instance.device)


def _check_labels(label: Tensor, name: str) -> None:
    check_tensor(label, name)
    if label.dtype not in LABEL_DTYPES:
        raise TypeError(f"'{name}' must hold integers (got {label.dtype})")
    if label.dim() != 1:
        raise ValueError(f"'{name}' must have shape [N] (got {list(label.shape)})")


def _owners(instance: Tensor, batch: Tensor | None) -> NDArray[np.int64]:
    """Instances numbered 0, 1, ... over all graphs; -1 on the background."""
    number = instance.cpu().numpy().astype(np.int64)
    inside = number != 0
    keys = number[inside][:, None]
    if batch is not None:
        keys = np.column_stack([batch.cpu().numpy()[inside], keys])
    owner = np.full(len(number), -1, dtype=np.int64)
    owner[inside] = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return owner


def _apart(pos: Tensor, batch: Tensor | None, reach: float) -> NDArray[np.float64]:
    """Coordinates, with one more that keeps the graphs out of each other's reach."""
    points = pos.detach().cpu().double().numpy()
    if batch is None:
        return points
    return np.column_stack([points, batch.cpu().numpy() * (2.0 * reach + 1.0)])


def _euclidean(
    owner: NDArray[np.int64], asked: NDArray[np.int64], points: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two distances of the nodes asked for; infinite where their sum exceeds `reach`.

    The nearest instance is one query. For the second, colour the instances such that no two within
    reach of each other share a colour. Then the second-nearest instance differs from the nearest
    in a bit of the colour: per bit, the nodes whose nearest instance has a 0 there ask the tree of
    the instances with a 1, and the other way round; the least answer is the distance. That takes
    log2(colours) queries per node, however many instances there are.
    """
    first = np.full(len(asked), np.inf)
    second = first.copy()
    sources = np.flatnonzero(owner >= 0)
    if not len(sources) or not len(asked):
        return first, second
    # The nearest is no further than the second: half the reach is enough.
    half = np.nextafter(reach / 2, np.inf)
    first, index = KDTree(points[sources]).query(points[asked], distance_upper_bound=half)
    near = np.flatnonzero(np.isfinite(first))
    colour = _colours(owner[sources], points[sources], reach)
    source_colour = colour[owner[sources]]
    near_colour = colour[owner[sources[index[near]]]]
    found = np.full(len(near), np.inf)
    for bit in range(int(colour.max()).bit_length()):
        for side in (0, 1):
            tree = KDTree(points[sources[source_colour >> bit & 1 == side]])
            query = np.flatnonzero(near_colour >> bit & 1 != side)
            distance, _ = tree.query(
                points[asked[near[query]]], distance_upper_bound=np.nextafter(reach, np.inf)
            )
            found[query] = np.minimum(found[query], distance)
    second[near] = found
    return first, second


def _colours(
    owner: NDArray[np.int64], points: NDArray[np.float64], reach: float
) -> NDArray[np.int64]:
    """A colour per instance, different where bounding boxes lie within `reach`; greedy."""
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    low = np.minimum.reduceat(points[order], starts)
    high = np.maximum.reduceat(points[order], starts) + reach
    colour = np.zeros(len(starts), dtype=np.int64)
    # Sweep along the first axis: an instance meets only those that begin before it ends.
    sweep = np.argsort(low[:, 0], kind="stable")
    low, high = low[sweep], high[sweep]
    open_ = np.zeros(0, dtype=np.int64)
    for i in range(len(sweep)):
        open_ = open_[high[open_, 0] >= low[i, 0]]
        meets = ((high[open_] >= low[i]) & (low[open_] <= high[i])).all(axis=1)
        taken = set(colour[open_[meets]].tolist())
        colour[i] = next(c for c in range(len(taken) + 1) if c not in taken)
        open_ = np.append(open_, i)
    result = np.empty_like(colour)
    result[sweep] = colour
    return result


def _along_graph(
    owner: NDArray[np.int64],
    asked: NDArray[np.int64],
    edge_index: Tensor,
    edge_length: Tensor | None,
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`_euclidean`, by two runs of Dijkstra's algorithm.

    The first finds the nearest instance of each node. A path from the second-nearest one enters
    the node's own region, of those with the same nearest instance, over one edge (u, v), and stays
    in it: the part before costs the first run's distance of u, so that the second run starts from
    a node beyond the graph, with an edge of that cost to each such v, and keeps to the regions.
    """
    first = np.full(len(asked), np.inf)
    sources = np.flatnonzero(owner >= 0)
    if not len(sources) or not len(asked):
        return first, first.copy()
    num_nodes = len(owner)
    row, col, length = _undirected(edge_index, edge_length, num_nodes)
    graph = _matrix(length, row, col, num_nodes)
    half = math.nextafter(reach / 2, math.inf)
    nearest, _, source = dijkstra(
        graph, indices=sources, limit=half, min_only=True, return_predecessors=True
    )
    reached = np.isfinite(nearest)
    region = np.full(num_nodes, -1, dtype=np.int64)
    region[reached] = owner[source[reached]]
    linked = (region[row] >= 0) & (region[col] >= 0)
    row, col, length = row[linked], col[linked], length[linked]
    crosses = region[row] != region[col]
    inside = ~crosses
    entry, cost = _least(col[crosses], nearest[row[crosses]] + length[crosses])
    start = np.full(len(entry), num_nodes)
    graph = _matrix(
        np.concatenate([length[inside], cost]),
        np.concatenate([row[inside], start]),
        np.concatenate([col[inside], entry]),
        num_nodes + 1,
    )
    second = dijkstra(graph, indices=num_nodes, limit=math.nextafter(reach, math.inf))
    return nearest[asked], second[asked]


def _matrix(
    value: NDArray[Any], row: NDArray[np.int64], col: NDArray[np.int64], size: int
) -> csr_array:
    """A square matrix with 32-bit indices: of 64-bit ones `connected_components` makes wrong parts
    in silence before scipy 1.11.3, and `dijkstra` none at all before 1.15.
    """
    index = (row.astype(np.int32), col.astype(np.int32))
    return csr_array((value, index), shape=(size, size))


def _undirected(
    edge_index: Tensor, edge_length: Tensor | None, num_nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Both directions of every edge, the shortest of parallel ones."""
    edge_index = edge_index.cpu().long()
    if edge_length is None:
        lengths = torch.ones(edge_index.size(1), dtype=torch.float64)
    else:
        lengths = edge_length.detach().cpu().double()
    both, lengths = coalesce(
        torch.cat([edge_index, edge_index.flip(0)], dim=1),
        torch.cat([lengths, lengths]),
        num_nodes,
        reduce="min",
    )
    row, col = both.numpy()
    return row, col, lengths.numpy()


def _least(
    node: NDArray[np.int64], cost: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The least cost of each node that occurs."""
    order = np.lexsort((cost, node))
    node, where = np.unique(node[order], return_index=True)
    return node, cost[order][where]
