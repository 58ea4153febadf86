"""The systems of the mesh benchmark, each a module ``model(batch) -> [N, outputs]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import _ours
import torch
from _mesh_levels import add_levels, bi_stride, from_tgp
from _ours import Words
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.data import Data

FLAT_LAYERS = 9


def sage(inputs: int, outputs: int) -> torch.nn.Module:
    return pyg.SAGEConv(inputs, outputs)


class Flat(torch.nn.Module):
    """A network of PyG's without levels."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch) -> Tensor:  # noqa: ANN001
        return self.net(batch.x, batch.edge_index)


class Residual(torch.nn.Module):
    """GraphSAGE with a residual connection around every layer: the stronger flat control."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.enter, self.leave = torch.nn.Linear(inputs, hidden), torch.nn.Linear(hidden, outputs)
        self.convs = torch.nn.ModuleList(sage(hidden, hidden) for _ in range(FLAT_LAYERS))

    def forward(self, batch) -> Tensor:  # noqa: ANN001
        x = self.enter(batch.x)
        for conv in self.convs:
            x = x + conv(x, batch.edge_index).relu()
        return self.leave(x)


class OwnGraph(torch.nn.Module):
    """A U-Net that makes its levels at every step: ours, and PyG's."""

    def __init__(self, net: torch.nn.Module, graph: Callable[[object], Tensor]) -> None:
        super().__init__()
        self.net, self.graph = net, graph

    def forward(self, batch) -> Tensor:  # noqa: ANN001
        return self.net(batch.x, self.graph(batch), batch.batch)


class UNet(torch.nn.Module):
    """The layout of the Graph U-Net: a convolution per level, skip connections added. With `latent`
    an auto-encoder: no skip connections, that many numbers per node of the coarsest level."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, depth: int, latent: int | None = None
    ) -> None:
        super().__init__()
        self.latent, self.floats = latent, 0
        if latent is not None:
            self.squeeze = torch.nn.Linear(hidden, latent)
            self.widen = torch.nn.Linear(latent, hidden)
        self.down = torch.nn.ModuleList(
            sage(hidden if i else inputs, hidden) for i in range(depth + 1)
        )
        self.up = torch.nn.ModuleList(
            sage(hidden, outputs if i == depth - 1 else hidden) for i in range(depth)
        )

    def bottom(self, x: Tensor) -> Tensor:
        if self.latent is None:
            return x
        z = self.squeeze(x)
        self.floats = z.numel()
        return self.widen(z).relu()

    def climb(self, x: Tensor, skip: Tensor, edges: Tensor, i: int) -> Tensor:
        x = self.up[i](skip + x if self.latent is None else x, edges)
        return x.relu() if i < len(self.up) - 1 else x


class TopK(UNet):
    """PyG's TopKPooling on the way down, zeros on the way up."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        depth: int,
        ratio: float,
        latent: int | None = None,
    ) -> None:
        super().__init__(inputs, hidden, outputs, depth, latent)
        self.pools = torch.nn.ModuleList(pyg.TopKPooling(hidden, ratio) for _ in range(depth))

    def forward(self, batch) -> Tensor:  # noqa: ANN001
        edges, graph, left = batch.edge_index, batch.batch, []
        x = self.down[0](batch.x, edges).relu()
        for pool, conv in zip(self.pools, self.down[1:]):
            skip, before = x, edges
            x, edges, _, graph, perm, _ = pool(x, edges, batch=graph)
            left.append((skip, before, perm))
            x = conv(x, edges).relu()
        x = self.bottom(x)
        for i, (skip, edges, perm) in enumerate(reversed(left)):
            wide = torch.zeros_like(skip).index_copy(0, perm, x)
            x = self.climb(wide, skip, edges, i)
        return x


class Fixed(UNet):
    """Levels that came with the mesh, see :mod:`_mesh_levels`."""

    def forward(self, batch) -> Tensor:  # noqa: ANN001
        edges, left = batch.edge_index, []
        x = self.down[0](batch.x, edges).relu()
        for level, conv in enumerate(self.down[1:], start=1):
            left.append((x, edges))
            nodes = int(torch.as_tensor(batch[f"level_nodes_{level}"]).sum())
            x = _product(batch, f"reduce_{{}}_{level}", (nodes, x.size(0)), x)
            edges = batch[f"level_index_{level}"]
            x = conv(x, edges).relu()
        x = self.bottom(x)
        for i, (skip, edges) in enumerate(reversed(left)):
            name = f"lift_{{}}_{len(left) - i}"
            x = self.climb(_product(batch, name, (skip.size(0), x.size(0)), x), skip, edges, i)
        return x


