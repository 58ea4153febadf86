"""What stands in for edges, and what weights may be: every way in gives the same answer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.autograd import forward_ad
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GINEConv, SAGEConv
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import SelectTopK
from torch_geometric.utils import to_torch_csc_tensor

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    transforms,
)
from pyg_gunet.functional.interpolate import prolongation
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges

N = 24
RING = torch.arange(N)
EDGES = torch.cat([torch.stack([RING, (RING + s) % N]) for s in (1, 5, N - 1, N - 5)], dim=1)
TWO, SIGNED = torch.tensor([[0, 1], [1, 0]]), torch.tensor([-3.0, -3.0])


def spread(channels, ratio):
    return GPool(channels, ratio, select="spread", connect="induced", quantiles=1)


@pytest.fixture
def x():
    return torch.randn(N, 4)


@pytest.fixture
def weight():
    return torch.rand(EDGES.size(1)) + 0.5


def test_signed_weights_that_make_nan_are_refused_on_every_way_in(x):
    x = x[:2]
    model = GraphUNet(4, 8, 3, 1, connect="induced", conv=GCNConv)
    mixed = MixedGraphUNet(4, 8, 3, 1, connect="induced", conv=GCNConv)
    data = transforms.Coarsen(1)(Data(x=x, edge_index=TWO, edge_weight=SIGNED))
    plain = GraphUNet(4, 8, 3, 1, conv=GCNConv)
    for call in (
        lambda: model(x, TWO, edge_weight=SIGNED),
        lambda: model(x, model.prepare(TWO, SIGNED)),
        lambda: model(x, model.prepare(TWO, SIGNED).to(torch.float32)),
        lambda: mixed(x, TWO, edge_weight=SIGNED),
        lambda: plain(x, data.hierarchy()),
    ):
        with pytest.raises(ValueError, match="'edge_weight' holds negative weights"):
            call()


def test_signed_parallel_edges_count_the_same_fixed_and_learned(x):
    edges = torch.tensor([[0, 0, 1, 1, 1, 2, 2], [1, 1, 0, 0, 2, 2, 2]])
    weight = torch.tensor([1.0, -0.9, 1.0, -0.9, 1.0, 3.0, 2.0])
    model = GraphUNet(4, 8, 3, 1, connect="induced")
    fixed = model(x[:3], edges, edge_weight=weight)
    learned = model(x[:3], edges, edge_weight=weight.clone().requires_grad_())
    torch.testing.assert_close(fixed, learned)


def test_an_adjacency_goes_to_no_pool_of_another_connect(x):
    graph = GraphUNet(4, 8, 3, 2).prepare(EDGES)
    sampled = GraphUNet(4, 8, 3, 2, pool=lambda c, r: GPool(c, r, connect="sampled"))
    exchanged = GraphUNet(4, 8, 3, 2, connect="induced")
    for pool in exchanged.pools:
        pool.connect = FilterEdges()
    for model in (sampled, exchanged):
        with pytest.raises(ValueError, match="'edge_index' must be edges for a pool whose connect"):
            model(x, graph)
    with pytest.raises(ValueError, match="'connect' must be two_hop, induced or contract"):
        graph.pool(torch.arange(3), None, sampled.pools[0].connect)


@pytest.mark.parametrize("conv", [None, GCNConv])
def test_a_prepared_graph_keeps_its_weights(x, weight, conv):
    model = GraphUNet(4, 8, 3, 2, connect="induced", conv=conv)
    graph = model.prepare(EDGES, weight)
    before = model(x, graph)
    weight.mul_(5)
    assert model(x, graph).equal(before)
    with pytest.raises(ValueError, match="'edge_weight' must be fixed in a prepared graph"):
        model.prepare(EDGES, weight.requires_grad_())


def test_a_sparse_matrix_is_prepared_as_it_is_taken(x):
    model = GraphUNet(4, 8, 3, 2, connect="induced", conv=SAGEConv)
    adj_t = to_torch_csc_tensor(EDGES, size=(N, N)).t()
    torch.testing.assert_close(model(x, model.prepare(adj_t)), model(x, adj_t))


@pytest.mark.parametrize("connect", ["induced", "two_hop", "contract", "sampled"])
@pytest.mark.parametrize("learned", [False, True])
def test_weights_of_numpys_default_dtype(x, weight, connect, learned):
    model = GraphUNet(4, 8, 3, 2, connect=connect).eval()
    double = weight.double().requires_grad_(learned)
    torch.testing.assert_close(
        model(x, EDGES, edge_weight=double), model(x, EDGES, edge_weight=weight)
    )


def test_weights_near_the_end_of_the_range(x, weight):
    kept = torch.tensor([0, 7])
    least = prolongation(kept, EDGES, N, weight).prolong(x[:2])
    for size in (1e38, 1e-37):
        most = prolongation(kept, EDGES, N, weight * size).prolong(x[:2])
        torch.testing.assert_close(most, least)


def test_forward_mode_in_weights_is_refused_by_name(x, weight):
    model = GraphUNet(4, 8, 3, 2, connect="contract")
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weight, torch.ones_like(weight))
        with pytest.raises(NotImplementedError, match="'edge_weight' must not carry"):
            model(x, EDGES, edge_weight=dual)


@pytest.mark.parametrize("lift", ["zero", "interpolate"])
@pytest.mark.parametrize("made", [False, True])
def test_hooks_on_pools_their_selects_and_unpools_see_what_passes(x, lift, made):
    """On levels made in the call and before it alike."""
    model = GraphUNet(4, 8, 3, 2, pool=spread, connect="induced", lift=lift)
    edges = model.prepare(EDGES, num_nodes=N) if made else EDGES
    seen: list = []
    rows: list = []
    for pool in model.pools:
        pool.register_forward_hook(lambda module, args, out: seen.append((out.perm, out.x)))
        pool.select.register_forward_hook(lambda m, args, out: seen.append((out.node_index, None)))
    model.unpool.register_forward_hook(lambda m, args, out: rows.append((len(args[0]), len(out))))
    hierarchy = model.states(x, edges)[1]
    assert len(seen) == 4
    for i, perm in enumerate(hierarchy.perms):
        assert all(torch.equal(one, perm) for one, _ in seen[2 * i : 2 * i + 2])
        assert seen[2 * i + 1][1].shape == (perm.numel(), 8)
    assert rows == [(6, 12), (12, N)]
    pooled = model.pools[0].register_forward_hook(lambda m, args, out: out._replace(x=0 * out.x))
    changed = model(x, edges)
    pooled.remove()
    assert not torch.allclose(changed, model(x, edges))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("made", [False, True])
def test_a_select_that_makes_its_weight_before_each_call_is_heard(x, made):
    model = GraphUNet(4, 8, 3, 1, pool=spread, connect="induced")
    edges = model.prepare(EDGES, num_nodes=N) if made else EDGES
    torch.nn.utils.weight_norm(model.pools[0].select, "weight")
    before = model(x, edges)
    with torch.no_grad():
        model.pools[0].select.weight_v.neg_()
    assert not torch.allclose(model(x, edges), before)


def test_nodes_selected_before_are_scored_alone(x):
    select, perm = GPool(4).select, torch.tensor([5, 2])
    chosen = select(x, perm=perm)
    assert torch.equal(chosen.node_index, perm)
    torch.testing.assert_close(chosen.weight, select.score(x, None)[1][perm])
    with pytest.raises(IndexError, match="'perm' must lie in"):
        select(x, perm=torch.tensor([N]))


def test_exchanged_parts(x):
    model = GraphUNet(4, 8, 3, 1, connect="induced")
    model.down_convs[0] = SAGEConv(4, 8)
    assert model(x, EDGES).shape == (N, 3)
    with pytest.raises(ValueError, match="'edge_weight' goes with a 'conv'"):
        model(x, EDGES, edge_weight=torch.ones(EDGES.size(1)))
    model = GraphUNet(4, 8, 3, 1, select="spread", connect="contract", conv=SAGEConv)
    data = transforms.Coarsen(1)(Data(x=x, edge_index=EDGES))
    model.pools[0].select = SelectTopK(8, 0.5)
    with pytest.raises(ValueError, match="'select' must be a GPoolSelect"):
        model(x, data.hierarchy())


class Backwards(SelectTopK):
    """The same nodes, the last graph's first."""

    def forward(self, x, batch=None):
        out = super().forward(x, batch)
        out.node_index, out.weight = out.node_index.flip(0), out.weight.flip(0)
        return out


