"""Masked auto-encoding: links are hidden and told from random pairs, or features are, and
predicted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, global_mean_pool
from torchmetrics.functional.classification import binary_auroc

from pyg_gunet.functional.non_edges import non_edges
from pyg_gunet.nn.masked import MaskedAutoEncoder
from pyg_gunet.nn.masked_links import MaskedLinkEncoder
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.train.autoencode import SKIPS, batch_of
from pyg_gunet.train.data import MASKS
from pyg_gunet.train.module import Figures, GraphModule
from pyg_gunet.train.probe import probe
from pyg_gunet.validate import check_choice

HELD_OUT = 0.1  # the share of a graph's links that choose the epoch
DECAYS = (5e-3, 5e-4)  # of the probe of what links teach
WORDS = 0.1  # features of which a smaller share is not zero enter as a sparse matrix
LEVELS = ("depth", "pool_ratios", "select", "reduce", "connect", "lift", "quantiles")
NEUTRAL = {"depth": (0,), "pool_ratios": (0.5,), "conv": ("none",), "norm": ("none",)}


class MaskedAutoEncode(GraphModule):
    r"""Hides part of a graph and learns to tell it: links (:class:`MaskedLinkEncoder`; a tenth of
    them is held out, and how well these are told from random pairs, `val_auc`, chooses the epoch)
    or the features of some nodes (:class:`MaskedAutoEncoder` around a :class:`GraphUNet`). No label
    is read. In the end a linear probe reads classes off the embeddings.

    Args:
        hide (str, optional): What is hidden: links, features. An option of the other way is
            refused. (default: features)
        mask (float, optional): Of features: share of nodes whose features are hidden.
            (default: 0.5)
        replace (float, optional): Of features: share of these that get another node's features.
            (default: 0.05)
        gamma (float, optional): Of features: exponent of the scaled cosine error. (default: 2.0)
        skip (str, optional): Of features: skip connections: none, sum, cat. (default: sum)
        num_layers (int, optional): Of links: number of graph convolutions. (default: 3)
        temperature (float, optional): Of links: the smaller, the more of what a node gets comes
            along one link. (default: 0.9)
        decoder_channels (int, optional): Of links: width of the perceptron that tells them.
            (default: hidden_channels)
        decoder_dropout (float, optional): Of links: dropout before it. (default: 0.0)
        max_links (int, optional): Of links: the most that a step tells. (default: all)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        hide: Literal["links", "features"] = "features",
        mask: float | None = None,
        replace: float | None = None,
        gamma: float | None = None,
        skip: Literal["none", "sum", "cat"] | None = None,
        num_layers: int | None = None,
        temperature: float | None = None,
        decoder_channels: int | None = None,
        decoder_dropout: float | None = None,
        max_links: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice(hide, "hide", ("links", "features"))
        of_features: dict[str, Any] = {
            "mask": mask,
            "replace": replace,
            "gamma": gamma,
            "skip": skip,
        }
        of_links: dict[str, Any] = {
            "num_layers": num_layers,
            "temperature": temperature,
            "decoder_channels": decoder_channels,
            "decoder_dropout": decoder_dropout,
            "max_links": max_links,
        }
        other = of_links
        if hide == "links":
            kwargs.setdefault("depth", 0)  # there are no levels
            own = {name: kwargs.get(name) for name in (*LEVELS, "conv", "norm")}
            other = {**of_features, **own}
        for name, value in other.items():
            if value is not None and value not in NEUTRAL.get(name, ()):
                way = "features" if hide == "links" else "links"
                raise ValueError(f"'{name}' goes with hide={way!r} (got {value!r}, hide={hide!r})")
        super().__init__(in_channels, **kwargs)
        hidden, depth, ratios = self.shape
        self.hide = hide
        self.net: Any
        if hide == "links":
            given = {name: value for name, value in of_links.items() if value is not None}
            self.net = MaskedLinkEncoder(
                in_channels, hidden, dropout=self.parts["dropout"], **given
            )
            self.monitor, self.mode = "val_auc", "max"
            return
        skip = "sum" if skip is None else skip
        check_choice(skip, "skip", tuple(SKIPS))
        net = GraphUNet(in_channels, hidden, hidden, depth, ratios, SKIPS[skip], **self.parts)
        shares = {"mask": mask, "replace": 0.05 if replace is None else replace, "gamma": gamma}
        given = {name: value for name, value in shares.items() if value is not None}
        self.net = MaskedAutoEncoder(net, conv=self.parts["conv"], **given)

    def learn_statistics(self, graphs: Iterable[Data]) -> None:
        """Mean and deviation; of one graph also the links that are held out."""
        graphs = list(graphs)
        super().learn_statistics(graphs)
        if self.hide != "links":
            return
        if not any(bool((graph.edge_index[0] != graph.edge_index[1]).any()) for graph in graphs):
            raise ValueError("'hide' links needs links: 'dataset' has none; hide=features does not")
        for graph in graphs:
            if "whole" in graph:  # its parts, where a step sees parts, take it along
                graph.held_edge = held_out(graph.edge_index, self.run_seed)

    def _scale(self, data: Data) -> Tensor:
        x = super()._scale(data)
        words = self.hide == "links" and float((x != 0).float().mean()) < WORDS
        return x.to_sparse_csr() if words else x

    def terms(self, data: Data) -> dict[str, Tensor]:
        x = self.scaled(data)
        if self.hide == "features":
            x_hat, hidden = self.net(x, *self.inputs(data, self.net.model))
            return {"reconstruction": self.net.loss(x_hat, x, hidden)}
        edges, weight, batch = self._seen_links(data, data.get("held_edge"))
        states, shares = self.net(x, edges, batch, weight)
        return {"links": self.net.loss(states, shares, edges, batch=batch)}

    def validation_step(self, data: Data, index: int) -> None:
        if self.hide == "features":
            return super().validation_step(data, index)
        loss, auc = self._told(data)
        self.note("val_loss", loss, data)
        self.note("val_auc", auc, data)

    def _seen_links(
        self, data: Data, held: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Edges, weights and batch, without what is held out."""
        edges, weight = data.edge_index, data.get("edge_weight")
        if held is not None:
            edges, weight = edges[:, ~held], None if weight is None else weight[~held]
        return edges, weight, data.get("batch")

    def _told(self, data: Data) -> tuple[Tensor, Tensor]:
        """The loss on held-out links and as many random pairs, and the area under the curve by
        which the states of the last layer tell them apart; the same draws for the same graph."""
        all_edges, batch = data.edge_index.cpu(), data.get("batch")
        held = data.get("held_edge")
        held = held_out(all_edges, self.run_seed) if held is None else held.cpu()
        count = int(held.sum())
        if not count:  # so few links that all of them are seen
            held, count = held | True, held.numel()
        generator = torch.Generator().manual_seed(self.run_seed)
        own = None if batch is None else batch.cpu()
        pairs = non_edges(all_edges, int(data.num_nodes or 0), own, generator)
        pairs = pairs[:, torch.randperm(pairs.size(1), generator=generator)[:count]].to(self.device)
        edges, weight, batch = self._seen_links(data, held.to(self.device) & (count < held.numel()))
        states, _ = self.net(self.scaled(data), edges, batch, weight)
        links = all_edges[:, held].to(self.device)
        ones = [links.new_ones(count, dtype=states[0].dtype)] * len(states)
        loss = self.net.loss(states, ones, links, pairs)
        if not count or not pairs.size(1):  # nothing to tell apart
            return loss, loss.new_full((), 0.5)
        logits = self.net.decode(states[-1], torch.cat([links, pairs], 1))
        truth = torch.arange(logits.numel(), device=self.device) < count
        return loss, binary_auroc(logits, truth)

    def embed(self, data: Data, level: str = "nodes") -> dict[str, Tensor]:
        """Embeddings `z` of nodes, or their means over graphs."""
        batch = batch_of(data)
        x = self.scaled(data)
        if self.hide == "links":
            edges, weight, own = self._seen_links(data, None)
            z = self.net.embed(x, edges, own, weight)
        else:
            z = self.net.embed(x, *self.inputs(data, self.net.model))
        if level == "nodes":
            return {"z": z, "graph": batch}
        if level == "latent":
            raise ValueError("'level' must be nodes or graph for masked auto-encoding")
        z = global_mean_pool(z, batch)
        return {"z": z, "graph": torch.arange(z.size(0))}

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """The error on what is hidden and, where nodes have classes and a split, a linear probe of
        the embeddings, as they are and after ten steps of personalised PageRank, of links also
        strongly and weakly decayed: the validation nodes choose."""
        torch.manual_seed(self.run_seed)
        graphs = data.test_dataloader()
        if self.hide == "links":
            told = [[float(value) for value in self._told(graph)] for graph in graphs]
            loss, auc = (sum(values) / len(values) for values in zip(*told))
            figures: Figures = {"masked_loss": loss, "link_auc": auc, "baselines": {}}
        else:
            losses = [float(self.terms(graph)["reconstruction"]) for graph in graphs]
            figures = {"masked_loss": sum(losses) / len(losses), "baselines": {}}
        if not data.one_graph:
            return figures, []
        graph = next(iter(data.test_dataloader()))
        if any(key not in graph for key in ("y", *MASKS)) or graph.y.is_floating_point():
            return figures, []
        given: dict[str, Any] = {"y": graph.y}
        given.update({mask.removesuffix("_mask"): graph[mask] for mask in MASKS})
        z, tried, seed = self.embed(graph)["z"], [], self.run_seed
        for steps in (0, 10):
            h = APPNP(steps, 0.1)(z, graph.edge_index)
            if self.hide == "features":
                tried.append({**probe(h / h.std(), **given), "propagate": steps})
                continue
            for decay in DECAYS:
                seen = probe(F.normalize(h), **given, epochs=100, weight_decay=decay, seed=seed)
                tried.append({**seen, "propagate": steps})
        best = max(tried, key=lambda found: (found["val_accuracy"], -found["val_loss"]))
        names = ("test_accuracy", "val_accuracy", "propagate")  # of the probe
        figures.update({name: best[name] for name in names})
        figures["baselines"] = {"probe of the features": probe(graph.x, **given)["test_accuracy"]}
        return figures, []


def held_out(edge_index: Tensor, seed: int, share: float = HELD_OUT) -> Tensor:
    """Which edges are held out, [E], boolean: a share of the links, both directions and every
    repetition of one alike; no self loop, and none of a single link.

    Example:
        >>> held_out(torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]]), seed=0)
        tensor([ True,  True, False, False, False])
    """
    low, high = edge_index.min(0)[0], edge_index.max(0)[0]
    proper = low != high
    size = int(edge_index.max()) + 1 if edge_index.numel() else 0
    link, which = torch.unique((low * size + high)[proper], return_inverse=True)
    count = max(1, round(share * link.numel())) if link.numel() > 1 else 0
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(link.numel(), dtype=torch.bool)
    chosen[torch.randperm(link.numel(), generator=generator)[:count]] = True
    held = torch.zeros_like(proper)
    held[proper] = chosen.to(held.device)[which]
    return held
