"""Pooled levels as networkx graphs, and a picture of all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyg_gunet.extras import extra
from pyg_gunet.files import check_path, write_aside
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.validate import check_bool, check_floating, check_positive_int

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

MAX_EDGES = 20_000  # lines drawn per level: more are a blot


@extra()
def hierarchy_to_networkx(
    hierarchy: Hierarchy, level: int, *, directed: bool | None = None
) -> nx.Graph:
    r"""One level of a hierarchy as a networkx graph.

    Nodes are numbered as in the input graph, so that the levels of one hierarchy share their names;
    the node attribute `row` is the node's row in the features of that level, and `graph` its graph
    in a batch. The edge attribute `weight` is the edge's weight where the level has weights: walk
    counts in a level pooled by ``'two_hop'``.

    Args:
        hierarchy (Hierarchy): From ``states`` or ``encode`` of a model.
        level (int): 0 is the input graph, -1 the coarsest level.
        directed (bool, optional): Whether to make a :class:`networkx.DiGraph`. (default: None, if
            the level is not symmetric)

    Returns:
        networkx.Graph or networkx.DiGraph: The graph; self loops of the input are in it.

    Raises:
        IndexError: If there is no such level.
        ValueError: If `directed` is False and the level is not symmetric.

    Example:
        >>> from pyg_gunet import GraphUNet
        >>> path = torch.tensor([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])
        >>> _, hierarchy = GraphUNet(2, 4, 2, depth=1).states(torch.randn(4, 2), path)
        >>> [hierarchy_to_networkx(hierarchy, level).number_of_nodes() for level in (0, 1)]
        [4, 2]
    """
    import networkx as nx

    level = _level(hierarchy, level)
    if directed is not None:
        check_bool(directed, "directed")
    kept = hierarchy.kept(level).cpu()
    edge_index, edge_weight = _edges(hierarchy, level)
    symmetric = _is_symmetric(edge_index, edge_weight, kept.numel())
    if directed is False and not symmetric:
        raise ValueError("'directed' must not be False where a level has directed edges")
    graph: nx.Graph = nx.Graph() if symmetric and not directed else nx.DiGraph()
    batch = hierarchy.levels[level].batch
    owner = [0] * kept.numel() if batch is None else batch.tolist()
    for row, (node, number) in enumerate(zip(kept.tolist(), owner)):
        graph.add_node(node, row=row, graph=number)
    source, target = kept[edge_index].tolist()
    if edge_weight is None:
        graph.add_edges_from(zip(source, target))
    else:
        graph.add_weighted_edges_from(zip(source, target, edge_weight.tolist()))
    return graph


@extra()
def draw_hierarchy(
    hierarchy: Hierarchy,
    path: str | os.PathLike[str] | None = None,
    *,
    pos: Tensor | None = None,
    graph: int = 0,
    seed: int = 0,
) -> Figure:
    r"""Draws the levels of a hierarchy one above the other, the input at the bottom, with a line
    from every kept node up to itself.

    Args:
        hierarchy (Hierarchy): From ``states`` or ``encode`` of a model.
        path (str, optional): A file to write, of a kind that matplotlib knows by its name, such as
            ``.png`` or ``.pdf``. (default: None, only the figure)
        pos (Tensor, optional): Where the input's nodes lie, [N, 2]; of more columns the first two
            count. (default: None, a spring layout of the input graph by networkx)
        graph (int, optional): Which graph of a batch is drawn. (default: 0)
        seed (int, optional): Seed of the layout. (default: 0)

    Returns:
        matplotlib.figure.Figure: The figure, one 3-D axes in it. No window is opened.

    Raises:
        ValueError: If `pos` does not fit, or the batch has no such graph.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no global state
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    _check_hierarchy(hierarchy)
    check_positive_int(graph, "graph", minimum=0)
    check_positive_int(seed, "seed", minimum=0, maximum=2**32 - 1)
    path = None if path is None else check_path(path, "path")
    first = hierarchy.levels[0]
    shown = torch.ones(first.num_nodes, dtype=torch.bool)
    if first.batch is not None:
        shown = first.batch.cpu() == graph
    if not bool(shown.any()) or (first.batch is None and graph):
        raise ValueError(f"'graph' must be one of the batch (got {graph})")
    place: Any = _layout(hierarchy, shown, seed) if pos is None else _plane(pos, first.num_nodes)
    place = place - place[shown.numpy()].mean(0)
    place = place / max(np.abs(place[shown.numpy()]).max(), 1e-12)

    figure = Figure(figsize=(6, 2 + 2.2 * hierarchy.depth), dpi=120, layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    for level in range(hierarchy.depth + 1):
        nodes = hierarchy.kept(level).cpu()
        kept = nodes[shown[nodes]].numpy()
        points = np.column_stack([place[kept], np.full(len(kept), float(level))])
        lines = _lines(hierarchy, level, place, shown.numpy())
        if len(lines) <= MAX_EDGES:
            axes.add_collection3d(Line3DCollection(lines, colors="0.6", lw=0.5), autolim=False)
        colour = f"C{level % 10}"
        axes.scatter(*points.T, s=12, color=colour, label=f"level {level}: {len(kept)} nodes")
        if level:
            below = points - [0.0, 0.0, 1.0]
            links = np.stack([below, points], axis=1)
            links = Line3DCollection(links, colors=colour, lw=0.7, ls=":")
            links.set_label("_kept")
            axes.add_collection3d(links, autolim=False)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, max(hierarchy.depth, 1)))
    axes.set_box_aspect((1, 1, 0.6 * max(hierarchy.depth, 1)), zoom=1.2)
    axes.view_init(elev=18, azim=-65)
    axes.set_axis_off()
    figure.legend(loc="outside upper center", ncols=2)
    if path is not None:
        with write_aside(path) as file:
            figure.savefig(file, format=Path(path).suffix.lstrip(".") or "png")
    return figure


