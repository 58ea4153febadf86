from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import TopKPooling
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import SelectOutput, SelectTopK

from pyg_gunet import GPool, GUnpool, PoolOutput
from tests.conftest import (
    dense_two_hop,
    graphs,
    permuted,
    random_batch,
    random_graph,
    to_dense,
)

SELECTIONS = ("topk", "spread")
CONNECTIONS = ("induced", "two_hop", "contract", "sampled")
REDUCTIONS = ("keep", "mean")


def outputs_close(a: PoolOutput, b: PoolOutput, tolerance: float = 1e-6) -> None:
    for x, y in zip(a, b):
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y, atol=tolerance, rtol=tolerance)


# --- rows and edges belong together


@settings(max_examples=200)
@given(graphs(), st.sampled_from([0.3, 0.5, 0.8, 1.0, 1, 3]), st.sampled_from(SELECTIONS))
def test_every_row_sits_on_its_own_edges(graph, ratio, select):
    """Node j of the output is node perm[j] of the input, for features, edges and weights."""
    x = torch.randn(
        graph.num_nodes, 4, generator=torch.Generator().manual_seed(graph.num_edges)
    ).double()
    pool = GPool(4, ratio, connect="two_hop", select=select).double()
    out = pool(x, graph.edge_index, graph.edge_weight)
    expected = dense_two_hop(graph.dense(), out.perm)
    assert torch.equal(to_dense(out.edge_index, out.edge_attr, out.perm.numel()), expected)
    y = x @ pool.select.weight.view(-1) / pool.select.weight.norm()
    gate = (torch.tanh if select == "topk" else torch.sigmoid)(y)[out.perm]
    torch.testing.assert_close(out.score, gate)
    torch.testing.assert_close(out.x, x[out.perm] * gate.view(-1, 1))
    if select == "topk":
        assert set(out.perm.tolist()) == set(y.topk(out.perm.numel()).indices.tolist())
    # The same nodes, induced.
    single = GPool(4, ratio, select=select).double()
    single.load_state_dict(pool.state_dict())
    out = single(x, graph.edge_index, torch.arange(graph.num_edges))
    source, target = graph.edge_index[:, out.edge_attr]
    assert torch.equal(out.perm[out.edge_index[0]], source)
    assert torch.equal(out.perm[out.edge_index[1]], target)
    kept = torch.isin(graph.edge_index, out.perm).all(dim=0)
    assert torch.equal(out.edge_attr, kept.nonzero().view(-1))


@settings(max_examples=60)
@given(graphs(), st.integers(1, 10))
def test_unpool_puts_rows_back(graph, k):
    x = torch.randn(graph.num_nodes, 3)
    out = GPool(3, k)(x, graph.edge_index)
    up = GUnpool()(out.x, out.perm, graph.num_nodes)
    expected = torch.zeros(graph.num_nodes, 3)
    for j, i in enumerate(out.perm.tolist()):
        expected[i] = out.x[j]
    assert torch.equal(up, expected)


# --- a drop-in for PyG's TopKPooling


def pair(*args, **options) -> tuple[GPool, TopKPooling]:
    ours, theirs = GPool(*args, **options), TopKPooling(*args, **options)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 0.5},
        {"ratio": 3},
        {"ratio": 0.8, "multiplier": 2.5},
        {"ratio": None, "min_score": 0.1},
        {"min_score": 0.05, "multiplier": 3.0},
        {"min_score": 0.99},
    ],
    ids=str,
)
@pytest.mark.parametrize("batched", [False, True])
def test_equals_topk_pooling(options, batched):
    data = random_batch()
    batch = data.batch if batched else None
    ours, theirs = pair(5, **options)
    x = torch.randn(data.num_nodes, 5, requires_grad=True)
    attr = torch.randn(data.edge_index.size(1), 2)
    a, b = ours(x, data.edge_index, attr, batch), theirs(x, data.edge_index, attr, batch)
    assert len(a) == len(b) == 6
    for mine, other in zip(a, b):
        torch.testing.assert_close(mine, other)
    upstream = torch.randn_like(a.x)
    grads = torch.autograd.grad(a.x, (x, ours.select.weight), upstream)
    expected = torch.autograd.grad(b[0], (x, theirs.select.weight), upstream)
    torch.testing.assert_close(grads, expected)


