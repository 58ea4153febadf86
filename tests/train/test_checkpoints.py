"""Resume, folders, checkpoints and embeddings."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from pyg_gunet.data import load
from pyg_gunet.train import AutoEncode, embed, evaluate, fit, load_run, predict
from pyg_gunet.train.autoencode import kept_nodes
from pyg_gunet.train.callbacks import Interrupt
from tests.train.conftest import FILES, equal_weights, train, weights


def stop_after(monkeypatch, epoch: int) -> None:
    """As Ctrl-C does it: by the flag that Lightning looks at."""

    def hook(self, trainer, module):
        if trainer.current_epoch + 1 == epoch:
            self.signal = 2
            trainer.should_stop = True

    monkeypatch.setattr(Interrupt, "on_train_epoch_end", hook)


@pytest.mark.parametrize("many", [False, True])
def test_resume_equals_an_unbroken_run(tmp_path, monkeypatch, request, many):
    dataset = "TU/toy" if many else "ring"
    if many:
        request.getfixturevalue("toy_graphs")
    wanted = {"epochs": 6, "dropout": 0.2, "batch_size": 6}
    train(tmp_path / "whole", dataset, **wanted)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run = train(tmp_path / "broken", dataset, **wanted)
    assert run.signal == 2
    assert run.files == [tmp_path / "broken" / "last.ckpt"]
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
    run = fit(resume=ring_run.folder / "last.ckpt", out=tmp_path / "more", epochs=6)
    assert run.figures["epochs"] == 6
    assert sorted(os.listdir(tmp_path / "more")) == FILES
    assert sorted(os.listdir(ring_run.folder)) == FILES
    with pytest.raises(ValueError, match="'hidden_channels' cannot change on 'resume'"):
        fit(resume=ring_run.folder, hidden_channels=9)
    with pytest.raises(ValueError, match="'seed' cannot change on 'resume'"):
        fit(resume=ring_run.folder, seed=9)


def test_the_best_of_a_run_that_moved_is_not_lost(tmp_path, ring_run):
    """A worse epoch in the new folder must not take the name of a better one in the old."""
    before = weights(ring_run.folder / "best.ckpt")
    state = torch.load(ring_run.folder / "last.ckpt", weights_only=True)
    key = next(key for key in state["callbacks"] if key.startswith("Best"))
    scores = state["callbacks"][key]["best_k_models"]
    scores.update({path: torch.tensor(-1.0) for path in scores})  # no epoch will beat it
    (tmp_path / "old").mkdir()
    torch.save(state, tmp_path / "old" / "last.ckpt")
    (tmp_path / "old" / "best.ckpt").write_bytes((ring_run.folder / "best.ckpt").read_bytes())
    fit(resume=tmp_path / "old", out=tmp_path / "new", epochs=8)
    after = weights(tmp_path / "new" / "best.ckpt")
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_resume_of_a_finished_run_only_reports(tmp_path, ring_run):
    run = fit(resume=ring_run.folder, out=tmp_path / "again")
    assert run.figures["mse"] == pytest.approx(ring_run.figures["mse"])


def test_out_is_refused_before_any_work(tmp_path, monkeypatch, ring_run):
    monkeypatch.setattr("pyg_gunet.load", lambda *a: pytest.fail("work was done"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="'out' exists .*--overwrite"):
        train(ring_run.folder)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="it is a file"):
            train(tmp_path / "file", overwrite=overwrite)
    with pytest.raises(NotADirectoryError, match="below a file"):
        train(tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_overwrite_replaces_the_run_and_nothing_else(tmp_path):
    out = tmp_path / "deep" / "run"
    train(out)
    (out / "notes.txt").write_text("mine")
    (out / "predictions.png").write_text("of another task")
    before = weights(out / "last.ckpt")
    train(out, seed=5, overwrite=True)
    assert not torch.equal(
        before["net.lin_up.weight"], weights(out / "last.ckpt")["net.lin_up.weight"]
    )
    assert sorted(os.listdir(out)) == sorted([*FILES, "notes.txt"])


@pytest.mark.parametrize("when", ["load", "step", "save"])
def test_a_failed_run_leaves_the_old_one(tmp_path, monkeypatch, when):
    out = tmp_path / "run"
    train(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    where = {
        "load": "pyg_gunet.load",
        "step": "pyg_gunet.train.autoencode.AutoEncode.terms",
        "save": "pyg_gunet.train.callbacks.SafeCheckpointIO.save_checkpoint",
    }
    monkeypatch.setattr(where[when], fail)
    with pytest.raises(OSError, match="No space left"):
        train(out, seed=5, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path / "a" / "new")
    assert not (tmp_path / "a").exists()


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
    for wrong in (
        [1],
        {"state_dict": {}},
        {"hyper_parameters": {}, "state_dict": {}, "run": {"config": {"task": 3}}},
    ):
        torch.save(wrong, path)
        for call in calls:
            with pytest.raises(ValueError, match="is not a checkpoint of pyg-gunet"):
                call()
    state = torch.load(ring_run.folder / "last.ckpt", weights_only=True)
    state["hyper_parameters"]["hidden_channels"] = 10**9  # would not fit in memory
    torch.save(state, path)
    for call in calls:
        with pytest.raises(ValueError, match="does not fit its own settings|'hidden_channels'"):
            call()
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_weights_without_training_state_cannot_be_resumed(tmp_path, ring_run):
    state = torch.load(ring_run.folder / "last.ckpt", weights_only=True)
    torch.save(
        {k: state[k] for k in ("state_dict", "hyper_parameters", "run")}, tmp_path / "w.ckpt"
    )
    with pytest.raises(ValueError, match="holds no state of training"):
        fit(resume=tmp_path / "w.ckpt", out=tmp_path / "run")


def test_test_refuses_other_features(ring_run):
    assert evaluate(ring_run.folder, dataset="grid")["nodes"] == 64
    with pytest.raises(ValueError, match="'dataset' must fit the checkpoint"):
        evaluate(ring_run.folder, dataset="karate")
    with pytest.raises(TypeError, match="'changes' must be among .*'dataset'.*'seeds'"):
        evaluate(ring_run.folder, seeds=3)


def test_embed(tmp_path, ring_run):
    data = load("ring")[0]
    module = AutoEncode(2, **ring_run.figures["settings"]["model"])
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
    assert arrays["node"].tolist() == kept_nodes(hierarchy, 2).tolist()
    with pytest.raises(FileExistsError, match="'out' exists"):
        embed(ring_run.folder, tmp_path / "nodes.npz")
    embed(ring_run.folder, tmp_path / "nodes.npz", level="latent", overwrite=True)
    assert np.load(tmp_path / "nodes.npz")["z"].shape[0] == 16
    with pytest.raises(FileNotFoundError, match="folder that can be written"):
        embed(ring_run.folder, tmp_path / "nowhere" / "z.npz")
    with pytest.raises(ValueError, match="'level' must be one of"):
        embed(ring_run.folder, tmp_path / "z.npz", level="edges")


def test_embed_numbers_graphs_and_nodes_over_batches(tmp_path, toy_graphs):
    run = train(tmp_path / "run", "TU/toy", epochs=1, batch_size=6)
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


def test_classes_of_another_file_are_those_of_the_checkpoint(tmp_path):
    nx = pytest.importorskip("networkx", reason="needs networkx")

    def write(name, classes, key="mass", labelled=True):
        graph = nx.cycle_graph(30)
        for i in graph:
            graph.nodes[i].update({"age": i % 2, key: float(ord(classes[i % len(classes)]))})
            graph.nodes[i].update({"class": classes[i % len(classes)]} if labelled else {})
        nx.write_graphml(graph, tmp_path / name)
        return str(tmp_path / name)

    run = train(tmp_path / "run", write("a.graphml", "abc"), "classify", epochs=60, depth=1)
    other = write("b.graphml", "bc")
    found = evaluate(run.folder, dataset=other)
    module, data = load_run(run.folder, dataset=other)
    assert data.graphs[0].y.tolist() == [1, 2] * 15
    right = module.predict(data.graphs[0])["label"] == data.graphs[0].y
    assert found["test_accuracy"] == pytest.approx(right.double().mean().item())
    nameless = write("c.graphml", "bc", labelled=False)
    shapes = predict(run.folder, tmp_path / "c.csv", dataset=nameless)
    assert [*shapes][2:] == ["label", "probability_a", "probability_b", "probability_c"]
    labels = [line.split(",")[2] for line in (tmp_path / "c.csv").read_text().splitlines()[1:]]
    assert labels == ["abc"[i] for i in module.predict(data.graphs[0])["label"].tolist()]
    with pytest.raises(ValueError, match="class names .*'a', 'b', 'c' .got 'd'"):
        evaluate(run.folder, dataset=write("d.graphml", "bd"))
    with pytest.raises(ValueError, match="feature names .*'age', 'mass' .got 'size'"):
        predict(run.folder, tmp_path / "e.csv", dataset=write("e.graphml", "bc", key="size"))
