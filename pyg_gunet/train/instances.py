"""Pictures of any size through a segmentation network, and the instances in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.data.images import joined
from pyg_gunet.functional.border import connected_instances
from pyg_gunet.functional.segmentation import instances_found
from pyg_gunet.functional.watershed import instance_depth, pixel_instances
from pyg_gunet.metrics import InstanceMetrics
from pyg_gunet.transforms import ToGrid, grid_edges

TILE, OVERLAP = 256, 32
SMOOTH = 1.0  # pixels; a network's depth has peaks that are noise
# The least probability of an instance's pixels, and the prominence of its peak: 1 splits nothing.
Way = tuple[float, float]
DEFAULT: Way = (0.5, 0.15)
WAYS = tuple((least, rise) for least in (0.3, 0.4, 0.5, 0.6, 0.7) for rise in (0.1, 0.2, 1.0))
COLUMNS = ("id", "area", "row", "column", "top", "left", "bottom", "right")  # of a table


def stitched(
    score: Callable[[Data], Tensor], image: Tensor, tile: int = TILE, overlap: int = OVERLAP
) -> Tensor:
    r"""Scores of every pixel of a picture of any size, tile by tile.

    Tiles overlap, the last ones lie at the picture's end, and where they overlap a pixel's scores
    are a mean of theirs whose weights fall linearly to a tile's edge: there are no seams. All tiles
    are of one size, so that what is made of their graph is made once. Memory is that of the
    scores and of one tile.

    Args:
        score (callable): Scores `[n, K]` of the nodes of a pixel graph.
        image (Tensor): The picture `[channels, H, W]`.
        tile (int, optional): Height and width of a tile in pixels. (default: 256)
        overlap (int, optional): Pixels that neighbouring tiles share, fewer than `tile`.
            (default: 32)

    Returns:
        Tensor: Scores `[K, H, W]`.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"'overlap' must lie in [0, {tile}), of 'tile' (got {overlap!r})")
    sizes = [min(tile, size) for size in image.shape[1:]]
    starts = [
        [*range(0, size - one, max(one - overlap, 1)), size - one]
        for size, one in zip(image.shape[1:], sizes)
    ]
    ramps = [_ramp(one, overlap) for one in sizes]
    weight = ramps[0][:, None] * ramps[1]
    out: Tensor | None = None
    for top in starts[0]:
        for left in starts[1]:
            window = (..., slice(top, top + sizes[0]), slice(left, left + sizes[1]))
            scores = score(ToGrid()(image[window].contiguous()))
            if out is None:
                out = scores.new_zeros(scores.size(1), *image.shape[1:])
            out[window] += scores.t().view(-1, *sizes) * weight
    assert out is not None
    for k, (ramp, begin, size) in enumerate(zip(ramps, starts, image.shape[1:])):
        total = torch.zeros(size)
        for at in begin:
            total[at : at + len(ramp)] += ramp
        out /= total.view(-1, 1) if k == 0 else total
    return out


def _ramp(size: int, overlap: int) -> Tensor:
    """Weights along a tile's side: 1 inside, falling to its ends."""
    at = torch.arange(size) + 0.5
    return torch.minimum(at, size - at).div(max(overlap, 1)).clamp(max=1.0)


def whole_pictures(tiles: Sequence[Data]) -> Iterator[dict[str, Tensor]]:
    """Image `x` [channels, H, W] and `instance` [H, W] of each picture whose tiles are all there,
    and of each tile by itself where they are not."""
    groups: dict[int, list[Data]] = {}
    for tile in tiles:
        groups.setdefault(int(tile.image), []).append(tile)
    for group in groups.values():
        instance = joined(group, "instance")
        whole = instance.numel() == sum(int(tile.num_nodes or 0) for tile in group)
        for part in [group] if whole else [[_alone(tile)] for tile in group]:
            image = joined(part, "x").movedim(-1, 0).contiguous()
            yield {"x": image, "instance": joined(part, "instance")}


def _alone(tile: Data) -> Data:
    tile = tile.clone()
    tile.corner = torch.zeros_like(tile.corner)
    return tile


def found_instances(maps: Sequence[Tensor], way: Way, min_size: int) -> Tensor:
    """The instances [H, W] in the probability and the depth of a picture's pixels, [H, W] each."""
    probability, depth = maps
    smooth = torch.from_numpy(ndimage.gaussian_filter(depth.float().cpu().numpy(), SMOOTH))
    return pixel_instances(probability > way[0], smooth.to(depth.device), way[1], min_size)


