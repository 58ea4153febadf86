from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.data import Batch
from torch_geometric.datasets import Planetoid, TUDataset

from pyg_gunet import GraphUNet
from pyg_gunet.graph import adjacency
from pyg_gunet.graph.sparse import product
from tests.conftest import permuted, random_batch, random_graph


def pair(*args, **options) -> tuple[GraphUNet, pyg.GraphUNet]:
    """Our model and PyG's of the same weights, loaded both ways."""
    theirs = pyg.GraphUNet(*args, **options)
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    ours, again = GraphUNet(*args, **options), pyg.GraphUNet(*args, **options)
    ours.load_state_dict(theirs.state_dict())
    again.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in again.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])
    return ours, theirs


def assert_equal_models(ours, theirs, x, edge_index, batch=None, edge_weight=None) -> None:
    """The same outputs and the same gradients of parameters, features and weights."""
    grads, outputs = [], []
    for model in (ours, theirs):
        given = x.clone().requires_grad_()
        out = model(given, edge_index, batch, edge_weight)
        generator = torch.Generator().manual_seed(0)
        upstream = torch.randn(out.shape, generator=generator, dtype=out.dtype) / out.numel()
        inputs = [*model.parameters(), given]
        if edge_weight is not None and edge_weight.requires_grad:
            inputs.append(edge_weight)
        grads.append(torch.autograd.grad(out, inputs, upstream))
        outputs.append(out.detach())
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


# --- a drop-in for PyG's GraphUNet


@pytest.mark.parametrize("depth, ratios", [(1, 0.5), (3, 0.5), (3, [0.9, 0.75, 0.5]), (2, 30)])
@pytest.mark.parametrize("sum_res", [True, False])
@pytest.mark.parametrize("directed", [False, True])
def test_equals_pyg_on_weighted_graphs_with_self_loops(depth, ratios, sum_res, directed):
    torch.manual_seed(depth)
    ours, theirs = pair(5, 8, 3, depth, ratios, sum_res, act="elu")
    graph = random_graph(80, 240, directed=directed)
    assert bool((graph.edge_index[0] == graph.edge_index[1]).any())
    x = torch.randn(80, 5)
    assert_equal_models(ours, theirs, x, graph.edge_index, None, graph.edge_weight)
    assert_equal_models(ours, theirs, x, graph.edge_index)
    learned = graph.edge_weight.clone().requires_grad_()
    assert_equal_models(ours, theirs, x, graph.edge_index, None, learned)


@pytest.mark.parametrize("dense", [False, True])
def test_equals_pyg_on_dense_and_sparse_levels(dense, monkeypatch):
    monkeypatch.setattr(product, "SPARSE_RATE", 1e-30 if dense else 1e30)
    monkeypatch.setattr(adjacency, "DENSE_SHARE", 0.0 if dense else 2.0)
    ours, theirs = pair(5, 8, 3, 3, act="elu")
    graph = random_graph(80, 240)
    x = torch.randn(80, 5)
    levels = ours.states(x, *graph[:1], None, graph.edge_weight)[1].levels
    assert [level.graph.is_dense for level in levels] == [False] + [dense] * 3
    assert_equal_models(ours, theirs, x, graph.edge_index, None, graph.edge_weight)


def test_equals_pyg_on_a_batch():
    data = random_batch()
    ours, theirs = pair(5, 8, 3, 3, 0.7)
    x = torch.randn(data.num_nodes, 5)
    assert_equal_models(ours, theirs, x, data.edge_index, data.batch, data.edge_weight)


def test_equals_pyg_with_the_same_seed():
    torch.manual_seed(3)
    ours = GraphUNet(4, 8, 2, depth=3).state_dict()
    torch.manual_seed(3)
    theirs = pyg.GraphUNet(4, 8, 2, depth=3).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    "args", [(4, 8, 2, 3), (4, 8, 2, 2, [0.5, 0.25], False), (4, 8, 2, 3, [0.7, 0.5])]
)
def test_repr_is_pygs(args):
    assert repr(GraphUNet(*args)) == repr(pyg.GraphUNet(*args))


def test_equals_pyg_on_cora(data_root):
    data = Planetoid(str(data_root("planetoid")), "Cora")[0]
    torch.manual_seed(0)
    ours, theirs = pair(data.num_features, 16, 7, 3, [2000 / 2708, 0.5, 0.5], act="elu")
    assert_equal_models(ours, theirs, data.x, data.edge_index)


