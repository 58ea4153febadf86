"""GraphUNet with two-hop connectivity against PyG's: step time, memory, equal outputs.

Both models hold the same weights and see the same graphs; steps are taken in turns in one process,
peak memory in a process per system: ``peak_extra_mb`` is what the process grows by as users
have it, ``live_mb`` the same after a step on a small graph, which loads what is loaded once, where
the allocator gives back at once what a tensor no longer needs (by a threshold of glibc's, if that
is used; medians of 3). A step is forward, cross-entropy, backward, Adam.

The case `levels128` is another map than PyG's: restriction, contracted levels and prolongation, all
of it prepared once for a batch of 128 graphs. Its difference is that to the first graph alone.

    python benchmarks/pooling.py --json benchmarks/results/pooling.json
"""

from __future__ import annotations

import platform
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn
from _common import (
    PeakMemory,
    heavy_tailed,
    in_child,
    interleaved,
    median,
    parser,
    record,
    table,
    write_json,
)
from torch import Tensor

import pyg_gunet

warnings.filterwarnings("ignore")

CASES = {
    # name: (nodes, directed edges, features, classes, depth, ratios)
    "cora": (2708, 10556, 1433, 7, 3, 0.5),
    "pubmed": (19717, 88648, 500, 3, 3, 0.5),
    "batch128": (None, None, 16, 2, 4, [0.75, 0.75, 0.5, 0.5]),
    "levels128": (None, None, 16, 2, 4, [0.75, 0.75, 0.5, 0.5]),
}
HIDDEN = 32
TARGETS = {"cora": 4.0, "pubmed": 6.0, "batch128": 2.5}
PYG, ANEW = "PyG GraphUNet", "ours, made anew"


def systems(name: str) -> tuple[str, ...]:
    """Those of a case; the first is measured against the last in speed and memory."""
    return ("ours", ANEW, PYG) if name == "levels128" else ("ours", PYG)


def contracted(*sizes: Any) -> torch.nn.Module:
    """Levels that hang on the graph alone and carry all that they stand for."""
    words = {"reduce": "mean", "connect": "contract"}
    return pyg_gunet.GraphUNet(
        *sizes,
        connect="contract",
        lift="interpolate",
        pool=lambda c, r: pyg_gunet.GPool(c, r, select="spread", quantiles=1, **words),
    )


Case = tuple[Tensor, Tensor, Tensor | None, Tensor]


