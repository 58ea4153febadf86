"""Public sets of node segmentation, read by PyG's own classes, with their own splits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import to_undirected

from pyg_gunet.files import check_pickle, reading

LRGB = ("PascalVOC-SP", "COCO-SP", "Peptides-func", "Peptides-struct")
_NEIGHBOURS = 12  # of a point of ShapeNet


class SplitDataset(InMemoryDataset):
    r"""The graphs of three parts in a row.

    Args:
        name (str): The name of the data set.
        parts (sequence): The training, validation and test graphs.
        shape_parts (list of list of int, optional): The part labels of each category of shapes.
            (default: :obj:`None`)

    Attributes:
        parts: The indices of the training, validation and test graphs.
    """

    def __init__(
        self, name: str, parts: list[list[Data]], shape_parts: list[list[int]] | None = None
    ) -> None:
        super().__init__(None)
        self.name = name
        self.shape_parts = shape_parts
        ends = [0, *itertools.accumulate(map(len, parts))]
        self.parts: tuple[Tensor, ...] = tuple(
            torch.arange(start, end) for start, end in itertools.pairwise(ends)
        )
        self.data, self.slices = self.collate([data for part in parts for data in part])

    def __repr__(self) -> str:
        return f"{self.name}({len(self)})"


def load_lrgb(name: str, root: Path) -> SplitDataset:
    r"""Graphs of the Long Range Graph Benchmark (Dwivedi et al., NeurIPS 2022) by PyG's
    :class:`~torch_geometric.datasets.LRGBDataset`: superpixels with a class each, or peptides with
    ten classes or eleven properties each.

    Args:
        name (str): ``'PascalVOC-SP'``, ``'COCO-SP'``, ``'Peptides-func'`` or
            ``'Peptides-struct'``.
        root (Path): The folder of PyG's class.

    Raises:
        ValueError: If the name is unknown, or a file cannot be read.
        FileNotFoundError: If a file is missing and cannot be downloaded.
    """
    if name not in LRGB:
        raise ValueError(f"'name' must be one of LRGB/{', LRGB/'.join(LRGB)} (got 'LRGB/{name}')")
    from torch_geometric.datasets import LRGBDataset

    pictures, folder = name.endswith("-SP"), root / name.lower()
    suffix = "pickle" if pictures else "pt"
    files = [f"{split}.{suffix}" for split in ("train", "val", "test")]
    if pictures and not all((folder / "processed" / f"{file[:-7]}.pt").is_file() for file in files):
        for file in files:  # PyG would unpickle anything
            check_pickle(folder / "raw" / file, tensors=True)
    parts = []
    for split in ("train", "val", "test"):
        with reading(folder, files, f"{split}.pt"):
            graphs = list(LRGBDataset(str(root), name=name, split=split))
        for data in graphs:
            if not pictures:
                data.x, data.y = data.x.float(), data.y.float()
                continue
            # The first 12 columns describe the colour, the last two are the centre.
            data.x, data.pos = data.x.float(), data.x[:, -2:].float()
            data.y = data.y.long()
        parts.append(graphs)
    return SplitDataset(name, parts)


def load_shapenet(category: str | None, root: Path, neighbours: int = _NEIGHBOURS) -> SplitDataset:
    r"""Point clouds of ShapeNet with a part per point (Yi et al. 2016), by PyG's
    :class:`~torch_geometric.datasets.ShapeNet`, as graphs of nearest neighbours.

    Features are the coordinates and the normals.

    Args:
        category (str, optional): One category, as ``'Airplane'``. (default: all)
        root (Path): The folder of PyG's class.
        neighbours (int, optional): Nearest neighbours of each point. (default: 12)
    """
    from torch_geometric.datasets import ShapeNet

    if category is not None and category not in ShapeNet.category_ids:
        options = ", ".join(ShapeNet.category_ids)
        raise ValueError(f"'name' must be ShapeNet/ and one of {options} (got {category!r})")
    parts = []
    for split in ("train", "val", "test"):
        dataset: Any = ShapeNet(str(root), category, split=split)
        parts.append([_with_neighbours(data, neighbours) for data in dataset])
    shape_parts = [list(ShapeNet.seg_classes[one]) for one in dataset.categories]
    return SplitDataset("ShapeNet", parts, shape_parts)


def _with_neighbours(data: Data, neighbours: int) -> Data:
    from scipy.spatial import KDTree

    points = data.pos.double().numpy()
    count = min(neighbours + 1, len(points))
    _, near = KDTree(points).query(points, k=count)
    source = torch.from_numpy(near).long().view(len(points), -1).flatten()
    target = torch.arange(len(points)).repeat_interleave(count)
    pairs = torch.stack([source, target])[:, source != target]

    features = [data.pos] if data.x is None else [data.pos, data.x]
    return Data(
        x=torch.cat(features, dim=1).float(),
        pos=data.pos.float(),
        edge_index=to_undirected(pairs, num_nodes=len(points)),
        y=data.y.long(),
        category=torch.as_tensor(data.category).view(1),
    )
