"""KLCritic: reading, contracts."""

from __future__ import annotations

import math

import pytest
import torch

from pyg_gunet.critic import KLCritic, fit_critic
from tests.critic.critics import scramble


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("objective", ["jsd", "nce", "dv", "infonce"])
def test_kl_of_shifted_gaussians_with_every_objective(objective: str) -> None:
    nu = 4.0 if objective == "nce" else 1.0
    critic = KLCritic(2, 32, objective=objective, nu=nu)
    fit_critic(critic, lambda: (torch.randn(256, 2) + 1, torch.randn(256, 2)), 400, lr=3e-3)
    p, q = torch.randn(8000, 2) + 1, torch.randn(8000, 2)
    for direction, truth in (("forward", 1.0), ("reverse", 1.0), ("jeffreys", 2.0)):
        estimate = critic.estimate(p, q, direction=direction)
        assert float(estimate.value) == pytest.approx(truth, abs=0.15)
    assert float(critic.estimate(p, q).log_z) == pytest.approx(0.0, abs=0.15)


def test_gaussian_base_reads_both_directions() -> None:
    critic = KLCritic(10, 32, base="gaussian")
    fit_critic(critic, lambda: (2 * torch.randn(128, 10), torch.randn(128, 10)), 100)
    p, q = 2 * torch.randn(8000, 10), torch.randn(8000, 10)
    assert float(critic.estimate(p, q).value) == pytest.approx(8.069, abs=0.3)
    reverse = critic.estimate(p, q, direction="reverse")
    assert float(reverse.value) == pytest.approx(3.181, abs=0.2)


def test_no_divergence_reads_near_zero_on_finite_data() -> None:
    critic = KLCritic(4, 64)
    fit = fit_critic(critic, (torch.randn(1000, 4), torch.randn(1000, 4)), 500, batch_size=128)
    assert fit.steps < 500  # stopped early, by the held-out part
    estimate = critic.estimate(torch.randn(1000, 4), torch.randn(1000, 4))
    assert abs(float(estimate.value)) < 0.08


def test_dv_does_not_run_away_on_few_samples() -> None:
    delta = (16 / 10) ** 0.5
    p, q = torch.randn(300, 10) + delta, torch.randn(300, 10)
    critic = KLCritic(10, 64, objective="dv")
    fit_critic(critic, (p, q), 600, lr=3e-3, batch_size=128)
    estimate = critic.estimate(torch.randn(2000, 10) + delta, torch.randn(2000, 10), "dv")
    assert 3.0 < float(estimate.value) < 13.0
    # The gradient of the corrected bound stays bounded where the raw one follows one sample.
    critic.train()
    for _ in range(20):
        critic.loss(p, q).backward()
    assert all(bool(torch.isfinite(w.grad).all()) for w in critic.parameters())


def test_estimate_runs_in_eval_mode_without_gradient_and_restores_the_mode() -> None:
    critic = scramble(KLCritic(2, 8))
    seen = []
    critic.net.register_forward_hook(
        lambda m, *_: seen.append((m.training, torch.is_grad_enabled()))
    )
    critic.train()
    p = torch.randn(4, 2, requires_grad=True)
    estimate = critic.estimate(p, torch.randn(4, 2))
    assert seen == [(False, False)]
    assert critic.training
    assert not estimate.value.requires_grad
    critic.eval()
    critic.estimate(p, torch.randn(4, 2))
    assert not critic.training


def test_dv_moving_average_is_updated_in_training_only() -> None:
    critic = scramble(KLCritic(2, 8, objective="dv"))
    p, q = torch.randn(4, 2), torch.randn(4, 2)
    critic.eval()
    critic.loss(p, q)
    assert bool(critic.log_mean.isnan())
    critic.train()
    critic.loss(p, q)
    first = critic.log_mean.clone()
    expected = critic(p, q)[1].exp().mean().log()
    torch.testing.assert_close(first, expected.detach())
    critic.loss(p, q + 1)
    assert not torch.equal(critic.log_mean, first)
    with torch.no_grad():
        kept = critic.log_mean.clone()
        critic.loss(p, q)
    assert torch.equal(critic.log_mean, kept)


def test_a_kl_critic_refuses_by_name() -> None:
    with pytest.raises(ValueError, match="'objective' must be one of"):
        KLCritic(2, objective="mine")
    with pytest.raises(ValueError, match="'nu'.*511"):
        KLCritic(2, objective="nce", nu=511)
    with pytest.raises(ValueError, match="'nu' goes with objective='nce'"):
        KLCritic(2, nu=2.0)
    with pytest.raises(ValueError, match="'base' must be one of"):
        KLCritic(2, base="flow")
    critic, two = KLCritic(2), torch.zeros(3, 2)
    bad = torch.tensor([[0.0, math.nan]])
    for call in (critic, critic.loss, critic.estimate):
        with pytest.raises(ValueError, match="'q' must be finite"):
            call(two, bad)
        with pytest.raises(ValueError, match="'p' must have 2 channels"):
            call(torch.zeros(3, 5), two)
    with pytest.raises(ValueError, match="'r_p' must have shape"):
        critic.estimate(two[:1], two)


def test_penalty_moves_samples_but_not_the_critic() -> None:
    critic = scramble(KLCritic(2, 8))
    z = torch.randn(5, 2, requires_grad=True)
    penalty = critic.penalty(z)
    torch.testing.assert_close(penalty, critic.log_ratio(z).mean())
    penalty.backward()
    assert float(z.grad.abs().sum()) > 0
    assert all(w.grad is None for w in critic.parameters())
