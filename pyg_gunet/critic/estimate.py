"""Divergence and mutual information of samples in one call: trained, cross-fitted, self-judging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.critic.crossfit import FAR, Budget, CrossFit, mean_ratio
from pyg_gunet.critic.density import Classes, Density, Normalize, Rescale
from pyg_gunet.critic.ensemble import Side, Stack
from pyg_gunet.critic.mutual_information import MutualInformationCritic
from pyg_gunet.critic.network import evaluating
from pyg_gunet.critic.readout import Estimate, wide
from pyg_gunet.critic.sampling import Sampler
from pyg_gunet.validate import (
    INDEX_DTYPES,
    check_batch,
    check_features,
    check_same_device,
    check_tensor,
    outermost,
)

# Negatives per pair; held-out share by which training stops; floor of a density's log-ratio, where
# the classifier on top of it still has something to learn.
SHUFFLES, VAL_RATIO, FLOOR = 16, 0.2, -15.0
# Fourth moments of coordinates (a normal's is 3, a uniform's 1.8): up to the first all may stay as
# they are, up to the second it may matter.
LIGHT, FLAT = 4.0, 2.5


def estimate_kl(
    p: Tensor,
    q: Tensor,
    *,
    cluster_p: Tensor | None = None,
    cluster_q: Tensor | None = None,
    folds: int = 4,
    steps: int = 600,
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
        steps (int): (default: ``600``)
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
        budget = Budget(steps, time_limit, hidden_channels, 3, progress)
        run = CrossFit((p, q), False, (cluster_p, cluster_q), folds, budget, generator)
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
    steps: int = 600,
    hidden_channels: int = 64,
    time_limit: float = 60.0,
    progress: Callable[[str], None] | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""The mutual information of paired samples, of nodes and their graphs, or of labels and
    embeddings.

    **Pairs.** :math:`\log \frac{p(x, y)}{p(x) p(y)} = \log q(y | x) - \log q(y) =
    \log q(x | y) - \log q(x)`: both sides from densities that start as normal ones, their mean
    with shares that held-out pairs choose (one side alone, that of the narrower, where one is more
    than twice as wide or repeats values), and a classifier of pairs against shuffled pairs on top.
    Each part is stopped by held-out likelihood, so that it takes over only where it predicts better
    than what stands without it. The densities have no ceiling at ln n, the classifier sees what
    a mixture misses. Every coordinate is made normal first, which keeps the information; flat
    ones stay as they are where held-out pairs read more so.
    **Labels**, an integer `y` (or `x`): a classifier :math:`q(y | x)` against the shares of the
    classes. **Nodes and graphs**, with `batch`, and samples that repeat (features of few
    values): a :class:`MutualInformationCritic` on a Gaussian base.

    Every pair is read by the fold that was not trained on it. Training reads too much and held-out
    samples too little, by as much in the limit (Akaike 1974): by half their distance. What the mean
    of two sides gains over each is what their errors cost (Krogh & Vedelsby 1995), and what is left
    in the mean as far as they err independently. The larger of the two is added to the held-out
    reading; both go into the error, with the share of :math:`\log \mathbb{E}_Q[e^r]` that samples
    cannot tell and the spread of the folds.

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
        steps (int): Training steps at most, per part. (default: ``600``)
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
        names = ("x", "y")
        if x.dtype in INDEX_DTYPES and y.dtype not in INDEX_DTYPES:
            if batch is not None:
                raise TypeError(f"'x' must be floating point with 'batch' (got {x.dtype})")
            x, y, names = y, x, ("y", "x")
        labels = y.dtype in INDEX_DTYPES
        if labels:
            if y.dim() != 1:
                raise ValueError(
                    f"'{names[1]}' must have shape [n] as labels (got {list(y.shape)})"
                )
            classes, y = y.unique(return_inverse=True)
            if x.dtype in INDEX_DTYPES:
                x = torch.nn.functional.one_hot(x.unique(return_inverse=True)[1]).float()
        x = _columns(x, names[0], values)
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
        pairwise = batch is not None or (not labels and _repeats(y))
        # x given y says as much as y given x, where x has a density and is not much the larger.
        sides = 1 + (not _repeats(x) and x.size(1) <= 2 * y.size(1)) if not labels else 0
        parts_of_fold = 1 if labels or pairwise else 2 * sides + 1
        budget = Budget(steps, time_limit, hidden_channels, parts_of_fold, progress)
        run = CrossFit(data, True, cluster, folds, budget, generator)
        run.sides = sides
        for fold in range(folds):
            train, held, ids = run.split(fold)
            parts = Sampler(train, True, run.left[0], generator).split(VAL_RATIO, 2)
            if pairwise:
                _pairs(run, fold, parts, held, ids[0])
            else:
                _ratio(run, fold, parts, held, ids[0], len(classes) if labels else 0)
        return run.estimate("I(x; y)", x.size(1) + (1 if labels else y.size(1)))


def _ratio(run: CrossFit, fold: int, parts: Any, held: Any, ids: Tensor, classes: int) -> None:
    """log q(y | x) - log q(y), and a classifier on top where y is no label."""
    if classes:
        map_x = Normalize(parts[0][0])
        (x, y), (val_x, val_y) = ((map_x(x), y) for x, y in parts)
        model = Classes(x.size(1), classes, run.budget.hidden)
        run.fit("labels", model, (x, y), (val_x, val_y), 512, read=mean_ratio)
        x, y = map_x(held[0]), held[1]
        r = _eval(model.log_ratio, x, y)
        rolled, who = _shuffled(x, y, run.generator)
        r_q = _eval(model.log_ratio, *rolled)
        seen = _eval(model.log_ratio, map_x(parts[0][0]), parts[0][1])
        run.read(fold, r, r_q, ids, [ids[i] for i in who], float(seen.double().mean()))
        return
    map_x, map_y = _coordinates(run, parts)
    (x, y), (val_x, val_y) = ((map_x(x), map_y(y)) for x, y in parts)
    sides = []
    for flip in range(run.sides):
        (a, b), (val_a, val_b) = ((z[flip], z[1 - flip]) for z in ((x, y), (val_x, val_y)))
        names = ("x", "y")[flip], ("y", "x")[flip]
        given = Density(a.size(1), b.size(1), run.budget.hidden)
        run.fit(f"{names[1]} given {names[0]}", given, (a, b), (val_a, val_b), 512)
        alone = Density(0, b.size(1), run.budget.hidden)
        if b.size(1) == 1 and isinstance(map_x, Normalize):
            alone.prepare([(b[:, :0], b)])  # one coordinate that was made normal is normal
            run.done += 1
        else:
            run.fit(f"{names[1]} alone", alone, (b[:, :0], b), (val_b[:, :0], val_b), 512)
        run.narrowest = min(run.narrowest, float(1 / given.whiten.diagonal().max()))
        sides.append(Side(given, alone, bool(flip)))
    stack = Stack(sides, val_x, val_y, _shuffled(val_x, val_y, run.generator)[0])
    run.lost.append(stack.lost)

    def rows(x: Tensor, y: Tensor) -> Tensor:
        lengths = [0.5 * z.square().sum(1, keepdim=True) for z in (x, y)]
        residuals = [side.residual(x, y).asinh() for side in sides]
        return _with_base([x, y, *lengths, *residuals], stack.log_ratio(x, y))

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


def _coordinates(run: CrossFit, parts: Any) -> tuple[Any, Any]:
    """Maps of x and of y: normal scores, or where both sides are light of tail and some coordinate
    is flat the coordinates as they are, if a short training reads more from held-out pairs so, by
    one standard error (Breiman et al. 1984)."""
    scored, plain = ((Map(parts[0][0]), Map(parts[0][1])) for Map in (Normalize, Rescale))
    fourth = torch.cat([f(z) for f, z in zip(plain, parts[0])], dim=1).pow(4).mean(0)
    if float(fourth.max()) > LIGHT or float(fourth.min()) > FLAT:
        return scored
    held = []
    for maps in (scored, plain):
        (x, y), (val_x, val_y) = ([f(z) for f, z in zip(maps, part)] for part in parts)
        widths = (x.size(1), 0)
        given, alone = (Density(width, y.size(1), run.budget.hidden) for width in widths)
        run.fit("pilot", given, (x, y), (val_x, val_y), 512, pilot=True)
        run.fit("pilot", alone, (x[:, :0], y), (val_x[:, :0], val_y), 512, pilot=True)
        held.append(_eval(Side(given, alone, False).log_ratio, val_x, val_y).double())
    gain = held[1] - held[0]
    return plain if float(gain.mean()) > float(gain.std()) / len(gain) ** 0.5 else scored


def _pairs(run: CrossFit, fold: int, parts: Any, held: Any, ids: Tensor) -> None:
    """All pairs by a :class:`MutualInformationCritic`, graphs weighted by size."""
    critic = MutualInformationCritic(
        parts[0][0].size(1), parts[0][1].size(1), run.budget.hidden, base="gaussian"
    ).to(parts[0][0].device)
    size = 128 if len(parts[0]) == 2 else 32
    run.fit("critic", critic, parts[0], parts[1], size, 5e-3, mean_ratio)
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
    if not x.size(1):
        raise ValueError(f"'{name}' must have a coordinate (got shape {list(x.shape)})")
    return x.detach()


def _repeats(y: Tensor) -> bool:
    """Whether some coordinate takes the same values again and again."""
    return any(len(column.unique()) < 0.9 * len(column) for column in y.T)
