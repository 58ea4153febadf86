from __future__ import annotations

import copy
import dataclasses
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric import nn as pyg

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder, Hierarchy, prolongation
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.graph.adjacency import Adjacency
from tests.conftest import awake, permuted, random_batch, random_graph

CONNECT = {"two_hop": two_hop, "induced": induced, "contract": contract}


def tensors_in(value: object, seen: set[int] | None = None) -> list[Tensor]:
    """Every tensor that can be reached from an object, with autograd's own graph left out."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
        return [t for v in vars(value).values() for t in tensors_in(v, seen)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v, seen)]
    if isinstance(value, (list, tuple, set)):
        return [t for v in value for t in tensors_in(v, seen)]
    return []


# --- no feature reaches the decoder but through z


LEAK_CASES = [
    {},
    {"select": "topk"},
    {"connect": "induced"},
    {"conv": lambda i, o: pyg.SAGEConv(i, o)},
    {"conv": lambda i, o: pyg.GCNConv(i, o, improved=True)},
    {"norm": "batch"},
    {"dropout": 0.2, "reduce": "mean"},
    {"connect": "walk"},
    {"lift": "propagate"},
    {"lift": "zero", "latent_channels": 5},
    {"pool": lambda c, r: GPool(c, r, select="spread", gate="tanh", connect="two_hop")},
]


@pytest.mark.parametrize("options", LEAK_CASES, ids=lambda o: "-".join(o) or "default")
@pytest.mark.parametrize("weighted", [False, True])
def test_no_leak(options, weighted):
    graph = random_graph(40, 120)
    model = awake(GraphUNetAutoEncoder(3, 8, **{"latent_channels": 2, **options}))
    x = torch.randn(40, 3, requires_grad=True)
    weight = graph.edge_weight if weighted and model.weighted else None
    z, hierarchy = model.encode(x, graph.edge_index, None, weight)
    z_bar = z.detach().requires_grad_()
    x_hat = model.decode(z_bar, hierarchy)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(x_hat.sum(), x, retain_graph=True)
    (grad,) = torch.autograd.grad(x_hat.sum(), x, allow_unused=True, retain_graph=True)
    assert grad is None
    (grad,) = torch.autograd.grad(x_hat.sum(), z_bar)
    assert bool((grad != 0).any())
    held = tensors_in(hierarchy)
    assert held
    assert not any(t.requires_grad for t in held)


@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract"])
@pytest.mark.parametrize("conv", [None, LEAK_CASES[3]["conv"], LEAK_CASES[4]["conv"]])
@pytest.mark.parametrize("select", ["topk", "spread"])
def test_hierarchy_can_be_made_without_features(connect, conv, select):
    """A detached copy of features would pass the test of the gradient. But every float that the
    hierarchy holds can be made anew from the edges and the kept nodes."""
    graph = random_graph(40, 120)
    model = GraphUNetAutoEncoder(3, 8, depth=3, connect=connect, conv=conv, select=select)
    _, hierarchy = model.encode(torch.randn(40, 3), graph.edge_index)
    known = [torch.ones(120)]  # the weights of an unweighted graph
    if conv is None:
        level = Adjacency.from_edge_index(graph.edge_index, None, 40)
        for pool, perm in zip((*model.pools, None), (*hierarchy.perms, None)):
            level.propagate(torch.ones(level.num_nodes, 1))
            known += tensors_in(level)
            if perm is not None:
                transfer = prolongation(perm, *level.edges()[:1], level.num_nodes, level.edges()[1])
                known += tensors_in(transfer)
                level = level.pool(perm, transfer, pool.connect)
    else:
        edge_index, weight = graph.edge_index, torch.ones(120)
        if not model.weighted:
            weight = None
        for perm, size in zip(hierarchy.perms, (40, 20, 10)):
            transfer = prolongation(perm, edge_index, size, weight)
            known += tensors_in(transfer)
            edge_index, weight = CONNECT[connect](edge_index, weight, perm, size)
            if weight is not None:
                known.append(weight)
    floats = [t for t in tensors_in(hierarchy) if t.is_floating_point()]
    assert len(floats) > 2
    for tensor in floats:
        assert any(
            tensor.shape == other.shape and torch.equal(tensor.nan_to_num(9), other.nan_to_num(9))
            for other in known
        )


def test_skips_would_leak():
    """What the test above measures is there to be seen: in a U-Net with skips."""
    graph = random_graph(40, 120)
    x = torch.randn(40, 3, requires_grad=True)
    states, hierarchy = GraphUNet(3, 8, 3, 3).states(x, graph.edge_index)
    assert bool((torch.autograd.grad(states[0].sum(), x)[0] != 0).any())
    assert not any(t.requires_grad for t in tensors_in(hierarchy))


def test_two_inputs_of_one_z_decode_alike():
    """Without skips, what is decoded depends on z and the hierarchy alone."""
    graph = random_graph(40, 120)
    model = awake(GraphUNetAutoEncoder(3, 8, depth=2)).eval()
    z, hierarchy = model.encode(torch.randn(40, 3), graph.edge_index)
    first = model.decode(z, hierarchy)
    model(torch.randn(40, 3), graph.edge_index)  # nothing is remembered in between
    assert torch.equal(model.decode(z, hierarchy), first)


# --- shapes and parts


@pytest.mark.parametrize("latent_channels", [None, 1, 5])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced", "walk", "sampled"])
def test_shapes(connect, latent_channels, depth):
    data = random_batch(sizes=(12, 9, 20))
    model = awake(GraphUNetAutoEncoder(3, 8, latent_channels, depth, connect=connect)).eval()
    x = torch.randn(data.num_nodes, 3)
    args = (x, data.edge_index, data.batch, data.edge_weight)
    z, hierarchy = model.encode(*args)
    assert isinstance(hierarchy, Hierarchy)
    assert z.shape == (hierarchy.levels[-1].num_nodes, latent_channels or 8)
    assert hierarchy.depth == depth
    x_hat = model.decode(z, hierarchy)
    assert x_hat.shape == x.shape
    assert torch.equal(model(*args), x_hat)
    assert model.embed(*args).shape == (data.num_nodes, 8)
    assert model.embed(*args, level="graph").shape == (3, latent_channels or 8)
    model.loss(x_hat, x).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_embeddings():
    data = random_batch(sizes=(12, 9, 20))
    model = awake(GraphUNetAutoEncoder(3, 8, 2, depth=2))
    x = torch.randn(data.num_nodes, 3)
    z, hierarchy = model.encode(x, data.edge_index, data.batch)
    batch = hierarchy.levels[-1].batch
    means = torch.stack([z[batch == g].mean(dim=0) for g in range(3)])
    out = model.embed(x, data.edge_index, data.batch, level="graph")
    torch.testing.assert_close(out, means)
    nodes = model.embed(x, data.edge_index, data.batch, level="nodes")
    path = z @ model.axes + model.lin_out(z)
    for transfer in reversed(hierarchy.transfers):
        path = transfer.prolong(path)
    torch.testing.assert_close(model.head(nodes) + path, model.decode(z, hierarchy))
    alone = model.embed(x[:12], data.parts[0].edge_index, level="graph")
    torch.testing.assert_close(alone, out[:1], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="'level' must be one of 'nodes', 'graph'"):
        model.embed(x, data.edge_index, level="edges")


def test_embeddings_of_a_batch_whose_last_graphs_are_empty():
    data = random_batch(sizes=(12, 9))
    model, x = awake(GraphUNetAutoEncoder(3, 8, 2, depth=2)), torch.randn(21, 3)
    args = (x, data.edge_index, 2 * data.batch)
    plain = model.embed(x, data.edge_index, data.batch, level="graph")
    out = model.embed(*args, level="graph", batch_size=5)
    assert out.shape == (5, 2)
    torch.testing.assert_close(out[[0, 2]], plain)
    assert not bool(out[[1, 3, 4]].any())
    with pytest.raises(ValueError, match="'batch_size' must be at least 3.*2"):
        model.embed(*args, level="graph", batch_size=2)
    with pytest.raises(ValueError, match="'batch_size' goes with level='graph'.*3"):
        model.embed(*args, batch_size=3)


# --- loss


def test_mean_squared_error():
    model = GraphUNetAutoEncoder(3, 4)
    x, x_hat = torch.randn(6, 3), torch.randn(6, 3)
    torch.testing.assert_close(model.loss(x_hat, x), ((x_hat - x) ** 2).mean())
    mask = torch.tensor([True, False, True, True, False, False])
    torch.testing.assert_close(model.loss(x_hat, x, mask), ((x_hat - x)[mask] ** 2).mean())


@pytest.mark.parametrize(
    "args, error, match",
    [
        ((torch.ones(4, 2), torch.ones(4, 3)), ValueError, r"'x_hat'.*\[4, 3\].*\[4, 2\]"),
        (([1.0], torch.ones(4, 3)), TypeError, "'x_hat'.*list"),
        ((torch.ones(4, 3), torch.full((4, 3), float("nan"))), ValueError, "'x'.*nan"),
        ((torch.ones(4, 3), torch.ones(4, 3), torch.ones(4)), ValueError, "'mask'.*float32"),
        ((torch.ones(4, 3), torch.ones(4, 3), [True] * 4), TypeError, "'mask'.*list"),
        (
            (torch.ones(4, 3), torch.ones(4, 3), torch.ones(3, dtype=torch.bool)),
            ValueError,
            r"'mask'.*\[3\]",
        ),
        (
            (torch.ones(4, 3), torch.ones(4, 3), torch.zeros(4, dtype=torch.bool)),
            ValueError,
            "'mask' must select",
        ),
    ],
)
def test_loss_refuses(args, error, match):
    with pytest.raises(error, match=match):
        GraphUNetAutoEncoder(3, 4).loss(*args)


# --- learning


def test_learns_a_smooth_signal():
    """Better than the mean by far, on a path, through a quarter of its nodes."""
    torch.manual_seed(0)
    n = 64
    path = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    edge_index = torch.cat([path, path.flip(0)], dim=1)
    t = torch.linspace(0, 6.28, n)
    x = torch.stack([t.sin(), t.cos()], dim=1)
    model = GraphUNetAutoEncoder(2, 32, depth=2)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        loss = model.loss(model(x, edge_index), x)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1 * float(F.mse_loss(x.mean(0).expand_as(x), x))


# --- batch, order, dtypes, persistence


@pytest.mark.parametrize("reduce", ["keep", "mean"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"select": "topk", "connect": "induced"},
        {"lift": "nearest", "connect": "two_hop"},
        {"lift": "propagate", "connect": "walk"},
    ],
)
def test_batch_equals_alone(reduce, options):
    data = random_batch(dtype=torch.float64)
    model = awake(GraphUNetAutoEncoder(4, 6, 3, 3, 0.6, reduce=reduce, **options).double())
    x = torch.randn(data.num_nodes, 4, dtype=torch.float64)
    together = model(x, data.edge_index, data.batch, data.edge_weight)
    for part, start in zip(data.parts, data.offsets):
        stop = start + part.num_nodes
        alone = model(x[start:stop], part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(together[start:stop], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced", "walk"])
def test_renamed_nodes_rename_the_result(select, connect):
    """The random graph is one that its structure tells the nodes of apart."""
    graph = random_graph(80, 240, dtype=torch.float64)
    order = torch.randperm(80)
    renamed = permuted(graph, order)
    model = GraphUNetAutoEncoder(4, 6, 3, 3, select=select, connect=connect)
    model = awake(model.double())
    x = torch.randn(80, 4, dtype=torch.float64)
    a, h = model.encode(x, graph.edge_index, None, graph.edge_weight)
    b, g = model.encode(x[order], renamed.edge_index, None, renamed.edge_weight)
    assert torch.equal(order[g.kept(3)], h.kept(3))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(model.decode(b, g), model.decode(a, h)[order])


def test_gradcheck():
    # No self loops: of parallel ones, PyG's own gradient reaches the one that does not count.
    graph = random_graph(7, 20, dtype=torch.float64, loops=False)
    model = awake(GraphUNetAutoEncoder(2, 3, 2, 2, act="tanh").double())
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    weight = graph.edge_weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: model(x, graph.edge_index, None, w), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    graph = random_graph(30, 90)
    model = awake(GraphUNetAutoEncoder(3, 6, 2, 2)).to(dtype)
    x = torch.randn(30, 3, dtype=dtype)
    out = model(x, graph.edge_index, None, graph.edge_weight.to(dtype))
    assert out.dtype == dtype
    model.loss(out, x).backward()
    assert all(p.grad.dtype == dtype for p in model.parameters())


def test_autocast():
    graph = random_graph(30, 90)
    model = awake(GraphUNetAutoEncoder(3, 6, 2, 2, 1.0))
    x = torch.randn(30, 3)
    expected = model(x, graph.edge_index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, graph.edge_index)
        model.loss(out, x).backward()
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("connect", ["contract", "two_hop", "walk"])
def test_copies_and_pickles(connect):
    graph = random_graph(30, 90)
    x = torch.randn(30, 3)
    model = awake(GraphUNetAutoEncoder(3, 6, 2, 2, connect=connect, norm="batch")).eval()
    expected = model(x, graph.edge_index)
    assert torch.equal(copy.deepcopy(model)(x, graph.edge_index), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x, graph.edge_index), expected)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = GraphUNetAutoEncoder(3, 6, 2, 2, connect=connect, norm="batch").eval()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x, graph.edge_index), expected)
    with torch.no_grad():
        z, hierarchy = model.encode(x, graph.edge_index)
        again = pickle.loads(pickle.dumps(hierarchy))
        assert torch.equal(model.decode(z, again), expected)


def test_reset_parameters_reaches_all_of_them():
    model = GraphUNetAutoEncoder(3, 6, 2, 2, norm="layer")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in model.parameters())


def test_repr():
    assert repr(GraphUNetAutoEncoder(3, 8, depth=2)) == (
        "GraphUNetAutoEncoder(3, 8, latent_channels=8, depth=2, pool_ratios=[0.5, 0.5], "
        "select='spread', reduce='keep', connect='contract', lift='interpolate')"
    )
