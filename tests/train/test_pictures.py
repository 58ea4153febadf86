"""Baselines and pictures."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.data import load
from pyg_gunet.functional.spread import spread
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.train import evaluate, pictures
from pyg_gunet.train.baselines import interpolation_mse, mean_mse, pca_mse
from pyg_gunet.train.data import slim
from tests.train.conftest import train


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


def test_interpolation_solves_the_system_and_keeps_constants():
    """Against a dense solution, on a batch with a component of which no node is kept."""
    torch.manual_seed(0)
    edges = torch.combinations(torch.arange(12)).t()
    edges = edges[:, torch.rand(edges.size(1)) < 0.3]
    data = Data(edge_index=torch.cat([edges, edges.flip(0)], 1), num_nodes=12)
    x = torch.randn(12, 2)
    found = interpolation_mse(data, x, 8)
    kept = spread(torch.zeros(12), data.edge_index, 4)
    weight = torch.zeros(12, 12, dtype=torch.double)
    weight[data.edge_index[0], data.edge_index[1]] = 1
    laplacian = weight.sum(1).diag() - weight
    free = torch.tensor([i for i in range(12) if i not in kept.tolist()])
    for name, matrix in (("harmonic", laplacian), ("biharmonic", laplacian @ laplacian)):
        guess = x.double().clone()
        right = -matrix[free][:, kept] @ x[kept].double()
        guess[free] = torch.linalg.solve(matrix[free][:, free], right)
        expected = float((guess - x).square().mean())
        assert found[f"{name} interpolation"] == pytest.approx(expected, rel=1e-6)
    assert max(interpolation_mse(data, torch.ones(12, 2), 8).values()) < 1e-20
    data.edge_weight = -torch.ones(data.num_edges)
    assert interpolation_mse(data, x, 8) == {}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    return figures


def test_reconstruction_shows_input_output_and_error(tmp_path, drawn):
    ring, solid = load("ring")[0], torch.rand(9, 3)
    pictures.reconstruction(tmp_path, ring, ring.x, ring.x + 1)
    axes = drawn[-1].axes
    assert [one.get_title() for one in axes[:3]] == ["input", "reconstruction", "error"]
    points = [one.collections[-1].get_offsets() for one in axes[:2]]
    np.testing.assert_allclose(points[1], points[0] + 1, atol=1e-6)
    np.testing.assert_allclose(axes[2].collections[-1].get_array(), 2**0.5, rtol=1e-6)
    assert "units" in axes[3].get_ylabel()
    cloud = Data(x=solid, pos=solid, edge_index=ring.edge_index[:, :0])
    pictures.reconstruction(tmp_path, cloud, solid, solid)
    assert not np.asarray(drawn[-1].axes[2].collections[-1].get_array()).any()
    digits = load("digits")
    batch = next(iter(DataLoader([slim(digits[i]) for i in range(10)], 10)))
    pictures.reconstruction(tmp_path, batch, batch.x, 1 - batch.x)
    colours = [one.collections[0].get_array() for one in drawn[-1].axes[:24]]
    np.testing.assert_allclose(np.sort(colours[3]), digits[3].x[:, 0].sort().values)
    np.testing.assert_allclose(np.sort(colours[11]), (1 - digits[3].x[:, 0]).sort().values)
    x = torch.randn(300, 120)
    pictures.reconstruction(tmp_path, Data(x=x), x, -x)
    images = [one.images[0].get_array() for one in drawn[-1].axes[:3]]
    assert images[0].shape == (200, 100)
    np.testing.assert_allclose(images[0], -images[1])
    np.testing.assert_allclose(images[2], 2 * np.abs(images[0]))


def test_levels_show_the_kept_nodes(tmp_path, drawn):
    data = load("ring")[0]
    hierarchy = GraphUNetAutoEncoder(2, 4, depth=2).prepare(data.edge_index, num_nodes=64)
    assert isinstance(hierarchy, Hierarchy)
    pictures.levels(tmp_path, data, hierarchy)
    counts = [len(one.collections[1].get_offsets()) for one in drawn[-1].axes]
    assert counts == [64, 32, 16]
    shown = drawn[-1].axes[2].collections[1].get_offsets()
    expected = data.pos[hierarchy.perms[0][hierarchy.perms[1]]]
    np.testing.assert_allclose(np.sort(shown, 0), expected.sort(0).values, atol=1e-6)
    assert pictures.levels(tmp_path, Data(x=data.x), hierarchy) == []


def test_curve_has_losses_and_scores_on_axes_of_their_own(tmp_path, drawn):
    rows = [{"epoch": i, "train_loss": 1 / i, **({"val_loss": 1} if i > 1 else {})} for i in (1, 2)]
    rows[1]["val_accuracy"] = 0.5
    pictures.curve(tmp_path, rows, 2)
    losses, scores = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert lines["train loss"] == [[1, 1], [2, 0.5]]
    assert lines["validation loss"] == [[2, 1]]
    assert lines["best: 2"][0][0] == 2
    assert [line.get_label() for line in scores.lines] == ["validation accuracy", "best: 2"]
    assert [one.get_xlabel() for one in (losses, scores)] == ["epoch", "epoch"]
    assert losses.get_ylabel() == "loss"
    assert all(float(tick).is_integer() for tick in losses.get_xticks())


def test_confusion_counts_pairs(tmp_path, drawn):
    target, found = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 0])
    pictures.confusion(tmp_path, target, found, ["a", "b", "c"])
    axes = drawn[0].axes[0]
    share = [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), share, rtol=1e-6)
    assert [text.get_text() for text in axes.texts][:2] == ["2", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_tiles_share_one_contrast(tmp_path, drawn):
    y = torch.zeros(4, dtype=torch.long)
    tiles = [Data(x=torch.full((4, 1), v), pos=torch.rand(4, 2), y=y) for v in (0.0, 1.0)]
    pictures.segmentation(tmp_path, [(tile, y) for tile in tiles], 2)
    shades = [drawn[0].axes[i].collections[0].get_array() for i in (0, 1)]
    assert (shades[0].max(), shades[1].min()) == (0.0, 1.0)


def test_a_long_run_shows_a_picture_early_and_the_outcome_is_the_same(
    tmp_path, monkeypatch, capsys
):
    from pyg_gunet.train import OneGraph, config, run
    from pyg_gunet.train.callbacks import FirstPicture

    monkeypatch.setattr(FirstPicture, "after", 0.0)
    settings = {"task": "autoencode", "datamodule": "OneGraph", "model": {"dropout": 0.2}}
    settings |= {"data": {"dataset": "ring"}, "trainer": {"max_epochs": 3, "accelerator": "cpu"}}
    for name in ("a", "b"):
        data = OneGraph("ring")
        run.train(config.merged(settings), data, out=tmp_path / name, verbose=name == "a")
    assert capsys.readouterr().err.count("first picture: ") == 2  # once: input and levels
    states = [torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("a", "b")]
    left, right = (state["state_dict"] for state in states)
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_report_holds_all_of_a_run(tmp_path):
    run = train(tmp_path / "run", epochs=1)
    page = (run.folder / "report.html").read_text()
    for path in run.files:
        if path.suffix == ".png":
            held = base64.b64encode(path.read_bytes()).decode()
            assert page.count(f"data:image/png;base64,{held}") == 1
    assert page.count("data:image/png;base64,") == 3
    assert 'src="http' not in page
    for text in ("ring: autoencode", "biharmonic interpolation", "model.hidden_channels", "epochs"):
        assert text in page


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fit_on_cuda(tmp_path):
    run = train(tmp_path / "run", accelerator="gpu")
    assert evaluate(run.folder)["mse"] == pytest.approx(run.figures["mse"], rel=1e-3)
