"""The task ``classify_graphs``: the class of every graph of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from pyg_gunet.nn.readout import HierarchicalReadout
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.settings import Settings
from pyg_gunet.train.tasks import GraphModule, Splits, Task, graph_splits, register_task


class ClassifyGraphs(GraphModule):
    """A :class:`GraphUNet` that reads mean, maximum and sum off every level, with cross-entropy on
    the training graphs. The best epoch is chosen on the validation graphs."""

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__(settings, channels)
        s = self.settings
        net = GraphUNet(
            channels["in_channels"],
            s.hidden_channels,
            s.hidden_channels,
            s.depth,
            s.ratios,
            sum_res={"none": None, "cat": False}.get(s.skip or "sum", True),
            norm=None if s.norm == "none" else s.norm,
            dropout=s.dropout or 0.0,
            **s.words,
        )
        self.net = HierarchicalReadout(net, channels["num_classes"])

    def forward(self, data: Data) -> Tensor:
        """Logits [B, num_classes]."""
        weight = data.get("edge_weight")
        x, batch, size = self.scaled(data), data.get("batch"), labels(data).numel()
        return self.net(x, data.edge_index, batch, weight, batch_size=size)

    def terms(self, data: Data) -> dict[str, Tensor]:
        return {"class": F.cross_entropy(self(data), labels(data))}

    def weight(self, data: Data) -> int:
        return labels(data).numel()

    def validation_step(self, data: Data, index: int) -> None:
        logits = self(data)
        self._log("val_loss", F.cross_entropy(logits, labels(data)), data)
        self._log("val_accuracy", (logits.argmax(-1) == labels(data)).float().mean(), data)


def labels(data: Data) -> Tensor:
    """The class of every graph, [B]."""
    return data.y.view(-1)


def channels(dataset: InMemoryDataset) -> dict[str, int]:
    return {
        "in_channels": int(dataset.num_node_features),
        "num_classes": int(dataset.num_classes),
    }


def defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    for name in ("latent_channels", "loss_fn"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"'{name}' has no meaning for the task 'classify_graphs' "
                f"(got {getattr(settings, name)!r})"
            )
    return {
        "epochs": 100,
        "lr": 0.005,
        "weight_decay": 1e-4,
        "select": "topk",
        "skip": "sum",
        "dropout": 0.2,
        "normalize": "none",
    }


def prepare(settings: Settings, dataset: InMemoryDataset) -> Splits:
    y = [data.get("y") for data in dataset] if len(dataset) > 1 else []
    if not y or any(one is None or one.numel() != 1 or one.is_floating_point() for one in y):
        raise ValueError(
            "'task' classify_graphs needs several graphs with a class each: "
            f"'dataset' {settings.dataset!r} has {len(dataset)} graph(s)"
            + (", not all with one integer 'y'" if y else "")
        )
    return graph_splits(settings, dataset)


@torch.no_grad()
def report(
    module: ClassifyGraphs, splits: Splits, folder: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """Accuracy on the test graphs, beside the most frequent class of the training graphs."""
    y = torch.cat([labels(data) for data in splits.train.dataset])  # type: ignore[attr-defined]
    majority = y.bincount().argmax()
    figures: dict[str, Any] = {}
    for name, loader in (("test", splits.test), ("val", splits.val)):
        pairs = [(module(data).argmax(-1), labels(data)) for data in loader]
        pred, target = (torch.cat(parts) for parts in zip(*pairs))
        figures[f"{name}_accuracy"] = (pred == target).double().mean().item()
        if name == "test":
            share = (target == majority).double().mean().item()
            figures["baselines"] = {"majority class": share}
    return figures, []


register_task(
    Task(
        "classify_graphs",
        ClassifyGraphs,
        channels,
        defaults,
        prepare,
        report,
        "val_accuracy",
        "max",
    )
)
