"""Networks from parts: what a benchmark or a paper adds to a :class:`GraphUNet`, a page each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import Linear

from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.conv import explained
from pyg_gunet.nn.door import Door
from pyg_gunet.nn.parts import MakeConv, Ratios, check_dropout, make_act, make_conv
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.nn.unpool import GUnpool
from pyg_gunet.validate import check_features, check_number, check_positive_int, outermost


class OfficialGraphUNet(GraphUNet):
    r"""The Graph U-Net of its authors' code, which is not that of their paper: one more convolution
    before the U, skip connections added after the convolutions of the way up, and one more
    convolution after the U, which reads its output plus that of the first.

    Args:
        in_channels, hidden_channels, out_channels, depth, pool_ratios: See :class:`GraphUNet`.
        **kwargs (optional): Further arguments of :class:`GraphUNet` but `sum_res`.

    Shapes:
        - **input, output:** as :class:`GraphUNet`

    Example:
        >>> model = OfficialGraphUNet(16, 32, 7, depth=2)
        >>> model(torch.randn(10, 16), torch.randint(10, (2, 30))).shape
        torch.Size([10, 7])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        depth: int,
        pool_ratios: Ratios = 0.5,
        **kwargs: Any,
    ) -> None:
        if "sum_res" in kwargs:
            raise ValueError(f"'sum_res' is fixed here (got {kwargs['sum_res']!r})")
        check_positive_int(hidden_channels, "hidden_channels")  # else named as another's size
        super().__init__(
            hidden_channels, hidden_channels, hidden_channels, depth, pool_ratios, None, **kwargs
        )
        check_positive_int(in_channels, "in_channels")
        check_positive_int(out_channels, "out_channels")
        conv: MakeConv = kwargs.get("conv")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stem = make_conv(conv, in_channels, hidden_channels)
        self.head = make_conv(conv, hidden_channels, out_channels)
        self.declare()

    @property
    def convs(self) -> list[torch.nn.Module]:
        made = [self._modules.get(name) for name in ("stem", "head")]  # none before the end
        return [*super().convs, *(conv for conv in made if conv is not None)]

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
        r"""As :meth:`GraphUNet.states`."""
        hidden = self.hidden_channels
        with outermost() as values, explained(self, edge_weight) as edge_weight:
            hierarchy = self.open(x, edge_index, batch, edge_weight, edge_attr, batch_size, values)
            finest = hierarchy.levels[0]
            stem = self.act(self.convolve(self.stem, x, finest, hidden))
            x, skips = self.descend(self.drop(stem), hierarchy, batch_size)
            states = [x]
            for i, conv in enumerate(self.up_convs):
                j = self.depth - 1 - i
                x = self.drop(self.unpool.up(x, hierarchy, j))
                x = self.convolve(conv, x, hierarchy.levels[j], hidden)
                if j > 0:
                    x = self.normalise(x, hierarchy, j, self.depth + 1 + i, batch_size)
                x = self.act(x) + skips[j]
                states.append(x)
            x = self.drop(x + stem)
            states[-1] = self.convolve(self.head, x, finest, self.out_channels)
        return states[::-1], hierarchy


