"""Which pairs there are not: the argument, and what is wrong with it."""

from __future__ import annotations

import math

import pytest
import torch

from pyg_gunet.critic import dense_pairs, pair_loss, pair_readout


def test_targets_and_weights_that_make_no_pairs() -> None:
    scores, target = torch.zeros(2, 2), torch.zeros(2).long()
    with pytest.raises(TypeError, match="'target' must be a torch.Tensor.*list"):
        dense_pairs(scores, [0, 0])
    with pytest.raises(TypeError, match="'target'.*float32"):
        dense_pairs(scores, target.float())
    with pytest.raises(IndexError, match=r"'target'.*\[0, 2\) .got 2"):
        dense_pairs(scores, target + 2)
    with pytest.raises(ValueError, match=r"'weight'.*\[3\]"):
        dense_pairs(scores, target, torch.ones(3))
    with pytest.raises(ValueError, match=r"'weight'.*-1\.0"):
        dense_pairs(scores, target, -torch.ones(2))


@pytest.mark.parametrize(
    "changes, error, match",
    [
        ({"neg": torch.zeros(2)}, ValueError, r"'neg'.*\[2\]"),
        ({"pos": torch.zeros(3)}, ValueError, r"'pos'.*\[2\] .got \[3\]"),
        ({"weight": torch.ones(3)}, ValueError, r"'weight'.*\[2\] .got \[3\]"),
        ({"mask": torch.ones(2, 2)}, TypeError, "'mask' must be boolean.*float32"),
    ],
)
def test_scores_of_pairs_that_do_not_fit(changes, error, match) -> None:
    pairs = dense_pairs(torch.zeros(2, 2), torch.arange(2), torch.ones(2))
    with pytest.raises(error, match=match):
        pair_readout(pairs._replace(**changes), "dv")


def test_pairs_that_no_loss_and_no_readout_takes() -> None:
    for call in (pair_loss, pair_readout):
        with pytest.raises(TypeError, match="'pairs'.*int"):
            call(3)
    with pytest.raises(ValueError, match="'mask' must hold a negative pair"):
        pair_loss(dense_pairs(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)))
    with pytest.raises(ValueError, match="'scores' must have shape"):
        dense_pairs(torch.zeros(3), torch.zeros(3, dtype=torch.long))
    pairs = dense_pairs(torch.full((2, 2), math.nan), torch.arange(2))
    with pytest.raises(ValueError, match="'pos' must not be NaN"):
        pair_loss(pairs)
    with pytest.raises(ValueError, match="'pos' must not be NaN"):
        pair_readout(pairs)
    with pytest.raises(ValueError, match="at least 2 graphs"):
        pair_readout(dense_pairs(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)))
    with pytest.raises(ValueError, match="at least one chunk"):
        pair_readout([])
