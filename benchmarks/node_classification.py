"""Node classification on a citation graph: the public split, every choice made on validation nodes.

Systems: GCN, GAT, PyG's GraphUNet and ours with each connectivity, beside `ours`: the one of our
variants whose search ends best on the validation nodes. Every system gets the same number of
configurations: the same grid of training (dropout, weight decay, plain or consistent) times as many
settings of its own. Consistent training is GRAND's (Feng et al. 2020, eqs. 5 to 7) for every
system alike: two passes under their own dropout must agree on all nodes, towards their sharpened
mean. Each configuration is trained on a few seeds of the search (1000 and up); the one of best mean
validation accuracy, ties by validation loss, goes to the test seeds (0 and up). A run's epoch is
that of best validation accuracy, ties by validation loss. Test nodes are read at that epoch, and by
no choice.

Runs are lines of the CSV file and are not repeated: start again to resume.

    python benchmarks/node_classification.py --root data --name Cora --json FILE    # hours
    python benchmarks/node_classification.py --root data --budget 240               # a slice of it
    python benchmarks/node_classification.py --root data --quick
    python benchmarks/node_classification.py --table
"""

from __future__ import annotations

import csv
import itertools
import json
import statistics
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import parser, record, table, write_json
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCN
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import GraphUNet
from pyg_gunet.datasets import load

RESULTS = Path(__file__).parent / "results" / "node_classification.csv"
FIELDS = ("name", "system", "config", "seed", "val", "val_loss", "epoch", "test", "seconds")
EPOCHS, LR, PATIENCE, SEARCH = 200, 0.01, 60, 1000
TRAINING = [
    {"dropout": dropout, "weight_decay": decay, "consistent": consistent}
    for dropout, decay, consistent in itertools.product((0.5, 0.8), (5e-4, 5e-3), (False, True))
]
# Two settings of its own for every system.
PLACED = {"stem": True, "residual": "output"}
OWN: dict[str, list[dict[str, Any]]] = {
    "GCN": [{"hidden": 32}, {"hidden": 64}],
    "GAT": [{"hidden": 8, "heads": 8}, {"hidden": 16, "heads": 8}],
    "PyG GraphUNet": [{"hidden": 32, "depth": 3}, {"hidden": 32, "depth": 1}],
    "ours: two_hop": [{"depth": 1, "propagate": 10}, {"depth": 2, "propagate": 0, **PLACED}],
    "ours: walk": [{"depth": 1, "propagate": 10}, {"depth": 2, "propagate": 0, **PLACED}],
    "ours: spread": [{"depth": 1, "propagate": 10}, {"depth": 2, "propagate": 0, **PLACED}],
}
OURS = [system for system in OWN if system.startswith("ours")]


def make(system: str, config: dict[str, Any], data: Data, classes: int) -> torch.nn.Module:
    """The untrained model of a system; its input is dropped out in :func:`logits`."""
    f, p = data.num_features, config["dropout"]
    if system == "GCN":
        return GCN(f, config["hidden"], 2, classes, dropout=p, cached=True)
    if system == "GAT":
        return GAT(
            f, config["hidden"] * config["heads"], 2, classes, dropout=p, v2=False, act="elu",
            heads=config["heads"],
        )  # fmt: skip
    if system == "PyG GraphUNet":
        ratios = [min(2000 / data.num_nodes, 0.9), 0.5, 0.5][: config["depth"]]
        return PyGGraphUNet(f, config["hidden"], classes, config["depth"], ratios)
    own = {k: v for k, v in config.items() if k not in TRAINING[0]}
    kind = system.removeprefix("ours: ")
    return GraphUNet(
        f,
        32,
        classes,
        own.pop("depth"),
        0.5,
        act="elu",
        select="spread" if kind == "spread" else "topk",
        connect="walk" if kind == "walk" else "two_hop",
        dropout=p,
        cached=True,
        **own,
    )


def logits(model: torch.nn.Module, x: Tensor, edge_index: Tensor, dropout: float) -> Tensor:
    return model(F.dropout(x, dropout, model.training), edge_index).log_softmax(-1)


def consistency(outs: list[Tensor]) -> Tensor:
    """The mean squared distance of predictions to their sharpened mean, which is held fixed."""
    probability = torch.stack([out.exp() for out in outs])
    target = probability.mean(0).detach().square()
    target = target / target.sum(-1, keepdim=True)
    return (probability - target).square().sum(-1).mean()


