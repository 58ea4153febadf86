"""The weighted cross-entropy against its formula."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet.nn.loss import BorderWeightedCrossEntropy


def problem(num_nodes=20, num_classes=4):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_nodes, num_classes, generator=generator, dtype=torch.float64)
    target = torch.randint(num_classes, (num_nodes,), generator=generator)
    weight = torch.rand(num_nodes, generator=generator, dtype=torch.float64) * 10
    return logits, target, weight


def test_formula():
    logits, target, weight = problem()
    chance = logits.exp() / logits.exp().sum(1, keepdim=True)
    terms = -weight * chance[range(20), target].log()
    none = BorderWeightedCrossEntropy(reduction="none")(logits, target, weight)
    torch.testing.assert_close(none, terms)
    total = BorderWeightedCrossEntropy(reduction="sum")(logits, target, weight)
    torch.testing.assert_close(total, terms.sum())
    mean = BorderWeightedCrossEntropy()(logits, target, weight)
    torch.testing.assert_close(mean, terms.sum() / weight.sum())
    torch.testing.assert_close(BorderWeightedCrossEntropy()(logits, target, 3 * weight), mean)


def test_class_weights_are_those_of_torch():
    logits, target, _ = problem()
    per_class = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    for smoothing in (0.0,):
        expected = torch.nn.CrossEntropyLoss(weight=per_class)(logits, target)
        criterion = BorderWeightedCrossEntropy(label_smoothing=smoothing)
        torch.testing.assert_close(criterion(logits, target, per_class[target]), expected)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, target)
    criterion = BorderWeightedCrossEntropy(label_smoothing=0.1)
    torch.testing.assert_close(criterion(logits, target), expected)


@pytest.mark.parametrize("ignore_index", [-100, 255, 2])
def test_ignored_nodes_have_no_part(ignore_index):
    logits, target, weight = problem()
    target[::3] = ignore_index
    logits[0] = torch.inf
    logits.requires_grad_()
    keep = target != ignore_index
    criterion = BorderWeightedCrossEntropy(ignore_index=ignore_index)
    loss = criterion(logits, target, weight)
    alone = BorderWeightedCrossEntropy()(logits[keep], target[keep], weight[keep])
    torch.testing.assert_close(loss, alone)
    criterion(logits[1:], target[1:], weight[1:]).backward()
    assert not logits.grad[~keep].any()
    assert logits.grad[keep].any()


def test_nothing_counts():
    logits, target, weight = problem()
    logits.requires_grad_()
    criterion = BorderWeightedCrossEntropy(ignore_index=-1)
    for loss in (
        criterion(logits, torch.full_like(target, -1), weight),
        criterion(logits, target, 0 * weight),
        criterion(logits[:0], target[:0], weight[:0]),
    ):
        assert loss == 0
        loss.backward()
        assert not logits.grad.any()


def test_gradient():
    logits, target, weight = problem(6)
    target[1] = -1
    for reduction in ("mean", "sum", "none"):
        criterion = BorderWeightedCrossEntropy(-1, label_smoothing=0.1, reduction=reduction)
        assert torch.autograd.gradcheck(
            lambda x, f=criterion: f(x, target, weight), logits.clone().requires_grad_()
        )


def test_repr():
    assert repr(BorderWeightedCrossEntropy()) == "BorderWeightedCrossEntropy()"
    shown = repr(BorderWeightedCrossEntropy(255, reduction="sum"))
    assert shown == "BorderWeightedCrossEntropy(ignore_index=255, reduction='sum')"


def test_errors():
    logits, target, weight = problem()
    criterion = BorderWeightedCrossEntropy(ignore_index=255)
    wrong = target.clone()
    wrong[3] = -1
    with pytest.raises(ValueError, match=r"'target'.*\(got -1\)"):
        criterion(logits, wrong, weight)
    with pytest.raises(ValueError, match=r"'target'.*\[19\]"):
        criterion(logits, target[1:], weight)
    with pytest.raises(TypeError, match="'target'.*float32"):
        criterion(logits, target.float(), weight)
    with pytest.raises(TypeError, match="'logits'.*int64"):
        criterion(logits.long(), target, weight)
    with pytest.raises(ValueError, match=r"'logits'.*\[20\]"):
        criterion(logits[:, 0], target, weight)
    with pytest.raises(ValueError, match=r"'weight'.*\[20\].*\[20, 1\]"):
        criterion(logits, target, weight.view(20, 1))
    with pytest.raises(TypeError, match="'weight'.*int64"):
        criterion(logits, target, target)
    with pytest.raises(ValueError, match="'weight'.*nan"):
        criterion(logits, target, weight * torch.nan)
    with pytest.raises(ValueError, match="'weight'.*-"):
        criterion(logits, target, -weight)
    with pytest.raises(ValueError, match="'reduction'.*'max'"):
        BorderWeightedCrossEntropy(reduction="max")
    with pytest.raises(ValueError, match="'label_smoothing'.*1.5"):
        BorderWeightedCrossEntropy(label_smoothing=1.5)
    with pytest.raises(TypeError, match="'ignore_index'.*'255'"):
        BorderWeightedCrossEntropy(ignore_index="255")
