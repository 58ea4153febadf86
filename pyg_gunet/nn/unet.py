"""The Graph U-Net."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.resolver import activation_resolver

from pyg_gunet.functional.validate import check_positive_int, outermost
from pyg_gunet.nn.levels import (
    Hierarchy,
    Level,
    LevelBuilder,
    apply_norm,
    check_dropout,
    check_pool_ratios,
    make_conv,
    make_norm,
)
from pyg_gunet.nn.pool import GPool, GUnpool


class GraphUNet(torch.nn.Module):
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
        select (str, optional): ``'topk'`` or ``'spread'``, see :class:`GPool`. (default:
        ``'topk'``) connect (str, optional): ``'two_hop'`` or ``'induced'``, see :class:`GPool`.
            (default: ``'two_hop'``)
        gate (str, optional): See :class:`GPool`. (default: None)
        norm (str or callable, optional): Normalisation after each convolution but the last, by
            PyG's name for it, or ``(channels) -> Module``. (default: None)
        dropout (float, optional): Dropout on the input of each convolution but the first.
            (default: 0.0)
        max_products (int, optional): The most scalar products per two-hop pooling.
            (default: None, from the available memory)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** [N, out_channels]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = GraphUNet(16, 32, 7, depth=2)
        >>> x, edge_index = torch.randn(10, 16), torch.randint(10, (2, 30))
        >>> model(x, edge_index).shape
        torch.Size([10, 7])
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
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(out_channels, "out_channels")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.depth = depth
        self.pool_ratios = check_pool_ratios(pool_ratios, depth)
        self.sum_res = sum_res
        self.act = activation_resolver(act)
        self.select = select
        self.connect = connect
        self.dropout = check_dropout(dropout)

        channels = hidden_channels
        self.down_convs = torch.nn.ModuleList([make_conv(conv, in_channels, channels)])
        self.pools = torch.nn.ModuleList()
        for ratio in self.pool_ratios:
            self.pools.append(
                GPool(
                    channels,
                    ratio,
                    select=select,
                    connect=connect,
                    gate=gate,
                    max_products=max_products,
                )
            )
            self.down_convs.append(make_conv(conv, channels, channels))
        merged = channels if sum_res else 2 * channels
        self.up_convs = torch.nn.ModuleList()
        for level in range(depth):
            last = level == depth - 1
            self.up_convs.append(make_conv(conv, merged, out_channels if last else channels))
        self.unpool = GUnpool()
        # Absent rather than empty without `norm`: the state dict is PyG's.
        self.down_norms = self.up_norms = None
        if norm is not None:
            self.down_norms = torch.nn.ModuleList(
                make_norm(norm, channels) for _ in range(depth + 1)
            )
            self.up_norms = torch.nn.ModuleList(make_norm(norm, channels) for _ in range(depth - 1))
        self.levels = LevelBuilder([*self.down_convs, *self.up_convs], connect, max_products)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        for modules in (self.down_convs, self.pools, self.up_convs, self.down_norms, self.up_norms):
            for module in modules or []:
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""The output of every node, [N, out_channels].

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor): Edges, [2, E].
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E]. (default: None, all ones)
        """
        with outermost() as values:
            z, hierarchy = self._encode(x, edge_index, batch, edge_weight, values)
            return self._decode(z, hierarchy)

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Hierarchy]:
        r"""The way down: ``(z, hierarchy)``, the features of the coarsest level [K,
        hidden_channels] and what the way up needs, the kept nodes (`hierarchy.perms`) among it.
        Arguments as in :meth:`forward`."""
        with outermost() as values:
            return self._encode(x, edge_index, batch, edge_weight, values)

    def decode(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        r"""The way up: ``decode(*encode(...))`` is :meth:`forward`.

        Args:
            z (Tensor): Features of the coarsest level, [K, hidden_channels].
            hierarchy (Hierarchy): From :meth:`encode`.
        """
        with outermost():
            return self._decode(z, hierarchy)

    def _encode(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        values: bool,
    ) -> tuple[Tensor, Hierarchy]:
        self.levels.check(x, self.in_channels, edge_index, batch, edge_weight, values)
        level = self.levels.first(x, edge_index, batch, edge_weight)
        hierarchy = Hierarchy([level])
        x = self._convolve(self.down_convs[0], x, level, self.down_norms, 0)
        for i, pool in enumerate(self.pools):
            hierarchy.skips.append(x)
            x, level, perm = self.levels.pool(pool, x, level)
            hierarchy.levels.append(level)
            hierarchy.perms.append(perm)
            x = self._drop(x)
            x = self._convolve(self.down_convs[i + 1], x, level, self.down_norms, i + 1)
        return x, hierarchy

    def _decode(self, x: Tensor, hierarchy: Hierarchy) -> Tensor:
        for i, conv in enumerate(self.up_convs):
            j = self.depth - 1 - i
            level, skip = hierarchy.levels[j], hierarchy.skips[j]
            up = self.unpool(x, hierarchy.perms[j], level.num_nodes)
            x = self._drop(skip + up if self.sum_res else torch.cat((skip, up), dim=-1))
            if j == 0:
                return self.levels.convolve(conv, x, level)
            x = self._convolve(conv, x, level, self.up_norms, i)
        raise AssertionError("unreachable: depth is at least 1")

    def _convolve(
        self,
        conv: torch.nn.Module,
        x: Tensor,
        level: Level,
        norms: torch.nn.ModuleList | None,
        i: int,
    ) -> Tensor:
        x = self.levels.convolve(conv, x, level)
        if norms is not None:
            x = apply_norm(norms[i], x, level.batch)
        return self.act(x)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def __repr__(self) -> str:
        options = ""
        for name, default in (("select", "topk"), ("connect", "two_hop")):
            value = getattr(self, name)
            options += "" if value == default else f", {name}={value!r}"
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, depth={self.depth}, pool_ratios={self.pool_ratios}{options})"
        )
