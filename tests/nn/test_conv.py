from __future__ import annotations

import pytest
import torch
from pyg_gunet.functional.adjacency import Adjacency
from torch_geometric.nn import GCNConv

from pyg_gunet.nn.conv import UNetConv
from tests.conftest import random_graph


def build(graph, dtype=torch.float32):
    return Adjacency.from_edge_index(*graph, dtype)


@pytest.mark.parametrize("channels", [(3, 8), (8, 3), (4, 4)])
@pytest.mark.parametrize("directed", [False, True])
def test_a_prepared_propagation_equals_pyg(channels, directed):
    graph = random_graph(30, 100, directed=directed)
    conv, reference = UNetConv(*channels), GCNConv(*channels, improved=True)
    conv.load_state_dict(reference.state_dict())
    torch.nn.init.normal_(conv.bias)
    reference.load_state_dict(conv.state_dict())
    x = torch.randn(30, channels[0], requires_grad=True)
    expected = reference(x, *graph[:2])
    torch.testing.assert_close(conv(x, *graph[:2]), expected)
    out = conv(x, build(graph).propagation())
    torch.testing.assert_close(out, expected)
    upstream = torch.randn_like(out)
    grads = torch.autograd.grad(out, [x, *conv.parameters()], upstream)
    others = torch.autograd.grad(expected, [x, *reference.parameters()], upstream)
    torch.testing.assert_close(grads, others, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights():
    torch.manual_seed(1)
    ours = UNetConv(4, 7).state_dict()
    torch.manual_seed(1)
    theirs = GCNConv(4, 7, improved=True).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("channels", [(2, 4), (4, 2)])
def test_gradcheck(channels):
    graph = random_graph(6, 15, dtype=torch.float64)
    conv = UNetConv(*channels).double()
    propagation = build(graph, torch.float64).propagation()
    x = torch.randn(6, channels[0], dtype=torch.float64, requires_grad=True)

    def function(x, *params):
        named = dict(zip(dict(conv.named_parameters()), params))
        return torch.func.functional_call(conv, named, (x, propagation))

    inputs = (x, *conv.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    graph = random_graph(12, 40)
    conv = UNetConv(3, 5).to(dtype)
    x = torch.randn(12, 3, dtype=dtype, requires_grad=True)
    out = conv(x, build(graph, dtype).propagation())
    assert out.dtype == dtype
    out.sum().backward()
    assert x.grad.dtype == dtype
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("channels", [(3, 5), (5, 3)])
def test_autocast(channels):
    graph = random_graph(12, 40)
    conv = UNetConv(*channels)
    propagation = build(graph).propagation()
    x = torch.randn(12, channels[0], requires_grad=True)
    expected = conv(x, propagation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(x, propagation)
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    out.float().sum().backward()
    assert bool(torch.isfinite(x.grad).all())


def test_weights_beside_a_propagation_are_refused():
    graph = random_graph(12, 40)
    with pytest.raises(ValueError, match="'edge_weight'"):
        UNetConv(3, 5)(torch.randn(12, 3), build(graph).propagation(), graph.edge_weight)
