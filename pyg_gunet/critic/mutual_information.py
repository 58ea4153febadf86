"""A critic that reads the mutual information of paired samples, or of nodes and their graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyg_gunet.critic.kl import check_objective
from pyg_gunet.critic.network import HEADS, Calibration, GaussianPairBase, Standardize, evaluating
from pyg_gunet.critic.objective import nce_loss
from pyg_gunet.critic.pairs import PairScores, dense_pairs, pair_loss, pair_readout
from pyg_gunet.critic.readout import Estimate, two_sample_readout
from pyg_gunet.validate import (
    check_batch,
    check_choice,
    check_features,
    check_memory,
    check_positive_int,
    check_same_device,
    outermost,
)

# Numbers per intermediate tensor and chunk of rows: 4 MB in float32.
CHUNK = 2**20


class MutualInformationCritic(torch.nn.Module):
    r"""A network :math:`r(x, y)` trained to tell pairs from non-pairs, so that
    :math:`r^* = \log \frac{p(x, y)}{p(x)\,p(y)}` and :math:`I(x; y) = \mathbb{E}_{p(x,y)}[r^*]`.

    * **samples** (graph against graph): `x` [n, .] and `y` [n, .] without `batch`; row i is paired
      with row i, all other rows are negatives.
    * **nodes against graphs** (InfoGraph, Sun et al. 2020): `x` [N, .], `y` [B, .] and `batch` [N];
      the negatives of a node are the other graphs, weighted by their sizes, so that negatives have
      the marginals of the positives and sizes carry no information.
    * **corruption** (Deep Graph Infomax, Veličković et al. 2019), for one graph or more: negatives
      are the rows of `x_corrupt` with the same graphs. That estimates
      :math:`\mathrm{KL}(\text{real} \,\|\, \text{corrupted})`, not a mutual information, and the
      :class:`Estimate` says so.

    Memory is bounded: rows are scored in chunks, and training recomputes a chunk's scores in the
    backward pass where all pairs together are too many.

    Args:
        x_channels (int): Size of each sample of x.
        y_channels (int): Size of each sample of y.
        hidden_channels (int): Width of the hidden layers. (default: ``256``)
        critic (str): ``'separable'``: :math:`f(x)^\top g(y) + a(x) + b(y)`; ``'bilinear'``:
            :math:`x^\top W y + b`; ``'concat'``: an MLP of each pair, the most expensive.
            (default: ``'separable'``)
        objective (str): ``'jsd'`` or ``'nce'`` (with `nu`). (default: ``'jsd'``)
        nu (float): The noise ratio of ``'nce'``, in (0, 64]. (default: ``1.0``)
        size_weighted (bool): Whether negatives are weighted by the sizes of graphs. If ``False``,
            graphs count equally, as in InfoGraph, and unequal sizes bias the reading upwards.
            (default: ``True``)
        base (str, optional): ``'gaussian'`` makes the network learn the residual of the log-ratio
            of jointly Gaussian x and y, with moments from :meth:`prepare` (which
            :func:`fit_critic` calls). (default: ``None``)

    Raises:
        TypeError: If a size is not an int or `nu` is not a number.
        ValueError: If an option is unknown, `nu` is outside (0, 64] or given without ``'nce'``.

    Example:
        >>> critic = MutualInformationCritic(3, 3, hidden_channels=16)
        >>> x, batch = torch.randn(5, 3), torch.tensor([0, 0, 0, 1, 1])
        >>> critic(x, torch.randn(2, 3), batch)
        PairScores(pos=[5], neg=[5, 2], mask=[5, 2], target=[5], weight=[2])
    """

    paired = True

    def __init__(
        self,
        x_channels: int,
        y_channels: int,
        hidden_channels: int = 256,
        critic: str = "separable",
        objective: str = "jsd",
        nu: float = 1.0,
        size_weighted: bool = True,
        base: str | None = None,
    ) -> None:
        super().__init__()
        check_positive_int(x_channels, "x_channels")
        check_positive_int(y_channels, "y_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        widest = max(x_channels, y_channels, hidden_channels)
        check_memory(4 * hidden_channels * widest, "hidden_channels", hidden_channels)
        check_choice(critic, "critic", tuple(HEADS))
        check_objective(objective, nu, ("jsd", "nce"))
        check_choice(size_weighted, "size_weighted", (True, False))
        check_choice(base, "base", (None, "gaussian"))
        self.x_channels = x_channels
        self.y_channels = y_channels
        self.hidden_channels = hidden_channels
        self.critic = critic
        self.objective = objective
        self.nu = nu
        self.size_weighted = size_weighted
        self.norm_x = Standardize(x_channels)
        self.norm_y = Standardize(y_channels)
        self.head: Any = HEADS[critic](x_channels, y_channels, hidden_channels)
        self.calibration = Calibration()
        self.base = GaussianPairBase(x_channels, y_channels) if base == "gaussian" else None

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, and what was fitted to data."""
        self.head.reset_parameters()
        for part in (self.norm_x, self.norm_y, self.calibration, self.base):
            if part is not None:
                part.reset()

    def forward(
        self, x: Tensor, y: Tensor, batch: Tensor | None = None, x_corrupt: Tensor | None = None
    ) -> PairScores:
        r"""Scores all pairs.

        Args:
            x (Tensor): Samples [N, x_channels]: nodes, or one row per graph.
            y (Tensor): Summaries [B, y_channels].
            batch (Tensor, optional): The graph of each row of `x`, sorted, in [0, B). If ``None``,
                row i of `x` belongs to row i of `y`, or all rows to the only one.
                (default: ``None``)
            x_corrupt (Tensor, optional): Corrupted samples [N, x_channels] as negatives in place
                of the other graphs. (default: ``None``)

        Returns:
            PairScores: `pos` [N], `neg` and the boolean `mask` [N, B] ([N, 1] with `x_corrupt`),
            `target` [N] and `weight` [B] ([1]).

        Raises:
            ValueError: If shapes do not fit, values are not finite, or there is only one graph and
                no `x_corrupt`: then no negative pair exists.
            IndexError: If `batch` names a graph beyond the rows of `y`.
        """
        with outermost() as values:
            target, weight = self._check(x, y, batch, x_corrupt, values)
            if x_corrupt is not None:
                pos, neg = self._corrupted(x, x_corrupt, y, target)
                return PairScores(
                    pos,
                    neg.unsqueeze(1),
                    torch.ones_like(neg, dtype=torch.bool).unsqueeze(1),
                    target,
                    neg.new_ones(1),
                )
            y, gy = self._side_y(y)
            return dense_pairs(self._scores(x, y, gy), target, weight)

    def loss(
        self, x: Tensor, y: Tensor, batch: Tensor | None = None, x_corrupt: Tensor | None = None
    ) -> Tensor:
        r"""The training objective on a batch, a scalar to minimise; arguments as in
        :meth:`forward`. Gradients flow to `x` and `y` as well: minimised with respect to an
        encoder, it maximises the mutual information of its outputs."""
        with outermost() as values:
            target, weight = self._check(x, y, batch, x_corrupt, values)
            if x_corrupt is not None:
                pos, neg = self._corrupted(x, x_corrupt, y, target)
                return nce_loss(pos, neg, self.nu)
            total = (weight.sum() - weight[target]).sum().clamp_min(1)
            y, gy = self._side_y(y)

            def part(x: Tensor, target: Tensor, y: Tensor, gy: Tensor) -> Tensor:
                pairs = dense_pairs(self._scores(x, y, gy), target, weight)
                return pair_loss(pairs, self.nu, total)

            chunks = list(self._chunks(x, y, target))
            if len(chunks) == 1:
                return part(x, target, y, gy)
            return torch.stack(
                [checkpoint(part, *chunk, y, gy, use_reentrant=False) for chunk in chunks]
            ).sum()

    @torch.no_grad()
    def estimate(
        self,
        x: Tensor,
        y: Tensor,
        batch: Tensor | None = None,
        x_corrupt: Tensor | None = None,
        readout: str = "classifier",
        clip: float = 5.0,
    ) -> Estimate:
        r"""Reads the mutual information from held-out pairs, in evaluation mode and without
        gradient. The standard error is that over graphs: nodes of one graph are not independent.

        With `x_corrupt` the quantity is :math:`\mathrm{KL}(\text{real} \,\|\, \text{corrupted})`;
        where there is only one graph, its nodes count as independent samples *of that graph*.

        Args:
            x (Tensor): See :meth:`forward`; samples the critic was not trained on.
            y (Tensor): See :meth:`forward`.
            batch (Tensor, optional): See :meth:`forward`. (default: ``None``)
            x_corrupt (Tensor, optional): See :meth:`forward`. (default: ``None``)
            readout (str): ``'classifier'``, ``'dv'``, ``'nwj'``, ``'smile'`` or ``'infonce'``, see
                :func:`pyg_gunet.critic.pair_readout`. (default: ``'classifier'``)
            clip (float): The cut of ``'smile'``. (default: ``5.0``)

        Returns:
            Estimate: Value and standard error in nats.
        """
        with outermost() as values, evaluating(self):
            target, weight = self._check(x, y, batch, x_corrupt, values)
            if x_corrupt is not None:
                pos, neg = self._corrupted(x, x_corrupt, y, target)
                cluster = target if y.size(0) > 1 else None
                read = two_sample_readout(
                    pos, neg, readout, clip=clip, cluster_p=cluster, cluster_q=cluster
                )
                return read._replace(quantity="KL(real || corrupted)")
            y, gy = self._side_y(y)
            return pair_readout(
                (
                    dense_pairs(self._scores(x, y, gy), target, weight)
                    for x, target in self._chunks(x, y, target)
                ),
                readout,
                clip,
            )

    # -- scores ------------------------------------------------------------------------------------

    def _side_y(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, self.head.side_y(self.norm_y(y))

    def _scores(self, x: Tensor, y: Tensor, gy: Tensor) -> Tensor:
        scores = self.head.pairs(self.head.side_x(self.norm_x(x)), gy)
        scores = scores if self.base is None else scores + self.base.pairs(x, y)
        return self.calibration(scores)

    def _corrupted(
        self, x: Tensor, x_corrupt: Tensor, y: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        fx = self.head.side_x(self.norm_x(torch.cat([x, x_corrupt])))
        target = torch.cat([target, target])
        r = self.head.rows(fx, self._side_y(y)[1][target])
        if self.base is not None:
            r = r + self.base.rows(torch.cat([x, x_corrupt]), y[target])
        pos, neg = self.calibration(r).split([x.size(0), x_corrupt.size(0)])
        return pos, neg

    def _chunks(self, x: Tensor, y: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        # A row costs B scores (times the hidden width for 'concat') and its own hidden layers.
        row = max(y.size(0) * self.head.width, self.hidden_channels)
        rows = max(CHUNK // row, 1)
        return zip(x.split(rows), target.split(rows))

    # -- checks ------------------------------------------------------------------------------------

    def _check(
        self,
        x: Tensor,
        y: Tensor,
        batch: Tensor | None,
        x_corrupt: Tensor | None,
        values: bool,
    ) -> tuple[Tensor, Tensor]:
        check_features(x, self.x_channels, values, "x")
        check_features(y, self.y_channels, values, "y")
        check_batch(batch, x.size(0), values)
        check_same_device(x, "x", y=y, batch=batch, x_corrupt=x_corrupt)
        if x_corrupt is not None:
            check_features(x_corrupt, self.x_channels, values, "x_corrupt")
            if x_corrupt.shape != x.shape:
                raise ValueError(
                    f"'x_corrupt' must have the shape of 'x', {list(x.shape)} "
                    f"(got {list(x_corrupt.shape)})"
                )
        elif y.size(0) == 1:
            raise ValueError(
                "'y' holds one graph, so there is no negative pair: give at least two graphs or "
                f"'x_corrupt' (got shape {list(y.shape)})"
            )
        if batch is None:
            if y.size(0) == x.size(0):
                return torch.arange(x.size(0), device=x.device), _ones(y)
            if y.size(0) == 1:
                return x.new_zeros(x.size(0), dtype=torch.long), _ones(y)
            raise ValueError(
                f"'batch' is needed where 'x' and 'y' differ in rows (got {x.size(0)} and "
                f"{y.size(0)})"
            )
        batch = batch.long()
        if values and int(batch[-1]) >= y.size(0):
            raise IndexError(
                f"'batch' must lie in [0, {y.size(0)}) for {y.size(0)} rows of 'y' "
                f"(got {int(batch[-1])})"
            )
        if values and x_corrupt is None and int(batch[0]) == int(batch[-1]):
            raise ValueError(
                f"'batch' puts all nodes into graph {int(batch[0])}, so there is no negative pair: "
                "give at least two graphs or 'x_corrupt'"
            )
        sizes = _ones(y).new_zeros(y.size(0)).index_add_(0, batch, _ones(x))
        return batch, sizes if self.size_weighted else (sizes > 0).to(sizes.dtype)

    # -- data for `fit_critic` ---------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        r"""Fits the input scaling and the Gaussian base to training batches
        ``[(x, y), ...]`` or ``[(x, y, batch), ...]``."""
        xs, ys = [], []
        for x, y, *rest in batches:
            target, _ = self._check(x, y, rest[0] if rest else None, x, False)
            xs.append(x)
            ys.append(y[target])
        x, y = torch.cat(xs), torch.cat(ys)
        self.norm_x.fit(x)
        self.norm_y.fit(y)
        if self.base is not None:
            self.base.fit(x, y)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.x_channels}, {self.y_channels}, "
            f"critic={self.critic!r}, objective={self.objective!r})"
        )


def _ones(x: Tensor) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.ones(x.size(0), dtype=dtype, device=x.device)
