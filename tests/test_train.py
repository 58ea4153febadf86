from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.datasets import GraphDataset, load
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.settings import Settings
from pyg_gunet.train import TASKS, GraphModule, Task, embed, evaluate, fit, pictures, register_task
from pyg_gunet.train.autoencode import AutoEncode, kept_nodes
from pyg_gunet.train.baselines import mean_mse, pca_mse
from pyg_gunet.train.callbacks import Checkpoints
from pyg_gunet.train.tasks import EpochSampler, graph_splits, slim

SMALL = {"hidden_channels": 8, "depth": 2, "epochs": 4, "accelerator": "cpu"}
FILES = ["best.ckpt", "history.csv", "last.ckpt", "loss.png", "metrics.json", "reconstruction.png"]


def settings(**changes) -> Settings:
    return Settings(**{"dataset": "ring", **SMALL, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def equal_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module", autouse=True)
def quick_pictures():
    """Drawing takes longer than training here: the figures are made, but not rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyg_gunet.train.pictures._save", lambda figure, path: path.touch())
        yield


@pytest.fixture(scope="module")
def ring_run(tmp_path_factory):
    return fit(settings(dropout=0.1), tmp_path_factory.mktemp("runs") / "ring")


@pytest.fixture
def toy_graphs(monkeypatch):
    """A data set of many small graphs, under the name of a graph file."""
    torch.manual_seed(0)
    graphs = []
    for n in torch.randint(5, 12, (20,)).tolist():
        edges = torch.combinations(torch.arange(n)).t()[:, ::2]
        graphs.append(Data(x=torch.randn(n, 3), edge_index=torch.cat([edges, edges.flip(0)], 1)))
    dataset = GraphDataset("toy", graphs)
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)
    return dataset


# Baselines --------------------------------------------------------------------------------------


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


# Settings ---------------------------------------------------------------------------------------


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


# Fit --------------------------------------------------------------------------------------------


def test_fit_writes_its_files(ring_run):
    assert sorted(os.listdir(ring_run.folder)) == FILES
    assert sorted(path.name for path in ring_run.files) == FILES
    figures = json.loads((ring_run.folder / "metrics.json").read_text())
    assert figures == ring_run.figures
    assert figures["latent_floats"] == 16 * figures["settings"]["latent_channels"]
    rows = (ring_run.folder / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,train_loss,val_loss"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_figures_are_those_of_the_best_checkpoint(ring_run):
    """Recomputed by hand from the weights in the file."""
    data, figures = load("ring")[0], ring_run.figures
    state = weights(ring_run.folder / "best.ckpt")
    chosen = figures["settings"]
    net = GraphUNetAutoEncoder(2, 8, chosen["latent_channels"], 2, select=chosen["select"])
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    mean, scale = data.x.mean(0), (data.x - data.x.mean(0)).square().mean().sqrt()
    with torch.no_grad():
        x_hat = net.eval()((data.x - mean) / scale, data.edge_index, None, data.edge_weight)
    mse = (x_hat * scale + mean - data.x).square().mean()
    assert figures["mse"] == pytest.approx(float(mse), rel=1e-4)
    assert figures["baselines"]["predict the mean"] == pytest.approx(float(scale) ** 2, rel=1e-5)
    expected = pca_mse(data.x, data.x, figures["latent_floats"])[0]
    assert figures["baselines"]["PCA of equal latent size"] == pytest.approx(expected)


def test_evaluate_agrees_with_fit(ring_run):
    for ckpt in (ring_run.folder / "best.ckpt", ring_run.folder):
        figures = evaluate(ckpt)
        assert figures["mse"] == pytest.approx(ring_run.figures["mse"], rel=1e-6)
        assert figures["baselines"] == ring_run.figures["baselines"]


def test_training_learns(tmp_path):
    run = fit(settings(epochs=25, hidden_channels=16, lr=0.02), tmp_path / "run")
    assert run.figures["mse"] < 0.5 * run.figures["baselines"]["PCA of equal latent size"]


def test_same_seed_same_bits(tmp_path, ring_run):
    fit(settings(dropout=0.1), tmp_path / "same")
    fit(settings(dropout=0.1, seed=1), tmp_path / "other")
    assert equal_weights(tmp_path / "same" / "last.ckpt", ring_run.folder / "last.ckpt")
    assert not equal_weights(tmp_path / "other" / "last.ckpt", ring_run.folder / "last.ckpt")


def stop_after(monkeypatch, epoch: int) -> None:
    """As Ctrl-C does it: by the flag that Lightning looks at."""
    original = Checkpoints.on_train_epoch_end

    def hook(self, trainer, module):
        trainer.should_stop |= trainer.current_epoch + 1 == epoch
        original(self, trainer, module)

    monkeypatch.setattr(Checkpoints, "on_train_epoch_end", hook)


@pytest.mark.parametrize("many", [False, True])
def test_resume_equals_an_unbroken_run(tmp_path, monkeypatch, request, many):
    if many:
        request.getfixturevalue("toy_graphs")
    wanted = settings(epochs=6, dropout=0.2, batch_size=6)
    fit(wanted, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        fit(wanted, tmp_path / "broken")
    state = torch.load(tmp_path / "broken" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1
    run = fit(resume=tmp_path / "broken")
    assert run.folder == tmp_path / "broken"
    assert run.figures["epochs"] == 6
    for name in ("last.ckpt", "best.ckpt"):
        assert equal_weights(tmp_path / "whole" / name, tmp_path / "broken" / name)
    curves = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "broken")]
    assert curves[0] == curves[1]


def test_resume_goes_on_elsewhere_and_refuses_another_model(tmp_path, ring_run):
    run = fit(resume=ring_run.folder / "last.ckpt", out=tmp_path / "more", changes={"epochs": 6})
    assert run.figures["epochs"] == 6
    assert sorted(os.listdir(tmp_path / "more")) == FILES
    assert sorted(os.listdir(ring_run.folder)) == FILES
    with pytest.raises(ValueError, match="'hidden_channels' cannot change on 'resume'"):
        fit(resume=ring_run.folder, changes={"hidden_channels": 9})
    with pytest.raises(ValueError, match="'settings' must be None"):
        fit(settings(), resume=ring_run.folder)
    with pytest.raises(ValueError, match="'changes' go with 'resume'"):
        fit(settings(), changes={"epochs": 3})


def test_resume_of_a_finished_run_only_reports(tmp_path, ring_run):
    run = fit(resume=ring_run.folder, out=tmp_path / "again")
    assert run.figures["mse"] == pytest.approx(ring_run.figures["mse"])


def test_many_graphs_are_split(tmp_path, toy_graphs):
    run = fit(settings(epochs=2), tmp_path / "run")
    assert run.figures["split"].endswith("16 train, 2 validation, 2 test")
    splits = graph_splits(settings(), toy_graphs)
    parts = [loader.dataset for loader in (splits.train, splits.val, splits.test)]
    seen = sorted(float(d.x.sum()) for part in parts for d in part)
    assert seen == sorted(float(d.x.sum()) for d in toy_graphs)  # each graph in one part
    nodes = sum(d.num_nodes for d in parts[2])
    x = torch.cat([d.x for d in parts[2]])
    mean = torch.cat([d.x for d in parts[0]]).mean(0)
    assert run.figures["latent_floats_per_node"] == run.figures["latent_floats"] / nodes
    assert run.figures["baselines"]["predict the mean"] == pytest.approx(
        float((x - mean).square().mean()), rel=1e-5
    )


def test_epoch_sampler_hangs_on_seed_and_epoch():
    a, b = EpochSampler(10, 0), EpochSampler(10, 0)
    assert sorted(a) == list(range(10))
    assert list(a) == list(b)
    b.set_epoch(1)
    assert list(a) != list(b)
    assert list(a) != list(EpochSampler(10, 1))


def test_patience_stops(tmp_path):
    run = fit(settings(epochs=50, lr=1e-9, patience=3), tmp_path / "run")
    assert run.figures["epochs"] < 50


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "topk", "connect": "induced"},
        {"skip": "cat", "norm": "graph_norm"},
        {"loss_fn": "sce", "normalize": "none"},
        {"normalize": "rows", "dataset": "karate"},
        {"pool_ratios": (0.5, 7), "latent_channels": 3},
    ],
)
def test_options_train(tmp_path, changes):
    run = fit(settings(epochs=2, **changes), tmp_path / "run")
    assert np.isfinite(run.figures["mse"])
    if "latent_channels" in changes:
        assert run.figures["latent_floats"] == 7 * 3


def test_classify_on_a_planted_partition(tmp_path, monkeypatch):
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    edges = torch.randint(60, (2, 600))
    edges = edges[:, y[edges[0]] == y[edges[1]]]
    x = torch.nn.functional.one_hot(y, 3) + torch.rand(60, 3)
    data = Data(x=x, y=y, edge_index=edges)
    order = torch.randperm(60)
    for name, part in zip(("train_mask", "val_mask", "test_mask"), order.split(20)):
        data[name] = torch.zeros(60, dtype=torch.bool).index_fill(0, part, True)
    dataset = GraphDataset("planted", [data])
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda name, root: dataset)
    run = fit(settings(task="classify", epochs=25, lr=0.05, dropout=0.2), tmp_path / "run")
    assert run.figures["test_accuracy"] > 0.8
    assert 0 < run.figures["baselines"]["majority class"] < 0.6
    assert evaluate(run.folder)["test_accuracy"] == run.figures["test_accuracy"]
    with pytest.raises(ValueError, match="'classify', which has no embeddings"):
        embed(run.folder, tmp_path / "z.npz")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"dataset": "ring"}, "without y, train_mask, val_mask, test_mask"),
        ({"dataset": "karate"}, "without val_mask, test_mask"),
        ({"dataset": "karate", "latent_channels": 3}, "'latent_channels' has no meaning"),
        ({"dataset": "karate", "loss_fn": "sce"}, "'loss_fn' has no meaning"),
        ({"dataset": "karate", "skip": "none"}, "'skip' must be 'sum' or 'cat'"),
    ],
)
def test_classify_refuses_what_it_cannot_use(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        fit(settings(task="classify", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_new_task_needs_one_registration(tmp_path):
    """An extra loss term is one more entry in `terms`; curves of both are kept."""

    class Shrinking(AutoEncode):
        def terms(self, data):
            z, _ = self.encode(data)
            return {**super().terms(data), "size": 0.1 * z.square().mean()}

    base = TASKS["autoencode"]
    task = Task("shrink", Shrinking, base.channels, base.defaults, base.prepare, base.report)
    try:
        register_task(task)
        run = fit(settings(task="shrink"), tmp_path / "run")
        header = (run.folder / "history.csv").read_text().splitlines()[0]
        assert header == "epoch,train_loss,train_reconstruction,train_size,val_loss"
        with pytest.raises(ValueError, match="'task' must have a new name"):
            register_task(task)
    finally:
        del TASKS["shrink"]
    with pytest.raises(ValueError, match="'task' must be one of 'autoencode', 'classify'"):
        evaluate(run.folder)


def test_the_base_module_has_no_loss():
    with pytest.raises(NotImplementedError):
        GraphModule(settings().as_dict(), {"in_channels": 2}).terms(Data())


# The folder -------------------------------------------------------------------------------------


def test_out_is_refused_before_any_work(tmp_path, monkeypatch, ring_run):
    monkeypatch.setattr("pyg_gunet.train.run.load", lambda *a: pytest.fail("work was done"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="'out' exists .*--overwrite"):
        fit(settings(), ring_run.folder)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="it is a file"):
            fit(settings(), tmp_path / "file", overwrite=overwrite)
    with pytest.raises(NotADirectoryError, match="below a file"):
        fit(settings(), tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_overwrite_replaces_the_run_and_nothing_else(tmp_path):
    out = tmp_path / "deep" / "run"
    fit(settings(), out)
    (out / "notes.txt").write_text("mine")
    (out / "predictions.png").write_text("of another task")
    before = weights(out / "last.ckpt")
    fit(settings(seed=5), out, overwrite=True)
    assert not torch.equal(
        before["net.lin_up.weight"], weights(out / "last.ckpt")["net.lin_up.weight"]
    )
    assert sorted(os.listdir(out)) == sorted([*FILES, "notes.txt"])


@pytest.mark.parametrize("when", ["load", "step", "save"])
def test_a_failed_run_leaves_the_old_one(tmp_path, monkeypatch, when):
    out = tmp_path / "run"
    fit(settings(), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    where = {
        "load": "pyg_gunet.train.run.load",
        "step": "pyg_gunet.train.autoencode.AutoEncode.terms",
        "save": "pyg_gunet.train.callbacks.SafeCheckpointIO.save_checkpoint",
    }
    monkeypatch.setattr(where[when], fail)
    with pytest.raises(OSError, match="No space left"):
        fit(settings(seed=5), out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(OSError, match="No space left"):
        fit(settings(), tmp_path / "a" / "new")
    assert not (tmp_path / "a").exists()


# Checkpoints and embeddings ---------------------------------------------------------------------


def test_damaged_checkpoints_are_refused(tmp_path, ring_run):
    whole = (ring_run.folder / "last.ckpt").read_bytes()
    path = tmp_path / "x.ckpt"
    path.write_bytes(whole[: len(whole) // 2])
    calls = (
        lambda: evaluate(path),
        lambda: embed(path, tmp_path / "z.npz"),
        lambda: fit(resume=path, out=tmp_path / "run"),
    )
    for call in calls:
        with pytest.raises(ValueError, match="truncated"):
            call()
    for wrong in ([1], {"state_dict": {}}, {"hyper_parameters": {}, "state_dict": {}}):
        torch.save(wrong, path)
        for call in calls:
            with pytest.raises(ValueError, match="is not a checkpoint of pyg-gunet"):
                call()
    state = torch.load(ring_run.folder / "last.ckpt", weights_only=True)
    state["hyper_parameters"]["settings"]["hidden_channels"] = 10**9  # would not fit in memory
    torch.save(state, path)
    for call in calls:
        with pytest.raises(ValueError, match="does not fit its own settings"):
            call()
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_weights_without_training_state_cannot_be_resumed(tmp_path, ring_run):
    state = torch.load(ring_run.folder / "last.ckpt", weights_only=True)
    torch.save({k: state[k] for k in ("state_dict", "hyper_parameters")}, tmp_path / "w.ckpt")
    with pytest.raises(ValueError, match="holds no state of training"):
        fit(resume=tmp_path / "w.ckpt", out=tmp_path / "run")


def test_evaluate_refuses_other_features(ring_run):
    assert evaluate(ring_run.folder, dataset="grid")["nodes"] == 64
    with pytest.raises(ValueError, match="'dataset' must fit the checkpoint"):
        evaluate(ring_run.folder, dataset="karate")
    with pytest.raises(TypeError, match="must be among dataset, root"):
        evaluate(ring_run.folder, seed=3)


def test_embed(tmp_path, ring_run):
    data = load("ring")[0]
    _, module = None, AutoEncode(ring_run.figures["settings"], {"in_channels": 2})
    module.load_state_dict(weights(ring_run.folder / "best.ckpt"))
    with torch.no_grad():
        z, hierarchy = module.eval().encode(data)
    for level, rows in (("nodes", 64), ("graph", 1), ("latent", 16)):
        shapes = embed(ring_run.folder, tmp_path / f"{level}.npz", level=level)
        arrays = np.load(tmp_path / f"{level}.npz")
        assert {k: v.shape for k, v in arrays.items()} == shapes
        assert arrays["z"].shape[0] == rows
        assert not arrays["graph"].any()
    np.testing.assert_allclose(arrays["z"], z.numpy(), rtol=1e-5, atol=1e-6)
    assert arrays["node"].tolist() == kept_nodes(hierarchy).tolist()
    with pytest.raises(FileExistsError, match="'out' exists"):
        embed(ring_run.folder, tmp_path / "nodes.npz")
    embed(ring_run.folder, tmp_path / "nodes.npz", level="latent", overwrite=True)
    assert np.load(tmp_path / "nodes.npz")["z"].shape[0] == 16
    with pytest.raises(FileNotFoundError, match="folder that can be written"):
        embed(ring_run.folder, tmp_path / "nowhere" / "z.npz")
    with pytest.raises(ValueError, match="'level' must be one of"):
        embed(ring_run.folder, tmp_path / "z.npz", level="edges")


def test_embed_numbers_graphs_and_nodes_over_batches(tmp_path, toy_graphs):
    run = fit(settings(epochs=1, batch_size=6), tmp_path / "run")
    sizes = [data.num_nodes for data in toy_graphs]
    embed(run.folder, tmp_path / "n.npz")
    assert np.bincount(np.load(tmp_path / "n.npz")["graph"]).tolist() == sizes
    embed(run.folder, tmp_path / "l.npz", level="latent")
    latent = np.load(tmp_path / "l.npz")
    graph_of_node = np.repeat(np.arange(20), sizes)
    assert (graph_of_node[latent["node"]] == latent["graph"]).all()
    embed(run.folder, tmp_path / "g.npz", level="graph")
    graph = np.load(tmp_path / "g.npz")
    assert graph["graph"].tolist() == list(range(20))
    first = latent["z"][latent["graph"] == 7].mean(0)
    np.testing.assert_allclose(graph["z"][7], first, rtol=1e-4, atol=1e-6)


# Pictures ---------------------------------------------------------------------------------------


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
