from __future__ import annotations

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_torch_coo_tensor

from pyg_gunet import GraphUNet
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.nn.conv import UNetConv, takes
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
    out = conv(x, build(graph))
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
    propagation = build(graph, torch.float64)
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
    out = conv(x, build(graph, dtype))
    assert out.dtype == dtype
    out.sum().backward()
    assert x.grad.dtype == dtype
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("channels", [(3, 5), (5, 3)])
def test_autocast(channels):
    graph = random_graph(12, 40)
    conv = UNetConv(*channels)
    propagation = build(graph)
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
        UNetConv(3, 5)(torch.randn(12, 3), build(graph), graph.edge_weight)


@pytest.mark.parametrize("channels", [(3, 5), (5, 3)])
def test_a_sparse_matrix_as_pyg_takes_it(channels):
    graph = random_graph(12, 40)
    conv, x = UNetConv(*channels), torch.randn(12, channels[0])
    adj_t = to_torch_coo_tensor(graph.edge_index.flip(0), graph.edge_weight, 12)
    reference = GCNConv(*channels, improved=True)
    reference.load_state_dict(conv.state_dict())
    torch.testing.assert_close(conv(x, adj_t), reference(x, adj_t))


@pytest.mark.parametrize(
    "register",
    [
        f"register_{part}_forward{kind}_hook"
        for part in ("propagate", "message", "aggregate")
        for kind in ("_pre", "")
    ],
)
@pytest.mark.parametrize("directed", [False, True])
def test_hooks_of_any_kind_see_messages_of_a_prepared_graph(register, directed):
    graph = random_graph(30, 100, directed=directed)
    conv, x = UNetConv(3, 5), torch.randn(30, 3)
    plain, seen = conv(x, build(graph)), []
    handle = getattr(conv, register)(lambda *inputs: seen.append(inputs) and None)
    torch.testing.assert_close(conv(x, build(graph)), plain)
    assert len(seen) == 1
    handle.remove()
    assert torch.equal(conv(x, build(graph)), plain)
    assert len(seen) == 1


# --- what a convolution takes is declared or told by its arguments, never guessed


class Opaque(torch.nn.Module):
    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.inner = GCNConv(*channels)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Declared(Opaque):
    supports_edge_weight = True
    supports_edge_attr = False


def test_what_a_convolution_takes():
    assert takes(GCNConv(2, 2), "edge_weight")
    assert not takes(pyg.SAGEConv(2, 2), "edge_weight")
    assert takes(pyg.GATv2Conv(2, 2, edge_dim=1), "edge_attr")
    assert takes(torch.compile(GCNConv(2, 2)), "edge_weight")
    assert not takes(torch.compile(pyg.SAGEConv(2, 2)), "edge_weight")


def test_a_convolution_has_to_tell():
    assert takes(Declared(2, 2), "edge_weight")
    assert not takes(Declared(2, 2), "edge_attr")
    with pytest.raises(ValueError, match=r"'edge_weight'.*Opaque.*'supports_edge_weight'.*kwargs"):
        takes(Opaque(2, 2), "edge_weight")
    with pytest.raises(ValueError, match=r"'edge_weight'.*Opaque.*'supports_edge_weight'"):
        GraphUNet(3, 6, 2, 2, conv=Opaque)
