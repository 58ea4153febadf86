"""The Graph U-Net."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.nn import MLP, Linear

from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_choice,
    check_memory,
    check_positive_int,
    outermost,
)
from pyg_gunet.nn.base import UNetBase
from pyg_gunet.nn.corrupt import Corruption
from pyg_gunet.nn.levels import Hierarchy, make_conv
from pyg_gunet.nn.readout import HierarchicalReadout, check_batch_size, make_readout
from pyg_gunet.nn.smooth import Mixing, PageRank


class GraphUNet(UNetBase):
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
        pool_ratios (float, int or list, optional): Share or number of nodes that each pooling
            keeps, see :class:`GPool`. (default: 0.5)
        sum_res (bool, optional): Whether skip connections are added (or else concatenated).
            (default: True)
        act (str or callable, optional): The nonlinearity. (default: ``'relu'``)
        conv (callable, optional): Makes a convolution, ``(in_channels, out_channels) ->
            MessagePassing``. One whose forward takes `edge_weight` gets the walk counts of pooled
            levels; any other gets the connectivity alone. (default: None, PyG's
            ``GCNConv(improved=True)``, on one prepared propagation per level)
        select (str, optional): ``'topk'`` or ``'spread'``, see :class:`GPool`.
            (default: ``'topk'``)
        connect (str, optional): How a pooled level connects, see below. (default: ``'two_hop'``)
        gate (str, optional): See :class:`GPool`. (default: None)
        norm (str or callable, optional): Normalisation after each convolution but the last, by
            PyG's name for it, or ``(channels) -> Module``. (default: None)
        dropout (float, optional): Dropout on the input of each convolution but the first.
            (default: 0.0)
        max_products (int, optional): The most scalar products per two-hop pooling.
            (default: None, from the available memory)
        max_degree (int, optional): The most walks drawn per kept node with ``'sampled'``.
            (default: 32)
        cached (bool, optional): Whether the first call's graph is prepared once and serves all
            later calls, whatever edges they pass, as in PyG's :class:`GCNConv`: for training on one
            graph. :meth:`reset_parameters` forgets it. (default: False)
        quantiles (int, optional): See :class:`GPool`. (default: None)
        residual (str, optional): Where a skip connection is added: ``'input'``, before the
            convolution of the way up, as in PyG, ``'output'``, after it, as in the official code,
            which ends in one more convolution, or ``'none'``, nowhere. (default: ``'input'``)
        stem (bool, optional): Whether one more convolution comes before the U and one after it, the
            latter reading the U's output plus that of the former: the official code's outermost
            skip connection. (default: False)
        input_dropout (float, optional): Dropout on the entries of `x`. (default: 0.0)
        node_dropout (float, optional): Dropout on whole rows of `x` (DropNode, `Feng et al. 2020
            <https://arxiv.org/abs/2005.11079>`_). (default: 0.0)
        edge_dropout (float, optional): The share of edges left out of a training step, an edge
            together with its reverse (DropEdge, `Rong et al. 2020
            <https://arxiv.org/abs/1907.10903>`_). (default: 0.0)
        propagate (int, optional): Steps of personalised PageRank that the output takes along the
            edges (`Gasteiger et al. 2019 <https://arxiv.org/abs/1810.05997>`_). (default: 0)
        teleport (float, optional): Its share of the output itself at each step. (default: 0.1)
        mix (int, optional): With one or more, features enter by a linear map whose output is
            averaged over 0 to `mix` steps along the edges (Feng et al. 2020, eq. 3), and leave by a
            linear map, too. Between the two, the U's output is added to what entered, times a
            learned share that starts at 0 (`Bachlechner et al. 2020
            <https://arxiv.org/abs/2003.04887>`_). In place of `stem`; for few labelled nodes.
            (default: 0)
        readout (str or HierarchicalReadout, optional): One output per graph in place of one per
            node: the mean, the maximum and the sum of the node states of every level, those of the
            coarsest and those of the way up, go to a perceptron of two layers. Levels are side by
            side (``'cat'``, as in the official code) or added up (``'sum'``, as `Cangea et al. 2018
            <https://arxiv.org/abs/1811.01287>`_ do); see :class:`HierarchicalReadout` for other
            choices. (default: None)

    The choices of `connect`:

    - ``'two_hop'``, ``'induced'`` and ``'sampled'`` make edges, see :class:`GPool`.
    - ``'walk'`` makes none: a pooled level propagates by walks through the graph itself, normalised
      at every hop, see :mod:`pyg_gunet.functional.walk`. Linear in the edges, in time and memory,
      where a two-hop graph fills up. GCN propagation alone (`conv` None), and fixed, non-negative
      weights. With ``select='spread'``, pooled levels are covered along the contracted graph.
    - ``'auto'`` takes ``'two_hop'`` or ``'walk'``, whichever is expected to take fewer products on
      the first graph that the model sees (:func:`pyg_gunet.functional.choose.choose_connect`), and
      stays with it, as the two are different maps; `levels.connect` then tells. Name the choice
      where a saved model is loaded. Where walks are not possible it is ``'two_hop'``.

    `edge_index` may also be a prepared adjacency:
    ``WalkAdjacency.from_edge_index(edge_index, edge_weight, num_nodes)`` for ``'walk'``,
    ``Adjacency.from_edge_index(...)`` for ``'two_hop'`` and ``'induced'``.

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** [N, out_channels], or [B, out_channels] with `readout`

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = GraphUNet(16, 32, 7, depth=2)
        >>> x, edge_index = torch.randn(10, 16), torch.randint(10, (2, 30))
        >>> model(x, edge_index).shape
        torch.Size([10, 7])
        >>> batch = torch.tensor([0] * 6 + [1] * 4)
        >>> inside = batch[edge_index[0]] == batch[edge_index[1]]
        >>> GraphUNet(16, 32, 3, depth=2, readout="cat")(x, edge_index[:, inside], batch).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        depth: int,
        pool_ratios: float | int | list[float | int] = 0.5,
        sum_res: bool = True,
        act: str | Callable[[Tensor], Tensor] = "relu",
        *,
        conv: Callable[[int, int], torch.nn.Module] | None = None,
        select: str = "topk",
        connect: str = "two_hop",
        gate: str | None = None,
        norm: str | Callable[[int], torch.nn.Module] | None = None,
        dropout: float = 0.0,
        max_products: int | None = None,
        max_degree: int = 32,
        cached: bool = False,
        quantiles: int | None = None,
        residual: str = "input",
        stem: bool = False,
        input_dropout: float = 0.0,
        node_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        propagate: int = 0,
        teleport: float = 0.1,
        mix: int = 0,
        readout: str | HierarchicalReadout | None = None,
    ) -> None:
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(out_channels, "out_channels")
        check_memory(4 * hidden_channels**2, "hidden_channels", hidden_channels)
        check_memory(4 * hidden_channels * out_channels, "out_channels", out_channels)
        check_choice(sum_res, "sum_res", (True, False))
        super().__init__(
            in_channels,
            hidden_channels,
            hidden_channels,
            depth,
            pool_ratios,
            act,
            conv,
            select,
            connect,
            gate,
            dropout,
            max_products,
            max_degree,
            cached,
            quantiles,
        )
        self.out_channels = out_channels
        self.sum_res = sum_res
        check_choice(residual, "residual", ("input", "output", "none"))
        if residual != "input" and not sum_res:
            raise ValueError(
                f"'residual' must be 'input' where 'sum_res' is False (got {residual!r})"
            )
        check_choice(stem, "stem", (True, False))
        check_positive_int(mix, "mix", minimum=0)
        for name, value in (("stem", stem), ("readout", readout)):
            if mix and value:
                raise ValueError(f"'mix' does not go with '{name}' (got {mix!r} and {value!r})")
        self.residual = residual
        self.corrupt = Corruption(input_dropout, node_dropout, edge_dropout)
        self.smooth = PageRank(propagate, teleport)
        channels = hidden_channels
        # The official code convolves once before the U and once after it.
        self.stem = make_conv(conv, in_channels, channels) if stem else None
        self.mixing = Mixing(in_channels, channels, mix) if mix else None
        self.share = torch.nn.Parameter(torch.zeros(1)) if mix else None
        if stem or mix:
            self.down_convs[0] = make_conv(conv, channels, channels)
        self.readout = make_readout(readout)
        if readout is not None and propagate:
            raise ValueError(f"'propagate' must be 0 with a 'readout' (got {propagate!r})")
        headed = bool(stem or mix or residual == "output") and readout is None
        self.head = None
        if headed:
            make = Linear if mix else partial(make_conv, conv)
            self.head = make(channels, out_channels)
        merged = channels if sum_res else 2 * channels
        for level in range(depth):
            last = level == depth - 1 and not headed and readout is None
            self.up_convs.append(make_conv(conv, merged, out_channels if last else channels))
        self.mlp = None
        if self.readout is not None:
            read = self.readout.out_channels([channels] * (depth + 1))
            check_memory(4 * read * channels, "hidden_channels", hidden_channels)
            self.mlp = MLP([read, channels, out_channels], dropout=dropout, act=self.act, norm=None)
        ends = [] if mix else [conv for conv in (self.stem, self.head) if conv is not None]
        self.finish(norm, depth + 1, depth if headed or self.mlp else depth - 1, ends)
        self.reset_parameters()

    def corrupted(
        self, x: Tensor, edge_index: Tensor | Structure, edge_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | Structure, Tensor | None]:
        x, edge_index, edge_weight = self.corrupt(x, edge_index, edge_weight)
        if self.training and self.corrupt.edges and self.cached:
            # A step's own graph: neither taken from the cache nor kept there.
            cache, self.levels.cache = self.levels.cache, None
            assert isinstance(edge_index, Tensor)
            edge_index, edge_weight = self.levels.structure(x, edge_index, edge_weight), None
            self.levels.cache = cache
        return x, edge_index, edge_weight

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.share is not None:
            torch.nn.init.zeros_(self.share)

    def enter(self, x: Tensor, hierarchy: Hierarchy) -> Tensor:
        if self.mixing is not None:
            hierarchy.stem = self.drop(self.act(self.mixing(x, hierarchy.levels[0])))
            return hierarchy.stem
        if self.stem is None:
            return x
        hierarchy.stem = self.act(self.levels.convolve(self.stem, x, hierarchy.levels[0]))
        return self.drop(hierarchy.stem)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""The output of every node, [N, out_channels], or with `readout` of every graph, [B,
        out_channels].

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor or Structure): Edges, [2, E], or a prepared adjacency.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E]. (default: None, all ones)
            batch_size (int, optional): The number of graphs B, for `readout`.
                (default: None, up to the last graph that has a node)
        """
        with outermost() as values:
            self._check_batch_size(batch_size)
            z, hierarchy = self.descend(x, edge_index, batch, edge_weight, self.keeps_skips, values)
            if values and batch_size is not None:
                check_batch_size(batch_size, [batch])
            return self._decode(z, hierarchy, batch_size)

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Hierarchy]:
        r"""The way down: ``(z, hierarchy)``, the features of the coarsest level [K,
        hidden_channels] and what the way up needs, the kept nodes (`hierarchy.perms`) among it.
        Arguments as in :meth:`forward`."""
        with outermost() as values:
            return self.descend(x, edge_index, batch, edge_weight, self.keeps_skips, values)

    def decode(self, z: Tensor, hierarchy: Hierarchy, batch_size: int | None = None) -> Tensor:
        r"""The way up: ``decode(*encode(...))`` is :meth:`forward`.

        Args:
            z (Tensor): Features of the coarsest level, [K, hidden_channels].
            hierarchy (Hierarchy): From :meth:`encode`.
            batch_size (int, optional): As in :meth:`forward`. (default: None)
        """
        with outermost() as values:
            self.check_latent(z, hierarchy, self.hidden_channels, values)
            self._check_batch_size(batch_size)
            if values and batch_size is not None:
                check_batch_size(batch_size, [hierarchy.levels[0].batch])
            return self._decode(z, hierarchy, batch_size)

    @property
    def keeps_skips(self) -> bool:
        """Whether the way up reads anything of the way down beside the coarsest level."""
        return self.residual != "none"

    def _check_batch_size(self, batch_size: int | None) -> None:
        if batch_size is None:
            return
        if self.readout is None:
            raise ValueError(f"'batch_size' goes with a 'readout' (got {batch_size!r})")
        check_positive_int(batch_size, "batch_size")

    def _decode(self, x: Tensor, hierarchy: Hierarchy, batch_size: int | None = None) -> Tensor:
        states = [x]
        for i in range(self.depth):
            x = self.climb(x, hierarchy, i)
            level = self.depth - 1 - i
            if level > 0 or self.head is not None or self.mlp is not None:
                x = self.act(self.normalise(self.up_norms, x, hierarchy.levels[level], i))
                x = x + hierarchy.skips[level] if self.residual == "output" else x
            states.append(x)
        if self.readout is not None and self.mlp is not None:
            states[-1] = x if hierarchy.stem is None else x + hierarchy.stem
            batches = [level.batch for level in hierarchy.levels]
            return self.mlp(self.drop(self.readout(states[::-1], batches, batch_size)))
        if self.share is not None and self.head is not None:
            assert hierarchy.stem is not None
            x = self.head(hierarchy.stem + self.share * x)
        elif self.head is not None:
            x = x if hierarchy.stem is None else x + hierarchy.stem
            x = self.levels.convolve(self.head, self.drop(x), hierarchy.levels[0])
        return self.smooth(x, hierarchy.levels[0])

    def climb(self, x: Tensor, hierarchy: Hierarchy, i: int) -> Tensor:
        """The i-th step of the way up, to level ``depth - 1 - i``: unpools, joins the skip
        connection and convolves; no nonlinearity yet."""
        j = self.depth - 1 - i
        level = hierarchy.levels[j]
        if self.residual != "input":
            x = self.unpool(x, hierarchy.perms[j], level.num_nodes)
        elif self.sum_res:  # unpools onto the skip connection
            skip = hierarchy.skips[j]
            x = skip.index_add(0, hierarchy.perms[j], x.to(skip.dtype))
        else:
            x = torch.cat(
                (hierarchy.skips[j], self.unpool(x, hierarchy.perms[j], level.num_nodes)), dim=-1
            )
        return self.levels.convolve(self.up_convs[i], self.drop(x), level)

    def __repr__(self) -> str:
        options = ""
        for name, default in (("select", "topk"), ("connect", "two_hop")):
            value = getattr(self, name)
            options += "" if value == default else f", {name}={value!r}"
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, depth={self.depth}, pool_ratios={self.pool_ratios}{options})"
        )
