"""Where the auto-encoder starts, its prepared levels, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from pyg_gunet import GraphUNetAutoEncoder, Hierarchy, VariationalAutoEncoder
from pyg_gunet.transforms import Coarsen
from tests.conftest import awake, random_batch, random_graph

# --- where it starts


@pytest.mark.parametrize("latent_channels", [3, 7])
@pytest.mark.parametrize("reduce", ["keep", "mean"])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced", "walk", "sampled"])
def test_untrained_it_is_the_interpolant(connect, reduce, latent_channels):
    """Of what the coarsest nodes hold, where `z` is as wide as the features; to 1e-5."""
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(3, 8, latent_channels, 3, connect=connect, reduce=reduce).eval()
    x = torch.randn(60, 3)
    _, hierarchy = model.encode(x, graph.edge_index, None, graph.edge_weight)
    held = x
    for perm, transfer in zip(hierarchy.perms, hierarchy.transfers):
        held = held[perm] if reduce == "keep" else transfer.restrict(held)
    if reduce == "keep":
        assert torch.equal(held, x[hierarchy.kept(3)])
    for transfer in reversed(hierarchy.transfers):
        held = transfer.prolong(held)
    out = model(x, graph.edge_index, None, graph.edge_weight)
    torch.testing.assert_close(out, held, atol=1e-5, rtol=1e-5)
    model.reset_parameters()
    out = model(x, graph.edge_index, None, graph.edge_weight)
    torch.testing.assert_close(out, held, atol=1e-5, rtol=1e-5)


def test_untrained_and_narrow_it_is_a_projection():
    """A latent of fewer channels: the interpolant of an orthogonal projection of the features."""
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(6, 8, 2, 2).eval()
    x = torch.randn(60, 6)
    w = model.axes
    torch.testing.assert_close(w @ w.t(), torch.eye(2), atol=1e-5, rtol=1e-5)
    wide = GraphUNetAutoEncoder(6, 8, 6, 2).eval()
    expected = wide(x, graph.edge_index) @ w.t() @ w
    torch.testing.assert_close(model(x, graph.edge_index), expected, atol=1e-5, rtol=1e-5)


def test_the_first_steps_reach_every_part():
    """Last layers of zeros hold the first gradient back from what lies behind them, not longer."""
    graph = random_graph(40, 120)
    model = GraphUNetAutoEncoder(3, 8, depth=2)
    x = torch.randn(40, 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        model.loss(model(x, graph.edge_index), x).backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("latent_channels", [2, 4])
def test_calibrating_leaves_alone_what_nothing_is_left_of(latent_channels):
    """A column of zeros in the graph at hand may hold something in the next one."""
    torch.manual_seed(0)
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(4, 16, latent_channels, 2)
    x = torch.randn(60, 4)
    empty = x.clone()
    empty[:, 3] = 0.0
    model.calibrate(empty, graph.edge_index)
    assert float(model.out_scale[3]) == 1.0
    left = (model(empty, graph.edge_index) - empty).detach().square().mean(0).sqrt()
    torch.testing.assert_close(model.out_scale[:3], left[:3])
    if latent_channels == 4:
        start = (model(x, graph.edge_index) - x).detach().square().mean(0)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimiser.zero_grad()
            model.loss(model(x, graph.edge_index), x).backward()
            optimiser.step()
        error = (model(x, graph.edge_index) - x).detach().square().mean(0)
        assert bool((error < 0.7 * start).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 3e4])
def test_calibrating_on_constants_changes_no_scale(value, dtype):
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(4, 8, 4, 2).to(dtype)
    model.calibrate(torch.full((60, 4), value, dtype=dtype), graph.edge_index)
    assert bool((model.out_scale == 1.0).all())
    assert bool((model.latent_scale == 1.0).all())


def masked_by(model, x, edge_index):
    """An explainer's edge mask counts in every convolution, once, and leaves nothing behind."""
    model.eval()
    config = {"mode": "regression", "task_level": "node", "return_type": "raw"}
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=3),
        explanation_type="model",
        edge_mask_type="object",
        model_config=config,
    )
    before = model(x, edge_index)
    mask = explainer(x, edge_index).edge_mask
    assert float(mask.std()) > 0
    for weight in (torch.ones_like(mask), mask, torch.zeros_like(mask)):
        found = explainer.get_masked_prediction(x, edge_index, None, weight)
        torch.testing.assert_close(found, model(x, edge_index, edge_weight=weight))
    assert torch.equal(model(x, edge_index), before)


