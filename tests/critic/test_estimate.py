"""estimate_mi and estimate_kl: what they read, when they doubt, and what they are made of."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from pyg_gunet import KLCritic, estimate_kl, estimate_mi, fit_critic
from pyg_gunet.critic.crossfit import Budget
from pyg_gunet.critic.estimate import SHUFFLES
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
