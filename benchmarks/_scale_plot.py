"""The plot of the scale benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(
    records: list[dict[str, Any]],
    systems: tuple[str, ...],
    edges: dict[str, int],
    hidden: int,
    path: Path,
) -> None:
    """Step time over edges, on both axes' logarithms."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    walk = {
        int(r["case"].split()[1]): r["value"]
        for r in records
        if r["case"].startswith("slope ") and (r["system"], r["metric"]) == ("walk", "seconds")
    }
    if walk:
        axes.plot(list(walk), list(walk.values()), "o-", label="walk, depth 3, hidden 32")
    for system in systems:
        points = {
            edges[r["case"].split()[1]]: r["value"]
            for r in records
            if r["case"].startswith("unet ") and r["system"] == system and r["metric"] == "seconds"
        }
        if points:
            label = f"{system}, depth 3, hidden {hidden}"
            axes.plot(list(points), list(points.values()), "s--", label=label)
    axes.set(xscale="log", yscale="log", xlabel="directed edges", ylabel="seconds per step")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
