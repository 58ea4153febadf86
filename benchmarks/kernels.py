"""What scipy's private kernels buy over its public matrices, on small graphs and on large ones.

The private ones are called on plain arrays; the public ones go through matrix objects, whose checks
cost the same for a graph of ten nodes as for one of a million. Two poolings of a stored adjacency,
and a training step of a Graph U-Net in its default words, in turns on one thread; CPU time, which a
busy machine does not stretch.

    python benchmarks/kernels.py --json benchmarks/results/kernels.json
    python benchmarks/kernels.py --quick
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import torch
from _common import median, parser, record, table, write_json
from torch import Tensor

from pyg_gunet import GraphUNet
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.sparse import kernels

NODES = (30, 300, 3_000, 30_000, 300_000)
DEGREE = 4
FAMILIES = {"private": kernels.HAVE_PRIVATE, "public": False}


def levels(edge_index: Tensor, num_nodes: int) -> Callable[[], Any]:
    """Two poolings to half the nodes each, by two hops."""
    perms = [torch.randperm(n)[: n // 2] for n in (num_nodes, num_nodes // 2)]
    graph = Adjacency.from_edge_index(edge_index, None, num_nodes)
    return lambda: graph.pool(perms[0]).pool(perms[1])


def training(edge_index: Tensor, num_nodes: int) -> Callable[[], Any]:
    """Forward and backward of a network of depth 3."""
    model, x = GraphUNet(16, 32, 4, depth=3), torch.randn(num_nodes, 16)
    return lambda: model(x, edge_index).square().mean().backward()


def spent(step: Callable[[], Any], repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of a step by either family, in turns."""
    found: dict[str, list[float]] = {family: [] for family in FAMILIES}
    for _ in range(repeats + 1):
        for family, private in FAMILIES.items():
            kernels.HAVE_PRIVATE = private
            start = time.process_time()
            step()
            found[family].append(1e3 * (time.process_time() - start))
    return {family: values[1:] for family, values in found.items()}


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    if not kernels.HAVE_PRIVATE:
        raise SystemExit("this scipy has no such private kernels: there is nothing to compare")
    torch.set_num_threads(1)
    rows, records = [], []
    for num_nodes in NODES[:2] if args.quick else NODES:
        torch.manual_seed(0)
        half = torch.randint(num_nodes, (2, DEGREE * num_nodes // 2))
        edge_index = torch.cat([half, half.flip(0)], dim=1)
        repeats = args.seeds or (3 if args.quick else max(5, min(100, 300_000 // num_nodes)))
        for name, make in (("two poolings", levels), ("training step", training)):
            step = make(edge_index, num_nodes)
            found = spent(step, repeats)
            shown: list[Any] = [f"{num_nodes:,}", name]
            for family, values in found.items():
                low, _, high = quantiles(values, n=4)
                shown.append(f"{median(values):.3g} ({low:.3g} to {high:.3g})")
                case = f"{num_nodes} nodes, {name}"
                records.append(record("kernels", case, family, "ms", median(values), n=repeats))
            rows.append([*shown, f"{median(found['public']) / median(found['private']):.2f}"])
    header = [
        "nodes",
        "what",
        "private, ms (quartiles)",
        "public, ms (quartiles)",
        "public/private",
    ]
    print(table(header, rows))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
