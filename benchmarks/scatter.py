"""What torch-scatter buys: the same training steps with it and without it.

Where torch-scatter is installed PyG uses it by itself: always to reduce by `ptr` (`segment`), and
on a GPU for products and for extrema with a gradient; all else goes to torch's own kernels. So on
the CPU no model here ever calls it; the last row is a layer of PyG's alone that does.

Each system runs in a process of its own that can import torch-scatter or cannot, with all else
equal. After two warm-up steps the processes take one step each in turns, each turn in another
order, so that a busy moment of the machine hits all of them alike. Times are medians, the gain is
the median of each turn's quotient. A third process, without torch-scatter as well, tells what
quotient chance alone gives; the number of calls into torch-scatter tells what a step could gain at
all. Where this interpreter has no torch-scatter, name one that has, with pyg_gunet beside it:

    python benchmarks/scatter.py --python OTHER/bin/python --json benchmarks/results/scatter.json

The test suite runs with it as without: `pip install --no-build-isolation torch-scatter; pytest`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from _common import heavy_tailed, median, parser, record, table, write_json

warnings.filterwarnings("ignore")

SYSTEMS = ("torch-scatter", "torch", "torch again")
WARMUP = 2


def steps(num_nodes: int) -> dict[str, Callable[[], list]]:
    """A training step of each model on a graph of heavy-tailed degrees: its output, gradients."""
    from torch_geometric import nn as pyg

    from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder

    edge_index = heavy_tailed(num_nodes, 5 * num_nodes)
    x = torch.randn(num_nodes, 32, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(num_nodes) * 16 // num_nodes
    inside = edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]
    ptr = batch.bincount().cumsum(0)
    ptr = torch.cat([ptr.new_zeros(1), ptr])
    torch.manual_seed(0)
    models: dict[str, torch.nn.Module] = {
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
        "PyG's MaxAggregation by ptr": pyg.MaxAggregation(),
    }

    def step(model: torch.nn.Module) -> list:
        model.zero_grad()
        if isinstance(model, pyg.MaxAggregation):
            leaf = x.clone().requires_grad_()
            out = model(leaf, ptr=ptr)
            return [out.detach(), *torch.autograd.grad(out.square().mean(), leaf)]
        out = model(x, inside, batch=batch).x if isinstance(model, GPool) else model(x, edge_index)
        out.square().mean().backward()
        return [out.detach(), *(p.grad for p in model.parameters())]

    return {name: partial(step, model) for name, model in models.items()}


def count_calls() -> list[str]:
    """A list that grows by the name of each function of torch-scatter that is called."""
    import torch_scatter

    calls: list[str] = []
    for name in dir(torch_scatter):
        function = getattr(torch_scatter, name)
        if callable(function) and name.startswith(("scatter", "segment", "gather")):

            def counted(*args: Any, _call: Any = function, _name: str = name, **kwargs: Any) -> Any:
                calls.append(_name)
                return _call(*args, **kwargs)

            setattr(torch_scatter, name, counted)
    return calls


def serve(system: str, num_nodes: int) -> None:
    """Takes a step of the case that a line of the input names, and answers with its seconds. The
    first answer of a case holds its calls into torch-scatter and a file with what it computed."""
    # The other two would take work from either system.
    hidden = ["torch_sparse", "pyg_lib"] + ["torch_scatter"] * (system != "torch-scatter")
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    import torch_geometric.typing

    assert (system == "torch-scatter") == torch_geometric.typing.WITH_TORCH_SCATTER
    all_steps = steps(num_nodes)
    calls = count_calls() if system == "torch-scatter" else []
    seen: set[str] = set()
    for line in sys.stdin:
        case = line.strip()
        answer: dict[str, Any] = {}
        if case not in seen:
            seen.add(case)
            before = len(calls)
            outputs = [tensor.clone() for tensor in all_steps[case]()]
            answer["calls"] = len(calls) - before
            answer["file"] = tempfile.mkstemp(suffix=".pt")[1]
            torch.save(outputs, answer["file"])
            for _ in range(WARMUP - 1):
                all_steps[case]()
        else:
            start = time.perf_counter()
            all_steps[case]()
            answer["seconds"] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)


def ask(child: subprocess.Popen, case: str) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(case + "\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"a process ended during {case!r}; its error is above")
    return json.loads(line)


def measure(
    children: dict[str, subprocess.Popen], case: str, repeats: int
) -> tuple[dict[str, list[float]], int, float]:
    """Seconds of every system, calls into torch-scatter, largest relative difference."""
    outputs, calls = {}, 0
    for system, child in children.items():
        first = ask(child, case)
        calls += first["calls"]
        outputs[system] = torch.load(first["file"], weights_only=True)
        Path(first["file"]).unlink()
    pairs = zip(outputs["torch-scatter"], outputs["torch"])
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    seconds: dict[str, list[float]] = {system: [] for system in children}
    for turn in range(repeats):
        lead = turn % len(SYSTEMS)
        for system in SYSTEMS[lead:] + SYSTEMS[:lead]:
            seconds[system].append(ask(children[system], case)["seconds"])
    return seconds, calls, worst


def quotient(above: list[float], below: list[float]) -> float:
    return median([a / b for a, b in zip(above, below)])


def run(args: argparse.Namespace, python: str) -> None:
    repeats = args.seeds or (3 if args.quick else 15)
    num_nodes = 2_000 if args.quick else 8_000
    cases = [case for case in steps(100) if args.name in (None, case)]
    if not cases:
        sys.exit(f"--name must be one of {', '.join(steps(100))}")
    # The folder of this script is on the path of the child, as it is on ours.
    children = {
        system: subprocess.Popen(
            [python, __file__, "--serve", system, "--nodes", str(num_nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for system in SYSTEMS
    }
    rows, records = [], []
    try:
        for case in cases:
            seconds, calls, worst = measure(children, case, repeats)
            middle = {system: median(values) for system, values in seconds.items()}
            for system, values in seconds.items():
                std = statistics.pstdev(values)
                records.append(
                    record("scatter", case, system, "seconds", middle[system], std, repeats)
                )
            faster = quotient(seconds["torch"], seconds["torch-scatter"])
            chance = quotient(seconds["torch"], seconds["torch again"])
            records += [
                record("scatter", case, "torch-scatter", "calls", calls),
                record("scatter", case, "torch-scatter", "times_faster", faster, None, repeats),
                record("scatter", case, "torch again", "times_faster", chance, None, repeats),
                record("scatter", case, "both", "largest_relative_difference", worst),
            ]
            times = [f"{1e3 * value:.1f}" for value in middle.values()]
            rows.append([case, calls, *times, f"{faster:.2f}", f"{chance:.2f}", f"{worst:.0e}"])
            print(f"{case}: done", file=sys.stderr)
    finally:
        for child in children.values():
            assert child.stdin is not None
            child.stdin.close()
            child.wait(60)
    header = ["step", "calls", *(f"{system}, ms" for system in SYSTEMS)]
    header += ["times faster with it", "by chance", "difference"]
    print(table(header, rows))
    write_json(args.json, records)


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--python", default=None, help="an interpreter that has torch-scatter")
    p.add_argument("--serve", choices=SYSTEMS, default=None, help=argparse.SUPPRESS)
    p.add_argument("--nodes", type=int, default=0, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.serve is not None:
        serve(args.serve, args.nodes)
    elif args.python is None and find_spec("torch_scatter") is None:
        sys.exit("torch-scatter is not installed: --python names an interpreter that has it")
    else:
        run(args, args.python or sys.executable)


if __name__ == "__main__":
    main()
