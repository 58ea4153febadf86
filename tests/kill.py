"""``python -m tests.kill --times 10``: kills a run at random moments and resumes it each time.

Every process trains with a checkpoint after each epoch, so that many a `kill -9` meets one half
written. After each, all checkpoints that there are must load; in the end, weights and history must
be those of a run that nobody broke. Prints a line per kill.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from pyg_gunet.files import read_torch
from pyg_gunet.train import callbacks, fit, pictures

CHECKPOINTS = ("last.ckpt", "best.ckpt")
TRIES = 5  # of a run that may end before its kill comes


def in_process(work: Callable[[], object]) -> int:
    """Starts `work` in a process of its own, whose id comes back."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def finished(process: int) -> bool:
    """Whether it ended by itself; a failure of its own is ours."""
    found, status = os.waitpid(process, os.WNOHANG)
    if found and status:
        raise SystemExit(f"a run failed with status {status}")
    return bool(found)


def train(settings: dict[str, Any], out: Path) -> object:
    """Goes on from the last checkpoint, if there is one."""
    if (out / "last.ckpt").exists():
        return fit(resume=out)
    return fit(out=out, overwrite=True, **settings)


def check(out: Path) -> int:
    """The epoch of the last checkpoint, -1 for none; raises if one is torn."""
    epoch = -1
    for name in CHECKPOINTS:
        if (out / name).exists():
            epoch = max(epoch, int(read_torch(out / name, name)["epoch"]))
    return epoch


def same(a: Path, b: Path) -> bool:
    """Whether the runs in two folders have the same weights, bit by bit, and the same history."""
    for name in CHECKPOINTS:
        left, right = (read_torch(folder / name, name)["state_dict"] for folder in (a, b))
        if left.keys() != right.keys() or not all(torch.equal(left[k], right[k]) for k in left):
            return False
    return (a / "history.csv").read_text() == (b / "history.csv").read_text()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # a process with threads cannot be forked
    rng = random.Random(args.seed)
    callbacks.Last.every = 0.0
    pictures._figure = lambda width, height: Figure((width / 4, height / 4), dpi=40)
    settings = {
        "dataset": "ring",
        "hidden_channels": 16,
        "depth": 2,
        "dropout": 0.1,
        "epochs": args.epochs,
        "accelerator": "cpu",
    }
    folder = Path(tempfile.mkdtemp(prefix="pyg-gunet-kill-"))
    try:
        return kill_and_resume(settings, folder, args.times, rng)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_and_resume(settings: dict[str, Any], folder: Path, times: int, rng: random.Random) -> int:
    whole, out = folder / "whole", folder / "broken"
    os.waitpid(in_process(lambda: train(settings, whole)), 0)
    for _ in range(TRIES):
        kills, halves = kill_all(settings, out, times, rng)
        if kills == times:
            break
        shutil.rmtree(out)
        print("the run ended before its kill; once more", flush=True)
    print(f"{kills} kills of {times}, {halves} of them while a checkpoint was written")
    if os.waitpid(in_process(lambda: train(settings, out)), 0)[1]:
        return 1
    equal = same(whole, out)
    left = sorted(path.name for path in out.glob(".*"))
    print(f"final weights and history equal an unbroken run's: {equal}; left behind: {left}")
    return int(not equal or kills < times or bool(left))


def kill_all(
    settings: dict[str, Any], out: Path, times: int, rng: random.Random
) -> tuple[int, int]:
    """The kills that met a run at work, and those among them that met half a checkpoint.

    Each waits for an epoch drawn beforehand and then for a part of an epoch: waiting by the clock
    alone would depend on how fast the machine is.
    """
    kills = halves = 0
    for epoch in sorted(rng.randrange(-1, 3 * settings["epochs"] // 4) for _ in range(times)):
        process = in_process(lambda: train(settings, out))
        start = time.monotonic()
        first, ended = check(out), False
        while (reached := check(out)) < epoch and not (ended := finished(process)):
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.05 + (time.monotonic() - start) / max(reached - first, 1)))
        if ended or finished(process):
            break
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kills += 1
        half = [path.name for path in out.glob(".*.tmp")]
        halves += bool(half)
        print(
            f"kill {kills}: last checkpoint of epoch {check(out)}, unfinished: {half}", flush=True
        )
    return kills, halves


if __name__ == "__main__":
    sys.exit(main())
