"""What torch-scatter buys: the same steps with it and without it, in turns in one process.

PyG's `scatter` and `softmax` use torch-scatter by themselves where it is installed, and torch's own
kernels elsewhere; both are switched in PyG here, with all else equal. Where this interpreter has no
torch-scatter, name one that has, with pyg_gunet beside it:

    python benchmarks/scatter.py --python OTHER/bin/python --json benchmarks/results/scatter.json

The test suite runs with it as without: `pip install --no-build-isolation torch-scatter; pytest`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec

from _common import (
    heavy_tailed,
    interleaved,
    median,
    parser,
    record,
    table,
    write_json,
)

warnings.filterwarnings("ignore")


def steps(num_nodes: int) -> dict[str, Callable[[], list]]:
    """A training step of each model on a graph of heavy-tailed degrees: its output, gradients."""
    import torch
    from torch_geometric import nn as pyg

    from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder

    edge_index = heavy_tailed(num_nodes, 5 * num_nodes)
    x = torch.randn(num_nodes, 32, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(num_nodes) * 16 // num_nodes
    inside = edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]
    torch.manual_seed(0)
    models = {
        "GPool, topk, 16 graphs": GPool(32),
        "GPool, spread, 16 graphs": GPool(32, select="spread"),
        "GPool, min_score, 16 graphs": GPool(32, ratio=None, min_score=1e-3),
        "GraphUNet, two_hop": GraphUNet(32, 32, 8, 2),
        "GraphUNet, walk": GraphUNet(32, 32, 8, 2, connect="walk"),
        "GraphUNetAutoEncoder": GraphUNetAutoEncoder(32, 32, 8, 2),
        "GraphUNet, induced, SAGEConv": GraphUNet(
            32, 32, 8, 2, connect="induced", conv=pyg.SAGEConv
        ),
        "GraphUNet, induced, GATConv": GraphUNet(32, 32, 8, 2, connect="induced", conv=pyg.GATConv),
    }

    def step(model: torch.nn.Module) -> list:
        model.zero_grad()
        out = model(x, inside, batch=batch).x if isinstance(model, GPool) else model(x, edge_index)
        out.square().mean().backward()
        return [out.detach(), *(p.grad for p in model.parameters())]

    return {name: lambda model=model: step(model) for name, model in models.items()}


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--python", default=None, help="an interpreter that has torch-scatter")
    args = p.parse_args()
    if find_spec("torch_scatter") is None:
        if args.python is None or os.environ.get("SCATTER_CHILD"):
            sys.exit("torch-scatter is not installed: --python names an interpreter that has it")
        rest = [a for a in sys.argv[1:] if a != args.python and a != "--python"]
        environment = {**os.environ, "SCATTER_CHILD": "1"}
        sys.exit(subprocess.call([args.python, __file__, *rest], env=environment))

    import torch
    import torch_geometric.typing

    repeats = args.seeds or 9
    num_nodes = 2_000 if args.quick else 8_000
    rows, records = [], []
    for case, step in steps(num_nodes).items():
        if args.name not in (None, case):
            continue

        def switched(on: bool, step: Callable[[], list] = step) -> Callable[[], list]:
            def run() -> list:
                torch_geometric.typing.WITH_TORCH_SCATTER = on
                return step()

            return run

        systems = {"torch-scatter": switched(True), "torch": switched(False)}
        outputs = [[t.clone() for t in system()] for system in systems.values()]
        worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*outputs))
        seconds = interleaved(systems, repeats)
        middle = {name: median(values) for name, values in seconds.items()}
        for name, values in seconds.items():
            std = float(torch.tensor(values).std())
            records.append(record("scatter", case, name, "seconds", middle[name], std, repeats))
        records.append(record("scatter", case, "both", "largest relative difference", worst))
        faster = middle["torch"] / middle["torch-scatter"]
        row = [case, *(f"{1e3 * value:.1f}" for value in middle.values())]
        rows.append([*row, f"{faster:.2f}", f"{worst:.0e}"])
        print(f"{case}: done", file=sys.stderr)
    torch_geometric.typing.WITH_TORCH_SCATTER = True
    header = ["step", "torch-scatter, ms", "torch, ms", "times faster with it", "difference"]
    print(table(header, rows))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
