from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.pool.select.topk import topk as pyg_topk

from pyg_gunet.functional import select
from pyg_gunet.functional.select import graph_sizes, num_kept, topk


def one(ratio, n: int) -> int:
    return int(num_kept(ratio, torch.tensor([n])))


# --- how many


@pytest.mark.parametrize(
    "ratio, n, expected",
    [
        (0.6, 25, 15),  # in float32, as in PyG, 16
        (0.55, 100, 55),
        (2000 / 2708, 2708, 2000),
        (1.0, 2708, 2708),
        (1.0, 1, 1),
        (1, 2708, 1),
        (0.5, 5, 3),
        (0.5, 1, 1),
        (1e-9, 10, 1),
        (0.1, 10, 1),
        (0.1, 11, 2),
        (0.9999, 10, 10),
        (7, 5, 5),
        (7, 70, 7),
        (10**30, 70, 70),
        (np.float32(0.6), 25, 15),
        (np.float64(0.55), 100, 55),
        (np.int64(4), 9, 4),
    ],
)
def test_counts_of_the_design(ratio, n, expected):
    assert one(ratio, n) == expected


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_share_that_was_a_count_is_that_count(k, n):
    """k / n in floating point of either width is k nodes of n."""
    k, n = min(k, n), max(k, n)
    assert one(k / n, n) == k
    assert one(float(np.float32(k / n)), n) in (k, k + 1)
    if n < 8:
        assert one(np.float32(k / n), n) == k


@given(st.fractions(Fraction(1, 1000), 1, max_denominator=1000), st.integers(1, 100_000))
def test_shares_against_exact_arithmetic(share, n):
    assert one(float(share), n) == max(1, math.ceil(share * n))


def test_graphs_without_nodes_keep_none():
    sizes = torch.tensor([0, 1, 0, 4, 0])
    assert num_kept(0.5, sizes).tolist() == [0, 1, 0, 2, 0]
    assert num_kept(3, sizes).tolist() == [0, 1, 0, 3, 0]
    assert num_kept(1.0, sizes).tolist() == sizes.tolist()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_counts_are_int64(dtype):
    for ratio in (0.5, 2):
        assert num_kept(ratio, torch.tensor([3, 9], dtype=dtype)).dtype == torch.int64


@pytest.mark.parametrize("ratio", [0.0, 1.01, -1, 0, float("nan")])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match="'ratio'"):
        num_kept(ratio, torch.tensor([3]))
    with pytest.raises(ValueError, match="'ratio'"):
        topk(torch.ones(3), ratio)


def test_sizes_of_graphs():
    device = torch.device("cpu")
    assert graph_sizes(None, 7, device).tolist() == [7]
    assert graph_sizes(torch.tensor([0, 0, 2, 2, 2]), 5, device).tolist() == [2, 0, 3]


# --- which


@st.composite
def scored_batches(draw):
    """Scores with ties, and sorted graph ids with gaps or None."""
    scores = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
    score = torch.tensor(scores, dtype=torch.float32)
    batch = None
    if draw(st.booleans()):
        ids = draw(st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores)))
        batch = torch.tensor(sorted(ids))
    return score, batch


def brute_force(score, ratio, batch):
    batch = torch.zeros_like(score, dtype=torch.long) if batch is None else batch
    out = []
    for graph in batch.unique().tolist():
        nodes = (batch == graph).nonzero().view(-1).tolist()
        nodes.sort(key=lambda i: (-float(score[i]), i))
        count = one(ratio, len(nodes))
        out += nodes[:count]
    return out


@settings(max_examples=200)
@given(scored_batches(), st.one_of(st.integers(1, 25), st.floats(0.01, 1.0, exclude_min=True)))
def test_topk_against_brute_force(drawn, ratio):
    score, batch = drawn
    perm = topk(score, ratio, batch)
    assert perm.dtype == torch.int64
    assert perm.tolist() == brute_force(score, ratio, batch)
    if batch is not None:
        assert topk(score, ratio, batch.int()).tolist() == perm.tolist()
        k = num_kept(ratio, torch.bincount(batch))
        assert topk(score, None, batch, k=k).tolist() == perm.tolist()


@pytest.mark.parametrize("sizes", [[3, 0, 5, 4], [1, 1, 40, 0, 1, 1], [7]])
@pytest.mark.parametrize("table", [True, False])
def test_topk_with_and_without_a_table_of_rows(sizes, table, monkeypatch):
    # Scores with ties and infinities, which stand before the padding of a table.
    monkeypatch.setattr(select, "MAX_PADDING", 100 if table else 0)
    sizes = torch.tensor(sizes)
    batch = torch.arange(len(sizes)).repeat_interleave(sizes)
    score = torch.randint(3, (len(batch),)).double().log()
    k = sizes - (sizes > 1).long()
    expected = []
    for graph, count in enumerate(k.tolist()):
        nodes = (batch == graph).nonzero().view(-1).tolist()
        expected += sorted(nodes, key=lambda i: (-float(score[i]), i))[:count]
    assert topk(score, None, batch, k=k).tolist() == expected


