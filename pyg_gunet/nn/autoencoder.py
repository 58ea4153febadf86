"""The graph auto-encoder on Graph U-Net levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MLP, InnerProductDecoder, Linear, global_mean_pool

from pyg_gunet.functional.non_edges import non_edges
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy, Level
from pyg_gunet.nn.base import MakePool
from pyg_gunet.nn.calibrate import Calibrated
from pyg_gunet.nn.conv import explained
from pyg_gunet.nn.interpolant import Interpolant, Steps
from pyg_gunet.nn.parts import (
    MakeConv,
    MakeNorm,
    Ratios,
    apply_norm,
    check_pair,
    make_conv,
    make_norm,
)
from pyg_gunet.validate import (
    check_batch,
    check_batch_size,
    check_choice,
    check_edge_index,
    check_features,
    check_memory,
    check_positive_int,
    check_tensor,
    outermost,
)


class GraphUNetAutoEncoder(Calibrated):
    r"""An auto-encoder of node features on the levels of a Graph U-Net (`Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_).

    The latent `z` lives on the nodes of the coarsest level. No node feature reaches the decoder
    except through `z`: what it reads besides is the structure alone, the levels' edges, sizes and
    kept nodes. (With skip connections an auto-encoder copies its input.)

    Its words are not the paper's: ``select='spread', connect='contract', lift='interpolate'``, so
    that every dropped node is near a kept one and hears from it (`reduce` is ``'keep'``, as there).

    A linear path runs through `z`: the features of the coarsest nodes, mapped into part of `z`,
    lifted to all nodes, and mapped back. Both maps start as each other's inverse (orthonormal where
    `z` is narrower than the features), and the last layers of the networks beside the path at zero.
    Before its first step the model is the interpolant of what the coarsest nodes hold; training
    only improves on it. After :meth:`calibrate` the path is a smooth function fitted to all nodes,
    about as near as biharmonic interpolation before any training (``benchmarks/compression.py``).

    Each convolution has a linear map of its own input beside it, as GraphSAGE has: a propagation
    alone averages what it should keep. A multi-layer perceptron reads the features of every node
    from the last convolution.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        latent_channels (int, optional): Size of `z` per node of the coarsest level.
            (default: None, `hidden_channels`)
        depth (int, optional): Number of poolings. (default: 3)
        pool_ratios (float, int or list, optional): Share or number of nodes that each pooling
            keeps, see :class:`GraphUNet`. (default: 0.5)
        select (str, optional): See :class:`GraphUNet`; ``'spread'`` reads the graph alone here
            (``quantiles=1``), so that levels stand still and can be prepared.
            (default: ``'spread'``)
        reduce (str, optional): See :class:`GraphUNet`. (default: ``'keep'``)
        connect (str, optional): See :class:`GraphUNet`. (default: ``'contract'``)
        lift (str, optional): See :class:`GraphUNet`. (default: ``'interpolate'``)
        act (str or callable, optional): The nonlinearity. (default: ``'elu'``)
        conv (callable, optional): Makes a convolution, see :class:`GraphUNet`. (default: None)
        norm (str or callable, optional): Normalisation of hidden features, see :class:`GraphUNet`.
            (default: None)
        dropout (float, optional): Dropout on hidden features. (default: 0.0)
        edge_decoder (torch.nn.Module, optional): Decodes edges from node embeddings,
            ``(h, edge_index, sigmoid) -> [E]``. (default: None, PyG's
            :class:`InnerProductDecoder`)
        pool (callable, optional): Makes a pooling, see :class:`GraphUNet`. (default: None)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** [N, in_channels]; `z` is [K, latent_channels]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = GraphUNetAutoEncoder(3, 16, latent_channels=4, depth=2)
        >>> x, edge_index = torch.randn(12, 3), torch.randint(12, (2, 40))
        >>> z, hierarchy = model.encode(x, edge_index)
        >>> z.shape, hierarchy
        (torch.Size([3, 4]), Hierarchy(num_nodes=[12, 6, 3]))
        >>> model.loss(model.decode(z, hierarchy), x).shape
        torch.Size([])
    """

    quantiles = 1

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        latent_channels: int | None = None,
        depth: int = 3,
        pool_ratios: Ratios = 0.5,
        *,
        select: str = "spread",
        reduce: str = "keep",
        connect: str = "contract",
        lift: str = "interpolate",
        act: str | Callable[[Tensor], Tensor] = "elu",
        conv: MakeConv = None,
        norm: MakeNorm = None,
        dropout: float = 0.0,
        edge_decoder: torch.nn.Module | None = None,
        pool: MakePool = None,
    ) -> None:
        check_positive_int(hidden_channels, "hidden_channels")
        latent_channels = hidden_channels if latent_channels is None else latent_channels
        check_positive_int(latent_channels, "latent_channels")
        if edge_decoder is not None and not isinstance(edge_decoder, torch.nn.Module):
            raise TypeError(f"'edge_decoder' must be a torch.nn.Module (got {edge_decoder!r})")
        words = (select, reduce, connect, lift)
        super().__init__(
            in_channels, hidden_channels, depth, pool_ratios, act, words, dropout, pool
        )
        widest = max(in_channels, hidden_channels)
        check_memory(4 * latent_channels * widest, "latent_channels", latent_channels)
        self.latent_channels = latent_channels
        hidden = hidden_channels
        sizes = [in_channels] + [hidden] * depth
        self.down_convs = torch.nn.ModuleList(make_conv(conv, i, hidden) for i in sizes)
        self.down_roots = torch.nn.ModuleList(Linear(i, hidden, bias=False) for i in sizes)
        self.lin_latent = Linear(hidden, latent_channels)
        self.lin_up = Linear(latent_channels, hidden)
        self.up_convs = torch.nn.ModuleList(make_conv(conv, hidden, hidden) for _ in range(depth))
        self.up_roots = torch.nn.ModuleList(
            Linear(hidden, hidden, bias=False) for _ in range(depth)
        )
        self.head = MLP([hidden, hidden, in_channels], act=self.act, norm=None)
        # The linear path: fixed maps, there and back, and what is learned beside them.
        self.axes: Tensor
        self.register_buffer("axes", torch.zeros(latent_channels, in_channels))
        self.lin_in = Linear(in_channels, latent_channels, bias=False)
        self.lin_out = Linear(latent_channels, in_channels, bias=False)
        # Whatever is learned is measured in these, see `calibrate`.
        self.latent_scale: Tensor
        self.out_scale: Tensor
        self.register_buffer("latent_scale", torch.ones(latent_channels))
        self.register_buffer("out_scale", torch.ones(in_channels))
        self.path_steps: Tensor  # what `steps` reads
        self.register_buffer("path_steps", torch.zeros(3, dtype=torch.long))
        self._read: tuple[Tensor, int, Steps] | None = None
        self.edge_decoder = InnerProductDecoder() if edge_decoder is None else edge_decoder
        self.norms: torch.nn.ModuleList | None = None
        if norm is not None:
            self.norms = torch.nn.ModuleList(make_norm(norm, hidden) for _ in range(2 * depth + 1))
        self.declare()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters: the model is the interpolant again."""
        super().reset_parameters()
        weight = torch.zeros_like(self.axes)
        if self.latent_channels < self.in_channels:
            torch.nn.init.orthogonal_(weight)
        else:
            torch.nn.init.eye_(weight)
        with torch.no_grad():
            self.axes.copy_(weight)
            self.lin_in.weight.zero_()
            self.lin_out.weight.zero_()
            self.latent_scale.fill_(1.0)
            self.out_scale.fill_(1.0)
            self.path_steps.zero_()
            for last in (self.lin_latent, self.head.lins[-1]):
                last.weight.zero_()
                last.bias.zero_()

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Hierarchy]:
        r"""``(z, hierarchy)``: the latent of the coarsest level [K, latent_channels] and the
        levels.

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor, Graph or Hierarchy): Edges, [2, E], a sparse `adj_t`, or what
                :meth:`prepare` made.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E], floating point.
                (default: None, all ones)
        """
        with outermost() as values, explained(self, edge_weight) as edge_weight:
            hierarchy = self.open(x, edge_index, batch, edge_weight, None, None, values)
            held = raw = x
            for i in range(self.depth + 1):
                if i > 0:
                    x = self.drop(self.coarsen(x, hierarchy, i - 1))
                    held = self.pool(i - 1).reduced(held, *hierarchy.between(i - 1))
                x = self.step(self.down_convs[i], self.down_roots[i], x, hierarchy, i)
                x = self.act(self.normalise(x, hierarchy, i, i))
            held = Interpolant(hierarchy, self.unpool, self.steps).fit(raw, held)
            learned = self.lin_in(held) + self.lin_latent(x)
            return F.linear(held, self.axes) + self.latent_scale * learned, hierarchy

    def decode(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        r"""The features of every node, [N, in_channels].

        Args:
            z (Tensor): Latent of the coarsest level, [K, latent_channels].
            hierarchy (Hierarchy): From :meth:`encode`, or from :meth:`prepare`, where levels hang
                on the graph alone.
        """
        with outermost() as values:
            hierarchy = self._check_latent(z, hierarchy, values)
            x_hat = F.linear(z, self.axes.t()) + self.out_scale * self.lin_out(z)
            x_hat = Interpolant(hierarchy, self.unpool, self.steps).apply(x_hat)
            return x_hat + self.out_scale * self.head(self._ascend(z, hierarchy))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Encodes and decodes: `x_hat` [N, in_channels]. Arguments as in :meth:`encode`."""
        with explained(self, edge_weight) as edge_weight:
            z, hierarchy = self.encode(x, edge_index, batch, edge_weight)  # which checks
            with outermost():
                return self.decode(z, hierarchy)

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        level: str = "nodes",
        batch_size: int | None = None,
    ) -> Tensor:
        r"""Embeddings of nodes or of graphs. Arguments as in :meth:`encode`, and:

        Args:
            level (str, optional): ``'nodes'``, what the decoder knows of every node before it reads
                features from it, [N, hidden_channels], or ``'graph'``, the mean of `z` over each
                graph, [B, latent_channels]. (default: ``'nodes'``)
            batch_size (int, optional): The number of graphs B, for ``'graph'``.
                (default: None, up to the last graph that has a node)
        """
        check_choice(level, "level", ("nodes", "graph"))
        if batch_size is not None and level != "graph":
            raise ValueError(f"'batch_size' goes with level='graph' (got {batch_size!r})")
        with explained(self, edge_weight) as edge_weight:
            z, hierarchy = self.encode(x, edge_index, batch, edge_weight)
            with outermost() as values:
                if batch_size is not None:
                    check_batch_size(batch_size, hierarchy.levels[0].batch, values)
                if level == "nodes":
                    return self._ascend(z, hierarchy)
                return global_mean_pool(z, hierarchy.levels[-1].batch, batch_size)

    def loss(self, x_hat: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""The mean squared error, a scalar to minimise.

        Args:
            x_hat (Tensor): Reconstruction, [N, in_channels].
            x (Tensor): Features, [N, in_channels].
            mask (Tensor, optional): The nodes that count, [N], boolean. (default: None, all)
        """
        x_hat, x = check_pair(x_hat, x, mask)
        return F.mse_loss(x_hat, x)

    def edge_loss(
        self,
        h: Tensor,
        pos_edge_index: Tensor,
        neg_edge_index: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        r"""The mean cross-entropy of edges plus that of non-edges, a scalar to minimise.

        Args:
            h (Tensor): Node embeddings from :meth:`embed`, [N, hidden_channels].
            pos_edge_index (Tensor): Edges, [2, E].
            neg_edge_index (Tensor, optional): Non-edges, [2, E'].
                (default: None, as many as there are edges are drawn, each inside a graph)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
        """
        with outermost() as values:
            check_features(h, None, values, name="h")
            check_batch(batch, h.size(0), values)
            check_edge_index(pos_edge_index, h.size(0), values, name="pos_edge_index")
            if neg_edge_index is None:
                neg_edge_index = non_edges(pos_edge_index, h.size(0), batch)
            else:
                check_edge_index(neg_edge_index, h.size(0), values, name="neg_edge_index")
        loss = h.new_zeros(())
        for edge_index, sign in ((pos_edge_index, 1.0), (neg_edge_index, -1.0)):
            if edge_index.size(1):  # a complete graph has no other pairs, an empty one no edges
                # On logits: a probability has no gradient where it rounds to 0 or 1.
                logits = self.edge_decoder(h, edge_index, sigmoid=False)
                loss = loss + F.softplus(-sign * logits).mean()
        return loss

    def step(
        self,
        conv: torch.nn.Module,
        root: torch.nn.Module,
        x: Tensor,
        hierarchy: Hierarchy,
        level: int,
    ) -> Tensor:
        """A convolution with the linear map beside it."""
        own = root(x)
        return self.convolve(conv, x, hierarchy.levels[level], own.size(-1)) + own

    def normalise(self, x: Tensor, hierarchy: Hierarchy, level: int, i: int) -> Tensor:
        """The i-th normalisation, if there is one."""
        return (
            x if self.norms is None else apply_norm(self.norms[i], x, hierarchy.levels[level].batch)
        )

    def _ascend(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        x = self.lin_up(z)
        for i, conv in enumerate(self.up_convs):
            j = self.depth - 1 - i
            x = self.drop(self.unpool.up(x, hierarchy, j))
            x = self.step(conv, self.up_roots[i], x, hierarchy, j)
            x = self.act(self.normalise(x, hierarchy, j, self.depth + 1 + i))
        return x

    def _check_latent(self, z: Tensor, hierarchy: Hierarchy, values: bool) -> Hierarchy:
        """The latent at the door of the decoder, and the levels as its convolutions take them."""
        check_tensor(z, "z")
        self.check_hierarchy(hierarchy)
        size = hierarchy.levels[-1].num_nodes
        if z.shape != (size, self.latent_channels):
            raise ValueError(
                f"'z' must have shape [{size}, {self.latent_channels}] (got {list(z.shape)})"
            )
        check_features(z, None, values, name="z")
        levels = [
            Level(level.num_nodes, level.batch, self._fit(level.graph, z))
            if isinstance(level.graph, Edges) and level.graph.weighted != self.weighted
            else level
            for level in hierarchy.levels
        ]
        return Hierarchy(levels, hierarchy.perms, hierarchy.transfers)

    def __repr__(self) -> str:
        words = zip(("select", "reduce", "connect", "lift"), self.words)
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"latent_channels={self.latent_channels}, depth={self.depth}, "
            f"pool_ratios={self.pool_ratios}, "
            + ", ".join(f"{name}={word!r}" for name, word in words)
            + ")"
        )
