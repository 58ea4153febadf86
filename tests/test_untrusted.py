"""Files from strangers: nothing in them runs, and none makes the process grow without bounds."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from pyg_gunet import load
from pyg_gunet.files import check_labels, read_torch
from pyg_gunet.train import embed, evaluate, fit


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def tu(root: Path, name: str = "TOY", **files: str) -> Path:
    """Raw files of a set of two graphs with one edge each, or others in their place."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    parts = {
        "A": "1, 2\n2, 1\n3, 4\n4, 3\n",
        "graph_indicator": "1\n1\n2\n2\n",
        "graph_labels": "0\n1\n",
        "node_labels": "0\n1\n0\n1\n",
        **files,
    }
    for part, text in parts.items():
        (raw / f"{name}_{part}.txt").write_text(text)
    return root


WAYS = {
    "resume": lambda bomb, out: fit(resume=bomb, out=out),
    "evaluate": lambda bomb, out: evaluate(bomb),
    "embed": lambda bomb, out: embed(bomb, out),
    "dataset": lambda bomb, out: fit(str(bomb), out=out),
    "load": lambda bomb, out: load(str(bomb)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["torch", "old torch", "pickle"])
def test_bombs_do_not_go_off(tmp_path, way, kind):
    bomb, boom = tmp_path / "x.ckpt", tmp_path / "boom"
    if kind == "pickle":
        bomb.write_bytes(pickle.dumps(Bomb(boom)))
    else:
        torch.save({"state_dict": Bomb(boom)}, bomb, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(ValueError, match=r"x\.ckpt"):
        WAYS[way](bomb, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.ckpt"]
    with contextlib.suppress(Exception):
        torch.load(bomb, weights_only=False)  # it is live
    assert boom.is_dir()


def test_no_other_way_to_load():
    """Every `torch.load` of the package says weights_only=True, and there is one pickle reader."""
    for path in (Path(__file__).parents[1] / "pyg_gunet").rglob("*.py"):
        text = path.read_text()
        for rest in text.split("torch.load(")[1:]:
            assert "weights_only=True" in rest[:120], path
        if path.name != "files.py":
            assert "pickle.load" not in text, path
            assert "Unpickler" not in text, path


def test_a_zip_whose_entries_overlap_is_refused(tmp_path):
    """A small file may not claim more than it holds."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\0" * 1000)
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 24 : at + 28] = struct.pack("<I", 2**31)  # uncompressed size in the directory
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match="larger than the file"):
        read_torch(path, "ckpt")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10**7)
    with pytest.raises(ValueError, match="compressed"):
        read_torch(path, "ckpt")


@pytest.mark.parametrize(
    "files, match",
    [
        ({"node_labels": "0\n1\n0\n99999999999\n"}, "labels from 0 to 99999999999"),
        ({"node_labels": f"0\n1\n0\n{'9' * 10**6}\n"}, "more than 10000"),
        ({"node_labels": "0\n1\n0\nx\n"}, "as integers"),
        ({"edge_labels": "0\n-99999999999\n0\n0\n"}, "to 0, more than 10000"),
        ({"graph_indicator": "1\n1\n2\n999999999999\n"}, "labels from 1 to 999999999999"),
    ],
)
def test_labels_beyond_reason(tmp_path, files, match):
    with pytest.raises(ValueError, match=match):
        load("TU/TOY", tu(tmp_path, **files))


def test_reasonable_labels_pass(tmp_path):
    assert load("TU/TOY", tu(tmp_path))[0].x.shape == (2, 2)
    check_labels(tmp_path / "no such file")


def png(width: int, height: int) -> bytes:
    """A PNG of that size in its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


LIMITED = """
    import resource, sys
    from pyg_gunet import load
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    for name in sys.argv[2:]:
        try:
            load(name)
        except (ValueError, MemoryError) as error:
            print(type(error).__name__, str(error).splitlines()[0][:100])
        else:
            print("read", name)
"""


def test_absurd_sizes_end_in_an_error_within_bounded_memory(tmp_path):
    """With 2 GB of address space beyond what the imports take."""
    entity = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 30))
    files = {
        "laughs.graphml": f'<!DOCTYPE g [<!ENTITY a0 "ha">{entity}]><graphml>&a29;</graphml>',
        "deep.graphml": "<a>" * 10**5,
        "ids.csv": "0,1\n" + "9" * 10**6 + ",2\n",
        "weight.csv": "0,1,1e999\n",
        "columns.csv": "0," * 10**6,
    }
    names = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        names.append(str(tmp_path / name))
    with open(tmp_path / "sparse.csv", "wb") as file:  # 10 GB of zeros that take no room
        file.truncate(10**10)
    for part in ("images", "masks"):
        (tmp_path / "tiles" / part).mkdir(parents=True)
        (tmp_path / "tiles" / part / "a.png").write_bytes(png(10**6, 10**6))
    names += [str(tmp_path / "sparse.csv"), f"images:{tmp_path / 'tiles'}"]
    code = textwrap.dedent(LIMITED)
    size = 12 * 2**30
    command = [sys.executable, "-c", code, str(size), *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert len(lines) == len(names)
    refused = [line for line in lines if line.startswith("ValueError")]
    assert [line for line in lines if line not in refused] == [f"read {tmp_path / 'ids.csv'}"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert peak < 3.0  # GB, of any child process so far