def train(
    data: Data, system: str, config: dict[str, Any], seed: int, epochs: int
) -> dict[str, float]:
    torch.manual_seed(seed)
    classes = int(data.y.max()) + 1
    model = make(system, config, data, classes).to(data.x.device)
    optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=config["weight_decay"])
    passes, p = 2 if config["consistent"] else 1, config["dropout"]
    best: tuple[float, float] = (-1.0, 0.0)
    row: dict[str, float] = {}
    start = time.process_time()
    for epoch in range(epochs):
        model.train()
        outs = [logits(model, data.x, data.edge_index, p) for _ in range(passes)]
        loss = torch.stack(
            [F.nll_loss(out[data.train_mask], data.y[data.train_mask]) for out in outs]
        ).mean()
        if passes > 1:
            loss = loss + min(1.0, epoch / 50) * consistency(outs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            out = logits(model, data.x, data.edge_index, p)
        val_loss = float(F.nll_loss(out[data.val_mask], data.y[data.val_mask]))
        right = out.argmax(1) == data.y
        val = 100 * float(right[data.val_mask].double().mean())
        if (val, -val_loss) > best:
            best = (val, -val_loss)
            test = 100 * float(right[data.test_mask].double().mean())
            row = {"val": val, "val_loss": val_loss, "epoch": epoch + 1, "test": test}
        elif epoch + 1 - row["epoch"] >= PATIENCE:
            break
    return {**row, "seconds": round(time.process_time() - start, 1)}


class Runs:
    """The runs of one data set, kept in a CSV file."""

    def __init__(self, path: Path, name: str, data: Data | None, epochs: int, budget: float | None):
        self.path, self.name, self.data, self.epochs = path, name, data, epochs
        self.end = None if budget is None else time.monotonic() + budget
        self.rows: dict[tuple[str, str, int], dict[str, float]] = {}
        if path.exists():
            with path.open() as file:
                for row in csv.DictReader(file):
                    if row["name"] == name:
                        key = row["system"], row["config"], int(row["seed"])
                        self.rows[key] = {f: float(row[f]) for f in FIELDS[4:]}

    def get(self, system: str, config: dict[str, Any], seed: int) -> dict[str, float] | None:
        """A run's figures; None where it was not made and the budget is spent."""
        key = system, json.dumps(config), seed
        late = self.end is not None and time.monotonic() > self.end
        if key not in self.rows and not late and self.data is not None:
            row = train(self.data, system, config, seed, self.epochs)
            self.rows[key] = row
            new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(FIELDS)
                writer.writerow([self.name, *key, *(row[f] for f in FIELDS[4:])])
            shown = f"val {row['val']:.1f} epoch {row['epoch']:.0f} {row['seconds']:.0f} s"
            print(system, key[1], seed, shown, flush=True)
        return self.rows.get(key)


def search(runs: Runs, system: str, seeds: int) -> tuple[dict[str, Any], float, float] | None:
    """The configuration of best mean validation accuracy, with it and minus the mean loss."""
    found = []
    # One seed of every configuration first: a slice that ends early has seen them all.
    for seed in range(SEARCH, SEARCH + seeds):
        for own, training in itertools.product(OWN[system], TRAINING):
            runs.get(system, {**own, **training}, seed)
    for own, training in itertools.product(OWN[system], TRAINING):
        config = {**own, **training}
        rows = [runs.get(system, config, SEARCH + i) for i in range(seeds)]
        done = [row for row in rows if row is not None]
        if len(done) < seeds:
            return None
        val = statistics.mean(row["val"] for row in done)
        found.append((config, val, -statistics.mean(row["val_loss"] for row in done)))
    return max(found, key=lambda item: item[1:])


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--search-seeds", type=int, default=2, help="seeds per configuration")
    p.add_argument("--system", nargs="*", choices=tuple(OWN), help="some systems alone")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    name, seeds = args.name or "Cora", args.seeds or (1 if args.quick else 20)
    csv_path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    data = None
    if not args.table:
        data = load(f"Planetoid/{name}", args.root or "data")[0]
        data.x = data.x / data.x.sum(dim=1, keepdim=True).clamp(min=1)
    runs = Runs(csv_path, name, data, 3 if args.quick else EPOCHS, args.budget)
    search_seeds = 1 if args.quick else args.search_seeds
    lines, records, chosen = [], [], {}
    tests: dict[str, list[float]] = defaultdict(list)
    for system in args.system or OWN:
        choice = search(runs, system, search_seeds)
        if choice is None:
            lines.append([system, "search not finished", "", "", 0])
            continue
        chosen[system] = choice
        for seed in range(seeds):
            row = runs.get(system, choice[0], seed)
            if row is not None:
                tests[system].append(row["test"])
    if all(system in chosen for system in OURS):
        best = max(OURS, key=lambda system: chosen[system][1:])
        chosen["ours"], tests["ours"] = chosen[best], tests[best]
    for system, (config, val, _) in chosen.items():
        values = tests[system]
        if not values:
            continue
        mean, std = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        text = json.dumps(config)
        lines.append([system, text, f"{val:.1f}", f"{mean:.2f} +- {std:.2f}", len(values)])
        case = name
        records.append(
            record("node_classification", case, system, "test_accuracy", mean, std, len(values))
        )
        records.append(
            record("node_classification", case, system, "search_val_accuracy", val, None,
                   search_seeds)
        )  # fmt: skip
        records.append(
            record("node_classification", case, system, "configuration", text, None, None)
        )
    print(table(["system", "chosen", "validation %", "test accuracy %", "seeds"], lines))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
