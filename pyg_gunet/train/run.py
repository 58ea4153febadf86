"""Fit, evaluate, embed: what the command line calls, usable from Python as well."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import InMemoryDataset

from pyg_gunet.data import load
from pyg_gunet.files import check_path, first_line, read_torch, write_aside
from pyg_gunet.settings import Settings
from pyg_gunet.train.callbacks import (
    BEST,
    LAST,
    Checkpoints,
    History,
    Interrupt,
)
from pyg_gunet.train.launch import check_sharing, launched, make_trainer, one_by_one, train
from pyg_gunet.train.loading import alone
from pyg_gunet.train.pictures import draw_curve
from pyg_gunet.train.tasks import GraphModule, Splits, Task, get_task
from pyg_gunet.validate import check_bool, check_choice

PathLike = str | os.PathLike[str]


@dataclass
class Run:
    """What :func:`fit` did: figures, the files in `folder`, and whether Ctrl-C stopped it. Of
    several processes the one of `rank` 0 has the figures and wrote the files."""

    folder: Path
    figures: dict[str, Any]
    files: list[Path]
    interrupted: bool = False
    rank: int = 0


def fit(
    settings: Settings | None = None,
    out: PathLike | None = None,
    *,
    overwrite: bool = False,
    resume: PathLike | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Run:
    r"""Trains, and writes checkpoints, figures and pictures to a folder.

    With more than one of ``settings.devices`` this script is started once more for each further
    device, by Lightning, or once for each by ``torchrun``; every step's batch is shared out among
    them, and the losses are those of one process.

    Args:
        settings (Settings, optional): What to train. With `resume` they come from the checkpoint.
            (default: all defaults)
        out (str, optional): The run's folder. (default: the first free one of
            ``runs/DATASET-TASK``, ``runs/DATASET-TASK-2``, ...; with `resume` the checkpoint's)
        overwrite (bool, optional): Replace the files of a run in `out`, as soon as the new one has
            a checkpoint. (default: :obj:`False`)
        resume (str, optional): A checkpoint, or a run's folder, to go on from: the outcome is that
            of an unbroken run. (default: :obj:`None`)
        changes (dict, optional): Settings to change on `resume`: those that do not alter the
            model. Others must equal the checkpoint's. (default: :obj:`None`)
        progress (bool, optional): Show a progress bar. (default: :obj:`False`)

    Raises:
        FileExistsError: If `out` exists, without `overwrite`.
        ValueError, TypeError: On bad settings, an unreadable checkpoint or an unreadable data set.
        OSError: If a file cannot be read or written.
    """
    check_bool(overwrite, "overwrite")
    check_bool(progress, "progress")
    if settings is not None and not isinstance(settings, Settings):
        raise TypeError(f"'settings' must be Settings (got {settings!r:.80})")
    if changes is not None and not isinstance(changes, Mapping):
        raise TypeError(f"'changes' must be a dict (got {changes!r:.80})")
    out = None if out is None else check_path(out, "out")
    checkpoint = None
    if resume is not None:
        resume = check_path(resume, "resume")
        if settings is not None:
            raise ValueError("'settings' must be None with 'resume': the checkpoint holds them")
        resume = resume / LAST if resume.is_dir() else resume
        checkpoint = _read_checkpoint(resume, "resume")
        if not checkpoint.get("optimizer_states") or "loops" not in checkpoint:
            raise ValueError(f"'resume' holds no state of training (got '{resume}')")
        settings = _changed(checkpoint["hyper_parameters"]["settings"], changes or {})
        out = resume.parent if out is None else out
    elif changes:
        raise ValueError(f"'changes' go with 'resume' only (got {sorted(changes)})")
    settings = launched(settings or Settings())
    task = get_task(settings.task)
    folder = _default_folder(settings) if out is None else Path(out)
    goes_on = resume is not None and folder.resolve() == Path(resume).resolve().parent
    _check_folder(folder, overwrite or goes_on)

    with one_by_one(settings.root):
        dataset = load(settings.dataset, settings.root, **settings.dataset_options)
    settings = settings.filled(**task.defaults(settings, dataset))
    if checkpoint is not None:
        _check_sizes(task, checkpoint["hyper_parameters"], checkpoint, "resume")
    module, splits = _build(task, settings, dataset)
    if checkpoint is not None:
        _load_weights(module, checkpoint, "resume")
    inherited = None if resume is None or goes_on else Path(resume).parent / BEST
    checkpoints = Checkpoints(folder, task.monitor, task.mode, goes_on, inherited)
    history = History()
    trainer = make_trainer(settings, splits, task, [history, checkpoints], progress)
    start = time.monotonic()
    with Interrupt(trainer) as interrupt:
        train(trainer, module, splits, None if resume is None else str(resume), interrupt)
    if trainer.global_rank != 0:
        return Run(folder, {}, [], interrupt.pressed, trainer.global_rank)
    if resume is not None and not checkpoints.claimed and not interrupt.pressed:
        checkpoints.adopt(Path(resume))
    if interrupt.pressed and not checkpoints.complete:
        files = [folder / LAST] if (folder / LAST).is_file() else []
        return Run(folder, {"epochs": trainer.current_epoch}, files, interrupted=True)

    best = folder / BEST if (folder / BEST).is_file() else folder / LAST
    _load_weights(module, _read_checkpoint(best, "best.ckpt"), "best.ckpt")
    figures = {
        **_describe(settings, dataset, module, splits),
        "epochs": trainer.current_epoch,
        "best_epoch": checkpoints.best_epoch,
        "seconds": round(time.monotonic() - start, 1),
    }
    with alone():  # the other processes are done
        results, pictures = task.report(module.eval().cpu(), splits, folder)
    figures.update(results, settings=settings.as_dict(), versions=_versions())
    with write_aside(folder / "metrics.json") as file:
        file.write(json.dumps(figures, indent=2).encode() + b"\n")
    _write_history(folder / "history.csv", history.rows)
    draw_curve(folder / "loss.png", history.rows, checkpoints.best_epoch)
    names = [BEST, LAST, "metrics.json", "history.csv", "loss.png"]
    return Run(folder, figures, [folder / name for name in names] + pictures)


def evaluate(ckpt: PathLike, **changes: Any) -> dict[str, Any]:
    r"""The figures of a checkpoint on the test part of its data set.

    Args:
        ckpt (str): A checkpoint of :func:`fit`.
        **changes: `root`, or another `dataset` with as many features.

    Raises:
        ValueError, TypeError, OSError: If a file cannot be read, or does not fit.
    """
    task, module, dataset = _restore(ckpt, changes)
    splits = task.prepare(module.settings, dataset)
    results, _ = task.report(module, splits, None)
    return {**_describe(module.settings, dataset, module, splits), **results}


def embed(
    ckpt: PathLike, out: PathLike, *, level: str = "nodes", overwrite: bool = False, **changes: Any
) -> dict[str, tuple[int, ...]]:
    r"""Writes the embeddings of all graphs of a checkpoint's data set to an ``.npz`` file.

    Args:
        ckpt (str): A checkpoint of :func:`fit` of a task with embeddings.
        out (str): The file: arrays `z`, `graph` (of each row), `node` (of each row, with
            ``'latent'``) and `y`, where the data set has one label per row.
        level (str, optional): ``'nodes'``, ``'graph'`` or ``'latent'``, the nodes of the coarsest
            level. (default: ``'nodes'``)
        overwrite (bool, optional): Replace `out`. (default: :obj:`False`)
        **changes: `root`, or another `dataset` with as many features.

    Returns:
        The shapes of the arrays.
    """
    out = check_path(out, "out")
    check_bool(overwrite, "overwrite")
    check_choice(level, "level", ("nodes", "graph", "latent"))
    if out.is_dir() or (out.exists() and not overwrite):
        raise FileExistsError(f"'out' exists (got '{out}'); --overwrite replaces a file")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise FileNotFoundError(f"'out' must lie in a folder that can be written (got '{out}')")
    task, module, dataset = _restore(ckpt, changes)
    if not hasattr(module, "embed"):
        raise ValueError(f"'ckpt' is of the task {task.name!r}, which has no embeddings")
    from torch_geometric.loader import DataLoader

    parts: list[dict[str, np.ndarray]] = []
    graphs = nodes = 0
    with torch.no_grad():
        for data in DataLoader(list(dataset), batch_size=module.settings.batch_size):
            part = {key: value.numpy() for key, value in module.embed(data, level).items()}
            part["graph"] = part["graph"] + graphs
            if "node" in part:
                part["node"] = part["node"] + nodes
            y = data.get("y")
            if y is not None and y.dim() == 1 and len(y) == len(part["z"]):
                part["y"] = y.numpy()
            graphs, nodes = graphs + data.num_graphs, nodes + data.num_nodes
            parts.append(part)
    arrays: dict[str, Any] = {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }
    with write_aside(out) as file:
        np.savez_compressed(file, **arrays)
    return {key: value.shape for key, value in arrays.items()}


# The parts ------------------------------------------------------------------------------------


def _changed(stored: Any, changes: Mapping[str, Any]) -> Settings:
    """The settings of a checkpoint, with changes that leave the model as it is."""
    settings = Settings.from_dict(stored)
    free = {item.name for item in fields(Settings) if item.metadata.get("resume")}
    unknown = set(map(str, changes)) - {item.name for item in fields(Settings)}
    if unknown:
        raise ValueError(f"'changes' hold unknown names (got {sorted(unknown)})")
    for name, value in changes.items():
        if name not in free and value != getattr(settings, name):
            raise ValueError(
                f"'{name}' cannot change on 'resume': the checkpoint has "
                f"{getattr(settings, name)!r} (got {value!r})"
            )
    return replace(settings, **changes)


def _default_folder(settings: Settings) -> Path:
    name = Path(settings.dataset).stem if os.sep not in settings.dataset else settings.dataset
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:] or "graph"
    base = Path("runs") / f"{name}-{settings.task}"
    return next(
        path
        for i in itertools.count(1)
        if not (path := base if i == 1 else base.with_name(f"{base.name}-{i}")).exists()
    )


def _check_folder(folder: Path, may_exist: bool) -> None:
    if os.path.lexists(folder):
        if not folder.is_dir():
            raise FileExistsError(f"'out' must be a folder, it is a file (got '{folder}')")
        if not may_exist:
            raise FileExistsError(f"'out' exists (got '{folder}'); --overwrite replaces its run")
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"'out' lies below a file, '{above}' (got '{folder}')")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"'out' cannot be written: '{above}' is read-only (got '{folder}')")


def _build(task: Task, settings: Settings, dataset: InMemoryDataset) -> tuple[GraphModule, Splits]:
    splits = task.prepare(settings, dataset)
    check_sharing(settings, splits)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        module = task.module(settings.as_dict(), task.channels(dataset))
    with alone():  # every process reads all of the training data
        module.learn_statistics(splits.val if splits.sampled else splits.train)
    return module, splits


def _read_checkpoint(path: PathLike, name: str) -> dict[str, Any]:
    checkpoint = read_torch(path, name)
    hyper = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not (
        isinstance(hyper, dict)
        and {"settings", "channels"} <= set(hyper)
        and isinstance(checkpoint.get("state_dict"), dict)
    ):
        raise ValueError(f"'{name}' is not a checkpoint of pyg-gunet (got '{path}')")
    return checkpoint


def _check_sizes(task: Task, hyper: dict[str, Any], checkpoint: dict[str, Any], name: str) -> None:
    """Compares sizes without memory: settings may ask for more than there is."""
    with torch.device("meta"):
        wanted = task.module(hyper["settings"], hyper["channels"]).state_dict()
    found = checkpoint["state_dict"]
    for key in sorted({*wanted, *found}):
        shapes = [list(getattr(state.get(key), "shape", ())) for state in (wanted, found)]
        if key not in wanted or key not in found or shapes[0] != shapes[1]:
            raise ValueError(
                f"'{name}' does not fit its own settings: {key!r} has shape {shapes[1]}, "
                f"not {shapes[0]}"
            )


def _load_weights(module: GraphModule, checkpoint: dict[str, Any], name: str) -> None:
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except Exception as error:  # torch raises RuntimeError with a line per key
        lines = str(error).splitlines()
        reason = lines[1].strip() if len(lines) > 1 else first_line(error)
        raise ValueError(f"'{name}' does not fit the model: {reason[:200]}") from error


def _restore(ckpt: PathLike, changes: dict[str, Any]) -> tuple[Task, Any, InMemoryDataset]:
    """The task, the module with its weights, in eval mode, and the data set of a checkpoint."""
    ckpt = check_path(ckpt, "ckpt")
    ckpt = ckpt / BEST if ckpt.is_dir() else ckpt
    checkpoint = _read_checkpoint(ckpt, "ckpt")
    hyper = checkpoint["hyper_parameters"]
    settings = Settings.from_dict(hyper["settings"])
    unknown = set(changes) - {"root", "dataset"}
    if unknown:
        raise TypeError(f"'changes' must be among dataset, root (got {sorted(unknown)})")
    settings = replace(settings, **changes)
    task = get_task(settings.task)
    dataset = load(settings.dataset, settings.root, **settings.dataset_options)
    found = task.channels(dataset)
    if found != hyper["channels"]:
        raise ValueError(
            f"'dataset' must fit the checkpoint, {hyper['channels']} "
            f"(got {found} in {settings.dataset!r})"
        )
    _check_sizes(task, hyper, checkpoint, "ckpt")
    module = task.module(settings.as_dict(), found)
    _load_weights(module, checkpoint, "ckpt")
    return task, module.eval(), dataset


def _describe(
    settings: Settings, dataset: InMemoryDataset, module: GraphModule, splits: Splits
) -> dict[str, Any]:
    return {
        "dataset": settings.dataset,
        "task": settings.task,
        "split": splits.note,
        "graphs": len(dataset),
        "nodes": int(sum(data.num_nodes for data in dataset)),
        "edges": int(sum(data.num_edges for data in dataset)),
        "features": int(dataset.num_node_features),
        "parameters": sum(p.numel() for p in module.parameters()),
        "seed": settings.seed,
    }


def _versions() -> dict[str, str]:
    import importlib.metadata as metadata

    names = ("pyg_gunet", "torch", "torch-geometric", "pytorch-lightning")
    return {name: metadata.version(name) for name in names}


def _write_history(path: Path, rows: list[dict[str, float]]) -> None:
    columns = ["epoch", *sorted({key for row in rows for key in row} - {"epoch"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)
    with write_aside(path) as file:
        file.write(text.getvalue().encode())
