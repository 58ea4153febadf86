"""The calls that are fuzzed: scores, divergences and critics."""

from __future__ import annotations

from typing import Any

import torch

from pyg_gunet import (
    BorderWeightedCrossEntropy,
    KLCritic,
    MutualInformationCritic,
    PartIoU,
    SegmentationMetrics,
    TelescopingCritic,
    confusion_matrix,
    estimate_kl,
    estimate_mi,
    fit_critic,
    frequency_weighted_iou,
    macro_f1,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from pyg_gunet import critic as divergence
from pyg_gunet.critic import PairScores
from pyg_gunet.functional.segmentation import instances_found, part_iou
from tests.fuzz.engine import Call
from tests.fuzz.values import Kind, anything, choices, flags, ints, numbers, tensors

N, C, D = 8, 3, 2
generator = torch.Generator().manual_seed(1)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])
LOGITS = torch.randn(N, C, generator=generator)
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
EDGES = torch.tensor([[0, 1, 2, 4, 5, 6], [1, 2, 3, 5, 6, 7]])
P, Q = torch.randn(6, D, generator=generator), torch.randn(7, D, generator=generator)
RATIO = torch.randn(6, generator=generator)

labels = tensors(dtypes="label", low=0, high=C)
batches = tensors(dtypes="int", low=0, high=2**62, optional=True)
kept = anything(1.5, "3", True, [1], 2**64, -(10**30), optional=True)
samples = tensors(dtypes="float", rows=False, empty=True, columns=True)
ratios = tensors(dtypes="float", rows=False, empty=True, finite=False)


def score_calls() -> list[Call]:
    """Confusion matrix, scores, metrics, losses."""
    counted: dict[str, tuple[Any, Kind]] = {
        "preds": (LABEL.flip(0), labels),
        "target": (LABEL, labels),
        "num_classes": (C, ints(2, extra=(2, 2**31 - 1, 10**6))),
        "ignore_index": (None, kept),
        "batch": (BATCH, batches),
    }
    logits = tensors(dtypes="float", dim=False, columns=True, finite=False)
    scored = {
        **counted,
        "num_classes": (C, ints(2, extra=(2, 2**31 - 1))),
        "absent": ("skip", choices(also=(2, -1))),
        "reduction": ("none", choices()),
    }
    found = {
        "preds": (LABEL, tensors(dtypes="label", low=0)),
        "target": (LABEL, tensors(dtypes="label", low=0)),
        "threshold": (0.5, numbers(0.5, 1.0)),
    }
    parts = anything([], [[]], [[0], []], [[-1]], [["a"]], 3, "ab", [[0.5]], [[10**12]])
    shapes = {
        "preds": (torch.tensor([0, 1, 1, 0, 2, 3, 3, 3]), labels),
        "target": (torch.tensor([0, 1, 0, 0, 2, 3, 2, 3]), tensors(dtypes="label", low=0, high=4)),
        "batch": (BATCH, tensors(dtypes="int", low=0, high=2**62)),
        "category": (torch.tensor([0, 1]), tensors(dtypes="int", rows=False, low=0, high=2)),
    }
    shapes["preds"] = (shapes["preds"][0], tensors(dtypes="label", low=0, high=4))
    names = anything(3, [], ["a", "b"], ["a", "a", "b"], "abcd", optional=True)
    return [
        Call("confusion_matrix", lambda: confusion_matrix, counted),
        Call(
            "confusion_matrix.logits",
            lambda: confusion_matrix,
            {**counted, "preds": (LOGITS, logits)},
        ),
        *[
            Call(score.__name__, lambda score=score: score, scored)
            for score in (pixel_accuracy, mean_accuracy, mean_iou, frequency_weighted_iou, macro_f1)
        ],
        Call("instances_found", lambda: instances_found, found),
        Call(
            "part_iou",
            lambda: part_iou,
            {**shapes, "parts": ([[0, 1], [2, 3]], parts)},
        ),
        Call("PartIoU", lambda: PartIoU, {"parts": ([[0, 1], [2, 3]], parts)}),
        Call("PartIoU.update", lambda: PartIoU([[0, 1], [2, 3]]).update, shapes),
        Call(
            "SegmentationMetrics",
            lambda: SegmentationMetrics,
            {
                "num_classes": (C, ints(2, extra=(2**31 - 1, 10**6))),
                "ignore_index": (None, kept),
                "absent": ("skip", choices(also=(2, -1))),
                "per_class": (False, flags()),
                "per_graph": (False, flags()),
                "class_names": (None, names),
            },
        ),
        Call(
            "SegmentationMetrics.update",
            lambda: SegmentationMetrics(C, per_graph=True).update,
            {name: counted[name] for name in ("preds", "target", "batch")},
        ),
        Call(
            "BorderWeightedCrossEntropy",
            lambda: BorderWeightedCrossEntropy,
            {
                "ignore_index": (None, kept),
                "label_smoothing": (0.0, numbers(0.0, 1.0)),
                "reduction": ("mean", choices()),
            },
        ),
        Call(
            "BorderWeightedCrossEntropy.forward",
            BorderWeightedCrossEntropy,
            {
                "logits": (LOGITS, tensors(dtypes="float", finite=False)),
                "target": (LABEL, labels),
                "weight": (torch.ones(N), tensors(dtypes="float", low=0, optional=True)),
            },
        ),
    ]


