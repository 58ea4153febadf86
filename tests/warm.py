"""Mutants met in a process that has collected the tests already: a fork for each, milliseconds
before its first test, where an import and a collection take seconds."""

from __future__ import annotations

import ast
import inspect
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.mutants import ROOT, Mutant

MEMORY = 12 * 2**30  # of addresses: a mutant that asks for all of it is stopped


def functions(code: CodeType, path: tuple[str, ...] = ()) -> dict[tuple[Any, ...], CodeType]:
    """The functions of a module and of its classes, by the names that lead to each; that of none
    is the rest: what runs at import."""
    found: dict[tuple[Any, ...], CodeType] = {}
    inside = [const for const in code.co_consts if isinstance(const, CodeType)]
    for at, const in enumerate(inside):
        if const.co_flags & inspect.CO_NEWLOCALS:
            found[(*path, const.co_name, at)] = const
        else:
            found |= functions(const, (*path, const.co_name))
    empty = tuple(None if isinstance(one, CodeType) else one for one in code.co_consts)
    # Without the columns where its functions end.
    found[(*path, None)] = code.replace(co_consts=empty, co_linetable=b"")
    return found


def live(module: Any, path: tuple[Any, ...], code: CodeType) -> Any:
    """The function itself, out of all its wrappers; None where it is not to be had."""
    found: Any = module
    for name in path[:-1]:
        found = vars(found).get(name)
        if found is None:
            return None
    for name in ("__func__", "fget", "func"):
        found = getattr(found, name, found) if not inspect.isfunction(found) else found
    found = inspect.unwrap(found) if callable(found) else found
    same = inspect.isfunction(found) and found.__code__.co_code == code.co_code
    return found if same else None


def patch(mutant: Mutant) -> bool:
    """Changes the functions of this process; False where import itself would be another."""
    name = ".".join(mutant.path.with_suffix("").parts).removesuffix(".__init__")
    if name not in sys.modules:
        return False
    whole = ast.unparse(ast.parse((ROOT / mutant.path).read_text()))
    before, after = (functions(compile(text, name, "exec")) for text in (whole, mutant.source))
    changed = [path for path in before if before[path] != after.get(path)]
    if not changed or before.keys() != after.keys() or any(path[-1] is None for path in changed):
        return False
    for path in changed:
        function = live(sys.modules[name], path, before[path])
        if function is None or function.__code__.co_freevars != after[path].co_freevars:
            return False
        function.__code__ = after[path]
    return True


def limited(seconds: float) -> None:
    """Ends this process after so much of the processor."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def outcome(process: int, timeout: float) -> str | int:
    """Waits for a mutant's process: its exit status, or 'timeout'."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "timeout" if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "timeout"


class Warm:
    """A plugin of pytest that runs no test itself: each mutant is met in a fork."""

    UNFIT = 99

    def __init__(
        self,
        chosen: list[Mutant],
        near: Callable[[Mutant], list[str]],
        limit: Callable[[list[str]], float],
        done: Callable[[Mutant, int, str | int], bool],
    ) -> None:
        self.chosen, self.near, self.limit, self.done = chosen, near, limit, done

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for mutant in self.chosen:
            near = [items[name] for name in self.near(mutant) if name in items]
            seconds = self.limit([item.nodeid for item in near])
            process = os.fork()
            if not process:
                os.setsid()
                self.meet(session, mutant, near, seconds)
            code = outcome(process, 10 * seconds)
            if code != self.UNFIT and not self.done(mutant, len(near), code):
                break
        return True

    def meet(
        self, session: pytest.Session, mutant: Mutant, near: list[Any], seconds: float
    ) -> None:
        code = self.UNFIT  # whatever fails before a test is no test's merit
        try:
            limited(seconds)
            if not patch(mutant):
                return
            code = 1
            for item, following in zip(near, [*near[1:], None]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.testsfailed:
                    return
            code = 0
        finally:
            os._exit(code)


def fork(folder: Path, work: Callable[[list[str]], int], seconds: float, timeout: float) -> Any:
    """The outcome of work in a fork of its own, which imports the copy of the tree afresh."""
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setsid()
            with open(folder / "log", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.chdir(folder)
            if seconds < float("inf"):
                limited(seconds)
            sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
            for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "pyg_gunet")]:
                del sys.modules[name]
            options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--no-header"]
            code = work([*options, f"--rootdir={folder}"])
        finally:
            os._exit(code)
    return outcome(process, timeout)
