"""The default, `estimate_mi` and `estimate_kl`, on families of known information, and its verdicts.

The families are those of the package `mutinfo`, re-derived from their definitions; all are sampled
in float64, as 10 nats in one dimension need digits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import _mi_tasks as mi
import numpy as np
import torch
from scipy.optimize import brentq
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

from pyg_gunet import Estimate, estimate_kl, estimate_mi

Pair = tuple[Tensor, Tensor]


def ksg(x: Tensor, y: Tensor, k: int = 3) -> float:
    """The k-NN estimator of Kraskov et al. (2004), their first, on standardised coordinates."""
    a, b = (((z - z.mean(0)) / z.std(0)).double().numpy() for z in (x, y))
    joint = np.hstack([a, b])
    reach = cKDTree(joint).query(joint, k + 1, p=math.inf)[0][:, -1]
    reach = np.nextafter(reach, 0)
    near = [cKDTree(z).query_ball_point(z, reach, p=math.inf, return_length=True) for z in (a, b)]
    return float(digamma(k) + digamma(len(a)) - sum(digamma(n).mean() for n in near))


# -- families --------------------------------------------------------------------------------------


def normal(information: float, d: int) -> mi.Task:
    rho = math.sqrt(1 - math.exp(-2 * information / d))
    return mi.gaussian_task("normal", mi.covariance([rho] * d, d, d), d)


def uniform(information: float, d: int) -> mi.Task:
    return mi.mapped(normal(information, d), "uniform", mi.normal_cdf, mi.normal_cdf)


def student(information: float, d: int, dof: int = 4) -> mi.Task:
    """Some information is there without correlation, by the common scale."""

    def at(log_rest: float) -> float:
        rho = math.sqrt(1 - math.exp(log_rest))
        return mi.student_information(mi.covariance([rho] * d, d, d), d, dof) - information

    rho = math.sqrt(1 - math.exp(brentq(at, -30.0, -1e-9)))
    return mi.student_task("Student, dof 4", mi.covariance([rho] * d, d, d), d, dof)


def smoothed_uniform(information: float, d: int) -> mi.Task:
    """x uniform on [0, 1], y = x + noise uniform on [-w, w]: w - ln 2w, above w = 1/2 1/4w."""
    each = information / d

    def at(log_w: float) -> float:
        w = math.exp(log_w)
        return (w - math.log(2 * w) if w < 0.5 else 0.25 / w) - each

    w = math.exp(brentq(at, -30.0, 10.0))

    def draw(n: int, generator: torch.Generator) -> Pair:
        u = torch.rand(2, n, d, dtype=torch.float64, generator=generator)
        return u[0], u[0] + w * (2 * u[1] - 1)

    return mi.Task("smoothed uniform", information, draw)


def log_gamma_exponential(information: float, d: int) -> mi.Task:
    """x ~ Gamma(t), y | x ~ Exp(x), both in logs: psi(t + 1) - ln t."""
    each = information / d
    t = math.exp(brentq(lambda s: digamma(math.exp(s) + 1) - s - each, -40.0, 20.0))

    def draw(n: int, generator: torch.Generator) -> Pair:
        u = torch.rand(2, n, d, dtype=torch.float64, generator=generator).clamp_min(1e-300)
        state = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        # Gamma(t) = Gamma(t + 1) u^(1/t): its logarithm does not underflow at a small t.
        log_x = torch.from_numpy(np.log(state.gamma(t + 1, size=(n, d)))) + u[0].log() / t
        return log_x, (-u[1].log()).log() - log_x

    return mi.Task("log gamma-exponential", information, draw)


def quantized(information: float, d: int) -> mi.Task:
    """x uniform on [0, 1], y the cell of 1/K that it lies in: ln K."""
    cells = max(round(math.exp(information / d)), 1)

    def draw(n: int, generator: torch.Generator) -> Pair:
        x = torch.rand(n, d, dtype=torch.float64, generator=generator)
        return x, (x * cells).floor() / cells

    return mi.Task("quantized uniform", d * math.log(cells), draw)


FAMILIES = (normal, student, smoothed_uniform, uniform, log_gamma_exponential, quantized)


def paired(task: mi.Task, wide: bool = False) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """The default and KSG on all 10,000 pairs of a task; in float64 where `wide`."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        n = 400 if quick else 10_000
        if wide:
            x, y = task.draw(n, torch.Generator().manual_seed(140_000 + seed))
        else:
            x, y = (z[:n] for z in task.sample(10_000, 1000 + seed))
        torch.manual_seed(seed)
        start = time.process_time()
        read = estimate_mi(x, y, steps=40 if quick else 600, time_limit=1e4)
        yield _reading("estimate_mi", task.truth, read, start)
        start = time.process_time()
        yield mi.Reading("KSG", task.truth, ksg(x, y), seconds=time.process_time() - start)

    return run


