"""The README's code runs as it stands there, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "benchmarks/README.md", "examples/README.md")
LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / page).read_text())
]


def test_python_blocks_run(tmp_path: Path, monkeypatch) -> None:
    """One after the other; the second reads the tables that the text above it describes."""
    monkeypatch.chdir(tmp_path)
    ids = range(40)
    Path("edges.csv").write_text(
        "source,target\n" + "".join(f"p{i},p{(i + j) % 40}\n" for i in ids for j in (1, 2))
    )
    rows = "".join(f"p{i},{20 + i % 7},{'ab'[i % 2]}\n" for i in ids)
    Path("nodes.csv").write_text("id,age,team\n" + rows)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict = {}
    for block in blocks:
        exec(block.replace("epochs=100", "epochs=2"), names)
    assert names["logits"].shape == (64, 7)
    assert names["z"].shape == (16, 8)
    assert names["field"].shape == (64, 1)
    assert names["scores"].shape == (40, 2)
    assert 0 <= names["run"].figures["test_accuracy"] <= 1


def test_at_most_180_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page, target", LINKS)
def test_links_and_pictures_exist(page: str, target: str) -> None:
    name, _, anchor = target.partition("#")
    path = (ROOT / page).parent / name if name else ROOT / page
    assert path.exists()
    assert not anchor or anchor in anchors(path)
