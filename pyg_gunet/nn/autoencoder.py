"""The graph auto-encoder on Graph U-Net levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GAE, MLP, InnerProductDecoder, Linear, global_mean_pool

from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_choice,
    check_edge_index,
    check_features,
    check_number,
    check_positive_int,
    check_tensor,
    outermost,
)
from pyg_gunet.nn.base import UNetBase
from pyg_gunet.nn.levels import Hierarchy, Level, make_conv
from pyg_gunet.nn.mask import MaskDecoder
from pyg_gunet.nn.pool import GUnpool
from pyg_gunet.nn.smooth import PageRank


class GraphUNetAutoEncoder(UNetBase):
    r"""An auto-encoder of node features on the levels of a Graph U-Net (`Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_).

    The latent `z` lives on the nodes of the coarsest level. Without skip connections, the default,
    no node feature reaches the decoder except through `z`: what it reads besides is the structure
    alone, the levels' edges, sizes and kept nodes. (With skips an auto-encoder copies its input.)

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
            keeps, see :class:`GPool`. (default: 0.5)
        skip (str, optional): ``'none'``, or ``'sum'`` or ``'cat'``: how features of the way down
            join those of the way up. (default: ``'none'``)
        act (str or callable, optional): The nonlinearity. (default: ``'elu'``)
        conv (callable, optional): Makes a convolution, see :class:`GraphUNet`. (default: None)
        select (str, optional): ``'spread'`` or ``'topk'``, see :class:`GPool`. The default was
            measured (``benchmarks/selection.py``, seven graphs): ``'spread'`` reconstructs with 20
            to 10,000 times less error than ``'topk'`` on each of them. (default: ``'spread'``)
        connect (str, optional): ``'two_hop'``, ``'induced'``, ``'walk'``, ``'sampled'`` or
            ``'auto'``, see :class:`GraphUNet`. (default: ``'two_hop'``)
        gate (str, optional): See :class:`GPool`. (default: None)
        norm (str or callable, optional): Normalisation of hidden features, see :class:`GraphUNet`.
            (default: None)
        dropout (float, optional): Dropout on hidden features. (default: 0.0)
        loss_fn (str, optional): ``'mse'``, the mean squared error, or ``'sce'``, the scaled cosine
            error of `GraphMAE <https://arxiv.org/abs/2205.10803>`_ (eq. 2). (default: ``'mse'``)
        gamma (float, optional): The exponent of ``'sce'``, at least 1. (default: 2.0)
        edge_decoder (torch.nn.Module, optional): Decodes edges from node embeddings,
            ``(h, edge_index, sigmoid) -> [E]``. (default: None, PyG's
            :class:`InnerProductDecoder`)
        max_products (int, optional): The most scalar products per two-hop pooling.
            (default: None, from the available memory)
        max_degree (int, optional): See :class:`GraphUNet`. (default: 32)
        cached (bool, optional): See :class:`GraphUNet`. (default: False)
        quantiles (int, optional): See :class:`GPool`. With 1 the kept nodes do not move while the
            scorer learns; in the same benchmark its error is 0.3 to 1.1 times that of the default,
            less on regular graphs and more on three of four meshes. (default: None)
        fill (str, optional): What dropped nodes get on the way up: ``'zero'``, ``'nearest'`` or
            ``'propagate'``, see :class:`GUnpool`. Where a pooling keeps a quarter of the nodes or
            less, ``'propagate'`` reconstructs what zeros cannot. It reads the edges of the levels:
            with ``connect='walk'`` coarse ones are multiplied out. (default: ``'zero'``)
        mask (float, optional): The share of nodes that :meth:`masked` hides, in (0, 1). The model
            then has what masked auto-encoding needs: a token in place of hidden features and a
            decoder of one convolution, as in `GraphMAE <https://arxiv.org/abs/2205.10803>`_.
            (default: None, no such parts)
        replace (float, optional): The share of hidden nodes that get another node's features in
            place of the token. (default: 0.05)

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
        (torch.Size([3, 4]), Hierarchy(num_nodes=[12, 6, 3], skips=0))
        >>> model.loss(model.decode(z, hierarchy), x).shape
        torch.Size([])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        latent_channels: int | None = None,
        depth: int = 3,
        pool_ratios: float | int | list[float | int] = 0.5,
        *,
        skip: str = "none",
        act: str | Callable[[Tensor], Tensor] = "elu",
        conv: Callable[[int, int], torch.nn.Module] | None = None,
        select: str = "spread",
        connect: str = "two_hop",
        gate: str | None = None,
        norm: str | Callable[[int], torch.nn.Module] | None = None,
        dropout: float = 0.0,
        loss_fn: str = "mse",
        gamma: float = 2.0,
        edge_decoder: torch.nn.Module | None = None,
        max_products: int | None = None,
        max_degree: int = 32,
        cached: bool = False,
        quantiles: int | None = None,
        fill: str = "zero",
        mask: float | None = None,
        replace: float = 0.05,
    ) -> None:
        check_positive_int(hidden_channels, "hidden_channels")
        latent_channels = hidden_channels if latent_channels is None else latent_channels
        check_positive_int(latent_channels, "latent_channels")
        check_choice(skip, "skip", ("none", "sum", "cat"))
        check_choice(loss_fn, "loss_fn", ("mse", "sce"))
        check_number(gamma, "gamma", 1.0)
        if edge_decoder is not None and not isinstance(edge_decoder, torch.nn.Module):
            raise TypeError(f"'edge_decoder' must be a torch.nn.Module (got {edge_decoder!r})")
        super().__init__(
            in_channels,
            hidden_channels,
            latent_channels,
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
        self.unpool = GUnpool(fill)
        self.latent_channels = latent_channels
        self.skip = skip
        self.loss_fn = loss_fn
        self.gamma = gamma
        hidden = hidden_channels
        sizes = [in_channels] + [hidden] * depth + [latent_channels]
        self.down_roots = torch.nn.ModuleList(
            Linear(i, o, bias=False) for i, o in zip(sizes[:-1], sizes[1:])
        )
        # Back to the width of the hidden features before the first unpooling, so that skips fit.
        self.lin_up = Linear(latent_channels, hidden)
        merged = 2 * hidden if skip == "cat" else hidden
        for _ in range(depth):
            self.up_convs.append(make_conv(conv, merged, hidden))
        self.up_roots = torch.nn.ModuleList(
            Linear(merged, hidden, bias=False) for _ in range(depth)
        )
        self.head = MLP([hidden, hidden, in_channels], act=self.act, norm=None)
        self.edge_decoder = InnerProductDecoder() if edge_decoder is None else edge_decoder
        self.mask_decoder = None
        if mask is not None:
            self.mask_decoder = MaskDecoder(in_channels, hidden, conv, mask, replace)
        more = [] if self.mask_decoder is None else [self.mask_decoder.conv]
        self.finish(norm, depth, depth, more)
        self.reset_parameters()

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Hierarchy]:
        r"""``(z, hierarchy)``: the latent of the coarsest level [K, latent_channels] and the
        levels.

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor or Structure): Edges, [2, E], or a prepared adjacency.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E], floating point.
                (default: None, all ones)
        """
        with outermost() as values:
            return self.descend(x, edge_index, batch, edge_weight, self.skip != "none", values)

    def decode(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        r"""The features of every node, [N, in_channels].

        Args:
            z (Tensor): Latent of the coarsest level, [K, latent_channels].
            hierarchy (Hierarchy): From :meth:`encode`.
        """
        with outermost() as values:
            self.check_latent(z, hierarchy, self.latent_channels, values)
            return self.head(self._ascend(z, hierarchy))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Encodes and decodes: `x_hat` [N, in_channels]. Arguments as in :meth:`encode`."""
        with outermost() as values:
            z, hierarchy = self.descend(
                x, edge_index, batch, edge_weight, self.skip != "none", values
            )
            return self.head(self._ascend(z, hierarchy))

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        level: str = "nodes",
        propagate: int = 0,
        teleport: float = 0.1,
    ) -> Tensor:
        r"""Embeddings of nodes or of graphs. Arguments as in :meth:`encode`, and:

        Args:
            level (str, optional): ``'nodes'``, what the decoder knows of every node before it reads
                features from it, [N, hidden_channels], or ``'graph'``, the mean of `z` over each
                graph, [B, latent_channels]. (default: ``'nodes'``)
            propagate (int, optional): Steps of personalised PageRank (`Gasteiger et al. 2019
                <https://arxiv.org/abs/1810.05997>`_, eq. 4) that the embeddings of nodes take along
                the edges of the input: neighbours then agree more, which helps where they share a
                class. (default: 0)
            teleport (float, optional): The share of a node's own embedding at each of these steps.
                (default: 0.1)

        Raises:
            ValueError: If `propagate` is negative or goes with ``level='graph'``, or `teleport` is
                not in [0, 1].
        """
        check_choice(level, "level", ("nodes", "graph"))
        smooth = PageRank(propagate, teleport)
        if propagate and level != "nodes":
            raise ValueError(f"'propagate' goes with level='nodes' (got {propagate!r}, {level!r})")
        with outermost() as values:
            z, hierarchy = self.descend(
                x, edge_index, batch, edge_weight, self.skip != "none", values
            )
            if level == "nodes":
                return smooth(self._ascend(z, hierarchy), hierarchy.levels[0])
            return global_mean_pool(z, hierarchy.levels[-1].batch)

    def masked(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Hides the features of random nodes and predicts them: ``(x_hat [N, in_channels], mask
        [N])``, for ``loss(x_hat, x, mask)``. Arguments as in :meth:`encode`.

        Hidden nodes are hidden once more between the U and the decoder, which so has to read them
        off their neighbours. A feature that is hidden cannot be copied, whatever `skip` is.

        Raises:
            ValueError: If the model was made without `mask`.
        """
        if self.mask_decoder is None:
            raise ValueError("'mask' must be given to the model for masked features (got None)")
        with outermost() as values:
            check_features(x, self.in_channels, values)
            seen, mask = self.mask_decoder.hide(x)
            z, hierarchy = self.descend(
                seen, edge_index, batch, edge_weight, self.skip != "none", values
            )
            h = self.mask_decoder.hide_again(self._ascend(z, hierarchy), mask)
            return self.levels.convolve(self.mask_decoder.conv, h, hierarchy.levels[0]), mask

    def loss(self, x_hat: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""The reconstruction error, a scalar to minimise.

        Args:
            x_hat (Tensor): Reconstruction, [N, in_channels].
            x (Tensor): Features, [N, in_channels].
            mask (Tensor, optional): The nodes that count, [N], boolean. (default: None, all)
        """
        with outermost() as values:
            check_features(x, None, values)
            check_features(x_hat, None, values, name="x_hat")
            if x_hat.shape != x.shape:
                raise ValueError(
                    f"'x_hat' must have the shape of 'x', {list(x.shape)} (got {list(x_hat.shape)})"
                )
            if mask is not None:
                check_tensor(mask, "mask")
                if mask.dtype != torch.bool or mask.shape != x.shape[:1]:
                    raise ValueError(
                        f"'mask' must be boolean of shape [{x.size(0)}] "
                        f"(got {mask.dtype} of shape {list(mask.shape)})"
                    )
                if values and not bool(mask.any()):
                    raise ValueError("'mask' must select a node (got none)")
                x_hat, x = x_hat[mask], x[mask]
        if self.loss_fn == "mse":
            return F.mse_loss(x_hat, x)
        return (1.0 - F.cosine_similarity(x_hat, x, dim=-1)).clamp(min=0).pow(self.gamma).mean()

    def edge_loss(
        self, h: Tensor, pos_edge_index: Tensor, neg_edge_index: Tensor | None = None
    ) -> Tensor:
        r"""The cross-entropy of edges against non-edges, as PyG's :meth:`GAE.recon_loss`.

        Args:
            h (Tensor): Node embeddings from :meth:`embed`, [N, hidden_channels].
            pos_edge_index (Tensor): Edges, [2, E].
            neg_edge_index (Tensor, optional): Non-edges, [2, E'].
                (default: None, as many as there are edges are drawn)
        """
        with outermost() as values:
            check_features(h, None, values, name="h")
            check_edge_index(pos_edge_index, h.size(0), values, name="pos_edge_index")
            if neg_edge_index is not None:
                check_edge_index(neg_edge_index, h.size(0), values, name="neg_edge_index")
        return GAE(torch.nn.Identity(), self.edge_decoder).recon_loss(
            h, pos_edge_index, neg_edge_index
        )

    def down(self, x: Tensor, level: Level, i: int) -> Tensor:
        out = self.levels.convolve(self.down_convs[i], x, level) + self.down_roots[i](x)
        if i == self.depth:  # the latent itself: neither squashed nor normalised
            return out
        return self.act(self.normalise(self.down_norms, out, level, i))

    def _ascend(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        x = self.lin_up(z)
        for i, conv in enumerate(self.up_convs):
            j = self.depth - 1 - i
            level = hierarchy.levels[j]
            edge_index = None if self.unpool.fill == "zero" else level.edges()[0]
            x = self.unpool(x, hierarchy.perms[j], level.num_nodes, edge_index)
            if self.skip == "sum":
                x = x + hierarchy.skips[j]
            elif self.skip == "cat":
                x = torch.cat((hierarchy.skips[j], x), dim=-1)
            x = self.drop(x)
            x = self.levels.convolve(conv, x, level) + self.up_roots[i](x)
            x = self.act(self.normalise(self.up_norms, x, level, i))
        return x

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"latent_channels={self.latent_channels}, depth={self.depth}, "
            f"pool_ratios={self.pool_ratios}, skip={self.skip!r}, select={self.select!r}, "
            f"connect={self.connect!r}"
            + ("" if self.unpool.fill == "zero" else f", fill={self.unpool.fill!r}")
            + ")"
        )