def test_a_select_of_any_order(x):
    batch = torch.arange(2).repeat_interleave(N // 2)
    model = GraphUNet(4, 8, 3, 2, connect="induced")
    inside = EDGES[:, batch[EDGES[0]] == batch[EDGES[1]]]
    expected = copy.deepcopy(model)
    model.pools[0].select, expected.pools[0].select = Backwards(8, 0.5), SelectTopK(8, 0.5)
    model.pools[0].select.load_state_dict(expected.pools[0].select.state_dict())
    torch.testing.assert_close(model(x, inside, batch), expected(x, inside, batch))


def test_an_adjacency_of_learned_weights_is_refused(weight):
    with pytest.raises(ValueError, match="'edge_weight' must be fixed in an adjacency"):
        Adjacency.from_edge_index(EDGES, weight.requires_grad_(), N)
    with pytest.raises(ValueError, match="'edge_weight' must be finite.*nan"):
        Adjacency.from_edge_index(EDGES, weight.detach() * torch.nan, N)
    with torch.no_grad():
        assert not Adjacency.from_edge_index(EDGES, weight, N).values.requires_grad


def test_forward_mode_in_the_weights_of_a_prolongation_is_refused_by_name(x, weight):
    pool = GPool(4, reduce="mean", connect="induced")
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weight, torch.ones_like(weight))
        for call in (
            lambda: prolongation(torch.tensor([0, 7]), EDGES, N, dual),
            lambda: pool(x, EDGES, dual),
        ):
            with pytest.raises(NotImplementedError, match="'edge_weight' must not carry"):
                call()


