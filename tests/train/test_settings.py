"""Settings, baselines and pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.data import load
from pyg_gunet.settings import Settings
from pyg_gunet.train import evaluate, fit, pictures
from pyg_gunet.train.baselines import mean_mse, pca_mse
from pyg_gunet.train.tasks import slim
from tests.train.conftest import settings


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_pca_equals_sklearn(shape):
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=shape) @ np.diag(np.arange(1.0, shape[1] + 1))
    tensor = torch.from_numpy(x)
    for k in range(1, 6):
        pca = PCA(k, svd_solver="full").fit(x)
        expected = np.square(pca.inverse_transform(pca.transform(x)) - x).mean()
        ours, components = pca_mse(tensor, tensor, k * shape[0])
        assert ours == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert components == k


def test_pca_between_components_falls_and_meets_the_ends():
    torch.manual_seed(0)
    x = torch.randn(30, 4)
    errors = [pca_mse(x, x, floats)[0] for floats in range(0, 4 * 30 + 1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(mean_mse(x, x))
    assert errors[-1] == pytest.approx(0.0, abs=1e-12)
    assert pca_mse(x, x, 10_000) == (pytest.approx(0.0, abs=1e-12), 4.0)


def test_pca_is_fitted_to_the_training_nodes():
    train = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    test = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    assert pca_mse(train, test, 2)[0] == pytest.approx((4 + 16) / 4)
    assert mean_mse(train, test) == pytest.approx((4 + 16) / 4)


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("epochs", True, TypeError),
        ("lr", 0.0, ValueError),
        ("lr", float("nan"), ValueError),
        ("seed", -1, ValueError),
        ("depth", 0, ValueError),
        ("depth", 33, ValueError),
        ("dropout", 1.0, ValueError),
        ("pool_ratios", (1.5,), ValueError),
        ("pool_ratios", (0.0,), ValueError),
        ("pool_ratios", (0.5, 0.5, 0.5), ValueError),
        ("pool_ratios", 0.5, TypeError),
        ("dataset", 3, TypeError),
        ("skip", "some", ValueError),
        ("fill", "mean", ValueError),
        ("loss_fn", "mae", ValueError),
        ("normalize", "columns", ValueError),
        ("accelerator", "tpu", ValueError),
        ("batch_size", 0, ValueError),
    ],
)
def test_bad_settings_name_the_argument(name, value, error):
    with pytest.raises(error, match=f"'{name}' must"):
        Settings(**{name: value})


def test_settings_survive_json():
    before = Settings(depth=3, pool_ratios=(0.5, 10, 0.25), lr=None)
    assert Settings.from_dict(json.loads(json.dumps(before.as_dict()))) == before
    assert before.ratios == [0.5, 10, 0.25]
    assert Settings(depth=2, pool_ratios=(0.8,)).ratios == [0.8, 0.8]
    with pytest.raises(ValueError, match="unknown names .*'speed'"):
        Settings.from_dict({"speed": 3})
    with pytest.raises(TypeError, match="'settings' must be a dict"):
        Settings.from_dict([1])


def test_pictures_show_input_beside_output(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: drawn.append(figure))
    ring, solid = load("ring")[0], torch.rand(9, 3)
    pictures.draw_reconstruction(tmp_path / "a.png", ring, ring.x, ring.x + 1)
    points = [axes.collections[-1].get_offsets() for axes in drawn[-1].axes]
    np.testing.assert_allclose(points[1], points[0] + 1, atol=1e-6)
    cloud = Data(x=solid, pos=solid, edge_index=ring.edge_index[:, :0])
    pictures.draw_reconstruction(tmp_path / "a.png", cloud, solid, solid)
    assert [axes.name for axes in drawn[-1].axes] == ["3d", "3d"]
    digits = load("digits")
    batch = next(iter(DataLoader([slim(digits[i]) for i in range(10)], 10)))
    pictures.draw_reconstruction(tmp_path / "a.png", batch, batch.x, 1 - batch.x)
    colours = [axes.collections[0].get_array() for axes in drawn[-1].axes]
    assert len(colours) == 16  # eight digits, above their output
    np.testing.assert_allclose(colours[3], digits[3].x[:, 0])
    np.testing.assert_allclose(colours[11], 1 - digits[3].x[:, 0])
    x = torch.randn(300, 120)
    pictures.draw_reconstruction(tmp_path / "a.png", Data(x=x), x, -x)
    images = [axes.images[0].get_array() for axes in drawn[-1].axes]
    assert images[0].shape == (200, 100)
    np.testing.assert_allclose(images[0], -images[1])


def test_curve_is_a_picture(tmp_path, monkeypatch):
    rows = [{"epoch": i, "train_loss": 1 / i, **({"val_loss": 1} if i > 1 else {})} for i in (1, 2)]
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    pictures.draw_curve(tmp_path / "a.png", rows, 2)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figures[0].axes[0].lines}
    assert lines["train_loss"] == [[1, 1], [2, 0.5]]
    assert lines["val_loss"] == [[2, 1]]
    assert lines["best epoch"][0][0] == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fit_on_a_gpu(tmp_path):
    run = fit(settings(accelerator="gpu"), tmp_path / "run")
    assert evaluate(run.folder)["mse"] == pytest.approx(run.figures["mse"], rel=1e-3)