def test_attn_is_scored_in_place_of_x():
    ours, theirs = pair(3, ratio=0.5)
    graph = random_graph(12, 30)
    x, attn = torch.randn(12, 7), torch.randn(12, 3)
    for mine, other in zip(
        ours(x, graph.edge_index, None, None, attn), theirs(x, graph.edge_index, None, None, attn)
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(
    "options", [{}, {"ratio": 3}, {"multiplier": 2.0}, {"ratio": None, "min_score": 0.2}]
)
def test_repr_is_pygs(options):
    ours, theirs = pair(7, **options)
    assert repr(ours) == repr(theirs).replace("TopKPooling", "GPool")


def test_repr_shows_other_options_where_not_default():
    assert repr(GPool(7, connect="two_hop", gate="sigmoid")) == (
        "GPool(7, ratio=0.5, multiplier=1.0, gate='sigmoid', connect='two_hop')"
    )
    assert "select='spread'" in repr(GPool(7, select="spread"))
    assert "reduce='mean'" in repr(GPool(7, reduce="mean"))
    exchanged = GPool(7)
    exchanged.select, exchanged.connect = SelectTopK(7), FilterEdges()
    assert "select=SelectTopK(7" in repr(exchanged)
    assert "connect=FilterEdges()" in repr(exchanged)
    assert repr(GUnpool()) == "GUnpool()"


def test_the_same_seed_gives_the_same_weights():
    torch.manual_seed(0)
    ours = GPool(9).state_dict()
    torch.manual_seed(0)
    theirs = TopKPooling(9).state_dict()
    assert ours.keys() == theirs.keys() == {"select.weight"}
    assert torch.equal(ours["select.weight"], theirs["select.weight"])


def test_reset_parameters():
    pool = GPool(9)
    before = pool.select.weight.clone()
    pool.reset_parameters()
    assert not torch.equal(before, pool.select.weight)


# --- selection, gates, ratios


def test_ranks_the_raw_score_where_the_gate_saturates():
    """tanh(20) = tanh(40) = 1 in single precision: only the raw score tells them apart."""
    x = torch.tensor([[20.0], [30.0], [40.0], [10.0]])
    pool = GPool(1, ratio=2)
    torch.nn.init.ones_(pool.select.weight)
    out = pool(x, torch.empty(2, 0, dtype=torch.long))
    assert out.perm.tolist() == [2, 1]
    assert out.score.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("select, default", [("topk", "tanh"), ("spread", "sigmoid")])
def test_gates(select, default):
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    weight = torch.randn(1, 3)
    y = x @ weight.view(-1) / weight.norm()
    for gate in (None, "tanh", "sigmoid"):
        pool = GPool(3, select=select, gate=gate)
        pool.load_state_dict({"select.weight": weight})
        out = pool(x, graph.edge_index)
        torch.testing.assert_close(out.score, getattr(torch, gate or default)(y[out.perm]))


@pytest.mark.parametrize("select", SELECTIONS)
def test_how_many_nodes_every_graph_keeps(select):
    sizes = torch.tensor([25, 1, 0, 4, 100])  # the third graph of the batch is empty
    batch = torch.arange(5).repeat_interleave(sizes)
    edge_index = torch.empty(2, 0, dtype=torch.long)
    x = torch.randn(130, 2)
    for ratio, expected in (
        (0.6, [15, 1, 0, 3, 60]),
        (0.55, [14, 1, 0, 3, 55]),
        (1.0, [25, 1, 0, 4, 100]),
        (1, [1, 1, 0, 1, 1]),
        (30, [25, 1, 0, 4, 30]),
    ):
        out = GPool(2, ratio, select=select)(x, edge_index, batch=batch)
        assert torch.bincount(out.batch, minlength=5).tolist() == expected
        assert torch.equal(batch[out.perm], out.batch)


def test_a_projection_of_zeros_is_finite():
    pool = GPool(3)
    torch.nn.init.zeros_(pool.select.weight)
    x = torch.randn(6, 3, requires_grad=True)
    out = pool(x, torch.empty(2, 0, dtype=torch.long))
    assert out.perm.tolist() == [0, 1, 2]
    out.x.sum().backward()
    assert bool(torch.isfinite(x.grad).all())


# --- batch and order


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
@pytest.mark.parametrize("min_score", [None, 0.1])
def test_batch_equals_alone(select, reduce, connect, min_score):
    if min_score is not None and select == "spread":
        with pytest.raises(ValueError, match="'min_score'"):
            GPool(4, select=select, min_score=min_score)
        return
    data = random_batch()
    pool = GPool(
        4, select=select, reduce=reduce, connect=connect, min_score=min_score, max_degree=10_000
    )
    x = torch.randn(data.num_nodes, 4)
    together = pool(x, data.edge_index, data.edge_weight, data.batch)
    alone, offset = [], 0
    for i, (part, start) in enumerate(zip(data.parts, data.offsets)):
        out = pool(x[start : start + part.num_nodes], part.edge_index, part.edge_weight)
        alone.append(
            out._replace(
                edge_index=out.edge_index + offset, batch=out.batch + i, perm=out.perm + start
            )
        )
        offset += out.perm.numel()
    cat = PoolOutput(
        *(torch.cat(v, dim=-1 if v[0].dtype == torch.long else 0) for v in zip(*alone))
    )
    outputs_close(together, cat)


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("connect", CONNECTIONS)
@pytest.mark.parametrize("num_nodes", [40, 400])
def test_renamed_nodes_rename_the_result(select, reduce, connect, num_nodes):
    graph = random_graph(num_nodes, 3 * num_nodes)
    order = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(5))
    x = torch.randn(num_nodes, 4)
    renamed = permuted(graph, order)
    pool = GPool(4, select=select, reduce=reduce, connect=connect, max_degree=10_000)
    a, b = pool(x, *graph[:2]), pool(x[order], *renamed[:2])
    assert torch.equal(order[b.perm], a.perm)
    torch.testing.assert_close(b.x, a.x)
    torch.testing.assert_close(b.score, a.score)
    size = a.perm.numel()
    total = torch.zeros(2, size, size)
    for i, out in enumerate((a, b)):
        total[i].index_put_(tuple(out.edge_index), out.edge_attr, accumulate=True)
    torch.testing.assert_close(total[0], total[1])


