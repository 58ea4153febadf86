"""Levels made once and batched by PyG's loader; one graph for many signals."""

from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINEConv, SAGEConv
from torch_geometric.transforms import ToSparseTensor

from pyg_gunet import Coarsen, GPool, GraphUNet, GraphUNetAutoEncoder, MixedGraphUNet, repeat_graph
from tests.conftest import random_graph

SIZES = (7, 1, 12, 5, 30)
FIXED = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}


def graphs(weighted: bool = False, attr: int = 0) -> list[Data]:
    out = []
    for i, n in enumerate(SIZES):
        graph = random_graph(n, 2 * n, seed=i, directed=False, loops=False)
        data = Data(x=torch.randn(n, 4), edge_index=graph.edge_index)
        if weighted:
            data.edge_weight = graph.edge_weight
        if attr:
            data.edge_attr = torch.randn(graph.edge_index.size(1), attr)
        out.append(data)
    return out


def structural(channels: int, ratio: float) -> GPool:
    return GPool(channels, ratio, select="spread", quantiles=1, reduce="mean", connect="contract")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced"])
def test_a_batch_of_levels_is_the_levels_of_its_graphs(connect, weighted):
    whole = [Coarsen(3, [0.5, 0.6, 2], connect)(data) for data in graphs(weighted)]
    batch = next(iter(DataLoader(whole, batch_size=len(whole))))
    together, start = batch.hierarchy(), [0] * 4
    for i, data in enumerate(whole):
        alone = data.hierarchy()
        for depth in range(4):
            level, part = together.levels[depth], alone.levels[depth]
            nodes = (level.batch == i).nonzero().view(-1)
            assert nodes.tolist() == list(range(start[depth], start[depth] + part.num_nodes))
            edge_index, weight = level.edges()
            own = level.batch[edge_index[0]] == i
            assert torch.equal(edge_index[:, own] - start[depth], part.edges()[0])
            assert (weight is None) == (part.edges()[1] is None)
            assert weight is None or torch.equal(weight[own], part.edges()[1])
            if depth < 3:
                x = torch.randn(together.levels[depth + 1].num_nodes, 2)
                kept = (together.levels[depth + 1].batch == i).nonzero().view(-1)
                lifted = together.transfers[depth].prolong(x)[nodes]
                assert torch.allclose(lifted, alone.transfers[depth].prolong(x[kept]))
                assert torch.equal(together.perms[depth][kept] - start[depth], alone.perms[depth])
        for depth in range(4):
            start[depth] += alone.levels[depth].num_nodes


@pytest.mark.parametrize("conv", [None, SAGEConv])
def test_models_with_and_without(conv):
    """The same kept nodes, so the same outputs and gradients."""
    data = graphs()[-1]
    torch.manual_seed(0)
    model = GraphUNet(4, 8, 3, 3, lift="interpolate", pool=structural, conv=conv)
    coarse = Coarsen(3, connect="contract")(data)
    prepared = model.prepare(data.edge_index, num_nodes=30)
    outs, grads = [], []
    for edges in (coarse.hierarchy(), prepared):
        model.zero_grad()
        outs.append(model(data.x, edges))
        outs[-1].square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
        assert all((g != 0).any() for g in grads[-1])
    assert torch.allclose(*outs, atol=1e-6)
    for a, b in zip(*grads):
        assert torch.allclose(a, b, atol=1e-4)


def test_other_models_and_batches():
    whole = [Coarsen(2)(data) for data in graphs()]
    batch = Batch.from_data_list(whole)
    for model in (
        GraphUNetAutoEncoder(4, 8, 4, 2),
        MixedGraphUNet(4, 8, 3, 2, lift="interpolate", pool=structural),
    ):
        model.eval()
        out = model(batch.x, batch.hierarchy(), batch.batch)
        parts = [model(data.x, data.hierarchy()) for data in whole]
        assert torch.allclose(out, torch.cat(parts), atol=1e-5)


def test_edge_features_go_along():
    data = graphs(attr=5)[-1]
    torch.manual_seed(0)
    model = GraphUNet(
        4, 8, 3, 2, lift="interpolate", pool=structural,
        conv=lambda i, o: GINEConv(torch.nn.Linear(i, o), edge_dim=5),
    )  # fmt: skip
    coarse = Coarsen(2)(data)
    out = model(data.x, coarse.hierarchy(edge_attr=True))
    direct = model(data.x, data.edge_index, edge_attr=data.edge_attr)
    assert torch.allclose(out, direct, atol=1e-5)


