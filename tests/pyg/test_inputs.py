"""Every form in which PyG hands a graph around gives what the plain tensors give."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric import EdgeIndex, typing
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn import GCNConv, GraphConv, SAGEConv, Sequential, global_add_pool
from torch_geometric.transforms import ToSparseTensor
from torch_geometric.utils import to_torch_coo_tensor, to_torch_csc_tensor, to_torch_csr_tensor

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    GUnpool,
    SegmentationUNet,
)
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.functional.sampled import sampled_two_hop
from pyg_gunet.graph.adjacency import Adjacency
from pyg_gunet.graph.inputs import as_edges
from pyg_gunet.graph.walk import Walk
from tests.conftest import awake

NUM_NODES = 12


def directed() -> tuple[Tensor, Tensor]:
    """Weighted, directed and with a self loop, each pair once: a transposition would show."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(NUM_NODES, NUM_NODES, generator=generator)
    dense = dense * (torch.rand(NUM_NODES, NUM_NODES, generator=generator) < 0.25)
    dense[3, 3] = 0.5
    edge_index = dense.nonzero().t().contiguous()
    return edge_index, dense[edge_index[0], edge_index[1]]


def sparse_tensor(adj_t: Tensor, weight: Tensor) -> object:
    if not typing.WITH_TORCH_SPARSE:
        pytest.skip("torch-sparse is not installed: no SparseTensor")
    size = (NUM_NODES, NUM_NODES)
    return typing.SparseTensor(row=adj_t[0], col=adj_t[1], value=weight, sparse_sizes=size)


# From edges of the transpose (targets first) and weights to a sparse `adj_t`.
SPARSE = {
    "coo": lambda adj_t, weight: to_torch_coo_tensor(adj_t, weight, NUM_NODES),
    "csr": lambda adj_t, weight: to_torch_csr_tensor(adj_t, weight, NUM_NODES),
    "csc": lambda adj_t, weight: to_torch_csc_tensor(adj_t, weight, NUM_NODES),
    # Two entries per edge, not yet summed.
    "uncoalesced": lambda adj_t, weight: torch.sparse_coo_tensor(
        adj_t.repeat(1, 2), (weight / 2).repeat(2), (NUM_NODES, NUM_NODES)
    ),
    "SparseTensor": sparse_tensor,
}


def adj_t_of(kind: str, edge_index: Tensor, weight: Tensor) -> object:
    # By target, then source, as the compressed forms want it.
    order = (edge_index[1] * NUM_NODES + edge_index[0]).argsort()
    return SPARSE[kind](edge_index.flip(0)[:, order], weight[order])


def models(connect: str) -> list[torch.nn.Module]:
    made = [
        GraphUNet(3, 8, 2, 2, connect=connect),
        GraphUNetAutoEncoder(3, 8, 4, 2, connect=connect),
        SegmentationUNet(3, 8, 2, 2, connect=connect),
    ]
    return [awake(model) for model in made]


@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract", "walk"])
@pytest.mark.parametrize("kind", SPARSE)
def test_models_read_a_sparse_matrix_as_pyg_does(kind, connect):
    """As the transposed adjacency: PyG's own convolution is the oracle of the direction."""
    edge_index, weight = directed()
    x = torch.randn(NUM_NODES, 3)
    adj_t = adj_t_of(kind, edge_index, weight)
    conv = GraphConv(3, 4)
    if kind != "uncoalesced":  # which PyG's convolution does not sum
        torch.testing.assert_close(conv(x, adj_t), conv(x, edge_index, weight))
    for model in models(connect):
        expected = model(x, edge_index, None, weight)
        torch.testing.assert_close(model(x, adj_t), expected)
        with pytest.raises(ValueError, match="'edge_weight' must be None with a sparse"):
            model(x, adj_t, None, weight)
        other = model(x, edge_index.flip(0), None, weight)
        assert (other - expected).abs().max() > 1e-3  # the test would see a transposition


