"""Sensor networks: files, fields, baselines, the task impute."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "imputation"))
from field import condition, conditional_mean, distance_covariance, fit_gaussian
from fill_in import BASELINES, apply, survey, tuned
from impute import hide, main
from sensors import read_sensors, sensor_graphs, split_days

sys.path.pop(0)


def _cov(n, seed=0):
    a = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / n + 0.1 * torch.eye(n, dtype=torch.float64)


def _network(days=60, stations=12, seed=0):
    rng = np.random.default_rng(seed)
    place = np.stack([rng.uniform(30, 45, stations), rng.uniform(-110, -80, stations)], 1)
    wave = rng.normal(size=(days, 3)).cumsum(0) / 3
    load = np.stack([np.ones(stations), place[:, 0] / 10, place[:, 1] / 30], 1)
    x = 10 + wave @ load.T + 0.2 * rng.normal(size=(days, stations))
    x[rng.random(x.shape) < 0.03] = np.nan
    return {"values": x, "coordinates": place, "elevation": rng.uniform(0, 2000, stations)}


def test_condition_against_solves_by_hand():
    cov, mean = _cov(6), torch.arange(6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    seen = torch.rand(4, 6, generator=generator) < 0.6
    seen[:, 0] = True
    value, deviation, residual = condition(mean, cov, torch.where(seen, x, torch.nan), seen)
    for t in range(4):
        for i in range(6):
            others = [j for j in range(6) if bool(seen[t, j]) and j != i]
            b = torch.linalg.solve(cov[others][:, others], cov[others, i])
            expected = mean[i] + b @ (x[t, others] - mean[others])
            torch.testing.assert_close(value[t, i], expected)
            torch.testing.assert_close(deviation[t, i] ** 2, cov[i, i] - b @ cov[others, i])
    torch.testing.assert_close(residual, torch.where(seen, x - value, 0.0))
    plain = conditional_mean(mean, cov, x, seen)
    torch.testing.assert_close(plain[~seen], value[~seen])


def test_condition_takes_a_covariance_per_day_and_a_gradient():
    cov = torch.stack([_cov(4, 1), _cov(4, 2)])
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([[True, True, False, False], [False, True, True, True]])
    both = condition(torch.zeros(2, 4, dtype=torch.float64), cov, x, seen)[0]
    alone = condition(torch.zeros(4, dtype=torch.float64), cov[1], x[1:], seen[1:])[0]
    torch.testing.assert_close(both[1:], alone)
    assert torch.autograd.gradcheck(
        lambda v: condition(torch.zeros(4).double(), cov, v, seen)[0], x
    )


def test_expectation_maximisation_finds_the_distribution_through_gaps():
    cov = _cov(5, 3)
    generator = torch.Generator().manual_seed(4)
    x = (
        torch.randn(6000, 5, generator=generator, dtype=torch.float64)
        @ torch.linalg.cholesky(cov).T
    )
    seen = torch.rand(x.shape, generator=generator) < 0.7
    mean, found = fit_gaussian(torch.where(seen, x + 2, torch.nan), seen, steps=25, ridge=0.0)
    torch.testing.assert_close(mean, torch.full_like(mean, 2.0), atol=0.1, rtol=0)
    torch.testing.assert_close(found, cov, atol=0.25, rtol=0.1)


def test_without_gaps_it_is_the_sample_covariance():
    x = torch.randn(50, 4, dtype=torch.float64)
    mean, cov = fit_gaussian(x, torch.ones(50, 4, dtype=torch.bool), ridge=0.0)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(cov, x.T.cov(correction=0))


def test_distance_covariance_keeps_variances_and_falls_with_distance():
    place = torch.rand(30, 2, dtype=torch.float64)
    far = torch.cdist(place, place)
    truth = 3 * (0.2 + 0.8 * torch.exp(-far / 0.4))
    found = distance_covariance(truth, far)
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=1e-3)
    assert torch.linalg.eigvalsh(found).min() > -1e-9


def test_hide_takes_the_share_of_what_was_read():
    observed = torch.tensor([[True] * 8, [True] * 4 + [False] * 4, [True, True] + [False] * 6])
    rank = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    seen = hide(observed, rank, 0.75)
    assert (observed & ~seen).sum(1).tolist() == [6, 3, 1]
    assert not (seen & ~observed).any()
    assert hide(observed, rank, torch.tensor([0.25, 0.5, 0.9])).sum(1).tolist() == [6, 2, 1]


def test_tikhonov_against_the_definition_and_day_mean():
    graph = read_one()
    x, observed, first = graph
    net = survey(x, observed, first.edge_index, first.edge_weight, first.pos)
    seen = hide(observed, torch.rand(x.shape), 0.5)
    f = apply("Tikhonov", net, x, seen, {"strength": 0.3, "centred": False})
    gradient = torch.where(seen, f - x, 0.0) + 0.3 * f @ net.laplacian
    torch.testing.assert_close(gradient, torch.zeros_like(f), atol=1e-4, rtol=0)
    mean = apply("day's mean", net, x, seen, {"centred": False})
    torch.testing.assert_close(mean[3, 0], x[3][seen[3]].mean())
    one = apply("k nearest", net, x, seen, {"k": 1, "power": 1, "centred": False})
    station = int((~seen[5]).nonzero()[0])
    nearest = net.distance[station].masked_fill(~seen[5], torch.inf).argmin()
    torch.testing.assert_close(one[5, station], x[5, nearest])


def read_one(seed=0):
    days = sensor_graphs(_network(seed=seed), "test")
    x = torch.stack([day.x.view(-1) for day in days]).double()
    return x, torch.stack([day.observed for day in days]), days[0]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_read_nothing_hidden_and_are_equivariant(name):
    x, observed, first = read_one()
    net = survey(x, observed, first.edge_index, first.edge_weight, first.pos)
    seen = hide(observed, torch.rand(x.shape), 0.5)
    setting, _ = tuned(name, net, x, seen, observed & ~seen)
    value = apply(name, net, x, seen, setting)
    torch.testing.assert_close(apply(name, net, torch.where(seen, x, 1e6), seen, setting), value)
    order = torch.randperm(x.size(1))
    moved = type(net)(*(m[order] if m.dim() == 1 else m[order][:, order] for m in net))
    torch.testing.assert_close(
        apply(name, moved, x[:, order], seen[:, order], setting), value[:, order]
    )


def test_months_split_the_year():
    dates = np.arange("2025-01-01", "2026-01-01", dtype="datetime64[D]").astype(str)
    part, block = split_days(dates, 365)
    assert [int((part == p).sum()) for p in range(3)] == [273, 31, 61]
    assert block.unique().tolist() == list(range(12))
    part, block = split_days(None, 120)
    assert [int((part == p).sum()) for p in range(3)] == [90, 10, 20]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"values": None}, "readings"),
        ({"values": np.ones(5)}, "shape"),
        ({"coordinates": np.ones((3, 2))}, "'coordinates'"),
        ({"coordinates": np.full((12, 2), 200.0)}, "'coordinates'"),
        ({"coordinates": None}, "'edge_index' or 'coordinates'"),
        ({"edge_index": np.array([[0, 50], [1, 2]])}, "'edge_index'"),
        ({"observed": np.zeros((60, 12), bool)}, "reading of every station"),
        ({"values": np.full((60, 12), "warm")}, "must be numbers .*U4"),
        ({"values": np.ones((9, 12))}, "at least 10 times.*9 and 12"),
        (
            {"edge_index": np.array([[0], [1]]), "edge_weight": np.ones(2)},
            r"'edge_weight' \[E\].*\[2, 1\] and \[2\]",
        ),
        (
            {"edge_index": np.array([[0], [1]]), "edge_weight": -np.ones(1)},
            "'edge_weight' of .* must be finite",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    arrays = {k: v for k, v in {**_network(), **change}.items() if v is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_sensors(tmp_path / "bad.npz")


def test_objects_in_a_file_do_not_run(tmp_path):
    np.savez(tmp_path / "bad.npz", values=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="cannot read"):
        read_sensors(tmp_path / "bad.npz")


def test_fit_fills_a_users_own_network(tmp_path, capsys):
    arrays = _network(days=120)
    np.savez(tmp_path / "net.npz", **arrays)
    out = tmp_path / "run"
    options = ["--hidden-channels", "8", "--epochs", "2", "--depth", "1"]
    main([str(tmp_path / "net.npz"), "--out", str(out), *options])
    assert "Gaussian field" in capsys.readouterr().out
    figures = json.loads((out / "metrics.json").read_text())
    for share in ("0.25", "0.5", "0.75"):
        assert figures["test_mae"][share] < figures["baselines"]["day's mean"][share]
    assert (out / "filled_in.png").stat().st_size > 10_000
    filled = np.load(out / "filled.npz")
    there = np.isfinite(arrays["values"])
    np.testing.assert_allclose(filled["values"][there], arrays["values"][there], rtol=1e-6)
    assert np.isfinite(filled["values"]).all()
    with pytest.raises(FileExistsError):
        main([str(tmp_path / "net.npz"), "--out", str(out), *options])


@pytest.mark.parametrize("seen", [torch.ones(2, 2), torch.ones(3, 2, dtype=torch.bool)])
def test_what_is_seen_must_fit(seen):
    with pytest.raises(ValueError, match=r"'seen' must be boolean.*\[2, 2\]"):
        condition(torch.zeros(2), torch.eye(2), torch.zeros(2, 2), seen)