def assert_same_levels(one, other):
    for a, b in zip(one.levels, other.levels, strict=True):
        assert torch.equal(a.edges()[0], b.edges()[0])
        assert torch.equal(a.edges()[1], b.edges()[1])
    assert all(torch.equal(a, b) for a, b in zip(one.perms, other.perms, strict=True))
    for a, b in zip(one.transfers, other.transfers, strict=True):
        assert torch.equal(a.share, b.share)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced"])
def test_weights_in_edge_attr_are_weights(connect, shape):
    weighted, carried = graphs(weighted=True), []
    for data in weighted:
        carried.append(data.clone())
        carried[-1].edge_attr = carried[-1].edge_weight.view(shape)
        del carried[-1].edge_weight
    coarsen = Coarsen(2, connect=connect)
    one, other = [coarsen(d) for d in weighted], [coarsen(d) for d in carried]
    for a, b in zip(one, other, strict=True):
        assert_same_levels(a.hierarchy(), b.hierarchy())
    assert_same_levels(*(Batch.from_data_list(part).hierarchy() for part in (one, other)))
    with pytest.raises(ValueError, match="'edge_attr' must be False.*none on level 0"):
        other[-1].hierarchy(edge_attr=True)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 3)])
def test_features_beside_weights_stay_features(shape):
    data = graphs(weighted=True)[-1]
    bare = Coarsen(2)(data).hierarchy()
    data.edge_attr = torch.randn(data.edge_index.size(1), abs(shape[-1])).view(shape)
    levels = Coarsen(2)(data).hierarchy(edge_attr=True)
    assert_same_levels(levels, bare)
    for level in levels.levels:
        graph = level.graph
        assert graph.edge_attr.shape == (graph.edge_index.size(1), *data.edge_attr.shape[1:])


def test_edge_attr_that_no_level_can_hold_is_refused():
    data = graphs(attr=5)[-1]
    with pytest.raises(ValueError, match=r"'edge_attr' can be carried by.*, 5\].*'two_hop'"):
        Coarsen(1, connect="two_hop")(data)
    with pytest.raises(ValueError, match="'edge_attr' must be False.*none on level 0"):
        Coarsen(1)(graphs()[-1]).hierarchy(edge_attr=True)
    lost = Coarsen(2)(data)
    del lost.level_attr_1
    with pytest.raises(ValueError, match="'edge_attr' must be False.*none on level 1"):
        lost.hierarchy(edge_attr=True)
    number = data.edge_index.size(1)
    for attr, error, match in (
        (torch.ones(number, dtype=torch.long), TypeError, "must be floating point"),
        (torch.full((number, 1), float("nan")), ValueError, "must be finite"),
        (torch.full((number, 2), float("inf")), ValueError, "must be finite"),
        (torch.ones(number + 1, 2), ValueError, "must have .* rows"),
        ([1.0] * number, TypeError, "must be a torch.Tensor"),
    ):
        data.edge_attr = attr
        with pytest.raises(error, match=f"'edge_attr' {match}"):
            Coarsen(1)(data)


@pytest.mark.parametrize("made", [False, True])
def test_levels_made_in_inference_mode_train(made):
    data = graphs(weighted=True)[-1]
    model = GraphUNet(4, 8, 3, 2, lift="interpolate", pool=structural, conv=SAGEConv)
    plain = GraphUNet(4, 8, 3, 2, lift="interpolate", pool=structural)
    with torch.inference_mode():
        coarse = Coarsen(2)(data.clone() if made else data)
    for one in (model, plain):
        one(coarse.x, coarse.hierarchy()).sum().backward()
        assert all((p.grad != 0).any() for p in one.parameters())


def test_levels_without_their_edges_are_refused():
    data = ToSparseTensor()(Coarsen(2)(graphs()[-1]))
    with pytest.raises(ValueError, match="'data' must hold the edges.*ToSparseTensor.*None"):
        data.hierarchy()


def test_a_batch_is_coarsened_graph_by_graph():
    with pytest.raises(ValueError, match="'data' must be one graph; coarsen every graph"):
        Coarsen(2)(Batch.from_data_list(graphs()))
    batch = Batch.from_data_list([Coarsen(2)(data) for data in graphs()])
    expected = batch.batch
    del batch.batch  # the levels know what they were made of
    assert torch.equal(batch.hierarchy().levels[0].batch, expected)


def test_stale_levels_are_refused():
    data = Coarsen(2)(graphs()[-1])
    changed = copy.copy(data)
    changed.edge_index = data.edge_index[:, :-1]
    with pytest.raises(ValueError, match=r"'data' must have the 30 nodes and .* coarsen it again"):
        changed.hierarchy()
    fewer = data.subgraph(torch.arange(10))
    with pytest.raises(ValueError, match="coarsen it again"):
        fewer.hierarchy()


