"""What every training task has in common, and the table of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader

from pyg_gunet.data import split_indices
from pyg_gunet.settings import Settings
from pyg_gunet.train.loading import EpochSampler, graph_loader, part_loader, place


@dataclass(frozen=True)
class Splits:
    """The loaders of a run. `note` says in words who was trained on and who was tested; `sampled`
    whether the training loader gives parts of the one graph that the others give whole."""

    train: TorchDataLoader
    val: TorchDataLoader
    test: TorchDataLoader
    note: str
    sampled: bool = False

    @property
    def one_graph(self) -> bool:
        return self.train is self.test


class GraphModule(LightningModule):
    r"""The base of all tasks: what is left to a subclass is a network and its loss terms.

    With ``normalize='center'`` a network sees features less their mean over the training nodes,
    over one deviation that all channels share, with ``'rows'`` rows of sum 1.

    Args:
        settings (dict): :meth:`Settings.as_dict`.
        channels (dict): Sizes that the data set gives, such as ``{"in_channels": 3}``.
    """

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__()
        self.save_hyperparameters("settings", "channels")
        self.settings = Settings.from_dict(settings)
        self.channels = channels
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(channels["in_channels"]))
        self.register_buffer("scale", torch.ones(()))

    def terms(self, data: Data) -> dict[str, Tensor]:
        """The loss of a batch as named scalars; their sum is minimised. One more term, say of a
        critic, is one more entry."""
        raise NotImplementedError

    def weight(self, data: Data) -> Tensor | int:
        """How many things the loss of a batch is the mean of: what the batch weighs among the
        others. Nodes, unless a subclass says otherwise."""
        return int(data.num_nodes or 1)

    def learn_statistics(self, data: Iterable[Data]) -> None:
        """Reads mean and deviation off the training data, before training."""
        if self.settings.normalize == "center":
            x = torch.cat([graph.x for graph in data]).double()
            self.mean.copy_(x.mean(0))
            scale = (x - x.mean(0)).square().mean().sqrt()
            self.scale.copy_(scale if scale > 0 else torch.ones(()))

    def features(self, data: Data) -> Tensor:
        """The features in the units of the data set, or with rows of sum 1."""
        if self.settings.normalize == "rows":
            return data.x / data.x.sum(-1, keepdim=True).clamp(min=1.0)
        return data.x

    def scaled(self, data: Data) -> Tensor:
        """The features as the network sees them."""
        return (self.features(data) - self.mean) / self.scale

    def training_step(self, data: Data, index: int) -> Tensor:
        # The draws of a step hang on its number alone, so that a resumed run repeats them.
        # Each process has its own.
        rank, world = place()
        torch.manual_seed(self.settings.seed * 1_000_003 + self.global_step + (rank << 40))
        terms = self.terms(data)
        total = torch.stack(list(terms.values())).sum()
        self._log("train_loss", total, data)
        if len(terms) > 1:
            for name, value in terms.items():
                self._log(f"train_{name}", value, data)
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
        total = torch.stack(list(self.terms(data).values())).sum()
        self._log("val_loss", total, data)

    def configure_optimizers(self) -> Any:
        lr, decay = self.settings.lr or 1e-3, self.settings.weight_decay or 0.0
        optimizer = torch.optim.Adam(self.parameters(), lr=lr, weight_decay=decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _log(self, name: str, value: Tensor, data: Data) -> None:
        # Batches weigh what they hold, so that the mean over them, on all processes, is one over
        # what is in them. A float: Lightning would round a mean of integers over processes down.
        weight: Any = torch.as_tensor(self._weight(data), dtype=torch.float32)
        self.log(
            name,
            value.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=weight,
            sync_dist=place()[1] > 1,
        )


@dataclass(frozen=True)
class Task:
    """One kind of training.

    Attributes:
        name: What ``--task`` calls it.
        module: The :class:`GraphModule`.
        channels: Sizes of the network that the data set gives.
        defaults: Settings that the user may leave open, by data set.
        prepare: Loaders by data set.
        report: Figures of a trained module on the test part; writes pictures where it gets a
            folder, and returns ``(figures, pictures)``.
        monitor: The validation value that picks the best epoch.
        mode: Whether ``"min"`` or ``"max"`` of it is best.
    """

    name: str
    module: type[GraphModule]
    channels: Callable[[InMemoryDataset], dict[str, int]]
    defaults: Callable[[Settings, InMemoryDataset], dict[str, Any]]
    prepare: Callable[[Settings, InMemoryDataset], Splits]
    report: Callable[[Any, Splits, Path | None], tuple[dict[str, Any], list[Path]]]
    monitor: str = "val_loss"
    mode: str = "min"


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Makes a task known to :func:`fit` and to the command line.

    Raises:
        ValueError: If the name is taken.
    """
    if task.name in TASKS:
        raise ValueError(f"'task' must have a new name (got {task.name!r})")
    TASKS[task.name] = task
    return task


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in TASKS:
        options = ", ".join(repr(known) for known in TASKS)
        raise ValueError(f"'task' must be one of {options} (got {name!r})")
    return TASKS[name]


def slim(data: Data) -> Data:
    """Only the attributes that training and pictures read."""
    keys = ("x", "edge_index", "edge_weight", "pos", "y", "train_mask", "val_mask", "test_mask")
    return Data(**{key: data[key] for key in keys if key in data})


def whole_graph(data: Data) -> TorchDataLoader:
    """A loader of one graph, as it is: nothing is collated."""
    return TorchDataLoader([slim(data)], batch_size=None)  # type: ignore[arg-type]


def graph_splits(settings: Settings, dataset: InMemoryDataset) -> Splits:
    """One graph: trained and tested on. Many: by the data set's own split, `parts`, or 80 / 10 / 10
    percent, drawn by the seed."""
    if len(dataset) == 1:
        loader = whole_graph(dataset[0])
        if settings.loader != "full":
            sampled = part_loader(settings, slim(dataset[0]))
            count = len(sampled.dataset)  # type: ignore[arg-type]
            note = f"one graph, trained in {count} parts, tested on all its nodes"
            return Splits(sampled, loader, loader, note, sampled=True)
        return Splits(loader, loader, loader, "one graph, trained and tested on all its nodes")
    parts = getattr(dataset, "parts", None)
    note = "the data set's own split"
    if parts is None:
        parts = split_indices(len(dataset), settings.seed)
        note = f"graphs split at random (seed {settings.seed})"
    train, val, test = ([slim(dataset[int(i)]) for i in part] for part in parts)
    size = settings.batch_size
    return Splits(
        graph_loader(train, size, EpochSampler(len(train), settings.seed)),
        graph_loader(val, size),
        DataLoader(test, size),
        f"{note}: {len(train)} train, {len(val)} validation, {len(test)} test",
    )
