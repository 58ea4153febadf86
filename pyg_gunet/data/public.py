"""Public data sets, read by PyG's own classes, and anybody's class by its path."""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset, InMemoryDataset
from torch_geometric.utils import to_undirected

from pyg_gunet.data.dataset import GraphDataset, with_features
from pyg_gunet.files import check_labels, check_pickle, reading

PLANETOID = ("Cora", "CiteSeer", "PubMed")
LRGB = ("PascalVOC-SP", "COCO-SP", "Peptides-func", "Peptides-struct")
# Short names of PyG's classes, and the folder below the root where their files may lie, too.
CLASSES = {
    "TU": "TUDataset",
    "LRGB": "LRGBDataset",
    "Heterophilous": "HeterophilousGraphDataset",
}
_SPLITS = ("train", "val", "test")
_TU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NEIGHBOURS = 12  # of a point of ShapeNet


def pyg_class(kind: str) -> Callable[..., Any] | None:
    """PyG's data set of that name or short name, or None."""
    import torch_geometric.datasets as pyg

    name = CLASSES.get(kind, kind)
    return getattr(pyg, name) if name in pyg.__all__ else None


def load_planetoid(name: str, root: Path, **options: Any) -> InMemoryDataset:
    """A citation graph by PyG's :class:`~torch_geometric.datasets.Planetoid`."""
    from torch_geometric.datasets import Planetoid

    known = {n.lower(): n for n in PLANETOID}
    if name.lower() not in known:
        choices = ", ".join(f"Planetoid/{n}" for n in PLANETOID)
        raise ValueError(f"'name' must be one of {choices} (got {'Planetoid/' + name!r})")
    name = known[name.lower()]
    folder = _folder(root, "planetoid", name)
    parts = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
    files = [f"ind.{name.lower()}.{part}" for part in parts]
    for file in files[:-1]:  # these are pickles: nothing but arrays may be in them
        check_pickle(folder / "raw" / file)
    with reading(folder, files):
        return Planetoid(str(folder.parent), name, **options)


def load_tu(name: str, root: Path, **options: Any) -> InMemoryDataset:
    """Graphs by PyG's :class:`~torch_geometric.datasets.TUDataset`; node attributes where there
    are no node labels, or beside them with ``use_node_attr=True``."""
    from torch_geometric.datasets import TUDataset

    if not _TU_NAME.fullmatch(name):
        raise ValueError(f"'name' must be TU/NAME with a plain NAME (got {'TU/' + name!r})")
    folder = _folder(root, "tu", name)
    files = [f"{name}_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")]
    raw = folder / "raw"
    with reading(folder, files):
        for part in ("node_labels", "edge_labels"):
            check_labels(raw / f"{name}_{part}.txt")
        check_labels(raw / files[1], 2**27)  # graphs; each takes room, with nodes or without
        for number, kind in ((1, "node"), (0, "edge")):
            for other in (f"{name}_{kind}_labels.txt", f"{name}_{kind}_attributes.txt"):
                counts = [_count_lines(raw / file) for file in (other, files[number])]
                if counts[0] not in (0, counts[1]):
                    raise ValueError(f"{other} has {counts[0]} lines, {files[number]} {counts[1]}")
        base = str(folder.parent)
        dataset = TUDataset(base, name, **options)
        if dataset.num_node_features == 0 and dataset.num_node_attributes > 0:
            dataset = TUDataset(base, name, **{**options, "use_node_attr": True})
    if dataset.num_node_features > 0:
        return dataset
    return GraphDataset(name, map(with_features, dataset))


def _count_lines(path: Path) -> int:
    """How many lines hold something; 0 where there is no such file."""
    if not path.is_file():
        return 0
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip())


def load_lrgb(name: str, root: Path) -> GraphDataset:
    r"""Graphs of the Long Range Graph Benchmark (Dwivedi et al., NeurIPS 2022) by PyG's
    :class:`~torch_geometric.datasets.LRGBDataset`: superpixels with a class each, or peptides with
    ten classes or eleven properties each."""
    if name not in LRGB:
        raise ValueError(f"'name' must be one of LRGB/{', LRGB/'.join(LRGB)} (got 'LRGB/{name}')")
    from torch_geometric.datasets import LRGBDataset

    pictures, folder = name.endswith("-SP"), root / name.lower()
    suffix = "pickle" if pictures else "pt"
    files = [f"{split}.{suffix}" for split in _SPLITS]
    if pictures and not all((folder / "processed" / f"{split}.pt").is_file() for split in _SPLITS):
        for file in files:  # PyG would unpickle anything
            check_pickle(folder / "raw" / file, tensors=True)
    parts = []
    for split in _SPLITS:
        with reading(folder, files, f"{split}.pt"):
            parts.append(list(LRGBDataset(str(root), name=name, split=split)))
        for data in parts[-1]:
            data.x = data.x.float()
            if pictures:  # the first 12 columns describe the colour, the last two are the centre
                data.pos, data.y = data.x[:, -2:], data.y.long()
            else:
                data.y = data.y.float()
    return _in_parts(name, parts)


