"""Kept nodes and reconstruction of two methods, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch_geometric.data import Data


def draw(rows: list[tuple[str, Data, list[tuple[str, float, Any, Any]]]], path: Path) -> None:
    """A row per data set; per method the kept nodes and the reconstruction.

    Args:
        rows (list): Name, graph, and per method its name, error, kept nodes [K] and output [N, D].
        path (Path): The picture's file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = 1 + 2 * len(rows[0][2])
    figure, axes = plt.subplots(len(rows), columns, figsize=(3 * columns, 3.2 * len(rows)))
    for line, (name, graph, methods) in zip(axes.reshape(len(rows), columns), rows):
        x = graph.x.numpy()
        plane = [0, 1]
        size = 30 if len(x) < 200 else 2
        line[0].scatter(*x[:, plane].T, s=size, c="0.2")
        line[0].set_title(f"{name}: {len(x)} nodes")
        for i, (method, error, kept, out) in enumerate(methods):
            left, right = line[1 + 2 * i : 3 + 2 * i]
            left.scatter(*x[:, plane].T, s=size, c="0.85")
            left.scatter(*x[kept.numpy()][:, plane].T, s=size, c="tab:red")
            left.set_title(f"{method}: {len(kept)} kept")
            right.scatter(*out.numpy()[:, plane].T, s=size, c="tab:blue")
            right.set_title(f"{method}: MSE {error:.1e}")
            right.set_xlim(line[0].get_xlim())
            right.set_ylim(line[0].get_ylim())
    for axis in axes.flat:
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
