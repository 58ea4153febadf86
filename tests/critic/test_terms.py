"""The critics' terms beside an auto-encoder's reconstruction."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from pyg_gunet.critic import InfoMaxTerm, PriorTerm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_infomax_gradient_raises_the_information_of_nodes_and_graphs() -> None:
    term = InfoMaxTerm(2, 16)
    shift = torch.nn.Parameter(torch.tensor(0.1))
    optimizer = torch.optim.Adam([*term.parameters(), shift], lr=1e-2)
    batch = torch.arange(32).repeat_interleave(5)

    def z() -> torch.Tensor:
        return torch.randn(160, 2) + shift * torch.randn(32, 2)[batch]

    for _ in range(150):
        optimizer.zero_grad()
        term(z(), batch).backward()
        optimizer.step()
    assert abs(float(shift.detach())) > 0.6  # what the nodes of a graph share has grown
    assert float(term.estimate(z().detach(), batch).value) > 0.2


def test_infomax_of_one_graph_keeps_rows_from_the_critic() -> None:
    term = InfoMaxTerm(2, 8)
    for param in term.parameters():
        torch.nn.init.normal_(param)
    z = torch.randn(40, 2, requires_grad=True)
    batch = torch.zeros(40, dtype=torch.long)
    (grad,) = torch.autograd.grad(term(z - z.detach().mean(0), batch, -z.detach()), z)
    assert bool((grad[1:10].abs().sum(1) > 0).all())
    read = term.estimate(z.detach(), batch, -z.detach())
    assert (read.n_pos, read.quantity) == (4, "KL(real || corrupted)")


def test_prior_pulls_the_cloud_to_a_standard_normal() -> None:
    term = PriorTerm(2, 32)
    mean, log_std = (
        torch.nn.Parameter(torch.full((2,), 1.0)),
        torch.nn.Parameter(torch.zeros(2) - 1),
    )
    critic = torch.optim.Adam(term.parameters(), lr=5e-3)
    ours = torch.optim.Adam([mean, log_std], lr=1e-2)
    for _ in range(400):
        z = mean + log_std.exp() * torch.randn(128, 2)
        penalty, critic_loss = term(z)
        critic.zero_grad()
        ours.zero_grad()
        (penalty + critic_loss).backward()
        critic.step()
        ours.step()
    assert float(mean.detach().abs().max()) < 0.4
    assert float(log_std.detach().abs().max()) < 0.4


def test_prior_penalty_and_critic_loss_have_separate_gradients() -> None:
    term = PriorTerm(2, 8)
    for param in term.parameters():
        torch.nn.init.normal_(param)
    z = torch.randn(20, 2, requires_grad=True)
    penalty, critic_loss = term(z, held_out=True)
    assert torch.autograd.grad(critic_loss, z, allow_unused=True, retain_graph=True) == (None,)
    weights = list(term.parameters())
    assert all(
        g is None
        for g in torch.autograd.grad(penalty, weights, allow_unused=True, retain_graph=True)
    )
    assert float(torch.autograd.grad(penalty, z)[0].abs().sum()) > 0
    batch = torch.arange(2).repeat_interleave(10)
    assert math.isfinite(float(term.estimate(z, batch).stderr))
    assert term.estimate(z, batch * 0, held_out=True).n_pos == 2


@pytest.mark.parametrize(
    ("dataset", "reading"), [("ring", "val_kl_corrupted"), ("digits", "val_mi")]
)
def test_fit_writes_the_curves(dataset: str, reading: str, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    train = pytest.importorskip("pyg_gunet.train")
    run = train.fit(
        dataset,
        out=tmp_path / "run",
        epochs=2,
        depth=1,
        hidden_channels=8,
        batch_size=256,
        mi_weight=0.1,
        kl_weight=0.1,
        accelerator="cpu",
    )
    header = (tmp_path / "run" / "history.csv").read_text().splitlines()[0].split(",")
    assert {"train_infomax", "train_prior", "train_prior_critic", reading, "val_kl_prior"} <= {
        *header
    }
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["settings"]["model"]["mi_weight"] == 0.1
    # The checkpoint, critics included, goes through a round trip.
    assert train.evaluate(tmp_path / "run")["mse"] == pytest.approx(run.figures["mse"], rel=1e-5)
