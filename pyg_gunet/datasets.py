"""Data sets by name: every one comes back as a PyG :class:`InMemoryDataset`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.transforms import LocalDegreeProfile
from torch_geometric.utils import from_scipy_sparse_matrix, grid, remove_self_loops

from pyg_gunet import graph_files
from pyg_gunet.files import check_labels, check_path, check_pickle, reading
from pyg_gunet.functional.validate import check_positive_int

PLANETOID = ("Cora", "CiteSeer", "PubMed")
_TU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGITS_INK = 4 / 16  # a pixel with less than a quarter of full ink counts as background


class GraphDataset(InMemoryDataset):
    r"""Graphs that are already in memory, as a PyG data set.

    Args:
        name (str): The name of the data set.
        graphs (list[Data]): The graphs, each with the same attributes.
    """

    def __init__(self, name: str, graphs: list[Data]) -> None:
        super().__init__(None)
        self.name = name
        self.data, self.slices = self.collate(graphs)

    def __repr__(self) -> str:
        return f"{self.name}({len(self)})"


def load(name: str, root: str | os.PathLike[str] = "data", **kwargs: Any) -> InMemoryDataset:
    r"""Loads a data set by its name, or a graph from a file.

    What comes back is always a PyG :class:`~torch_geometric.data.InMemoryDataset`: a set of one
    graph is a data set of length 1, its graph is ``load(name)[0]``. Every graph has float32 node
    features ``x`` and, where the set has weighted edges, float32 ``edge_weight``; coordinates are
    in ``pos`` as well.

    ================== ====================================================================
    name               graph and node features
    ================== ====================================================================
    karate             Zachary's karate club as PyG ships it: one-hot node ids, 4 classes
    grid, ring         8x8 grid and ring of 64 nodes (PyGSP): coordinates
    bunny              Stanford bunny, 2503 points (PyGSP): raw coordinates in 3-D
    minnesota          2642 road crossings (PyGSP): longitude and latitude in degrees
    airfoil            mesh of 4253 nodes (PyGSP): coordinates, divided by 2^32 into [0, 1]
    logo               PyGSP's logo, 1130 pixels: coordinates
    digits             1797 pixel graphs of 8x8 (scikit-learn), 8 neighbours: ink in [0, 1];
                       ``y`` per node: 0 where the ink is below 1/4, else 1 + the digit;
                       ``digit`` per graph
    Planetoid/NAME     Cora, CiteSeer, PubMed: bags of words, public split
    TU/NAME            any set of the TU collection: node labels (its attributes if it has
                       no labels)
    LRGB/NAME          PascalVOC-SP, COCO-SP: superpixels with a class each; Peptides-func,
                       Peptides-struct: atoms as numbers; public splits
    ogbn-NAME          node sets of the Open Graph Benchmark: their features, public split
    ogbg-NAME          its graph sets: atoms as numbers, public split in ``parts``
    ShapeNet/CATEGORY  point clouds with a part per point, public split; ShapeNet: all categories
    images:DIR         tiles of the images in ``DIR/images`` with the labels in ``DIR/masks``, see
                       :func:`pyg_gunet.images.load_tiles`
    PATH               a GraphML file (.graphml, .xml) or an edge list (.edgelist, .edges,
                       .txt, .csv, .tsv), read by networkx; see
                       :func:`pyg_gunet.graph_files.read_graph`
    ================== ====================================================================

    A graph without features of its own gets its local degree profile (Cai & Wang 2018, `A simple
    yet effective baseline for non-attributed graph classification`): degree, and minimum, maximum,
    mean and deviation of the neighbours' degrees; five columns.

    Args:
        name (str): One of the names above.
        root (str, optional): Where Planetoid and TU files lie. Raw files are looked for in
            ``root/NAME/raw``, ``root/planetoid/NAME/raw`` and ``root/tu/NAME/raw``; where there
            are none, PyG downloads them to the first. PyG writes ``processed/`` beside ``raw/``.
            LRGB lies in ``root/NAME``, OGB in ``root/ogbn_NAME`` or ``root/ogb/ogbn_NAME``.
            (default: :obj:`"data"`)
        **kwargs: Passed to PyG's :class:`Planetoid` or :class:`TUDataset`, to
            :func:`pyg_gunet.graph_files.read_graph`, or to :func:`pyg_gunet.images.load_tiles`.

    Raises:
        ValueError: If the name is unknown, or if a file cannot be read as what it should be.
        FileNotFoundError: If a file is missing and cannot be downloaded: says which, and where to
            put it.

    Example:
        >>> from pyg_gunet.datasets import load
        >>> dataset = load("ring")
        >>> dataset[0].x.shape, dataset[0].edge_index.shape
        (torch.Size([64, 2]), torch.Size([2, 128]))
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"'name' must be a str (got {name!r})")
    name = os.fspath(name)
    check_path(root, "root")
    if name in _IN_MEMORY:
        if kwargs:
            raise TypeError(f"{name!r} takes no options (got {sorted(kwargs)})")
        return GraphDataset(name, _IN_MEMORY[name]())
    kind, _, rest = name.partition("/")
    if kind == "Planetoid" and rest:
        return _planetoid(rest, Path(root), kwargs)
    if kind == "TU" and rest:
        return _tu(rest, Path(root), kwargs)
    if name.startswith(("ogbn-", "ogbg-")):
        from pyg_gunet.ogb_sets import load_ogb

        return load_ogb(name, Path(root), **kwargs)
    if kind == "LRGB" and rest:
        from pyg_gunet.segmentation_sets import load_lrgb

        return load_lrgb(rest, Path(root), **kwargs)
    if kind == "ShapeNet":
        from pyg_gunet.segmentation_sets import load_shapenet

        return load_shapenet(rest or None, Path(root), **kwargs)
    if name.startswith("images:"):
        from pyg_gunet.images import load_tiles

        return GraphDataset(name, load_tiles(name.removeprefix("images:"), **kwargs))
    path = Path(name)
    if path.suffix.lower() in graph_files.SUFFIXES or (name and _exists(path)):
        return GraphDataset(path.stem, [with_features(graph_files.read_graph(path, **kwargs))])
    raise ValueError(f"'name' must be one of {', '.join(names())} (got {name!r})")


