"""What `pyg-gunet fit --task classify` reads with few labels, as it comes: the settings that the
package ships, seed by seed, beside logistic regression on the features alone and the majority
class.

Each run is a folder of the command's, in `--runs`; finished ones are read, not repeated.

    python benchmarks/default_classify.py --root data --name Cora --seeds 3
    python benchmarks/default_classify.py --root data --name PubMed --seeds 3
    python benchmarks/default_classify.py --root data --quick
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _common import merge_json, parser, record, table

from pyg_gunet.train import fit


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--runs", type=Path, default=None, help="folder of the runs")
    args = p.parse_args()
    name, seeds = args.name or "Cora", args.seeds or (1 if args.quick else 5)
    options: dict[str, Any] = {"epochs": 4} if args.quick else {}
    with tempfile.TemporaryDirectory() as aside:
        found = []
        for seed in range(seeds):
            folder = (args.runs or Path(aside)) / name / f"seed-{seed}"
            done = folder / "metrics.json"
            if not done.exists():
                more = {**options, "root": args.root or "data", "seed": seed}
                fit(f"Planetoid/{name}", "classify", folder, overwrite=folder.exists(), **more)
            found.append(json.loads(done.read_text()))
    records, cells = [], []
    for key, factor in (("val_accuracy", 100), ("test_accuracy", 100), ("seconds", 1)):
        values = [factor * figures[key] for figures in found]
        mean, spread = statistics.mean(values), statistics.stdev(values) if seeds > 1 else None
        records.append(record("default_classify", name, "pyg-gunet fit", key, mean, spread, seeds))
        cells.append(f"{mean:.1f}" + ("" if spread is None else f" +- {spread:.1f}"))
    for system, share in found[0]["baselines"].items():
        records.append(
            record("default_classify", name, system, "test_accuracy", 100 * share, None, 1)
        )
        cells.append(f"{100 * share:.1f}")
    head = ["data set", "validation %", "test %", "seconds", *found[0]["baselines"]]
    print(table(head, [[name, *cells]]))
    merge_json(args.json, records)


if __name__ == "__main__":
    main()
