"""The calls that are fuzzed: the way up, which unpools and decodes."""

from __future__ import annotations

import torch

from pyg_gunet import GraphUNetAutoEncoder, GUnpool, SegmentationUNet, prolongation
from pyg_gunet.functional.interpolate import nearest_kept, propagate_kept
from pyg_gunet.nn.segmentation import deep_supervision
from tests.fuzz.engine import Call
from tests.fuzz.values import anything, choices, ints, numbers, tensors

N, F = 8, 3
X = torch.randn(N, F, generator=torch.Generator().manual_seed(2))
EDGES = torch.tensor([[0, 1, 2, 3, 1, 0, 4, 5, 6, 7, 5, 4], [1, 0, 3, 2, 2, 3, 5, 4, 7, 6, 6, 7]])
WEIGHT = torch.rand(12, generator=torch.Generator().manual_seed(4)) + 0.5
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
PERM = torch.tensor([6, 1, 2, 5])


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
    unpool, propagate = GUnpool(), GUnpool("propagate")
    interpolate = GUnpool("interpolate")
    return [
        Call(
            "GUnpool",
            lambda: GUnpool,
            {"lift": ("zero", choices())},
        ),
        Call("GUnpool.forward", lambda: unpool, unpooled),
        Call("GUnpool.propagate", lambda: propagate, filled),
        Call(
            "GUnpool.interpolate",
            lambda: interpolate,
            {**filled, "edge_weight": (WEIGHT, tensors(dtypes="float", optional=True))},
        ),
        Call(
            "prolongation",
            lambda: prolongation,
            {
                **placed,
                "edge_index": filled["edge_index"],
                "edge_weight": (WEIGHT, tensors(dtypes="float", optional=True)),
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
    encoder = GraphUNetAutoEncoder(F, 4, 3, 2)
    z, hierarchy = encoder.encode(X, EDGES, BATCH)
    calls.append(
        Call(
            "GraphUNetAutoEncoder.decode",
            lambda: encoder.decode,
            {
                "z": (z.detach(), tensors(dtypes="float", columns=True)),
                "hierarchy": (hierarchy, anything(3, "x", [], (z, z), z)),
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
