"""Fit, test, predict, embed: what the command line calls, usable from Python as well."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
import torch_geometric
import yaml
from pytorch_lightning import LightningDataModule, LightningModule

import pyg_gunet
from pyg_gunet.files import check_path, write_aside
from pyg_gunet.train import config as configs
from pyg_gunet.train import pictures
from pyg_gunet.train.callbacks import (
    Best,
    FirstPicture,
    History,
    Interrupt,
    Last,
    SafeCheckpointIO,
)
from pyg_gunet.train.config import Config
from pyg_gunet.train.data import GraphData, check_dataset
from pyg_gunet.train.folder import BEST, LAST, RunFolder
from pyg_gunet.train.launch import (
    PathLike,
    check_sharing,
    launched,
    make_trainer,
    one_by_one,
    rank,
    run_trainer,
)
from pyg_gunet.train.loading import alone
from pyg_gunet.train.module import GraphModule
from pyg_gunet.train.report import write_report
from pyg_gunet.train.restore import (
    by_nodes,
    check_sizes,
    configs_path,
    load_weights,
    read_checkpoint,
)
from pyg_gunet.validate import check_bool

FREE = (
    *("root", "max_epochs", "accelerator", "devices", "num_nodes", "strategy", "precision"),
    *("callbacks", "logger", "plugins", "check_val_every_n_epoch"),
)


@dataclass
class Run:
    """What :func:`fit` did: figures, the files in `folder`, and the signal that stopped it (0:
    none). Of several processes the one of `rank` 0 has the figures and wrote the files."""

    folder: Path
    figures: dict[str, Any]
    files: list[Path]
    signal: int = 0
    rank: int = 0


def fit(
    dataset: Any = "bunny",
    model: str | LightningModule = "autoencode",
    out: PathLike | None = None,
    *,
    callbacks: Sequence[Any] = (),
    logger: Any = None,
    overwrite: bool = False,
    resume: PathLike | None = None,
    progress: bool = False,
    seed: int = 0,
    patience: int | None = None,
    **options: Any,
) -> Run:
    r"""Trains, and writes checkpoints, figures and pictures to a folder.

    Args:
        dataset (str, Data, Dataset or LightningDataModule, optional): A name or path for
            :func:`pyg_gunet.load`, a graph or data set of PyG, or a data module.
            (default: ``"bunny"``)
        model (str or LightningModule, optional): A task (autoencode, masked, classify,
            classify_graphs, regress, segment), a class path, or a module.
            (default: ``"autoencode"``)
        out (str, optional): The run's folder. (default: the first free one of
            ``runs/DATASET-TASK``, ``runs/DATASET-TASK-2``, ...; with `resume` the checkpoint's)
        callbacks (sequence, optional): Lightning callbacks. (default: none)
        logger (str or Logger, optional): ``'csv'`` or ``'tensorboard'``, in the run's folder, or a
            logger of Lightning's. (default: None)
        overwrite (bool, optional): Replace the files of a run in `out`, as soon as the new one has
            a checkpoint. (default: False)
        resume (str, optional): A checkpoint, or a run's folder, to go on from: the outcome is that
            of an unbroken run. `dataset` and `model` come from it. (default: None)
        progress (bool, optional): Show a progress bar. (default: False)
        seed (int, optional): Seed of weights, splits, order and dropout. (default: 0)
        patience (int, optional): Stop after so many epochs without a better validation value; 0:
            never. (default: the task's)
        **options: Arguments of the task's module, of the data module and of Lightning's Trainer, by
            name (`epochs` is `max_epochs`), over the defaults for the task and kind of data.

    Raises:
        FileExistsError: If `out` exists, without `overwrite`.
        ValueError, TypeError: On bad options, an unreadable checkpoint or an unreadable data set.
        OSError: If a file cannot be read or written.
    """
    if resume is not None:
        changes = {**options, **({"seed": seed} if seed else {})}
        return resume_run(resume, changes, out, callbacks, logger, overwrite, progress)
    check_out(out, overwrite)
    if not isinstance(model, (str, LightningModule)):
        raise TypeError(f"'model' must be a str or a LightningModule (got {model!r:.80})")
    dataset = os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset
    check_dataset(dataset)
    task = model if isinstance(model, str) else configs_path(type(model))
    made = dataset if isinstance(dataset, LightningDataModule) else None
    base: Config = {"task": task, "seed": seed}
    if patience is not None:
        base["patience"] = patience
    model_class = configs.task_class(model) if isinstance(model, str) else type(model)

    def parse(datamodule: str, shipped: Config) -> Config:
        data_class = configs.data_class(datamodule)
        given = configs.route(options, model_class, data_class)
        shipped = shipped if isinstance(model, str) else {"trainer": shipped.get("trainer", {})}
        config = configs.merged(configs.adapted(shipped, given["model"]), base, given)
        config["data"].setdefault("dataset", dataset)
        if not isinstance(model, str):
            config["model"] = plain(dict(model.hparams))
        return {**config, "datamodule": datamodule}

    if made is None:
        config, data = configs.prepare(task, None, parse, dataset)
    else:
        config, data = parse(configs_path(type(made)), {}), made
        names = configs.parameters(type(made)) - {"seed"}
        config["data"] = {key: getattr(made, key) for key in names if hasattr(made, key)}
    return train(
        config, data, None if isinstance(model, str) else model,
        out=out, callbacks=callbacks, logger=logger, overwrite=overwrite, progress=progress,
    )  # fmt: skip


def train(
    config: Config,
    data: Any,
    model: LightningModule | None = None,
    *,
    out: PathLike | None = None,
    callbacks: Sequence[Any] = (),
    logger: Any = None,
    overwrite: bool = False,
    resume: Path | None = None,
    progress: bool = False,
    verbose: bool = False,
) -> Run:
    """Trains what is configured; the inner half of :func:`fit`."""
    check_bool(overwrite, "overwrite")
    check_bool(progress, "progress")
    config = launched(config)
    folder: Any = nullcontext()
    if rank() == 0:
        folder = make_folder(config, data, out, overwrite, resume)
    with one_by_one(getattr(data, "root", ".")):
        data.setup("fit")
    if isinstance(data, GraphData) and issubclass(configs.task_class(config["task"]), GraphModule):
        configs.task_class(config["task"]).check(data)  # type: ignore[attr-defined]
    if model is None:
        model = configs.make_model(config, data)
    loader = data.train_dataloader()
    check_sharing(config, data, loader)
    model.run_seed = config.get("seed", 0)  # type: ignore[assignment]
    checkpoint = None if resume is None else read_checkpoint(resume, "resume")
    if isinstance(model, GraphModule):
        with alone():  # every process reads all of the training data
            model.learn_statistics(data.train_graphs())
    if checkpoint is not None:
        load_weights(model, checkpoint, "resume")
    if verbose and rank() == 0 and isinstance(data, GraphData):
        told = data.describe(by_nodes(model))
        print(f"{told['dataset']}: {told['split']}\n{yaml.safe_dump(plain(config))}", end="")
    start = time.monotonic()
    with folder as claimed:
        path = Path(out or "runs") if claimed is None else claimed.path
        if resume is not None and claimed is not None and not claimed.goes_on:
            inherit(resume, path)
        history = History({"config": plain(config), "version": 1, "names": names_of(data)})
        interrupt = Interrupt()
        monitor, mode = getattr(model, "monitor", "val_loss"), getattr(model, "mode", "min")
        best = Best(path, monitor, mode)
        own: list[Any] = [interrupt, history, best, Last(path)]
        if verbose and hasattr(model, "draw"):
            own.append(FirstPicture(lambda module: module.draw(data, path)))
        trainer = make_trainer(
            config, data, (monitor, mode), own, callbacks, logger, path, progress
        )
        run_trainer(trainer, model, data, path, resume, interrupt)
        if trainer.global_rank != 0:
            return Run(path, {}, [], interrupt.signal, trainer.global_rank)
        if interrupt.signal and trainer.current_epoch != trainer.max_epochs:
            files = [path / LAST] if (path / LAST).is_file() else []
            return Run(path, {"epochs": trainer.current_epoch}, files, interrupt.signal)
        chosen = path / BEST if (path / BEST).is_file() else path / LAST
        checkpoint = read_checkpoint(chosen, "best.ckpt")
        load_weights(model, checkpoint, "best.ckpt")
        figures: dict[str, Any] = {"task": config["task"], "seed": config.get("seed", 0)}
        if isinstance(data, GraphData):
            figures.update(data.describe(by_nodes(model)))
        figures.update(
            parameters=sum(p.numel() for p in model.parameters()),
            epochs=trainer.current_epoch,
            best_epoch=best.epoch,
            seconds=round(time.monotonic() - start, 1),
        )
        made: list[Path] = []
        model.eval().cpu()
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
            model.float()  # as from a checkpoint
        with alone():  # the other processes are done
            if isinstance(model, GraphModule):
                if model.settle(data):
                    checkpoint["state_dict"] = model.state_dict()
                    SafeCheckpointIO().save_checkpoint(checkpoint, chosen)
                results, made = model.report(data, path)
                figures.update(results)
            else:
                figures.update({k: float(v) for k, v in trainer.callback_metrics.items()})
            made.insert(0, pictures.curve(path, history.rows, best.epoch))
        figures.update(settings=plain(config), versions=versions())
        write_text(path / "metrics.json", json.dumps(figures, indent=2) + "\n")
        write_text(path / "history.csv", table(history.rows))
        write_text(path / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False))
        write_report(path / "report.html", figures, made)
        names = [BEST, LAST, "metrics.json", "history.csv", "config.yaml", "report.html"]
        files = [path / name for name in names if (path / name).is_file()]
        return Run(path, figures, files + made)


def resume_run(
    resume: PathLike,
    changes: Mapping[str, Any],
    out: PathLike | None = None,
    callbacks: Sequence[Any] = (),
    logger: Any = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Run:
    """Goes on from a checkpoint, with changes that leave the model as it is."""
    path = check_path(resume, "resume")
    path = path / LAST if path.is_dir() else path
    checkpoint = read_checkpoint(path, "resume")
    if not checkpoint.get("optimizer_states") or "loops" not in checkpoint:
        raise ValueError(f"'resume' holds no state of training (got '{path}')")
    config = checkpoint["run"]["config"]
    model_class = configs.task_class(config["task"])
    data_class = configs.data_class(config["datamodule"])
    own = {key: value for key, value in changes.items() if key in ("seed", "patience", "logger")}
    given = configs.route(
        {key: value for key, value in changes.items() if key not in own}, model_class, data_class
    )
    config = changed(config, {**given, **own})
    options = {**config["data"], "seed": config.get("seed", 0)}
    configs.check(config)
    check_sizes(config, checkpoint, "resume")
    data = data_class(
        **{key: value for key, value in options.items() if key in configs.parameters(data_class)}
    )
    return train(
        config, data, resume=path, out=path.parent if out is None else out,
        callbacks=callbacks, logger=logger, overwrite=overwrite, progress=progress,
    )  # fmt: skip


def changed(stored: Config, given: Config) -> Config:
    """The settings of a checkpoint, with changes that leave the model as it is."""
    for group, values in given.items():
        old = stored.get(group, {})
        for name, value in values.items() if isinstance(values, Mapping) else ((group, values),):
            before = old.get(name) if isinstance(old, Mapping) else old
            if name not in FREE and value != before:
                raise ValueError(
                    f"'{name}' cannot change on 'resume': the checkpoint has {before!r} "
                    f"(got {value!r})"
                )
    return configs.merged(stored, given)


def check_out(out: PathLike | None, overwrite: bool) -> None:
    """Refuses a folder before any work; of several processes the first one does."""
    check_bool(overwrite, "overwrite")
    if out is not None and rank() == 0:
        RunFolder(check_path(out, "out").expanduser(), overwrite=overwrite)


def make_folder(
    config: Config, data: Any, out: PathLike | None, overwrite: bool, resume: Path | None
) -> RunFolder:
    if out is not None:
        path = check_path(out, "out").expanduser()
        goes_on = resume is not None and path.resolve() == resume.resolve().parent
        return RunFolder(path, overwrite=overwrite, goes_on=goes_on)
    name = str(getattr(data, "name", type(data).__name__))
    name = Path(name).stem if Path(name).suffix else name
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:] or "graph"
    task = config["task"].rpartition(".")[2].lower()
    return RunFolder(Path("runs") / f"{name}-{task}", free=True)


def inherit(resume: Path, folder: Path) -> None:
    """A run that goes on in another folder takes its checkpoints there."""
    for name, source in ((LAST, resume), (BEST, resume.parent / BEST)):
        if source.is_file():
            with write_aside(folder / name) as file:
                file.write(source.read_bytes())


def names_of(data: Any) -> dict[str, list[str]]:
    """What a data set calls its classes and features, where it has names for them."""
    first = data.graphs[0] if isinstance(data, GraphData) else {}
    found = {kind: first.get(f"{kind}_names") for kind in ("class", "feature")}
    return {kind: [str(name) for name in names] for kind, names in found.items() if names}


def plain(value: Any) -> Any:
    """Plain values alone, for a checkpoint, JSON and YAML; an object by its name."""
    if isinstance(value, Mapping):
        own = ("dataset",)  # an object in its place is not found again
        return {
            str(k): None if k in own and not isinstance(v, str) else plain(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, os.PathLike) else type(value).__name__


def versions() -> dict[str, str]:
    """As the packages tell them: a nightly build is installed under another name."""
    modules = {"pyg_gunet": pyg_gunet, "torch": torch, "torch-geometric": torch_geometric}
    modules["pytorch-lightning"] = pytorch_lightning
    return {name: str(module.__version__) for name, module in modules.items()}


def table(rows: list[dict[str, float]]) -> str:
    columns = ["epoch", *sorted({key for row in rows for key in row} - {"epoch"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    with write_aside(path) as file:
        file.write(text.encode())
