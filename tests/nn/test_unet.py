from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.data import Batch
from torch_geometric.datasets import Planetoid, TUDataset

from pyg_gunet import GPool, GraphUNet, GUnpool
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


@pytest.mark.parametrize("args", [(4, 8, 2, 3), (4, 8, 2, 2, [0.5, 0.25], False)])
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


@pytest.mark.parametrize("reduce", ["keep", "mean"])
@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract", "sampled"])
def test_words_reach_the_pools(select, reduce, connect):
    model = GraphUNet(3, 6, 2, 2, [0.5, 4], select=select, reduce=reduce, connect=connect)
    for pool, ratio in zip(model.pools, (0.5, 4)):
        assert isinstance(pool, GPool)
        assert (pool.select.strategy, pool.select.ratio) == (select, ratio)
        assert (pool.reduce, pool.connect_name) == (reduce, connect)
    graph = random_graph(30, 90)
    _, hierarchy = model.states(torch.randn(30, 3), graph.edge_index)
    assert [level.num_nodes for level in hierarchy.levels] == [30, 15, 4]


def test_a_factory_makes_the_pools():
    asked = []

    def pool(channels, ratio):
        asked.append((channels, ratio))
        return GPool(channels, ratio, gate="sigmoid", connect="two_hop", max_products=10)

    model = GraphUNet(3, 6, 2, 2, [0.5, 4], pool=pool)
    assert asked == [(6, 0.5), (6, 4)]
    assert [made.select.gate for made in model.pools] == ["sigmoid"] * 2


@pytest.mark.parametrize("learned", [False, True])
def test_limit_of_products_reaches_every_level(learned):
    graph = random_graph(40, 160)
    model = GraphUNet(3, 6, 2, 2, pool=lambda c, r: GPool(c, r, connect="two_hop", max_products=10))
    with pytest.raises(product.ProductLimitError, match="max_products=10"):
        model(torch.randn(40, 3), graph.edge_index, None, graph.edge_weight.requires_grad_(learned))


def test_states_are_the_way_up():
    """The output first; then, written out, what every step of the way up gives."""
    graph = random_graph(40, 120)
    x = torch.randn(40, 3)
    for options in ({}, {"sum_res": False}, {"conv": CONVS["sage"]}, {"norm": "graph"}):
        model = GraphUNet(3, 6, 2, 3, **options)
        states, hierarchy = model.states(x, graph.edge_index)
        assert torch.equal(states[0], model(x, graph.edge_index))
        assert [list(state.shape) for state in states] == [[40, 2], [20, 6], [10, 6], [5, 6]]
        assert hierarchy.depth == 3
        assert all(bool((state >= 0).all()) for state in states[1:])  # activated
    model = GraphUNet(3, 6, 2, 1, act="tanh")
    states, hierarchy = model.states(x, graph.edge_index)
    ones = torch.ones(120)
    down = model.down_convs[0](x, graph.edge_index, ones).tanh()
    out = model.pools[0](down, graph.edge_index)
    bottom = model.down_convs[1](out.x, out.edge_index, out.edge_attr).tanh()
    torch.testing.assert_close(states[1], bottom)
    up = down.index_add(0, out.perm, bottom)
    torch.testing.assert_close(states[0], model.up_convs[0](up, graph.edge_index, ones))


def test_no_skip_connection_by_hand():
    torch.manual_seed(8)
    graph = random_graph(9, 20, loops=False)
    x = torch.randn(9, 4)
    model = GraphUNet(4, 6, 3, 1, sum_res=None).eval()
    states, hierarchy = model.states(x, graph.edge_index, None, graph.edge_weight)
    up = torch.zeros(9, 6).index_copy(0, hierarchy.perms[0], states[1])
    expected = model.up_convs[0](up, *graph[:2])
    torch.testing.assert_close(model(x, graph.edge_index, None, graph.edge_weight), expected)


@pytest.mark.parametrize("sum_res", [True, False, None])
@pytest.mark.parametrize("lift", ["nearest", "interpolate", "propagate"])
def test_lift_fills_what_zeros_would(sum_res, lift):
    """One level, written out."""
    graph = random_graph(20, 50, loops=False)
    x = torch.randn(20, 4)
    model = GraphUNet(4, 6, 3, 1, sum_res=sum_res, lift=lift)
    states, hierarchy = model.states(x, graph.edge_index, None, graph.edge_weight)
    skip = model.act(model.down_convs[0](x, *graph[:2]))
    weight = graph.edge_weight if lift == "interpolate" else None
    up = GUnpool(lift)(states[1], hierarchy.perms[0], 20, graph.edge_index, weight)
    up = {True: skip + up, False: torch.cat([skip, up], dim=1), None: up}[sum_res]
    torch.testing.assert_close(states[0], model.up_convs[0](up, *graph[:2]))


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


