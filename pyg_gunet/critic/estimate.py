"""Divergence and mutual information of samples in one call: trained, cross-fitted, self-judging."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.critic.density import Classes, Density, Normalize
from pyg_gunet.critic.fit import FitResult, fit_critic
from pyg_gunet.critic.kl import KLCritic
from pyg_gunet.critic.mutual_information import MutualInformationCritic
from pyg_gunet.critic.network import evaluating
from pyg_gunet.critic.readout import Estimate, Trace, judge, wide
from pyg_gunet.critic.sampling import Sampler
from pyg_gunet.validate import (
    INDEX_DTYPES,
    check_batch,
    check_features,
    check_generator,
    check_number,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)

# Negatives per pair; held-out share by which training stops; floor of a density's log-ratio, where
# the classifier on top of it still has something to learn.
SHUFFLES, VAL_RATIO, FLOOR = 16, 0.2, -15.0
# Beyond so many deviations of Q its density is the tail that it was given, not what samples show.
FAR = 4.5


def estimate_kl(
    p: Tensor,
    q: Tensor,
    *,
    cluster_p: Tensor | None = None,
    cluster_q: Tensor | None = None,
    folds: int = 4,
    steps: int = 1000,
    hidden_channels: int = 64,
    time_limit: float = 60.0,
    progress: Callable[[str], None] | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(P \| Q)` of two samples.

    As :func:`estimate_mi`: a density of P and one of Q (each starts as the normal of its moments
    and is trained from there), and a classifier of P against Q on top of the ratio of the two.

    Args:
        p (Tensor): Samples of :math:`P`, [n, d] or [n].
        q (Tensor): Samples of :math:`Q`, [m, d] or [m].
        cluster_p (Tensor, optional): A cluster id per sample of :math:`P`; samples of one cluster
            may depend on each other. (default: ``None``, independent)
        cluster_q (Tensor, optional): The same for :math:`Q`; one id means one cluster on both
            sides. Give both or none. (default: ``None``)
        folds (int): See :func:`estimate_mi`, as for the rest. (default: ``4``)
        steps (int): (default: ``1000``)
        hidden_channels (int): (default: ``64``)
        time_limit (float): In seconds. (default: ``60.0``)
        progress (Callable, optional): (default: ``None``)
        generator (torch.Generator, optional): (default: ``None``, the global one)

    Returns:
        Estimate: Value and standard error in nats, and the reasons not to believe them.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If samples do not fit each other, are not finite, or fewer than 2 per fold.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> estimate = estimate_kl(torch.randn(1000) + 1, torch.randn(1000), steps=200)
        >>> round(float(estimate), 1), estimate.reliable  # truth 0.5
        (0.5, True)
    """
    if (cluster_p is None) != (cluster_q is None):
        raise ValueError("'cluster_p' and 'cluster_q' must be given together (got one)")
    with outermost() as values:
        p, q = _columns(p, "p", values), _columns(q, "q", values)
        check_features(q, p.size(1), values, "q")
        check_same_device(p, "p", q=q)
        if cluster_p is None or cluster_q is None:
            cluster_p, cluster_q = torch.arange(len(p) + len(q)).split([len(p), len(q)])
        run = _Run((p, q), False, (cluster_p, cluster_q), folds, steps, time_limit, generator)
        run.settings(hidden_channels, progress)
        for fold in range(folds):
            seen_by, held, ids = run.split(fold)
            parts = Sampler(seen_by, False, run.left, generator).split(VAL_RATIO)
            both = torch.cat(seen_by).double()
            shift, scale = both.mean(0), both.std(0).clamp_min(1e-12)

            def scaled(x: Tensor, shift: Tensor = shift, scale: Tensor = scale) -> Tensor:
                return (x.double() - shift) / scale

            densities = []
            for side in (0, 1):
                z, val = scaled(parts[0][side]), scaled(parts[1][side])
                density = Density(0, z.size(1), hidden_channels)
                run.fit("PQ"[side], density, (z[:, :0], z), (val[:, :0], val), 512)
                densities.append(density)
            of_p, of_q = densities

            def rows(x: Tensor, of_p: Density = of_p, of_q: Density = of_q) -> Tensor:
                z, none = scaled(x), x[:, :0]
                log_ratio = of_p(none, z) - of_q(none, z)
                whitened = [d.residual(none, z).asinh() for d in (of_p, of_q)]
                return _with_base([z, *whitened], log_ratio)

            train, stop = (tuple(_eval(rows, x) for x in part) for part in parts)
            critic = run.residual(train, stop)
            r = [_eval(critic.log_ratio, _eval(rows, x)) for x in held]
            seen = _eval(critic.log_ratio, train[0]).double().mean()
            far = of_q.residual(held[0][:, :0], scaled(held[0])).abs().amax(1) > FAR
            run.far.append(float(far.double().mean()))
            run.read(fold, r[0], r[1], ids[0], [ids[1]], float(seen))
        return run.estimate("KL(P || Q)", p.size(1))


