"""Levels made once, stored with the graph, batched by PyG's loaders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from pyg_gunet.functional.connect import split_attr
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.level import Hierarchy, Level
from pyg_gunet.graph.sparse.csr import to_coo
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.nn.parts import Ratios, check_pool_ratios
from pyg_gunet.nn.pool import GPool
from pyg_gunet.validate import (
    check_choice,
    check_edge_attr,
    check_edge_index,
    check_edge_weight,
    check_memory,
    check_positive_int,
    outermost,
)

STRUCTURAL = ("contract", "two_hop", "induced")


class CoarsenedData(Data):
    """A graph with its coarser levels, from :class:`Coarsen`. Of each level l it holds
    ``perm_{l}``, ``transfer_index_{l}`` and ``transfer_share_{l}`` to the next one, and of each
    but the first ``level_index_{l}``, ``level_weight_{l}`` and ``level_attr_{l}``; ``level_size``
    [1, depth + 1] and ``level_edges`` [1] tell sizes."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        name, _, level = key.rpartition("_")
        if name not in ("perm", "transfer_index", "level_index"):
            return super().__inc__(key, value, *args, **kwargs)
        sizes = self.level_size[0].tolist()
        if name == "transfer_index":
            return torch.tensor([[sizes[int(level)]], [sizes[int(level) + 1]]])
        return sizes[int(level)]

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key.startswith(("transfer_index_", "level_index_")):
            return -1
        if key.startswith(("perm_", "level_", "transfer_share_")):
            return 0
        return super().__cat_dim__(key, value, *args, **kwargs)

    def hierarchy(self, edge_attr: bool = False) -> Hierarchy:
        """The levels of this graph or batch, for ``model(data.x, data.hierarchy(), data.batch)``.

        Args:
            edge_attr (bool, optional): Whether they hold edge features, for convolutions that take
                them. (default: False)

        Raises:
            ValueError: If the graph has other nodes or edges than when they were made, as far as
                their numbers tell, or none in `edge_index`; if edge features are asked for that a
                level does not have.
        """
        sizes = self.level_size  # one row per graph of a batch
        total = sizes.sum(0).tolist()
        edge_index: Any = self.edge_index
        if edge_index is None:
            raise ValueError(
                "'data' must hold the edges that its levels were made of in 'edge_index', which "
                "ToSparseTensor takes out (got None)"
            )
        edges = int(self.level_edges.sum())
        if self.num_nodes != total[0] or edge_index.size(1) != edges:
            raise ValueError(
                f"'data' must have the {total[0]} nodes and {edges} edges that its levels were "
                f"made of (got {self.num_nodes} and {edge_index.size(1)}); coarsen it again"
            )
        depth = sizes.size(1) - 1
        graphs = torch.arange(sizes.size(0), device=sizes.device)
        levels, perms, transfers = [], [], []
        for i in range(depth + 1):
            batch = None
            if "batch" in self or len(sizes) > 1:
                batch = graphs.repeat_interleave(sizes[:, i], output_size=total[i])
            index, (weight, attr) = edge_index, _carried(self)
            if i > 0:
                names = (f"level_index_{i}", f"level_weight_{i}", f"level_attr_{i}")
                index, weight, attr = (self.get(name) for name in names)
            if edge_attr and attr is None:
                raise ValueError(
                    f"'edge_attr' must be False where edges have no features; [E] and [E, 1] are "
                    f"weights where there is no 'edge_weight' (got True, and none on level {i})"
                )
            attr = attr if edge_attr else None
            levels.append(Level(total[i], batch, Edges(index, total[i], weight, attr)))
            if i < depth:
                perms.append(self[f"perm_{i}"])
                row, col = self[f"transfer_index_{i}"]
                share = self[f"transfer_share_{i}"]
                transfers.append(Transfer.from_entries(perms[-1], total[i], row, col, share))
        return Hierarchy(levels, perms, list(transfers))


def _carried(data: Data) -> tuple[Tensor | None, Tensor | None]:
    """``(weights [E], features [E, ...])`` of a graph's edges; `edge_attr` holds either."""
    weight, attr = data.get("edge_weight"), data.get("edge_attr")
    return split_attr(attr) if weight is None else (weight, attr)


