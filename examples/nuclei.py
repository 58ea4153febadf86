"""From a folder of pictures to label images: train on pictures with masks, then find the instances
in new ones.

    python nuclei.py --root DIR --new NEW_DIR --out labels      # --quick: on squares made here

DIR holds ``images/`` and ``masks/`` of equal names, a number per nucleus in the masks and 0 between
them; NEW_DIR holds pictures of any size. ``labels/`` then holds a 16-bit PNG per picture, a table
of all nuclei (``instances.csv``: number, area, centre, box), and ``overlays/`` to look at.
Whole pictures are set aside to choose the epoch and to test, on which Otsu is scored, too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from skimage.io import imsave

from pyg_gunet.train import fit, predict


def squares(folder: Path) -> None:
    """Three pictures of four bright squares each, and their masks."""
    rng, mask = np.random.default_rng(0), np.zeros((32, 32), dtype=np.uint16)
    for number, (row, column) in enumerate(((2, 2), (2, 9), (20, 20), (22, 5)), start=1):
        mask[row : row + 7, column : column + 7] = number
    for name, (kind, noise) in [(n, k) for n in "abc" for k in (("images", 40), ("masks", 0))]:
        (folder / kind).mkdir(exist_ok=True)
        picture = (150 * (mask > 0) + rng.integers(0, noise, mask.shape)) if noise else mask
        picture = picture.astype(np.uint8) if noise else picture
        imsave(folder / kind / f"{name}.png", picture, check_contrast=False)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--root", help="folder with images/ and masks/")
    p.add_argument("--new", help="folder of pictures to label")
    p.add_argument("--out", default="labels", help="folder of label images")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--quick", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.quick:
            squares(Path(scratch))
            args.root, args.new, args.epochs = scratch, f"{scratch}/images", 2
            args.out = f"{scratch}/labels"
        run = fit(f"images:{args.root}", "segment", f"{scratch}/run", masks="instance",
                  epochs=args.epochs)  # fmt: skip
        figures, base = run.figures, run.figures["baselines"]
        for name in ("ap50", "pq"):
            print(f"{name}: {figures[f'test_{name}']:.3f}, Otsu {base[f'Otsu {name}']:.3f}")
        shapes = predict(f"{scratch}/run", args.out, dataset=f"images:{args.new}")
    print(f"wrote {len(shapes)} label images to {args.out}")


if __name__ == "__main__":
    main()
