"""Tasks of known mutual information, after Czyz et al. (NeurIPS 2023), `Beyond Normal`.

Every task is a Gaussian or Student pair, whose information has a closed form, sent through maps
that are one-to-one on x and on y separately: those keep the information and change everything
else. The definitions are re-derived from the paper; parameters are stated here and may differ from
its reference samples, which does not matter as both sides of the table see the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import digamma, gammaln, ndtr
from torch import Tensor

from pyg_gunet.critic import gaussian_mutual_information

Pair = tuple[Tensor, Tensor]
# What trains, stops and reads a critic of 10,000 pairs; calls that split by themselves get all.
SIZES = {"train": 6000, "val": 1500, "test": 2500}


@dataclass
class Reading:
    """One estimate of one system in one case, in nats; `flagged` is 1 where it doubts itself."""

    system: str
    truth: float
    value: float
    stderr: float = math.nan
    seconds: float = 0.0
    flagged: float = math.nan


@dataclass(frozen=True)
class Task:
    """A name, the truth in nats, and a sampler ``draw(n, generator) -> (x, y)`` in float64."""

    name: str
    truth: float
    draw: Callable[[int, torch.Generator], Pair]

    def sample(self, n: int, seed: int) -> Pair:
        """`n` pairs in float32."""
        x, y = self.draw(n, torch.Generator().manual_seed(seed))
        return x.float(), y.float()


def covariance(rhos: list[float], x_dim: int, y_dim: int) -> Tensor:
    """Unit variances; the first coordinates of x and y are paired with correlations `rhos`."""
    cov = torch.eye(x_dim + y_dim, dtype=torch.float64)
    for i, rho in enumerate(rhos):
        cov[i, x_dim + i] = cov[x_dim + i, i] = rho
    return cov


def gaussian(cov: Tensor, x_dim: int) -> Callable[[int, torch.Generator], Pair]:
    """A sampler of N(0, cov)."""
    tril = torch.linalg.cholesky(cov)

    def draw(n: int, generator: torch.Generator) -> Pair:
        z = torch.randn(n, len(cov), dtype=torch.float64, generator=generator) @ tril.T
        return z[:, :x_dim], z[:, x_dim:]

    return draw


def student(cov: Tensor, x_dim: int, dof: int) -> Callable[[int, torch.Generator], Pair]:
    """A sampler of the multivariate Student distribution with `dof` degrees of freedom."""
    normal = gaussian(cov, x_dim)

    def draw(n: int, generator: torch.Generator) -> Pair:
        x, y = normal(n, generator)
        g = torch.randn(n, dof, dtype=torch.float64, generator=generator)
        scale = (g.square().sum(1, keepdim=True) / dof).rsqrt()
        return x * scale, y * scale

    return draw


def student_information(cov: Tensor, x_dim: int, dof: int) -> float:
    """That of the Gaussian with the same matrix, and what the common scale adds (their eq. 4)."""
    y_dim = len(cov) - x_dim

    def f(nu: float) -> float:
        return float(gammaln(nu / 2) - nu / 2 * digamma(nu / 2))

    extra = f(dof) + f(dof + x_dim + y_dim) - f(dof + x_dim) - f(dof + y_dim)
    return float(gaussian_mutual_information(cov, x_dim)) + extra


def normal_cdf(x: Tensor) -> Tensor:
    """Coordinate-wise: uniform marginals."""
    return torch.from_numpy(ndtr(x.numpy()))


def half_cube(x: Tensor) -> Tensor:
    """Coordinate-wise sign(x) |x|^(3/2): heavier tails."""
    return x * x.abs().sqrt()


def wiggly_x(x: Tensor) -> Tensor:
    """Coordinate-wise and increasing: the derivative stays above 0.16."""
    return x + 0.4 * x.sin() + 0.2 * (1.7 * x + 1).sin() + 0.03 * (3.3 * x - 2.5).sin()


def wiggly_y(y: Tensor) -> Tensor:
    """Coordinate-wise and increasing: the derivative stays above 0.53."""
    return y - 0.4 * (0.4 * y).sin() + 0.17 * (1.3 * y + 3.5).sin() + 0.02 * (4.3 * y - 2.5).sin()


def spiral(x: Tensor, planes: list[tuple[int, int]], speed: float) -> Tensor:
    """Turns each plane by an angle of speed * |x|^2, which a rotation leaves alone: one-to-one."""
    angle = speed * x.square().sum(1)
    out = x.clone()
    for i, j in planes:
        out[:, i] = angle.cos() * x[:, i] - angle.sin() * x[:, j]
        out[:, j] = angle.sin() * x[:, i] + angle.cos() * x[:, j]
    return out


def swiss_roll(u: Tensor) -> Tensor:
    """[0, 1] onto a curve in the plane that never meets itself."""
    t = 1.5 * math.pi * (1 + 2 * u)
    return torch.cat([t * t.cos(), t * t.sin()], dim=1) / 21


def additive_noise(width: float) -> Task:
    """x uniform on [0, 1], y = x + noise uniform on [-width, width], width <= 1/2."""

    def draw(n: int, generator: torch.Generator) -> Pair:
        u = torch.rand(n, 2, dtype=torch.float64, generator=generator)
        return u[:, :1], u[:, :1] + width * (2 * u[:, 1:] - 1)

    # h(y) - h(y | x): a trapezoid against a uniform.
    return Task(f"additive noise 1x1, width {width}", width - math.log(2 * width), draw)


def mapped(task: Task, name: str, f: Callable, g: Callable) -> Task:
    """The task after one-to-one maps of x and of y."""

    def draw(n: int, generator: torch.Generator) -> Pair:
        x, y = task.draw(n, generator)
        return f(x), g(y)

    return Task(name, task.truth, draw)


def gaussian_task(name: str, cov: Tensor, x_dim: int) -> Task:
    return Task(name, float(gaussian_mutual_information(cov, x_dim)), gaussian(cov, x_dim))


def student_task(name: str, cov: Tensor, x_dim: int, dof: int) -> Task:
    return Task(name, student_information(cov, x_dim, dof), student(cov, x_dim, dof))


def tasks() -> list[Task]:
    """The table's tasks."""
    bivariate = gaussian_task("normal 1x1", covariance([0.75], 1, 1), 1)
    two_pairs = gaussian_task("normal 3x3, two pairs", covariance([0.8, 0.8], 3, 3), 3)
    five = gaussian_task("normal 5x5, two pairs", covariance([0.8, 0.8], 5, 5), 5)
    heavy = student_task("Student 2x2, dof 1", covariance([], 2, 2), 2, 1)
    return [
        bivariate,
        student_task("Student 5x5, dof 3", covariance([0.8, 0.8], 5, 5), 5, 3),
        mapped(heavy, "asinh of Student 2x2, dof 1", torch.asinh, torch.asinh),
        mapped(bivariate, "half-cube of normal 1x1", half_cube, half_cube),
        mapped(bivariate, "wiggly normal 1x1", wiggly_x, wiggly_y),
        mapped(five, "normal CDF of normal 5x5", normal_cdf, normal_cdf),
        mapped(
            two_pairs,
            "spiral of normal 3x3",
            lambda x: spiral(x, [(0, 1)], 1 / 3),
            lambda y: spiral(y, [(1, 2)], 1 / 3),
        ),
        mapped(
            bivariate,
            "swiss roll 2x1",
            lambda x: swiss_roll(normal_cdf(x)),
            lambda y: normal_cdf(y),
        ),
        additive_noise(0.1),
    ]