@pytest.mark.parametrize("connect", ["two_hop", "induced", "contract"])
@pytest.mark.parametrize("select", ["topk", "spread"])
@pytest.mark.parametrize("kind", SPARSE)
def test_gpool_pools_a_sparse_matrix_into_edges(kind, select, connect):
    edge_index, weight = directed()
    x = torch.randn(NUM_NODES, 3)
    pool = GPool(3, 0.6, select=select, connect=connect)
    expected = pool(x, edge_index, weight)
    out = pool(x, adj_t_of(kind, edge_index, weight))
    assert torch.equal(out.perm, expected.perm)
    torch.testing.assert_close(out.x, expected.x)

    def dense(pooled) -> Tensor:
        size = pooled.perm.numel()
        return torch.zeros(size, size).index_put(tuple(pooled.edge_index), pooled.edge_attr)

    torch.testing.assert_close(dense(out), dense(expected))
    with pytest.raises(ValueError, match="'edge_attr' must be None with a sparse"):
        pool(x, adj_t_of(kind, edge_index, weight), weight)


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "SparseTensor"])
def test_gradients_reach_the_values_of_a_sparse_matrix(kind):
    edge_index, weight = directed()
    x = torch.randn(NUM_NODES, 3)
    pool, conv = GPool(3, connect="two_hop"), GCNConv(3, 2)
    grads = []
    for sparse in (True, False):
        leaf = weight.clone().requires_grad_()
        edges = (adj_t_of(kind, edge_index, leaf),) if sparse else (edge_index, leaf)
        out = pool(x, *edges)
        conv(out.x, out.edge_index, out.edge_attr).square().sum().backward()
        grads.append(leaf.grad)
    assert grads[1].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1])


def test_functions_take_sparse_matrices_and_edge_indices():
    edge_index, weight = directed()
    adj_t = adj_t_of("csr", edge_index, weight)
    perm = torch.tensor([7, 3, 0, 9, 4])
    for function in (two_hop, sampled_two_hop, contract):  # sorted results
        for index, value in zip(
            function(adj_t, None, perm, NUM_NODES), function(edge_index, weight, perm, NUM_NODES)
        ):
            torch.testing.assert_close(index, value)
    kept = EdgeIndex(edge_index, sparse_size=(NUM_NODES, NUM_NODES))
    for a, b in zip(
        induced(kept, weight, perm, NUM_NODES), induced(edge_index, weight, perm, NUM_NODES)
    ):
        assert type(a) is Tensor
        assert torch.equal(a, b)
    x = torch.randn(NUM_NODES, 2)
    for kind in (Walk, Adjacency):
        level = kind.from_edge_index(adj_t, None, NUM_NODES)
        same = kind.from_edge_index(edge_index, weight, NUM_NODES)
        torch.testing.assert_close(level.propagate(x), same.propagate(x))


@pytest.mark.parametrize("undirected", [False, True])
def test_edge_index_of_pyg(undirected):
    edge_index, weight = directed()
    if undirected:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1).unique(dim=1).contiguous()
        weight = torch.ones(edge_index.size(1))
    given = EdgeIndex(
        edge_index, sparse_size=(NUM_NODES, NUM_NODES), is_undirected=undirected, sort_order="row"
    )
    x = torch.randn(NUM_NODES, 3)
    for connect in ("two_hop", "induced", "contract", "sampled", "walk"):
        model = GraphUNet(3, 8, 2, 2, connect=connect)
        torch.manual_seed(0)
        expected = model(x, edge_index, None, weight)
        torch.manual_seed(0)
        assert torch.equal(model(x, given, None, weight), expected)
    for select in ("topk", "spread"):
        out = GPool(3, select=select)(x, given)
        assert type(out.edge_index) is Tensor  # the pooled edges are of another size
        SAGEConv(3, 2)(out.x, out.edge_index)


def test_a_graph_without_weights_goes_with_any_convolution():
    """PyG stores ones in its sparse matrices; they are no weights that a SAGEConv would lose."""
    edge_index, weight = directed()
    x = torch.randn(NUM_NODES, 3)
    data = Data(x=x, edge_index=edge_index, num_nodes=NUM_NODES)
    for layout in (torch.sparse_csr, torch.sparse_coo):
        adj_t = ToSparseTensor(layout=layout)(copy.copy(data)).adj_t
        for conv in (None, SAGEConv):
            model = GraphUNet(3, 8, 2, 2, conv=conv)
            torch.testing.assert_close(model(x, adj_t), model(x, edge_index))
    model = GraphUNet(3, 8, 2, 2, conv=SAGEConv)
    with pytest.raises(ValueError, match="'edge_weight' goes with a 'conv'"):
        model(x, adj_t_of("csr", edge_index, weight))


