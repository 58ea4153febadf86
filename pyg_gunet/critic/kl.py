"""A classifier that reads the Kullback-Leibler divergence of two samples."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from pyg_gunet.critic.checks import full_precision
from pyg_gunet.critic.network import MLP, Calibration, GaussianBase, Standardize, evaluating
from pyg_gunet.critic.objective import check_nu, dv_loss, infonce_loss, log_mean_exp, nce_loss
from pyg_gunet.critic.readout import Estimate, two_sample_readout
from pyg_gunet.validate import (
    check_choice,
    check_features,
    check_memory,
    check_positive_int,
    check_same_device,
    outermost,
)

# The linear term of the Donsker-Varadhan bound rewards samples of P without end where no sample of
# Q is near; so its log-ratios are held to this range. The other objectives saturate by themselves.
DV_LIMIT = 30.0
OBJECTIVES = ("jsd", "nce", "dv", "infonce")


def check_objective(objective: str, nu: float, choices: tuple[str, ...]) -> None:
    """A known objective, and a noise ratio only where it has one."""
    check_choice(objective, "objective", choices)
    check_nu(nu)
    if objective != "nce" and nu != 1.0:
        raise ValueError(f"'nu' goes with objective='nce' only (got {nu!r} with {objective!r})")


class KLCritic(torch.nn.Module):
    r"""A network :math:`r(x)` trained to tell samples of :math:`P` from samples of :math:`Q`, so
    that :math:`r^* = \log p/q`, :math:`\mathrm{KL}(P\|Q) = \mathbb{E}_P[r^*]` and
    :math:`\mathrm{KL}(Q\|P) = -\mathbb{E}_Q[r^*]`.

    Train it with :func:`fit_critic`, or by :meth:`loss` beside another model, and read it by
    :meth:`estimate` **on samples it was not trained on**.

    Args:
        in_channels (int): Size of each sample.
        hidden_channels (int): Width of the two hidden layers. (default: ``256``)
        objective (str): ``'jsd'`` (logistic), ``'nce'`` (with `nu`), ``'dv'`` (Donsker-Varadhan
            with the moving average of MINE; log-ratios are held to +-30) or ``'infonce'``; the
            log-ratio is the minimum of each. (default: ``'jsd'``)
        nu (float): The noise ratio of ``'nce'``, in (0, 64]. (default: ``1.0``)
        base (str, optional): ``'gaussian'`` makes the network learn the residual of
            :math:`\log \mathcal{N}(x; \mu_p, \Sigma_p) - \log \mathcal{N}(x; \mu_q, \Sigma_q)`,
            with moments from :meth:`prepare` (which :func:`fit_critic` calls). (default: ``None``)

    Shapes:
        - **input:** samples of :math:`P` [n, in_channels], samples of :math:`Q` [m, in_channels]
        - **output:** log-ratios [n] and [m], in nats

    Raises:
        TypeError: If a size is not an int or `nu` is not a number.
        ValueError: If an option is unknown, `nu` is outside (0, 64] or given without ``'nce'``.

    Example:
        >>> critic = KLCritic(2, hidden_channels=16)
        >>> r_p, r_q = critic(torch.randn(5, 2), torch.randn(7, 2))
        >>> r_p.shape, r_q.shape
        (torch.Size([5]), torch.Size([7]))
    """

    paired = False
    log_mean: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 256,
        objective: str = "jsd",
        nu: float = 1.0,
        base: str | None = None,
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        widest = max(in_channels, hidden_channels)
        check_memory(4 * hidden_channels * widest, "hidden_channels", hidden_channels)
        check_objective(objective, nu, OBJECTIVES)
        check_choice(base, "base", (None, "gaussian"))
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.objective = objective
        self.nu = nu
        self.norm = Standardize(in_channels)
        self.net = MLP(in_channels, hidden_channels, 1, zero=True)
        self.calibration = Calibration()
        self.base = GaussianBase(in_channels) if base == "gaussian" else None
        # Moving average of E_Q[e^r], in logs; NaN until the first training batch of 'dv'.
        self.register_buffer("log_mean", torch.tensor(math.nan))

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, and what was fitted to data."""
        self.net.reset_parameters()
        for part in (self.norm, self.calibration, self.base):
            if part is not None:
                part.reset()
        self.log_mean.fill_(math.nan)

    def log_ratio(self, x: Tensor) -> Tensor:
        r"""The log-ratio :math:`r(x)` of samples [n, in_channels], as [n] in float32 or wider."""
        with outermost() as values:
            check_features(x, self.in_channels, values, "x")
            return self._log_ratio(x)

    def _log_ratio(self, x: Tensor) -> Tensor:
        r = full_precision(self.net(self.norm(x)).squeeze(-1))
        r = r if self.base is None else r + self.base(x)
        r = DV_LIMIT * torch.tanh(r / DV_LIMIT) if self.objective == "dv" else r
        return self.calibration(r)

    def forward(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the log-ratios of the samples `p` [n] and `q` [m]."""
        with outermost() as values:
            self._check(p, q, values)
            return self._ratios(p, q)

    def _check(self, p: Tensor, q: Tensor, values: bool) -> None:
        check_features(p, self.in_channels, values, "p")
        check_features(q, self.in_channels, values, "q")
        check_same_device(p, "p", q=q)

    def _ratios(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        r_p, r_q = self._log_ratio(torch.cat([p, q])).split([p.size(0), q.size(0)])
        return r_p, r_q

    def loss(self, p: Tensor, q: Tensor) -> Tensor:
        r"""The training objective on a batch, a scalar to minimise."""
        with outermost() as values:
            self._check(p, q, values)
            r_p, r_q = self._ratios(p, q)
            if self.objective == "infonce":
                return infonce_loss(r_p, r_q)
            if self.objective != "dv":
                return nce_loss(r_p, r_q, self.nu)
            if not (self.training and torch.is_grad_enabled()):
                return dv_loss(r_p, r_q)
            with torch.no_grad():
                batch = log_mean_exp(r_q).to(self.log_mean.dtype)
                mixed = torch.logaddexp(self.log_mean + math.log(0.99), batch + math.log(0.01))
                self.log_mean.copy_(torch.where(self.log_mean.isnan(), batch, mixed))
            return dv_loss(r_p, r_q, self.log_mean.clone())

    @torch.no_grad()
    def estimate(
        self,
        p: Tensor,
        q: Tensor,
        readout: str = "classifier",
        direction: str = "forward",
        clip: float = 5.0,
        cluster_p: Tensor | None = None,
        cluster_q: Tensor | None = None,
    ) -> Estimate:
        r"""Reads the divergence from held-out samples, in evaluation mode and without gradient.

        Args:
            p (Tensor): Samples of :math:`P` the critic was not trained on, [n, in_channels].
            q (Tensor): Samples of :math:`Q` the critic was not trained on, [m, in_channels].
            readout (str): ``'classifier'``, ``'dv'``, ``'nwj'``, ``'smile'`` or ``'infonce'``, see
                :func:`pyg_gunet.critic.two_sample_readout`.
                (default: ``'classifier'``)
            direction (str): ``'forward'`` :math:`\mathrm{KL}(P\|Q)`, ``'reverse'``
                :math:`\mathrm{KL}(Q\|P)` or ``'jeffreys'``, their sum. (default: ``'forward'``)
            clip (float): The cut of ``'smile'``. (default: ``5.0``)
            cluster_p (Tensor, optional): Cluster ids [n], where samples of one cluster (nodes of
                one graph, say) depend on each other. (default: ``None``)
            cluster_q (Tensor, optional): Cluster ids [m]. (default: ``None``)

        Returns:
            Estimate: Value and standard error in nats.
        """
        with outermost() as values, evaluating(self):
            self._check(p, q, values)
            r_p, r_q = self._ratios(p, q)
            return two_sample_readout(r_p, r_q, readout, direction, clip, cluster_p, cluster_q)

    def selection_loss(self, p: Tensor, q: Tensor) -> Tensor:
        r"""The loss on held-out samples by which :func:`fit_critic` selects weights: the logistic
        one for ``'dv'`` and ``'infonce'`` too. It has the same minimum, and does not hang on the
        largest of a few exponentials."""
        with outermost() as values:
            self._check(p, q, values)
            return nce_loss(*self._ratios(p, q), self.nu)

    def penalty(self, z: Tensor) -> Tensor:
        r"""The estimated :math:`\mathrm{KL}(P\|Q) \approx \mathbb{E}_P[r(z)]` of samples `z`
        [n, in_channels] of :math:`P`, a scalar that pulls them towards :math:`Q`: gradients reach
        `z`, but not the weights of the critic, which minimises :meth:`loss` instead."""
        with outermost() as values:
            check_features(z, self.in_channels, values, "z")
            # A copy that shares detached weights: the critic itself, which may be in another loss
            # or thread meanwhile, is not touched; `functional_call` would swap its parameters.
            shared = {id(p): p.detach() for p in self.parameters()}
            shared.update((id(b), b) for b in self.buffers())
            return copy.deepcopy(self, shared)._log_ratio(z).mean()

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        r"""Fits the input scaling and the Gaussian base to training batches ``[(p, q), ...]``."""
        p, q = (torch.cat(part) for part in zip(*batches))
        self.norm.fit(torch.cat([p, q]))
        if self.base is not None:
            self.base.fit(p, q)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"objective={self.objective!r})"
        )
