"""Walk, sampled and automatic connectivity inside the models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pyg_gunet.functional.adjacency import Adjacency
from pyg_gunet.functional.choose import CROSSOVER, choose_connect, count_products, walk_share
from pyg_gunet.functional.walk import WalkAdjacency
from torch import Tensor
from torch_geometric.nn import GATConv, GraphConv
from torch_geometric.utils import remove_self_loops, to_undirected

from pyg_gunet import GraphUNet, GraphUNetAutoEncoder


def graph(n: int = 40, e: int = 120, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    x, edge_index = torch.randn(n, 6), torch.randint(n, (2, e))
    return x, to_undirected(remove_self_loops(edge_index)[0])


def dense_unet(model: GraphUNet, x: Tensor, edge_index: Tensor, weight: Tensor | None) -> Tensor:
    """The model's forward on dense matrices, from the definition of the levels."""

    def norm(a: Tensor) -> Tensor:
        root = a.sum(dim=1).pow(-0.5)
        return root.view(-1, 1) * a * root.view(1, -1)

    n = x.size(0)
    w = torch.ones(edge_index.size(1)) if weight is None else weight
    s = torch.zeros(n, n).index_put((edge_index[1], edge_index[0]), w, accumulate=True)
    s.fill_diagonal_(0)

    def conv(module: Any, x: Tensor, s: Tensor) -> Tensor:
        return norm(s + 2 * torch.eye(s.size(0))) @ module.lin(x) + module.bias

    x = model.act(conv(model.down_convs[0], x, s))
    skips, levels, perms = [x], [s], []
    for pool, module in zip(model.pools, model.down_convs[1:]):
        y = (x * pool.select.weight).sum(dim=-1) / pool.select.weight.norm()
        perm = torch.sort(y, descending=True, stable=True).indices[: -(-x.size(0) // 2)]
        h = norm(s + torch.eye(s.size(0)))
        s = (h @ h)[perm][:, perm]
        x = model.act(conv(module, x[perm] * torch.tanh(y[perm]).view(-1, 1), s))
        perms.append(perm)
        skips.append(x)
        levels.append(s)
    for i, module in enumerate(model.up_convs):
        j = model.depth - 1 - i
        up = torch.zeros_like(skips[j]).index_copy(0, perms[j], x)
        x = conv(module, skips[j] + up, levels[j])
        x = model.act(x) if j > 0 else x
    return x


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_unet_equals_dense_twin(depth: int, weighted: bool) -> None:
    x, edge_index = graph()
    weight = None
    if weighted:  # and directed
        edge_index = remove_self_loops(torch.randint(40, (2, 200)))[0]
        weight = torch.rand(edge_index.size(1))
    model = GraphUNet(6, 8, 3, depth, connect="walk")
    out = model(x, edge_index, edge_weight=weight)
    twin = copy.deepcopy(model)
    expected = dense_unet(twin, x, edge_index, weight)
    assert torch.allclose(out, expected, atol=1e-5)
    out.square().sum().backward()
    expected.square().sum().backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters()):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-5 * max(1.0, float(b.grad.abs().max()))), name


@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("connect", ["walk", "auto"])
def test_batch_equals_alone(select: str, connect: str) -> None:
    x, edge_index = graph()
    y, other = graph(17, 60, seed=1)
    model = GraphUNet(6, 8, 3, 3, select=select, connect=connect).eval()
    batch = torch.cat([torch.zeros(40), torch.ones(17)]).long()
    both = model(torch.cat([x, y]), torch.cat([edge_index, other + 40], dim=1), batch)
    alone = torch.cat([model(x, edge_index), model(y, other)])
    assert torch.allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("select", ["topk", "spread"])
def test_unet_equivariant(select: str) -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 3, select=select, connect="walk").double()
    x = x.double()
    relabel = torch.randperm(40)
    moved = torch.empty_like(x).index_copy(0, relabel, x)
    out = model(moved, relabel[edge_index])
    assert torch.allclose(out[relabel], model(x, edge_index), atol=1e-10)


