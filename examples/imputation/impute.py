r"""What silent stations of a network would have read: a Gaussian field, and a Graph U-Net on it.

    python examples/imputation/impute.py WEATHER.npz --out runs/imputation

Readings over time at fixed places, as :func:`sensors.read_sensors` reads them. Every day a share of
the stations is silent, and their readings are predicted from the others of that day. The folder
gets `metrics.json` (errors beside those of simple rules), `filled_in.png` (a map) and `filled.npz`
(all readings, those that are missing filled in).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from field import condition, conditional_mean, distance_covariance, fit_gaussian
from fill_in import BASELINES, apply, distances, survey, tuned
from picture import draw_map
from sensors import TEST, TRAIN, VALIDATION, read_sensors
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv

from pyg_gunet import GraphUNet

SHARES = (0.25, 0.5, 0.75)
# Tried against each other on left-out months: the share of the covariance that hangs on distance
# alone, and the variance of a reading's own noise, in units of the stations' mean variance.
BLENDS = tuple((a, n) for a in (0.1, 0.3, 0.5, 0.7, 0.9) for n in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2))


class Options(NamedTuple):
    """How a network is made and trained."""

    epochs: int = 25
    lr: float = 3e-3
    seed: int = 0
    hidden_channels: int = 64
    depth: int = 2
    batch_size: int = 32


class Impute(torch.nn.Module):
    r"""A :class:`GraphUNet` that corrects a Gaussian field.

    The field is the conditional mean of silent stations given the others of that day
    (:func:`field.condition`), with mean and covariance of the training days;
    the covariance is shrunk to one that depends on distance alone, by as much as predicts left-out
    months best. The network reads the field, its deviation, its leave-one-out errors at the
    stations that are heard, the places and which stations are silent, and predicts what the field
    gets wrong. While it is trained, the field of a day is the one fitted without that day's month:
    its errors are then as large as those on days to come.

    Every step silences anew a random share of the stations of every day; the loss is the absolute
    error there.
    """

    def __init__(self, days: list[Data], options: Options) -> None:
        super().__init__()
        first = days[0]
        self.options, self.stations = options, int(first.num_nodes or 0)
        self.blocks = max(int(day.block) for day in days if int(day.part) == TRAIN) + 1
        self.places = sum(first[key].size(1) for key in ("pos", "elevation") if key in first)
        n, folds = self.stations, self.blocks + 1
        self.register_buffer("field_mean", torch.zeros(folds, n, dtype=torch.float64))
        self.register_buffer("field_cov", torch.zeros(folds, n, n, dtype=torch.float64))
        self.register_buffer("place", torch.zeros(n, self.places))
        self.net = self.make_net(9 + self.places)
        # Nothing is corrected at first: training starts from the field.
        for parameter in self.last_layer():
            torch.nn.init.zeros_(parameter)

    def make_net(self, in_channels: int) -> torch.nn.Module:
        return GraphUNet(
            in_channels,
            self.options.hidden_channels,
            1,
            self.options.depth,
            sum_res=False,
            act="elu",
            conv=_mean_conv,
            select="spread",
            dropout=0.1,
        )

    def last_layer(self) -> Iterable[torch.nn.Parameter]:
        return self.net.up_convs[-1].parameters()

    # The field -----------------------------------------------------------------------------------

    def learn_statistics(self, days: list[Data]) -> None:
        """Fits the field to the training days, once with each month left out and once to all."""
        x, observed, block, first = stacked(days)
        pos = first.get("pos")
        far = distances(first.edge_index, pos, x.size(1))
        fits = [self._fit(x[block != b], observed[block != b], far) for b in range(self.blocks)]
        # A share of its own for every day: one setting must serve few and many silent stations.
        generator = torch.Generator().manual_seed(self.options.seed)
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
        fold = data.block.clamp(max=self.blocks)
        x = data.x.view(seen.shape).double()
        return condition(self.field_mean[fold], self.field_cov[fold], x, seen)

    # The network ---------------------------------------------------------------------------------

    def inputs(self, data: Data, seen: Tensor, field: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """What the network reads, [T * N, channels]."""
        value, deviation, residual = field
        fold = data.block.clamp(max=self.blocks)
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
        return data.observed.view(-1, self.stations)

    def loss(self, data: Data) -> Tensor:
        """The error at stations that are silenced at random."""
        observed = self.observed(data)
        share = 0.1 + 0.8 * torch.rand(observed.size(0), device=observed.device)
        seen = hide(observed, torch.rand(observed.shape, device=observed.device), share)
        return self.error(data, seen)

    def error(self, data: Data, seen: Tensor) -> Tensor:
        """The mean absolute error at stations that read something and are not `seen`."""
        hidden = self.observed(data) & ~seen
        wrong = (self.fill(data, seen) - data.x.view(seen.shape)).abs()
        return torch.where(hidden, wrong, 0.0).sum() / hidden.sum().clamp(min=1)

    def chosen_by(self, data: Data) -> Tensor:
        """The error on days that choose the epoch, a mean over the shares."""
        observed = self.observed(data)
        rank = data.rank.view(*observed.shape, len(SHARES))
        errors = [
            self.error(data, hide(observed, rank[..., i], share)) for i, share in enumerate(SHARES)
        ]
        return torch.stack(errors).mean()


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


def stacked(days: list[Data]) -> tuple[Tensor, Tensor, Tensor, Data]:
    """Readings [T, N], which there are, the block of every day [T], and one day's graph."""
    x = torch.stack([day.x.view(-1) for day in days]).double()
    observed = torch.stack([day.observed for day in days])
    return x, observed, torch.tensor([int(day.block) for day in days]), days[0]


