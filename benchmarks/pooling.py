"""GraphUNet with two-hop connectivity against PyG's: step time, memory, equal outputs.

Both models hold the same weights and see the same graphs; steps are taken in turns in one process,
peak memory in a process per system. A step is forward, cross-entropy, backward, Adam.

    python benchmarks/pooling.py --json benchmarks/results/pooling.json
"""

from __future__ import annotations

import sys
import time
import warnings

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
}
HIDDEN = 32
TARGETS = {"cora": 4.0, "pubmed": 6.0, "batch128": 2.5}
SYSTEMS = {"ours": pyg_gunet.GraphUNet, "PyG GraphUNet": torch_geometric.nn.GraphUNet}


def make_case(name: str, quick: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
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


def make_step(system: str, name: str, data: tuple[Tensor, Tensor, Tensor | None, Tensor]):
    """A training step of a system, and its model."""
    x, edge_index, batch, target = data
    _, _, channels, classes, depth, ratios = CASES[name]
    torch.manual_seed(0)
    reference = torch_geometric.nn.GraphUNet(channels, HIDDEN, classes, depth, ratios)
    model = SYSTEMS[system](channels, HIDDEN, classes, depth, ratios)
    model.load_state_dict(reference.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x, edge_index, batch), target).backward()
        optimizer.step()

    return step, model


def run_case(name: str, quick: bool, repeats: int | None) -> tuple[list[dict], list]:
    """All figures of a case: records and a row of the table."""
    data = make_case(name, quick)
    steps, models = {}, {}
    for system in SYSTEMS:
        steps[system], models[system] = make_step(system, name, data)
    with torch.no_grad():
        out = {system: model.eval()(*data[:3]) for system, model in models.items()}
    difference = float((out["ours"] - out["PyG GraphUNet"]).abs().max())
    start = time.perf_counter()
    steps["PyG GraphUNet"]()
    slow = time.perf_counter() - start > 3.0
    repeats = repeats or (3 if quick else 5 if slow else 30)
    seconds = interleaved(steps, repeats, warmup=0 if slow else 3)
    mine, peer = median(seconds["ours"]), median(seconds["PyG GraphUNet"])
    args = ["--child", name] + (["--quick"] if quick else [])
    memory = {s: in_child(__file__, *args, "--system", s)["mb"] for s in SYSTEMS}
    records = [record("pooling", name, "ours", "max_abs_difference", difference)]
    for system in SYSTEMS:
        spread = float(torch.tensor(seconds[system]).std()) if repeats > 1 else None
        records.append(
            record("pooling", name, system, "step_s", median(seconds[system]), spread, repeats)
        )
        records.append(record("pooling", name, system, "peak_extra_mb", memory[system]))
    ratio, share = peer / mine, memory["ours"] / max(memory["PyG GraphUNet"], 1e-9)
    records.append(record("pooling", name, "ours", "speedup", ratio, None, repeats))
    records.append(record("pooling", name, "ours", "memory_share", share))
    row = [
        name,
        f"{1e3 * peer:.1f}",
        f"{1e3 * mine:.1f}",
        f"{ratio:.1f}x",
        f"{TARGETS[name]}x",
        f"{memory['PyG GraphUNet']:.0f}",
        f"{memory['ours']:.0f}",
        f"{share:.2f}",
        f"{difference:.1e}",
    ]
    return records, row


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--child", default=None, help="measure memory of one case (internal)")
    p.add_argument("--system", default="ours", choices=list(SYSTEMS))
    args = p.parse_args()
    if args.child:
        step, _ = make_step(args.system, args.child, make_case(args.child, args.quick))
        with PeakMemory() as memory:
            step()
            step()
        print(f'{{"mb": {memory.mb}}}')
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
    header += ["PyG extra MB", "ours extra MB", "share", "max difference"]
    print(table(header, rows))
    write_json(args.json, records)


if __name__ == "__main__":
    main()