def divergence_calls() -> list[Call]:
    """Closed forms, objectives and read-outs."""
    cov = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    weights = tensors(dtypes="float", low=0, optional=True)
    pairs = divergence.dense_pairs(LOGITS, LABEL)
    bad_pairs = (
        3,
        "x",
        LOGITS,
        pairs._replace(mask=pairs.mask.float()),
        pairs._replace(mask=torch.zeros_like(pairs.mask)),
        pairs._replace(pos=pairs.pos[1:]),
        pairs._replace(neg=pairs.neg[0]),
        pairs._replace(weight=pairs.weight[1:]),
        pairs._replace(pos=pairs.pos * float("nan")),
        pairs._replace(pos=None),
    )
    pair_kind = anything(*bad_pairs)
    read = {
        "r_p": (RATIO, tensors(dtypes="float", rows=False, empty=True, finite=False)),
        "r_q": (RATIO.flip(0), tensors(dtypes="float", rows=False, empty=True, finite=False)),
        "readout": ("classifier", choices()),
        "direction": ("forward", choices()),
        "clip": (5.0, numbers(0.0)),
    }
    clusters = {
        "cluster_p": (torch.tensor([0, 0, 1, 1, 2, 2]), tensors(dtypes="int")),
        "cluster_q": (torch.tensor([0, 0, 1, 1, 2, 2]), tensors(dtypes="int")),
    }
    losses = {"r_p": (RATIO, ratios), "r_q": (RATIO.flip(0), ratios)}
    weighted = {
        "weight_p": (torch.ones(6), weights),
        "weight_q": (torch.ones(6), weights),
    }
    return [
        Call(
            "gaussian_mutual_information",
            lambda: divergence.gaussian_mutual_information,
            {
                "cov": (cov, tensors(dtypes="float", dim=False, columns=True)),
                "x_channels": (1, ints(1, 2)),
            },
        ),
        Call("jsd_loss", lambda: divergence.jsd_loss, {**losses, **weighted}),
        Call(
            "nce_loss",
            lambda: divergence.nce_loss,
            {**losses, "nu": (1.0, numbers(0.0, 64.0, above=True)), **weighted},
        ),
        Call(
            "dv_loss",
            lambda: divergence.dv_loss,
            {
                **losses,
                "log_mean": (None, anything(3, "x", RATIO, optional=True)),
                "penalty": (0.1, numbers(0.0)),
            },
        ),
        Call(
            "infonce_loss",
            lambda: divergence.infonce_loss,
            {**losses, "penalty": (0.1, numbers(0.0))},
        ),
        Call("two_sample_readout", lambda: divergence.two_sample_readout, read),
        Call(
            "two_sample_readout.clusters",
            lambda: divergence.two_sample_readout,
            {**read, **clusters},
        ),
        Call(
            "dense_pairs",
            lambda: divergence.dense_pairs,
            {
                "scores": (LOGITS, tensors(dtypes="float", finite=False, nan=False)),
                "target": (LABEL, tensors(dtypes="int", low=0, high=C)),
                "weight": (torch.ones(C), tensors(dtypes="float", low=0, optional=True)),
            },
        ),
        Call(
            "pair_loss",
            lambda: divergence.pair_loss,
            {
                "pairs": (pairs, pair_kind),
                "nu": (1.0, numbers(0.0, 64.0, above=True)),
                "total": (None, anything(3, "x", optional=True)),
            },
            parts={"pairs": PairScores._fields},
        ),
        Call(
            "pair_readout",
            lambda: divergence.pair_readout,
            {
                "pairs": (pairs, anything(*bad_pairs, [], [3])),
                "readout": ("classifier", choices()),
                "clip": (5.0, numbers(0.0)),
            },
            parts={"pairs": PairScores._fields},
        ),
    ]