def staircase(information: float, dim: int = 20) -> Task:
    """`dim` pairs of equally correlated normals (Poole et al. 2019)."""
    rho = math.sqrt(1 - math.exp(-2 * information / dim))
    name = f"staircase d={dim}, MI {information:g}"
    return gaussian_task(name, covariance([rho] * dim, dim, dim), dim)


def staircase_spiral(information: float, dim: int = 20) -> Task:
    """The staircase after a spiral of every second plane, x only; |x|^2 is about `dim`."""
    planes = [(i, i + 1) for i in range(0, dim, 2)]
    return mapped(
        staircase(information, dim),
        f"spiral of staircase d={dim}, MI {information:g}",
        lambda x: spiral(x, planes, 1.0 / dim),
        lambda y: y,
    )


def pooled(graphs: int, rho: float, n: int = 10, d: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes x = rho g + sqrt(1 - rho^2) eps and the means of their graphs."""
    g, eps = torch.randn(graphs, 1, d), torch.randn(graphs, n, d)
    x = rho * g + math.sqrt(1 - rho**2) * eps
    return x.flatten(0, 1), x.mean(1), torch.arange(graphs).repeat_interleave(n)


def pooled_truth(rho: float, n: int = 10, d: int = 4) -> float:
    """cov(x, mean) = var(mean), so the squared correlation is var(mean)."""
    return -d / 2 * math.log(1 - (rho**2 + (1 - rho**2) / n))
