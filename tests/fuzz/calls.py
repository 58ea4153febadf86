"""The calls that are fuzzed: selection, connectivity and networks; the rest is in `calls_more`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch_geometric.nn import SAGEConv, TransformerConv

from pyg_gunet import (
    GPool,
    GraphUNet,
    SegmentationUNet,
    sampled_two_hop,
    spread,
    validation,
)
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.functional.select import num_kept, topk
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.walk import Walk
from tests.fuzz.calls_data import data_calls
from tests.fuzz.calls_models import model_calls
from tests.fuzz.calls_more import critic_calls, divergence_calls, score_calls
from tests.fuzz.calls_scores import region_calls
from tests.fuzz.calls_up import up_calls
from tests.fuzz.engine import Call
from tests.fuzz.values import anything, choices, flags, ints, numbers, ratios, tensors

N, F, E = 8, 3, 12
generator = torch.Generator().manual_seed(0)
X = torch.randn(N, F, generator=generator)
EDGES = torch.tensor([[0, 1, 2, 3, 1, 0, 4, 5, 6, 7, 5, 4], [1, 0, 3, 2, 2, 3, 5, 4, 7, 6, 6, 7]])
WEIGHT = torch.rand(E, generator=generator) + 0.5
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
SCORE = torch.randn(N, generator=generator)
PERM = torch.tensor([6, 1, 2, 5])

features = tensors(dtypes="float", columns=True)
edges = tensors(dtypes="int", rows=True, columns=False, low=0, high=N)
weights = tensors(dtypes="float", optional=True)
batches = tensors(dtypes="int", low=0, high=2**62, optional=True)
perms = tensors(dtypes="int", rows=False, low=0, high=N)
scores = tensors(dtypes="float")
ranked = tensors(dtypes="float", finite=False)
channels = ints(1)
limits = ints(1, high=None, optional=True)
callables = anything(3, "no such", [], 1.5, lambda i, o: None, lambda: None, optional=True)

POOL: dict[str, tuple[Any, Any]] = {
    "in_channels": (F, channels),
    "ratio": (0.5, ratios()),
    "select": ("topk", choices()),
    "reduce": ("keep", choices()),
    "connect": ("induced", choices()),
    "gate": (None, choices(optional=True)),
    "min_score": (None, numbers(optional=True)),
    "multiplier": (1.0, numbers()),
    "max_products": (None, limits),
    "max_degree": (32, ints(1)),
    "quantiles": (None, ints(1, optional=True)),
}
UNET: dict[str, tuple[Any, Any]] = {
    "in_channels": (F, channels),
    "hidden_channels": (4, ints(1, extra=(10**9,))),
    "depth": (2, ints(1, extra=(10**6,))),
    "pool_ratios": (
        0.5,
        anything(*[[0.5, b] for b in (0, 1.5, "x", None)], [0.5] * 9, [], "ab", 0),
    ),
    "act": ("relu", anything(None, "", "no such act", 3, [], b"relu")),
    "conv": (None, callables),
    "select": ("topk", choices()),
    "reduce": ("keep", choices()),
    "connect": ("two_hop", choices()),
    "lift": ("zero", choices()),
    "norm": (None, anything("", "no such norm", 3, [], b"x", optional=True)),
    "dropout": (0.0, numbers(0.0, 0.999999)),
    "pool": (None, anything(3, "no such", [], lambda c, r: None, lambda: None, optional=True)),
}
GRAPH = {
    "x": (X, features),
    "edge_index": (EDGES, edges),
    "batch": (BATCH, batches),
}
WEIGHTED = {**GRAPH, "edge_weight": (WEIGHT, weights)}
CONNECT = {
    "edge_index": (EDGES, edges),
    "edge_weight": (WEIGHT, weights),
    "perm": (PERM, perms),
    "num_nodes": (N, ints(0, extra=(7, 2**31 - 1))),
}


def without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


def once(
    kind: type[torch.nn.Module], *sizes: int, method: str = "forward", **options: Any
) -> Callable[[], Callable[..., Any]]:
    """A method of a module that is made once: its calls leave no state behind."""
    function = getattr(kind(*sizes, **options), method)
    return lambda: function


def transformer(in_channels: int, out_channels: int) -> TransformerConv:
    return TransformerConv(in_channels, out_channels, edge_dim=2)


def all_calls() -> list[Call]:
    return [
        *selection_calls(),
        *network_calls(),
        *model_calls(UNET, WEIGHTED),
        *up_calls(),
        *score_calls(),
        *region_calls(),
        *divergence_calls(),
        *critic_calls(),
        *data_calls(),
    ]


def selection_calls() -> list[Call]:
    """Scores, selections and connectivity."""
    seeds = anything(3, "x", 1.5, optional=True)
    wide = tensors(dtypes="any", dim=False, optional=True)
    return [
        Call("validation", lambda: validation, {"enabled": (True, flags())}),
        Call(
            "topk",
            lambda: topk,
            {
                "score": (SCORE, ranked),
                "ratio": (0.5, ratios()),
                "batch": (BATCH, batches),
                "min_score": (None, numbers(optional=True)),
                "k": (None, anything(3, "x", [2, 2], torch.ones(2), optional=True)),
            },
        ),
        Call(
            "topk.k",
            lambda: topk,
            {
                "score": (SCORE, ranked),
                "batch": (BATCH, batches),
                "k": (torch.tensor([2, 3]), tensors(dtypes="int", low=0, high=5, optional=True)),
            },
        ),
        Call(
            "num_kept",
            lambda: num_kept,
            {
                "ratio": (0.5, ratios()),
                "sizes": (torch.tensor([3, 4]), tensors(dtypes="int", rows=False, low=0)),
            },
        ),
        Call(
            "spread",
            lambda: spread,
            {
                "score": (SCORE, scores),
                "edge_index": (EDGES, edges),
                "k": (2, ratios()),
                "batch": (BATCH, batches),
                "quantiles": (None, ints(1, optional=True)),
            },
        ),
        Call(
            "spread.k",
            lambda: spread,
            {
                "score": (SCORE, scores),
                "edge_index": (EDGES, edges),
                "k": (torch.tensor([2, 3]), tensors(dtypes="int", low=0, high=5, legal=(int,))),
                "batch": (BATCH, batches),
            },
        ),
        Call(
            "induced",
            lambda: induced,
            {**without(CONNECT, "edge_weight"), "edge_attr": (WEIGHT, wide)},
        ),
        Call(
            "contract",
            lambda: contract,
            {**without(CONNECT, "edge_weight"), "edge_attr": (WEIGHT, wide)},
        ),
        Call("two_hop", lambda: two_hop, {**CONNECT, "max_products": (None, limits)}),
        Call(
            "sampled_two_hop",
            lambda: sampled_two_hop,
            {**CONNECT, "max_degree": (4, ints(1)), "generator": (None, seeds)},
        ),
        *[
            Call(
                f"{kind.__name__}.from_edge_index",
                lambda kind=kind: kind.from_edge_index,
                {
                    **without(CONNECT, "perm"),
                    "dtype": (torch.float32, anything(torch.int64, "float32", 3, torch.bool)),
                },
            )
            for kind in (Adjacency, Walk)
        ],
        *[
            Call(
                f"{kind.__name__}.pool",
                lambda kind=kind: kind.from_edge_index(EDGES, WEIGHT, N).pool,
                {"perm": (PERM, perms)},
            )
            for kind in (Adjacency, Walk)
        ],
    ]


def network_calls() -> list[Call]:
    """Constructors and forward passes of the modules."""
    column = tensors(dtypes="float", dim=False, optional=True)  # [E, 1] is as good
    attr = torch.randn(E, 2, generator=torch.Generator().manual_seed(3))
    walks = {**GRAPH, "edge_attr": (WEIGHT, column)}
    # With `attn`, features of any width are pooled.
    scored = {
        **GRAPH,
        "x": (X, tensors(dtypes="float")),
        "edge_attr": (WEIGHT, tensors(dtypes="any", dim=False, optional=True)),
        "attn": (X, tensors(dtypes="float", columns=True, optional=True)),
    }
    calls = [
        Call("GPool", lambda: GPool, POOL),
        Call("GPool.forward", once(GPool, F), scored),
        Call("GPool.spread", once(GPool, F, select="spread"), GRAPH),
        Call("GPool.min_score", once(GPool, F, min_score=0.1), GRAPH),
        Call("GPool.two_hop", once(GPool, F, connect="two_hop"), walks),
        Call("GPool.sampled", once(GPool, F, connect="sampled"), walks),
        Call("GPool.contract", once(GPool, F, connect="contract", reduce="mean"), scored),
        Call("GraphUNet", lambda: GraphUNet, {**UNET, "out_channels": (2, channels)}),
        Call(
            "GraphUNet.sum_res",
            lambda: GraphUNet,
            {
                "in_channels": (F, channels),
                "hidden_channels": (4, channels),
                "out_channels": (2, ints(1, extra=(2**31 - 1,))),
                "depth": (1, channels),
                "sum_res": (True, flags(optional=True)),
            },
        ),
        *[
            Call(
                f"GraphUNet.{connect}",
                once(GraphUNet, F, 4, 2, 2, connect=connect),
                WEIGHTED,
            )
            for connect in ("two_hop", "induced", "contract", "walk", "sampled")
        ],
        Call("GraphUNet.conv", once(GraphUNet, F, 4, 2, 2, conv=SAGEConv), GRAPH),
        Call(
            "GraphUNet.states",
            once(GraphUNet, F, 4, 2, 2, method="states"),
            {**WEIGHTED, "batch_size": (2, ints(2, extra=(1, 0), optional=True))},
        ),
        Call(
            "GraphUNet.edge_attr",
            once(GraphUNet, F, 4, 2, 2, connect="contract", conv=transformer),
            # Its width is between the user and the convolution.
            {**GRAPH, "edge_attr": (attr, tensors(dtypes="float", dim=False, optional=True))},
        ),
        *[
            Call(
                f"{kind.__name__}.prepare",
                once(kind, F, 4, 3, 2, method="prepare"),
                {
                    "edge_index": (EDGES, edges),
                    "edge_weight": (WEIGHT, weights),
                    "num_nodes": (N, ints(0, extra=(7, 2**31 - 1), optional=True)),
                },
            )
            for kind in (GraphUNet, SegmentationUNet)
        ],
        Call(
            "SegmentationUNet",
            lambda: SegmentationUNet,
            {
                **UNET,
                "num_classes": (3, ints(2, extra=(2**31 - 1,))),
                "multi_scale": (True, flags()),
            },
        ),
        Call("SegmentationUNet.forward", once(SegmentationUNet, F, 4, 3, 2), WEIGHTED),
        Call(
            "SegmentationUNet.scales",
            once(SegmentationUNet, F, 4, 3, 2, multi_scale=True, method="scales"),
            WEIGHTED,
        ),
    ]
    return calls