def critic_calls() -> list[Call]:
    """The critics and their training."""
    size = ints(1)
    hidden = ints(1, extra=(10**9,))
    nu = numbers(0.0, 64.0, above=True)
    base = choices(optional=True)
    two = {"p": (P, samples), "q": (Q, samples)}
    x, y = torch.randn(N, D), torch.randn(2, D)
    mine = {
        "x": (x, tensors(dtypes="float", columns=True)),
        "y": (y, tensors(dtypes="float", rows=False, empty=True, columns=True)),
        "batch": (BATCH, tensors(dtypes="int", low=0, high=2)),
        "x_corrupt": (None, anything(3, "x", x[:3], x.long(), x * float("nan"), optional=True)),
    }
    paired = {
        "x": (P, tensors(dtypes="float", columns=True)),
        "y": (P.flip(0), tensors(dtypes="float", columns=True)),
    }
    kl = lambda: KLCritic(D, 4)  # noqa: E731
    mi = lambda: MutualInformationCritic(D, D, 4)  # noqa: E731
    reading = {"readout": ("classifier", choices()), "clip": (5.0, numbers(0.0))}
    short = {"folds": (2, ints(2)), "steps": (2, ints(1)), "hidden_channels": (4, ints(1))}
    short["time_limit"] = (5.0, numbers(0.0))
    rows = torch.randn(60, D, generator=torch.Generator().manual_seed(5))
    return [
        Call(
            "estimate_mi",
            lambda: estimate_mi,
            {
                "x": (rows, tensors(dtypes="float", columns=False)),
                "y": (rows.flip(0), tensors(dtypes="float", columns=False)),
                **short,
            },
        ),
        Call(
            "estimate_kl",
            lambda: estimate_kl,
            {
                "p": (rows, tensors(dtypes="float", rows=False, columns=True)),
                "q": (rows.flip(0), tensors(dtypes="float", rows=False, columns=True)),
                **short,
            },
        ),
        Call(
            "KLCritic",
            lambda: KLCritic,
            {
                "in_channels": (D, size),
                "hidden_channels": (4, hidden),
                "objective": ("jsd", choices()),
                "nu": (1.0, nu),
                "base": (None, base),
            },
        ),
        Call("KLCritic.forward", kl, two),
        Call("KLCritic.loss", lambda: kl().loss, two),
        Call("KLCritic.penalty", lambda: kl().penalty, {"z": (P, samples)}),
        Call("KLCritic.log_ratio", lambda: kl().log_ratio, {"x": (P, samples)}),
        Call(
            "KLCritic.estimate",
            lambda: kl().estimate,
            {**two, **reading, "direction": ("forward", choices())},
        ),
        Call(
            "MutualInformationCritic",
            lambda: MutualInformationCritic,
            {
                "x_channels": (D, size),
                "y_channels": (D, size),
                "hidden_channels": (4, hidden),
                "critic": ("separable", choices()),
                "objective": ("jsd", choices()),
                "nu": (1.0, nu),
                "size_weighted": (True, flags()),
                "base": (None, base),
            },
        ),
        Call("MutualInformationCritic.forward", mi, mine),
        Call("MutualInformationCritic.loss", lambda: mi().loss, mine),
        Call("MutualInformationCritic.estimate", lambda: mi().estimate, {**mine, **reading}),
        Call(
            "TelescopingCritic",
            lambda: TelescopingCritic,
            {
                "x_channels": (D, size),
                "y_channels": (D, size),
                "hidden_channels": (4, hidden),
                "rungs": (2, ints(1, extra=(2**31 - 1,))),
            },
        ),
        Call("TelescopingCritic.forward", lambda: TelescopingCritic(D, D, 4), paired),
        Call(
            "TelescopingCritic.estimate",
            lambda: TelescopingCritic(D, D, 4).estimate,
            {**paired, "readout": ("classifier", choices())},
        ),
        Call(
            "fit_critic",
            lambda: lambda **given: fit_critic(given.pop("critic", KLCritic(D, 4)), **given),
            {
                "sample": ((P, Q), anything(3, "xy", (3, 4), (), [P, "x"], (P,), (P[:0], Q), None)),
                "steps": (1, ints(1)),
                "val": (None, anything(3, "x", [], [3], optional=True)),
                "val_ratio": (0.2, numbers(0.0, 1.0, above=True)),
                "batch_size": (4, ints(2)),
                "lr": (1e-3, numbers(0.0)),
                "weight_decay": (0.0, numbers(0.0)),
                "max_norm": (1.0, numbers(0.0)),
                "evaluations": (1, ints(1)),
                "patience": (2, ints(1, optional=True)),
                "generator": (None, anything(3, "x", optional=True)),
            },
        ),
        Call(
            "fit_critic.critic",
            lambda: fit_critic_of,
            {
                "critic": (
                    KLCritic(D, 4),
                    anything(None, 3, "kl", KLCritic, torch.nn.Linear(2, 1)),
                ),
            },
        ),
    ]


def fit_critic_of(critic: Any, **kwargs: Any) -> Any:
    return fit_critic(critic, (P, Q), 1, **kwargs)
