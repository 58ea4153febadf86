"""What reading refuses: the argument, or the file and what is wrong with it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pyg_gunet import load
from pyg_gunet.data import read_images, split_indices
from pyg_gunet.data.ogb import _split
from pyg_gunet.files import read_torch, reading


def test_shares_that_are_no_split():
    with pytest.raises(TypeError, match=r"'shares'.*\(0\.5,\)"):
        split_indices(9, shares=(0.5,))


def test_a_border_without_width():
    with pytest.raises(ValueError, match=r"'sigma'.*0\.0"):
        read_images("none", sigma=0.0)


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