class Coarsen(BaseTransform):
    r"""Makes the levels of a Graph U-Net once, from the graph alone, and stores them in a
    :class:`CoarsenedData`, which PyG's :class:`DataLoader` batches. A training step then selects
    and multiplies nothing; GCN propagation (`conv` None) still stores each level's edges by row.

    Nodes are selected by :func:`~pyg_gunet.functional.spread.spread` in one quantile; what the
    graph does not tell apart goes by number. A model takes the levels in the place of its own
    `select` and `connect`: ``model(data.x, data.hierarchy(), data.batch)``, and scores, reduces and
    lifts by its own words.

    Weights are read from `edge_weight` or, without one, from an `edge_attr` of shape [E] or [E, 1],
    as :class:`GPool` does; a convolution that takes no weights leaves them to the transfers. Any
    other `edge_attr` holds features, which ``'two_hop'`` cannot carry.

    :meth:`all` takes many graphs at once, as a list or a data set of small ones.

    If edges change afterwards, the levels are stale: that is refused where the number of nodes or
    edges tells, and cannot be noticed where it does not.

    Args:
        depth (int): Number of poolings.
        ratio (float, int or list, optional): Share or number of nodes that each pooling keeps, see
            :class:`GPool`. (default: 0.5)
        connect (str, optional): ``'contract'``, ``'two_hop'`` or ``'induced'``, see
            :class:`GPool`. (default: ``'contract'``)

    Example:
        >>> path = torch.tensor([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])
        >>> data = Coarsen(depth=2)(Data(x=torch.randn(4, 3), edge_index=path))
        >>> data.hierarchy()
        Hierarchy(num_nodes=[4, 2, 1])
    """

    def __init__(self, depth: int, ratio: Ratios = 0.5, connect: str = "contract") -> None:
        self.ratios = check_pool_ratios(ratio, depth, "ratio")
        self.depth, self.connect = depth, connect
        check_choice(connect, "connect", STRUCTURAL)

    @lasting
    def forward(self, data: Data) -> CoarsenedData:
        """The graph with its levels; `data` stays as it is.

        Raises:
            ValueError, TypeError, IndexError: On bad edges or a batch of graphs, naming the
                argument and the value.
        """
        out = self._opened(data)
        self._fill([out])
        return out

    @lasting
    def all(self, graphs: Iterable[Data]) -> list[CoarsenedData]:
        """As ``[transform(data) for data in graphs]``, but all graphs at once: for many small ones,
        each of which alone is made of the calls and not of the work. Two-hop weights may differ in
        the last place, by the order of a sum.

        Raises:
            ValueError, TypeError, IndexError: As for one graph, with its place.
        """
        outs = []
        for i, data in enumerate(graphs):
            try:
                outs.append(self._opened(data))
            except (ValueError, TypeError, IndexError) as error:
                raise type(error)(f"graphs[{i}]: {error}") from error
        alike: dict[Any, list[CoarsenedData]] = {}
        for out in outs:
            weight, attr = _carried(out)
            told = [None if t is None else (t.dtype, t.shape[1:]) for t in (weight, attr)]
            key = (out.edge_index.device, out.edge_index.dtype, *told)
            alike.setdefault(key, []).append(out)
        for group in alike.values():
            self._fill(group)
        return outs

    def _opened(self, data: Data) -> CoarsenedData:
        """A copy without levels, checked."""
        if not isinstance(data, Data):
            raise TypeError(f"'data' must be a Data (got {type(data).__name__})")
        if data.get("batch") is not None:
            raise ValueError(
                "'data' must be one graph; coarsen every graph, then batch them (got a 'batch')"
            )
        # A tensor of inference mode is one that no later training step may save.
        given = {
            name: value.clone() if isinstance(value, Tensor) and value.is_inference() else value
            for name, value in data.to_dict().items()
        }
        out = CoarsenedData(**given)
        edge_index, num_nodes = out.edge_index, data.num_nodes
        if edge_index is None or num_nodes is None:
            raise ValueError(f"'data' must hold edges and nodes (got {data!r})")
        if num_nodes == 0:
            raise ValueError(f"'data' holds no node (got {data!r})")
        with outermost() as values:
            check_edge_index(edge_index, num_nodes, values, of="num_nodes")
            check_edge_attr(out.get("edge_attr"), edge_index.size(1))
            weight, attr = _carried(out)
            name = "edge_attr" if out.get("edge_weight") is None else "edge_weight"
            check_edge_weight(weight, edge_index.size(1), values, name)
            check_edge_attr(attr, edge_index.size(1), values)
        if attr is not None and self.connect == "two_hop":
            raise ValueError(
                f"'edge_attr' can be carried by connect='contract' and connect='induced' "
                f"(got features of shape {list(attr.shape)} with connect='two_hop')"
            )
        if data.x is None:
            out.num_nodes = num_nodes
        return out

    def _fill(self, outs: list[CoarsenedData]) -> None:
        """Makes the levels of graphs of one kind and stores in each its own."""
        device = outs[0].edge_index.device
        nodes, edges = (
            torch.tensor(n, device=device)
            for n in ([out.num_nodes for out in outs], [out.edge_index.size(1) for out in outs])
        )
        carried = [_carried(out) for out in outs]
        weight, attr = (None if p[0] is None else torch.cat(p) for p in zip(*carried))
        edge_index, batch = torch.cat([out.edge_index for out in outs], 1), None
        if len(outs) > 1:
            start = _starts(nodes).repeat_interleave(edges)
            edge_index = edge_index + start.to(edge_index.dtype)
            batch = torch.arange(len(outs), device=device).repeat_interleave(nodes)
        total = int(nodes.sum())
        level, sizes = Level(total, batch, Edges(edge_index, total, weight, attr)), [nodes]
        for i, ratio in enumerate(self.ratios):
            pool = GPool(1, ratio, select="spread", quantiles=1, connect=self.connect)
            x = torch.ones(level.num_nodes, 1, device=device)
            above = level.batch
            _, level, perm, transfer = pool.down(x, level, transfer=True)
            assert transfer is not None
            assert isinstance(level.graph, Edges)
            entries = to_coo(transfer.matrix)
            found = {f"perm_{i}": perm, f"transfer_share_{i}": entries[2]}
            found[f"transfer_index_{i}"] = torch.stack(entries[:2])
            found[f"level_index_{i + 1}"] = level.graph.edge_index
            for name in ("weight", "attr"):
                value = getattr(level.graph, f"edge_{name}")
                if value is not None:
                    found[f"level_{name}_{i + 1}"] = value
            if above is None or level.batch is None:
                sizes.append(torch.tensor([level.num_nodes], device=device))
                shared = [found]
            else:
                sizes.append(torch.bincount(level.batch, minlength=len(outs)))
                shared = _shared_out(found, i, above, level.batch, *sizes[-2:])
            for out, own in zip(outs, shared):
                for name, value in own.items():
                    out[name] = value
        table = torch.stack(sizes, 1)
        for out, row, count in zip(outs, table.split(1), edges.split(1)):
            out.level_size, out.level_edges = row.clone(), count.clone()

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.depth}, ratio={self.ratios}, "
            f"connect={self.connect!r})"
        )


