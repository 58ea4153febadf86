"""Closed forms against scipy, torch.distributions and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from pyg_gunet.functional.divergence import (
    gaussian_mutual_information,
    kl_diagonal_gaussian,
    kl_discrete,
    kl_gaussian,
)


def _simplex(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64).softmax(-1)


def _covariance(*lead: int, size: int = 4) -> torch.Tensor:
    root = torch.randn(*lead, size, size, dtype=torch.float64)
    return root @ root.mT + 0.5 * torch.eye(size, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_discrete_matches_scipy_and_torch() -> None:
    p, q = _simplex(5, 7), _simplex(5, 7)
    oracle = scipy.stats.entropy(p.numpy(), q.numpy(), axis=1)
    np.testing.assert_allclose(kl_discrete(p, q).numpy(), oracle, rtol=1e-12)
    back = kl_divergence(Categorical(q), Categorical(p))
    torch.testing.assert_close(kl_discrete(p, q, "reverse"), back)
    torch.testing.assert_close(kl_discrete(p, q, "jeffreys"), torch.from_numpy(oracle) + back)
    torch.testing.assert_close(kl_discrete(p.T, q.T, dim=0), kl_discrete(p, q))


def test_discrete_zero_probabilities_by_definition() -> None:
    p = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    q = torch.tensor([0.25, 0.5, 0.25, 0.0], requires_grad=True)
    forward = kl_discrete(p, q)
    assert float(forward.detach()) == pytest.approx(0.5 * math.log(2))
    assert math.isinf(float(kl_discrete(p, q, "reverse")))
    assert math.isinf(float(kl_discrete(p, q, "jeffreys")))
    assert float(kl_discrete(p, p)) == 0.0
    grads = torch.autograd.grad(forward, (p, q))
    assert all(bool(torch.isfinite(g).all()) for g in grads)


@pytest.mark.parametrize("direction", ["forward", "reverse", "jeffreys"])
def test_diagonal_gaussian_matches_torch(direction: str) -> None:
    mp, mq, lp, lq = (torch.randn(6, 3, dtype=torch.float64) for _ in range(4))
    p, q = Normal(mp, (lp / 2).exp()), Normal(mq, (lq / 2).exp())
    there, back = kl_divergence(p, q).sum(-1), kl_divergence(q, p).sum(-1)
    oracle = {"forward": there, "reverse": back, "jeffreys": there + back}[direction]
    torch.testing.assert_close(kl_diagonal_gaussian(mp, lp, mq, lq, direction), oracle)


@pytest.mark.parametrize("direction", ["forward", "reverse", "jeffreys"])
def test_full_gaussian_matches_torch_and_broadcasts(direction: str) -> None:
    mp, mq = torch.randn(5, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    cp, cq = _covariance(5), _covariance()
    p, q = MultivariateNormal(mp, cp), MultivariateNormal(mq.expand(5, 4), cq.expand(5, 4, 4))
    there, back = kl_divergence(p, q), kl_divergence(q, p)
    oracle = {"forward": there, "reverse": back, "jeffreys": there + back}[direction]
    torch.testing.assert_close(kl_gaussian(mp, cp, mq, cq, direction), oracle)
    alone = torch.stack([kl_gaussian(mp[i], cp[i], mq, cq, direction) for i in range(5)])
    torch.testing.assert_close(kl_gaussian(mp, cp, mq, cq, direction), alone)


def test_gaussian_forms_agree_with_each_other_and_with_samples() -> None:
    mp, lp, lq = torch.randn(3, 4, dtype=torch.float64)
    mq = torch.zeros_like(mp)
    diagonal = kl_diagonal_gaussian(mp, lp, logvar_q=lq)
    torch.testing.assert_close(diagonal, kl_gaussian(mp, lp.exp().diag(), mq, lq.exp().diag()))
    p, q = Normal(mp, (lp / 2).exp()), Normal(mq, (lq / 2).exp())
    x = p.sample((200_000,))
    terms = (p.log_prob(x) - q.log_prob(x)).sum(-1)
    assert abs(float(terms.mean() - diagonal)) < 5 * float(terms.std()) / len(x) ** 0.5


def test_known_values_in_float32() -> None:
    wide = torch.full((10,), 4.0).log()
    zero = torch.zeros(10)
    assert float(kl_diagonal_gaussian(zero, wide)) == pytest.approx(8.0685, abs=1e-4)
    assert float(kl_diagonal_gaussian(zero, wide, direction="reverse")) == pytest.approx(
        3.1815, abs=1e-4
    )
    # Close variances: the plain formula returns 0 or a negative number in float32.
    tiny = kl_diagonal_gaussian(torch.zeros(1), torch.full((1,), 1e-4))
    assert float(tiny) == pytest.approx(2.5e-9, rel=1e-2)


def test_gaussian_mutual_information_is_a_kl() -> None:
    cov = _covariance(3, size=5)
    blocks = torch.zeros_like(cov)
    blocks[:, :2, :2], blocks[:, 2:, 2:] = cov[:, :2, :2], cov[:, 2:, 2:]
    zero = torch.zeros(3, 5, dtype=torch.float64)
    torch.testing.assert_close(
        gaussian_mutual_information(cov, 2), kl_gaussian(zero, cov, zero, blocks)
    )


def test_gradients() -> None:
    mp, lp, mq, lq = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(4))
    assert torch.autograd.gradcheck(
        lambda *a: kl_diagonal_gaussian(*a, direction="jeffreys"), (mp, lp, mq, lq)
    )
    root_p, root_q = (torch.randn(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def full(mp: torch.Tensor, a: torch.Tensor, mq: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(3, dtype=torch.float64)
        return kl_gaussian(mp, a @ a.mT + eye, mq, b @ b.mT + eye)

    assert torch.autograd.gradcheck(full, (mp, root_p, mq, root_q))
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: kl_discrete(x[0].softmax(0), x[1].softmax(0), "jeffreys"), (logits,)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_compute_in_float32(dtype: torch.dtype) -> None:
    mean, cov = torch.randn(6).to(dtype), torch.eye(6).to(dtype) * 2
    zero, eye = torch.zeros(6, dtype=dtype), torch.eye(6, dtype=dtype)
    oracle = kl_gaussian(mean.double(), cov.double(), zero.double(), eye.double())
    with torch.autocast("cpu", dtype=dtype):
        out = kl_gaussian(mean, cov, zero, eye)
        assert out.dtype == torch.float32
        assert float(out) == pytest.approx(float(oracle), rel=1e-5)
        assert kl_discrete(_simplex(4).to(dtype), _simplex(4).to(dtype)).dtype == torch.float32
        assert kl_diagonal_gaussian(mean, zero).dtype == torch.float32


def test_bad_input_names_the_argument() -> None:
    half = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="'q' must sum to 1"):
        kl_discrete(half, torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match="'p' must be non-negative"):
        kl_discrete(torch.tensor([-0.5, 1.5]), half)
    with pytest.raises(ValueError, match="'p' must not be NaN"):
        kl_discrete(torch.tensor([math.nan, 1.0]), half)
    with pytest.raises(ValueError, match="'direction' must be one of"):
        kl_discrete(half, half, "backward")
    with pytest.raises(TypeError, match="'p' must be floating point"):
        kl_discrete(torch.tensor([1, 0]), half)
    with pytest.raises(ValueError, match="'logvar_p' must not be NaN"):
        kl_diagonal_gaussian(half, torch.tensor([math.nan, 0.0]))
    eye = torch.eye(2)
    with pytest.raises(ValueError, match="'cov_q' must be positive definite"):
        kl_gaussian(half, eye, half, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="'cov_p' must be symmetric"):
        kl_gaussian(half, torch.tensor([[1.0, 0.5], [0.0, 1.0]]), half, eye)
    with pytest.raises(ValueError, match="'cov_p' must have shape"):
        kl_gaussian(half, torch.eye(3), half, eye)
    with pytest.raises(ValueError, match="'x_channels' must be below"):
        gaussian_mutual_information(eye, 2)
