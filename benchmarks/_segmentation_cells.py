"""nuclei2018: the images, their folds, tiles to train on, and instances with their scores."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from skimage.filters import threshold_otsu
from skimage.io import imread
from torch import Tensor
from torch_geometric.data import Batch

from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.functional.watershed import instance_depth, pixel_instances
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.metrics import InstanceMetrics
from pyg_gunet.transforms import Coarsen, ToGrid, grid_edges

FOLDS, TRAIN, VALID = 5, 60, 12
TILE, BATCH = 64, 4
MIN_SIZE = 15  # pixels; fewer are no nucleus, of no system
LOSSES = ("plain", "class", "border")


@dataclass(eq=False)
class Picture:
    """An image [H, W] with its nuclei [H, W], and what a network learns from them [H, W]."""

    image: Tensor
    instance: Tensor
    depth: Tensor
    border: Tensor  # the border term alone
    share: float  # of pixels in nuclei

    def weight(self, loss: str) -> Tensor:
        """The weight of every pixel: 1, of its class, or of its class and the border."""
        if loss == "plain":
            return torch.ones_like(self.depth)
        share = min(max(self.share, 0.01), 0.99)
        weight = torch.where(self.instance > 0, 0.5 / share, 0.5 / (1 - share))
        return weight + self.border if loss == "border" else weight


class Nuclei:
    """The folder's images, read and prepared where they are asked for; targets are kept on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(path.name for path in (root / "images").iterdir())
        self.cache = Path(tempfile.gettempdir()) / "pyg_gunet_nuclei2018"
        self.cache.mkdir(exist_ok=True)
        self.read = lru_cache(maxsize=None)(self._read)

    def fold(self, number: int, quick: bool = False) -> tuple[list[int], list[int], list[int]]:
        """Numbers of the training, validation and test images: no image is in two of them."""
        order = torch.randperm(len(self.names), generator=torch.Generator().manual_seed(0))
        parts = [part.tolist() for part in order.tensor_split(FOLDS)]
        test, near = parts[number], parts[(number + 1) % FOLDS]
        others = [i for k in range(2, FOLDS) for i in parts[(number + k) % FOLDS]]
        train, valid = others[:TRAIN], near[:VALID]
        return (train[:4], valid[:2], test[:2]) if quick else (train, valid, test)

    def _read(self, number: int) -> Picture:
        name = self.names[number]
        image = torch.from_numpy(imread(self.root / "images" / name)[..., 0].astype(np.float32))
        low, high = np.percentile(image, [1.0, 99.8])
        image = (image - low) / max(high - low, 1.0)
        instance = torch.from_numpy(imread(self.root / "masks" / name).astype(np.int64))
        kept = self.cache / f"{name}.npz"
        if not kept.exists():
            flat, (height, width) = instance.view(-1), instance.shape
            depth = instance_depth(flat, grid_edges(height, width, 4))
            pos = ToGrid(4)(image).pos
            border = border_weight(flat, pos).float()
            part = kept.with_suffix(f".{os.getpid()}.npz")
            np.savez_compressed(part, depth=depth.numpy(), border=border.numpy())
            part.rename(kept)
        made = np.load(kept)
        depth, border = (torch.from_numpy(made[key]).view(instance.shape) for key in made)
        return Picture(image, instance, depth, border, float((instance > 0).float().mean()))

    def tiles(self, numbers: list[int], loss: str, draw: np.random.Generator) -> list[Tensor]:
        """Image, class, depth and weight of a batch of tiles, turned at random, [B, T, T] each."""
        made = []
        for number in draw.choice(numbers, BATCH):
            picture = self.read(int(number))
            top, left = (int(draw.integers(size - TILE + 1)) for size in picture.image.shape)
            label = (picture.instance > 0).long()
            stack = [picture.image, label, picture.depth, picture.weight(loss)]
            turns, flip = int(draw.integers(4)), bool(draw.integers(2))
            cut = [one[top : top + TILE, left : left + TILE].rot90(turns) for one in stack]
            made.append([one.flip(0) if flip else one for one in cut])
        return [torch.stack(parts) for parts in zip(*made, strict=True)]