@pytest.mark.parametrize("connect", ["walk", "sampled", "auto"])
def test_autoencoder(connect: str) -> None:
    x, edge_index = graph()
    model = GraphUNetAutoEncoder(6, 8, 4, depth=3, connect=connect)
    z, hierarchy = model.encode(x, edge_index)
    assert z.shape == (5, 4)
    x.requires_grad_()
    loss = model.loss(model.decode(z.detach(), hierarchy), x.detach())
    assert torch.autograd.grad(loss, x, allow_unused=True)[0] is None
    model.loss(model(x, edge_index), x.detach()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_state_dict_is_that_of_two_hop() -> None:
    a = GraphUNet(6, 8, 3, 2, connect="walk")
    GraphUNet(6, 8, 3, 2).load_state_dict(a.state_dict())
    assert "connect='walk'" in repr(a)


def test_edited_graph_is_not_served_stale() -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 2, connect="walk").eval()
    before = model(x, edge_index)
    edge_index[:, :60] = torch.randint(40, (2, 60))  # the same object, another graph
    after = model(x, edge_index)
    assert not torch.allclose(before, after, atol=1e-4)
    fresh = GraphUNet(6, 8, 3, 2, connect="walk")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x, edge_index), after)


@pytest.mark.parametrize("connect", ["walk", "two_hop", "induced", "auto"])
def test_cached_keeps_the_first_graph(connect: str) -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 2, connect=connect, cached=True).eval()
    first = model(x, edge_index)
    other = torch.randint(40, (2, 100))
    assert torch.equal(model(x, other), first)
    with pytest.raises(ValueError, match="'cached' holds the structure of 40 nodes"):
        model(x[:39], edge_index[:, :0])
    model.levels.reset()
    assert not torch.equal(model(x, other), first)


def test_cached_needs_prepared_propagation() -> None:
    for kwargs in ({"connect": "sampled"}, {"conv": GraphConv}):
        with pytest.raises(ValueError, match="'cached'"):
            GraphUNet(6, 8, 3, 2, cached=True, **kwargs)  # type: ignore[arg-type]


def test_prepared_adjacency() -> None:
    x, edge_index = graph()
    weight = torch.rand(edge_index.size(1))
    model = GraphUNet(6, 8, 3, 2, connect="walk")
    walks = WalkAdjacency.from_edge_index(edge_index, weight, 40)
    assert torch.equal(model(x, walks), model(x, edge_index, edge_weight=weight))
    exact = GraphUNet(6, 8, 3, 2)
    stored = Adjacency.from_edge_index(edge_index, weight, 40)
    assert torch.equal(exact(x, stored), exact(x, edge_index, edge_weight=weight))
    with pytest.raises(ValueError, match="prepared for connect='walk'"):
        exact(x, walks)
    with pytest.raises(ValueError, match="structure of 40 nodes"):
        model(x[:39], walks)
    with pytest.raises(ValueError, match="'edge_weight' must be None"):
        model(x, walks, edge_weight=weight)
    with pytest.raises(ValueError, match="prepared in torch.float32"):
        model.double()(x.double(), walks)


def test_walk_refuses_other_convolutions_and_weights() -> None:
    x, edge_index = graph()
    with pytest.raises(ValueError, match="'conv' must be None.*'sampled' or 'two_hop'"):
        GraphUNet(6, 8, 3, 2, connect="walk", conv=GATConv)
    model = GraphUNet(6, 8, 3, 2, connect="walk")
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    with pytest.raises(ValueError, match="'edge_weight'.*'sampled' or 'two_hop'"):
        model(x, edge_index, edge_weight=weight)
    with pytest.raises(ValueError, match="'edge_weight' must be non-negative"):
        model(x, edge_index, edge_weight=weight.detach() - 0.5)
    with pytest.raises(ValueError, match="'connect' must be one of"):
        GraphUNet(6, 8, 3, 2, connect="walks")


