"""KLCritic and MutualInformationCritic: reading, contracts, memory."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pyg_gunet.functional.divergence import pair_readout
from pyg_gunet.nn.critic import (
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
    fit_critic,
)

HEADS = ["separable", "bilinear", "concat"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _scramble(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: critics start at r = 0, which hides mistakes."""
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(0.3 * torch.randn_like(param))
    return module


def _node_pairs(graphs: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    batch = torch.arange(graphs).repeat_interleave(torch.arange(graphs) + 2)
    return torch.randn(len(batch), 3), torch.randn(graphs, 2), batch


# -- KLCritic --------------------------------------------------------------------------------------


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
    critic = _scramble(KLCritic(2, 8))
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
    critic = _scramble(KLCritic(2, 8, objective="dv"))
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


def test_kl_critic_errors() -> None:
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
    critic = _scramble(KLCritic(2, 8))
    z = torch.randn(5, 2, requires_grad=True)
    penalty = critic.penalty(z)
    torch.testing.assert_close(penalty, critic.log_ratio(z).mean())
    penalty.backward()
    assert float(z.grad.abs().sum()) > 0
    assert all(w.grad is None for w in critic.parameters())


# -- MutualInformationCritic: scores ---------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("base", [None, "gaussian"])
def test_scores_of_pairs_and_rows_agree(head: str, base: str | None) -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8, head, base=base)).double()
    x, y, batch = _node_pairs()
    x, y = x.double(), y.double()
    critic.prepare([(x, y, batch)])
    scores = critic(x, y, batch)
    assert scores.neg.shape == (len(x), 4)
    # The corrupted branch scores rows one by one; "corrupted" by nothing, it must agree.
    rows = critic(x, y, batch, x_corrupt=x)
    torch.testing.assert_close(rows.pos, scores.pos, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rows.neg[:, 0], scores.pos, atol=1e-6, rtol=1e-5)
    # Every pair alone.
    alone = torch.stack(
        [
            torch.stack(
                [critic(x[i : i + 1], y[g : g + 1], None, x[i : i + 1]).pos[0] for g in range(4)]
            )
            for i in range(len(x))
        ]
    )
    torch.testing.assert_close(scores.neg, alone, atol=1e-6, rtol=1e-5)


def test_gaussian_pair_base_is_the_log_ratio_of_the_moments() -> None:
    x = torch.randn(5000, 2, dtype=torch.float64)
    y = x @ torch.randn(2, 3, dtype=torch.float64) + torch.randn(5000, 3, dtype=torch.float64)
    critic = MutualInformationCritic(2, 3, 8, base="gaussian").double()
    critic.prepare([(x, y)])
    joint = torch.cat([x, y], dim=1)

    def log_prob(z: Tensor) -> Tensor:
        cov = z.T.cov() + 1e-4 * z.var(0).diag()
        return torch.distributions.MultivariateNormal(z.mean(0), cov).log_prob(z)

    oracle = log_prob(joint) - log_prob(x) - log_prob(y)
    torch.testing.assert_close(critic(x[:50], y[:50]).pos, oracle[:50], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_relabelling_graphs_and_reordering_nodes_changes_nothing(head: str) -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8, head)).double()
    x, y, batch = _node_pairs()
    x, y = x.double(), y.double()
    graphs = torch.randperm(4)
    new_batch = graphs.argsort()[batch]
    order = torch.argsort(new_batch * 100 + torch.randperm(len(x)))
    moved = x[order], y[graphs], new_batch[order]
    torch.testing.assert_close(critic.loss(*moved), critic.loss(x, y, batch))
    for readout in ("classifier", "dv", "infonce"):
        a = critic.estimate(x, y, batch, readout=readout)
        b = critic.estimate(*moved, readout=readout)
        torch.testing.assert_close(a.value, b.value)
        torch.testing.assert_close(a.stderr, b.stderr)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("graph_level", [False, True])
def test_chunks_give_the_same_loss_gradient_and_reading(
    head: str, graph_level: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8, head)).double()
    x, y, batch = _node_pairs()
    if graph_level:
        x, batch = torch.randn(4, 3), None
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    inputs = [x, y, *critic.parameters()]
    loss, grads = critic.loss(x, y, batch), None
    grads = torch.autograd.grad(loss, inputs)
    read = critic.estimate(x, y, batch, readout="dv")
    monkeypatch.setattr(
        "pyg_gunet.nn.critic.mutual_information.CHUNK", 64 if head == "concat" else 24
    )
    assert len(list(critic._chunks(x, y, torch.arange(len(x))))) > 1
    chunked = critic.loss(x, y, batch)
    torch.testing.assert_close(chunked, loss)
    for a, b in zip(torch.autograd.grad(chunked, inputs), grads):
        torch.testing.assert_close(a, b)
    again = critic.estimate(x, y, batch, readout="dv")
    torch.testing.assert_close(again.value, read.value)
    torch.testing.assert_close(again.stderr, read.stderr)