@pytest.mark.parametrize("shape", [(NUM_NODES, NUM_NODES + 1), (NUM_NODES - 1,) * 2])
def test_sparse_matrices_of_another_size_are_refused(shape):
    adj_t = torch.ones(shape).to_sparse()
    x = torch.randn(NUM_NODES, 3)
    for model in (*models("two_hop"), GPool(3)):
        with pytest.raises(ValueError, match=r"'edge_index' as a sparse matrix .*\[12, 12\]"):
            model(x, adj_t)


def test_integer_values_are_refused():
    adj_t = torch.ones(NUM_NODES, NUM_NODES, dtype=torch.long).to_sparse()
    with pytest.raises(TypeError, match="values of 'edge_index' .*int64"):
        GPool(3)(torch.randn(NUM_NODES, 3), adj_t)


def test_other_things_reach_the_door_as_they_are():
    assert as_edges([[0], [1]], None, 2) == ([[0], [1]], None)
    with pytest.raises(TypeError, match="'edge_index' must be a torch.Tensor"):
        GPool(3)(torch.randn(2, 3), [[0], [1]])


# Containers -------------------------------------------------------------------------------------


def test_data_and_batch():
    """`model(data.x, data.edge_index, data.batch)` of a batch is that of its graphs."""
    edge_index, weight = directed()
    graphs = [
        Data(x=torch.randn(n, 3), edge_index=edge_index[:, (edge_index < n).all(0)])
        for n in (12, 7, 9)
    ]
    batch = Batch.from_data_list(graphs)
    for model in models("two_hop"):
        model.eval()
        alone = torch.cat([model(data.x, data.edge_index, data.batch) for data in graphs])
        torch.testing.assert_close(model(batch.x, batch.edge_index, batch.batch), alone)


def test_a_heterogeneous_graph_goes_in_as_a_homogeneous_one():
    hetero = HeteroData()
    hetero["paper"].x, hetero["author"].x = torch.randn(6, 3), torch.randn(4, 3)
    pairs = torch.tensor([[0, 1, 2, 3, 3, 0], [0, 1, 2, 3, 4, 5]])
    hetero["author", "writes", "paper"].edge_index = pairs
    hetero["paper", "of", "author"].edge_index = pairs.flip(0)
    data = hetero.to_homogeneous()
    pool = GPool(3, 0.5, connect="induced")
    out = pool(data.x, data.edge_index, data.edge_type)
    # The kind of every kept edge is that of the edge it was.
    names = [f"{a}>{b}:{t}" for a, b, t in zip(*data.edge_index.tolist(), data.edge_type.tolist())]
    kept = out.perm[out.edge_index].tolist()
    assert {f"{a}>{b}:{t}" for a, b, t in zip(*kept, out.edge_attr.tolist())} <= set(names)
    assert out.edge_index.size(1) > 0
    back = GUnpool()(out.x, out.perm, data.num_nodes)
    for i, kind in enumerate(("paper", "author")):
        assert back[data.node_type == i].shape == hetero[kind].x.shape
    assert GraphUNet(3, 8, 2, 2)(data.x, data.edge_index).shape == (10, 2)


def test_sequential():
    """gPool and gUnpool in PyG's Sequential, by the order of their arguments."""
    conv, pool, coarse, head = GCNConv(3, 8), GPool(8, 0.5), GCNConv(8, 8), GCNConv(8, 2)
    pooled = "x, edge_index, edge_weight, batch -> low, low_index, low_weight, low_batch, perm, _"
    net = Sequential(
        "x, edge_index, edge_weight, batch, num_nodes",
        [
            (conv, "x, edge_index, edge_weight -> x"),
            torch.nn.ReLU(),
            (pool, pooled),
            (coarse, "low, low_index, low_weight -> low"),
            (GUnpool(), "low, perm, num_nodes -> up"),
            (lambda x, up: x + up, "x, up -> x"),
            (head, "x, edge_index, edge_weight -> x"),
            (global_add_pool, "x, batch -> x"),
        ],
    )
    edge_index, weight = directed()
    x, batch = torch.randn(NUM_NODES, 3), torch.zeros(NUM_NODES, dtype=torch.long)
    h = conv(x, edge_index, weight).relu()
    out = pool(h, edge_index, weight, batch)
    up = torch.zeros_like(h)
    up[out.perm] = coarse(out.x, out.edge_index, out.edge_attr)
    expected = head(h + up, edge_index, weight).sum(0, keepdim=True)
    torch.testing.assert_close(net(x, edge_index, weight, batch, NUM_NODES), expected)
