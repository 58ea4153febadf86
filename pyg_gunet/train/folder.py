"""The folder of a run: taken whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

from pyg_gunet.files import is_running, sweep_aside

LAST, BEST = "last.ckpt", "best.ckpt"
PICTURES = ("loss", "reconstruction", "levels", "confusion", "targets", "predictions", "embedding")
FILES = ("metrics.json", "history.csv", "config.yaml", "report.html")
RUN_FILES = (LAST, BEST, *FILES, *(f"{name}.png" for name in PICTURES))


class RunFolder:
    r"""The folder of a run, as a context: inside it the folder is there and this run's own; a run
    that leaves without a checkpoint leaves what was there before.

    Args:
        path (Path): The folder.
        free (bool): Whether the first free one of `path`, `path`-2, ... is taken instead.
        overwrite (bool): Whether the files of a run that is there are put aside, and deleted when
            the new one has a checkpoint.
        goes_on (bool): Whether the run that is there goes on.

    Raises:
        FileExistsError, NotADirectoryError, PermissionError: At once, where it cannot be taken.
    """

    def __init__(
        self, path: Path, free: bool = False, overwrite: bool = False, goes_on: bool = False
    ) -> None:
        self.path, self.free, self.overwrite, self.goes_on = path, free, overwrite, goes_on
        self.aside: Path | None = None
        self.created: list[Path] = []
        if os.path.lexists(path) and not free:
            if not path.is_dir():
                raise FileExistsError(f"'out' must be a folder, it is a file (got '{path}')")
            if not (overwrite or goes_on):
                raise FileExistsError(f"'out' exists (got '{path}'); --overwrite replaces its run")
        above = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not above.is_dir():
            raise NotADirectoryError(f"'out' lies below a file, '{above}' (got '{path}')")
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(f"'out' cannot be written: '{above}' is read-only (got '{path}')")

    def __enter__(self) -> RunFolder:
        for parent in (*reversed(self.path.parents), self.path):
            if parent != self.path or not self.free:
                self._make(parent)
        if self.free:  # a run that starts at the same moment finds this one taken
            for i in itertools.count(1):
                path = self.path if i == 1 else self.path.with_name(f"{self.path.name}-{i}")
                if self._make(path):
                    self.path = path
                    break
        elif not (self.overwrite or self.goes_on) and self.path not in self.created:
            raise FileExistsError(
                f"'out' exists (got '{self.path}'): another run has just taken it"
            )
        self._recover()
        old = [self.path / name for name in RUN_FILES if (self.path / name).exists()]
        if old and not self.goes_on:
            self.aside = self.path / f".replaced-{os.getpid()}"
            self.aside.mkdir()
            for path in old:
                os.replace(path, self.aside / path.name)
        return self

    def __exit__(self, *exc: Any) -> None:
        if not (self.path / LAST).exists():
            (self.path / BEST).unlink(missing_ok=True)
            for path in self.aside.iterdir() if self.aside is not None else ():
                os.replace(path, self.path / path.name)
            if self.path in self.created:
                shutil.rmtree(self.path / "logs", ignore_errors=True)
        if self.aside is not None:
            shutil.rmtree(self.aside)
        for path in reversed(self.created):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _make(self, path: Path) -> bool:
        try:
            path.mkdir()
        except FileExistsError:
            return False
        self.created.append(path)
        return True

    def _recover(self) -> None:
        """Tidies up after runs that were killed: their unfinished files go, and the old run that
        one had put aside comes back if it had no checkpoint of its own yet."""
        sweep_aside(self.path)
        for aside in sorted(self.path.glob(".replaced-*")):
            process = aside.name.removeprefix(".replaced-")
            if process.isdecimal() and is_running(int(process)):
                continue
            if not (self.path / LAST).exists():
                for path in aside.iterdir():
                    os.replace(path, self.path / path.name)
            shutil.rmtree(aside)
