"""Which tests run which lines of the package, and how long each takes: for :mod:`tests.mutate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
    """A plugin of pytest that tells coverage which test is on, and writes what a file of tests
    reached when its last test is over; `write` says whether there is time for the next."""

    def __init__(self, folder: Path, write: Callable[[str, dict[str, Any]], bool]) -> None:
        source = [str(folder / "pyg_gunet")]
        self.cover = coverage.Coverage(data_file=None, source=source, config_file=False)
        self.folder, self.write = folder, write
        self.seconds: dict[str, float] = {}
        self.cover.start()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Iterator[None]:
        self.cover.switch_context(item.nodeid)
        start = time.process_time()
        yield
        self.seconds[item.nodeid] = time.process_time() - start
        self.cover.switch_context("")
        if nextitem is None or nextitem.path != item.path:
            record = self.record()
            if not item.session.testsfailed and not self.write(_file(item), record):
                item.session.shouldstop = "the time is over"

    def record(self) -> dict[str, Any]:
        """What was reached since the last one, tests by their place in `seconds`."""
        self.cover.stop()
        data, lines = self.cover.get_data(), {}
        number = {test: at for at, test in enumerate(self.seconds)}
        for name in data.measured_files():
            found = lines[Path(name).relative_to(self.folder).as_posix()] = {}
            for line, tests in data.contexts_by_lineno(name).items():
                numbers = sorted(number[test] for test in set(tests) if test)
                if numbers:
                    found[str(line)] = numbers
        seconds, self.seconds = self.seconds, {}
        self.cover.erase()
        self.cover.start()
        return {"lines": lines, "seconds": seconds}


def _file(item: Any) -> str:
    return str(item.nodeid).split("::")[0]


def joined(records: list[dict[str, Any]]) -> Reach:
    """Of several runs."""
    reach = Reach({}, {})
    for record in records:
        reach.seconds.update(record["seconds"])
        tests = list(record["seconds"])
        for path, lines in record["lines"].items():
            into = reach.lines.setdefault(path, {})
            for line, ids in lines.items():
                into.setdefault(int(line), []).extend(tests[at] for at in ids)
    return reach
