"""The linear path of the auto-encoder against dense matrices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_gunet import GraphUNetAutoEncoder
from pyg_gunet.nn.interpolant import Interpolant, Steps
from pyg_gunet.nn.unpool import GUnpool
from pyg_gunet.transforms import Coarsen
from tests.conftest import random_batch, random_graph


def half_averages(graph) -> torch.Tensor:
    """(I + D^-1 A) / 2 of absolute weights in both directions, from the definition."""
    n = graph.num_nodes
    near = torch.zeros(n, n, dtype=torch.float64)
    edges, weight = graph.cover_edges()
    weight = torch.ones(edges.size(1)) if weight is None else weight.detach()
    for (s, t), w in zip(edges.t().tolist(), weight.tolist()):
        if s != t:
            near[s, t] += abs(w)
            near[t, s] += abs(w)
    total = near.sum(1, keepdim=True)
    means = torch.where(total > 0, near / total.clamp(min=1e-300), torch.eye(n).double())
    return (torch.eye(n).double() + means) / 2


def dense(hierarchy, steps: Steps) -> torch.Tensor:
    out = torch.eye(hierarchy.num_nodes, dtype=torch.float64)
    for i, transfer in enumerate(hierarchy.transfers):
        times = steps.inner if i else steps.fine
        p = torch.zeros(transfer.num_nodes, transfer.num_kept, dtype=torch.float64)
        p[transfer.row, transfer.col] = transfer.share.double()
        out = out @ torch.linalg.matrix_power(half_averages(hierarchy.levels[i].graph), times) @ p
    return out


def levels(connect="contract", conv=None, seed=0):
    graph = random_graph(40, 90, dtype=torch.float64, seed=seed)
    weight = graph.edge_weight if conv is None else None
    model = GraphUNetAutoEncoder(3, 4, 3, 2, connect=connect, conv=conv).double()
    x = torch.randn(40, 3, dtype=torch.float64)
    return x, model.encode(x, graph.edge_index, None, weight)[1]


def sage(inputs, outputs):
    from torch_geometric.nn import SAGEConv

    return SAGEConv(inputs, outputs)


@pytest.mark.parametrize("connect, conv", [("contract", None), ("walk", None), ("contract", sage)])
@pytest.mark.parametrize("steps", [Steps(2, 1), Steps(0, 3), Steps(1, 0)])
def test_it_is_the_smoothed_prolongation(connect, conv, steps):
    x, hierarchy = levels(connect, conv)
    path, d = Interpolant(hierarchy, GUnpool("interpolate"), steps), dense(hierarchy, steps)
    z = torch.randn(d.size(1), 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(path.apply(z), d @ z)
    torch.testing.assert_close(path.gather(x), d.t() @ x)
    (grad,) = torch.autograd.grad(path.apply(z), z, x)
    torch.testing.assert_close(grad, d.t() @ x)


def test_the_fit_ends_in_least_squares():
    x, hierarchy = levels()
    start = x[hierarchy.kept(2)]
    d = dense(hierarchy, Steps(1, 1))
    best = d @ torch.linalg.lstsq(d, x).solution
    least = float((best - x).square().mean())
    errors = []
    for steps in (0, 1, 4, 200):
        path = Interpolant(hierarchy, GUnpool("interpolate"), Steps(1, 1, steps))
        errors.append(float((path.apply(path.fit(x, start)) - x).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert least - 1e-9 <= errors[-1] < 1.02 * least
    assert errors[2] < least + 0.1 * (errors[0] - least)


def test_each_graph_of_a_batch_as_alone():
    torch.manual_seed(0)
    edges = [random_graph(n, 3 * n, seed=n).edge_index for n in (20, 31)]
    data = [Data(torch.randn(n, 2), e) for n, e in zip((20, 31), edges)]
    model = GraphUNetAutoEncoder(2, 8, depth=2)
    made = [Coarsen(2)(one) for one in data]
    batch = Batch.from_data_list(made)
    model.calibrate(batch.x, batch.hierarchy(), batch.batch)
    assert model.steps.fit
    together = model(batch.x, batch.hierarchy(), batch.batch)
    alone = torch.cat([model(one.x, one.hierarchy()) for one in made])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_calibrated_it_is_no_worse_than_the_interpolant_and_says_so_in_a_checkpoint():
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(3, 8, 3, 2)
    x = torch.randn(60, 3)
    before = float((model(x, graph.edge_index).detach() - x).square().mean())
    after = model.calibrate(x, graph.edge_index)
    assert after < 0.95 * before
    assert after == pytest.approx(float((model(x, graph.edge_index).detach() - x).square().mean()))
    other = GraphUNetAutoEncoder(3, 8, 3, 2)
    other.load_state_dict(model.state_dict())
    assert other.steps == model.steps != Steps()
    for one in (other, copy.deepcopy(model)):
        assert torch.equal(one(x, graph.edge_index), model(x, graph.edge_index))
    model.reset_parameters()
    assert model.steps == Steps()
    assert float((model(x, graph.edge_index).detach() - x).square().mean()) == pytest.approx(before)


@pytest.mark.parametrize("lift", ["zero", "nearest", "propagate"])
def test_other_lifts_are_left_as_they_are(lift):
    graph = random_graph(60, 150)
    model = GraphUNetAutoEncoder(3, 8, 3, 2, lift=lift)
    model.calibrate(torch.randn(60, 3), graph.edge_index)
    assert model.steps == Steps()


def test_no_feature_passes_beside_the_fitted_latent():
    _, edges, _, batch, _ = random_batch()
    x = torch.randn(batch.numel(), 3)
    model = GraphUNetAutoEncoder(3, 8, 3, 2)
    model.calibrate(x, edges, batch)
    assert model.steps.fit
    z, hierarchy = model.encode(x, edges, batch)
    _, other = model.encode(x.flip(0), edges, batch)
    assert torch.equal(model.decode(z, hierarchy), model.decode(z, other))


def test_a_step_of_a_usual_rate_keeps_what_the_path_fits():
    """Adam moves every weight by the rate: on the maps of the path that would cost its square."""
    torch.manual_seed(0)
    n = 300
    ring = torch.arange(n)
    edge_index = torch.stack([torch.cat([ring, (ring + 1) % n]), torch.cat([(ring + 1) % n, ring])])
    angle = 2 * torch.pi * ring / n
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    model = GraphUNetAutoEncoder(2, 8, 2, 1)
    error = model.calibrate(x, edge_index)
    assert error < 1e-6
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(model(x, edge_index), x).backward()
        optimizer.step()
        assert float(model.loss(model(x, edge_index), x).detach()) < 1.5 * error
