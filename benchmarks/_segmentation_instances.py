"""Scores of instances, boundaries and superpixels: values and seconds against the peers present.

Each peer is called by its own interface, with a tie at IoU 0.5 no match where it lets one choose.
A peer that is not installed is left out, and said so: none of them is a dependency.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from _common import PeakMemory, interleaved, median, record, table
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from pyg_gunet.functional import segmentation as seg
from pyg_gunet.nn.loss import DiceLoss, FocalLoss
from pyg_gunet.transforms import grid_edges

OURS = "pyg_gunet"
NUMPY = "numpy.unique of pairs"
PEERS = ("stardist", "torchmetrics", "panoptica", "monai", "skimage")
MONAI_PIXELS = 2**17  # it makes two masks of the whole image per instance
ABOVE = 0.5 + 1e-6  # stardist takes a tie in, in float32


def discs(side: int, per_side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predicted and true discs `[side, side]`, one true one per square; some are lost or split."""
    generator = torch.Generator().manual_seed(seed)
    cell = side / per_side
    at = torch.arange(side)
    square = (at / cell).long().clamp(max=per_side - 1)
    number = square[:, None] * per_side + square + 1
    count = per_side**2 + 1
    offset = at - (square + 0.5) * cell

    def draw(spread: float) -> Tensor:
        """A radius and a centre of its own for each."""
        radius = (torch.rand(count, generator=generator) * 0.15 + 0.35) * cell
        shift = torch.rand(2, count, generator=generator) * spread * cell
        y, x = offset[:, None] - shift[0][number], offset - shift[1][number]
        return number.where((y**2 + x**2).sqrt() < radius[number], 0)

    target, preds = draw(0.0), draw(0.25)
    fate = torch.rand(count, generator=generator)[preds]
    preds = preds.masked_fill(fate < 0.05, 0)
    half = (fate > 0.9) & (offset > 0)
    return preds + half * count * (preds > 0), target


def ours(preds: Tensor, target: Tensor) -> list[float]:
    return [float(one) for one in seg.panoptic_quality(preds.view(-1), target.view(-1))]


def numpy_unique(preds: Tensor, target: Tensor) -> list[float]:
    p, t = preds.numpy().ravel(), target.numpy().ravel()
    size_p, size_t = np.bincount(p), np.bincount(t)
    pair, both = np.unique(t * (p.max() + 1) + p, return_counts=True)
    i, j = pair // (p.max() + 1), pair % (p.max() + 1)
    iou = (both / (size_t[i] + size_p[j] - both))[(i > 0) & (j > 0)]
    hit = iou[iou > 0.5]
    mean = (np.count_nonzero(size_p[1:]) + np.count_nonzero(size_t[1:])) / 2
    return [hit.sum() / mean, hit.mean(), len(hit) / mean]


def stardist(preds: Tensor, target: Tensor) -> list[float]:
    from stardist.matching import matching

    found = matching(target.numpy().astype(np.int32), preds.numpy().astype(np.int32), ABOVE)
    return [float(found.panoptic_quality), float(found.mean_matched_score), float(found.f1)]


def torchmetrics(preds: Tensor, target: Tensor) -> list[float]:
    from torchmetrics.functional.detection import panoptic_quality

    # A class for the discs and one, of stuff, for the rest.
    pairs = [torch.stack([(label > 0).long(), label], dim=-1)[None] for label in (preds, target)]
    options: dict[str, Any] = {"return_per_class": True, "return_sq_and_rq": True}
    return panoptic_quality(*pairs, things={1}, stuffs={0}, **options)[0].tolist()


def panoptica(preds: Tensor, target: Tensor) -> list[float]:
    from panoptica import InputType, Metric, NaiveThresholdMatching, Panoptica_Evaluator

    evaluator = Panoptica_Evaluator(
        InputType.UNMATCHED_INSTANCE,
        instance_matcher=NaiveThresholdMatching(strict_threshold=True),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )
    arrays = [label.numpy().astype(np.uint32) for label in (preds, target)]
    found = evaluator.evaluate(*arrays, verbose=False)
    found = next(iter(found.values())) if isinstance(found, dict) else found
    return [float(found.pq), float(found.sq), float(found.rq)]


def monai(preds: Tensor, target: Tensor) -> list[float]:
    from monai.metrics.panoptic_quality import compute_panoptic_quality

    options: dict[str, Any] = {"smooth_numerator": 0.0}
    names = ("pq", "sq", "rq")
    return [float(compute_panoptic_quality(preds, target, name, **options)) for name in names]


PANOPTIC: dict[str, Callable[[Tensor, Tensor], list[float]]] = {
    OURS: ours,
    NUMPY: numpy_unique,
    "stardist": stardist,
    "torchmetrics": torchmetrics,
    "panoptica": panoptica,
    "monai": monai,
}