@lru_cache(maxsize=8)
def hierarchy(
    size: tuple[int, int], count: int, depth: int, ratio: float
) -> tuple[Hierarchy, Tensor]:
    """The levels of `count` pixel graphs of one size, made once; offsets on their edges."""
    graph = with_offsets(ToGrid()(torch.zeros(1, *size)))
    del graph.image_size
    batch = Batch.from_data_list([Coarsen(depth, ratio)(graph)] * count)
    return batch.hierarchy(edge_attr=True), batch.batch


def with_offsets(graph):
    """The graph with the offset of each edge's end from its start in `edge_attr`."""
    row, col = graph.edge_index
    graph.edge_attr = (graph.pos[col] - graph.pos[row]).float()
    return graph


@lru_cache(maxsize=4)
def sides(size: tuple[int, int]) -> Tensor:
    """Touching corners do not join two nuclei: pixels joined along their four sides."""
    return grid_edges(*size, 4)


# From scores to instances --------------------------------------------------------------------

Way = tuple[float, float | None]  # least probability; depth of seeds, or None for components
WAYS: tuple[Way, ...] = tuple((p, s) for p in (0.3, 0.5, 0.7) for s in (None, 0.4, 0.6))


def instances(probability: Tensor, depth: Tensor, way: Way) -> Tensor:
    """The instance of each pixel [H, W], of the probability and depth of each [H, W]."""
    flat = torch.ones_like(depth) if way[1] is None else depth
    return pixel_instances(probability > way[0], flat, way[1] or 0.5, MIN_SIZE)


def score(found: list[Tensor], truth: list[Tensor]) -> dict[str, float]:
    """AP at IoU .5 and panoptic quality, means over the images."""
    metric = InstanceMetrics(thresholds=[0.5], per_graph=True)
    for one, other in zip(found, truth, strict=True):
        metric.update(one.reshape(-1), other.reshape(-1))
    result = metric.compute()
    names = {"ap50": "graph_average_precision_50", "pq": "graph_panoptic_quality"}
    return {key: float(result[name]) for key, name in names.items()}


Predict = Callable[[Picture], tuple[Tensor, Tensor]]


def judge(data: Nuclei, predict: Predict, valid: list[int], test: list[int]) -> dict[str, float]:
    """Chooses the way to instances on the validation images and scores it on the test images."""
    seen = [data.read(i) for i in valid]
    maps = [predict(picture) for picture in seen]
    truth = [picture.instance for picture in seen]
    scores = {way: score([instances(*one, way) for one in maps], truth)["ap50"] for way in WAYS}
    way = max(WAYS, key=scores.__getitem__)
    pictures = [data.read(i) for i in test]
    start = time.process_time()
    maps = [predict(picture) for picture in pictures]
    network = time.process_time() - start
    found = score([instances(*one, way) for one in maps], [p.instance for p in pictures])
    components = (way[0], None)
    plain = score([instances(*one, components) for one in maps], [p.instance for p in pictures])
    return {
        **found,
        "ap50 of components": plain["ap50"],
        "pq of components": plain["pq"],
        "valid_ap50": scores[way],
        "least probability": way[0],
        "seed depth": -1.0 if way[1] is None else way[1],
        "seconds per image": network / len(test),
        "images": float(len(test)),
    }


def otsu(picture: Picture) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of the image, untrained; depths are those of its connected components."""
    image = picture.image
    above = image > float(threshold_otsu(image.numpy()))
    size = (image.size(0), image.size(1))
    parts = connected_instances(above.view(-1).long(), sides(size))
    return above.float(), instance_depth(parts, sides(size)).view(size)
