"""What a run is by default: by the task, by the data, and under what a user asks for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.nn.recipes import NoLevels
from pyg_gunet.train import Classify, evaluate, fit, load_run
from pyg_gunet.train.config import adapted, defaults
from tests.train.conftest import equal_weights, planted, train


def test_scaled_features_are_never_stale(tmp_path):
    data = planted()
    module = load_run(fit(data, "classify", tmp_path / "run", epochs=1).folder, dataset=data)[0]
    data.whole = True
    first = module.scaled(data)
    assert module.scaled(data) is first
    assert copy.deepcopy(module)._seen is None
    for change in (
        lambda: data.x.mul_(2),
        lambda: module.mean.add_(1),
        lambda: setattr(module, "mean", module.mean + 1),
        lambda: module.load_state_dict({**module.state_dict(), "mean": first[0] * 0}, assign=True),
        lambda: module.scaled(data).zero_(),
        lambda: setattr(data, "x", data.x.long()),
    ):
        change()
        torch.testing.assert_close(module.scaled(data), (data.x - module.mean) / module.scale)
    module.normalize = "none"
    assert torch.equal(module.scaled(data), data.x.float())


def test_few_labels_need_no_levels(tmp_path):
    """By default; a setting of levels, or another net, brings the settings of levels."""
    data = planted()
    data.train_mask[data.train_mask.nonzero()[9:]] = False
    run = fit(data, "classify", tmp_path / "run", epochs=200)
    assert run.figures["settings"]["model"]["normalize"] == "center"  # these are no words
    own = load_run(run.folder, dataset=data)[0]
    assert isinstance(own.net.net, NoLevels)
    assert run.figures["settings"]["patience"] == 200
    assert run.figures["test_accuracy"] > 0.9
    words = data.clone()
    words.x = words.x * (words.x > 1)
    with pytest.warns(UserWarning, match="'check_val_every_n_epoch' is 2 of 1 epochs"):
        run = fit(words, "classify", tmp_path / "words", epochs=1)
    assert run.figures["settings"]["model"]["normalize"] == "rows"
    assert (run.folder / "best.ckpt").exists()  # a short run is read, too
    words.x = torch.cat([words.x, torch.full((60, 1), 50.0)], dim=1)  # one is no word
    run = fit(words, "classify", tmp_path / "column", epochs=2)
    assert run.figures["settings"]["model"]["normalize"] == "center"
    for i, (more, kind) in enumerate(
        [({"depth": 1}, "mixed"), ({"net": "plain"}, "plain"), ({"net": "official"}, "official")]
    ):
        other = fit(data, "classify", tmp_path / f"run{i}", epochs=2, **more)
        settings = other.figures["settings"]
        assert (settings["model"]["net"], settings["model"]["normalize"]) == (kind, "center")
        assert (settings["model"]["depth"], settings["patience"]) == (1, 50)
    for none in (None, "none"):  # no convolution of one's own asks for no levels
        own = fit(data, "classify", tmp_path / f"conv{none}", epochs=1, conv=none)
        assert own.figures["settings"]["model"]["depth"] == 0


@pytest.mark.parametrize(
    "options, match",
    [
        ({"depth": 0, "connect": "walk"}, "'connect' goes with levels"),
        ({"depth": 0, "skip": "none"}, "'skip' goes with a 'depth' of at least 1"),
        ({"depth": 0, "pool_ratios": 0.3}, "'pool_ratios' goes with a 'depth' of at least 1"),
        ({"depth": 0, "quantiles": 1}, "'quantiles' goes with a 'depth' of at least 1"),
        ({"depth": 0, "net": "plain"}, "'depth' must be at least 1"),
        ({"net": "official", "skip": "cat"}, "'skip' goes with net='plain' and 'mixed'"),
        ({"net": "plain", "channel_dropout": 0.5}, "'channel_dropout' goes with net='mixed'"),
        ({"mix": -1}, "'mix' must be at least 0"),
    ],
)
def test_a_setting_that_comes_into_nothing_is_refused_by_its_name(tmp_path, options, match):
    data = planted()
    data.train_mask[data.train_mask.nonzero()[9:]] = False
    with pytest.raises(ValueError, match=match):
        fit(data, "classify", tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()


def pictures(pos: Tensor) -> list[Data]:
    edges = torch.randint(len(pos), (2, 60), generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    return [
        Data(x=torch.rand(len(pos), 2, generator=draw), edge_index=edges, pos=pos,
             y=torch.randint(3, (len(pos),), generator=draw))
        for _ in range(5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "connect, conv",
    [(None, "DirectionConv"), ("induced", "DirectionConv"), ("two_hop", "SAGE"), ("walk", None)],
)
def test_a_convolution_does_not_outlive_a_word_that_it_does_not_go_with(tmp_path, connect, conv):
    """And places may be of any precision."""
    options = {} if connect is None else {"connect": connect}
    graphs = pictures(torch.rand(20, 2, dtype=torch.float64))
    run = fit(graphs, "segment", tmp_path / "run", epochs=1, accelerator="cpu", **options)
    found = run.figures["settings"]["model"].get("conv")
    assert found is None if conv is None else conv in found


@pytest.mark.parametrize("pos", [torch.arange(20.0), torch.rand(20, 1), torch.arange(20)])
def test_places_on_a_line(tmp_path, pos):
    run = fit(pictures(pos), "segment", tmp_path / "run", epochs=1, accelerator="cpu")
    assert run.figures["settings"]["model"]["positions"] is True
    assert (run.folder / "predictions.png").exists()


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_features_are_those_that_they_stand_for(tmp_path, layout):
    whole, sparse = planted(), planted()
    sparse.x = sparse.x.to_sparse(layout=layout)
    runs = [train(tmp_path / f"{i}", d, "classify") for i, d in enumerate((whole, sparse))]
    assert equal_weights(*(run.folder / "last.ckpt" for run in runs))


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
@pytest.mark.parametrize("task", ["classify", "autoencode"])
def test_features_follow_the_precision_of_the_network(tmp_path, task, precision):
    data = planted()
    data.x = data.x.double()
    run = train(tmp_path / "run", data, task, precision=precision)
    assert (run.folder / "report.html").exists()
    again = evaluate(run.folder, dataset=data)
    assert all(again[key] == run.figures[key] for key in again if key.startswith("val_acc"))


def test_a_module_of_ones_own_sizes(tmp_path):
    run = fit(planted(), Classify(3, 3, depth=1), tmp_path / "run", epochs=1, accelerator="cpu")
    assert run.figures["settings"]["model"]["in_channels"] == 3


@pytest.mark.parametrize("net, depth", [("mixed", 0), ("official", 1)])
def test_settings_that_older_runs_have_stored_go_on(net, depth):
    """They name what came into nothing, as it was by default."""
    model = Classify(3, 3, net=net, depth=depth, skip="sum", pool_ratios=0.5)
    assert model.hparams["skip"] == "sum"


def test_no_levels_leave_none_of_their_settings_behind():
    for kind in ("classify", "classify_levels", "classify_many"):
        left = adapted(defaults(kind), {"depth": 0, "net": "mixed"})["model"]
        assert not {"skip", "pool_ratios", "quantiles", "select", "connect", "norm"} & set(left)


def test_some_graphs_without_labels(tmp_path):
    graphs = [planted() for _ in range(6)]
    del graphs[-1].y
    with pytest.raises(ValueError, match="graph 5 of 'dataset' must have .*'y'"):
        train(tmp_path / "run", graphs, "autoencode", epochs=1)
