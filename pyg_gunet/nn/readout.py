"""One output per graph from the node states of all levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MLP, JumpingKnowledge, MultiAggregation

from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.validate import (
    check_batch_size,
    check_choice,
    check_features,
    check_memory,
    check_positive_int,
    outermost,
)

REDUCTIONS = ("mean", "max", "sum")


class HierarchicalReadout(torch.nn.Module):
    r"""Reads one output per graph off the node states of every level of a :class:`GraphUNet`: some
    reductions over each level's nodes (PyG's :class:`MultiAggregation`), levels joined by PyG's
    :class:`JumpingKnowledge`, then a perceptron of two layers.

    `Cangea et al. 2018 <https://arxiv.org/abs/1811.01287>`_ (eqs. 4 and 5) add the mean and the
    maximum up over levels; the official code of `Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_ sets mean, maximum and sum of all levels side by side: the
    default.

    Args:
        net (GraphUNet): Its outputs are the states of the finest level, so its `out_channels` is
            its `hidden_channels`.
        out_channels (int): Size of the output of each graph.
        reduce (tuple of str, optional): Some of ``'mean'``, ``'max'`` and ``'sum'``.
            (default: ``("mean", "max", "sum")``)
        mode (str, optional): Of :class:`JumpingKnowledge`, ``'cat'``, levels side by side, or
            ``'max'``, their maximum. (default: ``'cat'``)

    Shapes:
        - **input:** as :meth:`GraphUNet.forward`
        - **output:** [B, out_channels]; a graph without nodes reads as zeros

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = HierarchicalReadout(GraphUNet(16, 32, 32, depth=2), out_channels=3)
        >>> x, edge_index = torch.randn(10, 16), torch.randint(6, (2, 30))
        >>> batch = torch.tensor([0] * 6 + [1] * 4)
        >>> model(x, edge_index, batch, batch_size=4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        net: GraphUNet,
        out_channels: int,
        reduce: Sequence[str] = REDUCTIONS,
        mode: str = "cat",
    ) -> None:
        super().__init__()
        if not isinstance(net, GraphUNet):
            raise TypeError(f"'net' must be a GraphUNet (got {net!r:.80})")
        if net.out_channels != net.hidden_channels:
            raise ValueError(
                f"'net' must give its {net.hidden_channels} hidden channels "
                f"(got {net.out_channels})"
            )
        if isinstance(reduce, str) or not isinstance(reduce, Sequence) or not reduce:
            raise TypeError(f"'reduce' must be a tuple of names (got {reduce!r})")
        for name in reduce:
            check_choice(name, "reduce", REDUCTIONS)
        check_choice(mode, "mode", ("cat", "max"))
        check_positive_int(out_channels, "out_channels")
        self.net = net
        self.aggregate = MultiAggregation(list(reduce))
        self.join = JumpingKnowledge(mode)
        channels = net.hidden_channels
        read = len(reduce) * channels * (net.depth + 1 if mode == "cat" else 1)
        check_memory(4 * read * channels, "net", channels)
        self.mlp = MLP([read, channels, out_channels], dropout=net.dropout, act=net.act, norm=None)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.net.reset_parameters()
        self.mlp.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""The output of every graph, [B, out_channels]. Arguments as in :meth:`GraphUNet.forward`;
        `batch_size` is B (default: None, up to the last graph that has a node)."""
        states, hierarchy = self.net.states(
            x, edge_index, batch, edge_weight, edge_attr=edge_attr, batch_size=batch_size
        )
        states[0] = self.net.act(states[0])
        with outermost():
            vector = self.read(states, hierarchy, batch_size)
        return self.mlp(F.dropout(vector, self.net.dropout, self.training))

    def read(
        self, states: Sequence[Tensor], hierarchy: Hierarchy, batch_size: int | None = None
    ) -> Tensor:
        r"""One vector per graph before the perceptron, [B, ...].

        Args:
            states (list[Tensor]): Node states per level, finest first, [N_l, hidden_channels].
            hierarchy (Hierarchy): The levels.
            batch_size (int, optional): The number of graphs B. (default: None)
        """
        with outermost() as values:
            if not isinstance(hierarchy, Hierarchy):
                raise TypeError(f"'hierarchy' must be a Hierarchy (got {hierarchy!r:.80})")
            if not isinstance(states, Sequence):
                raise TypeError(f"'states' must be a list of tensors (got {states!r:.80})")
            if len(states) != len(hierarchy.levels):
                raise ValueError(
                    f"'states' must hold one entry per level, {len(hierarchy.levels)} of them "
                    f"(got {len(states)})"
                )
            for x in states:
                check_features(x, self.net.hidden_channels, values, name="states")
            batch = hierarchy.levels[0].batch
            if batch_size is not None:
                check_batch_size(batch_size, batch, values)
            elif batch is not None:
                batch_size = int(batch[-1]) + 1  # sorted: the last is the highest
        vectors = []
        for x, level in zip(states, hierarchy.levels):
            ids = level.batch
            if ids is None:
                ids = torch.zeros(level.num_nodes, dtype=torch.long, device=x.device)
            vectors.append(self.aggregate(x, ids.long(), dim_size=batch_size))
        return self.join(vectors)
