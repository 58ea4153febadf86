"""Graph classification on a TU set: ten stratified folds, every choice made on an inner split.

Each fold's graphs are tested once. Of the others a tenth of the set, stratified, is for validation
and the rest for training. A system trains each of its configurations on that inner split; the
configuration and the epoch of best validation accuracy, ties by validation loss, are then read on
the test fold, once. All systems have the same number of configurations (depth 2 or 3, dropout 0.2
or 0.5), width (32), optimiser, epochs and patience.

Systems: GCN and GIN without pooling, mean, maximum and sum over their output; PyG's GraphUNet with
the same read-out; PyG's TopKPooling as in its example (mean and maximum per level, added up, as in
Cangea et al. 2018); and this package's `HierarchicalReadout` of a `GraphUNet`: mean, maximum and
sum of every level, per selection and connectivity. `ours` takes in each fold the one of these four
that is best on the validation split. Figures are means and deviations over folds.

With `--splits`, a file of Errica et al. 2020 (outer folds and an inner holdout), other networks run
in the same way (:mod:`_fair_nets`): one stem and one head for all, two configurations per system
(dropout 0.1 or 0.5), of which the one of better validation accuracy on the fold 0 is used in
all ten; one run per fold, of the few epochs of :mod:`_fair_runs`, where the paper has three of up
to 1,000. With `--runs 3` it is three, every fold chooses its dropout for itself, and networks are
wider and trained longer: by how much was chosen with `ours: levels` on the validation parts of four
folds, whose graphs other folds test. `no levels` is the control: the modules of `ours: levels`,
every level keeping every node. The epoch is chosen on the validation part; the test part is read
once a run. Trained weights are kept in `--states`, so that a run of the search is not done twice.

A line of the CSV file is one fold of one system; none is repeated: start again to resume. `--seeds`
repeats the cross-validation with other folds.

    python benchmarks/graph_classification.py --root data --name MUTAG --json FILE
    python benchmarks/graph_classification.py --root data --name PROTEINS --budget 240   # a slice
    python benchmarks/graph_classification.py --root data --quick
    python benchmarks/graph_classification.py --root data --name NCI1 --splits NCI1_splits.json
    python benchmarks/graph_classification.py --root data --name DD --splits FILE --runs 3
    python benchmarks/graph_classification.py --table   # --official, --official --runs 3
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from _classification_folds import EPOCHS, cross_validate, fold_table, graph_set, read_rows
from _common import merge_json, parser, write_json
from _fair_nets import SYSTEMS as OFFICIAL
from _fair_runs import RESULTS as OFFICIAL_CSV
from _fair_runs import official, official_table
from _runs import read

RESULTS = Path(__file__).parent / "results" / "graph_classification.csv"
OURS: dict[str, dict[str, Any]] = {
    f"ours: {select}, {connect}": {"select": select, "connect": connect}
    for select, connect in itertools.product(("topk", "spread"), ("two_hop", "walk"))
}
SYSTEMS: dict[str, dict[str, Any]] = {
    "GCN": {},
    "GIN": {},
    "PyG GraphUNet": {"ratio": 0.8},
    "PyG TopKPooling": {"ratio": 0.8},
    **{system: {"ratio": 0.8, **options} for system, options in OURS.items()},
}
GRID = [
    {"depth": depth, "dropout": dropout} for depth, dropout in itertools.product((2, 3), (0.2, 0.5))
]


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per fold and system")
    p.add_argument("--budget", type=float, default=None, help="start no fold after these seconds")
    p.add_argument("--system", nargs="*", choices=(*SYSTEMS, *OFFICIAL), help="some systems alone")
    p.add_argument("--splits", type=Path, default=None, help="official folds of Errica et al.")
    p.add_argument(
        "--official", action="store_true", help="with --table: that of the official folds"
    )
    p.add_argument("--states", type=Path, help="with --splits: folder of weights (ROOT/states)")
    p.add_argument(
        "--runs", type=int, default=1, help="with --splits: per fold; wider, longer from two on"
    )
    p.add_argument("--search", action="store_true", help="with --splits: read no test part")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    if args.runs < 1:
        p.error(f"'runs' must be at least 1 (got {args.runs})")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if args.splits or args.official:
        return with_splits(args)
    name, seeds = args.name or "MUTAG", args.seeds or 1
    path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    if not args.table:
        grid, count = (GRID[:1], 1) if args.quick else (GRID, 10)
        systems = {
            system: [{**config, **SYSTEMS[system]} for config in grid]
            for system in args.system or SYSTEMS
        }
        dataset = graph_set(name, args.root or "data")
        epochs = 2 if args.quick else EPOCHS
        cross_validate(path, name, dataset, systems, seeds, epochs, args.budget, count)
    text, records = fold_table(read_rows(path, name), "graph_classification", name, list(OURS))
    print(text)
    write_json(args.json, records)


def with_splits(args: argparse.Namespace) -> None:
    kept = OFFICIAL_CSV.with_stem("official_runs") if args.runs > 1 else OFFICIAL_CSV
    args.csv = args.csv or (OFFICIAL_CSV.with_stem("folds_quick") if args.quick else kept)
    names = [args.name or "NCI1"]
    if args.table:
        rows = read(args.csv)
        names = [args.name] if args.name else list(dict.fromkeys(row["name"] for row in rows))
    else:
        args.name, args.root = names[0], args.root or "data"
        rows = official(args, sys.executable)
    records = []
    for name in names:
        text, found = official_table(rows, name, kept.stem)
        print(f"\n{name}\n\n{text}")
        records += found
    merge_json(args.json, records)


if __name__ == "__main__":
    main()