def names() -> list[str]:
    """What :func:`load` knows.

    Example:
        >>> names()[:3]
        ['karate', 'grid', 'ring']
    """
    planetoid = "Planetoid/{" + ",".join(PLANETOID) + "}"
    return [*_IN_MEMORY, planetoid, "TU/NAME", *_MORE, "a path to a GraphML or edge-list file"]


def split_indices(
    num_graphs: int, seed: int = 0, shares: Sequence[float] = (0.8, 0.1)
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws disjoint train, validation and test sets of graphs.

    Args:
        num_graphs (int): How many graphs there are; at least 3, so that no part is empty.
        seed (int, optional): Seed of the draw. (default: :obj:`0`)
        shares (tuple[float, float], optional): Shares of train and validation; the rest is test.
            (default: :obj:`(0.8, 0.1)`)

    Returns:
        Three sorted int64 tensors of graph indices.

    Raises:
        ValueError: If there are fewer than 3 graphs, or the shares leave no test set.

    Example:
        >>> [len(part) for part in split_indices(188)]
        [150, 19, 19]
    """
    check_positive_int(num_graphs, "num_graphs", minimum=3)
    check_positive_int(seed, "seed", 0, 2**63 - 1)
    try:
        train, val = (float(share) for share in shares)
    except (TypeError, ValueError) as error:
        raise TypeError(f"'shares' must be two numbers (got {shares!r})") from error
    if not (train > 0 and val > 0 and train + val < 1):
        raise ValueError(f"'shares' must be positive and sum to less than 1 (got {shares!r})")
    order = torch.randperm(num_graphs, generator=torch.Generator().manual_seed(seed))
    n_train = min(max(round(train * num_graphs), 1), num_graphs - 2)
    n_val = min(max(round(val * num_graphs), 1), num_graphs - n_train - 1)
    parts = order.split([n_train, n_val, num_graphs - n_train - n_val])
    return parts[0].sort().values, parts[1].sort().values, parts[2].sort().values


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a null byte in it
        return False


# Sets that come with a package ------------------------------------------------------------------


def _pygsp(graph: str, *args: Any, scale: float = 1.0) -> list[Data]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyGSP's own deprecated calls into scipy
        from pygsp import graphs

        g = getattr(graphs, graph)(*args)
        edge_index, weight = from_scipy_sparse_matrix(g.W.astype("float32"))
    pos = torch.from_numpy(np.asarray(g.coords, dtype=np.float64) * scale).float()
    return [Data(x=pos, edge_index=edge_index, edge_weight=weight, pos=pos.clone())]


def _karate() -> list[Data]:
    from torch_geometric.datasets import KarateClub

    return [KarateClub()[0]]


def _digits() -> list[Data]:
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    edge_index, pos = grid(8, 8)
    edge_index, _ = remove_self_loops(edge_index)
    graphs = []
    for image, digit in zip(torch.from_numpy(images).float() / 16, digits.tolist()):
        y = torch.where(image >= _DIGITS_INK, digit + 1, 0)
        graphs.append(Data(x=image[:, None], edge_index=edge_index, pos=pos, y=y, digit=digit))
    return graphs


_MORE = (
    "LRGB/{PascalVOC-SP,COCO-SP,Peptides-func,Peptides-struct}",
    "ogbn-NAME",
    "ogbg-NAME",
    "ShapeNet/CATEGORY",
    "images:DIR",
)
_IN_MEMORY: dict[str, Callable[[], list[Data]]] = {
    "karate": _karate,
    "grid": lambda: _pygsp("Grid2d", 8, 8),
    "ring": lambda: _pygsp("Ring", 64),
    "bunny": lambda: _pygsp("Bunny"),
    "minnesota": lambda: _pygsp("Minnesota"),
    "airfoil": lambda: _pygsp("Airfoil", scale=2.0**-32),
    "logo": lambda: _pygsp("Logo"),
    "digits": _digits,
}


# Sets that PyG reads from files -----------------------------------------------------------------


def _planetoid(name: str, root: Path, kwargs: dict[str, Any]) -> InMemoryDataset:
    from torch_geometric.datasets import Planetoid

    known = {n.lower(): n for n in PLANETOID}
    if name.lower() not in known:
        options = ", ".join(f"Planetoid/{n}" for n in PLANETOID)
        raise ValueError(f"'name' must be one of {options} (got {'Planetoid/' + name!r})")
    name = known[name.lower()]
    base = _base(root, "planetoid", name)
    parts = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
    files = [f"ind.{name.lower()}.{part}" for part in parts]
    for file in files[:-1]:  # these are pickles: nothing but arrays may be in them
        check_pickle(base / name / "raw" / file)
    with reading(base / name, files):
        return Planetoid(str(base), name, **kwargs)


def _tu(name: str, root: Path, kwargs: dict[str, Any]) -> InMemoryDataset:
    from torch_geometric.datasets import TUDataset

    if not _TU_NAME.fullmatch(name):
        raise ValueError(f"'name' must be TU/NAME with a plain NAME (got {'TU/' + name!r})")
    base = _base(root, "tu", name)
    files = [f"{name}_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")]
    most = 2**27  # graphs; each takes room, whether it has nodes or not
    with reading(base / name, files):
        for part in ("node_labels", "edge_labels"):
            check_labels(base / name / "raw" / f"{name}_{part}.txt")
        check_labels(base / name / "raw" / files[1], most)
        dataset = TUDataset(str(base), name, **kwargs)
        if dataset.num_node_features == 0 and dataset.num_node_attributes > 0:
            dataset = TUDataset(str(base), name, **{**kwargs, "use_node_attr": True})
    if dataset.num_node_features > 0:
        return dataset
    return GraphDataset(name, [with_features(data) for data in dataset])


def _base(root: Path, folder: str, name: str) -> Path:
    """Where the folder `name` of a collection lies: as PyG puts it, or one folder down."""
    for base in (root, root / folder):
        if any((base / name / part).is_dir() for part in ("raw", "processed")):
            return base
    return root


def with_features(data: Data) -> Data:
    """A graph without node features with its local degree profile in their place."""
    if data.x is None or data.x.size(1) == 0:
        data.x = None
        data.num_nodes = int(data.num_nodes or 0)
        data = LocalDegreeProfile()(data)
    return data
