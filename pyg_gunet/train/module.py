"""What the Lightning modules of all tasks have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.nn.pool import GPool
from pyg_gunet.train.loading import place
from pyg_gunet.validate import check_choice, check_number, check_positive_int

Ratios = float | int | list[float | int]
Select = Literal["topk", "spread"]
Reduce = Literal["keep", "mean"]
Connect = Literal["two_hop", "induced", "contract", "walk", "sampled"]
Lift = Literal["zero", "nearest", "interpolate", "propagate"]
Normalize = Literal["center", "rows", "none"]
Figures = dict[str, Any]
_OURS = ("torch", "torch_geometric", "pytorch_lightning", "pyg_gunet")


class GraphModule(LightningModule):
    r"""The base of all tasks: what is left to a subclass is a network, its loss terms and a report.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int, optional): Width of hidden layers. (default: 64)
        depth (int, optional): Number of poolings. (default: 2)
        pool_ratios (float, int or list, optional): Nodes kept by each pooling: a share as a float
            (0.5, 1.0) or a count as an int (100, 1). (default: 0.5)
        select (str, optional): Which nodes stay: topk, spread. (default: the network's)
        reduce (str, optional): What kept nodes hear of dropped ones: keep, mean.
            (default: the network's)
        connect (str, optional): Which edges join kept nodes: two_hop, induced, contract, walk,
            sampled. (default: the network's)
        lift (str, optional): What dropped nodes get back: zero, nearest, interpolate, propagate.
            (default: the network's)
        quantiles (int, optional): Ranks of scores that spread selection tells apart; 1: levels hang
            on the graph alone and are made once. (default: the network's)
        conv (str or dict, optional): Convolution by PyG's name or class path: GCNConv, SAGEConv,
            GATConv, ...; with options ``{class_path: GATConv, init_args: {heads: 4}}``.
            (default: GCN propagation)
        norm (str, optional): Normalisation by PyG's name: graph_norm, batch_norm, layer_norm, ...
            (default: none)
        dropout (float, optional): Dropout on hidden features. (default: 0.0)
        normalize (str, optional): What the network sees: center (features less their mean, over one
            deviation that all channels share), rows (rows of sum 1), none. (default: center)
        lr (float, optional): Learning rate of Adam. (default: 0.005)
        weight_decay (float, optional): L2 penalty. (default: 0.0)
        schedule (str, optional): How the learning rate falls: cosine, constant. (default: cosine)
    """

    monitor, mode = "val_loss", "min"
    run_seed = 0
    class_names: list[str] | None = None  # of the training data, in a run that was loaded

    def __init__(
        self,
        in_channels: int,
        *,
        hidden_channels: int = 64,
        depth: int = 2,
        pool_ratios: Ratios | None = None,
        select: Select | None = None,
        reduce: Reduce | None = None,
        connect: Connect | None = None,
        lift: Lift | None = None,
        quantiles: int | None = None,
        conv: str | dict[str, Any] | None = None,
        norm: str | None = None,
        dropout: float = 0.0,
        normalize: Normalize = "center",
        lr: float = 5e-3,
        weight_decay: float = 0.0,
        schedule: Literal["cosine", "constant"] = "cosine",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_choice(normalize, "normalize", ("center", "rows", "none"))
        check_choice(schedule, "schedule", ("cosine", "constant"))
        check_number(lr, "lr", low=0.0)
        check_number(weight_decay, "weight_decay", low=0.0)
        if lr == 0:
            raise ValueError(f"'lr' must be above 0 (got {lr!r})")
        self.normalize, self.lr, self.weight_decay = normalize, float(lr), float(weight_decay)
        self.schedule = schedule
        named = {"select": select, "reduce": reduce, "connect": connect, "lift": lift}
        words: dict[str, Any] = {n: word for n, word in named.items() if word is not None}
        self.parts: dict[str, Any] = {**words, "dropout": dropout}
        self.parts.update(conv=make_convs(conv), norm=None if norm == "none" else norm)
        if quantiles is not None:
            check_positive_int(quantiles, "quantiles")
            if depth == 0:
                raise ValueError(f"'quantiles' goes with a 'depth' of at least 1 (got {quantiles})")
            own = {k: v for k, v in words.items() if k != "lift"}
            if own.get("connect") == "walk":
                own["connect"] = "induced"
            self.parts["pool"] = lambda c, ratio: GPool(c, ratio, quantiles=quantiles, **own)
        self.shape = hidden_channels, depth, 0.5 if pool_ratios is None else pool_ratios
        self._ready: tuple[Tensor, torch.dtype, Any] | None = None
        self._seen: tuple[tuple[Tensor, ...], list[Any], Tensor] | None = None
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("scale", torch.ones(()))

    # What a subclass says -------------------------------------------------------------------

    def terms(self, data: Data) -> dict[str, Tensor]:
        """The loss of a batch as named scalars; their sum is minimised. One more term, say of a
        critic, is one more entry."""
        raise NotImplementedError

    def weight(self, data: Data) -> Tensor | int:
        """How many things the loss of a batch is the mean of: what the batch weighs among the
        others. Nodes, unless a subclass says otherwise."""
        return int(data.num_nodes or 1)

    @classmethod
    def check(cls, data: Any) -> None:
        """Refuses a data module that the task cannot use."""

    def settle(self, data: Any) -> bool:
        """Chooses on the validation part what training does not learn; whether it did. What it
        chose is kept in buffers, of which the checkpoint of the best epoch hears."""
        return False

    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """Figures on the test part, and pictures where there is a folder."""
        return {}, []

    def predict(self, data: Data) -> dict[str, Tensor]:
        """What is told of new data: a row per node or per graph."""
        raise ValueError(f"'task' {type(self).__name__} has nothing to predict")

    def embed(self, data: Data, level: str = "nodes") -> dict[str, Tensor]:
        """Embeddings `z` of nodes or graphs."""
        raise ValueError(f"'task' {type(self).__name__} has no embeddings")

    # Features and structure -----------------------------------------------------------------

    def learn_statistics(self, graphs: Iterable[Data]) -> None:
        """Reads mean and deviation off the training data, before training."""
        if self.normalize == "center":
            x = torch.cat([data.x for data in graphs]).double()
            self.mean.copy_(x.mean(0))
            scale = (x - x.mean(0)).square().mean().sqrt()
            self.scale.copy_(scale if scale > 0 else torch.ones(()))

    def features(self, data: Data) -> Tensor:
        """The features in the units of the data set, or with rows of sum 1."""
        if self.normalize == "rows":
            return data.x / data.x.sum(-1, keepdim=True).clamp(min=1.0)
        return data.x

    def scaled(self, data: Data) -> Tensor:
        """The features as the network sees them; of a graph that stands still (`whole`) made once,
        until its features, or mean and scale, or what was made, are written to (of which writing
        through ``.data`` or NumPy tells nothing)."""
        of = data.x, self.mean, self.scale
        if "whole" not in data or any(part.requires_grad or part.is_inference() for part in of):
            return self._scale(data)
        old, known, found = self._seen or ((), [], data.x)
        versions = [self.normalize, *(part._version for part in (*of, found))]
        if known != versions or any(a is not b for a, b in zip(old, of)):
            with torch.inference_mode(False), torch.no_grad():
                found = self._scale(data)
            self._seen = of, [*versions[:-1], found._version], found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_seen": None, "_ready": None}  # made anew in a copy

    def _scale(self, data: Data) -> Tensor:
        x = self.features(data).to(self.scale.dtype)
        return (x - self.mean) / self.scale if self.normalize == "center" else x

    def inputs(self, data: Data, net: Any) -> tuple[Any, Tensor | None, Tensor | None]:
        """``(edges, batch, edge_weight)`` for `net`; of a graph that stands still (`whole`) what
        :meth:`prepare` makes, once."""
        weight = data.get("edge_weight") if net.weighted else None
        if "whole" not in data:
            return data.edge_index, data.get("batch"), weight
        wide = torch.float64 if self.scale.dtype == torch.float64 else torch.float32
        if self._ready is None or self._ready[0] is not data.edge_index or self._ready[1] != wide:
            ready = net.prepare(data.edge_index, weight, num_nodes=data.num_nodes)
            self._ready = data.edge_index, wide, ready.to(wide)
        return self._ready[2], None, None

    # Training -------------------------------------------------------------------------------

    def training_step(self, data: Data, index: int) -> Tensor:
        # The draws of a step hang on its number alone, so that a resumed run repeats them.
        # Each process has its own.
        rank, world = place()
        torch.manual_seed((self.run_seed * 1_000_003 + self.global_step + (rank << 40)) % 2**63)
        terms = self.terms(data)
        total = torch.stack(list(terms.values())).sum()
        self.note("train_loss", total, data)
        for name, value in terms.items() if len(terms) > 1 else ():
            self.note(f"train_{name}", value, data)
        return total if world == 1 else total * self._share(data)

    def _share(self, data: Data) -> Tensor:
        """The factor on this process's loss that makes the mean over processes, which is what
        their gradients get, the mean over everything in the step."""
        own = torch.as_tensor(self._weight(data), dtype=torch.float64, device=self.device)
        # Of the step's weight, a mean over processes: their number cancels.
        mean = self.trainer.strategy.reduce(own.clone(), reduce_op="mean")
        return (own / mean.clamp(min=torch.finfo(mean.dtype).tiny)).float()

    def _weight(self, data: Data) -> Tensor | int:
        return 0 if "stand_in" in data else self.weight(data)

    def validation_step(self, data: Data, index: int) -> None:
        self.note("val_loss", torch.stack(list(self.terms(data).values())).sum(), data)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.lr, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def note(self, name: str, value: Tensor, data: Data) -> None:
        """Logs the mean of a value over an epoch."""
        # Batches weigh what they hold, so that the mean over them, on all processes, is one over
        # what is in them. A float: Lightning would round a mean of integers over processes down.
        weight: Any = torch.as_tensor(self._weight(data), dtype=torch.float32)
        several = place()[1] > 1
        value = value.detach()
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, sync_dist=several)


def find_class(path: str, name: str, base: type, home: str = "") -> type:
    """A class by its path ``package.module.Class``, or by its name in the module `home`.

    Raises:
        ValueError: If there is none, or it is no subclass of `base`.
    """
    module, _, attribute = str(path).replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module or home), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"'{name}' names no class: {error} (got {path!r})") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"'{name}' must name a {base.__name__} (got {path!r})")
    return found


def check_trusted(config: Any, name: str) -> None:
    """Refuses what a file was read from if it names a class that only an import of other people's
    code would find: a checkpoint must not run anything.

    Raises:
        ValueError: If it does, and its module was not imported yet.
    """
    if isinstance(config, (list, tuple)):
        for value in config:
            check_trusted(value, name)
    for key, value in config.items() if isinstance(config, dict) else ():
        check_trusted(value, name)
        paths = ("class_path", "conv", "norm", "task", "datamodule", "callbacks", "logger")
        own = key == "dataset" and isinstance(value, str) and not value.startswith("images:")
        if not isinstance(value, str) or not (key in paths or (own and ":" in value)):
            continue
        module = value.partition(":")[0] if ":" in value else value.rpartition(".")[0]
        if module and module.partition(".")[0] not in _OURS and module not in sys.modules:
            raise ValueError(
                f"'{name}' asks for {value!r}: import {module!r} first, or --import it, "
                f"if you trust it"
            )


def make_convs(conv: str | dict[str, Any] | None) -> Callable[[int, int], Any] | None:
    """A maker of convolutions by name or class path, with options.

    Example:
        >>> make_convs({"class_path": "GATConv", "init_args": {"heads": 4}})(3, 8)
        GATConv(3, 2, heads=4)
    """
    if conv is None or conv == "none":
        return None
    if isinstance(conv, str):
        conv = {"class_path": conv}
    options = dict(conv.get("init_args") or {})
    base = torch.nn.Module
    found = find_class(conv.get("class_path", ""), "conv", base, "torch_geometric.nn")
    heads = options.pop("heads", None)

    def make(in_channels: int, out_channels: int) -> torch.nn.Module:
        if heads is None:
            return found(in_channels, out_channels, **options)
        # Heads side by side; a width that they do not divide has one.
        count = heads if out_channels % heads == 0 else 1
        return found(in_channels, out_channels // count, heads=count, **options)

    return make
