"""Spread selection: the k best-scored nodes under coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.graph.inputs import both_ways
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_floating,
    check_positive_int,
    check_ratio,
    check_same_device,
    check_tensor,
    outermost,
)

# Graphs of up to STRICT nodes are scanned in the exact order of their scores; larger ones in
# QUANTILES of it. A longer strict order buys nothing but rounds: see `_priority`.
STRICT = 256
QUANTILES = 64
# Above this many independent nodes per node to keep, neighbourhoods are merged before the radius
# is widened: the cost of a radius grows with it, that of a merge does not.
CROWDED = 6
ROUNDS = 3  # of colour refinement: a node's hash sees this far
MASK = 0xFFFFFFFF


def spread(
    score: Tensor,
    edge_index: Tensor,
    k: int | float | Tensor,
    batch: Tensor | None = None,
    *,
    quantiles: int | None = None,
) -> Tensor:
    r"""Selects the :math:`k` best-scored nodes of every graph under coverage: no node is far from
    a kept one.

    Top-:math:`k` of a smooth score keeps one corner of a graph and forgets the rest. Spread
    selection scans the nodes from the best score down, several times, until exactly :math:`k` are
    kept:

    1. For :math:`r = 1, 2, \ldots`, a scan keeps each node that is more than :math:`r` hops away
       from all nodes kept so far: a greedy maximal :math:`r`-hop independent set, so every node
       lies within :math:`r` hops of a kept one. The first :math:`r` whose set has at most
       :math:`k` nodes is taken.
    2. The set is filled up with the radii :math:`r - 1, \ldots, 1`: whatever is farthest from all
       kept nodes comes first.
    3. For :math:`t = 2, 3, 4, 6, 8, 12, \ldots`, a scan keeps each node that has fewer than
       :math:`t` kept neighbours: every dropped node is covered :math:`t` times.

    Edges count as undirected; self loops and parallel edges change nothing. Every connected
    component keeps a node, and its best one unless `quantiles` is given; if a graph has more
    components than :math:`k`, the best nodes of the components with the best scores are kept.
    Ties go to the smaller node id.

    Every scan runs in parallel rounds, in which a node waits for its better neighbours alone
    (Blelloch et al., `"Greedy Sequential Maximal Independent Set and Matching are Parallel on
    Average" <https://arxiv.org/abs/1202.3205>`_, 2012). A score that falls along a path would
    still need as many rounds as nodes, so graphs of more than 256 nodes are scanned in 64
    quantiles of the score, in a fixed pseudo-random order of the ranks within each. Where
    :math:`k` is so small that the independent set exceeds :math:`6k` nodes, each neighbourhood is
    merged into its kept node before the radius is widened, and coverage holds up to the constant
    factor that a merge costs. The cost is near-linear in the edges.

    The result depends on ranks and structure alone: it is deterministic on every device, the same
    for a graph alone as in a batch, and equivariant to node permutations where scores do not tie.

    Args:
        score (torch.Tensor): One finite score per node :math:`[N]`; no gradient flows to it.
        edge_index (torch.Tensor): Edges :math:`[2, E]`.
        k (int, float or torch.Tensor): The nodes to keep per graph: a count (all nodes of graphs
            with fewer), a share in :math:`(0, 1]`, or a tensor :math:`[B]` of counts from 0 to the
            size of each graph.
        batch (torch.Tensor, optional): Sorted graph id per node :math:`[N]`. (default: one graph)
        quantiles (int, optional): Scan in the order of this many quantiles of the score. Within
            one, the order is that of a hash of each node's surroundings (three rounds of
            Weisfeiler-Lehman colour refinement), and only nodes that it does not tell apart go by
            score. With 1, the graph alone decides, up to its symmetries: a selection that holds
            still while a scorer learns, which an auto-encoder needs to converge.
            (default: None, the order of the score)

    Returns:
        torch.Tensor: Ids of the kept nodes :math:`[K]`, graph after graph, by falling score
        within each: the order of :func:`topk`; with ``quantiles=1`` in that of the scan.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, a score, `batch`, `k` or `quantiles` is out of range, or an edge
            joins two graphs.
        IndexError: If `edge_index` names a node that does not exist.

    Example:
        >>> # A path of six nodes: top-k would keep 0, 1 and 2.
        >>> score = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        >>> edge_index = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
        >>> spread(score, edge_index, k=3)
        tensor([0, 2, 4])
        >>> spread(score, edge_index, k=2)
        tensor([0, 3])
    """
    with outermost() as values:
        _check(score, edge_index, batch, values)
        if quantiles is not None:
            check_positive_int(quantiles, "quantiles")
        with torch.no_grad():
            score = score.detach()
            graph = torch.zeros_like(score, dtype=torch.long) if batch is None else batch.long()
            if values and bool((graph[edge_index[0]] != graph[edge_index[1]]).any()):
                where = int((graph[edge_index[0]] != graph[edge_index[1]]).nonzero()[0])
                pair = edge_index[:, where].tolist()
                raise ValueError(f"'edge_index' must not join two graphs of 'batch' (got {pair})")
            k = _counts(k, graph, score.numel(), values)
            order = torch.sort(score, descending=True, stable=True).indices
            order = order[torch.sort(graph[order], stable=True).indices]
            edges = lasting(_unique)(both_ways(edge_index), score.numel())
            scan = _Scan(order, graph, k, edges, quantiles)
            kept = scan.run()
            if quantiles == 1:  # scores come into nothing, the order of the result included
                order = _inverse(scan.place)
            return order[kept[order]]


class _Scan:
    """The state of one call: `left` counts what each graph may still keep."""

    def __init__(
        self, order: Tensor, graph: Tensor, k: Tensor, edges: Tensor, quantiles: int | None
    ) -> None:
        self.graph, self.left, self.edges = graph, k.clone(), edges
        self.kept = torch.zeros_like(graph, dtype=torch.bool)
        place = _inverse(order)  # 0, 1, ... from graph to graph, and in each from the best down
        self.best = _best_of_component(place, order, edges)
        size = self.count(torch.ones_like(self.kept))
        rank, size = place - (size.cumsum(0) - size)[graph], size[graph]
        if quantiles is None:
            scan = _by_score(rank, size, self.best, graph)
        else:
            scan = _by_surroundings(rank, size, graph, edges, quantiles)
        self.place, self.by_score = _inverse(scan), place

    def run(self) -> Tensor:
        none = torch.zeros_like(self.kept)
        # With more components than nodes to keep, the best of them fill the graph's share.
        poor = self.count(self.best) > self.left
        self.add(self.best & poor[self.graph], self.by_score)

        alive = (self.left > 0)[self.graph]
        alive, first = self.merge(alive)
        radius = torch.ones_like(self.left)
        found, fits = first, self.count(first) <= self.left
        self.add(found & fits[self.graph])
        widest = 1
        while not bool(fits.all()):
            widest += 1
            free = alive & ~fits[self.graph]
            found = _independent(self.place, none, free, self.within(free), widest)
            now = (self.count(found) <= self.left) & ~fits
            self.add(found & now[self.graph])
            radius[now] = widest
            fits |= now

        for r in range(widest - 1, 0, -1):
            free = alive & ((radius > r) & (self.left > 0))[self.graph]
            self.add(_independent(self.place, self.kept & alive, free, self.within(free), r))
        fold, step = 2, 1
        while bool((self.left > 0).any()):
            free = alive & (self.left > 0)[self.graph]
            self.add(_covered(self.place, self.kept, free, self.within(free), fold))
            fold, step = fold + step, fold // 2
        return self.kept

    def count(self, mask: Tensor) -> Tensor:
        return torch.zeros_like(self.left).scatter_add_(0, self.graph, mask.long())

    def within(self, mask: Tensor) -> Tensor:
        """The edges of the graphs that `mask` marks nodes of."""
        return _filter(self.edges, self.count(mask)[self.graph] > 0)

    def add(self, mask: Tensor, place: Tensor | None = None) -> None:
        """Keeps the first of these nodes, as many as every graph has left."""
        node = mask.nonzero().view(-1)
        node = node[torch.sort((self.place if place is None else place)[node]).indices]
        graph, size = self.graph[node], self.count(mask)
        nth = torch.arange(node.numel(), device=node.device) - (size.cumsum(0) - size)[graph]
        self.kept[node[nth < self.left[graph]]] = True
        self.left -= torch.minimum(size, self.left)

    def merge(self, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Merges neighbourhoods until no graph's independent set is far above its share."""
        none = torch.zeros_like(self.kept)
        while True:
            first = _covered(self.place, none, alive, self.within(alive), 1)
            crowded = (self.count(first) > CROWDED * self.left)[self.graph] & alive
            if not bool(crowded.any()):
                return alive, first
            size = self.place.numel()
            reach = _hop(torch.where(first, size - self.place, 0), self.edges)
            centre = _inverse(self.place)[(size - reach).clamp_(max=size - 1)]
            own = torch.arange(size, device=centre.device)
            centre = torch.where(crowded & ~first, centre, own)
            self.edges = _unique(centre[self.edges], size)
            alive = alive & (first | ~crowded)


