"""One system of the scale benchmark: its model, its training step, and a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import PeakMemory, clock
from _scale_graphs import make_graph
from torch import Tensor
from torch_geometric.nn import GCN
from torch_geometric.nn import GraphUNet as PyGGraphUNet
from torch_geometric.utils import to_torch_csr_tensor

from pyg_gunet import GPool, GraphUNet
from pyg_gunet.graph.adjacency import Adjacency

FEATURES, CLASSES, HIDDEN, DEPTH = 128, 40, 64, 3
SIZES = {
    "cora": (2_708, 10_556),
    "pubmed": (19_717, 88_648),
    "arxiv/4": (42_336, 578_900),
    "arxiv": (169_343, 2_315_598),
    "products": (2_449_029, 123_718_280),
}
MAX_SECONDS, MAX_GB = 60.0, 16
SCRIPT = Path(__file__).with_name("scale.py")  # runs one system with --child
SLOPE_EDGES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
PAGES = ("small pages", "huge pages")
EDGES_PER_NODE = 13.7  # of ogbn-arxiv, both directions
UNET_SYSTEMS = ("pyg.GraphUNet", "walk", "two_hop", "sampled", "contract")
GCN_SYSTEMS = (
    *("GCN edge_index", "GCN csr", "walk", "walk prepared", "walk depth 4"),
    *("contract", "contract prepared", "contract, mean, interpolate prepared"),
)


def make_system(
    name: str, edge_index: Tensor, num_nodes: int, hidden: int
) -> tuple[torch.nn.Module, Any]:
    """``(model, what it takes as edges)``. With ``contract`` the graph alone makes the levels."""
    sizes = (FEATURES, hidden, CLASSES, 4 if name.endswith("depth 4") else DEPTH)
    if name == "pyg.GraphUNet":
        return PyGGraphUNet(*sizes), edge_index
    if name.startswith("GCN"):
        model = GCN(FEATURES, hidden, num_layers=2 * DEPTH + 1, out_channels=CLASSES)
        if name == "GCN csr":
            return model, to_torch_csr_tensor(edge_index, size=(num_nodes, num_nodes))
        return model, edge_index
    connect = name.replace(",", "").split()[0]
    if connect == "contract":
        every = "interpolate" in name

        def pool(channels: int, ratio: float | int) -> GPool:
            reduce = "mean" if every else "keep"
            return GPool(
                channels, ratio, select="spread", quantiles=1, reduce=reduce, connect="contract"
            )

        lift = "interpolate" if every else "zero"
        net = GraphUNet(*sizes, connect="contract", lift=lift, pool=pool)
    else:
        net = GraphUNet(*sizes, connect=connect)
    if name.endswith("prepared"):
        return net, net.prepare(edge_index, num_nodes=num_nodes)
    return net, edge_index


def make_step(
    model: torch.nn.Module, x: Tensor, edges: Any, y: Tensor, bf16: bool = False
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x, edges), y)
        loss.backward()
        optimizer.step()
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def run_child(args: argparse.Namespace) -> dict[str, Any]:
    """One system on one graph, in this process: seconds per step and peak memory."""
    torch.manual_seed(0)
    n, e, device = args.nodes, args.edges, torch.device(args.device)
    edge_index = make_graph(n, e).to(device)
    x, y = torch.randn(n, FEATURES, device=device), torch.randint(CLASSES, (n,), device=device)
    if args.limit:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_GB << 30, MAX_GB << 30))
    seconds: list[float] = []
    prepare = 0.0
    now = clock(device.type)
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        with PeakMemory() as memory:
            start = now()
            model, edges = make_system(args.system, edge_index, n, args.hidden)
            prepare = now() - start
            model = model.to(device)
            run = torch.compile(model) if args.variant == "compile" else model
            step = make_step(run, x, edges, y, args.variant == "bf16")
            for _ in range(args.repeats + (args.repeats > 1)):
                start = now()
                step()
                seconds.append(now() - start)
        peak = memory.mb
        if device.type == "cuda":
            peak = (torch.cuda.max_memory_allocated() - base) / 1e6
    except (MemoryError, RuntimeError) as error:
        if "alloc" in str(error) or "memory" in str(error) or isinstance(error, MemoryError):
            return {"fails": "out of memory"}
        raise
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    bare = bare_product(edge_index, n, args.hidden) if args.variant in PAGES else None
    warm = seconds[1:] if len(seconds) > 1 else seconds
    spread = statistics.pstdev(warm)
    return {
        "seconds": statistics.median(warm),
        "std": spread,
        "n": len(warm),
        "mb": peak,
        "total_mb": used,
        "bare": bare,
        "prepare": prepare if args.system.endswith("prepared") else None,
    }


def bare_product(edge_index: Tensor, num_nodes: int, features: int) -> float:
    """Seconds of one CSR product with the graph, 4-byte indices, into memory in hand."""
    parts = Adjacency.from_edge_index(edge_index, None, num_nodes).matrix.parts
    matrix = torch.sparse_csr_tensor(*parts, size=(num_nodes, num_nodes))
    x, out = (torch.randn(num_nodes, features) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        out.addmm_(matrix, x, beta=0)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def child(
    system: str, nodes: int, edges: int, args: argparse.Namespace, **options: Any
) -> dict[str, Any]:
    """Runs a system in a process of its own, and stops it at the limits."""
    flags = {
        "hidden": HIDDEN,
        "repeats": args.seeds or (1 if args.quick else 5),
        "limit": 0,
        "variant": "",
        **options,
    }
    command = [sys.executable, str(SCRIPT), "--child", "--system", system, "--device", args.device]
    command += ["--nodes", str(nodes), "--edges", str(edges)]
    for name, value in flags.items():
        command += [f"--{name}={value}"]
    limit = (flags["repeats"] + 1) * MAX_SECONDS + 60 if flags["limit"] else None
    try:
        # torch's allocator then asks the system for pages of 2 MB.
        pages = {"THP_MEM_ALLOC_ENABLE": "1"} if flags["variant"] == "huge pages" else {}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env={**os.environ, **pages},
        )
    except subprocess.TimeoutExpired:
        return {"fails": "over 60 s"}
    if done.returncode in (-9, -6, 137, 134) and flags["limit"]:
        return {"fails": "out of memory"}
    if done.returncode != 0:
        raise RuntimeError(f"{system} failed:\n{done.stderr[-2000:]}")
    out = json.loads(done.stdout.strip().splitlines()[-1])
    if flags["limit"] and out.get("seconds", 0.0) > MAX_SECONDS:
        return {"fails": "over 60 s"}
    return out
