"""Scores of instances against dense tables, instance by instance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pyg_gunet import validation
from pyg_gunet.functional import segmentation as seg

SCORES = {
    "average_precision": seg.average_precision,
    "panoptic_quality": lambda *a, **k: seg.panoptic_quality(*a, **k).pq,
    "segmentation_quality": lambda *a, **k: seg.panoptic_quality(*a, **k).sq,
    "recognition_quality": lambda *a, **k: seg.panoptic_quality(*a, **k).rq,
    "aggregated_jaccard": seg.aggregated_jaccard,
}


def instances(seed, num_nodes=200, count=8, noise=0.3):
    """Runs of equal numbers, of which some nodes are taken for others; 0 is no instance."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, count, (num_nodes,), generator=generator).sort().values
    wrong = torch.rand(num_nodes, generator=generator) < noise
    other = torch.randint(0, count, (num_nodes,), generator=generator) * 3
    return torch.where(wrong, other, target * 3), target


def dense(preds, target, weight):
    """The IoU [true, predicted], and the sizes, by a comparison of every pair."""
    preds, target, weight = (np.asarray(one) for one in (preds, target, weight))
    trues, found = sorted({*target.tolist()} - {0}), sorted({*preds.tolist()} - {0})
    both = [[weight[(target == t) & (preds == p)].sum() for p in found] for t in trues]
    either = [[weight[(target == t) | (preds == p)].sum() for p in found] for t in trues]
    shape = (len(trues), len(found))
    return np.reshape(both, shape).astype(float), np.reshape(either, shape).astype(float)