class MixedGraphUNet(torch.nn.Module):
    r"""A :class:`GraphUNet` on features that are mixed along the edges first, for few labels: they
    enter by a linear map whose output is averaged over 0 to `steps` steps of GCN propagation (`Feng
    et al. 2020 <https://arxiv.org/abs/2005.11079>`_, eq. 3), and leave by a linear map. Between the
    two, the U's output is added to what entered, times a learned share that starts at 0
    (`Bachlechner et al. 2020 <https://arxiv.org/abs/2003.04887>`_).

    Args:
        in_channels, hidden_channels, out_channels, pool_ratios: See :class:`GraphUNet`.
        depth (int): Number of poolings; 0: no U, a perceptron on mixed features, which is what they
            are worth without levels.
        steps (int, optional): Steps of mixing. (default: 4)
        mixed_dropout (float, optional): Dropout on the entries of the mixed features, as published.
            The mixing, linear and so otherwise behind the map to `hidden_channels`, then runs on
            all of `in_channels` in training, as many times slower. (default: 0.0)
        channel_dropout (float, optional): Dropout on whole channels of the mixed features, the same
            for all nodes of a step, at no cost: it passes through the mixing. (default: 0.0)
        **kwargs (optional): Further arguments of :class:`GraphUNet`; without levels `act` and
            `dropout` alone.

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** [N, out_channels]

    Example:
        >>> model = MixedGraphUNet(16, 32, 7, depth=2)
        >>> model(torch.randn(10, 16), torch.randint(10, (2, 30))).shape
        torch.Size([10, 7])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        depth: int,
        pool_ratios: Ratios = 0.5,
        steps: int = 4,
        mixed_dropout: float = 0.0,
        channel_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(in_channels, "in_channels")
        check_positive_int(out_channels, "out_channels")
        check_positive_int(depth, "depth", minimum=0)
        check_positive_int(steps, "steps", minimum=0)
        check_number(mixed_dropout, "mixed_dropout", 0.0, 0.99)
        check_number(channel_dropout, "channel_dropout", 0.0, 0.99)
        self.mixed_dropout = float(mixed_dropout)
        hidden = hidden_channels
        self.net: NoLevels | GraphUNet
        if depth:
            self.net = GraphUNet(hidden, hidden, hidden, depth, pool_ratios, **kwargs)
        else:
            own = {key: kwargs.pop(key) for key in ("act", "dropout") if key in kwargs}
            for name, value in kwargs.items():
                if name not in inspect.signature(GraphUNet).parameters:
                    raise TypeError(f"unexpected keyword argument {name!r} (got {value!r})")
                if value is not None:
                    raise ValueError(
                        f"'{name}' goes with levels, a 'depth' of at least 1 (got {value!r} with "
                        "depth 0)"
                    )
            self.net = NoLevels(hidden, **own)
        self.in_channels, self.out_channels, self.steps = in_channels, out_channels, steps
        self.lin = Entering(in_channels, hidden, bias=False, weight_initializer="glorot")
        self.lin.channel_dropout = float(channel_dropout)
        self.bias = torch.nn.Parameter(torch.empty(hidden))
        self.share = torch.nn.Parameter(torch.empty(1)) if depth else None
        self.head = Linear(hidden, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        for module in (self.net, self.lin, self.head):
            module.reset_parameters()
        torch.nn.init.zeros_(self.bias)
        if self.share is not None:
            torch.nn.init.zeros_(self.share)

    def prepare(self, *args: Any, **kwargs: Any) -> Graph | Hierarchy:
        r"""As :meth:`GraphUNet.prepare`."""
        return self.net.prepare(*args, **kwargs)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""The output of every node, [N, out_channels]. Arguments as in
        :meth:`GraphUNet.forward`."""
        net = self.net
        with outermost() as values, explained(self, edge_weight) as edge_weight:
            check_features(x, self.in_channels, values)
            h = self.lin(x)
            hierarchy = net.open(h, edge_index, batch, edge_weight, None, None, values)
            ready = hierarchy.levels[0].graph
            if self.training and self.mixed_dropout:
                h = self.lin(F.dropout(self._mixed(x, ready), self.mixed_dropout))
            else:
                h = self._mixed(h, ready)
            entered = net.drop(net.act(h + self.bias))
            if self.share is None:  # no levels
                return self.head(entered)
            source = edge_index if isinstance(edge_index, Hierarchy) else ready
            inside = net.act(net(entered, source, batch))
            return self.head(entered + self.share * inside)

    def _mixed(self, x: Tensor, graph: Graph) -> Tensor:
        """The mean over 0 to `steps` steps along the edges."""
        total = x
        for _ in range(self.steps):
            x = graph.propagate(x)
            total = total + x
        return total / (self.steps + 1)


class Entering(Linear):
    """A linear map of features, dense or a sparse CSR matrix, that in training leaves out some of
    their entries, or whole input channels: columns of the weight, which are fewer."""

    channel_dropout = dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training and self.channel_dropout:
            weight = F.dropout(weight.new_ones(weight.size(1)), self.channel_dropout) * weight
        if x.layout is torch.strided:
            return F.linear(F.dropout(x, self.dropout, self.training), weight)
        entries = F.dropout(x.values(), self.dropout, self.training)
        return F.embedding_bag(
            x.col_indices(),
            weight.t(),
            x.crow_indices(),
            mode="sum",
            per_sample_weights=entries,
            include_last_offset=True,
        )


class NoLevels(Door):
    """What stands in the place of a U where there are no levels: a door, and no parameters."""

    depth, walks, words = 0, False, ("topk", "keep", "two_hop", "zero")

    def __init__(
        self, channels: int, act: str | Callable[[Tensor], Tensor] = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.in_channels = self.hidden_channels = channels
        self.act, self.dropout = make_act(act), check_dropout(dropout)
        self.pools, self.unpool = torch.nn.ModuleList(), GUnpool()
        self.declare()

    @property
    def convs(self) -> list[torch.nn.Module]:
        return []

    def reset_parameters(self) -> None:
        """There is nothing to reset."""

    def drop(self, x: Tensor) -> Tensor:
        """Dropout on features."""
        return F.dropout(x, self.dropout, self.training)
