"""Spread selection: the k best-scored nodes under coverage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pyg_gunet.functional.greedy import Scans, inverse
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.validate import (
    check_batch,
    check_edge_index,
    check_floating,
    check_positive_int,
    check_ratio,
    check_same_device,
    check_tensor,
    check_within_graphs,
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
            check_within_graphs(edge_index, batch, values)
            k = _counts(k, graph, score.numel(), values)
            return lasting(_select)(score, edge_index, k, graph, quantiles)


def _select(
    score: Tensor, edge_index: Tensor, k: Tensor, graph: Tensor, quantiles: int | None
) -> Tensor:
    order = torch.sort(score, descending=True, stable=True).indices
    if k.numel() > 1:
        order = order[torch.sort(graph[order], stable=True).indices]
    scan = _Scan(order, graph, k, _neighbours(edge_index, score.numel()), quantiles)
    kept = scan.run()
    if quantiles == 1:  # scores come into nothing, the order of the result included
        order = scan.scans.order
    return order.masked_select(kept.index_select(0, order))


class _Scan:
    """The state of one call: `left` counts what each graph may still keep."""

    def __init__(
        self, order: Tensor, graph: Tensor, k: Tensor, matrix: CSR, quantiles: int | None
    ) -> None:
        self.graph, self.left = graph, k.clone()
        self.kept = torch.zeros_like(graph, dtype=torch.bool)
        self.order = order
        place = inverse(order)  # 0, 1, ... from graph to graph, and in each from the best down
        self.best = _best_of_component(place, order, matrix)
        size = self.count(torch.ones_like(self.kept))
        rank, size = place - self.of(size.cumsum(0) - size), self.of(size)
        if quantiles is None:
            scan = _by_score(rank, size, self.best, graph)
        else:
            scan = _by_surroundings(rank, size, graph, matrix, quantiles)
        self.scans = Scans(matrix, inverse(scan))

    def run(self) -> Tensor:
        # With more components than nodes to keep, the best of them fill the graph's share.
        poor = self.count(self.best) > self.left
        self.add(self.best & self.of(poor), self.order)

        alive = self.of(self.left > 0)
        alive, first = self.merge(alive)
        radius = torch.ones_like(self.left)
        found, fits = first, self.count(first) <= self.left
        self.add(found & self.of(fits))
        widest = 1

        while not bool(fits.all()):
            widest += 1
            found = self.scans.independent(
                None, alive & ~self.of(fits), widest, self.too_many(fits)
            )
            now = (self.count(found) <= self.left) & ~fits
            if bool(now.any()):
                self.add(found & self.of(now))
                radius[now] = widest
                fits |= now

        for r in range(widest - 1, 0, -1):
            free = alive & self.of((radius > r) & (self.left > 0))
            if bool(free.any()):
                self.add(self.scans.independent(self.kept & alive, free, r))
        fold, step = 2, 1
        while bool((self.left > 0).any()):
            free = alive & self.of(self.left > 0)
            self.add(self.scans.covered(self.kept, free, fold))
            fold, step = fold + step, fold // 2
        return self.kept

    def of(self, value: Tensor) -> Tensor:
        """Of every node its graph's value."""
        if value.numel() == 1:
            return value.expand(self.graph.numel())
        return value.index_select(0, self.graph)

    def count(self, mask: Tensor) -> Tensor:
        if self.left.numel() == 1:
            return mask.sum().view(1)
        return torch.zeros_like(self.left).scatter_add_(0, self.graph, mask.long())

    def too_many(self, fits: Tensor) -> Callable[[Tensor], bool]:
        """Tells, of nodes found a few at a time, when they are too many in all other graphs."""
        size = torch.zeros_like(self.left)

        def tell(new: Tensor) -> bool:
            size.add_(torch.bincount(self.graph[new], minlength=size.numel()))
            return bool(((size > self.left) | fits).all())

        return tell

    def add(self, mask: Tensor, order: Tensor | None = None) -> None:
        """Keeps the first of these nodes, as many as every graph has left."""
        order = self.scans.order if order is None else order
        node = order.masked_select(mask.index_select(0, order))
        graph, size = self.graph[node], self.count(mask)
        nth = torch.arange(node.numel(), device=node.device) - (size.cumsum(0) - size)[graph]
        self.kept[node[nth < self.left[graph]]] = True
        self.left -= torch.minimum(size, self.left)

    def merge(self, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Merges neighbourhoods until no graph's independent set is far above its share."""
        while True:
            scans = self.scans
            first = scans.covered(None, alive, 1)
            crowded = self.of(self.count(first) > CROWDED * self.left) & alive
            if not bool(crowded.any()):
                return alive, first
            size = scans.size
            reach = scans.hop(torch.where(first, scans.worth, 0)).long()
            centre = scans.order[(size - reach).clamp_(max=size - 1)]
            own = torch.arange(size, device=centre.device)
            centre = torch.where(crowded & ~first, centre, own)
            row, col, _ = csr.to_coo(scans.matrix)
            matrix = _neighbours(torch.stack([centre[row], centre[col]]), size)
            self.scans = Scans(matrix, scans.place)
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


def _neighbours(edge_index: Tensor, num_nodes: int) -> CSR:
    """Both ways, without self loops and repetitions."""
    row, col = edge_index.long()
    proper = row != col
    if not bool(proper.all()):
        row, col = row.masked_select(proper), col.masked_select(proper)
    one = csr.build(row, col, torch.ones_like(row, dtype=torch.int8), num_nodes)
    one = one._replace(values=torch.ones_like(one.values))  # sums may have come round to zero
    both = csr.union([one, csr.transpose(one)])
    return both._replace(values=torch.ones_like(both.values, dtype=torch.float32))


def _best_of_component(place: Tensor, order: Tensor, matrix: CSR) -> Tensor:
    """Marks the first node, by `place`, of every connected component."""
    best = torch.zeros_like(place, dtype=torch.bool)
    if csr.on_scipy(place):
        _, label = connected_components(csr.to_scipy(matrix), directed=True, connection="strong")
        label = torch.from_numpy(label).long()
        first = torch.full_like(place, place.numel()).scatter_reduce_(0, label, place, "amin")
        best[order[first[first < place.numel()]]] = True
    else:
        label = _first_reached(place, matrix)
        best[order] = label == torch.arange(place.numel(), device=place.device)
    return best


def _first_reached(place: Tensor, matrix: CSR) -> Tensor:
    """The first place of the component of the node at every place, on any device.

    Labels are places; a node's label is that of some node of its component, and the smallest
    spreads by hooking and pointer jumping (FastSV: Zhang, Azad and Hu, 2020).
    """
    row, col, _ = csr.to_coo(matrix)
    src, dst = place[col], place[row]
    label = torch.arange(place.numel(), device=place.device)
    grand = label
    while True:
        least = grand.scatter_reduce(0, dst, grand.index_select(0, src), "amin")
        label = label.scatter_reduce(0, label, least, "amin")
        label = torch.minimum(label, least)
        jump = label[label]
        if torch.equal(jump, grand):
            return grand
        grand = jump


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
    rank: Tensor, size: Tensor, graph: Tensor, matrix: CSR, quantiles: int
) -> Tensor:
    """The nodes in that many quantiles of the ranks, in each by a hash of the node's surroundings,
    and by rank where that ties, as it does in symmetric graphs."""
    row, col, _ = csr.to_coo(matrix)
    colour = torch.zeros_like(rank)
    for _ in range(ROUNDS):
        around = torch.zeros_like(rank).scatter_add_(0, row, colour.index_select(0, col))
        colour = _hash((3 * colour + around + 1) & MASK)
        colour = _hash((colour ^ 0x9E3779B9) & MASK)
    scan = torch.sort(torch.where(size > STRICT, _hash(rank), rank)).indices
    scan = scan[torch.sort(colour[scan], stable=True).indices]
    quantile = rank * quantiles // size
    scan = scan[torch.sort(quantile[scan], stable=True).indices]
    return scan[torch.sort(graph[scan], stable=True).indices]


def _hash(value: Tensor) -> Tensor:
    """A fixed bijection of the integers below 2^32 (Mueller's 32-bit mixer)."""
    value = value ^ (value >> 16)
    for _ in range(2):
        value = value.mul_(0x45D9F3B).bitwise_and_(MASK)
        value = value.bitwise_xor_(value >> 16)
    return value
