"""What a training run is made of. No torch in here: ``pyg-gunet --help`` reads it too."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

MAX_INT = 2**31 - 1


def _option(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class Settings:
    r"""The settings of a run, plain Python values only, so that a checkpoint can hold them.

    Where the default is ``None``, the task decides by the data set (:meth:`filled`).

    Raises:
        ValueError, TypeError: If a value is out of range or of the wrong type.

    Example:
        >>> Settings(dataset="ring", epochs=10).depth
        2
        >>> Settings(epochs=0)
        Traceback (most recent call last):
        ValueError: 'epochs' must be at least 1 (got 0)
    """

    dataset: str = _option("bunny", "name of a data set, or path to a graph file")
    root: str = _option("data", "folder of Planetoid and TU files", resume=True)
    task: str = _option(
        "autoencode", "what to train: autoencode, classify, classify_graphs, segment"
    )
    epochs: int | None = _option(
        None, "passes over the training data (one graph: steps)", low=1, resume=True
    )
    batch_size: int = _option(
        32, "graphs per step over all devices; of one graph: parts (--loader)", low=1
    )
    loader: str = _option(
        "full",
        "what a step on one graph sees: full (all of it), random (parts of its nodes), "
        "neighbor (training nodes and neighbours; only those nodes count)",
    )
    batch_nodes: int | None = _option(
        None, "nodes of a part, with neighbor training nodes; by default 1024", low=1
    )
    num_neighbors: tuple[int, ...] = _option(
        (10, 10), "neighbours drawn per node, hop by hop; -1: all (neighbor)"
    )
    lr: float | None = _option(None, "learning rate of Adam, which falls along a cosine", above=0)
    weight_decay: float | None = _option(None, "L2 penalty", low=0)
    patience: int = _option(
        0, "stop after so many epochs without a better validation value; 0: never", low=0
    )
    seed: int = _option(0, "seed of weights, splits, order and dropout", low=0, high=2**63 - 1)
    hidden_channels: int = _option(64, "width of hidden layers", low=1)
    latent_channels: int | None = _option(
        None, "latent floats per node of the coarsest level (autoencode)", low=1
    )
    depth: int = _option(2, "number of poolings", low=1, high=32)
    pool_ratios: tuple[float | int, ...] = _option(
        (0.5,), "nodes kept by each pooling: shares below 1 (0.5) or counts (100)"
    )
    select: str | None = _option(None, "how nodes are kept: topk, spread")
    reduce: str | None = _option(None, "what kept nodes hear of dropped ones: keep, mean")
    connect: str | None = _option(
        None, "edges between kept nodes: two_hop, induced, contract, walk, sampled"
    )
    lift: str | None = _option(
        None, "what dropped nodes get back: zero, nearest, interpolate, propagate"
    )
    skip: str | None = _option(None, "skip connections: none, sum, cat")
    norm: str | None = _option(
        None, "normalisation, by PyG's name for it (graph_norm, ...), or none"
    )
    dropout: float | None = _option(None, "dropout on hidden features", low=0, high=0.99)
    loss_fn: str | None = _option(None, "error to minimise: mse, sce (autoencode)")
    mask: float | None = _option(
        None,
        "share of nodes whose features are hidden and predicted: masked auto-encoding (autoencode)",
        above=0,
        high=0.99,
        task="autoencode",
    )
    mi_weight: float = _option(
        0.0, "weight of the mutual information of latent nodes and their graphs (autoencode)", low=0
    )
    kl_weight: float = _option(
        0.0, "weight of the estimated KL of all latents to a standard normal (autoencode)", low=0
    )
    normalize: str | None = _option(
        None,
        "what the network sees: center (less the mean, over one common deviation), "
        "rows (rows sum to 1), none",
    )
    conv: str | None = _option(None, "convolution: sage, gcn (segment)", task="segment")
    head: str | None = _option(
        None, "levels that score the classes: single, multi_scale (segment)", task="segment"
    )
    deep_supervision: float | None = _option(
        None,
        "weight of a level's loss beside that of the level above; 0: none (segment)",
        low=0,
        high=1,
        task="segment",
    )
    positions: str | None = _option(
        None, "place in the picture as further features: append, none (segment)", task="segment"
    )
    masks: str | None = _option(
        None, "what the masks of images:DIR hold: class, instance (segment)", task="segment"
    )
    tile_size: int | None = _option(
        None, "height and width of the tiles of images:DIR (segment)", low=2, task="segment"
    )
    border_weight: float | None = _option(
        None,
        "w0 of the border weights of instances; 0: class weights alone (segment)",
        low=0,
        task="segment",
    )
    accelerator: str = _option("auto", "where to train: auto, cpu, gpu", resume=True)
    devices: int = _option(
        1, "processes per machine, each with one device (torchrun sets it)", low=1, resume=True
    )
    hosts: int = _option(1, "machines (torchrun sets it)", low=1, resume=True)
    strategy: str = _option(
        "auto", "how processes work together: auto, ddp (both: ddp on several)", resume=True
    )
    precision: str = _option(
        "32-true", "arithmetic: 32-true, bf16-mixed, 16-mixed (autocast)", resume=True
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, list):  # a tuple comes back from JSON as a list
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            _check(item.name, value, item.type, item.metadata)
            task = item.metadata.get("task", self.task)
            if value is not None and task != self.task:
                raise ValueError(
                    f"'{item.name}' has no meaning for the task {self.task!r} (got {value!r})"
                )
        _choice("skip", self.skip, (None, "none", "sum", "cat"))
        _choice("select", self.select, (None, "topk", "spread"))
        _choice("reduce", self.reduce, (None, "keep", "mean"))
        _choice("lift", self.lift, (None, "zero", "nearest", "interpolate", "propagate"))
        connections = ("two_hop", "induced", "contract", "walk", "sampled")
        _choice("connect", self.connect, (None, *connections))
        _choice("loss_fn", self.loss_fn, (None, "mse", "sce"))
        _choice("normalize", self.normalize, (None, "center", "rows", "none"))
        _choice("conv", self.conv, (None, "sage", "gcn"))
        _choice("head", self.head, (None, "single", "multi_scale"))
        _choice("positions", self.positions, (None, "append", "none"))
        _choice("masks", self.masks, (None, "class", "instance"))
        _choice("accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        _choice("strategy", self.strategy, ("auto", "ddp"))
        _choice("precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        _choice("loader", self.loader, ("full", "random", "neighbor"))
        if self.batch_nodes is not None and self.loader == "full":
            raise ValueError(
                f"'batch_nodes' goes with 'loader' random or neighbor (got {self.batch_nodes!r})"
            )
        if not self.num_neighbors or min(self.num_neighbors) < -1:
            raise ValueError(
                "'num_neighbors' must hold a count per hop, or -1 for all "
                f"(got {list(self.num_neighbors)})"
            )
        if len(self.pool_ratios) not in (1, self.depth):
            raise ValueError(
                f"'pool_ratios' must hold one value, or one per pooling, {self.depth} of them "
                f"(got {list(self.pool_ratios)})"
            )

    @property
    def dataset_options(self) -> dict[str, Any]:
        """What :func:`pyg_gunet.load` is told beside name and root.

        Raises:
            ValueError: If an option goes with ``images:DIR`` only.
        """
        names = {"masks": "masks", "tile_size": "tile_size", "border_weight": "w0"}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if given and not self.dataset.startswith("images:"):
            name, value = next(iter(given.items()))
            raise ValueError(f"'{name}' goes with a 'dataset' images:DIR (got {value!r})")
        return {names[name]: value for name, value in given.items()}

    @property
    def ratios(self) -> list[float | int]:
        """One pool ratio per level."""
        return list(self.pool_ratios) * (self.depth if len(self.pool_ratios) == 1 else 1)

    @property
    def words(self) -> dict[str, Any]:
        """How levels are made, as far as it was chosen: arguments of a model."""
        names = ("select", "reduce", "connect", "lift")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def filled(self, **defaults: Any) -> Settings:
        """These settings, with `defaults` where the value is None."""
        missing = {k: v for k, v in defaults.items() if getattr(self, k) is None}
        return dataclasses.replace(self, **missing)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Settings:
        """Settings from :meth:`as_dict`.

        Raises:
            ValueError, TypeError: If a name is unknown or a value is wrong.
        """
        if not isinstance(values, dict):
            raise TypeError(f"'settings' must be a dict (got {type(values).__name__})")
        unknown = set(map(str, values)) - {item.name for item in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"'settings' hold unknown names (got {sorted(unknown)})")
        return cls(**values)


def _check(name: str, value: Any, kind: Any, metadata: Any) -> None:
    if value is None and "None" in kind:
        return
    if kind.startswith("str"):
        if not isinstance(value, str):
            raise TypeError(f"'{name}' must be a str (got {value!r})")
        return
    if kind.startswith("tuple"):
        if not isinstance(value, tuple):
            raise TypeError(f"'{name}' must be a tuple (got {value!r})")
        for ratio in value:
            if kind == "tuple[int, ...]":
                _check(name, ratio, "int", {})
                continue
            _check(name, ratio, "float", {"above": 0})
            if not isinstance(ratio, Integral) and ratio > 1:
                raise ValueError(f"'{name}' must lie in (0, 1] as a share (got {ratio!r})")
        return
    wanted: Any = Integral if kind.startswith("int") else Real
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise TypeError(
            f"'{name}' must be {'an int' if wanted is Integral else 'a number'} (got {value!r})"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"'{name}' must be finite (got {value!r})")
    most = MAX_INT if wanted is Integral else sys.float_info.max
    low, high = metadata.get("low", -most), metadata.get("high", most)
    if value < low:
        raise ValueError(f"'{name}' must be at least {low} (got {value!r})")
    if value > high:
        raise ValueError(f"'{name}' must be at most {high} (got {value!r})")
    if "above" in metadata and value <= metadata["above"]:
        raise ValueError(f"'{name}' must be above {metadata['above']} (got {value!r})")


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        options = ", ".join(repr(choice) for choice in choices if choice is not None)
        raise ValueError(f"'{name}' must be one of {options} (got {value!r})")