WORDS = list(
    itertools.product(
        ("topk", "spread"),
        ("keep", "mean"),
        ("induced", "two_hop", "contract", "walk", "sampled"),
        ("zero", "nearest", "interpolate", "propagate"),
    )
)


def worded(words: tuple[str, ...], *sizes, **options) -> GraphUNet:
    """A model of four words. Walks are all drawn, so that 'sampled' is exact."""
    named = dict(zip(("select", "reduce", "connect", "lift"), words))
    model = GraphUNet(*sizes, **named, **options).double().eval()
    for pool in model.pools:
        if pool.connect_name == "sampled":
            pool.connect.max_degree = 10_000
    return model


@pytest.mark.parametrize("words", WORDS, ids="-".join)
def test_every_four_words(words):
    """Forward and backward on a batch, as its graphs alone, and in any order of the nodes."""
    data = random_batch(sizes=(7, 1, 12, 5), dtype=torch.float64)
    torch.manual_seed(0)
    model = worded(words, 4, 6, 3, 2, 0.6, act="elu")
    x = torch.randn(data.num_nodes, 4, dtype=torch.float64, requires_grad=True)
    together = model(x, data.edge_index, data.batch, data.edge_weight)
    for part, start in zip(data.parts, data.offsets):
        rows = slice(start, start + part.num_nodes)
        alone = model(x[rows], part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(together[rows], alone, atol=1e-6, rtol=0)
    together.square().sum().backward()
    assert bool(x.grad.isfinite().all())
    assert bool((x.grad != 0).any(1).all())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    graph = random_graph(30, 70, dtype=torch.float64)
    order = torch.randperm(30)
    renamed, x = permuted(graph, order), torch.randn(30, 4, dtype=torch.float64)
    first = model(x, graph.edge_index, None, graph.edge_weight)
    second = model(x[order], renamed.edge_index, None, renamed.edge_weight)
    torch.testing.assert_close(second, first[order], atol=1e-9, rtol=0)
    assert f"connect={words[2]!r}" in repr(model) or words[2] == "two_hop"


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


def not_a_pool(channels, ratio):
    return pyg.TopKPooling(channels, ratio)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"dropout": 1.0}, ValueError, "'dropout' must be below 1"),
        ({"dropout": -0.1}, ValueError, "'dropout'.*-0.1"),
        ({"sum_res": "sum"}, ValueError, "'sum_res' must be one of True, False, None.*'sum'"),
        ({"select": "best"}, ValueError, "'select' must be one of .*'best'"),
        ({"reduce": "sum"}, ValueError, "'reduce' must be one of .*'sum'"),
        ({"connect": "auto"}, ValueError, "'connect' must be one of .*'auto'"),
        ({"lift": "copy"}, ValueError, "'lift' must be one of .*'copy'"),
        ({"pool": not_a_pool}, TypeError, "'pool' must be a GPool.*TopKPooling"),
        ({"pool": lambda c, r: GPool(c + 1, r)}, ValueError, "'pool' must take 6 channels.*7"),
        ({"conv": 3}, TypeError, "'conv' must be a callable.*3"),
        ({"conv": lambda i: None}, TypeError, "'conv' must take"),
        ({"conv": lambda i, o: None}, TypeError, "'conv' must return a torch.nn.Module.*None"),
        ({"norm": "Message"}, ValueError, "'norm' must normalise node features.*'Message'"),
        ({"norm": "nothing"}, ValueError, "'norm' must be the name of a normalisation"),
        ({"norm": "hetero_batch"}, ValueError, "'norm' must be (made from channels|the name)"),
        ({"norm": 3}, TypeError, "'norm' must be a name or a callable.*3"),
        ({"norm": lambda c: c}, TypeError, "'norm' must return a torch.nn.Module.*6"),
        ({"act": "nothing"}, ValueError, "'act' must be the name"),
        ({"act": 3}, TypeError, "'act' must be a name or a callable.*3"),
        ({"cached": True}, TypeError, "cached"),
    ],
)
def test_bad_options_are_named(options, error, match) -> None:
    with pytest.raises(error, match=match):
        GraphUNet(3, 6, 2, depth=1, **options)


def test_a_normalisation_by_the_size_of_graphs_and_the_number_of_graphs():
    data = random_batch(sizes=(12, 9))
    model = GraphUNet(3, 6, 2, 2, norm="GraphSizeNorm")
    x = torch.randn(21, 3)
    out = model(x, data.edge_index, data.batch, batch_size=2)
    torch.testing.assert_close(out, model(x, data.edge_index, data.batch))
    assert model(x, data.edge_index, data.batch, batch_size=7).shape == (21, 2)
    with pytest.raises(ValueError, match="'batch_size' must be at least 2.*1"):
        model(x, data.edge_index, data.batch, batch_size=1)