@pytest.mark.parametrize("connect", ["contract", "two_hop", "sampled"])
@pytest.mark.parametrize("variational", [False, True])
def test_edge_masks_of_explainers_count(connect, variational):
    graph = random_graph(40, 120, loops=False)
    torch.manual_seed(0)
    model = awake(GraphUNetAutoEncoder(3, 8, 4, 2, connect=connect))
    x = torch.randn(40, 3)
    whole = VariationalAutoEncoder(model) if variational else model
    masked_by(whole, x, graph.edge_index)
    # So they do in what is no forward.
    weight = torch.rand(graph.num_edges)
    calls = [lambda w: whole.loss(x, graph.edge_index, None, w)]
    if not variational:
        calls = [
            lambda w, level=level: model.embed(x, graph.edge_index, None, w, level)
            for level in ("nodes", "graph")
        ]
    for call in calls:
        expected = call(weight)
        set_masks(whole, weight, graph.edge_index, apply_sigmoid=False)
        torch.testing.assert_close(call(None), expected)
        clear_masks(whole)


@pytest.mark.parametrize("weighted", [False, True])
def test_levels_of_other_convolutions_fit_the_decoder(weighted):
    """Those of `Coarsen` may hold weights, which not every convolution takes."""
    graph = random_graph(40, 120, loops=False)
    data = Data(torch.randn(40, 3), graph.edge_index)
    if weighted:
        data.edge_weight = graph.edge_weight
    levels = Coarsen(2)(data).hierarchy()
    for conv in (None, pyg.SAGEConv, pyg.GCNConv):
        model = awake(GraphUNetAutoEncoder(3, 8, 4, 2, conv=conv)).eval()
        z, _ = model.encode(data.x, levels)
        torch.testing.assert_close(model.decode(z, levels), model(data.x, levels))
        torch.manual_seed(1)
        drawn = VariationalAutoEncoder(model).sample(levels)
        torch.manual_seed(1)
        fitted = model.encode(data.x, levels)[1]
        torch.testing.assert_close(VariationalAutoEncoder(model).sample(fitted), drawn)
        assert drawn.shape == (40, 3)
    sage = GraphUNetAutoEncoder(3, 8, 4, 2, conv=pyg.SAGEConv).prepare(
        graph.edge_index, num_nodes=40
    )
    gcn = awake(GraphUNetAutoEncoder(3, 8, 4, 2, conv=pyg.GCNConv)).eval()
    z, _ = gcn.encode(data.x, sage)
    torch.testing.assert_close(gcn.decode(z, sage), gcn(data.x, sage))


@pytest.mark.parametrize("conv", [None, lambda i, o: pyg.SAGEConv(i, o)])
@pytest.mark.parametrize("connect", ["contract", "two_hop", "induced"])
def test_prepared_levels_give_the_same(conv, connect):
    data = random_batch(sizes=(12, 9, 20))
    model = awake(GraphUNetAutoEncoder(3, 8, depth=2, connect=connect, conv=conv)).eval()
    x = torch.randn(data.num_nodes, 3)
    weight = data.edge_weight if conv is None else None
    levels = model.prepare(data.edge_index, weight, batch=data.batch)
    assert isinstance(levels, Hierarchy)
    plain = model(x, data.edge_index, data.batch, weight)
    torch.testing.assert_close(model(x, levels), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(x, levels, data.batch), plain, atol=1e-5, rtol=1e-5)
    z, _ = model.encode(x, levels)
    torch.testing.assert_close(model.decode(z, levels), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"latent_channels": 0}, ValueError, "'latent_channels'.*0"),
        ({"edge_decoder": torch.nn.functional.relu}, TypeError, "'edge_decoder'.*relu"),
        ({"connect": "auto"}, ValueError, "'connect' must be one of .*'auto'"),
        ({"select": "best"}, ValueError, "'select' must be one of .*'best'"),
        ({"reduce": "sum"}, ValueError, "'reduce' must be one of .*'sum'"),
        ({"lift": "copy"}, ValueError, "'lift' must be one of .*'copy'"),
        ({"skip": "sum"}, TypeError, "skip"),
    ],
)
def test_bad_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        GraphUNetAutoEncoder(3, 4, **options)


