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
from pyg_gunet.functional.watershed import instance_depth
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.metrics import InstanceMetrics
from pyg_gunet.train.instances import best_way, found_instances
from pyg_gunet.transforms import Coarsen, ToGrid, grid_edges

FOLDS, TRAIN, VALID = 5, 60, 12
TILE, BATCH = 64, 4
MIN_SIZE = 15  # pixels; fewer are no nucleus, of no system


@dataclass(eq=False)
class Picture:
    """An image [H, W] with its nuclei [H, W], and what a network learns from them [H, W]."""

    image: Tensor
    instance: Tensor
    depth: Tensor
    border: Tensor  # the border term alone
    share: float  # of pixels in nuclei

    def weight(self, loss: str) -> Tensor:
        """The weight of every pixel: 1, or of its class, and of the border."""
        share = min(max(self.share, 0.01), 0.99) if "class" in loss else 0.5
        weight = torch.where(self.instance > 0, 0.5 / share, 0.5 / (1 - share))
        return weight + self.border if "border" in loss else weight


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
    size: tuple[int, int], count: int, depth: int, ratio: float, offsets: bool = True
) -> tuple[Hierarchy, Tensor]:
    """The levels of `count` pixel graphs of one size, made once; `offsets` on their edges."""
    graph = with_offsets(ToGrid()(torch.zeros(1, *size)))
    del graph.image_size
    batch = Batch.from_data_list([Coarsen(depth, ratio)(graph)] * count)
    return batch.hierarchy(edge_attr=offsets), batch.batch


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


def score(found: list[Tensor], truth: list[Tensor]) -> dict[str, float]:
    """AP at IoU .5, panoptic and segmentation quality, means over the images, and the first two of
    each."""
    metric = InstanceMetrics(thresholds=[0.5])
    names = {"ap50": "average_precision_50", "pq": "panoptic_quality", "sq": "segmentation_quality"}
    each: dict[str, list[float]] = {key: [] for key in names}
    for one, other in zip(found, truth, strict=True):
        metric.reset()
        metric.update(one.reshape(-1), other.reshape(-1))
        result = metric.compute()
        for key, name in names.items():
            each[key].append(float(result[name]))
    own = {f"{k} of image {i}": v for k in ("ap50", "pq") for i, v in enumerate(each[k])}
    return {**{key: float(np.nanmean(values)) for key, values in each.items()}, **own}


Predict = Callable[[Picture], tuple[Tensor, Tensor]]


def judge(data: Nuclei, predict: Predict, valid: list[int], test: list[int]) -> dict[str, float]:
    """Chooses the way to instances on the validation images and scores it on the test images."""
    seen = [data.read(i) for i in valid]
    way = best_way([predict(one) for one in seen], [one.instance for one in seen], MIN_SIZE)
    pictures = [data.read(i) for i in test]
    start = time.process_time()
    maps = [predict(picture) for picture in pictures]
    network = time.process_time() - start
    truth = [picture.instance for picture in pictures]
    found = score([found_instances(one, way, MIN_SIZE) for one in maps], truth)
    plain = score([found_instances(one, (way[0], 1.0), MIN_SIZE) for one in maps], truth)
    own = {key: value for key, value in found.items() if " of image " in key}
    return {
        **{key: found[key] for key in ("ap50", "pq", "sq")},
        "ap50 of components": plain["ap50"],
        "pq of components": plain["pq"],
        "least probability": way[0],
        "prominence": way[1],
        "seconds per image": network / len(test),
        "images": float(len(test)),
        **own,
    }


def otsu(picture: Picture) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of the image, untrained; depths are those of its connected components."""
    image = picture.image
    above = image > float(threshold_otsu(image.numpy()))
    size = (image.size(0), image.size(1))
    parts = connected_instances(above.view(-1).long(), sides(size))
    return above.float(), instance_depth(parts, sides(size)).view(size)
