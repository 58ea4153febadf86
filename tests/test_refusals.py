"""Refusals that no other test comes upon: each names the argument, and what was wrong with it."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyg_gunet import GraphUNet, GraphUNetAutoEncoder, ToSuperpixels, load, to_label_image
from pyg_gunet.critic import KLCritic, dv_loss, fit_critic, pair_readout
from pyg_gunet.critic.pairs import PairScores
from pyg_gunet.data import read_images, split_indices
from pyg_gunet.data.ogb import _split
from pyg_gunet.files import check_path, read_torch, reading
from pyg_gunet.functional.segmentation import part_iou
from pyg_gunet.train.callbacks import Interrupt
from pyg_gunet.transforms import ToGrid

NODES = torch.zeros(2, dtype=torch.long)
ONE, TWO, THREE = torch.zeros(1), torch.zeros(2), torch.zeros(3)
EDGES = torch.tensor([[0, 1], [1, 0]])
PAIRS = PairScores(TWO, torch.zeros(2, 2), torch.ones(2, 2), torch.arange(2), torch.ones(2))


def from_another_image() -> None:
    data = ToGrid()(torch.rand(1, 2, 3))
    data.image_size = torch.tensor([[3, 3]])
    to_label_image(torch.arange(6), data)


CALLS = {
    "shares": (lambda: split_indices(9, shares=(0.5,)), TypeError, r"'shares'.*\(0\.5,\)"),
    "path": (lambda: check_path("", "out"), ValueError, "'out' must name a file"),
    "null byte": (lambda: check_path("a\0b", "out"), ValueError, r"'out'.*a\\x00b"),
    "log_mean": (lambda: dv_loss(TWO, TWO, log_mean=TWO), ValueError, r"'log_mean'.*\[2\]"),
    "no pairs": (lambda: pair_readout(3, "dv"), TypeError, "'pairs'.*int"),
    "mask": (lambda: pair_readout(PAIRS, "dv"), TypeError, "'mask' must be boolean.*float32"),
    "parts": (
        lambda: part_iou(NODES, NODES, NODES, torch.zeros(1).long(), [1]),
        TypeError,
        "'parts' must hold sequences of int.*1",
    ),
    "edge_decoder": (
        lambda: GraphUNetAutoEncoder(3, 4, edge_decoder=3),
        TypeError,
        "'edge_decoder'.*3",
    ),
    "conv": (
        lambda: GraphUNet(3, 4, 2, 1, conv=lambda channels: None),
        TypeError,
        r"'conv' must take \(in_channels, out_channels\)",
    ),
    "sample of one row": (
        lambda: fit_critic(KLCritic(1, 4), (ONE[None], ONE[None]), 1),
        ValueError,
        r"'sample' must hold two rows.*\[1, 1\]",
    ),
    "val": (
        lambda: fit_critic(KLCritic(1, 4), (torch.zeros(4, 1), torch.ones(4, 1)), 1, val=[]),
        TypeError,
        r"'val'.*\[\]",
    ),
    "slic": (lambda: ToSuperpixels(9, sharpness=1), TypeError, "'sharpness'.*slic"),
    "another image": (from_another_image, ValueError, "'label' must have 9 rows.*6"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()


# Files --------------------------------------------------------------------------------------------


def test_a_disk_that_fails_while_reading(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    (tmp_path / "a.pt").write_bytes(b"x")
    monkeypatch.setattr("pyg_gunet.files.zipfile.ZipFile", fail)
    with pytest.raises(ValueError, match="'ckpt' cannot be read: Input/output error"):
        read_torch(tmp_path / "a.pt", "ckpt")


def test_an_integer_beyond_every_float(tmp_path):
    import networkx as nx

    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, 10**400, "height")
    nx.write_graphml(graph, tmp_path / "a.graphml")
    with pytest.raises(ValueError, match="'height' of .* must be finite"):
        load(tmp_path / "a.graphml")


def test_no_image_and_several_in_one_file(tmp_path):
    from skimage import io

    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    with pytest.raises(FileNotFoundError, match="images' holds no image"):
        read_images(tmp_path)
    stack = np.zeros((2, 6, 5, 3), dtype=np.uint8)
    io.imsave(tmp_path / "images" / "a.tif", stack, check_contrast=False)
    io.imsave(tmp_path / "masks" / "a.png", stack[0, :, :, 0], check_contrast=False)
    with pytest.raises(ValueError, match=r"a.tif' must be one image .*\[2, 6, 5, 3\]"):
        read_images(tmp_path)


def test_without_ogb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred.dataset_pyg", None)
    with pytest.raises(ImportError, match="'name' 'ogbn-arxiv' needs the package ogb"):
        load("ogbn-arxiv", tmp_path)


def test_a_split_that_cannot_be_read(tmp_path):
    def fail():
        raise EOFError("compressed file ended")

    (tmp_path / "split_dict.pt").touch()
    with pytest.raises(ValueError, match="cannot read the split in .*compressed file ended"):
        _split(SimpleNamespace(get_idx_split=fail), tmp_path)


def test_a_folder_that_pyg_cannot_write_to(tmp_path):
    with pytest.raises(PermissionError, match="'root' must be writable"), reading(tmp_path, ()):
        raise PermissionError(13, "Permission denied")


# Runs ---------------------------------------------------------------------------------------------


class Endless(torch.nn.Module):
    """What `fit_critic` asks of a critic, with a loss that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, *batch):
        return self.weight.sum() + torch.inf

    def prepare(self, batches):
        pass

    split = minibatch = prepare


def test_a_held_out_loss_that_is_infinite_from_the_start():
    with pytest.raises(ValueError, match="'val' must give a finite loss at the start .*inf"):
        fit_critic(Endless(), lambda: (ONE, ONE), 1)


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
