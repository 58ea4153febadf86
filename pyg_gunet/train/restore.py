"""Trained runs: their checkpoints, read so that nothing in them runs, and what they say."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from pyg_gunet.data.names import align_names
from pyg_gunet.files import check_path, first_line, read_torch
from pyg_gunet.train import config as configs
from pyg_gunet.train.config import Config
from pyg_gunet.train.data import GraphData, check_dataset
from pyg_gunet.train.folder import BEST
from pyg_gunet.train.launch import PathLike, silence
from pyg_gunet.train.module import GraphModule, check_trusted


def load_run(ckpt: PathLike, *, device: str = "cpu", **changes: Any) -> tuple[LightningModule, Any]:
    r"""The trained module of a checkpoint, in eval mode, and its data.

    Args:
        ckpt (str): A checkpoint of :func:`fit`, or a run's folder: its best epoch.
        device (str, optional): Where to. (default: ``"cpu"``)
        **changes: Arguments of the data module: `root`, or another `dataset` with as many
            features, ...

    Raises:
        ValueError, TypeError, OSError: If a file cannot be read, or does not fit.

    Example:
        >>> model, data = load_run("runs/bunny-autoencode")  # doctest: +SKIP
        >>> x_hat, z = model(data.graphs[0])  # doctest: +SKIP
    """
    checkpoint = stored(ckpt)
    config = checkpoint["run"]["config"]
    source = changes.get("dataset", config["data"].get("dataset", "bunny"))
    if source is None:
        raise ValueError("'dataset' must be given: the checkpoint was trained on an object")
    check_dataset(source)
    name, other = config["datamodule"], "dataset" in changes
    if other:  # what was said of the old data set says nothing of this one
        name = configs.kind_of(config["task"], source)[0]
    data_class = configs.data_class(name)
    takes = configs.parameters(data_class)
    unknown = set(changes) - takes
    if unknown:
        raise TypeError(f"'changes' must be among {sorted(takes)} (got {sorted(unknown)})")
    kept = {key: value for key, value in config["data"].items() if key in takes}
    if other:
        kept.pop("options", None)
    options = {**kept, "seed": config.get("seed", 0), **changes}
    data: Any = data_class(**options)
    data.read()
    if other and name == "OneGraph" and not data.one_graph:
        return load_run(ckpt, device=device, **{**changes, "dataset": data.graphs})
    names = _names(checkpoint)
    if (
        other
        and isinstance(data, GraphData)
        and any(f"{kind}_names" in data.graphs[0] for kind in names)
    ):
        graphs = list(data.graphs)  # of a file: such a set has no split of its own
        align_names(graphs, names.get("class"), names.get("feature"))
        data.graphs = graphs
    wanted = checkpoint["hyper_parameters"].get("in_channels")
    if wanted is not None and data.sizes["in_channels"] != wanted:
        raise ValueError(
            f"'dataset' must fit the checkpoint, {wanted} features "
            f"(got {data.sizes['in_channels']} in {data.name!r})"
        )
    return trained(checkpoint).to(device), data


def stored(ckpt: PathLike) -> dict[str, Any]:
    """A checkpoint, or the best epoch of a run's folder, of which nothing was run."""
    path = check_path(ckpt, "ckpt")
    checkpoint = read_checkpoint(path / BEST if path.is_dir() else path, "ckpt")
    check_sizes(checkpoint["run"]["config"], checkpoint, "ckpt")
    return checkpoint


def trained(checkpoint: dict[str, Any]) -> LightningModule:
    """The module of a checkpoint, in eval mode."""
    config = checkpoint["run"]["config"]
    with torch.random.fork_rng(devices=[]):
        model = rebuilt(config, checkpoint)
    load_weights(model, checkpoint, "ckpt")
    model.run_seed = config.get("seed", 0)  # type: ignore[assignment]
    model.class_names = _names(checkpoint).get("class")  # type: ignore[assignment]
    return model.eval()


