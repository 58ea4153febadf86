"""The one place where the newer benchmarks name the package's models: the four words in, a module
out. Words that this version of the package does not know yet raise :class:`Unsupported`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet import GraphUNet, GraphUNetAutoEncoder


class Unsupported(ValueError):
    """A word that this version of the package has no value for."""


class Words(NamedTuple):
    select: str = "spread"
    reduce: str = "mean"
    connect: str = "contract"
    lift: str = "interpolate"

    def __str__(self) -> str:
        return ",".join(self)


Conv = Callable[[int, int], torch.nn.Module]


def unet(
    inputs: int, hidden: int, outputs: int, depth: int, ratio: float, words: Words, conv: Conv
) -> torch.nn.Module:
    """Called as ``model(x, edge_index, batch)``."""
    if words.reduce != "keep" or words.lift != "zero":
        raise Unsupported(f"'reduce' and 'lift' must be 'keep' and 'zero' (got {words})")
    if words.connect not in ("induced", "two_hop", "sampled"):
        raise Unsupported(f"'connect' must be 'induced', 'two_hop' or 'sampled' (got {words})")
    return GraphUNet(
        inputs,
        hidden,
        outputs,
        depth,
        ratio,
        conv=conv,
        select=words.select,
        connect=words.connect,
        quantiles=1 if words.select == "spread" else None,
    )


def auto_encoder(
    inputs: int, hidden: int, latent: int, depth: int, ratios: list[float], words: Words
) -> torch.nn.Module:
    """Called as ``model(x, edge_index, batch)``; ``model.encode(...)`` gives the latent first."""
    if words.reduce != "keep" or words.connect not in ("induced", "two_hop", "sampled"):
        raise Unsupported(f"'reduce' must be 'keep', 'connect' makes no {words.connect!r} yet")
    lift = {"zero": "zero", "nearest": "nearest", "propagate": "propagate"}.get(words.lift)
    if lift is None:
        raise Unsupported(f"'lift' must be 'zero', 'nearest' or 'propagate' (got {words})")
    return GraphUNetAutoEncoder(
        inputs,
        hidden,
        latent,
        depth,
        ratios,
        select=words.select,
        connect=words.connect,
        fill=lift,
        quantiles=1 if words.select == "spread" else None,
    )


def prepared(mesh: Data, depth: int, ratio: float, words: Words) -> Data:
    """The mesh with what the models may have made once: nothing in this version."""
    del depth, ratio, words
    return mesh


def graph(batch) -> Tensor:  # noqa: ANN001
    """What stands in the place of `edge_index` in a batch of prepared meshes."""
    return batch.edge_index
