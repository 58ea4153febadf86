"""What of an auto-encoder is fitted without a gradient, before training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MLP, Linear

from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.base import LevelModel
from pyg_gunet.nn.interpolant import Steps

# What `calibrate` chooses from: wider averages take more steps to fit.
STEPS = (Steps(), Steps(0, 0, 2), Steps(2, 0, 4), Steps(4, 0, 8), Steps(4, 2, 8), Steps(6, 3, 8))


class Calibrated(LevelModel):
    """A linear path whose fixed part is fitted, and the scales of what is learned beside it; see
    :class:`~pyg_gunet.nn.autoencoder.GraphUNetAutoEncoder`."""

    latent_channels: int
    axes: Tensor
    latent_scale: Tensor
    out_scale: Tensor
    path_steps: Tensor
    lin_in: Linear
    lin_out: Linear
    lin_latent: Linear
    head: MLP
    _read: tuple[Tensor, int, Steps] | None

    @torch.no_grad()
    def calibrate(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> float:
        r"""Fits what needs no gradient, before training.

        - Where `z` is narrower than the features the path's maps become the principal axes of `x`.
        - With ``lift='interpolate'`` the path averages along the edges after each prolongation, and
          its latent is fitted to all nodes in a few steps, where it was what kept nodes hold
          (:class:`~pyg_gunet.nn.interpolant.Interpolant`): so often as leaves least of `x`.
        - What the networks add is from then on measured in what the path leaves over, so that a
          first step of a usual learning rate does not lose it; where that is next to nothing, 1e-6
          of what there is or ten roundings of its dtype, in 1.

        Arguments as in :meth:`encode`. :meth:`reset_parameters` takes it back.

        Returns:
            float: The mean squared error of the path.

        Raises:
            RuntimeError: If something beside the path has learned already.
            ValueError, TypeError, IndexError: As :meth:`encode`.
        """
        if not self.untrained:
            raise RuntimeError(
                "'calibrate' goes before training: what is learned is measured in its scales "
                "(got trained weights); 'reset_parameters' starts anew"
            )
        modes = {module: module.training for module in self.modules()}
        self.eval()  # no dropout, no running mean that moves
        try:
            return self._calibrate(x, edge_index, batch, edge_weight)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _calibrate(self, x: Tensor, *graph: Any) -> float:
        self(x, *graph)  # checks, before anything changes
        size, wide = self.latent_channels, x.double()
        if size < self.in_channels:
            axes = torch.linalg.eigh(wide.T @ wide / x.size(0)).eigenvectors[:, -size:].T
            self.axes.copy_(axes)
        tried: dict[float, tuple[Tensor, Steps]] = {}
        for steps in STEPS if self.unpool.lift == "interpolate" else STEPS[:1]:
            self.path_steps.copy_(torch.tensor(steps))
            left = self(x, *graph).double() - wide
            tried.setdefault(float(left.square().mean()), (left, steps))
        error = min(tried)
        left, steps = tried[error]
        self.path_steps.copy_(torch.tensor(steps))
        left, held = (part.square().mean(0).sqrt() for part in (left, wide))
        least = max(1e-6, 10 * torch.finfo(x.dtype).eps)  # less than that is rounding
        self.out_scale.copy_(left.where(left > least * held, 1.0))
        enough = error**0.5 > least * float(held.square().mean().sqrt())
        self.latent_scale[: min(size, self.in_channels)] = error**0.5 if enough else 1.0
        return error

    @property
    def untrained(self) -> bool:
        """Whether nothing beside the linear path has learned yet."""
        last = (self.lin_in, self.lin_out, self.lin_latent, self.head.lins[-1])
        return not any(bool(p.any()) for module in last for p in module.parameters())

    @property
    def steps(self) -> Steps:
        """How the path averages and fits, off its buffer, which any copy of the model takes along;
        read again only where that has changed."""
        buffer = self.path_steps
        if self.unpool.lift != "interpolate" or buffer.is_meta:
            return Steps()
        version = 0 if buffer.is_inference() else buffer._version
        if self._read is None or self._read[0] is not buffer or self._read[1] != version:
            self._read = buffer, version, Steps(*buffer.tolist())
        return self._read[2]
