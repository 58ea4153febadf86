"""``python -m tests.two_hosts [--edges 1000000] [--json FILE]``: is a run on two hosts that of one?

The hosts are network namespaces of their own, joined by a cable alone (Linux, as root); on each
``torchrun --nnodes 2`` starts one process. Small graphs in batches, and one large graph by sampled
neighbours, are trained there and by one process: the curves have to be the same. Then all processes
of one host, in another run of the other, are killed in the middle of it: who is left has to end the
run with its message, and a single process has to go on from the checkpoint. Exit status 1 where one
of these does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from tests.mutants import ROOT
from tests.pyg import two_fits

HOSTS = {f"gunet{os.getpid()}-{at}": f"10.88.0.{at + 1}" for at in range(2)}
LIMIT = 1e-5
ENDED = "another process of the run has ended"
COMMON = ["--accelerator", "cpu", "--hidden-channels", "16", "--depth", "2", "--quiet"]
TASKS = {
    "graphs": ["--task", "autoencode", "--batch-size", "6", "--epochs", "5"],
    "neighbors": [
        *("--task", "classify", "--loader", "neighbor", "--num-neighbors", "5", "5"),
        *("--batch-nodes", "512", "--batch-size", "4", "--shares", "0.1", "0.1"),
        *("--dropout", "0", "--input-dropout", "0", "--edge-dropout", "0"),
        *("--select", "spread", "--connect", "contract", "--epochs", "3"),
    ],
}


def large(edges: int) -> Data:
    """A ring of ten directed edges a node; a class is what the ring says around a node."""
    n = edges // 10
    node = torch.arange(n)
    ahead = torch.cat([torch.stack([node, (node + step) % n]) for step in range(1, 6)], dim=1)
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    around = sum(x[:, 0].roll(step) for step in range(-5, 6))
    return Data(x=x, y=(around > 0).long(), edge_index=torch.cat([ahead, ahead.flip(0)], dim=1))


def ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


@contextmanager
def network() -> Iterator[None]:
    """Two hosts and the cable, for as long as they are needed."""
    try:
        for name in HOSTS:
            ip("netns", "add", name)
        first, second = HOSTS
        names = ["cable", "netns", first], ["cable", "netns", second]
        ip("link", "add", *names[0], "type", "veth", "peer", *names[1])
        for name, address in HOSTS.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in HOSTS:
            kill(name)
            ip("netns", "del", name, check=False)


def kill(host: str) -> int:
    """All processes of a host; how many there were."""
    found = ip("netns", "pids", host, check=False).split()
    for process in found:
        os.kill(int(process), signal.SIGKILL)
    return len(found)


def command(*options: object) -> list[str]:
    return ["-m", "pyg_gunet.cli", "fit", *COMMON, *map(str, options)]


def start(*options: object) -> list[subprocess.Popen[str]]:
    """The same command on both hosts."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "cable", "PYTHONPATH": str(ROOT)}
    address = next(iter(HOSTS.values()))
    launch = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launch += [f"--master-addr={address}", "--master-port=29500"]
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, *launch, f"--node-rank={at}"]
            + command(*options),
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for at, name in enumerate(HOSTS)
    ]


def rows(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def apart(one: Path, two: Path) -> dict[str, float]:
    """By how much the losses, relative to one process's, and the weights differ."""
    pairs = list(zip(rows(one), rows(two), strict=True))
    losses = [abs(b[k] - a[k]) / abs(a[k]) for a, b in pairs for k in a if "loss" in k]
    states = [torch.load(path / "last.ckpt", weights_only=True) for path in (one, two)]
    first, second = (state["state_dict"] for state in states)
    weights = max(float((first[key].double() - second[key].double()).abs().max()) for key in first)
    moved = abs(pairs[-1][0]["train_loss"] / pairs[0][0]["train_loss"] - 1)
    return {"losses": max(losses), "weights": weights, "learned": moved, "epochs": len(pairs)}


def equal(task: str, dataset: Path, folder: Path) -> dict[str, float]:
    options = ["--dataset", dataset, *TASKS[task], "--out"]
    subprocess.run([sys.executable, *command(*options, folder / "one")], check=True)
    for process in start(*options, folder / "two"):
        _, err = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(err)
    return apart(folder / "one", folder / "two")


def killed(gone: int, dataset: Path, out: Path) -> dict[str, Any]:
    """What one host does when the other is gone, and whether the run goes on."""
    options = ["--dataset", dataset, *TASKS["neighbors"][:-1], 100_000, "--out", out]
    hosts = start(*options)
    while not (out / "last.ckpt").exists():
        if hosts[0].poll() is not None:
            raise RuntimeError(hosts[0].communicate()[1])
        time.sleep(0.1)
    count = kill(list(HOSTS)[gone])
    begun = time.monotonic()
    left = hosts[1 - gone]
    _, err = left.communicate(timeout=600)
    hosts[gone].communicate()
    seconds = time.monotonic() - begun
    reached = torch.load(out / "last.ckpt", weights_only=True)["epoch"] + 1
    more = ["--devices=1", "--hosts=1", f"--epochs={reached + 1}", "--quiet"]
    resume = [sys.executable, "-m", "pyg_gunet.cli", "fit", f"--resume={out}", *more]
    subprocess.run(resume, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    epochs = [int(row["epoch"]) for row in rows(out)]
    return {
        "processes": count,
        "status": left.returncode,
        "seconds": round(seconds, 1),
        "message": next((line for line in err.splitlines() if ENDED in line), ""),
        "epochs": reached,
        "resumed": epochs == list(range(1, reached + 2)),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=int, default=1_000_000, help="of the large graph")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args(argv)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, network():
        files = {name: Path(temporary) / f"{name}.pt" for name in TASKS}
        torch.save(list(two_fits.graphs()), files["graphs"])
        torch.save(large(args.edges), files["neighbors"])
        for task, file in files.items():
            (Path(temporary) / task).mkdir()
            found[task] = equal(task, file, Path(temporary) / task)
            print(task, found[task], flush=True)
        for gone in (1, 0):
            name = f"killed: {('first', 'second')[gone]}"
            found[name] = killed(gone, files["neighbors"], Path(temporary) / str(gone))
            print(name, found[name], flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps({"edges": args.edges, **found}, indent=2) + "\n")
    same = all(found[task]["losses"] <= LIMIT < found[task]["learned"] for task in TASKS)
    ends = [one for name, one in found.items() if name.startswith("killed")]
    ended = all(one["status"] and one["message"] and one["resumed"] for one in ends)
    return int(not (same and ended))


if __name__ == "__main__":
    sys.exit(main())
