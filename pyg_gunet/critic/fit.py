"""Training a critic so that its reading does not depend on where training stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.critic.network import Calibration, evaluating
from pyg_gunet.critic.objective import nce_loss
from pyg_gunet.critic.pairs import PairScores
from pyg_gunet.critic.readout import wide
from pyg_gunet.critic.sampling import Batch, Sampler
from pyg_gunet.validate import check_generator, check_number, check_positive_int

# Deviations of slope (from 1) and offset (from 0) that calibration expects: where held-out data say
# little, as where P and Q hardly overlap, the trained log-ratio stands.
CALIBRATION_PRIOR = (0.1, 1.0)
# Held-out pairs of one batch that calibration looks at.
MAX_PAIRS = 2**22


class FitResult(NamedTuple):
    r"""How a critic was trained.

    Attributes:
        steps (int): The number of steps made.
        best_step (int): The step whose weights were kept.
        best_loss (float): Their held-out loss.
        curve (list): Pairs ``(step, held-out loss)``.
    """

    steps: int
    best_step: int
    best_loss: float
    curve: list[tuple[int, float]]

    def __repr__(self) -> str:
        return (
            f"FitResult(steps={self.steps}, best_step={self.best_step}, "
            f"best_loss={self.best_loss:.4f})"
        )


def fit_critic(
    critic: torch.nn.Module,
    sample: Callable[[], Batch] | Batch,
    steps: int = 2000,
    *,
    val: list[Batch] | Batch | None = None,
    val_ratio: float = 0.2,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    max_norm: float = 1.0,
    average: float = 0.0,
    evaluations: int = 20,
    patience: int | None = 10,
    cluster: Tensor | Sequence[Tensor | None] | None = None,
    progress: Callable[[int, float], bool | None] | None = None,
    generator: torch.Generator | None = None,
) -> FitResult:
    r"""Trains a critic by Adam with a cosine decay of the learning rate to zero, clipped gradients,
    and early stopping on held-out data; the weights of the best held-out loss are kept, and slope
    and offset of the log-ratio fitted to the held-out data (Platt 1999).

    A constant learning rate makes the reading a lottery, and training to the end on few samples
    makes it a fiction, so neither can be had here. The loss on training batches is not returned:
    it says nothing about the divergence.

    Args:
        critic (torch.nn.Module): A :class:`KLCritic`, :class:`MutualInformationCritic` or
            :class:`TelescopingCritic`; anything with their ``loss``, ``prepare`` and ``paired``.
        sample (Callable or Tuple[Tensor, ...]): A function that draws a fresh batch, the arguments
            of ``critic.loss``; or the arguments for a whole data set, from which minibatches are
            drawn.
        steps (int): The number of steps at most. (default: ``2000``)
        val (List[Tuple[Tensor, ...]] or Tuple[Tensor, ...], optional): Held-out batches. If
            ``None``: 32 more draws where `sample` is a function (**give** `val` **where it draws
            from a finite set**), else a random part of the data set. (default: ``None``)
        val_ratio (float): The held-out share of a data set, in (0, 1). (default: ``0.2``)
        batch_size (int): Samples, pairs or whole graphs per minibatch of a data set.
            (default: ``256``)
        lr (float): The largest learning rate, reached after 2% of the steps. (default: ``1e-3``)
        weight_decay (float): Decoupled weight decay. (default: ``0.0``)
        max_norm (float): Gradients are scaled to at most this norm. (default: ``1.0``)
        average (float): What is held out, kept and read are the weights' moving average, which
            forgets to this share with each step, in [0, 1): it stands in for a small learning rate
            while a large one goes on (Polyak & Juditsky 1992). (default: ``0.0``, the weights)
        evaluations (int): How often the held-out loss is taken. (default: ``20``)
        patience (int, optional): Stop after so many held-out losses in a row without a new best;
            ``None`` never stops. (default: ``10``)
        cluster (Tensor or Sequence[Tensor or None], optional): A cluster id per pair, or a tensor
            of them for `p` and one for `q`: what depends on each other, the nodes of one graph say,
            is then trained on or held out as a whole. Graphs of a `batch` are whole by themselves.
            (default: ``None``)
        progress (Callable, optional): Called with the step and the held-out loss at every
            evaluation; ends the training by returning ``True``. (default: ``None``)
        generator (torch.Generator, optional): Source of the splits and minibatches, on the CPU.
            (default: ``None``, the global one)

    Returns:
        FitResult: `steps`, `best_step`, `best_loss` and the held-out `curve`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or the held-out loss is not finite at the start.

    Example:
        >>> from pyg_gunet.critic import KLCritic
        >>> _ = torch.manual_seed(0)
        >>> critic = KLCritic(1, hidden_channels=16)
        >>> fit = fit_critic(critic, lambda: (torch.randn(128, 1) + 1, torch.randn(128, 1)), 300)
        >>> estimate = critic.estimate(torch.randn(4000, 1) + 1, torch.randn(4000, 1))
        >>> round(float(estimate.value), 1)  # truth 0.5
        0.5
    """
    for method in ("loss", "prepare"):
        if not isinstance(critic, torch.nn.Module) or not callable(getattr(critic, method, None)):
            raise TypeError(
                f"'critic' must be a module with the methods of KLCritic (got {critic!r:.80} "
                f"without '{method}')"
            )
    check_generator(generator)
    check_positive_int(steps, "steps")
    check_positive_int(batch_size, "batch_size", 2)
    check_positive_int(evaluations, "evaluations")
    if patience is not None:
        check_positive_int(patience, "patience")
    check_number(lr, "lr", 0.0)
    check_number(weight_decay, "weight_decay", 0.0)
    check_number(max_norm, "max_norm", 0.0)
    check_number(average, "average", 0.0, 1.0)
    if average == 1:
        raise ValueError(f"'average' must be below 1 (got {average!r})")
    draw, held, seen = _sources(critic, sample, val, val_ratio, batch_size, cluster, generator)
    critic.prepare(seen)  # type: ignore[operator]
    calibration = getattr(critic, "calibration", None)
    if calibration is not None:
        calibration.reset()

    params = [p for p in critic.parameters() if p.requires_grad]
    # Many small tensors: a fused step costs a sixth of the plain one.
    fused = all(p.device.type in ("cpu", "cuda") for p in params)
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=fused)
    warmup = max(round(0.02 * steps), 1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda t: min((t + 1) / warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * min(t / steps, 1.0))),
    )
    best_step, best_loss = 0, _held_out_loss(critic, held)
    if not math.isfinite(best_loss):
        raise ValueError(f"'val' must give a finite loss at the start (got {best_loss})")
    best = copy.deepcopy(critic.state_dict())
    curve = [(0, best_loss)]
    every = max(steps // evaluations, 1)
    step, waited = 0, 0
    mean = [p.detach().clone() for p in params] if average else []
    modes = [(module, module.training) for module in critic.modules()]
    if not critic.training:  # else what is frozen by `.eval()` inside stays frozen
        critic.train()
    while step < steps:
        optimizer.zero_grad(set_to_none=True)
        critic.loss(*draw()).backward()  # type: ignore[operator]
        torch.nn.utils.clip_grad_norm_(params, max_norm)
        optimizer.step()
        scheduler.step()
        step += 1
        # Early on the mean is of few steps, so that it forgets where they started.
        keep = min(average, step / (step + 10))
        for m, p in zip(mean, params):
            m.lerp_(p.detach(), 1 - keep)
        if step % every and step < steps:
            continue
        _swap(params, mean)
        loss = _held_out_loss(critic, held)
        curve.append((step, loss))
        stop = bool(progress(step, loss)) if progress is not None else False
        waited += 1
        if loss < best_loss:
            best_step, best_loss, waited = step, loss, 0
            best = copy.deepcopy(critic.state_dict())
        _swap(params, mean)
        if stop or (patience is not None and waited >= patience):
            break
    critic.load_state_dict(best)
    if calibration is not None:
        _calibrate(critic, calibration, held)
    for module, training in modes:
        module.training = training
    return FitResult(step, best_step, best_loss, curve)


@torch.no_grad()
def _swap(params: list[torch.nn.Parameter], mean: list[Tensor]) -> None:
    """Exchanges the weights and their average, where there is one."""
    for p, m in zip(params, mean):
        held = p.detach().clone()
        p.copy_(m)
        m.copy_(held)


def _sources(
    critic: torch.nn.Module,
    sample: Callable[[], Batch] | Batch,
    val: list[Batch] | Batch | None,
    val_ratio: float,
    batch_size: int,
    cluster: Tensor | Sequence[Tensor | None] | None,
    generator: torch.Generator | None,
) -> tuple[Callable[[], Batch], list[Batch], list[Batch]]:
    """A draw of training batches, the held-out batches, and training data for the moments."""
    paired = bool(getattr(critic, "paired", False))
    if callable(sample):
        held = [sample() for _ in range(32)] if val is None else _as_list(val)
        return sample, held, [sample() for _ in range(64)]
    if not _is_batch(sample):
        raise TypeError(
            f"'sample' must be a function or a tuple of tensors, two at least "
            f"(got {type(sample).__name__})"
        )
    if any(x.size(0) < 2 for x in sample[:2]):
        raise ValueError(
            f"'sample' must hold two rows at least, to keep one back "
            f"(got {[list(x.shape) for x in sample]})"
        )
    data = tuple(sample)
    sampler = Sampler(data, paired, cluster, generator)
    if val is None:
        check_number(val_ratio, "val_ratio", 0.0, 1.0)
        if not 0 < val_ratio < 1:
            raise ValueError(f"'val_ratio' must lie in (0, 1) (got {val_ratio!r})")
        # A pair alone has no negative: two on either side.
        data, held_part = sampler.split(val_ratio, 2 if paired and sampler.sizes[0] > 3 else 1)
        held = [held_part]
        sampler = Sampler(data, paired, None, generator)
    else:
        held = _as_list(val)
    return lambda: sampler.minibatch(batch_size), held, [data]


def _as_list(val: list[Batch] | Batch) -> list[Batch]:
    held = [val] if isinstance(val, tuple) else val
    if not isinstance(held, list) or not held or not all(map(_is_batch, held)):
        raise TypeError(
            f"'val' must be a tuple of tensors or a list of them, one at least (got {val!r:.80})"
        )
    return held


def _is_batch(batch: object) -> bool:
    return (
        isinstance(batch, (tuple, list))
        and len(batch) >= 2
        and all(isinstance(x, Tensor) and x.dim() > 0 for x in batch)
    )


def _calibrate(critic: torch.nn.Module, calibration: Calibration, held: list[Batch]) -> None:
    """Fits slope and offset of the log-ratio to the held-out loss (Platt scaling, MAP).

    The classifier read-out takes over a constant or a factor in r at full size, and both drift
    while a network trains; two numbers fitted to data outside training put them right.
    """
    nu = float(getattr(critic, "nu", 1.0))
    with torch.no_grad(), evaluating(critic):
        parts = [_terms(critic(*batch)) for batch in held]
    r_p, r_q, weight_p, weight_q = (torch.cat(part) for part in zip(*parts))
    count = min(r_p.numel(), r_q.numel())
    params = torch.tensor([1.0, 0.0], dtype=r_p.dtype, device=r_p.device, requires_grad=True)
    scale = torch.tensor(CALIBRATION_PRIOR, dtype=r_p.dtype, device=r_p.device)
    start = params.detach().clone()
    optimizer = torch.optim.LBFGS([params], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        slope, offset = params.unbind()
        loss = nce_loss(slope * r_p + offset, slope * r_q + offset, nu, weight_p, weight_q)
        loss = loss + 0.5 * ((params - start) / scale).square().sum() / count
        loss.backward()
        return loss

    optimizer.step(closure)
    if bool(torch.isfinite(params).all()):
        slope, offset = params.detach().to(calibration.slope.dtype).unbind()
        calibration.slope.copy_(slope)
        calibration.offset.copy_(offset)


def _terms(out: PairScores | Batch) -> Batch:
    """Log-ratios of positives and negatives, and their weights, of one held-out batch."""
    if not isinstance(out, PairScores):
        r_p, r_q = (wide(r) for r in out)
        return r_p, r_q, torch.full_like(r_p, 1 / len(r_p)), torch.full_like(r_q, 1 / len(r_q))
    rows = max(MAX_PAIRS // out.neg.size(1), 1)
    pos, neg, mask = wide(out.pos[:rows]), wide(out.neg[:rows]), out.mask[:rows]
    weight = wide(out.weight)
    share = mask.to(weight.dtype) @ weight
    total = share.sum()
    return pos, neg[mask], share / total, weight.expand_as(neg)[mask] / total


@torch.no_grad()
def _held_out_loss(critic: torch.nn.Module, held: list[Batch]) -> float:
    loss = getattr(critic, "selection_loss", critic.loss)
    with evaluating(critic):
        losses = [loss(*batch) for batch in held]  # type: ignore[operator]
    return float(torch.stack(losses).mean())
