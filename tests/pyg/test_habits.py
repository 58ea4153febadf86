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
    GCNConv,
    SAGEConv,
    summary,
)

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
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
