"""Faults of one kind each, on every critic that could have them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyg_gunet.critic import (
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
    dense_pairs,
    fit_critic,
    jsd_loss,
    pair_loss,
    pair_readout,
)
from tests.critic.critics import scramble

CRITICS = {
    "kl": lambda: KLCritic(2, 8),
    "kl on a base": lambda: KLCritic(2, 8, base="gaussian"),
    "dv": lambda: KLCritic(2, 8, objective="dv"),
    "pairs": lambda: MutualInformationCritic(2, 2, 8),
    "pairs on a base": lambda: MutualInformationCritic(2, 2, 8, base="gaussian"),
    "bilinear": lambda: MutualInformationCritic(2, 2, 8, "bilinear"),
    "concat": lambda: MutualInformationCritic(2, 2, 8, "concat"),
    "telescope": lambda: TelescopingCritic(2, 2, 8),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _data(n: int = 60) -> tuple[Tensor, Tensor]:
    x = 3 * torch.randn(n, 2) + 1
    return x, x + torch.randn(n, 2)


@pytest.mark.parametrize("name", CRITICS)
def test_reset_forgets_all_that_was_fitted(name: str) -> None:
    critic = CRITICS[name]()
    fresh = {k: v.clone() for k, v in critic.named_buffers()}
    fit_critic(critic, _data(), 5, lr=1e-2)
    assert any(not torch.equal(v, fresh[k]) for k, v in critic.named_buffers())
    critic.reset_parameters()
    for key, value in critic.named_buffers():
        torch.testing.assert_close(value, fresh[key], equal_nan=True, msg=key)
    assert float(critic.loss(*_data()).detach()) == pytest.approx(
        0 if name == "dv" else 2 * math.log(2)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CRITICS)
def test_samples_of_any_precision_are_taken(name: str, dtype: torch.dtype) -> None:
    critic = CRITICS[name]()
    x, y = _data()
    fit_critic(critic, (x.to(dtype), y.to(dtype)), 2, lr=1e-2)
    plain = critic.estimate(x, y)
    for a, b in ((x.to(dtype), y.to(dtype)), (x.to(dtype), y), (x, y.to(dtype))):
        critic.loss(a, b).backward()
        read = critic.estimate(a, b)
        assert float(read.value) == pytest.approx(float(plain.value), abs=0.05)


def test_penalty_leaves_the_parameters_to_other_losses() -> None:
    critic = scramble(KLCritic(2, 8))
    seen = []
    critic.net.register_forward_hook(
        lambda *_: seen.append([p.requires_grad for p in critic.parameters()])
    )
    weight = critic.net.lin1.weight
    weight.requires_grad_(False)
    z = torch.randn(5, 2, requires_grad=True)
    penalty = critic.penalty(z)
    # Switched off for a moment, a parameter is lost to a loss that another thread builds.
    assert seen == [[p is not weight for p in critic.parameters()]]
    (penalty + critic.loss(z.detach(), torch.randn(5, 2))).backward()
    assert weight.grad is None
    assert critic.net.lin2.weight.grad is not None


@pytest.mark.parametrize("name", CRITICS)
def test_a_frozen_submodule_stays_frozen(name: str) -> None:
    critic = CRITICS[name]()
    inner = critic.norm if hasattr(critic, "norm") else critic.norm_x
    inner.eval()
    x, y = _data()
    seen = []
    inner.register_forward_hook(lambda m, *_: seen.append(m.training))
    critic.estimate(x, y)
    fit_critic(critic, (x, y), 2)
    assert critic.training
    assert not inner.training
    assert seen
    assert not any(seen)
    critic.eval()
    fit_critic(critic, (x, y), 2)
    assert not any(m.training for m in critic.modules())


def test_weights_of_zero_are_refused_by_name() -> None:
    r, zero = torch.randn(3), torch.zeros(3)
    with pytest.raises(ValueError, match="'weight_p' must have a positive sum"):
        jsd_loss(r, r, zero)
    with pytest.raises(ValueError, match="'weight_q' must have a positive sum"):
        jsd_loss(r, r, None, zero)
    pairs = dense_pairs(torch.randn(3, 3), torch.arange(3), zero)
    for call in (pair_loss, pair_readout):
        with pytest.raises(ValueError, match="'weight' of the negatives must have a positive sum"):
            call(pairs)


# -- what training is made of ----------------------------------------------------------------------


def test_log_ratios_of_dv_are_held_to_thirty() -> None:
    x = torch.linspace(-1000, 1000, 41).unsqueeze(1)
    for objective, held in (("dv", True), ("jsd", False)):
        critic = KLCritic(1, 8, objective=objective)
        torch.nn.init.ones_(critic.net.skip.weight)
        r = critic.log_ratio(x)
        assert (float(r.abs().max()) <= 30.0) == held
        torch.testing.assert_close(r[20], x[20, 0])
        torch.testing.assert_close(
            critic.log_ratio(torch.tensor([[1.0]])), torch.ones(1), atol=1e-3, rtol=0
        )


def test_gradients_are_clipped_to_max_norm() -> None:
    norms = {}
    for limit in (1e-3, 1e9):
        critic = scramble(KLCritic(2, 8))
        fit_critic(critic, _data(), 3, max_norm=limit, lr=0.0)
        norms[limit] = float(torch.stack([p.grad.norm() for p in critic.parameters()]).norm())
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1e9] > 0.01


class _Slope(torch.nn.Module):
    """A loss whose gradient is always one, so that Adam moves by the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []

    def prepare(self, batches: object) -> None:
        pass

    def loss(self, p: Tensor, q: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.seen.append(float(self.weight.detach()))
        return self.weight + 0 * p.sum()


def test_the_learning_rate_rises_and_decays_to_zero() -> None:
    model, steps = _Slope(), 100
    batch = torch.ones(2, 1), torch.ones(2, 1)
    fit_critic(model, lambda: batch, steps, lr=0.1, patience=None)
    rates = -torch.tensor([*model.seen, float(model.weight.detach())]).diff()
    t = torch.arange(steps)
    expected = 0.1 * ((t + 1) / 2).clamp(max=1) * 0.5 * (1 + (math.pi * t / steps).cos())
    torch.testing.assert_close(rates, expected, atol=1e-5, rtol=1e-3)
    assert float(rates[-1]) < 1e-4 < 0.04 < float(rates[50]) < 0.06
    stuck = fit_critic(_Slope(), lambda: batch, steps, lr=0.0)
    assert (stuck.steps, stuck.best_step) == (50, 0)  # ten evaluations without a gain