def test_equals_pyg_on_a_batch_of_mutag(data_root):
    data = Batch.from_data_list(list(TUDataset(str(data_root("tu")), "MUTAG")))
    torch.manual_seed(0)
    # Node labels alone make many nodes alike, and PyG does not say how ties are broken.
    x = data.x + 0.1 * torch.randn_like(data.x)
    ours, theirs = pair(7, 16, 2, 4, [0.75, 0.75, 0.5, 0.5])
    assert_equal_models(ours, theirs, x, data.edge_index, data.batch)


# --- options


CONVS = {
    "gcn": lambda i, o: pyg.GCNConv(i, o, improved=True),
    "graph": lambda i, o: pyg.GraphConv(i, o),
    "sage": lambda i, o: pyg.SAGEConv(i, o),
    "gat": lambda i, o: pyg.GATv2Conv(i, o),
    "gin": lambda i, o: pyg.GINConv(pyg.MLP([i, o, o])),
}


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract", "sampled"])
@pytest.mark.parametrize("sum_res", [True, False, None])
def test_any_convolution(conv, connect, sum_res):
    model = GraphUNet(3, 6, 2, 2, 0.5, sum_res, conv=CONVS[conv], connect=connect)
    data = random_batch(sizes=(12, 9, 20))
    x = torch.randn(data.num_nodes, 3)
    out = model(x, data.edge_index, data.batch)
    assert out.shape == (data.num_nodes, 2)
    out.pow(2).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all())
    weighted = conv in ("gcn", "graph")
    if weighted:
        model(x, data.edge_index, data.batch, data.edge_weight)
    else:
        with pytest.raises(ValueError, match="'edge_weight'.*'conv'"):
            model(x, data.edge_index, data.batch, data.edge_weight)


@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gcn_of_the_user_equals_the_default(connect, weighted):
    """The prepared propagations and PyG's message passing are the same convolution."""
    default = GraphUNet(3, 6, 2, 3, connect=connect, act="elu")
    other = GraphUNet(3, 6, 2, 3, connect=connect, act="elu", conv=CONVS["gcn"])
    other.load_state_dict(default.state_dict())
    graph = random_graph(60, 200)
    weight = graph.edge_weight if weighted else None
    assert_equal_models(default, other, torch.randn(60, 3), graph.edge_index, None, weight)


@pytest.mark.parametrize("norm", ["batch", "layer", "graph", "instance", torch.nn.LayerNorm])
def test_normalisations(norm):
    data = random_batch(sizes=(12, 9, 20))
    model = GraphUNet(3, 6, 2, 3, norm=norm)
    assert len(model.norms) == 4 + 2  # after each convolution but the last
    out = model(torch.randn(data.num_nodes, 3), data.edge_index, data.batch)
    out.pow(2).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    model.reset_parameters()


