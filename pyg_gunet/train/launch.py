"""The processes of a run and its trainer: who there is, what they share, how they start and end."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer

from pyg_gunet.train.callbacks import Interrupt, Progress, SafeCheckpointIO
from pyg_gunet.train.config import Config, merged
from pyg_gunet.train.data import GraphData
from pyg_gunet.train.loading import SharedBatches
from pyg_gunet.train.module import find_class

PathLike = str | os.PathLike[str]


def rank() -> int:
    """This process's number among those of the run, before they know each other."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))


def launched(config: Config) -> Config:
    """The settings with the processes that torchrun started, where it did."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return config
    local, world = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return merged(config, {"trainer": {"devices": local, "num_nodes": world // local}})


@contextmanager
def one_by_one(root: PathLike) -> Iterator[None]:
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


def processes(config: Config) -> int:
    devices, nodes = (config["trainer"].get(key) or 1 for key in ("devices", "num_nodes"))
    return int(devices) * int(nodes) if isinstance(devices, int) else 1


def check_sharing(config: Config, data: Any, loader: Any) -> None:
    """Whether the data can be shared out among the processes, and whether they can meet."""
    world, hosts = processes(config), config["trainer"].get("num_nodes") or 1
    if hosts > 1 and not {"MASTER_ADDR", "SLURM_JOB_ID"} & set(os.environ):
        raise ValueError(
            f"'hosts' needs torchrun on each, or MASTER_ADDR and NODE_RANK (got {hosts} without); "
            "1 goes on with a run on one"
        )
    if world == 1 or not isinstance(data, GraphData):
        return
    if not isinstance(getattr(loader, "batch_sampler", None), SharedBatches):
        raise ValueError(
            f"'devices' cannot share one graph: 'loader' must be random or neighbor "
            f"(got {world} processes)"
        )
    if data.batch_size < world:
        raise ValueError(
            f"'batch_size' must be at least the number of processes, {world} "
            f"(got {data.batch_size})"
        )


def make_trainer(
    config: Config,
    data: Any,
    monitor: tuple[str, str],
    own: list[Any],
    callbacks: Sequence[Any],
    logger: Any,
    folder: Path,
    progress: bool,
) -> Trainer:
    from pytorch_lightning.callbacks import EarlyStopping
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
    from pytorch_lightning.plugins.environments import LightningEnvironment

    options = {
        key: instantiated(value) for key, value in config["trainer"].items() if value is not None
    }
    epochs = options.setdefault("max_epochs", 100)
    whole = isinstance(data, GraphData) and data.one_graph
    # On one graph an epoch is a step: validating after each would double the time.
    every = options.setdefault("check_val_every_n_epoch", max(1, epochs // 100) if whole else 1)
    if 0 < epochs < every:  # else no epoch would be read, and none kept
        told = f"'check_val_every_n_epoch' is {every} of {epochs} epochs: validated after the last"
        warnings.warn(told, stacklevel=2)
        options["check_val_every_n_epoch"] = every = epochs
    callbacks = [*callbacks, *(options.pop("callbacks", None) or [])]
    stored = options.pop("logger", None)
    logger = stored if logger is None else logger
    named = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}
    if isinstance(logger, str):
        if logger not in named:
            raise ValueError(f"'logger' must be csv, tensorboard or a Logger (got {logger!r})")
        logger = named[logger](folder, "logs", "")
    if config.get("patience"):
        patience = max(1, round(config["patience"] / every))
        callbacks.insert(
            0,
            EarlyStopping(
                monitor[0], patience=patience, mode=monitor[1], check_on_train_epoch_end=False
            ),
        )
    plugins = [SafeCheckpointIO(), *(options.pop("plugins", None) or [])]
    if processes(config) == 1:
        options.setdefault("devices", 1)
        if "SLURM_JOB_ID" in os.environ or "SLURM_NTASKS" in os.environ:
            plugins.append(LightningEnvironment())  # a job's variables are no order to share
    elif options.get("strategy", "auto") == "auto":
        options["strategy"] = "ddp"
    options.update(num_sanity_val_steps=0, use_distributed_sampler=False)
    options.setdefault("enable_model_summary", False)
    with silence():
        return Trainer(
            **options,
            enable_progress_bar=progress,
            logger=logger or False,
            callbacks=[*callbacks, *own, *([Progress()] if progress else [])],
            plugins=plugins,
        )


def instantiated(value: Any) -> Any:
    """The object that settings name by class path, or the value itself."""
    if isinstance(value, list):
        return [instantiated(item) for item in value]
    if isinstance(value, dict) and "class_path" in value:
        cls = find_class(value["class_path"], "class_path", object, "pytorch_lightning")
        return cls(
            **{key: instantiated(item) for key, item in (value.get("init_args") or {}).items()}
        )
    return value


@contextmanager
def silence() -> Iterator[None]:
    """Without Lightning's advice on workers and on logging, which does not fit graphs in memory."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        warnings.filterwarnings("ignore", message=".*(num_workers|torch_geometric.distributed).*")
        yield


def run_trainer(
    trainer: Trainer,
    model: Any,
    data: Any,
    folder: Path,
    resume: Path | None,
    interrupt: Interrupt,
) -> None:
    grouped = _group_size() > 0
    with silence():
        try:
            path = None if resume is None else str(resume)
            trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
        except RuntimeError as error:
            if _group_size() < 2 or not any(word in str(error) for word in ("gloo", "NCCL")):
                raise
            raise RuntimeError(
                "another process of the run has ended, and this one with it; to go on from the "
                f"last checkpoint, resume '{folder}' ({str(error).splitlines()[0]})"
            ) from error
        except SystemExit as error:  # Lightning's own answer to a KeyboardInterrupt
            if interrupt.signal:
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
