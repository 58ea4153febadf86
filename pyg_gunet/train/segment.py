"""The task ``segment``: the class of every node of many graphs, pictures above all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import SAGEConv
from torch_geometric.utils import scatter

from pyg_gunet.data import VOID, split_indices
from pyg_gunet.files import write_aside
from pyg_gunet.functional.border import connected_instances
from pyg_gunet.functional.segmentation import instances_found
from pyg_gunet.metrics import PartIoU, SegmentationMetrics
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.segmentation import SegmentationUNet, deep_supervision
from pyg_gunet.settings import Settings
from pyg_gunet.train.loading import EpochSampler, graph_loader
from pyg_gunet.train.tasks import GraphModule, Splits, Task, register_task
from pyg_gunet.transforms import to_label_image

_KEYS = ("x", "edge_index", "edge_weight", "pos", "y", "border_weight", "image_size", "instance")
_SHOWN = 6  # graphs in the picture
_CONVS = {"gcn": None, "sage": SAGEConv}


class Segment(GraphModule):
    """A :class:`SegmentationUNet` with cross-entropy on all nodes, weighted by `border_weight`
    where a graph has it. Nodes labelled 255 do not count. The best epoch is chosen by the mean
    IoU on the validation graphs."""

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__(settings, channels)
        s = self.settings
        self.positions = s.positions == "append"
        self.net = SegmentationUNet(
            channels["in_channels"] + (channels["pos_channels"] if self.positions else 0),
            s.hidden_channels,
            channels["num_classes"],
            s.depth,
            s.ratios,
            multi_scale=s.head == "multi_scale",
            sum_res=s.skip != "cat",
            conv=_CONVS[s.conv or "sage"],
            norm=None if s.norm == "none" else s.norm,
            dropout=s.dropout or 0.0,
            **s.words,
        )
        self.criterion = BorderWeightedCrossEntropy(ignore_index=VOID)
        self.scores = SegmentationMetrics(channels["num_classes"], ignore_index=VOID)

    def inputs(self, data: Data) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """What the network reads: features, with the place in the picture where asked for."""
        x = self.scaled(data)
        if self.positions:
            x = torch.cat([x, place(data)], dim=1)
        weight = data.get("edge_weight") if self.net.net.weighted else None
        return x, data.edge_index, data.get("batch"), weight

    def forward(self, data: Data) -> Tensor:
        """Logits [N, num_classes]."""
        return self.net(*self.inputs(data))

    def terms(self, data: Data) -> dict[str, Tensor]:
        weight = data.get("border_weight")
        share = self.settings.deep_supervision or 0.0
        if not share:
            return {"class": self.criterion(self(data), data.y, weight)}
        scales = self.net.scales(*self.inputs(data))
        return {"class": deep_supervision(scales, data.y, self.criterion, weight, share)}

    def weight(self, data: Data) -> Tensor:
        """The weight of the nodes that count, which is what the criterion divides by."""
        known = data.y != VOID
        weight = data.get("border_weight")
        return known.sum() if weight is None else (weight * known).sum()

    def validation_step(self, data: Data, index: int) -> None:
        logits = self(data)
        loss = self.criterion(logits, data.y, data.get("border_weight"))
        self._log("val_loss", loss, data)
        if "stand_in" not in data:
            self.scores.update(logits, data.y)

    def on_validation_epoch_end(self) -> None:
        found = self.scores.compute()
        for name in ("mean_iou", "pixel_accuracy"):
            self.log(f"val_{name}", found[name].float().nan_to_num(0.0))
        self.scores.reset()


def place(data: Data) -> Tensor:
    """Where a node lies in its graph's bounding box: `pos` scaled to [-1, 1], [N, D]."""
    batch = data.get("batch")
    if batch is None:
        batch = torch.zeros(data.num_nodes, dtype=torch.long, device=data.pos.device)
    low = scatter(data.pos, batch, dim=0, reduce="min")
    high = scatter(data.pos, batch, dim=0, reduce="max")
    return 2.0 * (data.pos - low[batch]) / (high - low).clamp(min=1e-12)[batch] - 1.0


