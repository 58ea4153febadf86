"""The one sampler: units, clusters, splits, folds, minibatches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyg_gunet.critic import KLCritic, fit_critic
from pyg_gunet.critic.sampling import Sampler


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _graphs() -> tuple[Tensor, Tensor, Tensor]:
    batch = torch.arange(20).repeat_interleave(torch.arange(20) % 3 + 1)
    y = torch.arange(20.0).unsqueeze(1)
    return y[batch], y, batch


def test_graphs_stay_whole_and_rows_with_their_graphs() -> None:
    sampler = Sampler(_graphs(), True)
    rest, held = sampler.split(0.25)
    assert (len(rest[1]), len(held[1])) == (15, 5)
    assert not set(rest[1].flatten().tolist()) & set(held[1].flatten().tolist())
    for part in (rest, held, sampler.minibatch(7), sampler.take(sampler.folds(3)[1])):
        assert torch.equal(part[0], part[1][part[2]])
        assert bool((part[2].diff() >= 0).all())
        assert len(part[1]) == len(part[1].unique())  # no graph is a negative of itself


def test_pairs_are_drawn_together_and_samples_alone() -> None:
    y = torch.arange(40.0).unsqueeze(1)
    sampler = Sampler((y, 2 * y), True)
    for x, z in (*sampler.split(0.25), sampler.minibatch(5), sampler.minibatch(30)):
        assert torch.equal(2 * x, z)
        assert len(x) == len(x.unique())
    assert [len(v) for v in Sampler((y, y), False).minibatch(400)] == [400, 400]  # again and again
    (p, q), (held_p, held_q) = Sampler((y, y[:10]), False).split(0.2)
    assert [len(v) for v in (p, held_p, q, held_q)] == [32, 8, 8, 2]


@pytest.mark.parametrize("size", [5, 30])
@pytest.mark.parametrize("paired", [True, False])
def test_a_generator_draws_all(size: int, paired: bool) -> None:
    x, found = torch.arange(40), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        sampler = Sampler((x, x), paired, None, torch.Generator().manual_seed(seed))
        rest, held = sampler.split(0.3)
        drawn = (*rest, *held, *sampler.minibatch(size), *sampler.folds(3)[0])
        found.append([part.tolist() for part in drawn])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("paired", [True, False])
def test_clusters_are_never_on_both_sides(paired: bool) -> None:
    ids = torch.arange(60) // 6
    rows = torch.arange(60)
    data = (rows, rows)
    sampler = Sampler(data, paired, ids if paired else (ids, ids))
    rest, held = sampler.split(0.3)
    for a, b in zip(rest, held):
        assert not set(ids[a].tolist()) & set(ids[b].tolist())
        assert len(b) == 18
        assert sorted([*a.tolist(), *b.tolist()]) == rows.tolist()
    folds = sampler.folds(4)
    for group in range(len(sampler.groups)):
        found = [set(ids[fold[group]].tolist()) for fold in folds]
        assert sum(len(f) for f in found) == len(set().union(*found)) == 10
    if not paired:  # one id is one cluster on both sides
        assert all(torch.equal(fold[0], fold[1]) for fold in folds)


def test_fit_holds_clusters_out_as_a_whole() -> None:
    """Thirty copies of each of forty points: rows alone would stop on points it trained on."""
    p, q = torch.randn(40, 5).repeat(30, 1), torch.randn(40, 5).repeat(30, 1)
    ids = torch.arange(40).repeat(30)
    loss = {}
    for name, cluster in (("rows", None), ("clusters", (ids, ids + 40))):
        torch.manual_seed(1)
        fit = fit_critic(KLCritic(5, 32), (p, q), 200, lr=1e-2, cluster=cluster)
        loss[name] = fit.best_loss
    assert loss["rows"] < 0.3  # learned by heart
    assert loss["clusters"] > 1.0


def test_a_sampler_refuses_by_name() -> None:
    x = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"'cluster' must have shape \[4\]"):
        Sampler((x, x), True, torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="'cluster' must be of dtype int64"):
        Sampler((x, x), True, torch.zeros(4))
    with pytest.raises(ValueError, match="'cluster' must hold one tensor for each of 2"):
        Sampler((x, x), False, (None,))
