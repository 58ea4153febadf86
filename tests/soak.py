"""``python -m tests.soak [--minutes 60]``: one process at work for an hour.

Round after round, on graphs that change, it trains every task, reads a run back, fits a critic,
makes levels and keeps scores. After the first tenth of the time, memory may grow by `LIMIT` MB at
most and no file handle may stay open; the first round, repeated at the end, must give its figures
again. Prints a line per round; exit status 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet import Coarsen, GraphUNet, KLCritic, SegmentationMetrics, fit_critic
from pyg_gunet.data import GraphDataset
from pyg_gunet.train import TASKS, embed, evaluate, fit
from tests.memory import resident

LIMIT = 20.0
SMALL = {"hidden_channels": 8, "depth": 2, "epochs": 3, "accelerator": "cpu"}
MANY = {"batch_size": 6}
WORK: dict[str, Callable[[int, Path], dict[str, Any]]] = {}


def graph(generator: torch.Generator, low: int, high: int) -> Data:
    """A ring with chords, of random size; classes by the first feature."""
    n = int(torch.randint(low, high, (1,), generator=generator))
    node = torch.arange(n)
    far = torch.randint(n, (n,), generator=generator)
    edges = torch.stack([node.repeat(2), torch.cat([(node + 1) % n, far])])
    x = torch.randn(n, 4, generator=generator)
    return Data(x=x, y=(x[:, 0] > 0).long(), edge_index=torch.cat([edges, edges.flip(0)], dim=1))


def dataset(seed: int, task: str) -> GraphDataset:
    """One graph for what classifies nodes, else 24."""
    generator = torch.Generator().manual_seed(seed)
    if task == "classify":
        return GraphDataset("soak", [graph(generator, 100, 300)])
    graphs = [graph(generator, 8, 30) for _ in range(24)]
    for i, data in enumerate(graphs):
        if task == "classify_graphs":
            data.y = torch.tensor([i % 2])
        elif task == "regress":
            data.y = data.x.mean().view(1, 1)
    return GraphDataset("soak", graphs)


def numbers(figures: dict[str, Any]) -> dict[str, float]:
    """What is to come out again: all but times and settings."""
    return {k: v for k, v in figures.items() if isinstance(v, float) and "second" not in k}


def train(task: str, seed: int, folder: Path) -> dict[str, Any]:
    """A run, read back: what it scores then is what it said, and its embeddings' sum."""
    more = {} if task == "classify" else MANY
    run = fit(dataset(seed, task), task, folder / task, overwrite=True, seed=seed, **SMALL, **more)
    out = numbers(run.figures)
    if task == "autoencode":
        again = evaluate(run.folder, dataset=dataset(seed, task))
        out |= {f"again {k}": v for k, v in numbers(again).items()}
        embed(run.folder, folder / "z.npz", overwrite=True, dataset=dataset(seed, task))
        with np.load(folder / "z.npz") as found:
            out["embedding"] = float(found["z"].astype(float).sum())
    return out


for task in TASKS:
    WORK[task] = lambda seed, folder, task=task: train(task, seed, folder)


def critic(seed: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = KLCritic(4)
    shift = torch.rand(1)
    fitted = fit_critic(
        model, lambda: (torch.randn(64, 4) + shift, torch.randn(64, 4)), 40, evaluations=4
    )
    return {"loss": fitted.best_loss}


def levels(seed: int, folder: Path) -> dict[str, Any]:
    """Levels made once, then steps on them and on the edges, in both ways to select."""
    torch.manual_seed(seed)
    data = graph(torch.Generator().manual_seed(seed), 400, 900)
    out = {"nodes": float(Coarsen(depth=2)(data.clone()).num_nodes)}
    for select in ("topk", "spread"):
        for connect in ("two_hop", "induced", "contract", "walk", "sampled"):
            model = GraphUNet(4, 8, 3, 2, select=select, connect=connect, lift="interpolate")
            loss = model(data.x, data.edge_index).square().mean()
            loss.backward()
            out[f"{select} {connect}"] = float(loss.detach())
    return out


def scores(seed: int, folder: Path) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    metrics = SegmentationMetrics(5)
    for _ in range(20):
        size = (int(torch.randint(100, 5_000, (1,), generator=generator)),)
        pred, target = (torch.randint(5, size, generator=generator) for _ in range(2))
        metrics.update(pred, target)
    found = metrics.compute().items()
    return {k: float(v) for k, v in found if isinstance(v, Tensor) and not v.dim()}


WORK |= {"critic": critic, "levels": levels, "scores": scores}


def turn(seed: int, folder: Path) -> dict[str, float]:
    """One round of everything."""
    return {f"{k}: {f}": v for k, work in WORK.items() for f, v in work(seed, folder).items()}


def soak(seconds: float, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Rounds for so long: growth of memory in MB and of open files, and figures that changed."""
    process, start = psutil.Process(), time.monotonic()
    state = torch.get_rng_state()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first, seed = turn(0, folder), 0
        memory, files = 0.0, 0
        warm = False
        while not warm or time.monotonic() - start < seconds:
            seed += 1
            turn(seed, folder)
            now, handles = resident(), process.num_fds()
            passed = time.monotonic() - start
            if not warm and passed >= seconds / 10:
                memory, files, warm = now, handles, True
            say(f"{passed:6.0f} s, round {seed}: {now:.1f} MB, {handles} files")
        last = turn(0, folder)
    torch.set_rng_state(state)
    changed = sorted(k for k in first.keys() | last.keys() if first.get(k) != last.get(k))
    return {
        "rounds": seed,
        "figures": len(first),
        "memory": resident() - memory,
        "files": process.num_fds() - files,
        "changed": changed,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    found = soak(60 * args.minutes, lambda line: print(line, flush=True))
    print(
        f"{found['rounds']} rounds: memory {found['memory']:+.1f} MB, files {found['files']:+d}, "
        f"{len(found['changed'])} of {found['figures']} figures changed {found['changed'][:5]}"
    )
    return int(found["memory"] >= LIMIT or found["files"] > 0 or bool(found["changed"]))


if __name__ == "__main__":
    sys.exit(main())
