"""The task ``impute``: what silent stations of a network would have read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv

from pyg_gunet.files import write_aside
from pyg_gunet.functional.field import (
    condition,
    conditional_mean,
    distance_covariance,
    fit_gaussian,
)
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.sensors import TEST, TRAIN, VALIDATION
from pyg_gunet.settings import Settings
from pyg_gunet.train.fill_in import BASELINES, apply, distances, survey, tuned
from pyg_gunet.train.pictures import draw_map
from pyg_gunet.train.tasks import EpochSampler, GraphModule, Splits, Task, register_task

SHARES = (0.25, 0.5, 0.75)
# Tried against each other on left-out months: the share of the covariance that hangs on distance
# alone, and the variance of a reading's own noise, in units of the stations' mean variance.
BLENDS = tuple((a, n) for a in (0.1, 0.3, 0.5, 0.7, 0.9) for n in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2))


class Impute(GraphModule):
    r"""A :class:`GraphUNet` that corrects a Gaussian field.

    The field is the conditional mean of silent stations given the others of that day
    (:func:`pyg_gunet.functional.field.condition`), with mean and covariance of the training days;
    the covariance is shrunk to one that depends on distance alone, by as much as predicts left-out
    months best. The network reads the field, its deviation, its leave-one-out errors at the
    stations that are heard, the places and which stations are silent, and predicts what the field
    gets wrong. While it is trained, the field of a day is the one fitted without that day's month:
    its errors are then as large as those on days to come.

    Every step silences anew a random share of the stations of every day; the loss is the absolute
    error there.
    """

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__(settings, channels)
        n, folds = channels["stations"], channels["blocks"] + 1
        self.field_mean: Tensor
        self.field_cov: Tensor
        self.place: Tensor
        self.register_buffer("field_mean", torch.zeros(folds, n, dtype=torch.float64))
        self.register_buffer("field_cov", torch.zeros(folds, n, n, dtype=torch.float64))
        self.register_buffer("place", torch.zeros(n, channels["places"]))
        self.net = self.make_net(9 + channels["places"])
        # Nothing is corrected at first: training starts from the field.
        for parameter in self.last_layer():
            torch.nn.init.zeros_(parameter)

    def make_net(self, in_channels: int) -> torch.nn.Module:
        s = self.settings
        return GraphUNet(
            in_channels,
            s.hidden_channels,
            1,
            s.depth,
            s.ratios,
            sum_res=s.skip == "sum",
            act="elu",
            conv=_mean_conv,
            select=s.select or "spread",
            connect=s.connect,
            norm=None if s.norm == "none" else s.norm,
            dropout=s.dropout or 0.0,
        )

    def last_layer(self) -> Iterable[torch.nn.Parameter]:
        return self.net.up_convs[-1].parameters()  # type: ignore[union-attr,operator,index]

    # The field -----------------------------------------------------------------------------------

    def learn_statistics(self, data: Iterable[Data]) -> None:
        """Fits the field to the training days, once with each month left out and once to all."""
        x, observed, block, first = _days(data)
        pos = first.get("pos")
        far = distances(first.edge_index, pos, x.size(1))
        fits = [
            self._fit(x[block != b], observed[block != b], far)
            for b in range(self.channels["blocks"])
        ]
        # A share of its own for every day: one setting must serve few and many silent stations.
        generator = torch.Generator().manual_seed(self.settings.seed)
        rank = torch.rand(x.shape, generator=generator)
        seen = hide(observed, rank, torch.tensor(SHARES)[torch.arange(len(x)) % len(SHARES)])
        hidden = observed & ~seen
        errors = []
        for blend in BLENDS:
            error = 0.0
            for b, fit in enumerate(fits):
                rows = block == b
                value = conditional_mean(fit[0], _blend(fit, *blend), x[rows], seen[rows])
                error += float((value - x[rows])[hidden[rows]].abs().sum())
            errors.append(error)
        self.blend = BLENDS[min(range(len(BLENDS)), key=errors.__getitem__)]
        for b, fit in enumerate([*fits, self._fit(x, observed, far)]):
            self.field_mean[b] = fit[0]
            self.field_cov[b] = _blend(fit, *self.blend)
        columns = [first[key] for key in ("pos", "elevation") if key in first]
        if columns:
            place = torch.cat(columns, dim=1).double()
            place = (place - place.mean(0)) / place.std(0).clamp(min=1e-9)
            self.place.copy_(place)

    @staticmethod
    def _fit(x: Tensor, observed: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, cov = fit_gaussian(x, observed)
        return mean, cov, distance_covariance(cov, far)

    def field(self, data: Data, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(value, deviation, residual)`` of the field, see :func:`condition`, [T, N] each."""
        fold = data.block.clamp(max=self.channels["blocks"])
        x = data.x.view(seen.shape).double()
        return condition(self.field_mean[fold], self.field_cov[fold], x, seen)

    # The network ---------------------------------------------------------------------------------

    def inputs(self, data: Data, seen: Tensor, field: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """What the network reads, [T * N, channels]."""
        value, deviation, residual = field
        fold = data.block.clamp(max=self.channels["blocks"])
        mean = self.field_mean[fold]
        scale = self.field_cov[fold].diagonal(dim1=-2, dim2=-1).sqrt()
        keep = seen.double()
        anomaly = torch.where(seen, (data.x.view(seen.shape).double() - mean) / scale, 0.0)
        level = anomaly.sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
        typical = deviation.mean(1, keepdim=True)
        middle = mean - mean.mean(1, keepdim=True)
        columns = torch.stack(
            [
                anomaly,
                keep,
                (value - mean) / scale,
                (deviation / typical).log(),
                residual / deviation,
                residual / typical,
                level.expand_as(keep),
                keep.mean(1, keepdim=True).expand_as(keep),
                middle / middle.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9),
            ],
            dim=-1,
        )
        place = self.place.expand(seen.size(0), -1, -1)
        return torch.cat([columns.to(place.dtype), place], dim=-1).flatten(0, 1)

    def fill(self, data: Data, seen: Tensor) -> Tensor:
        """Readings of all stations given the `seen` ones, [T, N]."""
        field = self.field(data, seen)
        x = self.inputs(data, seen, field)
        out = self.net(x, data.edge_index, data.get("batch"), data.get("edge_weight"))
        value, deviation, _ = field
        return value.to(out.dtype) + deviation.to(out.dtype) * out.view(seen.shape)

    def forward(self, data: Data) -> Tensor:
        """Every reading of the days that is missing filled in, [T, N]."""
        observed = self.observed(data)
        x = data.x.view(observed.shape)
        return torch.where(observed, x, self.fill(data, observed))

    def observed(self, data: Data) -> Tensor:
        return data.observed.view(-1, self.channels["stations"])

    def terms(self, data: Data) -> dict[str, Tensor]:
        observed = self.observed(data)
        share = 0.1 + 0.8 * torch.rand(observed.size(0), device=observed.device)
        seen = hide(observed, torch.rand(observed.shape, device=observed.device), share)
        return {"absolute": self.error(data, seen)}

    def error(self, data: Data, seen: Tensor) -> Tensor:
        """The mean absolute error at stations that read something and are not `seen`."""
        hidden = self.observed(data) & ~seen
        wrong = (self.fill(data, seen) - data.x.view(seen.shape)).abs()
        return torch.where(hidden, wrong, 0.0).sum() / hidden.sum().clamp(min=1)

    def validation_step(self, data: Data, index: int) -> None:
        observed = self.observed(data)
        rank = data.rank.view(*observed.shape, len(SHARES))
        errors = [
            self.error(data, hide(observed, rank[..., i], share)) for i, share in enumerate(SHARES)
        ]
        self._log("val_loss", torch.stack(errors).mean(), data)