@settings(max_examples=100)
@given(scored_batches(), st.sampled_from([1, 2, 3, 0.5, 0.25, 0.75]))
def test_topk_equals_pyg(drawn, ratio):
    score, batch = drawn
    if ratio == 1 and batch is None:
        return  # where PyG's rank differs by design: nothing to compare beyond one node
    # Distinct scores: PyG's sort does not say how it breaks ties.
    score = score + torch.linspace(0, 0.5, score.numel())
    zeros = torch.zeros(score.numel(), dtype=torch.long)
    expected = pyg_topk(score, ratio, zeros if batch is None else batch)
    assert topk(score, ratio, batch).tolist() == expected.tolist()


@settings(max_examples=100)
@given(scored_batches(), st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0]))
def test_min_score_equals_pyg(drawn, min_score):
    score, batch = drawn
    score = torch.softmax(score, dim=0)  # above one, PyG's tolerance drowns in rounding
    zeros = torch.zeros(score.numel(), dtype=torch.long)
    graph = zeros if batch is None else batch
    perm = topk(score, None, batch, min_score)
    assert perm.tolist() == pyg_topk(score, None, graph, min_score).tolist()
    # Every graph keeps a node, and its best one.
    assert set(graph[perm].tolist()) == set(graph.tolist())
    if batch is not None:
        assert topk(score, None, batch.int(), min_score).tolist() == perm.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_min_score_above_all_scores_keeps_the_best_in_any_dtype(dtype):
    score = torch.tensor([0.25, 0.75, 0.5, 0.125], dtype=dtype)
    batch = torch.tensor([0, 0, 1, 1])
    assert topk(score, None, batch, 2.0).tolist() == [1, 2]
    assert topk(score, None, None, 2.0).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_of_any_dtype(dtype):
    score = torch.tensor([0.25, 0.75, 0.5, 0.125], dtype=dtype)
    assert topk(score, 0.5).tolist() == [1, 2]
    assert topk(score, 1, torch.tensor([0, 0, 1, 1])).tolist() == [1, 2]


def test_batch_equals_alone():
    generator = torch.Generator().manual_seed(0)
    sizes = [7, 1, 30, 2]
    score = torch.randn(sum(sizes), generator=generator)
    batch = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    for options in ({"ratio": 0.4}, {"ratio": 3}, {"ratio": None, "min_score": 0.3}):
        alone, start = [], 0
        for size in sizes:
            alone += (topk(score[start : start + size], **options) + start).tolist()
            start += size
        assert topk(score, batch=batch, **options).tolist() == alone


def test_renamed_nodes_rename_the_result():
    score = torch.randn(40)
    order = torch.randperm(40)
    assert torch.equal(order[topk(score[order], 0.3)], topk(score, 0.3))


def test_bad_sizes():
    with pytest.raises(TypeError, match="'sizes'.*float32"):
        num_kept(0.5, torch.ones(2))
    with pytest.raises(ValueError, match=r"'sizes'.*\[2, 2\]"):
        num_kept(0.5, torch.ones(2, 2).long())
    with pytest.raises(ValueError, match="'sizes'.*-3 for graph 0"):
        num_kept(0.5, torch.tensor([-3]))


def test_no_nodes():
    assert topk(torch.empty(0), 0.5).shape == (0,)
    assert topk(torch.empty(0), 0.5, torch.empty(0, dtype=torch.long)).shape == (0,)


def test_bad_scores():
    with pytest.raises(TypeError, match="'score'"):
        topk([1.0, 2.0])
    with pytest.raises(ValueError, match=r"'score'.*\[2, 2\]"):
        topk(torch.ones(2, 2))
    with pytest.raises(ValueError, match="'ratio' must be given"):
        topk(torch.ones(2), None)
    with pytest.raises(ValueError, match="'min_score'"):
        topk(torch.ones(2), None, min_score=float("nan"))
    with pytest.raises(TypeError, match="'min_score'"):
        topk(torch.ones(2), None, min_score="high")
    with pytest.raises(TypeError, match="'ratio'"):
        topk(torch.ones(2), "half")
    with pytest.raises(TypeError, match="'k' must be of dtype int64 or int32 .*float32"):
        topk(torch.ones(2), None, k=torch.ones(1))
