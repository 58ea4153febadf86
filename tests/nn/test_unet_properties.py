"""Every option of GraphUNet: nodes may come in any order, and gradients are right, in float64."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GraphConv

from pyg_gunet import GraphUNet
from tests.conftest import permuted, random_graph

OPTIONS = {
    "residual output": {"residual": "output"},
    "residual none": {"residual": "none"},
    "stem": {"stem": True},
    "official": {"stem": True, "residual": "output", "select": "spread"},
    "cat": {"sum_res": False, "connect": "induced"},
    "batch norm": {"norm": "batch"},
    "graph norm": {"norm": "graph", "connect": "walk"},
    "sigmoid": {"gate": "sigmoid", "select": "spread"},
    "tanh": {"gate": "tanh", "connect": "walk", "stem": True},
    "propagate": {"propagate": 3, "teleport": 0.2},
    "propagate walk": {"propagate": 2, "connect": "walk", "residual": "none"},
    "mix": {"mix": 3, "residual": "none", "select": "spread"},
    "mix conv": {"mix": 2, "conv": GraphConv},
    "quantiles": {"select": "spread", "quantiles": 4},
    "sampled": {"connect": "sampled", "max_degree": 64},
    "conv": {"conv": GraphConv, "propagate": 2, "stem": True},
    "cached": {"cached": True, "residual": "output"},
    "edge dropout": {"edge_dropout": 0.4, "cached": True},
}


def made(*sizes, **options) -> GraphUNet:
    """With a share of its U that is not zero, as it is at the start of training with `mix`."""
    model = GraphUNet(*sizes, **options).double()
    if model.share is not None:
        torch.nn.init.constant_(model.share, 0.5)
    return model


@pytest.mark.parametrize("name", OPTIONS)
def test_the_order_of_nodes_does_not_matter(name):
    torch.manual_seed(0)
    graph = random_graph(24, 60, dtype=torch.float64)
    x = torch.randn(24, 4, dtype=torch.float64)
    order = torch.randperm(24)
    other = permuted(graph, order)
    model = made(4, 6, 3, 2, act="elu", **OPTIONS[name]).eval()
    out = model(x, graph.edge_index, None, graph.edge_weight)
    model.levels.reset()
    again = model(x[order], other.edge_index, None, other.edge_weight)
    assert out.std() > 1e-4
    torch.testing.assert_close(again, out[order])


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name):
    torch.manual_seed(1)
    graph = random_graph(7, 18, dtype=torch.float64)
    x = torch.randn(7, 2, dtype=torch.float64)
    model = made(2, 3, 2, 2, act="tanh", **OPTIONS[name])

    upstream = torch.randn(7, 2, dtype=torch.float64)
    inputs = {"x": x, **dict(model.named_parameters())}
    ways = [{key: torch.randn_like(value) for key, value in inputs.items()} for _ in range(2)]

    def along(*steps):
        """The output, weighted at random, a step along random directions of all inputs."""
        moved = {
            key: value + sum(step * way[key] for step, way in zip(steps, ways))
            for key, value in inputs.items()
        }
        given = moved.pop("x"), graph.edge_index, None, graph.edge_weight
        torch.manual_seed(2)  # of what is dropped, or sampled
        return (torch.func.functional_call(model, moved, given) * upstream).sum()

    zeros = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in ways]
    assert torch.autograd.gradcheck(along, zeros)
    assert all(grad.abs() > 1e-6 for grad in torch.autograd.grad(along(*zeros), zeros))


def test_dropped_features_and_nodes_get_no_gradient():
    torch.manual_seed(3)
    graph = random_graph(40, 120, dtype=torch.float64)
    model = GraphUNet(3, 6, 2, 1, act="tanh", input_dropout=0.3, node_dropout=0.3).double()
    x = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)

    def output(x):
        torch.manual_seed(4)
        return model(x, graph.edge_index, None, graph.edge_weight)

    gone = torch.autograd.grad(output(x).square().sum(), x)[0] == 0
    assert bool(gone.all(1).any())
    assert not bool(gone.all())
    moved = x.detach() + gone  # entries that were dropped may be anything
    torch.testing.assert_close(output(moved), output(x))
    assert torch.autograd.gradcheck(output, (x,), fast_mode=True)