@pytest.mark.parametrize("loop", [-2.0, 2.0])
def test_a_graph_by_the_sizes_of_its_weights(x, weight, loop):
    edges = torch.cat([EDGES, torch.tensor([[3], [3]])], dim=1)
    signed = torch.cat([weight * torch.tensor([1.0, -1.0]).repeat(2 * N), torch.tensor([loop])])
    for sign in (signed, signed.abs()):
        adjacency = Adjacency.from_edge_index(edges, sign, N)
        expected = Adjacency.from_edge_index(edges, signed.abs(), N).propagate(x)
        for graph in (adjacency, adjacency.to(torch.float64), Edges(edges, N, sign)):
            dtype = (
                torch.float64
                if graph is not adjacency and isinstance(graph, Adjacency)
                else x.dtype
            )
            found = graph.absolute().propagate(x.to(dtype))
            torch.testing.assert_close(found.float(), expected)
    assert adjacency.absolute() is adjacency


@pytest.mark.parametrize("conv", [SAGEConv, None, GCNConv])
def test_prepared_levels_lose_no_features_that_a_convolution_would_not_get(x, conv):
    """They are refused by name, as beside plain edges."""
    attr = torch.randn(EDGES.size(1), 2)

    def gine(inputs, outputs):
        return GINEConv(torch.nn.Linear(inputs, outputs), edge_dim=2)

    def make(kind, conv):
        sizes = (4, 8, 3, 2) if kind is GraphUNet else (4, 8, 4, 2)
        return kind(*sizes, pool=spread, connect="induced", conv=conv)

    levels = make(GraphUNet, gine).prepare(EDGES, num_nodes=N, edge_attr=attr)
    codec = make(GraphUNetAutoEncoder, conv)
    for call in (
        lambda: make(GraphUNet, conv)(x, levels),
        lambda: make(GraphUNet, conv)(x, levels.levels[0].graph),
        lambda: codec.decode(codec.encode(x, EDGES)[0], levels),
    ):
        with pytest.raises(ValueError, match="'edge_attr' goes with.*shape"):
            call()


def test_an_exchanged_stem_is_seen(x):
    model = OfficialGraphUNet(4, 8, 3, depth=1, connect="induced")
    model.stem = SAGEConv(4, 8)
    assert model(x, EDGES).shape == (N, 3)
