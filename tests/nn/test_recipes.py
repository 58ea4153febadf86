"""Recipes against their definitions, by hand and by numbers that an earlier release printed."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import APPNP, GCNConv, GraphConv, SSGConv
from torch_geometric.utils import add_self_loops, dropout_edge, to_undirected

from pyg_gunet import GPool, GraphUNet, MixedGraphUNet, OfficialGraphUNet
from tests.conftest import awake, permuted, random_batch, random_graph


def sigmoid_pool(channels: int, ratio: float) -> GPool:
    return GPool(channels, ratio, select="spread", gate="tanh", connect="two_hop")


RECIPES = {
    "official": lambda **o: OfficialGraphUNet(4, 6, 3, 2, **o),
    "official norm": lambda **o: OfficialGraphUNet(4, 6, 3, 2, norm="batch", **o),
    "official walk": lambda **o: OfficialGraphUNet(4, 6, 3, 2, connect="walk", **o),
    "official pool": lambda **o: OfficialGraphUNet(4, 6, 3, 2, pool=sigmoid_pool, **o),
    "official conv": lambda **o: OfficialGraphUNet(4, 6, 3, 2, conv=GraphConv, **o),
    "official levels": lambda **o: OfficialGraphUNet(
        4, 6, 3, 2, select="spread", reduce="mean", connect="contract", lift="interpolate", **o
    ),
    "mixed": lambda **o: MixedGraphUNet(4, 6, 3, 2, **o),
    "mixed walk": lambda **o: MixedGraphUNet(
        4, 6, 3, 2, steps=3, connect="walk", norm="batch", sum_res=False, **o
    ),
    "mixed spread": lambda **o: MixedGraphUNet(
        4, 6, 3, 2, steps=2, select="spread", sum_res=None, **o
    ),
    "mixed conv": lambda **o: MixedGraphUNet(4, 6, 3, 2, steps=2, conv=GraphConv, **o),
    "mixed no levels": lambda **o: MixedGraphUNet(4, 6, 3, 0, **o),
    "mixed no steps": lambda **o: MixedGraphUNet(4, 6, 3, 2, steps=0, lift="nearest", **o),
}


# --- as the flags that they replace


def patterned(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter a sine of its index, shifted by its name, as the numbers below were made."""
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # What the parts of the mixing were called then.
            name = name.removeprefix("net.")
            name = "mixing." + name if name in ("bias", "lin.weight") else name
            at = torch.arange(parameter.numel(), dtype=torch.float64)
            wave = 0.5 * torch.sin(0.7 * at + sum(map(ord, name)))
            parameter.copy_(wave.view(parameter.shape))
    return model


# ``GraphUNet(4, 6, 3, 2, stem=True, residual="output")`` and ``GraphUNet(4, 6, 3, 2, mix=4)`` of
# the release before recipes, on the graph below: the output of node 7.
GOLDEN = {
    ("official", "two_hop", "topk"): [0.727648215775, 0.268306995072, -0.694851318307],
    ("official", "two_hop", "spread"): [0.692404110816, 0.286078494736, -0.677032553391],
    ("official", "walk", "topk"): [0.708726723779, 0.284678985971, -0.691982917721],
    ("official", "induced", "topk"): [0.726043725219, 0.268107925339, -0.693051635569],
    ("mixed", "two_hop", "topk"): [0.270118590379, 0.665928912368, -0.627198588424],
    ("mixed", "two_hop", "spread"): [0.27143548875, 0.665892173123, -0.628479463171],
    ("mixed", "walk", "topk"): [0.270118590379, 0.665928912368, -0.627198588424],
    ("mixed", "induced", "topk"): [0.270118590379, 0.665928912368, -0.627198588424],
}


@pytest.mark.parametrize("recipe, connect, select", GOLDEN)
def test_numbers_of_the_release_before(recipe, connect, select):
    graph = random_graph(20, 60, dtype=torch.float64)
    x = torch.sin(1.3 * torch.arange(80, dtype=torch.float64)).view(20, 4)
    kind = {"official": OfficialGraphUNet, "mixed": MixedGraphUNet}[recipe]
    model = patterned(kind(4, 6, 3, 2, connect=connect, select=select))
    out = model(x, graph.edge_index, None, graph.edge_weight)[7]
    expected = torch.tensor(GOLDEN[recipe, connect, select], dtype=torch.float64)
    torch.testing.assert_close(out, expected, atol=1e-11, rtol=0)


