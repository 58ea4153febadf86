"""What models and losses refuse: the argument, and what was wrong with it."""

from __future__ import annotations

import pytest
import torch
from torch import tensor, zeros

from pyg_gunet import (
    BorderWeightedCrossEntropy,
    GraphUNet,
    GraphUNetAutoEncoder,
    HierarchicalReadout,
)
from pyg_gunet.nn.segmentation import Scale, deep_supervision

TWO, SQUARE, NODES = zeros(2), zeros(2, 2), zeros(2).long()
SCALES = [Scale(SQUARE, torch.arange(2))]


def levels():
    return GraphUNet(2, 4, 4, 1).states(SQUARE, tensor([[0, 1], [1, 0]]))[1]


def supervised(target=NODES, scales=SCALES, **options):
    return deep_supervision(scales, target, **options)


CALLS = {
    "edge_decoder": (
        lambda: GraphUNetAutoEncoder(3, 4, edge_decoder=3),
        TypeError,
        "'edge_decoder'.*3",
    ),
    "conv": (
        lambda: GraphUNet(3, 4, 2, 1, conv=lambda channels: None),
        TypeError,
        r"'conv' must take \(in_channels, out_channels\)",
    ),
    "hierarchy": (
        lambda: GraphUNetAutoEncoder(2, 4, depth=1).decode(SQUARE, 3),
        TypeError,
        "'hierarchy' must be a Hierarchy of 1 poolings.*3",
    ),
    "logits": (
        lambda: BorderWeightedCrossEntropy()(SQUARE * torch.nan, NODES),
        ValueError,
        "'logits' must not hold NaN",
    ),
    "net": (lambda: HierarchicalReadout(3, 2), TypeError, "'net' must be a GraphUNet .got 3"),
    "width of a net": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 3, 1), 2),
        ValueError,
        "'net' must give its 4 hidden channels .got 3",
    ),
    "reduce": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 4, 1), 2, "mean"),
        TypeError,
        "'reduce' must be a tuple of names .got 'mean'",
    ),
    "states": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 4, 1), 2).read([SQUARE], levels()),
        ValueError,
        "'states' must hold one entry per level, 2 of them .got 1",
    ),
    "scales": (lambda: supervised(scales=3), TypeError, "'scales'.*int"),
    "labels shape": (lambda: supervised(zeros(3).long()), ValueError, r"'target'.*\[2\] .got \[3"),
    "labels dtype": (lambda: supervised(TWO), TypeError, "'target'.*float32"),
    "labels": (lambda: supervised(NODES + 2), IndexError, r"'target'.*\[0, 2\) .got 2"),
    "criterion": (lambda: supervised(criterion=3), TypeError, "'criterion'.*3"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()
