"""Without the packages of an extra: whoever needs one says what brings it, in Python as in the
command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_gunet.extras import ADVICE, MODULES, extra

CALLS = {
    "pygsp": "pyg_gunet.data.load('bunny')",
    "sklearn": "pyg_gunet.data.load('digits')",
    "trimesh": "pyg_gunet.data.read_graph({mesh!r})",
    "pandas": "pyg_gunet.data.read_graphs({table!r})",
    "skimage": "pyg_gunet.ToSuperpixels()(torch.rand(3, 8, 8))",
    "networkx": "pyg_gunet.hierarchy_to_networkx(levels, 0)",
    "matplotlib": "pyg_gunet.draw_hierarchy(levels)",
    "pytorch_lightning": "import_module('pyg_gunet.train')",
    "jsonargparse": "cli.main(['fit', '--dataset', 'ring'])",
}
START = """
import sys
from importlib import import_module
import torch
import pyg_gunet, pyg_gunet.data
from pyg_gunet import cli

class Gone:  # as where nothing but the core is installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Gone())
for name in [name for name in sys.modules if name.partition(".")[0] in {modules!r}]:
    del sys.modules[name]
ring = torch.stack([torch.arange(8), (torch.arange(8) + 1) % 8])
levels = pyg_gunet.GraphUNet(2, 4, 2, 1).states(torch.randn(8, 2), ring)[1]
for name, call in {calls!r}.items():
    try:
        eval(call)
    except ModuleNotFoundError as error:
        print(name, error)
"""


def test_who_needs_a_package_says_what_brings_it(tmp_path):
    (tmp_path / "mesh.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    (tmp_path / "table.csv").write_text("source,target\n0,1\n")
    places = {"mesh": str(tmp_path / "mesh.ply"), "table": str(tmp_path / "table.csv")}
    calls = {name: call.format(**places) for name, call in CALLS.items()}
    code = START.format(modules=MODULES, calls=calls)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if "jsonargparse" not in told:  # the command says it in its own way
        told["jsonargparse"] = done.stderr
    assert set(told) == set(CALLS), done.stderr
    for name, text in told.items():
        assert text.strip().endswith(ADVICE), (name, text)
        assert "No module named" in text, (name, text)


def test_other_errors_are_left_alone():
    with pytest.raises(ModuleNotFoundError, match="^No module named 'nobody'$"), extra():
        import nobody  # noqa: F401
    with pytest.raises(ModuleNotFoundError) as told, extra(), extra():
        raise ModuleNotFoundError("No module named 'skimage.io'", name="skimage.io")
    assert str(told.value) == f"No module named 'skimage.io'; {ADVICE}"


def test_every_package_of_the_extra_is_known():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    needs = re.findall(r'"([\w-]+)', re.search(r"\ntrain = \[(.*?)\n\]", text, re.S)[1])
    modules = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL",
               "pyyaml": "yaml", "pytorch-lightning": "pytorch_lightning"}  # fmt: skip
    assert {modules.get(name, name) for name in needs} == MODULES - {"mpl_toolkits"}
