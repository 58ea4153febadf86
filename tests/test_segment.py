"""The task ``segment`` and the data sets that feed it, end to end on small files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.cli import main
from pyg_gunet.data import GraphDataset
from pyg_gunet.nn.segmentation import deep_supervision
from pyg_gunet.train import Graphs, Images, Segment, evaluate, fit, predict
from pyg_gunet.train.config import defaults, kind_of
from pyg_gunet.train.segment import place

io = pytest.importorskip("skimage.io", reason="needs scikit-image")
SMALL = {"model": "segment", "hidden_channels": 8, "depth": 2, "epochs": 3, "accelerator": "cpu"}


@pytest.fixture
def folder(tmp_path):
    """Bright squares on a dark ground, numbered, with one row of void pixels in class masks."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in "ab":
        mask = np.zeros((32, 32), dtype=np.uint8)
        for k, corner in enumerate(((2, 2), (2, 9), (14, 20), (22, 5)), start=1):
            mask[corner[0] : corner[0] + 6, corner[1] : corner[1] + 6] = k
        image = (200 * (mask > 0) + rng.integers(0, 40, mask.shape)).astype(np.uint8)
        io.imsave(tmp_path / "images" / f"{name}.png", image, check_contrast=False)
        io.imsave(tmp_path / "masks" / f"{name}.png", mask, check_contrast=False)
    return tmp_path


def test_fit_and_evaluate_on_instances(folder, tmp_path, capsys):
    arguments = ["--hidden-channels", "8", "--depth", "2", "--epochs", "25", "--batch-size", "4"]
    arguments += ["--task", "segment", "--masks", "instance", "--tile-size", "8"]
    out = tmp_path / "run"
    code = main(["fit", "--dataset", f"images:{folder}", *arguments, "--out", str(out)])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "test_mean_iou" in text
    assert "class" in text
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["test_mean_iou"] > 0.8 > figures["baselines"]["majority class"]
    assert set(figures["per_class"]) == {"0", "1"}
    assert figures["instances"] > 0
    assert 0 <= figures["instances_found"] <= 1
    assert "tiles split at random (seed 0): 26 train, 3 validation, 3 test" in figures["split"]
    assert (out / "predictions.png").stat().st_size > 1000
    again = evaluate(out)
    for name in ("test_mean_iou", "test_macro_f1", "instances_found", "per_class"):
        assert again[name] == figures[name]


def test_deep_supervision_and_void(folder, tmp_path):
    path = folder / "masks" / "a.png"
    mask = io.imread(path)
    mask[0] = 255
    io.imsave(path, mask, check_contrast=False)
    options = {"tile_size": 16, "deep_supervision": 0.5, "masks": "class"}
    run = fit(f"images:{folder}", out=tmp_path / "run", **options, **SMALL)
    assert set(run.figures["per_class"]) == {"0", "1", "2", "3", "4"}  # 255 is no class
    assert np.isfinite(run.figures["test_pixel_accuracy"])


def module(**changes):
    return Segment(2, 3, 2, **{"hidden_channels": 8, "depth": 2, "head": "single", **changes})


def pictures(count=10, **extra):
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for _ in range(count):
        edges = torch.combinations(torch.arange(6)).t()
        graphs.append(
            Data(
                x=torch.rand(6, 2, generator=generator),
                edge_index=torch.cat([edges, edges.flip(0)], dim=1),
                pos=10 * torch.rand(6, 2, generator=generator),
                y=torch.randint(3, (6,), generator=generator),
                **{name: value.clone() for name, value in extra.items()},
            )
        )
    return graphs