def best_way(maps: Sequence[Sequence[Tensor]], truth: Sequence[Tensor], min_size: int) -> Way:
    """The one of `WAYS` with the highest panoptic quality, a mean over pictures, of the maps of
    :func:`found_instances` against true instances [H, W]; nothing found where nothing is counts as
    1, and of equal ones that next to the default."""
    scores = {}
    for way in WAYS:
        metric = InstanceMetrics(thresholds=[0.5], per_graph=True, sync_on_compute=False)
        for one, instance in zip(maps, truth, strict=True):
            metric.update(found_instances(one, way, min_size).reshape(-1), instance.reshape(-1))
        quality = float(metric.compute()["graph_panoptic_quality"]) if truth else 1.0
        scores[way] = 1.0 if math.isnan(quality) else quality
    return max(WAYS, key=lambda way: (scores[way], -math.dist(way, DEFAULT)))


def otsu_instances(image: Tensor, min_size: int) -> Tensor:
    """What needs no training: the smaller side of Otsu's threshold on the mean channel, its
    connected components [H, W] parted by the exact depth in them, as a network's would be at the
    defaults: nothing of it is settled on other pictures."""
    from skimage.filters import threshold_otsu

    grey = image.mean(0)
    above = grey > float(threshold_otsu(grey.numpy())) if grey.amax() > grey.amin() else grey < 0
    above = ~above if float(above.float().mean()) > 0.5 else above
    edges = grid_edges(grey.size(0), grey.size(1), 4)
    part = connected_instances(above.view(-1).long(), edges)
    depth = instance_depth(part, edges).view(grey.shape)
    return found_instances((above.float(), depth), DEFAULT, min_size)


def instance_figures(
    find: Callable[[Tensor], Tensor], tiles: Sequence[Data], min_size: int
) -> dict[str, Any]:
    """Scores of the instances [H, W] that `find` sees in pictures [channels, H, W], and Otsu's:
    average precision at IoU .5 and panoptic quality, means over pictures."""
    own: Any = {"thresholds": [0.5], "per_graph": True, "sync_on_compute": False}
    metrics = {"": InstanceMetrics(**own), "Otsu": InstanceMetrics(**own)}
    hits: list[Tensor] = []
    for picture in whole_pictures(tiles):
        truth = picture["instance"].reshape(-1)
        found = find(picture["x"]).reshape(-1)
        hits.append(instances_found(found, truth))
        metrics[""].update(found, truth)
        metrics["Otsu"].update(otsu_instances(picture["x"], min_size).reshape(-1), truth)
    scores = {name: metric.compute() for name, metric in metrics.items()}
    names = {"ap50": "graph_average_precision_50", "pq": "graph_panoptic_quality"}
    each = torch.cat(hits) if hits else torch.zeros(0)
    return {
        **{f"test_{key}": _plain(scores[""][name]) for key, name in names.items()},
        "instances": each.numel(),
        "instances_found": _plain(each.double().mean()),
        "baselines": {f"Otsu {key}": _plain(scores["Otsu"][name]) for key, name in names.items()},
    }


def _plain(value: Tensor) -> float | None:
    """JSON knows no NaN."""
    return None if bool(value.isnan()) else float(value)


def instance_table(label: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of a label image [H, W], a row per instance: `id`, `area` in pixels, the centre
    `row` and `column`, and the box `top`, `left`, `bottom`, `right`, whose last two are beyond."""
    from skimage.measure import regionprops_table

    wanted = ("label", "area", "centroid", "bbox")
    found = regionprops_table(label, properties=wanted)
    table = dict(zip(COLUMNS, found.values(), strict=True))
    table["area"] = table["area"].astype(np.int64)
    return table


def overlay(image: Tensor, label: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The picture [H, W, 3], uint8, with the rims of its instances in yellow."""
    from skimage.segmentation import find_boundaries

    shown = image[:3] if image.size(0) >= 3 else image[:1].expand(3, -1, -1)
    low, high = np.percentile(shown.numpy()[..., ::4, ::4], [0.5, 99.5])
    grey = ((shown - low) * (255.0 / max(high - low, 1e-12))).clamp(0, 255).to(torch.uint8)
    out = grey.movedim(0, -1).numpy().copy()
    out[find_boundaries(label, mode="inner")] = (255, 220, 0)
    return out
