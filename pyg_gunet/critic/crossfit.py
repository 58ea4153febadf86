"""The folds of an estimate: what they train, what they read, and what speaks against it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_gunet.critic.fit import FitResult, fit_critic
from pyg_gunet.critic.kl import KLCritic
from pyg_gunet.critic.mutual_information import MutualInformationCritic
from pyg_gunet.critic.network import evaluating
from pyg_gunet.critic.readout import Estimate, Trace, judge, wide
from pyg_gunet.critic.sampling import Sampler
from pyg_gunet.validate import check_generator, check_number, check_positive_int

# Beyond so many deviations of Q its density is the tail that it was given, not what samples show.
FAR = 4.5


class Budget(NamedTuple):
    """What training may cost: steps and seconds, the width, and the parts that each fold trains."""

    steps: int
    time_limit: float
    hidden: int
    parts: int
    progress: Callable[[str], None] | None

    def check(self) -> None:
        """Raises where a value is out of range."""
        check_positive_int(self.steps, "steps")
        check_number(self.time_limit, "time_limit", 0.0)
        check_positive_int(self.hidden, "hidden_channels")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"'progress' must be a function (got {self.progress!r})")


class CrossFit:
    """Trains fold by fold, gathers held-out log-ratios, and puts them together and to the test."""

    def __init__(
        self,
        data: tuple[Tensor, ...],
        paired: bool,
        cluster: Any,
        folds: int,
        budget: Budget,
        generator: torch.Generator | None,
    ) -> None:
        check_positive_int(folds, "folds", 2)
        budget.check()
        check_generator(generator)
        self.paired = paired
        self.sampler = Sampler(data, paired, cluster, generator)
        self.clusters = self.sampler.clusters
        count = min(len(ids.unique()) for ids in self.clusters)
        if count < 4 * folds:
            raise ValueError(
                f"'folds' asks for 4 independent samples in each at least (got {count} in all "
                f"for {folds} folds)"
            )
        self.folds = self.sampler.folds(folds)
        self.budget, self.generator = budget, generator
        self.start = time.monotonic()
        self.curves: list[tuple[str, int, list[tuple[int, float]]]] = []
        self.readings: list[tuple[int, list[tuple[int, float]]]] = []
        self.reads: list[dict[str, Any]] = []
        self.narrowest, self.cut = math.inf, False
        self.falling: dict[str, int] = {}
        self.far: list[float] = []
        self.lost: list[float] = []
        self.sides = 1

    def split(self, fold: int) -> tuple[Any, Any, list[Tensor]]:
        """Training data, held-out data, and the clusters of the latter; `left` are the former's."""
        self.fold, self.done = fold, 0
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
        lr: float = 6e-3,
        read: Callable[[Any, Any], float] | None = None,
        pilot: bool = False,
    ) -> FitResult:
        """Trains one part within its share of the time; parts of a fold have equal shares. A
        `pilot` is no part: it is trained for a while, and gone."""
        model.to(train[-1].device if len(train) < 3 else train[0].device)
        now, budget = time.monotonic(), self.budget
        share = budget.time_limit * (self.fold + 1) / len(self.folds) - (now - self.start)
        end = now + share / max(budget.parts - self.done, 1)
        reading: list[tuple[int, float]] = []

        def look(step: int, loss: float) -> bool:
            if self.budget.progress is not None:
                at = f"fold {self.fold + 1} of {len(self.folds)}, {name}"
                self.budget.progress(f"{at}: step {step}, held-out loss {loss:.4f}")
            if read is not None:
                reading.append((step, read(model, val)))
            self.cut = self.cut or time.monotonic() > end
            return time.monotonic() > end

        steps = max(budget.steps // 4, 1) if pilot else budget.steps
        evaluations = max(20, steps // 50)  # the time is looked at where the loss is
        result = fit_critic(
            model,
            train,
            steps,
            val=val,
            batch_size=size,
            lr=lr,
            weight_decay=0.3,
            average=0.98,
            evaluations=evaluations,
            patience=evaluations // 5,
            progress=look,
            generator=self.generator,
        )
        if pilot:
            return result
        self.done += 1
        # A gain that few held-out samples cannot tell from none: what stood before stands.
        rows = min(len(x) for x in val[:2])
        if result.curve[0][1] - result.best_loss < 3 / rows:
            model.reset_parameters()
            model.prepare([train])
        # Late steps are small ones: a loss that still falls in the second half wanted more of them.
        late = [loss for step, loss in result.curve if step >= 0.5 * budget.steps]
        first = result.curve[0][1]
        if len(late) > 1 and late[0] - min(late) > max(0.03, 0.1 * (first - min(late))):
            self.falling[name] = self.falling.get(name, 0) + 1
        self.curves.append((name, self.fold, result.curve))
        if reading:
            self.readings.append((self.fold, reading))
        return result

    def residual(self, train: Any, val: Any) -> KLCritic:
        critic = Residual(train[0].size(1) - 1, self.budget.hidden)
        self.fit("classifier", critic, train, val, 512, 2e-3, mean_ratio)
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
        part_p, part_z, part_r = torch.zeros(3, len(names), dtype=r_p.dtype)
        part_p.index_add_(0, torch.searchsorted(names, ids_p.cpu()), w_p * (r_p - mean))
        for ids in ids_q:
            part_z.index_add_(0, torch.searchsorted(names, ids.cpu()), noise)
        if not self.paired:
            # A sample of Q moves the trained ratio by as much of e^r - 1 as a smooth model follows:
            # for normal ones its part in 1, r and r^2. In pairs Q's margins are P's: no such term.
            powers = torch.stack([r_q**k for k in range(3)], dim=1)
            fitted = (
                powers @ torch.linalg.lstsq(powers, noise.unsqueeze(1), driver="gelsd").solution
            )
            part_r.index_add_(0, torch.searchsorted(names, ids_q[0].cpu()), fitted[:, 0])
        self.reads.append(
            {
                "share": len(r_p) if weight_p is None else int(len(ids_p)),
                "mean": float(mean),
                "log_z": float(log_z),
                "seen": seen,
                "part_p": part_p,
                "part_z": part_z,
                "part_r": part_r,
                "r_p": r_p,
                "r_q": r_q,
                "w_q": w_q,
            }
        )
        if self.budget.progress is not None:
            self.budget.progress(f"fold {fold + 1} of {len(self.folds)}: {float(mean):.4f} nats")

    def estimate(self, quantity: str, channels: int) -> Estimate:
        """Puts the folds together."""
        share = torch.tensor([float(r["share"]) for r in self.reads], dtype=torch.float64)
        share = share / share.sum()

        def pooled(key: str) -> Tensor:
            return torch.tensor([r[key] for r in self.reads], dtype=torch.float64) @ share

        part_p, part_z, part_r = (
            torch.cat([w * r[k] for w, r in zip(share, self.reads)])
            for k in ("part_p", "part_z", "part_r")
        )
        n = len(part_p)
        unbiased = n / (n - 1)
        gap = float(pooled("seen") - pooled("mean"))
        # How far the ratio may be off on average, before any look at log Z: as far as training
        # and held-out readings differ. What the samples tell of log Z is taken over in proportion.
        lost = sum(self.lost) / max(len(self.lost), 1)
        correction = max(gap / 2, lost)
        prior = max(correction, 0.01) ** 2
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
        value = pooled("mean") + correction - taken * log_z
        variance = float((part_p - taken * part_z - (1 - taken) * part_r).square().sum()) * unbiased
        variance += (1 - taken) * prior + ((gap / 2) ** 2 + lost**2) / 3 + extra
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
            out.append("a coordinate is a function of the others, as far as its precision tells")
        if self.cut:
            out.append(f"'time_limit' of {self.budget.time_limit:g} s ended the training")
        for name, count in self.falling.items():
            if 2 * count > len(self.folds):
                out.append(f"the held-out loss of '{name}' was still falling at the last step")
        return out


class Residual(KLCritic):
    """A critic whose last column of input is a log-ratio to start from."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.in_channels = channels + 1

    def _log_ratio(self, x: Tensor) -> Tensor:
        return self.calibration(self.net(self.norm(x[:, :-1])).squeeze(-1) + x[:, -1])

    @torch.no_grad()
    def prepare(self, batches: list[tuple[Tensor, ...]]) -> None:
        self.norm.fit(torch.cat([x[:, :-1] for batch in batches for x in batch]))


def mean_ratio(model: Any, data: Any) -> float:
    """The reading of positives, whatever the model."""
    with torch.no_grad(), evaluating(model):
        if isinstance(model, MutualInformationCritic):
            return float(model(*data).pos.mean())
        return float(model.log_ratio(*(data[:1] if isinstance(model, KLCritic) else data)).mean())
