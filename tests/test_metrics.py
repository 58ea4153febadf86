"""The torchmetrics classes: what they add to the functions is the state."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import multiprocessing
from torchmetrics import MeanMetric, MetricCollection

from pyg_gunet.functional import segmentation as seg
from pyg_gunet.metrics import PartIoU, SegmentationMetrics

FUNCTIONS = {
    "pixel_accuracy": seg.pixel_accuracy,
    "mean_accuracy": seg.mean_accuracy,
    "mean_iou": seg.mean_iou,
    "frequency_weighted_iou": seg.frequency_weighted_iou,
    "macro_f1": seg.macro_f1,
}


def random_labels(num_nodes=200, num_classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    preds = torch.randint(num_classes, (num_nodes,), generator=generator)
    target = torch.randint(num_classes, (num_nodes,), generator=generator)
    target[torch.rand(num_nodes, generator=generator) < 0.1] = 255
    return preds, target


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("absent", ["skip", "nan", 0, 1])
def test_equals_the_functions_over_updates(absent):
    preds, target = random_labels()
    preds[preds == 3], target[target == 3] = 0, 0
    metric = SegmentationMetrics(5, ignore_index=255, absent=absent, per_class=True)
    for part in (slice(0, 7), slice(7, 150), slice(150, 200)):
        metric.update(preds[part], target[part])
    found = metric.compute()
    for name, function in FUNCTIONS.items():
        expected = function(preds, target, 5, 255, absent=absent)
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)
    for kind, function in (("iou", seg.class_iou), ("accuracy", seg.class_accuracy)):
        expected = function(preds, target, 5, 255, absent=absent)
        for label in range(5):
            value = found[f"{kind}_{label}"]
            torch.testing.assert_close(value, expected[label], rtol=0, atol=0, equal_nan=True)
    assert all(value.dim() == 0 for value in found.values())


def test_state_is_one_exact_matrix():
    metric = SegmentationMetrics(4)
    metric.update(torch.tensor([0, 1, 3]), torch.tensor([0, 1, 1]))
    assert metric.confusion.dtype == torch.float64
    assert metric.half().confusion.dtype == torch.float64
    assert metric.confusion.sum() == 3
    assert metric.confusion[1, 3] == 1


def test_forward_gives_the_batch_and_keeps_the_sum():
    preds, target = random_labels()
    metric = SegmentationMetrics(5, ignore_index=255)
    first = metric(preds[:50], target[:50])
    second = metric(preds[50:], target[50:])
    for name, function in FUNCTIONS.items():
        assert first[name].equal(function(preds[:50], target[:50], 5, 255))
        assert second[name].equal(function(preds[50:], target[50:], 5, 255))
        assert metric.compute()[name].equal(function(preds, target, 5, 255))


def test_reset():
    metric = SegmentationMetrics(5, 255, per_graph=True)
    metric.update(*random_labels())
    metric.reset()
    assert metric.confusion.sum() == 0
    metric.update(*random_labels(seed=1))
    fresh = SegmentationMetrics(5, 255, per_graph=True)
    fresh.update(*random_labels(seed=1))
    same(metric.compute(), fresh.compute())


@pytest.mark.parametrize("per_graph", [False, True])
def test_merge_pickle_and_copy(per_graph):
    one, two, both = (SegmentationMetrics(5, 255, per_graph=per_graph) for _ in range(3))
    one.update(*random_labels(seed=0))
    two.update(*random_labels(seed=1))
    both.update(*random_labels(seed=0))
    both.update(*random_labels(seed=1))
    one.merge_state(pickle.loads(pickle.dumps(two)))
    same(one.compute(), both.compute())
    same(deepcopy(one).compute(), both.compute())
    one.persistent(True)
    loaded = SegmentationMetrics(5, 255, per_graph=per_graph)
    loaded.load_state_dict(one.state_dict())
    loaded._update_count = 2
    same(loaded.compute(), both.compute())


def test_per_graph():
    preds, target = random_labels()
    batch = torch.tensor([0] * 20 + [2] * 80 + [3] * 100)
    metric = SegmentationMetrics(5, 255, per_graph=True)
    metric.update(preds[:100], target[:100], batch[:100])
    metric.update(preds[100:], target[100:])  # without `batch`, one graph
    found = metric.compute()
    for name, function in FUNCTIONS.items():
        mean = function(preds, target, 5, 255, batch=batch, reduction="mean")
        torch.testing.assert_close(found[f"graph_{name}"], mean, rtol=0, atol=1e-12)
        assert found[name].equal(function(preds, target, 5, 255))


def test_collection():
    preds, target = random_labels()
    collection = MetricCollection(
        {"all": SegmentationMetrics(5, 255), "strict": SegmentationMetrics(5, 255, absent=0)},
        prefix="val/",
    )
    collection.update(preds, target)
    found = collection.compute()
    assert len(collection.compute_groups) == 1  # one count for both
    assert float(found["val/all_mean_iou"]) == float(seg.mean_iou(preds, target, 5, 255))


def test_collection_keeps_different_counts_apart():
    """The first update has no ignored node, so that the counts agree, and then no longer."""
    collection = MetricCollection(
        {"all": SegmentationMetrics(5), "ignore": SegmentationMetrics(5, ignore_index=2)}
    )
    first = torch.tensor([0, 1, 1])
    collection.update(first, first)
    collection.update(torch.tensor([0, 1]), torch.tensor([2, 1]))
    found = collection.compute()
    assert float(found["all_pixel_accuracy"]) == 0.8
    assert float(found["ignore_pixel_accuracy"]) == 1.0


def test_plot_draws_what_all_processes_counted():
    plt = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
    plt.switch_backend("agg")
    metric = SegmentationMetrics(
        2, dist_sync_fn=lambda x, group=None: [x, x], distributed_available_fn=lambda: True
    )
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert metric.plot()[1].images[0].get_array().tolist() == [[2, 0], [0, 2]]
    assert metric.confusion.tolist() == [[1, 0], [0, 1]]
    plt.close("all")


def test_a_table_beyond_the_memory_is_refused(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pyg_gunet.metrics.classes.check_memory", lambda *size: asked.append(size[:2])
    )
    monkeypatch.setattr(
        "pyg_gunet.functional.segmentation.count.check_memory", lambda *size: asked.append(size[:2])
    )
    metric = SegmentationMetrics(3, per_graph=True)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 4]))
    # A matrix of the metric, one of the update, and three counts in each of five graphs.
    assert asked == [(72, "num_classes"), (72, "num_classes"), (360, "num_classes")]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="'num_classes' asks for"):
        SegmentationMetrics(2**31 - 1)


def test_empty():
    metric = SegmentationMetrics(3, per_graph=True, per_class=True)
    none = torch.zeros(0, dtype=torch.int64)
    metric.update(none, none)
    assert all(value.isnan() for value in metric.compute().values())


def test_class_names_and_plot():
    plt = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
    plt.switch_backend("agg")
    metric = SegmentationMetrics(3, class_names=["sky", "sea", "sun"], per_class=True)
    metric.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    assert float(metric.compute()["iou_sea"]) == 0.5
    figure, axes = metric.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sky", "sea", "sun"]
    drawn = axes.images[0].get_array()
    assert torch.tensor(drawn.data).equal(torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]]))
    assert {text.get_text() for text in axes.texts} == {"0", "1"}
    other, ax = plt.subplots()
    assert metric.plot(torch.eye(3), ax=ax)[0] is other
    with pytest.raises(ValueError, match=r"'val'.*\[2, 2\]"):
        metric.plot(torch.eye(2))
    share = metric.plot(torch.eye(3) / 2)[1]
    assert {text.get_text() for text in share.texts} == {"0.5", "0.0"}
    for classes in (10, 11):
        many = SegmentationMetrics(classes)
        many.update(torch.arange(classes), torch.arange(classes))
        assert bool(many.plot()[1].texts) == (classes == 10)
    plt.close("all")


def test_segmentation_metrics_refuse_by_name():
    with pytest.raises(TypeError, match="'class_names'.*'ab'"):
        SegmentationMetrics(2, class_names="ab")
    with pytest.raises(ValueError, match="'num_classes'.*1"):
        SegmentationMetrics(1)
    with pytest.raises(ValueError, match="'absent'.*'drop'"):
        SegmentationMetrics(3, absent="drop")
    with pytest.raises(TypeError, match="'ignore_index'.*0.5"):
        SegmentationMetrics(3, ignore_index=0.5)
    with pytest.raises(ValueError, match="'class_names'.*'a'"):
        SegmentationMetrics(3, class_names=["a", "b", "a"])
    with pytest.raises(ValueError, match="'per_class'.*'yes'"):
        SegmentationMetrics(3, per_class="yes")
    metric = SegmentationMetrics(3)
    with pytest.raises(ValueError, match=r"'target'.*\(got -1\)"):
        metric.update(torch.tensor([0, 1]), torch.tensor([0, -1]))
    assert metric.confusion.sum() == 0  # a refused update counts nothing


def _count_in_process(rank, port, queue):
    torch.set_num_threads(1)  # the parent's threads do not live on in a fork
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    preds, target = random_labels()
    mine = slice(0, 30) if rank == 0 else slice(30, 200)  # unequal shares
    metric = SegmentationMetrics(5, 255, per_class=True, per_graph=True)
    metric.update(preds[mine], target[mine])
    shapes = PartIoU([[0, 1, 2], [3, 4]])
    shapes.update(*_shapes(rank))
    result = {**metric.compute(), **shapes.compute()}
    queue.put((rank, {name: float(value) for name, value in result.items()}))
    queue.close()
    queue.join_thread()
    torch.distributed.destroy_process_group()


def _shapes(rank):
    target = torch.tensor([0, 1, 2, 3, 4, 3])
    preds = torch.tensor([0, 1, 1, 3, 3, 3]) if rank == 0 else target
    return preds, target, torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1])


def test_two_processes_equal_one():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=_count_in_process, args=(rank, port, queue)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    preds, target = random_labels()
    one = SegmentationMetrics(5, 255, per_class=True, per_graph=True)
    one.update(preds[:30], target[:30])
    one.update(preds[30:], target[30:])
    shapes = PartIoU([[0, 1, 2], [3, 4]])
    for rank in range(2):
        shapes.update(*_shapes(rank))
    expected = {**one.compute(), **shapes.compute()}
    for rank in range(2):
        assert results[rank].keys() == expected.keys()
        for name, value in expected.items():
            assert results[rank][name] == pytest.approx(float(value), abs=1e-12), name


def test_lightning_log_dict(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning", reason="needs pytorch-lightning")
    preds, target = random_labels()

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.scores = MetricCollection(
                {"seg": SegmentationMetrics(5, 255, per_class=True), "loss": MeanMetric()},
                prefix="val/",
                compute_groups=False,
            )
            self.plain = SegmentationMetrics(5, 255)

        def training_step(self, part, _):
            return self.layer(part[0].float().view(-1, 1)).mean()

        def validation_step(self, part, _):
            self.plain.update(part[0], part[1])
            self.scores["seg"].update(part[0], part[1])
            self.scores["loss"].update(part[0].float())

        def on_validation_epoch_end(self):
            self.log_dict(self.plain.compute())
            self.log_dict(self.scores.compute())
            self.plain.reset()
            self.scores.reset()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    data = torch.utils.data.TensorDataset(preds, target)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    loader = torch.utils.data.DataLoader(data, batch_size=64)
    trainer.fit(Model(), loader, loader)
    for name, function in FUNCTIONS.items():
        expected = float(function(preds, target, 5, 255))
        assert float(trainer.callback_metrics[name]) == pytest.approx(expected, abs=1e-12)
    assert float(trainer.callback_metrics["val/iou_2"]) == pytest.approx(
        float(seg.class_iou(preds, target, 5, 255)[2]), abs=1e-12
    )


class TestPartIoU:
    parts = ((0, 1, 2), (3, 4))

    def test_equals_the_function_over_updates(self):
        preds, target, batch, category = _shapes(0)
        metric = PartIoU(self.parts)
        first = metric(preds, target, batch, category)
        expected = seg.part_iou(preds, target, batch, category, self.parts)
        assert float(first["instance_iou"]) == pytest.approx(float(expected.instance))
        metric.update(*_shapes(1))
        metric.update(*(part[:3] for part in _shapes(1)))  # one shape more in category 0
        per_shape = expected.per_shape.tolist()
        found = metric.compute()
        assert float(found["instance_iou"]) == pytest.approx((sum(per_shape) + 3) / 5)
        mean = ((per_shape[0] + 2) / 3 + (per_shape[1] + 1) / 2) / 2
        assert float(found["category_iou"]) == pytest.approx(mean)
        copy = pickle.loads(pickle.dumps(metric))
        same(copy.compute(), found)

    def test_no_nodes_and_parts_that_are_none(self):
        metric = PartIoU(self.parts)
        none = torch.zeros(0, dtype=torch.int64)
        metric.update(none, none, none, none)
        assert all(value.isnan() for value in metric.compute().values())
        with pytest.raises(ValueError, match="'parts'"):
            PartIoU([])
        with pytest.raises(ValueError, match="'parts'.*-1"):
            PartIoU([[-1]])
