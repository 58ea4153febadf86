"""What GraphUNet offers beyond PyG's: residual placement, stem, corruption, propagation."""

import pytest
import torch
from pyg_gunet.nn.corrupt import Corruption, keep_edges
from torch_geometric.nn import APPNP, GCNConv
from torch_geometric.utils import to_undirected

from pyg_gunet import GraphUNet, SegmentationUNet
from tests.conftest import random_batch, random_graph

OPTIONS = [
    {"residual": "output"},
    {"residual": "none"},
    {"stem": True},
    {"stem": True, "residual": "output", "norm": "batch"},
    {"stem": True, "sum_res": False, "connect": "walk"},
    {"propagate": 3, "teleport": 0.2},
    {"mix": 2, "residual": "none"},
    {"mix": 3, "connect": "walk", "norm": "batch", "sum_res": False},
]


def test_defaults_leave_the_state_dict_of_pyg():
    from torch_geometric.nn import GraphUNet as PyG

    assert list(GraphUNet(4, 8, 3, 2).state_dict()) == list(PyG(4, 8, 3, 2).state_dict())


@pytest.mark.parametrize("options", OPTIONS)
def test_batch_equals_alone(options):
    torch.manual_seed(0)
    graphs = random_batch(dtype=torch.float64)
    x = torch.randn(graphs.num_nodes, 4, dtype=torch.float64)
    model = GraphUNet(4, 6, 3, 2, **options).double().eval()
    out = model(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    for i, (part, start) in enumerate(zip(graphs.parts, graphs.offsets)):
        own = x[start : start + part.num_nodes]
        alone = model(own, part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(out[graphs.batch == i], alone)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_parameter_learns(options):
    torch.manual_seed(1)
    graph = random_graph(20, 60)
    model = GraphUNet(4, 6, 3, 2, act="elu", **options)
    model(torch.randn(20, 4), graph.edge_index).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_stem_and_output_residual_by_hand():
    """One pooling that keeps all nodes in place: the official order, written out."""
    torch.manual_seed(2)
    edge_index = to_undirected(random_graph(9, 20, weighted=False, loops=False).edge_index)
    x = torch.randn(9, 4)
    model = GraphUNet(4, 6, 3, 1, 1.0, stem=True, residual="output", connect="induced").eval()
    act, ones = torch.relu, torch.ones(edge_index.size(1))  # PyG improves none without weights
    stem = act(model.stem(x, edge_index, ones))
    down = act(model.down_convs[0](stem, edge_index, ones))
    pool = model.pools[0]
    y = (down * pool.select.weight).sum(1) / pool.select.weight.norm()
    bottom = act(model.down_convs[1](down * y.tanh().view(-1, 1), edge_index, ones))
    up = act(model.up_convs[0](bottom, edge_index, ones)) + down
    expected = model.head(up + stem, edge_index, ones)
    torch.testing.assert_close(model(x, edge_index), expected)


def test_no_skip_connection_by_hand():
    torch.manual_seed(8)
    edge_index = to_undirected(random_graph(9, 20, weighted=False, loops=False).edge_index)
    x = torch.randn(9, 4)
    model = GraphUNet(4, 6, 3, 1, residual="none").eval()
    z, hierarchy = model.encode(x, edge_index)
    assert hierarchy.skips == []
    up = torch.zeros(9, 6).index_copy(0, hierarchy.perms[0], z)
    expected = model.up_convs[0](up, edge_index, torch.ones(edge_index.size(1)))
    torch.testing.assert_close(model(x, edge_index), expected)


def test_propagation_is_personalised_pagerank():
    torch.manual_seed(3)
    edge_index = to_undirected(random_graph(12, 30, weighted=False, loops=False).edge_index)
    x = torch.randn(12, 4)
    model = GraphUNet(4, 6, 3, 1, propagate=4, teleport=0.3).eval()
    smooth, model.smooth = model.smooth, torch.nn.Identity()
    model.smooth.forward = lambda h, level: h
    plain = model(x, edge_index)
    model.smooth = smooth
    weight = torch.ones(12, 12, dtype=torch.float64) * 0
    weight[edge_index[0], edge_index[1]] = 1
    a = weight + 2 * torch.eye(12, dtype=torch.float64)
    scale = a.sum(0).rsqrt()
    a, z = scale[:, None] * a * scale, plain.double()
    for _ in range(4):
        z = 0.7 * (a.T @ z) + 0.3 * plain.double()
    torch.testing.assert_close(model(x, edge_index).double(), z, atol=1e-5, rtol=1e-5)


def test_propagation_with_another_convolution_is_pyg_appnp():
    torch.manual_seed(4)
    edge_index = to_undirected(random_graph(12, 30, weighted=False, loops=False).edge_index)
    x = torch.randn(12, 4)
    model = GraphUNet(4, 6, 3, 1, conv=GCNConv, propagate=3).eval()
    plain = GraphUNet(4, 6, 3, 1, conv=GCNConv).eval()
    plain.load_state_dict(model.state_dict())
    expected = APPNP(3, 0.1)(plain(x, edge_index), edge_index)
    torch.testing.assert_close(model(x, edge_index), expected)


@pytest.mark.parametrize("conv", [None, GCNConv])
def test_mixing_by_hand(conv):
    """Powers of the dense propagation; the U between the two linear maps, times its share."""
    torch.manual_seed(6)
    edge_index = to_undirected(random_graph(12, 30, weighted=False, loops=False).edge_index)
    x = torch.randn(12, 4, dtype=torch.double)
    model = GraphUNet(4, 6, 3, 1, mix=3, residual="none", conv=conv).double().eval()
    assert not model.share.any()
    a = (1 if conv else 2) * torch.eye(12, dtype=torch.double)
    a[edge_index[0], edge_index[1]] = 1
    scale = a.sum(0).rsqrt()
    a = scale[:, None] * a * scale
    power = total = x @ model.mixing.lin.weight.T
    for _ in range(3):
        power = a @ power
        total = total + power
    with torch.no_grad():
        model.mixing.bias.normal_()
    stem = torch.relu(total / 4 + model.mixing.bias)
    torch.testing.assert_close(model(x, edge_index), model.head(stem))
    with torch.no_grad():
        model.share.fill_(0.5)
    inner = GraphUNet(6, 6, 6, 1, residual="none", conv=conv).double().eval()
    inner.load_state_dict({key: model.state_dict()[key] for key in inner.state_dict()})
    expected = model.head(stem + 0.5 * torch.relu(inner(stem, edge_index)))
    torch.testing.assert_close(model(x, edge_index), expected)
    model.reset_parameters()
    assert not model.share.any()
    assert not model.mixing.bias.any()


def test_pairs_of_edges_share_a_fate():
    torch.manual_seed(5)
    edge_index = to_undirected(torch.randint(200, (2, 3000)))
    keep = keep_edges(edge_index, 0.3, 200)
    fate = {}
    for (a, b), kept in zip(edge_index.t().tolist(), keep.tolist()):
        assert fate.setdefault((min(a, b), max(a, b)), kept) == kept
    assert keep.float().mean().item() == pytest.approx(0.7, abs=0.03)


def test_corruption_is_of_training_alone_and_unbiased():
    torch.manual_seed(6)
    x, edge_index = torch.ones(4000, 5), torch.zeros(2, 0, dtype=torch.long)
    corrupt = Corruption(0.5, 0.25)
    out = corrupt(x, edge_index, None)[0]
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (out == 0).all(1).float().mean().item() == pytest.approx(0.25 + 0.75 / 32, abs=0.03)
    assert corrupt.eval()(x, edge_index, None)[0] is x


def test_dropped_edges_do_not_stay_in_the_cache():
    torch.manual_seed(7)
    edge_index = to_undirected(random_graph(30, 90, weighted=False, loops=False).edge_index)
    x = torch.randn(30, 4)
    model = GraphUNet(4, 6, 3, 2, edge_dropout=0.5, cached=True)
    fresh = GraphUNet(4, 6, 3, 2)
    fresh.load_state_dict(model.state_dict())
    first, second = model.train()(x, edge_index), model(x, edge_index)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(model.eval()(x, edge_index), fresh.eval()(x, edge_index))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"residual": "both"}, "'residual'.*'both'"),
        ({"residual": "output", "sum_res": False}, "'residual'.*'sum_res'"),
        ({"residual": "none", "sum_res": False}, "'residual'.*'sum_res'.*'none'"),
        ({"stem": 2}, "'stem'.*2"),
        ({"input_dropout": 1.0}, "'input_dropout'.*1.0"),
        ({"node_dropout": -0.1}, "'node_dropout'.*-0.1"),
        ({"edge_dropout": 2}, "'edge_dropout'.*2"),
        ({"propagate": -1}, "'propagate'.*-1"),
        ({"teleport": 1.5}, "'teleport'.*1.5"),
        ({"mix": -1}, "'mix'.*-1"),
        ({"mix": 2, "stem": True}, "'mix' does not go with 'stem'.*2 and True"),
        ({"mix": 2, "readout": "cat"}, "'mix' does not go with 'readout'.*2 and 'cat'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GraphUNet(4, 6, 3, 2, **options)


def test_edge_dropout_needs_edges():
    from pyg_gunet import Adjacency

    edge_index = torch.tensor([[0, 1, 2, 1], [1, 0, 1, 2]])
    model = GraphUNet(4, 6, 3, 1, edge_dropout=0.5)
    adjacency = Adjacency.from_edge_index(edge_index, None, 3)
    with pytest.raises(ValueError, match="'edge_dropout'.*Adjacency"):
        model(torch.randn(3, 4), adjacency)


@pytest.mark.parametrize(
    "option", [{"residual": "output"}, {"stem": True}, {"propagate": 2}, {"mix": 2}]
)
def test_segmentation_refuses_what_it_would_not_use(option):
    with pytest.raises(ValueError, match=f"'{next(iter(option))}'"):
        SegmentationUNet(4, 8, 3, 2, **option)
