"""What PyG users do to models: hooks, copies, inference mode, autograd transforms, explainers."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch.func import functional_call, jacrev, jvp, vmap
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch_geometric.explain import CaptumExplainer, Explainer, GNNExplainer, unfaithfulness
from torch_geometric.explain.algorithm.utils import clear_masks
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GINEConv,
    GraphConv,
    SAGEConv,
    SAGPooling,
    TransformerConv,
    summary,
)
from torch_geometric.nn.pool.connect import FilterEdges
from torch_geometric.nn.pool.select import SelectTopK

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    SegmentationUNet,
    VariationalAutoEncoder,
)

CONNECT = ("induced", "two_hop", "contract", "walk", "sampled")


def ring(n: int = 24, chords: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    node = torch.arange(n)
    edge = torch.stack([node, (node + 1) % n])
    more = torch.randint(n, (2, chords), generator=generator)
    edge = torch.cat([edge, more[:, more[0] != more[1]]], dim=1)
    return torch.cat([edge, edge.flip(0)], dim=1).unique(dim=1)


X = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
EDGES = ring()


def unet(connect: str = "two_hop", **options) -> GraphUNet:
    torch.manual_seed(0)
    return GraphUNet(4, 8, 3, 2, connect=connect, **options)


CLASSES = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
MODELS = {
    **{name: lambda name=name: unet(name) for name in CONNECT},
    "levels": lambda: unet("contract", select="spread", reduce="mean", lift="interpolate"),
    "sage": lambda: unet("contract", conv=SAGEConv),
    "mixed": lambda: MixedGraphUNet(4, 8, 3, 2),
    "mixed without levels": lambda: MixedGraphUNet(4, 8, 3, 0),
    "official": lambda: OfficialGraphUNet(4, 8, 3, 2),
    "segmentation": lambda: SegmentationUNet(4, 8, 3, 2, multi_scale=True),
    "autoencoder": lambda: GraphUNetAutoEncoder(4, 8, 4, 2),
    "variational": lambda: VariationalAutoEncoder(GraphUNetAutoEncoder(4, 8, 4, 2)).eval(),
}


def convs(model: torch.nn.Module) -> list[GCNConv]:
    return [module for module in model.modules() if isinstance(module, GCNConv)]


# Hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("connect", CONNECT)
def test_forward_hooks_see_what_nobody_changes(connect):
    model, seen = unet(connect), {}
    for conv in convs(model):
        conv.lin.register_forward_hook(
            lambda module, args, out: seen.update(
                {module: (out, out.clone(), args[0], args[0].clone())}
            )
        )
    model(X, EDGES).sum().backward()
    assert len(seen) == 5
    for out, copied, given, given_copied in seen.values():
        assert torch.equal(out, copied)
        assert torch.equal(given, given_copied)


@pytest.mark.parametrize("name", MODELS)
def test_full_backward_hooks_on_every_module(name):
    plain, hooked, count = MODELS[name](), MODELS[name](), []
    hooked.load_state_dict(plain.state_dict())
    for module in hooked.modules():
        if not isinstance(module, torch.nn.ModuleList):
            module.register_full_backward_hook(lambda *_: count.append(1))
    for model in (plain, hooked):
        torch.manual_seed(3)
        model(X, EDGES).square().sum().backward()
    assert count
    for a, b in zip(plain.parameters(), hooked.parameters()):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.allclose(a.grad, b.grad, atol=1e-6)


@pytest.mark.parametrize("connect", ["induced", "two_hop", "contract", "walk"])
def test_message_hooks_see_the_messages(connect):
    """They need messages: a prepared propagation goes edge by edge, with the same outcome."""
    model, seen = unet(connect), []
    before = model(X, EDGES)
    for conv in convs(model):
        conv.register_message_forward_hook(lambda module, args, out: seen.append(out.size(0)))
    after = model(X, EDGES)
    assert len(seen) == 5
    assert seen[0] == EDGES.size(1) + 24  # with the self loops
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("connect", ["two_hop", "walk"])
def test_message_hooks_on_a_prepared_graph(connect):
    model, seen = unet(connect), []
    graph = model.prepare(EDGES)
    before = model(X, graph)
    convs(model)[0].register_propagate_forward_hook(lambda *args: seen.append(1))
    assert torch.allclose(before, model(X, graph), atol=1e-5)
    assert seen


# Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_deepcopy_and_averaged_models_after_use(name):
    model = MODELS[name]()
    model.eval()
    out = model(X, EDGES)
    assert torch.equal(copy.deepcopy(model)(X, EDGES), out)
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert torch.allclose(averaged.eval()(X, EDGES), out)


@pytest.mark.parametrize(
    "name", ["induced", "two_hop", "contract", "walk", "levels", "autoencoder"]
)
def test_graphs_and_hierarchies_are_copied_and_pickled(name):
    model = MODELS[name]()
    graph = model.prepare(EDGES)
    out = model(X, graph)
    states = getattr(model, "states", None) or model.encode
    used = states(X, graph)[1]
    for one in (graph, used):
        twin = copy.deepcopy(one)
        assert repr(twin) == repr(one)
    assert torch.equal(model(X, copy.deepcopy(graph)), out)
    file = io.BytesIO()
    torch.save(graph, file)
    file.seek(0)
    assert torch.equal(model(X, torch.load(file, weights_only=False)), out)


# Modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in MODELS if n != "sampled"])
@pytest.mark.parametrize("prepared", ["before", "inside", "not"])
def test_inference_mode_then_training(name, prepared):
    """Lightning checks in inference mode first; what a graph keeps must serve training, too, in
    this and in every other model that shares it."""
    model, other = MODELS[name](), MODELS[name]()
    edges = EDGES
    if prepared != "not":
        with torch.inference_mode(prepared == "inside"):
            edges = model.prepare(EDGES.clone()) if hasattr(model, "prepare") else EDGES
    with torch.inference_mode():
        first = model(X, edges)
    for one in (model, other):
        one.train()
        out = one(X, edges)
        out.square().sum().backward()
    if name != "variational":
        assert torch.allclose(first, model(X, edges), atol=1e-6)


def test_prepared_graphs_in_another_precision():
    model = unet().double()
    graph = model.prepare(EDGES)  # made in float32, the default
    with pytest.raises(ValueError, match="use its `to`"):
        model(X.double(), graph)
    expected = model(X.double(), EDGES)
    for name in ("two_hop", "walk", "levels"):
        model = MODELS[name]().double()
        expected = model(X.double(), EDGES)
        out = model(X.double(), model.prepare(EDGES).to(torch.float64))
        assert torch.allclose(out, expected, atol=1e-6 if name == "levels" else 1e-12)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("sampled", "variational")])
def test_checkpointing(name):
    model = MODELS[name]()
    model(X, EDGES).square().sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    checkpoint(model, X, EDGES, use_reentrant=False).square().sum().backward()
    for a, b in zip(grads, [p.grad for p in model.parameters() if p.grad is not None]):
        assert torch.allclose(a, b, atol=1e-6)


def test_sampled_is_the_same_at_every_call_in_eval_mode():
    model = GraphUNet(4, 8, 3, 2, pool=lambda c, r: GPool(c, r, connect="sampled", max_degree=2))
    x, edges = torch.randn(24, 4), ring(24, 200)
    model.eval()
    assert torch.equal(model(x, edges), model(x, edges))
    model.train()
    outs = []
    for _ in range(2):
        for pool in model.pools:
            pool.connect.generator = torch.Generator().manual_seed(5)
        outs.append(model(x, edges))
    assert torch.equal(*outs)
    for pool in model.pools:
        pool.connect.generator = None
    assert not torch.equal(model(x, edges), model(x, edges))


# Transforms of autograd -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("sampled", "variational")])
def test_jacobians_vectorised_and_not(name):
    model = MODELS[name]().double()
    x, edges = X.double(), EDGES
    if hasattr(model, "prepare"):
        edges = model.prepare(EDGES).to(torch.float64)
    one = torch.autograd.functional.jacobian(lambda x: model(x, edges), x)
    many = torch.autograd.functional.jacobian(lambda x: model(x, edges), x, vectorize=True)
    assert torch.allclose(one, many, atol=1e-10)


@pytest.mark.parametrize("connect", ["two_hop", "contract", "walk"])
def test_batched_gradients_forward_mode_and_vmap(connect):
    model = unet(connect).double()
    graph = model.prepare(EDGES).to(torch.float64)
    x = X.double().requires_grad_()
    out = model(x, graph)
    basis = torch.eye(3, dtype=torch.float64).unsqueeze(1).expand(3, 24, 3).contiguous()
    batched = torch.autograd.grad(out, x, basis, retain_graph=True, is_grads_batched=True)[0]
    for i in range(3):
        single = torch.autograd.grad(out, x, basis[i], retain_graph=True)[0]
        assert torch.allclose(batched[i], single, atol=1e-10)
    tangent = torch.randn_like(x)
    _, forward = jvp(lambda x: graph.propagate(x), (x.detach(),), (tangent,))
    assert torch.allclose(forward, graph.propagate(tangent), atol=1e-10)
    signals = torch.randn(5, 24, 4, dtype=torch.float64)
    spread = vmap(graph.propagate)(signals)
    assert torch.allclose(spread, torch.stack([graph.propagate(s) for s in signals]), atol=1e-10)
    assert jacrev(graph.propagate)(x.detach()).shape == (24, 4, 24, 4)


def test_functional_call():
    model = unet()
    state = {name: value * 2 for name, value in model.state_dict().items()}
    doubled = unet()
    doubled.load_state_dict(state)
    assert torch.equal(functional_call(model, state, (X, EDGES)), doubled(X, EDGES))


# Explainers and summaries ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["induced", "two_hop", "contract", "mixed", "official"])
def test_edge_masks_of_explainers_count(name):
    model = MODELS[name]()
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=3),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config=CLASSES,
    )
    before = model(X, EDGES)
    explanation = explainer(X, EDGES)
    assert explanation.edge_mask.shape == (EDGES.size(1),)
    assert float(explanation.edge_mask.std()) > 0
    # A mask of ones changes nothing, one of zeros is the graph without edges.
    ones, none = torch.ones(EDGES.size(1)), torch.zeros(EDGES.size(1))
    masked = explainer.get_masked_prediction(X, EDGES, None, ones)
    assert torch.allclose(masked, before, atol=1e-6)
    masked = explainer.get_masked_prediction(X, EDGES, None, none)
    assert torch.allclose(masked, model(X, EDGES, edge_weight=none), atol=1e-6)
    assert torch.equal(model(X, EDGES), before)  # and nothing is left behind
    explanation.edge_mask = torch.rand(EDGES.size(1))
    explanation.node_mask = None
    assert unfaithfulness(explainer, explanation) > 0


def test_edge_masks_that_cannot_count_are_refused():
    for model, match in ((unet(conv=SAGEConv), "edge_weight"), (unet("walk"), "edge_weight")):
        explainer = Explainer(
            model,
            algorithm=GNNExplainer(epochs=2),
            explanation_type="model",
            edge_mask_type="object",
            model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
        )
        with pytest.raises(ValueError, match=match):
            explainer(X, EDGES)
        clear_masks(model)  # which PyG leaves where a model raises
        model(X, EDGES)
    model = unet()
    for conv in convs(model):
        conv.explain, conv._edge_mask = True, torch.ones(EDGES.size(1))
    with pytest.raises(ValueError, match="'edge_weight' must be None.*an explainer's mask"):
        model(X, model.prepare(EDGES))


def test_captum_explains_nodes():
    explainer = Explainer(
        unet(),
        algorithm=CaptumExplainer("IntegratedGradients"),
        explanation_type="model",
        node_mask_type="attributes",
        model_config=CLASSES,
    )
    assert explainer(X, EDGES).node_mask.shape == X.shape


@pytest.mark.parametrize("name", list(MODELS))
def test_summary(name):
    part = "Linear" if "without" in name else "GPool"
    assert part in summary(MODELS[name](), X, EDGES, max_depth=4)


def test_trace_is_refused_by_name():
    with pytest.raises(RuntimeError, match="torch.export"):
        torch.jit.trace(unet(), (X, EDGES))


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
