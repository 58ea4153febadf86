"""From a folder of pictures to label images: train on pictures with masks, then find the instances
in new ones.

    python nuclei.py --root DIR --new NEW_DIR --out labels

DIR holds ``images/`` and ``masks/`` of equal names, a number per nucleus in the masks and 0 between
them; NEW_DIR holds pictures of any size. ``labels/`` then holds a 16-bit PNG per picture, a table
of all nuclei (``instances.csv``: number, area, centre, box), and ``overlays/`` to look at.
Whole pictures are set aside to choose the epoch and to test; Otsu's threshold, which needs no
training, is scored on the same ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pyg_gunet.train import fit, predict


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--root", required=True, help="folder with images/ and masks/")
    p.add_argument("--new", required=True, help="folder of pictures to label")
    p.add_argument("--out", default="labels", help="folder of label images")
    p.add_argument("--run", default=None, help="folder of the trained run (default: none is kept)")
    p.add_argument("--epochs", type=int, default=30)
    args = p.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run" if args.run is None else Path(args.run)
        run = fit(f"images:{args.root}", "segment", folder, masks="instance", epochs=args.epochs)
        figures, base = run.figures, run.figures["baselines"]
        print(figures["split"])
        for name in ("ap50", "pq"):
            print(f"{name}: {figures[f'test_{name}']:.3f}, Otsu {base[f'Otsu {name}']:.3f}")
        shapes = predict(folder, args.out, dataset=f"images:{args.new}")
    print(f"wrote {len(shapes)} label images to {args.out}")


if __name__ == "__main__":
    main()
