"""A day of a network of stations on the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure  # without pyplot: no window, no global state
from torch import Tensor


def draw_map(
    path: Path, pos: Tensor, truth: Tensor, observed: Tensor, seen: Tensor, filled: Tensor
) -> None:
    """One day of a network of stations on the map: truth, what was seen, filled in.

    Args:
        path (Path): The picture.
        pos (Tensor): Places on the unit sphere, [N, 3].
        truth (Tensor): Readings, [N].
        observed (Tensor): Which stations read something, [N].
        seen (Tensor): Which of them were not hidden, [N].
        filled (Tensor): What the network says of all stations, [N].
    """
    lat = pos[:, 2].clamp(-1, 1).asin().rad2deg().numpy()
    middle = pos.mean(0)  # longitudes around the middle of the network: no cut at the date line
    centre = torch.atan2(middle[1], middle[0])
    lon = torch.atan2(pos[:, 1], pos[:, 0]) - centre
    lon = torch.rad2deg(torch.atan2(lon.sin(), lon.cos()) + centre)
    east = lon.numpy()
    there, heard = observed.numpy(), seen.numpy()
    value = truth.numpy()
    low, high = float(value[there].min()), float(value[there].max())
    figure = Figure(figsize=(12, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    style = {"vmin": low, "vmax": high, "cmap": "coolwarm", "s": 28, "edgecolors": "0.3", "lw": 0.4}
    axes[0].scatter(east[there], lat[there], c=value[there], **style)
    axes[1].scatter(east[~heard], lat[~heard], c="none", s=28, edgecolors="0.7", lw=0.4)
    axes[1].scatter(east[heard], lat[heard], c=value[heard], **style)
    whole = np.where(heard, value, filled.numpy())
    drawn = axes[2].scatter(east, lat, c=whole, **style)
    stretch = 1 / max(float(np.cos(np.deg2rad(lat.mean()))), 0.1)
    for panel, title in zip(axes, ("truth", "seen", "filled in")):
        panel.set(title=title, xlabel="longitude", aspect=stretch)
    axes[0].set_ylabel("latitude")
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    figure.savefig(path)