# --- parts and persistence


def test_selection_stands_in_for_pygs():
    pool = GPool(3, ratio=0.5)
    x, batch = torch.randn(9, 3), torch.tensor([0] * 4 + [1] * 5)
    out = pool.select(x, batch)
    assert isinstance(out, SelectOutput)
    theirs = TopKPooling(3)
    theirs.load_state_dict(pool.state_dict())
    expected = theirs.select(x, batch)
    assert torch.equal(out.node_index, expected.node_index)
    assert torch.equal(out.cluster_index, expected.cluster_index)
    assert (out.num_nodes, out.num_clusters) == (9, expected.num_clusters)
    torch.testing.assert_close(out.weight, expected.weight)
    spread = GPool(3, select="spread")
    with pytest.raises(ValueError, match="'edge_index'"):
        spread.select(x, batch)
    edges = torch.tensor([[0, 1, 4, 5], [1, 2, 5, 6]])
    adj_t = torch.sparse_coo_tensor(edges.flip(0), torch.ones(4), (9, 9))
    kept = spread.select(x, batch, edges).node_index
    assert torch.equal(spread.select(x, batch, adj_t).node_index, kept)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"select": "spread", "connect": "two_hop"},
        {"connect": "contract", "reduce": "mean"},
    ],
)
def test_copies_and_pickles(options):
    pool = GPool(3, ratio=0.4, **options)
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    expected = pool(x, *graph[:2])
    outputs_close(copy.deepcopy(pool)(x, *graph[:2]), expected, 0.0)
    outputs_close(pickle.loads(pickle.dumps(pool))(x, *graph[:2]), expected, 0.0)
    buffer = io.BytesIO()
    torch.save(pool.state_dict(), buffer)
    buffer.seek(0)
    other = GPool(3, ratio=0.4, **options)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    outputs_close(other(x, *graph[:2]), expected, 0.0)
    outputs_close(pickle.loads(pickle.dumps(expected)), expected, 0.0)


def test_output_has_names():
    out = GPool(2)(torch.ones(4, 2), torch.tensor([[0], [1]]))
    assert repr(out) == (
        "PoolOutput(x=[2, 2], edge_index=[2, 1], edge_attr=None, batch=[2], perm=[2], score=[2])"
    )
    x, edge_index, edge_attr, batch, perm, score = out
    assert x is out.x
    assert score is out.score
    assert batch.tolist() == [0, 0]


def test_autocast():
    graph = random_graph(20, 60)
    pool = GPool(3, connect="two_hop")
    x = torch.randn(20, 3)
    expected = pool(x, *graph[:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pool(x, *graph[:2])
    outputs_close(out, expected)
