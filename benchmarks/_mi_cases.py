"""The cases of the table of mutual information: each yields readings of one seed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import _mi_critics as critics
import _mi_default as default
import _mi_tasks as mi
import numpy as np

Run = Callable[[int, bool], Iterator[mi.Reading]]
# The estimators of each peer, by the name of its package.
PEERS = {
    "torch-mist": ("smile", "js", "nwj", "infonce"),
    "diffusion-mi": ("MINDE", "MMG", "f-DIME"),
    "latentmi": ("LMI",),
}
DOUBTFUL = ("no overlap", "y = x", "64 pairs in 20 dimensions", "heavy tails")
OWN, TIMED = ("estimate_mi", "KSG"), "10,000 pairs, d=5, MI 2"
LEVELS = (0.5, 2.0, 6.0, 10.0)


@dataclass
class Case:
    """A case of a part; `run(seed, quick)` yields its readings. `limits` are the tolerances:
    (system, kind, number) with kind 'within' (of the truth), 'near' (another value: a documented
    bias), 'min', 'max', 'between', or of all readings together 'held' (the share of intervals that
    hold the truth) and 'flagged' (how many doubt themselves, at most)."""

    part: str
    name: str
    run: Run
    limits: tuple[tuple[str, str, tuple[float, ...]], ...] = ()
    systems: tuple[str, ...] = ()
    repeats: int = 0  # seeds, where they are not the table's

    def owns(self, system: str) -> bool:
        """Whether a stored reading is of this case, where several cases share a name."""
        return not self.systems or system in self.systems


def peer(task: mi.Task, name: str, system: str, python: str) -> Run:
    """One estimator of a peer in its own interpreter, on the same 10,000 pairs: those that take a
    split get the one of our critics, with as many steps, batch and hidden sizes."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        x, y = task.sample(sum(mi.SIZES.values()), 1000 + seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.npz"
            np.savez(path, x=x.numpy(), y=y.numpy(), sizes=list(mi.SIZES.values()))
            script = str(Path(__file__).with_name("_mi_peer.py"))
            command = [python, script, str(path), "--package", name, "--estimator", system]
            command += ["--seed", str(seed), *(["--quick"] if quick else [])]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} {system} on {task.name}:\n{done.stderr[-2000:]}")
        row = json.loads(done.stdout.splitlines()[-1])
        label = f"{name} {system}"
        yield mi.Reading(label, task.truth, row["value"], seconds=row["seconds"])

    return run


def cases(peers: dict[str, str]) -> list[Case]:
    """Every case, with the tolerances that the table is held to; `peers` are the interpreters."""
    out = [
        Case(
            "exact",
            "exact log-ratio, MI 10, 100 batches of 64",
            critics.exact,
            (
                ("classifier", "within", (0.2,)),
                ("smile(5)", "near", (12.0, 0.3)),
                ("infonce", "max", (math.log(64),)),
            ),
        )
    ]
    between = (("classifier", "between", (0.90, 0.98)),)
    for name, run in (
        ("two-sample KL", critics.coverage_two_sample),
        ("pairs", critics.coverage_pairs),
        ("nodes and graphs", critics.coverage_nodes),
    ):
        case_name = f"coverage of the 95% interval, {critics.REPEATS} repeats: {name}"
        out.append(Case("coverage", case_name, run, between))
    for truth, tolerance in ((0.5, 0.05), (2.0, 0.12), (8.0, 0.5)):
        name, limit = (
            f"KL of shifted Gaussians, d=10, {truth:g}",
            ("classifier", "within", (tolerance,)),
        )
        out.append(Case("kl", name, critics.kl_shifted(truth), (limit,)))
    both = (
        ("classifier, forward", "within", (0.3,)),
        ("classifier, reverse", "within", (0.2,)),
    )
    out.append(Case("kl", "KL(N(0,4I) || N(0,I)), d=10, Gaussian base", critics.kl_scaled, both))
    within = (("classifier", "within", (0.08,)),)
    out.append(Case("kl", "P = Q, n = 1000", critics.kl_equal, within))
    steps = ((2, 0.25), (6, 0.45), (10, 0.6))
    limits = tuple((f"MI {m}: classifier", "within", (t,)) for m, t in steps)
    name = "staircase d=20, batch 64, one network"
    out.append(Case("staircase", name, critics.staircase, limits))
    for task, limit in (
        (mi.staircase(10.0), ("telescoping", "within", (0.4,))),
        (mi.staircase_spiral(10.0), ("telescoping", "min", (8.5,))),
    ):
        out.append(Case("telescoping", task.name, critics.telescoping(task), (limit,)))
    for rho, tolerance in ((0.0, 0.05), (0.5, 0.08), (0.8, 0.3)):
        limit = ("classifier", "within", (tolerance,))
        name = f"node against mean-pooled graph, rho {rho:g}"
        out.append(Case("nodes", name, critics.nodes(rho), (limit,)))
    within = (("classifier", "within", (0.05,)),)
    out.append(Case("nodes", "independent, graph sizes {5, 50}", critics.sizes, within))
    return out + _of_the_default() + _competition(peers)


def _of_the_default() -> list[Case]:
    out = []
    for name in default.INTERVALS:
        case_name = f"intervals of trained estimates: {name}"
        held = (("estimate", "held", (0.90, 0.98)),)
        out.append(Case("intervals", case_name, default.interval(name), held, repeats=200))
    flags = tuple((system, "min", (1.0,)) for system in DOUBTFUL)
    out.append(Case("verdicts", "to be flagged", default.doubtful, flags))
    limit = (("estimate", "flagged", (2,)),)
    out.append(Case("verdicts", "40 easy ones", default.easy, limit, repeats=40))
    out.append(Case("time", TIMED, default.paired(mi.staircase(2.0, dim=5)), systems=OWN))
    for information in LEVELS:
        allowed = {6.0: 0.3, 10.0: 1.0}.get(information)
        limits = (("estimate_mi", "within", (allowed,)),) if allowed else ()
        for make in default.FAMILIES:
            for d in (1, 2, 3):
                name = f"{make.__name__}, d={d}, MI {information:g}"
                run = default.paired(make(information, d), wide=True)
                out.append(Case("families", name.replace("_", " "), run, limits))
    return out


def _competition(peers: dict[str, str]) -> list[Case]:
    out = []
    for task in mi.tasks():
        out.append(Case("default", task.name, default.paired(task), systems=OWN))
    for task in mi.tasks():
        for system in ("critic", "Gaussian base", "telescoping"):
            own = ("classifier",) if system == "critic" else (system,)
            out.append(Case("tasks", task.name, critics.ours(task, system), systems=own))
    unknown = set(peers) - set(PEERS)
    if unknown:
        sys.exit(f"'--peer' takes {', '.join(PEERS)} (got {', '.join(unknown)})")
    timed = mi.staircase(2.0, dim=5)
    for name, python in peers.items():
        for task in (*mi.tasks(), timed):
            part, title = ("time", TIMED) if task is timed else ("peer", task.name)
            for system in PEERS[name]:
                own = (f"{name} {system}",)
                out.append(Case(part, title, peer(task, name, system, python), systems=own))
    return out