def channels(dataset: InMemoryDataset) -> dict[str, int]:
    label = torch.cat([data.y for data in dataset])
    label = label[label != VOID]
    pos = dataset[0].get("pos")
    return {
        "in_channels": int(dataset.num_node_features),
        "num_classes": max(int(label.max()) + 1, 2) if label.numel() else 2,
        "pos_channels": 0 if pos is None else int(pos.size(1)),
    }


def defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    """What measurement found good; positions where all graphs are pictures of one size."""
    for name in ("latent_channels", "loss_fn", "mi_weight", "kl_weight"):
        if getattr(settings, name):
            raise ValueError(
                f"'{name}' has no meaning for the task 'segment' (got {getattr(settings, name)!r})"
            )
    if settings.skip == "none":
        raise ValueError("'skip' must be 'sum' or 'cat' for the task 'segment' (got 'none')")
    if settings.positions == "append" and dataset[0].get("pos") is None:
        raise ValueError(f"'positions' need 'pos', which {settings.dataset!r} has not")
    head = settings.head or "multi_scale"
    if settings.deep_supervision and head == "single":
        raise ValueError(
            "'deep_supervision' goes with 'head' multi_scale "
            f"(got {settings.deep_supervision!r} with 'single')"
        )
    return {
        "epochs": 40,
        "lr": 5e-3,
        "weight_decay": 0.0,
        "select": "spread",
        "skip": "sum",
        "dropout": 0.0,
        "normalize": "center",
        "norm": "batch",
        "conv": "sage",
        "head": head,
        "positions": "append" if settings.dataset == "digits" else "none",
        "deep_supervision": 0.0,
    }


def prepare(settings: Settings, dataset: InMemoryDataset) -> Splits:
    """The data set's own split, or 80 / 10 / 10 percent of the graphs, drawn by the seed."""
    y = dataset[0].get("y")
    if y is None or y.dim() != 1 or y.numel() != dataset[0].num_nodes or y.is_floating_point():
        raise ValueError(
            f"'task' segment needs an integer label per node: 'dataset' {settings.dataset!r} has "
            f"{'none' if y is None else f'{list(y.shape)} of {y.dtype}'}"
        )
    parts = getattr(dataset, "parts", None)
    note = "the data set's own split"
    if parts is None:
        if len(dataset) < 3:
            raise ValueError(
                f"'dataset' {settings.dataset!r} must hold at least 3 graphs or tiles to be split "
                f"(got {len(dataset)}); a smaller 'tile_size' gives more tiles"
            )
        parts = split_indices(len(dataset), settings.seed)
        what = "tiles" if settings.dataset.startswith("images:") else "graphs"
        note = f"{what} split at random (seed {settings.seed})"
    train, val, test = (_Graphs(_slim(dataset[int(i)]) for i in part) for part in parts)
    test.shape_parts = getattr(dataset, "shape_parts", None)
    size = settings.batch_size
    return Splits(
        graph_loader(train, size, EpochSampler(len(train), settings.seed)),
        graph_loader(val, size),
        DataLoader(test, size),
        f"{note}: {len(train)} train, {len(val)} validation, {len(test)} test",
    )


class _Graphs(list[Data]):
    """Graphs, with the part labels of each category where they are shapes of ShapeNet."""

    shape_parts: list[list[int]] | None = None


def _slim(data: Data) -> Data:
    kept = Data(**{key: data[key] for key in (*_KEYS, "category") if data.get(key) is not None})
    if "pos" in kept and not kept.pos.is_floating_point():
        kept.pos = kept.pos.float()
    return kept