def _product(batch, name: str, shape: tuple[int, int], x: Tensor) -> Tensor:  # noqa: ANN001
    index, value = batch[name.format("index")], batch[name.format("value")]
    return torch.sparse_coo_tensor(index, value, shape, check_invariants=False) @ x


class System(NamedTuple):
    make: Callable[[int, int, int], torch.nn.Module]  # inputs, width, outputs
    levels: Callable[[Data], Data] | None = None  # what a mesh gets once
    peer: bool = False  # whether it needs torch-geometric-pool


def _ours_system(
    words: Words, depth: int, ratio: float | list[int], multiplier: float = 1.0
) -> System:
    more = (depth, ratio, words, sage, multiplier)
    return System(
        lambda i, h, o: OwnGraph(_ours.unet(i, h, o, *more), _ours.graph),
        lambda mesh: _ours.prepared(mesh, depth, ratio, words),
    )


def _fixed(make: Callable, depth: int, peer: bool = False) -> System:
    # torch-geometric-pool is imported where a mesh is made, in a process of its own.
    return System(
        lambda i, h, o: Fixed(i, h, o, depth), lambda m: add_levels(m, depth, make()), peer
    )


# The words from the paper's to all four, then each of them put back alone.
LADDER = {
    "ours: paper": Words("topk", "keep", "two_hop", "zero"),
    "ours: +select": Words("spread", "keep", "two_hop", "zero"),
    "ours: +reduce": Words("spread", "mean", "two_hop", "zero"),
    "ours: +lift": Words("spread", "mean", "two_hop", "interpolate"),
    "ours: +connect": Words("spread", "mean", "contract", "interpolate"),
    "ours: -select": Words("topk", "mean", "contract", "interpolate"),
    "ours: -reduce": Words("spread", "keep", "contract", "interpolate"),
    "ours: -lift": Words("spread", "mean", "contract", "zero"),
}
SYSTEMS: dict[str, System] = {
    "flat GraphSAGE": System(lambda i, h, o: Flat(pyg.GraphSAGE(i, h, FLAT_LAYERS, o))),
    "flat GraphSAGE, residual": System(Residual),
    "flat GCN": System(lambda i, h, o: Flat(pyg.GCN(i, h, FLAT_LAYERS, o))),
    "PyG GraphUNet": System(
        lambda i, h, o: OwnGraph(pyg.GraphUNet(i, h, o, 5, 0.5), lambda batch: batch.edge_index)
    ),
    "PyG TopK U-Net": System(lambda i, h, o: TopK(i, h, o, 5, 0.5)),
    "bi-stride U-Net": _fixed(lambda: bi_stride, 5),
    # A maximal independent set of a triangulation keeps about a quarter.
    "tgp k-MIS U-Net": _fixed(lambda: from_tgp("kmis"), 4, peer=True),
    "tgp NDP U-Net": _fixed(lambda: from_tgp("ndp"), 5, peer=True),
    **{name: _ours_system(words, 5, 0.5) for name, words in LADDER.items()},
    "ours: quarter, gate twice": _ours_system(Words(), 4, 0.25, 2.0),
    # Levels of so many nodes, whatever the mesh: on a finer one they mean the same lengths.
    "ours: 128, 32, 8 nodes": _ours_system(Words(), 3, [128, 32, 8], 2.0),
}


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def fit_width(make: Callable[[int], torch.nn.Module], target: int) -> int:
    """The width whose number of parameters comes closest to `target`.

    Raises:
        ValueError: If none comes within 10%.
    """
    counts = {}
    for width in range(4, 257):
        counts[width] = parameters(make(width))
        if counts[width] > target:
            break
    width = min(counts, key=lambda w: abs(counts[w] - target))
    if abs(counts[width] - target) > 0.1 * target:
        raise ValueError(f"no width has {target} parameters within 10% (got {counts[width]})")
    return width


def target_parameters(inputs: int, outputs: int) -> int:
    """Those of a U-Net of width 32 and depth 5."""
    return parameters(UNet(inputs, 32, outputs, 5))
