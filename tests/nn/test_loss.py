"""The losses of nodes against their formulas."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet.nn.loss import BorderWeightedCrossEntropy, DiceLoss, FocalLoss

LOSSES = (BorderWeightedCrossEntropy, FocalLoss, DiceLoss)


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
    expected = torch.nn.CrossEntropyLoss(weight=per_class)(logits, target)
    criterion = BorderWeightedCrossEntropy()
    torch.testing.assert_close(criterion(logits, target, per_class[target]), expected)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, target)
    criterion = BorderWeightedCrossEntropy(label_smoothing=0.1)
    torch.testing.assert_close(criterion(logits, target), expected)


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_formula(gamma):
    logits, target, weight = problem()
    chance = logits.softmax(1)[range(20), target]
    terms = -weight * (1 - chance) ** gamma * chance.log()
    none = FocalLoss(gamma, reduction="none")(logits, target, weight)
    torch.testing.assert_close(none, terms)
    torch.testing.assert_close(FocalLoss(gamma)(logits, target, weight), terms.sum() / weight.sum())
    total = FocalLoss(gamma, reduction="sum")(logits, target, weight)
    torch.testing.assert_close(total, terms.sum())
    if gamma == 0:
        expected = BorderWeightedCrossEntropy()(logits, target, weight)
        torch.testing.assert_close(FocalLoss(0)(logits, target, weight), expected)


def dice(logits, target, weight):
    """Class by class; a class that is not in `target` has no part."""
    chance, terms = logits.softmax(1), []
    for one in target.unique():
        true = (target == one).double()
        both = (weight * chance[:, one] * true).sum()
        terms.append(1 - 2 * both / (weight * (chance[:, one] + true)).sum())
    return sum(terms) / len(terms)


def test_dice_formula():
    logits, target, weight = problem()
    ones = torch.ones_like(weight)
    torch.testing.assert_close(DiceLoss()(logits, target), dice(logits, target, ones))
    torch.testing.assert_close(DiceLoss()(logits, target, weight), dice(logits, target, weight))
    target = target.clamp(max=2)
    torch.testing.assert_close(DiceLoss()(logits, target, weight), dice(logits, target, weight))
    # Graph by graph: one of them is empty, one has no node that counts.
    batch = torch.tensor([0] * 8 + [2] * 9 + [3] * 3)
    weight[17:] = 0
    parts = [slice(0, 8), slice(8, 17)]
    expected = sum(dice(logits[part], target[part], weight[part]) for part in parts) / 2
    torch.testing.assert_close(DiceLoss()(logits, target, weight, batch), expected)
    torch.testing.assert_close(DiceLoss()(logits, target, weight, batch.int()), expected)
    ignored = target.clone()
    ignored[17:] = 255
    torch.testing.assert_close(DiceLoss(255)(logits, ignored, weight, batch), expected)


def test_dice_of_many_nodes_in_half_precision():
    logits = torch.zeros(100_000, 2, dtype=torch.float16, requires_grad=True)
    target = torch.arange(100_000) % 2
    loss = DiceLoss()(logits, target)
    assert float(loss.detach()) == pytest.approx(0.5)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_superpixels_weigh_as_their_pixels():
    logits, target, _ = problem()
    pixels = torch.randint(1, 6, (20,), generator=torch.Generator().manual_seed(1))
    painted = (logits.repeat_interleave(pixels, 0), target.repeat_interleave(pixels))
    for loss in LOSSES:
        torch.testing.assert_close(loss()(logits, target, pixels.double()), loss()(*painted))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ignore_index", [-100, 255, 2])
def test_nodes_that_do_not_count_have_no_part(ignore_index, loss):
    logits, target, weight = problem()
    target[::3] = ignore_index
    weight[1], target[1] = 0, 0
    logits[0] = torch.inf
    logits[1, 0] = -torch.inf  # an infinite loss, times zero
    logits.requires_grad_()
    keep = (target != ignore_index) & (weight > 0)
    criterion = loss(ignore_index=ignore_index)
    found = criterion(logits, target, weight)
    alone = loss()(logits[keep], target[keep], weight[keep])
    torch.testing.assert_close(found, alone)
    found.backward()
    assert not logits.grad[~keep].any()
    assert logits.grad[keep].isfinite().all()
    assert logits.grad[keep].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_counts(loss):
    logits, target, weight = problem()
    logits.requires_grad_()
    criterion = loss(ignore_index=-1)
    for found in (
        criterion(logits, torch.full_like(target, -1), weight),
        criterion(logits, target, 0 * weight),
        criterion(logits[:0], target[:0], weight[:0]),
    ):
        assert found == 0
        found.backward()
        assert not logits.grad.any()


def test_gradient():
    logits, target, weight = problem(6)
    target[1] = -1
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    reductions = ("mean", "sum", "none")
    criteria = [BorderWeightedCrossEntropy(-1, 0.1, reduction) for reduction in reductions]
    criteria += [FocalLoss(gamma, -1) for gamma in (0, 0.5, 1, 2)]
    criteria += [lambda *args: DiceLoss(-1)(*args, batch)]
    for criterion in criteria:
        assert torch.autograd.gradcheck(
            lambda x, f=criterion: f(x, target, weight), logits.clone().requires_grad_()
        )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_certain_predictions_have_a_gradient_that_is_finite(loss, size):
    logits = torch.tensor([[size, 0.0, 0.0], [0.0, size, 0.0], [size, -size, 0.0]])
    target = torch.tensor([0, 2, 2])
    for criterion in (loss(), *([FocalLoss(0.5)] if loss is FocalLoss else [])):
        given = logits.clone().requires_grad_()
        found = criterion(given, target)
        found.backward()
        assert found.isfinite()
        assert given.grad.isfinite().all()


def test_repr():
    assert repr(BorderWeightedCrossEntropy()) == "BorderWeightedCrossEntropy()"
    shown = repr(BorderWeightedCrossEntropy(255, reduction="sum"))
    assert shown == "BorderWeightedCrossEntropy(ignore_index=255, reduction='sum')"
    assert repr(FocalLoss(1.0)) == "FocalLoss(gamma=1.0)"
    assert repr(DiceLoss(2)) == "DiceLoss(ignore_index=2)"


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_names_the_argument_that_is_wrong(loss):
    logits, target, weight = problem()
    criterion = loss(ignore_index=255)
    wrong = target.clone()
    wrong[3] = -1
    with pytest.raises(ValueError, match=r"'target'.*\(got -1\)"):
        criterion(logits, wrong, weight)
    with pytest.raises(ValueError, match=r"'target'.*\(got 4\)"):
        criterion(logits, wrong.abs() * 0 + 4, weight)
    with pytest.raises(ValueError, match=r"'target'.*\[19\]"):
        criterion(logits, target[1:], weight)
    with pytest.raises(TypeError, match="'target'.*float32"):
        criterion(logits, target.float(), weight)
    with pytest.raises(TypeError, match="'logits'.*int64"):
        criterion(logits.long(), target, weight)
    with pytest.raises(ValueError, match=r"'logits'.*\[20\]"):
        criterion(logits[:, 0], target, weight)
    with pytest.raises(ValueError, match=r"'logits'.*\[20, 1\]"):
        criterion(logits[:, :1], target, weight)
    with pytest.raises(ValueError, match="'logits' must not hold NaN"):
        criterion(logits * torch.nan, target, weight)
    for endless in (torch.inf, -torch.inf):
        with pytest.raises(ValueError, match=f"'logits'.*finite maximum.*got {endless} in row 0"):
            criterion(torch.full_like(logits, endless), target, weight)
    with pytest.raises(ValueError, match=r"'weight'.*\[20\].*\[20, 1\]"):
        criterion(logits, target, weight.view(20, 1))
    with pytest.raises(TypeError, match="'weight'.*int64"):
        criterion(logits, target, target)
    with pytest.raises(ValueError, match="'weight'.*nan"):
        criterion(logits, target, weight * torch.nan)
    with pytest.raises(ValueError, match="'weight'.*inf"):
        criterion(logits, target, weight / 0)
    with pytest.raises(ValueError, match="'weight'.*-"):
        criterion(logits, target, -weight)
    with pytest.raises(TypeError, match="'ignore_index'.*'255'"):
        loss(ignore_index="255")


def test_every_loss_names_the_option():
    logits, target, weight = problem()
    for loss in (BorderWeightedCrossEntropy, FocalLoss):
        with pytest.raises(ValueError, match="'reduction'.*'max'"):
            loss(reduction="max")
    with pytest.raises(ValueError, match="'label_smoothing'.*1.5"):
        BorderWeightedCrossEntropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="'gamma'.*-1"):
        FocalLoss(-1)
    with pytest.raises(ValueError, match=r"'batch'.*\[20\].*\[19\]"):
        DiceLoss()(logits, target, weight, target[1:])
    with pytest.raises(ValueError, match="'batch' must be sorted"):
        DiceLoss()(logits, target, weight, torch.arange(20).flip(0))