def _check_hierarchy(hierarchy: Hierarchy) -> None:
    if not isinstance(hierarchy, Hierarchy):
        raise TypeError(f"'hierarchy' must be a Hierarchy (got {hierarchy!r:.80})")


def _level(hierarchy: Hierarchy, level: int) -> int:
    _check_hierarchy(hierarchy)
    count = len(hierarchy.levels)
    check_positive_int(level, "level", minimum=-(2**31))
    if not -count <= level < count:
        raise IndexError(f"'level' must lie in [{-count}, {count}) (got {level})")
    return level % count


def _edges(hierarchy: Hierarchy, level: int) -> tuple[Tensor, Tensor | None]:
    edge_index, edge_weight = hierarchy.levels[level].edges()
    weight = None if edge_weight is None else edge_weight.detach().cpu()
    return edge_index.cpu().long(), weight


def _is_symmetric(edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int) -> bool:
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    key = edge_index[0] * num_nodes + edge_index[1]
    twin = edge_index[1] * num_nodes + edge_index[0]
    a, b = key.argsort(stable=True), twin.argsort(stable=True)
    return torch.equal(key[a], twin[b]) and torch.allclose(weight[a], weight[b])


def _plane(pos: Tensor, num_nodes: int) -> np.ndarray:
    check_floating(pos, "pos")
    if pos.dim() != 2 or pos.size(0) != num_nodes or pos.size(1) < 2:
        raise ValueError(f"'pos' must have shape [{num_nodes}, 2] (got {list(pos.shape)})")
    if not bool(pos[:, :2].isfinite().all()):
        raise ValueError("'pos' must be finite (got nan or inf)")
    return pos[:, :2].detach().cpu().double().numpy()


def _layout(hierarchy: Hierarchy, shown: Tensor, seed: int) -> np.ndarray:
    import networkx as nx

    graph = hierarchy_to_networkx(hierarchy, 0).to_undirected()
    nodes = shown.nonzero().view(-1).tolist()
    place = np.zeros((shown.numel(), 2))
    for node, where in nx.spring_layout(graph.subgraph(nodes), seed=seed).items():
        place[node] = where
    return place


def _lines(hierarchy: Hierarchy, level: int, place: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The edges of a level as lines in its plane, [E, 2, 3]."""
    edge_index, _ = _edges(hierarchy, level)
    ends = hierarchy.kept(level).cpu()[edge_index].numpy()
    ends = np.unique(np.sort(ends[:, shown[ends[0]] & shown[ends[1]]], axis=0), axis=1)
    flat = place[ends.T.reshape(-1, 2)]
    return np.concatenate([flat, np.full((*flat.shape[:2], 1), float(level))], axis=2)
