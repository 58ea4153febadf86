"""Which selection should `GraphUNetAutoEncoder` default to? All else at its defaults.

    python benchmarks/selection.py --root MESHES --json benchmarks/results/selection.json

Coordinates, standardised by one scale for all columns, through three poolings into a latent of 16
numbers per coarsest node (2 per node), 600 steps of Adam at 5e-3 under a cosine; the lowest loss
of a run counts, as share of the variance. Finished runs are read from the JSON file.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch
from _autoencoding_data import load, names
from _common import parser, record, table, write_json

from pyg_gunet import GPool, GraphUNetAutoEncoder

CASES: dict[str, dict[str, Any]] = {
    "topk": {"select": "topk"},
    "spread": {"pool": lambda c, r: GPool(c, r, select="spread", connect="contract")},
    "spread, quantiles=1": {"select": "spread"},
}


def train(name: str, root: str | None, options: dict[str, Any], seed: int, steps: int) -> float:
    """The lowest mean squared error over the variance."""
    data = load(name, root)
    x = data.x - data.x.mean(0)
    x = x / x.square().mean().sqrt()
    torch.manual_seed(seed)
    model = GraphUNetAutoEncoder(x.size(1), 64, 16, depth=3, **options)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = torch.tensor(float("inf"))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(model(x, data.edge_index), x)
        loss.backward()
        optimizer.step()
        schedule.step()
        best = torch.minimum(best, loss.detach())
    return best.item()


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    seeds, steps = args.seeds or 3, 600
    graphs = [args.name] if args.name else names(args.root)
    if args.quick:
        seeds, steps, graphs = 1, 50, ["grid2d", "ring"]
    runs: list[dict[str, Any]] = []
    if args.json and Path(args.json).exists():
        runs = [r for r in json.loads(Path(args.json).read_text()) if r["metric"] == "mse"]
    done = {(r["case"], r["system"]): r["value"] for r in runs}
    rows, summary = [], []
    for graph in graphs:
        cells = [graph]
        for system, options in CASES.items():
            values = []
            for seed in range(seeds):
                case = f"{graph}, seed {seed}"
                if (case, system) not in done:
                    done[case, system] = train(graph, args.root, options, seed, steps)
                    runs.append(
                        record("selection", case, system, "mse", done[case, system], n=steps)
                    )
                    write_json(args.json, runs)
                values.append(done[case, system])
            mean = statistics.mean(values)
            std = statistics.stdev(values) if seeds > 1 else 0.0
            summary.append(record("selection", graph, system, "mean mse", mean, std, seeds))
            cells.append(f"{mean:.2e} +- {std:.0e}")
        rows.append(cells)
    print(table(["graph", *CASES], rows))
    write_json(args.json, runs + summary)


if __name__ == "__main__":
    main()
