"""Reconstructing the features of a citation graph at entries that were hidden.

A tenth of all entries of the feature matrix, drawn at random by the seed, is hidden from every
system; another twentieth is for choosing the epoch of trained systems. Features are raw words, 0 or
1, and the mean squared error is that of these. Recall@k: of the words hidden at a node, the share
among its k best-scored hidden entries, averaged over nodes that have one.

Columns: zero, the word's mean, PCA by expectation maximisation with the hidden entries missing
(training and validation entries are both known to it; as many components as ours has latent floats
per node; its number of iterations is chosen on the validation entries), the mean of the neighbours,
a GAE with a feature decoder (two convolutions to as many latent floats, a perceptron back), and
`GraphUNetAutoEncoder`, whose latent lies on a quarter of the nodes and has as many floats per input
node: with contracted levels and interpolation, the default, and with two-hop levels that lift by
zeros, as in the paper, and by propagation. The networks have one grid (dropout, and the share of
known entries that a training step leaves out); its best configuration by validation error on a seed
of the search (1000) goes to the seeds of the table. A run's epoch is that of best validation error.

Runs are lines of the CSV file and are not repeated: start again to resume.

    python benchmarks/feature_reconstruction.py --root data [--name Cora] [--seeds 5]
    python benchmarks/feature_reconstruction.py --root data --budget 240    # a slice of it
    python benchmarks/feature_reconstruction.py --root data --quick
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
from _common import parser, record, table, write_json
from _pca_em import pca_em
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCN, MLP
from torch_geometric.utils import scatter

from pyg_gunet import GraphUNetAutoEncoder
from pyg_gunet.data import load

RESULTS = Path(__file__).parent / "results" / "feature_reconstruction.csv"
FIELDS = (
    "name", "system", "config", "seed", "val", "mse", "recall5", "recall10", "epoch", "seconds"
)  # fmt: skip
FLOATS, HIDDEN_SHARE, VAL_SHARE, PATIENCE, SEARCH = 16, 0.10, 0.05, 50, 1000
GRID = [
    {"dropout": dropout, "left_out": share}
    for dropout, share in itertools.product((0.2, 0.5), (0.15, 0.5))
]
OURS: dict[str, dict[str, str]] = {
    "ours": {},
    "ours: two_hop, zero": {"connect": "two_hop", "lift": "zero"},
    "ours: two_hop, propagate": {"connect": "two_hop", "lift": "propagate"},
}
SYSTEMS = ("zero", "mean", "neighbours", "PCA", "GAE", *OURS)


class GAEFeatures(torch.nn.Module):
    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.encoder = GCN(features, 128, 2, FLOATS, act="elu", dropout=dropout, cached=True)
        self.decoder = MLP([FLOATS, 128, features], act="elu", norm=None, dropout=dropout)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.decoder(self.encoder(x, edge_index))


def learn(
    model: torch.nn.Module,
    x: Tensor,
    edge_index: Tensor,
    seen: Tensor,
    val: Tensor,
    epochs: int,
    left_out: float,
) -> tuple[Tensor, int]:
    """The reconstruction at the epoch that is best on `val`. Each step leaves out more entries, so
    that the model predicts what it has not read; inputs and targets are less the seen mean."""
    mean = torch.where(seen, x, 0.0).sum(0) / seen.sum(0).clamp(min=1)
    target = x - mean
    scale = target[seen].std()
    target, known, count = target / scale, seen.to(x.dtype), seen.sum()
    given = target * known
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best, out, at = float("inf"), mean.expand_as(x), 0
    for epoch in range(epochs):
        model.train()
        x_hat = model(given * (torch.rand_like(x) >= left_out), edge_index)
        loss = ((x_hat - target) * known).square().sum() / count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if epoch % 5 == 4 or epoch == epochs - 1:
            model.eval()
            with torch.no_grad():
                guess = model(given, edge_index) * scale + mean
            error = float((guess - x)[val].square().mean())
            if error < best:
                best, out, at = error, guess, epoch + 1
            elif epoch + 1 - at >= PATIENCE:
                break
    return out, at


def recall(guess: Tensor, x: Tensor, hidden: Tensor, k: int) -> float:
    scored = guess.masked_fill(~hidden, -torch.inf)
    top = scored.topk(k, dim=1).indices
    words = (x > 0) & hidden
    found = words.gather(1, top).sum(1)
    total = words.sum(1)
    there = total > 0
    return float((found[there] / total[there]).mean())


def pca_error(x: Tensor, seen: Tensor, val: Tensor, steps: int) -> float:
    return float((pca_em(x, seen, FLOATS, steps) - x)[val].square().mean())


def run(
    data: Data, system: str, config: dict[str, float], seed: int, epochs: int
) -> dict[str, Any]:
    """One run. Only one of the table, not one of the search, reads the hidden entries."""
    x, edge_index = data.x, data.edge_index
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(x.shape, generator=generator)
    hidden, val = draw < HIDDEN_SHARE, (draw >= HIDDEN_SHARE) & (draw < HIDDEN_SHARE + VAL_SHARE)
    known = ~hidden
    seen = known & ~val
    torch.manual_seed(seed)
    start, epoch, errors = time.process_time(), 0, {0: 0.0}
    if system == "zero":
        guess = torch.zeros_like(x)
    elif system == "mean":
        guess = (x * known).sum(0).div(known.sum(0).clamp(min=1)).expand_as(x)
    elif system == "neighbours":
        row, col = edge_index
        total = scatter((x * known)[row], col, 0, x.size(0))
        guess = total / scatter(known[row].to(x.dtype), col, 0, x.size(0)).clamp(min=1)
    elif system == "PCA":
        ladder = (1, 2) if epochs < 10 else (1, 2, 3, 5, 10, 20)
        errors = {steps: pca_error(x, seen, val, steps) for steps in ladder}
        epoch = min(errors, key=errors.__getitem__)
        guess = pca_em(x, known, FLOATS, steps=epoch)
    else:
        p = config["dropout"]
        model: torch.nn.Module = GAEFeatures(x.size(1), p)
        if system in OURS:
            words = OURS[system]
            model = GraphUNetAutoEncoder(x.size(1), 128, 4 * FLOATS, 2, 0.5, dropout=p, **words)
            edge_index = model.prepare(edge_index, num_nodes=x.size(0))
        guess, epoch = learn(model, x, edge_index, seen, val, epochs, config["left_out"])
    # The final PCA has read the validation entries: what it was chosen by is the value before.
    error = errors[epoch] if system == "PCA" else float((guess - x)[val].square().mean())
    row: dict[str, Any] = {"val": error, "epoch": epoch}
    if seed < SEARCH:
        row["mse"] = float((guess - x)[hidden].square().mean())
        row["recall5"], row["recall10"] = (recall(guess, x, hidden, k) for k in (5, 10))
    return {**row, "seconds": round(time.process_time() - start, 1)}


def read(path: Path, name: str) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row["name"] == name]


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--epochs", type=int, default=300)
    p.add_argument("--system", nargs="*", choices=SYSTEMS, default=SYSTEMS)
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    name, seeds = args.name or "Cora", args.seeds or (1 if args.quick else 5)
    path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    epochs = min(args.epochs, 3) if args.quick else args.epochs
    data = None if args.table else load(f"Planetoid/{name}", args.root or "data")[0]
    end = time.monotonic() + (float("inf") if args.budget is None else args.budget)

    def get(system: str, config: dict[str, float], seed: int) -> dict[str, Any] | None:
        """A run's line; None where it was not made and is not to be."""
        key = {"system": system, "config": json.dumps(config), "seed": str(seed)}
        for row in read(path, name):
            if key.items() <= row.items():
                return row
        if data is None or time.monotonic() > end:
            return None
        made = {"name": name, **key, **run(data, system, config, seed, epochs)}
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(made)
        print(system, key["config"], seed, f"val {made['val']:.6f} {made['seconds']:.0f} s",
              flush=True)  # fmt: skip
        return made

    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    chosen: dict[str, dict[str, float]] = {}
    for system in args.system:
        grid: list[dict[str, float]] = [{}] if system in SYSTEMS[:4] else GRID
        grid = grid[:1] if args.quick else grid
        found = [get(system, config, SEARCH) for config in grid] if len(grid) > 1 else [{"val": 0}]
        done = [(float(row["val"]), i) for i, row in enumerate(found) if row is not None]
        if len(done) == len(grid):
            chosen[system] = grid[min(done)[1]]
    for seed, system in itertools.product(range(seeds), chosen):
        line = get(system, chosen[system], seed)
        if line is not None:
            by[system].append(line)
    lines, records = [], []
    for system, own in by.items():
        cells: list[Any] = [system]
        for metric in ("mse", "recall5", "recall10"):
            values = [float(line[metric]) for line in own]
            mean, std = statistics.mean(values), statistics.stdev(values) if len(own) > 1 else 0.0
            cells.append(f"{mean:.5f} +- {std:.5f}")
            records.append(
                record("feature_reconstruction", name, system, metric, mean, std, len(own))
            )
        lines.append([*cells, len(own)])
    print(table(["system", "MSE, hidden entries", "recall@5", "recall@10", "seeds"], lines))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
