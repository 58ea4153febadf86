"""The models that a device must repeat, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _gpu_compare import HALF, HALF_ABSOLUTE, Case, awake, step
from _gpu_systems import levels as fixed
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GINEConv, SAGEConv

from pyg_gunet import (
    Coarsen,
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    HierarchicalReadout,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    SegmentationUNet,
    VariationalAutoEncoder,
)
from pyg_gunet.nn.direction import DirectionConv

Make = Callable[[], torch.nn.Module]
SIZE = (8, 16, 3, 3)
WAYS = (("keep", "zero"), ("mean", "interpolate"), ("keep", "propagate"), ("mean", "nearest"))


def free() -> dict[str, Make]:
    """Models whose selection hangs on scores, with a normalisation."""
    out: dict[str, Make] = {
        f"{select} {reduce} {connect} {lift}": lambda w=(select, reduce, connect, lift): GraphUNet(
            *SIZE, select=w[0], reduce=w[1], connect=w[2], lift=w[3], norm="batch", act="elu"
        )
        for select in ("topk", "spread")
        for reduce, lift in WAYS
        for connect in ("induced", "two_hop", "contract", "walk")
    }
    return out | {
        "official": lambda: OfficialGraphUNet(*SIZE),
        "mixed": lambda: MixedGraphUNet(*SIZE, act="elu"),
        "segmentation": lambda: SegmentationUNet(*SIZE, multi_scale=True, act="elu"),
        "read-out": lambda: HierarchicalReadout(GraphUNet(8, 16, 16, 3, act="elu"), 3),
    }


def steady() -> dict[str, Make]:
    """Models whose levels hang on the graph alone: in half precision no selection flips."""

    def pooled(reduce: str, connect: str) -> Callable[..., GPool]:
        own = "two_hop" if connect == "walk" else connect
        return lambda c, r: GPool(c, r, select="spread", quantiles=1, reduce=reduce, connect=own)

    def made(reduce: str, connect: str, lift: str) -> GraphUNet:
        given: Any = {"connect": "walk"} if connect == "walk" else {}
        pool = pooled(reduce, connect)
        return GraphUNet(*SIZE, lift=lift, pool=pool, act="elu", **given)

    out: dict[str, Make] = {
        f"fixed {reduce} {connect} {lift}": lambda w=(reduce, connect, lift): made(*w)
        for reduce, lift in WAYS
        for connect in ("induced", "two_hop", "contract", "walk")
    }
    return out | {
        "SAGEConv": lambda: GraphUNet(*SIZE, pool=fixed, conv=SAGEConv, act="elu"),
        "mixed, fixed": lambda: MixedGraphUNet(*SIZE, pool=fixed, act="elu"),
        "segmentation, fixed": lambda: SegmentationUNet(*SIZE, pool=fixed, act="elu"),
        "auto-encoder": lambda: GraphUNetAutoEncoder(8, 16, 4, 3),
        "variational": lambda: VariationalAutoEncoder(GraphUNetAutoEncoder(8, 16, 4, 3)).eval(),
    }


PUBLIC = {
    "official": "OfficialGraphUNet",
    "mixed": "MixedGraphUNet",
    "segmentation": "SegmentationUNet",
    "read-out": "HierarchicalReadout",
    "auto-encoder": "GraphUNetAutoEncoder",
    "variational": "VariationalAutoEncoder",
}


def model_cases(x: Tensor, edge_index: Tensor, batch: Tensor, weight: Tensor) -> Iterator[Case]:
    """A case for each model: plain, with learned edge weights, and in half precision."""
    graph = (edge_index, batch)
    for levels, models in (("free", free()), ("fixed", steady())):
        for name, make in models.items():
            torch.manual_seed(1)
            model = awake(make())
            of = ("GPool", "GUnpool", PUBLIC.get(name.split(",")[0], "GraphUNet"))
            # What a normalisation takes away again has a gradient that is all rounding.
            quiet = ("*convs.?.bias",) if levels == "free" and " " in name else ()
            loss = _loss if name == "variational" else None
            yield Case(name, step(model, loss), (x, *graph), of, quiet=quiet)
            if "walk" not in name and name != "SAGEConv":
                run = step(model, loss, learned=True)
                yield Case(f"{name}, learned", run, (x, *graph, weight), of, quiet=quiet)
            if levels == "fixed":
                if name == "mixed, fixed":  # too small a gradient for half precision
                    quiet = ("net.pools.*",)
                yield Case(
                    f"{name}, bf16", step(model, loss), (x, *graph), of,
                    step(model, loss, half=True), HALF, HALF_ABSOLUTE, quiet,
                )  # fmt: skip


def special_cases(x: Tensor, edge_index: Tensor, batch: Tensor) -> Iterator[Case]:
    """Edge features, coarsened data, drawn edges, and what hides a part of its input."""
    torch.manual_seed(1)
    attr = torch.randn(edge_index.size(1), 2)
    model: Any
    of: tuple[str, ...]
    featured = {
        "GINEConv": lambda i, o: GINEConv(torch.nn.Linear(i, o), edge_dim=2),
        "DirectionConv": lambda i, o: DirectionConv(i, o),
    }
    for name, conv in featured.items():
        model = GraphUNet(8, 16, 3, 2, pool=fixed, conv=conv, act="elu")

        def with_attr(own: Any, x: Tensor, edge_index: Tensor, batch: Tensor, a: Tensor) -> Tensor:
            return own(x, edge_index, batch, edge_attr=a)

        yield Case(name, step(model, with_attr), (x, edge_index, batch, attr), ("GraphUNet",))

    coarse = Coarsen(2)(Data(x=x, edge_index=edge_index))
    model = awake(GraphUNet(8, 16, 3, 2, lift="interpolate", act="elu"))

    def on_levels(own: Any, x: Tensor) -> Tensor:
        return own(x, copy.copy(coarse).to(x.device).hierarchy())

    of = ("Coarsen", "Hierarchy", "Level")
    yield Case("coarsened data", step(model, on_levels), (x,), of)

    model = awake(GraphUNet(8, 16, 3, 2, lift="interpolate", pool=fixed, act="elu"))
    ready = model.prepare(edge_index, num_nodes=x.size(0))

    def moved(own: Any, x: Tensor) -> Tensor:
        return own(x, ready.to(x.device))

    yield Case("levels moved to the device", step(model, moved), (x,), of[1:])

    calibrated = GraphUNetAutoEncoder(8, 16, 4, 3)
    calibrated.calibrate(x, edge_index, batch)
    calibrated = awake(calibrated)
    given = (x, edge_index, batch)
    yield Case("auto-encoder, calibrated", step(calibrated), given, ("GraphUNetAutoEncoder",))

    # These draw: a device draws numbers of its own, so that gradients are only finite.
    sampled = awake(GraphUNet(*SIZE, connect="sampled", act="elu"))
    yield Case("sampled", finite(sampled, lambda own, *g: own(*g).sum()), given, ("GraphUNet",))
    vae = awake(VariationalAutoEncoder(GraphUNetAutoEncoder(8, 16, 4, 3)))
    run = finite(vae, _loss)
    yield Case("variational, a drawn step", run, given, ("VariationalAutoEncoder",))
    masked = awake(MaskedAutoEncoder(GraphUNet(8, 16, 16, 2, act="elu")))
    links = awake(MaskedLinkEncoder(8, 16))
    links.max_links = edge_index.size(1) // 4  # some links, and some pairs, are drawn
    graph = given[:2]
    for name, model, of in (
        ("masked", masked, ("MaskedAutoEncoder",)),
        ("masked links", links, ("MaskedLinkEncoder",)),
    ):
        rest = copy.deepcopy(model).eval()
        embed = lambda x, e, rest=rest: copy.deepcopy(rest).to(x.device).embed(x, e)  # noqa: E731
        yield Case(f"{name}, embeddings", embed, graph, of)
    run = finite(masked, lambda own, x, e: own.loss(*_swapped(own(x, e), x)))
    yield Case("masked, a drawn step", run, graph, ("MaskedAutoEncoder",))
    run = finite(links, lambda own, x, e: own.loss(*own(x, e), e))
    yield Case("masked links, a drawn step", run, graph, ("MaskedLinkEncoder",))


def _loss(own: Any, *given: Tensor) -> Tensor:
    return own.loss(*given)


def _swapped(found: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return found[0], x, found[1]


def finite(model: torch.nn.Module, loss: Callable[..., Tensor]) -> Callable[..., Any]:
    """That each gradient is there, finite and not zero."""

    def run(*given: Tensor) -> bool:
        own = copy.deepcopy(model).to(given[0].device).train()
        loss(own, *given).backward()
        grads = {name: value.grad for name, value in own.named_parameters()}
        for name, grad in grads.items():
            if grad is None or not bool(grad.isfinite().all() and grad.any()):
                raise ValueError(f"no gradient of {name}, or none that is finite")
        return True

    return run
