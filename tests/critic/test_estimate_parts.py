"""The parts that an estimate is made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyg_gunet import estimate_kl, estimate_mi, fit_critic
from pyg_gunet.critic.crossfit import Budget
from pyg_gunet.critic.density import Classes, Density, Normalize, Rescale
from pyg_gunet.critic.ensemble import Stack
from pyg_gunet.critic.estimate import CrossFit, _coordinates, _ratio, _shuffled
from pyg_gunet.critic.readout import Estimate
from tests.critic.test_estimate import _pair


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_density_starts_as_the_regression_and_integrates_to_one() -> None:
    x, y = torch.randn(4000, 2), torch.randn(4000, 2)
    y = y @ torch.tensor([[1.0, 0.5], [0.0, 2.0]]) + x
    density = Density(2, 2, 16)
    assert torch.equal(density(x, y), density(-x, y))  # the network says nothing yet
    density.prepare([(x, y)])
    left = y - x - y.mean(0) + x.mean(0)
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), left.T.cov())
    with torch.no_grad():
        gap = density(x, y).double().mean() - normal.log_prob(left).mean()
    assert abs(float(gap)) < 0.02
    small = Density(2, 2, 16)  # in other units
    small.prepare([(x, 1e-5 * y)])
    with torch.no_grad():
        expected = density(x, y) - 2 * math.log(1e-5)
        torch.testing.assert_close(small(x, 1e-5 * y), expected, rtol=1e-3, atol=1e-3)
    small.reset_parameters()
    assert torch.equal(small.residual(x, y), y.double())
    one = Density(2, 1, 8)
    one.prepare([(x, y[:, :1])])
    for weight in one.weights:
        torch.nn.init.normal_(weight, std=0.5)
    points = torch.linspace(-300, 300, 200_001).unsqueeze(1)
    with torch.no_grad():
        total = one(x[:1].expand(len(points), 2), points).exp().sum() * 0.003
    assert float(total) == pytest.approx(1.0, abs=1e-3)


def test_density_of_a_box() -> None:
    """Flat with two edges, which bells alone blur."""
    x = 0.5 * torch.randn(2000, 1)
    y = x + torch.rand(2000, 1)
    box = Density(1, 1, 16)
    with torch.no_grad():
        box.weights[-1].normal_(std=0.3)
        box.biases[-1].split(box.parts, -1)[3].fill_(6.0)  # nearly all of the weight
        points = torch.linspace(-300, 300, 400_001).unsqueeze(1)
        total = box(x[:1].expand(len(points), 1), points).exp().sum() * 0.0015
    assert float(total) == pytest.approx(1.0, abs=2e-3)
    density = Density(1, 1, 32)
    fit_critic(density, (x, y), 400, lr=1e-2, average=0.98)
    held = 0.5 * torch.randn(4000, 1)
    with torch.no_grad():
        read = density(held, held + torch.rand(4000, 1)).mean()
    assert -0.06 < float(read) < 0.01  # the truth is 0; the best normal density -0.18


class _Fixed:
    """A side whose log-ratio is x + offset times y."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.slope * x * y - 0.5 * self.slope**2 * y.square()).squeeze(1)


def test_stack_weighs_by_held_out_pairs_and_reads_what_averaging_lost() -> None:
    y = 0.4 * torch.randn(20_000, 1)
    x = y + torch.randn(20_000, 1)
    negatives = torch.randn(20_000, 1), y  # of N(y, 1) against N(0, 1) the ratio is xy - y^2/2
    good, bad = _Fixed(1.0), _Fixed(-1.0)
    stack = Stack([good, bad], x, y, negatives)
    assert (stack.shares, stack.lost) == ((1.0, 0.0), 0.0)
    assert Stack([bad, good], x, y, negatives).shares == (0.0, 1.0)
    assert torch.equal(stack.log_ratio(x, y), good.log_ratio(x, y))
    two = Stack([_Fixed(0.5), _Fixed(1.5)], x, y, negatives)
    assert two.shares == (0.5, 0.5)
    # The mean of the logarithms of N(.5y, 1) and N(1.5y, 1) is N(y, 1) times e^(-.125 y^2).
    assert two.lost == pytest.approx(0.5 * math.log(1 + 0.25 * 0.16), abs=0.005)
    assert float((two.log_ratio(x, y) - good.log_ratio(x, y)).mean()) == pytest.approx(0, abs=0.01)
    assert (Stack([good], x, y, negatives).lost, two.lost > 0) == (0.0, True)


