"""The segmentation network: what its scores are made of, and what selection does to a picture."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import GATv2Conv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from pyg_gunet import GUnpool, MixedGraphUNet
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.level import Level
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.segmentation import SegmentationUNet, deep_supervision, unpool_scores
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.transforms import ToGrid, grid_edges
from tests.conftest import random_graph


def picture(height=7, width=9, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ToGrid()(torch.rand(channels, height, width, generator=generator))


def model(seed=0, **kwargs):
    torch.manual_seed(seed)
    return SegmentationUNet(3, 8, 5, **{"depth": 2, **kwargs})


@pytest.mark.parametrize("multi_scale", [False, True])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"conv": SAGEConv},
        {"sum_res": False, "norm": "batch"},
        {"connect": "walk"},
        {"sum_res": None, "reduce": "mean", "connect": "contract", "lift": "interpolate"},
    ],
)
def test_shapes_and_gradients(multi_scale, kwargs):
    data, net = picture(), model(multi_scale=multi_scale, **kwargs)
    out = net(data.x, data.edge_index)
    assert out.shape == (63, 5)
    scales = net.scales(data.x, data.edge_index)
    assert [len(scale.node) for scale in scales] == ([63, 32, 16] if multi_scale else [63])
    assert scales[0].logits.equal(out)
    loss = deep_supervision(scales, torch.arange(63) % 5)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_scores_add_up():
    """The sum of each level's own scores, each carried up level by level, by dense matrices."""
    data = picture()
    net = model(multi_scale=True).double()
    x = data.x.double()
    features, hierarchy = net.net.states(x, data.edge_index)
    features[0] = features[0].relu()
    total = torch.zeros(63, 5, dtype=torch.float64)
    up = [torch.eye(63, dtype=torch.float64)]
    for level, perm in zip(hierarchy.levels, hierarchy.perms):
        edge_index, weight = level.edges()
        edge_index, norm = gcn_norm(edge_index, weight.double(), level.num_nodes, improved=True)
        walk = to_dense_adj(edge_index, edge_attr=norm, max_num_nodes=level.num_nodes)[0].t()
        reach = (walk @ walk)[:, perm]
        up.append(up[-1] @ (reach / reach.sum(1, keepdim=True)))
    for carry, feature, head in zip(up, features, net.heads, strict=True):
        total += carry @ head(feature)
    torch.testing.assert_close(net(x, data.edge_index), total)


def test_single_scale_is_a_graph_unet_with_a_head():
    data, net = picture(), model()
    plain = GraphUNet(3, 8, 8, depth=2, select="spread")
    state = {k[4:]: v for k, v in net.state_dict().items() if "heads" not in k}
    plain.load_state_dict(state)
    expected = net.heads[0](plain(data.x, data.edge_index).relu())
    torch.testing.assert_close(net(data.x, data.edge_index), expected)


@pytest.mark.parametrize("lift", ["nearest", "interpolate", "propagate"])
def test_scores_are_lifted_as_features_are(lift):
    """By the model's own way up, where that brings no zeros back."""
    data, net = picture(), model(multi_scale=True, depth=1, lift=lift).double()
    x = data.x.double()
    features, hierarchy = net.net.states(x, data.edge_index)
    coarse = net.heads[1](features[1])
    lifted = GUnpool(lift)(coarse, hierarchy.perms[0], 63, data.edge_index)
    expected = net.heads[0](features[0].relu()) + lifted
    torch.testing.assert_close(net(x, data.edge_index), expected)


@pytest.mark.parametrize("connect", ["two_hop", "walk", "contract"])
def test_a_prepared_graph_gives_the_same(connect):
    data, net = picture(), model(multi_scale=True, connect=connect)
    graph = net.prepare(data.edge_index)
    torch.testing.assert_close(net(data.x, graph), net(data.x, data.edge_index))


def test_edge_features_reach_the_convolutions():
    data = picture()
    net = model(connect="contract", conv=lambda i, o: GATv2Conv(i, o, edge_dim=2))
    attr = torch.randn(data.edge_index.size(1), 2, requires_grad=True)
    out = net(data.x, data.edge_index, edge_attr=attr)
    assert out.equal(net.scales(data.x, data.edge_index, edge_attr=attr)[0].logits)
    out.square().sum().backward()
    assert bool((attr.grad != 0).any())


@pytest.mark.parametrize("multi_scale", [False, True])
@pytest.mark.parametrize("conv", [None, SAGEConv])
def test_batch_equals_alone(multi_scale, conv):
    graphs = [picture(5, 6), picture(4, 4, seed=1), picture(1, 3, seed=2)]
    batch = Batch.from_data_list(graphs)
    net = model(multi_scale=multi_scale, conv=conv)
    together = net(batch.x, batch.edge_index, batch.batch)
    alone = torch.cat([net(data.x, data.edge_index) for data in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conv", [None, SAGEConv])
def test_equivariance(conv):
    data, net = picture(), model(multi_scale=True, conv=conv).double()
    perm = torch.randperm(63, generator=torch.Generator().manual_seed(1))
    x = data.x.double()
    moved = net(x[perm], perm.argsort()[data.edge_index])
    torch.testing.assert_close(moved, net(x, data.edge_index)[perm])


def test_gradient():
    data, net = picture(2, 3), model(multi_scale=True, depth=1).double()
    target = torch.arange(6) % 5

    def loss(bias):
        net.heads[1].bias.data.copy_(bias)
        return torch.func.functional_call(
            net, {"heads.1.bias": bias}, (data.x.double(), data.edge_index)
        )

    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, bias)
    x = data.x.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: deep_supervision(net.scales(z, data.edge_index), target), x
    )


