"""Walks, sampled walks and prepared graphs inside the models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GATConv, GraphConv, SAGEConv
from torch_geometric.utils import remove_self_loops, to_torch_csr_tensor, to_undirected

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.graph.walk import Walk
from pyg_gunet.nn import select
from tests.conftest import awake


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
@pytest.mark.parametrize("connect", ["walk", "contract"])
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


@pytest.mark.parametrize("connect", ["walk", "sampled", "contract"])
def test_autoencoder(connect: str) -> None:
    x, edge_index = graph()
    model = awake(GraphUNetAutoEncoder(6, 8, 4, depth=3, connect=connect))
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


# --- prepared graphs


def structural(connect: str) -> Any:
    return lambda c, r: GPool(c, r, select="spread", quantiles=1, connect=connect)


@pytest.mark.parametrize("connect", ["walk", "two_hop", "induced", "contract", "sampled"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("conv", [None, GraphConv])
def test_a_prepared_graph_gives_the_same(connect: str, weighted: bool, conv: Any) -> None:
    """Where selection reads features: the finest level, once."""
    if connect == "walk" and conv is not None:
        return
    x, edge_index = graph()
    weight = torch.rand(edge_index.size(1)) if weighted else None
    model = GraphUNet(6, 8, 3, 2, connect=connect, conv=conv, lift="interpolate").eval()
    prepared = model.prepare(edge_index, weight, num_nodes=40)
    plain = edge_index.clone()
    kinds = {"walk": Walk, "sampled": Edges}
    assert isinstance(prepared, Edges if conv else kinds.get(connect, Adjacency))
    expected = model(x, edge_index, edge_weight=weight)
    assert torch.equal(model(x, prepared), expected)
    with torch.no_grad():  # the prepared graph holds the edges as they were
        for p in model.parameters():
            p.add_(0.1)
    assert torch.equal(model(x, prepared), model(x, plain, edge_weight=weight))
    assert model.prepare(edge_index[:, edge_index.max(0).values < 39]).num_nodes <= 39


@pytest.mark.parametrize("connect", ["walk", "two_hop", "induced", "contract"])
@pytest.mark.parametrize("conv", [None, GraphConv])
def test_prepared_levels_give_the_same_and_its_gradients(connect: str, conv: Any) -> None:
    """Where the graph alone selects: all levels, once, of a batch."""
    if connect == "walk" and conv is not None:
        return
    x, edge_index = graph()
    y, other = graph(17, 60, seed=1)
    x, edge_index = torch.cat([x, y]), torch.cat([edge_index, other + 40], dim=1)
    batch = torch.cat([torch.zeros(40), torch.ones(17)]).long()
    options = {"pool": structural("two_hop" if connect == "walk" else connect), "conv": conv}
    options["connect"] = connect
    model = GraphUNet(6, 8, 3, 2, reduce="mean", lift="interpolate", **options)
    levels = model.prepare(edge_index, batch=batch)
    assert isinstance(levels, Hierarchy)
    assert [level.num_nodes for level in levels.levels] == [57, 29, 15]
    grads = []
    for args in ((edge_index, batch), (levels,), (levels, batch)):
        given = x.clone().requires_grad_()
        out = model(given, *args)
        grads.append((out, *torch.autograd.grad(out.square().sum(), [given, *model.parameters()])))
    for found in grads[1:]:
        for a, b in zip(found, grads[0]):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_step_on_prepared_levels_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, edge_index = graph()
    model = GraphUNet(6, 8, 3, 2, pool=structural("contract"), lift="interpolate")
    levels = model.prepare(edge_index)
    assert all(level.graph.lasts for level in levels.levels)
    model(x, levels).sum().backward()  # the first builds what all later ones share

    def build(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("built anew")

    for module, name in (
        (csr, "build"),
        (csr, "transpose"),
        (csr, "rows_of"),
        (select, "_spread"),
        (torch, "sort"),
        (Adjacency, "pool"),
        (Transfer, "from_edges"),
    ):
        monkeypatch.setattr(module, name, build)
    model(x, levels).sum().backward()


def test_prepared_adjacency() -> None:
    x, edge_index = graph()
    weight = torch.rand(edge_index.size(1))
    model = GraphUNet(6, 8, 3, 2, connect="walk")
    walks = Walk.from_edge_index(edge_index, weight, 40)
    assert torch.equal(model(x, walks), model(x, edge_index, edge_weight=weight))
    exact = GraphUNet(6, 8, 3, 2)
    stored = Adjacency.from_edge_index(edge_index, weight, 40)
    assert torch.equal(exact(x, stored), exact(x, edge_index, edge_weight=weight))
    plain = Edges(edge_index, 40, weight)
    assert torch.equal(exact(x, plain), exact(x, edge_index, edge_weight=weight))
    with pytest.raises(ValueError, match="prepared for another 'connect'.*Walk for .*'two_hop'"):
        exact(x, walks)
    with pytest.raises(ValueError, match="prepared for another.*Adjacency for connect='walk'"):
        model(x, stored)
    with pytest.raises(ValueError, match="prepared for another 'connect' or 'conv'.*Adjacency"):
        GraphUNet(6, 8, 3, 2, conv=GraphConv)(x, stored)
    with pytest.raises(ValueError, match="prepared for 40 nodes.*39 rows"):
        model(x[:39], walks)
    with pytest.raises(ValueError, match="'edge_weight' must be None with a prepared graph"):
        model(x, walks, edge_weight=weight)
    with pytest.raises(ValueError, match="'edge_attr' must be None with a prepared graph"):
        model(x, walks, edge_attr=weight)
    with pytest.raises(ValueError, match="prepared in torch.float32.*`to`.*float64"):
        model.double()(x.double(), walks)
    wide = model(x.double(), walks.to(torch.float64))
    torch.testing.assert_close(wide.float(), model.float()(x, walks), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="'to' goes with level 0 of walks.*level 1"):
        walks.pool(torch.arange(20)).to(torch.float64)


def test_prepared_levels_of_another_model_are_refused() -> None:
    x, edge_index = graph()
    one = GraphUNet(6, 8, 3, 1, pool=structural("two_hop"))
    two = GraphUNet(6, 8, 3, 2, pool=structural("two_hop"))
    levels = two.prepare(edge_index)
    with pytest.raises(ValueError, match="prepared in 2 poolings for a model of 1"):
        one(x, levels)
    with pytest.raises(ValueError, match="'batch' must be that of the prepared hierarchy"):
        two(x, levels, torch.zeros(40, dtype=torch.long))
    lifted = GraphUNet(6, 8, 3, 2, pool=structural("two_hop"), lift="interpolate")
    levels.transfers[1] = None
    with pytest.raises(ValueError, match="must be prepared with transfers.*lift='interpolate'"):
        lifted(x, levels)
    with pytest.raises(ValueError, match="'batch' goes with levels that hang on the graph alone"):
        GraphUNet(6, 8, 3, 2).prepare(edge_index, batch=torch.zeros(40, dtype=torch.long))


def test_prepare_checks_at_its_door() -> None:
    _, edge_index = graph()
    model = GraphUNet(6, 8, 3, 2)
    with pytest.raises(IndexError, match="'edge_index'"):
        model.prepare(edge_index, num_nodes=7)
    with pytest.raises(ValueError, match=r"'edge_weight' must have shape.*\[3\]"):
        model.prepare(edge_index, torch.ones(3))
    with pytest.raises(ValueError, match="'edge_weight' must be non-negative"):
        GraphUNet(6, 8, 3, 2, connect="walk").prepare(edge_index, -torch.ones(edge_index.size(1)))
    with pytest.raises(ValueError, match="'edge_weight' goes with a 'conv'"):
        GraphUNet(6, 8, 3, 2, conv=SAGEConv).prepare(edge_index, torch.ones(edge_index.size(1)))
    adj_t = to_torch_csr_tensor(edge_index, size=(40, 40))
    assert model.prepare(adj_t).num_nodes == 40
    none = model.prepare(torch.empty(2, 0, dtype=torch.long))
    assert none.num_nodes == 0


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
    attention = GraphUNet(
        6, 8, 3, 2, pool=lambda c, r: GPool(c, r, connect="sampled", max_degree=4), conv=GATConv
    )
    torch.manual_seed(1)
    out = attention(x, edge_index)
    torch.manual_seed(1)
    assert torch.equal(attention(x, edge_index), out)
    _, hierarchy = attention.states(x, edge_index)
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
    sampled = GraphUNet(
        6, 8, 3, 1, pool=lambda c, r: GPool(c, r, connect="sampled", max_degree=10_000)
    )
    sampled.load_state_dict(exact.state_dict())
    assert torch.allclose(sampled(x, edge_index), exact(x, edge_index), atol=1e-5)


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
