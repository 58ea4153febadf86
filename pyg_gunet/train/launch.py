"""The processes of a run and its trainer: who there is, what they share, how they start and end."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch

from pyg_gunet.settings import Settings
from pyg_gunet.train.callbacks import Interrupt, Progress, SafeCheckpointIO
from pyg_gunet.train.loading import SharedBatches
from pyg_gunet.train.tasks import GraphModule, Splits, Task


def launched(settings: Settings) -> Settings:
    """The settings with the processes that torchrun started, where it did."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return settings
    devices, world = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return replace(settings, devices=devices, hosts=world // devices)


@contextmanager
def one_by_one(root: str) -> Iterator[None]:
    """Of the processes of a run on one machine, one at a time makes or reads the files in `root`:
    PyG writes `processed/` without asking whether another process does."""
    folder = None
    if "LOCAL_RANK" in os.environ:
        with suppress(ImportError, OSError):  # not Linux, no such folder, no locks on it
            import fcntl

            folder = os.open(root, os.O_RDONLY)
            fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if folder is not None:
            os.close(folder)


def check_sharing(settings: Settings, splits: Splits) -> None:
    """Whether the data can be sampled, and shared out among the processes, as the settings say."""
    if settings.loader != "full" and not splits.sampled:
        raise ValueError(
            f"'loader' goes with 'dataset' of one graph, and with the tasks classify and "
            f"autoencode (got {settings.loader!r} with {settings.dataset!r})"
        )
    processes = settings.devices * settings.hosts
    if processes == 1:
        return
    if splits.one_graph:
        raise ValueError(
            f"'devices' cannot share one graph: 'loader' must be random or neighbor "
            f"(got {processes} processes)"
        )
    if not isinstance(getattr(splits.train, "batch_sampler", None), SharedBatches):
        raise ValueError(
            f"'devices' must be 1 for the task {settings.task!r} (got {processes} processes)"
        )
    if settings.batch_size < processes:
        raise ValueError(
            f"'batch_size' must be at least the number of processes, {processes} "
            f"(got {settings.batch_size})"
        )


def make_trainer(
    settings: Settings, splits: Splits, task: Task, callbacks: list[Any], progress: bool
) -> Any:
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import EarlyStopping

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    assert settings.epochs is not None
    # On one graph an epoch is a step: validating after each would double the time.
    every = max(1, settings.epochs // 100) if splits.one_graph else 1
    if settings.patience:
        patience = max(1, round(settings.patience / every))
        stop = EarlyStopping(
            task.monitor, patience=patience, mode=task.mode, check_on_train_epoch_end=False
        )
        callbacks = [stop, *callbacks]
    processes = settings.devices * settings.hosts
    return Trainer(
        max_epochs=settings.epochs,
        min_epochs=1,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.hosts,
        strategy="ddp" if processes > 1 else settings.strategy,
        use_distributed_sampler=False,  # our loaders share out by themselves
        precision=settings.precision,  # type: ignore[arg-type]
        check_val_every_n_epoch=every,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, Progress()] if progress else callbacks,
        plugins=[SafeCheckpointIO()],
    )


def train(
    trainer: Any, module: GraphModule, splits: Splits, resume: str | None, interrupt: Interrupt
) -> None:
    grouped = _group_size() > 0
    with warnings.catch_warnings():
        # Lightning's advice on workers and on logging, which does not fit graphs in memory.
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        warnings.filterwarnings("ignore", message=".*(num_workers|torch_geometric.distributed).*")
        try:
            trainer.fit(module, splits.train, splits.val, ckpt_path=resume)
        except SystemExit as error:  # Lightning's own answer to a KeyboardInterrupt
            if interrupt.pressed:
                raise KeyboardInterrupt from error
            raise
        finally:
            # A group of this process alone (strategy='ddp' with one device) would outlive the run
            # and hinder the caller's next one; a larger one ends with its processes.
            if not grouped and _group_size() == 1:
                torch.distributed.destroy_process_group()


def _group_size() -> int:
    """The number of processes in the default process group; 0 where there is none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 0
