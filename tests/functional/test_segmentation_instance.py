"""Instances that are found."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet.functional.segmentation import instances_found


def by_definition(preds, target, threshold):
    found = []
    for i in sorted(set(target.tolist()) - {0}):
        best = 0.0
        for j in set(preds.tolist()) - {0}:
            one, other = target == i, preds == j
            best = max(best, int((one & other).sum()) / int((one | other).sum()))
        found.append(best > threshold)
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_definition(seed, threshold):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 8, (200,), generator=generator).sort().values
    noise = torch.rand(200, generator=generator) < 0.15 * (1 + seed)
    preds = torch.where(noise, torch.randint(0, 8, (200,), generator=generator), target * 3)
    found = instances_found(preds, target, threshold)
    assert found.tolist() == by_definition(preds, target, threshold)


def test_merged_and_split():
    target = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2])
    assert instances_found(torch.ones_like(target), target).tolist() == [False, False]
    assert instances_found(torch.tensor([1, 1, 2, 2, 3, 3, 3, 4]), target).tolist() == [False, True]
    assert instances_found(torch.zeros_like(target), target).tolist() == [False, False]
    assert instances_found(target, torch.zeros_like(target)).shape == (0,)
    assert instances_found(target[:0], target[:0]).shape == (0,)


def test_errors():
    target = torch.tensor([1, 0])
    with pytest.raises(TypeError, match="'preds'.*float32"):
        instances_found(target.float(), target)
    with pytest.raises(ValueError, match=r"one shape.*\[1\] and \[2\]"):
        instances_found(target[:1], target)
    with pytest.raises(ValueError, match="'threshold'.*0.2"):
        instances_found(target, target, 0.2)