def by_definition(preds, target, thresholds, weight=None):
    weight = torch.ones(len(preds)) if weight is None else weight
    both, either = dense(preds, target, weight)
    n_true, n_pred = both.shape
    iou = both / either
    accuracy, pq = [], []
    for threshold in thresholds:
        value = (iou > threshold) * (1 + iou / (2 * max(n_true, 1)))
        i, j = linear_sum_assignment(-value)
        matched = iou[i, j][iou[i, j] > threshold]
        tp = len(matched)
        accuracy.append(tp / (n_true + n_pred - tp))
        pq.append(
            (
                matched.sum() / (tp + (n_true - tp) / 2 + (n_pred - tp) / 2),
                matched.mean() if tp else float("nan"),
                tp / (tp + (n_true - tp) / 2 + (n_pred - tp) / 2),
            )
        )
    area = lambda label, one: float(weight[label == one].sum())  # noqa: E731
    shared = union = 0.0
    used = set()
    for t, row in enumerate(iou):
        if n_pred and row.max() > 0:
            shared, union = shared + both[t, row.argmax()], union + either[t, row.argmax()]
            used.add(row.argmax())
        else:
            union += area(target, sorted(set(target.tolist()) - {0})[t])
    for p, number in enumerate(sorted(set(preds.tolist()) - {0})):
        union += 0 if p in used else area(preds, number)
    return accuracy, pq, shared / union


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("noise", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_against_the_definition(seed, noise, weighted):
    preds, target = instances(seed, noise=noise)
    weight = None
    if weighted:
        weight = torch.rand(200, generator=torch.Generator().manual_seed(seed)).double()
    thresholds = (0.0, 0.1, 0.3, 0.45, 0.5, 0.55, 0.8)
    accuracy, quality, jaccard = by_definition(preds, target, thresholds, weight)
    found = seg.matching(preds, target, thresholds, node_weight=weight)
    np.testing.assert_allclose(found.accuracy, accuracy, atol=1e-12)
    for at, threshold in enumerate(thresholds):
        one = seg.panoptic_quality(preds, target, threshold, node_weight=weight)
        np.testing.assert_allclose(one, quality[at], atol=1e-12)
    mean = seg.average_precision(preds, target, thresholds, node_weight=weight)
    assert float(mean) == pytest.approx(np.mean(accuracy), abs=1e-12)
    ours = seg.aggregated_jaccard(preds, target, node_weight=weight)
    assert float(ours) == pytest.approx(jaccard, abs=1e-12)


def test_matching_by_hand():
    target = torch.tensor([1] * 4 + [2] * 4 + [0, 3])
    preds = torch.tensor([5, 5, 5, 0] + [6, 6, 7, 7] + [8, 0])
    found = seg.matching(preds, target, (0.5, 0.7, 0.75))
    expected = {
        "tp": [1, 1, 0],
        "fp": [3, 3, 4],
        "fn": [2, 2, 3],
        "precision": [1 / 4, 1 / 4, 0],
        "recall": [1 / 3, 1 / 3, 0],
        "accuracy": [1 / 6, 1 / 6, 0],
        "f1": [2 / 7, 2 / 7, 0],
        "mean_true_score": [0.25, 0.25, 0],
        "mean_matched_score": [0.75, 0.75, float("nan")],
        "panoptic_quality": [1.5 / 7, 1.5 / 7, 0],
    }
    assert found._fields == tuple(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-12, err_msg=name)
    # 3 of 4, 2 of 4 (the first of two halves), the third alone; 7 and 8 are left.
    assert float(seg.aggregated_jaccard(preds, target)) == pytest.approx(5 / (4 + 4 + 1 + 2 + 1))


def test_below_a_half_the_most_pairs_win():
    """One instance could take the best overlap of both; then the other would have none."""
    target = torch.tensor([1] * 6 + [2] * 3)
    preds = torch.tensor([1] * 2 + [2] * 4 + [2] * 3)  # IoU 2/6, 4/9; 0, 3/7
    iou = [2 / 6, 3 / 7]
    found = seg.matching(preds, target, (0.2, 0.4))
    assert found.tp.tolist() == [2, 1]
    np.testing.assert_allclose(found.mean_matched_score, [np.mean(iou), 4 / 9], atol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_below_a_half_a_pair_more_is_worth_any_overlap(n):
    """In a chain each true instance but the first shares more with the predicted one before it."""
    number = torch.arange(1, n + 1)
    target = number.repeat_interleave(4)[3:]
    preds = number.repeat_interleave(4)[: 4 * n - 3]
    assert seg.matching(preds, target, (0.1,)).tp.tolist() == [n]


def test_a_tie_is_no_match():
    target, preds = torch.tensor([1, 1, 1, 1]), torch.tensor([1, 1, 0, 0])
    assert seg.matching(preds, target, (0.49, 0.5)).tp.tolist() == [1, 0]
    assert seg.instances_found(preds, target).tolist() == [False]


@pytest.mark.parametrize("name", SCORES)
def test_per_graph_and_absent(name):
    """The graphs: two scenes, one with true instances alone, one of background, one empty."""
    parts = [instances(0, 60), instances(1, 90), (torch.zeros(4), torch.tensor([0, 1, 1, 2]))]
    parts = [*parts, (torch.zeros(3), torch.zeros(3)), (torch.full((2,), 3), torch.full((2,), 9))]
    preds, target = (torch.cat([part[at].long() for part in parts]) for at in (0, 1))
    batch = torch.arange(5).repeat_interleave(torch.tensor([len(part[0]) for part in parts]))
    score = SCORES[name]
    nan = float("nan")
    for absent in ("skip", "nan", 0, 1):
        gone = nan if isinstance(absent, str) else float(absent)
        found = score(preds, target, ignore_index=9, batch=batch, absent=absent)
        assert found.shape == (5,)
        expected = [float(score(*(one.long() for one in part))) for part in parts[:2]]
        expected += [gone if name == "segmentation_quality" else 0.0, gone, nan]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        mean = score(preds, target, ignore_index=9, batch=batch, absent=absent, reduction="mean")
        assert float(mean) == pytest.approx(np.nanmean(expected))


def test_an_instance_ends_with_its_graph():
    target, batch = torch.tensor([1, 1, 1, 1]), torch.tensor([0, 0, 1, 1])
    preds = torch.tensor([1, 1, 1, 0])
    assert seg.matching(preds, target, (0.6,)).tp.tolist() == [1]
    assert seg.matching(preds, target, (0.6,), batch=batch).tp.tolist() == [[1], [0]]
    assert seg.instances_found(preds, target, 0.6, batch).tolist() == [True, False]


def test_superpixels_count_their_pixels():
    """The scores of a graph of superpixels are those of the image that is painted from it."""
    preds, target = instances(3, 40)
    pixels = torch.randint(0, 9, (40,), generator=torch.Generator().manual_seed(0))
    painted = [label.repeat_interleave(pixels) for label in (preds, target)]
    for score in SCORES.values():
        exact = score(*painted)
        for weight in (pixels, pixels.double(), pixels.int()):
            assert score(preds, target, node_weight=weight).equal(exact)
    num_classes = 25
    for score in (seg.pixel_accuracy, seg.mean_iou, seg.macro_f1, seg.class_iou):
        exact = score(*painted, num_classes)
        torch.testing.assert_close(
            score(preds, target, num_classes, node_weight=pixels), exact, equal_nan=True
        )
    batch = (torch.arange(40) >= 15).long()
    torch.testing.assert_close(
        seg.mean_iou(preds, target, num_classes, batch=batch, node_weight=pixels),
        seg.mean_iou(*painted, num_classes, batch=batch.repeat_interleave(pixels)),
    )
    found = seg.instances_found(preds, target, node_weight=pixels)
    assert found.tolist() == seg.instances_found(*painted).tolist()


def test_the_order_and_the_numbers_of_instances_do_not_matter():
    preds, target = instances(5, noise=0.2)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    huge = target.where(target == 0, 2**62 - target * 3**20)
    for score in SCORES.values():
        exact = score(preds, target)
        assert score(preds[order], target[order]).equal(exact)
        if score is not seg.aggregated_jaccard:
            assert score(preds, huge).equal(exact)
        assert score(preds.int(), target.to(torch.uint8)).equal(exact)


def test_overlaps_are_the_table():
    preds, target = instances(2)
    for background in (0, None):
        table = seg.overlaps(preds, target, background=background)
        found = {
            (int(table.true.label[i]), int(table.pred.label[j])): float(size)
            for i, j, size in zip(table.i, table.j, table.shared)
        }
        pairs = itertools.product(set(target.tolist()), set(preds.tolist()))
        sizes = {(t, p): int(((target == t) & (preds == p)).sum()) for t, p in pairs}
        kept = {k: v for k, v in sizes.items() if v and (background is None or 0 not in k)}
        assert found == kept
        for regions, label in ((table.true, target), (table.pred, preds)):
            assert regions.size.tolist() == [int((label == one).sum()) for one in regions.label]
            assert regions.label.tolist() == sorted(set(label.tolist()) - {background})
        assert table.nodes.tolist() == [200]


def test_found_one_by_one():
    preds, target = instances(0)
    both, either = dense(preds, target, torch.ones(200))
    for threshold in (0.5, 0.7):
        found = seg.instances_found(preds, target, threshold)
        assert found.tolist() == (both / either > threshold).any(axis=1).tolist()
        assert found.any()


def test_merged_and_split():
    target = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2])
    assert seg.instances_found(torch.ones_like(target), target).tolist() == [False, False]
    split = torch.tensor([1, 1, 2, 2, 3, 3, 3, 4])
    assert seg.instances_found(split, target).tolist() == [False, True]
    assert seg.instances_found(torch.zeros_like(target), target).tolist() == [False, False]
    assert seg.instances_found(target, torch.zeros_like(target)).shape == (0,)
    assert seg.instances_found(target[:0], target[:0]).shape == (0,)


