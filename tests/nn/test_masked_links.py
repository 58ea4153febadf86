"""Links hidden in part and told from random pairs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.utils import to_undirected

from pyg_gunet import MaskedLinkEncoder
from pyg_gunet.functional.non_edges import non_edges


def graph(n: int = 20, edges: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(n - 1, (2, edges), generator=generator)  # the last is alone
    x = torch.randn(n, 5, generator=generator)
    return x.double(), to_undirected(edge_index[:, edge_index[0] != edge_index[1]], num_nodes=n)


def model(seed: int = 0, **options) -> MaskedLinkEncoder:
    torch.manual_seed(seed)
    return MaskedLinkEncoder(5, 8, **{"dropout": 0.0, "num_layers": 2, **options}).double()


def test_states_and_loss_are_their_formulas():
    """On dense matrices, edge by edge, with shares and pairs that are given."""
    x, edge_index = graph()
    weight = torch.rand(edge_index.size(1)).double()
    net, n = model(), x.size(0)
    states, shares = net(x, edge_index, edge_weight=weight)
    h = x
    for i, (z, share) in enumerate(zip(states, shares)):
        total = torch.zeros(n).double().index_add(0, edge_index[1], share)
        torch.testing.assert_close(total[total > 0], torch.ones_like(total[total > 0]))
        assert total[-1] == 0
        matrix = (
            torch.eye(n)
            .double()
            .index_put((edge_index[1], edge_index[0]), share * weight, accumulate=True)
        )
        root = matrix.sum(1).rsqrt()
        h = (root[:, None] * matrix * root) @ h @ net.convs[i].lin.weight.t()
        h = F.elu((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt())
        torch.testing.assert_close(z, h)
    assert not torch.equal(*shares)
    other = non_edges(edge_index, n)
    terms = []
    for z, share in zip(states, shares):
        told = [net.decoder(z[p[0]] * z[p[1]]).softmax(-1).log() for p in (edge_index, other)]
        terms.append(-share.mean() * told[0][:, 0].mean() - told[1][:, 1].mean())
    loss = net.loss(states, shares, edge_index, other)
    torch.testing.assert_close(loss, sum(terms) / 2)


def test_a_low_temperature_gives_a_target_to_one_edge():
    _, edge_index = graph()
    largest = [
        model(temperature=t).shares(edge_index, 20).amax().double() for t in (1e-3, 1.0, 1e6)
    ]
    assert largest[0] > 0.999
    sizes = edge_index[1].bincount()[edge_index[1]]
    torch.testing.assert_close(
        model(temperature=1e6).shares(edge_index, 20), 1 / sizes.float(), atol=1e-4, rtol=0
    )


def test_sparse_features_are_dense_ones_and_train_alike():
    x, edge_index = graph()
    x = x * (x > 1)
    for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        dense, sparse = model(), model()
        losses = []
        for net, given in ((dense, x), (sparse, x.to_sparse(layout=layout))):
            torch.manual_seed(1)
            losses.append(net.loss(*net(given, edge_index), edge_index))
            losses[-1].backward()
        torch.testing.assert_close(*losses)
        for a, b in zip(dense.parameters(), sparse.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
    net = model(dropout=0.5)
    net.convs[0].lin.weight.data.fill_(1.0)
    entered = [net.convs[0].lin(x.abs().to_sparse_csr()).detach() for _ in range(300)]
    mean = torch.stack(entered).mean(0)[:, 0]  # dropout keeps the mean, and drops entries
    torch.testing.assert_close(mean, x.abs().sum(1), atol=0.5, rtol=0)
    assert len({float(one.sum()) for one in entered}) > 200


def test_a_batch_is_its_graphs_and_nodes_have_no_order():
    parts = [graph(seed=seed, n=n) for seed, n in ((0, 20), (1, 9))]
    net = model().eval()
    x = torch.cat([part[0] for part in parts])
    edge_index = torch.cat([parts[0][1], parts[1][1] + 20], 1)
    batch = torch.tensor([0] * 20 + [1] * 9)
    whole = net.embed(x, edge_index, batch)
    torch.testing.assert_close(whole, torch.cat([net.embed(*part) for part in parts]))
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(29).double())
    order = torch.randperm(29)
    turned = net.embed(x[order], order.argsort()[edge_index])
    torch.testing.assert_close(turned, whole[order])
    assert whole.shape == (29, 16)


def test_gradients_copies_and_seeds():
    x, edge_index = graph(8, 14)
    net = model(act="tanh")
    x.requires_grad_()

    def loss(x):
        torch.manual_seed(2)
        return net.loss(*net(x, edge_index), edge_index)

    assert torch.autograd.gradcheck(loss, x)
    loss(x).backward()
    assert all(p.grad is not None for p in net.parameters())
    other = copy.deepcopy(net)
    torch.manual_seed(2)
    assert torch.equal(other.loss(*other(x, edge_index), edge_index), loss(x))
    assert not torch.equal(other.loss(*other(x, edge_index), edge_index), loss(x))


def test_as_many_links_as_are_asked_for():
    x, edge_index = graph()
    net, whole = model(max_links=7), model()
    states, shares = net(x, edge_index)
    seen = []
    net.decoder.register_forward_hook(lambda _, args, out: seen.append(args[0].size(0)))
    losses = torch.stack([net.loss(states, shares, edge_index) for _ in range(400)])
    assert set(seen) == {14}
    mean = torch.stack([whole.loss(states, shares, edge_index) for _ in range(400)]).mean()
    torch.testing.assert_close(losses.mean(), mean, rtol=0.03, atol=0)  # unbiased


@pytest.mark.parametrize(
    "edge_index, n",
    [
        (torch.empty(2, 0, dtype=torch.long), 4),
        (torch.empty(2, 0, dtype=torch.long), 1),
        ((1 - torch.eye(4)).nonzero().t(), 4),
        (torch.ones(4, 4).nonzero().t(), 4),
        (torch.tensor([[0], [0]]), 1),
        (torch.tensor([[0, 0], [1, 1]]), 2),
    ],
)
def test_graphs_without_edges_or_without_other_pairs(edge_index, n):
    net = model()
    loss = net.loss(*net(torch.ones(n, 5).double(), edge_index), edge_index)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    assert loss.isfinite()
    assert net.eval().embed(torch.zeros(n, 5).double(), edge_index).isfinite().all()


def test_pairs_are_uniform_among_those_without_an_edge():
    edge_index = torch.tensor([[0, 1, 2, 0, 3, 4, 4], [1, 2, 0, 0, 4, 3, 3]])
    batch = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])  # the second is complete
    torch.manual_seed(0)
    drawn = torch.cat([non_edges(edge_index, 8, batch) for _ in range(500)], 1)
    pairs, count = drawn.unique(dim=1, return_counts=True)
    assert pairs.t().tolist() == [[0, 2], [1, 0], [2, 1]]
    assert drawn.size(1) == 500 * 4
    assert (count > 550).all()
    alone = non_edges(edge_index, 8)
    taken = {tuple(edge) for edge in edge_index.t().tolist()}
    assert not taken & {tuple(pair) for pair in alone.t().tolist()}
    assert (alone[0] != alone[1]).all()
    one, two = (non_edges(edge_index, 8, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(one, two)


def test_every_pair_of_a_large_graph_may_be_drawn():
    """Numbers of single precision would leave out 19 of 20 pairs, and repeat the others."""
    torch.manual_seed(0)
    drawn = non_edges(torch.randint(20_000, (2, 200_000)), 20_000)
    assert drawn.unique(dim=1).size(1) > 200_000 - 200  # 50 are expected twice


def test_first_weights_are_glorots():
    """Uniform up to sqrt(6 / (5 + 8)), of whatever layer."""
    bound = (6 / 13) ** 0.5
    largest = [float(model(seed).convs[0].lin.weight.detach().abs().max()) for seed in range(9)]
    assert 0.95 * bound < max(largest) <= bound


X, EDGES = graph()
WEIGHT = torch.ones(EDGES.size(1)).double()


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: model(num_layers=0), ValueError, "'num_layers'.*0"),
        (lambda: model(temperature=0.0), ValueError, "'temperature'.*0.0"),
        (lambda: model(dropout=1.0), ValueError, "'dropout'.*1.0"),
        (lambda: model(decoder_dropout=1.0), ValueError, "'decoder_dropout'.*1.0"),
        (lambda: model(decoder_channels=0), ValueError, "'decoder_channels'.*0"),
        (lambda: model(max_links=0), ValueError, "'max_links'.*0"),
        (lambda: model(act="no such"), ValueError, "'act'"),
        (lambda: model()(X, EDGES, edge_weight=-WEIGHT), ValueError, r"'edge_weight'.*-1.0"),
        (lambda: model()(X[:, :4].to_sparse(), EDGES), ValueError, r"'x'.*5 channels.*\[20, 4\]"),
        (lambda: model()((X / 0).to_sparse_csr(), EDGES), ValueError, "'x' must be finite"),
        (lambda: model()(X.long().to_sparse_csr(), EDGES), TypeError, "'x'.*int64"),
        (lambda: model()(X[:0].to_sparse_csr(), EDGES), ValueError, r"'x' holds no node.*\[0, 5\]"),
        (
            lambda: model()(X.to_sparse().requires_grad_(), EDGES),
            ValueError,
            "'x' must be dense where it requires a gradient",
        ),
        (lambda: model().decode(X, EDGES), ValueError, r"'z' must have 8 channels.*\[20, 5\]"),
        (lambda: model().loss([X], [WEIGHT, WEIGHT], EDGES), ValueError, r"'shares'.*1.*got 2"),
        (lambda: model().loss([X], [WEIGHT[1:]], EDGES), ValueError, "'shares' must have shape"),
        (lambda: model().loss([X[:3]], [WEIGHT], EDGES), IndexError, "'edge_index'.*'states'"),
        (
            lambda: model().loss([X], [WEIGHT], EDGES, EDGES, torch.zeros(3).long()),
            ValueError,
            r"'batch'.*'states'.*\[3\]",
        ),
        (
            lambda: model().decode(torch.ones(20, 8).double(), EDGES + 20),
            IndexError,
            "'edge_index'.*'z'",
        ),
        (lambda: non_edges(EDGES, -1), ValueError, "'num_nodes'.*-1"),
        (lambda: non_edges(EDGES, 3), IndexError, r"'edge_index'.*\[0, 3\)"),
        (
            lambda: non_edges(torch.tensor([[0], [2]]), 3, torch.tensor([0, 0, 1])),
            ValueError,
            r"'edge_index' must not join two graphs of 'batch' \(got \[0, 2\]\)",
        ),
    ],
)
def test_what_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
