"""Models under the transforms of ``torch.func``, against the autograd that they stand on."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap
from torch_geometric.nn import GCNConv, SAGEConv

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    SegmentationUNet,
    repeat_graph,
    validation,
)

N = 12
RING = torch.arange(N)
EDGES = torch.cat([torch.stack([RING, (RING + s) % N]) for s in (1, 4, N - 1, N - 4)], dim=1)
BATCH = torch.arange(N) // 6
APART = EDGES[:, BATCH[EDGES[0]] == BATCH[EDGES[1]]]
WORDS = {"select": "spread", "reduce": "mean", "lift": "interpolate"}


def spread(channels, ratio):
    return GPool(channels, ratio, select="spread", connect="contract", quantiles=1)


MODELS = {
    **{c: lambda c=c: GraphUNet(3, 4, 2, 2, connect=c) for c in ("two_hop", "induced", "walk")},
    "sampled": lambda: GraphUNet(3, 4, 2, 2, connect="sampled"),
    "contract": lambda: GraphUNet(3, 4, 2, 2, connect="contract", **WORDS),
    "two_hop, GCNConv": lambda: GraphUNet(3, 4, 2, 2, conv=GCNConv),
    "contract, SAGEConv": lambda: GraphUNet(3, 4, 2, 2, connect="contract", conv=SAGEConv, **WORDS),
    "propagate": lambda: GraphUNet(3, 4, 2, 2, connect="induced", lift="propagate"),
    "auto-encoder": lambda: GraphUNetAutoEncoder(3, 4, 2, 2),
    "mixed": lambda: MixedGraphUNet(3, 4, 2, 1),
    "mixed without levels": lambda: MixedGraphUNet(3, 4, 2, 0),
    "official": lambda: OfficialGraphUNet(3, 4, 2, 2),
    "segmentation": lambda: SegmentationUNet(3, 4, 2, 2),
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_equal_those_of_autograd(name, batched):
    torch.manual_seed(1)
    model = MODELS[name]().double().eval()
    x = torch.randn(N, 3, dtype=torch.float64)
    args = (APART, BATCH) if batched else (EDGES,)

    def outcome(x):
        return model(x, *args).tanh()

    expected = torch.autograd.functional.jacobian(outcome, x)
    torch.testing.assert_close(grad(lambda x: outcome(x).sum())(x), expected.sum((0, 1)))
    torch.testing.assert_close(jacrev(outcome)(x), expected)
    if name != "sampled":  # vmap, which jacfwd stands on, asks how to draw
        torch.testing.assert_close(jacfwd(outcome)(x), expected)

    params = {key: value.detach() for key, value in model.named_parameters()}
    found = grad(lambda p: functional_call(model, p, (x, *args)).square().sum())(params)
    model(x, *args).square().sum().backward()
    for key, parameter in model.named_parameters():
        other = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[key], other)


@pytest.mark.parametrize("name", ["induced", "contract"])
def test_second_derivatives(name):
    torch.manual_seed(1)
    model = MODELS[name]().double().eval()
    x = torch.randn(N, 3, dtype=torch.float64)

    def outcome(x):
        return model(x, EDGES).tanh().square().sum()

    expected = torch.autograd.functional.hessian(outcome, x)
    torch.testing.assert_close(hessian(outcome)(x), expected)


@pytest.mark.parametrize("conv", [None, SAGEConv])
def test_many_signals_on_levels_made_once(conv):
    """Per-sample gradients in one call; `repeat_graph` is the same without torch.func."""
    model = GraphUNet(3, 4, 2, 2, pool=spread, connect="contract", conv=conv, lift="interpolate")
    x = torch.randn(5, N, 3)
    levels = model.prepare(EDGES, num_nodes=N)
    params = dict(model.named_parameters())

    def loss(params, x):
        return functional_call(model, params, (x, levels)).square().sum()

    with validation(False):
        out = vmap(lambda x: model(x, levels))(x)
        each = vmap(grad(loss), (None, 0))(params, x)
    torch.testing.assert_close(out, torch.stack([model(one, EDGES) for one in x]))
    for i, one in enumerate(x):
        single = torch.autograd.grad(loss(params, one), list(params.values()), allow_unused=True)
        for key, value in zip(params, single):
            value = torch.zeros_like(params[key]) if value is None else value
            torch.testing.assert_close(each[key][i], value, rtol=1e-4, atol=1e-4)
    many, batch, _ = repeat_graph(EDGES, N, 5)
    torch.testing.assert_close(model(x.view(-1, 3), many, batch), out.reshape(-1, 2))


def test_levels_that_would_differ_within_a_batch_are_refused_by_name():
    model = GraphUNet(3, 4, 2, 1, conv=GCNConv)
    with validation(False), pytest.raises(NotImplementedError, match="'edge_weight' and 'perm'"):
        vmap(lambda w: model(torch.ones(N, 3), EDGES, None, w))(torch.rand(2, EDGES.size(1)))
    model = GraphUNet(3, 4, 2, 1, connect="induced")
    with validation(False), pytest.raises(ValueError, match="'edge_index' and what is selected"):
        vmap(lambda x: model(x, EDGES))(torch.randn(2, N, 3))
