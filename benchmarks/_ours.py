"""The one place where the newer benchmarks name the package's models: the four words in, a module
out. Levels that hang on the graph alone are made once per graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder
from pyg_gunet.transforms import Coarsen


class Words(NamedTuple):
    select: str = "spread"
    reduce: str = "mean"
    connect: str = "contract"
    lift: str = "interpolate"


Conv = Callable[[int, int], torch.nn.Module]


def unet(
    inputs: int,
    hidden: int,
    outputs: int,
    depth: int,
    ratio: float | list[int],
    words: Words,
    conv: Conv,
    multiplier: float = 1.0,
) -> torch.nn.Module:
    """Called as ``model(x, graph(batch), batch.batch)``. With a `multiplier` of 2 the gate, a
    sigmoid, is about one at the start and the way down as strong as the skip connections."""
    own = {} if multiplier == 1.0 else {"pool": partial(_pool, words, multiplier)}
    return GraphUNet(inputs, hidden, outputs, depth, ratio, conv=conv, **words._asdict(), **own)


def _pool(words: Words, multiplier: float, channels: int, ratio: float) -> GPool:
    return GPool(channels, ratio, **dict(zip(words._fields[:3], words)), multiplier=multiplier)


def auto_encoder(
    inputs: int, hidden: int, latent: int, depth: int, ratios: list[float], words: Words
) -> torch.nn.Module:
    """Called likewise; ``model.encode(...)`` gives the latent first."""
    return GraphUNetAutoEncoder(inputs, hidden, latent, depth, ratios, **words._asdict())


def prepared(data: Data, depth: int, ratio: float | list[float] | list[int], words: Words) -> Data:
    """The graph with its levels, where `select` does not read features."""
    if words.select != "spread":
        return data
    return Coarsen(depth, ratio, words.connect)(data)


def graph(batch) -> Tensor:  # noqa: ANN001
    """What stands in the place of `edge_index` for a batch of prepared graphs."""
    return batch.hierarchy() if hasattr(batch, "hierarchy") else batch.edge_index
