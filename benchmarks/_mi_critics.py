"""Critics and read-outs one by one: exact log-ratios, trained networks, and our estimators on the
tasks of known information. Each run yields the readings of one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import _mi_tasks as mi
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pyg_gunet.critic import (
    Estimate,
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
    dense_pairs,
    fit_critic,
    pair_readout,
    two_sample_readout,
)

READOUTS = ("classifier", "dv", "nwj", "smile", "infonce")
REPEATS = 200


def _reading(system: str, truth: float, read: Estimate, seconds: float = 0.0) -> mi.Reading:
    return mi.Reading(system, truth, float(read.value), float(read.stderr), seconds)


# -- exact log-ratios ------------------------------------------------------------------------------


def _gaussian_scores(x: Tensor, y: Tensor, rho: float) -> Tensor:
    """The log-ratio of all pairs with equal correlations, in float64."""
    x, y, rho2 = x.double(), y.double(), rho**2
    cross = 2 * rho * x @ y.T - rho2 * (x.square().sum(1)[:, None] + y.square().sum(1))
    return cross / (2 * (1 - rho2)) - x.size(1) / 2 * math.log(1 - rho2)


def exact(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """MI 10, 100 batches of 64 pairs."""
    task, rho = mi.staircase(10.0), math.sqrt(1 - math.exp(-1.0))
    x, y = task.sample(6400, 10_000 + seed)
    start = time.process_time()
    scores = [_gaussian_scores(a, b, rho) for a, b in zip(x.split(64), y.split(64))]
    for name in READOUTS:
        reads = [pair_readout(dense_pairs(s, torch.arange(64)), name) for s in scores]
        value = sum(float(r.value) for r in reads) / len(reads)
        stderr = math.sqrt(sum(float(r.stderr) ** 2 for r in reads)) / len(reads)
        label = "smile(5)" if name == "smile" else name
        yield mi.Reading(label, 10.0, value, stderr, time.process_time() - start)


def _covered(read: Estimate, truth: float) -> bool:
    return abs(float(read.value) - truth) <= 1.96 * float(read.stderr)


def coverage_two_sample(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """KL 2 of shifted normals: log-ratios are normal themselves."""
    repeats = 20 if quick else REPEATS
    torch.manual_seed(20_000 + seed)
    hits = 0
    for _ in range(repeats):
        r_p, r_q = 2 * (torch.randn(400) + 2) - 2, 2 * torch.randn(400) - 2
        hits += _covered(two_sample_readout(r_p, r_q), 2.0)
    yield mi.Reading("classifier", 0.95, hits / repeats, math.sqrt(0.95 * 0.05 / repeats), 0.0)


def coverage_pairs(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """MI 2 in five dimensions, 200 pairs."""
    repeats = 20 if quick else REPEATS
    rho, hits = math.sqrt(1 - math.exp(-4 / 5)), 0
    task = mi.staircase(2.0, dim=5)
    for i in range(repeats):
        x, y = task.sample(200, 1000 * (30 + seed) + i)
        scores = _gaussian_scores(x, y, rho)
        hits += _covered(pair_readout(dense_pairs(scores, torch.arange(200))), task.truth)
    yield mi.Reading("classifier", 0.95, hits / repeats, math.sqrt(0.95 * 0.05 / repeats), 0.0)


def coverage_nodes(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """Nodes against graphs, rho 0.8, 60 graphs; beside it nodes counted as independent."""
    repeats = 20 if quick else REPEATS
    torch.manual_seed(40_000 + seed)
    truth, share = mi.pooled_truth(0.8), 0.64 + 0.36 / 10
    hits, naive = 0, 0
    for _ in range(repeats):
        x, y, batch = mi.pooled(60, 0.8)
        scores = _gaussian_scores(x, y / math.sqrt(share), math.sqrt(share))
        hits += _covered(pair_readout(dense_pairs(scores, batch, torch.full((60,), 10.0))), truth)
        pos = scores.gather(1, batch.unsqueeze(1))
        naive += _covered(two_sample_readout(pos[:, 0], pos[:, 0]), truth)
    error = math.sqrt(0.95 * 0.05 / repeats)
    yield mi.Reading("classifier", 0.95, hits / repeats, error, 0.0)
    yield mi.Reading("not clustered", 0.95, naive / repeats, error, 0.0)


# -- trained critics -------------------------------------------------------------------------------


def kl_shifted(truth: float) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """Two normals in ten dimensions, shifted in all of them."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        torch.manual_seed(50_000 + seed)
        shift = math.sqrt(2 * truth / 10)

        def sample(n: int = 256) -> tuple[Tensor, Tensor]:
            return torch.randn(n, 10) + shift, torch.randn(n, 10)

        start = time.process_time()
        critic = KLCritic(10, 64)
        # Fresh samples cannot be learned by heart: train to the end of the decay.
        steps = 40 if quick else 2000
        fit_critic(critic, sample, steps, val=[sample(20_000)], lr=3e-3, patience=None)
        seconds = time.process_time() - start
        p, q = sample(20_000)
        for name in ("classifier", "dv", "smile"):
            yield _reading(name, truth, critic.estimate(p, q, name), seconds)

    return run


