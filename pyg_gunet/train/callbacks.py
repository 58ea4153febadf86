"""Progress, history, checkpoints and Ctrl-C of a run."""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from pyg_gunet.files import is_running, read_torch, sweep_aside, write_aside

LAST, BEST = "last.ckpt", "best.ckpt"
RUN_FILES = (
    LAST,
    BEST,
    "metrics.json",
    "history.csv",
    "loss.png",
    "reconstruction.png",
    "predictions.png",
)


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints aside and renames them; reads nothing but tensors and plain values."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        whole = io.BytesIO()  # torch.save reports a full disk as an internal error of its own
        torch.save(checkpoint, whole)
        with write_aside(path) as file:
            file.write(whole.getbuffer())

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_torch(path, "resume")


class History(Callback):
    """Keeps every epoch's values, through checkpoints too."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not _epoch_is_whole(trainer):
            return
        names = [name for name in trainer.callback_metrics if name.startswith(("train_", "val_"))]
        if not _validates_now(trainer):  # Lightning still holds the values of the last time
            names = [name for name in names if not name.startswith("val_")]
        row = {"epoch": float(trainer.current_epoch + 1)}
        row.update({name: float(trainer.callback_metrics[name]) for name in sorted(names)})
        self.rows.append(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class Checkpoints(Callback):
    r"""Writes ``last.ckpt`` and ``best.ckpt``, always after a whole epoch.

    The run's folder appears, or with `overwrite` the old run's files are put aside, when the first
    step went well; the old files are deleted when the new run has a checkpoint, and put back if it
    ends without one.

    Args:
        folder (Path): The run's folder.
        monitor (str): The value that picks the best epoch.
        mode (str): ``'min'`` or ``'max'``.
        goes_on (bool): Whether a run goes on in its own folder: its files stay.
        inherited (Path, optional): ``best.ckpt`` of a resumed run that goes on elsewhere.
        every (float): Seconds between writes of ``last.ckpt``. (default: 2)
    """

    def __init__(
        self,
        folder: Path,
        monitor: str,
        mode: str,
        goes_on: bool = False,
        inherited: Path | None = None,
        every: float = 2.0,
    ) -> None:
        self.folder, self.monitor, self.every = folder, monitor, every
        self.sign = 1.0 if mode == "min" else -1.0
        self.goes_on, self.inherited = goes_on, inherited
        self.best, self.best_epoch = math.inf, 0
        self.written = -math.inf
        self.aside: Path | None = None
        self.claimed = False
        self.created: list[Path] = []
        self.complete = False

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if not self.claimed and trainer.is_global_zero:
            self.claim()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not _epoch_is_whole(trainer):
            return
        self.complete = trainer.current_epoch + 1 == trainer.max_epochs
        final = self.complete or trainer.should_stop
        due = final or time.monotonic() - self.written >= self.every
        value = math.inf
        if _validates_now(trainer):
            value = self.sign * float(trainer.callback_metrics[self.monitor])
        # Every process has a hand in a checkpoint, so all must take the first one's decisions.
        value, due = trainer.strategy.broadcast((value, due))
        if value < self.best:
            self.best, self.best_epoch = value, trainer.current_epoch + 1
            trainer.save_checkpoint(self.folder / BEST)
        if due:
            trainer.save_checkpoint(self.folder / LAST)
            self.written = time.monotonic()
            self._drop_aside()

    def adopt(self, checkpoint: Path) -> None:
        """Takes over the checkpoint of a run that had nothing left to train."""
        self.claim()
        if not self.goes_on:
            shutil.copyfile(checkpoint, self.folder / LAST)
        self._drop_aside()

    def on_exception(self, trainer: Trainer, module: LightningModule, error: Any) -> None:
        self.give_back()

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Undoes the claim if no checkpoint came of it."""
        if not self.claimed or self.written > -math.inf:
            return
        (self.folder / BEST).unlink(missing_ok=True)
        if self.aside is not None:
            for path in self.aside.iterdir():
                os.replace(path, self.folder / path.name)
            self.aside.rmdir()
        for path in reversed(self.created):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        self.claimed = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])

    def claim(self) -> None:
        """Makes the folder, or puts the old run's files aside."""
        missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.created = missing[::-1]
        self.claimed = True
        self._recover()
        old = [self.folder / name for name in RUN_FILES if (self.folder / name).exists()]
        if old and not self.goes_on:
            self.aside = self.folder / f".replaced-{os.getpid()}"
            self.aside.mkdir()
            for path in old:
                os.replace(path, self.aside / path.name)
        if self.inherited is not None and self.inherited.is_file():
            shutil.copyfile(self.inherited, self.folder / BEST)

    def _recover(self) -> None:
        """Tidies up after runs that were killed: their unfinished files go, and the old run that
        one had put aside comes back if it had no checkpoint of its own yet."""
        sweep_aside(self.folder)
        for aside in sorted(self.folder.glob(".replaced-*")):
            process = aside.name.removeprefix(".replaced-")
            if process.isdecimal() and is_running(int(process)):
                continue
            if not (self.folder / LAST).exists():
                for path in aside.iterdir():
                    os.replace(path, self.folder / path.name)
            shutil.rmtree(aside)

    def _drop_aside(self) -> None:
        if self.aside is not None:
            shutil.rmtree(self.aside)
            self.aside = None


class Progress(Callback):
    """One bar over all steps of the run, on stderr."""

    def __init__(self) -> None:
        self.bar: Any = None

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if not trainer.is_global_zero:
            return
        if self.bar is None:  # not before a step went well: an error is one line
            from tqdm import tqdm

            self.bar = tqdm(
                total=int(trainer.estimated_stepping_batches),
                initial=trainer.global_step - 1,
                desc="training",
                unit="step",
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.1 if sys.stderr.isatty() else 10.0,  # a log file gets few lines
            )
        self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.bar is not None:
            shown = {k: v for k, v in trainer.callback_metrics.items() if k in _SHOWN}
            text = {k: f"{float(v):.3g}" for k, v in shown.items()}
            self.bar.set_postfix(epoch=trainer.current_epoch + 1, **text, refresh=False)

    def on_train_end(self, *args: Any) -> None:
        self._close()

    def on_exception(self, *args: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


_SHOWN = ("train_loss", "val_loss", "val_accuracy")


class Interrupt(Callback):
    """Turns the first Ctrl-C into a stop after the running step; the second one is immediate.

    During the first epoch the stop waits for the epoch's end, so that there is a checkpoint. Of
    several processes all stop after the step in which one of them was told to.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.pressed = False
        self.previous: Any = None

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.world_size > 1:
            self.pressed = trainer.strategy.reduce_boolean_decision(self.pressed, all=False)
            trainer.should_stop |= self.pressed

    def __enter__(self) -> Interrupt:
        self.trainer.callbacks.append(self)  # type: ignore[attr-defined]
        try:
            self.previous = signal.signal(signal.SIGINT, self._handle)
        except ValueError:  # not the main thread: Ctrl-C is not ours
            self.previous = None
        return self

    def __exit__(self, *exc: Any) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, *args: Any) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        if self.trainer.world_size == 1:
            self.trainer.should_stop = True


def _epoch_is_whole(trainer: Trainer) -> bool:
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def _validates_now(trainer: Trainer) -> bool:
    every = trainer.check_val_every_n_epoch or 1
    return (trainer.current_epoch + 1) % every == 0
