"""`calibrate`: what it leaves alone and refuses, and that every copy of a model knows of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel
from torch_geometric.nn import SAGEConv
from torch_geometric.utils import grid

from pyg_gunet import GraphUNetAutoEncoder
from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.inputs import near
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.nn.interpolant import Steps
from tests.conftest import random_graph

EDGES, POS = grid(8, 8)
X = torch.stack([POS[:, 0].sin(), POS[:, 1].cos(), POS.sum(1) / 10], 1)


def make(**options) -> GraphUNetAutoEncoder:
    torch.manual_seed(0)
    return GraphUNetAutoEncoder(3, 8, 2, depth=2, **options)


@pytest.fixture
def model():
    made = make()
    made.calibrate(X, EDGES)
    assert made.steps.fit > 0
    return made.eval()


def test_weights_of_edges_have_their_gradient_in_a_calibrated_model():
    model = make().double().eval()
    model.path_steps.copy_(torch.tensor([2, 1, 3]))
    weight = torch.rand(EDGES.size(1), dtype=torch.float64) + 0.5
    x, probe = X.double(), torch.randn(64, 3, dtype=torch.float64)

    def outcome(weight):
        return (model(x, EDGES, None, weight) * probe).sum()

    torch.testing.assert_close(outcome(weight.clone().requires_grad_()), outcome(weight))
    slope = torch.autograd.grad(outcome(weight.requires_grad_()), weight)[0]
    with torch.no_grad():
        for i in slope.abs().topk(3).indices:
            step = torch.zeros_like(weight).index_fill_(0, i, 1e-6)
            numeric = (outcome(weight + step) - outcome(weight - step)) / 2e-6
            torch.testing.assert_close(slope[i], numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
def test_averages_by_learned_weights_are_those_by_fixed_ones(transposed):
    graph = random_graph(20, 30)
    weight = torch.randn(graph.edge_index.size(1), dtype=torch.float64)
    x = torch.randn(22, 2, dtype=torch.float64)  # two nodes without edges
    fixed = Edges(graph.edge_index, 22, weight).smoothed(x, 3, transposed)
    learned = Edges(graph.edge_index, 22, weight.clone().requires_grad_())
    torch.testing.assert_close(learned.smoothed(x, 3, transposed), fixed)
    torch.testing.assert_close(fixed[20:], x[20:])


def test_copies_of_every_kind_take_the_steps_along(model):
    expected = model(X, EDGES)
    average = AveragedModel(make())
    average.update_parameters(model)
    loaded = make()
    loaded.load_state_dict(model.state_dict())
    with torch.device("meta"):
        empty = make()
    assert empty.steps == Steps()
    empty.load_state_dict(model.state_dict(), assign=True)
    for one in (average.module, loaded, empty, copy.deepcopy(model)):
        assert one.steps == model.steps
        torch.testing.assert_close(one.eval()(X, EDGES), expected)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    torch.testing.assert_close(functional_call(make().eval(), state, (X, EDGES)), expected)
    for to, source in zip(loaded.buffers(), make().buffers()):  # as DDP hands them out
        to.copy_(source)
    assert loaded.steps == Steps()


@pytest.mark.parametrize("lift", ["zero", "nearest"])
def test_a_lift_that_is_no_interpolation_neither_averages_nor_fits(model, lift):
    other = make(lift=lift, reduce="keep", connect="induced", select="topk")
    other.load_state_dict(model.state_dict())
    assert other.steps == Steps()
    assert other(X, EDGES).shape == X.shape


@pytest.mark.parametrize("scale", [300.0, 3e-4])
def test_errors_are_measured_in_more_than_half_precision(scale):
    wide, half = make(), make().half()
    expected = wide.calibrate(X * scale, EDGES)
    assert half.calibrate((X * scale).half(), EDGES) == pytest.approx(expected, rel=0.1)
    assert half.steps == wide.steps
    torch.testing.assert_close(half.out_scale.float(), wide.out_scale, rtol=0.2, atol=1e-5)


def test_bad_features_are_refused_by_name_before_anything_changes():
    model = make()
    before = copy.deepcopy(model.state_dict())
    for bad, error, words in (
        (X * torch.nan, ValueError, "'x' must be finite"),
        (X[:0], ValueError, "'x' holds no node"),
        (X[:, :2], ValueError, "'x' must have 3 channels"),
        ([1], TypeError, "'x' must be a torch.Tensor"),
    ):
        with pytest.raises(error, match=words):
            model.calibrate(bad, EDGES)
    with pytest.raises(IndexError, match="'edge_index' must lie in"):
        model.calibrate(X, EDGES + 1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_trained_model_is_refused(model):
    assert model.untrained
    for layer in (model.lin_in, model.lin_out, model.lin_latent, model.head.lins[-1]):
        trained = copy.deepcopy(model)
        own = dict(trained.named_modules())[
            next(name for name, module in model.named_modules() if module is layer)
        ]
        with torch.no_grad():
            own.weight[0, 0] = 1.0
        with pytest.raises(RuntimeError, match="'calibrate' goes before training"):
            trained.calibrate(X, EDGES)
        trained.reset_parameters()
        assert trained.calibrate(X, EDGES) > 0


def test_modes_running_means_and_random_numbers_stay():
    model = make(norm="batch", dropout=0.5)
    model.down_convs[0].eval()
    state, before = torch.get_rng_state(), copy.deepcopy(model.norms.state_dict())
    model.calibrate(X, EDGES)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.norms.state_dict().items())
    assert model.training
    assert not model.down_convs[0].training


def test_averages_of_a_prepared_graph_are_made_once(monkeypatch):
    model = make(conv=SAGEConv)
    model.path_steps.copy_(torch.tensor([2, 1, 3]))
    levels = model.prepare(EDGES, num_nodes=64)
    made, averaging = [], Edges._averaging
    monkeypatch.setattr(Edges, "_averaging", lambda *args: made.append(1) or averaging(*args))
    first = model(X, levels)
    assert len(made) == 2  # of the input graph and of the level between
    torch.testing.assert_close(model(X, levels), first)
    assert len(made) == 2


def test_masses_of_half_precision_do_not_overflow():
    size = 70_001
    leaves = torch.arange(1, size)
    star = torch.stack([torch.zeros_like(leaves), leaves])
    transfer = Transfer.from_edges(torch.tensor([0]), star, None, size).to(torch.half)
    assert float(transfer.mass) == size
    assert float(transfer.restrict(torch.ones(size, 1).half())) == 1.0


def test_weights_that_are_nothing_beside_the_largest_are_zero():
    path, weight = torch.tensor([[0, 1], [1, 2]]), torch.tensor([1e-38, 3e38])
    source, target, size = near(path, weight)
    assert sorted(zip(source.tolist(), target.tolist())) == [(1, 2), (2, 1)]
    assert bool((size > 0).all())
    for learned in (False, True):
        weight.requires_grad_(learned)
        transfer = Transfer.from_edges(torch.tensor([0]), path, weight, 3)
        assert transfer.share.tolist() == [1.0]
