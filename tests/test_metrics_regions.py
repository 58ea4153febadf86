"""The metrics of instances, boundaries and superpixels, and what all metrics promise."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from pyg_gunet.functional import segmentation as seg
from pyg_gunet.metrics import (
    BoundaryMetrics,
    InstanceMetrics,
    PartIoU,
    SegmentationMetrics,
    SuperpixelMetrics,
)
from tests.functional.test_segmentation_instance import instances
from tests.test_metrics import same

BATCH = torch.tensor([0] * 40 + [2] * 50 + [3] * 30)
CUT = 90  # between graphs 2 and 3
PREDS, TARGET = instances(0, 120, 5)
EDGES = torch.stack([torch.arange(119), torch.arange(1, 120)])
EDGES = EDGES[:, BATCH[EDGES[0]] == BATCH[EDGES[1]]]
WEIGHT = torch.randint(1, 9, (120,), generator=torch.Generator().manual_seed(0))
LABELS = (PREDS // 3 % 4, TARGET // 3 % 4)

METRICS = {
    "classes": (lambda **k: SegmentationMetrics(5, 3, **k), (*LABELS, BATCH, WEIGHT)),
    "instances": (lambda **k: InstanceMetrics(ignore_index=9, **k), (PREDS, TARGET, BATCH, WEIGHT)),
    "boundaries": (
        lambda **k: BoundaryMetrics(5, 2, 3, **k),
        (*LABELS, EDGES, BATCH, EDGES[0].sin().abs(), WEIGHT),
    ),
    "superpixels": (
        lambda **k: SuperpixelMetrics(ignore_index=9, **k),
        (PREDS, TARGET, BATCH, WEIGHT),
    ),
}


def graphs(arguments, which):
    """The arguments of some graphs alone."""
    keep = torch.isin(BATCH, torch.tensor(which))
    first = int(keep.nonzero()[0])
    inside = keep[EDGES[0]]

    def cut(value):
        if value is EDGES:
            return EDGES[:, inside] - first
        return value[inside] if value.numel() == inside.numel() else value[keep]

    return tuple(cut(value) for value in arguments)


@pytest.mark.parametrize("kind", METRICS)
def test_updates_add_up(kind):
    make, arguments = METRICS[kind]
    whole, parts, other = (make(per_graph=True) for _ in range(3))
    whole.update(*arguments)
    first = parts(*graphs(arguments, [0, 2]))
    parts.update(*graphs(arguments, [3]))
    same(parts.compute(), whole.compute())
    alone = make(per_graph=True)
    alone.update(*graphs(arguments, [0, 2]))
    same(first, alone.compute())
    other.update(*graphs(arguments, [3]))
    other.merge_state(pickle.loads(pickle.dumps(alone)))
    same(other.compute(), whole.compute())
    assert all(value.dim() == 0 for value in whole.compute().values())
    whole.reset()
    states = {name: value for name, value in whole.metric_state.items() if name != "settings"}
    assert not any(value.any() for value in states.values())


@pytest.mark.parametrize("kind", METRICS)
def test_states_are_exact_and_no_more_than_needed(kind):
    make, arguments = METRICS[kind]
    for per_graph in (False, True):
        metric = make(per_graph=per_graph)
        for _ in range(2):  # at the start and after an update
            states = {k: v for k, v in metric.metric_state.items() if k != "settings"}
            whole = {k for k, v in states.items() if v.dtype == torch.int64}
            assert whole == ({"graph_counts"} if per_graph else set())
            assert all(v.dtype == torch.float64 for k, v in states.items() if k not in whole)
            assert ("graph_sums" in states) == per_graph
            metric.update(*arguments)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", METRICS)
def test_what_the_functions_say(kind, weighted):
    make, arguments = METRICS[kind]
    weight = WEIGHT if weighted else None
    arguments = (*arguments[:-1], weight)
    metric = make(per_graph=True)
    metric.update(*arguments)
    found = metric.compute()
    batch = {"batch": BATCH, "reduction": "mean"}
    per_class = {"num_classes": 5, "ignore_index": 3, "node_weight": weight}
    flat = {"ignore_index": 9, "node_weight": weight}
    table = {
        "classes": {name: (getattr(seg, name), per_class) for name in ("mean_iou", "macro_f1")},
        "instances": {
            "aggregated_jaccard": (seg.aggregated_jaccard, flat),
            "average_precision": (seg.average_precision, flat),
            "average_precision_55": (
                lambda *a, **k: seg.matching(*a, thresholds=[0.55], **k).accuracy[0],
                flat,
            ),
            **{
                name: (lambda *a, at=at, **k: seg.panoptic_quality(*a, **k)[at], flat)
                for at, name in enumerate(
                    ("panoptic_quality", "segmentation_quality", "recognition_quality")
                )
            },
        },
        "boundaries": {},
        "superpixels": {
            name: (getattr(seg, name), flat)
            for name in ("undersegmentation_error", "achievable_accuracy")
        },
    }[kind]
    for name, (score, options) in table.items():
        if kind == "classes":  # a region ends with its graph: there is no one graph of all
            value = score(*arguments[:2], **options)
            assert float(found[name]) == pytest.approx(float(value), abs=1e-12)
        mean = score(*arguments[:2], **options, **batch)
        assert float(found[f"graph_{name}"]) == pytest.approx(float(mean), abs=1e-12), name
    if kind == "boundaries":
        for name in ("boundary_iou", "surface_dice"):
            options = {**per_class, "edge_length": arguments[4], "distance": 2}
            score = getattr(seg, name)
            assert float(found[name]) == pytest.approx(
                float(score(*arguments[:3], **options).nanmean()), abs=1e-12
            )
            each = score(*arguments[:3], **options, batch=BATCH).nanmean(dim=-1)
            assert float(found[f"graph_{name}"]) == pytest.approx(float(each.nanmean()), abs=1e-12)


def test_pooled_instances_are_those_of_all_graphs():
    """With numbers of its own in each graph, all graphs are one."""
    shift = BATCH * 100
    preds, target = (label.where(label == 0, label + shift) for label in (PREDS, TARGET))
    metric = InstanceMetrics()
    metric.update(PREDS, TARGET, BATCH)
    found = metric.compute()
    assert list(found) == [
        "panoptic_quality",
        "segmentation_quality",
        "recognition_quality",
        "aggregated_jaccard",
        "average_precision",
        *(f"average_precision_{percent}" for percent in range(50, 100, 5)),
    ]
    quality = seg.panoptic_quality(preds, target)
    assert [float(found[name]) for name in list(found)[:3]] == pytest.approx(
        [float(one) for one in quality]
    )
    assert float(found["aggregated_jaccard"]) == pytest.approx(
        float(seg.aggregated_jaccard(preds, target))
    )
    accuracy = seg.matching(preds, target).accuracy
    assert [float(found[name]) for name in list(found)[5:]] == pytest.approx(accuracy.tolist())


def test_pooled_superpixels():
    shift = BATCH * 100
    metric = SuperpixelMetrics()
    metric.update(PREDS, TARGET, BATCH)
    for name, value in metric.compute().items():
        exact = getattr(seg, name)(PREDS + shift, TARGET + shift)
        assert float(value) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
def test_absent(absent):
    """A graph of background, one with a true instance alone."""
    target, batch = torch.tensor([0, 0, 4, 4]), torch.tensor([0, 0, 1, 1])
    gone = math.nan if isinstance(absent, str) else absent
    metric = InstanceMetrics(absent=absent, per_graph=True)
    metric.update(target * 0, target, batch)
    found = metric.compute()
    assert float(found["panoptic_quality"]) == 0
    assert float(found["segmentation_quality"]) == pytest.approx(gone, nan_ok=True)
    assert float(found["graph_panoptic_quality"]) == (0 if isinstance(absent, str) else gone / 2)
    boundary = BoundaryMetrics(2, absent=absent, per_class=True)
    boundary.update(target * 0, target * 0, torch.tensor([[0, 1], [1, 2]]))
    for name in ("boundary_iou", "surface_dice", "boundary_iou_1", "surface_dice_0"):
        assert float(boundary.compute()[name]) == pytest.approx(gone, nan_ok=True)
    # One class with a boundary and one that is nowhere.
    boundary = BoundaryMetrics(3, absent=absent)
    one = torch.tensor([0, 0, 1, 1])
    boundary.update(one, one, torch.tensor([[0, 1, 2], [1, 2, 3]]))
    means = {"skip": 1.0, "nan": math.nan, 0: 2 / 3, 1: 1.0}
    for value in boundary.compute().values():
        assert float(value) == pytest.approx(means[absent], nan_ok=True)


@pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
def test_absent_classes_of_a_graph(absent):
    """Class 2 is nowhere; in graph 1, so is class 0."""
    label, batch = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    metric = SegmentationMetrics(3, absent=absent, per_graph=True)
    metric.update(label, label, batch)
    means = {"skip": 1.0, "nan": math.nan, 0: (2 / 3 + 1 / 3) / 2, 1: 1.0}
    found = float(metric.compute()["graph_mean_iou"])
    assert found == pytest.approx(means[absent], nan_ok=True)


def test_a_collection_keeps_different_counts_apart():
    makes = {
        "plain": lambda: InstanceMetrics(),
        "other": lambda: InstanceMetrics(ignore_index=6),
        "levels": lambda: InstanceMetrics([0.3 + 0.05 * at for at in range(10)]),
    }
    collection = MetricCollection({name: make() for name, make in makes.items()})
    none = torch.zeros(3, dtype=torch.int64)
    for arguments in ((none, none), (PREDS, TARGET)):  # the states agree after the first
        collection.update(*arguments)
    found = collection.compute()
    for name, make in makes.items():
        alone = make()
        alone.update(PREDS, TARGET)
        key = next(key for key in found if key.endswith("panoptic_quality") and name in key)
        assert float(found[key]) == float(alone.compute()["panoptic_quality"])


ROWS = torch.ones(6, dtype=torch.int64)
BAD = {
    "classes": [
        {"target": LABELS[1] - 1},
        {"preds": torch.full((120, 5), math.nan)},
        {"batch": BATCH.flip(0)},
        {"batch": BATCH[1:]},
        {"node_weight": -WEIGHT},
    ],
    "instances": [{"target": TARGET - 1}, {"batch": BATCH.flip(0)}, {"node_weight": -WEIGHT}],
    "boundaries": [
        {"target": LABELS[1] - 1},
        {"edge_index": EDGES + 5},
        {"edge_length": -torch.ones(EDGES.size(1))},
        {"batch": BATCH.flip(0)},
    ],
    "superpixels": [{"target": TARGET.float()}, {"batch": BATCH.flip(0)}],
    "parts": [{"target": ROWS * 3}, {"category": ROWS[:2] * 2}, {"batch": 1 - ROWS.cumsum(0)}],
}
ORDER = {
    "boundaries": ("preds", "target", "edge_index", "batch", "edge_length", "node_weight"),
    "parts": ("preds", "target", "batch", "category"),
}


@pytest.mark.parametrize("how", ["update", "forward"])
@pytest.mark.parametrize("per_graph", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_a_refused_update_changes_nothing(kind, per_graph, how):
    if kind == "parts":
        metric = PartIoU([[0, 1], [2, 3]])
        batch = torch.tensor([0, 0, 0, 1, 1, 1])
        arguments = (ROWS.where(batch == 0, 2), ROWS.where(batch == 0, 3), batch, batch[2:4])
    else:
        make, arguments = METRICS[kind]
        metric = make(per_graph=per_graph)
    good = dict(zip(ORDER.get(kind, ("preds", "target", "batch", "node_weight")), arguments))
    metric.update(**good)
    states = {name: value.clone() for name, value in metric.metric_state.items()}
    before = metric.compute()
    for bad in BAD[kind]:
        with pytest.raises((ValueError, TypeError, IndexError), match=f"'{next(iter(bad))}'"):
            (metric.update if how == "update" else metric)(**{**good, **bad})
        for name, value in metric.metric_state.items():
            assert value.equal(states[name]), (name, bad)
        same(metric.compute(), before)
    metric.update(**good)
    once = {name: value for name, value in states.items() if name != "settings"}
    for name, value in once.items():
        torch.testing.assert_close(metric.metric_state[name], 2 * value)


def test_after_a_refused_forward_processes_still_synchronise(monkeypatch):
    metric = InstanceMetrics()
    with pytest.raises(ValueError, match="'target'"):
        metric(PREDS, TARGET - 1)
    metric.update(PREDS, TARGET)
    asked = []
    monkeypatch.setattr(metric, "sync", lambda **kwargs: asked.append(kwargs["should_sync"]))
    metric.compute()
    assert asked == [True]


def test_images_by_one_call():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (3, 6, 7), generator=generator)
    logits = torch.rand(3, 4, 6, 7, generator=generator)
    metric = SegmentationMetrics(4, per_graph=True)
    metric.update(*seg.image_nodes(logits, target))
    each = [seg.mean_iou(p.argmax(0).view(-1), t.view(-1), 4) for p, t in zip(logits, target)]
    assert float(metric.compute()["graph_mean_iou"]) == pytest.approx(float(sum(each)) / 3)
    metric, preds = InstanceMetrics(per_graph=True), logits.argmax(1)
    metric.update(*seg.image_nodes(preds, target))
    each = [float(seg.aggregated_jaccard(p.view(-1), t.view(-1))) for p, t in zip(preds, target)]
    assert float(metric.compute()["graph_aggregated_jaccard"]) == pytest.approx(sum(each) / 3)


def test_metrics_of_regions_name_the_setting():
    with pytest.raises(ValueError, match="'thresholds'.*2"):
        InstanceMetrics([2])
    with pytest.raises(TypeError, match="'ignore_index'.*0.5"):
        InstanceMetrics(ignore_index=0.5)
    with pytest.raises(ValueError, match="'absent'.*'drop'"):
        InstanceMetrics(absent="drop")
    with pytest.raises(TypeError, match="'per_graph'.*1"):
        InstanceMetrics(per_graph=1)
    with pytest.raises(ValueError, match="'num_classes'.*1"):
        BoundaryMetrics(1)
    assert BoundaryMetrics(2**20).band.shape == (3, 2**20 + 1)
    with pytest.raises(ValueError, match="'num_classes'.*1048577"):
        BoundaryMetrics(2**20 + 1)
    with pytest.raises(ValueError, match="'distance'.*-1"):
        BoundaryMetrics(2, -1)
    with pytest.raises(ValueError, match="'absent'.*'drop'"):
        BoundaryMetrics(2, absent="drop")
    with pytest.raises(TypeError, match="'per_class'.*1"):
        BoundaryMetrics(2, per_class=1)
    with pytest.raises(TypeError, match="'per_graph'.*1"):
        BoundaryMetrics(2, per_graph=1)
    with pytest.raises(TypeError, match="'ignore_index'.*'a'"):
        BoundaryMetrics(2, ignore_index="a")
    with pytest.raises(TypeError, match="'ignore_index'.*'a'"):
        SuperpixelMetrics("a")
    with pytest.raises(TypeError, match="'per_graph'.*1"):
        SuperpixelMetrics(per_graph=1)
