"""What lies between samples and an estimate: folds, shares of the time, what is pooled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pyg_gunet import estimate_mi, fit_critic
from pyg_gunet.critic import crossfit
from pyg_gunet.critic.crossfit import Budget, CrossFit, Residual
from pyg_gunet.critic.density import Density
from pyg_gunet.critic.estimate import _ratio

BUDGET = Budget(steps=1, time_limit=1.0, hidden=4, parts=1, progress=None)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_classifier_standardises_each_column_and_starts_from_the_last() -> None:
    rows = torch.randn(2, 50, 4) * torch.tensor([1.0, 10.0, 0.1, 1.0]) + torch.arange(4.0)
    critic = Residual(3, 8)
    critic.prepare([tuple(rows)])
    seen = critic.norm(rows.flatten(0, 1)[:, :3])
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(seen.std(0, unbiased=False), torch.ones(3))
    torch.testing.assert_close(critic.log_ratio(rows[0]), rows[0, :, 3])


def test_held_out_pairs_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(80.0).unsqueeze(1)
    trained: list[set[float]] = []
    held: list[set[float]] = []

    def spy(run: CrossFit, fold: int, parts, seen_by, ids: Tensor, classes: int) -> None:
        trained.append({v for part in parts for v in part[0].flatten().tolist()})
        held.append(set(seen_by[0].flatten().tolist()))
        _ratio(run, fold, parts, seen_by, ids, classes)

    monkeypatch.setattr("pyg_gunet.critic.estimate._ratio", spy)
    estimate_mi(x + torch.rand(80, 1) * 0.1, torch.randn(80, 1), steps=3, folds=2)
    assert all(not a & b for a, b in zip(trained, held))
    assert len(set().union(*held)) == sum(map(len, held)) == 80


@pytest.mark.parametrize("batch", [None, torch.arange(80).repeat_interleave(2)])
def test_what_stops_a_training_is_not_trained_on(batch, monkeypatch) -> None:
    met, fit = [], CrossFit.fit

    def spy(run: CrossFit, name: str, model, train, val, *more, **options):
        met.append((set(train[1].flatten().tolist()), set(val[1].flatten().tolist())))
        return fit(run, name, model, train, val, *more, **options)

    monkeypatch.setattr(CrossFit, "fit", spy)
    y = torch.arange(80.0).unsqueeze(1)
    x = torch.randn(80 if batch is None else 160, 2)
    estimate_mi(y if batch is None else x, x if batch is None else y, batch, steps=3, folds=2)
    assert len(met) >= 2
    for train, val in met[:1] if batch is None else met:
        assert not train & val
        assert len(train) > len(val) > 1


@pytest.mark.parametrize("kind", ["labels", "graphs", "one side", "two sides"])
def test_every_part_of_a_fold_has_a_share_of_the_time(kind: str, monkeypatch) -> None:
    parts, read = [], CrossFit.read

    def spy(run: CrossFit, *args) -> None:
        parts.append((run.done, run.budget.parts))
        read(run, *args)

    monkeypatch.setattr(CrossFit, "read", spy)
    x, y, batch = torch.randn(80, 3 if kind == "one side" else 1), torch.randn(80, 1), None
    if kind == "labels":
        y = (y[:, 0] > 0).long()
    elif kind == "graphs":
        x, batch = torch.randn(160, 1), torch.arange(80).repeat_interleave(2)
    estimate_mi(x, y, batch, steps=3, folds=2)
    number = {"one side": 3, "two sides": 5}.get(kind, 1)
    assert parts == [(number, number)] * 2


def test_parts_have_equal_shares_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ends = [0.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0])

    def slow(*args, progress, **options):
        """Takes all of its time."""
        while not progress(0, 0.0):
            now[0] += 1.0
        ends.append(now[0])
        now[0] -= 1.0
        return fit_critic(*args, **options)

    monkeypatch.setattr(crossfit, "time", clock)
    monkeypatch.setattr(crossfit, "fit_critic", slow)
    data = torch.randn(80, 1), torch.randn(80, 1)
    run = CrossFit(data, True, torch.arange(80), 2, BUDGET._replace(time_limit=60.0, parts=3), None)
    for fold in range(2):
        train, held, _ = run.split(fold)
        for _ in range(3):
            run.fit("part", Density(1, 1, 4), train, held, 32)
    assert ends == [11.0, 21.0, 31.0, 41.0, 51.0, 61.0]


@pytest.mark.parametrize("paired", [True, False])
def test_a_constant_in_the_log_ratio_is_noise_of_no_sample(paired: bool) -> None:
    data, ids = torch.randn(2, 40, 1), torch.arange(20)
    run = CrossFit(tuple(data), paired, None if paired else (None, None), 2, BUDGET, None)
    for constant in (0.0, 5.0):
        run.read(0, data[0, :20, 0], data[1, :20, 0] + constant, ids, [ids + 20], 0.0)
    one, two = run.reads
    for part in ("part_p", "part_z", "part_r"):
        torch.testing.assert_close(one[part], two[part], rtol=1e-4, atol=1e-7)
    assert two["log_z"] - one["log_z"] == pytest.approx(5.0)
    assert float(one["part_z"].abs().sum()) > 0.1


def test_where_samples_tell_all_of_log_z_the_error_is_that_of_training() -> None:
    ids, zero = torch.arange(20), torch.zeros(20)
    run = CrossFit(tuple(torch.randn(2, 40, 1)), True, None, 2, BUDGET, None)
    for fold in range(2):
        run.read(fold, zero, zero, ids, [ids + 20], seen=0.4)
    found = run.estimate("I(x; y)", 1)
    assert (float(found.value), float(found.stderr)) == pytest.approx((0.2, 0.2 / 3**0.5))
