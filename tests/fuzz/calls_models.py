"""The calls that are fuzzed: what is built on a Graph U-Net or an auto-encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data

from pyg_gunet import (
    Coarsen,
    GraphUNet,
    GraphUNetAutoEncoder,
    HierarchicalReadout,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    VariationalAutoEncoder,
    repeat_graph,
)
from tests.fuzz.engine import Call
from tests.fuzz.values import anything, choices, ints, numbers, tensors

N, F = 8, 3
X = torch.randn(N, F, generator=torch.Generator().manual_seed(2))
EDGES = torch.tensor([[0, 1, 2, 3, 1, 0, 4, 5, 6, 7, 5, 4], [1, 0, 3, 2, 2, 3, 5, 4, 7, 6, 6, 7]])
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
WEIGHT = torch.rand(12, generator=torch.Generator().manual_seed(3)) + 0.5
edges = tensors(dtypes="int", rows=True, columns=False, low=0, high=N)
sizes = ints(2, extra=(1, 0), optional=True)


def once(module: torch.nn.Module, method: str = "forward") -> Any:
    """A method of a module that is made once: its calls leave no state behind."""
    function = getattr(module, method)
    return lambda: function


def model_calls(unet: dict[str, Any], weighted: dict[str, Any]) -> list[Call]:
    """Constructors, whose arguments `unet` are those of a Graph U-Net, and forward passes."""
    return [*recipe_calls(unet, weighted), *coder_calls(unet, weighted), *level_calls()]


def recipe_calls(unet: dict[str, Any], weighted: dict[str, Any]) -> list[Call]:
    """Recipes and the read-out."""
    net = GraphUNet(F, 4, 4, 2)
    wrapped = anything(3, "net", [], torch.nn.Linear(1, 1), OfficialGraphUNet)
    out = {"out_channels": (2, ints(1))}
    return [
        Call("OfficialGraphUNet", lambda: OfficialGraphUNet, {**unet, **out}),
        Call("OfficialGraphUNet.forward", once(OfficialGraphUNet(F, 4, 2, 2)), weighted),
        Call("MixedGraphUNet", lambda: MixedGraphUNet, {**unet, **out, "steps": (2, ints(0))}),
        Call("MixedGraphUNet.forward", once(MixedGraphUNet(F, 4, 2, 2)), weighted),
        Call(
            "HierarchicalReadout",
            lambda: HierarchicalReadout,
            {
                "net": (net, wrapped),
                **out,
                "reduce": (("mean", "max"), anything("mean", ("median",), (), 3, (1,), None)),
                "mode": ("cat", choices()),
            },
        ),
        Call(
            "HierarchicalReadout.forward",
            once(HierarchicalReadout(net, 2)),
            {**weighted, "batch_size": (2, sizes)},
        ),
    ]


def coder_calls(unet: dict[str, Any], weighted: dict[str, Any]) -> list[Call]:
    """Auto-encoders."""
    coder = GraphUNetAutoEncoder(F, 4, depth=2)
    words = X, tensors(dtypes="float", columns=True, sparse=True)
    masked, links = MaskedAutoEncoder(GraphUNet(F, 4, 4, 2)), MaskedLinkEncoder(F, 4)
    variational = VariationalAutoEncoder(GraphUNetAutoEncoder(F, 4, depth=2), "graph")
    wrapped = anything(3, "net", [], torch.nn.Linear(1, 1), GraphUNetAutoEncoder)
    pair = {
        "x_hat": (X, tensors(dtypes="float", columns=True)),
        "x": (X, tensors(dtypes="float", columns=True)),
    }
    return [
        Call(
            "GraphUNetAutoEncoder",
            lambda: GraphUNetAutoEncoder,
            {
                **unet,
                "latent_channels": (None, ints(1, optional=True)),
                "edge_decoder": (None, anything(3, "inner", [], optional=True)),
            },
        ),
        Call("GraphUNetAutoEncoder.forward", once(coder), weighted),
        Call(
            "GraphUNetAutoEncoder.encode",
            once(GraphUNetAutoEncoder(F, 4, depth=2, connect="walk"), "encode"),
            weighted,
        ),
        Call(
            "GraphUNetAutoEncoder.embed",
            once(coder, "embed"),
            {
                **weighted,
                "level": ("nodes", choices()),
            },
        ),
        Call(
            "GraphUNetAutoEncoder.loss",
            once(coder, "loss"),
            {
                **pair,
                "mask": (BATCH == 0, tensors(dtypes="bool", optional=True)),
            },
        ),
        Call(
            "GraphUNetAutoEncoder.edge_loss",
            once(coder, "edge_loss"),
            {
                "h": (X, tensors(dtypes="float", rows=False, columns=False)),
                "pos_edge_index": (EDGES, edges),
                "neg_edge_index": (
                    EDGES.flip(0),
                    tensors(dtypes="int", low=0, high=N, optional=True),
                ),
                "batch": (BATCH, tensors(dtypes="int", low=0, high=2**62, optional=True)),
            },
        ),
        Call(
            "MaskedAutoEncoder",
            lambda: MaskedAutoEncoder,
            {
                "model": (masked.model, wrapped),
                "mask": (0.5, numbers(1e-9, 0.999999)),
                "replace": (0.1, numbers(0.0, 1.0)),
                "gamma": (2.0, numbers(1.0)),
                "conv": (None, anything(3, "no such", [], lambda i, o: None, optional=True)),
            },
        ),
        Call("MaskedAutoEncoder.forward", once(masked), weighted),
        Call("MaskedAutoEncoder.embed", once(masked, "embed"), weighted),
        Call(
            "MaskedAutoEncoder.loss",
            once(masked, "loss"),
            {**pair, "hidden": (BATCH == 0, tensors(dtypes="bool", optional=True))},
        ),
        Call(
            "MaskedLinkEncoder",
            lambda: MaskedLinkEncoder,
            {
                "in_channels": (F, ints(1)),
                "hidden_channels": (4, ints(1)),
                "num_layers": (2, ints(1)),
                "dropout": (0.5, numbers(0.0, 0.999999)),
                "temperature": (0.9, numbers(1e-3)),
                "decoder_channels": (4, ints(1, optional=True)),
                "max_links": (3, ints(1, optional=True)),
            },
        ),
        Call("MaskedLinkEncoder.forward", once(links), {**weighted, "x": words}),
        Call("MaskedLinkEncoder.embed", once(links, "embed"), {**weighted, "x": words}),
        Call(
            "VariationalAutoEncoder",
            lambda: VariationalAutoEncoder,
            {
                "model": (coder, wrapped),
                "latent": ("nodes", choices()),
                "beta": (1.0, numbers(0.0)),
                "free_bits": (0.0, numbers(0.0)),
            },
        ),
        Call("VariationalAutoEncoder.forward", once(variational), weighted),
        Call("VariationalAutoEncoder.loss", once(variational, "loss"), weighted),
        Call(
            "VariationalAutoEncoder.encode",
            once(variational, "encode"),
            {**weighted, "batch_size": (2, sizes)},
        ),
        Call(
            "VariationalAutoEncoder.sample",
            once(variational, "sample"),
            {
                "edge_index": (EDGES, edges),
                "edge_weight": (WEIGHT, tensors(dtypes="float", optional=True)),
                # As many nodes as it has entries.
                "batch": (BATCH, tensors(dtypes="int", rows=False, low=0, optional=True)),
                "batch_size": (2, sizes),
                "generator": (None, anything(3, "x", 1.5, optional=True)),
            },
        ),
    ]


def level_calls() -> list[Call]:
    """Levels made once, and one graph many times over."""
    graph = Data(x=X, edge_index=EDGES)
    wrong = [Data(), Data(x=X), Data(x=X, edge_index=EDGES + 5), Data(x=X, edge_index=X)]
    ratios = anything(0, 1.5, "x", None, [0.5] * 3, [])
    return [
        Call(
            "Coarsen",
            lambda: Coarsen,
            {"depth": (2, ints(1)), "ratio": (0.5, ratios), "connect": ("contract", choices())},
        ),
        Call(
            "Coarsen.call",
            lambda: Coarsen(2),
            {"data": (graph, anything(None, 3, "x", [], X, *wrong))},
            parts={"data": ("edge_index",)},
        ),
        Call(
            "repeat_graph",
            lambda: repeat_graph,
            {
                "edge_index": (EDGES, edges),
                "num_nodes": (N, ints(1, extra=(7,))),
                "times": (3, ints(1, extra=(2**31 - 1,))),
                "edge_weight": (WEIGHT, tensors(dtypes="float", optional=True)),
            },
        ),
    ]
