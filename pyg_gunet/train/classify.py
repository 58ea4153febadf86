"""Classification of nodes and of graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import dropout_edge

from pyg_gunet.nn.readout import HierarchicalReadout
from pyg_gunet.nn.recipes import MixedGraphUNet, OfficialGraphUNet
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.train import pictures
from pyg_gunet.train.autoencode import SKIPS
from pyg_gunet.train.data import MASKS
from pyg_gunet.train.module import Figures, GraphModule
from pyg_gunet.validate import check_choice, check_number, check_positive_int

Skip = Literal["none", "sum", "cat"]
CHOICES = {"accuracy": ("val_accuracy", "max"), "loss": ("val_loss", "min")}
PASSES = 4  # of consistent training


class Classify(GraphModule):
    r"""The class of every node of one graph: a Graph U-Net with cross-entropy on the training
    nodes. The best epoch is chosen on the validation nodes.

    Of a sampled part of a graph only its seed nodes count: those of `seed_mask`, or the first
    `batch_size` as in a batch of PyG's :class:`~torch_geometric.loader.NeighborLoader`.

    Args:
        num_classes (int): The number of classes.
        net (str, optional): plain (:class:`GraphUNet`), mixed (:class:`MixedGraphUNet`) or official
            (:class:`OfficialGraphUNet`). (default: plain)
        skip (str, optional): Skip connections of plain and mixed: none, sum, cat. (default: sum,
            where there are levels)
        mix (int, optional): Steps along the edges that mixed averages over. (default: 4)
        channel_dropout (float, optional): Share of features that mixed leaves out of a step, the
            same at all nodes. (default: 0.0)
        act (str, optional): The nonlinearity, by PyG's name. (default: relu)
        input_dropout (float, optional): Dropout on features. (default: 0.0)
        drop_nodes (bool, optional): Whether whole rows of features are dropped. (default: False)
        edge_dropout (float, optional): Share of edges left out of a training step. (default: 0.0)
        consistency (float, optional): Weight of the distance of four predictions under different
            dropout to their sharpened mean (Feng et al. 2020, eqs. 5 to 7), rising over the first
            50 epochs; 0: one pass, no such loss. (default: 0.0)
        choose (str, optional): The best epoch has the highest accuracy on the validation nodes, or
            the lowest loss. (default: accuracy)
    """

    monitor, mode = "val_accuracy", "max"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        net: Literal["plain", "mixed", "official"] = "plain",
        skip: Skip | None = None,
        mix: int = 4,
        channel_dropout: float = 0.0,
        act: str = "relu",
        input_dropout: float = 0.0,
        drop_nodes: bool = False,
        edge_dropout: float = 0.0,
        consistency: float = 0.0,
        choose: Literal["accuracy", "loss"] = "accuracy",
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, **kwargs)
        check_choice(net, "net", ("plain", "mixed", "official"))
        check_choice(choose, "choose", tuple(CHOICES))
        self.monitor, self.mode = CHOICES[choose]
        check_choice(skip, "skip", (None, *SKIPS))
        check_positive_int(mix, "mix", minimum=0)
        for name, value in (("input_dropout", input_dropout), ("edge_dropout", edge_dropout)):
            check_number(value, name, 0.0, 0.99)
        check_number(consistency, "consistency", 0.0)
        hidden, depth, ratios = self.shape
        check_positive_int(depth, "depth", minimum=int(net != "mixed"))
        levels = {"skip": (skip, "sum"), "pool_ratios": (kwargs.get("pool_ratios"), 0.5)}
        for name, (word, neutral) in levels.items():  # which older runs have stored
            if not depth and word is not None and (type(word), word) != (type(neutral), neutral):
                raise ValueError(f"'{name}' goes with a 'depth' of at least 1 (got {word!r})")
        size: Any = (in_channels, hidden, num_classes, depth, ratios)
        options: dict[str, Any] = {"act": act}
        kinds = {"official": OfficialGraphUNet, "mixed": MixedGraphUNet, "plain": GraphUNet}
        kind: Any = kinds[net]
        if net == "official" and skip not in (None, "sum"):
            raise ValueError(f"'skip' goes with net='plain' and 'mixed' (got {skip!r})")
        if net != "official" and depth:
            options["sum_res"] = SKIPS[skip or "sum"]
        if net == "mixed":
            options.update(steps=mix, channel_dropout=channel_dropout)
        elif channel_dropout:
            raise ValueError(f"'channel_dropout' goes with net='mixed' (got net={net!r})")
        self.net: Any = kind(*size, **options, **self.parts)
        self.input_dropout, self.drop_nodes = input_dropout, drop_nodes
        self.edge_dropout, self.consistency = edge_dropout, consistency

    def forward(self, data: Data) -> Tensor:
        """Logits [N, num_classes]."""
        x = self.scaled(data)
        if self.training and self.input_dropout:
            if self.drop_nodes:
                x = x * F.dropout(x.new_ones(x.size(0), 1), self.input_dropout)
            elif (x == 0).float().mean() > 0.5:  # words: draws for what is there alone
                kept = x.nonzero(as_tuple=True)
                x = torch.zeros_like(x).index_put(kept, F.dropout(x[kept], self.input_dropout))
            else:
                x = F.dropout(x, self.input_dropout)
        inner = getattr(self.net, "net", self.net)
        edges, batch, weight = self.inputs(data, inner)
        if self.training and self.edge_dropout:
            edges, kept = dropout_edge(data.edge_index, self.edge_dropout, force_undirected=True)
            weight = None if weight is None else data.edge_weight[kept]
            batch = data.get("batch")
        return self.net(x, edges, batch, weight)

    def terms(self, data: Data) -> dict[str, Tensor]:
        passes = PASSES if self.consistency and self.training else 1
        logits = [self(data) for _ in range(passes)]
        losses = [self._cross_entropy(one, data, "train_mask") for one in logits]
        terms = {"class": torch.stack(losses).mean()}
        if passes > 1:
            share = min(1.0, self.current_epoch / 50) * self.consistency
            terms["consistency"] = share * disagreement(torch.stack(logits).softmax(-1))
        return terms

    def weight(self, data: Data) -> Tensor | int:
        return counted(data, "train_mask" if self.training else "val_mask").sum()

    def validation_step(self, data: Data, index: int) -> None:
        logits = self(data)
        self.note("val_loss", self._cross_entropy(logits, data, "val_mask"), data)
        right = logits.argmax(-1) == data.y
        self.note("val_accuracy", right[counted(data, "val_mask")].float().mean(), data)

    @staticmethod
    def _cross_entropy(logits: Tensor, data: Data, mask: str) -> Tensor:
        # A part of a graph may hold no node that counts: then the loss is 0, not 0 / 0.
        chosen = counted(data, mask)
        total = F.cross_entropy(logits[chosen], data.y[chosen], reduction="sum")
        return total / chosen.sum().clamp(min=1)

    @classmethod
    def check(cls, data: Any) -> None:
        check_node_labels(data, "classify", floating=False)

    def predict(self, data: Data) -> dict[str, Tensor]:
        """Classes and their probabilities, per node."""
        probability = self(data).softmax(-1)
        return {"label": probability.argmax(-1), "probability": probability}

    def embed(self, data: Data, level: str = "nodes") -> dict[str, Tensor]:
        """Log-probabilities of classes as embeddings `z` of nodes."""
        if level != "nodes":
            raise ValueError(f"'level' must be nodes for the task classify (got {level!r})")
        z = self(data).log_softmax(-1)
        return {"z": z, "graph": torch.zeros(z.size(0), dtype=torch.long)}

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """Accuracy on the test nodes, beside the majority class and logistic regression."""
        from sklearn.linear_model import LogisticRegression

        graph = next(iter(data.test_dataloader())).to(self.device)
        found = self(graph).argmax(-1)
        train, val, test = (graph[mask] for mask in MASKS)
        right = found == graph.y
        majority = graph.y[train].bincount().argmax()
        figures: Figures = {
            "test_accuracy": right[test].double().mean().item(),
            "val_accuracy": right[val].double().mean().item(),
            "baselines": {"majority class": (graph.y[test] == majority).double().mean().item()},
        }
        if len(graph.y[train].unique()) > 1:
            x = F.normalize(graph.x).numpy()
            logistic = LogisticRegression(C=10.0, max_iter=500).fit(x[train], graph.y[train])
            score = float(logistic.score(x[test], graph.y[test]))
            figures["baselines"]["logistic regression"] = score
        if folder is None:
            return figures, []
        classes = getattr(data.graphs[0], "class_names", None)
        return figures, [pictures.confusion(folder, graph.y[test], found[test], classes)]


class ClassifyGraphs(GraphModule):
    r"""The class of every graph: a :class:`GraphUNet` that reads mean, maximum and sum off every
    level, with cross-entropy. The best epoch is chosen on the validation graphs.

    Args:
        num_classes (int): The number of classes.
        skip (str, optional): Skip connections: none, sum, cat. (default: sum)
    """

    monitor, mode = "val_accuracy", "max"

    def __init__(
        self, in_channels: int, num_classes: int, *, skip: Skip = "sum", **kwargs: Any
    ) -> None:
        super().__init__(in_channels, **kwargs)
        check_choice(skip, "skip", tuple(SKIPS))
        hidden, depth, ratios = self.shape
        net = GraphUNet(in_channels, hidden, hidden, depth, ratios, SKIPS[skip], **self.parts)
        self.net = HierarchicalReadout(net, num_classes)

    def forward(self, data: Data) -> Tensor:
        """Logits [B, num_classes]."""
        inputs = self.inputs(data, self.net.net)
        return self.net(self.scaled(data), *inputs, batch_size=data.num_graphs)

    def terms(self, data: Data) -> dict[str, Tensor]:
        return {"class": F.cross_entropy(self(data), data.y.view(-1))}

    def weight(self, data: Data) -> int:
        return data.y.numel()

    def validation_step(self, data: Data, index: int) -> None:
        logits, label = self(data), data.y.view(-1)
        self.note("val_loss", F.cross_entropy(logits, label), data)
        self.note("val_accuracy", (logits.argmax(-1) == label).float().mean(), data)

    @classmethod
    def check(cls, data: Any) -> None:
        y = [graph.get("y") for graph in data.graphs] if len(data.graphs) > 1 else []
        if not y or any(one is None or one.numel() != 1 or one.is_floating_point() for one in y):
            raise ValueError(
                "'task' classify_graphs needs several graphs with a class each: "
                f"'dataset' {data.name!r} has {count(len(data.graphs), 'graph')}"
                + (", not all with one integer 'y'" if y else "")
            )

    def predict(self, data: Data) -> dict[str, Tensor]:
        """Classes and their probabilities, per graph."""
        probability = self(data).softmax(-1)
        return {"label": probability.argmax(-1), "probability": probability}

    def embed(self, data: Data, level: str = "graph") -> dict[str, Tensor]:
        """What the levels read of a graph, before the classifier."""
        if level != "graph":
            raise ValueError(f"'level' must be graph for the task classify_graphs (got {level!r})")
        inputs = self.inputs(data, self.net.net)
        states, hierarchy = self.net.net.states(self.scaled(data), *inputs)
        z = self.net.read(states, hierarchy, data.num_graphs)
        return {"z": z, "graph": torch.arange(z.size(0))}

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """Accuracy on the test graphs, beside the most frequent class of the training graphs."""
        y = torch.cat([graph.y.view(-1) for graph in data.train_graphs()])
        figures: Figures = {}
        for name, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
            pairs = [(self(batch).argmax(-1), batch.y.view(-1)) for batch in loader]
            found, target = (torch.cat(parts) for parts in zip(*pairs))
            figures[f"{name}_accuracy"] = (found == target).double().mean().item()
        share = (target == y.bincount().argmax()).double().mean().item()
        figures["baselines"] = {"majority class": share}
        if folder is None:
            return figures, []
        classes = getattr(data.graphs[0], "class_names", None)
        return figures, [pictures.confusion(folder, target, found, classes)]


def disagreement(probability: Tensor) -> Tensor:
    """The mean squared distance of predictions [passes, N, C] to their sharpened mean, which is
    held fixed."""
    target = probability.mean(0).detach().square()
    target = target / target.sum(-1, keepdim=True)
    return (probability - target).square().sum(-1).mean()


def counted(data: Data, mask: str) -> Tensor:
    """Which nodes count: those of `mask`, of a sampled part its seeds among them, [N]."""
    chosen = data[mask]
    if "seed_mask" in data:
        return chosen & data.seed_mask
    if "batch_size" in data:
        return chosen & (torch.arange(chosen.numel(), device=chosen.device) < data.batch_size)
    return chosen


def check_node_labels(data: Any, task: str, floating: bool) -> None:
    """Whether one graph has labels (or, `floating`, targets) for its nodes."""
    graph = getattr(data, "whole", data.graphs[0])
    y, what = graph.get("y"), "targets" if floating else "labels"
    fits = y is not None and y.size(0) == graph.num_nodes and y.is_floating_point() == floating
    empty = [mask[:-5] for mask in MASKS if mask not in graph or not bool(graph[mask].any())]
    if data.one_graph and fits and empty:
        raise ValueError(
            f"'task' {task} needs nodes of every part: 'dataset' {data.name!r} has none to "
            f"{' nor to '.join(empty)}"
        )
    if not data.one_graph or not fits:
        raise ValueError(
            f"'task' {task} needs one graph with {what} of its nodes: 'dataset' {data.name!r} has "
            f"{count(len(data.graphs), 'graph')}" + ("" if fits else f" without such {what}")
        )


def count(number: int, word: str) -> str:
    """A number and a word for it.

    Example:
        >>> count(1, "graph"), count(0, "epoch")
        ('1 graph', '0 epochs')
    """
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
