"""What PyG users put into models: convolutions, parts, weights, edge decoders."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GINEConv,
    GraphConv,
    SAGEConv,
    SAGPooling,
    TransformerConv,
)
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import SelectTopK

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
)
from tests.pyg.test_habits import CONNECT, EDGES, X, unet

# Convolutions, norms and parts ----------------------------------------------------------------


class Swallows(torch.nn.Module):
    """A convolution whose forward tells nothing."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = GCNConv(i, o)

    def forward(self, *args, **kwargs):
        return self.conv(*args, **kwargs)


class Declares(Swallows):
    supports_edge_weight = True


def test_walk_counts_reach_convolutions_that_hide_their_arguments():
    with pytest.raises(ValueError, match="supports_edge_weight"):
        unet(conv=Swallows)
    hidden, open_ = unet(conv=Declares), unet(conv=GCNConv)
    for a, b in zip([*hidden.down_convs, *hidden.up_convs], [*open_.down_convs, *open_.up_convs]):
        a.conv.load_state_dict(b.state_dict())
    hidden.pools.load_state_dict(open_.pools.state_dict())
    assert torch.equal(hidden(X, EDGES), open_(X, EDGES))
    compiled = unet(conv=lambda i, o: torch.compile(GCNConv(i, o), backend="eager"))
    assert compiled.weighted


EDGE_CONVS = {
    "GINEConv": lambda i, o: GINEConv(torch.nn.Linear(i, o), edge_dim=5),
    "GATv2Conv": lambda i, o: GATv2Conv(i, o, edge_dim=5),
    "TransformerConv": lambda i, o: TransformerConv(i, o, edge_dim=5),
}


@pytest.mark.parametrize("connect", ["induced", "contract"])
@pytest.mark.parametrize("name", EDGE_CONVS)
def test_edge_features_through_the_u(name, connect):
    model = unet(connect, conv=EDGE_CONVS[name])
    attr = torch.randn(EDGES.size(1), 5, requires_grad=True)
    out = model(X, EDGES, edge_attr=attr)
    out.square().sum().backward()
    assert out.shape == (24, 3)
    assert (attr.grad != 0).any()
    batch = torch.arange(2).repeat_interleave(24)
    both = torch.cat([EDGES, EDGES + 24], dim=1)
    twice = model(torch.cat([X, X]), both, batch, edge_attr=torch.cat([attr, attr]))
    assert torch.allclose(twice, torch.cat([out, out]), atol=1e-5)


def test_edge_features_that_cannot_be_carried_name_both_ways_out():
    attr = torch.randn(EDGES.size(1), 5)
    for connect in ("two_hop", "sampled"):
        with pytest.raises(ValueError, match=r"edge_attr.*induced.*contract"):
            unet(connect, conv=EDGE_CONVS["GINEConv"])(X, EDGES, edge_attr=attr)
    with pytest.raises(ValueError, match="'edge_attr' goes with a 'conv'"):
        unet("induced")(X, EDGES, edge_attr=attr)
    with pytest.raises(ValueError, match="'edge_attr' must be finite"):
        unet("induced", conv=EDGE_CONVS["GINEConv"])(X, EDGES, edge_attr=attr / 0)


def test_parts_of_another_kind_are_refused_by_name():
    model = unet()
    model.pools[0] = SAGPooling(8)
    with pytest.raises(TypeError, match=r"'pools\[0\]' must be a GPool \(got SAGPooling\)"):
        model(X, EDGES)
    model.pools[0] = GPool(7)
    with pytest.raises(ValueError, match=r"'pools\[0\]' must take 8 channels"):
        model(X, EDGES)
    with pytest.raises(ValueError, match=r"'conv' must map to 8 channels, heads and all"):
        unet(conv=lambda i, o: GATConv(i, o, heads=4))(X, EDGES)
    with pytest.raises(ValueError, match="'norm' must normalise node features"):
        unet(norm="MessageNorm")
    assert unet(norm="GraphSizeNorm")(X, EDGES).shape == (24, 3)
    big, small = GraphUNetAutoEncoder(4, 8, 4, 3), GraphUNetAutoEncoder(4, 8, 4, 2)
    z, hierarchy = big.encode(X, EDGES)
    with pytest.raises(TypeError, match="'hierarchy' must be a Hierarchy of 2 poolings"):
        small.decode(z, hierarchy)
    sage = GraphUNetAutoEncoder(4, 8, 4, 3, conv=SAGEConv)
    with pytest.raises(TypeError, match="'hierarchy' must hold edges"):
        sage.decode(z, hierarchy)
    keeps = GraphUNetAutoEncoder(4, 8, 4, 3, lift="zero", connect="induced")
    z, hierarchy = keeps.encode(X, EDGES)
    with pytest.raises(ValueError, match="'hierarchy' must hold transfers"):
        big.decode(z, hierarchy)


def test_select_and_connect_are_exchanged_for_pygs():
    ours, theirs = GPool(4, 0.5), GPool(4, 0.5)
    theirs.select, theirs.connect = SelectTopK(4, 0.5), FilterEdges()
    theirs.select.weight = ours.select.weight
    for a, b in zip(ours(X, EDGES), theirs(X, EDGES)):
        assert a is b is None or torch.allclose(a, b)
    with pytest.raises(TypeError, match="a prepared graph goes to a model"):
        ours(X, unet().prepare(EDGES))
    model = unet("induced")
    for pool in model.pools:
        pool.connect = FilterEdges()
    assert torch.allclose(model(X, EDGES), unet("induced")(X, EDGES), atol=1e-6)


# Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("connect", CONNECT)
def test_signed_weights_work_or_are_refused_by_name(connect):
    two = torch.tensor([[0, 1], [1, 0]]), torch.tensor([-3.0, -3.0])
    weight = torch.randn(EDGES.size(1), generator=torch.Generator().manual_seed(2))
    model = unet(connect)
    for x, edges, signed in ((X[:2], *two), (X, EDGES, weight)):
        if connect == "walk":
            with pytest.raises(ValueError, match="must be non-negative with connect='walk'"):
                model(x, edges, edge_weight=signed)
            continue
        for one in (signed, signed.clone().requires_grad_()):
            out = model(x, edges, edge_weight=one)
            out.square().sum().backward()
            assert out.isfinite().all()
            assert all(p.grad.isfinite().all() for p in model.parameters())
        assert one.grad.isfinite().all()
        # Prepared or edge by edge: one rule.
        learned = model(x, edges, edge_weight=signed.clone().requires_grad_())
        if connect != "sampled":
            assert torch.allclose(model(x, edges, edge_weight=signed), learned, atol=1e-5)
    if connect != "walk":
        with pytest.raises(ValueError, match="negative weights, of which GCNConv makes NaN"):
            unet(connect, conv=GCNConv)(X[:2], two[0], edge_weight=two[1])
        model = unet(connect, conv=lambda i, o: GraphConv(i, o))
        assert model(X, EDGES, edge_weight=weight).isfinite().all()


def test_walk_counts_that_overflow_are_refused_and_contraction_goes_on():
    full = torch.ones(50, 50).nonzero().t()
    full = full[:, full[0] != full[1]]
    x = torch.randn(50, 4)
    options = {"pool_ratios": 0.9}
    with pytest.raises(OverflowError, match=r"connect='two_hop'.*'contract'"):
        GraphUNet(4, 8, 3, 6, **options)(x, full)
    for connect in ("contract", "walk", "induced"):
        assert GraphUNet(4, 8, 3, 6, connect=connect, **options)(x, full).isfinite().all()
    weight = torch.full((EDGES.size(1),), 1e12)
    for one in (weight, weight.clone().requires_grad_(), weight.double()):
        with pytest.raises(OverflowError, match="walk counts"):
            GraphUNet(4, 8, 3, 5, pool_ratios=0.9).to(one.dtype)(
                X.to(one.dtype), EDGES, edge_weight=one**3
            )
    half = GraphUNet(4, 8, 3, 3, pool_ratios=0.9, conv=GCNConv).to(torch.bfloat16)
    assert half(X.to(torch.bfloat16), EDGES).isfinite().all()


# Reconstruction of edges ----------------------------------------------------------------------


class Bilinear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(8, 8))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.eye_(self.weight)

    def forward(self, h, edge_index, sigmoid=True):
        out = ((h[edge_index[0]] @ self.weight) * h[edge_index[1]]).sum(-1)
        return out.sigmoid() if sigmoid else out


def test_a_learned_edge_decoder_learns():
    model = GraphUNetAutoEncoder(4, 8, 4, 2, edge_decoder=Bilinear())
    optimizer = torch.optim.Adam(model.edge_decoder.parameters(), 0.05)
    h = torch.randn(24, 8)
    losses = []
    for step in range(100):
        torch.manual_seed(step % 5)
        loss = model.edge_loss(h, EDGES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


def test_edge_loss_at_its_limits():
    model = GraphUNetAutoEncoder(4, 8, 4, 2)
    h = torch.zeros(2, 8)
    h[0, 0], h[1, 0] = -7.0, 7.2  # a logit of about -50 at an edge
    h.requires_grad_()
    model.edge_loss(h, torch.tensor([[0], [1]]), torch.zeros(2, 0, dtype=torch.long)).backward()
    assert h.grad.abs().max() > 1
    full = torch.ones(6, 6).nonzero().t()
    full = full[:, full[0] != full[1]]
    assert model.edge_loss(torch.randn(6, 8), full).isfinite()
    assert model.edge_loss(torch.randn(6, 8), full[:, :0]) == 0


def test_non_edges_are_drawn_inside_each_graph():
    drawn = []

    class Spy(torch.nn.Module):
        def forward(self, h, edge_index, sigmoid=True):
            drawn.append(edge_index)
            return h[edge_index[0], 0]

    model = GraphUNetAutoEncoder(4, 8, 4, 2, edge_decoder=Spy())
    batch = torch.arange(6).repeat_interleave(4)
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    edges = torch.cat([path + 4 * i for i in range(6)], dim=1)
    model.edge_loss(torch.randn(24, 8), edges, batch=batch)
    assert (batch[drawn[1][0]] == batch[drawn[1][1]]).all()
    assert len(drawn[1].unique()) > 12


@pytest.mark.parametrize("inner", ["autoencoder", "unet"])
def test_masked_models_have_no_unused_parameters(inner):
    """Data-parallel training waits for the gradient of every parameter."""
    net = GraphUNetAutoEncoder(4, 8, 4, 2) if inner == "autoencoder" else GraphUNet(4, 8, 8, 2)
    model = MaskedAutoEncoder(net)
    x_hat, hidden = model(X, EDGES)
    model.loss(x_hat, X, hidden).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_masked_links_have_no_unused_parameters():
    model = MaskedLinkEncoder(4, 8)
    model.loss(*model(X, EDGES), EDGES).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