def hide(observed: Tensor, rank: Tensor, share: Tensor | float) -> Tensor:
    r"""Silences a share of every day's stations: those of least rank. At least one that read
    something is hidden and at least one is seen.

    Args:
        observed (Tensor): Which stations read something, [T, N].
        rank (Tensor): A random number each, [T, N].
        share (Tensor or float): The share of each day, [T], or of all.

    Returns:
        The stations that are still seen, [T, N].

    Example:
        >>> hide(torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0.3, 0.1, 0.2, 0.9]]), 0.5)
        tensor([[ True, False, False,  True]])
    """
    count = observed.sum(1)
    wanted = (torch.as_tensor(share, device=count.device) * count).round().long()
    wanted = wanted.clamp(min=1).minimum((count - 1).clamp(min=0))
    place = rank.masked_fill(~observed, torch.inf).argsort(1).argsort(1)
    return observed & (place >= wanted.view(-1, 1))


def _mean_conv(in_channels: int, out_channels: int) -> GraphConv:
    """Weighted means of the neighbours beside a map of the station itself: an average of both, as
    GCN takes, would blur what one station alone knows."""
    return GraphConv(in_channels, out_channels, aggr="mean")


def _days(data: Iterable[Data]) -> tuple[Tensor, Tensor, Tensor, Data]:
    """Readings [T, N], which there are, the block of every day [T], and one day's graph."""
    days = [day for batch in data for day in _single(batch)]
    n = days[0].num_nodes
    x = torch.stack([day.x.view(n) for day in days]).double()
    observed = torch.stack([day.observed for day in days])
    block = torch.tensor([int(day.block) for day in days])
    return x, observed, block, days[0]


def _single(batch: Data) -> list[Data]:
    return batch.to_data_list() if hasattr(batch, "to_data_list") else [batch]


def _blend(fit: tuple[Tensor, Tensor, Tensor], share: float, noise: float) -> Tensor:
    _, cov, smooth = fit
    nugget = noise * cov.diagonal().mean()
    eye = torch.eye(cov.size(0), dtype=cov.dtype, device=cov.device)
    return (1 - share) * cov + share * smooth + nugget * eye


