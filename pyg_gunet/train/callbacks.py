"""Checkpoints, history, progress and signals of a run, on Lightning's own callbacks."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from torch import Tensor

from pyg_gunet.files import read_torch, write_aside
from pyg_gunet.train.folder import BEST, LAST


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


class Best(ModelCheckpoint):
    """``best.ckpt``, by the module's `monitor`, always of a whole epoch; of equal scores that of
    the lower validation loss."""

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        self.epoch, self.loss = 0, float("inf")
        super().__init__(
            folder,
            BEST.removesuffix(".ckpt"),
            monitor,
            mode=mode,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not validates_now(trainer):  # Lightning still holds the values of the last time
            return
        super().on_train_epoch_end(trainer, module)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        loss = float(trainer.callback_metrics.get("val_loss", 0.0))
        better = super().check_monitor_top_k(trainer, current)
        if not better and current is not None and self.best_model_score is not None:
            better = bool(current == self.best_model_score) and loss < self.loss
        if better:
            self.epoch, self.loss = trainer.current_epoch + 1, loss
        return better

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "epoch": self.epoch, "loss": self.loss, "dirpath": ""}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A run may go on in another folder than the one it was in."""
        self.epoch, self.loss = int(state["epoch"]), float(state["loss"])
        path = str(Path(str(self.dirpath)) / BEST)
        moved = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        scores = dict(zip([path], state["best_k_models"].values()))
        super().load_state_dict({**state, **moved, "best_k_models": scores})


class Last(ModelCheckpoint):
    """``last.ckpt``: after the first and the last epoch, and every few seconds between.

    ``ModelCheckpoint(train_time_interval=)`` would write in the middle of an epoch, whose rest a
    resumed run would train on other batches.
    """

    every = 2.0

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            LAST.removesuffix(".ckpt"),
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.written = float("-inf")

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        final = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        due = final or time.monotonic() - self.written >= self.every
        # Every process has a hand in a checkpoint, so all must take the first one's decision.
        if trainer.strategy.broadcast(due) and epoch_is_whole(trainer):
            super().on_train_epoch_end(trainer, module)
            self.written = time.monotonic()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the state nothing is needed: the next one takes the name."""


class History(Callback):
    """Keeps every epoch's values, through checkpoints too; Lightning's CSVLogger begins anew on
    resume, and deletes what was there. `meta` is written into every checkpoint as ``"run"``."""

    def __init__(self, meta: dict[str, Any] | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self.meta = meta or {}

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not epoch_is_whole(trainer):
            return
        names = [name for name in trainer.callback_metrics if name.startswith(("train_", "val_"))]
        if not validates_now(trainer):
            names = [name for name in names if not name.startswith("val_")]
        row = {"epoch": float(trainer.current_epoch + 1)}
        row.update({name: float(trainer.callback_metrics[name]) for name in sorted(names)})
        self.rows.append(row)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = self.meta

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class Progress(ProgressBar):
    """One bar over all steps of the run, on stderr: an epoch of one graph is one step, and
    Lightning's own bars begin anew with each."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: Any = None
        self.off = False

    def disable(self) -> None:
        self.off = True

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.off or sys.stderr is None or sys.stderr.closed:
            return
        from tqdm import tqdm

        self.bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc="training",
            unit="step",
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,  # a log file gets few lines
        )

    def on_train_batch_end(self, *args: Any) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.bar is not None:
            shown = {k: v for k, v in trainer.callback_metrics.items() if k in _SHOWN}
            text = {k: f"{float(v):.3g}" for k, v in shown.items()}
            self.bar.set_postfix(epoch=trainer.current_epoch + 1, **text, refresh=False)

    def on_train_end(self, *args: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, *args: Any) -> None:
        self.on_train_end()


class FirstPicture(Callback):
    """Draws what there is to see of the network after the first few seconds of a long run."""

    after = 5.0

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.start = float("inf")

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.start = time.monotonic() if trainer.is_global_zero else float("inf")

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking or time.monotonic() - self.start < self.after:
            return
        self.start = float("inf")
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # a resumed run draws none
            for path in self.draw(module):
                tell(f"first picture: {path}")


def tell(text: str) -> None:
    """A line on stderr, where there is one, that leaves a bar whole."""
    if sys.stderr is not None and not sys.stderr.closed:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


_SHOWN = ("train_loss", "val_loss", "val_accuracy", "val_mean_iou")


class Interrupt(Callback):
    """Turns the first Ctrl-C or SIGTERM into a stop after the running step; the second Ctrl-C is
    immediate. `signal` is the one that came, or 0.

    During the first epoch the stop waits for the epoch's end, so that there is a checkpoint. Of
    several processes all stop after the step in which one of them was told to.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.trainer: Trainer | None = None
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer = trainer
        try:  # here, because Lightning has just taken SIGTERM for itself
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: signals are not ours
            pass

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.world_size > 1:
            pressed = trainer.strategy.reduce_boolean_decision(bool(self.signal), all=False)
            self.signal = self.signal or (signal.SIGINT if pressed else 0)
            trainer.should_stop |= pressed

    def on_train_end(self, *args: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_exception(self, *args: Any) -> None:
        self.on_train_end()

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        assert self.trainer is not None
        if self.trainer.world_size == 1:
            self.trainer.should_stop = True


def epoch_is_whole(trainer: Trainer) -> bool:
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def validates_now(trainer: Trainer) -> bool:
    """Whether this epoch is a whole one that ends in a validation."""
    every = trainer.check_val_every_n_epoch or 1
    return epoch_is_whole(trainer) and (trainer.current_epoch + 1) % every == 0
