"""Tasks and data modules by name, and the settings of a run: the package's defaults by task and
kind of data (``pyg_gunet/configs``), under what a user gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch_geometric.data import Dataset

from pyg_gunet.train import data as modules
from pyg_gunet.train.autoencode import AutoEncode
from pyg_gunet.train.classify import Classify, ClassifyGraphs
from pyg_gunet.train.masked import MaskedAutoEncode
from pyg_gunet.train.module import find_class
from pyg_gunet.train.regress import Regress
from pyg_gunet.train.segment import Segment

TASKS: dict[str, type[LightningModule]] = {
    "autoencode": AutoEncode,
    "masked": MaskedAutoEncode,
    "classify": Classify,
    "classify_graphs": ClassifyGraphs,
    "regress": Regress,
    "segment": Segment,
}
# What the data says of a network's sizes, which nobody types.
GIVEN = {
    *("in_channels", "num_classes", "out_channels", "pos_channels", "depth_channels"),
    "targets_per_graph",
}
# Settings that ask for levels.
LEVELS = {"depth", "pool_ratios", "skip", "quantiles", "conv"}
LEVELS |= {"select", "reduce", "connect", "lift"}
HIDING = {"mask", "replace", "gamma", "norm"}  # those of masked auto-encoding, without levels
MANY = ("TU/", "LRGB/", "ogbg-", "ShapeNet", "digits")
CONFIGS = Path(__file__).parents[1] / "configs"
Config = dict[str, Any]


def task_class(name: str) -> type[LightningModule]:
    """The Lightning module of a task, or of a class path."""
    if name in TASKS:
        return TASKS[name]
    if "." not in name and ":" not in name:
        options = ", ".join(map(repr, TASKS))
        raise ValueError(f"'task' must be one of {options} or a class path (got {name!r})")
    return find_class(name, "task", LightningModule)


def data_class(name: str) -> type[LightningDataModule]:
    """The data module of that name, or of a class path."""
    return find_class(name, "datamodule", LightningDataModule, modules.__name__)


def kind_of(task: str, dataset: Any, data: Any = None) -> tuple[str, str]:
    """The data module that fits, and the file with the defaults: by the name of a data set, or by
    the `data` that was read."""
    name = dataset if isinstance(dataset, str) else ""
    if name.startswith("images:"):
        return "Images", {"segment": "segment_images", "masked": "masked_graphs"}.get(task, task)
    if data is not None:
        many = not data.one_graph
    elif not isinstance(dataset, str):
        many = isinstance(dataset, (Dataset, list)) and len(dataset) > 1
    else:
        many = name.startswith(MANY) or Path(name or "?").is_dir()
        many |= task in ("classify_graphs", "segment")
    if task == "classify" and data is not None and data.one_graph:
        kind = ("_dense" if _dense(data) else "") if _few_labels(data) else "_many"
        return "OneGraph", task + kind
    weighted = task == "classify_graphs" and data is not None and many
    if weighted and data.graphs and "edge_weight" in data.graphs[0]:
        return "Graphs", "classify_graphs_weighted"
    if task == "segment" and data is not None and (axes := _axes(data)):
        return "Graphs", "segment_grid" if axes == 2 else "segment_places"
    suffix = "_graphs" if many and (CONFIGS / f"{task}_graphs.yaml").is_file() else ""
    return ("Graphs" if many else "OneGraph"), task + suffix


def _few_labels(data: Any) -> bool:
    """Whether few nodes of a graph train: under a fifth."""
    data.setup()
    mask = data.whole.get("train_mask")
    return mask is None or float(mask.float().mean()) < 0.2


def _dense(data: Any) -> bool:
    """Whether the features of a graph are no counts of words: most of them are not zero, or one of
    them hardly ever is."""
    x = data.whole.get("x")
    if x is None or x.dim() != 2 or not x.numel():
        return False
    share = (x != 0).float().mean(0)
    return float(share.mean()) > 0.5 or float(share.max()) > 0.9


def _axes(data: Any) -> int:
    """How many coordinates a place has where all graphs have the same ones, as pictures of one
    size; 0 where they have not."""
    places = [graph.get("pos") for graph in data.graphs]
    first = places[0]
    if len(places) < 2 or first is None:
        return 0
    same = all(pos is not None and torch.equal(pos, first) for pos in places)
    return modules.columns(first) if same else 0


def defaults(name: str) -> Config:
    """The settings that the package ships for a task and kind of data."""
    path = CONFIGS / f"{name}.yaml"
    config: Config = yaml.safe_load(path.read_text()) or {} if path.is_file() else {}
    return merged(defaults(config.pop("base")), config) if "base" in config else config


def parameters(cls: type) -> set[str]:
    """The names that a class takes, its bases' too, where ``**kwargs`` passes them on."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in base.__dict__:
            continue
        given = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        names |= {p.name for p in given.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind == p.VAR_KEYWORD for p in given.values()):
            break
    return names - {"self"}


def route(options: Mapping[str, Any], model: type, data: type) -> Config:
    """Options by name in the groups that they belong to: the model's, the data's, the Trainer's.

    Raises:
        TypeError: If one belongs to none.
    """
    groups: Config = {"model": {}, "data": {}, "trainer": {}}
    takes = {"model": parameters(model), "data": parameters(data), "trainer": parameters(Trainer)}
    for name, value in options.items():
        name = ALIASES.get(name, name)
        group = next((group for group, names in takes.items() if name in names), None)
        if group is None:
            raise TypeError(f"unknown option {name!r} for {model.__name__} and {data.__name__}")
        groups[group][name] = value
    return groups


