"""Variational auto-encoding against its closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from pyg_gunet import (
    GraphUNet,
    GraphUNetAutoEncoder,
    Hierarchy,
    VariationalAutoEncoder,
    repeat_graph,
)
from tests.conftest import awake, permuted, random_batch, random_graph


def made(latent: str = "nodes", seed: int = 0, **options) -> VariationalAutoEncoder:
    torch.manual_seed(seed)
    inner = GraphUNetAutoEncoder(3, 8, 4, depth=2, **options.pop("inner", {}))
    return awake(VariationalAutoEncoder(inner, latent, **options))


# --- the divergence


@pytest.mark.parametrize("free_bits", [0.0, 0.3])
def test_divergence_by_its_formula(free_bits):
    r"""KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1) / 2 - log s, and by Monte Carlo."""
    model = made(free_bits=free_bits).double()
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    log_std = 0.5 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    each = 0.5 * (mu**2 + (2 * log_std).exp() - 1) - log_std
    assert bool((each < free_bits).any()) is (free_bits > 0)
    found = model.kl(mu, log_std)
    torch.testing.assert_close(found, each.clamp(min=free_bits).sum())
    if not free_bits:
        q, p = Normal(mu, log_std.exp()), Normal(0.0, 1.0)
        torch.manual_seed(0)
        z = q.sample((20_000,))
        drawn = (q.log_prob(z) - p.log_prob(z)).sum((1, 2))
        error = float(drawn.std()) / math.sqrt(drawn.numel())
        assert abs(float(drawn.mean() - found)) < 4 * error
    zeros = torch.zeros(2, 4, dtype=torch.float64)
    assert float(model.kl(zeros, zeros)) == pytest.approx(8 * free_bits)


def test_gradient_of_the_divergence():
    model = made().double()
    mu = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    log_std = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model.kl, (mu, log_std))


@pytest.mark.parametrize("latent", ["nodes", "graph"])
@pytest.mark.parametrize("beta", [0.0, 2.5])
def test_loss_is_the_error_plus_the_divergence(latent, beta):
    data = random_batch(sizes=(12, 9))
    model = made(latent, beta=beta).eval()  # of the mean: nothing is drawn
    x = torch.randn(21, 3)
    args = (data.edge_index, data.batch, data.edge_weight)
    mu, log_std, hierarchy = model.encode(x, *args)
    error = ((model.decode(mu, hierarchy) - x) ** 2).mean()
    each = 0.5 * (mu**2 + (2 * log_std).exp() - 1) - log_std
    expected = error + beta * each.sum() / x.numel()
    torch.testing.assert_close(model.loss(x, *args), expected)
    torch.testing.assert_close(model(x, *args), model.decode(mu, hierarchy))


# --- the latent


def test_shapes_and_graphs_without_nodes():
    data = random_batch(sizes=(12, 9))
    x, nodes, graph = torch.randn(21, 3), made(), made("graph")
    mu, log_std, hierarchy = nodes.encode(x, data.edge_index, data.batch)
    assert mu.shape == log_std.shape == (hierarchy.levels[-1].num_nodes, 4)
    mu, log_std, _ = graph.encode(x, data.edge_index, 2 * data.batch, batch_size=5)
    assert mu.shape == log_std.shape == (5, 4)
    assert not bool(mu[[1, 3, 4]].any())
    with pytest.raises(ValueError, match="'batch_size' must be at least 3.*2"):
        graph.encode(x, data.edge_index, 2 * data.batch, batch_size=2)
    mu, _, _ = graph.encode(x[:12], data.parts[0].edge_index)
    assert mu.shape == (1, 4)


def test_graph_latent_is_the_mean_of_the_coarsest_nodes_and_given_to_all():
    data = random_batch(sizes=(12, 9))
    x, model = torch.randn(21, 3), made("graph")
    mu, _, hierarchy = model.encode(x, data.edge_index, data.batch)
    z, _ = model.model.encode(x, data.edge_index, data.batch)
    ids = hierarchy.levels[-1].batch
    expected = torch.stack([z[ids == g].mean(0) for g in range(2)])
    torch.testing.assert_close(mu, expected)
    torch.testing.assert_close(model.decode(mu, hierarchy), model.model.decode(mu[ids], hierarchy))


def test_deviations_stay_within_what_squares():
    model = made().eval()
    with torch.no_grad():
        model.lin_log_std.weight.fill_(1e6)
    graph = random_graph(20, 60)
    mu, log_std, _ = model.encode(1e3 * torch.randn(20, 3), graph.edge_index)
    assert float(log_std.detach().abs().max()) == 10.0
    assert bool(model.kl(mu, log_std).isfinite())


def test_draws_in_training_alone_and_around_the_mean():
    graph, x = random_graph(20, 60), torch.randn(20, 3)
    model = made()
    torch.manual_seed(1)
    first = model(x, graph.edge_index)
    assert not torch.equal(model(x, graph.edge_index), first)
    torch.manual_seed(1)
    assert torch.equal(model(x, graph.edge_index), first)
    mu, log_std, hierarchy = model.encode(x, graph.edge_index)
    torch.manual_seed(1)
    z = mu + torch.randn_like(mu) * log_std.exp()
    torch.testing.assert_close(model.decode(z, hierarchy), first)
    model.eval()
    assert torch.equal(model(x, graph.edge_index), model(x, graph.edge_index))


def levels_of_two() -> Hierarchy:
    data = random_batch(sizes=(12, 9))
    return GraphUNetAutoEncoder(3, 8, 4, depth=2).prepare(data.edge_index, batch=data.batch)


def test_a_latent_of_more_graphs_than_have_nodes_is_taken():
    z, model, levels = torch.randn(4, 4), made("graph"), levels_of_two()
    assert torch.equal(model.decode(z, levels), model.decode(z[:2], levels))


# --- samples


@pytest.mark.parametrize("latent", ["nodes", "graph"])
def test_samples_need_a_graph_alone(latent):
    data = random_batch(sizes=(12, 1))
    model = made(latent)
    options = {"batch": data.batch}
    torch.manual_seed(3)
    out = model.sample(data.edge_index, data.edge_weight, **options)
    assert out.shape == (13, 3)
    assert not out.requires_grad
    levels = model.model.prepare(data.edge_index, data.edge_weight, batch=data.batch)
    torch.manual_seed(3)
    rows = 2 if latent == "graph" else levels.levels[-1].num_nodes
    z = torch.randn(rows, 4)
    torch.testing.assert_close(out, model.decode(z, levels))
    # The draws are of the generator's alone, where one is given.
    drawn = [
        model.sample(levels, generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    state = torch.get_rng_state()
    model.sample(levels, generator=torch.Generator().manual_seed(4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("latent", ["nodes", "graph"])
def test_samples_of_one_graph_and_of_many(latent):
    graph, model = random_graph(20, 60), made(latent)
    assert model.sample(graph.edge_index, num_nodes=20).shape == (20, 3)
    assert model.sample(graph.edge_index, num_nodes=25).shape == (25, 3)
    batch = torch.tensor([0] * 12 + [2] * 8)
    apart = graph.edge_index[:, batch[graph.edge_index[0]] == batch[graph.edge_index[1]]]
    assert model.sample(apart, batch=batch, batch_size=5).shape == (20, 3)


def test_learns_the_distribution_of_what_it_saw():
    """Of features 3 + 2 z on rings, one z each: mean and deviation, the latter from below."""
    torch.manual_seed(0)
    ring = torch.arange(16)
    edges = torch.stack([torch.cat([ring, ring.roll(1)]), torch.cat([ring.roll(1), ring])])
    model = VariationalAutoEncoder(GraphUNetAutoEncoder(1, 16, 2, depth=2), "graph")
    many, batch, _ = repeat_graph(edges, 16, 64)
    levels = model.model.prepare(many, batch=batch)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(100):
        x = (3.0 + 2.0 * torch.randn(64, 1)).repeat_interleave(16, dim=0)
        optimiser.zero_grad()
        model.loss(x, levels).backward()
        optimiser.step()
    drawn = torch.cat([model.sample(levels).view(64, 16).mean(1) for _ in range(10)])
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.5)
    assert 1.0 < float(drawn.std()) < 2.5


# --- batch, order, gradients, parts


@pytest.mark.parametrize("latent", ["nodes", "graph"])
def test_batch_equals_alone(latent):
    data = random_batch(dtype=torch.float64)
    model = made(latent).double().eval()
    x = torch.randn(data.num_nodes, 3, dtype=torch.float64)
    together = model(x, data.edge_index, data.batch, data.edge_weight)
    for part, start in zip(data.parts, data.offsets):
        rows = slice(start, start + part.num_nodes)
        alone = model(x[rows], part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(together[rows], alone)


@pytest.mark.parametrize("latent", ["nodes", "graph"])
def test_renamed_nodes_rename_the_result(latent):
    graph, order = random_graph(40, 120, dtype=torch.float64), torch.randperm(40)
    renamed, model = permuted(graph, order), made(latent).double().eval()
    x = torch.randn(40, 3, dtype=torch.float64)
    first = model(x, graph.edge_index, None, graph.edge_weight)
    second = model(x[order], renamed.edge_index, None, renamed.edge_weight)
    torch.testing.assert_close(second, first[order])


@pytest.mark.parametrize("latent", ["nodes", "graph"])
def test_gradients_reach_every_part(latent):
    graph, model = random_graph(9, 22, dtype=torch.float64), made(latent).double()
    x = torch.randn(9, 3, dtype=torch.float64)

    def function(x):
        torch.manual_seed(5)
        mu, log_std, hierarchy = model.encode(x, graph.edge_index, None, graph.edge_weight)
        z = mu + torch.randn_like(mu) * log_std.exp()
        return model.decode(z, hierarchy), model.kl(mu, log_std)

    assert torch.autograd.gradcheck(function, x.requires_grad_())
    model.loss(x.detach(), graph.edge_index).backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert all(not bool((p == 7.0).any()) for p in model.parameters())


@pytest.mark.parametrize(
    "call, error, match",
    [
        (
            lambda: VariationalAutoEncoder(GraphUNet(3, 8, 4, 2)),
            TypeError,
            "'model' must be a GraphUNetAutoEncoder.*GraphUNet",
        ),
        (
            lambda: made("graph").decode(torch.zeros(1, 4), levels_of_two()),
            ValueError,
            r"'z' must hold a row for each graph, 2 of them.*\[1, 4\]",
        ),
        (
            lambda: made("graph").decode(torch.zeros(4), levels_of_two()),
            ValueError,
            r"'z'.*2 of them.*\[4\]",
        ),
        (
            lambda: made("graph").decode(torch.full((2, 4), math.nan), levels_of_two()),
            ValueError,
            "'z' must be finite.*nan",
        ),
        (lambda: made("graph").decode(None, levels_of_two()), TypeError, "'z' must be a torch"),
        (lambda: made("graph").decode(torch.zeros(1, 4), 3), TypeError, "'hierarchy'.*3"),
        (lambda: made("edges"), ValueError, "'latent' must be one of 'nodes', 'graph'.*'edges'"),
        (lambda: made(beta=-1.0), ValueError, "'beta'.*-1.0"),
        (lambda: made(free_bits=-0.1), ValueError, "'free_bits'.*-0.1"),
        (
            lambda: made(inner={"select": "topk"}).sample(torch.zeros(2, 0, dtype=torch.long)),
            ValueError,
            "'model' must select by the graph alone.*select='topk'",
        ),
        (
            lambda: made().sample(torch.zeros(2, 0, dtype=torch.long), num_nodes=3, generator=4),
            TypeError,
            "'generator'.*4",
        ),
        (
            lambda: made().sample(torch.tensor([[0], [5]]), num_nodes=3),
            IndexError,
            "'edge_index'.*5",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_repr():
    assert "latent='graph', beta=2.0, free_bits=0.0" in repr(made("graph", beta=2))
