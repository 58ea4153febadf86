"""Minesweeper (Platonov et al. 2023): which of the four words pays where a node's class hangs on
nodes far away? Area under the ROC curve, ten official masks.

The protocol is that of MaxCutPool (Abate and Bianchi 2025): one message-passing layer (GIN, width
32), a pooling that keeps half, one layer below, lifting, one layer, a perceptron; dropout 0.1, Adam
at 5e-4, 20,000 epochs at most, patience 2,000 on the validation loss, whose best epoch is read on
the test nodes, once. Published: top-k 94, MaxCutPool 96 to 97, NDP 98; flat GCN of 12 layers 97.9.

The first three cannot be compared with the last, which is of test nodes: the code that its authors
released (NGMLGroup/MaxCutPool, `source/pl_modules/node_classification_module.py`) takes the
training nodes of a mask for its validation and for its test nodes, too, wherever a mask is named,
as its configuration does. `--released` does the same, so that like is set beside like: those rows
tell how well a network learns by heart. All others tell of nodes that it has not seen.

Rows are the four words `select, reduce, connect, lift`, first those of the paper's way between
levels and of this package's, then the latter with one word changed; each without skip connections
and with them. `flat` is the same network without pooling. `GCN, 12 layers` is the strong flat one
(Luo et al. 2024: width 64, residual, batch norm, Adam at 0.01, dropout 0.2, 2,000 epochs). `deep`
is this package's levels at depth 3 with batch norm, width 64, Adam at 5e-3.

A line of the CSV file is one run of one mask, its key the whole configuration; none is repeated:
start again to resume. With `--validation` no test node is read: for what is chosen. On one core a
step of a row of one level takes about 0.05 s, of `deep` 0.14 s, of the flat GCN 0.4 s: at the cap
the ten masks take 45 hours of it, with `--epochs 2000 --lr 5e-3` eight.

    python benchmarks/minesweeper.py --root data --budget 3600
    python benchmarks/minesweeper.py --root data --epochs 2000 --lr 5e-3   # a reduced budget
    python benchmarks/minesweeper.py --root data --quick
    python benchmarks/minesweeper.py --table
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _classification import LEVELS as OURS
from _classification import PAPER, Config, Row, Runs, levels
from _common import parser, record, table, write_json
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import HeterophilousGraphDataset
from torch_geometric.nn import MLP, BatchNorm, GINConv, Linear
from torchmetrics.functional.classification import binary_auroc

from pyg_gunet import GraphUNet
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.nn.conv import UNetConv

RESULTS = Path(__file__).parent / "results" / "minesweeper.csv"
WORDS = (
    *(PAPER, "topk, keep, induced, zero", OURS),
    *("topk, mean, contract, interpolate", "spread, keep, contract, interpolate"),
    *("spread, mean, induced, interpolate", "spread, mean, contract, zero"),
)
SKIPS = {"none": None, "sum": True}
SYSTEMS = ("flat", "GCN, 12 layers", *WORDS, "deep")
PUBLISHED: Config = {"hidden": 32, "dropout": 0.1, "lr": 5e-4, "epochs": 20_000, "patience": 2_000}
EVERY = 5


def configurations(system: str) -> list[Config]:
    """Those of a system, by skip connections where it has levels."""
    if system == "GCN, 12 layers":
        return [{"hidden": 64, "dropout": 0.2, "lr": 1e-2, "epochs": 2_000, "patience": 2_000}]
    if system == "deep":
        own = {**PUBLISHED, "hidden": 64, "lr": 5e-3, "epochs": 2_000, "depth": 3}
        return [{**own, "skips": skips} for skips in SKIPS]
    return [{**PUBLISHED, "skips": skips} for skips in (["none"] if system == "flat" else SKIPS)]


def gin(in_channels: int, out_channels: int) -> GINConv:
    return GINConv(MLP([in_channels, out_channels, out_channels], act="elu", norm=None))


class UNet(torch.nn.Module):
    """Levels by the four words, and a perceptron on the nodes. `graph` is prepared where levels
    hang on the graph alone."""

    def __init__(self, data: Data, words: str, depth: int, config: Config, norm: str | None):
        super().__init__()
        hidden, p = config["hidden"], config["dropout"]
        sizes = data.num_features, hidden, hidden, depth, 0.5, SKIPS[config["skips"]], "elu"
        self.net = GraphUNet(*sizes, conv=gin, norm=norm, **levels(words, still=True))
        self.graph: Any = data.edge_index
        if self.net.structural:
            self.graph = self.net.prepare(data.edge_index, num_nodes=data.num_nodes)
        self.head = MLP([hidden, hidden, 1], act="elu", dropout=p, norm=None)
        self.dropout = p

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.net(x, self.graph))
        return self.head(F.dropout(x, self.dropout, self.training)).view(-1)


class Flat(torch.nn.Module):
    """Layers on the graph as it is; `residual` gives each a linear map beside it and batch norm."""

    def __init__(self, data: Data, convs: list[torch.nn.Module], config: Config, residual: bool):
        super().__init__()
        hidden, p = config["hidden"], config["dropout"]
        sizes = [data.num_features] + [hidden] * (len(convs) - 1)
        self.convs = torch.nn.ModuleList(convs)
        self.roots, self.norms = torch.nn.ModuleList(), torch.nn.ModuleList()
        if residual:
            self.roots.extend(Linear(size, hidden) for size in sizes)
            self.norms.extend(BatchNorm(hidden) for _ in sizes)
        self.edge_index: Any = data.edge_index
        if residual:
            self.edge_index = Adjacency.from_edge_index(data.edge_index, None, data.num_nodes)
        self.head = (
            Linear(hidden, 1)
            if residual
            else MLP([hidden, hidden, 1], act="elu", dropout=p, norm=None)
        )
        self.dropout = p

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            h = conv(x, self.edge_index)
            x = F.relu(self.norms[i](h + self.roots[i](x))) if self.roots else F.elu(h)
            if self.roots or i == len(self.convs) - 1:
                x = F.dropout(x, self.dropout, self.training)
        return self.head(x).view(-1)


def make(system: str, config: Config, data: Data) -> torch.nn.Module:
    """The untrained model of a system."""
    hidden = config["hidden"]
    if system == "flat":
        sizes = [data.num_features, hidden, hidden, hidden]
        return Flat(data, [gin(i, o) for i, o in zip(sizes, sizes[1:])], config, False)
    if system == "GCN, 12 layers":
        sizes = [data.num_features] + [hidden] * 11
        return Flat(data, [UNetConv(size, hidden) for size in sizes], config, True)
    words, norm = (OURS, "BatchNorm") if system == "deep" else (system, None)
    return UNet(data, words, config.get("depth", 1), config, norm)


def train(data: Data, system: str, config: Config, mask: int, seed: int, final: bool) -> Row:
    """One run, its epoch that of lowest validation loss; the area under the curve in percent."""
    torch.manual_seed(seed)
    model, y = make(system, config, data), data.y.float()
    seen, val, test = (data[f"{part}_mask"][:, mask] for part in ("train", "val", "test"))
    if config.get("released"):
        val = test = seen
    optimizer = torch.optim.Adam(model.parameters(), config["lr"])
    best, at, state = float("inf"), 0, None
    start = time.process_time()
    for epoch in range(config["epochs"]):
        model.train()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(data.x)[seen], y[seen]).backward()
        optimizer.step()
        if epoch % EVERY != EVERY - 1 and epoch != config["epochs"] - 1:
            continue
        model.eval()
        with torch.no_grad():
            loss = float(F.binary_cross_entropy_with_logits(model(data.x)[val], y[val]))
        if loss < best:
            best, at, state = loss, epoch, copy.deepcopy(model.state_dict())
        elif epoch - at >= config["patience"]:
            break
    if state is None:
        raise RuntimeError(f"{system}: the validation loss was never a number")
    seconds = round(time.process_time() - start, 1)
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        out = model(data.x)
    row: Row = {"val": area(out, data.y, val), "val_loss": best, "epoch": at + 1, "test": None}
    if final:
        row["test"] = area(out, data.y, test)
    return {**row, "seconds": seconds}


def area(out: Tensor, y: Tensor, mask: Tensor) -> float:
    return 100 * float(binary_auroc(out[mask], y[mask]))


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--system", nargs="*", choices=SYSTEMS, help="some systems alone")
    p.add_argument("--skips", choices=tuple(SKIPS), default=None, help="without, or with, alone")
    p.add_argument("--epochs", type=int, default=None, help="a reduced budget, for every system")
    p.add_argument("--lr", type=float, default=None, help="another step size, for every U-Net")
    p.add_argument("--released", action="store_true", help="score training nodes, as released")
    p.add_argument("--validation", action="store_true", help="read no test node")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    masks, epochs = args.seeds or (1 if args.quick else 10), 3 if args.quick else args.epochs
    path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    data = None
    if not args.table:
        data = HeterophilousGraphDataset(args.root or "data", "Minesweeper")[0]

    def run(system: str, config: Config, seed: int, final: bool) -> Row:
        assert data is not None
        return train(data, system, config, seed % 1000, seed, final)

    runs = Runs(path, "Minesweeper", None if data is None else run, args.budget)
    tests: dict[tuple[str, str], list[Row]] = {}
    first = 1000 if args.validation else 0
    for mask in range(first, first + masks):
        for system in args.system or SYSTEMS:
            for config in configurations(system):
                if args.skips and config.get("skips", args.skips) != args.skips:
                    continue
                config["epochs"] = min(config["epochs"], epochs or config["epochs"])
                if args.released:
                    config["released"] = True
                if args.lr is not None and system != "GCN, 12 layers":
                    config["lr"] = args.lr
                row = runs.get(system, config, mask)
                if row is not None:
                    tests.setdefault((system, json.dumps(config)), []).append(row)
    text, records = report(tests)
    print(text)
    if records:
        write_json(args.json, records)


def report(tests: dict[tuple[str, str], list[Row]]) -> tuple[str, list[dict[str, Any]]]:
    """The table and the records."""
    lines, records = [], []
    for (system, text), rows in tests.items():
        config, means = json.loads(text), {}
        if system not in ("flat", "GCN, 12 layers"):
            system = f"{system}; skips: {config['skips']}"
        if config.get("released"):
            system += "; training nodes, as released"
        for key in ("val", "epoch", "seconds", "test"):
            values = [row[key] for row in rows if row[key] is not None]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                means[key] = statistics.mean(values), spread, len(values)
        for key, (mean, spread, count) in means.items():
            records.append(
                record("minesweeper", text, system, key, mean, spread if count > 1 else None, count)
            )
        shown = [
            f"{means[key][0]:.2f} +- {means[key][1]:.2f}" for key in ("val", "test") if key in means
        ]
        shown += [""] * (2 - len(shown))
        lines.append(
            [system, *shown, len(rows), *(f"{means[k][0]:.0f}" for k in ("epoch", "seconds"))]
        )
    header = ["system", "validation area %", "test area %", "masks", "epoch", "seconds"]
    return table(header, lines), records


if __name__ == "__main__":
    main()
