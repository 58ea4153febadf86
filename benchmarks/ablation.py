"""What each part of a Graph U-Net is good for: the network with one part taken out or exchanged.

The network is that of the paper: top-k selection, two-hop connectivity, skip connections that are
added; for graphs, a read-out of mean, maximum and sum of every level. The rows: without gPool and
gUnpool (all levels are the input graph), induced edges or walks in place of two-hop ones, no skip
connections, skips after the convolution with a stem (the official code), spread in place of top-k,
and for graphs a read-out whose levels are added up, or of the finest level alone. Width and depth
are the same in all rows (48 and 3 for nodes, 32 for graphs).

Nodes (``--task nodes``): Planetoid's public split. Of four configurations (dropout, weight decay)
the one of best mean validation accuracy over two seeds goes to the test seeds; epochs are chosen on
validation nodes, as in node_classification.py. Graphs (``--task graphs``): ten folds with an inner
split, two configurations (depth 2 or 3), as in graph_classification.py.

Each table is a CSV file, one line per run or fold; none is repeated: start again to resume.

    python benchmarks/ablation.py --task nodes --root data --name Cora --json FILE
    python benchmarks/ablation.py --task graphs --root data --name MUTAG --budget 240    # a slice
    python benchmarks/ablation.py --root data --quick                                    # both
    python benchmarks/ablation.py --table
"""

from __future__ import annotations

import functools
import itertools
import warnings
from pathlib import Path
from typing import Any

import torch
from _classification import Config, Row, Runs, run_all
from _classification_folds import EPOCHS as GRAPH_EPOCHS
from _classification_folds import cross_validate, fold_table, graph_set, read_rows
from _classification_graphs import FlatUNet
from _classification_nodes import SHARED, Prepared, Protocol, citation_graph, train
from _common import parser, write_json
from torch_geometric.data import Data

from pyg_gunet import GraphUNet, OfficialGraphUNet

RESULTS = Path(__file__).parent / "results"
PARTS: dict[str, dict[str, Any]] = {
    "all parts": {},
    "no gPool": {"flat": True},
    "induced": {"connect": "induced"},
    "walk": {"connect": "walk"},
    "no skips": {"sum_res": None},
    "skips after, stem": {"official": True},
    "spread": {"select": "spread"},
}
READOUTS: dict[str, dict[str, Any]] = {
    "read-out added up": {"readout": "sum"},
    "read-out of the finest": {"readout": "finest"},
}
FIXED = {"drop": "entries", "edge_dropout": 0.0, "consistent": False}
NODE_GRID = [
    {"dropout": dropout, "weight_decay": decay, **FIXED}
    for dropout, decay in itertools.product((0.5, 0.8), (5e-4, 1e-3))
]
GRAPH_GRID = [{"depth": depth, "dropout": 0.2} for depth in (2, 3)]
STAGES = ((4, 2),)
HIDDEN, DEPTH, RATIO = 48, 3, 0.5


def make(part: str, config: Config, data: Data) -> torch.nn.Module:
    """The untrained network for nodes."""
    own = {key: value for key, value in config.items() if key not in SHARED}
    sizes = data.num_features, HIDDEN, int(data.y.max()) + 1, DEPTH
    if own.pop("flat", False):
        return FlatUNet(*sizes, dropout=config["dropout"], cached=True)
    kind = OfficialGraphUNet if own.pop("official", False) else GraphUNet
    return Prepared(kind(*sizes, RATIO, dropout=config["dropout"], **own), data)


def nodes(args: Any, path: Path) -> tuple[str, list[dict[str, Any]]]:
    name, seeds = args.name or "Cora", args.seeds or (1 if args.quick else 10)
    data = None if args.table else citation_graph(name, args.root or "data")

    def run(part: str, config: Config, seed: int, final: bool) -> Row:
        assert data is not None
        model = functools.partial(make, part, config, data)
        return train(data, model, config, seed, final, Protocol(3) if args.quick else Protocol())

    runs = Runs(path, name, None if data is None else run, args.budget)
    grid, stages = (NODE_GRID[:1], ((1, 1),)) if args.quick else (NODE_GRID, STAGES)
    trials = {part: [{**options, **config} for config in grid] for part, options in PARTS.items()}
    return run_all(runs, trials, stages, seeds, "ablation")


def graphs(args: Any, path: Path) -> tuple[str, list[dict[str, Any]]]:
    name = args.name or "MUTAG"
    if not args.table:
        grid, count = (GRAPH_GRID[:1], 1) if args.quick else (GRAPH_GRID, 10)
        systems = {
            part: [{**config, "ratio": 0.8, **options} for config in grid]
            for part, options in {**PARTS, **READOUTS}.items()
        }
        epochs = 2 if args.quick else GRAPH_EPOCHS
        dataset = graph_set(name, args.root or "data")
        cross_validate(path, name, dataset, systems, args.seeds or 1, epochs, args.budget, count)
    return fold_table(read_rows(path, name), "ablation", name)


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--task", choices=("nodes", "graphs"), default=None, help="one table alone")
    p.add_argument("--csv", type=Path, default=None, help="one line per run or fold, with --task")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--table", action="store_true", help="print what the CSV files hold")
    args = p.parse_args()
    if (args.csv or args.name) and args.task is None:
        p.error("--csv and --name go with --task")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    records = []
    for task, make_table in (("nodes", nodes), ("graphs", graphs)):
        if args.task in (None, task):
            quick = "_quick" if args.quick else ""
            path = args.csv or RESULTS / f"ablation_{task}{quick}.csv"
            text, more = make_table(args, path)
            print(text)
            records += more
    if records:
        write_json(args.json, records)


if __name__ == "__main__":
    main()
