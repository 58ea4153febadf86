"""Masking links in place of features: the encoders and their training.

The way of Bandana (Zhao et al. 2024): at every layer an edge carries a random share of what its
target gets, a softmax of normal draws, and a small perceptron on the product of two nodes' states
has to tell edges, weighed by these shares, from pairs drawn at random. No feature is predicted.
"""

from __future__ import annotations

import copy
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from _classification import LEVELS
from _classification import levels as words_of
from _classification_nodes import WordDropout, WordLinear, Words
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.nn import MLP, BatchNorm, GCNConv
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import add_self_loops, negative_sampling, softmax
from torchmetrics.functional.classification import binary_auroc

from pyg_gunet import GraphUNet
from pyg_gunet.graph.level import Hierarchy

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


class Encoder(torch.nn.Module):
    """Graph convolutions, each with batch norm; with `levels` all but the first and, of three or
    more, the last run on the next coarser level, and what they make is lifted."""

    def __init__(self, data: Data, settings: Settings, levels: bool, ratio: float = 0.5) -> None:
        super().__init__()
        width, count, self.dropout = settings.width, settings.layers, settings.dropout
        weight = torch.nn.init.xavier_uniform_(torch.empty(data.num_features, width))
        self.enter = WordLinear(torch.nn.Parameter(weight.t()), None, Words(data.x))
        self.x, self.words = data.x, WordDropout(data.x, 1, rows=False)
        self.convs = torch.nn.ModuleList(GCNConv(width, width) for _ in range(count))
        self.convs[0].lin = torch.nn.Identity()
        self.norms = torch.nn.ModuleList(BatchNorm(width) for _ in range(count))
        self.temperature = settings.temperature
        last = count - 1 if count > 2 else count
        self.coarse = [levels and 0 < i < last for i in range(count)]
        self.net = (
            GraphUNet(width, width, width, 1, ratio, **words_of(LEVELS, still=True))
            if levels
            else None
        )

    def prepare(self, edge_index: Tensor, num_nodes: int) -> Hierarchy | Tensor:
        """What `forward` takes in place of the edges."""
        if self.net is None:
            return edge_index
        return self.net.prepare(edge_index, num_nodes=num_nodes)

    def forward(self, graph: Any, edge_index: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The states of every layer [N, width], and in training the shares [E] of the edges."""
        fine = self.enter(self.words(0, self.dropout) if self.training else self.x)
        outs: list[Tensor] = []
        shares: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            share = self.bandwidth(edge_index, fine.size(0)) if self.training else None
            x = F.dropout(fine, self.dropout, self.training and i > 0)
            if self.coarse[i]:
                transfer = graph.transfers[0]
                x, (edges, weight) = transfer.restrict(x), graph.levels[1].edges()
                if self.training:
                    weight = self.bandwidth(edges, x.size(0))
                x = transfer.prolong(F.elu(norm(conv(x, edges, weight))))
                fine = fine + x if i < len(self.convs) - 1 else x
            else:
                fine = x = F.elu(norm(conv(x, edge_index, share)))
            outs.append(x)
            shares.append(share)
        return outs, shares

    def bandwidth(self, edge_index: Tensor, num_nodes: int) -> Tensor:
        draws = torch.randn(edge_index.size(1), device=edge_index.device) / self.temperature
        return softmax(draws, edge_index[1], num_nodes=num_nodes)

    @torch.no_grad()
    def embed(self, edge_index: Tensor, num_nodes: int) -> Tensor:
        """All layers' states side by side, of length 1, [N, layers * width]."""
        self.eval()
        return F.normalize(torch.cat(self(self.prepare(edge_index, num_nodes), edge_index)[0], 1))


def train_links(
    data: Data, levels: bool, seed: int, steps: int, settings: Settings, ratio: float = 0.5
) -> tuple[Tensor, dict[str, Any]]:
    """The embeddings [N, layers * width] of an encoder, trained on 85 percent of the links. Its
    step is that whose decoder, by its first output as published, tells a tenth, held out, best
    from random pairs."""
    seed_everything(seed)  # random pairs are drawn by Python's own generator
    split = RandomLinkSplit(
        0.1, 0.05, is_undirected=True, split_labels=True, add_negative_train_samples=False
    )
    part, held, _ = split(data)
    edge_index, size = part.edge_index, int(data.num_nodes or 0)
    model = Encoder(data, settings, levels, ratio)
    decoder = MLP([settings.width, settings.decoder_width, 2], norm=None)
    parameters = [*model.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, settings.lr, weight_decay=5e-5)
    graph, loops = model.prepare(edge_index, size), add_self_loops(edge_index, num_nodes=size)[0]
    pairs = torch.cat((held.pos_edge_label_index, held.neg_edge_label_index), 1)
    truth = torch.arange(pairs.size(1)) < held.pos_edge_label_index.size(1)
    best, at, state, start = -1.0, 0, model.state_dict(), time.process_time()

    def tell(z: Tensor, pairs: Tensor) -> Tensor:
        product = z[pairs[0]] * z[pairs[1]]
        product = F.dropout(product, settings.decoder_dropout, decoder.training)
        return decoder(product)

    for step in range(steps):
        model.train()
        decoder.train()
        other = negative_sampling(loops, size, edge_index.size(1))
        other = other[:, torch.arange(edge_index.size(1)) % other.size(1)]
        for chosen in torch.randperm(edge_index.size(1)).split(PAIRS):
            outs, shares = model(graph, edge_index)
            losses = [
                -(share[chosen] * tell(z, edge_index[:, chosen]).log_softmax(-1)[:, 0]).mean()
                - tell(z, other[:, chosen]).log_softmax(-1)[:, 1].mean()
                for z, share in zip(outs, shares)
            ]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        if step % EVERY != EVERY - 1 and step != steps - 1:
            continue
        model.eval()
        decoder.eval()
        with torch.no_grad():
            found = float(binary_auroc(tell(model(graph, edge_index)[0][-1], pairs)[:, 0], truth))
        if found >= best:
            best, at, state = found, step, copy.deepcopy(model.state_dict())
        elif step - at >= PATIENCE * EVERY:
            break
    model.load_state_dict(state)
    row = {"steps": at + 1, "seconds": round(time.process_time() - start, 1)}
    return model.embed(data.edge_index, size), row
