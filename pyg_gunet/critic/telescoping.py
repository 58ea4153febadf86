"""Large mutual information by a telescope of small density ratios."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.critic.checks import full_precision
from pyg_gunet.critic.network import Standardize, evaluating
from pyg_gunet.critic.objective import nce_loss
from pyg_gunet.critic.readout import Estimate, two_sample_readout
from pyg_gunet.validate import (
    check_choice,
    check_features,
    check_memory,
    check_positive_int,
    check_same_device,
    outermost,
)


class TelescopingCritic(torch.nn.Module):
    r"""Telescoping density-ratio estimation of mutual information (Rhodes et al. 2020).

    One classifier cannot tell joint from independent pairs *by how much* once it separates them
    perfectly, at about 5 nats. So walk from one to the other by waypoints

    .. math::
        \big(x, \; y_k\big), \qquad y_k = \sqrt{1 - a_k^2}\, y + a_k\, \tilde y, \qquad
        a_k = \sin\frac{\pi k}{2 m}, \qquad k = 0, \dots, m,

    with :math:`\tilde y` the y of another sample, train one classifier :math:`r_k` per rung, and
    sum: :math:`\log \frac{p(x, y)}{p(x) p(y)} = \sum_k r_k(x, y)`.

    Inputs are detached: this reads embeddings, it does not train them.

    Args:
        x_channels (int): Size of each sample of x.
        y_channels (int): Size of each sample of y.
        hidden_channels (int): Width of the two hidden layers of each rung. (default: ``256``)
        rungs (int): :math:`m`. (default: ``6``)

    Raises:
        TypeError: If a size is not an int.
        ValueError: If a size is not positive.

    Example:
        >>> critic = TelescopingCritic(2, 3, hidden_channels=16)
        >>> critic(torch.randn(5, 2), torch.randn(5, 3)).shape
        torch.Size([5])
    """

    paired = True
    shares: Tensor

    def __init__(
        self, x_channels: int, y_channels: int, hidden_channels: int = 256, rungs: int = 6
    ) -> None:
        super().__init__()
        check_positive_int(x_channels, "x_channels")
        check_positive_int(y_channels, "y_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(rungs, "rungs")
        channels = x_channels + y_channels
        check_memory(4 * channels**2, "x_channels", x_channels)
        check_memory(
            4 * hidden_channels * max(channels, hidden_channels), "hidden_channels", hidden_channels
        )
        check_memory(4 * rungs * hidden_channels**2, "rungs", rungs)
        self.x_channels = x_channels
        self.y_channels = y_channels
        self.rungs = rungs
        channels = x_channels + y_channels
        self.norm = Standardize(channels)
        self.register_buffer("shares", torch.sin(torch.arange(rungs + 1) * math.pi / (2 * rungs)))
        sizes = [channels, hidden_channels, hidden_channels, 1]
        self.weights = torch.nn.ParameterList(
            torch.empty(rungs, a, b) for a, b in zip(sizes, sizes[1:])
        )
        self.biases = torch.nn.ParameterList(torch.empty(rungs, 1, b) for b in sizes[1:])
        # The quadratic part of each log-ratio, exact where pairs are Gaussian.
        self.quad = torch.nn.Parameter(torch.empty(rungs, channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, and what was fitted to data."""
        self.norm.reset()
        for weight, bias in zip(self.weights, self.biases):
            bound = weight.size(1) ** -0.5
            torch.nn.init.uniform_(weight, -bound, bound)
            torch.nn.init.uniform_(bias, -bound, bound)
        for param in (self.weights[-1], self.biases[-1], self.quad):
            torch.nn.init.zeros_(param)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The log-ratio [n] of the pairs (`x` [n, x_channels], `y` [n, y_channels])."""
        with outermost() as values:
            self._check(x, y, values)
            z = self.norm(torch.cat([x, y], dim=1).detach())
            return self._rungs(z.expand(self.rungs, -1, -1)).sum(0)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The mean logistic loss of the rungs on a batch of pairs, a scalar to minimise."""
        with outermost() as values:
            self._check(x, y, values)
            z = self.norm(torch.cat([x, y], dim=1).detach())
            x, y = z.split([self.x_channels, self.y_channels], dim=1)
            # Every sample gets the y of another one, by a turn that changes with the batch.
            n = x.size(0)
            turn = torch.randint(1, n, ()) if self.training else torch.tensor(max(n // 2, 1))
            other = y.roll(int(turn), 0)
            a = self.shares.view(-1, 1, 1)
            mixed = (1 - a.square()).clamp_min(0).sqrt() * y + a * other
            points = torch.cat([x.expand(self.rungs + 1, -1, -1), mixed], dim=2)
            r = self._rungs(torch.cat([points[:-1], points[1:]], dim=1))
            r_p, r_q = r.split(n, dim=1)
            return nce_loss(r_p.flatten(), r_q.flatten())

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, readout: str = "classifier") -> Estimate:
        r"""Reads the mutual information from held-out pairs, in evaluation mode.

        Args:
            x (Tensor): Samples [n, x_channels] the critic was not trained on.
            y (Tensor): Their partners [n, y_channels].
            readout (str): Only ``'classifier'``: the sum of the rungs over the pairs.
                (default: ``'classifier'``)

        Returns:
            Estimate: Value and standard error in nats.
        """
        check_choice(readout, "readout", ("classifier",))
        with outermost() as values, evaluating(self):
            self._check(x, y, values)
            r_p = self(x, y)
            r_q = self(x, y.roll(max(len(y) // 2, 1), 0))
            return two_sample_readout(r_p, r_q)._replace(quantity="I(x; y)")

    def _rungs(self, z: Tensor) -> Tensor:
        h = z
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            h = torch.baddbmm(bias, h, weight)
            h = F.silu(h) if i < len(self.weights) - 1 else h
        return full_precision(h.squeeze(-1) + (torch.bmm(z, self.quad) * z).sum(-1))

    def _check(self, x: Tensor, y: Tensor, values: bool) -> None:
        check_features(x, self.x_channels, values, "x")
        check_features(y, self.y_channels, values, "y")
        check_same_device(x, "x", y=y)
        if x.size(0) != y.size(0) or x.size(0) < 2:
            raise ValueError(
                f"'y' must have one row per row of 'x', two at least (got {x.size(0)} and "
                f"{y.size(0)})"
            )

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        r"""Fits the input scaling to training batches ``[(x, y), ...]``."""
        self.norm.fit(torch.cat([torch.cat([x, y], dim=1) for x, y in batches]))

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.x_channels}, {self.y_channels}, rungs={self.rungs})"
        )