ALIASES = {"epochs": "max_epochs", "hosts": "num_nodes"}


def merged(*configs: Mapping[str, Any]) -> Config:
    """Settings, later ones over earlier ones, group by group."""
    out: Config = {"model": {}, "data": {}, "trainer": {}}
    for config in configs:
        for key, value in config.items():
            if isinstance(value, Mapping) and isinstance(out.get(key), dict):
                out[key] = {**out[key], **value}
            else:
                out[key] = value
    return out


def adapted(shipped: Config, model: Mapping[str, Any]) -> Config:
    """The package's settings under a user's for the network: a ratio per level does not outlive
    another depth, settings without levels do not outlive one of levels, and a convolution or
    quantiles do not outlive a word that they do not go with."""
    given = {name for name, value in model.items() if value is not None}
    if model.get("conv") == "none":
        given -= {"conv"}
    own = shipped.get("model", {})
    flat = type(model.get("depth")) is int and model["depth"] == 0  # no array, which says nothing
    if hide := own.get("hide"):  # masked auto-encoding
        named = (LEVELS | HIDING) & given - ({"depth"} if flat else set())
        wanted = model.get("hide", "features" if named else hide)
        if wanted != hide:
            shipped = defaults("masked_features" if wanted == "features" else "masked")
    asked = bool(LEVELS & given) or model.get("net", "mixed") != "mixed"
    if hide is None and own.get("depth") == 0 and asked and not flat:
        seen = {"normalize": own["normalize"]}  # what fits the features stays
        shipped = merged(defaults("classify_levels"), {"model": seen})
    own = dict(shipped.get("model", {}))
    if model.get("select", "spread") != "spread":
        own.pop("quantiles", None)  # spread's own
    if model.get("net") == "official":
        own.pop("skip", None)  # it has its own
    connect = None if "conv" in model else model.get("connect")
    if connect == "walk":
        own.pop("conv", None)  # walks are GCN propagation
    elif connect in ("two_hop", "sampled") and "DirectionConv" in str(own.get("conv")):
        own["conv"] = defaults("segment")["model"]["conv"]  # such edges have no direction
    if flat and hide is None:
        own = {k: v for k, v in own.items() if k == "depth" or k not in {*LEVELS, "norm"}}
    elif "depth" in model and "pool_ratios" not in model and type(own.get("pool_ratios")) is list:
        own["pool_ratios"] = own["pool_ratios"][0]
    return {**shipped, "model": own}


def check(config: Config) -> None:
    """Refuses settings before any data is read: on a network of toy sizes, without memory."""
    seed, patience = config.get("seed", 0), config.get("patience", 0)
    for name, value, low, bits in (
        ("seed", seed, 0, 64),
        ("patience", patience, 0, 32),
        ("epochs", config["trainer"].get("max_epochs"), 1, 32),
    ):
        if value is None and name == "epochs":  # those of the task
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"'{name}' must be an int (got {value!r})")
        if not low <= value < 2 ** (bits - 1):
            raise ValueError(f"'{name}' must be at least {low} and an int{bits} (got {value!r})")
    cls = task_class(config["task"])
    if config["task"] in TASKS:
        sizes = dict.fromkeys((GIVEN & parameters(cls)) - set(config["model"]), 2)
        with torch.device("meta"):
            cls(**sizes, **config["model"])


def prepare(
    task: str, datamodule: str | None, parse: Callable[[str, Config], Config], source: Any
) -> tuple[Config, Any]:
    """The settings of a run and its data, read.

    Args:
        task (str): A task or class path.
        datamodule (str, optional): A data module or class path. (default: by the data)
        parse (callable): ``(datamodule, defaults) -> settings``: the user's over the defaults.
        source: The data set, by name or as an object.
    """
    guess, name = kind_of(task, source)
    guess = datamodule or guess
    config = parse(guess, defaults(name))
    check(config)
    cls = data_class(guess)
    own = {**config["data"], "seed": config.get("seed", 0)}
    own = {key: value for key, value in own.items() if key in parameters(cls)}
    data: Any = cls(**own)
    if not isinstance(data, modules.GraphData):
        return config, data
    data.read()
    fits, better = kind_of(task, source, data)
    if (datamodule or fits, better) != (guess, name):
        guess = datamodule or fits
        config = parse(guess, defaults(better))
        cls = data_class(guess)
        own = {**config["data"], "seed": config.get("seed", 0)}
        again: Any = cls(**{key: value for key, value in own.items() if key in parameters(cls)})
        again.graphs, data = data.graphs, again
        check(config)
    return config, data


def make_model(config: Config, data: Any) -> LightningModule:
    """The network of a run, by its sizes and the seed."""
    cls = task_class(config["task"])
    sizes = data.sizes if isinstance(data, modules.GraphData) else getattr(data, "sizes", {})
    given = {name: sizes[name] for name in GIVEN & parameters(cls) if name in sizes}
    options = {key: value for key, value in config["model"].items() if key not in given}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.get("seed", 0))
        return cls(**given, **options)
