"""The timed parts of `benchmarks/gpu.py`; each yields ``(system, figures)`` as they come."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _common import heavy_tailed
from _gpu_systems import (
    CLASSES,
    FEATURES,
    HIDDEN,
    OURS,
    SYSTEMS,
    bandwidth,
    floor_bytes,
    guarded,
    kernels,
    share,
    structural,
    system,
    timed,
    training,
)
from _scale_graphs import make_graph
from torch import Tensor
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import (
    GraphUNet,
    KLCritic,
    MutualInformationCritic,
    SegmentationMetrics,
    TelescopingCritic,
    fit_critic,
    repeat_graph,
    spread,
)

Figures = Iterator[tuple[str, Any]]


def graph(
    args: argparse.Namespace, quick: tuple[int, int], full: tuple[int, int]
) -> tuple[Tensor, Tensor, torch.device]:
    """``(x, edge_index, device)`` of nodes and edges in the number that is asked for."""
    (n, e), device = quick if args.quick else full, torch.device(args.device)
    edge_index = make_graph(n, e).to(device)
    return torch.randn(n, FEATURES, device=device), edge_index, device


def arxiv_graph(args: argparse.Namespace) -> tuple[Tensor, Tensor, torch.device]:
    return graph(args, (2_000, 20_000), (169_343, 2_315_598))


def arxiv(args: argparse.Namespace) -> Figures:
    x, edge_index, device = arxiv_graph(args)
    n, e, speed, ms = x.size(0), edge_index.size(1), bandwidth(device), {}
    yield "bandwidth", {"gb_s": speed}

    def one(name: str) -> dict[str, Any]:
        begin = time.perf_counter()
        model, edges = system(name, edge_index, n)
        made = time.perf_counter() - begin
        step = training(model, x, edges)
        out = timed(step, device, args.repeats) | {"prepare_s": made}
        ms[name] = out["ms"]
        return out | share(floor_bytes(name, n, e), ms[name], speed) | guarded(
            lambda: {"kernels": kernels(step, device)}
        )  # fmt: skip

    for name in SYSTEMS:
        yield name, guarded(lambda: one(name))  # noqa: B023
    if "contract prepared" in ms and "GCN edge_index" in ms:
        ratio = ms["contract prepared"] / ms["GCN edge_index"]
        yield "contract prepared / GCN edge_index", {"ratio": ratio, "goal": 0.2}


def small(args: argparse.Namespace) -> Figures:
    device, sizes = torch.device(args.device), (FEATURES, HIDDEN, CLASSES, 4)
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "contract prepared": lambda: GraphUNet(*sizes, pool=structural),
        "contract": lambda: GraphUNet(*sizes, pool=structural),
        "walk": lambda: GraphUNet(*sizes, connect="walk"),
        "two_hop": lambda: GraphUNet(*sizes),
        "PyG GraphUNet": lambda: PyGGraphUNet(*sizes),
    }
    for count in (16,) if args.quick else (128, 1024):
        edges, batch, _ = repeat_graph(heavy_tailed(40, 176), 40, count)
        edges, batch = edges.to(device), batch.to(device)
        x = torch.randn(40 * count, FEATURES, device=device)

        def one(name: str, x: Tensor, edges: Tensor, batch: Tensor) -> dict[str, Any]:
            model = makers[name]().to(device)
            if name.endswith("prepared"):
                ready = model.prepare(edges, num_nodes=x.size(0), batch=batch)  # type: ignore[operator]
                return timed(training(model, x, ready), device, args.repeats)
            return timed(training(model, x, edges, batch), device, args.repeats)

        for name in makers:
            run = lambda: one(name, x, edges, batch)  # noqa: B023, E731
            yield f"{name}, {count} graphs", guarded(run)


def compiled(args: argparse.Namespace) -> Figures:
    x, edge_index, device = graph(args, (1_000, 8_000), (40_000, 400_000))
    modes = {"eager": None, "compile": "default"}
    if device.type == "cuda":
        modes["CUDA graphs"] = "reduce-overhead"

    def one(mode: str | None) -> dict[str, Any]:
        model, edges = system("levels prepared", edge_index, x.size(0))
        run = model if mode is None else torch.compile(model, mode=mode)
        return timed(training(run, x, edges), device, args.repeats)  # type: ignore[arg-type]

    for name, mode in modes.items():
        yield name, guarded(lambda: one(mode))  # noqa: B023


def spreading(args: argparse.Namespace) -> Figures:
    device = torch.device(args.device)

    def one(e: int, quantiles: int | None) -> dict[str, Any]:
        edge_index, score = make_graph(e // 14, e).to(device), torch.randn(e // 14, device=device)
        return timed(lambda: spread(score, edge_index, 0.5, quantiles=quantiles), device, 3)

    for e in (10_000,) if args.quick else (100_000, 1_000_000, 10_000_000):
        for quantiles in (None, 1):
            run = lambda: one(e, quantiles)  # noqa: B023, E731
            yield f"{e:.0e} edges, quantiles={quantiles}", guarded(run)


def products(args: argparse.Namespace) -> Figures:
    x, edge_index, device = graph(args, (2_000, 40_000), (2_449_029, 123_718_280))
    speed = bandwidth(device)

    def one(name: str) -> dict[str, Any]:
        model, edges = system(name, edge_index, x.size(0))
        out = timed(training(model, x, edges), device, 2)
        moved = floor_bytes(name, x.size(0), edge_index.size(1))
        return out | share(moved, out["ms"], speed)

    for name in ("walk prepared", "contract prepared"):
        yield name, guarded(lambda: one(name))  # noqa: B023


def scores(args: argparse.Namespace) -> Figures:
    device = torch.device(args.device)

    def one(n: int) -> dict[str, Any]:
        pred, target = (torch.randint(21, (n,), device=device) for _ in range(2))
        metrics = SegmentationMetrics(21).to(device)
        return timed(lambda: metrics.update(pred, target), device, 3)

    for n in (10**5,) if args.quick else (10**6, 10**7, 10**8):
        yield f"{n:.0e} nodes", guarded(lambda: one(n))  # noqa: B023


def critics(args: argparse.Namespace) -> Figures:
    """Training for 10,000 steps of 256 samples, and how far from the truth it ends."""
    device, steps = torch.device(args.device), 50 if args.quick else 10_000
    looks = 2 if args.quick else 20  # at held-out data
    d, rho = 4, 0.6

    def draw(kl: bool, n: int = 256) -> tuple[Tensor, Tensor]:
        x, y = torch.randn(2, n, d, device=device)
        return (x + 0.5, y) if kl else (x, rho * x + (1 - rho**2) ** 0.5 * y)

    kinds: dict[str, Callable[[], Any]] = {
        "KLCritic": lambda: KLCritic(d),
        "MutualInformationCritic": lambda: MutualInformationCritic(d, d),
        "TelescopingCritic": lambda: TelescopingCritic(d, d),
    }

    def one(name: str) -> dict[str, Any]:
        kl, critic = name == "KLCritic", kinds[name]().to(device)
        begin = time.perf_counter()
        done = fit_critic(critic, lambda: draw(kl), steps, evaluations=looks, patience=None)
        seconds = time.perf_counter() - begin
        found = float(critic.estimate(*draw(kl, 1_000)).value)
        truth = d * 0.125 if kl else -0.5 * d * math.log(1 - rho**2)
        out: dict[str, Any] = {
            "steps": done.steps,
            "seconds": seconds,
            "ms": 1e3 * seconds / done.steps,
        }
        out |= {"nats": found, "truth": truth}
        if done.steps != steps or not math.isfinite(found):
            out["wrong"] = f"{done.steps} steps, {found} nats"
        elif not args.quick and abs(found - truth) > 0.2:
            out["wrong"] = f"{found:.3f} nats where {truth:.3f} is the truth"
        return out

    for name in kinds:
        yield name, guarded(lambda: one(name))  # noqa: B023


def cuda_tests(args: argparse.Namespace) -> Figures:
    """The suite's tests named for CUDA, in the files that hold one: others need more packages."""
    root = Path(__file__).parent.parent
    files = [p for p in sorted(root.glob("tests/**/test_*.py")) if "cuda" in p.read_text()]
    pytest = [sys.executable, "-m", "pytest", "-q", "-rs", "-k", "cuda", "-p", "no:cacheprovider"]
    command = [*pytest, *(str(path.relative_to(root)) for path in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    yield "pytest", judged(done.returncode, done.stdout + done.stderr, args.device)


def judged(returncode: int, text: str, device: str) -> dict[str, Any]:
    """A run of the tests failed by its return code, on a GPU also where it found or ran none."""
    out: dict[str, Any] = {"returncode": returncode, "tail": text[-1500:]}
    if returncode not in ((0,) if device == "cuda" else (0, 5)):
        out["fails"] = f"pytest ended with {returncode}"
    elif device == "cuda" and " passed" not in text:
        out["fails"] = "no test of CUDA ran"
    return out


def profile(args: argparse.Namespace) -> Figures:
    """The kernels of `args.slowest`, those of ours whose step took longest; without it they are
    timed here first."""
    x, edge_index, device = arxiv_graph(args)

    def made(name: str) -> Callable[[], Any]:
        model, edges = system(name, edge_index, x.size(0))
        return training(model, x, edges)

    names = args.slowest
    if not names:
        took = {n: guarded(lambda: timed(made(n), device, 1)) for n in OURS}  # noqa: B023
        names = slowest(took)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"

    def one(name: str) -> dict[str, Any]:
        step = made(name)
        step()
        with torch.profiler.profile() as seen:
            step()
        return {"text": seen.key_averages().table(sort_by=key, row_limit=25)}

    for name in names:
        yield name, guarded(lambda: one(name))  # noqa: B023


def slowest(figures: dict[str, Any], count: int = 2) -> list[str]:
    """The systems of ours that took longest, of those that were timed."""
    took = {name: figures[name]["ms"] for name in OURS if "ms" in figures.get(name, {})}
    return sorted(took, key=took.__getitem__, reverse=True)[:count]
