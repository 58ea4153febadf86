"""Masked auto-encoding of a citation graph, judged by a linear probe on the frozen embeddings.

Half the nodes' features are hidden by a token, hidden once more before a decoder of one
convolution, and predicted under the scaled cosine error. The settings are those that GraphMAE (Hou
et al. 2022) publishes for Cora (4 heads of graph attention, gamma 3, Adam at 1e-3, 5 percent of
hidden nodes replaced, dropout 0.2), but for: width 256; words as 0 and 1, in place of rows of sum
1, of which less was learnt in so few steps (by the validation nodes); and 200 steps at most.

The probe is multinomial logistic regression on the public split, on embeddings over their standard
deviation, as they are and after ten steps of personalised PageRank. The
validation nodes choose, for every system alike: the probe's epoch, with or without PageRank, the
training step (probed before training and every 20 steps; three probes without a better validation
accuracy, ties by loss, end it), and the connectivity of `ours`.

`plain GNN` is the same without a U: two attention layers, GraphMAE's encoder. `untrained` is `ours:
induced` before its first step, and `words` are the features themselves: what of the figure is due
to training, and to the probe and PageRank alone.

`links` hides links in place of features (`MaskedLinkEncoder`, after Bandana, Zhao et al. 2024), by
that paper's settings for the data set and its protocol: the step that tells held-out links best, no
label read, and a probe of 100 epochs, strongly decayed, of all layers side by side, of length 1.
`plain GNN` are its graph convolutions alone, `ours` the same convolutions and weights with all but
the first and last on a coarser level by restriction, contraction and prolongation.

Published, Cora and PubMed: Bandana 84.6, 83.5; GraphMAE 84.2, 81.1; DGI 82.3 on Cora. Runs are
lines of the CSV file and are not repeated; a run that is cut off goes on from its last checkpoint
with `--checkpoints DIR`, but for those of `links`, which run to their end.

    python benchmarks/masked_autoencoding.py --root data [--name Cora] [--seeds 5]
    python benchmarks/masked_autoencoding.py --root data --budget 240 --checkpoints DIR
    python benchmarks/masked_autoencoding.py --root data --quick
"""

from __future__ import annotations

import csv
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _common import merge_json, parser, record, table
from _masked_links import SETTINGS, train_links
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, GATConv

from pyg_gunet import GraphUNet, MaskedAutoEncoder
from pyg_gunet.data import load
from pyg_gunet.train.probe import probe

RESULTS = Path(__file__).parent / "results" / "masked_autoencoding.csv"
FIELDS = ("name", "system", "seed", "val", "val_loss", "test", "steps", "propagate", "seconds")
LINKS = ("links: ours", "links: plain GNN")
SYSTEMS = (*LINKS, "ours: two_hop", "ours: induced", "plain GNN", "untrained", "words")
GAMMA, MASK, REPLACE = 3.0, 0.5, 0.05
EVERY, PATIENCE = 20, 3  # steps between probes, and probes without a better one
SMOOTHING = (0, 10)  # steps of personalised PageRank


