"""Which tests run which lines of the package, and how long each takes: for :mod:`tests.mutate`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest


class Reach(NamedTuple):
    """``lines[file][line]``: the ids of tests that run it; ``seconds[id]``."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def of(self, path: str, first: int, last: int, budget: float) -> list[str]:
        """The tests that run one of these lines, the quickest first, until they take `budget`
        seconds; those that run the file where none does (what happens at import)."""
        lines = self.lines.get(path, {})
        found = {one for line in range(first, last + 1) for one in lines.get(line, ())}
        found = found or {one for ids in lines.values() for one in ids}
        chosen, spent = [], 0.0
        for one in sorted(found, key=lambda one: (self.seconds[one], one)):
            spent += self.seconds[one]
            if chosen and spent > budget:
                break
            chosen.append(one)
        return chosen


class Watch:
    """Tells coverage which test is on."""

    def __init__(self, folder: Path) -> None:
        self.cover = coverage.Coverage(
            data_file=None, source=[str(folder / "pyg_gunet")], config_file=False
        )
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Iterator[None]:
        self.cover.switch_context(item.nodeid)
        start = time.perf_counter()
        yield
        self.seconds[item.nodeid] = time.perf_counter() - start
        self.cover.switch_context("")


def watch(folder: Path, options: list[str], out: Path) -> int:
    """Runs pytest and writes what it reached; its exit status."""
    seen = Watch(folder)
    seen.cover.start()
    try:
        code = int(pytest.main(options, plugins=[seen]))
    finally:
        seen.cover.stop()
    data, lines = seen.cover.get_data(), {}
    for name in data.measured_files():
        contexts = {n: sorted(set(c) - {""}) for n, c in data.contexts_by_lineno(name).items()}
        lines[Path(name).relative_to(folder).as_posix()] = {n: c for n, c in contexts.items() if c}
    out.write_text(json.dumps({"lines": lines, "seconds": seen.seconds}))
    return code


def joined(records: list[dict[str, Any]]) -> Reach:
    """Of several runs."""
    reach = Reach({}, {})
    for record in records:
        reach.seconds.update(record["seconds"])
        for path, lines in record["lines"].items():
            into = reach.lines.setdefault(path, {})
            for line, ids in lines.items():
                into.setdefault(int(line), []).extend(ids)
    return reach
