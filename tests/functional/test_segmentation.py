"""The confusion matrix and the scores that follow from it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from pyg_gunet import validation
from pyg_gunet.functional import segmentation as seg

SCORES = {
    "pixel_accuracy": seg.pixel_accuracy,
    "mean_accuracy": seg.mean_accuracy,
    "mean_iou": seg.mean_iou,
    "frequency_weighted_iou": seg.frequency_weighted_iou,
    "macro_f1": seg.macro_f1,
}
NAN = math.nan


def labels(matrix):
    """Predictions and targets with this confusion matrix."""
    matrix = torch.tensor(matrix)
    true, pred = matrix.nonzero().unbind(1)
    count = matrix[true, pred]
    return pred.repeat_interleave(count), true.repeat_interleave(count)


def random_labels(num_nodes, num_classes, seed=0, ignore_index=None):
    generator = torch.Generator().manual_seed(seed)
    preds = torch.randint(num_classes, (num_nodes,), generator=generator)
    target = torch.randint(num_classes, (num_nodes,), generator=generator)
    target = torch.where(torch.rand(num_nodes, generator=generator) < 0.6, preds, target)
    if ignore_index is not None:
        target[torch.rand(num_nodes, generator=generator) < 0.2] = ignore_index
    return preds, target


def by_definition(preds, target, num_classes, ignore_index, absent):
    """The scores node by node in plain Python, from the formulas of the paper."""
    pairs = [
        (p, t) for p, t in zip(preds.tolist(), target.tolist(), strict=True) if t != ignore_index
    ]
    if not pairs:
        return dict.fromkeys(SCORES, NAN)
    accuracy, iou, f1, weighted = [], [], [], 0.0
    for c in range(num_classes):
        hit = sum(p == c and t == c for p, t in pairs)
        true = sum(t == c for _, t in pairs)
        pred = sum(p == c for p, _ in pairs)
        for scores, above, below in (
            (accuracy, hit, true),
            (iou, hit, true + pred - hit),
            (f1, 2 * hit, true + pred),
        ):
            if below:
                scores.append(above / below)
            elif absent != "skip":
                scores.append(NAN if absent == "nan" else float(absent))
        if true:
            weighted += true / len(pairs) * hit / (true + pred - hit)
    return {
        "pixel_accuracy": sum(p == t for p, t in pairs) / len(pairs),
        "mean_accuracy": sum(accuracy) / len(accuracy),
        "mean_iou": sum(iou) / len(iou),
        "frequency_weighted_iou": weighted,
        "macro_f1": sum(f1) / len(f1),
    }


# Ten nodes, t = (5, 3, 2), p = (5, 3, 2), hits = (4, 2, 1): accuracies 4/5, 2/3, 1/2;
# unions 6, 4, 3, IoU 2/3, 1/2, 1/3; F1 8/10, 4/6, 2/4.
ALL_PRESENT = [[4, 1, 0], [0, 2, 1], [1, 0, 1]]


class TestByHand:
    def scores(self, matrix, num_classes=3, **kwargs):
        preds, target = labels(matrix)
        return [round(float(f(preds, target, num_classes, **kwargs)), 4) for f in SCORES.values()]

    @pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
    def test_all_classes_present(self, absent):
        expected = [0.7, 0.6556, 0.5, 0.55, 0.6556]
        assert self.scores(ALL_PRESENT, absent=absent) == expected

    def test_per_class(self):
        preds, target = labels(ALL_PRESENT)
        accuracy = torch.tensor([4 / 5, 2 / 3, 1 / 2], dtype=torch.float64)
        iou = torch.tensor([2 / 3, 1 / 2, 1 / 3], dtype=torch.float64)
        torch.testing.assert_close(seg.class_accuracy(preds, target, 3), accuracy)
        torch.testing.assert_close(seg.class_iou(preds, target, 3), iou)

    def test_absent_in_target_but_predicted(self):
        # Class 2: no node, one prediction. Its accuracy is absent; its IoU and F1 are 0.
        matrix = [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
        assert self.scores(matrix)[1:4] == [0.8333, 0.5556, 0.75]  # (2/3 + 1)/2, (2/3 + 1 + 0)/3
        assert self.scores(matrix, absent=0)[1:4] == [0.5556, 0.5556, 0.75]
        assert self.scores(matrix, absent=1)[1:4] == [0.8889, 0.5556, 0.75]
        nan = self.scores(matrix, absent="nan")
        assert math.isnan(nan[1])
        assert nan[2:4] == [0.5556, 0.75]
        assert self.scores(matrix)[4] == round((4 / 5 + 1 + 0) / 3, 4)

    def test_absent_in_both(self):
        matrix = [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
        assert self.scores(matrix) == [0.75, 0.8333, 0.5833, 0.625, 0.7333]
        assert self.scores(matrix, absent=0) == [0.75, 0.5556, 0.3889, 0.625, 0.4889]
        assert self.scores(matrix, absent=1) == [0.75, 0.8889, 0.7222, 0.625, 0.8222]
        nan = self.scores(matrix, absent="nan")
        assert [math.isnan(score) for score in nan] == [False, True, True, False, True]

    def test_ignored_valid_class(self):
        # Without the nodes of class 1, it is absent from the accuracy; as it is predicted once
        # for a node of class 0, its IoU is 0 and not absent.
        without = [4 / 5, 1 / 2], [4 / 6, 0 / 1, 1 / 2]
        scores = self.scores(ALL_PRESENT, ignore_index=1)
        assert scores[0] == round(5 / 7, 4)
        assert scores[1] == round(sum(without[0]) / 2, 4)
        assert scores[2] == round(sum(without[1]) / 3, 4)

    @pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
    @pytest.mark.parametrize("nodes", [0, 4])
    def test_nothing_counts(self, nodes, absent):
        preds, target = torch.zeros(nodes, dtype=torch.int64), torch.full((nodes,), 255)
        kwargs = {"ignore_index": 255, "absent": absent}
        assert all(f(preds, target, 3, **kwargs).isnan() for f in SCORES.values())
        assert seg.class_iou(preds, target, 3, **kwargs).isnan().all()
        assert seg.confusion_matrix(preds, target, 3, ignore_index=255).sum() == 0
        assert seg.mean_iou(torch.zeros(0, 3), target[:0], 3).isnan()

    def test_confusion_matrix(self):
        matrix = torch.tensor(ALL_PRESENT)
        preds, target = labels(ALL_PRESENT)
        counted = seg.confusion_matrix(preds, target, 3)
        assert counted.dtype == torch.int64
        assert counted.equal(matrix)


@pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
@pytest.mark.parametrize("ignore_index", [None, -100, 255, 2])
@pytest.mark.parametrize("seed", range(3))
def test_against_the_definition(seed, ignore_index, absent):
    preds, target = random_labels(40, 9, seed, ignore_index)
    keep = (preds != 5) & (target != 5)  # a class absent from both
    preds, target = preds[keep], target[keep]
    expected = by_definition(preds, target, 9, ignore_index, absent)
    for name, score in SCORES.items():
        found = float(score(preds, target, 9, ignore_index=ignore_index, absent=absent))
        assert found == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("num_classes", [2, 7, 150])
def test_against_scikit_learn(num_classes):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    preds, target = random_labels(3000, num_classes)
    preds[:7] = 0
    p, t = preds.numpy(), target.numpy()
    present = np.unique(t)
    union = np.unique(np.concatenate([p, t]))
    expected = {
        "pixel_accuracy": metrics.accuracy_score(t, p),
        "mean_accuracy": metrics.recall_score(t, p, labels=present, average="macro"),
        "mean_iou": metrics.jaccard_score(t, p, labels=union, average="macro"),
        "frequency_weighted_iou": metrics.jaccard_score(t, p, average="weighted"),
        "macro_f1": metrics.f1_score(t, p, average="macro"),
    }
    if len(present) == len(union):
        expected["mean_accuracy"] = metrics.balanced_accuracy_score(t, p)
    for name, score in SCORES.items():
        assert abs(float(score(preds, target, num_classes)) - expected[name]) < 1e-12, name
    matrix = metrics.confusion_matrix(t, p, labels=np.arange(num_classes))
    assert np.array_equal(seg.confusion_matrix(preds, target, num_classes).numpy(), matrix)


@pytest.mark.parametrize("ignore_index", [255, 3])
def test_against_mmsegmentation(ignore_index):
    """Its `intersect_and_union` and `legacy_mean_iou`: mask, three histograms, `nanmean`."""
    preds, target = random_labels(500, 8, ignore_index=ignore_index)
    preds[preds == 6], target[target == 6] = 0, 0
    target[target == 5] = 0
    p, t = preds[target != ignore_index].numpy(), target[target != ignore_index].numpy()
    hit, pred, true = (np.histogram(v, bins=8, range=(0, 7))[0] for v in (p[p == t], p, t))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        accuracy, iou = hit / true, hit / (true + pred - hit)
        f1 = 2 * hit / (true + pred)
    kwargs = {"ignore_index": ignore_index, "absent": "skip"}
    assert abs(float(seg.pixel_accuracy(preds, target, 8, **kwargs)) - hit.sum() / t.size) < 1e-12
    assert abs(float(seg.mean_accuracy(preds, target, 8, **kwargs)) - np.nanmean(accuracy)) < 1e-12
    assert abs(float(seg.mean_iou(preds, target, 8, **kwargs)) - np.nanmean(iou)) < 1e-12
    assert abs(float(seg.macro_f1(preds, target, 8, **kwargs)) - np.nanmean(f1)) < 1e-12
    ours = seg.class_iou(preds, target, 8, **kwargs).numpy()
    np.testing.assert_allclose(ours, iou, rtol=0, atol=1e-12)
    assert np.isnan(ours[6])


class TestBatch:
    batch = torch.tensor([0] * 30 + [1] * 1 + [3] * 49)  # graph 2 is empty

    @pytest.mark.parametrize("ignore_index", [None, 255])
    @pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
    @pytest.mark.parametrize("name", [*SCORES, "class_iou", "class_accuracy"])
    def test_equals_alone(self, name, absent, ignore_index):
        score = getattr(seg, name)
        preds, target = random_labels(80, 5, ignore_index=ignore_index)
        kwargs = {"ignore_index": ignore_index, "absent": absent}
        together = score(preds, target, 5, batch=self.batch, **kwargs)
        alone = [
            score(preds[self.batch == g], target[self.batch == g], 5, **kwargs) for g in range(4)
        ]
        assert together.equal(torch.stack(alone)) or torch.allclose(
            together, torch.stack(alone), rtol=0, atol=0, equal_nan=True
        )
        assert together[2].isnan().all()
        mean = score(preds, target, 5, batch=self.batch, reduction="mean", **kwargs)
        torch.testing.assert_close(
            mean, torch.stack(alone).nanmean(dim=0), rtol=0, atol=1e-15, equal_nan=True
        )

    def test_matrices(self):
        preds, target = random_labels(80, 5, ignore_index=255)
        matrices = seg.confusion_matrix(preds, target, 5, 255, batch=self.batch)
        assert matrices.shape == (4, 5, 5)
        assert matrices.sum(0).equal(seg.confusion_matrix(preds, target, 5, 255))
        keep = self.batch == 3
        assert matrices[3].equal(seg.confusion_matrix(preds[keep], target[keep], 5, 255))
        counts = seg.label_counts(preds, target, 5, 255, batch=self.batch)
        for count, other in zip(counts, seg.counts_of(matrices), strict=True):
            assert count.equal(other)

    def test_no_graph(self):
        none = torch.zeros(0, dtype=torch.int64)
        assert seg.mean_iou(none, none, 3, batch=none).shape == (0,)
        assert seg.mean_iou(none, none, 3, batch=none, reduction="mean").isnan()


def test_logits_are_labels():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    _, target = random_labels(50, 4)
    from_labels = seg.confusion_matrix(logits.argmax(1), target, 4)
    assert seg.confusion_matrix(logits, target, 4).equal(from_labels)
    assert seg.confusion_matrix(logits.half().requires_grad_(), target, 4).sum() == 50
    logits[:, 1] = -torch.inf  # a masked class is a class
    assert seg.confusion_matrix(logits, target, 4)[:, 1].sum() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_narrow_labels(dtype):
    """Neither the cell of a pair nor an `ignore_index` of -100 may wrap around."""
    preds, target = random_labels(100, 100)
    expected = seg.confusion_matrix(preds, target, 100)
    assert seg.confusion_matrix(preds.to(dtype), target.to(dtype), 100).equal(expected)
    assert seg.confusion_matrix(preds.to(dtype), target.to(dtype), 200, -100).sum() == 100


@pytest.mark.parametrize("ignore_index", [None, 255])
def test_blocks_add_up(monkeypatch, ignore_index):
    preds, target = random_labels(1000, 4, ignore_index=ignore_index)
    batch = torch.arange(1000) // 300
    whole = seg.confusion_matrix(preds, target, 4, ignore_index, batch)
    counts = seg.label_counts(preds, target, 4, ignore_index, batch)
    monkeypatch.setattr(seg.count, "_CPU_BLOCK", 7)
    assert seg.confusion_matrix(preds, target, 4, ignore_index, batch).equal(whole)
    for one, other in zip(
        seg.label_counts(preds, target, 4, ignore_index, batch), counts, strict=True
    ):
        assert one.equal(other)


def test_order_of_nodes_does_not_matter():
    preds, target = random_labels(200, 6)
    perm = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    for score in SCORES.values():
        assert score(preds[perm], target[perm], 6).equal(score(preds, target, 6))


def test_renaming_classes_renames_the_scores():
    preds, target = random_labels(200, 6)
    names = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    renamed = seg.class_iou(names[preds], names[target], 6)
    assert renamed[names].equal(seg.class_iou(preds, target, 6))


class TestErrors:
    good = torch.tensor([0, 1, 2, 2])

    @pytest.mark.parametrize("bad", [-1, 3, 255])
    @pytest.mark.parametrize("name", ["preds", "target"])
    @pytest.mark.parametrize("with_batch", [False, True])
    def test_range(self, name, bad, with_batch):
        wrong = self.good.clone()
        wrong[2] = bad
        arguments = {"preds": self.good, "target": self.good, name: wrong}
        batch = torch.tensor([0, 0, 1, 1]) if with_batch else None
        for score in SCORES.values():
            with pytest.raises(ValueError, match=rf"'{name}' .*\(got {bad}\)"):
                score(**arguments, num_classes=3, batch=batch)
        with pytest.raises(ValueError, match=rf"'{name}' .*\(got {bad}\)"):
            seg.confusion_matrix(**arguments, num_classes=3, ignore_index=77, batch=batch)

    def test_ignored_prediction(self):
        target = torch.tensor([0, 1, 2, 255])
        preds = torch.tensor([0, 1, 2, 255])
        assert seg.confusion_matrix(preds, target, 3, 255).sum() == 3
        with pytest.raises(ValueError, match=r"\[0, 3\) or be 'ignore_index' 9 \(got 255\)"):
            seg.confusion_matrix(preds[:3], target[[0, 1, 3]], 3, 9)
        with pytest.raises(ValueError, match=r"'target' must lie in \[0, 3\) \(got 255\)"):
            seg.confusion_matrix(preds[:3], target[[0, 1, 3]], 3)
        with pytest.raises(ValueError, match=r"'preds' .*got 255"):
            seg.confusion_matrix(preds.flip(0), target, 3, 255)
        preds[3] = 77  # neither a class nor the mark of what is left out
        with pytest.raises(ValueError, match=r"'preds' .*got 77"):
            seg.confusion_matrix(preds, target, 3, 255)

    def test_range_check_has_a_switch(self):
        wrong = torch.tensor([0, 1, -1, 2])
        with validation(False):
            assert seg.confusion_matrix(wrong, self.good, 3).sum() == 4

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
    def test_dtype(self, dtype):
        with pytest.raises(TypeError, match=f"'preds'.*{dtype}"):
            seg.mean_iou(self.good.to(dtype), self.good, 3)
        with pytest.raises(TypeError, match=f"'target'.*{dtype}"):
            seg.mean_iou(self.good, self.good.to(dtype), 3)
        with pytest.raises(TypeError, match="'preds'.*torch.int64"):
            seg.mean_iou(self.good.view(4, 1).expand(4, 3), self.good, 3)

    def test_nan_logits(self):
        logits = torch.zeros(4, 3)
        logits[2, 1] = torch.nan
        with pytest.raises(ValueError, match="'preds'.*nan in row 2"):
            seg.mean_iou(logits, self.good, 3)

    def test_shapes(self):
        with pytest.raises(ValueError, match="length.*3 and 4"):
            seg.mean_iou(self.good[:3], self.good, 3)
        with pytest.raises(ValueError, match=r"'preds'.*\[4, 2\]"):
            seg.mean_iou(torch.zeros(4, 2), self.good, 3)
        with pytest.raises(ValueError, match=r"'target'.*\[2, 2\]"):
            seg.mean_iou(self.good, self.good.view(2, 2), 3)
        with pytest.raises(ValueError, match=r"'preds'.*\[1, 2, 2\]"):
            seg.mean_iou(self.good.view(1, 2, 2), self.good, 3)
        with pytest.raises(ValueError, match="'batch'"):
            seg.mean_iou(self.good, self.good, 3, batch=self.good[:3])
        with pytest.raises(ValueError, match="'batch' must be sorted"):
            seg.mean_iou(self.good, self.good, 3, batch=self.good.flip(0))

    def test_arguments(self):
        for num_classes in (1, 0, -2):
            with pytest.raises(ValueError, match=f"'num_classes'.*{num_classes}"):
                seg.mean_iou(self.good, self.good, num_classes)
        with pytest.raises(TypeError, match="'num_classes'.*3.0"):
            seg.mean_iou(self.good, self.good, 3.0)
        with pytest.raises(TypeError, match="'ignore_index'.*'255'"):
            seg.mean_iou(self.good, self.good, 3, "255")
        with pytest.raises(ValueError, match="'ignore_index' must fit.*1180591620717411303424"):
            seg.mean_iou(self.good, self.good, 3, 2**70)
        with pytest.raises(TypeError, match="'preds'.*list"):
            seg.mean_iou([0, 1, 2, 2], self.good, 3)
        for absent in ("drop", 2, None, True, 0.5):
            with pytest.raises(ValueError, match=f"'absent'.*{absent!r}"):
                seg.pixel_accuracy(self.good, self.good, 3, absent=absent)
        with pytest.raises(ValueError, match="'reduction'.*'sum'"):
            seg.pixel_accuracy(self.good, self.good, 3, reduction="sum")


def test_compiles():
    """No value is read on the way, so that the graph is one."""
    preds, target = random_labels(100, 5, ignore_index=-1)
    compiled = torch.compile(seg.confusion_matrix, backend="eager", fullgraph=True)
    assert compiled(preds, target, 5, -1).equal(seg.confusion_matrix(preds, target, 5, -1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    preds, target = random_labels(10_000, 21, ignore_index=255)
    batch = torch.arange(10_000) // 100
    for graphs in (None, batch):
        on_cpu = seg.confusion_matrix(preds, target, 21, 255, graphs)
        graphs = None if graphs is None else graphs.cuda()
        on_cuda = seg.confusion_matrix(preds.cuda(), target.cuda(), 21, 255, graphs)
        assert on_cuda.is_cuda
        assert on_cuda.cpu().equal(on_cpu)