def attention(in_channels: int, out_channels: int) -> GATConv:
    """Four heads side by side; one for the decoder, as GraphMAE has it, whose width 4 may not
    divide."""
    heads = 4 if out_channels % 4 == 0 else 1
    return GATConv(in_channels, out_channels // heads, heads)


class Words(torch.nn.Module):
    """No network at all."""

    def embed(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return x


class Plain(torch.nn.Module):
    """Two attention layers in place of the U."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.in_channels = features
        self.convs = torch.nn.ModuleList([attention(features, hidden), attention(hidden, hidden)])

    def forward(self, x: Tensor, edge_index: Tensor, *_: None) -> Tensor:
        for conv in self.convs:
            x = torch.nn.functional.dropout(x, 0.2, self.training)
            x = torch.nn.functional.elu(conv(x, edge_index))
        return x


def make(system: str, features: int, hidden: int) -> torch.nn.Module:
    if system == "words":
        return Words()
    connect = "two_hop" if system == "ours: two_hop" else "induced"
    net = GraphUNet(
        features, hidden, hidden, 1, act="elu", connect=connect, conv=attention, dropout=0.2
    )
    model = MaskedAutoEncoder(net, MASK, REPLACE, GAMMA, attention)
    if system == "plain GNN":
        model.model = Plain(features, hidden)
    return model


def train(
    data: Data,
    system: str,
    seed: int,
    steps: int | None,
    hidden: int,
    end: float,
    keep: Path | None,
) -> dict[str, Any] | None:
    """A run's row; None where the time is spent before its end (the checkpoint is kept)."""
    if system in LINKS:
        return links(data, system, seed, steps)
    torch.manual_seed(seed)
    model = make(system, data.num_features, hidden)
    if system in ("untrained", "words"):
        return {**judge(model, data, seed), "steps": 0, "seconds": 0.0}
    steps = steps or 200
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=2e-4)
    first, spent = 0, 0.0
    best: dict[str, float] = {}
    if keep is not None and keep.exists():
        state = torch.load(keep, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent, best = state["step"], state["spent"], state["best"]
    start = time.process_time()
    if not best:
        best = {**judge(model, data, seed), "steps": 0}
    for step in range(first, steps):
        if time.monotonic() > end:
            if keep is not None:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state.update(step=step, spent=spent + time.process_time() - start, best=best)
                aside = keep.with_suffix(".part")
                torch.save(state, aside)
                os.replace(aside, keep)
            return None
        torch.manual_seed(seed * 1_000_003 + step)  # a resumed run repeats an unbroken one
        model.train()
        x_hat, mask = model(data.x, data.edge_index)
        optimizer.zero_grad()
        model.loss(x_hat, data.x, mask).backward()
        optimizer.step()
        if (step + 1) % EVERY and step + 1 < steps:
            continue
        found = judge(model, data, seed)
        if rank(found) > rank(best):
            best = {**found, "steps": step + 1}
        elif step + 1 - best["steps"] >= PATIENCE * EVERY:
            break
    if keep is not None and keep.exists():
        keep.unlink()
    return {**best, "seconds": round(spent + time.process_time() - start, 1)}


def judge(model: torch.nn.Module, data: Data, seed: int) -> dict[str, float]:
    """What a linear probe makes of the embeddings, in percent."""
    model.eval()
    with torch.no_grad():
        h = model.embed(data.x, data.edge_index)
    return read_out(h, data, seed, lambda z: z / z.std())


def links(data: Data, system: str, seed: int, steps: int | None) -> dict[str, Any]:
    """A run on masked links, to its end."""
    settings, unit = SETTINGS[str(data.name)], torch.nn.functional.normalize
    h, row = train_links(data, system == LINKS[0], seed, steps or 1000, settings)
    return {**read_out(h, data, seed, unit, settings.decay, (0,), 100), **row}


def read_out(
    h: Tensor,
    data: Data,
    seed: int,
    scaled: Callable[[Tensor], Tensor],
    decay: float = 1e-4,
    smoothing: Sequence[int] = SMOOTHING,
    epochs: int = 300,
) -> dict[str, float]:
    """The better probe of embeddings after so many steps of PageRank."""
    rows = []
    for steps in smoothing:
        z = scaled(APPNP(steps, 0.1)(h, data.edge_index))
        parts = data.y, data.train_mask, data.val_mask, data.test_mask
        found = probe(z, *parts, epochs=epochs, seed=seed, weight_decay=decay)
        rows.append(
            {
                "val": 100 * found["val_accuracy"],
                "val_loss": found["val_loss"],
                "test": 100 * found["test_accuracy"],
                "propagate": steps,
            }
        )
    return max(rows, key=rank)


def rank(row: dict[str, float]) -> tuple[float, float]:
    """By validation accuracy, ties by validation loss."""
    return row["val"], -row["val_loss"]


def read(path: Path, name: str) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row["name"] == name]


def append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def report(rows: list[dict[str, str]], name: str, json_path: str | None) -> None:
    lines, records, val = [], [], {}
    by: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by.setdefault(row["system"], []).append(row)
    for system, own in by.items():
        val[system] = statistics.mean(float(row["val"]) for row in own)
    ours = [system for system in val if system.startswith("ours")]
    if ours:
        chosen = max(ours, key=val.__getitem__)
        by["ours"], val["ours"] = by[chosen], val[chosen]
    for system, own in by.items():
        tests = [float(row["test"]) for row in own]
        mean, std = statistics.mean(tests), statistics.stdev(tests) if len(tests) > 1 else None
        steps = statistics.mean(float(row["steps"]) for row in own)
        test = f"{mean:.2f}" + ("" if std is None else f" +- {std:.2f}")
        lines.append([system, f"{val[system]:.2f}", test, len(tests), steps])
        records.append(
            record("masked_autoencoding", name, system, "probe_accuracy", mean, std, len(tests))
        )
    print(table(["system", "validation %", "test accuracy %", "seeds", "steps"], lines))
    merge_json(json_path, records)


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run")
    p.add_argument("--budget", type=float, default=None, help="stop after these seconds")
    p.add_argument("--checkpoints", type=Path, default=None, help="folder of unfinished runs")
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--steps", type=int, help="default: 200, of links at most 1,000")
    p.add_argument("--system", nargs="*", choices=SYSTEMS, default=SYSTEMS)
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    name, seeds = args.name or "Cora", args.seeds or (1 if args.quick else 5)
    if args.quick:
        args.steps, args.hidden = 3, min(args.hidden, 32)
    path = args.csv or (RESULTS.with_stem(RESULTS.stem + "_quick") if args.quick else RESULTS)
    end = time.monotonic() + (args.budget or float("inf"))
    if args.checkpoints is not None:
        args.checkpoints.mkdir(parents=True, exist_ok=True)
    data = None
    if not args.table:
        data = load(f"Planetoid/{name}", args.root or "data")[0]
        data.name = name
    for seed in range(seeds if data is not None else 0):
        for system in args.system:
            done = {(row["system"], row["seed"]) for row in read(path, name)}
            if (system, str(seed)) in done or time.monotonic() > end:
                continue
            slug = "".join(c if c.isalnum() else "-" for c in f"{name} {system} {seed}")
            keep = None if args.checkpoints is None else args.checkpoints / f"{slug}.pt"
            row = train(data, system, seed, args.steps, args.hidden, end, keep)
            if row is not None:
                append(path, {"name": name, "system": system, "seed": seed, **row})
                print(system, seed, f"val {row['val']:.1f} {row['seconds']:.0f} s", flush=True)
    report(read(path, name), name, args.json)


if __name__ == "__main__":
    main()
