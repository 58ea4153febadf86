"""The benchmark scripts are imported by name from their folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    if not FOLDER.is_dir():
        pytest.skip("no benchmarks beside the tests")
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
