"""A run that is killed goes on where it was; ten kills: ``python -m tests.kill``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_gunet.files import sweep_aside
from pyg_gunet.train.folder import RunFolder


def test_killed_twice_and_resumed():
    command = [sys.executable, "-m", "tests.kill", "--times", "2", "--epochs", "25"]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=root, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kills of 2" in result.stdout
    assert "equal an unbroken run's: True; left behind: []" in result.stdout


def gone() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_processes_left_is_swept(tmp_path):
    (tmp_path / f".last.ckpt.{gone()}.tmp").write_text("half")
    (tmp_path / f".best.ckpt.{os.getpid()}.tmp").write_text("at work")
    (tmp_path / ".mine.tmp").write_text("mine")
    (tmp_path / "last.ckpt").write_text("whole")
    sweep_aside(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([f".best.ckpt.{os.getpid()}.tmp", ".mine.tmp", "last.ckpt"])


def test_a_run_put_aside_by_a_killed_one_comes_back(tmp_path):
    """Killed between putting the old run aside and its own first checkpoint: nothing is lost."""
    aside = tmp_path / f".replaced-{gone()}"
    aside.mkdir()
    (aside / "last.ckpt").write_text("old")
    with RunFolder(tmp_path, overwrite=True) as folder:  # the next try puts it aside again
        assert folder.aside is not None
        assert (folder.aside / "last.ckpt").read_text() == "old"
        assert not aside.exists()
    assert (tmp_path / "last.ckpt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_old_run_goes_once_the_new_one_had_a_checkpoint(tmp_path):
    aside = tmp_path / f".replaced-{gone()}"
    aside.mkdir()
    (aside / "last.ckpt").write_text("old")
    (tmp_path / "last.ckpt").write_text("new")
    with RunFolder(tmp_path, goes_on=True):
        pass
    assert (tmp_path / "last.ckpt").read_text() == "new"
    assert not aside.exists()


def test_a_run_that_leaves_nothing_leaves_what_was_there(tmp_path):
    with RunFolder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "logs").mkdir()
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path / "a") as folder:
        (folder.path / "last.ckpt").write_text("first")
    with RunFolder(tmp_path / "a", overwrite=True) as folder:
        assert not (folder.path / "last.ckpt").exists()
        (folder.path / "best.ckpt").write_text("half a run")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["last.ckpt"]
    assert (tmp_path / "a" / "last.ckpt").read_text() == "first"


def test_a_folder_taken_meanwhile_is_not_shared(tmp_path):
    first, second = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a")
    with first:
        (tmp_path / "a" / "last.ckpt").write_text("first")
        with pytest.raises(FileExistsError, match="another run has just taken it"):
            second.__enter__()
        free = [RunFolder(tmp_path / "a", free=True) for _ in range(2)]
        assert [folder.__enter__().path.name for folder in free] == ["a-2", "a-3"]
