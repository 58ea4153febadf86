"""The hierarchical read-out of a GraphUNet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric import nn as pyg

from pyg_gunet import GPool, GraphUNet, HierarchicalReadout, OfficialGraphUNet, SegmentationUNet
from tests.conftest import permuted, random_batch, random_graph

ALL = ("mean", "max", "sum")


def spread_pool(channels: int, ratio: float) -> GPool:
    return GPool(channels, ratio, select="spread", connect="two_hop")


NETS = {
    "default": ({}, {}),
    "max": ({"norm": "batch", "sum_res": None}, {"mode": "max"}),
    "walk": ({"connect": "walk"}, {"reduce": ("mean", "max")}),
    "levels": (
        {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"},
        {"reduce": ["sum"]},
    ),
    "cat": ({"sum_res": False, "connect": "induced"}, {"mode": "max", "reduce": ("max", "sum")}),
    "pool": ({"pool": spread_pool}, {}),
    "conv": ({"conv": pyg.GraphConv}, {}),
}


def made(name: str = "default", **more) -> HierarchicalReadout:
    options, read = NETS[name]
    return HierarchicalReadout(GraphUNet(4, 6, 6, 2, act="elu", **options, **more), 3, **read)


def by_loop(xs, batches, size, reduce, mode):
    """One graph, one level, one reduction at a time."""
    rows = []
    for graph in range(size):
        levels = []
        for x, batch in zip(xs, batches):
            own = x[torch.zeros(len(x)).long() == graph] if batch is None else x[batch == graph]
            zero = x.new_zeros(x.size(1))
            read = {
                "mean": own.mean(0) if len(own) else zero,
                "max": own.max(0).values if len(own) else zero,
                "sum": own.sum(0),
            }
            levels.append(torch.cat([read[name] for name in reduce]))
        rows.append(torch.cat(levels) if mode == "cat" else torch.stack(levels).max(0).values)
    return torch.stack(rows)


def states_of(model: HierarchicalReadout, *args) -> tuple[list[Tensor], list[Tensor | None]]:
    states, hierarchy = model.net.states(*args)
    states[0] = model.net.act(states[0])
    return states, [level.batch for level in hierarchy.levels]


@pytest.mark.parametrize("name", NETS)
def test_equals_a_loop(name):
    torch.manual_seed(0)
    graphs = random_batch(sizes=(6, 9, 5), dtype=torch.float64)
    x = torch.randn(20, 4, dtype=torch.float64)
    model = made(name).double().eval()
    args = (x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    states, batches = states_of(model, *args)
    reduce, mode = NETS[name][1].get("reduce", ALL), NETS[name][1].get("mode", "cat")
    vector = by_loop(states, batches, 3, reduce, mode)
    torch.testing.assert_close(model(*args), model.mlp(vector))


def test_one_graph_needs_no_batch():
    graph, model = random_graph(20, 60), made().eval()
    x = torch.randn(20, 4)
    states, batches = states_of(model, x, graph.edge_index)
    assert batches == [None] * 3
    expected = model.mlp(by_loop(states, batches, 1, ALL, "cat"))
    torch.testing.assert_close(model(x, graph.edge_index), expected)
    assert model(x, graph.edge_index, batch_size=3).shape == (3, 3)


def test_reads_the_coarsest_level_and_those_of_the_way_up():
    """Without skips, written out: one pooling, two levels."""
    torch.manual_seed(3)
    graphs = random_batch(sizes=(6, 9), dtype=torch.float64)
    x = torch.randn(15, 4, dtype=torch.float64)
    net = GraphUNet(4, 6, 6, 1, act="tanh", sum_res=None)
    model = HierarchicalReadout(net, 3).double().eval()
    edges = graphs.edge_index, graphs.edge_weight
    down = net.down_convs[0](x, *edges).tanh()
    out = net.pools[0](down, *edges, graphs.batch)
    pooled = GPool(6, connect="two_hop").double()
    pooled.load_state_dict(net.pools[0].state_dict())
    z = net.down_convs[1](out.x, out.edge_index, out.edge_attr).tanh()
    up = net.up_convs[0](z.new_zeros(15, 6).index_copy(0, out.perm, z), *edges).tanh()
    vector = by_loop([up, z], [graphs.batch, out.batch], 2, ALL, "cat")
    found = model(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    torch.testing.assert_close(found, model.mlp(vector))


@pytest.mark.parametrize("name", NETS)
def test_batch_equals_alone(name):
    torch.manual_seed(0)
    graphs = random_batch(dtype=torch.float64)
    x = torch.randn(graphs.num_nodes, 4, dtype=torch.float64)
    model = made(name).double().eval()
    out = model(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    assert out.shape == (5, 3)
    for i, (part, start) in enumerate(zip(graphs.parts, graphs.offsets)):
        own = x[start : start + part.num_nodes]
        alone = model(own, part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(out[i : i + 1], alone)


@pytest.mark.parametrize("name", NETS)
def test_the_order_of_nodes_does_not_matter(name):
    torch.manual_seed(1)
    graph = random_graph(25, 80, dtype=torch.float64)
    x = torch.randn(25, 4, dtype=torch.float64)
    order = torch.randperm(25)
    other = permuted(graph, order)
    model = made(name).double().eval()
    torch.testing.assert_close(
        model(x, graph.edge_index, None, graph.edge_weight),
        model(x[order], other.edge_index, None, other.edge_weight),
    )


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_learns(name):
    torch.manual_seed(2)
    graphs = random_batch(sizes=(9, 12))
    model = made(name, dropout=0.1)
    out = model(torch.randn(21, 4), graphs.edge_index, graphs.batch)
    out.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in model.parameters())


def test_empty_graphs_in_the_batch():
    torch.manual_seed(4)
    graphs = random_batch(sizes=(6, 9), dtype=torch.float64)
    x = torch.randn(15, 4, dtype=torch.float64)
    model = made().double().eval()
    plain = model(x, graphs.edge_index, graphs.batch)
    out = model(x, graphs.edge_index, 2 * graphs.batch, batch_size=4)
    assert out.shape == (4, 3)
    torch.testing.assert_close(out[[0, 2]], plain)
    torch.testing.assert_close(out[1], out[3])
    torch.testing.assert_close(out[1], model.mlp(x.new_zeros(1, 54))[0])
    torch.testing.assert_close(model(x, graphs.edge_index, 2 * graphs.batch), out[:3])


@pytest.mark.parametrize("connect", ["two_hop", "walk", "contract"])
@pytest.mark.parametrize("mode", ["cat", "max"])
def test_gradient_of_the_whole_model(connect, mode):
    torch.manual_seed(5)
    graphs = random_batch(sizes=(4, 2), dtype=torch.float64)
    net = GraphUNet(2, 3, 3, 1, act="tanh", connect=connect)
    model = HierarchicalReadout(net, 2, mode=mode).double()
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: model(x, graphs.edge_index, graphs.batch, graphs.edge_weight), (x,)
    )


def test_recipes_are_read_off_too():
    torch.manual_seed(0)
    graphs = random_batch(sizes=(9, 12))
    model = HierarchicalReadout(OfficialGraphUNet(4, 6, 6, 2, act="elu"), 3)
    model(torch.randn(21, 4), graphs.edge_index, graphs.batch).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


ONE, NONE = torch.ones(1, 4), torch.empty(2, 0, dtype=torch.long)
NET = GraphUNet(4, 6, 6, 2)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: HierarchicalReadout(NET, 3, ("mean", "min")), ValueError, "'reduce'.*'min'"),
        (lambda: HierarchicalReadout(NET, 3, ()), TypeError, r"'reduce'.*\(\)"),
        (lambda: HierarchicalReadout(NET, 3, "max"), TypeError, "'reduce'.*'max'"),
        (lambda: HierarchicalReadout(NET, 3, mode="add"), ValueError, "'mode'.*'add'"),
        (lambda: HierarchicalReadout(NET, 0), ValueError, "'out_channels'.*0"),
        (
            lambda: HierarchicalReadout(GraphUNet(4, 6, 3, 2), 3),
            ValueError,
            "'net' must give its 6 hidden channels.*3",
        ),
        (
            lambda: HierarchicalReadout(SegmentationUNet(4, 6, 3, 2), 3),
            TypeError,
            "'net' must be a GraphUNet.*SegmentationUNet",
        ),
        (lambda: HierarchicalReadout(3, 2), TypeError, r"'net' must be a GraphUNet \(got 3\)"),
        (
            lambda: HierarchicalReadout(NET, 2, "mean"),
            TypeError,
            "'reduce' must be a tuple of names .got 'mean'",
        ),
        (lambda: made()(ONE, NONE, torch.tensor([3]), batch_size=2), ValueError, "'batch_size'.*2"),
        (lambda: made()(ONE, NONE, batch_size=0), ValueError, "'batch_size'.*0"),
        (lambda: made().read([ONE], NET.states(ONE, NONE)[1]), ValueError, "'states'.*3.*1"),
        (lambda: made().read(ONE, NET.states(ONE, NONE)[1]), TypeError, "'states' must be a list"),
        (lambda: made().read([ONE], NET), TypeError, "'hierarchy' must be a Hierarchy.*GraphUNet"),
        (
            lambda: made().read([ONE] * 3, NET.states(ONE, NONE)[1]),
            ValueError,
            r"'states' must have 6 channels.*\[1, 4\]",
        ),
        (
            lambda: made().read([torch.ones(1, 6)] * 3, NET.states(ONE, NONE)[1], 0),
            ValueError,
            "'batch_size'.*0",
        ),
        (
            lambda: GraphUNet(4, 6, 3, 1)(ONE, NONE, torch.tensor([3]), batch_size=1),
            ValueError,
            "'batch_size' must be at least 4.*1",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