def test_no_node():
    none = torch.zeros(0, dtype=torch.int64)
    for score in SCORES.values():
        assert score(none, none, absent=1).isnan()
        assert score(none, none, batch=none).shape == (0,)
    target = torch.tensor([1, 1, 1, 9, 9])
    preds = torch.tensor([1, 1, 0, 1, 0])
    for score in SCORES.values():  # neither what is ignored nor what weighs nothing
        found = score(preds, target, ignore_index=9, node_weight=torch.tensor([1, 1, 0, 1, 1]))
        assert float(found) == 1
    ones = torch.ones(3, dtype=torch.int64)
    for score in SCORES.values():
        assert score(ones, ones, node_weight=torch.zeros(3), absent=1).isnan()


class TestImages:
    def test_pixels_are_nodes_row_by_row(self):
        generator = torch.Generator().manual_seed(0)
        target = torch.randint(0, 3, (4, 5, 6), generator=generator)
        logits = torch.rand(4, 3, 5, 6, generator=generator)
        flat, true, batch = seg.image_nodes(logits, target)
        assert flat.shape == (120, 3)
        assert flat[batch == 2].equal(logits[2].permute(1, 2, 0).reshape(-1, 3))
        assert true[batch == 3].view(5, 6).equal(target[3])
        labels = seg.image_nodes(logits.argmax(1), target)
        assert labels.preds.equal(flat.argmax(1))
        assert labels.batch.equal(batch)
        found = seg.mean_iou(flat, true, 3, batch=batch)
        for image in range(4):
            one = seg.mean_iou(logits[image].argmax(0).view(-1), target[image].view(-1), 3)
            assert found[image].equal(one)
        assert seg.image_nodes(target[:0], target[:0]).batch.shape == (0,)

    def test_masks(self):
        masks = torch.zeros(3, 4, 5, dtype=torch.bool)
        masks[0, 0], masks[1, 2, :2], masks[2, 3, 4] = True, True, True
        label = seg.masks_to_instances(masks)
        assert all((label == at + 1).equal(mask) for at, mask in enumerate(masks))
        assert int((label == 0).sum()) == 20 - int(masks.sum())
        given = seg.masks_to_instances(masks.to(torch.uint8), torch.tensor([7, 300, 2]))
        assert given.unique().tolist() == [0, 2, 7, 300]
        assert (given == 300).equal(masks[1])
        assert seg.masks_to_instances(masks[:0]).equal(torch.zeros(4, 5, dtype=torch.int64))

    def test_refused_masks(self):
        masks = torch.tensor([[1, 1, 0], [0, 1, 1]])
        with pytest.raises(ValueError, match=r"'masks' must not overlap.*masks 0 and 1 at \[1\]"):
            seg.masks_to_instances(masks)
        with validation(False):
            seg.masks_to_instances(masks)
        apart = torch.tensor([[1, 0, 0], [0, 1, 1]])
        with pytest.raises(ValueError, match="'numbers' must be at least 1.*got 0"):
            seg.masks_to_instances(apart, torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="'numbers' must be different.*got 4 twice"):
            seg.masks_to_instances(apart, torch.tensor([4, 4]))
        with pytest.raises(ValueError, match=r"'numbers' must have shape \[2\].*\[1\]"):
            seg.masks_to_instances(apart, torch.tensor([4]))
        with pytest.raises(TypeError, match="'numbers'.*float32"):
            seg.masks_to_instances(apart, torch.tensor([1.0, 2.0]))
        with pytest.raises(ValueError, match="'masks' must hold 0 and 1.*got 255"):
            seg.masks_to_instances(apart * 255)
        with pytest.raises(ValueError, match="'masks' must not be empty.*mask 1"):
            seg.masks_to_instances(torch.tensor([[1, 1], [0, 0]]))
        with pytest.raises(TypeError, match="'masks'.*float32"):
            seg.masks_to_instances(torch.full((2, 3), torch.nan))
        with pytest.raises(ValueError, match=r"'masks'.*\[3\]"):
            seg.masks_to_instances(apart[0])
        with pytest.raises(TypeError, match="'masks'.*list"):
            seg.masks_to_instances(apart.tolist())
        with pytest.raises(TypeError, match="'numbers'.*list"):
            seg.masks_to_instances(apart, [1, 2])

    def test_refused_images(self):
        labels = torch.zeros(2, 4, 5, dtype=torch.int64)
        with pytest.raises(ValueError, match=r"'preds'.*\[2, 4, 5\].*\[2, 5, 4\]"):
            seg.image_nodes(labels.mT, labels)
        with pytest.raises(ValueError, match=r"'preds'.*\[2, 3, 5, 4\]"):
            seg.image_nodes(torch.zeros(2, 3, 5, 4), labels)
        with pytest.raises(ValueError, match=r"'preds'.*\[2, 4\]"):
            seg.image_nodes(torch.zeros(2, 4), labels)
        with pytest.raises(ValueError, match=r"'target'.*\[4, 5\]"):
            seg.image_nodes(labels, labels[0])
        with pytest.raises(TypeError, match="'target'.*float32"):
            seg.image_nodes(labels, labels * torch.nan)
        with pytest.raises(TypeError, match="'preds' of shape.*must hold integers.*float32"):
            seg.image_nodes(labels.float(), labels)
        with pytest.raises(TypeError, match="'preds'"):
            seg.image_nodes(labels.tolist(), labels)
        with pytest.raises(TypeError, match="'target'"):
            seg.image_nodes(labels, labels.tolist())
        with pytest.raises(TypeError, match="'preds' must be floating point.*int64"):
            seg.image_nodes(torch.zeros(2, 3, 4, 5).long(), labels)