def kl_scaled(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """KL(N(0, 4 I) || N(0, I)) and back, on a Gaussian base."""
    torch.manual_seed(60_000 + seed)

    def sample(n: int = 256) -> tuple[Tensor, Tensor]:
        return 2 * torch.randn(n, 10), torch.randn(n, 10)

    start = time.process_time()
    critic = KLCritic(10, 64, base="gaussian")
    fit_critic(critic, sample, 40 if quick else 1000, val=[sample(20_000)])
    seconds = time.process_time() - start
    p, q = sample(20_000)
    sides = Normal(torch.zeros(10), 2.0), Normal(torch.zeros(10), 1.0)
    for direction in ("forward", "reverse"):
        first, second = sides if direction == "forward" else sides[::-1]
        truth = float(kl_divergence(first, second).sum())
        read = critic.estimate(p, q, direction=direction)
        yield _reading(f"classifier, {direction}", truth, read, seconds)


def kl_equal(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """P = Q in ten dimensions: 1,000 samples a side to train on, 1,000 to read."""
    torch.manual_seed(70_000 + seed)
    start = time.process_time()
    critic = KLCritic(10, 64)
    fit_critic(critic, (torch.randn(1000, 10), torch.randn(1000, 10)), 40 if quick else 2000)
    seconds = time.process_time() - start
    p, q = torch.randn(1000, 10), torch.randn(1000, 10)
    for name in ("classifier", "dv"):
        yield _reading(name, 0.0, critic.estimate(p, q, name), seconds)


def fresh(task: mi.Task, size: int, seed: int) -> Callable[[], mi.Pair]:
    """Draws batches that never repeat."""
    draws = iter(range(10**6 * (seed + 1), 10**9))
    return lambda: task.sample(size, next(draws))


def staircase(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """One network climbs all levels: it is trained on, not started anew."""
    torch.manual_seed(80_000 + seed)
    critic = MutualInformationCritic(20, 20, 64, objective="nce", nu=64.0)
    for level in (2.0, 4.0, 6.0, 8.0, 10.0):
        task = mi.staircase(level)
        start = time.process_time()
        steps = 40 if quick else 2500
        fit_critic(critic, fresh(task, 64, seed), steps, lr=5e-3, patience=None)
        seconds = time.process_time() - start
        x, y = task.sample(6400, 90_000 + seed)
        for name in READOUTS[:-1]:
            label = f"MI {level:g}: " + ("smile(5)" if name == "smile" else name)
            yield _reading(label, level, critic.estimate(x, y, readout=name), seconds)
        reads = [critic.estimate(a, b, readout="infonce") for a, b in zip(x.split(64), y.split(64))]
        value = sum(float(r.value) for r in reads) / len(reads)
        error = math.sqrt(sum(float(r.stderr) ** 2 for r in reads)) / len(reads)
        yield mi.Reading(f"MI {level:g}: infonce", level, value, error, seconds)


def telescoping(task: mi.Task) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """Six rungs, batches of 256 fresh pairs."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        torch.manual_seed(100_000 + seed)
        dim = task.sample(2, 0)[0].size(1)
        start = time.process_time()
        critic = TelescopingCritic(dim, dim, 64)
        steps = 40 if quick else 2500
        fit_critic(critic, fresh(task, 256, seed), steps, lr=5e-3, patience=None)
        seconds = time.process_time() - start
        yield _reading(
            "telescoping", task.truth, critic.estimate(*task.sample(6400, seed)), seconds
        )

    return run


def nodes(rho: float) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """A node against the mean of its graph, 64 fresh graphs of ten nodes a batch."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        torch.manual_seed(110_000 + seed)
        start = time.process_time()
        critic = MutualInformationCritic(4, 4, 64)
        steps = 40 if quick else 1200
        fit_critic(critic, lambda: mi.pooled(64, rho), steps, lr=5e-3, patience=None)
        seconds = time.process_time() - start
        read = critic.estimate(*mi.pooled(1500, rho))
        yield _reading("classifier", mi.pooled_truth(rho), read, seconds)

    return run


def sizes(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """Independent pairs, graphs of 5 or 50 nodes, and a summary that tells which."""

    def sample(graphs: int = 16) -> tuple[Tensor, Tensor, Tensor]:
        large = torch.arange(graphs) % 2 == 0
        batch = torch.arange(graphs).repeat_interleave(torch.where(large, 50, 5))
        y = torch.where(large, 2.0, -2.0).unsqueeze(1) + torch.randn(graphs, 1)
        return torch.randn(len(batch), 2), y, batch

    for weighted in (True, False):
        torch.manual_seed(120_000 + seed)
        start = time.process_time()
        critic = MutualInformationCritic(2, 1, 64, size_weighted=weighted)
        fit_critic(critic, sample, 40 if quick else 500, lr=5e-3)
        seconds = time.process_time() - start
        system = "classifier" if weighted else "negatives not weighted"
        yield _reading(system, 0.0, critic.estimate(*sample(1000)), seconds)


# -- tasks of known information --------------------------------------------------------------------


def _split(task: mi.Task, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    x, y = task.sample(sum(mi.SIZES.values()), 1000 + seed)
    parts = zip(mi.SIZES, x.split(list(mi.SIZES.values())), y.split(list(mi.SIZES.values())))
    return {name: (a, b) for name, a, b in parts}


def ours(task: mi.Task, system: str) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """One of our estimators on 6,000 pairs, with 1,500 to stop and 2,500 to read."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        data = _split(task, seed)
        torch.manual_seed(130_000 + seed)
        dims = data["train"][0].size(1), data["train"][1].size(1)
        critic: torch.nn.Module
        if system == "telescoping":
            critic = TelescopingCritic(*dims, 64)
        else:
            base = "gaussian" if system == "Gaussian base" else None
            critic = MutualInformationCritic(*dims, 64, base=base)
        start = time.process_time()
        fit_critic(
            critic,
            data["train"],
            40 if quick else 2000,
            val=data["val"],
            batch_size=128,
            lr=5e-3,
        )
        seconds = time.process_time() - start
        for name in READOUTS if system == "critic" else READOUTS[:1]:
            label = name if system == "critic" else system
            label = "smile(5)" if label == "smile" else label
            read = critic.estimate(*data["test"], readout=name)  # type: ignore[operator]
            yield _reading(label, task.truth, read, seconds)

    return run
