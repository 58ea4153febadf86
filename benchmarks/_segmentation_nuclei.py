"""Do border weights keep nuclei apart? A demonstration on one image, not a result about images.

A quarter of the image is held out, another one per seed, and the rest is cut into tiles. The same
network learns, from the same start, with plain cross-entropy, with class weights alone and with
border weights; nuclei of the held-out quarter count as found when a connected component of the
prediction overlaps them with an IoU above 0.5.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import record, table
from _segmentation_rows import append, read
from skimage.io import imread
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.nn import SAGEConv

from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.functional.segmentation import instances_found, mean_iou
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.segmentation import SegmentationUNet
from pyg_gunet.transforms import BorderWeight, ToGrid

TILE, EPOCHS, BATCH, LR = 64, 12, 4, 5e-3
LOSSES = ("plain cross-entropy", "class weights", "border weights")


def quarter(image: Tensor, number: int) -> tuple[slice, slice]:
    half = image.size(0) // 2
    row, column = divmod(number % 4, 2)
    return slice(row * half, (row + 1) * half), slice(column * half, (column + 1) * half)


def weights(instance: Tensor, loss: str) -> Tensor:
    """The weight of every pixel of the image."""
    image = ToGrid()(instance.unsqueeze(0).float(), y=(instance > 0).long(), instance=instance)
    if loss == "plain cross-entropy":
        return torch.ones(instance.shape)
    w0 = 0.0 if loss == "class weights" else 10.0
    return BorderWeight(w0=w0)(image).border_weight.view(instance.shape)


def tiles(image: Tensor, instance: Tensor, weight: Tensor, held_out: int) -> list[Data]:
    rows, columns = quarter(image, held_out)
    made = []
    for top in range(0, image.size(0) - TILE + 1, TILE):
        for left in range(0, image.size(1) - TILE + 1, TILE):
            if rows.start <= top < rows.stop and columns.start <= left < columns.stop:
                continue
            window = (slice(top, top + TILE), slice(left, left + TILE))
            tile = ToGrid()(image[window], y=(instance[window] > 0).long())
            tile.border_weight = weight[window].reshape(-1)
            made.append(tile)
    return made


def train(
    image: Tensor, instance: Tensor, loss: str, seed: int, epochs: int, limit: int | None
) -> dict[str, float]:
    data = tiles(image, instance, weights(instance, loss), seed)[:limit]
    torch.manual_seed(seed)
    model = SegmentationUNet(1, 16, 2, 3, multi_scale=True, conv=SAGEConv, norm="batch")
    optimizer = torch.optim.Adam(model.parameters(), LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, epochs * -(-len(data) // BATCH)
    )
    criterion = BorderWeightedCrossEntropy()
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for _ in range(epochs):
        for index in torch.randperm(len(data), generator=generator).split(BATCH):
            batch = Batch.from_data_list([data[int(i)] for i in index])
            optimizer.zero_grad()
            logits = model(batch.x, batch.edge_index, batch.batch)
            criterion(logits, batch.y, batch.border_weight).backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - start
    model.eval()
    window = quarter(image, seed)
    graph = ToGrid()(image[window])
    truth = instance[window].reshape(-1)
    with torch.no_grad():
        label = model(graph.x, graph.edge_index).argmax(1)
    # Touching corners do not join two nuclei: components along the four sides.
    sides = ToGrid(4)(image[window]).edge_index
    found = instances_found(connected_instances(label, sides), truth)
    gap = border_weight(truth, graph.pos) > 1.0
    return {
        "found": float(found.sum()),
        "instances": float(found.numel()),
        "mean_iou": float(mean_iou(label, (truth > 0).long(), 2)),
        "gap_accuracy": float((label[gap] == 0).double().mean()),
        "seconds": seconds,
    }


def interval(found: float, instances: float) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score."""
    z, share = 1.96, found / instances
    middle = (share + z**2 / (2 * instances)) / (1 + z**2 / instances)
    spread = z * np.sqrt(share * (1 - share) / instances + z**2 / (4 * instances**2))
    spread /= 1 + z**2 / instances
    return float(middle - spread), float(middle + spread)


def run(
    quick: bool, seeds: int, root: str | None, rows: Path | None, most: int | None = None
) -> list[dict[str, Any]]:
    """The records; prints a table. Finished runs are read from `rows` and added to it. None come
    back where `most` new runs were not enough."""
    if root is None:
        raise SystemExit("--root must be the folder with img2d.tif and mask2d.tif")
    torch.set_num_threads(1)
    image = torch.from_numpy(imread(Path(root) / "img2d.tif").astype(np.float32))
    image = (image - image.mean()) / image.std()
    instance = torch.from_numpy(imread(Path(root) / "mask2d.tif").astype(np.int64))
    epochs, limit = (1, 4) if quick else (EPOCHS, None)
    seeds = 1 if quick else seeds
    done = read(rows, "nuclei")
    missing = [(loss, seed) for seed in range(seeds) for loss in LOSSES if (loss, seed) not in done]
    for loss, seed in missing[:most]:
        done[loss, seed] = train(image, instance, loss, seed, epochs, limit)
        append(rows, "nuclei", loss, seed, done[loss, seed])
    if most is not None and len(missing) > most:
        print(f"{len(missing) - most} runs are left")
        return []
    records, lines = [], []
    for loss in LOSSES:
        runs = [done[loss, seed] for seed in range(seeds)]
        total = sum(one["found"] for one in runs), sum(one["instances"] for one in runs)
        # A quarter that comes back with another seed holds the same nuclei: the interval is over
        # those of the first four seeds' worth of runs, scaled to the distinct ones.
        distinct = sum(one["instances"] for one in runs[:4])
        low, high = interval(total[0] / total[1] * distinct, distinct)
        cells = [loss, f"{total[0] / total[1]:.3f} [{low:.3f}, {high:.3f}]"]
        for name, value in (("found", total[0] / total[1]), ("low", low), ("high", high)):
            records.append(record("segmentation", "nuclei", loss, name, value, n=int(distinct)))
        for metric in ("mean_iou", "gap_accuracy", "seconds"):
            values = [one[metric] for one in runs]
            std = statistics.stdev(values) if len(values) > 1 else 0.0
            value = statistics.mean(values)
            records.append(record("segmentation", "nuclei", loss, metric, value, std, seeds))
            cells.append(f"{value:.3f} +- {std:.3f}")
        lines.append(cells)
    print(table(["loss", "instances found [95 %]", "mean IoU", "gaps kept", "seconds"], lines))
    return records
