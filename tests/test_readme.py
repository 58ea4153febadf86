"""The README's code runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_python_block_runs() -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert block is not None
    names: dict = {}
    exec(block.group(1), names)
    assert names["logits"].shape == (64, 7)
    assert names["z"].shape == (16, 8)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()))
def test_links_and_pictures_exist(target: str) -> None:
    assert (README.parent / target).exists()
