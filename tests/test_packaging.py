"""What is installed, and what it takes to start."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pyg_gunet

ROOT = Path(pyg_gunet.__file__).parents[1]
HEAVY = (
    "{'torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'networkx', 'pytorch_lightning', 'ogb'}"
)


def python(*argv: str) -> str:
    done = subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_type_hints_are_marked():
    assert (Path(pyg_gunet.__file__).parent / "py.typed").is_file()


def test_import_loads_nothing_heavy():
    """Not even torch: public names are loaded at first use."""
    code = f"import sys, pyg_gunet; assert pyg_gunet.__version__; print({HEAVY} & set(sys.modules))"
    assert python("-c", code).strip() == "set()"


def test_help_is_quick_and_versions_are_printed():
    assert "fit" in python("-m", "pyg_gunet.cli", "--help")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the processor: other jobs may run
    python("-m", "pyg_gunet.cli", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    lines = python("-m", "pyg_gunet.cli", "--version").splitlines()
    names = [line.split()[0] for line in lines]
    expected = ["pyg_gunet", "python", "torch", "torch-geometric", "torchmetrics", "scipy"]
    assert names[:6] == expected
    assert f"pyg_gunet {pyg_gunet.__version__}" in lines
    assert {"pytorch-lightning", "torch-scatter"} <= set(names)


def test_every_public_name_is_there():
    for name in pyg_gunet.__all__:
        assert getattr(pyg_gunet, name) is not None
    assert sorted(pyg_gunet.__all__) == sorted(pyg_gunet._HOME)