class TestUnpoolScores:
    @pytest.mark.parametrize("fused", [False, True])
    def test_constant_stays_constant_where_covered(self, fused):
        edge_index = grid_edges(6, 6)
        net = model(conv=None if fused else SAGEConv)
        level = net.net.states(torch.rand(36, 3), edge_index)[1].levels[0]
        assert isinstance(level.graph, Edges) != fused
        perm = torch.tensor([0, 8, 30])
        found = unpool_scores(torch.full((3, 2), 5.0), perm, level)
        row, column = torch.arange(36) // 6, torch.arange(36) % 6
        near = torch.stack(
            [(row - p // 6).abs().maximum((column - p % 6).abs()) <= 2 for p in perm.tolist()]
        ).any(0)
        torch.testing.assert_close(found[near], torch.full_like(found[near], 5.0))
        assert not found[~near].any()
        assert (~near).any()

    def test_both_paths_agree(self):
        edge_index, perm = grid_edges(5, 5), torch.tensor([3, 12, 20])
        scores = torch.rand(3, 4, dtype=torch.float64)
        x = torch.rand(25, 3, dtype=torch.float64)
        stored = model().double().net.states(x, edge_index)[1].levels[0]
        found = unpool_scores(scores, perm, stored)
        plain = unpool_scores(scores, perm, Level(25, None, Edges(edge_index, 25)))
        torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_scores_do_not_grow_by_signed_weights(stored, loops, directed):
    """A share of each kept node by the sizes of weights, which do not cancel, by dense matrices."""
    most = 0.0
    for seed in range(20):
        graph = random_graph(30, 70, seed, directed=directed, loops=loops, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        sign = torch.randint(2, (graph.num_edges,), generator=generator) * 2 - 1
        edge_index, weight = graph.edge_index, graph.edge_weight * sign
        # Of parallel edges one is left: their order of summation is another matter.
        _, first = (30 * edge_index[0] + edge_index[1]).unique(return_inverse=True)
        last = torch.zeros(int(first.max()) + 1, dtype=torch.long)
        last[first] = torch.arange(first.numel())
        edge_index, weight = edge_index[:, last], weight[last]
        made = Edges(edge_index, 30, weight)
        if stored:
            made = Adjacency.from_edge_index(edge_index, weight, 30, torch.float64)
        level = Level(30, None, made)
        perm = torch.randperm(30, generator=generator)[:10]
        scores = torch.randn(10, 4, dtype=torch.float64, generator=generator)
        found = unpool_scores(scores, perm, level)
        dense = torch.zeros(30, 30, dtype=torch.float64)
        dense[edge_index[1], edge_index[0]] = weight
        own = torch.zeros(30, dtype=torch.bool)
        own[edge_index[0][edge_index[0] == edge_index[1]]] = True
        dense = dense + 2.0 * torch.diag((~own).double())
        root = dense.abs().sum(1).rsqrt()
        walk = root.view(-1, 1) * dense * root
        mass = (walk.abs() @ walk.abs())[:, perm].sum(1, keepdim=True)
        expected = (walk @ walk)[:, perm] @ scores / mass.where(mass > 0, torch.inf)
        torch.testing.assert_close(found, expected)
        most = max(most, float(found.abs().max() / scores.abs().max()))
    assert 0.5 < most < 1.0 + 1e-9


@pytest.mark.parametrize("learned", [False, True])
def test_signed_weights_keep_the_coarse_scores_in_bounds(learned):
    net = model(multi_scale=True)
    for seed in range(20):
        graph = random_graph(40, 120, seed, directed=False)
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(graph.num_edges, generator=generator).requires_grad_(learned)
        x = torch.randn(40, 3, generator=generator)
        fine, *coarse = net.scales(x, graph.edge_index, None, weight)
        most = [float(scale.logits.detach().abs().max()) for scale in (fine, *coarse)]
        assert most[0] < 10 * max(most[1:])
        if learned:
            (grad,) = torch.autograd.grad(fine.logits.square().sum(), weight)
            assert bool(grad.isfinite().all())
            assert bool((grad != 0).any())


@pytest.mark.parametrize("name", ["segmentation", "mixed"])
def test_autocast_with_learned_weights(name):
    torch.manual_seed(0)
    net = model(multi_scale=True) if name == "segmentation" else MixedGraphUNet(3, 8, 5, 2)
    data = picture()
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.rand(data.edge_index.size(1)).to(dtype).requires_grad_()
        expected = net(data.x, data.edge_index, None, weight.detach().float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(data.x, data.edge_index, None, weight)
        out.float().square().sum().backward()
        torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.1)
        assert bool(weight.grad.isfinite().all())
        assert bool((weight.grad != 0).any())


def test_spread_does_not_tear_the_picture():
    """On a picture whose brightness grows to one side, plain top-k keeps that side only: the rest
    has no kept node within two hops. Spread selection covers every pixel."""
    height, width = 16, 16
    ramp = torch.arange(width).float().expand(height, width) / width
    data = ToGrid()(ramp)
    left_out = {}
    for select in ("topk", "spread"):
        torch.manual_seed(0)
        net = SegmentationUNet(1, 4, 2, depth=1, pool_ratios=0.25, select=select, multi_scale=True)
        with torch.no_grad():  # a score that follows the brightness
            for conv in net.net.down_convs:
                conv.lin.weight.abs_()
            net.net.pools[0].select.weight.abs_()
        _, hierarchy = net.net.states(data.x, data.edge_index)
        ones = torch.ones(hierarchy.perms[0].numel(), 1)
        carried = unpool_scores(ones, hierarchy.perms[0], hierarchy.levels[0])
        left_out[select] = float((carried == 0).float().mean())
    assert left_out["spread"] == 0.0
    assert left_out["topk"] > 0.5


def test_deep_supervision():
    data, net = picture(), model(multi_scale=True)
    target = torch.arange(63) % 5
    scales = net.scales(data.x, data.edge_index)
    each = [torch.nn.functional.cross_entropy(scale.logits, target[scale.node]) for scale in scales]
    loss = deep_supervision(scales, target, share=0.3)
    torch.testing.assert_close(loss, (each[0] + 0.3 * each[1] + 0.09 * each[2]) / 1.39)
    torch.testing.assert_close(deep_supervision(scales, target, share=0.0), each[0])
    weight = torch.rand(63)
    criterion = BorderWeightedCrossEntropy()
    weighted = deep_supervision(scales, target, criterion, weight, share=1.0)
    expected = sum(criterion(s.logits, target[s.node], weight[s.node]) for s in scales) / 3
    torch.testing.assert_close(weighted, expected)


def test_learns_what_only_a_coarse_level_can_see():
    """The class of every pixel is where the one bright pixel is, left or right."""
    graphs = []
    for column in range(8):
        image = torch.zeros(1, 4, 8)
        image[0, 2, column] = 1.0
        position = torch.linspace(-1, 1, 8).expand(1, 4, 8)
        label = torch.full((4, 8), int(column > 3))
        graphs.append(ToGrid()(torch.cat([image, image * position]), y=label))
    batch = Batch.from_data_list(graphs)
    torch.manual_seed(0)
    net = SegmentationUNet(2, 16, 2, depth=3, multi_scale=True)
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net(batch.x, batch.edge_index, batch.batch), batch.y
        )
        loss.backward()
        optimizer.step()
    right = net(batch.x, batch.edge_index, batch.batch).argmax(1) == batch.y
    assert right.float().mean() > 0.95


def test_repr_and_reset():
    net = model(multi_scale=True)
    assert "num_classes=5, multi_scale=True" in repr(net)
    assert "(net): GraphUNet(3, 8, 8, depth=2, pool_ratios=[0.5, 0.5], select='spread')" in repr(
        net
    )
    net = model(multi_scale=True, norm="layer")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7.0)
    net.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in net.parameters())