def channels(dataset: InMemoryDataset) -> dict[str, int]:
    first = dataset[0]
    if "observed" not in first:
        raise ValueError(
            "'task' impute needs readings over time, an .npz file "
            f"(got 'dataset' {dataset!r} without 'observed')"
        )
    places = sum(first[key].size(1) for key in ("pos", "elevation") if key in first)
    train = [int(day.block) for day in dataset if int(day.part) == TRAIN]
    return {
        "in_channels": 1,
        "stations": int(first.num_nodes),
        "places": places,
        "blocks": max(train) + 1,
    }


def defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    for name in ("latent_channels", "loss_fn", "normalize"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"'{name}' has no meaning for the task 'impute' (got {getattr(settings, name)!r})"
            )
    if settings.skip == "none":
        raise ValueError("'skip' must be 'sum' or 'cat' for the task 'impute' (got 'none')")
    return {
        "epochs": 25,
        "lr": 3e-3,
        "weight_decay": 1e-4,
        "select": "spread",
        "skip": "cat",
        "dropout": 0.1,
    }


def prepare(settings: Settings, dataset: InMemoryDataset) -> Splits:
    """Training, validation and test days in the order of time; those for choosing and testing
    with the stations that are silent, drawn by the seed."""
    channels(dataset)
    parts: dict[int, list[Data]] = {TRAIN: [], VALIDATION: [], TEST: []}
    for day in dataset:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + int(day.day))
        day.rank = torch.rand(day.num_nodes, len(SHARES), generator=generator)
        parts[int(day.part)].append(day)
    size, train = settings.batch_size, parts[TRAIN]
    return Splits(
        DataLoader(train, size, sampler=EpochSampler(len(train), settings.seed)),
        DataLoader(parts[VALIDATION], size),
        DataLoader(parts[TEST], size),
        f"days in order of time: {len(train)} train, {len(parts[VALIDATION])} validation, "
        f"{len(parts[TEST])} test; silent stations drawn anew every day (seed {settings.seed})",
    )


@torch.no_grad()
def report(
    module: Impute, splits: Splits, folder: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """Errors on the test days at each share of silent stations, beside baselines at the settings
    that are best on the validation days; a map; and every missing reading filled in."""
    x, observed, _, first = _days(splits.train)
    net = survey(x, observed, first.edge_index, first.get("edge_weight"), first.get("pos"))
    val, test = (_whole(loader) for loader in (splits.val, splits.test))
    ours: dict[str, float] = {}
    base: dict[str, dict[str, float]] = {name: {} for name in (*BASELINES, "Gaussian field")}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in BASELINES}
    shown: tuple[Tensor, Tensor] | None = None
    for i, share in enumerate(SHARES):
        key = f"{share:g}"
        seen = {}
        for part, data in (("val", val), ("test", test)):
            there = module.observed(data)
            seen[part] = hide(there, data.rank.view(*there.shape, len(SHARES))[..., i], share)
        xs = {p: d.x.view(seen[p].shape).double() for p, d in (("val", val), ("test", test))}
        hidden = {p: module.observed(d) & ~seen[p] for p, d in (("val", val), ("test", test))}

        def mae(value: Tensor, xs: Any = xs, hidden: Any = hidden) -> float:
            return float((value.double() - xs["test"])[hidden["test"]].abs().mean())

        filled = module.fill(test, seen["test"])
        ours[key] = mae(filled)
        base["Gaussian field"][key] = mae(module.field(test, seen["test"])[0])
        for name in BASELINES:
            setting, _ = tuned(name, net, xs["val"], seen["val"], hidden["val"])
            chosen[name][key] = setting
            base[name][key] = mae(apply(name, net, xs["test"], seen["test"], setting))
        if share == 0.5:
            shown = seen["test"][0], filled[0]
    figures = {
        "test_mae": ours,
        "unit": "mean absolute error at silent stations, in the unit of the readings",
        "baselines": base,
        "settings_of_baselines": chosen,
    }
    files: list[Path] = []
    if folder is not None:
        if first.get("pos") is not None and shown is not None:
            files.append(folder / "filled_in.png")
            pos = first.pos
            draw_map(files[-1], pos, xs["test"][0], module.observed(test)[0], *shown)
        files.append(folder / "filled.npz")
        _write_filled(files[-1], module, splits)
    return figures, files


def _whole(loader: Any) -> Any:
    """All days of a loader as one batch."""
    from torch_geometric.data import Batch

    return Batch.from_data_list([day for batch in loader for day in _single(batch)])


def _write_filled(path: Path, module: Impute, splits: Splits) -> None:
    """Readings of all days [T, N], those that are missing filled in."""
    rows: dict[int, np.ndarray] = {}
    seen: dict[int, np.ndarray] = {}
    for loader in (splits.train, splits.val, splits.test):
        for batch in loader:
            filled, observed = module(batch), module.observed(batch)
            for row, mask, day in zip(filled, observed, batch.day.tolist()):
                rows[day], seen[day] = row.numpy(), mask.numpy()
    order = sorted(rows)
    with write_aside(path) as file:
        np.savez_compressed(
            file,
            values=np.stack([rows[day] for day in order]),
            observed=np.stack([seen[day] for day in order]),
        )


register_task(Task("impute", Impute, channels, defaults, prepare, report))