def test_sampled_with_attention_and_learned_weights() -> None:
    x, edge_index = graph()
    attention = GraphUNet(6, 8, 3, 2, connect="sampled", max_degree=4, conv=GATConv)
    torch.manual_seed(1)
    out = attention(x, edge_index)
    torch.manual_seed(1)
    assert torch.equal(attention(x, edge_index), out)
    _, hierarchy = attention.encode(x, edge_index)
    into = hierarchy.levels[1].edges()[0][1]
    assert int(torch.bincount(into).max()) <= 4
    model = GraphUNet(6, 8, 3, 2, connect="sampled")
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    model(x, edge_index, edge_weight=weight).sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad != 0).any())


def test_sampled_with_room_is_two_hop() -> None:
    x, edge_index = graph()
    exact = GraphUNet(6, 8, 3, 1)
    sampled = GraphUNet(6, 8, 3, 1, connect="sampled", max_degree=10_000)
    sampled.load_state_dict(exact.state_dict())
    assert torch.allclose(sampled(x, edge_index), exact(x, edge_index), atol=1e-5)


def test_auto_counts_first_pooling_in_expectation() -> None:
    _, edge_index = graph(300, 900)
    matrix = Adjacency.from_edge_index(edge_index, None, 300).matrix
    assert not isinstance(matrix, Tensor)
    degree = matrix.indptr.diff().double()
    levels = 2 * matrix.nnz + 0.25 * float(degree.square().sum())
    count = count_products(matrix, [0.5])
    assert levels < count.two_hop < 1.5 * levels  # plus the one convolution of the pooled level
    # Level 1 at ratio 0.5 costs one product with the graph, level 2 one and a half, level 3 2.75.
    assert walk_share([0.5]) == pytest.approx(1 + 1 / 2)
    assert walk_share([0.5, 0.5]) == pytest.approx(1 + (2 * 1 + 1.5) / 2)
    assert walk_share([0.5] * 3) == pytest.approx(1 + (2 * 1 + 2 * 1.5 + 2.75) / 2)
    assert count.walk == pytest.approx(2 * matrix.nnz * 1.5)


def test_auto_walks_where_two_hop_fills_up_and_stays() -> None:
    ring = torch.stack([torch.arange(400), (torch.arange(400) + 1) % 400])
    ring = torch.cat([ring, ring.flip(0)], dim=1)
    star = torch.stack([torch.zeros(399, dtype=torch.long), torch.arange(1, 400)])
    star = torch.cat([star, star.flip(0)], dim=1)
    chosen = {}
    for name, edge_index in (("ring", ring), ("star", star)):
        matrix = Adjacency.from_edge_index(edge_index, None, 400).matrix
        assert not isinstance(matrix, Tensor)
        chosen[name] = choose_connect(matrix, [0.5, 0.5])
        count = count_products(matrix, [0.5, 0.5])
        assert (chosen[name] == "walk") == (count.two_hop > CROSSOVER * count.walk)
    assert chosen == {"ring": "two_hop", "star": "walk"}
    x = torch.randn(400, 6)
    model = GraphUNet(6, 8, 3, 2, connect="auto")
    model(x, star)
    assert model.levels.connect == "walk"
    model(x, ring)
    assert model.levels.connect == "walk"
    model.reset_parameters()
    model(x, ring)
    assert model.levels.connect == "two_hop"
    assert GraphUNet(6, 8, 3, 2, connect="auto", conv=GATConv).levels.connect == "two_hop"


def test_autocast_trains() -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 3, connect="walk")
    exact = model(x, edge_index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, edge_index)
    out.float().sum().backward()
    assert bool((out - exact).detach().abs().mean() < 0.2 * exact.detach().abs().mean() + 0.05)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 3, connect="walk")
    out = model(x, edge_index)
    there = copy.deepcopy(model).cuda()
    assert torch.allclose(there(x.cuda(), edge_index.cuda()).cpu(), out, atol=1e-4)
