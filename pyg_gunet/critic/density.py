"""A conditional density that starts as the linear-Gaussian regression and is trained from there."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.critic.network import MLP, Standardize

# No component narrower than this share of the linear residual's deviation; and a Cauchy density of
# this weight under every mixture, or one sample between two components would decide the reading.
NARROWEST, BACKGROUND = 0.03, 0.005
# Boxes per mixture, how soft their edges are at the least, and the logit that each starts from.
BOXES, SHARPEST, BOX_START = 2, 0.01, -4.0


class Density(torch.nn.Module):
    r"""The density of y given x by the chain rule (Uria et al. 2016),

    .. math::
        \log q(y | x) = \sum_j \log \sum_k \pi_{jk} \, \mathcal{N}(e_j; \mu_{jk}, \sigma_{jk}^2)
        + \log |W|, \qquad e = W (y - A x - b),

    with A, b and the lower triangular W of the least-squares regression of y on x, kept in float64,
    and one network per coordinate that maps x and the earlier coordinates of e to a mixture. As e
    is of unit size whatever is left of y given x, a narrow density costs no precision. Beside the
    normals the mixture holds boxes, flat between two edges,
    :math:`\big(\sigma(\frac{e - a}{s}) - \sigma(\frac{e - b}{s})\big) / (b - a)`, which bells blur.
    Before the first step the mixture is a standard normal, nearly.

    Args:
        x_channels (int): Size of x; 0 for a density of y alone.
        y_channels (int): Size of y.
        hidden_channels (int): Width of the two hidden layers. (default: ``64``)
        components (int): Normals per mixture. (default: ``8``)
    """

    paired = True
    slope: Tensor
    whiten: Tensor
    mask: Tensor

    def __init__(
        self, x_channels: int, y_channels: int, hidden_channels: int = 64, components: int = 8
    ) -> None:
        super().__init__()
        self.y_channels = y_channels
        wide = torch.float64
        self.register_buffer("slope", torch.zeros(x_channels + 1, y_channels, dtype=wide))
        self.register_buffer("whiten", torch.eye(y_channels, dtype=wide))
        # Beside x and the earlier e their lengths: where a common scale or an angle lives.
        channels = x_channels + 1 + y_channels + 1
        # Of each normal its logit, mean and width; of each box logit, centre, half its width, edge.
        self.parts = [components] * 3 + [BOXES] * 4
        sizes = [channels, hidden_channels, hidden_channels, sum(self.parts)]
        self.weights = torch.nn.ParameterList(
            torch.empty(y_channels, a, b) for a, b in zip(sizes, sizes[1:])
        )
        self.biases = torch.nn.ParameterList(torch.empty(y_channels, 1, b) for b in sizes[1:])
        mask = torch.ones(y_channels, channels, 1)
        mask[:, x_channels + 1 : -1, 0] = torch.ones(y_channels, y_channels).tril(-1)
        self.register_buffer("mask", mask)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters; what was fitted to data goes, too."""
        for weight, bias in zip(self.weights, self.biases):
            bound = weight.size(1) ** -0.5
            weight.uniform_(-bound, bound)
            bias.uniform_(-bound, bound)
        self.weights[-1].zero_()
        logit, mean, log_std, *boxes = self.biases[-1].split(self.parts, dim=-1)
        logit.zero_()
        # Means apart, or all components would learn the same; the widths make the variance one.
        mean.copy_(torch.linspace(-0.6, 0.6, mean.size(-1)).expand_as(mean))
        log_std.fill_(0.5 * math.log(1 - float(mean[0].square().mean())))
        for part, value in zip(boxes, (BOX_START, torch.linspace(-0.5, 0.5, BOXES), 0.5, -1.5)):
            part[:] = value
        self.slope.zero_()
        self.whiten.copy_(torch.eye(self.y_channels))

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The whitened residuals e [n, y_channels] of the linear regression."""
        x, y = x.double(), y.double()
        return (y - x @ self.slope[:-1] - self.slope[-1]) @ self.whiten.T

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The log-density [n] of `y` [n, y_channels] given `x` [n, x_channels]."""
        wide = self.residual(x, y)
        e = wide.to(self.weights[0].dtype)
        x, seen = x.to(e.dtype), e.clamp(-5, 5)
        own = torch.cat([x, 0.5 * x.square().sum(1, keepdim=True), seen], dim=1)
        length = seen.square().cumsum(1) - seen.square()  # of the earlier coordinates
        h = torch.cat([own.expand(self.y_channels, -1, -1), 0.5 * length.T.unsqueeze(-1)], dim=-1)
        h = torch.baddbmm(self.biases[0], h, self.weights[0] * self.mask)
        h = torch.baddbmm(self.biases[1], F.silu(h), self.weights[1])
        h = torch.baddbmm(self.biases[2], F.silu(h), self.weights[2])
        logit, mean, log_std, *boxes = h.split(self.parts, dim=-1)
        log_std = log_std.clamp_min(math.log(NARROWEST))
        z = (e.T.unsqueeze(-1) - mean) * (-log_std).exp()
        bells = logit - log_std - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
        logit_box, centre, log_half, log_soft = boxes
        soft, half = log_soft.exp() + SHARPEST, log_half.exp() + SHARPEST
        off = e.T.unsqueeze(-1) - centre
        # sigmoid(a) - sigmoid(-b), over its width: flat between two edges.
        a, b = (half + off) / soft, (half - off) / soft
        flat = F.logsigmoid(a) + F.logsigmoid(b) + (-(-(a + b)).expm1()).log() - (2 * half).log()
        part = torch.cat([bells, logit_box + flat], dim=-1)
        mixture = part.logsumexp(-1) - torch.cat([logit, logit_box], dim=-1).logsumexp(-1)
        mixture = mixture + math.log1p(-BACKGROUND)
        tail = math.log(BACKGROUND / math.pi) - e.T.square().log1p()
        log_q = torch.logaddexp(mixture, tail).sum(0)
        return log_q + self.whiten.diagonal().log().sum().to(log_q.dtype)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The negative log-likelihood, a scalar to minimise."""
        return -self(x, y).mean()

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        r"""Fits the regression to training batches ``[(x, y), ...]``."""
        x, y = (torch.cat(part).double() for part in zip(*batches))
        design = torch.cat([x, torch.ones_like(y[:, :1])], dim=1)
        # The driver for designs of any rank is one of the CPU's alone.
        self.slope.copy_(torch.linalg.lstsq(design.cpu(), y.cpu(), driver="gelsd").solution)
        left = y - design @ self.slope
        cov = left.T @ left / max(len(y) - design.size(1), 1)
        # A floor where y is a function of x, and where channels repeat.
        floor = 1e-12 * y.var(0).clamp_min(1e-12) + 1e-8 * cov.diagonal()
        tril = torch.linalg.cholesky(cov + floor.diag())
        eye = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
        self.whiten.copy_(torch.linalg.solve_triangular(tril, eye, upper=False))


class Classes(torch.nn.Module):
    """log q(y | x) - log q(y) of class labels y: a softmax that starts from the classes' shares."""

    paired = True
    log_share: Tensor

    def __init__(self, x_channels: int, classes: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm = Standardize(x_channels)
        self.net = MLP(x_channels, hidden_channels, classes, zero=True)
        self.register_buffer("log_share", torch.zeros(classes))

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters; what was fitted to data goes, too."""
        self.net.reset_parameters()
        self.norm.reset()
        self.log_share.zero_()

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The log-ratio [n] of `x` [n, x_channels] and labels `y` [n]."""
        logits = self.net(self.norm(x)) + self.log_share
        return (logits.log_softmax(-1) - self.log_share).gather(1, y.unsqueeze(1)).squeeze(1)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The cross-entropy less that of the shares, a scalar to minimise."""
        return -self.log_ratio(x, y).mean()

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        r"""Takes the shares of the classes and the scale of x."""
        x, y = (torch.cat(part) for part in zip(*batches))
        self.norm.fit(x)
        counts = torch.bincount(y, minlength=len(self.log_share)) + 0.5
        self.log_share.copy_((counts / counts.sum()).log())


class Normalize:
    """Makes every coordinate normal, by a continuous, increasing map that samples determine.

    Knots lie at equal steps of the normal score; between them the map is linear in ``asinh`` of
    the coordinate, so what is finer than the samples' spacing survives, unlike with ranks.

    Args:
        x (Tensor): Samples [n, d].
    """

    def __init__(self, x: Tensor) -> None:
        x = x.double()
        n = len(x)
        low, self.shift, high = x.quantile(torch.tensor([0.25, 0.5, 0.75]).to(x), dim=0)
        spread = (high - low) / 1.349
        spread = torch.where(spread > 0, spread, x.std(0))
        self.scale = torch.where(spread > 0, spread, torch.ones_like(spread))
        u = ((x - self.shift) / self.scale).asinh().sort(0).values
        z = torch.special.ndtri((torch.arange(n, dtype=u.dtype, device=u.device) + 0.5) / n)
        # Bin means at both ends of a knot, as single order statistics scatter.
        edges = torch.special.ndtr(torch.linspace(-2.6, 2.6, max(min(24, n // 40), 2)).to(u))
        cuts = torch.unique(torch.cat([(edges * n).long(), torch.tensor([0, n]).to(edges.device)]))
        sizes = cuts.diff()
        bins = torch.arange(len(sizes), device=u.device).repeat_interleave(sizes)
        knots = u.new_zeros(len(sizes), u.size(1)).index_add_(0, bins, u) / sizes.unsqueeze(1)
        self.to = u.new_zeros(len(sizes)).index_add_(0, bins, z) / sizes
        # Where values repeat, knots would meet: a small slope keeps the map one-to-one.
        self.knots = knots + 1e-6 * self.to.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        u = ((x.double() - self.shift) / self.scale).asinh()
        right = torch.searchsorted(self.knots.T.contiguous(), u.T.contiguous())
        right = right.clamp(1, len(self.knots) - 1).T
        low, high = self.knots.gather(0, right - 1), self.knots.gather(0, right)
        a, b = self.to[right - 1], self.to[right]
        return a + (b - a) * (u - low) / (high - low)


class Rescale:
    """Coordinates of mean zero and variance one, else as they are: what is flat with an edge stays
    so, where normal scores would bend it.

    Args:
        x (Tensor): Samples [n, d].
    """

    def __init__(self, x: Tensor) -> None:
        x = x.double()
        self.mean, std = x.mean(0), x.std(0)
        self.std = torch.where(std > 0, std, torch.ones_like(std))

    def __call__(self, x: Tensor) -> Tensor:
        return (x.double() - self.mean) / self.std