# --- by hand


def test_official_by_hand():
    """One pooling that keeps all nodes in place: the order of the authors' code, written out."""
    torch.manual_seed(2)
    edge_index = to_undirected(random_graph(9, 20, weighted=False, loops=False).edge_index)
    x = torch.randn(9, 4)
    model = OfficialGraphUNet(4, 6, 3, 1, 1.0, connect="induced").eval()
    act, ones = torch.relu, torch.ones(edge_index.size(1))  # PyG improves none without weights
    stem = act(model.stem(x, edge_index, ones))
    down = act(model.down_convs[0](stem, edge_index, ones))
    weight = model.pools[0].select.weight
    y = (down * weight).sum(1) / weight.norm()
    bottom = act(model.down_convs[1](down * y.tanh().view(-1, 1), edge_index, ones))
    up = act(model.up_convs[0](bottom, edge_index, ones)) + down
    expected = model.head(up + stem, edge_index, ones)
    torch.testing.assert_close(model(x, edge_index), expected)
    states, hierarchy = model.states(x, edge_index)
    assert torch.equal(states[0], model(x, edge_index))
    torch.testing.assert_close(states[1], bottom[hierarchy.perms[0]])


def test_mixing_by_hand():
    """Powers of the dense propagation; the U between the two linear maps, times its share."""
    torch.manual_seed(6)
    edge_index = to_undirected(random_graph(12, 30, weighted=False, loops=False).edge_index)
    x = torch.randn(12, 4, dtype=torch.double)
    model = MixedGraphUNet(4, 6, 3, 1, steps=3, sum_res=None).double().eval()
    assert not model.share.any()
    a = 2 * torch.eye(12, dtype=torch.double)
    a[edge_index[0], edge_index[1]] = 1
    scale = a.sum(0).rsqrt()
    a = scale[:, None] * a * scale
    power = total = x @ model.lin.weight.T
    for _ in range(3):
        power = a @ power
        total = total + power
    with torch.no_grad():
        model.bias.normal_()
    entered = torch.relu(total / 4 + model.bias)
    torch.testing.assert_close(model(x, edge_index), model.head(entered))
    with torch.no_grad():
        model.share.fill_(0.5)
    inside = torch.relu(model.net(entered, edge_index))
    expected = model.head(entered + 0.5 * inside)
    torch.testing.assert_close(model(x, edge_index), expected)
    model.reset_parameters()
    assert not model.share.any()
    assert not model.bias.any()