@pytest.mark.parametrize("score", [*SCORES.values(), seg.instances_found, seg.matching])
def test_refused_instances(score):
    target = torch.tensor([1, 0, 2])
    with pytest.raises(TypeError, match="'preds'.*float32"):
        score(target * torch.nan, target)
    with pytest.raises(TypeError, match="'target'.*bool"):
        score(target, target.bool())
    with pytest.raises(ValueError, match=r"one shape.*\[1\] and \[3\]"):
        score(target[:1], target)
    with pytest.raises(ValueError, match=r"one shape.*\[1, 3\] and \[1, 3\]"):
        score(target[None], target[None])
    with pytest.raises(ValueError, match="'target' must hold 0 for no instance.*got -1"):
        score(target, target - 1)
    with pytest.raises(ValueError, match="'preds' must hold 0 for no instance.*got -5"):
        score(target - 5, target)
    with pytest.raises(ValueError, match="'node_weight'.*got nan"):
        score(target, target, node_weight=torch.tensor([1.0, torch.nan, 1.0]))
    with pytest.raises(ValueError, match="'node_weight'.*got -1"):
        score(target, target, node_weight=torch.tensor([1, 1, -1]))
    with pytest.raises(ValueError, match=r"'node_weight'.*\[3\].*\[2\]"):
        score(target, target, node_weight=torch.ones(2))
    with pytest.raises(TypeError, match="'node_weight'.*bool"):
        score(target, target, node_weight=target > 0)
    with pytest.raises(ValueError, match="'batch' must be sorted"):
        score(target, target, batch=torch.tensor([1, 0, 0]))


