"""Seconds from an image to a graph, and of the border weights of a label image."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from _common import interleaved, median, record, table
from scipy import ndimage
from torch import Tensor

from pyg_gunet.functional.border import border_weight
from pyg_gunet.transforms import ToGrid, grid_edges


def discs(size: int, per_side: int, seed: int = 0) -> np.ndarray:
    """A label image [size, size] with per_side^2 discs, some of which touch."""
    rng = np.random.default_rng(seed)
    step = size / per_side
    row, column = np.mgrid[:size, :size]
    image = np.zeros((size, size), dtype=np.int64)
    for k in range(per_side**2):
        middle = (np.array(divmod(k, per_side)) + 0.5 + rng.uniform(-0.1, 0.1, 2)) * step
        inside = np.hypot(row - middle[0], column - middle[1]) < rng.uniform(0.25, 0.5) * step
        image[inside & (image == 0)] = k + 1
    return image


def by_image(image: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """The same weights from a distance transform per instance over the whole image: the oracle."""
    distances = [ndimage.distance_transform_edt(image != k) for k in np.unique(image[image > 0])]
    d1, d2 = np.partition(np.stack(distances), 1, axis=0)[:2]
    term = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return torch.from_numpy(np.where((image == 0) & (d1 + d2 <= 6 * sigma), term, 0.0))


def run(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """The records; prints a table."""
    size, per_side, large = (128, 4, 256) if quick else (512, 10, 1024)
    image = discs(size, per_side)
    instance = torch.from_numpy(image).flatten()
    picture = torch.rand(large, large, generator=torch.Generator().manual_seed(0))
    graph = ToGrid()(torch.from_numpy(image).float())
    edges = grid_edges(size, size, 8)
    found = border_weight(instance, graph.pos).view(size, size)
    gap = float((found - by_image(image)).abs().max())
    assert gap < 1e-6, f"border weights are off by {gap}"
    border = f"border weights, {size} x {size}, {per_side**2} instances"
    cases = {
        (border, "by position"): partial(border_weight, instance, graph.pos),
        (border, "along 8 neighbours"): partial(border_weight, instance, edge_index=edges),
        (border, "a distance transform per instance"): partial(by_image, image),
        (f"image to graph, {large} x {large}", "4 neighbours"): partial(ToGrid(4), picture),
        (f"image to graph, {large} x {large}", "8 neighbours"): partial(ToGrid(8), picture),
    }
    seconds = interleaved({"; ".join(key): call for key, call in cases.items()}, repeats)
    records, rows = [], []
    for case, system in cases:
        value = median(seconds[f"{case}; {system}"])
        records.append(record("segmentation graphs", case, system, "seconds", value, n=repeats))
        rows.append([case, system, f"{value:.3f}"])
    print(table(["case", "way", "seconds"], rows))
    return records
