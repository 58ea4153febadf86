"""Masked auto-encoding: what is hidden stays hidden."""

from __future__ import annotations

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.utils import to_undirected

from pyg_gunet import GraphUNet, GraphUNetAutoEncoder, MaskedAutoEncoder
from pyg_gunet.train.probe import probe
from pyg_gunet.transforms import Coarsen
from tests.conftest import awake, permuted, random_batch, random_graph

MODELS = {
    "auto-encoder": lambda: GraphUNetAutoEncoder(5, 8, depth=2),
    "U-Net": lambda: GraphUNet(5, 8, 6, 2, sum_res=False),
    "walk": lambda: GraphUNet(5, 8, 8, 2, connect="walk", select="spread"),
    "conv": lambda: GraphUNet(5, 8, 8, 2, conv=pyg.SAGEConv),
}


def _model(name="auto-encoder", **options):
    torch.manual_seed(0)
    return MaskedAutoEncoder(MODELS[name](), **options)


def _graph(dtype=torch.float32):
    edge_index = random_graph(40, 80, weighted=False, loops=False).edge_index
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(40, 5, generator=generator, dtype=dtype)
    return x, to_undirected(edge_index, num_nodes=40)


@pytest.mark.parametrize("name", MODELS)
def test_as_many_nodes_as_asked_are_hidden_and_loss_learns_every_part(name):
    model, (x, edge_index) = _model(name), _graph()
    x_hat, hidden = model(x, edge_index)
    assert x_hat.shape == x.shape
    assert hidden.dtype == torch.bool
    assert int(hidden.sum()) == 20
    model.loss(x_hat, x, hidden).backward()
    for key, parameter in model.named_parameters():
        # Unused parameters that ask for a gradient would stop data-parallel training.
        assert (parameter.grad is not None) is parameter.requires_grad, key
    for part in (model.lin, model.conv):
        assert all(bool((p.grad != 0).any()) for p in part.parameters())
    assert bool((model.token.grad != 0).any())


