"""Masking links in place of features: the settings, the control with levels, the training.

The way of Bandana (Zhao et al. 2024), `pyg_gunet.MaskedLinkEncoder`.
"""

from __future__ import annotations

import copy
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from _classification import LEVELS
from _classification import levels as words_of
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torchmetrics.functional.classification import binary_auroc

from pyg_gunet import GraphUNet, MaskedLinkEncoder
from pyg_gunet.functional.non_edges import non_edges

EVERY, PATIENCE = 10, 30  # steps between readings of the held-out links, and readings without gain
PAIRS = 2**16  # the most links of a step


class Settings(NamedTuple):
    """Those that Bandana publishes for a data set; `decay` is the probe's."""

    width: int = 256
    layers: int = 3
    dropout: float = 0.8
    decoder_width: int = 256
    decoder_dropout: float = 0.0
    temperature: float = 0.9
    lr: float = 0.01
    decay: float = 5e-3


SETTINGS = {
    "Cora": Settings(),
    "PubMed": Settings(64, 2, 0.6, 32, 0.7, 0.2, 1e-3, 5e-5),
}


class Levels(MaskedLinkEncoder):
    """All but the first layer and, of three or more, the last run on the next coarser level, with
    the same weights, and what they make is lifted and added to what is carried on."""

    def __init__(self, *args: Any, ratio: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        width, count = self.hidden_channels, self.num_layers
        last = count - 1 if count > 2 else count
        self.coarse = [0 < i < last for i in range(count)]
        self.net = GraphUNet(width, width, width, 1, ratio, **words_of(LEVELS, still=True))
        self.graph: tuple[Tensor, Any] | None = None  # edges and their levels
        self.carried: Tensor | None = None

    def layer(self, i: int, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        if i > 0 and self.carried is not None:
            x = self.carried
        self.carried = None
        if not self.coarse[i]:
            return super().layer(i, x, edge_index, weight)
        if self.graph is None or not torch.equal(self.graph[0], edge_index):
            self.graph = edge_index, self.net.prepare(edge_index, num_nodes=x.size(0))
        transfer, (edges, weight) = (
            self.graph[1].transfers[0],
            self.graph[1].levels[1].edges(),
        )
        coarse = transfer.restrict(F.dropout(x, self.dropout, self.training))
        if self.training:
            weight = self.shares(edges, coarse.size(0))
        z = transfer.prolong(self.act(self.norms[i](self.convs[i](coarse, edges, weight))))
        self.carried = x + z if i < self.num_layers - 1 else None
        return z


def make(features: int, settings: Settings, levels: bool, ratio: float = 0.5) -> MaskedLinkEncoder:
    """The encoder with or without levels."""
    kind: Any = Levels if levels else MaskedLinkEncoder
    return kind(
        features,
        settings.width,
        settings.layers,
        settings.dropout,
        settings.temperature,
        settings.decoder_width,
        settings.decoder_dropout,
        **({"ratio": ratio} if levels else {}),
    )


def train_links(
    data: Data, levels: bool, seed: int, steps: int, settings: Settings, ratio: float = 0.5
) -> tuple[Tensor, dict[str, Any]]:
    """The embeddings [N, layers * width] of an encoder, trained on 85 percent of the links. Its
    step is that whose last layer tells a tenth, held out, best from random pairs."""
    seed_everything(seed)  # the split draws random pairs by Python's own generator
    split = RandomLinkSplit(
        0.1, 0.05, is_undirected=True, split_labels=True, add_negative_train_samples=False
    )
    part, held, _ = split(data)
    x, edge_index, size = data.x.to_sparse_csr(), part.edge_index, int(data.num_nodes or 0)
    model = make(data.num_features, settings, levels, ratio)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr, weight_decay=5e-5)
    pairs = torch.cat((held.pos_edge_label_index, held.neg_edge_label_index), 1)
    truth = torch.arange(pairs.size(1)) < held.pos_edge_label_index.size(1)
    best, at, state, start = -1.0, 0, model.state_dict(), time.process_time()
    for step in range(steps):
        model.train()
        other = non_edges(edge_index, size)
        for chosen in torch.randperm(edge_index.size(1)).split(PAIRS):
            states, shares = model(x, edge_index)
            loss = model.loss(
                states, [share[chosen] for share in shares], edge_index[:, chosen], other[:, chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if step % EVERY != EVERY - 1 and step != steps - 1:
            continue
        model.eval()
        with torch.no_grad():
            found = float(binary_auroc(model.decode(model(x, edge_index)[0][-1], pairs), truth))
        if found >= best:
            best, at, state = found, step, copy.deepcopy(model.state_dict())
        elif step - at >= PATIENCE * EVERY:
            break
    model.load_state_dict(state)
    row = {"steps": at + 1, "seconds": round(time.process_time() - start, 1)}
    model.eval()
    with torch.no_grad():
        return model.embed(x, data.edge_index), row
