"""estimate_mi and estimate_kl: what they read, when they doubt, and what they are made of."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from pyg_gunet import KLCritic, estimate_kl, estimate_mi, fit_critic
from pyg_gunet.critic.crossfit import Budget
from pyg_gunet.critic.density import Classes, Density, Normalize, Rescale
from pyg_gunet.critic.ensemble import Stack
from pyg_gunet.critic.estimate import SHUFFLES, CrossFit, _coordinates, _ratio, _shuffled
from pyg_gunet.critic.readout import Estimate, judge

BUDGET = Budget(steps=1, time_limit=1.0, hidden=4, parts=1, progress=None)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _pair(information: float, n: int, d: int = 1) -> tuple[Tensor, Tensor]:
    rho = math.sqrt(1 - math.exp(-2 * information / d))
    x = torch.randn(n, d, dtype=torch.float64)
    return x, rho * x + math.exp(-information / d) * torch.randn(n, d, dtype=torch.float64)


# -- readings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("information", [0.0, 1.0, 6.0])
def test_reads_normal_pairs_through_one_to_one_maps(information: float) -> None:
    x, y = _pair(information, 1500)
    y = y.squeeze(1) if information > 1 else (y * y.abs()).squeeze(1)
    read = estimate_mi(x if information > 1 else x.exp(), 3 * y - 1, steps=60, folds=2)
    assert abs(float(read.value) - information) < max(3 * float(read.stderr), 0.02)
    assert float(read.stderr) < 0.15
    assert read.quantity == "I(x; y)"
    assert (read.n_pos, read.reliable) == (1500, True), read


def test_a_reading_that_wants_more_steps_says_so() -> None:
    x, y = _pair(6.0, 1500)
    read = estimate_mi(x.exp(), y * y.abs(), steps=60, folds=2)
    assert float(read.value) < 5.5
    assert any("'y given x' was still falling" in reason for reason in read.reasons), read


def test_reads_divergences_of_all_sizes() -> None:
    for shift, truth in ((0.0, 0.0), (2.0, 2.0)):
        read = estimate_kl(torch.randn(800) + shift, torch.randn(700), steps=40, folds=2)
        assert abs(float(read.value) - truth) < max(3 * float(read.stderr), 0.02)
        assert 0.001 < float(read.stderr) < 0.25  # no "0.0000 +- 0.0000" where there is nothing
        assert (read.n_pos, read.n_neg) == (800, 700)


def test_few_samples_of_q_widen_the_error() -> None:
    """They decide where the ratio lies, though the mean is over P: 1.5 / m in the limit."""
    read = estimate_kl(torch.randn(2000) + 1, torch.randn(100), steps=30, folds=2)
    assert 0.08 < float(read.stderr) < 0.4
    assert abs(float(read.value) - 0.5) < 3 * float(read.stderr)


def test_training_beats_the_normal_start() -> None:
    """x and y share a scale only: uncorrelated, and all of it is beyond moments."""
    scale = torch.randn(3000, 1).mul(0.8).exp()
    x, y = scale * torch.randn(3000, 1), scale * torch.randn(3000, 1)
    read = estimate_mi(x, y, steps=300, folds=2)
    assert 0.08 < float(read.value) < 0.4  # a normal one reads 0


def test_labels_against_embeddings_either_way_round() -> None:
    y = torch.randint(3, (900,))
    x = torch.randn(900, 2)
    x[:, 0] += 4.0 * y
    reads = [estimate_mi(x, y, steps=200, folds=2), estimate_mi(y, x, steps=200, folds=2)]
    for read in reads:
        assert 0.85 < float(read.value) < math.log(3) + 0.02
    both = estimate_mi(y, (y + 1) % 3, steps=100, folds=2)
    assert float(both.value) == pytest.approx(math.log(3), abs=0.08)
    null = estimate_mi(torch.randn(900, 2), y, steps=60, folds=2)
    assert abs(float(null.value)) < 3 * float(null.stderr) + 0.01


def test_nodes_against_graphs_and_graphs_against_graphs() -> None:
    g = torch.randn(120, 1, 2)
    x = 0.8 * g + 0.6 * torch.randn(120, 8, 2)
    batch = torch.arange(120).repeat_interleave(8)
    y = x.mean(1)
    truth = -math.log(1 - (0.64 + 0.36 / 8))
    read = estimate_mi(x.flatten(0, 1), y, batch, steps=40, folds=2)
    assert abs(float(read.value) - truth) < 3 * float(read.stderr) < 1.0
    assert read.n_pos == 960
    # A graph's label is that of all its nodes; they are held out together.
    label = (g[:, 0, 0] > 0).long()
    read = estimate_mi(x.flatten(0, 1), label, batch, steps=40, folds=2)
    assert 0.1 < float(read.value) < math.log(2)
    assert abs(float(estimate_mi(y, g[:, 0], steps=40, folds=2).value) - 1.9) < 1.0


def test_samples_that_repeat_go_to_the_critic() -> None:
    x = torch.randint(3, (600, 2)).float()
    y = x + torch.randint(2, (600, 2)).float()
    read = estimate_mi(x, y, steps=40, folds=2)
    assert math.isfinite(float(read.value))
    assert {part for part, _, _ in read.trace.curves} == {"critic"}


def test_clusters_widen_the_error_and_are_read_by_strangers() -> None:
    x, y = _pair(1.0, 150)
    ids = torch.arange(150).repeat(6)
    x, y = x.repeat(6, 1) + 1e-3 * torch.randn(900, 1), y.repeat(6, 1) + 1e-3 * torch.randn(900, 1)
    clustered = estimate_mi(x, y, cluster=ids, steps=30, folds=2)
    naive = estimate_mi(x, y, steps=30, folds=2)
    assert float(clustered.stderr) > 1.5 * float(naive.stderr)
    p = torch.randn(100, 1).repeat(4, 1)
    ids = torch.arange(100).repeat(4)
    wide = estimate_kl(p, p + 1, cluster_p=ids, cluster_q=ids, steps=30, folds=2)
    assert float(wide.stderr) > float(estimate_kl(p, p + 1, steps=30, folds=2).stderr)


def test_one_seed_is_one_reading_and_every_pair_is_read_once() -> None:
    x, y = _pair(0.5, 203)
    reads = []
    for _ in range(2):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2)
        reads.append(estimate_mi(x, y, steps=20, generator=generator))
    assert float(reads[0].value) == float(reads[1].value)
    assert len(reads[0].trace.r_p) == 203


def test_precision_and_dimension_of_the_input() -> None:
    x, y = _pair(0.5, 200)
    for a, b in ((x.half(), y.squeeze(1)), (x.squeeze(1).float(), y.bfloat16())):
        assert math.isfinite(float(estimate_mi(a, b, steps=3, folds=2).value))
        assert math.isfinite(float(estimate_kl(a, b, steps=3, folds=2).value))


# -- verdicts --------------------------------------------------------------------------------------


def test_what_must_not_be_believed_says_so() -> None:
    x = torch.randn(400, 3)
    cauchy = torch.randn(600, 1) / torch.randn(600, 1)
    for name, read in {
        "no overlap": estimate_kl(torch.randn(400) + 50, torch.randn(400), steps=30, folds=2),
        "function": estimate_mi(x, x, steps=30, folds=2),
        "few": estimate_mi(torch.randn(64, 20), torch.randn(64, 20), steps=30, folds=2),
        "tails": estimate_kl(cauchy, torch.randn(600, 1), steps=30, folds=2),
    }.items():
        assert not read.reliable, (name, read)
        assert read.reasons[0] in repr(read)
        with pytest.warns(UserWarning, match="not reliable") as told:
            float(read)
        assert told[0].filename == __file__  # where the number is asked for
    # The critic alone, whose log Z nobody read.
    critic = KLCritic(1, 16)
    p, q = torch.randn(400, 1) + 50, torch.randn(400, 1)
    fit_critic(critic, (p, q), 50, lr=1e-2)
    read = critic.estimate(p, q)
    assert any("no overlap" in reason for reason in read.reasons)


def test_a_good_reading_is_silent_and_a_doubtful_one_warns() -> None:
    good = estimate_kl(torch.randn(500) + 1, torch.randn(500), steps=30, folds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(good) == float(good.value)
    assert "reliable" in repr(good)
    assert "NOT" not in repr(good)


def test_each_reason_by_itself() -> None:
    r = torch.randn(1000, dtype=torch.float64)
    r_p, r_q = r + 0.5, r - 0.5  # exact for shifted normals at KL 0.5
    assert judge(r_p, r_q, 0.5, 0.03) == ()
    assert judge(-r_q, -r_p, 0.5, 0.03) == ()
    assert "log E_Q[e^r] = 1." in judge(r_p + 1.3, r_q + 1.3, 1.8, 0.03)[0]
    assert judge(r_p + 1.3, r_q + 1.3, 1.8, 0.5) == ()  # cannot be told from 0
    assert "no overlap" in judge(r_p + 50, r_q, 50.0, 0.03)[0]
    one = r_q.clone()
    one[0] = 9.0
    assert any("effective samples" in reason for reason in judge(r_p, one, 1.5, 2.0))
    assert "ln n = 6.9" in judge(r_p, r_q, 7.0, 0.03)[0]
    assert "ln n = 2.3" in judge(r_p, r_q, 2.5, 0.03, count=10)[0]
    heavy = r_p.clone()
    heavy[:5] = 60.0
    assert "heavy tails" in judge(heavy, r_q, 0.8, 0.03)[0]


def test_a_time_limit_ends_training_and_is_told() -> None:
    x, y = _pair(0.5, 300)
    lines: list[str] = []
    read = estimate_mi(x, y, steps=100_000, time_limit=0.5, progress=lines.append)
    assert any("'time_limit' of 0.5 s" in reason for reason in read.reasons)
    assert lines[0].startswith("fold 1 of 4, y given x: step ")
    assert lines[-1].startswith("fold 4 of 4: ")


def test_plot(tmp_path) -> None:
    read = estimate_mi(*_pair(0.5, 200), steps=30, folds=2)
    assert (read.n_pos, read.n_neg) == (200, 2 * SHUFFLES * 200)
    figure = read.plot()
    assert [axis.get_title() for axis in figure.axes] == [
        "training",
        "I(x; y), fold by fold",
        "calibration",
    ]
    assert all(axis.lines for axis in figure.axes)
    assert [fold for fold, _ in read.trace.readings] == [0, 1]
    assert all(len(reading) > 1 for _, reading in read.trace.readings)
    figure.savefig(tmp_path / "read.png")
    same = read.trace._replace(r_q=read.trace.r_p).plot(0.0, "P against P").axes[2].lines[:-1]
    assert [line.get_ydata()[0] for line in same] == [0.0] * 15
    bare = Estimate(torch.tensor(0.0), torch.tensor(0.0), 1, 1, False, torch.tensor(0.0))
    with pytest.raises(ValueError, match="'plot' needs"):
        bare.plot()


# -- parts -----------------------------------------------------------------------------------------


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
