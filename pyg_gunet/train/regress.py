"""Regression of targets of nodes or of graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool

from pyg_gunet.nn.readout import HierarchicalReadout
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.train import pictures
from pyg_gunet.train.autoencode import SKIPS
from pyg_gunet.train.classify import counted
from pyg_gunet.train.module import Figures, GraphModule


class Regress(GraphModule):
    r"""Numbers per node or per graph, by the mean squared error over their own deviation: a
    :class:`GraphUNet`, which for graphs is read off at every level. The best epoch is chosen on the
    validation part. A target that is not a number (NaN) does not count.

    Args:
        out_channels (int): Targets per node or graph.
        targets_per_graph (int): Whether targets are those of graphs.
        skip (str, optional): Skip connections: none, sum, cat. (default: sum)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        targets_per_graph: int = 0,
        *,
        skip: Literal["none", "sum", "cat"] = "sum",
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, **kwargs)
        hidden, depth, ratios = self.shape
        out = hidden if targets_per_graph else out_channels
        net = GraphUNet(in_channels, hidden, out, depth, ratios, SKIPS[skip], **self.parts)
        self.of_graphs = bool(targets_per_graph)
        self.net: Any = HierarchicalReadout(net, out_channels) if targets_per_graph else net
        self.y_mean: Tensor
        self.y_scale: Tensor
        self.register_buffer("y_mean", torch.zeros(out_channels))
        self.register_buffer("y_scale", torch.ones(out_channels))

    def learn_statistics(self, graphs: Any) -> None:
        graphs = list(graphs)
        super().learn_statistics(graphs)
        y = torch.cat([self._targets(data, "train_mask")[0] for data in graphs]).double()
        known = y.isfinite()
        count = known.sum(0).clamp(min=1)
        mean = torch.where(known, y, 0.0).sum(0) / count
        scale = (torch.where(known, y - mean, 0.0).square().sum(0) / count).sqrt()
        self.y_mean.copy_(mean)
        self.y_scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, data: Data) -> Tensor:
        """Targets in the units of the data, [N or B, out_channels]."""
        net = self.net.net if self.of_graphs else self.net
        more = {"batch_size": data.num_graphs} if self.of_graphs and "batch" in data else {}
        out = self.net(self.scaled(data), *self.inputs(data, net), **more)
        return out * self.y_scale + self.y_mean

    def _targets(self, data: Data, mask: str) -> tuple[Tensor, Any]:
        """Targets that count, [n, out_channels], and which rows of the output they are for."""
        y = data.y.view(-1, self.y_mean.numel()).float()
        rows = counted(data, mask) if mask in data else slice(None)
        return y[rows], rows

    def _loss(self, data: Data, mask: str) -> Tensor:
        y, rows = self._targets(data, mask)
        known = y.isfinite()
        gap = (self(data)[rows] - torch.where(known, y, 0.0)) / self.y_scale
        return (gap.square() * known).sum() / known.sum().clamp(min=1)

    def terms(self, data: Data) -> dict[str, Tensor]:
        return {"error": self._loss(data, "train_mask")}

    def weight(self, data: Data) -> Tensor:
        y = self._targets(data, "train_mask" if self.training else "val_mask")[0]
        return y.isfinite().sum()

    def validation_step(self, data: Data, index: int) -> None:
        self.note("val_loss", self._loss(data, "val_mask"), data)

    @classmethod
    def check(cls, data: Any) -> None:
        y, first = data.graphs[0].get("y"), data.graphs[0]
        per = None if y is None else y.size(0)
        if y is None or not y.is_floating_point() or per not in (1, first.num_nodes):
            raise ValueError(
                "'task' regress needs floating-point targets 'y', of nodes [N] or [N, T] or of "
                f"graphs [1, T]: 'dataset' {data.name!r} has "
                + ("none" if y is None else f"{y.dtype} of shape {list(y.shape)}")
            )

    def predict(self, data: Data) -> dict[str, Tensor]:
        """The targets."""
        return {"target": self(data)}

    def embed(self, data: Data, level: str = "nodes") -> dict[str, Tensor]:
        """The features of the way up: of nodes, or their means over graphs."""
        net = self.net.net if self.of_graphs else self.net
        states, hierarchy = net.states(self.scaled(data), *self.inputs(data, net))
        z = states[0]
        batch = data.get("batch")
        batch = torch.zeros(z.size(0), dtype=torch.long) if batch is None else batch
        if level == "graph":
            z = global_mean_pool(z, batch)
            batch = torch.arange(z.size(0))
        return {"z": z, "graph": batch}

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """Errors on the test part, beside the mean and ridge regression on the features (of graphs,
        on their means)."""
        from sklearn.linear_model import Ridge

        found, target, rows_x = [], [], []
        for batch in data.test_dataloader():
            y, rows = self._targets(batch, "test_mask")
            target.append(y)
            found.append(self(batch)[rows])
            rows_x.append(self._inputs_of_ridge(batch)[rows])
        y, guess = torch.cat(target), torch.cat(found)
        parts = [(self._inputs_of_ridge(g), *self._targets(g, "train_mask")) for g in data.parts[0]]
        train_x = torch.cat([x[rows] for x, _, rows in parts])
        train_y = torch.cat([own for _, own, _ in parts])
        known, usable = y.isfinite(), train_y.isfinite().all(1)
        y = torch.where(known, y, 0.0)

        def mse(value: Tensor) -> float:
            return float(((value - y) * known).double().square().sum() / known.sum())

        baselines = {"predict the mean": mse(self.y_mean.expand_as(y))}
        if bool(usable.any()):
            ridge = Ridge(1.0).fit(train_x[usable].numpy(), train_y[usable].numpy())
            linear = torch.from_numpy(ridge.predict(torch.cat(rows_x).numpy())).view_as(y)
            baselines["ridge regression"] = mse(linear.to(y))
        error = mse(guess)
        figures: Figures = {
            "test_mse": error,
            "test_mae": float(((guess - y) * known).abs().sum() / known.sum()),
            "test_r2": 1 - error / max(mse(y.sum(0) / known.sum(0).clamp(min=1)), 1e-30),
            "baselines": baselines,
        }
        return figures, [] if folder is None else [pictures.targets(folder, y, guess)]

    def _inputs_of_ridge(self, data: Data) -> Tensor:
        x = self.features(data)
        if not self.of_graphs:
            return x
        batch = data.get("batch")
        return x.mean(0, keepdim=True) if batch is None else global_mean_pool(x, batch)
