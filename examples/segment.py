"""Segment an image as a graph of pixels: every pixel gets a class, and touching cells stay apart.

Draws bright discs on a noisy ground, some of them almost touching, turns the picture into a grid
graph, and trains a multi-scale graph U-Net with border weights. Prints the scores on a second
picture, and how many discs come out as components of their own.
"""

from __future__ import annotations

import argparse

import torch
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

from pyg_gunet.functional.border import connected_instances
from pyg_gunet.functional.segmentation import instances_found
from pyg_gunet.metrics import SegmentationMetrics
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.segmentation import SegmentationUNet
from pyg_gunet.transforms import BorderWeight, ToGrid


def picture(size: int, seed: int) -> Data:
    """A grid graph with the class and the disc of every pixel, and its border weight."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    instance = torch.zeros(size, size, dtype=torch.int64)
    for disc in range(size // 3):
        y, x = (torch.rand(2, generator=generator) * size).tolist()
        inside = (row - y) ** 2 + (column - x) ** 2 < 16
        instance[inside & (instance == 0)] = disc + 1
    # One pixel of ground between two discs.
    right, below = instance.roll(-1, 1), instance.roll(-1, 0)
    touching = ((right != instance) & (right > 0)) | ((below != instance) & (below > 0))
    instance[touching & (instance > 0)] = 0
    image = (instance > 0).float() + 0.3 * torch.randn(size, size, generator=generator)
    data = ToGrid()(image, y=(instance > 0).long(), instance=instance)
    return BorderWeight(sigma=2.0)(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()

    torch.manual_seed(0)
    train, test = picture(args.size, seed=0), picture(args.size, seed=1)
    model = SegmentationUNet(1, 16, 2, depth=3, multi_scale=True, conv=SAGEConv, norm="batch")
    criterion = BorderWeightedCrossEntropy()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(1, args.epochs + 1):
        optimizer.zero_grad()
        loss = criterion(model(train.x, train.edge_index), train.y, train.border_weight)
        loss.backward()
        optimizer.step()
        if epoch % 20 == 0:
            print(f"epoch {epoch:03d}  loss {loss.item():.4f}")

    # One graph's statistics are those of its own: the norm stays in training mode.
    with torch.no_grad():
        label = model(test.x, test.edge_index).argmax(dim=1)
    metrics = SegmentationMetrics(num_classes=2)
    metrics.update(label, test.y)
    for name, score in metrics.compute().items():
        print(f"{name}: {score:.4f}")
    sides = ToGrid(connectivity=4)(torch.zeros(args.size, args.size)).edge_index
    found = instances_found(connected_instances(label, sides), test.instance)
    print(f"discs found: {int(found.sum())} of {found.numel()}")


if __name__ == "__main__":
    main()
