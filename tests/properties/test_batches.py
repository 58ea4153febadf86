"""Batches equal their graphs alone, renamed nodes rename the result, gradients are right."""

from __future__ import annotations

import functools
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    SegmentationUNet,
    spread,
)
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.functional.select import topk
from tests.conftest import Graph, awake, permuted, random_graph, to_dense
from tests.properties.graphs import any_graphs

F = 3
few = settings(max_examples=12)
CONNECTIONS = ("two_hop", "induced", "walk", "contract")


class Batch(NamedTuple):
    """Graphs as one, with ids that graphs without nodes have taken, too."""

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    batch: Tensor
    starts: list[int]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Graph], Batch]:
    """Several graphs, with empty ones between them; features tell all nodes apart."""
    parts = draw(st.lists(any_graphs(weights=("positive",)), min_size=1, max_size=4))
    ids = draw(st.lists(st.integers(0, 2), min_size=len(parts), max_size=len(parts)))
    sizes = torch.tensor([part.num_nodes for part in parts])
    ids = torch.tensor(ids).add(1).cumsum(0)
    starts = [0, *sizes.cumsum(0).tolist()]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    return parts, Batch(
        torch.randn(int(sizes.sum()), F, generator=generator, dtype=torch.float64),
        torch.cat([part.edge_index + start for part, start in zip(parts, starts)], dim=1),
        torch.cat([part.edge_weight for part in parts]),
        ids.repeat_interleave(sizes),
        starts,
    )


def parts_of(data: Batch) -> list[slice]:
    return [slice(a, b) for a, b in zip(data.starts[:-1], data.starts[1:])]


@functools.cache
def models(**options: object) -> list[torch.nn.Module]:
    torch.manual_seed(0)
    made: list[torch.nn.Module] = [
        GraphUNet(F, 4, 2, depth=2, **options),
        SegmentationUNet(F, 4, 3, depth=2, multi_scale=True, **options),
        GraphUNetAutoEncoder(F, 4, 2, depth=2, **options),
    ]
    return [awake(model.double()).eval() for model in made]


@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["two_hop", "contract"])
@given(drawn=batches())
@few
def test_pools_of_a_batch(select, connect, drawn):
    parts, data = drawn
    torch.manual_seed(0)
    pool = GPool(F, 0.5, select=select, connect=connect, reduce="mean").double()
    whole = pool(data.x, data.edge_index, data.edge_weight, data.batch)
    size = whole.perm.numel()
    dense = to_dense(whole.edge_index, whole.edge_attr, size)
    at = 0
    for part, rows in zip(parts, parts_of(data)):
        alone = pool(data.x[rows], part.edge_index, part.edge_weight)
        k = alone.perm.numel()
        here = slice(at, at + k)
        assert torch.equal(whole.perm[here] - rows.start, alone.perm)
        torch.testing.assert_close(whole.x[here], alone.x)
        own = to_dense(alone.edge_index, alone.edge_attr, k)
        torch.testing.assert_close(dense[here, here], own)
        dense[here, here] = 0
        at += k
    assert at == size
    assert not bool(dense.any())  # no edge joins two graphs


@pytest.mark.parametrize("connect", CONNECTIONS)
@given(drawn=batches())
@few
def test_networks_on_a_batch(connect, drawn):
    parts, data = drawn
    for model in models(connect=connect):
        whole = model(data.x, data.edge_index, data.batch, data.edge_weight)
        for part, rows in zip(parts, parts_of(data)):
            alone = model(data.x[rows], part.edge_index, None, part.edge_weight)
            torch.testing.assert_close(whole[rows], alone, atol=1e-9, rtol=1e-7)


def one_loop_each(graph: Graph) -> Graph:
    """Of parallel self loops the last one counts, as in PyG, so the order of edges matters."""
    keep, seen = [], set()
    for e, (s, t) in enumerate(graph.edge_index.t().tolist()):
        if s != t or s not in seen:
            keep.append(e)
            seen.add(s if s == t else -1)
    assert graph.edge_weight is not None
    return Graph(graph.edge_index[:, keep], graph.edge_weight[keep], graph.num_nodes)


@pytest.mark.parametrize("connect", CONNECTIONS)
@given(graph=any_graphs(weights=("positive",)), random=st.randoms(use_true_random=False))
@few
def test_renamed_nodes_rename_the_output(connect, graph, random):
    order = list(range(graph.num_nodes))
    random.shuffle(order)
    order = torch.tensor(order)
    graph = one_loop_each(graph)
    renamed = permuted(graph, order)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(graph.num_nodes, F, generator=generator, dtype=torch.float64)
    for model in models(connect=connect, select="topk"):
        first = model(x, graph.edge_index, None, graph.edge_weight)
        second = model(x[order], renamed.edge_index, None, renamed.edge_weight)
        torch.testing.assert_close(second, first[order], atol=1e-9, rtol=1e-7)
    score = x[:, 0]
    for select in (lambda s, g: topk(s, 0.5), lambda s, g: spread(s, g.edge_index, 0.5)):
        kept = select(score, graph)
        assert torch.equal(order[select(score[order], renamed)], kept)


@pytest.mark.parametrize(
    "select, connect",
    [
        ("topk", "two_hop"),
        ("spread", "walk"),
        ("topk", "induced"),
        ("spread", "sampled"),
        ("spread", "contract"),
    ],
)
def test_gradients(select, connect):
    """Of every parameter and the features, through a pooling that the step does not change."""
    graph = random_graph(9, 30, dtype=torch.float64)
    torch.manual_seed(3)
    for model in models(connect=connect, select=select, act="tanh"):
        x = torch.randn(9, F, dtype=torch.float64, requires_grad=True)
        params = [p for p in model.parameters() if p.requires_grad]

        def function(x, *_, model=model):
            return model(x, graph.edge_index, None, graph.edge_weight)

        def forward(x, *_, model=model, function=function):
            torch.manual_seed(5)  # 'sampled' draws the same walks
            return function(x)

        assert torch.autograd.gradcheck(forward, (x, *params), atol=1e-6, fast_mode=True)


@few
@given(any_graphs(weights=("positive",), min_nodes=2), st.integers(0, 99))
def test_gradients_of_two_hop(graph, seed):
    generator = torch.Generator().manual_seed(seed)
    perm = torch.randperm(graph.num_nodes, generator=generator)[: (graph.num_nodes + 1) // 2]
    weight = graph.edge_weight.clone().requires_grad_()

    def function(weight):
        return two_hop(graph.edge_index, weight, perm, graph.num_nodes)[1]

    if weight.numel() and function(weight).numel():
        assert torch.autograd.gradcheck(function, weight)
