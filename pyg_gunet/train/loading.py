"""Which graphs, or which parts of one graph, a step of training sees, on one process or on many."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.utils import cumsum

from pyg_gunet.functional.connect import induced

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """In here this process works for itself, though others may be there: :func:`place` says so."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def place() -> tuple[int, int]:
    """This process's rank and how many there are: ``(0, 1)`` outside of a run on many."""
    if _alone:
        return 0, 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class EpochSampler(Sampler[int]):
    """Shuffles by seed and epoch alone, so that a resumed run sees the same order."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(_order(self.size, self.seed, self.epoch).tolist())

    def __len__(self) -> int:
        return self.size


class SharedBatches(BatchSampler):
    """Batches of a sampler, of which every process takes its share: on D of them the steps are
    those of one process.

    A batch may hold fewer graphs than there are processes. One that is left without gets its first
    graph as a stand-in, by the index ``-1 - i``: :class:`SharedGraphs` marks it, and it counts for
    nothing.
    """

    def __init__(self, sampler: Sampler[int] | Sequence[int], batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = place()
        for batch in super().__iter__():
            yield batch[rank::world] or [-1 - batch[0]]


class SharedGraphs(Dataset):
    """Graphs for :class:`SharedBatches`; a stand-in has the attribute `stand_in`."""

    def __init__(self, graphs: Sequence[Data]) -> None:
        self.graphs = graphs

    def __getitem__(self, index: int) -> Data:
        if index >= 0:
            return self.graphs[index]
        data = copy.copy(self.graphs[-1 - index])
        data.stand_in = True
        return data

    def __len__(self) -> int:
        return len(self.graphs)


def graph_loader(
    graphs: Sequence[Data], batch_size: int, sampler: Sampler[int] | None = None
) -> DataLoader:
    """Batches of graphs, in the sampler's order or in theirs, shared out among the processes."""
    order = range(len(graphs)) if sampler is None else sampler
    return DataLoader(SharedGraphs(graphs), batch_sampler=SharedBatches(order, batch_size))


# Parts of one graph -----------------------------------------------------------------------------


class NodeParts(Sequence[Data]):
    r"""One graph in parts, drawn anew in every epoch by seed and epoch alone.

    Args:
        data (Data): The graph.
        nodes (Tensor): The nodes that are shared out, each to one part of every epoch.
        size (int): How many of them a part has.
        num_neighbors (sequence, optional): How many neighbours a part takes in addition, per node
            and hop, see :func:`sample_neighbors`. The attribute `seed_mask` [n] then tells the
            part's own nodes, which alone may count. (default: None, no neighbours)
        seed (int, optional): Seed of all draws. (default: 0)
    """

    def __init__(
        self,
        data: Data,
        nodes: Tensor,
        size: int,
        num_neighbors: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.data, self.nodes, self.size, self.seed = data, nodes, size, seed
        self.num_neighbors = num_neighbors
        self.epoch = 0
        if num_neighbors is not None:
            target, order = torch.sort(data.edge_index[1], stable=True)
            self.source = data.edge_index[0][order]
            self.ptr = cumsum(target.bincount(minlength=int(data.num_nodes or 0)))

    def __getitem__(self, index: int) -> Data:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        order = _order(self.nodes.numel(), self.seed, self.epoch)
        own = self.nodes[order[index * self.size : (index + 1) * self.size]]
        if self.num_neighbors is None:
            return subgraph(self.data, own)
        draw = (self.seed * 1_000_003 + self.epoch) * 1_000_003 + index
        generator = torch.Generator().manual_seed(draw % 2**63)
        nodes = sample_neighbors(self.source, self.ptr, own, self.num_neighbors, generator)
        part = subgraph(self.data, nodes)
        part.seed_mask = torch.arange(nodes.numel()) < own.numel()
        return part

    def __len__(self) -> int:
        return -(-self.nodes.numel() // self.size)


class _PartSampler(Sampler[int]):
    """All parts in a row; tells them the epoch."""

    def __init__(self, parts: NodeParts) -> None:
        self.parts = parts

    def set_epoch(self, epoch: int) -> None:
        self.parts.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.parts)))

    def __len__(self) -> int:
        return len(self.parts)


def part_loader(
    data: Data,
    loader: str,
    nodes: Tensor,
    batch_size: int = 1,
    batch_nodes: int = 1024,
    num_neighbors: Sequence[int] = (10, 10),
    seed: int = 0,
) -> DataLoader:
    """Batches of `batch_size` parts of one graph, with `batch_nodes` of `nodes` each: ``'random'``,
    the subgraph between them, or ``'neighbor'``, they and some neighbours."""
    drawn = num_neighbors if loader == "neighbor" else None
    parts = NodeParts(data, nodes, batch_nodes, drawn, seed)
    return graph_loader(parts, batch_size, _PartSampler(parts))


def subgraph(data: Data, nodes: Tensor) -> Data:
    """The graph between `nodes` [n], in their order: node j is ``nodes[j]``; tensors alone."""
    num_nodes = int(data.num_nodes or 0)
    edges = [key for key in data.edge_attrs() if key != "edge_index"]
    number = torch.arange(data.num_edges)
    edge_index, kept = induced(data.edge_index, number, nodes, num_nodes)
    assert kept is not None
    out = Data(edge_index=edge_index, num_nodes=nodes.numel())
    for key, value in data.to_dict().items():
        if key in edges:
            out[key] = value[kept]
        elif isinstance(value, Tensor) and data.is_node_attr(key):  # no lists of names
            out[key] = value[nodes]
    return out


def sample_neighbors(
    source: Tensor,
    ptr: Tensor,
    seeds: Tensor,
    num_neighbors: Sequence[int],
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Nodes and some of their neighbours, hop by hop (Hamilton et al. 2017, `Inductive
    representation learning on large graphs`), in pure PyTorch.

    Args:
        source (Tensor): The source of every edge, edges sorted by target, [E].
        ptr (Tensor): Where the edges into each node begin, [N + 1].
        seeds (Tensor): The nodes to start from, each once, [S].
        num_neighbors (sequence): How many in-neighbours of each new node are drawn per hop, without
            replacement; -1 takes all.
        generator (torch.Generator, optional): Source of the draws.

    Returns:
        Tensor: Each node once, the seeds first.

    Example:
        >>> source, ptr = torch.tensor([1, 2, 3, 0]), torch.tensor([0, 3, 4, 4, 4])
        >>> sample_neighbors(source, ptr, torch.tensor([1]), [-1, 3]).numel()
        4
    """
    seen = torch.zeros(ptr.numel() - 1, dtype=torch.bool)
    seen[seeds] = True
    found = [seeds]
    for count in num_neighbors:
        frontier = found[-1]
        first, degree = ptr[frontier], ptr[frontier + 1] - ptr[frontier]
        start = cumsum(degree)
        owner = torch.arange(frontier.numel()).repeat_interleave(degree)
        step = torch.arange(owner.numel()) - start[owner]
        if count >= 0:
            # A random order within each node's edges, of which the first few are taken.
            draw = torch.rand(owner.numel(), generator=generator, dtype=torch.float64)
            order = (owner + draw).argsort()
            chosen = order[step < count]
            owner, step = owner[chosen], step[chosen]
        neighbor = source[first[owner] + step]
        new = neighbor[~seen[neighbor]].unique()
        seen[new] = True
        found.append(new)
    return torch.cat(found)


def _order(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(size, generator=generator)
