"""Networks of the critics, and the Gaussian log-ratio they may start from."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.critic.checks import full_precision, no_autocast

# Added to the diagonal of a fitted correlation matrix: a constant or repeated channel stays legal.
JITTER = 1e-4


class evaluating:
    """Puts a module into evaluation mode for a while; each submodule gets its own mode back."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()

    def __exit__(self, *exc: Any) -> None:
        for module, training in self.modes:
            module.training = training


class Standardize(torch.nn.Module):
    """Shifts and scales each channel by buffers: the identity until :meth:`fit` is called."""

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def reset(self) -> None:
        """Back to the identity."""
        self.shift.zero_()
        self.scale.fill_(1.0)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Takes mean and deviation from the rows of `x`; constant channels keep their scale."""
        x = x.detach().to(self.shift.dtype)
        std = x.std(0, unbiased=False)
        self.shift.copy_(x.mean(0))
        self.scale.copy_(torch.where(std > 1e-12, std, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        # The weights' dtype comes out, whatever goes in; the difference is taken in the wider one.
        return ((x - self.shift) / self.scale).to(self.shift.dtype)


class Calibration(torch.nn.Module):
    """slope * r + offset, two buffers that :func:`fit_critic` sets on held-out data (Platt)."""

    slope: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def reset(self) -> None:
        """Back to the identity."""
        self.slope.fill_(1.0)
        self.offset.zero_()

    def forward(self, r: Tensor) -> Tensor:
        return self.slope * r + self.offset


class MLP(torch.nn.Module):
    """Two hidden layers beside a linear map. The last layers start at zero where `zero`."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, zero: bool) -> None:
        super().__init__()
        self.lin1 = torch.nn.Linear(in_channels, hidden)
        self.lin2 = torch.nn.Linear(hidden, hidden)
        self.lin3 = torch.nn.Linear(hidden, out_channels)
        self.skip = torch.nn.Linear(in_channels, out_channels, bias=False)
        self.zero = zero
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for lin in (self.lin1, self.lin2, self.lin3, self.skip):
            lin.reset_parameters()
        if self.zero:
            for weight in (self.lin3.weight, self.lin3.bias, self.skip.weight):
                torch.nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.lin2(F.silu(self.lin1(x))))
        return self.lin3(h) + self.skip(x)


