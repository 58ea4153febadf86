"""Trains two tasks on small graphs of unequal size: what the tests of many processes start.

torchrun --nproc-per-node 2 two_fits.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from pyg_gunet.data import GraphDataset
from pyg_gunet.train import Run, fit

# 19 training graphs in steps of 6: the last step has one graph, the second process none.
SMALL = {"hidden_channels": 8, "depth": 1, "epochs": 5, "batch_size": 6, "accelerator": "cpu"}


def graphs() -> GraphDataset:
    generator = torch.Generator().manual_seed(0)
    dataset = []
    for _ in range(24):
        n = int(torch.randint(5, 12, (1,), generator=generator))
        node = torch.arange(n)
        edges = torch.cat([torch.stack([node, (node + step) % n]) for step in (1, 2)], dim=1)
        x = torch.randn(n, 3, generator=generator)
        y = (x[:, 0] > 0.3).long()
        dataset.append(Data(x=x, y=y, edge_index=torch.cat([edges, edges.flip(0)], dim=1)))
    return GraphDataset("toy", dataset)


def main(out: Path) -> list[Run]:
    # Batch normalisation sees its own process alone on a CPU: without it the curves are the same.
    tasks: dict[str, dict[str, Any]] = {"autoencode": {}, "segment": {"norm": "none"}}
    return [fit(graphs(), task, out / task, **SMALL, **more) for task, more in tasks.items()]


if __name__ == "__main__":
    rank = main(Path(sys.argv[1]))[0].rank
    (Path(sys.argv[1]) / f"rank{rank}").touch()