def speed(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Panoptic quality of 1e6 pixels with about 5,000 instances: seconds, memory, value."""
    side, per_side = (200, 14) if quick else (1000, 71)
    preds, target = discs(side, per_side)
    count = len(target.unique()) - 1
    case = f"{side**2:.0e} nodes, {count} instances".replace("e+0", "e")
    order = torch.randperm(side**2, generator=torch.Generator().manual_seed(0))
    shuffled = [label.view(-1)[order] for label in (preds, target)]
    steps: dict[str, Callable[[], Any]] = {}
    for name, score in PANOPTIC.items():
        if name in PEERS and find_spec(name) is None:
            print(f"{name}: not installed, left out")
        elif name == "monai" and side**2 > MONAI_PIXELS:
            gib = 2 * count * side**2 * 4 / 2**30
            print(f"monai: left out, its masks would take {gib:.0f} GiB")
        else:
            steps[name] = partial(score, preds, target)
    steps[f"{OURS}, nodes in random order"] = partial(ours, shuffled[0], shuffled[1])
    found = {name: step() for name, step in steps.items()}
    seconds = interleaved(steps, repeats, warmup=0)
    records, rows = [], []
    for name, step in steps.items():
        with PeakMemory() as memory:
            step()
        gap = max(abs(a - b) for a, b in zip(found[name], found[OURS], strict=True))
        times = median(seconds[name]) / median(seconds[OURS])
        for metric, value in (
            ("seconds", median(seconds[name])),
            ("times ours", times),
            ("extra MB", memory.mb),
            ("panoptic quality", found[name][0]),
            ("greatest difference of PQ, SQ, RQ", gap),
        ):
            records.append(record("panoptic quality", case, name, metric, value, n=repeats))
        cells = [f"{median(seconds[name]):.4f}", f"{times:.1f}", f"{memory.mb:.0f}"]
        rows.append([case, name, *cells, f"{found[name][0]:.8f}", f"{gap:.1e}"])
    print(table(["case", "system", "seconds", "times ours", "extra MB", "PQ", "difference"], rows))
    return records


def values(quick: bool) -> list[dict[str, Any]]:
    """The greatest difference from each peer over some images."""
    gaps: dict[tuple[str, str], float] = {}

    def compare(what: str, peer: str, one: Any, other: Any) -> None:
        gap = np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).max()
        gaps[what, peer] = max(gaps.get((what, peer), 0.0), float(gap))

    there = {peer for peer in PEERS if find_spec(peer) is not None}
    for seed in range(2 if quick else 10):
        preds, target = discs(96, 7, seed)
        flat = (preds.view(-1), target.view(-1))
        for name, score in PANOPTIC.items():
            if name in (NUMPY, *there):
                compare("PQ, SQ, RQ", name, ours(preds, target), score(preds, target))
        if "stardist" in there:
            _stardist_values(compare, preds, target)
        if "skimage" in there:
            from skimage.metrics import contingency_table

            pairs = contingency_table(target.numpy(), preds.numpy()).tocoo()
            own = seg.overlaps(*flat, background=None)
            compare("table of overlaps", "skimage", np.sort(own.shared), np.sort(pairs.data))
        # The images' rim is a boundary to the peers: a margin keeps it away.
        masks = [F.pad((label > 0).long(), (3, 3, 3, 3)) for label in (preds, target)]
        size = masks[0].shape
        for connectivity in (4, 8):
            edges = grid_edges(*size, connectivity)
            kernel = ndimage.generate_binary_structure(2, connectivity // 4)
            bands = [
                mask.numpy() > ndimage.binary_erosion(mask.numpy(), kernel, 2) for mask in masks
            ]
            expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
            found = seg.boundary_iou(masks[0].view(-1), masks[1].view(-1), edges, 2, 2)[1]
            compare("boundary IoU", "scipy's erosion", found, expected)
        if "monai" in there:
            _monai_values(compare, masks, seed)
    rows = [[what, peer, f"{gap:.1e}"] for (what, peer), gap in gaps.items()]
    print(table(["score", "peer", "greatest difference"], rows))
    return [
        record("scores against peers", what, peer, "greatest difference", gap)
        for (what, peer), gap in gaps.items()
    ]


def _stardist_values(compare: Callable[..., None], preds: Tensor, target: Tensor) -> None:
    from stardist.matching import matching

    arrays = [label.numpy().astype(np.int32) for label in (target, preds)]
    thresholds = (0.1, 0.3, *seg.IOU_THRESHOLDS)
    theirs = matching(*arrays, thresh=[one + 1e-6 for one in thresholds])
    own = seg.matching(preds.view(-1), target.view(-1), thresholds, absent=0)
    for name in own._fields:
        expected = [getattr(one, name) for one in theirs]
        compare(f"matching.{name}, 12 thresholds", "stardist", getattr(own, name), expected)


def _monai_values(compare: Callable[..., None], masks: list[Tensor], seed: int) -> None:
    from monai.losses import DiceLoss as MonaiDice
    from monai.losses import FocalLoss as MonaiFocal
    from monai.metrics.surface_dice import compute_surface_dice

    hot = [F.one_hot(mask, 2).permute(2, 0, 1)[None].float() for mask in masks]
    edges = grid_edges(*masks[0].shape, 4)
    for distance in (0, 1, 3):
        options: dict[str, Any] = {"distance_metric": "taxicab"}
        expected = compute_surface_dice(*hot, [float(distance)], **options)[0, 0]
        own = seg.surface_dice(masks[0].view(-1), masks[1].view(-1), edges, 2, distance)[1]
        compare("surface Dice", "monai", own, expected)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 20, 30, generator=generator)
    label = torch.randint(3, (2, 1, 20, 30), generator=generator)
    nodes = seg.image_nodes(logits, label[:, 0])
    exact = MonaiDice(softmax=True, to_onehot_y=True, smooth_nr=0.0, smooth_dr=0.0)(logits, label)
    own = DiceLoss()(nodes.preds, nodes.target, batch=nodes.batch)
    compare("Dice loss", "monai", own, exact)
    exact = MonaiFocal(use_softmax=True, to_onehot_y=True, include_background=True)(logits, label)
    own = FocalLoss()(nodes.preds, nodes.target) / 3
    compare("focal loss over the classes", "monai", own, exact)


def run(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """The records; prints both tables."""
    torch.set_num_threads(1)
    return values(quick) + speed(quick, repeats)