def _blend(fit: tuple[Tensor, Tensor, Tensor], share: float, noise: float) -> Tensor:
    _, cov, smooth = fit
    nugget = noise * cov.diagonal().mean()
    eye = torch.eye(cov.size(0), dtype=cov.dtype, device=cov.device)
    return (1 - share) * cov + share * smooth + nugget * eye


class Days(NamedTuple):
    """Training, validation and test days."""

    train: list[Data]
    val: list[Data]
    test: list[Data]


def prepare(days: list[Data], seed: int) -> Days:
    """The days in the order of time; those for choosing and testing with the stations that are
    silent, drawn by the seed."""
    parts: dict[int, list[Data]] = {TRAIN: [], VALIDATION: [], TEST: []}
    for number, day in enumerate(days):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        day.rank = torch.rand(day.num_nodes, len(SHARES), generator=generator)
        parts[int(day.part)].append(day)
    return Days(parts[TRAIN], parts[VALIDATION], parts[TEST])


def train(model: Impute, days: Days) -> dict[str, float]:
    """Trains, and leaves the weights of the epoch that is best on the validation days."""
    o = model.options
    optimizer = torch.optim.Adam(model.parameters(), lr=o.lr, weight_decay=1e-4)
    steps = o.epochs * -(-len(days.train) // o.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, step = {"val_mae": float("inf"), "best_epoch": 0}, 0
    weights = copy.deepcopy(model.state_dict())
    for epoch in range(o.epochs):
        model.train()
        for batch in DataLoader([days.train[i] for i in _order(days, o, epoch)], o.batch_size):
            torch.manual_seed(o.seed * 1_000_003 + step)
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            schedule.step()
            step += 1
        model.eval()
        with torch.no_grad():
            found = [
                (float(model.chosen_by(batch)), batch.num_graphs)
                for batch in DataLoader(days.val, o.batch_size)
            ]
        error = sum(value * count for value, count in found) / len(days.val)
        if error < best["val_mae"]:
            best = {"val_mae": error, "best_epoch": epoch + 1}
            weights = copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best


def _order(days: Days, options: Options, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
    return torch.randperm(len(days.train), generator=generator).tolist()


def fit(
    path: str | Path,
    folder: Path | None = None,
    options: Options | None = None,
    kind: type[Impute] = Impute,
) -> tuple[Impute, dict[str, Any]]:
    """A trained network and its figures; with `folder` the files, too."""
    options = options or Options()
    all_days = read_sensors(path)
    if folder is not None:
        folder.mkdir(parents=True)  # before hours of training, not after
    days = prepare(all_days, options.seed)
    torch.manual_seed(options.seed)
    model = kind(all_days, options)
    model.learn_statistics([days.train[i] for i in _order(days, options, 0)])
    figures: dict[str, Any] = train(model, days)
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    figures.update(report(model, days, folder))
    if folder is not None:
        (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    return model, figures


@torch.no_grad()
def report(model: Impute, days: Days, folder: Path | None) -> dict[str, Any]:
    """Errors on the test days at each share of silent stations, beside baselines at the settings
    that are best on the validation days; a map; and every missing reading filled in."""
    x, observed, _, first = stacked(days.train)
    net = survey(x, observed, first.edge_index, first.get("edge_weight"), first.get("pos"))
    val, test = (Batch.from_data_list(part) for part in (days.val, days.test))
    ours: dict[str, float] = {}
    base: dict[str, dict[str, float]] = {name: {} for name in (*BASELINES, "Gaussian field")}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in BASELINES}
    shown: tuple[Tensor, Tensor] | None = None
    for i, share in enumerate(SHARES):
        key = f"{share:g}"
        seen = {}
        for part, data in (("val", val), ("test", test)):
            there = model.observed(data)
            seen[part] = hide(there, data.rank.view(*there.shape, len(SHARES))[..., i], share)
        xs = {p: d.x.view(seen[p].shape).double() for p, d in (("val", val), ("test", test))}
        hidden = {p: model.observed(d) & ~seen[p] for p, d in (("val", val), ("test", test))}

        def mae(value: Tensor, xs: Any = xs, hidden: Any = hidden) -> float:
            return float((value.double() - xs["test"])[hidden["test"]].abs().mean())

        filled = model.fill(test, seen["test"])
        ours[key] = mae(filled)
        base["Gaussian field"][key] = mae(model.field(test, seen["test"])[0])
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
    if folder is not None:
        if first.get("pos") is not None and shown is not None:
            truth, there = xs["test"][0], model.observed(test)[0]
            draw_map(folder / "filled_in.png", first.pos, truth, there, *shown)
        _write_filled(folder / "filled.npz", model, [*days.train, *days.val, *days.test])
    return figures


def _write_filled(path: Path, model: Impute, days: list[Data]) -> None:
    """Readings of all days [T, N], those that are missing filled in."""
    whole = Batch.from_data_list(sorted(days, key=lambda day: int(day.day)))
    values, observed = model(whole).numpy(), model.observed(whole).numpy()
    np.savez_compressed(path, values=values, observed=observed)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="an .npz file of readings")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    for name, default in Options()._asdict().items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"default: {default}")
    args = vars(parser.parse_args(argv))
    path, out = args.pop("file"), args.pop("out")
    _, figures = fit(path, out, Options(**args))
    print(f"{'mean absolute error':<28}" + "".join(f"{share:<10}" for share in SHARES))
    for name, errors in {"ours": figures["test_mae"], **figures["baselines"]}.items():
        print(f"  {name:<26}" + "".join(f"{error:<10.4g}" for error in errors.values()).rstrip())
    print("wrote", *sorted(map(str, out.iterdir())))


if __name__ == "__main__":
    main()