class SeparableHead(torch.nn.Module):
    """f(x)^T g(y) + a(x) + b(y): one matrix product for all pairs."""

    width = 1

    def __init__(self, x_channels: int, y_channels: int, hidden: int) -> None:
        super().__init__()
        # The last column of either side is its own term, a(x) and b(y).
        self.net_x = MLP(x_channels, hidden, hidden + 1, zero=False)
        self.net_y = MLP(y_channels, hidden, hidden + 1, zero=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.net_x.reset_parameters()
        self.net_y.reset_parameters()
        with torch.no_grad():  # a(x) = 0 as well, so that training starts from r = 0
            self.net_x.lin3.weight[-1].zero_()
            self.net_x.lin3.bias[-1].zero_()
            self.net_x.skip.weight[-1].zero_()

    def side_x(self, x: Tensor) -> Tensor:
        return full_precision(self.net_x(x))

    def side_y(self, y: Tensor) -> Tensor:
        return full_precision(self.net_y(y))

    def pairs(self, fx: Tensor, gy: Tensor) -> Tensor:
        with no_autocast(fx):
            return fx[:, :-1] @ gy[:, :-1].T + fx[:, -1:] + gy[:, -1]

    def rows(self, fx: Tensor, gy: Tensor) -> Tensor:
        return (fx[:, :-1] * gy[:, :-1]).sum(-1) + fx[:, -1] + gy[:, -1]


class BilinearHead(torch.nn.Module):
    """x^T W y + b, the discriminator of Deep Graph Infomax."""

    width = 1

    def __init__(self, x_channels: int, y_channels: int, hidden: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(y_channels, x_channels))
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def side_x(self, x: Tensor) -> Tensor:
        return x

    def side_y(self, y: Tensor) -> Tensor:
        with no_autocast(y):
            return y.to(self.weight.dtype) @ self.weight

    def pairs(self, fx: Tensor, gy: Tensor) -> Tensor:
        with no_autocast(fx):
            return fx.to(gy.dtype) @ gy.T + self.bias

    def rows(self, fx: Tensor, gy: Tensor) -> Tensor:
        return (fx * gy).sum(-1) + self.bias


class ConcatHead(torch.nn.Module):
    """An MLP of (x, y): the most general, and one forward pass per pair."""

    def __init__(self, x_channels: int, y_channels: int, hidden: int) -> None:
        super().__init__()
        self.width = hidden
        self.lin_x = torch.nn.Linear(x_channels, hidden)
        self.lin_y = torch.nn.Linear(y_channels, hidden, bias=False)
        self.lin2 = torch.nn.Linear(hidden, hidden)
        self.lin3 = torch.nn.Linear(hidden, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for lin in (self.lin_x, self.lin_y, self.lin2):
            lin.reset_parameters()
        torch.nn.init.zeros_(self.lin3.weight)
        torch.nn.init.zeros_(self.lin3.bias)

    def side_x(self, x: Tensor) -> Tensor:
        return self.lin_x(x)

    def side_y(self, y: Tensor) -> Tensor:
        return self.lin_y(y)

    def pairs(self, fx: Tensor, gy: Tensor) -> Tensor:
        return self.rows(fx.unsqueeze(1), gy)

    def rows(self, fx: Tensor, gy: Tensor) -> Tensor:
        return full_precision(self.lin3(F.silu(self.lin2(F.silu(fx + gy)))).squeeze(-1))


HEADS = {"separable": SeparableHead, "bilinear": BilinearHead, "concat": ConcatHead}


class GaussianBase(torch.nn.Module):
    r"""log N(z; mu_p, S_p) - log N(z; mu_q, S_q) with moments fitted by :meth:`fit`; 0 before."""

    mean_p: Tensor
    mean_q: Tensor
    prec_p: Tensor
    prec_q: Tensor
    offset: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for side in ("p", "q"):
            self.register_buffer(f"mean_{side}", torch.zeros(channels))
            self.register_buffer(f"prec_{side}", torch.eye(channels))
        self.register_buffer("offset", torch.zeros(()))

    def reset(self) -> None:
        """Back to a log-ratio of zero."""
        for side in ("p", "q"):
            getattr(self, f"mean_{side}").zero_()
            prec = getattr(self, f"prec_{side}")
            prec.copy_(torch.eye(len(prec)))
        self.offset.zero_()

    @torch.no_grad()
    def fit(self, p: Tensor, q: Tensor) -> None:
        """Takes means and covariances from the rows of `p` and of `q`."""
        logdet = []
        for side, z in (("p", p), ("q", q)):
            mean, prec, half = moments(z)
            getattr(self, f"mean_{side}").copy_(mean)
            getattr(self, f"prec_{side}").copy_(prec)
            logdet.append(half)
        self.offset.copy_(logdet[1] - logdet[0])

    def forward(self, z: Tensor) -> Tensor:
        with no_autocast(z):
            z = z.to(self.mean_p.dtype)
            a, b = z - self.mean_p, z - self.mean_q
            return self.offset - 0.5 * (
                ((a @ self.prec_p) * a).sum(-1) - ((b @ self.prec_q) * b).sum(-1)
            )


class GaussianPairBase(torch.nn.Module):
    r"""log N(x, y) - log N(x) - log N(y) with moments fitted by :meth:`fit`; 0 before.

    Quadratic in (x, y), so that all pairs cost one matrix product.
    """

    mean: Tensor
    quad_x: Tensor
    quad_y: Tensor
    cross: Tensor
    offset: Tensor

    def __init__(self, x_channels: int, y_channels: int) -> None:
        super().__init__()
        self.x_channels = x_channels
        self.register_buffer("mean", torch.zeros(x_channels + y_channels))
        self.register_buffer("quad_x", torch.zeros(x_channels, x_channels))
        self.register_buffer("quad_y", torch.zeros(y_channels, y_channels))
        self.register_buffer("cross", torch.zeros(x_channels, y_channels))
        self.register_buffer("offset", torch.zeros(()))

    def reset(self) -> None:
        """Back to a log-ratio of zero."""
        for buffer in self.buffers():
            buffer.zero_()

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> None:
        """Takes the joint moments from rows of positive pairs."""
        cut = self.x_channels
        mean, prec, half = moments(torch.cat([x, y], dim=1))
        _, prec_x, half_x = moments(x)
        _, prec_y, half_y = moments(y)
        self.mean.copy_(mean)
        self.quad_x.copy_(prec[:cut, :cut] - prec_x)
        self.quad_y.copy_(prec[cut:, cut:] - prec_y)
        self.cross.copy_(prec[:cut, cut:])
        self.offset.copy_(half_x + half_y - half)

    def _terms(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x.to(self.mean.dtype) - self.mean[: self.x_channels]
        y = y.to(self.mean.dtype) - self.mean[self.x_channels :]
        own_x = self.offset - 0.5 * ((x @ self.quad_x) * x).sum(-1)
        own_y = -0.5 * ((y @ self.quad_y) * y).sum(-1)
        return x @ self.cross, y, own_x, own_y

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        with no_autocast(x):
            crossed, y, own_x, own_y = self._terms(x, y)
            return own_x.unsqueeze(1) + own_y - crossed @ y.T

    def rows(self, x: Tensor, y: Tensor) -> Tensor:
        with no_autocast(x):
            crossed, y, own_x, own_y = self._terms(x, y)
            return own_x + own_y - (crossed * y).sum(-1)


def moments(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, precision matrix and half the log-determinant of the covariance of the rows of `z`."""
    z = z.detach()
    z = z.double() if z.device.type != "mps" else z.float()
    mean = z.mean(0)
    centred = z - mean
    cov = centred.T @ centred / max(len(z) - 1, 1)
    variance = cov.diagonal().clamp_min(1e-12)
    cov = cov + JITTER * variance.diag()
    tril = torch.linalg.cholesky(cov)
    prec = torch.cholesky_inverse(tril)
    half = tril.diagonal().log().sum()
    assert math.isfinite(float(half))
    return mean, prec, half