def estimate_mi(
    x: Tensor,
    y: Tensor,
    batch: Tensor | None = None,
    *,
    cluster: Tensor | None = None,
    folds: int = 4,
    steps: int = 1000,
    hidden_channels: int = 64,
    time_limit: float = 60.0,
    progress: Callable[[str], None] | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""The mutual information of paired samples, of nodes and their graphs, or of labels and
    embeddings.

    **Pairs.** :math:`\log \frac{p(x, y)}{p(x) p(y)} = \log q(y | x) - \log q(y) + s(x, y)`: two
    densities that start as normal ones, and a classifier of pairs against shuffled pairs on top,
    each stopped by held-out likelihood, so that every part takes over only where it predicts
    better than what stands without it. The densities have no ceiling at ln n, the classifier sees
    what a mixture of normals misses. Every coordinate is made normal first, which keeps the
    information.
    **Labels**, an integer `y` (or `x`): a classifier :math:`q(y | x)` against the shares of the
    classes. **Nodes and graphs**, with `batch`, and samples that repeat (features of few
    values): a :class:`MutualInformationCritic` on a Gaussian base.

    Every pair is read by the fold that was not trained on it. Training reads too much and held-out
    samples too little, by as much in the limit (Akaike 1974), so the value stands between the
    two; half their distance, the share of :math:`\log \mathbb{E}_Q[e^r]` that samples cannot tell
    and the spread of the folds go into the error.

    Args:
        x (Tensor): Samples [n, d] or [n]; nodes [N, d] with `batch`; integers [n] are labels.
        y (Tensor): Their partners [n, d] or [n]; graphs [B, d] with `batch`; integers [n] are
            labels.
        batch (Tensor, optional): The graph of each row of `x`, sorted, in [0, B).
            (default: ``None``, row i belongs to row i)
        cluster (Tensor, optional): A cluster id per row of `y`: rows of one cluster may depend on
            each other. (default: ``None``, independent)
        folds (int): How many parts the samples are cut into; each is read by what the others
            trained. (default: ``4``)
        steps (int): Training steps at most, per part. (default: ``1000``)
        hidden_channels (int): Width of the hidden layers. (default: ``64``)
        time_limit (float): Training ends after so many seconds, with what it has.
            (default: ``60.0``)
        progress (Callable, optional): Called with a line of text at every evaluation, ``print`` for
            one. (default: ``None``)
        generator (torch.Generator, optional): Source of folds, minibatches and shuffles, on the
            CPU; weights come from the global one. (default: ``None``, the global one)

    Returns:
        Estimate: Value and standard error in nats, and the reasons not to believe them.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If samples do not fit each other, are not finite, or fewer than 2 per fold.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1000)
        >>> estimate = estimate_mi(x, x + torch.randn(1000), steps=200)
        >>> round(float(estimate), 1), estimate.reliable  # truth 0.35
        (0.4, True)
    """
    with outermost() as values:
        check_tensor(x, "x")
        check_tensor(y, "y")
        check_same_device(x, "x", y=y, batch=batch)
        if x.dtype in INDEX_DTYPES and y.dtype not in INDEX_DTYPES:
            if batch is not None:
                raise TypeError(f"'x' must be floating point with 'batch' (got {x.dtype})")
            x, y = y, x
        labels = y.dtype in INDEX_DTYPES
        if labels:
            if y.dim() != 1:
                raise ValueError(f"'y' must have shape [n] as labels (got {list(y.shape)})")
            names, y = y.unique(return_inverse=True)
            if x.dtype in INDEX_DTYPES:
                x = torch.nn.functional.one_hot(x.unique(return_inverse=True)[1]).float()
        x = _columns(x, "x", values)
        if not labels:
            y = _columns(y, "y", values)
        if batch is None and len(x) != len(y):
            raise ValueError(
                f"'y' must have one row per row of 'x' without 'batch' (got {len(x)} and {len(y)})"
            )
        if batch is not None:
            check_batch(batch, len(x), values)
            if labels:  # a graph's label is its nodes' label, and they stay together
                cluster = batch if cluster is None else cluster[batch]
                y, batch = y[batch], None
            elif values and int(batch[-1]) >= len(y):
                raise IndexError(f"'batch' must lie in [0, {len(y)}) (got {int(batch[-1])})")
        # The density is of the smaller side; of one whose rows repeat there is none.
        doubled = batch is None and not labels and _repeats(y)
        if batch is None and not labels and (doubled, y.size(1)) > (_repeats(x), x.size(1)):
            x, y = y, x
        if cluster is None:
            cluster = torch.arange(len(y))
        data = (x, y) if batch is None else (x, y, batch.long())
        run = _Run(data, True, cluster, folds, steps, time_limit, generator)
        run.settings(hidden_channels, progress)
        pairwise = batch is not None or (not labels and _repeats(y))
        for fold in range(folds):
            train, held, ids = run.split(fold)
            parts = Sampler(train, True, run.left[0], generator).split(VAL_RATIO, 2)
            if pairwise:
                _pairs(run, fold, parts, held, ids[0])
            else:
                _ratio(run, fold, parts, held, ids[0], len(names) if labels else 0)
        return run.estimate("I(x; y)", x.size(1) + (1 if labels else y.size(1)))


def _ratio(run: _Run, fold: int, parts: Any, held: Any, ids: Tensor, classes: int) -> None:
    """log q(y | x) - log q(y), and a classifier on top where y is no label."""
    map_x = Normalize(parts[0][0])
    if classes:
        (x, y), (val_x, val_y) = ((map_x(x), y) for x, y in parts)
        model = Classes(x.size(1), classes, run.hidden)
        run.fit("labels", model, (x, y), (val_x, val_y), 512, read=_mean_ratio)
        x, y = map_x(held[0]), held[1]
        r = _eval(model.log_ratio, x, y)
        rolled, who = _shuffled(x, y, run.generator)
        r_q = _eval(model.log_ratio, *rolled)
        seen = _eval(model.log_ratio, map_x(parts[0][0]), parts[0][1])
        run.read(fold, r, r_q, ids, [ids[i] for i in who], float(seen.double().mean()))
        return
    map_y = Normalize(parts[0][1])
    (x, y), (val_x, val_y) = ((map_x(x), map_y(y)) for x, y in parts)
    given = Density(x.size(1), y.size(1), run.hidden)
    run.fit("y given x", given, (x, y), (val_x, val_y), 512)
    alone = Density(0, y.size(1), run.hidden)
    run.fit("y alone", alone, (x[:, :0], y), (val_x[:, :0], val_y), 512)
    run.narrowest = min(run.narrowest, float(1 / given.whiten.diagonal().max()))

    def rows(x: Tensor, y: Tensor) -> Tensor:
        log_ratio = given(x, y) - alone(x[:, :0], y)
        lengths = [0.5 * z.square().sum(1, keepdim=True) for z in (x, y)]
        return _with_base([x, y, *lengths, given.residual(x, y).asinh()], log_ratio)

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return _eval(rows, x, y), _eval(rows, *_shuffled(x, y, run.generator)[0])

    train = both(x, y)
    critic = run.residual(train, both(val_x, val_y))
    seen = _eval(critic.log_ratio, train[0]).double().mean()
    x, y = map_x(held[0]), map_y(held[1])
    rolled, who = _shuffled(x, y, run.generator, 2 * SHUFFLES)
    r_p = _eval(critic.log_ratio, _eval(rows, x, y))
    r_q = _eval(critic.log_ratio, _eval(rows, *rolled))
    run.read(fold, r_p, r_q, ids, [ids[i] for i in who], float(seen))


def _pairs(run: _Run, fold: int, parts: Any, held: Any, ids: Tensor) -> None:
    """All pairs by a :class:`MutualInformationCritic`, graphs weighted by size."""
    critic = MutualInformationCritic(
        parts[0][0].size(1), parts[0][1].size(1), run.hidden, base="gaussian"
    ).to(parts[0][0].device)
    size = 128 if len(parts[0]) == 2 else 32
    run.fit("critic", critic, parts[0], parts[1], size, 5e-3, _mean_ratio)
    with torch.no_grad(), evaluating(critic):
        pairs = critic(*held)
        seen = critic.estimate(*parts[0]).value
    weight = wide(pairs.weight)
    share = pairs.mask.to(weight.dtype) @ weight
    row, col = pairs.mask.nonzero(as_tuple=True)
    ids = ids.to(col.device)
    run.read(
        fold,
        pairs.pos,
        pairs.neg[pairs.mask],
        ids[pairs.target],
        [ids[pairs.target[row]], ids[col]],
        float(seen),
        share / share.sum(),
        weight[col] / share.sum(),
    )


class _Run:
    """What one estimate carries from fold to fold."""

    def __init__(
        self,
        data: tuple[Tensor, ...],
        paired: bool,
        cluster: Any,
        folds: int,
        steps: int,
        time_limit: float,
        generator: torch.Generator | None,
    ) -> None:
        check_positive_int(folds, "folds", 2)
        check_positive_int(steps, "steps")
        check_number(time_limit, "time_limit", 0.0)
        check_generator(generator)
        self.sampler = Sampler(data, paired, cluster, generator)
        self.clusters = self.sampler.clusters
        self.sizes = self.sampler.sizes
        count = min(len(ids.unique()) for ids in self.clusters)
        if count < 4 * folds:
            raise ValueError(
                f"'folds' asks for 4 independent samples in each at least (got {count} in all "
                f"for {folds} folds)"
            )
        self.folds = self.sampler.folds(folds)
        self.steps, self.generator = steps, generator
        self.start, self.time_limit = time.monotonic(), time_limit
        self.parts = 0
        self.curves: list[tuple[str, int, list[tuple[int, float]]]] = []
        self.readings: list[tuple[int, list[tuple[int, float]]]] = []
        self.reads: list[dict[str, Any]] = []
        self.narrowest, self.cut = math.inf, False
        self.falling: dict[str, int] = {}
        self.far: list[float] = []

    def settings(self, hidden: int, progress: Callable[[str], None] | None) -> None:
        check_positive_int(hidden, "hidden_channels")
        if progress is not None and not callable(progress):
            raise TypeError(f"'progress' must be a function (got {progress!r})")
        self.hidden, self.progress = hidden, progress

    def split(self, fold: int) -> tuple[Any, Any, list[Tensor]]:
        """Training data, held-out data, and the clusters of the latter; `left` are the former's."""
        self.fold = fold
        held = self.folds[fold]
        rest = [
            torch.cat([f[g] for k, f in enumerate(self.folds) if k != fold]).sort().values
            for g in range(len(held))
        ]
        self.left = [ids[r] for ids, r in zip(self.clusters, rest)]
        ids = [ids[h] for ids, h in zip(self.clusters, held)]
        return self.sampler.take(rest), self.sampler.take(held), ids

    def fit(
        self,
        name: str,
        model: Any,
        train: Any,
        val: Any,
        size: int,
        lr: float = 3e-3,
        read: Callable[[Any, Any], float] | None = None,
    ) -> FitResult:
        """Trains one part within its share of the time; parts of a fold have equal shares."""
        model.to(train[-1].device if len(train) < 3 else train[0].device)
        share = self.time_limit * (self.fold + 1) / len(self.folds) - self._elapsed()
        end = time.monotonic() + share / max(3 - len(self.curves) % 3, 1)

        reading: list[tuple[int, float]] = []

        def look(step: int, loss: float) -> bool:
            if self.progress is not None:
                at = f"fold {self.fold + 1} of {len(self.folds)}, {name}"
                self.progress(f"{at}: step {step}, held-out loss {loss:.4f}")
            if read is not None:
                reading.append((step, read(model, val)))
            self.cut = self.cut or time.monotonic() > end
            return time.monotonic() > end

        evaluations = max(20, self.steps // 50)  # the time is looked at where the loss is
        result = fit_critic(
            model,
            train,
            self.steps,
            val=val,
            batch_size=size,
            lr=lr,
            evaluations=evaluations,
            patience=evaluations // 5,
            progress=look,
            generator=self.generator,
        )
        # A gain that few held-out samples cannot tell from none: what stood before stands.
        rows = min(len(x) for x in val[:2])
        if result.curve[0][1] - result.best_loss < 3 / rows:
            model.reset_parameters()
            model.prepare([train])
        # Late steps are small ones: a loss that still falls in the second half wanted more of them.
        late = [loss for step, loss in result.curve if step >= 0.5 * self.steps]
        first = result.curve[0][1]
        if len(late) > 1 and late[0] - min(late) > max(0.03, 0.1 * (first - min(late))):
            self.falling[name] = self.falling.get(name, 0) + 1
        self.curves.append((name, self.fold, result.curve))
        if reading:
            self.readings.append((self.fold, reading))
        return result

    def residual(self, train: Any, val: Any) -> KLCritic:
        critic = _Residual(train[0].size(1) - 1, self.hidden)
        self.fit("classifier", critic, train, val, 512, 2e-3, _mean_ratio)
        return critic

    def read(
        self,
        fold: int,
        r_p: Tensor,
        r_q: Tensor,
        ids_p: Tensor,
        ids_q: list[Tensor],
        seen: float,
        weight_p: Tensor | None = None,
        weight_q: Tensor | None = None,
    ) -> None:
        """Takes the held-out log-ratios of one fold."""
        r_p, r_q = wide(r_p).cpu(), wide(r_q).cpu()
        w_p = torch.full_like(r_p, 1 / len(r_p)) if weight_p is None else weight_p.cpu()
        w_q = torch.full_like(r_q, 1 / len(r_q)) if weight_q is None else weight_q.cpu()
        mean = (w_p * r_p).sum()
        log_z = (r_q + w_q.log()).logsumexp(0)
        noise = w_q * ((r_q - log_z).exp() - 1)
        names = torch.cat([ids_p.cpu(), *(i.cpu() for i in ids_q)]).unique()
        part_p, part_z = torch.zeros(2, len(names), dtype=r_p.dtype)
        part_p.index_add_(0, torch.searchsorted(names, ids_p.cpu()), w_p * (r_p - mean))
        for ids in ids_q:
            part_z.index_add_(0, torch.searchsorted(names, ids.cpu()), noise)
        self.reads.append(
            {
                "share": len(r_p) if weight_p is None else int(len(ids_p)),
                "mean": float(mean),
                "log_z": float(log_z),
                "seen": seen,
                "part_p": part_p,
                "part_z": part_z,
                "r_p": r_p,
                "r_q": r_q,
                "w_q": w_q,
            }
        )
        if self.progress is not None:
            self.progress(f"fold {fold + 1} of {len(self.folds)}: {float(mean):.4f} nats")

    def estimate(self, quantity: str, channels: int) -> Estimate:
        """Puts the folds together."""
        share = torch.tensor([float(r["share"]) for r in self.reads], dtype=torch.float64)
        share = share / share.sum()

        def pooled(key: str) -> Tensor:
            return torch.tensor([r[key] for r in self.reads], dtype=torch.float64) @ share

        part_p, part_z = (
            torch.cat([w * r[k] for w, r in zip(share, self.reads)]) for k in ("part_p", "part_z")
        )
        n = len(part_p)
        unbiased = n / (n - 1)
        gap = float(pooled("seen") - pooled("mean"))
        # How far the ratio may be off on average, before any look at log Z: as far as training
        # and held-out readings differ. What the samples tell of log Z is taken over in proportion.
        prior = max(gap / 2, 0.01) ** 2
        error_z = float(part_z.square().sum().sqrt()) * unbiased**0.5
        taken = prior / (prior + error_z**2)
        log_z = pooled("log_z")
        values = torch.tensor([r["mean"] for r in self.reads], dtype=torch.float64)
        within = torch.stack(
            [
                r["part_p"].square().sum() * len(r["part_p"]) / (len(r["part_p"]) - 1)
                for r in self.reads
            ]
        )
        # Between folds the means differ by their samples, and by training: the rest is that.
        extra = float((values.var() - within.mean()).clamp_min(0)) / len(values)
        value = pooled("mean") + gap / 2 - taken * log_z
        variance = float((part_p - taken * part_z).square().sum()) * unbiased
        variance += (1 - taken) * prior + (gap / 2) ** 2 / 3 + extra
        r_p, r_q = (torch.cat([r[k] for r in self.reads]) for k in ("r_p", "r_q"))
        w_q = torch.cat([w * r["w_q"] for w, r in zip(share, self.reads)])
        reasons = list(judge(r_p, r_q, float(value), error_z, w_q, count=n))
        reasons += self._reasons(float(value), gap, variance**0.5, channels)
        return Estimate(
            value,
            torch.tensor(variance**0.5, dtype=torch.float64),
            len(r_p),
            len(r_q),
            False,
            log_z,
            quantity,
            tuple(reasons),
            Trace(self.curves, self.readings, r_p, r_q),
        )

    def _reasons(self, value: float, gap: float, stderr: float, channels: int) -> list[str]:
        out = []
        count = min(len(ids.unique()) for ids in self.clusters)
        if count < 10 * channels:
            out.append(f"{count} independent samples are few for {channels} dimensions")
        if abs(gap) > max(0.5 * abs(value), 0.3, 3 * stderr):
            out.append(f"training samples read {gap:.2f} nats more than held-out ones")
        if self.far and max(self.far) > 0.02:
            out.append(f"{max(self.far):.0%} of P lies where Q, {FAR:g} deviations away, has ended")
        if self.narrowest < 1e-5:
            out.append("y is a function of x, as far as its precision tells")
        if self.cut:
            out.append(f"'time_limit' of {self.time_limit:g} s ended the training")
        for name, count in self.falling.items():
            if 2 * count > len(self.folds):
                out.append(f"the held-out loss of '{name}' was still falling at the last step")
        return out

    def _elapsed(self) -> float:
        return time.monotonic() - self.start


class _Residual(KLCritic):
    """A critic whose last column of input is a log-ratio to start from."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.in_channels = channels + 1

    def _log_ratio(self, x: Tensor) -> Tensor:
        return self.calibration(self.net(self.norm(x[:, :-1])).squeeze(-1) + x[:, -1])

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        self.norm.fit(torch.cat([x[:, :-1] for batch in batches for x in batch]))


def _mean_ratio(model: Any, data: Any) -> float:
    """The reading of positives, whatever the model."""
    with torch.no_grad(), evaluating(model):
        if isinstance(model, MutualInformationCritic):
            return float(model(*data).pos.mean())
        return float(model.log_ratio(*(data[:1] if isinstance(model, KLCritic) else data)).mean())


def _with_base(features: list[Tensor], log_ratio: Tensor) -> Tensor:
    columns = torch.cat(features, dim=1).to(log_ratio.dtype)
    return torch.cat([columns, log_ratio.clamp_min(FLOOR).unsqueeze(1)], dim=1)


@torch.no_grad()
def _eval(f: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """`f` of rows, in pieces."""
    return torch.cat([f(*piece) for piece in zip(*(a.split(2**14) for a in args))])


def _shuffled(
    x: Tensor, y: Tensor, generator: torch.Generator | None, count: int = SHUFFLES
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pairs with another row's y, and the two rows of each."""
    n = len(x)
    turns = 1 + torch.randperm(n - 1, generator=generator)[: min(count, n - 1)]
    row = torch.arange(n).repeat(len(turns))
    other = (row + turns.repeat_interleave(n)) % n
    return (x[row.to(x.device)], y[other.to(y.device)]), (row, other)


def _columns(x: Tensor, name: str, values: bool) -> Tensor:
    check_tensor(x, name)
    x = x.unsqueeze(1) if x.dim() == 1 else x
    check_features(x, None, values, name)
    return x.detach()


def _repeats(y: Tensor) -> bool:
    """Whether some coordinate takes the same values again and again."""
    return any(len(column.unique()) < 0.9 * len(column) for column in y.T)