def test_a_normalisation_of_graphs_sees_the_graphs():
    data = random_batch(sizes=(12, 9, 20))
    model = GraphUNet(3, 6, 2, 2, norm="graph")
    x = torch.randn(data.num_nodes, 3)
    out = model(x, data.edge_index, data.batch, data.edge_weight)
    for part, start in zip(data.parts, data.offsets):
        stop = start + part.num_nodes
        alone = model(x[start:stop], part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(out[start:stop], alone, atol=1e-5, rtol=1e-5)


def test_dropout_in_training_alone():
    graph = random_graph(30, 90)
    x = torch.randn(30, 3)
    model = GraphUNet(3, 16, 2, 2, dropout=0.5)
    plain = GraphUNet(3, 16, 2, 2)
    plain.load_state_dict(model.state_dict())
    assert not torch.equal(model(x, *graph[:1]), model(x, *graph[:1]))
    model.eval()
    assert torch.equal(model(x, *graph[:1]), plain(x, *graph[:1]))


def test_hierarchy_tells_the_kept_nodes_and_edges():
    graph = random_graph(40, 120)
    model = GraphUNet(3, 6, 2, 3)
    _, hierarchy = model.states(torch.randn(40, 3), *graph[:1], None, graph.edge_weight)
    assert torch.equal(hierarchy.kept(0), torch.arange(40))
    first, second = hierarchy.perms[:2]
    assert torch.equal(hierarchy.kept(2), first[second])
    for level in hierarchy.levels:
        edge_index, weight = level.edges()
        assert int(edge_index.max()) < level.num_nodes
        assert weight.shape == (edge_index.size(1),)
    assert repr(hierarchy) == "Hierarchy(num_nodes=[40, 20, 10, 5])"


# --- batch, order, dtypes, persistence


@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract"])
@pytest.mark.parametrize("conv", [None, "sage"])
def test_batch_equals_alone(select, connect, conv):
    data = random_batch(dtype=torch.float64)
    conv = CONVS.get(conv)
    model = GraphUNet(
        4, 6, 3, 3, 0.6, select=select, connect=connect, conv=conv, act="elu"
    ).double()
    x = torch.randn(data.num_nodes, 4, dtype=torch.float64)
    weight = data.edge_weight if conv is None else None
    together = model(x, data.edge_index, data.batch, weight)
    for part, start in zip(data.parts, data.offsets):
        stop = start + part.num_nodes
        weight = part.edge_weight if conv is None else None
        alone = model(x[start:stop], part.edge_index, None, weight)
        torch.testing.assert_close(together[start:stop], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["two_hop", "induced"])
def test_renamed_nodes_rename_the_result(select, connect):
    graph = random_graph(80, 240, dtype=torch.float64)
    order = torch.randperm(80)
    renamed = permuted(graph, order)
    model = GraphUNet(4, 6, 3, 3, select=select, connect=connect, act="elu").double()
    x = torch.randn(80, 4, dtype=torch.float64)
    a = model(x, graph.edge_index, None, graph.edge_weight)
    b = model(x[order], renamed.edge_index, None, renamed.edge_weight)
    torch.testing.assert_close(b, a[order], atol=1e-9, rtol=0)


def test_graphs_without_edges_and_of_one_node():
    model = GraphUNet(3, 6, 2, 3)
    none = torch.empty(2, 0, dtype=torch.long)
    assert model(torch.randn(1, 3), none).shape == (1, 2)
    batch = torch.tensor([0, 2, 2])
    assert model(torch.randn(3, 3), none, batch).shape == (3, 2)


@pytest.mark.parametrize("conv", [None, "gcn", "sage"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype, conv):
    graph = random_graph(30, 90)
    model = GraphUNet(3, 6, 2, 2, conv=CONVS.get(conv)).to(dtype)
    x = torch.randn(30, 3, dtype=dtype)
    weights = [None] if conv == "sage" else [None, graph.edge_weight.to(dtype)]
    for weight in weights:
        out = model(x, graph.edge_index, None, weight)
        assert out.dtype == dtype
        out.float().pow(2).sum().backward()
        assert all(p.grad.dtype == dtype for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("conv", [None, "gcn"])
def test_autocast(conv):
    graph = random_graph(30, 90)
    model = GraphUNet(3, 6, 2, 2, 1.0, conv=CONVS.get(conv))  # all kept: rounding selects nothing
    x = torch.randn(30, 3)
    expected = model(x, graph.edge_index, None, graph.edge_weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, graph.edge_index, None, graph.edge_weight)
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.1)
    out.float().pow(2).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_gradcheck():
    # No self loops: of parallel ones, PyG's own gradient reaches the one that does not count.
    graph = random_graph(7, 20, dtype=torch.float64, loops=False)
    model = GraphUNet(2, 2, 1, 2, act="tanh").double()
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)

    def function(x, weight):
        return model(x, graph.edge_index, None, weight)

    assert torch.autograd.gradcheck(lambda x: function(x, None), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, graph.edge_weight), x)
    assert torch.autograd.gradcheck(function, (x, graph.edge_weight.clone().requires_grad_()))


def test_copies_and_pickles():
    graph = random_graph(30, 90)
    x = torch.randn(30, 3)
    model = GraphUNet(3, 6, 2, 2, norm="batch", select="spread").eval()
    expected = model(x, graph.edge_index)
    assert torch.equal(copy.deepcopy(model)(x, graph.edge_index), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x, graph.edge_index), expected)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = GraphUNet(3, 6, 2, 2, norm="batch", select="spread").eval()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x, graph.edge_index), expected)


def test_reset_parameters_reaches_all_of_them():
    model = GraphUNet(3, 6, 2, 2, norm="layer")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in model.parameters())


def test_a_convolution_that_is_none():
    with pytest.raises(TypeError, match=r"'conv' must take \(in_channels, out_channels\)"):
        GraphUNet(3, 4, 2, 1, conv=lambda channels: None)


def test_a_normalisation_by_the_size_of_graphs_and_the_number_of_graphs():
    data = random_batch(sizes=(12, 9))
    model = GraphUNet(3, 6, 2, 2, norm="GraphSizeNorm")
    x = torch.randn(21, 3)
    out = model(x, data.edge_index, data.batch, batch_size=2)
    torch.testing.assert_close(out, model(x, data.edge_index, data.batch))
    assert model(x, data.edge_index, data.batch, batch_size=7).shape == (21, 2)
    with pytest.raises(ValueError, match="'batch_size' must be at least 2.*1"):
        model(x, data.edge_index, data.batch, batch_size=1)