def test_dropout_on_mixed_features_comes_before_the_linear_map():
    """By hand, from dense powers; in evaluation nothing is dropped."""
    edge_index = to_undirected(random_graph(12, 30, weighted=False, loops=False).edge_index)
    x = torch.randn(12, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(6)
    model = MixedGraphUNet(4, 6, 3, 1, steps=2, mixed_dropout=0.5).double()
    a = 2 * torch.eye(12, dtype=torch.double)
    a[edge_index[0], edge_index[1]] = 1
    scale = a.sum(0).rsqrt()
    a = scale[:, None] * a * scale
    mixed = (x + a @ x + a @ a @ x) / 3
    torch.manual_seed(3)
    out = model(x, edge_index)
    torch.manual_seed(3)
    dropped = torch.nn.functional.dropout(mixed, 0.5)
    assert not torch.equal(dropped, mixed)
    torch.testing.assert_close(out, model.head(torch.relu(model.lin(dropped) + model.bias)))
    out = model.eval()(x, edge_index)
    torch.testing.assert_close(out, model.head(torch.relu(model.lin(mixed) + model.bias)))


def test_without_levels_the_perceptron_is_left():
    """That of a model with levels whose share is 0, from what is prepared as well; and PyG's
    convolution that averages over steps, with loops of weight 2."""
    graph = random_graph(30, 90)
    x = torch.randn(30, 4)
    model = MixedGraphUNet(4, 6, 3, 0, steps=3, norm=None).eval()
    levels = MixedGraphUNet(4, 6, 3, 2, steps=3).eval()
    assert not levels.load_state_dict(model.state_dict(), strict=False).unexpected_keys
    first = model(x, graph.edge_index, None, graph.edge_weight)
    torch.testing.assert_close(levels(x, graph.edge_index, None, graph.edge_weight), first)
    prepared = model.prepare(graph.edge_index, graph.edge_weight, num_nodes=30)
    torch.testing.assert_close(model(x, prepared), first)
    plain = to_undirected(random_graph(30, 90, weighted=False, loops=False).edge_index)
    mean = SSGConv(4, 6, alpha=1 / 4, K=3, add_self_loops=False)
    mean.lin.weight.data, mean.lin.bias.data = model.lin.weight, model.bias
    loops, weight = add_self_loops(plain, torch.ones(plain.size(1)), 2.0, 30)
    theirs = model.head(mean(x, loops, weight).relu())
    torch.testing.assert_close(model(x, plain), theirs)


@pytest.mark.parametrize("depth", [0, 2])
def test_dropped_channels_are_those_of_all_nodes(depth):
    graph = random_graph(12, 30)
    x = torch.randn(12, 4)
    model = MixedGraphUNet(4, 6, 3, depth, steps=2, channel_dropout=0.5)
    torch.manual_seed(3)
    out = model(x, graph.edge_index)
    torch.manual_seed(3)
    kept = torch.nn.functional.dropout(torch.ones(4), 0.5)
    assert 0 < kept.count_nonzero() < 4
    torch.testing.assert_close(out, model.eval()(x * kept, graph.edge_index))
    torch.testing.assert_close(model(x, graph.edge_index), model(x, graph.edge_index))


@pytest.mark.parametrize("weighted", [False, True])
def test_mixing_is_the_same_on_edges_and_on_a_prepared_graph(weighted):
    """With a convolution of the user, whose levels are plain edges, and by the default one."""
    graph = random_graph(30, 90)
    weight = graph.edge_weight if weighted else None
    torch.manual_seed(0)
    ours = awake(MixedGraphUNet(4, 6, 3, 2)).eval()
    torch.manual_seed(0)
    theirs = MixedGraphUNet(4, 6, 3, 2, conv=lambda i, o: GCNConv(i, o, improved=True))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(30, 4)
    first = ours(x, graph.edge_index, None, weight)
    torch.testing.assert_close(theirs(x, graph.edge_index, None, weight), first)
    prepared = ours.prepare(graph.edge_index, weight, num_nodes=30)
    torch.testing.assert_close(ours(x, prepared), first)


# --- what recipes leave to PyG


def test_pagerank_and_dropped_edges_are_pygs():
    graph = random_graph(30, 90, loops=False)
    x, model = torch.randn(30, 4), GraphUNet(4, 6, 3, 2).eval()
    smooth = APPNP(4, 0.3)
    out = smooth(model(x, graph.edge_index), graph.edge_index)
    a = torch.eye(30, dtype=torch.float64) + graph._replace(edge_weight=None).dense().t()
    root = a.sum(1).rsqrt()
    a, plain = root[:, None] * a * root, model(x, graph.edge_index).double()
    z = plain
    for _ in range(4):
        z = 0.7 * a @ z + 0.3 * plain
    torch.testing.assert_close(out.double(), z, atol=1e-5, rtol=1e-5)
    torch.manual_seed(0)
    fewer, kept = dropout_edge(graph.edge_index, 0.5)
    out = model(x, fewer, None, graph.edge_weight[kept])
    masked = model(x, graph.edge_index[:, kept], None, graph.edge_weight[kept])
    assert torch.equal(out, masked)


# --- batch, order, learning


@pytest.mark.parametrize("name", RECIPES)
def test_batch_equals_alone(name):
    torch.manual_seed(0)
    graphs = random_batch(dtype=torch.float64)
    x = torch.randn(graphs.num_nodes, 4, dtype=torch.float64)
    model = awake(RECIPES[name]().double()).eval()
    out = model(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    for i, (part, start) in enumerate(zip(graphs.parts, graphs.offsets)):
        own = x[start : start + part.num_nodes]
        alone = model(own, part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(out[graphs.batch == i], alone)


@pytest.mark.parametrize("name", RECIPES)
def test_the_order_of_nodes_does_not_matter(name):
    torch.manual_seed(0)
    graph = random_graph(24, 60, dtype=torch.float64)
    x = torch.randn(24, 4, dtype=torch.float64)
    order = torch.randperm(24)
    other = permuted(graph, order)
    model = awake(RECIPES[name](act="elu").double()).eval()
    out = model(x, graph.edge_index, None, graph.edge_weight)
    again = model(x[order], other.edge_index, None, other.edge_weight)
    assert out.std() > 1e-4
    torch.testing.assert_close(again, out[order])


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_learns(name):
    torch.manual_seed(1)
    graph = random_graph(20, 60)
    model = awake(RECIPES[name](act="elu", dropout=0.1))
    model(torch.randn(20, 4), graph.edge_index).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool((parameter.grad != 0).any()), key
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in model.parameters())


@pytest.mark.parametrize(
    "name", ["official", "official levels", "mixed", "mixed walk", "mixed no levels"]
)
def test_gradients(name):
    torch.manual_seed(1)
    graph = random_graph(9, 22, dtype=torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    model = awake(RECIPES[name](act="tanh").double()).eval()
    inputs = [x, *model.parameters()]
    assert torch.autograd.gradcheck(
        lambda x, *_: model(x, graph.edge_index, None, graph.edge_weight), inputs, fast_mode=True
    )


@pytest.mark.parametrize(
    "name", ["official", "official levels", "mixed", "mixed walk", "mixed no levels"]
)
def test_dropout_in_training_alone(name):
    graph = random_graph(30, 90)
    model = awake(RECIPES[name](dropout=0.5))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
            module.train = lambda mode=True: None
    x = torch.randn(30, 4)
    assert not torch.equal(model(x, graph.edge_index), model(x, graph.edge_index))
    model.eval()
    assert torch.equal(model(x, graph.edge_index), model(x, graph.edge_index))


@pytest.mark.parametrize("name", ["official levels", "mixed spread"])
def test_levels_made_once(name):
    """By a pool that reads the graph alone."""

    def pool(channels: int, ratio: float) -> GPool:
        return GPool(channels, ratio, select="spread", quantiles=1, connect="contract")

    kind = OfficialGraphUNet if name == "official levels" else MixedGraphUNet
    model = awake(kind(4, 6, 3, 2, pool=pool, lift="interpolate")).eval()
    data = random_batch(sizes=(12, 9, 20))
    x = torch.randn(data.num_nodes, 4)
    levels = model.prepare(data.edge_index, data.edge_weight, batch=data.batch)
    plain = model(x, data.edge_index, data.batch, data.edge_weight)
    torch.testing.assert_close(model(x, levels, data.batch), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: OfficialGraphUNet(4, 6, 3, 2, sum_res=False), ValueError, "'sum_res'.*False"),
        (lambda: OfficialGraphUNet(0, 6, 3, 2), ValueError, "'in_channels'.*0"),
        (lambda: OfficialGraphUNet(4, 6, 0, 2), ValueError, "'out_channels'.*0"),
        (lambda: MixedGraphUNet(0, 6, 3, 2), ValueError, "'in_channels'.*0"),
        (lambda: MixedGraphUNet(4, 6, 0, 2), ValueError, "'out_channels'.*0"),
        (lambda: MixedGraphUNet(4, 6, 3, 2, steps=-1), ValueError, "'steps'.*-1"),
        (lambda: MixedGraphUNet(4, 6, 3, 2, mixed_dropout=1), ValueError, "'mixed_dropout'.*1"),
        (lambda: MixedGraphUNet(4, 6, 3, 2, stem=True), TypeError, "stem"),
        (lambda: MixedGraphUNet(4, 6, 3, 2, channel_dropout=1), ValueError, "'channel_dropout'.*1"),
        (lambda: MixedGraphUNet(4, 6, 3, 0, foo=None), TypeError, "keyword argument .foo."),
        (lambda: MixedGraphUNet(4, 6, 3, -1), ValueError, "'depth' must be at least 0.*-1"),
        (lambda: MixedGraphUNet(4, 6, 3, 0, connect="walk"), ValueError, "'connect'.*'walk'"),
        (lambda: MixedGraphUNet(4, 6, 3, 0, dropout=1.0), ValueError, "'dropout'.*1.0"),
    ],
)
def test_bad_options_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("kind", [OfficialGraphUNet, MixedGraphUNet])
def test_bad_features_are_named(kind):
    model = kind(4, 6, 3, 1)
    edge_index = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match=r"'x' must have 4 channels.*\[3, 5\]"):
        model(torch.ones(3, 5), edge_index)
    with pytest.raises(ValueError, match=r"'x' must be finite.*nan at \[0, 0\]"):
        model(torch.full((3, 4), float("nan")), edge_index)
    with pytest.raises(TypeError, match="'x'.*list"):
        model([[1.0] * 4] * 3, edge_index)
    with pytest.raises(IndexError, match="'edge_index'.*7"):
        model(torch.ones(3, 4), edge_index + 5)
