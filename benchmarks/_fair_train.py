"""One run on an official fold: a system, a configuration, a fold. A process of its own can do it:
what PyG's GraphUNet multiplies on a CPU is never freed."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _classification import measure
from _fair_kernel import Kernel
from _fair_nets import DEPTH, KERNEL, RATIO, make, prepared
from _fair_splits import read_splits
from _runs import serve
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet import validation
from pyg_gunet.data import load
from pyg_gunet.transforms import Coarsen

# Orders of the training graphs that are batched; epochs take them in turns, which saves most of the
# time of batching. The weights that are read are an average over some 1 / (1 - DECAY) steps.
ORDERS, DECAY = 3, 0.98
LR, WEIGHT_DECAY = 0.01, 1e-4
BLIND_EPOCHS = 4  # times as many for the network that reads no edge: they cost next to nothing
DROPOUT, PENALTY = (0.1, 0.5), (1.0, 10.0)  # two configurations of a network, of the kernel


@lru_cache(maxsize=3)
def graphs(root: str, name: str, connect: str | None) -> tuple[list[Data], int, int]:
    """The set as a list, with levels where `connect` says of which kind, its numbers of features
    and of classes. Levels are made once and kept beside the set."""
    dataset = load(f"TU/{name}", root)
    sizes = int(dataset.num_node_features), int(dataset.num_classes)
    if connect is None:
        return list(dataset), *sizes
    path = Path(root, f"{name}-{connect}-{DEPTH}-{RATIO}.pt")
    if not path.exists():
        start, coarsen = time.process_time(), Coarsen(DEPTH, RATIO, connect)
        torch.save(coarsen.all(dataset), path)
        print(f"levels of {name}, {connect}: {time.process_time() - start:.1f} s", flush=True)
    return torch.load(path, weights_only=False), *sizes


@lru_cache(maxsize=1)
def kernel(root: str, name: str) -> Kernel:
    return Kernel(graphs(root, name, None)[0])


def batches(graphs: Sequence[Data], size: int, **options: bool) -> list[Data]:
    """Batches by PyG's loader; each holds its levels, where there are any, ready for use."""
    made = list(DataLoader(graphs, size, **options))  # type: ignore[arg-type]
    for data in made:
        if "level_size" in data:
            data.levels = data.hierarchy()
    return made


def fit(
    model: torch.nn.Module, train: Sequence[Data], val: Sequence[Data], run: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """AdamW with one cycle of the learning rate; the average of the weights is read after every
    epoch, and that of best validation accuracy stays, ties by validation loss."""
    size = max(len(train) // run["steps"], 2)
    orders = [batches(train, size, shuffle=True, drop_last=True) for _ in range(ORDERS)]
    held = batches(val, 256)
    average = copy.deepcopy(model)
    new, old = ([*m.parameters(), *_floating(m.buffers())] for m in (model, average))
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=WEIGHT_DECAY, fused=True)
    epochs = run["epochs"] * (BLIND_EPOCHS if run["system"] == "structure-blind" else 1)
    total = epochs * len(orders[0])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total, pct_start=0.2)
    best, found, state = (-1.0, 0.0), dict[str, Any](), dict[str, Any]()
    for epoch in range(epochs):
        model.train()
        order = orders[epoch % ORDERS]
        random.shuffle(order)
        for data in order:
            loss = F.cross_entropy(model(data), data.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(old, new, 1 - DECAY)
        accuracy, val_loss = measure(average, held)
        if (accuracy, -val_loss) > best:
            best, state = (accuracy, -val_loss), copy.deepcopy(average.state_dict())
            found = {"val": accuracy, "val_loss": val_loss, "epoch": epoch + 1}
    return found, state


def _floating(buffers: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def work(run: dict[str, Any]) -> dict[str, Any]:
    """Trains, or takes what the same run has trained before; reads the test part if `final`."""
    start = time.process_time()
    data, features, classes = graphs(run["root"], run["name"], prepared(run["system"]))
    fold = read_splits(run["splits"], len(data))[run["fold"]]
    if run["system"] == KERNEL:
        machine, penalty = kernel(run["root"], run["name"]), PENALTY[run["config"]]
        found = {"val": machine.accuracy(fold.train, fold.val, penalty)}
        if run["final"]:
            found["test"] = machine.accuracy(fold.train, fold.test, penalty)
        return {**found, "seconds": round(time.process_time() - start, 1)}
    train, val, test = ([data[i] for i in part] for part in fold)
    dropout = run.get("dropout", DROPOUT[run["config"]])
    seed = run["fold"] + 10 * run["run"]
    torch.manual_seed(seed)
    random.seed(seed)
    model = make(
        run["system"], features, classes, run["width"], dropout, run["stem"], run["counts"]
    )
    what = "{name}-{system}-{fold}-{config}-{width}-{stem}-{epochs}-{steps}-{counts}-{run}.pt"
    what = what.format(**run)
    path = Path(run["states"], what.replace(" ", "_").replace(":", ""))
    with validation(False):
        if path.exists():
            found, state = torch.load(path, weights_only=True)
        else:
            found, state = fit(model, train, val, run)
            found["seconds"] = round(time.process_time() - start, 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save((found, state), path)
        if run["final"]:
            model.load_state_dict(state)
            found["test"] = measure(model, batches(test, 256))[0]
    return {**found, "parameters": sum(p.numel() for p in model.parameters())}


if __name__ == "__main__":
    serve(work)
