"""``python -m tests.memory [--steps 300] [--edges 5_000_000] [--graphs 10_000] [--depth 50]``.

Prints how much memory training steps leave behind, for every way to select and to connect, and
the time and the peak of large inputs: many tiny graphs in a batch, one large graph, and the
backward pass through many levels.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable

import psutil
import torch

from pyg_gunet import GPool, GraphUNet

CONNECTIONS = ("two_hop", "induced", "contract", "walk", "sampled")
SELECTIONS = ("topk", "spread")
MB = 2**20


def resident() -> float:
    """Resident memory of this process, in MB."""
    gc.collect()
    return psutil.Process().memory_info().rss / MB


def peak() -> float:
    """The most that this process ever had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tiny_graphs(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(x, edge_index, batch)`` of graphs of 1 to 8 nodes, rings where there are 3."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (count,), generator=generator)
    batch = torch.arange(count).repeat_interleave(sizes)
    start = (sizes.cumsum(0) - sizes)[batch]
    nodes = torch.arange(batch.numel())
    following = start + (nodes - start + 1) % sizes[batch]
    edge_index = torch.stack([torch.cat([nodes, following]), torch.cat([following, nodes])])
    return torch.randn(batch.numel(), 4, generator=generator), edge_index, batch


def step(model: torch.nn.Module, *arguments: torch.Tensor) -> torch.Tensor:
    """One training step without an optimiser; the loss."""
    model.zero_grad()
    loss = model(*arguments).square().mean()
    loss.backward()
    return loss.detach()


def growth(select: str, connect: str, steps: int, warm: int = 50) -> float:
    """MB that steps on ever other graphs leave behind, after some to warm up."""
    torch.manual_seed(0)
    model = GraphUNet(4, 8, 3, depth=2, select=select, connect=connect, lift="interpolate")
    data = [tiny_graphs(60, seed) for seed in range(10)]

    def run(count: int) -> None:
        for i in range(count):
            step(model, *data[i % len(data)])

    run(warm)
    before = resident()
    run(steps)
    return resident() - before


def large(num_edges: int, connect: str, features: int = 16) -> torch.Tensor:
    """A step on one random graph; its loss."""
    generator = torch.Generator().manual_seed(0)
    num_nodes = num_edges // 10
    edges = torch.randint(num_nodes, (2, num_edges // 2), generator=generator)
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    x = torch.randn(num_nodes, features, generator=generator)
    torch.manual_seed(0)
    return step(GraphUNet(features, 16, 4, depth=2, connect=connect), x, edges)


def unit_gates(channels: int, ratio: float) -> GPool:
    return GPool(channels, ratio, select="spread", multiplier=2.0)


def deep(depth: int, size: int = 200) -> tuple[float, float]:
    """The least and largest norm of a convolution's gradient, through so many poolings that keep
    all nodes, by gates around one, and no skip connection: nothing is lost, or passes by."""
    torch.manual_seed(0)
    ring = torch.arange(size)
    edges = torch.stack([torch.cat([ring, ring.roll(1)]), torch.cat([ring.roll(1), ring])])
    model = GraphUNet(4, 8, 4, depth, 1.0, norm="batch", sum_res=None, pool=unit_gates)
    model(torch.randn(size, 4), edges).square().mean().backward()
    norms = [float(c.lin.weight.grad.norm()) for c in (*model.down_convs, *model.up_convs)]
    return min(norms), max(norms)


def timed(name: str, work: Callable[[], object]) -> None:
    start = time.monotonic()
    result = work()
    print(f"{name}: {result}; {time.monotonic() - start:.1f} s, peak {peak():,.0f} MB", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.memory", description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--edges", type=int, default=5_000_000)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--depth", type=int, default=50)
    args = parser.parse_args(argv)
    worst = 0.0
    for select in SELECTIONS:
        for connect in CONNECTIONS:
            grown = growth(select, connect, args.steps)
            worst = max(worst, grown)
            print(f"{args.steps} steps, {select}, {connect}: {grown:+.1f} MB", flush=True)
    for connect in ("two_hop", "contract", "walk", "sampled"):
        model = GraphUNet(4, 8, 3, depth=2, connect=connect)
        data = tiny_graphs(args.graphs)
        timed(f"{args.graphs:,} graphs, {connect}", lambda m=model, d=data: float(step(m, *d)))
    timed(f"{args.depth} levels, least and largest gradient", lambda: deep(args.depth))
    for connect in ("contract", "walk", "sampled"):
        timed(f"{args.edges:,} edges, {connect}", lambda c=connect: float(large(args.edges, c)))
    return int(worst >= 5)


if __name__ == "__main__":
    sys.exit(main())
