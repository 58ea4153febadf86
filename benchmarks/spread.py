"""Spread selection without training: its time from 1e4 to 1e6 edges, and how far nodes are kept.

The time is that of one call on edges as they come, for scores that make a scan in strict order
slow (falling along a path, smooth on a mesh) and for random ones. The distance is the number of
hops to the nearest kept node, over the nodes that reach one, beside top-k and a random share of the
same size and, where torch-geometric-pool is installed, the poolers that cover: k-MIS at the order,
and NDP at the number of repetitions, whose share of kept nodes comes closest to the ratio (it is
printed).

    python benchmarks/spread.py --root MESHES --json benchmarks/results/spread.json
    python benchmarks/spread.py --quick
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev

import torch
from _autoencoding_data import load, names
from _common import clock
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch_geometric.utils import to_scipy_sparse_matrix

from pyg_gunet.functional.select import topk
from pyg_gunet.functional.spread import spread

RATIOS = (0.5, 0.25, 0.1)
ORDERS = {"spread": None, "spread, quantiles=1": 1}


def path(nodes: int) -> Tensor:
    first = torch.arange(nodes - 1)
    return torch.stack([first, first + 1])


def mesh(side: int) -> Tensor:
    """A triangulated square: six neighbours each."""
    index = torch.arange(side * side).view(side, side)
    pairs = (index[:, :-1], index[:, 1:]), (index[:-1], index[1:]), (index[:-1, :-1], index[1:, 1:])
    return torch.cat([torch.stack([a.reshape(-1), b.reshape(-1)]) for a, b in pairs], dim=1)


def graphs(edges: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Graphs of about `edges` directed edges with a score each."""
    generator = torch.Generator().manual_seed(0)
    nodes = edges // 2
    yield "path, monotone score", path(nodes), -torch.arange(nodes).double()
    side = round(math.sqrt(edges / 6))
    x, y = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    yield "mesh, linear score", mesh(side), (x + 0.3 * y).reshape(-1)
    yield "mesh, wavy score", mesh(side), ((9 * x).sin() + (7 * y).cos()).reshape(-1)
    yield "mesh, random score", mesh(side), torch.rand(side * side, generator=generator)
    nodes = edges // 10
    pairs = torch.randint(nodes, (2, edges // 2), generator=generator)
    yield "random graph, random score", pairs, torch.rand(nodes, generator=generator)


def times(sizes: list[int], repeats: int) -> list[dict]:
    records = []
    now = clock()
    for edges in sizes:
        for name, pairs, score in graphs(edges):
            edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
            for ratio in RATIOS:
                taken = []
                for _ in range(repeats + 1):
                    start = now()
                    spread(score, edge_index, ratio)
                    taken.append(now() - start)
                case = f"{name}, {edges:.0e} edges"
                records.append(_record("time", case, f"ratio {ratio}", "s", taken[1:]))
                fastest = [min(taken[1:])]
                records.append(_record("time", case, f"ratio {ratio}", "s, fastest", fastest))
    return records


def distances(root: str | None, data: list[str], seeds: int) -> list[dict]:
    systems: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
        "top-k": lambda x, edge_index, score, ratio: topk(score, ratio),
        "random": lambda x, edge_index, score, ratio: topk(torch.rand_like(score), ratio),
        **{
            name: lambda x, e, score, ratio, quantiles=quantiles: spread(
                score, e, ratio, quantiles=quantiles
            )
            for name, quantiles in ORDERS.items()
        },
        **peers(),
    }
    records = []
    for name in data:
        graph = load(name, root)
        matrix = to_scipy_sparse_matrix(graph.edge_index, num_nodes=graph.num_nodes).tocsr()
        for ratio in RATIOS:
            for system, select in systems.items():
                worst, average, cut, share = [], [], [], []
                for seed in range(seeds):
                    torch.manual_seed(seed)
                    score = graph.x @ torch.randn(graph.x.size(1))  # a random direction: smooth
                    kept = select(graph.x, graph.edge_index, score, ratio)
                    hops = dijkstra(matrix, False, kept.numpy(), unweighted=True, min_only=True)
                    cut.append(float((hops == math.inf).mean()))
                    hops = hops[hops < math.inf]
                    worst.append(float(hops.max()))
                    average.append(float(hops.mean()))
                    share.append(kept.numel() / graph.num_nodes)
                case = f"{name}, ratio {ratio}"
                records.append(_record("coverage", case, system, "largest distance", worst))
                records.append(_record("coverage", case, system, "mean distance", average))
                records.append(_record("coverage", case, system, "share without a kept node", cut))
                records.append(_record("coverage", case, system, "share kept", share))
    return records


def peers() -> dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]]:
    try:
        from tgp.poolers import KMISPooling, NDPPooling
    except ImportError:
        print("torch-geometric-pool is not installed: no k-MIS, no NDP")
        return {}

    def nearest(tried: list[Tensor], size: int, ratio: float) -> Tensor:
        return min(tried, key=lambda kept: abs(math.log(kept.numel() / (ratio * size))))

    def kmis(x: Tensor, edge_index: Tensor, score: Tensor, ratio: float) -> Tensor:
        tried = []
        layer = KMISPooling(x.size(1))
        for order in range(1, 9):
            layer.selector.order_k = order
            with torch.no_grad():
                mis = layer(x=x, adj=edge_index).so.mis
            tried.append(mis.nonzero().view(-1) if mis.dtype == torch.bool else mis)
        return nearest(tried, x.size(0), ratio)

    def ndp(x: Tensor, edge_index: Tensor, score: Tensor, ratio: float) -> Tensor:
        kept, tried, weight = torch.arange(x.size(0)), [], None
        for _ in range(5):
            out = NDPPooling()(x=x, adj=edge_index, edge_weight=weight)
            node, place = out.so.s.indices()
            kept = kept[node[place.argsort()]]
            tried.append(kept)
            x, edge_index, weight = out.x, out.edge_index, out.edge_weight
            if kept.numel() < 4 or kept.numel() < 0.5 * ratio * tried[0].numel():
                break
        return nearest(tried, score.numel(), ratio)

    return {"k-MIS": kmis, "NDP": ndp}


