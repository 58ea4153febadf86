"""Pictures of a run, drawn off screen, readable at the width of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.data import VOID
from pyg_gunet.files import write_aside
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.transforms import to_label_image

_MAX_EDGES = 20_000  # more lines than that are a blot
_MAX_ROWS, _MAX_COLUMNS = 200, 100


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with write_aside(path) as file:
        figure.savefig(file, format="png")


def _saved(figure: Any, folder: Path, name: str) -> Path:
    _save(figure, folder / f"{name}.png")
    return folder / f"{name}.png"


def curve(folder: Path, history: list[dict[str, float]], best_epoch: int | None) -> Path:
    """Losses over epochs and, on axes of their own, scores between 0 and 1."""
    keys = sorted({key for row in history for key in row} - {"epoch"})
    scores = [key for key in keys if key.endswith(("accuracy", "iou", "auc"))]
    panels = [("loss", [key for key in keys if key not in scores])]
    panels += [("score (share of 1)", scores)] if scores else []
    figure = _figure(7, 3.2 * len(panels) + 0.4)
    for axes, (label, names) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels):
        values = []
        for key in names:
            rows = [row for row in history if key in row]
            values += [row[key] for row in rows]
            name = key.replace("_", " ").replace("val ", "validation ")
            axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], label=name)
        if label == "loss" and values and min(values) > 0:
            axes.set_yscale("log")
        if best_epoch:
            axes.axvline(best_epoch, color="0.5", lw=1, ls="--", label=f"best: {best_epoch}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    return _saved(figure, folder, "loss")


def reconstruction(folder: Path, data: Data, x: Tensor, x_hat: Tensor) -> Path:
    """Input, reconstruction and the error of every node: as geometry, on places or as a matrix."""
    pos, batch = data.get("pos"), data.get("batch")
    geometry = pos is not None and pos.shape == x.shape and torch.equal(pos, x)
    if geometry and batch is None and x.size(1) in (2, 3):
        figure = _geometry(data.edge_index, x.numpy(), x_hat.numpy())
    elif pos is not None and x.size(1) == 1 and pos.size(1) == 2:
        figure = _colours(pos.numpy(), x[:, 0].numpy(), x_hat[:, 0].numpy(), batch)
    else:
        figure = _matrix(x, x_hat)
    return _saved(figure, folder, "reconstruction")


def _seen_from(points: np.ndarray) -> np.ndarray:
    """Coordinates across, up and towards the eye: for scanned models the second axis points up, and
    the eye stands in front, a little to the side."""
    if points.shape[1] < 3:
        return np.column_stack([points, np.zeros((len(points), 3 - points.shape[1]))])
    turn, tilt = np.deg2rad(-25), np.deg2rad(10)
    across = np.cos(turn) * points[:, 0] + np.sin(turn) * points[:, 2]
    depth = -np.sin(turn) * points[:, 0] + np.cos(turn) * points[:, 2]
    up = np.cos(tilt) * points[:, 1] - np.sin(tilt) * depth
    return np.column_stack([across, up, np.sin(tilt) * points[:, 1] + np.cos(tilt) * depth])


def _scatter(axes: Any, points: np.ndarray, **style: Any) -> Any:
    """Points from behind to front, in equal scales, without ticks."""
    order = points[:, 2].argsort()
    style["c"] = np.asarray(style["c"])[order] if "c" in style else None
    drawn = axes.scatter(points[order, 0], points[order, 1], **style)
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    return drawn


def _geometry(edge_index: Tensor, x: np.ndarray, x_hat: np.ndarray) -> Any:
    from matplotlib.collections import LineCollection

    flat, size = x.shape[1] == 2, 8 if len(x) < 3000 else 3
    error = np.linalg.norm(x_hat - x, axis=1)
    figure = _figure(10, 3.6)
    columns = figure.subplots(1, 3, sharex=True, sharey=True)
    low, high = x.min(0), x.max(0)
    shade = (x - low) / np.maximum(high - low, 1e-12)
    shade = np.column_stack([shade, np.full(len(x), 0.5)])[:, :3]
    panels = (("input", x, shade), ("reconstruction", x_hat, shade), ("error", x_hat, error))
    for axes, (title, points, colour) in zip(columns, panels):
        seen = _seen_from(points)
        if flat and edge_index.size(1) <= _MAX_EDGES:
            lines = LineCollection(points[edge_index.t().numpy()], colors="0.8", lw=0.5, zorder=1)
            axes.add_collection(lines)
        drawn = _scatter(axes, seen, c=colour, s=size, linewidths=0, zorder=2)
        axes.set_title(title)
    unit = "distance, in the units of the input"
    figure.colorbar(drawn, ax=columns[2], label=unit, format="%.2g", shrink=0.8)
    return figure


def _colours(pos: np.ndarray, x: np.ndarray, x_hat: np.ndarray, batch: Tensor | None) -> Any:
    graph = np.zeros(len(pos), dtype=int) if batch is None else batch.numpy()
    shown = np.unique(graph)[:8]
    figure = _figure(1.3 * len(shown) + 1.4, 4.4)
    grid = figure.subplots(3, len(shown), squeeze=False)
    error = np.abs(x_hat - x)
    places = np.column_stack([pos, np.zeros(len(pos))])
    limits = [(x.min(), x.max())] * 2 + [(0.0, max(error.max(), 1e-12))]
    titles = ("input", "output", "error")
    for row, (title, value, (low, high)) in enumerate(zip(titles, (x, x_hat, error), limits)):
        for column, index in enumerate(shown):
            axes, rows = grid[row][column], graph == index
            style = {"cmap": "magma" if row == 2 else "viridis", "vmin": low, "vmax": high}
            drawn = _scatter(axes, places[rows], c=value[rows], s=30, marker="s", **style)
            if column == 0:
                axes.set_ylabel(title)
        figure.colorbar(drawn, ax=grid[row].tolist(), format="%.2g")
    return figure


def _matrix(x: Tensor, x_hat: Tensor) -> Any:
    """The channels of largest variance of the first nodes."""
    columns = x.var(0, unbiased=False).argsort(descending=True)[:_MAX_COLUMNS].sort().values
    figure = _figure(10, 3.8)
    grid = figure.subplots(1, 3)
    low, high = float(x.min()), float(x.max())
    error = (x_hat - x).abs()
    for axes, title, value in zip(grid, ("input", "reconstruction", "error"), (x, x_hat, error)):
        style = {"cmap": "magma"} if title == "error" else {"vmin": low, "vmax": high}
        drawn = axes.imshow(
            value[:_MAX_ROWS, columns].numpy(), aspect="auto", interpolation="nearest", **style
        )
        axes.set(title=title, xlabel="feature, of largest variance")
        if title != "input":
            figure.colorbar(drawn, ax=axes, format="%.2g")
    grid[0].set_ylabel("node")
    return figure


def levels(folder: Path, data: Data, hierarchy: Hierarchy) -> list[Path]:
    """The kept nodes of every level, where nodes have places; of a batch its first graph."""
    pos = data.get("pos")
    if pos is None or pos.size(1) not in (2, 3):
        return []
    figure = _figure(3.2 * (hierarchy.depth + 1), 3.2)
    node = torch.arange(hierarchy.levels[0].num_nodes)
    own = node if data.get("batch") is None else node[data.batch.cpu() == 0]
    places = _seen_from(pos.numpy())
    columns = figure.subplots(1, hierarchy.depth + 1, squeeze=False, sharex=True, sharey=True)[0]
    for level, axes in enumerate(columns):
        if level:
            node = node[hierarchy.perms[level - 1].cpu()]
        kept = node[torch.isin(node, own)].numpy()  # one tensor of one entry is a scalar
        _scatter(axes, places[own.numpy()], c=["0.85"] * len(own), s=4, linewidths=0)
        _scatter(axes, places[kept], c=["C0"] * len(kept), s=6, linewidths=0)
        axes.set_title(f"level {level}: {len(kept):,} nodes")
    return [_saved(figure, folder, "levels")]


def confusion(
    folder: Path, target: Tensor, found: Tensor, names: Sequence[str] | None = None
) -> Path:
    """How often every class was taken for which."""
    classes = int(torch.cat([target, found]).max()) + 1
    counts = torch.bincount(target * classes + found, minlength=classes**2).view(classes, classes)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(3.5 + 0.35 * classes, 12)
    figure = _figure(side + 0.8, side)
    axes = figure.subplots()
    drawn = axes.imshow(share.numpy(), vmin=0, vmax=1, cmap="Blues")
    for i, j in np.ndindex(*counts.shape) if classes <= 20 else ():
        colour = "white" if share[i, j] > 0.5 else "black"
        axes.text(j, i, f"{int(counts[i, j]):,}", ha="center", va="center", color=colour, size=8)
    axes.set(xlabel="predicted class", ylabel="true class")
    if classes <= 20:
        labels = range(classes) if names is None else names[:classes]
        axes.set_xticks(range(classes), labels, rotation=0 if names is None else 45)
        axes.set_yticks(range(classes), labels)
    figure.colorbar(drawn, label="share of the true class", shrink=0.8)
    return _saved(figure, folder, "confusion")


def targets(folder: Path, y: Tensor, y_hat: Tensor) -> Path:
    """Predicted over true targets."""
    figure = _figure(5, 4.6)
    axes = figure.subplots()
    for i in range(min(y.size(1), 10)):
        axes.scatter(y[:, i], y_hat[:, i], s=8, alpha=0.6, label=f"target {i}")
    ends = [float(y.min()), float(y.max())]
    axes.plot(ends, ends, color="0.5", lw=1, ls="--")
    axes.set(xlabel="true value, in the units of the data", ylabel="predicted value")
    if y.size(1) > 1:
        axes.legend()
    return _saved(figure, folder, "targets")


def segmentation(folder: Path, shown: list[tuple[Data, Tensor]], num_classes: int) -> Path:
    """Input, truth and prediction of some graphs, as images where they are, else as points."""
    from matplotlib import colormaps

    figure = _figure(1.8 * len(shown) + 0.6, 5.6)
    grid = figure.subplots(3, len(shown), squeeze=False)
    colours = colormaps["tab20" if num_classes > 10 else "tab10"]
    x = torch.cat([graph.x for graph, _ in shown])
    low, high = x.amin(0), x.amax(0)  # one contrast for all: an empty tile shows as such
    for column, (graph, label) in enumerate(shown):
        truth = graph.y.float().masked_fill(graph.y == VOID, torch.nan)
        # One channel in grey; of more, the first three as colours.
        colour = (graph.x - low) / (high - low).clamp(min=1e-12)
        colour = colour[:, :3] if colour.size(1) >= 3 else colour[:, 0]
        rows = (("input", colour), ("truth", truth), ("prediction", label.float()))
        for row, (title, value) in enumerate(rows):
            axes = grid[row][column]
            style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
            if row:
                style = {"cmap": colours, "vmin": -0.5, "vmax": max(num_classes, 10) - 0.5}
            if "image_size" in graph:
                picture = to_label_image(value, graph)
                assert isinstance(picture, Tensor)
                axes.imshow(picture.numpy(), **style)
                axes.set(xticks=[], yticks=[])
            else:
                _scatter(axes, _seen_from(graph.pos.numpy()), c=value.numpy(), s=14, **style)
            if column == 0:
                axes.set_ylabel(title)
    return _saved(figure, folder, "predictions")


def embedding(path: Path, z: np.ndarray, y: np.ndarray | None) -> None:
    """Embeddings in the plane, coloured by label: t-SNE, or PCA of more than 5,000 rows."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    small = 10 < len(z) <= 5000
    flat = PCA(min(2, *z.shape)).fit_transform(z)
    if small and z.shape[1] > 2:
        flat = TSNE(init="pca", random_state=0, perplexity=min(30, len(z) // 4)).fit_transform(z)
    flat = np.column_stack([flat, np.zeros(len(flat))])[:, :2]
    figure = _figure(5.6, 5)
    axes = figure.subplots()
    classes: Any = () if y is None or y.dtype.kind not in "iub" else np.unique(y)
    named = 0 < len(classes) <= 10  # a colour and a name each; else a scale
    for value in classes if named else ():
        axes.scatter(*flat[y == value].T, s=8, label=str(value))
    drawn = None if named else axes.scatter(*flat.T, c=y, s=8)
    name = "t-SNE" if small and z.shape[1] > 2 else "principal component"
    axes.set(xlabel=f"{name} 1", ylabel=f"{name} 2")
    if named:
        axes.legend(title="label")
    elif drawn is not None and y is not None:
        figure.colorbar(drawn, label="label")
    _save(figure, path)
