"""The door of a model on levels: what may come in, checked, and made a hierarchy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.inputs import as_edges, refuse_tangent
from pyg_gunet.graph.level import Hierarchy, Level
from pyg_gunet.graph.walk import Walk, check_weights
from pyg_gunet.nn.conv import UNetConv, takes
from pyg_gunet.nn.pool import GPool
from pyg_gunet.nn.select import GPoolSelect
from pyg_gunet.nn.unpool import GUnpool
from pyg_gunet.validate import (
    check_batch,
    check_batch_size,
    check_edge_attr,
    check_edge_index,
    check_edge_weight,
    check_features,
    check_floating,
    check_num_nodes,
    check_same_device,
    check_tensor,
    outermost,
)

STORED = ("induced", "two_hop", "contract")  # what an `Adjacency` pools by


class Door(torch.nn.Module):
    """Opens a hierarchy for a model whose parts are these; see :class:`LevelModel`."""

    in_channels: int
    hidden_channels: int
    depth: int
    words: tuple[str, str, str, str]
    walks: bool
    fused: bool
    weighted: bool
    pools: torch.nn.ModuleList
    unpool: GUnpool

    def pool(self, i: int) -> GPool:
        """The i-th pooling."""
        return self.pools[i]  # type: ignore[return-value]

    @property
    def convs(self) -> list[torch.nn.Module]:
        """The convolutions that run along the levels' edges."""
        return [conv for name in ("down_convs", "up_convs") for conv in getattr(self, name)]

    def declare(self) -> None:
        """Reads off the convolutions what they are given."""
        convs = self.convs
        self.fused = all(isinstance(conv, UNetConv) for conv in convs)
        self.weighted = all(takes(conv, "edge_weight") for conv in convs)
        if self.walks and not self.fused:
            raise ValueError(
                "'conv' must be None with connect='walk', which is GCN propagation; another one "
                "goes with connect='contract', 'sampled' or 'two_hop' (got a 'conv')"
            )

    def prepare(
        self,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        batch: Tensor | None = None,
        edge_attr: Tensor | None = None,
    ) -> Graph | Hierarchy:
        r"""What may stand in the place of `edge_index` in every later call on the same graph: its
        adjacency and propagation, made once, and where selection reads the graph alone
        (``quantiles=1``) all levels. Weights are fixed in it.

        Args:
            edge_index (Tensor): Edges, [2, E], or a sparse `adj_t`.
            edge_weight (Tensor, optional): Weights, [E]. (default: None, all ones)
            num_nodes (int, optional): Number of nodes, N.
                (default: None, up to the last that has an edge)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_attr (Tensor, optional): Edge features, [E, D], fixed as well. (default: None)

        Raises:
            ValueError, TypeError, IndexError: On bad input, naming the argument and the value.
        """
        if isinstance(edge_weight, Tensor) and edge_weight.requires_grad:
            raise ValueError(
                "'edge_weight' must be fixed in a prepared graph: pass edge_weight.detach() "
                "(got one that requires a gradient)"
            )
        with torch.inference_mode(False), torch.no_grad(), outermost() as values:
            if num_nodes is None:
                num_nodes = _last_node(edge_index, batch)
            check_num_nodes(num_nodes)
            edge_index, edge_weight = as_edges(
                edge_index, edge_weight, num_nodes, weighted=self.weighted
            )
            check_batch(batch, num_nodes, values)
            self._check_edges(edge_index, edge_weight, edge_attr, num_nodes, values, "num_nodes")
            edge_index, batch = kept(edge_index), kept(batch)
            dtype = torch.get_default_dtype() if edge_weight is None else edge_weight.dtype
            edge_weight = kept(edge_weight)
            graph = self._graph(edge_index, edge_weight, kept(edge_attr), num_nodes, dtype)
            hierarchy = Hierarchy([Level(num_nodes, batch, graph)])
            if not self.structural:
                if batch is not None:
                    raise ValueError(
                        "'batch' goes with levels that hang on the graph alone, as with "
                        "select='spread' in quantiles=1 (got a tensor)"
                    )
                return graph
            for i, level in enumerate(iter(hierarchy.levels)):  # which grow meanwhile
                level.graph.lasts = True
                if i < self.depth:
                    x = torch.zeros(level.num_nodes, self.hidden_channels, device=edge_index.device)
                    _, below, perm, transfer = self.pool(i).down(x, level, self.transfers)
                    hierarchy.append(below, perm, transfer if self.transfers else None)
            return hierarchy

    @property
    def transfers(self) -> bool:
        """Whether features pass between levels by restriction or prolongation."""
        return self.unpool.lift == "interpolate" or any(p.reduce == "mean" for p in self.pools)

    @property
    def structural(self) -> bool:
        """Whether the levels hang on the graph alone."""
        return all(
            isinstance(pool.select, GPoolSelect) and pool.select.structural for pool in self.pools
        )

    def open(
        self,
        x: Tensor,
        edge_index: Any,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        batch_size: int | None,
        values: bool,
    ) -> Hierarchy:
        """Checks what came in and makes the input graph a level, the first of a hierarchy; a
        prepared one is taken as it is."""
        if torch.jit.is_tracing():
            raise RuntimeError(
                "torch.jit.trace would freeze the numbers of kept nodes; torch.export takes a "
                "model with connect='induced' and a 'conv' on edges, such as GCNConv"
            )
        check_features(x, self.in_channels, values)
        for i, made in enumerate(self.pools):
            check_pool(made, self.hidden_channels, f"pools[{i}]")
        if self.fused != all(isinstance(conv, UNetConv) for conv in self.convs):
            self.declare()  # one was exchanged
        if isinstance(edge_index, (Graph, Hierarchy)):
            hierarchy = self._ready(x, edge_index, batch, edge_weight, edge_attr, values)
        else:
            edge_index, edge_weight = as_edges(
                edge_index, edge_weight, x.size(0), weighted=self.weighted
            )
            check_batch(batch, x.size(0), values)
            check_same_device(
                x,
                "x",
                edge_index=edge_index,
                batch=batch,
                edge_weight=edge_weight,
                edge_attr=edge_attr,
            )
            self._check_edges(edge_index, edge_weight, edge_attr, x.size(0), values)
            graph = self._graph(edge_index, edge_weight, edge_attr, x.size(0), x.dtype)
            hierarchy = Hierarchy([Level(x.size(0), batch, graph)])
        if batch_size is not None:
            check_batch_size(batch_size, hierarchy.levels[0].batch, values)
        return hierarchy

    def _check_edges(
        self,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        num_nodes: int,
        values: bool,
        of: str = "x",
    ) -> None:
        check_edge_index(edge_index, num_nodes, values, of=of)
        check_edge_weight(edge_weight, edge_index.size(1), values)
        self._check_taken(edge_weight, edge_attr)
        if self.walks:
            check_weights(edge_weight, values)
        plain = {pool.connect_name for pool in self.pools} <= {"induced", "sampled"}
        if self.fused or not plain or self.transfers:
            refuse_tangent(edge_weight)
        if edge_attr is None:
            return
        check_floating(edge_attr, "edge_attr")
        check_edge_attr(edge_attr, edge_index.size(1), values)
        names = {pool.connect_name for pool in self.pools} - {"induced", "contract", ""}
        if names:
            raise ValueError(
                f"'edge_attr' can be carried by connect='induced' and connect='contract' "
                f"(got features of shape {list(edge_attr.shape)} with connect={names.pop()!r})"
            )

    def _check_taken(self, edge_weight: Tensor | None, edge_attr: Tensor | None) -> None:
        """Refuses what no convolution would be given."""
        if edge_weight is not None and not self.weighted:
            raise ValueError(
                f"'edge_weight' goes with a 'conv' whose forward takes 'edge_weight' "
                f"(got weights of shape {list(edge_weight.shape)})"
            )
        if edge_attr is None:
            return
        if self.fused or not all(takes(conv, "edge_attr") for conv in self.convs):
            raise ValueError(
                f"'edge_attr' goes with a 'conv' whose forward takes 'edge_attr', such as GINEConv "
                f"(got features of shape {list(edge_attr.shape)})"
            )

    def _graph(
        self,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> Graph:
        """The level's graph: prepared where every convolution takes it and no weight learns."""
        learned = edge_weight is not None and edge_weight.requires_grad and torch.is_grad_enabled()
        stored = self.walks or all(pool.connect_name in STORED for pool in self.pools)
        if self.fused and stored and not learned:
            adjacency = Adjacency.from_edge_index(edge_index, edge_weight, num_nodes, dtype)
            return Walk.from_adjacency(adjacency) if self.walks else adjacency
        if edge_weight is not None:
            edge_weight = edge_weight.to(dtype)
        elif self.weighted:  # as PyG's GraphUNet
            edge_weight = torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device)
        return Edges(edge_index, num_nodes, edge_weight, edge_attr, self.weighted)

    def _ready(
        self,
        x: Tensor,
        graph: Graph | Hierarchy,
        batch: Tensor | None,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        values: bool,
    ) -> Hierarchy:
        """A prepared graph or hierarchy in place of edges."""
        for name, value in (("edge_weight", edge_weight), ("edge_attr", edge_attr)):
            if value is not None:
                raise ValueError(
                    f"'{name}' must be None with a prepared graph, and so must an explainer's mask "
                    "(got a tensor)"
                )
        if graph.num_nodes != x.size(0):
            raise ValueError(
                f"'edge_index' was prepared for {graph.num_nodes} nodes "
                f"(got 'x' with {x.size(0)} rows)"
            )
        check_batch(batch, x.size(0), values)
        # Weights pass: they have made the transfers, whether or not a convolution takes them.
        first = graph if isinstance(graph, Graph) else graph.levels[0].graph
        self._check_taken(None, first.edge_attr if isinstance(first, Edges) else None)
        if isinstance(graph, Graph):
            hierarchy = Hierarchy([Level(x.size(0), batch, self._fit(graph, x))])
        else:
            own = graph.levels[0].batch
            if batch is not None and (own is None or (values and not torch.equal(batch, own))):
                raise ValueError("'batch' must be that of the prepared hierarchy (got another)")
            if graph.depth != self.depth:
                raise ValueError(
                    f"'edge_index' was prepared in {graph.depth} poolings for a model of "
                    f"{self.depth} (got {graph!r})"
                )
            if self.walks and any(isinstance(one.graph, Edges) for one in graph.levels[1:]):
                raise ValueError(
                    "'edge_index' holds levels of edges, which connect='walk' does not make "
                    f"(got {graph!r})"
                )
            levels = [
                Level(level.num_nodes, level.batch, self._fit(level.graph, x))
                for level in graph.levels
            ]
            hierarchy = Hierarchy(levels, graph.perms, graph.transfers)
            if self.transfers and None in graph.transfers:
                raise ValueError(
                    "'edge_index' must be prepared with transfers for reduce='mean' or "
                    "lift='interpolate' (got one without)"
                )
        return hierarchy

    def _fit(self, graph: Graph, x: Tensor) -> Graph:
        """A prepared graph as this model's convolutions take it."""
        if isinstance(graph, Edges):
            parts = graph.edge_index, graph.edge_weight, graph.edge_attr
            made = self._graph(*parts, graph.num_nodes, x.dtype)
            if isinstance(made, Edges):  # what was found out before, and is made once
                made.signed, made.halves = graph.signed, graph.halves
            return made
        kind = Walk if self.walks else Adjacency
        if not self.fused or not isinstance(graph, kind):
            raise ValueError(
                f"'edge_index' was prepared for another 'connect' or 'conv' "
                f"(got {type(graph).__name__} for connect={self.words[2]!r})"
            )
        if not self.walks and {pool.connect_name for pool in self.pools} - set(STORED):
            raise ValueError(
                f"'edge_index' must be edges for a pool whose connect is none of "
                f"{', '.join(STORED)} (got {type(graph).__name__})"
            )
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if (graph.values.dtype, graph.values.device) != (dtype, x.device):
            raise ValueError(
                f"'edge_index' was prepared in {graph.values.dtype} on {graph.values.device}; "
                f"use its `to` (got 'x' of {x.dtype} on {x.device})"
            )
        return graph

    def check_hierarchy(self, hierarchy: Hierarchy) -> None:
        """A hierarchy of this model's depth, at the door of a decoder."""
        if not isinstance(hierarchy, Hierarchy) or hierarchy.depth != self.depth:
            raise TypeError(
                f"'hierarchy' must be a Hierarchy of {self.depth} poolings, from 'encode' or "
                f"'prepare' (got {hierarchy!r:.80})"
            )
        graph = hierarchy.levels[0].graph
        self._check_taken(None, graph.edge_attr if isinstance(graph, Edges) else None)
        if not self.fused and not isinstance(graph, Edges):
            raise TypeError(
                f"'hierarchy' must hold edges, which a 'conv' takes (got {type(graph).__name__})"
            )
        if self.unpool.lift == "interpolate" and None in hierarchy.transfers:
            raise ValueError(
                "'hierarchy' must hold transfers with lift='interpolate' (got one without)"
            )


def kept(tensor: Any) -> Any:
    """A tensor as a prepared graph keeps it: its own, of no gradient and no inference mode."""
    return None if tensor is None else tensor.detach().clone()


def _last_node(edge_index: Any, batch: Tensor | None) -> int:
    if batch is not None:
        check_tensor(batch, "batch")
        return batch.numel()
    if hasattr(edge_index, "layout") and edge_index.layout is not torch.strided:
        return edge_index.size(0)
    check_edge_index(edge_index, 0, values=False)
    return int(edge_index.max()) + 1 if edge_index.numel() else 0


def check_pool(pool: Any, channels: int, name: str) -> GPool:
    """A :class:`GPool` of so many channels."""
    if not isinstance(pool, GPool):
        raise TypeError(f"'{name}' must be a GPool (got {type(pool).__name__})")
    if pool.in_channels != channels:
        raise ValueError(f"'{name}' must take {channels} channels (got {pool.in_channels})")
    return pool
