"""Passes under different dropout that are drawn together."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet.train import Classify
from pyg_gunet.train.classify import disagreement
from tests.train.conftest import planted


def test_predictions_are_drawn_to_their_sharpened_mean():
    """Feng et al. 2020, equations 5 to 7 at a temperature of a half; the mean gets no gradient."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 5, 3, dtype=torch.float64, generator=generator)
    probability = scores.softmax(-1).requires_grad_()
    found = disagreement(probability)
    rows = []
    for node in probability.detach().unbind(1):
        sharp = [float(one.mean()) ** 2 for one in node.unbind(1)]
        rows.append([one / sum(sharp) for one in sharp])
    apart = probability.detach() - torch.tensor(rows, dtype=torch.float64)
    assert float(found.detach()) == pytest.approx(float(apart.square().sum()) / 20)
    (grad,) = torch.autograd.grad(found, probability)
    assert torch.allclose(grad, apart / 10)


@pytest.mark.parametrize("epoch, share", [(0, 0.0), (25, 0.5), (60, 1.0)])
def test_passes_are_drawn_together_over_the_first_epochs(monkeypatch, epoch, share):
    model = Classify(3, 3, hidden_channels=4, depth=1, dropout=0.5, consistency=2.0)
    monkeypatch.setattr(Classify, "current_epoch", epoch)
    data = planted()
    torch.manual_seed(0)
    passes = torch.stack([model(data) for _ in range(4)])
    torch.manual_seed(0)
    terms = model.terms(data)
    expected = 2.0 * share * disagreement(passes.softmax(-1))
    assert float(terms["consistency"]) == pytest.approx(float(expected))
    assert "consistency" not in model.eval().terms(data)
