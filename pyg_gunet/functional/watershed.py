r"""From scores of nodes to instances, along the edges: depth inside an instance, and the seeded
watershed that parts those that touch.

All of this comes after a network: it runs on the CPU, by scipy, without gradient, in
:math:`O(E \log E)` for sorting and linear beyond.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import breadth_first_order, dijkstra, minimum_spanning_tree
from torch import Tensor
from torch_geometric.utils import scatter

from pyg_gunet.functional.border import (
    _check_labels,
    _least,
    _matrix,
    _owners,
    _undirected,
    connected_instances,
    in_order,
)
from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_edge_weight,
    check_floating,
    check_number,
    check_positive_int,
    check_tensor,
    outermost,
)

PIXELS = 2**19  # that become a graph at once


def instance_depth(
    instance: Tensor,
    edge_index: Tensor,
    batch: Tensor | None = None,
    edge_length: Tensor | None = None,
) -> Tensor:
    r"""How deep inside its instance each node lies, from 0 to 1: the distance along the edges to
    the nearest node of another label, over the greatest of the instance.

    1 at an instance's middle and close to 0 at its border, whatever its size: what a network learns
    as one more output, for the seeds of :func:`seeded_watershed`. The distance transform of
    Naylor et al., "Segmentation of Nuclei in Histopathology Images by Deep Regression of the
    Distance Map", TMI 2019, scaled as in Stringer et al., "Cellpose", Nature Methods 2021. The rim
    of a picture is no border; an instance that has none is 1 everywhere.

    Args:
        instance (Tensor): The instance of each node `[N]`; 0 is the background.
        edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
        batch (Tensor, optional): The graph of each node `[N]`, sorted. An instance does not reach
            beyond its graph, whatever its number. (default: :obj:`None`)
        edge_length (Tensor, optional): The length of each edge `[E]`, above 0.
            (default: 1 per edge)

    Returns:
        Tensor: The depth of each node `[N]`, float32; 0 on the background.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a shape is wrong or an `edge_length` is not above 0.
        IndexError: If an edge ends outside of the nodes.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
        >>> instance_depth(torch.tensor([0, 1, 1, 1, 0, 2, 2]), path)
        tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000, 0.5000, 1.0000])
    """
    _check_labels(instance, "instance")
    num_nodes = instance.size(0)
    with outermost() as values:
        check_batch(batch, num_nodes, values, "instance")
        check_edge_index(edge_index, num_nodes, values, of="instance")
        check_edge_weight(edge_length, edge_index.size(1), values, name="edge_length")
        if values and edge_length is not None and bool((edge_length <= 0).any()):
            raise ValueError(f"'edge_length' must be above 0 (got {float(edge_length.min())})")
    owner = _owners(instance, batch)
    near = (instance[edge_index] != 0).any(dim=0)  # most edges of a picture join background
    edge_index = edge_index[:, near]
    edge_length = None if edge_length is None else edge_length[near]
    row, col, length = _undirected(edge_index, edge_length, num_nodes)
    inside = owner[row] >= 0
    row, col, length = row[inside], col[inside], length[inside]
    crosses = owner[row] != owner[col]
    # One node more, beyond every border: the shortest path to it is the way out.
    border, step = _least(row[crosses], length[crosses])
    graph = _matrix(
        np.concatenate([length[~crosses], step]),
        np.concatenate([row[~crosses], np.full(len(border), num_nodes)]),
        np.concatenate([col[~crosses], border]),
        num_nodes + 1,
    )
    depth = dijkstra(graph, indices=num_nodes)[:num_nodes]
    found = torch.from_numpy(np.where(np.isfinite(depth), depth, 1.0))
    known = torch.from_numpy(owner)
    found = found.masked_fill(known < 0, 0.0)
    most = scatter(found, known.clamp(min=0), dim=0, reduce="max")
    most = most[known.clamp(min=0)] if most.numel() else most
    return (found / most.clamp(min=1e-300)).float().to(instance.device)


def seeded_watershed(
    seed: Tensor,
    height: Tensor,
    edge_index: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Floods a graph from seeds, low nodes first: every node goes to the seed whose flood reaches
    it first, by the path of the lowest highest point.

    The flooding of Meyer, "Topographic distance and watershed lines", Signal Processing 1994,
    without lines between basins, as ``skimage.segmentation.watershed`` has it on pixels and with
    its labels where no two heights are equal; of equal ones the node that fewer edges part from a
    seed comes first. Computed as a minimum spanning forest (Cousty et al., "Watershed cuts", PAMI
    2009), which needs no queue.

    Args:
        seed (Tensor): The label of each seed node `[N]`, any number of nodes each; 0 elsewhere.
        height (Tensor): What the flood rises over `[N]`, as minus the depth.
        edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
        mask (Tensor, optional): Which nodes can be flooded `[N]`, bool. (default: all)

    Returns:
        Tensor: The label of each node `[N]`, int64; 0 outside the mask and where no seed reaches.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a shape is wrong, a seed is below 0 or a height is NaN.
        IndexError: If an edge ends outside of the nodes.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
        >>> height = torch.tensor([0.0, 1.0, 2.0, 5.0, 1.5, 0.5])
        >>> seeded_watershed(torch.tensor([1, 0, 0, 0, 0, 2]), height, path)
        tensor([1, 1, 1, 2, 2, 2])
    """
    _check_labels(seed, "seed")
    num_nodes = seed.size(0)
    check_floating(height, "height")
    for name, value in (("height", height), ("mask", mask)):
        if value is not None:
            check_tensor(value, name)
            if value.shape != (num_nodes,):
                raise ValueError(
                    f"'{name}' must have shape [{num_nodes}] (got {list(value.shape)})"
                )
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"'mask' must be bool (got {mask.dtype})")
    with outermost() as values:
        check_edge_index(edge_index, num_nodes, values, of="seed")
        if values and bool((seed < 0).any()):
            raise ValueError(f"'seed' must be at least 0 (got {int(seed.min())})")
        if values and bool(height.isnan().any()):
            where = int(height.isnan().nonzero()[0])
            raise ValueError(f"'height' must not be NaN (got NaN at node {where})")
    label = seed.cpu().numpy().astype(np.int64)
    inside = np.ones(num_nodes, bool) if mask is None else mask.cpu().numpy()
    label[~inside] = 0
    row, col = edge_index.cpu().numpy()
    kept = inside[row] & inside[col] & (row != col)
    low, high = np.minimum(row[kept], col[kept]), np.maximum(row[kept], col[kept])
    found = _flood(label, height.detach().cpu().double().numpy(), low, high)
    return torch.from_numpy(found).to(seed.device)