def _record(benchmark: str, case: str, system: str, metric: str, values: list[float]) -> dict:
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {
        "benchmark": f"spread: {benchmark}",
        "case": case,
        "system": system,
        "metric": metric,
        "value": mean(values),
        "std": deviation,
        "n": len(values),
    }


def show(records: list[dict]) -> None:
    """One line per case and metric, one column per system."""
    for metric in dict.fromkeys(record["metric"] for record in records):
        rows = [record for record in records if record["metric"] == metric]
        systems = list(dict.fromkeys(record["system"] for record in rows))
        print(f"\n{metric:44s}" + "".join(f"{system:>18s}" for system in systems))
        for case in dict.fromkeys(record["case"] for record in rows):
            cells = {r["system"]: f"{r['value']:.3g}" for r in rows if r["case"] == case}
            print(f"{case:44s}" + "".join(f"{cells.get(system, ''):>18s}" for system in systems))


def verdict(records: list[dict]) -> None:
    """Is every node as near a kept one as 1.5x the best of the peers that cover?"""
    largest = {
        (r["case"], r["system"]): r["value"] for r in records if r["metric"] == "largest distance"
    }
    for case in dict.fromkeys(case for case, _ in largest):
        rivals = [largest[case, peer] for peer in ("k-MIS", "NDP") if (case, peer) in largest]
        if rivals and "ratio 0.1" in case:
            for system in ORDERS:
                factor = largest[case, system] / max(min(rivals), 1.0)
                print(f"{case}: {system} at {factor:.2f}x the best of k-MIS and NDP")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", help="a folder of meshes (.ply, .off, .obj, .stl)")
    parser.add_argument("--name", nargs="*", help="data sets of the distances (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="scores per data set, calls per time")
    parser.add_argument("--only", choices=("time", "coverage"))
    parser.add_argument("--json", type=Path, help="flat records")
    parser.add_argument("--quick", action="store_true", help="up to 1e5 edges; grid and ring")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    records = []
    if args.only != "coverage":
        print(f"{torch.get_num_threads()} threads")
        records += times([10**4, 10**5] if args.quick else [10**4, 10**5, 10**6], args.seeds)
    if args.only != "time":
        data = args.name or (["grid2d", "ring"] if args.quick else names(args.root))
        records += distances(args.root, data, args.seeds)
    show(records)
    verdict(records)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
