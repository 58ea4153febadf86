"""Objectives and read-outs against plain loops, known distributions and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet import validation
from pyg_gunet.critic import (
    dense_pairs,
    dv_loss,
    infonce_loss,
    jsd_loss,
    nce_loss,
    pair_loss,
    pair_readout,
    two_sample_readout,
)

READOUTS = ["classifier", "dv", "nwj", "smile", "infonce"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _shifted(n: int, m: int, kl: float) -> tuple[Tensor, Tensor]:
    """Exact log-ratios of N(delta, 1) against N(0, 1): normal themselves."""
    delta = (2 * kl) ** 0.5
    r_p = delta * (torch.randn(n, dtype=torch.float64) + delta) - kl
    r_q = delta * torch.randn(m, dtype=torch.float64) - kl
    return r_p, r_q


def _gaussian_scores(n: int, information: float, d: int = 20) -> Tensor:
    """The exact log-ratio of n correlated pairs, all against all."""
    rho2 = 1 - math.exp(-2 * information / d)
    x = torch.randn(n, d, dtype=torch.float64)
    y = rho2**0.5 * x + (1 - rho2) ** 0.5 * torch.randn(n, d, dtype=torch.float64)
    cross = 2 * rho2**0.5 * x @ y.T - rho2 * (x.square().sum(1)[:, None] + y.square().sum(1))
    return cross / (2 * (1 - rho2)) - d / 2 * math.log(1 - rho2)


# -- objectives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("nu", [0.5, 1.0, 7.0, 64.0])
def test_every_objective_is_minimal_at_the_log_ratio(nu: float) -> None:
    p, q = torch.rand(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    r = (p / q).log().requires_grad_()
    (grad,) = torch.autograd.grad(nce_loss(r, r, nu, weight_p=p, weight_q=q), r)
    torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-12, rtol=0)
    # The same by repeated samples for the two that take no weights: counts 3 and 1 of two atoms.
    r = torch.tensor([math.log(0.75 / 0.5), math.log(0.25 / 0.5)], dtype=torch.float64)
    r.requires_grad_()
    (grad,) = torch.autograd.grad(dv_loss(r[[0, 0, 0, 1]], r[[0, 1]]), r)
    torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-12, rtol=0)


def test_losses_match_their_formulas() -> None:
    r_p, r_q = torch.randn(5, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    naive = -(r_p.sigmoid().log().mean() + (1 - r_q.sigmoid()).log().mean())
    torch.testing.assert_close(jsd_loss(r_p, r_q), naive)
    shift = math.log(3.0)
    naive = F.softplus(shift - r_p).mean() + 3 * F.softplus(r_q - shift).mean()
    torch.testing.assert_close(nce_loss(r_p, r_q, 3.0), naive)
    naive = r_q.exp().mean().log() - r_p.mean()
    torch.testing.assert_close(dv_loss(r_p, r_q, penalty=0.0), naive)
    rows = [r.exp() / ((r.exp() + r_q.exp().sum()) / 8) for r in r_p]
    naive = -torch.stack(rows).log().mean()
    torch.testing.assert_close(infonce_loss(r_p, r_q, penalty=0.0), naive)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(jsd_loss(r_p, r_q, weight), jsd_loss(r_p[[0, 2, 2]], r_q))


@pytest.mark.parametrize("loss", [jsd_loss, nce_loss])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_far_logits_give_finite_loss_and_unit_gradient(loss, dtype: torch.dtype) -> None:
    r_p = torch.tensor([-200.0], dtype=dtype, requires_grad=True)
    r_q = torch.tensor([200.0], dtype=dtype, requires_grad=True)
    value = loss(r_p, r_q)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(400.0)
    value.backward()
    assert float(r_p.grad) == -1.0
    assert float(r_q.grad) == 1.0
    right = loss(-r_p.detach(), -r_q.detach())
    assert float(right) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [jsd_loss, nce_loss, dv_loss, infonce_loss])
def test_gradcheck_and_nan(loss) -> None:
    r_p = torch.randn(4, dtype=torch.float64, requires_grad=True)
    r_q = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (r_p, r_q))
    with pytest.raises(ValueError, match="'r_q' must not be NaN"):
        loss(r_p.detach(), torch.tensor([math.nan, 0.0]))
    with validation(False):
        assert math.isnan(float(loss(r_p.detach(), torch.tensor([math.nan, 0.0]))))
    with pytest.raises(ValueError, match="'r_p' must have shape"):
        loss(torch.zeros(0), r_q)
    with pytest.raises(TypeError, match="'r_p' must be a torch.Tensor"):
        loss([0.0], r_q)


def test_nu_is_capped() -> None:
    with pytest.raises(ValueError, match="'nu'.*511"):
        nce_loss(torch.zeros(2), torch.zeros(2), 511)
    with pytest.raises(ValueError, match="'nu' must be positive"):
        nce_loss(torch.zeros(2), torch.zeros(2), 0)


def test_dv_moving_average_changes_the_gradient_only() -> None:
    r_p, r_q = torch.randn(3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    r_q.requires_grad_()
    log_mean = torch.tensor(0.7, dtype=torch.float64)
    plain = dv_loss(r_p, r_q, penalty=0.0)
    moved = dv_loss(r_p, r_q, log_mean, penalty=0.0)
    torch.testing.assert_close(moved, plain)
    (grad,) = torch.autograd.grad(moved, r_q)
    torch.testing.assert_close(grad, (r_q - log_mean).exp().detach() / 4)
    # A batch far above the average: the gradient stays below 10 in all.
    (grad,) = torch.autograd.grad(dv_loss(r_p, r_q + 300, log_mean, penalty=0.0), r_q)
    assert float(grad.sum()) == pytest.approx(10.0)


# -- two samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", READOUTS)
def test_readouts_match_plain_formulas(readout: str) -> None:
    r_p, r_q = _shifted(30, 40, 2.0)
    r_q[0] = 7.0  # beyond the cut of smile

    def oracle(r_p: Tensor, r_q: Tensor) -> Tensor:
        if readout == "classifier":
            return r_p.mean()
        if readout == "dv":
            return r_p.mean() - r_q.exp().mean().log()
        if readout == "nwj":
            return r_p.mean() - r_q.exp().mean() + 1
        if readout == "smile":
            return r_p.mean() - r_q.exp().clamp(math.exp(-5), math.exp(5)).mean().log()
        rows = [r - ((r.exp() + r_q.exp().sum()) / (len(r_q) + 1)).log() for r in r_p]
        return torch.stack(rows).mean()

    there, back = oracle(r_p, r_q), oracle(-r_q, -r_p)
    for direction, value in (("forward", there), ("reverse", back), ("jeffreys", there + back)):
        estimate = two_sample_readout(r_p, r_q, readout, direction)
        torch.testing.assert_close(estimate.value, value)
        assert (estimate.n_pos, estimate.n_neg) == (30, 40)
        assert estimate.is_bound == (readout in ("nwj", "infonce"))
        torch.testing.assert_close(estimate.log_z, r_q.exp().mean().log())


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("direction", ["forward", "jeffreys"])
def test_stderr_matches_the_spread_over_repeats(readout: str, direction: str) -> None:
    readings = []
    for _ in range(300):
        r_p, r_q = _shifted(200, 300, 0.5)
        estimate = two_sample_readout(r_p, r_q, readout, direction)
        readings.append((float(estimate.value), float(estimate.stderr)))
    values, errors = torch.tensor(readings, dtype=torch.float64).T
    assert float(errors.mean() / values.std()) == pytest.approx(1.0, abs=0.15)


def test_interval_covers_the_truth_two_samples() -> None:
    hits = 0
    for _ in range(200):
        estimate = two_sample_readout(*_shifted(300, 300, 2.0))
        hits += abs(float(estimate.value) - 2.0) <= 1.96 * float(estimate.stderr)
    assert 180 <= hits <= 196


def test_clusters_widen_the_error_of_repeated_samples() -> None:
    r_p, r_q = _shifted(100, 100, 1.0)
    alone = two_sample_readout(r_p, r_q, "dv")
    ids = torch.arange(100)
    doubled = two_sample_readout(
        r_p.repeat(4),
        r_q.repeat(4),
        "dv",
        cluster_p=ids.repeat(4),
        cluster_q=(ids + 100).repeat(4),
    )
    torch.testing.assert_close(doubled.value, alone.value)
    assert float(doubled.stderr) == pytest.approx(float(alone.stderr), rel=0.01)
    naive = two_sample_readout(r_p.repeat(4), r_q.repeat(4), "dv")
    assert float(naive.stderr) == pytest.approx(float(alone.stderr) / 2, rel=0.02)


def test_bounds_hold_in_expectation_for_a_wrong_ratio() -> None:
    for readout in ("nwj", "infonce"):
        values = []
        for _ in range(400):
            r_p, r_q = _shifted(20, 20, 1.0)
            values.append(two_sample_readout(0.5 * r_p + 0.3, 0.5 * r_q + 0.3, readout).value)
        values_ = torch.stack(values)
        assert float(values_.mean()) < 1.0 + 2 * float(values_.std()) / 20


def test_far_log_ratios_stay_finite() -> None:
    r_p, r_q = torch.tensor([200.0, 190.0]), torch.tensor([-200.0, 200.0])
    for readout in READOUTS:
        estimate = two_sample_readout(r_p, r_q, readout, "jeffreys")
        assert math.isfinite(float(estimate.value)), readout
        assert math.isfinite(float(estimate.stderr)), readout


def test_two_samples_that_no_readout_takes() -> None:
    two = torch.zeros(2)
    with pytest.raises(ValueError, match="'r_p' must have shape"):
        two_sample_readout(torch.zeros(1), two)
    with pytest.raises(ValueError, match="'readout' must be one of"):
        two_sample_readout(two, two, "mine")
    with pytest.raises(ValueError, match="'direction' must be one of"):
        two_sample_readout(two, two, direction="both")
    with pytest.raises(ValueError, match="'r_q' must not be NaN"):
        two_sample_readout(two, torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="given together"):
        two_sample_readout(two, two, cluster_p=torch.zeros(2, dtype=torch.long))
    ids = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        two_sample_readout(two, two, cluster_p=ids, cluster_q=ids)
    with pytest.raises(TypeError, match="'cluster_q'.*float32"):
        two_sample_readout(two, two, cluster_p=ids, cluster_q=two)
    with pytest.raises(ValueError, match=r"'cluster_q'.*\[2\] .got \[3\]"):
        two_sample_readout(two, two, cluster_p=ids, cluster_q=torch.zeros(3).long())


# -- pairs -----------------------------------------------------------------------------------------


def _plain_pairs(scores: Tensor, target: list[int], weight: list[float], readout: str) -> float:
    """The weighted read-outs by a loop over pairs."""
    pos, neg, mass, row_terms = 0.0, 0.0, 0.0, 0.0
    for i, own in enumerate(target):
        share = sum(w for g, w in enumerate(weight) if g != own)
        others = [(w, float(scores[i, g])) for g, w in enumerate(weight) if g != own]
        pos += share * float(scores[i, own])
        mass += share
        for w, r in others:
            neg += w * math.exp(min(max(r, -5), 5) if readout == "smile" else r)
        noise = sum(w * math.exp(r) for w, r in others) / share * len(others)
        own_e = math.exp(float(scores[i, own]))
        row_terms += share * math.log(own_e / ((own_e + noise) / (len(others) + 1)))
    return {
        "classifier": pos / mass,
        "dv": pos / mass - math.log(neg / mass),
        "smile": pos / mass - math.log(neg / mass),
        "nwj": pos / mass - neg / mass + 1,
        "infonce": row_terms / mass,
    }[readout]


@pytest.mark.parametrize("readout", READOUTS)
def test_pair_readout_matches_a_loop_in_chunks_and_in_any_order(readout: str) -> None:
    target = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]
    weight = [3.0, 1.0, 2.0, 4.0]
    scores = torch.randn(10, 4, dtype=torch.float64) * 3
    ids, sizes = torch.tensor(target), torch.tensor(weight)
    whole = pair_readout(dense_pairs(scores, ids, sizes), readout)
    assert float(whole.value) == pytest.approx(_plain_pairs(scores, target, weight, readout))
    assert (whole.n_pos, whole.n_neg) == (10, 30)
    assert not whole.is_bound
    chunks = (
        dense_pairs(s, t, sizes) for s, t in zip(scores.split([1, 6, 3]), ids.split([1, 6, 3]))
    )
    parts = pair_readout(chunks, readout)
    for field in ("value", "stderr", "log_z"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field))
    rows, graphs = torch.randperm(10), torch.randperm(4)
    moved = dense_pairs(scores[rows][:, graphs], graphs.argsort()[ids[rows]], sizes[graphs])
    torch.testing.assert_close(pair_readout(moved, readout).value, whole.value)
    torch.testing.assert_close(pair_readout(moved, readout).stderr, whole.stderr)


@pytest.mark.parametrize("readout", READOUTS)
def test_pair_stderr_matches_the_spread_over_repeats(readout: str) -> None:
    readings = []
    for _ in range(300):
        estimate = pair_readout(
            dense_pairs(_gaussian_scores(80, 0.3, 2), torch.arange(80)), readout
        )
        readings.append((float(estimate.value), float(estimate.stderr)))
    values, errors = torch.tensor(readings, dtype=torch.float64).T
    assert float(errors.mean() / values.std()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("readout", READOUTS)
def test_the_error_knows_that_rows_are_in_the_value_and_in_log_z(readout: str) -> None:
    a = 0.5 * torch.randn(100, 1, dtype=torch.float64)  # of every pair in a row
    found = pair_readout(dense_pairs(a.expand(-1, 100), torch.arange(100)), readout).stderr
    other = a - a.exp() / a.exp().mean()
    part = {"classifier": a, "nwj": a - a.exp(), "infonce": 0 * a}.get(readout, other)
    assert float(found) == pytest.approx(float(part.std()) / 10, rel=0.03, abs=1e-9)


def test_interval_covers_the_truth_pairs() -> None:
    hits = 0
    for _ in range(200):
        scores = _gaussian_scores(150, 2.0, 5)
        estimate = pair_readout(dense_pairs(scores, torch.arange(150)))
        hits += abs(float(estimate.value) - 2.0) <= 1.96 * float(estimate.stderr)
    assert 180 <= hits <= 196


def test_interval_covers_the_truth_nodes_and_graphs_clustered() -> None:
    d, n, graphs, rho = 4, 10, 60, 0.8
    # x = rho g + sqrt(1 - rho^2) eps; y = mean of x: var and covariance of one coordinate.
    var_y = rho**2 + (1 - rho**2) / n
    corr2 = var_y  # cov(x, y) = var(y), var(x) = 1
    truth = -d / 2 * math.log(1 - corr2)
    hits, naive_hits = 0, 0
    target = torch.arange(graphs).repeat_interleave(n)
    for _ in range(200):
        g = torch.randn(graphs, 1, d, dtype=torch.float64)
        eps = torch.randn(graphs, n, d, dtype=torch.float64)
        x = (rho * g + (1 - rho**2) ** 0.5 * eps).flatten(0, 1)
        y = x.view(graphs, n, d).mean(1) / var_y**0.5
        cross = 2 * corr2**0.5 * x @ y.T
        cross = cross - corr2 * (x.square().sum(1)[:, None] + y.square().sum(1))
        scores = cross / (2 * (1 - corr2)) - d / 2 * math.log(1 - corr2)
        estimate = pair_readout(dense_pairs(scores, target, torch.full((graphs,), float(n))))
        hits += abs(float(estimate.value) - truth) <= 1.96 * float(estimate.stderr)
        pos = scores[torch.arange(len(target)), target]
        error = float(pos.std()) / len(pos) ** 0.5
        naive_hits += abs(float(estimate.value) - truth) <= 1.96 * error
    assert 180 <= hits <= 196
    assert naive_hits < 170  # nodes counted as independent: too narrow


def test_exact_ratio_at_ten_nats() -> None:
    batches = [_gaussian_scores(64, 10.0) for _ in range(100)]
    reading = {
        name: sum(
            float(pair_readout(dense_pairs(s, torch.arange(64)), name).value) for s in batches
        )
        / 100
        for name in ("classifier", "smile", "infonce")
    }
    assert reading["classifier"] == pytest.approx(10.0, abs=0.2)
    assert reading["smile"] == pytest.approx(12.0, abs=0.3)
    assert reading["infonce"] <= math.log(64)


def test_sizes_carry_no_information() -> None:
    sizes = torch.tensor([5, 50])
    target = torch.arange(2).repeat_interleave(sizes)
    # Any score that looks at the row and at the graph, but not at the pair.
    scores = torch.randn(2)[target, None] + torch.randn(2)
    pairs = dense_pairs(scores, target, sizes.float())
    share = pairs.mask.float() @ pairs.weight
    positive = (share * pairs.pos).sum() / share.sum()
    negative = (torch.where(pairs.mask, scores, 0.0) @ pairs.weight).sum() / share.sum()
    torch.testing.assert_close(positive, negative)
    even = pairs._replace(weight=torch.ones(2))
    assert abs(float(pair_readout(even).value - positive)) > 0.01


@pytest.mark.parametrize("nu", [1.0, 8.0])
def test_pair_loss_matches_a_loop_and_chunks_add_up(nu: float) -> None:
    target, weight = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([2.0, 1.0, 2.0])
    scores = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    loss = pair_loss(dense_pairs(scores, target, weight), nu)
    value, mass, shift = 0.0, 0.0, math.log(nu)
    for i in range(5):
        for g in range(3):
            if g != target[i]:
                w = float(weight[g])
                own = F.softplus(-(scores[i, target[i]] - shift))
                value += w * (own + nu * F.softplus(scores[i, g] - shift))
                mass += w
    torch.testing.assert_close(loss, value / mass)
    total = torch.tensor(mass, dtype=torch.float64)
    parts = [
        pair_loss(dense_pairs(s, t, weight), nu, total)
        for s, t in zip(scores.split(2), target.split(2))
    ]
    torch.testing.assert_close(sum(parts), loss)
    assert torch.autograd.gradcheck(lambda s: pair_loss(dense_pairs(s, target, weight), nu), scores)


def test_losses_that_name_the_argument() -> None:
    two = torch.zeros(2)
    with pytest.raises(ValueError, match=r"'weight_q'.*\[3"):
        nce_loss(two, two, weight_q=torch.ones(3))
    with pytest.raises(ValueError, match=r"'weight_q'.*-1\.0"):
        nce_loss(two, two, weight_q=-torch.ones(2))
    with pytest.raises(ValueError, match=r"'log_mean'.*\[2\]"):
        dv_loss(two, two, log_mean=two)
