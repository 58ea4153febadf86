"""The task ``classify``: the class of every node of one graph with a public split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.settings import Settings
from pyg_gunet.train.loading import part_loader
from pyg_gunet.train.tasks import GraphModule, Splits, Task, register_task, slim, whole_graph

_MASKS = ("train_mask", "val_mask", "test_mask")


class Classify(GraphModule):
    """A :class:`GraphUNet` with cross-entropy on the training nodes; features see the dropout as
    well. The best epoch is chosen on the validation nodes.

    Of a sampled part of a graph only its seed nodes count: those of `seed_mask`, or the first
    `batch_size` as in a batch of PyG's :class:`~torch_geometric.loader.NeighborLoader`.
    """

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__(settings, channels)
        s = self.settings
        self.net = GraphUNet(
            channels["in_channels"],
            s.hidden_channels,
            channels["num_classes"],
            s.depth,
            s.ratios,
            sum_res=s.skip == "sum",
            norm=None if s.norm == "none" else s.norm,
            dropout=s.dropout or 0.0,
            **s.words,
        )

    def forward(self, data: Data) -> Tensor:
        """Logits [N, num_classes]."""
        x = F.dropout(self.scaled(data), self.settings.dropout or 0.0, self.training)
        return self.net(x, data.edge_index, data.get("batch"), data.get("edge_weight"))

    def terms(self, data: Data) -> dict[str, Tensor]:
        return {"class": self._cross_entropy(self(data), data, "train_mask")}

    def weight(self, data: Data) -> Tensor | int:
        return counted(data, "train_mask" if self.training else "val_mask").sum()

    def validation_step(self, data: Data, index: int) -> None:
        logits = self(data)
        self._log("val_loss", self._cross_entropy(logits, data, "val_mask"), data)
        right = logits.argmax(-1) == data.y
        self._log("val_accuracy", right[counted(data, "val_mask")].float().mean(), data)

    @staticmethod
    def _cross_entropy(logits: Tensor, data: Data, mask: str) -> Tensor:
        # A part of a graph may hold no node that counts: then the loss is 0, not 0 / 0.
        chosen = counted(data, mask)
        total = F.cross_entropy(logits[chosen], data.y[chosen], reduction="sum")
        return total / chosen.sum().clamp(min=1)


def counted(data: Data, mask: str) -> Tensor:
    """Which nodes count: those of `mask`, of a sampled part its seeds among them, [N]."""
    chosen = data[mask]
    if "seed_mask" in data:
        return chosen & data.seed_mask
    if "batch_size" in data:
        return chosen & (torch.arange(chosen.numel(), device=chosen.device) < data.batch_size)
    return chosen


def channels(dataset: InMemoryDataset) -> dict[str, int]:
    return {
        "in_channels": int(dataset.num_node_features),
        "num_classes": int(dataset.num_classes),
    }


def defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    """Those of PyG's example, with the dropout that our features need."""
    for name in ("latent_channels", "loss_fn"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"'{name}' has no meaning for the task 'classify' (got {getattr(settings, name)!r})"
            )
    if settings.skip == "none":
        raise ValueError("'skip' must be 'sum' or 'cat' for the task 'classify' (got 'none')")
    return {
        "epochs": 200,
        "lr": 0.01,
        "weight_decay": 1e-3,
        "select": "topk",
        "skip": "sum",
        "dropout": 0.6,
        "normalize": "rows",
    }


def prepare(settings: Settings, dataset: InMemoryDataset) -> Splits:
    data = dataset[0]
    missing = [key for key in ("y", *_MASKS) if key not in data]
    if len(dataset) != 1 or missing:
        raise ValueError(
            "'task' classify needs one graph with labels and a split: "
            f"'dataset' {settings.dataset!r} has {len(dataset)} graph(s)"
            + (f" without {', '.join(missing)}" if missing else "")
        )
    loader = whole_graph(data)
    counts = ", ".join(f"{int(data[m].sum())} {m[:-5]}" for m in _MASKS)
    note = f"nodes of one graph, public split: {counts}"
    if settings.loader == "full":
        return Splits(loader, loader, loader, note)
    parts = part_loader(settings, slim(data), data.train_mask)
    count = len(parts.dataset)  # type: ignore[arg-type]
    note = f"{note}; trained in {count} parts ({settings.loader})"
    return Splits(parts, loader, loader, note, sampled=True)


@torch.no_grad()
def report(
    module: Classify, splits: Splits, folder: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """Accuracy on the test nodes, beside the majority class and logistic regression."""
    from sklearn.linear_model import LogisticRegression

    data = next(iter(splits.test))
    right = module(data.to(module.device)).argmax(-1) == data.y
    train, test = data.train_mask, data.test_mask
    majority = data.y[train].bincount().argmax()
    x = F.normalize(data.x).numpy()
    logistic = LogisticRegression(C=10.0, max_iter=500).fit(x[train], data.y[train].numpy())
    figures = {
        "test_accuracy": right[test].double().mean().item(),
        "val_accuracy": right[data.val_mask].double().mean().item(),
        "baselines": {
            "majority class": (data.y[test] == majority).double().mean().item(),
            "logistic regression": float(logistic.score(x[test], data.y[test].numpy())),
        },
    }
    return figures, []


register_task(
    Task("classify", Classify, channels, defaults, prepare, report, "val_accuracy", "max")
)
