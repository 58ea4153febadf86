"""gPool and gUnpool between PyG's convolutions, and PyG's parts of a pooling with ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import SelectTopK

from pyg_gunet import GPool, GraphUNet, GUnpool
from pyg_gunet.nn.connect import TwoHopConnect
from pyg_gunet.nn.select import GPoolSelect
from tests.conftest import dense_two_hop, permuted, random_batch, random_graph, to_dense

CONVS: dict[str, Callable[[int, int], torch.nn.Module]] = {
    "ARMA": lambda i, o: pyg.ARMAConv(i, o, num_layers=2),
    "Cheb": lambda i, o: pyg.ChebConv(i, o, K=3),
    "ClusterGCN": pyg.ClusterGCNConv,
    "GAT": lambda i, o: pyg.GATConv(i, o, heads=2, concat=False),
    "GATv2": lambda i, o: pyg.GATv2Conv(i, o, heads=2, concat=False),
    "GCN": pyg.GCNConv,
    "GEN": lambda i, o: pyg.GENConv(i, o, norm="layer"),
    "GIN": lambda i, o: pyg.GINConv(pyg.MLP([i, o, o], norm=None)),
    "Graph": pyg.GraphConv,
    "LEConv": pyg.LEConv,
    "ResGated": pyg.ResGatedGraphConv,
    "SAGE": pyg.SAGEConv,
    "SG": lambda i, o: pyg.SGConv(i, o, K=2),
    "TAG": pyg.TAGConv,
    "Transformer": lambda i, o: pyg.TransformerConv(i, o, heads=2, concat=False),
}


class Net(torch.nn.Module):
    """A convolution, gPool, a convolution, gUnpool, a skip connection, a convolution."""

    def __init__(self, conv: Callable[[int, int], torch.nn.Module], **options) -> None:
        super().__init__()
        self.stem, self.coarse, self.head = conv(3, 8), conv(8, 8), conv(8, 2)
        self.pool, self.unpool = GPool(8, 0.5, **options), GUnpool()
        self.weighted = "edge_weight" in inspect.signature(self.stem.forward).parameters

    def convolve(self, conv: torch.nn.Module, x: Tensor, edges: Tensor, weight: Tensor | None):
        return conv(x, edges, edge_weight=weight) if self.weighted else conv(x, edges)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        x = self.convolve(self.stem, x, edge_index, weight).tanh()
        low = self.pool(x, edge_index, weight, batch)
        up = self.convolve(self.coarse, low.x, low.edge_index, low.edge_attr).tanh()
        x = x + self.unpool(up, low.perm, x.size(0))
        return self.convolve(self.head, x, edge_index, weight)


@pytest.mark.parametrize("connect", ["induced", "two_hop", "contract"])
@pytest.mark.parametrize("name", CONVS)
def test_a_pool_between_two_convolutions(name, connect):
    """Every weight learns; a batch is its graphs; renamed nodes rename the result."""
    torch.manual_seed(0)
    net = Net(CONVS[name], connect=connect).eval()
    data = random_batch(sizes=(12, 9, 20))
    x = torch.randn(data.num_nodes, 3)
    weight = data.edge_weight if net.weighted else None
    out = net(x, data.edge_index, data.batch, weight)
    out.square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key
    assert bool(net.pool.select.weight.grad.any())

    graph, start = data.parts[2], data.offsets[2]
    alone = net(x[start:], graph.edge_index, None, graph.edge_weight if net.weighted else None)
    torch.testing.assert_close(alone, out[start:], atol=1e-5, rtol=1e-4)

    order = torch.randperm(graph.num_nodes)
    renamed = permuted(graph, order)
    again = net(
        x[start:][order], renamed.edge_index, None, renamed.edge_weight if net.weighted else None
    )
    torch.testing.assert_close(again, alone[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONVS)
def test_a_unet_of_any_convolution(name):
    """The U-Net with a convolution is the same chain of layers written out by hand."""
    torch.manual_seed(0)
    net = Net(CONVS[name], connect="two_hop").eval()
    model = GraphUNet(3, 8, 2, depth=1, act="tanh", conv=CONVS[name]).eval()
    for ours, theirs in (
        (model.down_convs[0], net.stem),
        (model.down_convs[1], net.coarse),
        (model.up_convs[0], net.head),
        (model.pools[0], net.pool),
    ):
        ours.load_state_dict(theirs.state_dict())
    graph = random_graph(30, 90)
    x = torch.randn(30, 3)
    weight = graph.edge_weight if net.weighted else None
    torch.testing.assert_close(
        model(x, graph.edge_index, None, weight), net(x, graph.edge_index, None, weight)
    )


# Select and Connect -----------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["topk", "spread"])
def test_our_selection_with_pygs_connection(select):
    """gPool in parts: Select, the gate, PyG's FilterEdges."""
    data = random_batch(sizes=(12, 9, 20))
    x = torch.randn(data.num_nodes, 3)
    pool = GPool(3, 0.5, select=select)
    expected = pool(x, data.edge_index, data.edge_weight, data.batch)
    choice = pool.select(x, data.batch, data.edge_index)
    assert isinstance(pool.select, GPoolSelect)
    assert torch.equal(choice.node_index, expected.perm)
    out = FilterEdges()(choice, data.edge_index, data.edge_weight, data.batch)
    assert torch.equal(out.edge_index, expected.edge_index)
    assert torch.equal(out.edge_attr, expected.edge_attr)
    assert torch.equal(out.batch, expected.batch)
    gated = x[choice.node_index] * choice.weight.view(-1, 1)
    torch.testing.assert_close(gated, expected.x)


def test_pygs_selection_with_our_connection():
    """PyG's SelectTopK, then the two-hop walks between what it kept: the dense square."""
    data = random_batch(sizes=(12, 9, 20))
    x = torch.randn(data.num_nodes, 3)
    choice = SelectTopK(3, 0.5)(x, data.batch)
    out = TwoHopConnect()(choice, data.edge_index, data.edge_weight, data.batch)
    assert torch.equal(out.batch, data.batch[choice.node_index])
    graph = random_graph(1, 0)._replace(
        edge_index=data.edge_index, edge_weight=data.edge_weight, num_nodes=data.num_nodes
    )
    size = choice.node_index.numel()
    found = to_dense(out.edge_index, out.edge_attr, size)
    torch.testing.assert_close(found, dense_two_hop(graph.dense(), choice.node_index))


def test_a_sag_selection_with_our_connection():
    """Any selection of PyG will do: here the attention scores of SAGPooling, kept whole."""
    graph = random_graph(20, 60)
    x = torch.randn(20, 3)
    theirs = pyg.SAGPooling(3, 0.5)
    attention = theirs.gnn(x, graph.edge_index)
    choice = theirs.select(attention, torch.zeros(20, dtype=torch.long))
    pooled, _, _, _, perm, _ = theirs(x, graph.edge_index)
    assert torch.equal(choice.node_index, perm)
    out = TwoHopConnect()(choice, graph.edge_index, graph.edge_weight)
    assert out.batch is None
    found = to_dense(out.edge_index, out.edge_attr, perm.numel())
    torch.testing.assert_close(found, dense_two_hop(graph.dense(), perm))
    torch.testing.assert_close(pooled, x[perm] * choice.weight.view(-1, 1))
