"""The calls that are fuzzed: scores of instances, boundaries and superpixels, and the losses."""

from __future__ import annotations

from typing import Any

import torch

from pyg_gunet import (
    BoundaryMetrics,
    DiceLoss,
    FocalLoss,
    InstanceMetrics,
    SuperpixelMetrics,
)
from pyg_gunet.functional import segmentation as seg
from tests.fuzz.calls_more import BATCH, EDGES, LABEL, LOGITS, C, N, batches, kept, labels
from tests.fuzz.engine import Call
from tests.fuzz.values import Kind, anything, choices, flags, ints, numbers, tensors

Arguments = dict[str, tuple[Any, Kind]]
weights = tensors(dtypes="float", low=0, optional=True)
WEIGHT = torch.ones(N)


def _given(arguments: Arguments, *names: str) -> Arguments:
    return {name: arguments[name] for name in names}


def _weighed() -> tuple[Any, Kind]:
    """Weights may be integers, too."""
    bad = [
        "text",
        3,
        WEIGHT.tolist(),
        WEIGHT > 0,
        WEIGHT[:-1],
        WEIGHT.view(-1, 1),
        WEIGHT.to("meta"),
        WEIGHT.to_sparse(),
        -WEIGHT,
        WEIGHT * float("nan"),
        WEIGHT * float("inf"),
        WEIGHT.to(torch.complex64),
    ]
    return WEIGHT, anything(*bad, optional=True)


def region_calls() -> list[Call]:
    """Scores, metrics and losses."""
    region = tensors(dtypes="label", low=0)
    levels = anything([], [2], [-0.1], "ab", 0.5, ["a"], [float("nan")], [True])
    regions: Arguments = {
        "preds": (LABEL.flip(0), region),
        "target": (LABEL, region),
        "ignore_index": (None, kept),
        "batch": (BATCH, batches),
        "node_weight": _weighed(),
        "absent": ("skip", choices(also=(2, -1))),
        "reduction": ("none", choices()),
        "thresholds": ([0.5, 0.8], levels),
        "threshold": (0.5, numbers(0.0, 1.0)),
    }
    common = ("preds", "target", "ignore_index", "batch", "node_weight", "reduction")
    pixels = _given(regions, *common)
    pixels["preds"], pixels["target"] = ((LABEL, tensors(dtypes="label")) for _ in range(2))
    flat: Arguments = {
        "preds": (LABEL.flip(0), labels),
        "target": (LABEL, labels),
        "edge_index": (EDGES, tensors(dtypes="int", rows=False, low=0, high=N)),
        "batch": (BATCH, batches),
        "edge_length": (torch.ones(EDGES.size(1)), weights),
        "node_weight": _weighed(),
    }
    bordered: Arguments = {
        **flat,
        "num_classes": (C, ints(2, extra=(2, 2**31 - 1))),
        "distance": (1.0, numbers(0.0)),
        **_given(regions, "ignore_index", "absent", "reduction"),
    }
    named = (
        (seg.matching, "thresholds"),
        (seg.average_precision, "thresholds"),
        (seg.panoptic_quality, "threshold"),
        (seg.aggregated_jaccard, "absent"),
    )
    images = (torch.zeros(2, 3, 4, dtype=torch.int64), tensors(dtypes="label"))
    masks = torch.eye(3, 4).long()
    bad = anything("text", 3, masks + 1, masks.float(), masks[0], masks * 0)
    updates = ("preds", "target", "batch", "node_weight")
    loss: Arguments = {
        "logits": (LOGITS, tensors(dtypes="float", finite=False)),
        "target": (LABEL, labels),
        "weight": (WEIGHT, weights),
    }
    settings: Arguments = {
        "ignore_index": (None, kept),
        "absent": ("skip", choices(also=(2, -1))),
        "per_graph": (False, flags()),
    }
    return [
        *[
            Call(
                score.__name__,
                lambda score=score: score,
                {**_given(regions, *common, "absent"), last: regions[last]},
            )
            for score, last in named
        ],
        *[
            Call(score.__name__, lambda score=score: score, pixels)
            for score in (seg.undersegmentation_error, seg.achievable_accuracy)
        ],
        *[
            Call(score.__name__, lambda score=score: score, bordered)
            for score in (seg.boundary_iou, seg.surface_dice)
        ],
        Call("image_nodes", lambda: seg.image_nodes, {"preds": images, "target": images}),
        Call(
            "masks_to_instances",
            lambda: seg.masks_to_instances,
            {
                "masks": (masks, bad),
                "numbers": (
                    torch.tensor([4, 2, 9]),
                    tensors(dtypes="label", low=1, optional=True),
                ),
            },
        ),
        Call(
            "InstanceMetrics",
            lambda: InstanceMetrics,
            {**settings, "thresholds": regions["thresholds"]},
        ),
        Call("InstanceMetrics.update", lambda: InstanceMetrics().update, _given(regions, *updates)),
        Call(
            "BoundaryMetrics",
            lambda: BoundaryMetrics,
            {
                **settings,
                "num_classes": (C, ints(2, extra=(2**31 - 1,))),
                "distance": (1.0, numbers(0.0)),
                "per_class": (False, flags()),
            },
        ),
        Call("BoundaryMetrics.update", lambda: BoundaryMetrics(C).update, flat),
        Call(
            "SuperpixelMetrics",
            lambda: SuperpixelMetrics,
            _given(settings, "ignore_index", "per_graph"),
        ),
        Call(
            "SuperpixelMetrics.update", lambda: SuperpixelMetrics().update, _given(pixels, *updates)
        ),
        Call(
            "FocalLoss",
            lambda: FocalLoss,
            {
                "gamma": (2.0, numbers(0.0)),
                "ignore_index": (None, kept),
                "reduction": ("mean", choices()),
            },
        ),
        Call("FocalLoss.forward", FocalLoss, loss),
        Call("DiceLoss", lambda: DiceLoss, {"ignore_index": (None, kept)}),
        Call("DiceLoss.forward", DiceLoss, {**loss, "batch": (BATCH, batches)}),
    ]
