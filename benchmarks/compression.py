"""One graph's features through a small latent: the default auto-encoder against classical sampling.

A kept node of the baselines stores its raw features, `spread` picks it; harmonic and biharmonic
interpolation fill in the rest, and the spectral low-pass keeps the lowest eigenvectors of the
Laplacian, all at the floats of ours. Ours: two poolings to a latent as wide as the features,
features less their mean over one deviation, `calibrate`, full-batch Adam at 0.01 with a cosine on
levels that are prepared once; its kept nodes and weights are not counted, as theirs are not.
`before` is the error before the first step.

`--command` measures ``pyg-gunet fit --dataset NAME`` as it is, by the ``metrics.json`` that it
writes below `--runs`; what lies there already is read, not made again.

    python benchmarks/compression.py [--name bunny] [--seeds 3] --json results/compression.json
    python benchmarks/compression.py --command --runs runs --json results/fit.json
    python benchmarks/compression.py --quick
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import parser, record, table, write_json
from _interpolation import errors

from pyg_gunet import GraphUNetAutoEncoder, load

# Floats per node over features per node: the share of nodes that is kept.
SETS = {"bunny": 1 / 3, "airfoil": 0.375, "minnesota": 0.375, "logo": 0.375}
STEPS = 2_000


def train(name: str, seed: int, steps: int) -> dict[str, float]:
    """The error before and after training, the floats per node and the seconds."""
    data = load(name)[0]
    mean = data.x.mean(0)
    scale = (data.x - mean).square().mean().sqrt()
    x = (data.x - mean) / scale
    torch.manual_seed(seed)
    ratio = SETS[name] ** 0.5
    model = GraphUNetAutoEncoder(x.size(1), 64, x.size(1), depth=2, pool_ratios=ratio)
    levels = model.prepare(data.edge_index, data.get("edge_weight"), num_nodes=data.num_nodes)
    before = model.calibrate(x, levels) * float(scale) ** 2
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model(x, levels), x).backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        z, hierarchy = model.encode(x, levels)
        left = model.decode(z, hierarchy) * scale + mean - data.x
    mse = float(left.double().square().mean())
    return {"before": before, "mse": mse, "floats": z.numel() / x.size(0), "seconds": seconds}


def fitted(name: str, runs: Path) -> list[dict[str, Any]]:
    """What the command tells of a set, and the spectral low-pass at its floats."""
    found = runs / f"{name}-autoencode" / "metrics.json"
    if not found.exists():
        runs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pyg_gunet.cli", "fit", "--dataset", name]
        subprocess.run([*command, "--out", str(found.parent)], check=True)
    told, data = json.loads(found.read_text()), load(name)[0]
    floats = told["latent_floats_per_node"]
    base = errors(data.x, floats, data.edge_index, data.get("edge_weight"))
    values = {key.split()[0]: value for key, value in told["baselines"].items()}
    values = {key: values.get(key, value) for key, value in base.items()}
    new = [record("fit", name, system, "mse", value) for system, value in values.items()]
    ours = {"mse": told["mse"], "floats": floats, "seconds": told["seconds"]}
    return new + [record("fit", name, "ours", key, value) for key, value in ours.items()]


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--command", action="store_true", help="measure the command")
    p.add_argument("--runs", type=Path, default=Path("runs"), help="where the command writes")
    args = p.parse_args()
    if args.command:
        sets = [args.name] if args.name else ["logo"] if args.quick else list(SETS)
        told = [row for name in sets for row in fitted(name, args.runs)]
        print(table(["set", "system", "figure", "value"], [
            [r["case"], r["system"], r["metric"], f"{r['value']:.3g}"] for r in told
        ]))  # fmt: skip
        return write_json(args.json, told)
    steps, seeds = (20, 1) if args.quick else (STEPS, args.seeds or 3)
    names = [args.name] if args.name else ["logo"] if args.quick else list(SETS)
    kept: list[dict[str, Any]] = []
    if args.json and Path(args.json).exists():
        kept = json.loads(Path(args.json).read_text())
    rows = []
    for name in names:
        runs = [train(name, seed, steps) for seed in range(seeds)]
        data = load(name)[0]
        floats = runs[0]["floats"]
        base = errors(data.x, floats, data.edge_index, data.get("edge_weight"))
        new = [record("compression", name, system, "mse", value) for system, value in base.items()]
        for key in runs[0]:
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if seeds > 1 else None
            mean = statistics.mean(values)
            new.append(record("compression", name, "ours", key, mean, spread, seeds))
        kept = [one for one in kept if one["case"] != name] + new
        write_json(args.json, kept)
        ours = {one["metric"]: one for one in new if one["system"] == "ours"}
        error = ours["mse"]["std"] or 0.0
        rows.append(
            [name, f"{ours['floats']['value']:.3f}", *(f"{value:.2e}" for value in base.values()),
             f"{ours['before']['value']:.2e}", f"{ours['mse']['value']:.2e} +- {error:.0e}",
             f"{ours['seconds']['value']:.0f}"]
        )  # fmt: skip
        print(f"{name}: done", flush=True)
    heads = ["set", "floats per node", *base, "ours, before", "ours", "seconds"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