@pytest.mark.parametrize(("noise", "chosen"), [("flat", Rescale), ("scores", Normalize)])
def test_coordinates_are_chosen_by_held_out_pairs(noise: str, chosen: type) -> None:
    x = torch.rand(1500, 1)
    y = x + 0.1 * torch.rand(1500, 1)
    if noise == "scores":
        x, y = (torch.special.ndtr(z) for z in _pair(1.5, 1500))
    run = CrossFit((x, y), True, torch.arange(1500), 2, Budget(400, 60.0, 32, 5, None), None)
    run.split(0)
    parts = (x[:1200], y[:1200]), (x[1200:], y[1200:])
    assert all(isinstance(f, chosen) for f in _coordinates(run, parts))
    assert run.curves == []  # a pilot leaves no trace


def test_coordinates_that_are_not_flat_cost_no_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _pair(1.0, 500)
    run = CrossFit((x, y), True, torch.arange(500), 2, Budget(400, 60.0, 32, 5, None), None)
    monkeypatch.setattr(run, "fit", None)
    assert all(isinstance(f, Normalize) for f in _coordinates(run, ((x, y), (x, y))))
    heavy = x.clone()
    heavy[0] = 30.0
    flat = torch.rand(500, 1)
    assert all(isinstance(f, Normalize) for f in _coordinates(run, ((flat, heavy), (flat, heavy))))


def test_rescaled_coordinates_are_as_they_were() -> None:
    x = torch.cat([torch.rand(100, 1), torch.ones(100, 1)], dim=1)
    z = Rescale(x)(x)
    assert z.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert z.std(0).tolist() == pytest.approx([1.0, 0.0])
    assert z.dtype == torch.float64


def test_both_sides_are_read_where_both_have_a_density() -> None:
    x, y = (z.exp() for z in _pair(0.5, 200, 2))
    for a, b, parts in (
        (x, y, {"y given x", "y alone", "x given y", "x alone", "classifier"}),
        # A single coordinate made normal is normal.
        (x[:, :1], y[:, :1], {"y given x", "x given y", "classifier"}),
        (torch.randn(200, 3).exp(), y[:, :1], {"y given x", "classifier"}),  # x is much the larger
        (x[:, :1].round(), y[:, :1], {"y given x", "classifier"}),  # x has none
    ):
        read = estimate_mi(a, b, steps=3, folds=2)
        assert {part for part, _, _ in read.trace.curves} == parts
    for width in (1, 2):  # parts trained and left out are all of those that share the time
        data = x[:, :width], y[:, :width]
        run = CrossFit(data, True, torch.arange(200), 2, Budget(3, 60.0, 8, 5, None), None)
        run.sides = 2
        train, held, ids = run.split(0)
        _ratio(run, 0, (train, train), held, ids[0], 0)
        assert (run.done, len(run.lost)) == (5, 1)


def test_what_averaging_lost_moves_the_value_and_widens_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_together = CrossFit.estimate
    reads = []
    for lost in (0.0, 0.2):

        def patched(run: CrossFit, quantity: str, channels: int, lost: float = lost) -> Estimate:
            run.lost = [lost] * len(run.lost)
            return put_together(run, quantity, channels)

        monkeypatch.setattr(CrossFit, "estimate", patched)
        torch.manual_seed(5)
        reads.append(estimate_mi(*_pair(0.5, 600), steps=30, folds=2))
    assert float(reads[1].value - reads[0].value) == pytest.approx(0.2, abs=0.06)
    gain = reads[1].stderr.square() - reads[0].stderr.square()
    assert float(gain) >= 0.2**2 / 3


