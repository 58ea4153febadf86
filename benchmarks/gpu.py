"""All that a GPU must show, in one command of at most 25 minutes:

    PYTHONPATH=. python benchmarks/gpu.py --json benchmarks/results/gpu/CARD.json
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --quick

Parts, the most valuable first:

    correctness  every operator, loss, metric, critic and model, here against the CPU
    arxiv        a training step at the size of ogbn-arxiv, beside PyG's GCN and GraphUNet
    small        128 and 1,024 small graphs
    tests        the suite's CUDA tests
    syncs        what makes the host wait inside a step on prepared levels
    compile      torch.compile and CUDA graphs on prepared levels, against eager
    products     one step at the size of ogbn-products
    critics      critics trained for 10,000 steps
    spread       selection from 1e5 to 1e7 edges
    scores       a confusion matrix of up to 1e8 nodes
    profile      the kernels of our two slowest systems of 'arxiv', as text beside the JSON

Each runs in a process of its own, so that one failure loses nothing else, and its figures are
written as they come, so that a time-out loses none. A part is not run again where the JSON file has
it from the same device, versions and size (``--again`` repeats it), unless something in it is
'wrong', 'fails' or was not run; what does not fit into memory is a figure. The file holds a run for
each device, versions and size. Parts that do not fit into ``--budget`` minutes are told as not run.

Graphs are made here, nothing is read from disk. Times are medians after warm-up, by events on a
GPU.
Without pygsp, ogb, trimesh or torch-scatter, and without installing the package.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from _common import write_json
from _gpu_checks import correctness, sync_points
from _gpu_parts import (
    arxiv,
    compiled,
    critics,
    cuda_tests,
    products,
    profile,
    scores,
    slowest,
    small,
    spreading,
)

warnings.filterwarnings("ignore")
# The most that a part takes, in seconds; else 120. Less than LEAST is not worth a start.
LIMIT = {"arxiv": 420, "products": 240, "correctness": 300, "tests": 240, "critics": 180}
LEAST = 30
PARTS: dict[str, Callable[[argparse.Namespace], Iterable[tuple[str, Any]]]] = {
    "correctness": correctness,
    "arxiv": arxiv,
    "small": small,
    "tests": cuda_tests,
    "syncs": sync_points,
    "compile": compiled,
    "products": products,
    "critics": critics,
    "spread": spreading,
    "scores": scores,
    "profile": profile,
}
Told = Callable[[dict[str, Any]], None]


def machine(device: str, quick: bool) -> dict[str, Any]:
    """What figures of one run have in common."""
    import torch_geometric

    card = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    versions = {"torch": torch.__version__, "pyg": torch_geometric.__version__}
    return {"device": card, **versions, "quick": quick}


def faults(figures: dict[str, Any], quick: bool = False) -> list[str]:
    """Where something is wrong, or fails; at the small size also where it does not fit."""
    bad = {"fails", "wrong"} | ({"does not fit"} if quick else set())
    inside = [k for k, one in figures.items() if isinstance(one, dict) and bad & one.keys()]
    return sorted(bad & figures.keys()) + inside


def run_part(name: str, args: argparse.Namespace, limit: float, told: Told) -> dict[str, Any]:
    """A part in a process of its own; its failure is among its figures. `told` is called with the
    figures so far, whenever there are more."""
    command = [sys.executable, __file__, "--part", name, "--device", args.device]
    command += ["--repeats", str(args.repeats)] + (["--quick"] if args.quick else [])
    if name == "profile":
        command += ["--slowest", *args.slowest]
    ours = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, ours))}
    return follow(command, env, limit, told)


def follow(command: list[str], env: dict[str, str], limit: float, told: Told) -> dict[str, Any]:
    """``{"seconds", "figures"}`` of a process that writes a line of JSON for every system."""
    start, figures = time.perf_counter(), dict[str, Any]()
    late = threading.Event()

    def out() -> dict[str, Any]:
        return {"seconds": round(time.perf_counter() - start, 1), "figures": figures}

    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, start_new_session=True
    ) as child:  # fmt: skip

        def stop() -> None:
            late.set()
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(child.pid, signal.SIGKILL)  # with what it started

        timer = threading.Timer(limit, stop)
        timer.start()
        assert child.stdout is not None
        for line in child.stdout:
            try:
                figures |= json.loads(line)
            except (ValueError, TypeError):
                continue  # what a library prints
            told(out())
        child.wait()
        timer.cancel()
        errors.seek(0)
        if late.is_set():
            figures["fails"] = f"over {limit:.0f} s"
        elif child.returncode:
            figures["fails"] = errors.read()[-1500:] or f"ended with {child.returncode}"
    return out()


def shown(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures for a reader: of cases that hold, only how many and the worst."""
    if not any("difference" in one for one in figures.values() if isinstance(one, dict)):
        cut = lambda one: {**one, "text": "..."} if "text" in one else one  # noqa: E731
        return {k: cut(one) if isinstance(one, dict) else one for k, one in figures.items()}
    bad = faults(figures)
    sound = {k: one["difference"] for k, one in figures.items() if k not in bad}
    worst = max(sound, key=sound.__getitem__, default="")
    told = {"as on the CPU": len(sound), "worst": {worst: sound.get(worst)}}
    return told | {name: figures[name] for name in bad}


