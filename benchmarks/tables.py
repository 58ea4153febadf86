"""The tables of ``benchmarks/README.md`` and of the README's figures, written from their files.

A page holds ``<!-- table: NAME -->`` and ``<!-- end -->``; what lies between is made here, from the
JSON and CSV under ``results`` alone, and names them, the command, the day and the seeds. A test
asks that the pages are what this script writes, and that every file there is used. A new file of
records needs a function in one of the ``_tables_*.py``, a few lines; see :class:`Records`.

    python benchmarks/tables.py             # rewrite both pages
    python benchmarks/tables.py --check     # exit 1 where they are not up to date
"""

from __future__ import annotations

import argparse
import re
import sys

import _tables_colour
import _tables_critic
import _tables_graphs
import _tables_learning
import _tables_levels
import _tables_scores
from _tables import BLOCKS, RESULTS, Block

PAGES = (RESULTS.parent / "README.md", RESULTS.parents[1] / "README.md")
MARK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)
MODULES = (  # they fill BLOCKS
    *(_tables_levels, _tables_learning, _tables_graphs, _tables_colour, _tables_scores),
    _tables_critic,
)


def fill(text: str) -> str:
    """The page with every block made anew.

    Raises:
        ValueError: If a mark names no block.
    """

    def one(found: re.Match[str]) -> str:
        if found[2] not in BLOCKS:
            raise ValueError(f"no table is called {found[2]!r}: {', '.join(BLOCKS)}")
        return f"{found[1]}\n{BLOCKS[found[2]].text()}\n\n{found[3]}"

    return MARK.sub(one, text)


def blocks(text: str) -> list[Block]:
    """The blocks that a page shows."""
    return [BLOCKS[found[2]] for found in MARK.finditer(text)]


def unused() -> list[str]:
    """Files of results that no page shows."""
    shown = "".join(page.read_text() for page in PAGES)
    used = {name for page in PAGES for block in blocks(page.read_text()) for name in block.files}
    found = (
        path.name for path in sorted(RESULTS.iterdir()) if not path.name.endswith("_quick.csv")
    )
    return [name for name in found if name not in used and f"results/{name}" not in shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = False
    for page in PAGES:
        old = page.read_text()
        new = fill(old)
        if new != old:
            stale = True
            print(f"{page}: {'not up to date' if args.check else 'written'}")
            if not args.check:
                page.write_text(new)
    for name in unused():
        print(f"{RESULTS / name}: no table shows it")
    sys.exit(args.check and (stale or bool(unused())))


if __name__ == "__main__":
    main()
