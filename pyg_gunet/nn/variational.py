"""Variational auto-encoding: node features that can be drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch_geometric.nn import Linear, global_mean_pool

from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.nn.conv import explained
from pyg_gunet.validate import (
    check_batch_size,
    check_choice,
    check_generator,
    check_number,
    check_tensor,
    outermost,
)

MAX_LOG_STD = 10.0  # beyond it deviations square into 0 or infinity in float32
LATENTS = ("nodes", "graph")


class VariationalAutoEncoder(torch.nn.Module):
    r"""A variational auto-encoder (`Kingma and Welling 2013 <https://arxiv.org/abs/1312.6114>`_) on
    the levels of a :class:`GraphUNetAutoEncoder`, as PyG's :class:`VGAE` wraps an encoder: the
    latent is drawn from :math:`N(\mu, \sigma^2)`, and the loss adds its divergence from
    :math:`N(0, 1)`.

    With levels that hang on the graph alone, the auto-encoder's default, decoding needs a graph and
    `z`: :meth:`sample` draws features for any graph.

    Args:
        model (GraphUNetAutoEncoder): What encodes and decodes.
        latent (str, optional): ``'nodes'``, a latent per node of the coarsest level, or
            ``'graph'``, one per graph, given to all nodes of its coarsest level.
            (default: ``'nodes'``)
        beta (float, optional): The weight of the divergence (`Higgins et al. 2017
            <https://openreview.net/forum?id=Sy2fzU9gl>`_). (default: 1.0)
        free_bits (float, optional): Nats per latent entry that the divergence does not count
            (`Kingma et al. 2016 <https://arxiv.org/abs/1606.04934>`_, section 4.3).
            (default: 0.0)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** [N, in_channels]; `mu` and `log_std` [K, latent_channels] or, with
          ``'graph'``, [B, latent_channels]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = VariationalAutoEncoder(GraphUNetAutoEncoder(3, 16, 4, depth=2))
        >>> x, edge_index = torch.randn(12, 3), torch.randint(12, (2, 40))
        >>> model.loss(x, edge_index).shape
        torch.Size([])
        >>> model.sample(edge_index, num_nodes=12).shape
        torch.Size([12, 3])
    """

    def __init__(
        self,
        model: GraphUNetAutoEncoder,
        latent: str = "nodes",
        beta: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(model, GraphUNetAutoEncoder):
            raise TypeError(f"'model' must be a GraphUNetAutoEncoder (got {model!r:.80})")
        check_choice(latent, "latent", LATENTS)
        check_number(beta, "beta", 0.0)
        check_number(free_bits, "free_bits", 0.0)
        self.model = model
        self.latent, self.beta, self.free_bits = latent, float(beta), float(free_bits)
        self.lin_log_std = Linear(model.latent_channels, model.latent_channels)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.model.reset_parameters()
        self.lin_log_std.reset_parameters()

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor, Hierarchy]:
        r"""``(mu, log_std, hierarchy)``: the latent's mean, the logarithm of its deviation, within
        10 of 0, and the levels. Arguments as in :meth:`GraphUNetAutoEncoder.encode`, and:

        Args:
            batch_size (int, optional): The number of graphs B, for ``latent='graph'``.
                (default: None, up to the last graph that has a node)
        """
        mu, hierarchy = self.model.encode(x, edge_index, batch, edge_weight)
        with outermost() as values:
            if batch_size is not None:
                check_batch_size(batch_size, hierarchy.levels[0].batch, values)
            if self.latent == "graph":
                mu = global_mean_pool(mu, self._ids(hierarchy), batch_size)
            return mu, self.lin_log_std(mu).clamp(-MAX_LOG_STD, MAX_LOG_STD), hierarchy

    def decode(self, z: Tensor, hierarchy: Hierarchy) -> Tensor:
        r"""The features of every node, [N, in_channels], from a latent of the shape of `mu`."""
        if self.latent == "graph":
            with outermost() as values:
                check_tensor(z, "z")
                self.model.check_hierarchy(hierarchy)
                ids = self._ids(hierarchy)
                graphs = int(ids[-1]) + 1 if values else 1  # sorted: the last is the highest
                if z.dim() != 2 or z.size(0) < graphs:
                    raise ValueError(
                        f"'z' must hold a row for each graph, {graphs} of them "
                        f"(got shape {list(z.shape)})"
                    )
            z = z[ids]
        return self.model.decode(z, hierarchy)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""The reconstruction [N, in_channels] from a drawn latent; in `eval` mode from its mean.

        Arguments as in :meth:`GraphUNetAutoEncoder.encode`.
        """
        with explained(self, edge_weight) as edge_weight:
            mu, log_std, hierarchy = self.encode(x, edge_index, batch, edge_weight)  # which checks
            with outermost():
                return self.decode(self._draw(mu, log_std), hierarchy)

    def loss(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""The mean squared error plus `beta` times the divergence per entry of `x`, a scalar to
        minimise: up to factors the negative evidence bound with deviations of
        :math:`1 / \sqrt{2}`. Arguments as in :meth:`encode`."""
        with explained(self, edge_weight) as edge_weight:
            mu, log_std, hierarchy = self.encode(x, edge_index, batch, edge_weight)
            with outermost():
                x_hat = self.decode(self._draw(mu, log_std), hierarchy)
                error = self.model.loss(x_hat, x)
        return error + self.beta * self.kl(mu, log_std) / x.numel()

    def kl(self, mu: Tensor, log_std: Tensor) -> Tensor:
        r"""The divergence of :math:`N(\mu, \sigma^2)` from :math:`N(0, 1)`, summed over all
        entries, in nats, a scalar; each entry counts from `free_bits` on."""
        each = kl_divergence(Normal(mu, log_std.exp()), Normal(0.0, 1.0))
        return each.clamp(min=self.free_bits).sum() if self.free_bits else each.sum()

    @torch.no_grad()
    def sample(
        self,
        edge_index: Tensor | Hierarchy,
        edge_weight: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Features [N, in_channels] for a graph, from a latent of :math:`N(0, 1)`.

        Args:
            edge_index (Tensor or Hierarchy): Edges, [2, E], or what the model's :meth:`prepare`
                made.
            edge_weight (Tensor, optional): Weights, [E]. (default: None, all ones)
            num_nodes (int, optional): Number of nodes, N.
                (default: None, from `batch` or the edges)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            batch_size (int, optional): The number of graphs. (default: None, from `batch`)
            generator (torch.Generator, optional): Source of the draws. (default: None, torch's own)

        Raises:
            ValueError: If the model's levels hang on features.
        """
        check_generator(generator)
        if not self.model.structural:
            raise ValueError(
                "'model' must select by the graph alone for sampling, as with select='spread' "
                f"(got {self.model!r})"
            )
        if not isinstance(edge_index, Hierarchy):
            made = self.model.prepare(edge_index, edge_weight, num_nodes=num_nodes, batch=batch)
            assert isinstance(made, Hierarchy)
            edge_index = made
        if batch_size is not None:
            check_batch_size(batch_size, edge_index.levels[0].batch)
        if self.latent == "graph":
            rows = batch_size or int(self._ids(edge_index)[-1]) + 1
        else:
            rows = edge_index.levels[-1].num_nodes
        weight = self.model.lin_up.weight
        z = torch.randn(
            (rows, self.model.latent_channels),
            generator=generator,
            dtype=weight.dtype,
            device=weight.device,
        )
        return self.decode(z, edge_index)

    def _draw(self, mu: Tensor, log_std: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * log_std.exp() if self.training else mu

    def _ids(self, hierarchy: Hierarchy) -> Tensor:
        """The graph of every node of the coarsest level."""
        level = hierarchy.levels[-1]
        if level.batch is not None:
            return level.batch
        device = self.lin_log_std.weight.device
        return torch.zeros(level.num_nodes, dtype=torch.long, device=device)

    def extra_repr(self) -> str:
        return f"latent={self.latent!r}, beta={self.beta}, free_bits={self.free_bits}"
