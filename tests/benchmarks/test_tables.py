"""The pages show what the files of results hold, and nothing else."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def tables():
    import tables

    return tables


@pytest.fixture(params=[0, 1], ids=["benchmarks/README.md", "README.md"])
def page(request, tables) -> str:
    return tables.PAGES[request.param].read_text()


def test_pages_are_what_the_files_say(tables, page):
    assert tables.fill(page) == page, "run python benchmarks/tables.py"


def test_every_file_of_results_is_shown(tables):
    assert tables.unused() == []


def test_every_block_is_shown_once_and_names_its_files_and_command(tables):
    shown = [found[2] for page in tables.PAGES for found in tables.MARK.finditer(page.read_text())]
    assert sorted(shown) == sorted(tables.BLOCKS)
    for name, block in tables.BLOCKS.items():
        text = block.text()
        scripts = re.findall(r"python benchmarks/(\w+\.py)", text)
        assert scripts, name
        assert all((tables.RESULTS.parent / script).exists() for script in scripts), name
        assert all((tables.RESULTS / file).exists() for file in block.files), name
        assert name == "headline" or all(f"results/{file}" in text for file in block.files), name


def test_no_figure_stands_beside_the_tables(tables, page):
    """Outside the blocks a number with a point is a goal, what others publish, or a version."""
    page = page.partition("\n## Several hosts, on paper")[0]  # arithmetic, nothing measured
    text = tables.MARK.sub("", page)
    text = re.sub(r"```.*?```", "", text, flags=re.S)  # code
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    for sentence in re.split(r"(?<=[.:;])\s", text):
        if re.search(r"\b(goal|publishes|version|versions|Python|GraphMAE|torch)\b", sentence):
            continue
        assert not re.search(r"\d\.\d", sentence), sentence


def test_a_changed_file_changes_the_page(tables, monkeypatch):
    page = tables.PAGES[0].read_text()
    old = tables.BLOCKS["pooling"].text()
    monkeypatch.setattr("_tables.Records.__call__", lambda self, *names: 0.5)
    assert tables.BLOCKS["pooling"].text() != old
    assert old in page


def test_a_mark_without_a_table_is_refused(tables):
    with pytest.raises(ValueError, match="'nothing'"):
        tables.fill("<!-- table: nothing -->\n<!-- end -->")
