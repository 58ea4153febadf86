"""Every dtype with its tolerance, ties and infinities, the same bits from the same seed."""

from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder, SegmentationUNet, spread
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.functional.select import topk
from tests import memory
from tests.conftest import awake, random_graph

# Against float64 on the same selection: a few units in the last place per sum.
TOLERANCE = {
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
    torch.float32: 1e-4,
    torch.float64: 1e-12,
}
MODELS = {
    "unet": lambda **kw: GraphUNet(6, 8, 4, depth=2, pool_ratios=1.0, **kw),
    "segmentation": lambda **kw: SegmentationUNet(6, 8, 4, 2, 1.0, multi_scale=True, **kw),
    "autoencoder": lambda **kw: GraphUNetAutoEncoder(6, 8, depth=2, pool_ratios=1.0, **kw),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract", "walk"])
@pytest.mark.parametrize("name", MODELS)
def test_dtypes(name, connect, dtype):
    """All nodes are kept, in the order of their scores, which no output depends on."""
    graph = random_graph(40, 160, dtype=torch.float64)
    torch.manual_seed(0)
    model = awake(MODELS[name](connect=connect, select="topk")).eval()
    x = torch.randn(40, 6)
    model, x = model.to(dtype), x.to(dtype)  # rounded once, for both
    out = model(x, graph.edge_index, None, graph.edge_weight.to(dtype))
    assert out.dtype == dtype
    exact = model.double()(x.double(), graph.edge_index, None, graph.edge_weight)
    scale = float(exact.detach().abs().max())
    torch.testing.assert_close(out.double() / scale, exact / scale, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pools_of_every_dtype(dtype):
    """Nodes, edges and walk counts of small integers are exact in every dtype."""
    graph = random_graph(30, 90, weighted=False)
    generator = torch.Generator().manual_seed(0)
    x = (torch.randperm(30, generator=generator).view(-1, 1) / 16).to(dtype)
    pool = GPool(1, 0.5, connect="two_hop").to(dtype)
    torch.nn.init.ones_(pool.select.weight)
    out = pool(x, graph.edge_index)
    assert out.perm.tolist() == x.view(-1).argsort(descending=True)[:15].tolist()
    index, count = two_hop(graph.edge_index, None, out.perm, 30)
    assert torch.equal(out.edge_index, index)
    assert out.edge_attr.dtype == dtype
    assert torch.equal(out.edge_attr.float(), count)
    expected = x[out.perm].double() * x[out.perm].double().tanh()
    torch.testing.assert_close(out.x.double(), expected, atol=0, rtol=TOLERANCE[dtype])


def test_ties_go_to_the_smaller_id():
    score = torch.tensor([1.0, 3.0, 1.0, 3.0, 1.0])
    assert topk(score, 3).tolist() == [1, 3, 0]
    assert topk(torch.zeros(6), 0.5).tolist() == [0, 1, 2]
    path = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    assert spread(torch.zeros(6), path, 3).tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_infinite_scores_are_sorted(dtype):
    score = torch.tensor([0.0, math.inf, -math.inf, 5.0, math.inf], dtype=dtype)
    assert topk(score, 4).tolist() == [1, 4, 3, 0]
    batch = torch.tensor([0, 0, 0, 1, 1])
    assert topk(score, 1, batch).tolist() == [1, 4]
    with pytest.raises(ValueError, match=r"'score' must be finite \(got inf at 1\)"):
        spread(score, torch.zeros(2, 0, dtype=torch.long), 2)
    with pytest.raises(ValueError, match=r"'score' must not be NaN \(got nan at 2\)"):
        topk(torch.tensor([0.0, 1.0, math.nan]), 2)


@pytest.mark.parametrize("select", ["topk", "spread"])
def test_a_projection_of_zeros_keeps_the_first_nodes_and_a_gradient(select):
    graph = random_graph(10, 30, directed=False)
    pool = GPool(3, 0.5, select=select)
    torch.nn.init.zeros_(pool.select.weight)
    out = pool(torch.randn(10, 3), graph.edge_index)
    assert bool(out.x.isfinite().all())
    out.x.sum().backward()
    assert bool(pool.select.weight.grad.isfinite().all())


@pytest.mark.parametrize("connect", ["two_hop", "contract", "walk", "sampled"])
def test_same_seed_same_bits_for_any_number_of_workers(connect):
    """An epoch of training on shuffled batches that other processes put together."""

    def train(workers: int, seed: int = 0) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        x, edge_index, batch = memory.tiny_graphs(24)
        graphs = [_graph(x, edge_index, batch == i) for i in range(24)]
        loader = DataLoader(graphs, batch_size=8, shuffle=True, num_workers=workers)
        model = GraphUNet(4, 8, 3, depth=2, connect=connect, dropout=0.2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for data in loader:
            memory.step(model, data.x, data.edge_index, data.batch)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    alone = train(0)
    for workers in (0, 2):
        again = train(workers)
        assert all(torch.equal(a, b) for a, b in zip(alone, again))
    assert not all(torch.equal(a, b) for a, b in zip(alone, train(0, seed=1)))


def _graph(x: torch.Tensor, edge_index: torch.Tensor, mask: torch.Tensor) -> Data:
    first = int(mask.nonzero()[0])
    return Data(x=x[mask], edge_index=edge_index[:, mask[edge_index[0]]] - first)


@pytest.mark.parametrize("connect", ["two_hop", "contract", "walk"])
def test_counts_beyond_every_graph_keep_all(connect):
    graph = random_graph(10, 30)
    for count in (10**30, 10**400):
        assert topk(torch.arange(10.0), count).numel() == 10
        assert topk(torch.arange(10.0), count, torch.arange(10) // 5).numel() == 10
        model = GraphUNet(3, 4, 2, 1, count, connect=connect)
        states, _ = model.states(torch.randn(10, 3), graph.edge_index)
        assert states[1].size(0) == 10
