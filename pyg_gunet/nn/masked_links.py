"""Masked auto-encoding of links."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MLP, BatchNorm, GCNConv
from torch_geometric.utils import softmax

from pyg_gunet.functional.non_edges import non_edges
from pyg_gunet.graph.inputs import as_edges
from pyg_gunet.nn.parts import check_dropout, make_act
from pyg_gunet.nn.recipes import Entering
from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_edge_weight,
    check_features,
    check_floating,
    check_memory,
    check_number,
    check_positive_int,
    check_same_device,
    outermost,
)

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


class MaskedLinkEncoder(torch.nn.Module):
    r"""Graph convolutions that learn by telling links from random pairs, seeing each link in part:
    `Bandana <https://arxiv.org/abs/2402.07225>`_ (Zhao et al. 2024). In training, at every layer
    anew, an edge carries a random share of what its target gets, a softmax of normal draws over the
    edges of a target (section 4.1). From the states of every layer one perceptron on the product of
    two nodes' states tells edges, each weighed by the mean share, from pairs without one (section
    4.2). No feature is predicted, and no label read. A layer is a
    :class:`~torch_geometric.nn.GCNConv`, a :class:`~torch_geometric.nn.BatchNorm` and a
    nonlinearity, behind dropout.

    Equation 8 weighs an edge by its own share, so that those that are hidden hardly count; the
    authors' code by the share of some other edge, as it keeps shares in another order than edges.
    The mean is what that comes to, without its noise.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of the states of each layer.
        num_layers (int, optional): Number of layers. (default: 3)
        dropout (float, optional): Dropout on features and on states. (default: 0.8)
        temperature (float, optional): What the normal draws are divided by, at least 0.001: the
            smaller, the more of a target's shares has one edge. (default: 0.9)
        decoder_channels (int, optional): Width of the perceptron.
            (default: None, `hidden_channels`)
        decoder_dropout (float, optional): Dropout on the products. (default: 0.0)
        max_links (int, optional): The most edges that a loss reads, of more so many drawn at
            random. (default: None, all)
        act (str or callable, optional): The nonlinearity. (default: ``"elu"``)

    Shapes:
        - **input:** `x` [N, in_channels], dense or a sparse matrix, where features are mostly zero
          (counts of words), many times faster; `edge_index` [2, E]; `batch` [N] sorted or None;
          `edge_weight` [E], not negative, or None: what an edge carries is its weight times its
          share
        - **output:** the states of every layer, a list of [N, hidden_channels], and the shares of
          the edges in it, a list of [E], in evaluation all ones

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = MaskedLinkEncoder(3, 16, num_layers=2)
        >>> x, edge_index = torch.randn(12, 3), torch.randint(12, (2, 40))
        >>> states, shares = model(x, edge_index)
        >>> model.loss(states, shares, edge_index).shape, model.embed(x, edge_index).shape
        (torch.Size([]), torch.Size([12, 32]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int = 3,
        dropout: float = 0.8,
        temperature: float = 0.9,
        decoder_channels: int | None = None,
        decoder_dropout: float = 0.0,
        max_links: int | None = None,
        act: str | Callable[[Tensor], Tensor] = "elu",
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(num_layers, "num_layers", maximum=1024)
        check_number(temperature, "temperature", 1e-3)  # below it draws would overflow
        decoder_channels = hidden_channels if decoder_channels is None else decoder_channels
        check_positive_int(decoder_channels, "decoder_channels")
        wide = max(hidden_channels, decoder_channels)
        check_memory(4 * hidden_channels * wide, "hidden_channels", hidden_channels)
        check_memory(4 * hidden_channels * in_channels, "in_channels", in_channels)
        if max_links is not None:
            check_positive_int(max_links, "max_links")
        self.in_channels, self.hidden_channels = in_channels, hidden_channels
        self.num_layers, self.max_links = num_layers, max_links
        self.dropout = check_dropout(dropout)
        self.decoder_dropout = check_dropout(decoder_dropout, "decoder_dropout")
        self.temperature, self.act = float(temperature), make_act(act)
        self.convs = torch.nn.ModuleList(
            GCNConv(hidden_channels, hidden_channels) for _ in range(num_layers)
        )
        lin = Entering(in_channels, hidden_channels, bias=False, weight_initializer="glorot")
        lin.dropout = self.dropout
        self.convs[0].lin = lin
        self.norms = torch.nn.ModuleList(
            BatchNorm(hidden_channels, allow_single_element=True) for _ in range(num_layers)
        )
        self.decoder = MLP([hidden_channels, decoder_channels, 2], norm=None)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        for module in (*self.convs, *self.norms, self.decoder):
            module.reset_parameters()  # type: ignore[operator, union-attr]

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        r"""The states of every layer, and the shares of the edges in it.

        Args:
            x (Tensor): Node features, [N, in_channels], dense or sparse (COO, CSR or CSC).
            edge_index (Tensor): Edges, [2, E], or a sparse `adj_t`.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Weights, [E]. (default: None, all ones)
        """
        return self._run(x, edge_index, batch, edge_weight, self.training)

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""The states of all layers side by side, of length 1, all edges carrying all:
        [N, num_layers * hidden_channels]. Arguments as in :meth:`forward`."""
        return F.normalize(torch.cat(self._run(x, edge_index, batch, edge_weight, False)[0], 1))

    def decode(self, z: Tensor, edge_index: Tensor) -> Tensor:
        r"""The log-odds that pairs of nodes are edges, [P].

        Args:
            z (Tensor): The states of a layer, [N, hidden_channels].
            edge_index (Tensor): Pairs, [2, P].
        """
        with outermost() as values:
            check_features(z, self.hidden_channels, values, name="z")
            check_edge_index(edge_index, z.size(0), values, of="z")
        product = z[edge_index[0]] * z[edge_index[1]]
        out = self.decoder(F.dropout(product, self.decoder_dropout, self.training))
        return out[:, 0] - out[:, 1]

    def loss(
        self,
        states: list[Tensor],
        shares: list[Tensor],
        edge_index: Tensor,
        neg_edge_index: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        r"""The mean over layers of the mean cross-entropy of edges, times their mean share, plus
        that of random pairs, a scalar to minimise. Where there are no edges, or no other pairs,
        their part is 0.

        Args:
            states (list): The states of every layer, each [N, hidden_channels].
            shares (list): The shares of the edges in every layer, each [E].
            edge_index (Tensor): Edges, [2, E].
            neg_edge_index (Tensor, optional): Non-edges, [2, E'].
                (default: None, one is drawn per edge, inside its graph)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
        """
        num_nodes = states[0].size(0)
        if len(states) != len(shares):
            raise ValueError(
                f"'shares' must be one per layer, {len(states)} of them (got {len(shares)})"
            )
        with outermost() as values:
            check_edge_index(edge_index, num_nodes, values, of="states")
            check_batch(batch, num_nodes, values, of="states")
            for share in shares:
                check_edge_weight(share, edge_index.size(1), values, name="shares")
            if neg_edge_index is None:
                neg_edge_index = non_edges(edge_index, num_nodes, batch)
            else:
                check_edge_index(neg_edge_index, num_nodes, values, "neg_edge_index", "states")
            if self.max_links is not None and edge_index.size(1) > self.max_links:
                drawn = torch.randperm(edge_index.size(1), device=edge_index.device)
                drawn = drawn[: self.max_links]
                edge_index, shares = edge_index[:, drawn], [share[drawn] for share in shares]
                drawn = torch.randperm(neg_edge_index.size(1), device=edge_index.device)
                neg_edge_index = neg_edge_index[:, drawn[: self.max_links]]
            losses = [states[0].new_zeros(())]
            pairs = torch.cat([edge_index, neg_edge_index], 1)
            count, others = edge_index.size(1), neg_edge_index.size(1)
            for z, share in zip(states, shares):
                logits = self.decode(z, pairs)
                told = share.sum() * F.softplus(-logits[:count]).sum() / max(count, 1) ** 2
                losses.append(told + F.softplus(logits[count:]).sum() / max(others, 1))
        return torch.stack(losses[1:]).mean()

    def shares(self, edge_index: Tensor, num_nodes: int) -> Tensor:
        r"""Random shares of the edges, positive and of sum 1 over the edges of a target, [E]."""
        draws = torch.randn(edge_index.size(1), device=edge_index.device) / self.temperature
        return softmax(draws, edge_index[1].long(), num_nodes=num_nodes)

    def layer(self, i: int, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        """The states of the i-th layer, [N, hidden_channels], from those below it."""
        if i > 0:  # features are dropped as they enter
            x = F.dropout(x, self.dropout, self.training)
        return self.act(self.norms[i](self.convs[i](x, edge_index, weight)))

    def _run(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        hide: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        with outermost() as values:
            x = self._features(x, values)
            num_nodes, dtype = x.size(0), x.dtype
            edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
            check_batch(batch, num_nodes, values)
            check_same_device(x, "x", edge_index=edge_index, batch=batch, edge_weight=edge_weight)
            check_edge_index(edge_index, num_nodes, values)
            check_edge_weight(edge_weight, edge_index.size(1), values)
            if edge_weight is not None and values and bool((edge_weight < 0).any()):
                least = float(edge_weight.min())
                raise ValueError(f"'edge_weight' must not be negative (got {least})")
            edge_index = edge_index.long()
            states, shares = [], []
            ones = torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device)
            for i in range(self.num_layers):
                share = self.shares(edge_index, num_nodes).to(dtype) if hide else ones
                weight = share if edge_weight is None else share * edge_weight.to(dtype)
                x = self.layer(i, x, edge_index, weight)
                states.append(x)
                shares.append(share)
        return states, shares

    def _features(self, x: Tensor, values: bool) -> Tensor:
        """Features at the door, sparse ones by rows."""
        if not isinstance(x, Tensor) or x.layout not in SPARSE:
            check_features(x, self.in_channels, values)
            return x
        if x.requires_grad:
            raise ValueError("'x' must be dense where it requires a gradient (got a sparse matrix)")
        x = x.to_sparse_csr()
        if x.dim() != 2 or x.size(1) != self.in_channels:
            raise ValueError(
                f"'x' must have {self.in_channels} channels (got shape {list(x.shape)})"
            )
        if x.size(0) == 0:
            raise ValueError(f"'x' holds no node (got shape {list(x.shape)})")
        check_floating(x.values(), "x")
        if values and not bool(x.values().isfinite().all()):
            raise ValueError("'x' must be finite (got NaN or infinity in a sparse matrix)")
        return x

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )
