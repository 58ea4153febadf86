"""Two densities of one log-ratio: which to believe how much, and what their dispute tells."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.critic.density import Density
from pyg_gunet.critic.objective import nce_loss
from pyg_gunet.critic.readout import wide

# Shares of the first side that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Side(NamedTuple):
    """log q(y | x) - log q(y), or where `flip` log q(x | y) - log q(x): the same in truth."""

    given: Density
    alone: Density
    flip: bool

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """[n] of rows of x and y."""
        x, y = (y, x) if self.flip else (x, y)
        return self.given(x, y) - self.alone(x[:, :0], y)

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """What the regression leaves of the side that the density is of."""
        return self.given.residual(*((y, x) if self.flip else (x, y)))


class Stack:
    r"""The mean of log-ratios with shares that held-out pairs choose (Smyth & Wolpert 1999),

    .. math::
        r = \sum_k w_k r_k + a, \qquad
        a = \sum_k w_k \log \mathbb{E}_Q[e^{r_k}] - \log \mathbb{E}_Q[e^{\sum_k w_k r_k}] \ge 0 .

    The mean of logarithms is no density until `a` is added, and reads `a` nats more than its parts
    on average: the ambiguity decomposition of ensembles (Krogh & Vedelsby 1995) in the divergence.
    As far as the parts err independently, `a` is what the mean itself still falls short by, too.

    Args:
        sides (List[Side]): One or two.
        x (Tensor): Held-out samples [n, .].
        y (Tensor): Their partners.
        negatives (Tuple[Tensor, Tensor]): Pairs of the same with others' partners.
    """

    def __init__(
        self, sides: list[Side], x: Tensor, y: Tensor, negatives: tuple[Tensor, Tensor]
    ) -> None:
        self.sides, self.lost = sides, 0.0
        self.shares: tuple[float, ...] = (1.0,)
        if len(sides) < 2:
            return
        with torch.no_grad():
            r_p = torch.stack([wide(side.log_ratio(x, y)) for side in sides])
            r_q = torch.stack([wide(side.log_ratio(*negatives)) for side in sides])
        best = math.inf
        own = r_q.logsumexp(1)
        for share in SHARES:
            w = torch.tensor([share, 1 - share]).to(r_p)
            lost = w @ own - (w @ r_q).logsumexp(0)
            loss = float(nce_loss(w @ r_p + lost, w @ r_q + lost))
            if loss < best:
                best, self.shares, self.lost = loss, (share, 1 - share), float(lost)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """[n] of rows of x and y."""
        parts = [w * side.log_ratio(x, y) for w, side in zip(self.shares, self.sides) if w > 0]
        return torch.stack(parts).sum(0) + self.lost