@pytest.mark.parametrize("head", HEADS)
def test_gradcheck_of_the_loss(head: str) -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 4, head, objective="nce", nu=3.0)).double()
    x, y, batch = _node_pairs(3)
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: critic.loss(x, y, batch), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: critic.loss(x, y, batch, x.flip(0)), (x, y))


def test_loss_and_estimate_are_those_of_forward() -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8))
    x, y, batch = _node_pairs()
    for readout in ("classifier", "nwj", "smile"):
        direct = pair_readout(critic(x, y, batch), readout)
        torch.testing.assert_close(
            critic.estimate(x, y, batch, readout=readout).value, direct.value
        )


# -- MutualInformationCritic: what it reads --------------------------------------------------------


def test_unequal_sizes_carry_no_information_and_uniform_negatives_do() -> None:
    def sample(graphs: int = 16) -> tuple[Tensor, Tensor, Tensor]:
        large = torch.rand(graphs) < 0.5
        large[0], large[1] = True, False
        batch = torch.arange(graphs).repeat_interleave(torch.where(large, 50, 5))
        # y tells the size of its graph, x is independent of everything.
        y = torch.where(large, 2.0, -2.0).unsqueeze(1) + torch.randn(graphs, 1)
        return torch.randn(len(batch), 2), y, batch

    reading = {}
    for weighted in (True, False):
        critic = MutualInformationCritic(2, 1, 16, size_weighted=weighted)
        fit_critic(critic, sample, 150, lr=5e-3)
        reading[weighted] = float(critic.estimate(*sample(200)).value)
    assert abs(reading[True]) < 0.05
    assert reading[False] > 0.2
    # Two graphs, the smallest batch there is.
    critic = MutualInformationCritic(2, 1, 16)
    fit_critic(critic, lambda: sample(2), 150, lr=5e-3)
    assert abs(float(critic.estimate(*sample(200)).value)) < 0.05


def test_node_against_mean_pooled_graph() -> None:
    rho, n, d = 0.5, 10, 4

    def sample(graphs: int = 32) -> tuple[Tensor, Tensor, Tensor]:
        g, eps = torch.randn(graphs, 1, d), torch.randn(graphs, n, d)
        x = rho * g + (1 - rho**2) ** 0.5 * eps
        return x.flatten(0, 1), x.mean(1), torch.arange(graphs).repeat_interleave(n)

    critic = MutualInformationCritic(d, d, 32)
    fit_critic(critic, sample, 200, lr=1e-2)
    estimate = critic.estimate(*sample(300))
    assert float(estimate.value) == pytest.approx(0.786, abs=0.12)
    assert estimate.quantity == "I(x; y)"


def test_corruption_is_named_what_it_is_and_works_on_one_graph() -> None:
    critic = MutualInformationCritic(2, 2, 16)
    x, y = torch.randn(500, 2) + 1, torch.zeros(1, 2)

    def sample() -> tuple[Tensor, Tensor, None, Tensor]:
        return torch.randn(256, 2) + 1, y, None, torch.randn(256, 2)

    fit_critic(critic, sample, 300, lr=3e-3)
    estimate = critic.estimate(torch.randn(4000, 2) + 1, y, None, torch.randn(4000, 2))
    assert estimate.quantity == "KL(real || corrupted)"
    assert float(estimate.value) == pytest.approx(1.0, abs=0.15)
    scores = critic(x, y, None, torch.randn(500, 2))
    assert scores.neg.shape == (500, 1)
    assert scores.mask.dtype == torch.bool
    with pytest.raises(ValueError, match="no negative pair"):
        critic.loss(x, y)
    # Several graphs: the error is over graphs, so copies of a node buy nothing.
    batch = torch.arange(4).repeat_interleave(125)
    many = critic.estimate(x, torch.zeros(4, 2), batch, torch.randn(500, 2))
    assert (many.n_pos, many.n_neg) == (500, 500)


