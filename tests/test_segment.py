"""The task ``segment`` and the data sets that feed it, end to end on small files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pyg_gunet.settings import Settings
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.cli import main
from pyg_gunet.data import GraphDataset, load
from pyg_gunet.nn.segmentation import deep_supervision
from pyg_gunet.train import evaluate, fit
from pyg_gunet.train.segment import Segment, place, prepare

io = pytest.importorskip("skimage.io", reason="needs scikit-image")
SMALL = {"task": "segment", "hidden_channels": 8, "depth": 2, "epochs": 3, "accelerator": "cpu"}


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
    settings = Settings(dataset=f"images:{folder}", tile_size=16, deep_supervision=0.5, **SMALL)
    run = fit(settings, tmp_path / "run")
    assert set(run.figures["per_class"]) == {"0", "1", "2", "3", "4"}  # 255 is no class
    assert np.isfinite(run.figures["test_pixel_accuracy"])


def module(dataset, **changes):
    settings = Settings(**{**SMALL, "dataset": dataset.name, **changes})
    return Segment(settings.as_dict(), {"in_channels": 2, "num_classes": 3, "pos_channels": 2})


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
    dataset = GraphDataset("toy", pictures(border_weight=weight))
    net = module(dataset)
    data = dataset[0]
    loss = torch.nn.functional.cross_entropy(net(data), data.y, reduction="none")
    expected = (loss * weight).sum() / weight.sum()
    torch.testing.assert_close(net.terms(data)["class"], expected)
    deep = module(dataset, head="multi_scale", deep_supervision=0.5)
    scales = deep.net.scales(*deep.inputs(data))
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
    with_place = module(GraphDataset("toy", graphs), positions="append")
    assert with_place.inputs(batch)[0].shape == (18, 4)
    assert with_place(batch).shape == (18, 3)


def test_own_split_and_parts_of_shapes(monkeypatch, tmp_path):
    graphs = pictures(6, category=torch.tensor([1]))
    for data in graphs:
        data.y = data.y.clamp(min=1)
    dataset = GraphDataset(
        "toy", graphs, list(torch.arange(6).split([3, 1, 2])), shape_parts=[[0], [1, 2]]
    )
    splits = prepare(Settings(dataset="toy", **SMALL), dataset)
    assert [len(part.dataset) for part in (splits.train, splits.val, splits.test)] == [3, 1, 2]
    assert splits.test.dataset[1].x.equal(graphs[5].x)
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda *args, **kwargs: dataset)
    run = fit(Settings(dataset="toy", **SMALL), tmp_path / "run")
    assert run.figures["split"].startswith("the data set's own split")
    assert 0 <= run.figures["test_instance_iou"] <= 1
    assert run.figures["test_category_iou"] == pytest.approx(run.figures["test_instance_iou"])


def test_digits_are_ready():
    dataset = load("digits")
    filled = Settings(dataset="digits", **SMALL)
    from pyg_gunet.train.segment import channels, defaults

    assert channels(dataset) == {"in_channels": 1, "num_classes": 11, "pos_channels": 2}
    assert defaults(filled, dataset)["positions"] == "append"


def test_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="'masks' goes with a 'dataset' images:DIR"):
        fit(Settings(dataset="digits", masks="class", **SMALL), tmp_path / "x")
    with pytest.raises(ValueError, match="'head' has no meaning for the task 'classify'"):
        Settings(task="classify", head="single")
    with pytest.raises(ValueError, match="'conv' must be one of.*'gat'"):
        Settings(task="segment", conv="gat")
    with pytest.raises(ValueError, match="label per node: 'dataset' 'ring' has none"):
        fit(Settings(dataset="ring", **SMALL), tmp_path / "x")
    with pytest.raises(ValueError, match="'deep_supervision' goes with 'head' multi_scale"):
        fit(
            Settings(dataset=f"images:{folder}", head="single", deep_supervision=0.5, **SMALL),
            tmp_path / "x",
        )
    with pytest.raises(ValueError, match="at least 3 graphs or tiles"):
        fit(Settings(dataset=f"images:{folder}", tile_size=32, **SMALL), tmp_path / "x")
    with pytest.raises(ValueError, match="'skip' must be 'sum' or 'cat'"):
        fit(Settings(dataset=f"images:{folder}", skip="none", **SMALL), tmp_path / "x")
    with pytest.raises(ValueError, match="'loss_fn' has no meaning"):
        fit(Settings(dataset=f"images:{folder}", loss_fn="mse", **SMALL), tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="images/ and masks/"):
        fit(Settings(dataset=f"images:{tmp_path / 'none'}", **SMALL), tmp_path / "x")
    assert not (tmp_path / "x").exists()
