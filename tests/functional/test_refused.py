"""What scores and selection refuse: the argument, and what was wrong with it."""

from __future__ import annotations

import pytest
from torch import tensor, zeros

from pyg_gunet.functional.segmentation import part_iou, pixel_accuracy
from pyg_gunet.functional.select import num_kept

TWO, SQUARE, NODES = zeros(2), zeros(2, 2), zeros(2).long()
PARTS = [[0, 1]]

CALLS = {
    "ignore_index": (
        lambda: pixel_accuracy(NODES, NODES, 2, ignore_index=2**70),
        ValueError,
        "'ignore_index' must fit.*1180591620717411303424",
    ),
    "scalar preds": (
        lambda: part_iou(tensor(1), NODES, NODES, tensor([0]), PARTS),
        ValueError,
        "'preds'.*scalar",
    ),
    "logits of integers": (
        lambda: part_iou(SQUARE.long(), NODES, NODES, tensor([0]), PARTS),
        TypeError,
        "'preds'.*int64",
    ),
    "parts": (
        lambda: part_iou(NODES, NODES, NODES, tensor([0]), "ab"),
        TypeError,
        "'parts'.*'ab'",
    ),
    "parts of a number": (
        lambda: part_iou(NODES, NODES, NODES, zeros(1).long(), [1]),
        TypeError,
        "'parts' must hold sequences of int.*1",
    ),
    "sizes dtype": (lambda: num_kept(0.5, TWO), TypeError, "'sizes'.*float32"),
    "sizes": (lambda: num_kept(0.5, SQUARE.long()), ValueError, r"'sizes'.*\[2, 2\]"),
    "negative size": (lambda: num_kept(0.5, tensor([-3])), ValueError, "'sizes'.*-3 for graph 0"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()
