"""Every public operator on random graphs against a dense or networkx oracle."""

from __future__ import annotations

import math

import networkx as nx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import GraphUNet as PyGGraphUNet

from pyg_gunet import GPool, GraphUNet, GUnpool, sampled_two_hop, spread
from pyg_gunet.functional.connect import induced, two_hop
from pyg_gunet.functional.select import num_kept, topk
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.walk import Walk
from tests.conftest import Graph, dense_two_hop, to_dense
from tests.properties.graphs import KINDS, any_graphs, perms, scores

few = settings(max_examples=40)


def distances(graph: Graph) -> dict[int, dict[int, int]]:
    """Hops between nodes, whatever the edges' direction."""
    g = nx.Graph()
    g.add_nodes_from(range(graph.num_nodes))
    g.add_edges_from(graph.edge_index.t().tolist())
    return dict(nx.all_pairs_shortest_path_length(g))


def gcn(s: Tensor, loops: Tensor, fill: float) -> Tensor:
    """D^-1/2 (S + loops) D^-1/2 with in-degrees, rows = targets; `fill` where there is no loop."""
    full = s.t() + torch.diag(torch.where(loops.isnan(), fill, loops))
    root = full.sum(1).pow(-0.5)
    root[root.isinf()] = 0.0
    return root[:, None] * full * root


def own_loops(graph: Graph) -> Tensor:
    """The last self loop's weight of every node, NaN where there is none."""
    loops = torch.full((graph.num_nodes,), math.nan, dtype=torch.float64)
    for e, (s, t) in enumerate(graph.edge_index.t().tolist()):
        if s == t:
            loops[s] = 1.0 if graph.edge_weight is None else graph.edge_weight[e]
    return loops


# Selection --------------------------------------------------------------------------------------


@few
@given(st.data(), st.integers(1, 30), st.one_of(st.floats(0.01, 1.0), st.integers(1, 40)))
def test_topk_is_sorting(data, n, ratio):
    score = data.draw(scores(n))
    kept = topk(score, ratio).tolist()
    order = sorted(range(n), key=lambda i: (-float(score[i]), i))
    k = min(ratio, n) if isinstance(ratio, int) else max(1, math.ceil(ratio * n - 1e-6))
    assert kept == order[:k]
    assert int(num_kept(ratio, torch.tensor([n]))) == k


@few
@given(st.data(), any_graphs(), st.integers(1, 12))
def test_spread_keeps_k_and_covers(data, graph, k):
    n = graph.num_nodes
    score = data.draw(scores(n, finite=True))
    kept = spread(score, graph.edge_index, min(k, n)).tolist()
    assert len(set(kept)) == len(kept) == min(k, n)
    values = score[kept]
    assert bool((values[1:] <= values[:-1]).all())  # by falling score
    hops = distances(graph)
    components = {frozenset(reach) for reach in hops.values()}
    if len(components) > len(kept):
        return
    for component in components:
        best = max(component, key=lambda i: (float(score[i]), -i))
        assert best in kept
    # The greedy independent set of one scan with this radius would be larger than k.
    radius = max(min(hops[i].get(j, n) for j in kept) for i in range(n))
    if n <= 256 and radius > 1 and len(kept) * 6 >= n:
        ball: list[int] = []
        for i in sorted(range(n), key=lambda i: (-float(score[i]), i)):
            if all(hops[i].get(j, n) > radius - 1 for j in ball):
                ball.append(i)
        assert len(ball) > len(kept)


# Connectivity -----------------------------------------------------------------------------------


@few
@given(st.data(), any_graphs())
def test_connectivity_against_dense(data, graph):
    perm = data.draw(perms(graph.num_nodes))
    a = graph.dense()
    expected = dense_two_hop(a, perm)
    arguments = graph.edge_index, graph.edge_weight, perm, graph.num_nodes
    size = perm.numel()
    assert torch.equal(to_dense(*two_hop(*arguments), size), expected)
    level = Adjacency.from_edge_index(graph.edge_index, graph.edge_weight, graph.num_nodes)
    assert torch.equal(to_dense(*level.pool(perm).edges(), size), expected)
    # Where every node has few walks, the sampled graph is the exact one.
    torch.testing.assert_close(
        to_dense(*sampled_two_hop(*arguments, max_degree=10_000), size), expected
    )
    index, position = induced(
        graph.edge_index, torch.arange(graph.num_edges), perm, graph.num_nodes
    )
    place = {node: j for j, node in enumerate(perm.tolist())}
    pairs = enumerate(graph.edge_index.t().tolist())
    inside = [(place[s], place[t], e) for e, (s, t) in pairs if s in place and t in place]
    assert list(zip(*index.tolist(), position.tolist())) == inside


@few
@given(st.data(), any_graphs(weights=("none", "positive")))
def test_walks_against_dense(data, graph):
    n = graph.num_nodes
    dtype = torch.float64
    level = Walk.from_edge_index(graph.edge_index, graph.edge_weight, n, dtype)
    s, loops = graph.dense(), own_loops(graph)
    for depth in range(3):
        size = s.size(0)
        missing = loops if depth == 0 else torch.full((size,), math.nan, dtype=dtype)
        propagated = level.propagate(torch.eye(size, dtype=dtype))
        torch.testing.assert_close(propagated, gcn(s, missing, 2.0), atol=1e-12, rtol=1e-9)
        perm = data.draw(perms(size))
        hop = gcn(s, torch.full((size,), math.nan, dtype=dtype), 1.0)
        s = (hop @ hop).t()[perm][:, perm]
        level = level.pool(perm)


# Networks ---------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(any_graphs(weights=("none",)), st.integers(1, 3), st.integers(0, 9))
def test_graph_unet_is_pyg(graph, depth, seed):
    torch.manual_seed(seed)
    theirs = PyGGraphUNet(3, 4, 2, depth, pool_ratios=0.5).double().eval()
    ours = GraphUNet(3, 4, 2, depth, pool_ratios=0.5).double().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(graph.num_nodes, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x, graph.edge_index), theirs(x, graph.edge_index))


@few
@given(st.data(), any_graphs())
def test_unpooling_undoes_pooling_up_to_the_gate(data, graph):
    torch.manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(graph.num_nodes, 3, dtype=torch.float64)
    pool = GPool(3, data.draw(st.sampled_from([0.3, 0.5, 1.0, 2]))).double()
    out = pool(x, graph.edge_index)
    back = GUnpool()(out.x, out.perm, graph.num_nodes)
    kept = torch.zeros(graph.num_nodes, dtype=torch.bool).index_fill(0, out.perm, True)
    assert not bool(back[~kept].any())
    weight = pool.select.weight.view(-1)
    gate = torch.tanh(x @ weight / weight.norm())
    torch.testing.assert_close(back[kept], (x * gate[:, None])[kept])


def test_named_graphs_are_drawn():
    """What the oracles are to see is among what is drawn."""
    found = set()

    @settings(max_examples=200)
    @given(any_graphs(names=True))
    def draw(drawn):
        found.add(drawn[0])

    draw()
    assert found == set(KINDS)
