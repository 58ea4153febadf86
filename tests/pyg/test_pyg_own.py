"""PyG's own tests of TopKPooling and GraphUNet, with our classes in their place.

They are not part of this package: PYG_TESTS names a checkout of PyG, or a folder that holds its
``test/nn/pool/test_topk_pool.py`` and ``test/nn/models/test_graph_unet.py``, and its examples named
below. Where ours differ on purpose, the tests at the end say so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch_geometric.nn
import torch_geometric.nn.pool
from torch_geometric import nn as pyg

import pyg_gunet

FILES = {
    "test/nn/pool/test_topk_pool.py": ("TopKPooling", pyg_gunet.GPool),
    "test/nn/models/test_graph_unet.py": ("GraphUNet", pyg_gunet.GraphUNet),
}


def pyg_test(path: str) -> str:
    root = os.environ.get("PYG_TESTS")
    if not root:
        pytest.skip("PYG_TESTS is not set: PyG's own tests are not here")
    for file in (Path(root) / path, Path(root) / Path(path).name):
        if file.is_file():
            return file.read_text()
    raise FileNotFoundError(f"PYG_TESTS has no {path}")


@pytest.mark.parametrize("path", FILES)
def test_pygs_own_tests_pass(path, monkeypatch):
    """All test functions of the file. Names are those of PyG's classes, and so is the `repr`."""
    source = pyg_test(path)
    name, ours = FILES[path]
    renamed = type(name, (ours,), {})  # a class of that name: tests compare its `repr`
    for module in (torch_geometric.nn, torch_geometric.nn.pool):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, renamed)
    module = ModuleType("pygs_own_test")
    exec(compile(source, path, "exec"), module.__dict__)
    assert getattr(module, name) is renamed  # the file tests ours
    tests = [key for key in vars(module) if key.startswith("test_")]
    assert len(tests) == len(re.findall(r"^def test_", source, re.M)) > 0
    for key in tests:
        torch.manual_seed(12345)
        getattr(module, key)()


@pytest.mark.parametrize(
    "path, name, ours, data",
    [
        ("examples/graph_unet.py", "GraphUNet", "GraphUNet", "planetoid/Cora"),
        ("examples/proteins_topk_pool.py", "TopKPooling", "GPool as TopKPooling", "tu/MUTAG"),
    ],
)
def test_pygs_own_examples_run_with_one_import_changed(path, name, ours, data, tmp_path):
    """In five epochs in place of 200, on a data set that is at hand; the loss, or the training
    accuracy, gets better."""
    source = pyg_test(path)
    if not os.environ.get("PYG_GUNET_DATA"):
        pytest.skip("PYG_GUNET_DATA is not set: no data for PyG's examples")
    real = Path(os.environ["PYG_GUNET_DATA"], data, "raw")
    shutil.copytree(real, tmp_path / "data" / real.parent.name / real.parent.name / "raw")
    source, count = re.subn(
        rf"(from torch_geometric.nn import .*?)(, )?\b{name}\b", r"\1", source, count=1
    )
    source = source.replace("from torch_geometric.nn import \n", "")
    source = source.replace("import torch\n", f"import torch\nfrom pyg_gunet import {ours}\n", 1)
    source = source.replace("PROTEINS", "MUTAG").replace("range(1, 201)", "range(1, 6)")
    assert count == 1
    example = tmp_path / "examples" / "example.py"
    example.parent.mkdir()
    example.write_text(source)
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    train = [float(number) for number in re.findall(r"(?:Loss|Train): ([\d.]+)", done.stdout)]
    assert len(train) == 5
    assert train[-1] < train[0] if "Loss" in done.stdout else train[-1] > train[0]


# What differs on purpose ------------------------------------------------------------------------


def test_a_ratio_of_one_keeps_all_nodes():
    """A float ratio is a share, 1.0 too; PyG takes 1.0 for a count."""
    x, edge_index = torch.randn(6, 3), torch.randint(6, (2, 20))
    assert pyg_gunet.GPool(3, ratio=1.0)(x, edge_index).x.size(0) == 6
    assert pyg.TopKPooling(3, ratio=1.0)(x, edge_index)[0].size(0) == 1


def test_a_share_is_rounded_up_in_double_precision():
    """0.6 of 25 nodes is 15; PyG's float32 gives 16."""
    x, edge_index = torch.randn(25, 3), torch.randint(25, (2, 60))
    assert pyg_gunet.GPool(3, ratio=0.6)(x, edge_index).x.size(0) == 15
    assert pyg.TopKPooling(3, ratio=0.6)(x, edge_index)[0].size(0) == 16


def test_a_gate_of_the_users_own_is_a_name():
    """PyG takes a `nonlinearity`, any callable; ours are named, and a wrong keyword is an error."""
    with pytest.raises(TypeError, match="nonlinearity"):
        pyg_gunet.GPool(3, nonlinearity="tanh")


def test_torchscript_is_not_offered():
    """`torch.jit.script`, which PyG tests in its full run only, refuses; torch.compile goes."""
    with pytest.raises((torch.jit.frontend.NotSupportedError, RuntimeError)):
        torch.jit.script(pyg_gunet.GPool(3))
