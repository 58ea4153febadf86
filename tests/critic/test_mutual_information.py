"""MutualInformationCritic: scores, reading, contracts, memory."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pyg_gunet.critic import KLCritic, MutualInformationCritic, fit_critic, pair_readout
from tests.critic.critics import node_pairs, scramble

HEADS = ["separable", "bilinear", "concat"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("base", [None, "gaussian"])
def test_scores_of_pairs_and_rows_agree(head: str, base: str | None) -> None:
    critic = scramble(MutualInformationCritic(3, 2, 8, head, base=base)).double()
    x, y, batch = node_pairs()
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
    critic = scramble(MutualInformationCritic(3, 2, 8, head)).double()
    x, y, batch = node_pairs()
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
    critic = scramble(MutualInformationCritic(3, 2, 8, head)).double()
    x, y, batch = node_pairs()
    if graph_level:
        x, batch = torch.randn(4, 3), None
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    inputs = [x, y, *critic.parameters()]
    loss, grads = critic.loss(x, y, batch), None
    grads = torch.autograd.grad(loss, inputs)
    read = critic.estimate(x, y, batch, readout="dv")
    monkeypatch.setattr("pyg_gunet.critic.mutual_information.CHUNK", 64 if head == "concat" else 24)
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
    critic = scramble(MutualInformationCritic(3, 2, 4, head, objective="nce", nu=3.0)).double()
    x, y, batch = node_pairs(3)
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: critic.loss(x, y, batch), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: critic.loss(x, y, batch, x.flip(0)), (x, y))


def test_loss_and_estimate_are_those_of_forward() -> None:
    critic = scramble(MutualInformationCritic(3, 2, 8))
    x, y, batch = node_pairs()
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


def test_a_mutual_information_critic_refuses_by_name() -> None:
    critic = MutualInformationCritic(3, 2, 4)
    x, y, batch = node_pairs()
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
    critic = scramble(MutualInformationCritic(3, 2, 8, head, base="gaussian"))
    x, y, batch = node_pairs()
    critic.prepare([(x, y, batch)])
    plain = critic.loss(x, y, batch)
    kl = scramble(KLCritic(3, 8, base="gaussian"))
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
from pyg_gunet.critic import MutualInformationCritic
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    critic = scramble(MutualInformationCritic(3, 2, 8))
    x, y, batch = node_pairs()
    here = critic.estimate(x, y, batch, readout="dv")
    there = critic.cuda().estimate(x.cuda(), y.cuda(), batch.cuda(), readout="dv")
    assert there.value.device.type == "cuda"
    assert float(there.value) == pytest.approx(float(here.value), abs=1e-4)
