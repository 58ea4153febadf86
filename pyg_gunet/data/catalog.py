"""Data sets by name: every one comes back as a PyG :class:`InMemoryDataset`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import from_scipy_sparse_matrix, grid, remove_self_loops

from pyg_gunet.data import public
from pyg_gunet.data.dataset import GraphDataset, with_features
from pyg_gunet.data.graphs import SUFFIXES, read_graphs, suffix_of
from pyg_gunet.data.names import align_names
from pyg_gunet.extras import extra
from pyg_gunet.files import check_path

_DIGITS_INK = 4 / 16  # a pixel with less than a quarter of full ink counts as background


@extra()
def load(name: str, root: str | os.PathLike[str] = "data", **options: Any) -> InMemoryDataset:
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
                       no labels; with ``use_node_attr=True`` both)
    LRGB/NAME          PascalVOC-SP, COCO-SP: superpixels with a class each; Peptides-func,
                       Peptides-struct: atoms as numbers; public splits
    ogbn-NAME          node sets of the Open Graph Benchmark: their features, public split
    ogbg-NAME          its graph sets: atoms as numbers, public split in ``parts``
    ShapeNet/CATEGORY  point clouds with a part per point, public split; ShapeNet: all categories
    CLASS/NAME         any other set of :mod:`torch_geometric.datasets`: Amazon/Photo,
                       Coauthor/CS, Heterophilous/Minesweeper (its split ``fold=0`` to 9), ...
    MODULE:CLASS       anybody's data set by class path, MODULE:CLASS/NAME where it takes a name
    images:DIR         the images in ``DIR/images`` with the labels in ``DIR/masks``, see
                       :func:`pyg_gunet.data.read_images`
    PATH               a graph, mesh or ``.pt`` file, see :func:`pyg_gunet.data.read_graphs`, or
                       a folder of such files, read in the order of their names; a table
                       ``targets.csv`` in it has a row per file: its name, then numbers, which
                       become ``y`` [1, T], or one class
    ================== ====================================================================

    A graph without features of its own gets its local degree profile (Cai & Wang 2018, `A simple
    yet effective baseline for non-attributed graph classification`): degree, and minimum, maximum,
    mean and deviation of the neighbours' degrees; five columns.

    Args:
        name (str): One of the names above.
        root (str, optional): Where public sets lie. Raw files are looked for in
            ``root/NAME/raw`` and ``root/COLLECTION/NAME/raw`` (``planetoid``, ``tu``, ``Amazon``,
            ...); where there are none, PyG downloads them to the first. PyG writes ``processed/``
            beside ``raw/``. LRGB lies in ``root/NAME``, OGB in ``root/ogbn_NAME`` or
            ``root/ogb/ogbn_NAME``. (default: :obj:`"data"`)
        **options: Passed to PyG's class, to :func:`pyg_gunet.data.read_graphs`, or to
            :func:`pyg_gunet.data.read_images`.

    Raises:
        ValueError: If the name is unknown, or if a file cannot be read as what it should be.
        FileNotFoundError: If a file is missing and cannot be downloaded: says which, and where to
            put it.

    Example:
        >>> from pyg_gunet import load
        >>> dataset = load("ring")
        >>> dataset[0].x.shape, dataset[0].edge_index.shape
        (torch.Size([64, 2]), torch.Size([2, 128]))
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"'name' must be a str (got {name!r})")
    name = os.fspath(name)
    check_path(root, "root")
    kind, _, rest = name.partition("/")
    if name in _IN_MEMORY:
        if options:
            raise TypeError(f"{name!r} takes no options (got {sorted(options)})")
        return GraphDataset(name, _IN_MEMORY[name]())
    if name.startswith("images:"):
        from pyg_gunet.data.images import read_images

        return GraphDataset(name, read_images(name.removeprefix("images:"), **options))
    if name.startswith(("ogbn-", "ogbg-")):
        from pyg_gunet.data.ogb import load_ogb

        return load_ogb(name, Path(root), **options)
    module, _, attribute = kind.rpartition(":")
    if module == "torch_geometric.datasets":
        module, kind = "", attribute
    own = {"Planetoid": public.load_planetoid, "LRGB": public.load_lrgb, "TU": public.load_tu}
    own = {**own, **{public.CLASSES[short]: own[short] for short in ("LRGB", "TU")}}
    if kind in own and rest:
        return own[kind](rest, Path(root), **options)
    if kind == "ShapeNet":
        return public.load_shapenet(rest or None, Path(root), **options)
    if module.replace(".", "").isidentifier() or (kind not in own and public.pyg_class(kind)):
        return public.load_class(kind, rest or None, Path(root), **options)
    path = Path(name)
    if name and _exists(path) and path.is_dir():
        return _read_folder(path, options)
    if suffix_of(path) in SUFFIXES or (name and _exists(path)):
        return GraphDataset(path.stem, map(with_features, read_graphs(path, **options)))
    raise ValueError(f"'name' must be one of {', '.join(names())} (got {name!r})")


def names() -> list[str]:
    """What :func:`load` knows.

    Example:
        >>> names()[:3]
        ['karate', 'grid', 'ring']
    """
    planetoid = "Planetoid/{" + ",".join(public.PLANETOID) + "}"
    lrgb = "LRGB/{" + ",".join(public.LRGB) + "}"
    more = ("ogbn-NAME", "ogbg-NAME", "ShapeNet/CATEGORY", "CLASS/NAME of PyG", "MODULE:CLASS")
    paths = ("images:DIR", "a path to a graph or mesh file or to a folder of them")
    return [*_IN_MEMORY, planetoid, "TU/NAME", lrgb, *more, *paths]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a null byte in it
        return False


def _read_folder(folder: Path, options: dict[str, Any]) -> GraphDataset:
    """The graphs of a folder's files, with what `targets.csv` says of them."""
    from pyg_gunet.data.tables import read_table, typed

    table = folder / "targets.csv"
    paths = [path for path in sorted(folder.iterdir()) if suffix_of(path) in SUFFIXES]
    paths = [path for path in paths if path != table and not path.name.startswith(".")]
    if not paths:
        raise ValueError(f"the folder '{folder}' holds no graph or mesh ({', '.join(SUFFIXES)})")
    graphs = [read_graphs(path, **options) for path in paths]
    align_names([data for found in graphs for data in found], where=f"'{folder}'")
    graphs = [[with_features(data) for data in found] for found in graphs]
    if table.is_file():
        cells = read_table(table.read_text(encoding="utf-8-sig"), header=True).cells
        cells = cells.set_index(cells.columns[0]).apply(typed)
        for path, found in zip(paths, graphs):
            row = next((key for key in (path.name, path.stem) if key in cells.index), None)
            if row is None or bool(cells.loc[row].isna().any()):
                raise ValueError(f"'{table}' must say something of '{path.name}' in every column")
            for data in found:
                if cells.shape[1] == 1 and cells.dtypes.iloc[0].kind == "O":
                    words = sorted(set(cells.iloc[:, 0]))
                    data.y = torch.tensor([words.index(cells.loc[row].iloc[0])])
                    data.class_names = words
                else:
                    data.y = torch.tensor([cells.loc[row].tolist()], dtype=torch.float32)
    return GraphDataset(folder.name, [data for found in graphs for data in found])


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
