"""Full disks and folders that cannot be written end in one line, and lose nothing."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from pyg_gunet import cli
from pyg_gunet.files import write_aside

QUICK = ["fit", "--dataset", "ring", "--hidden-channels", "8", "--depth", "1", "--epochs", "2"]
QUICK += ["--accelerator", "cpu", "--quiet"]


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system in memory, where we may."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no right to mount a file system")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def error_of(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    capsys.readouterr()
    assert cli.main([*QUICK, "--out", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    return err


def test_a_full_disk(mounted, capsys):
    folder = mounted("size=16k")
    err = error_of(capsys, folder / "run")
    assert "No space left on device" in err
    assert str(folder / "run") in err
    assert os.listdir(folder) == []


def test_a_disk_that_fills_up_leaves_what_was_there(mounted, capsys):
    folder = mounted("size=64k")
    with write_aside(folder / "a") as file:
        file.write(b"old")
    with pytest.raises(OSError, match="No space left") as error, write_aside(folder / "a") as file:
        file.write(b"x" * 2**17)
    assert error.value.filename == str(folder / "a")
    assert (folder / "a").read_bytes() == b"old"
    assert os.listdir(folder) == ["a"]


def test_a_read_only_disk(mounted, capsys):
    folder = mounted("ro")
    err = error_of(capsys, folder / "run")
    assert f"'out' cannot be written: '{folder}' is read-only" in err


def test_a_folder_without_the_right_to_write(tmp_path, capsys, monkeypatch):
    """As everybody but root sees it."""
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert f"'{tmp_path}' is read-only" in error_of(capsys, tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_files_above_a_limit(tmp_path, capsys):
    """``ulimit -f`` needs no rights, so this runs everywhere."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        err = error_of(capsys, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert err.startswith("pyg-gunet: error: [Errno 27] File too large: ")
    assert str(tmp_path / "run") in err
    assert os.listdir(tmp_path) == []