@torch.no_grad()
def report(
    module: Segment, splits: Splits, folder: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """The scores on the test graphs beside the majority class, a table per class, a picture."""
    classes = module.channels["num_classes"]
    # Only the first of several processes makes a report: it must not wait for the others' scores.
    own: Any = {"sync_on_compute": False}
    metric = SegmentationMetrics(classes, VOID, per_class=True, **own)
    constant = SegmentationMetrics(classes, VOID, **own)
    train_y = torch.cat([data.y for data in splits.train])
    majority = train_y[train_y != VOID].bincount(minlength=classes).argmax()
    parts = getattr(splits.test.dataset, "shape_parts", None)
    part_iou = None if parts is None else PartIoU(parts, **own)
    shown: list[tuple[Data, Tensor]] = []
    found: list[Tensor] = []
    for batch in splits.test:
        logits = module(batch.to(module.device)).cpu()
        batch = batch.cpu()
        metric.update(logits, batch.y)
        constant.update(torch.full_like(batch.y, int(majority)), batch.y)
        if part_iou is not None:
            part_iou.update(logits, batch.y, batch.batch, batch.category)
        for graph, label in zip(batch.to_data_list(), _split(logits.argmax(1), batch), strict=True):
            if "instance" in graph:
                guess = connected_instances(label, graph.edge_index)
                found.append(instances_found(guess, graph.instance))
            if len(shown) < _SHOWN and graph.get("pos") is not None:
                shown.append((graph, label))
    scores = {name: float(value) for name, value in metric.compute().items()}
    base = constant.compute()
    figures: dict[str, Any] = {
        "test_mean_iou": scores["mean_iou"],
        "baselines": {"majority class": float(base["mean_iou"])},
        **{f"test_{name}": scores[name] for name in base if name != "mean_iou"},
        "per_class": {
            str(c): {kind: _plain(scores[f"{kind}_{c}"]) for kind in ("iou", "accuracy")}
            for c in range(classes)
        },
    }
    if part_iou is not None:
        figures.update({f"test_{k}": float(v) for k, v in part_iou.compute().items()})
    if found:
        each = torch.cat(found)
        figures["instances"] = each.numel()
        figures["instances_found"] = float(each.double().mean())
    pictures = []
    if folder is not None and shown:
        pictures.append(folder / "predictions.png")
        draw_segmentation(pictures[-1], shown, classes)
    return figures, pictures


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else value


def _split(label: Tensor, batch: Batch) -> list[Tensor]:
    return list(label.split(batch.ptr.diff().tolist()))


def draw_segmentation(path: Path, shown: list[tuple[Data, Tensor]], num_classes: int) -> None:
    """Input, truth and prediction of some graphs, as images where they are, else as points."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(1.8 * len(shown) + 0.6, 5.6), dpi=120, layout="constrained")
    grid = figure.subplots(3, len(shown), squeeze=False)
    colours = colormaps["tab20" if num_classes > 10 else "tab10"]
    for column, (graph, label) in enumerate(shown):
        truth = graph.y.float().masked_fill(graph.y == VOID, torch.nan)
        # One channel in grey; of more, the first three as colours.
        low, high = graph.x.amin(0), graph.x.amax(0)
        colour = (graph.x - low) / (high - low).clamp(min=1e-12)
        colour = colour[:, :3] if colour.size(1) >= 3 else colour[:, 0]
        rows = (("input", colour), ("truth", truth), ("prediction", label.float()))
        for row, (title, value) in enumerate(rows):
            axes = grid[row][column]
            style: dict[str, Any] = {"cmap": "gray"}
            if row:
                style = {"cmap": colours, "vmin": -0.5, "vmax": max(num_classes, 10) - 0.5}
            if "image_size" in graph:
                picture = to_label_image(value, graph)
                assert isinstance(picture, Tensor)
                axes.imshow(picture.numpy(), **style)
            else:
                axes.scatter(*graph.pos[:, :2].T.numpy(), c=value.numpy(), s=14, **style)
                axes.set_aspect("equal")
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(title)
    with write_aside(path) as file:
        figure.savefig(file, format="png")


register_task(Task("segment", Segment, channels, defaults, prepare, report, "val_mean_iou", "max"))