def _starts(count: Tensor) -> Tensor:
    return count.cumsum(0) - count


def _shared_out(
    found: dict[str, Tensor], level: int, above: Tensor, below: Tensor, n: Tensor, k: Tensor
) -> list[dict[str, Tensor]]:
    """What was found between two levels of many graphs, of `n` [B] and `k` [B] nodes, for each
    graph by itself."""
    fine, coarse = _starts(n), _starts(k)
    index = found[f"transfer_index_{level}"]
    edges = found[f"level_index_{level + 1}"]
    graph = {"perm": above[found[f"perm_{level}"]], "transfer": above[index[0]]}
    graph["level"] = below[edges[0]]
    own: list[dict[str, Tensor]] = [{} for _ in n]
    for name, value in found.items():
        of = graph[name.partition("_")[0]]
        along = value.dim() - 1 if "index" in name else 0
        order = of.argsort(stable=True)
        if name.startswith("perm"):
            value = value - fine[of].to(value.dtype)
        elif name.startswith("transfer_index"):
            value = value - torch.stack((fine[of], coarse[of])).to(value.dtype)
        elif name.startswith("level_index"):
            value = value - coarse[of].to(value.dtype)
        counts = torch.bincount(of, minlength=n.numel()).tolist()
        for one, part in zip(own, value.index_select(along, order).split(counts, along)):
            one[name] = part.clone()  # a part of a shared tensor would be saved whole
    return own


def repeat_graph(
    edge_index: Tensor, num_nodes: int, times: int, edge_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""One graph many times over, for signals ``x`` [B, N, F] on a static graph: make it once, and
    every step is one pass over all of them::

        edges, batch, weight = repeat_graph(edge_index, N, B, edge_weight)
        out = model(x.flatten(0, 1), edges, batch, weight).view(B, N, -1)

    Args:
        edge_index (Tensor): Edges, [2, E].
        num_nodes (int): Number of nodes, N.
        times (int): Number of signals, B.
        edge_weight (Tensor, optional): Weights, [E]; gradients reach them. (default: None)

    Returns:
        tuple: `edge_index` [2, B * E], `batch` [B * N] and `edge_weight` [B * E] or None.

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> repeat_graph(torch.tensor([[0], [1]]), num_nodes=2, times=2)[:2]
        (tensor([[0, 2],
                [1, 3]]), tensor([0, 0, 1, 1]))
    """
    check_positive_int(num_nodes, "num_nodes")
    check_positive_int(times, "times")
    check_memory(16 * times * max(num_nodes, 1), "times", times)
    with outermost() as values:
        check_edge_index(edge_index, num_nodes, values, of="num_nodes")
        check_edge_weight(edge_weight, edge_index.size(1), values)
    start = num_nodes * torch.arange(times, device=edge_index.device)
    edges = (edge_index.long().unsqueeze(1) + start.view(1, -1, 1)).flatten(1)
    batch = torch.arange(times, device=edge_index.device).repeat_interleave(num_nodes)
    return edges, batch, None if edge_weight is None else edge_weight.repeat(times)
