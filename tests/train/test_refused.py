"""What the training room refuses that its other tests do not come upon, each by name."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule
from torch_geometric.data import Data

from pyg_gunet import cli
from pyg_gunet.train import OneGraph, embed, evaluate, fit, load_run, predict
from pyg_gunet.train.callbacks import Interrupt
from pyg_gunet.train.launch import run_trainer
from pyg_gunet.train.restore import load_weights
from pyg_gunet.train.segment import Segment
from tests.train.conftest import SMALL, make_graphs, planted, train


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"patience": 1.5}, TypeError, r"'patience' must be an int \(got 1\.5\)"),
        ({"seed": None}, TypeError, r"'seed' must be an int \(got None\)"),
        ({"epochs": 2**31}, ValueError, "'epochs' must be at least 1 and an int32"),
        ({"patience": 2**31}, ValueError, "'patience' must be at least 0 and an int32"),
    ],
)
def test_numbers_of_a_run(tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        fit("ring", out=tmp_path / "run", **{**SMALL, **options})
    assert not (tmp_path / "run").exists()


def test_data_modules():
    with pytest.raises(TypeError, match=r"'options' must be a dict \(got 3\)"):
        OneGraph("ring", options=3)
    with pytest.raises(ValueError, match=r"'dataset' must be one graph \(got 20\)"):
        OneGraph(make_graphs()).setup()
    for graphs in ([], [Data(x=torch.rand(3, 2))]):
        with pytest.raises(ValueError, match="'dataset' must hold graphs with edges"):
            OneGraph(graphs).setup()


def test_embeddings_that_a_task_has_not(tmp_path):
    run = train(tmp_path / "masked", planted(), "masked", depth=1)
    model, data = load_run(run.folder, dataset=[planted()])
    data.setup()
    with pytest.raises(ValueError, match="'level' must be nodes or graph"):
        model.embed(data.whole, "latent")
    graphs = make_graphs()
    labelled = list(graphs)
    for i, graph in enumerate(labelled):
        graph.y = torch.tensor([i % 2])
    run = train(tmp_path / "graphs", labelled, "classify_graphs", depth=1)
    with pytest.raises(ValueError, match="'level' must be graph for the task classify_graphs"):
        embed(run.folder, tmp_path / "z.npz", level="nodes", dataset=labelled)
    # It was trained on an object, which no checkpoint holds.
    with pytest.raises(ValueError, match="'dataset' must be given"):
        evaluate(run.folder)


def test_out_that_is_a_folder(tmp_path, ring_run):
    with pytest.raises(FileExistsError, match="'out' is a folder"):
        embed(ring_run.folder, tmp_path)


class Own(LightningModule):
    """A module that is none of the package's."""

    def __init__(self, in_channels: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lin = torch.nn.Linear(in_channels, 1)

    def training_step(self, data, index):
        return self.lin(data.x).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_predictions_of_a_module_of_ones_own(tmp_path):
    run = fit("ring", Own(), tmp_path / "own", epochs=2, accelerator="cpu")
    with pytest.raises(ValueError, match=r"'ckpt' must be of a GraphModule \(got a Own\)"):
        predict(run.folder / "last.ckpt", tmp_path / "p.csv")


def test_weights_of_another_kind():
    held = {"state_dict": {"weight": 3, "bias": torch.zeros(1)}}
    with pytest.raises(ValueError, match="'resume' does not fit the model: "):
        load_weights(torch.nn.Linear(2, 2), held, "resume")


@pytest.mark.parametrize("number", [2, 0])
def test_lightnings_exit_after_a_signal(number):
    """It goes on as the KeyboardInterrupt that it was, so that the command answers 130."""

    def leave(*args, **kwargs):
        raise SystemExit(1)

    with pytest.raises(KeyboardInterrupt if number else SystemExit):
        run_trainer(
            SimpleNamespace(fit=leave), None, None, "run", None, SimpleNamespace(signal=number)
        )


def test_places_that_are_not_there():
    with pytest.raises(ValueError, match="'positions' need 'pos'"):
        Segment(3, 2, 0, positions=True)


def test_a_stray_word_on_resume(ring_run, capsys):
    assert cli.main(["fit", "--resume", str(ring_run.folder), "--quiet", "stray"]) == 2
    assert "stray" in capsys.readouterr().err


def test_the_second_ctrl_c_is_immediate():
    trainer = SimpleNamespace(world_size=1, should_stop=False)
    before, interrupt = signal.getsignal(signal.SIGINT), Interrupt()
    interrupt.on_train_start(trainer, None)
    try:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.signal == signal.SIGINT
        assert trainer.should_stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        interrupt.on_train_end()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_data_set_that_is_none():
    with pytest.raises(TypeError, match="'dataset'.*3"):
        fit(3)


@pytest.mark.parametrize(
    "text, told", [("[gloo] closed", "resume 'run' .*closed"), ("mine", "^mine")]
)
def test_the_end_of_another_process_is_told(monkeypatch, text, told):
    def end(*args, **kwargs):
        raise RuntimeError(text)

    monkeypatch.setattr("pyg_gunet.train.launch._group_size", lambda: 2)
    with pytest.raises(RuntimeError, match=told):
        run_trainer(SimpleNamespace(fit=end), None, None, "run", None, SimpleNamespace(signal=0))
