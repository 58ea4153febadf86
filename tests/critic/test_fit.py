"""fit_critic and TelescopingCritic."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from pyg_gunet.critic import KLCritic, MutualInformationCritic, TelescopingCritic, fit_critic


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_fit_keeps_the_best_held_out_weights_and_is_reproducible() -> None:
    torch.manual_seed(3)
    p, q = torch.randn(60, 3) + 0.3, torch.randn(60, 3)
    start = KLCritic(3, 32)
    fits, critics = [], []
    for _ in range(2):
        critic = copy.deepcopy(start)
        torch.manual_seed(1)
        held = (torch.randn(200, 3) + 0.3, torch.randn(200, 3))
        generator = torch.Generator().manual_seed(0)
        fits.append(
            fit_critic(critic, (p, q), 300, val=held, lr=1e-2, batch_size=32, generator=generator)
        )
        critic.eval()
        calibrated = float(critic.loss(*held).detach())
        assert calibrated < fits[-1].best_loss + 1e-6  # slope and offset do no harm
        state = copy.deepcopy(critic)
        state.calibration.reset()
        assert float(state.loss(*held).detach()) == pytest.approx(fits[-1].best_loss, rel=1e-5)
        critics.append(critic)
    assert fits[0] == fits[1]
    assert fits[0].best_loss == min(loss for _, loss in fits[0].curve)
    assert fits[0].best_step < fits[0].steps < 300
    for a, b in zip(critics[0].parameters(), critics[1].parameters()):
        assert torch.equal(a, b)


def test_fit_calibrates_slope_and_offset_on_held_out_data() -> None:
    # The network cannot learn (lr=0), so all that fit does is the calibration of the Gaussian base,
    # which is wrong by a factor and a constant: moments from 4 times the log-ratio's slope.
    critic = KLCritic(1, 4, base="gaussian")
    held = torch.randn(20_000, 1) + 1, torch.randn(20_000, 1)
    train = torch.randn(5000, 1) * 0.9 + 1.1, torch.randn(5000, 1) * 0.9
    fit_critic(critic, train, 1, val=held, lr=0.0)
    raw = 1.1 / 0.9**2  # of the base, for x; the true slope is 1
    assert float(critic.calibration.slope) == pytest.approx(1 / raw, abs=0.05)
    estimate = critic.estimate(torch.randn(20_000, 1) + 1, torch.randn(20_000, 1))
    assert float(estimate.value) == pytest.approx(0.5, abs=0.03)
    fit_critic(critic, (held[1], held[1]), 1, lr=0.0)  # starts from the identity again
    assert abs(float(critic.estimate(*held).value)) < 0.05


def test_held_out_batches_calibrate_alike_however_many_nodes_they_hold(
    monkeypatch,
) -> None:
    monkeypatch.setattr("pyg_gunet.critic.fit.CALIBRATION_PRIOR", (1e9, 1e9))  # it counts nodes
    batch = torch.arange(8).repeat_interleave(torch.arange(8) % 3 + 1)
    y, other = torch.randn(8, 2), torch.randn(8, 2)
    one, two = (y[batch] + torch.randn(len(batch), 2), y, batch), (other[batch], other, batch)
    found = []
    for times in (1, 3):
        torch.manual_seed(1)
        critic = MutualInformationCritic(2, 2, 4, base="gaussian")
        more = (two[0].repeat_interleave(times, 0), other, batch.repeat_interleave(times))
        fit_critic(critic, lambda: one, 1, val=[one, more], lr=0.0)
        found.append(torch.stack([critic.calibration.slope, critic.calibration.offset]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found[0], torch.tensor([1.0, 0.0]), atol=0.02)


def test_fits_that_cannot_start() -> None:
    critic = KLCritic(1, 4)
    data = torch.randn(10, 1), torch.randn(10, 1)
    with pytest.raises(ValueError, match="'steps' must be at least 1"):
        fit_critic(critic, data, 0)
    with pytest.raises(TypeError, match="'sample' must be a function"):
        fit_critic(critic, [1, 2], 10)
    with pytest.raises(ValueError, match="'val_ratio' must lie in"):
        fit_critic(critic, data, 10, val_ratio=1.0)
    with pytest.raises(ValueError, match="'p' must be finite"):
        fit_critic(critic, (data[0] * math.nan, data[1]), 10)
    with pytest.raises(TypeError, match="'critic'.*Linear"):
        fit_critic(torch.nn.Linear(1, 1), lambda: data, 1)
    with pytest.raises(ValueError, match=r"'sample' must hold two rows.*\[1, 1\]"):
        fit_critic(critic, (torch.zeros(1, 1), torch.zeros(1, 1)), 1)
    with pytest.raises(TypeError, match=r"'val'.*\[\]"):
        fit_critic(critic, data, 1, val=[])
    with pytest.raises(ValueError, match="'average' must be below 1"):
        fit_critic(critic, data, 1, average=1.0)


class Endless(torch.nn.Module):
    """What `fit_critic` asks of a critic, with a loss that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, *batch):
        return self.weight.sum() + torch.inf

    def prepare(self, batches):
        pass

    split = minibatch = prepare


