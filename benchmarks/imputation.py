"""Filling in silent stations of a weather network: mean absolute error in the readings' unit.

Every day a share of the stations is silent (25, 50, 75 percent, drawn anew each day by the seed),
and their readings are predicted from the others of that day. The first nine months are for
training, the tenth for every choice, the rest for testing. Columns:

- the day's mean, the k nearest stations, graph Tikhonov smoothing, and probabilistic PCA fitted by
  expectation maximisation: each at the setting that is best in the tenth month at that share,
  on readings or on readings less their station's mean, whichever is better there;
- a Gaussian field: the part of ours that needs no training, by itself;
- a plain GCN auto-encoder: as many epochs over the same days, the same loss and random silences,
  about as many parameters; the best of three learning rates, where ours gets one;
- ours: `python examples/imputation/impute.py FILE.npz`, no option set.

One network serves all shares. Each run is a line per share in the CSV file and is not repeated:
start again to resume.

    python benchmarks/imputation.py --root WEATHER [--name us_weather_2025] [--seeds 5]
    python benchmarks/imputation.py --root WEATHER --quick
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from _common import parser, record, table, write_json
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCN

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "imputation"))
from impute import SHARES, Impute, Options, fit, stacked  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "imputation.csv"
FIELDS = ("name", "system", "seed", "share", "mae", "val_mae", "epochs", "parameters", "seconds")
RATES = (1e-3, 3e-3, 1e-2)
OURS, GCN_AE = "ours", "GCN auto-encoder"


class PlainGCN(Impute):
    """Two convolutions to a latent of a quarter of the width and two back, on the same readings,
    silences and places."""

    def make_net(self, in_channels: int) -> torch.nn.Module:
        h = self.options.hidden_channels
        encoder = GCN(3 + self.places, h, 2, h // 4, act="elu")
        return torch.nn.ModuleList([encoder, GCN(h // 4, h, 2, 1, act="elu")])

    def last_layer(self) -> Any:
        return ()

    def learn_statistics(self, data: Any) -> None:
        x, observed, _, first = stacked(data)
        mean, cov, _ = self._fit(x, observed, torch.cdist(first.pos.double(), first.pos.double()))
        self.field_mean.copy_(mean.expand_as(self.field_mean))
        self.field_cov.copy_(cov.expand_as(self.field_cov))
        place = torch.cat([first[k] for k in ("pos", "elevation") if k in first], 1)
        self.place.copy_((place - place.mean(0)) / place.std(0).clamp(min=1e-9))

    def fill(self, data: Data, seen: Tensor) -> Tensor:
        mean = self.field_mean[0]
        scale = self.field_cov[0].diagonal().sqrt()
        anomaly = torch.where(seen, (data.x.view(seen.shape).double() - mean) / scale, 0.0)
        level = anomaly.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        own = torch.stack([anomaly, seen.double(), level.expand_as(anomaly)], -1).float()
        place = self.place.expand(seen.size(0), -1, -1)
        encoder, decoder = self.net
        weight = data.get("edge_weight")
        x = torch.cat([own, place], -1).flatten(0, 1)
        z = encoder(x, data.edge_index, edge_weight=weight)
        out = decoder(z, data.edge_index, edge_weight=weight).view(seen.shape)
        return (mean + scale * out).float()


def one(path: Path, system: str, seed: int, epochs: int | None) -> list[dict[str, Any]]:
    """The rows of one system and seed; those of the baselines come with ours."""
    start = time.process_time()
    rows: list[dict[str, Any]] = []
    options = Options(seed=seed) if epochs is None else Options(seed=seed, epochs=epochs)
    if system == GCN_AE:
        runs = [fit(path, None, options._replace(lr=lr), PlainGCN)[1] for lr in RATES]
    else:
        runs = [fit(path, None, options)[1]]
    figures = min(runs, key=lambda run: run["val_mae"])
    columns = {system: figures["test_mae"]}
    if system == OURS:
        columns.update(figures["baselines"])
    for name, errors in columns.items():
        own = name == system
        for share, mae in errors.items():
            rows.append(
                {
                    "name": path.stem,
                    "system": name,
                    "seed": seed,
                    "share": share,
                    "mae": mae,
                    "val_mae": figures["val_mae"] if own else "",
                    "epochs": figures["best_epoch"] if own else "",
                    "parameters": figures["parameters"] if own else "",
                    "seconds": round(time.process_time() - start, 1) if own else "",
                }
            )
    return rows


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


def report_table(rows: list[dict[str, str]], json_path: str | None) -> None:
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[row["name"], row["system"], row["share"]].append(float(row["mae"]))
    records, lines = [], []
    for name, system in dict.fromkeys((key[0], key[1]) for key in found):
        cells: list[Any] = [name, system]
        for share in (f"{s:g}" for s in SHARES):
            values = found.get((name, system, share), [])
            if not values:
                continue
            mean, std = statistics.mean(values), statistics.pstdev(values)
            cells.append(f"{mean:.3f} +- {std:.3f}")
            case = f"{name} {share}"
            records.append(record("imputation", case, system, "test_mae", mean, std, len(values)))
        lines.append([*cells, len(values)])
    print(table(["network", "system", "25% silent", "50%", "75%", "seeds"], lines))
    write_json(json_path, records)


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--csv", type=Path, default=None, help="one line per run and share")
    p.add_argument("--budget", type=float, default=None, help="start no run after these seconds")
    p.add_argument("--table", action="store_true", help="print what the CSV file holds")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    csv_path = args.csv or (RESULTS.with_stem("imputation_quick") if args.quick else RESULTS)
    root = Path(args.root or "data/weather")
    paths = [root / f"{args.name}.npz"] if args.name else sorted(root.glob("*.npz"))
    if not paths and not args.table:
        p.error(f"no .npz file in '{root}'")
    start = time.monotonic()
    for path in [] if args.table else paths:
        for seed in range(1 if args.quick else args.seeds or 5):
            for system in (OURS, GCN_AE):
                done = {(r["name"], r["system"], r["seed"]) for r in read(csv_path)}
                late = args.budget is not None and time.monotonic() - start > args.budget
                if (path.stem, system, str(seed)) in done or late:
                    continue
                rows = one(path, system, seed, 1 if args.quick else None)
                append(csv_path, rows)
                own = [f"{row['mae']:.3f}" for row in rows if row["system"] == system]
                print(
                    path.stem, system, seed, *own, f"{time.monotonic() - start:.0f} s", flush=True
                )
    report_table(read(csv_path), args.json)


if __name__ == "__main__":
    main()