def test_density_is_autoregressive() -> None:
    density = Density(1, 3, 8).double()
    for weight in density.weights:
        torch.nn.init.normal_(weight)
    parts = density.mask[:, 2:5, 0]
    assert torch.equal(parts, torch.ones(3, 3, dtype=torch.float64).tril(-1))
    assert torch.autograd.gradcheck(
        lambda x, y: density(x, y),
        tuple(torch.randn(4, d).double().requires_grad_() for d in (1, 3)),
    )


def test_normalize_is_increasing_and_keeps_what_is_finer_than_the_samples() -> None:
    x = torch.randn(5000, 1, dtype=torch.float64).exp()
    to_normal = Normalize(x)
    z = to_normal(x)
    assert abs(float(z.mean())) < 0.01
    assert float(z.std()) == pytest.approx(1.0, abs=0.02)
    points = torch.linspace(-50, 50, 4001, dtype=torch.float64).unsqueeze(1)
    assert bool((to_normal(points).diff(dim=0) > 0).all())
    near = to_normal(torch.tensor([[1.0], [1.0 + 1e-9]], dtype=torch.float64))
    assert float(near[1] - near[0]) > 1e-10
    for odd in (torch.ones(50, 1), torch.tensor([[0.0], [1.0]]).repeat(30, 1)):
        assert bool(torch.isfinite(Normalize(odd)(odd)).all())


def test_classes_start_from_their_shares() -> None:
    y = torch.tensor([0, 0, 0, 1])
    model = Classes(2, 2, 8)
    model.prepare([(torch.randn(4, 2), y)])
    assert float(model.log_ratio(torch.randn(4, 2), y).detach().abs().max()) < 1e-6


def test_shuffled_pairs_are_never_pairs() -> None:
    x = torch.arange(7.0).unsqueeze(1)
    (a, b), (row, other) = _shuffled(x, x, None, 50)
    assert len(a) == 6 * 7  # every turn but none
    assert not bool((a == b).any())
    assert torch.equal(a.flatten().long(), row)
    assert torch.equal(b.flatten().long(), other)


def test_estimate_mi_refuses_by_name() -> None:
    x = torch.randn(100, 2)
    for call, error, match in (
        (lambda: estimate_mi(x, x[:50]), ValueError, "'y' must have one row per row"),
        (lambda: estimate_mi(x * math.nan, x), ValueError, "'x' must be finite"),
        (lambda: estimate_mi(x[:, :0], x), ValueError, r"'x' must have a coordinate.*\[100, 0\]"),
        (lambda: estimate_kl(x[:, :0], x[:, :0]), ValueError, "'p' must have a coordinate"),
        (lambda: estimate_mi(x, x, folds=1), ValueError, "'folds' must be at least 2"),
        (lambda: estimate_mi(x[:10], x[:10]), ValueError, "'folds' asks for 4 independent"),
        (lambda: estimate_mi([1], x), TypeError, "'x' must be a torch.Tensor"),
        (lambda: estimate_mi(x, x, time_limit=-1.0), ValueError, "'time_limit' must lie in"),
        (lambda: estimate_mi(x, x, progress=3), TypeError, "'progress' must be a function"),
        (lambda: estimate_mi(x, x, torch.zeros(100).long() + 100), IndexError, "'batch' must lie"),
        (lambda: estimate_mi(x, torch.zeros(100, 1).long()), ValueError, "as labels"),
        (
            lambda: estimate_mi(torch.zeros(100).long(), x, torch.zeros(100).long()),
            TypeError,
            "'x' must be floating point with 'batch'",
        ),
        (lambda: estimate_kl(x, x[:, :1]), ValueError, "'q' must have 2 channels"),
        (
            lambda: estimate_kl(x, x, cluster_p=torch.zeros(100).long()),
            ValueError,
            "given together",
        ),
    ):
        with pytest.raises(error, match=match):
            call()
