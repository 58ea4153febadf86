"""Graph classification: folds, the training on one of them, and the table over them."""

from __future__ import annotations

import copy
import csv
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _classification_graphs import Config, make
from _common import record, table
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader

from pyg_gunet.data import load

EPOCHS, PATIENCE, BATCH, LR = 100, 25, 64, 0.01
FIELDS = (
    "name", "system", "seed", "fold", "config", "val", "val_loss", "epoch", "test", "seconds"
)  # fmt: skip


def graph_set(name: str, root: str) -> InMemoryDataset:
    """A TU set by its name."""
    return load(f"TU/{name}", root)


def folds(y: Tensor, seed: int, count: int = 10) -> list[tuple[Tensor, Tensor, Tensor]]:
    """``(train, val, test)`` indices of each fold, stratified: every graph is tested once. A tenth
    of what is left of a fold is for validation, or as much as there are classes."""
    from sklearn.model_selection import StratifiedKFold, train_test_split

    labels, out = y.numpy(), []
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for fold, (rest, test) in enumerate(splitter.split(labels, labels)):
        size = max(len(test), len(set(labels)))
        train, val = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=1000 * seed + fold
        )
        out.append((torch.as_tensor(train), torch.as_tensor(val), torch.as_tensor(test)))
    return out


def loaders(graphs: list[Data], parts: tuple[Tensor, Tensor, Tensor]) -> list[DataLoader]:
    train, *rest = ([graphs[int(i)] for i in part] for part in parts)
    # A last batch of one graph is a step on noise, and none that batch norm could take.
    last = len(train) % BATCH == 1 and len(train) > BATCH
    shuffled = DataLoader(train, BATCH, shuffle=True, drop_last=last)
    return [shuffled, *(DataLoader(part, 512) for part in rest)]


@torch.no_grad()
def read(model: torch.nn.Module, loader: Any) -> tuple[float, float]:
    """Accuracy in percent and mean loss."""
    model.eval()
    right, loss, count = 0, 0.0, 0
    for data in loader:
        out = model(data.x, data.edge_index, data.batch, data.num_graphs)
        loss += float(F.cross_entropy(out, data.y, reduction="sum"))
        right += int((out.argmax(1) == data.y).sum())
        count += data.num_graphs
    return 100 * right / count, loss / count


def train_fold(
    dataset: InMemoryDataset,
    system: str,
    configs: list[Config],
    parts: tuple[Tensor, Tensor, Tensor],
    seed: int,
    epochs: int,
) -> dict[str, Any]:
    """Trains every configuration of a system on one fold. Configuration and epoch are those of best
    validation accuracy, ties by validation loss; then the test part is read, once."""
    start, graphs = time.process_time(), list(dataset)
    features, classes = int(dataset.num_node_features), int(dataset.num_classes)
    best: tuple[float, float] = (-1.0, 0.0)
    state, row = None, {}
    for config in configs:
        torch.manual_seed(seed)
        model = make(system, config, features, classes)
        optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=1e-4)
        train, val, _ = loaders(graphs, parts)
        held = list(val)
        top, at = (-1.0, 0.0), 0
        for epoch in range(epochs):
            model.train()
            for data in train:
                out = model(data.x, data.edge_index, data.batch, data.num_graphs)
                optimizer.zero_grad()
                F.cross_entropy(out, data.y).backward()
                optimizer.step()
            accuracy, loss = read(model, held)
            if (accuracy, -loss) > top:
                top, at = (accuracy, -loss), epoch
                if top > best:
                    best, state = top, copy.deepcopy(model.state_dict())
                    row = {"config": config, "val": accuracy, "val_loss": loss, "epoch": epoch + 1}
            elif epoch - at >= PATIENCE:
                break
    model = make(system, row["config"], features, classes)
    model.load_state_dict(state)  # type: ignore[arg-type]
    row["test"] = read(model, loaders(graphs, parts)[2])[0]
    return {**row, "seconds": round(time.process_time() - start, 2)}


def read_rows(path: Path, name: str) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row["name"] == name]


def cross_validate(
    path: Path,
    name: str,
    dataset: InMemoryDataset,
    systems: dict[str, list[Config]],
    seeds: int,
    epochs: int,
    budget: float | None,
    count: int = 10,
) -> None:
    """One line of the file per fold and system, made where it is missing. `seeds` are repetitions
    of the whole cross-validation, each with folds of its own."""
    end = time.monotonic() + (float("inf") if budget is None else budget)
    keys = ("system", "seed", "fold")
    done = {tuple(row[key] for key in keys) for row in read_rows(path, name)}
    y = torch.cat([data.y.view(-1) for data in dataset])
    for seed in range(seeds):
        for fold, parts in enumerate(folds(y, seed)[:count]):
            for system, configs in systems.items():
                if (system, str(seed), str(fold)) in done or time.monotonic() > end:
                    continue
                row = train_fold(dataset, system, configs, parts, 100 * seed + fold, epochs)
                row = {"name": name, "system": system, "seed": seed, "fold": fold, **row}
                row["config"] = json.dumps(row["config"])
                path.parent.mkdir(parents=True, exist_ok=True)
                new = not path.exists()
                with path.open("a", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                shown = f"val {row['val']:.1f} epoch {row['epoch']} {row['seconds']:.1f} s"
                print(system, seed, fold, shown, flush=True)


def fold_table(
    rows: list[dict[str, str]], benchmark: str, name: str, ours: Sequence[str] = ()
) -> tuple[str, list[dict[str, Any]]]:
    """The table and the records: mean and deviation over folds. ``ours`` takes, in each fold, the
    one of the systems `ours` that is best on the validation part."""
    by: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by.setdefault(row["system"], []).append(row)
    chosen = []
    for seed, fold in dict.fromkeys((row["seed"], row["fold"]) for row in rows):
        own = [
            row
            for row in rows
            if row["system"] in ours and (row["seed"], row["fold"]) == (seed, fold)
        ]
        if ours and len(own) == len(ours):
            chosen.append(max(own, key=lambda row: (float(row["val"]), -float(row["val_loss"]))))
    if chosen:
        by["ours"] = chosen
    lines, records = [], []
    for system, own in by.items():
        tests, n = [float(row["test"]) for row in own], len(own)
        mean, std = statistics.mean(tests), statistics.stdev(tests) if n > 1 else 0.0
        val = statistics.mean(float(row["val"]) for row in own)
        lines.append([system, f"{val:.1f}", f"{mean:.1f} +- {std:.1f}", n])
        records.append(record(benchmark, name, system, "test_accuracy", mean, std, n))
        records.append(record(benchmark, name, system, "val_accuracy", val, None, n))
    return table(["system", "validation %", "test accuracy %", "folds"], lines), records