def make_case(name: str, quick: bool) -> Case:
    """x, edge_index, batch, target."""
    num_nodes, num_edges, channels, classes, _, _ = CASES[name]
    generator = torch.Generator().manual_seed(0)
    batch = None
    if num_nodes is None:  # small graphs of 10 to 60 nodes and about 2.2 edges per node
        sizes = torch.randint(10, 61, (16 if quick else 128,), generator=generator)
        parts, start = [], 0
        for seed, size in enumerate(sizes.tolist()):
            parts.append(heavy_tailed(size, int(4.4 * size) // 2 * 2, seed) + start)
            start += size
        edge_index, num_nodes = torch.cat(parts, dim=1), start
        batch = torch.arange(len(sizes)).repeat_interleave(sizes)
    else:
        if quick:
            num_nodes, num_edges = num_nodes // 10, num_edges // 20 * 2
        edge_index = heavy_tailed(num_nodes, num_edges)
    # Bag-of-words-like features, row-normalised.
    x = (torch.rand(num_nodes, channels, generator=generator) < 0.02).float()
    if batch is not None:  # few binary features would make ties, which rounding breaks at will
        x = torch.rand(num_nodes, channels, generator=generator)
    x = x / x.sum(dim=1, keepdim=True).clamp(min=1)
    target = torch.randint(classes, (num_nodes,), generator=generator)
    return x, edge_index, batch, target


def first(data: Case) -> Case:
    """The first graph of a batch."""
    x, edge_index, batch, target = data
    n = int((batch == 0).sum())
    return x[:n], edge_index[:, edge_index[0] < n], batch[:n], target[:n]


def make_step(system: str, name: str, data: Case) -> tuple[Callable, Callable]:
    """A training step of a system, and its output."""
    x, edge_index, batch, target = data
    _, _, channels, classes, depth, ratios = CASES[name]
    torch.manual_seed(0)
    reference = torch_geometric.nn.GraphUNet(channels, HIDDEN, classes, depth, ratios)
    make = contracted if name == "levels128" else pyg_gunet.GraphUNet
    make = torch_geometric.nn.GraphUNet if system == PYG else make
    model = make(channels, HIDDEN, classes, depth, ratios)
    model.load_state_dict(reference.state_dict())
    graph = edge_index
    if name == "levels128" and system == "ours":
        graph = model.prepare(edge_index, num_nodes=x.size(0), batch=batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x, graph, batch), target).backward()
        optimizer.step()

    return step, lambda: model.eval()(x, graph, batch)


def peaks(*args: str) -> dict[str, float]:
    """Peak memory of two steps in MB: as it comes, and without what the allocator holds back."""
    count = range(1 if "--quick" in args else 3)
    found = {"peak_extra_mb": median([in_child(__file__, *args) for _ in count])}
    if platform.libc_ver()[0] == "glibc":
        alone = {"MALLOC_MMAP_THRESHOLD_": "65536"}
        found["live_mb"] = median([in_child(__file__, *args, "--warm", **alone) for _ in count])
    return found


def run_case(name: str, quick: bool, repeats: int | None) -> tuple[list[dict], list]:
    """All figures of a case: records and a row of the table."""
    data = make_case(name, quick)
    steps, outputs = {}, {}
    for system in systems(name):
        steps[system], outputs[system] = make_step(system, name, data)
    with torch.no_grad():
        out = outputs["ours"]()
        if name == "levels128":
            out, peer = out[: int((data[2] == 0).sum())], make_step("ours", name, first(data))[1]
        else:
            peer = outputs[PYG]
        difference = float((out - peer()).abs().max())
    start = time.perf_counter()
    steps[PYG]()
    slow = time.perf_counter() - start > 3.0
    repeats = repeats or (3 if quick else 5 if slow else 30)
    seconds = interleaved(steps, repeats, warmup=0 if slow else 3)
    mine, peer = median(seconds["ours"]), median(seconds[PYG])
    args = ["--child", name] + (["--quick"] if quick else [])
    memory = {s: peaks(*args, "--system", s) for s in steps}
    records = [record("pooling", name, "ours", "max_abs_difference", difference)]
    for system in steps:
        spread = float(torch.tensor(seconds[system]).std()) if repeats > 1 else None
        records.append(
            record("pooling", name, system, "step_s", median(seconds[system]), spread, repeats)
        )
        for metric, value in memory[system].items():
            records.append(record("pooling", name, system, metric, value))
    ratio = peer / mine
    records.append(record("pooling", name, "ours", "speedup", ratio, None, repeats))
    shares = {m: memory["ours"][m] / max(memory[PYG][m], 1e-9) for m in memory["ours"]}
    for metric, share in shares.items():
        records.append(record("pooling", name, "ours", f"share of {metric}", share))
    row = [
        name,
        f"{1e3 * peer:.1f}",
        f"{1e3 * mine:.1f}",
        f"{ratio:.1f}x",
        f"{TARGETS[name]}x" if name in TARGETS else "",
        *(f"{memory[s]['peak_extra_mb']:.0f}" for s in (PYG, "ours")),
        *(f"{shares[m]:.2f}" if m in shares else "" for m in ("peak_extra_mb", "live_mb")),
        f"{difference:.1e}",
    ]
    return records, row


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--child", default=None, help="measure memory of one case (internal)")
    p.add_argument("--warm", action="store_true", help="after a small case (internal)")
    p.add_argument("--system", default="ours", choices=("ours", ANEW, PYG))
    args = p.parse_args()
    if args.child:
        if args.warm:
            step, _ = make_step(args.system, args.child, make_case(args.child, True))
            step()
        step, _ = make_step(args.system, args.child, make_case(args.child, args.quick))
        with PeakMemory() as memory:
            step()
            step()
        print(memory.mb)
        return
    names = [args.name] if args.name else list(CASES)
    records, rows = [], []
    for name in names:
        if name not in CASES:
            sys.exit(f"'--name' must be one of {', '.join(CASES)} (got {name!r})")
        new, row = run_case(name, args.quick, args.seeds)
        records += new
        rows.append(row)
        print(f"{name}: done", file=sys.stderr)
    header = ["case", "PyG ms", "ours ms", "faster", "target"]
    header += ["PyG extra MB", "ours extra MB", "share", "given back", "max difference"]
    print(table(header, rows))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
