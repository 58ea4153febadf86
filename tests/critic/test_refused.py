"""What critics, losses and readings refuse: the argument, and what was wrong with it."""

from __future__ import annotations

import pytest
import torch
from torch import ones, zeros

from pyg_gunet.critic import (
    KLCritic,
    dense_pairs,
    dv_loss,
    fit_critic,
    nce_loss,
    pair_loss,
    pair_readout,
    two_sample_readout,
)
from pyg_gunet.critic.pairs import PairScores

ONE, TWO, SQUARE, NODES = zeros(1), zeros(2), zeros(2, 2), zeros(2).long()
PAIRS = PairScores(TWO, SQUARE, ~torch.eye(2).bool(), torch.arange(2), ones(2))


def clusters(cluster):
    return two_sample_readout(TWO, TWO, "dv", cluster_p=NODES, cluster_q=cluster)


def paired(**changes):
    return pair_readout(PAIRS._replace(**changes), "dv")


CALLS = {
    "weight shape": (lambda: nce_loss(TWO, TWO, weight_q=ones(3)), ValueError, r"'weight_q'.*\[3"),
    "weight": (lambda: nce_loss(TWO, TWO, weight_q=-ones(2)), ValueError, r"'weight_q'.*-1\.0"),
    "target dtype": (lambda: dense_pairs(SQUARE, TWO), TypeError, "'target'.*float32"),
    "pair weights": (lambda: dense_pairs(SQUARE, NODES, ones(3)), ValueError, r"'weight'.*\[3\]"),
    "target": (lambda: dense_pairs(SQUARE, NODES + 2), IndexError, r"'target'.*\[0, 2\) .got 2"),
    "negative pair weight": (
        lambda: dense_pairs(SQUARE, NODES, -ones(2)),
        ValueError,
        r"'weight'.*-1\.0",
    ),
    "pairs": (lambda: pair_readout(3, "dv"), TypeError, "'pairs'.*int"),
    "pairs of a loss": (lambda: pair_loss(3), TypeError, "'pairs'.*int"),
    "neg": (lambda: paired(neg=TWO), ValueError, r"'neg'.*\[2\]"),
    "pos": (lambda: paired(pos=zeros(3)), ValueError, r"'pos'.*\[2\] .got \[3\]"),
    "weights of pairs": (lambda: paired(weight=ones(3)), ValueError, r"'weight'.*\[2\] .got \[3\]"),
    "cluster dtype": (lambda: clusters(TWO), TypeError, "'cluster_q'.*float32"),
    "cluster": (lambda: clusters(zeros(3).long()), ValueError, r"'cluster_q'.*\[2\] .got \[3\]"),
    "critic": (
        lambda: fit_critic(torch.nn.Linear(1, 1), lambda: (TWO, TWO), 1),
        TypeError,
        "'critic'.*Linear",
    ),
    "average": (
        lambda: fit_critic(KLCritic(1, 4), (SQUARE, SQUARE), 1, average=1.0),
        ValueError,
        "'average' must be below 1",
    ),
    "log_mean": (lambda: dv_loss(TWO, TWO, log_mean=TWO), ValueError, r"'log_mean'.*\[2\]"),
    "mask": (lambda: paired(mask=ones(2, 2)), TypeError, "'mask' must be boolean.*float32"),
    "sample of one row": (
        lambda: fit_critic(KLCritic(1, 4), (ONE[None], ONE[None]), 1),
        ValueError,
        r"'sample' must hold two rows.*\[1, 1\]",
    ),
    "val": (
        lambda: fit_critic(KLCritic(1, 4), (torch.zeros(4, 1), torch.ones(4, 1)), 1, val=[]),
        TypeError,
        r"'val'.*\[\]",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()


class Endless(torch.nn.Module):
    """What `fit_critic` asks of a critic, with a loss that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, *batch):
        return self.weight.sum() + torch.inf

    def prepare(self, batches):
        pass

    split = minibatch = prepare


def test_a_held_out_loss_that_is_infinite_from_the_start():
    with pytest.raises(ValueError, match="'val' must give a finite loss at the start .*inf"):
        fit_critic(Endless(), lambda: (ONE, ONE), 1)
