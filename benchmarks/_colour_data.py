"""Colour connectivity (Rampasek and Wolf 2021): two random walks colour half of a graph's nodes
red; is the red one island or two?"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, grid, remove_self_loops, to_undirected

GRAPHS = ("16x16", "32x32", "Euroroad", "Minnesota")
BATCH = 256  # colourings walked side by side


def topology(name: str, root: Path | None = None) -> tuple[Tensor, int]:
    """``(edge_index [2, E], N)`` of a graph, both directions of every edge.

    Raises:
        FileNotFoundError: If Euroroad's list of edges is not in `root`.
    """
    if name == "Euroroad":
        path = (root or Path()) / "euroroad.edges"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: copy tasks/euroroad.edges of rampasek/HGNet there, by --root"
            )
        rows = np.loadtxt(path, dtype=np.int64)
        ends, size = torch.from_numpy(rows[1:].T.copy()) - 1, int(rows[0, 0])
    elif name == "Minnesota":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyGSP's own deprecated calls into scipy
            from pygsp import graphs

            matrix = graphs.Minnesota(connected=True).W.tocoo()  # the authors', too, add its edge
        ends = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
        size = matrix.shape[0]
    elif "x" in name:
        height, width = map(int, name.split("x"))
        size = height * width
        ends, _ = grid(height, width)
        row, col = ends[0] // width - ends[1] // width, ends[0] % width - ends[1] % width
        ends = ends[:, row.abs() + col.abs() == 1]  # PyG's grid has diagonals
    else:
        raise ValueError(f"'name' must be one of {', '.join(GRAPHS)} (got {name!r})")
    return coalesce(to_undirected(remove_self_loops(ends)[0]), num_nodes=size), size


def islands(colour: np.ndarray, edge_index: Tensor) -> int:
    """The number of connected parts of the red nodes."""
    row, col = edge_index.numpy()
    inside = colour[row] & colour[col]
    size = len(colour)
    graph = csr_array((inside[inside], (row[inside], col[inside])), shape=(size, size))
    return connected_components(graph, directed=False)[0] - int((~colour).sum())


def walks(edge_index: Tensor, size: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` colourings [count, N], less those whose walks found too few nodes: two walkers take
    turns until half of the nodes are red, at most N sqrt(N) steps."""
    row, col = edge_index.numpy()
    col = col[np.argsort(row, kind="stable")]
    degree = np.bincount(row, minlength=size)
    first = np.cumsum(degree) - degree
    at = rng.choice(np.flatnonzero(degree), (2, count))
    colour, red = np.zeros((count, size), dtype=bool), np.zeros(count, dtype=np.int64)
    alive = np.arange(count)
    for step in range(int(size**1.5)):
        here = at[step % 2, alive]
        red[alive] += ~colour[alive, here]
        colour[alive, here] = True
        alive = alive[red[alive] < size // 2]
        if not len(alive):
            break
        here = at[step % 2, alive]
        pick = (rng.random(len(alive)) * degree[here]).astype(np.int64)
        at[step % 2, alive] = col[first[here] + pick]
    return colour[red == size // 2]


def colourings(name: str, count: int, seed: int, root: Path | None = None) -> list[Data]:
    """`count` different colourings of a graph, half of one island and half of two, shuffled.

    Args:
        name (str): One of `GRAPHS`, or ``"HxW"``.
        count (int): How many, even.
        seed (int): All that is drawn.
        root (Path, optional): Where Euroroad lies.

    Returns:
        list[Data]: `x` [N, 2], blue and red; `edge_index`; `y` [1], 1 for two islands.
    """
    if count % 2:
        raise ValueError(f"'count' must be even (got {count})")
    edge_index, size = topology(name, root)
    rng = np.random.default_rng([seed, size])
    found: dict[int, list[np.ndarray]] = {1: [], 2: []}
    seen: set[bytes] = set()
    while min(map(len, found.values())) < count // 2:
        for colour in walks(edge_index, size, rng, BATCH):
            group = found.get(islands(colour, edge_index), [])
            key = np.packbits(colour).tobytes()
            if len(group) < count // 2 and key not in seen:
                seen.add(key)
                group.append(colour)
    graphs = []
    for i in rng.permutation(count).tolist():
        colour = found[1 + i % 2][i // 2]
        x = torch.from_numpy(np.stack([~colour, colour], axis=1)).float()
        graphs.append(Data(x=x, edge_index=edge_index, y=torch.tensor([i % 2])))
    return graphs


def of_one_colour(data: Data) -> Data:
    """Without the edges that join a red and a blue node."""
    row, col = data.edge_index
    red = data.x[:, 1]
    return Data(x=data.x, edge_index=data.edge_index[:, red[row] == red[col]], y=data.y)


def counts(data: Data) -> Tensor:
    """The numbers of blue and of red nodes with 0, 1, 2, ... and all red neighbours, [2, 7]: what
    one look at each node's neighbours tells."""
    row, col = data.edge_index
    red = data.x[:, 1].long()
    near = torch.zeros_like(red).index_add_(0, row, red[col])
    table = torch.zeros(2, 7)
    table.index_put_((red, near.clamp(max=6)), torch.ones(len(red)), accumulate=True)
    return table.flatten()
