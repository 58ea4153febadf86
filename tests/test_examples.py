"""The examples run, for two epochs each, on the real files or on small ones that we write."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *argv: object) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--epochs", "2", *map(str, argv)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def real(tmp_path: Path, folder: str) -> Path:
    source = os.environ.get("PYG_GUNET_DATA")
    if not source:
        pytest.skip("PYG_GUNET_DATA is not set: no real data")
    for path in sorted((Path(source) / folder).rglob("*")):
        if path.is_file():  # the sources may be read-only: copy the files, not their modes
            target = tmp_path / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return tmp_path / folder


@pytest.mark.parametrize(
    "name, folder", [("node_classification", "planetoid"), ("graph_classification", "tu")]
)
def test_on_real_data(tmp_path, name, folder):
    out = run(name, "--root", real(tmp_path, folder))
    assert 0 <= float(re.fullmatch(r"test accuracy (\d\.\d+)\n", out)[1]) <= 1


def test_autoencoder():
    out = run("autoencoder", "--name", "ring")
    assert float(re.fullmatch(r"128 numbers through 64: ([\d.]+)% .*\n", out)[1]) > 0


def test_graph_classification_on_files_in_tu_layout(tmp_path):
    """Fifty rings and stars under the name that the example asks for."""
    raw = tmp_path / "MUTAG" / "raw"
    raw.mkdir(parents=True)
    edges, owner, labels, first = [], [], [], 1
    for graph in range(50):
        nodes = range(first, first + 6)
        ring = graph % 2 == 0
        pairs = zip(nodes, [*nodes[1:], nodes[0]]) if ring else ((nodes[0], n) for n in nodes[1:])
        edges += [f"{a}, {b}\n{b}, {a}\n" for a, b in pairs]
        owner += [f"{graph + 1}\n"] * 6
        labels.append(f"{graph % 2}\n")
        first += 6
    files = {"A": edges, "graph_indicator": owner, "graph_labels": labels}
    files["node_labels"] = [f"{n % 3}\n" for n in range(300)]
    for part, lines in files.items():
        (raw / f"MUTAG_{part}.txt").write_text("".join(lines))
    assert run("graph_classification", "--root", tmp_path).startswith("test accuracy")


@pytest.mark.parametrize("name", ["node_classification", "graph_classification", "autoencoder"])
def test_under_forty_lines(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 40
