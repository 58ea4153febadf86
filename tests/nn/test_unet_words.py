"""The four words of a GraphUNet in all combinations, its pools and states, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch_geometric import nn as pyg

from pyg_gunet import GPool, GraphUNet, GUnpool
from pyg_gunet.graph.sparse import product
from tests.conftest import permuted, random_batch, random_graph


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
    for options in ({}, {"sum_res": False}, {"conv": pyg.SAGEConv}, {"norm": "graph"}):
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