def _names(checkpoint: dict[str, Any]) -> dict[str, list[str]]:
    """What the training data calls its classes and features."""
    names = checkpoint["run"].get("names")
    return names if isinstance(names, dict) else {}


def rebuilt(config: Config, checkpoint: dict[str, Any]) -> LightningModule:
    """The untrained module of a checkpoint."""
    hyper = dict(checkpoint["hyper_parameters"])
    return configs.task_class(config["task"])(**hyper)


def evaluate(ckpt: PathLike, **changes: Any) -> dict[str, Any]:
    r"""The figures of a checkpoint on the test part of its data set, or on all of another.

    Args:
        ckpt (str): A checkpoint of :func:`fit`, or a run's folder.
        **changes: See :func:`load_run`.
    """
    model, data = load_run(ckpt, **changes)
    if not isinstance(model, GraphModule):
        data.setup("test")
        found = Trainer(logger=False, enable_progress_bar=False).test(model, data, verbose=False)
        return dict(found[0])
    if "dataset" not in changes or by_nodes(model):
        data.setup("test")  # a split that was drawn is drawn again, before its parts are asked for
    type(model).check(data)
    if "dataset" in changes:
        data.score_all()
    figures = data.describe(by_nodes(model))
    count = sum(p.numel() for p in model.parameters())
    return {**figures, "parameters": count, **model.report(data, None)[0]}


def validate(ckpt: PathLike, **changes: Any) -> dict[str, Any]:
    """What a checkpoint reads on the validation part of its data set, as while training."""
    model, data = load_run(ckpt, **changes)
    data.setup("validate")
    quiet: Any = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    with silence():
        made = Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet)
        return dict(made.validate(model, data, verbose=False)[0])


def by_nodes(model: LightningModule) -> bool:
    """Whether a task trains on some nodes of one graph."""
    return configs_path(type(model)) in ("classify", "regress")


def configs_path(cls: type) -> str:
    """The class path of a class, or the name of its task."""
    known = {task: name for name, task in configs.TASKS.items()}
    return known.get(cls, f"{cls.__module__}.{cls.__qualname__}")  # type: ignore[arg-type]


def read_checkpoint(path: PathLike, name: str) -> dict[str, Any]:
    """A checkpoint of :func:`fit`, of which nothing was run."""
    checkpoint = read_torch(path, name)
    run = checkpoint.get("run") if isinstance(checkpoint, dict) else None
    config = run.get("config") if isinstance(run, dict) else None
    kinds = {"task": str, "datamodule": str, "model": dict, "data": dict, "trainer": dict}
    if not (
        isinstance(config, dict)
        and all(isinstance(config.get(key), kind) for key, kind in kinds.items())
        and isinstance(checkpoint.get("hyper_parameters"), dict)
        and isinstance(checkpoint.get("state_dict"), dict)
    ):
        raise ValueError(f"'{name}' is not a checkpoint of pyg-gunet (got '{path}')")
    check_trusted([config, checkpoint["hyper_parameters"]], name)
    return checkpoint


def check_sizes(config: Config, checkpoint: dict[str, Any], name: str) -> None:
    """Compares sizes without memory: settings may ask for more than there is."""
    with torch.device("meta"):
        wanted = rebuilt(config, checkpoint).state_dict()
    found = checkpoint["state_dict"]
    for key in sorted({*wanted, *found}):
        shapes = [list(getattr(state.get(key), "shape", ())) for state in (wanted, found)]
        if key not in wanted or key not in found or shapes[0] != shapes[1]:
            raise ValueError(
                f"'{name}' does not fit its own settings: {key!r} has shape {shapes[1]}, "
                f"not {shapes[0]}"
            )


def load_weights(model: LightningModule, checkpoint: dict[str, Any], name: str) -> None:
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except Exception as error:  # torch raises RuntimeError with a line per key
        lines = str(error).splitlines()
        reason = lines[1].strip() if len(lines) > 1 else first_line(error)
        raise ValueError(f"'{name}' does not fit the model: {reason[:200]}") from error