def load_shapenet(category: str | None, root: Path, neighbours: int = _NEIGHBOURS) -> GraphDataset:
    r"""Point clouds of ShapeNet with a part per point (Yi et al. 2016), by PyG's
    :class:`~torch_geometric.datasets.ShapeNet`, as graphs of nearest neighbours: coordinates and
    normals are the features. Without `category` all are read."""
    from torch_geometric.datasets import ShapeNet

    if category is not None and category not in ShapeNet.category_ids:
        choices = ", ".join(ShapeNet.category_ids)
        raise ValueError(f"'name' must be ShapeNet/ and one of {choices} (got {category!r})")
    parts = []
    for split in _SPLITS:
        dataset: Any = ShapeNet(str(root), category, split=split)
        parts.append([_with_neighbours(data, neighbours) for data in dataset])
    shape_parts = [list(ShapeNet.seg_classes[one]) for one in dataset.categories]
    return _in_parts("ShapeNet", parts, shape_parts)


def _with_neighbours(data: Data, neighbours: int) -> Data:
    from sklearn.neighbors import kneighbors_graph

    count = min(neighbours, data.pos.size(0) - 1)
    near = kneighbors_graph(data.pos.double().numpy(), count).tocoo()
    pairs = torch.stack([torch.from_numpy(near.col), torch.from_numpy(near.row)]).long()
    features = [data.pos] if data.x is None else [data.pos, data.x]
    return Data(
        x=torch.cat(features, dim=1).float(),
        pos=data.pos.float(),
        edge_index=to_undirected(pairs, num_nodes=data.pos.size(0)),
        y=data.y.long(),
        category=torch.as_tensor(data.category).view(1),
    )


def load_class(
    kind: str, name: str | None, root: Path, fold: int = 0, **options: Any
) -> InMemoryDataset:
    r"""A data set by PyG's class, or by anybody's, ``'module:Class'``, which gets `root` and `name`
    where it takes them. Of a class that takes a `split` and trains by default the three splits are
    read; of masks of several splits the column `fold`."""
    module, _, attribute = kind.rpartition(":")
    make = _imported(module, attribute) if module else pyg_class(kind)
    assert make is not None
    known = inspect.signature(make).parameters
    short = {long: short for short, long in CLASSES.items()}.get(kind, kind)
    folder = _folder(root, short, name) if name else root
    given = {"root": str(folder.parent if name else root), "name": name}
    options = {**{k: v for k, v in given.items() if k in known and v is not None}, **options}
    split = "split" not in options and getattr(known.get("split"), "default", "") == "train"
    for path in (folder / "raw").glob("*.p*kl*"):
        check_pickle(path, tensors=True)
    calls = [{"split": part} for part in _SPLITS] if split else [{}]
    with reading(folder, ()):
        found = [make(**options, **call) for call in calls]
    whole, label = found[0], name or attribute or kind
    if isinstance(whole, Data):
        return GraphDataset(label, [_ready(whole, fold)])
    if not isinstance(whole, (Dataset, list, tuple)) or not isinstance(whole[0], Data):
        raise ValueError(f"'name' {kind!r} must give homogeneous graphs (got {whole!r:.80})")
    if len(found) > 1:
        return _in_parts(label, [[_ready(data, fold) for data in part] for part in found])
    first = whole[0]
    fits = "x" in first and first.x.is_floating_point() and first.get("train_mask") is None
    if isinstance(whole, InMemoryDataset) and fits:
        return whole
    return GraphDataset(label, [_ready(data, fold) for data in whole])


def _imported(module: str, attribute: str) -> Any:
    here = os.getcwd()  # holds the user's own module, where the command line is a script
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"'name' must be MODULE:CLASS that can be imported ({error})") from error
    finally:
        if added:
            sys.path.remove(here)


def _ready(data: Data, fold: int) -> Data:
    for key in ("train_mask", "val_mask", "test_mask"):
        mask = data.get(key)
        if isinstance(mask, Tensor) and mask.dim() == 2:
            if not 0 <= fold < mask.size(1):
                raise ValueError(f"'fold' must lie in [0, {mask.size(1)}) (got {fold})")
            data[key] = mask[:, fold]
    return with_features(data)


def _in_parts(
    name: str, parts: list[list[Data]], shape_parts: list[list[int]] | None = None
) -> GraphDataset:
    """The graphs of three parts in a row."""
    ends = [0, *itertools.accumulate(map(len, parts))]
    index = [torch.arange(start, end) for start, end in itertools.pairwise(ends)]
    return GraphDataset(name, itertools.chain(*parts), index, shape_parts=shape_parts)


def _folder(root: Path, kind: str, name: str) -> Path:
    """Where the files of a set lie: as PyG puts it, or one folder down."""
    names = (name, name.lower(), name.lower().replace("-", "_"))
    for base, own in itertools.product((root, root / kind), names):
        if any((base / own / part).is_dir() for part in ("raw", "processed")):
            return base / own
    return root / name