def test_a_segmentation_net_refuses_by_name():
    with pytest.raises(ValueError, match="'num_classes'.*1"):
        SegmentationUNet(3, 8, 1)
    with pytest.raises(ValueError, match="'hidden_channels'.*0"):
        SegmentationUNet(3, 0, 2)
    with pytest.raises(TypeError, match="'multi_scale'.*1"):
        SegmentationUNet(3, 8, 2, multi_scale=1)
    with pytest.raises(ValueError, match="'select'.*'top'"):
        SegmentationUNet(3, 8, 2, select="top")
    with pytest.raises(TypeError, match="pooling"):
        SegmentationUNet(3, 8, 2, pooling="max")
    data, net = picture(), model()
    with pytest.raises(ValueError, match="'x' must have 3 channels"):
        net(data.x[:, :2], data.edge_index)
    scales = net.scales(data.x, data.edge_index)
    with pytest.raises(ValueError, match="'share'.*2"):
        deep_supervision(scales, torch.zeros(63, dtype=torch.int64), share=2.0)
    with pytest.raises(ValueError, match="'scales'"):
        deep_supervision([], torch.zeros(63, dtype=torch.int64))
    with pytest.raises(TypeError, match="'scales'.*int"):
        deep_supervision(3, torch.zeros(63, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"'target'.*\[63\] .got \[3"):
        deep_supervision(scales, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match="'target'.*float32"):
        deep_supervision(scales, torch.zeros(63))
    with pytest.raises(IndexError, match=r"'target'.*\[0, 5\) .got 7"):
        deep_supervision(scales, torch.full((63,), 7))
    with pytest.raises(TypeError, match="'criterion'.*3"):
        deep_supervision(scales, torch.zeros(63, dtype=torch.int64), criterion=3)
