"""A tensor on another device gets an error that names it, whoever is called."""

from __future__ import annotations

import pytest
import torch
from torch import arange, ones, rand, tensor, zeros

from pyg_gunet import (
    BorderWeightedCrossEntropy,
    GPool,
    GraphUNet,
    GUnpool,
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
)
from pyg_gunet.critic import dense_pairs, dv_loss, estimate_kl, estimate_mi, two_sample_readout
from pyg_gunet.functional import connect, interpolate, segmentation
from pyg_gunet.functional.segmentation.image import image_nodes, masks_to_instances
from pyg_gunet.functional.select import topk
from pyg_gunet.functional.spread import spread


class Elsewhere(torch.Tensor):
    """A tensor that says of itself that it lies on a GPU."""

    device = torch.device("cuda", 7)


EDGES = tensor([[0, 1, 2, 2], [1, 2, 3, 0]])
NODES, FOUR, PAIRS = zeros(4).long(), rand(4), rand(4, 3)
FEW = {"steps": 1, "hidden_channels": 4}
CALLS = {
    "GPool": (GPool(3), {"x": PAIRS, "edge_index": EDGES, "edge_attr": FOUR, "batch": NODES}),
    "GUnpool": (
        lambda **given: GUnpool("interpolate")(perm=arange(4), num_nodes=4, **given),
        {"x": PAIRS, "edge_index": EDGES, "edge_weight": FOUR},
    ),
    "GraphUNet": (
        GraphUNet(3, 4, 2, 1),
        {"x": PAIRS, "edge_index": EDGES, "batch": NODES, "edge_weight": FOUR},
    ),
    "loss": (
        BorderWeightedCrossEntropy(),
        {"logits": PAIRS, "target": NODES, "weight": FOUR},
    ),
    "part_iou": (
        lambda **given: segmentation.part_iou(parts=[[0, 1]], **given),
        {"target": NODES, "preds": NODES, "batch": NODES, "category": zeros(1).long()},
    ),
    "mean_iou": (
        lambda **given: segmentation.mean_iou(num_classes=2, **given),
        {"target": NODES, "preds": NODES, "batch": NODES},
    ),
    "confusion_matrix": (
        lambda **given: segmentation.confusion_matrix(preds=NODES, num_classes=2, **given),
        {"target": NODES, "node_weight": FOUR},
    ),
    "matching": (segmentation.matching, {"target": NODES, "preds": NODES, "batch": NODES}),
    "boundary_iou": (
        lambda **given: segmentation.boundary_iou(preds=NODES, num_classes=2, **given),
        {"target": NODES, "edge_index": EDGES, "edge_length": FOUR},
    ),
    "masks": (masks_to_instances, {"masks": ones(1, 2, 2).long(), "numbers": ones(1).long()}),
    "images": (image_nodes, {"target": ones(1, 2, 2).long(), "preds": ones(1, 2, 2).long()}),
    "topk": (
        lambda **given: topk(ratio=0.5, **given),
        {"score": FOUR, "batch": NODES},
    ),
    "topk of k": (lambda **given: topk(ratio=None, **given), {"score": FOUR, "k": ones(1).long()}),
    "spread": (
        spread,
        {"score": FOUR, "edge_index": EDGES, "k": ones(1).long(), "batch": NODES},
    ),
    "prolongation": (
        lambda **given: interpolate.prolongation(num_nodes=4, **given),
        {"perm": arange(2), "edge_index": EDGES, "edge_weight": FOUR},
    ),
    "nearest_kept": (
        lambda **given: interpolate.nearest_kept(num_nodes=4, **given),
        {"perm": arange(2), "edge_index": EDGES},
    ),
    "propagate_kept": (
        lambda **given: interpolate.propagate_kept(num_nodes=4, **given),
        {"x": PAIRS[:2], "perm": arange(2), "edge_index": EDGES},
    ),
    "induced": (
        lambda **given: connect.induced(num_nodes=4, **given),
        {"edge_index": EDGES, "edge_attr": FOUR, "perm": arange(2)},
    ),
    "contract": (
        lambda **given: connect.contract(num_nodes=4, **given),
        {"edge_index": EDGES, "edge_attr": FOUR, "perm": arange(2)},
    ),
    "telescope": (TelescopingCritic(3, 3, 4).loss, {"x": PAIRS, "y": PAIRS}),
    "two_sample_readout": (
        two_sample_readout,
        {"r_p": FOUR, "r_q": FOUR, "cluster_p": arange(4), "cluster_q": arange(4)},
    ),
    "KLCritic": (KLCritic(3, 4), {"p": PAIRS, "q": PAIRS}),
    "MutualInformationCritic": (
        MutualInformationCritic(3, 3, 4).loss,
        {"x": PAIRS, "y": PAIRS, "batch": arange(4)},
    ),
    "estimate_kl": (lambda **given: estimate_kl(**given, **FEW), {"p": PAIRS, "q": PAIRS}),
    "estimate_mi": (lambda **given: estimate_mi(**given, **FEW), {"x": PAIRS, "y": PAIRS}),
    "dv_loss": (dv_loss, {"r_p": FOUR, "r_q": FOUR}),
    "dense_pairs": (dense_pairs, {"scores": PAIRS, "target": NODES, "weight": ones(3)}),
}


@pytest.mark.parametrize(
    "name, argument",
    [(name, argument) for name, (_, given) in CALLS.items() for argument in list(given)[1:]],
)
def test_a_tensor_elsewhere_is_named(name, argument):
    call, given = CALLS[name]
    first = next(iter(given))
    moved = given[argument].as_subclass(Elsewhere)
    match = rf"'{argument}' must be on the device of '{first}', cpu \(got cuda:7\)"
    with pytest.raises(ValueError, match=match):
        call(**{**given, argument: moved})
