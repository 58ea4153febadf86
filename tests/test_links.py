"""The checker of the API reference's links."""

from __future__ import annotations

from pathlib import Path

from tests.links import broken


def test_what_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="sub/b.html#here">1</a> <a href="sub/b.html#gone">2</a> <a href="#own">3</a>'
        '<a href="https://example.org/x">4</a> <img src="no.png"><p id="own"></p>'
    )
    (tmp_path / "sub" / "b.html").write_text('<p id="here"><a href="../a.html#own">5</a></p>')
    assert broken(tmp_path) == ["a.html: sub/b.html#gone", "a.html: no.png"]