def _check(score: Tensor, edge_index: Tensor, batch: Tensor | None, values: bool) -> None:
    check_floating(score, "score")
    if score.dim() != 1:
        raise ValueError(f"'score' must have shape [num_nodes] (got {list(score.shape)})")
    check_edge_index(edge_index, score.numel(), values, of="score")
    check_batch(batch, score.numel(), values, "score")
    check_same_device(score, "score", edge_index=edge_index, batch=batch)
    if values and not bool(torch.isfinite(score).all()):
        where = int((~torch.isfinite(score)).nonzero()[0])
        raise ValueError(f"'score' must be finite (got {score[where].item()} at {where})")


def _counts(k: int | float | Tensor, graph: Tensor, num_nodes: int, values: bool) -> Tensor:
    """The nodes to keep per graph, [B]."""
    num_graphs = int(graph[-1]) + 1 if num_nodes else 0
    if isinstance(k, Tensor):
        check_tensor(k, "k")
        if k.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"'k' must be of dtype int64 or int32 (got {k.dtype})")
        if k.dim() != 1 or k.numel() < num_graphs:
            raise ValueError(
                f"'k' must have shape [{num_graphs}], one count per graph (got {list(k.shape)})"
            )
        num_graphs = k.numel()
    size = torch.zeros(num_graphs, dtype=torch.long, device=graph.device)
    size.scatter_add_(0, graph, torch.ones_like(graph))
    if not isinstance(k, Tensor):
        check_ratio(k, "k")
        from pyg_gunet.functional.select import num_kept  # it re-exports this module's function

        return num_kept(k, size)
    check_same_device(graph, "score", k=k)
    k = k.long()
    if values and bool(((k < 0) | (k > size)).any()):
        where = int(((k < 0) | (k > size)).nonzero()[0])
        raise ValueError(
            f"'k' must lie in [0, {int(size[where])}], the size of graph {where} "
            f"(got {int(k[where])})"
        )
    return k