def test_border_weights_enter_the_loss():
    weight = torch.tensor([5.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    net = module()
    data = pictures(border_weight=weight)[0]
    loss = torch.nn.functional.cross_entropy(net(data), data.y, reduction="none")
    expected = (loss * weight).sum() / weight.sum()
    torch.testing.assert_close(net.terms(data)["class"], expected)
    deep = module(head="multi_scale", deep_supervision=0.5)
    scales = deep.net.scales(*deep.arguments(data))
    assert len(scales) == 3
    expected = deep_supervision(scales, data.y, deep.criterion, weight, 0.5)
    torch.testing.assert_close(deep.terms(data)["class"], expected)


def test_place():
    graphs = pictures(3)
    batch = next(iter(DataLoader(graphs, batch_size=3)))
    found = place(batch)
    assert found.min() == -1.0
    assert found.max() == pytest.approx(1.0)
    torch.testing.assert_close(found, torch.cat([place(data) for data in graphs]))
    with_place = module(positions=True)
    assert with_place.arguments(batch)[0].shape == (18, 4)
    assert with_place(batch).shape == (18, 3)


def test_own_split_and_parts_of_shapes(tmp_path):
    graphs = pictures(6, category=torch.tensor([1]))
    for data in graphs:
        data.y = data.y.clamp(min=1)
    parts = torch.arange(3), torch.tensor([3]), torch.arange(4, len(graphs))
    dataset = GraphDataset("toy", graphs, parts, shape_parts=[[0], [1, 2]])
    data = Graphs(dataset)
    data.setup()
    assert [len(part) for part in data.parts] == [3, 1, 2]
    assert data.parts[2][1].x.equal(graphs[5].x)
    run = fit(dataset, out=tmp_path / "run", **SMALL)
    assert run.figures["split"].startswith("the data set's own split")
    assert 0 <= run.figures["test_instance_iou"] <= 1
    assert run.figures["test_category_iou"] == pytest.approx(run.figures["test_instance_iou"])


def test_digits_are_ready():
    data = Graphs("digits")
    data.setup()
    sizes = {key: data.sizes[key] for key in ("in_channels", "num_classes", "pos_channels")}
    assert sizes == {"in_channels": 1, "num_classes": 11, "pos_channels": 2}
    assert kind_of("segment", "digits", data) == ("Graphs", "segment_grid")
    solid = pictures()
    for graph in solid:
        graph.pos = torch.ones(graph.num_nodes, 3)
    for graphs, kind in ((pictures(), "segment"), (solid, "segment_places")):
        other = Graphs(GraphDataset("toy", graphs))
        other.read()
        assert kind_of("segment", "toy", other)[1] == kind
    assert defaults("segment_grid")["model"]["positions"]
    assert defaults("segment_places")["model"]["positions"]


def test_predictions_are_label_images(folder, tmp_path):
    options = {"tile_size": 16, "masks": "class", "batch_size": 3}
    run = fit(f"images:{folder}", out=tmp_path / "run", **{**SMALL, **options})
    shapes = predict(run.folder, tmp_path / "labels")
    assert all(shape == (16, 16) or shape == (32, 32) for shape in shapes.values())
    written = sorted((tmp_path / "labels").iterdir())
    assert len(written) == len(shapes)
    assert io.imread(written[0]).max() < 5


@pytest.mark.parametrize(
    "dataset, changes, error, match",
    [
        ("digits", {"masks": "class"}, TypeError, "unknown option 'masks' for Segment and Graphs"),
        ("images", {"conv": "GatConv"}, ValueError, "'conv' names no class.*'GatConv'"),
        ("ring", {}, ValueError, "label per node: 'dataset' 'ring' has none"),
        (
            "images",
            {"head": "single", "deep_supervision": 0.5},
            ValueError,
            "'deep_supervision' goes with 'head' multi_scale",
        ),
        ("images", {"tile_size": 32}, ValueError, "at least 3 graphs or tiles"),
        ("images", {"skip": "none"}, ValueError, "'skip' must be one of"),
        ("images", {"latent_channels": 3}, TypeError, "unknown option 'latent_channels'"),
        ("images:nowhere", {}, FileNotFoundError, "images/ and masks/"),
    ],
)
def test_what_segmentation_cannot_train_on_is_refused(
    folder, tmp_path, dataset, changes, error, match
):
    name = f"images:{folder}" if dataset == "images" else dataset
    with pytest.raises(error, match=match):
        fit(name, out=tmp_path / "x", **{**SMALL, **changes})
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="'dataset' must be images:DIR"):
        Images("digits")
