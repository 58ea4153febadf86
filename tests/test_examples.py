"""The examples run, quick as they are, on the real files or on small ones that we write."""

from __future__ import annotations

import os
import pickle
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., str]:
    """Runs a script as its own main program, in this process: importing torch takes long."""

    def run(name: str, *argv: object, quick: tuple[str, ...] = ("--epochs", "2")) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *quick, *map(str, argv)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


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


def accuracy(out: str) -> float:
    found = re.fullmatch(r"test accuracy (\d\.\d+)\n", out)
    assert found, out
    return float(found[1])


@pytest.mark.parametrize(
    "name, folder", [("node_classification", "planetoid"), ("graph_classification", "tu")]
)
def test_on_real_data(tmp_path, run, name, folder):
    known = {"planetoid": "Planetoid/Cora", "tu": "TU/MUTAG"}[folder]
    assert 0 <= accuracy(run(name, "--root", real(tmp_path, folder), "--name", known)) <= 1


def write_planetoid(raw: Path, num_nodes: int = 700, num_classes: int = 3) -> None:
    """Edges within classes and words that tell them, under the name that the example asks for."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    label = np.arange(num_nodes) % num_classes
    words = sp.csr_matrix(np.eye(num_classes)[label] + (rng.random((num_nodes, 3)) < 0.1))
    one_hot = np.eye(num_classes, dtype=np.int64)[label]
    near = {i: [(i + 3) % num_nodes, (i - 3) % num_nodes] for i in range(num_nodes)}
    train, rest = 60, num_nodes - 100
    parts = {
        "x": words[:train],
        "y": one_hot[:train],
        "allx": words[:rest],
        "ally": one_hot[:rest],
        "tx": words[rest:],
        "ty": one_hot[rest:],
        "graph": near,
    }
    for part, value in parts.items():
        (raw / f"ind.cora.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (raw / "ind.cora.test.index").write_text("\n".join(map(str, range(rest, num_nodes))) + "\n")


def test_classify_nodes_on_files_in_planetoids_layout(tmp_path, run):
    write_planetoid(tmp_path / "Cora" / "raw")
    out = run("node_classification", "--root", tmp_path, "--name", "Planetoid/Cora", "--epochs", 30)
    assert accuracy(out) > 0.8


def test_classify_graphs_on_files_in_tu_layout(tmp_path, run):
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
    out = run("graph_classification", "--root", tmp_path, "--name", "TU/MUTAG", "--epochs", 20)
    assert accuracy(out) > 0.9


def test_autoencode_features(run):
    out = run("autoencoder", "--name", "ring")
    assert float(re.fullmatch(r"128 numbers through 64: ([\d.]+)% .*\n", out)[1]) > 0


def test_segment_an_image(run):
    out = run("segment", "--size", 32)
    scores = dict(re.findall(r"^(\w+): ([\d.]+)$", out, re.M))
    assert {"pixel_accuracy", "mean_iou"} <= scores.keys()
    assert all(0 <= float(value) <= 1 for value in scores.values())
    found, discs = map(int, re.search(r"discs found: (\d+) of (\d+)", out).groups())
    assert 0 <= found <= discs


def test_label_nuclei(run, tmp_path):
    io = pytest.importorskip("skimage.io", reason="needs scikit-image")
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in "abc":
        mask = np.zeros((32, 32), dtype=np.uint16)
        for k, (row, column) in enumerate(((2, 2), (2, 9), (20, 20), (22, 5)), start=1):
            mask[row : row + 7, column : column + 7] = k
        image = (150 * (mask > 0) + rng.integers(0, 40, mask.shape)).astype(np.uint8)
        io.imsave(tmp_path / "images" / f"{name}.png", image, check_contrast=False)
        io.imsave(tmp_path / "masks" / f"{name}.png", mask, check_contrast=False)
    out = run("nuclei", "--root", tmp_path, "--new", tmp_path / "images", "--out", tmp_path / "out")
    found = dict(re.findall(r"^(ap50|pq): ([\d.]+), Otsu", out, re.M))
    assert all(0 <= float(value) <= 1 for value in found.values())
    assert found.keys() == {"ap50", "pq"}
    assert f"wrote 3 label images to {tmp_path / 'out'}" in out
    assert io.imread(tmp_path / "out" / "a.png").dtype == np.uint16


def test_estimate_mutual_information(run):
    """Of nodes and their graphs there is some; nodes and another's are told from them."""
    out = run("mutual_information", "--epochs", 12)
    found = re.findall(r"I\(x; y\) = (-?[\d.]+) \+- ([\d.]+) nats", out)
    (own, own_error), (other, other_error) = [tuple(map(float, pair)) for pair in found]
    assert own > 3 * own_error
    assert other < 3 * other_error


def test_what_spread_selection_changes(run):
    out = run("autoencode", quick=("--steps", "2"))
    assert re.findall(r"^(\w+): mean squared error [\d.e+-]+ from 32 of 64 nodes$", out, re.M) == [
        "topk",
        "spread",
    ]
    assert out.count("#") == 64


def test_infomax_on_files_in_planetoids_layout(tmp_path, run):
    write_planetoid(tmp_path / "planetoid" / "Cora" / "raw")
    words = ("--root", tmp_path / "planetoid", "--name", "Planetoid/Cora", "--hidden", 16)
    out = run("infomax", *words, quick=("--quick",))
    assert "KL(real || corrupted)" in out
    raw, embedded = map(float, re.findall(r"(\d\.\d+) (?:test|from)", out))
    assert raw > 0.8
    assert embedded > 0.5


@pytest.mark.parametrize("name", SCRIPTS)
def test_quick(run, monkeypatch, tmp_path, name):
    """Without a network, and with nothing left in the folder that it runs in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert re.search(r"\d", run(name, quick=("--quick",)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SCRIPTS)
def test_short_and_listed(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60
    assert f"]({name}.py)" in (EXAMPLES / "README.md").read_text()