def _flood(
    label: NDArray[np.int64],
    height: NDArray[np.float64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
) -> NDArray[np.int64]:
    num_nodes = len(label)
    sources = np.flatnonzero(label)
    if not len(sources):
        return label
    # One node more, next to all seeds. As a matrix, each edge is there once.
    root = np.full(len(sources), num_nodes)
    ends = np.concatenate([row, root]), np.concatenate([col, sources])
    links = _matrix(np.ones(len(ends[0]), np.float32), *ends, num_nodes + 1).tocoo()
    order = breadth_first_order(links, num_nodes, directed=False, return_predecessors=False)[1:]
    # Heights as ranks, 1 to n, no two equal; 0 at the root.
    rank = np.zeros(num_nodes + 1, dtype=np.int64)
    by_rank = np.append(0, order[np.argsort(height[order], kind="stable")])
    rank[by_rank[1:]] = np.arange(1, len(by_rank))
    row, col = links.row, links.col
    weight = np.where(row == num_nodes, 1.0, np.maximum(rank[row], rank[col]) + 1.0)
    reached = rank[col] > 0
    row, col = row[reached], col[reached]
    graph = _matrix(weight[reached], row, col, num_nodes + 1)
    tree = minimum_spanning_tree(graph)
    _, parent = breadth_first_order(tree, num_nodes, directed=False)
    # The highest rank on the way to the seed: the rank of the pass that the flood came over.
    parent = np.where(parent < 0, num_nodes, parent)
    passed, jump = rank.copy(), parent
    while bool((jump != num_nodes).any()):
        passed = np.maximum(passed, passed[jump])
        jump = jump[jump]
    # Behind a pass a node is its pass's; a pass is that of the neighbour first flooded.
    step = by_rank[passed[:num_nodes]]
    inner = row < num_nodes
    row, col = row[inner], col[inner]
    pairs = []
    for a, b in ((row, col), (col, row)):
        falls = (passed[b] < passed[a]) & (passed[a] == rank[a]) & (label[a] == 0)
        pairs.append((a[falls], b[falls]))
    a, b = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    best = np.lexsort((passed[b], a))
    a, first = np.unique(a[best], return_index=True)
    step[a] = b[best][first]
    step[sources] = sources
    while True:
        further = step[step]
        if np.array_equal(further, step):
            break
        step = further
    found = np.zeros_like(label)
    found[order] = label[step[order]]
    return found


def split_instances(
    foreground: Tensor,
    depth: Tensor,
    edge_index: Tensor,
    prominence: float = 0.3,
    min_size: int = 1,
) -> Tensor:
    r"""Instances of the foreground: one for each peak of the depth with enough prominence.

    The prominence of a peak is its height over the highest pass that leads to a higher one, the
    dynamics of Grimaud, "A new measure of contrast: the dynamics", SPIE 1992, and of equal peaks
    the last node's is the higher: a basin of :func:`seeded_watershed` whose peak has less joins the
    one beyond that pass. The highest peak of a connected foreground stays, and what has fewer than
    `min_size` nodes is none. The peaks are those of ``skimage.morphology.h_maxima``; a threshold
    of the depth instead would split an instance at every hollow that crosses it.

    Args:
        foreground (Tensor): Which nodes belong to an instance `[N]`, bool.
        depth (Tensor): How deep inside each node lies `[N]`, as :func:`instance_depth`.
        edge_index (Tensor): The edges `[2, E]`; their direction does not matter.
        prominence (float): The least of a peak; beyond the greatest depth instances are the
            connected parts of the foreground. (default: :obj:`0.3`)
        min_size (int): The fewest nodes of an instance. (default: :obj:`1`)

    Returns:
        Tensor: The instance of each node `[N]`, int64: 1, 2, ... in the order of their first nodes,
        0 on the background.

    Raises:
        TypeError, ValueError, IndexError: As :func:`seeded_watershed`.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
        >>> depth = torch.tensor([0.0, 0.6, 0.9, 0.2, 0.7, 0.6, 0.8])
        >>> split_instances(depth > 0, depth, path)
        tensor([0, 1, 1, 1, 2, 2, 2])
    """
    check_number(prominence, "prominence", low=0.0)
    check_positive_int(min_size, "min_size")
    _check_foreground(foreground, depth, "[N]")
    with outermost() as values:
        check_edge_index(edge_index, len(foreground), values, of="foreground")
    row, col = edge_index[:, foreground[edge_index].all(dim=0)].cpu().numpy()
    height = depth.detach().cpu().double().numpy()
    peak = foreground.cpu().numpy().copy()
    for a, b in ((row, col), (col, row)):
        peak[a[height[b] > height[a]]] = False
    seed = connected_instances(torch.from_numpy(peak).long(), edge_index.cpu())
    basin = seeded_watershed(seed, -depth.detach().cpu(), edge_index.cpu(), foreground.cpu())
    found = torch.from_numpy(_joined(basin.numpy(), height, row, col, prominence))
    large = found.bincount() >= min_size
    return torch.from_numpy(in_order(found.where(large[found], 0).numpy())).to(foreground.device)


def _joined(
    basin: NDArray[np.int64],
    height: NDArray[np.float64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    prominence: float,
) -> NDArray[np.int64]:
    """Basins joined until every peak that is left has the prominence; numbers may be missing."""
    peak = np.full(basin.max(initial=0) + 1, -np.inf)
    np.maximum.at(peak, basin, height)
    rank = np.empty(len(peak), dtype=np.int64)
    rank[np.argsort(peak, kind="stable")] = np.arange(len(peak))
    root = np.arange(len(peak))
    ends = np.concatenate([[row, col], [col, row]], axis=1)
    passes = np.minimum(height[ends[0]], height[ends[1]])
    a, b = basin[ends]
    while True:
        a, b = root[a], root[b]
        apart = a != b
        a, b, passes = a[apart], b[apart], passes[apart]
        # The highest pass of each basin, of equal ones that to the highest peak: the last of it.
        order = np.lexsort((rank[b], passes, a))
        last = order[np.append(a[order][1:] != a[order][:-1], True)] if len(order) else order
        rise = peak[a[last]] - passes[last]  # 0: a shoulder, or one plateau with the other
        low = (rank[b[last]] > rank[a[last]]) & ((rise < prominence) | (rise <= 0))
        if not low.any():
            return root[basin]
        step = np.arange(len(peak))
        step[a[last][low]] = b[last][low]
        while not np.array_equal(step, step[step]):
            step = step[step]
        root = step[root]


def pixel_instances(
    foreground: Tensor, depth: Tensor, prominence: float = 0.3, min_size: int = 1
) -> Tensor:
    r""":func:`split_instances` of a picture, pixels joined along their four sides.

    Only the foreground becomes a graph, so that a large picture of few nuclei takes little memory.

    Args:
        foreground (Tensor): Which pixels belong to an instance `[H, W]`, bool.
        depth (Tensor): How deep inside each pixel lies `[H, W]`.
        prominence, min_size: See :func:`split_instances`.

    Returns:
        Tensor: The instance of each pixel `[H, W]`, int64.

    Raises:
        TypeError, ValueError: As :func:`split_instances`.

    Example:
        >>> foreground = torch.tensor([[True, True, False, True]])
        >>> pixel_instances(foreground, foreground.float())
        tensor([[1, 1, 0, 2]])
    """
    _check_foreground(foreground, depth, "[H, W]")
    part, count = ndimage.label(foreground.cpu().numpy())
    # Parts of the foreground know nothing of each other: so many pixels at a time, in whole parts.
    group = np.bincount(part.ravel(), minlength=count + 1)
    group[0] = 0
    group = np.cumsum(group) // PIXELS
    out = torch.zeros(foreground.shape, dtype=torch.int32, device=foreground.device)
    last = 0
    for number in np.unique(group[1:]):
        first, end = np.searchsorted(group[1:], [number, number + 1]) + 1
        own = torch.from_numpy((part >= first) & (part < end)).to(foreground.device)
        found = _of_pixels(own, depth, prominence, min_size).int()
        out.masked_scatter_(own, found.where(found == 0, found + last))
        last = max(last, int(out.max()))
    return torch.from_numpy(in_order(out.view(-1).cpu().numpy())).view(out.shape).to(out.device)


def _check_foreground(foreground: Tensor, depth: Tensor, shape: str) -> None:
    check_tensor(foreground, "foreground")
    if foreground.dtype != torch.bool:
        raise TypeError(f"'foreground' must be bool (got {foreground.dtype})")
    check_floating(depth, "depth")
    if foreground.dim() != len(shape.split(",")) or depth.shape != foreground.shape:
        raise ValueError(
            f"'depth' and 'foreground' must have one shape {shape} "
            f"(got {list(depth.shape)} and {list(foreground.shape)})"
        )


def _of_pixels(foreground: Tensor, depth: Tensor, prominence: float, min_size: int) -> Tensor:
    """The instances of the foreground's pixels, in their order."""
    node = foreground.view(-1).cumsum(0, dtype=torch.int32).view(foreground.shape) - 1
    pairs = []
    for dim in (0, 1):
        size = foreground.size(dim) - 1
        ends = [(one.narrow(dim, 0, size), one.narrow(dim, 1, size)) for one in (foreground, node)]
        both = ends[0][0] & ends[0][1]
        pairs.append(torch.stack([ends[1][0][both], ends[1][1][both]]))
    edges = torch.cat(pairs, dim=1).long()
    inside = torch.ones(int(foreground.sum()), dtype=torch.bool, device=foreground.device)
    return split_instances(inside, depth[foreground], edges, prominence, min_size)