def _inverse(permutation: Tensor) -> Tensor:
    out = torch.empty_like(permutation)
    out[permutation] = torch.arange(permutation.numel(), device=permutation.device)
    return out


def _unique(edges: Tensor, num_nodes: int) -> Tensor:
    """Without self loops and repetitions, by target."""
    source, target = edges.index_select(1, (edges[0] != edges[1]).nonzero().view(-1))
    # Compressed by row, in a few passes; a sort of all pairs takes half as long again.
    matrix = csr.build(target, source, torch.ones_like(source, dtype=torch.int8), num_nodes)
    target, source, _ = csr.to_coo(matrix)
    return torch.stack([source, target])


def _filter(edges: Tensor, mask: Tensor) -> Tensor:
    """The edges with both ends in `mask`."""
    both = mask.index_select(0, edges[0]) & mask.index_select(0, edges[1])
    return edges.index_select(1, both.nonzero().view(-1))


def _hop(value: Tensor, edges: Tensor) -> Tensor:
    """The largest value of a node and its neighbours."""
    return value.scatter_reduce(0, edges[1], value.index_select(0, edges[0]), "amax")


def _best_of_component(place: Tensor, order: Tensor, edges: Tensor) -> Tensor:
    """Marks the first node, by `place`, of every connected component.

    Labels are places; a node's label is that of some node of its component, and the smallest
    spreads by hooking and pointer jumping (FastSV: Zhang, Azad and Hu, 2020).
    """
    src, dst = place[edges[0]], place[edges[1]]
    label = torch.arange(place.numel(), device=place.device)
    grand = label
    while True:
        least = grand.scatter_reduce(0, dst, grand.index_select(0, src), "amin")
        label = label.scatter_reduce(0, label, least, "amin")
        label = torch.minimum(label, least)
        jump = label[label]
        if torch.equal(jump, grand):
            break
        grand = jump
    best = torch.zeros_like(place, dtype=torch.bool)
    best[order] = grand == torch.arange(place.numel(), device=place.device)
    return best