def test_mutual_information_critic_errors() -> None:
    critic = MutualInformationCritic(3, 2, 4)
    x, y, batch = _node_pairs()
    calls = (critic, critic.loss, critic.estimate)
    for call in calls:
        with pytest.raises(ValueError, match="'batch' is needed"):
            call(x, y)
        with pytest.raises(IndexError, match=r"'batch' must lie in \[0, 3\)"):
            call(x, y[:3], batch)
        with pytest.raises(ValueError, match="'batch' puts all nodes into graph 2"):
            call(x, y, torch.full_like(batch, 2))
        with pytest.raises(ValueError, match="'y' holds one graph"):
            call(x[:1], y[:1])
        with pytest.raises(ValueError, match="'x' must be finite"):
            call(x.clone().fill_(math.nan), y, batch)
        with pytest.raises(ValueError, match="'x_corrupt' must have the shape"):
            call(x, y, batch, x[:2])
        with pytest.raises(ValueError, match="'batch' must be sorted"):
            call(x, y, batch.flip(0))
    with pytest.raises(ValueError, match="'critic' must be one of"):
        MutualInformationCritic(3, 2, critic="mlp")
    with pytest.raises(ValueError, match="'nu' goes with objective='nce'"):
        MutualInformationCritic(3, 2, nu=3.0)
    with pytest.raises(TypeError, match="'x_channels' must be an int"):
        MutualInformationCritic(3.0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_autocast_is_safe(head: str, dtype: torch.dtype) -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8, head, base="gaussian"))
    x, y, batch = _node_pairs()
    critic.prepare([(x, y, batch)])
    plain = critic.loss(x, y, batch)
    kl = _scramble(KLCritic(3, 8, base="gaussian"))
    with torch.autocast("cpu", dtype=dtype):
        for loss in (
            critic.loss(x, y, batch),
            critic.loss(x, y, batch, x.flip(0)),
            kl.loss(x, x + 1),
        ):
            assert loss.dtype == torch.float32
            assert math.isfinite(float(loss.detach()))
            loss.backward()
        assert float(critic.loss(x, y, batch).detach()) == pytest.approx(
            float(plain.detach()), rel=0.1
        )
        assert math.isfinite(float(critic.estimate(x, y, batch).stderr))
    assert all(bool(torch.isfinite(w.grad).all()) for w in critic.parameters())


def test_memory_of_forty_thousand_nodes_and_256_graphs() -> None:
    resource = pytest.importorskip("resource")
    assert resource
    code = """
import resource, torch
from pyg_gunet.nn.critic import MutualInformationCritic
torch.manual_seed(0)
critic = MutualInformationCritic(16, 16)
def sample(n, b):
    x = torch.randn(n, 16, requires_grad=True)
    return x, torch.randn(b, 16, requires_grad=True), torch.arange(b).repeat_interleave(n // b)
critic.loss(*sample(512, 8)).backward()
data = sample(256 * 157, 256)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
critic.loss(*data).backward()
trained = peak()
critic.estimate(*data, readout="dv")
print(trained - before, peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    trained, read = (float(v) for v in run.stdout.split())
    assert trained < 200, f"loss and backward took {trained:.0f} MB more"
    assert read < 200, f"estimate took {read:.0f} MB more"


# -- fit_critic ------------------------------------------------------------------------------------


def test_fit_splits_graphs_whole_and_keeps_rows_with_their_graphs() -> None:
    critic = MutualInformationCritic(1, 1, 4)
    batch = torch.arange(20).repeat_interleave(torch.arange(20) % 3 + 1)
    y = torch.arange(20.0).unsqueeze(1)
    x = y[batch]
    rest, held = critic.split((x, y, batch), 0.25)
    assert (rest[1].numel(), held[1].numel()) == (15, 5)
    assert not set(rest[1].flatten().tolist()) & set(held[1].flatten().tolist())
    for part in (rest, held, critic.minibatch((x, y, batch), 7)):
        assert torch.equal(part[0], part[1][part[2]])
        assert bool((part[2][1:] >= part[2][:-1]).all())
    one, two = critic.split((y, y), 0.25)
    assert torch.equal(one[0], one[1])
    assert len(two[0]) == 5
    p, q = KLCritic(1, 4).split((torch.arange(30.0)[:, None], torch.zeros(10, 1)), 0.2)
    assert [len(v) for v in (*p, *q)] == [24, 8, 6, 2]


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


def test_fit_errors() -> None:
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    critic = _scramble(MutualInformationCritic(3, 2, 8))
    x, y, batch = _node_pairs()
    here = critic.estimate(x, y, batch, readout="dv")
    there = critic.cuda().estimate(x.cuda(), y.cuda(), batch.cuda(), readout="dv")
    assert there.value.device.type == "cuda"
    assert float(there.value) == pytest.approx(float(here.value), abs=1e-4)
