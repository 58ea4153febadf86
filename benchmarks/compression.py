"""One graph through a small latent: ``pyg-gunet fit`` as it is against classical sampling.

A kept node of the baselines stores its raw features, `spread` picks it; harmonic and biharmonic
interpolation fill in the rest, and the spectral low-pass keeps the lowest eigenvectors of the
Laplacian, all at the floats of ours; its kept nodes and weights are not counted, as theirs are not.
`untrained` is the error of the auto-encoder before anything, `calibrated` that of its linear path
once it is fitted, `mse` that of the command after training.

The command writes its run below `--runs`; a run that lies there already is read, not made again.

    python benchmarks/compression.py [--name bunny] --runs RUNS --json results/compression.json
    python benchmarks/compression.py --quick
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _common import parser, record, table, write_json
from _interpolation import errors

from pyg_gunet import GraphUNetAutoEncoder, load

SETS = ("bunny", "airfoil", "minnesota", "logo")


def measure(name: str, runs: Path, quick: bool) -> dict[str, dict[str, float]]:
    """The figures of every system on a set."""
    found = runs / f"{name}-autoencode" / "metrics.json"
    if not found.exists():
        command = [sys.executable, "-m", "pyg_gunet.cli", "fit", "--dataset", name]
        command += ["--out", str(found.parent), *(["--epochs", "20"] if quick else [])]
        subprocess.run(command, check=True)
    told, data = json.loads(found.read_text()), load(name)[0]
    floats = told["latent_floats_per_node"]
    base = errors(data.x, floats, data.edge_index, data.get("edge_weight"))
    ours = {"floats": floats, **path(data, told["settings"]["model"])}
    ours |= {"mse": told["mse"], "seconds": told["seconds"]}
    return {**{system: {"mse": value} for system, value in base.items()}, "ours": ours}


def path(data: Any, options: dict[str, Any]) -> dict[str, float]:
    """The errors of the auto-encoder that the command trains, before it does."""
    mean = data.x.mean(0)
    scale = (data.x - mean).square().mean().sqrt()
    x = (data.x - mean) / scale
    depth, ratio = options["depth"], options["pool_ratios"]
    model = GraphUNetAutoEncoder(x.size(1), 64, x.size(1), depth, ratio)
    levels = model.prepare(data.edge_index, data.get("edge_weight"), num_nodes=data.num_nodes)
    with torch.no_grad():
        untrained = float((model(x, levels) - x).square().mean() * scale**2)
    return {
        "untrained": untrained,
        "calibrated": model.calibrate(x, levels) * float(scale) ** 2,
    }


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--runs", type=Path, help="where the command writes (default: nowhere to stay)")
    args = p.parse_args()
    kept: list[dict[str, Any]] = []
    if args.json and Path(args.json).exists():
        kept = json.loads(Path(args.json).read_text())
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in [args.name] if args.name else ["logo"] if args.quick else SETS:
            found = measure(name, args.runs or Path(scratch), args.quick)
            new = [
                record("compression", name, system, metric, value)
                for system, figures in found.items()
                for metric, value in figures.items()
            ]
            kept = [one for one in kept if one["case"] != name] + new
            write_json(args.json, kept)
            rows.append([name, *(f"{one['value']:.3g}" for one in new)])
            heads = [f"{one['system']}, {one['metric']}" for one in new]
    print(table(["set", *heads], rows))


if __name__ == "__main__":
    main()
