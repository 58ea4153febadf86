"""A run's ``report.html`` in a browser: the extra 'browser' brings one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyg_gunet.data import GraphDataset
from pyg_gunet.train import fit
from tests.train.conftest import planted

ROOT = Path(__file__).parents[1]
SMALL = {"hidden_channels": 8, "depth": 2, "epochs": 3, "accelerator": "cpu"}


def opened(page: Path, picture: Path) -> dict:
    """What Chromium finds on a page."""
    if importlib.util.find_spec("PyQt6") is None:
        pytest.skip("no browser: pip install '.[browser]'")
    command = [sys.executable, "-m", "tests.browser", page, picture]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if "ImportError" in done.stderr:
        pytest.skip(f"the browser lacks a library of the system: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("task", ["autoencode", "classify"])
def test_report_is_whole_in_a_browser(tmp_path, task):
    data: str | GraphDataset = "ring"
    if task == "classify":
        data = GraphDataset("<b>planted</b>", [planted()])
    run = fit(data, task, tmp_path / "run", **SMALL)
    for other in run.folder.iterdir():  # the page alone is to be enough
        if other.name != "report.html":
            other.unlink()
    found = opened(run.folder / "report.html", tmp_path / "page.png")
    name = data if isinstance(data, str) else data.name
    assert found["title"] == f"{name}: {task}"
    assert found["console"] == found["outside"] == []
    assert found["overflow"] == 0
    assert len(found["images"]) == 3 if task == "autoencode" else len(found["images"]) >= 2
    for alt, complete, width, shown in found["images"]:
        assert alt in found["headings"]
        assert complete
        assert width >= shown > 500
    rows = {row[0]: row[1] for row in found["rows"]}
    assert rows["model.hidden_channels"] == "8"
    assert rows["seed"] == "0"
    measure = "mse" if task == "autoencode" else "test_accuracy"
    assert float(rows[f"{measure}, ours"]) == pytest.approx(run.figures[measure], rel=1e-4)
    image = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert image.shape == (found["height"], 1000)
    bands = np.array_split(image, found["height"] // 400)
    assert all(band.std() > 5 for band in bands)  # painted to its end


def test_the_browser_sees_what_is_wrong(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>t</title><img src='gone.png' alt='a'>"
        "<img src='http://localhost:9/x.png'><div style='width:3000px'>wide</div>"
        "<script>console.log('said')</script>"
    )
    found = opened(page, tmp_path / "page.png")
    assert found["outside"] == ["http://localhost:9/x.png"]
    assert found["overflow"] > 1000
    assert found["console"] == ["said"]
    assert [width for _, _, width, _ in found["images"]] == [0, 0]
