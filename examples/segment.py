"""Segment an image as a graph of pixels: every pixel gets a class, and touching cells stay apart.

    python examples/segment.py

Draws bright discs on a noisy ground, some of them almost touching, and trains a multi-scale graph
U-Net with border weights. Scores are those of a second picture.
"""

import argparse

import torch
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

from pyg_gunet import BorderWeight, BorderWeightedCrossEntropy, SegmentationMetrics, ToGrid
from pyg_gunet.functional.border import connected_instances
from pyg_gunet.functional.segmentation import instances_found
from pyg_gunet.nn.segmentation import SegmentationUNet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--size", type=int, default=64)
parser.add_argument("--quick", action="store_true", help="two epochs on a small picture")
args = parser.parse_args()
size = 32 if args.quick else args.size
row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")


def picture(seed: int) -> Data:
    """A grid graph with the class and the disc of every pixel, and its border weight."""
    generator = torch.Generator().manual_seed(seed)
    instance = torch.zeros(size, size, dtype=torch.int64)
    for disc in range(size // 3):
        y, x = (torch.rand(2, generator=generator) * size).tolist()
        inside = (row - y) ** 2 + (column - x) ** 2 < 16
        instance[inside & (instance == 0)] = disc + 1
    right, below = instance.roll(-1, 1), instance.roll(-1, 0)  # a pixel of ground between two discs
    instance[((right != instance) & (right > 0)) | ((below != instance) & (below > 0))] = 0
    image = (instance > 0).float() + 0.3 * torch.randn(size, size, generator=generator)
    return BorderWeight(sigma=2.0)(ToGrid()(image, y=(instance > 0).long(), instance=instance))


torch.manual_seed(0)
train, test = picture(seed=0), picture(seed=1)
model = SegmentationUNet(1, 16, 2, depth=3, multi_scale=True, conv=SAGEConv, norm="batch")
criterion, optimizer = BorderWeightedCrossEntropy(), torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(2 if args.quick else args.epochs):
    optimizer.zero_grad()
    criterion(model(train.x, train.edge_index), train.y, train.border_weight).backward()
    optimizer.step()
with torch.no_grad():  # one graph's statistics are its own: the norm stays in training mode
    label = model(test.x, test.edge_index).argmax(dim=1)
metrics = SegmentationMetrics(num_classes=2)
metrics.update(label, test.y)
for name, score in metrics.compute().items():
    print(f"{name}: {score:.4f}")
sides = ToGrid(connectivity=4)(torch.zeros(size, size)).edge_index
found = instances_found(connected_instances(label, sides), test.instance)
print(f"discs found: {int(found.sum())} of {found.numel()}")