def test_decode_refuses_what_is_not_its_own():
    graph = random_graph(30, 90)
    x = torch.randn(30, 3)
    model, other = GraphUNetAutoEncoder(3, 6, 2, 2), GraphUNetAutoEncoder(3, 6, 2, 3)
    z, hierarchy = model.encode(x, graph.edge_index)
    with pytest.raises(TypeError, match="'hierarchy' must be a Hierarchy of 3 poolings"):
        other.decode(z, hierarchy)
    with pytest.raises(TypeError, match="'hierarchy' must be a Hierarchy of 2 poolings.*tensor"):
        model.decode(z, graph.edge_index)
    with pytest.raises(ValueError, match=r"'z' must have shape \[8, 2\].*\[30, 3\]"):
        model.decode(x, hierarchy)
    with pytest.raises(ValueError, match="'z' must be finite.*nan"):
        model.decode(torch.full_like(z, float("nan")), hierarchy)
    with pytest.raises(TypeError, match="'z' must be a torch.Tensor"):
        model.decode(None, hierarchy)
    zero = GraphUNetAutoEncoder(3, 6, 2, 2, lift="zero", connect="two_hop")
    with pytest.raises(ValueError, match="'hierarchy' must hold transfers with lift='interpolate'"):
        model.decode(z, zero.encode(x, graph.edge_index)[1])
    sage = GraphUNetAutoEncoder(3, 6, 2, 2, conv=pyg.SAGEConv)
    with pytest.raises(TypeError, match="'hierarchy' must hold edges.*Adjacency"):
        sage.decode(z, hierarchy)


def test_decoders_and_hierarchies_that_are_none():
    with pytest.raises(TypeError, match="'edge_decoder'.*3"):
        GraphUNetAutoEncoder(3, 4, edge_decoder=3)
    with pytest.raises(TypeError, match="'hierarchy' must be a Hierarchy of 1 poolings.*3"):
        GraphUNetAutoEncoder(2, 4, depth=1).decode(torch.zeros(2, 2), 3)


def test_edge_loss_and_decoder():
    graph = random_graph(20, 60, loops=False)
    model = awake(GraphUNetAutoEncoder(3, 4, depth=2).double())
    assert isinstance(model.edge_decoder, pyg.InnerProductDecoder)
    h = model.embed(torch.randn(20, 3, dtype=torch.float64), graph.edge_index)
    negative = torch.randint(20, (2, 15))
    h = h.double()  # the oracle takes logarithms of what rounds to 0 and 1
    out = model.edge_loss(h, graph.edge_index, negative)
    positive = model.edge_decoder(h, graph.edge_index, sigmoid=True)
    expected = -torch.log(positive).mean()
    expected = expected - torch.log(1 - model.edge_decoder(h, negative, sigmoid=True)).mean()
    torch.testing.assert_close(out, expected)
    model.edge_loss(h, graph.edge_index).backward()
    assert model.lin_up.weight.grad is not None


def test_edge_loss_names_what_does_not_fit():
    model, h, edges = GraphUNetAutoEncoder(3, 4), torch.randn(4, 4), torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="'batch' must be sorted"):
        model.edge_loss(h, edges, batch=torch.tensor([1, 1, 0, 0]))
    with pytest.raises(ValueError, match=r"'batch' must have shape \[4\]"):
        model.edge_loss(h, edges, batch=torch.zeros(3, dtype=torch.long))
    with pytest.raises(IndexError, match="'pos_edge_index'.*got 4"):
        model.edge_loss(h, edges + 3)
    with pytest.raises(IndexError, match="'neg_edge_index'.*got 4"):
        model.edge_loss(h, edges, edges + 3)
    with pytest.raises(ValueError, match="'h' must be finite"):
        model.edge_loss(h * torch.nan, edges)


def test_drawn_non_edges_are_no_edges_in_whatever_order_these_come():
    drawn = []

    class Spy(torch.nn.Module):
        def forward(self, h, edge_index, sigmoid=True):
            drawn.append(edge_index)
            return h[edge_index[0], 0]

    model = GraphUNetAutoEncoder(3, 8, edge_decoder=Spy())
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    edges = torch.cat([path + 4 * i for i in range(6)], dim=1)
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    batch = torch.arange(6).repeat_interleave(4)
    known = set(map(tuple, edges.t().tolist()))
    for seed in range(5):
        order = torch.randperm(36, generator=torch.Generator().manual_seed(seed))
        for given in (edges, edges[:, order], edges[:, order].int()):
            model.edge_loss(torch.randn(24, 8), given, batch=batch)
            negative = drawn[-1].long()
            assert negative.size(1) == 36
            assert torch.equal(batch[negative[0]], batch[negative[1]])
            assert not known & set(map(tuple, negative.t().tolist()))