def child(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    for name, one in PARTS[args.part](args):
        print(json.dumps({name: one}), flush=True)


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--name", nargs="*", choices=list(PARTS), default=list(PARTS))
    p.add_argument("--json", default=None, help="where figures are kept, system by system")
    p.add_argument("--again", action="store_true", help="repeat parts that are there")
    p.add_argument("--budget", type=float, default=25.0, help="minutes for all parts")
    p.add_argument("--repeats", type=int, default=10)
    p.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
    p.add_argument("--part", default=None, choices=list(PARTS), help=argparse.SUPPRESS)
    p.add_argument("--slowest", nargs="*", default=[], help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.quick:
        args.repeats = min(args.repeats, 2)
    if args.part:
        child(args)
        return
    if failed := run(args):
        sys.exit(f"failed: {', '.join(failed)}")


def run(args: argparse.Namespace) -> list[str]:
    """Runs what is to be run, and gives the parts with a fault."""
    start, path = time.perf_counter(), None if args.json is None else Path(args.json)
    runs: list[dict[str, Any]] = json.loads(path.read_text()) if path and path.exists() else []
    this = machine(args.device, args.quick)
    kept = next((one for one in runs if one.get("machine") == this), None)
    if kept is None:
        kept = {"machine": this}
        runs.append(kept)
    failed = []
    for name in args.name:
        old = kept.get(name, {"figures": {"not run": "yet"}})["figures"]
        if not args.again and old and not faults(old, args.quick) and "not run" not in old:
            continue
        left = 60 * args.budget - (time.perf_counter() - start)
        if name == "profile" and "arxiv" in kept:
            args.slowest = slowest(kept["arxiv"]["figures"])

        def told(found: dict[str, Any], name: str = name) -> None:
            kept[name] = found
            write_json(args.json, runs)

        if left < LEAST:
            told({"seconds": 0.0, "figures": {"not run": f"{left:.0f} s of the budget left"}})
        else:
            told(run_part(name, args, min(LIMIT.get(name, 120), left), told))
        figures = kept[name]["figures"]
        if bad := faults(figures, args.quick):
            failed.append(f"{name} ({', '.join(bad)[:300]})")
        if name == "profile" and path is not None:
            texts = [f"{k}\n{one['text']}" for k, one in figures.items() if "text" in one]
            path.with_suffix(".txt").write_text("\n\n".join(texts) + "\n")
        text = json.dumps(shown(figures), indent=1)[:4000]
        print(name, f"{kept[name]['seconds']} s", text, flush=True)
    return failed


if __name__ == "__main__":
    main()