def test_words_and_hierarchies_that_do_not_fit():
    with pytest.raises(ValueError, match="'connect' must be one of 'contract'"):
        Coarsen(2, connect="walk")
    with pytest.raises(ValueError, match="'ratio' must hold at least one ratio and at most"):
        Coarsen(2, [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="'data' must hold edges and nodes"):
        Coarsen(2)(Data())
    with pytest.raises(TypeError, match="'data' must be a Data"):
        Coarsen(2)({"x": 1})
    data = graphs()[-1]
    coarse = Coarsen(2)(data)
    with pytest.raises(ValueError, match="prepared in 2 poolings for a model of 3"):
        GraphUNet(4, 8, 3, 3)(data.x, coarse.hierarchy())
    with pytest.raises(ValueError, match="connect='walk' does not make"):
        GraphUNet(4, 8, 3, 2, connect="walk")(data.x, coarse.hierarchy())
    with pytest.raises(ValueError, match="prepared for 30 nodes"):
        GraphUNet(4, 8, 3, 2)(data.x[:7], coarse.hierarchy())
    with pytest.raises(ValueError, match="'batch' must be that of the prepared hierarchy"):
        GraphUNet(4, 8, 3, 2)(data.x, coarse.hierarchy(), torch.arange(30))
    with pytest.raises(ValueError, match="'edge_weight' must be None with a prepared graph"):
        GraphUNet(4, 8, 3, 2)(data.x, coarse.hierarchy(), edge_weight=data.x[:, 0])


def test_one_graph_for_many_signals():
    graph = random_graph(20, 60, directed=False)
    torch.manual_seed(0)
    model = GraphUNet(4, 8, 3, 2)
    signals = torch.randn(5, 20, 4)
    weight = graph.edge_weight.requires_grad_()
    edges, batch, repeated = repeat_graph(graph.edge_index, 20, 5, weight)
    out = model(signals.flatten(0, 1), edges, batch, repeated).view(5, 20, 3)
    for x, y in zip(signals, out):
        assert torch.allclose(model(x, graph.edge_index, edge_weight=weight), y, atol=1e-5)
    out.sum().backward()
    assert (weight.grad != 0).any()
    fixed = model.prepare(edges, repeated.detach(), num_nodes=100)
    again = model(signals.flatten(0, 1), fixed, batch).view(5, 20, 3)
    assert torch.allclose(again, out, atol=1e-5)
    with pytest.raises(ValueError, match="'times' must be at least 1"):
        repeat_graph(graph.edge_index, 20, 0)


@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced"])
def test_many_graphs_at_once_are_the_graphs_one_by_one(connect):
    """Of several kinds in one list: weighted or not, with features, without nodes or edges."""
    mixed = graphs() + graphs(weighted=True)[::-1]
    if connect != "two_hop":
        mixed += graphs(attr=3) + graphs(attr=2)[2:]
    for data in graphs()[:2]:
        data.edge_index = data.edge_index.int()
        mixed.append(data)
    mixed.insert(3, Data(x=torch.ones(4, 4), edge_index=torch.empty(2, 0, dtype=torch.long)))
    mixed[1].name, mixed[2].pos = "one", torch.randn(SIZES[2], 3)
    transform = Coarsen(3, [0.5, 0.6, 2], connect)
    before = [data.to_dict() for data in copy.deepcopy(mixed)]
    outs = transform.all(iter(mixed))
    assert len(outs) == len(mixed)
    for data, old, out in zip(mixed, before, outs):
        assert data.to_dict().keys() == old.keys()
        alone = transform(data).to_dict()
        assert out.to_dict().keys() == alone.keys()
        for key, value in out.to_dict().items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == alone[key].dtype
                exact = connect != "two_hop" or not value.is_floating_point()
                torch.testing.assert_close(
                    value, alone[key], rtol=0 if exact else 1e-6, atol=0 if exact else 1e-7
                )
            else:
                assert value == alone[key]
        for key in set(alone) - set(old):
            assert out[key].untyped_storage().nbytes() == out[key].nbytes  # saved by itself
    assert transform.all([]) == []


def test_many_graphs_at_once_name_a_bad_one():
    good, _, bad = graphs()[:3]
    bad.edge_index = bad.edge_index + 99
    with pytest.raises(IndexError, match=r"graphs\[1\]: 'edge_index'"):
        Coarsen(1).all([good, bad])
    with pytest.raises(TypeError, match=r"graphs\[1\]: 'data' must be a Data.*int"):
        Coarsen(1).all([good, 3])
    empty = Data(x=torch.ones(0, 4), edge_index=torch.empty(2, 0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"graphs\[2\]: .*no node"):
        Coarsen(1).all([good, good, empty])
    with pytest.raises(ValueError, match="must be one graph"):
        Coarsen(1).all([Batch.from_data_list([good, good])])