def _reading(system: str, truth: float, read: Estimate, start: float) -> mi.Reading:
    seconds, flagged = time.process_time() - start, float(not read.reliable)
    return mi.Reading(system, truth, float(read.value), float(read.stderr), seconds, flagged)


# -- intervals and verdicts ------------------------------------------------------------------------


def shifted(kl: float, n: int = 500, steps: int = 300, d: int = 2) -> Estimate:
    shift = math.sqrt(2 * kl / d)
    return estimate_kl(torch.randn(n, d) + shift, torch.randn(n, d), steps=steps, time_limit=1e4)


def cubed(information: float, n: int = 500, steps: int = 300, d: int = 2) -> Estimate:
    """Normal pairs, both sides through x |x|^(1/2): no longer what the base assumes."""
    rho = math.sqrt(1 - math.exp(-2 * information / d))
    x = torch.randn(n, d)
    y = rho * x + math.sqrt(1 - rho**2) * torch.randn(n, d)
    return estimate_mi(mi.half_cube(x), mi.half_cube(y), steps=steps, time_limit=1e4)


def pooled(steps: int = 300) -> Estimate:
    return estimate_mi(*mi.pooled(150, 0.5), steps=steps, time_limit=1e4)


INTERVALS: dict[str, tuple[float, Callable[[int], Estimate]]] = {
    "KL 0.5": (0.5, lambda n: shifted(0.5, steps=n)),
    "KL 2": (2.0, lambda n: shifted(2.0, steps=n)),
    "MI 1": (1.0, lambda n: cubed(1.0, steps=n)),
    "MI 4": (4.0, lambda n: cubed(4.0, steps=n)),
    "node-graph": (mi.pooled_truth(0.5), pooled),
}


def interval(name: str) -> Callable[[int, bool], Iterator[mi.Reading]]:
    """One trained estimate a seed; the table counts the intervals that hold the truth."""

    def run(seed: int, quick: bool) -> Iterator[mi.Reading]:
        truth, make = INTERVALS[name]
        torch.manual_seed(150_000 + seed)
        start = time.process_time()
        yield _reading("estimate", truth, make(40 if quick else 300), start)

    return run


def doubtful(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """Whether an estimate that must not be believed says so: 1 is right."""
    torch.manual_seed(160_000 + seed)
    n, steps = (200, 40) if quick else (2000, 300)
    x = torch.randn(n, 3)
    cauchy = torch.randn(n, 1) / torch.randn(n, 1)
    makers = {
        "no overlap": lambda: estimate_kl(torch.randn(n) + 50, torch.randn(n), steps=steps),
        "y = x": lambda: estimate_mi(x, x, steps=steps),
        "64 pairs in 20 dimensions": lambda: estimate_mi(
            torch.randn(64, 20), torch.randn(64, 20), steps=steps
        ),
        "heavy tails": lambda: estimate_kl(cauchy, torch.randn(n, 1), steps=steps),
    }
    for name, make in makers.items():
        start = time.process_time()
        flagged = float(not make().reliable)
        yield mi.Reading(name, 1.0, flagged, math.nan, time.process_time() - start, flagged)


def easy(seed: int, quick: bool) -> Iterator[mi.Reading]:
    """One of eight easy ones, in turns: none is to be flagged."""
    torch.manual_seed(170_000 + seed)
    make, size = (shifted, cubed)[seed % 2], (0.0, 0.5, 1.0, 2.0)[seed // 2 % 4]
    start = time.process_time()
    read = make(size, 200 if quick else 1000, 40 if quick else 300)
    yield _reading("estimate", size, read, start)
