"""A picture of 4,096 x 4,096 pixels, from the file to label image, table and overlay: seconds and
the most memory of the process. The network learns for a moment from small pictures of discs."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import in_child, record, table
from _segmentation_graphs import discs
from skimage.io import imsave

from pyg_gunet.train import fit, predict


def picture(folder: Path, name: str, label: np.ndarray, masked: bool) -> None:
    rng = np.random.default_rng(len(label))
    image = 120.0 * (label > 0) + rng.normal(60, 15, label.shape)
    for kind, pixels in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", label)):
        if kind == "images" or masked:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            pixels = pixels.astype(np.uint16 if kind == "masks" else np.uint8)
            imsave(folder / kind / f"{name}.tif", pixels, check_contrast=False)


def child(side: int) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for k in range(4):
            picture(folder / "old", str(k), discs(128, 6, k), True)
        # A few discs, drawn once, side by side.
        part = discs(256, 11, 9)
        many = np.tile(part, (-(-side // 256),) * 2)[:side, :side]
        picture(folder / "new", "large", many, False)
        del many
        fit(f"images:{folder / 'old'}", "segment", folder / "run", masks="instance", epochs=4)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        predict(folder / "run", folder / "labels", dataset=f"images:{folder / 'new'}")
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows = (folder / "labels" / "instances.csv").read_text().count("\n") - 1
    figures = {"seconds": seconds, "peak GB": peak / 2**20, "before GB": before / 2**20}
    print(json.dumps({**figures, "instances": rows}))


def run(quick: bool) -> list[dict[str, Any]]:
    """The records; prints a table."""
    side = 600 if quick else 4096
    found = in_child(__file__, str(side))
    case = f"{side} x {side}"
    print(table(["picture", *found], [[case, *(f"{value:.2f}" for value in found.values())]]))
    return [
        record("segmentation", "large picture", case, name, value) for name, value in found.items()
    ]


if __name__ == "__main__":
    child(int(sys.argv[1]))
