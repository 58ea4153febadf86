"""The Graph U-Net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.base import LevelModel, MakePool
from pyg_gunet.nn.conv import explained
from pyg_gunet.nn.parts import MakeConv, MakeNorm, Ratios, apply_norm, make_conv, make_norm
from pyg_gunet.validate import check_choice, check_memory, check_positive_int, outermost


class GraphUNet(LevelModel):
    r"""The Graph U-Net of `Gao and Ji 2019 <https://arxiv.org/abs/1905.05178>`_ (section 3.3): a
    convolution per level, :class:`GPool` on the way down, :class:`GUnpool` and skip connections on
    the way up.

    A drop-in for :class:`torch_geometric.nn.GraphUNet`: the positional arguments, their defaults,
    the `state_dict` and the outputs are the same, so weights load both ways.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        out_channels (int): Size of each output sample.
        depth (int): Number of poolings.
        pool_ratios (float, int or list, optional): Share (float) or number (int) of nodes that each
            pooling keeps, see :class:`GPool`; the last of a short list stands for all levels below
            it. (default: 0.5)
        sum_res (bool, optional): Whether skip connections are added (True) or concatenated (False);
            None leaves them out. (default: True)
        act (str or callable, optional): The nonlinearity. (default: ``'relu'``)
        select (str, optional): Which nodes stay, ``'topk'`` or ``'spread'``, see :class:`GPool`.
            (default: ``'topk'``)
        reduce (str, optional): What kept nodes hear of dropped ones, ``'keep'`` or ``'mean'``, see
            :class:`GPool`. (default: ``'keep'``)
        connect (str, optional): Which edges join kept nodes: those of :class:`GPool`, or
            ``'walk'``, see below. (default: ``'two_hop'``)
        lift (str, optional): What dropped nodes get back, ``'zero'``, ``'nearest'``,
            ``'interpolate'`` or ``'propagate'``, see :class:`GUnpool`. (default: ``'zero'``)
        conv (callable, optional): Makes a convolution, ``(in_channels, out_channels) ->
            MessagePassing``. One whose forward takes `edge_weight` gets weights and, on pooled
            levels, what `connect` makes of them; any other gets the connectivity alone. An
            attribute ``supports_edge_weight`` tells where the forward's arguments do not.
            (default: None, PyG's ``GCNConv(improved=True)``, on one prepared propagation per level)
        norm (str or callable, optional): Normalisation after each convolution but the last, by
            PyG's name for it, or ``(channels) -> Module``. (default: None)
        dropout (float, optional): Dropout on the input of each convolution but the first.
            (default: 0.0)
        pool (callable, optional): Makes a pooling, ``(channels, ratio) -> GPool``, for all else
            that one can do; `select` and `reduce` are then its own, and so is `connect` but for
            ``'walk'``. (default: None)

    The defaults are the paper's words: ``select='topk', reduce='keep', connect='two_hop',
    lift='zero'`` keep rows, drop the rest, and bring zeros back. Where a problem has long range,
    ``select='spread', reduce='mean', connect='contract', lift='interpolate'`` carry what a level
    knows to all nodes (``benchmarks/mesh_physics.py``).

    ``connect='walk'`` makes no edges: a pooled level propagates by walks through the graph itself,
    normalised at every hop, see :mod:`pyg_gunet.graph.walk`. Linear in the edges, in time and
    memory, where a two-hop graph fills up. GCN propagation alone (`conv` None), and fixed,
    non-negative weights.

    `edge_index` may also be what :meth:`prepare` made of it.

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None, `edge_attr` [E, D] or None
        - **output:** [N, out_channels]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.
        MemoryError: Where ``'two_hop'`` would not fit, with the way out.
        OverflowError: Where its walk counts overflow, with the way out.

    Example:
        >>> model = GraphUNet(16, 32, 7, depth=2)
        >>> x, edge_index = torch.randn(10, 16), torch.randint(10, (2, 30))
        >>> model(x, edge_index).shape
        torch.Size([10, 7])
        >>> graph = model.prepare(edge_index, num_nodes=10)  # once for many steps
        >>> model(x, graph).shape
        torch.Size([10, 7])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        depth: int,
        pool_ratios: Ratios = 0.5,
        sum_res: bool | None = True,
        act: str | Callable[[Tensor], Tensor] = "relu",
        *,
        select: str = "topk",
        reduce: str = "keep",
        connect: str = "two_hop",
        lift: str = "zero",
        conv: MakeConv = None,
        norm: MakeNorm = None,
        dropout: float = 0.0,
        pool: MakePool = None,
    ) -> None:
        check_positive_int(out_channels, "out_channels")
        check_choice(sum_res, "sum_res", (True, False, None))
        words = (select, reduce, connect, lift)
        super().__init__(
            in_channels, hidden_channels, depth, pool_ratios, act, words, dropout, pool
        )
        check_memory(4 * hidden_channels * out_channels, "out_channels", out_channels)
        self.out_channels = out_channels
        self.sum_res = sum_res
        channels = hidden_channels
        self.down_convs = torch.nn.ModuleList([make_conv(conv, in_channels, channels)])
        for _ in range(depth):
            self.down_convs.append(make_conv(conv, channels, channels))
        merged = 2 * channels if sum_res is False else channels
        self.up_convs = torch.nn.ModuleList()
        for level in reversed(range(depth)):
            self.up_convs.append(make_conv(conv, merged, channels if level else out_channels))
        # Absent rather than empty without `norm`: the state dict is PyG's.
        self.norms: torch.nn.ModuleList | None = None
        if norm is not None:
            self.norms = torch.nn.ModuleList(make_norm(norm, channels) for _ in range(2 * depth))
        self.declare()
        self.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""The output of every node, [N, out_channels].

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor, Graph or Hierarchy): Edges, [2, E], a sparse `adj_t`, or what
                :meth:`prepare` made.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E]. (default: None, all ones)
            edge_attr (Tensor, optional): Edge features, [E, D], for a `conv` that takes them, with
                ``connect='induced'`` or ``'contract'``. (default: None)
            batch_size (int, optional): The number of graphs, for normalisations that take it.
                (default: None, up to the last graph that has a node)
        """
        return self.states(
            x, edge_index, batch, edge_weight, edge_attr=edge_attr, batch_size=batch_size
        )[0][0]

    def states(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> tuple[list[Tensor], Hierarchy]:
        r"""What read-outs and heads build on: ``(states, hierarchy)``, the features of the way up
        at every level, finest first: the output [N, out_channels], then activated ones
        [N_l, hidden_channels], down to the coarsest level's. Arguments as in :meth:`forward`.
        """
        with outermost() as values, explained(self, edge_weight) as edge_weight:
            hierarchy = self.open(x, edge_index, batch, edge_weight, edge_attr, batch_size, values)
            x, skips = self.descend(x, hierarchy, batch_size)
            states = [x]
            for i, conv in enumerate(self.up_convs):
                j = self.depth - 1 - i
                x = self.merge(x, skips[j], hierarchy, j)
                level, channels = hierarchy.levels[j], self.hidden_channels
                x = self.convolve(conv, self.drop(x), level, channels if j else self.out_channels)
                if j > 0:
                    x = self.act(self.normalise(x, hierarchy, j, self.depth + 1 + i, batch_size))
                states.append(x)
        return states[::-1], hierarchy

    def descend(
        self, x: Tensor, hierarchy: Hierarchy, batch_size: int | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The way down: features of the coarsest level, and of every level above it."""
        skips: list[Tensor] = []
        for i, conv in enumerate(self.down_convs):
            if i > 0:
                skips.append(x)
                x = self.drop(self.coarsen(x, hierarchy, i - 1))
            x = self.convolve(conv, x, hierarchy.levels[i], self.hidden_channels)
            x = self.act(self.normalise(x, hierarchy, i, i, batch_size))
        return x, skips

    def merge(self, x: Tensor, skip: Tensor, hierarchy: Hierarchy, level: int) -> Tensor:
        """Features of the level below, lifted, and the skip connection of this one."""
        x = self.unpool.up(x, hierarchy, level)
        if self.sum_res is None:
            return x
        return skip + x if self.sum_res else torch.cat((skip, x), dim=-1)

    def normalise(
        self, x: Tensor, hierarchy: Hierarchy, level: int, i: int, batch_size: int | None
    ) -> Tensor:
        """The i-th normalisation, if there is one."""
        if self.norms is None:
            return x
        return apply_norm(self.norms[i], x, hierarchy.levels[level].batch, batch_size)

    def __repr__(self) -> str:
        names = ("select", "reduce", "connect", "lift")
        told: list[Any] = [self.in_channels, self.hidden_channels, self.out_channels]
        told += [f"depth={self.depth}", f"pool_ratios={self.pool_ratios}"]
        for name, word, plain in zip(names, self.words, ("topk", "keep", "two_hop", "zero")):
            told += [] if word == plain else [f"{name}={word!r}"]
        return f"{self.__class__.__name__}({', '.join(map(str, told))})"