def test_every_score_of_instances_names_the_option():
    target = torch.tensor([1, 0])
    with pytest.raises(ValueError, match="'threshold'.*0.2"):
        seg.instances_found(target, target, 0.2)
    with pytest.raises(ValueError, match="'thresholds'.*1.5"):
        seg.matching(target, target, (0.5, 1.5))
    with pytest.raises(ValueError, match="'thresholds'.*-0.1"):
        seg.matching(target, target, (-0.1,))
    with pytest.raises(ValueError, match="'threshold'.*-0.1"):
        seg.panoptic_quality(target, target, -0.1)
    with pytest.raises(ValueError, match="'thresholds' must hold at least one"):
        seg.average_precision(target, target, [])
    with pytest.raises(TypeError, match="'thresholds'.*0.5"):
        seg.average_precision(target, target, 0.5)
    with pytest.raises(TypeError, match="'thresholds'.*'ab'"):
        seg.average_precision(target, target, "ab")
    with pytest.raises(ValueError, match="'absent'.*'drop'"):
        seg.average_precision(target, target, absent="drop")
    with pytest.raises(ValueError, match="'reduction'.*'sum'"):
        seg.aggregated_jaccard(target, target, reduction="sum")
    with pytest.raises(TypeError, match="'ignore_index'.*0.5"):
        seg.aggregated_jaccard(target, target, ignore_index=0.5)