def test_a_held_out_loss_that_is_infinite_from_the_start() -> None:
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="'val' must give a finite loss at the start .*inf"):
        fit_critic(Endless(), lambda: (one, one), 1)


# -- TelescopingCritic -----------------------------------------------------------------------------


def test_telescope_reads_large_information_and_detaches() -> None:
    d, truth = 5, 5.0
    rho = (1 - math.exp(-2 * truth / d)) ** 0.5

    def sample(n: int = 128) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, d)
        return x, rho * x + (1 - rho**2) ** 0.5 * torch.randn(n, d)

    critic = TelescopingCritic(d, d, 32)
    fit_critic(critic, sample, 500, lr=5e-3)
    estimate = critic.estimate(*sample(3000))
    assert float(estimate.value) == pytest.approx(truth, abs=0.5)
    assert estimate.quantity == "I(x; y)"
    x = torch.randn(4, d, requires_grad=True)
    critic.loss(x, x * 2).backward()
    assert x.grad is None


def test_telescope_waypoints_run_from_pairs_to_shuffled_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    critic = TelescopingCritic(2, 3, 4, rungs=6)
    seen: list[Tensor] = []
    rungs = critic._rungs
    monkeypatch.setattr(critic, "_rungs", lambda z: seen.append(z) or rungs(z))
    critic.eval()
    x, y = torch.randn(8, 2), torch.randn(8, 3)
    critic.loss(x, y)
    p, q = seen[0].split(8, dim=1)
    torch.testing.assert_close(p[0], torch.cat([x, y], 1))
    torch.testing.assert_close(q[-1], torch.cat([x, y.roll(4, 0)], 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(p[1:], q[:-1])
    a = math.sin(math.pi * 2 / 12)
    torch.testing.assert_close(p[2][:, 2:], (1 - a * a) ** 0.5 * y + a * y.roll(4, 0))
    with pytest.raises(ValueError, match="'y' must have one row per row"):
        critic.loss(x, y[:4])
    with pytest.raises(ValueError, match="'readout' must be one of"):
        critic.estimate(x, y, readout="dv")


class _Counter(torch.nn.Module):
    """One weight that every step moves by 1 through any loss: Adam of a constant gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.weight + 0 * x.sum()

    def prepare(self, batches: list) -> None:
        pass


def test_average_keeps_the_mean_of_the_weights_and_trains_on() -> None:
    data = torch.zeros(8, 1), torch.zeros(8, 1)
    seen: list[float] = []
    for average in (0.0, 0.9):
        model = _Counter()
        path: list[float] = []
        loss = model.loss

        def spy(x: Tensor, y: Tensor, loss=loss, model=model, path=path) -> Tensor:
            if torch.is_grad_enabled():
                path.append(float(model.weight.detach()))
            return loss(x, y)

        model.loss = spy
        fit_critic(
            model,
            data,
            60,
            val=data,
            lr=1.0,
            average=average,
            evaluations=6,
            progress=lambda step, loss: True,
        )
        weights = [*path[1:], 2 * path[-1] - path[-2]]  # after each of ten steps
        mean = 0.0
        for step, weight in enumerate(weights, 1):
            keep = min(average, step / (step + 10))
            mean = keep * mean + (1 - keep) * weight
        last = float(model.weight.detach())
        assert last == pytest.approx(mean, rel=0.01)
        assert (last < 0.95 * weights[-1]) == (average > 0)
        seen.append(path[-1])
    assert seen[0] == pytest.approx(seen[1])  # the steps do not know of the average
