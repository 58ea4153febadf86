"""``python -m tests.raises coverage.json``: lists the `raise` statements that no test reached.

Reads what ``pytest --cov=pyg_gunet --cov-report=json`` writes. A `raise` that only a GPU or an
error of another library reaches says so by ``# pragma: no cover`` on its line.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path


def raises(source: str) -> list[int]:
    """The first line of every `raise` but those that only pass an error on."""
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise))
    return sorted(node.lineno for node in found if node.exc is not None)


def missed(report: dict, root: Path) -> list[str]:
    """``file:line: text`` of every `raise` that was not reached."""
    found = []
    for name, data in sorted(report["files"].items()):
        source = (root / name).read_text()
        lines = source.splitlines()
        gone = set(data["missing_lines"])
        found += [f"{name}:{at}: {lines[at - 1].strip()}" for at in raises(source) if at in gone]
    return found


def main(argv: list[str]) -> int:
    report = json.loads(Path(argv[0] if argv else "coverage.json").read_text())
    root = Path.cwd()
    total = sum(len(raises((root / name).read_text())) for name in report["files"])
    gone = missed(report, root)
    for line in gone:
        print(line)
    percent = report["totals"]["percent_covered"]
    print(f"{percent:.1f}% of lines; {total - len(gone)} of {total} raise statements reached")
    return int(bool(gone))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