class Bilinear(torch.nn.Module):
    """An edge decoder that learns."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(8))

    def forward(self, h, edge_index, sigmoid=True):
        return (h[edge_index[0]] @ self.weight * h[edge_index[1]]).sum(-1)


def test_what_the_masked_loss_does_not_read_rests_and_is_the_caller_s_as_before():
    x, edge_index = _graph()
    inner = GraphUNetAutoEncoder(5, 8, depth=2, edge_decoder=Bilinear())
    model = MaskedAutoEncoder(awake(inner))
    with torch.no_grad():
        inner.head.lins[0].weight[0, 0] = float("inf")  # it reaches nothing
    assert all(p.requires_grad for p in inner.parameters())
    x_hat, hidden = model(x, edge_index)
    model.loss(x_hat, x, hidden).backward()
    resting = {key for key, p in inner.named_parameters() if not bool((p.grad != 0).any())}
    read_off = {key for key, _ in inner.named_parameters() if key.startswith(("head", "lin_out"))}
    assert resting == read_off | {"edge_decoder.weight"}
    assert len(resting) == 6
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    # Frozen by the caller, it stays so; afterwards it learns as if nothing had been.
    inner.reset_parameters()
    inner.lin_in.requires_grad_(False)
    MaskedAutoEncoder(inner)(x, edge_index)
    assert not inner.lin_in.weight.requires_grad
    inner.zero_grad()
    inner.loss(inner(x, edge_index), x).backward()
    assert bool((inner.head.lins[-1].weight.grad != 0).any())
    assert bool((inner.lin_out.weight.grad != 0).any())


def test_an_edge_decoder_of_unknown_size_may_rest():
    x, edge_index = _graph()
    inner = GraphUNetAutoEncoder(5, 8, depth=2, edge_decoder=torch.nn.LazyLinear(1))
    model = MaskedAutoEncoder(inner)
    x_hat, hidden = model(x, edge_index)
    assert bool(model.loss(x_hat, x, hidden).isfinite())


@pytest.mark.parametrize("name", ["auto-encoder", "U-Net"])
def test_edge_masks_of_explainers_count_in_both_parts(name):
    model, (x, edge_index) = awake(_model(name)), _graph()
    weight = torch.rand(edge_index.size(1))
    torch.manual_seed(1)
    expected, _ = model(x, edge_index, None, weight)
    set_masks(model, weight, edge_index, apply_sigmoid=False)
    torch.manual_seed(1)
    torch.testing.assert_close(model(x, edge_index)[0], expected)
    clear_masks(model)


def test_a_decoder_that_makes_nan_of_signed_weights_is_named():
    model = MaskedAutoEncoder(GraphUNet(5, 8, 8, 1), conv=pyg.GCNConv)
    x, edge_index, weight = (
        torch.randn(2, 5),
        torch.tensor([[0, 1], [1, 0]]),
        torch.full((2,), -3.0),
    )
    for given in ((edge_index, None, weight), (model.model.prepare(edge_index, weight),)):
        with pytest.raises(ValueError, match="'edge_weight' holds negative weights.*GCNConv"):
            model(x, *given)
    assert bool(model(x, edge_index, None, -weight)[0].isfinite().all())


@pytest.mark.parametrize("inner", [None, pyg.SAGEConv, pyg.GCNConv])
@pytest.mark.parametrize("conv", [None, pyg.SAGEConv, pyg.GCNConv, "attr"])
def test_levels_of_other_convolutions_fit_the_decoder(inner, conv):
    """Those of `Coarsen` may hold weights and features, which not every convolution takes."""
    if conv == "attr":
        conv = lambda i, o: pyg.GATv2Conv(i, o, edge_dim=2)  # noqa: E731
    x, edge_index = _graph()
    count = edge_index.size(1)
    data = Data(x, edge_index, torch.randn(count, 2), edge_weight=torch.rand(count))
    data = Coarsen(2)(data)
    torch.manual_seed(0)
    model = MaskedAutoEncoder(awake(GraphUNetAutoEncoder(5, 8, 4, 2, conv=inner)), conv=conv)
    levels = data.hierarchy()
    first, _ = model(x, levels)
    assert first.shape == x.shape
    levels.levels[0].graph.edge_attr = data.edge_attr  # which the decoder alone may take
    graph = model._finest(x, levels, None)
    out = graph.convolve(model.conv, torch.randn(40, 8))
    assert out.shape == x.shape
    assert (graph.edge_attr is not None) is isinstance(model.conv, pyg.GATv2Conv)


@pytest.mark.parametrize("share, count", [(0.5, 20), (0.01, 1), (0.99, 40), (0.33, 13)])
def test_exactly_the_share_is_hidden(share, count):
    model, (x, edge_index) = _model(mask=share), _graph()
    assert int(model(x, edge_index)[1].sum()) == count


@pytest.mark.parametrize("name", MODELS)
def test_hidden_features_do_not_reach_the_prediction(name):
    model, (x, edge_index) = awake(_model(name, replace=0.0)), _graph()
    torch.manual_seed(1)
    first, hidden = model(x, edge_index)
    other = torch.where(hidden.view(-1, 1), 100 * torch.randn_like(x), x)
    torch.manual_seed(1)
    second, again = model(other, edge_index)
    assert torch.equal(hidden, again)
    assert torch.equal(first, second)
    torch.manual_seed(1)
    assert not torch.equal(model(2 * x, edge_index)[0], first)


def test_decoder_reads_nothing_of_hidden_nodes():
    """A hidden node without neighbours that are seen is decoded from zeros: to the bias."""
    model = awake(_model())
    none = torch.empty(2, 0, dtype=torch.long)
    x_hat, hidden = model(torch.randn(40, 5), none)
    torch.testing.assert_close(x_hat[hidden], model.conv.bias.expand(20, 5))
    assert not torch.allclose(x_hat[~hidden], model.conv.bias.expand(20, 5))


@pytest.mark.parametrize("replace, tokens", [(1.0, 0), (0.0, 20), (0.25, 15)])
def test_replaced_nodes_take_rows_of_the_input_and_others_the_token(replace, tokens):
    """By what the wrapped model is fed."""
    model, (x, edge_index) = _model("U-Net", replace=replace), _graph()
    torch.nn.init.constant_(model.token, 7.0)
    seen = []
    model.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    _, hidden = model(x, edge_index)
    (fed,) = seen
    assert torch.equal(fed[~hidden], x[~hidden])
    assert int((fed[hidden] == 7.0).all(1).sum()) == tokens
    rows = {tuple(row) for row in x.tolist()} | {(7.0,) * 5}
    assert all(tuple(row) in rows for row in fed[hidden].tolist())


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_are_the_model_s_and_nothing_is_hidden(name):
    model, (x, edge_index) = _model(name), _graph()
    inner = model.model
    plain = inner.embed if isinstance(inner, GraphUNetAutoEncoder) else inner
    assert torch.equal(model.embed(x, edge_index), plain(x, edge_index))
    assert torch.equal(model.embed(x, edge_index), model.embed(x, edge_index))


@pytest.mark.parametrize("name", ["auto-encoder", "U-Net", "walk"])
def test_a_prepared_graph_gives_the_same(name):
    model, (x, edge_index) = awake(_model(name)), _graph()
    graph = model.model.prepare(edge_index, num_nodes=40)
    torch.manual_seed(1)
    first, hidden = model(x, edge_index)
    torch.manual_seed(1)
    second, again = model(x, graph)
    assert torch.equal(hidden, again)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_another_decoder_on_a_prepared_graph():
    x, edge_index = _graph()
    torch.manual_seed(0)
    model = MaskedAutoEncoder(GraphUNet(5, 8, 8, 1), conv=pyg.SAGEConv)
    graph = model.model.prepare(edge_index, num_nodes=40)
    torch.manual_seed(1)
    first, _ = model(x, edge_index)
    torch.manual_seed(1)
    torch.testing.assert_close(model(x, graph)[0], first, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_scaled_cosine_error(gamma):
    model = _model(gamma=gamma)
    x, x_hat = torch.randn(6, 5), torch.randn(6, 5)
    cosine = (x * x_hat).sum(-1) / (x.norm(dim=-1) * x_hat.norm(dim=-1))
    torch.testing.assert_close(model.loss(x_hat, x), ((1 - cosine) ** gamma).mean())
    mask = torch.tensor([True, False, True, True, False, False])
    torch.testing.assert_close(model.loss(x_hat, x, mask), ((1 - cosine[mask]) ** gamma).mean())
    assert model.loss(2.0 * x, x) < 1e-6
    x_hat = x.clone().requires_grad_()
    model.loss(x_hat, x).backward()
    assert bool(torch.isfinite(x_hat.grad).all())
    zeros = torch.zeros(6, 5, requires_grad=True)
    model.loss(zeros, x).backward()
    assert bool(torch.isfinite(zeros.grad).all())


def test_batch_equals_alone():
    """Of what is embedded; what is hidden is drawn over the whole batch."""
    data = random_batch(dtype=torch.float64)
    model = awake(_model("U-Net").double())
    x = torch.randn(data.num_nodes, 5, dtype=torch.float64)
    together = model.embed(x, data.edge_index, data.batch, data.edge_weight)
    for part, start in zip(data.parts, data.offsets):
        rows = slice(start, start + part.num_nodes)
        alone = model.embed(x[rows], part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(together[rows], alone)
    x_hat, hidden = model(x, data.edge_index, data.batch, data.edge_weight)
    assert x_hat.shape == x.shape
    assert int(hidden.sum()) == round(0.5 * data.num_nodes)


def test_renamed_nodes_rename_the_prediction(monkeypatch):
    graph, order = random_graph(30, 90, dtype=torch.float64), torch.randperm(30)
    x = torch.randn(30, 5, dtype=torch.float64)
    model, renamed = awake(_model("U-Net", replace=0.0).double()), permuted(graph, order)
    draw = torch.randperm(30)
    monkeypatch.setattr(torch, "randperm", lambda n, **_: draw)
    first, hidden = model(x, graph.edge_index, None, graph.edge_weight)
    monkeypatch.setattr(torch, "randperm", lambda n, **_: order.argsort()[draw])
    second, moved = model(x[order], renamed.edge_index, None, renamed.edge_weight)
    assert torch.equal(moved, hidden[order])
    torch.testing.assert_close(second, first[order])


def test_gradients():
    x, edge_index = _graph(torch.float64)
    model = awake(_model("U-Net").double())
    model.model.act = torch.nn.Tanh()
    keep, target = edge_index[:, (edge_index < 9).all(0)], x[:9].clone()

    def function(x):
        torch.manual_seed(1)
        x_hat, hidden = model(x, keep)
        return model.loss(x_hat, target, hidden)

    assert torch.autograd.gradcheck(function, x[:9].clone().requires_grad_())


def test_reset_parameters_reaches_all_of_them():
    for name in MODELS:
        model = awake(_model(name))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
        model.reset_parameters()
        assert all(not bool((p == 7.0).any()) for p in model.parameters())
        assert not bool(model.token.any())


@pytest.mark.parametrize(
    "options", [{"mask": 0.0}, {"mask": 1}, {"mask": -0.2}, {"replace": 2.0}, {"gamma": 0.5}]
)
def test_bad_shares_are_named(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}'"):
        _model(**options)


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="'model' must be a GraphUNetAutoEncoder or .*GCN"):
        MaskedAutoEncoder(pyg.GCNConv(5, 8))
    assert "mask=0.5, replace=0.05, gamma=2.0" in repr(_model())


def test_probe_reads_separable_classes_and_chooses_by_validation():
    torch.manual_seed(3)
    y = torch.arange(90) % 3
    h = torch.eye(3)[y] + 0.1 * torch.randn(90, 3)
    part = torch.arange(90) // 30
    found = probe(h, y, part == 0, part == 1, part == 2)
    assert found["test_accuracy"] == 1.0
    shuffled = y.clone()
    shuffled[part == 2] = (y[part == 2] + 1) % 3  # wrong test labels change no choice
    wrong = probe(h, shuffled, part == 0, part == 1, part == 2)
    assert wrong["epoch"] == found["epoch"]
    assert wrong["test_accuracy"] == 0.0