def _by_score(rank: Tensor, size: Tensor, best: Tensor, graph: Tensor) -> Tensor:
    """The nodes in the order of the scans, from the ranks of their scores in their graphs.

    A node waits for its better neighbours, so the rounds of a scan are as many as the longest
    path of falling scores. In quantiles of the score with the ranks hashed in each, such paths
    are short, whatever the score. Hashing the rank, not the id, keeps the scan equivariant.
    """
    # The best nodes of the components come first, so that every component keeps its best node.
    quantile = torch.where(best, 0, 1 + rank * QUANTILES // size)
    quantile = torch.where(size > STRICT, quantile, rank)
    return torch.sort((graph * STRICT + quantile) << 32 | _hash(rank)).indices


def _by_surroundings(
    rank: Tensor, size: Tensor, graph: Tensor, edges: Tensor, quantiles: int
) -> Tensor:
    """The nodes in that many quantiles of the ranks, in each by a hash of the node's surroundings,
    and by rank where that ties, as it does in symmetric graphs."""
    colour = torch.zeros_like(rank)
    for _ in range(ROUNDS):
        around = torch.zeros_like(rank).scatter_add_(0, edges[1], colour.index_select(0, edges[0]))
        colour = _hash((3 * colour + around + 1) & MASK)
        colour = _hash((colour ^ 0x9E3779B9) & MASK)
    scan = torch.sort(torch.where(size > STRICT, _hash(rank), rank)).indices
    scan = scan[torch.sort(colour[scan], stable=True).indices]
    quantile = rank * quantiles // size
    scan = scan[torch.sort(quantile[scan], stable=True).indices]
    return scan[torch.sort(graph[scan], stable=True).indices]


def _hash(value: Tensor) -> Tensor:
    """A fixed bijection of the integers below 2^32 (Mueller's 32-bit mixer)."""
    value = (((value >> 16) ^ value) * 0x45D9F3B) & MASK
    value = (((value >> 16) ^ value) * 0x45D9F3B) & MASK
    return (value >> 16) ^ value


def _covered(place: Tensor, kept: Tensor, free: Tensor, edges: Tensor, fold: int) -> Tensor:
    """Scans the free nodes and takes each that has fewer than `fold` kept neighbours."""
    found = torch.zeros_like(kept)
    have = torch.zeros_like(place).scatter_add_(0, edges[1], kept.long().index_select(0, edges[0]))
    free = free & ~kept & (have < fold)
    # Only a better neighbour counts for a node of the scan.
    falls = place.index_select(0, edges[0]) < place.index_select(0, edges[1])
    edges = edges.index_select(1, falls.nonzero().view(-1))
    while True:
        edges = _filter(edges, free)
        ahead = torch.zeros_like(place).scatter_add_(0, edges[1], torch.ones_like(edges[1]))
        new = free & (have + ahead < fold)
        if not bool(new.any()):
            return found
        found |= new
        have.scatter_add_(0, edges[1], new.long().index_select(0, edges[0]))
        free = free & ~new & (have < fold)


def _independent(place: Tensor, kept: Tensor, free: Tensor, edges: Tensor, radius: int) -> Tensor:
    """Scans the free nodes and takes each that is more than `radius` hops from all kept."""
    if radius == 1:
        return _covered(place, kept, free, edges, 1)
    found = torch.zeros_like(kept)
    worth = place.numel() - place
    new = kept
    count = None
    while True:
        near = new.to(torch.uint8)
        for _ in range(radius):
            near = _hop(near, edges)
        free = free & (near == 0)
        size = int(free.sum())
        if size == 0:
            return found
        if count is None or 2 * size < count:  # leave what is out of reach of the free nodes
            count, reach = size, free.to(torch.uint8)
            for _ in range(radius):
                reach = _hop(reach, edges)
            edges = _filter(edges, reach > 0)
        own = torch.where(free, worth, 0)
        most = own
        for _ in range(radius):
            most = _hop(most, edges)
        new = free & (most == worth)
        found |= new
