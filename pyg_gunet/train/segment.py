"""Segmentation: the class of every node of many graphs, pictures above all."""

from __future__ import annotations

import math
import warnings
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from pyg_gunet.data import VOID
from pyg_gunet.metrics import PartIoU, SegmentationMetrics
from pyg_gunet.nn.direction import DirectionConv
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.segmentation import Scale, SegmentationUNet, deep_supervision
from pyg_gunet.train import pictures
from pyg_gunet.train.instances import (
    DEFAULT,
    best_way,
    found_instances,
    instance_figures,
    stitched,
    whole_pictures,
)
from pyg_gunet.train.module import Figures, GraphModule
from pyg_gunet.validate import check_bool, check_choice, check_number, check_positive_int

_SHOWN = 6  # graphs in the picture
_READY = 4  # sizes of batches whose levels are kept
_JUDGED = 24  # validation pictures that settle how instances are found


class Segment(GraphModule):
    r"""A :class:`SegmentationUNet` with cross-entropy on all nodes, weighted by `border_weight`
    where a graph has it. Nodes labelled 255 do not count. The best epoch is chosen by the mean IoU
    on the validation graphs.

    Pictures with masks of instances teach one more output, the depth inside an instance, whose
    peaks part instances that touch (:func:`pyg_gunet.functional.watershed.split_instances`). After
    training, the panoptic quality of whole validation pictures settles how probable an instance's
    pixels and how prominent its peak must be. Levels that hang on the graph alone are made once for
    all batches of the same edges, and :class:`DirectionConv` gets offsets between positions.

    Args:
        num_classes (int): The number of classes.
        pos_channels (int): Size of positions.
        depth_channels (int): 1 where the data hold the depth inside instances, else 0.
        head (str, optional): Levels that score the classes: single, multi_scale.
            (default: multi_scale)
        deep_supervision (float, optional): Weight of a level's loss beside that of the level above;
            0: none. (default: 0.0)
        positions (bool, optional): Whether the place in the picture is part of the features.
            (default: False)
        skip (str, optional): Skip connections: sum, cat. (default: sum)
        prominence (float, optional): By how much, of 1, the depth falls at least between two
            instances, whose pixels are then as probable as not. (default: settled with the
            probability on the validation pictures)
        min_size (int, optional): The fewest pixels of an instance. (default: 15)
    """

    monitor, mode = "val_mean_iou", "max"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        pos_channels: int = 0,
        depth_channels: int = 0,
        *,
        head: Literal["single", "multi_scale"] = "multi_scale",
        deep_supervision: float = 0.0,
        positions: bool = False,
        skip: Literal["sum", "cat"] = "sum",
        prominence: float | None = None,
        min_size: int = 15,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, **kwargs)
        check_choice(head, "head", ("single", "multi_scale"))
        check_choice(skip, "skip", ("sum", "cat"))
        check_bool(positions, "positions")
        check_number(deep_supervision, "deep_supervision", 0.0, 1.0)
        if prominence is not None:
            check_number(prominence, "prominence", 0.0, 1.0)
        check_positive_int(min_size, "min_size")
        if deep_supervision and head == "single":
            raise ValueError(
                "'deep_supervision' goes with 'head' multi_scale "
                f"(got {deep_supervision!r} with 'single')"
            )
        if positions and not pos_channels:
            raise ValueError("'positions' need 'pos', which the data set has not (got True)")
        self.positions, self.share = positions, deep_supervision
        hidden, depth, ratios = self.shape
        self.net = SegmentationUNet(
            in_channels + (pos_channels if positions else 0),
            hidden,
            num_classes + depth_channels,
            depth,
            ratios,
            multi_scale=head == "multi_scale",
            sum_res=skip != "cat",
            **self.parts,
        )
        self.criterion = BorderWeightedCrossEntropy(ignore_index=VOID)
        self.scores = SegmentationMetrics(num_classes, ignore_index=VOID)
        self.num_classes, self.depth_channels = num_classes, depth_channels
        self.settled, self.min_size = prominence is not None, min_size
        if depth_channels:
            way = math.nan if prominence is None else DEFAULT[0], prominence or 0.0
            self.register_buffer("way", torch.tensor(way, dtype=torch.float64))
        self.directed = all(isinstance(conv, DirectionConv) for conv in self.net.net.convs)
        if self.directed and pos_channels not in (0, 2):
            raise ValueError(
                f"'conv' DirectionConv needs positions in the plane (got {pos_channels} of them)"
            )
        self._levels: list[tuple[tuple[Tensor, ...], Any]] = []

    def arguments(self, data: Data) -> tuple[Any, ...]:
        """What the network reads: features, with the place in the picture where asked for."""
        x = self.scaled(data)
        if self.positions:
            x = torch.cat([x, place(data).to(x.dtype)], dim=1)
        if self.directed or self.net.net.structural:
            batch = data.get("batch")
            return x, self._prepared(data, batch), None if self.net.net.structural else batch
        return (x, *self.inputs(data, self.net.net))

    def _prepared(self, data: Data, batch: Tensor | None) -> Any:
        """The levels of a batch, or those in hand of another with the same edges."""
        wanted = [data.edge_index, batch, data.get("pos") if self.directed else None]
        key = tuple(torch.zeros(0) if part is None else part for part in wanted)
        for old, levels in self._levels:
            if all(a.device == b.device and torch.equal(a, b) for a, b in zip(old, key)):
                return levels
        offset = None
        if self.directed:
            if data.get("pos") is None or data.pos.size(1) != 2:
                raise ValueError("'conv' DirectionConv needs 'pos' in the plane, [N, 2] (got none)")
            row, col = data.edge_index
            offset = (data.pos[col] - data.pos[row]).to(self.mean.dtype)
        batch = batch if self.net.net.structural else None
        levels = self.net.prepare(
            data.edge_index, num_nodes=data.num_nodes, batch=batch, edge_attr=offset
        )
        self._levels = [*self._levels[1 - _READY :], (key, levels)]
        return levels

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_levels": []}  # of another process or copy

    def outputs(self, data: Data) -> Tensor:
        """Logits [N, num_classes + depth_channels]: of the classes, and of the depth."""
        return self.net(*self.arguments(data))

    def forward(self, data: Data) -> Tensor:
        """Logits [N, num_classes]."""
        return self.outputs(data)[:, : self.num_classes]

    def terms(self, data: Data) -> dict[str, Tensor]:
        weight, classes = data.get("border_weight"), self.num_classes
        scales = self.net.scales(*self.arguments(data))
        out = scales[0].logits
        if self.share:
            scored = [Scale(scale.logits[:, :classes], scale.node) for scale in scales]
            loss = deep_supervision(scored, data.y, self.criterion, weight, self.share)
        else:
            loss = self.criterion(out[:, :classes], data.y, weight)
        if not self.depth_channels:
            return {"class": loss}
        known = data.y != VOID
        deep = F.binary_cross_entropy_with_logits(out[known, classes], data.depth[known])
        return {"class": loss, "depth": deep}

    def weight(self, data: Data) -> Tensor:
        """The weight of the nodes that count, which is what the criterion divides by."""
        known = data.y != VOID
        weight = data.get("border_weight")
        return known.sum() if weight is None else (weight * known).sum()

    def validation_step(self, data: Data, index: int) -> None:
        logits = self(data)
        loss = self.criterion(logits, data.y, data.get("border_weight"))
        self.note("val_loss", loss, data)
        if "stand_in" not in data:
            self.scores.update(logits, data.y)

    def on_validation_epoch_end(self) -> None:
        found = self.scores.compute()
        for name in ("mean_iou", "pixel_accuracy"):
            self.log(f"val_{name}", found[name].float().nan_to_num(0.0))
        self.scores.reset()

    @classmethod
    def check(cls, data: Any) -> None:
        for graph in data.graphs[:1]:
            y = graph.get("y")
            if y is None or y.dim() != 1 or y.numel() != graph.num_nodes or y.is_floating_point():
                raise ValueError(
                    "'task' segment needs graphs with a label per node: 'dataset' "
                    f"{data.name!r} has none"
                )

    def predict(self, data: Data) -> dict[str, Tensor]:
        """Classes and their probabilities, per node, and the depth inside an instance."""
        out = self.outputs(data)
        probability = out[:, : self.num_classes].softmax(-1)
        found = {"label": probability.argmax(-1), "probability": probability}
        if self.depth_channels:
            found["depth"] = out[:, self.num_classes].sigmoid()
        return found

    @torch.no_grad()
    def picture(self, image: Tensor) -> dict[str, Tensor]:
        """The `label` of each pixel of a picture [channels, H, W] of any size, [H, W], and where
        instances were learned the `instance`."""

        scores = self._scores(image)
        label = scores[: self.num_classes].argmax(0).to(torch.uint8)
        if not self.depth_channels:
            return {"label": label}
        maps = self._maps(scores)
        del scores
        return {"label": label, "instance": found_instances(maps, self._way(), self.min_size)}

    def _scores(self, image: Tensor) -> Tensor:
        """Probabilities of the classes, and the depth, of a picture's pixels [K, H, W]."""

        def score(tile: Data) -> Tensor:
            found = self.predict(tile)
            return torch.cat([one.view(len(tile.x), -1) for one in list(found.values())[1:]], 1)

        return stitched(score, image)

    def _maps(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The probability of an instance, and the depth in it."""
        return 1 - scores[0], scores[self.num_classes].clone()

    def _way(self) -> tuple[float, float]:
        least, rise = self.get_buffer("way").tolist()
        return DEFAULT if math.isnan(least) else (least, rise)

    @torch.no_grad()
    def settle(self, data: Any) -> bool:
        tiles = [tile for tile in data.parts[1] if "instance" in tile and "corner" in tile]
        if self.settled or not self.depth_channels or not tiles:
            return False
        judged = list(islice(whole_pictures(tiles), _JUDGED))
        maps = [self._maps(self._scores(picture["x"])) for picture in judged]
        way = best_way(maps, [picture["instance"] for picture in judged], self.min_size)
        self.get_buffer("way").copy_(torch.tensor(way, dtype=torch.float64))
        return True

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """The scores on the test graphs beside the majority class, a table per class, a picture."""
        classes = self.num_classes
        # The first of several processes alone makes a report: it must not wait for others' scores.
        own: Any = {"sync_on_compute": False}
        metric = SegmentationMetrics(classes, VOID, per_class=True, **own)
        constant = SegmentationMetrics(classes, VOID, **own)
        train_y = torch.cat([graph.y for graph in (*data.train_graphs(),) or data.parts[2]])
        majority = train_y[train_y != VOID].bincount(minlength=classes).argmax()
        parts = getattr(data.graphs, "shape_parts", None)
        part_iou = None if parts is None else PartIoU(parts, **own)
        shown: list[tuple[Data, Tensor]] = []
        truth, guessed = [], []
        for batch in data.test_dataloader():
            logits = self(batch.to(self.device)).cpu()
            batch = batch.cpu()
            truth.append(batch.y)
            guessed.append(logits.argmax(1))
            metric.update(logits, batch.y)
            constant.update(torch.full_like(batch.y, int(majority)), batch.y)
            if part_iou is not None:
                part_iou.update(logits, batch.y, batch.batch, batch.category)
            for graph, label in zip(
                batch.to_data_list(), _split(logits.argmax(1), batch), strict=True
            ):
                if len(shown) < _SHOWN and graph.get("pos") is not None:
                    shown.append((graph, label))
        scores = {name: float(value) for name, value in metric.compute().items()}
        base = constant.compute()
        figures: Figures = {
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
        tiles = [tile for tile in data.parts[2] if "instance" in tile and "corner" in tile]
        if self.depth_channels and tiles:
            scored = instance_figures(
                lambda image: self.picture(image)["instance"], tiles, self.min_size
            )
            figures["baselines"].update(scored.pop("baselines"))
            if bool(self.get_buffer("way").isnan().any()):
                warnings.warn(
                    f"'prominence' was not settled on validation pictures, as at the end of a run: "
                    f"{DEFAULT[1]} is used, with probability {DEFAULT[0]}",
                    stacklevel=2,
                )
            figures.update(scored, **dict(zip(("least_probability", "prominence"), self._way())))
        if folder is None:
            return figures, []
        known = torch.cat(truth) != VOID
        made = [pictures.confusion(folder, torch.cat(truth)[known], torch.cat(guessed)[known])]
        if shown:
            made.append(pictures.segmentation(folder, shown, classes))
        return figures, made


def place(data: Data) -> Tensor:
    """Where a node lies in its graph's bounding box: `pos` scaled to [-1, 1], [N, D]."""
    batch = data.get("batch")
    if batch is None:
        batch = torch.zeros(data.num_nodes, dtype=torch.long, device=data.pos.device)
    low = scatter(data.pos, batch, dim=0, reduce="min")
    high = scatter(data.pos, batch, dim=0, reduce="max")
    return 2.0 * (data.pos - low[batch]) / (high - low).clamp(min=1e-12)[batch] - 1.0


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else value


def _split(label: Tensor, batch: Batch) -> list[Tensor]:
    return list(label.split(batch.ptr.diff().tolist()))
