"""Pictures of a run, drawn off screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.files import write_aside

_MAX_EDGES = 20_000  # more lines than that are a blot
_MAX_ROWS, _MAX_COLUMNS = 200, 100


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with write_aside(path) as file:
        figure.savefig(file, format="png")


def draw_curve(path: Path, history: list[dict[str, float]], best_epoch: int | None) -> None:
    """Loss and validation values over epochs."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    for key in sorted({key for row in history for key in row} - {"epoch"}):
        rows = [row for row in history if key in row]
        axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], label=key, lw=1)
    values = [value for row in history for key, value in row.items() if key != "epoch"]
    if values and min(values) > 0:
        axes.set_yscale("log")
    if best_epoch is not None:
        axes.axvline(best_epoch, color="0.6", lw=0.8, ls="--", label="best epoch")
    axes.set_xlabel("epoch")
    axes.legend()
    _save(figure, path)


def draw_reconstruction(path: Path, data: Data, x: Tensor, x_hat: Tensor) -> None:
    """Input beside reconstruction: as geometry, as colours on nodes, or as a matrix."""
    pos = data.get("pos")
    batch = data.get("batch")
    geometry = pos is not None and pos.shape == x.shape and torch.equal(pos, x)
    coloured = pos is not None and x.size(1) == 1 and pos.size(1) == 2
    if geometry and batch is None and x.size(1) in (2, 3):
        figure = _draw_geometry(data.edge_index, x.numpy(), x_hat.numpy())
    elif coloured:
        figure = _draw_colours(pos.numpy(), x[:, 0].numpy(), x_hat[:, 0].numpy(), batch)
    else:
        figure = _draw_matrix(x, x_hat)
    _save(figure, path)


def _draw_geometry(edge_index: Tensor, x: np.ndarray, x_hat: np.ndarray) -> Any:
    from matplotlib.collections import LineCollection

    solid = x.shape[1] == 3
    figure = _figure(9, 4.5)
    colour = x[:, 0]
    low, high = x.min(0), x.max(0)
    for i, (title, points) in enumerate((("input", x), ("reconstruction", x_hat))):
        axes = figure.add_subplot(1, 2, i + 1, projection="3d" if solid else None)
        if solid:  # mplot3d's third axis points up, that of scanned models is the second
            axes.scatter(points[:, 0], points[:, 2], points[:, 1], c=colour, s=3)
            axes.set(xlim=(low[0], high[0]), ylim=(low[2], high[2]), zlim=(low[1], high[1]))
            axes.set_box_aspect(high[[0, 2, 1]] - low[[0, 2, 1]] + 1e-12)
            axes.set_axis_off()
        else:
            if edge_index.size(1) <= _MAX_EDGES:
                lines = points[edge_index.t().numpy()]
                axes.add_collection(LineCollection(lines, colors="0.8", lw=0.5, zorder=1))
            axes.scatter(points[:, 0], points[:, 1], c=colour, s=6, zorder=2)
            margin = 0.05 * (high - low) + 1e-12
            axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
            axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
            axes.set_aspect("equal")
        axes.set_title(title)
    return figure


def _draw_colours(pos: np.ndarray, x: np.ndarray, x_hat: np.ndarray, batch: Tensor | None) -> Any:
    graph = np.zeros(len(pos), dtype=int) if batch is None else batch.numpy()
    shown = np.unique(graph)[:8]
    figure = _figure(1.4 * len(shown) + 0.6, 3.2)
    grid = figure.subplots(2, len(shown), squeeze=False)
    for column, index in enumerate(shown):
        rows = graph == index
        for row, (title, value) in enumerate((("input", x), ("output", x_hat))):
            axes = grid[row][column]
            axes.scatter(*pos[rows].T, c=value[rows], vmin=x.min(), vmax=x.max(), s=40, marker="s")
            axes.set_aspect("equal")
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(title)
    return figure


def _draw_matrix(x: Tensor, x_hat: Tensor) -> Any:
    """The channels of largest variance of the first nodes."""
    columns = x.var(0, unbiased=False).argsort(descending=True)[:_MAX_COLUMNS].sort().values
    figure = _figure(9, 4.5)
    grid = figure.subplots(1, 2)
    low, high = float(x.min()), float(x.max())
    for axes, title, value in zip(grid, ("input", "reconstruction"), (x, x_hat)):
        axes.imshow(
            value[:_MAX_ROWS, columns].numpy(),
            aspect="auto",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axes.set(title=title, xlabel="feature")
    grid[0].set_ylabel("node")
    return figure
