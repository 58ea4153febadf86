"""The calls that are fuzzed: the way up, which unpools and decodes."""

from __future__ import annotations

import torch

from pyg_gunet import (
    GraphUNet,
    GraphUNetAutoEncoder,
    GUnpool,
    HierarchicalReadout,
    SegmentationUNet,
    VariationalAutoEncoder,
    prolongation,
)
from pyg_gunet.functional.interpolate import nearest_kept, propagate_kept
from pyg_gunet.nn.segmentation import deep_supervision
from tests.fuzz.engine import Call
from tests.fuzz.values import anything, choices, ints, numbers, tensors

N, F = 8, 3
X = torch.randn(N, F, generator=torch.Generator().manual_seed(2))
EDGES = torch.tensor([[0, 1, 2, 3, 1, 0, 4, 5, 6, 7, 5, 4], [1, 0, 3, 2, 2, 3, 5, 4, 7, 6, 6, 7]])
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
PERM = torch.tensor([6, 1, 2, 5])
WEIGHT = torch.rand(12, generator=torch.Generator().manual_seed(3)) + 0.5


def up_calls() -> list[Call]:
    return [*unpool_calls(), *decoder_calls()]


def unpool_calls() -> list[Call]:
    """Kept features back to all nodes."""
    placed = {
        "perm": (PERM, tensors(dtypes="int", rows=False, low=0, high=N)),
        "num_nodes": (N, ints(0, extra=(6, 2**31 - 1))),
    }
    unpooled = {"x": (X[:4], tensors(dtypes="any")), **placed}
    filled = {
        **unpooled,
        "x": (X[:4], tensors(dtypes="float", finite=False, nan=False)),
        "edge_index": (EDGES, tensors(dtypes="int", low=0, high=N)),
    }
    weighted = {**filled, "edge_weight": (WEIGHT, tensors(dtypes="float", optional=True))}
    unpool, propagate, interpolate = GUnpool(), GUnpool("propagate"), GUnpool("interpolate")
    return [
        Call(
            "GUnpool",
            lambda: GUnpool,
            {"lift": ("zero", choices())},
        ),
        Call("GUnpool.forward", lambda: unpool, unpooled),
        Call("GUnpool.propagate", lambda: propagate, filled),
        Call("GUnpool.interpolate", lambda: interpolate, weighted),
        Call(
            "prolongation",
            lambda: prolongation,
            {
                **placed,
                "edge_index": filled["edge_index"],
                "edge_weight": weighted["edge_weight"],
            },
        ),
        Call(
            "propagate_kept",
            lambda: propagate_kept,
            {**filled, "num_iterations": (2, ints(0))},
        ),
        Call("nearest_kept", lambda: nearest_kept, {**placed, "edge_index": filled["edge_index"]}),
    ]


def decoder_calls() -> list[Call]:
    """What takes a latent and a hierarchy."""
    calls = []
    for options in ({}, {"connect": "walk"}, {"lift": "zero"}):
        model = GraphUNetAutoEncoder(F, 4, 3, 2, **options)
        z, hierarchy = model.encode(X, EDGES, BATCH)
        bad = (3, "x", [], (z, z), z)
        calls.append(
            Call(
                "GraphUNetAutoEncoder.decode" + "".join(f".{v}" for v in options.values()),
                lambda model=model: model.decode,
                {
                    "z": (z.detach(), tensors(dtypes="float", columns=True)),
                    "hierarchy": (hierarchy, anything(*bad)),
                },
            )
        )
    variational = VariationalAutoEncoder(GraphUNetAutoEncoder(F, 4, 3, 2))
    mu, log_std, hierarchy = (
        v.detach() if isinstance(v, torch.Tensor) else v for v in variational.encode(X, EDGES)
    )
    calls.append(
        Call(
            "VariationalAutoEncoder.decode",
            lambda: variational.decode,
            {
                "z": (mu, tensors(dtypes="float", columns=True)),
                "hierarchy": (hierarchy, anything(3, "x", [], mu)),
            },
        )
    )
    readout = HierarchicalReadout(GraphUNet(F, 4, 4, 2), 2)
    states, hierarchy = readout.net.states(X, EDGES, BATCH)
    states = [state.detach() for state in states]
    calls.append(
        Call(
            "HierarchicalReadout.read",
            lambda: readout.read,
            {
                "states": (states, anything([], states[:1], [X] * 3, states + states)),
                "hierarchy": (hierarchy, anything()),
                "batch_size": (2, ints(2, optional=True)),
            },
        )
    )
    model = SegmentationUNet(F, 4, 3, 2, multi_scale=True)
    scales = model.scales(X, EDGES, BATCH)
    calls.append(
        Call(
            "deep_supervision",
            lambda: deep_supervision,
            {
                "scales": (scales, anything([], 3, "x", [1], X)),
                "target": (BATCH, tensors(dtypes="label", low=0, high=3)),
                "criterion": (torch.nn.functional.cross_entropy, anything(None, 3, "ce")),
                "weight": (None, anything(3, "x", X, optional=True)),
                "share": (0.5, numbers(0.0, 1.0)),
            },
        )
    )
    return calls
