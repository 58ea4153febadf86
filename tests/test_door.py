"""Bad input gets an error that names the argument and the value, whoever is called."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import SAGEConv

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    GUnpool,
    HierarchicalReadout,
    MaskedAutoEncoder,
    MaskedLinkEncoder,
    MixedGraphUNet,
    OfficialGraphUNet,
    SegmentationUNet,
    VariationalAutoEncoder,
    validation,
)

N, F = 6, 3
EDGES = torch.tensor([[0, 1, 2, 4], [1, 2, 3, 5]])
GOOD = {
    "x": torch.randn(N, F),
    "edge_index": EDGES,
    "batch": torch.tensor([0, 0, 0, 0, 1, 1]),
}
MODELS = {
    "GPool": lambda: GPool(F),
    "GPool two_hop": lambda: GPool(F, connect="two_hop"),
    "GPool spread": lambda: GPool(F, select="spread"),
    "GPool min_score": lambda: GPool(F, min_score=0.2),
    "GraphUNet": lambda: GraphUNet(F, 4, 2, depth=2),
    "GraphUNet induced": lambda: GraphUNet(F, 4, 2, depth=2, connect="induced"),
    "GraphUNet conv": lambda: GraphUNet(F, 4, 2, depth=2, conv=SAGEConv),
    "GPool levels": lambda: GPool(F, select="spread", reduce="mean", connect="contract"),
    "GraphUNet levels": lambda: GraphUNet(F, 4, 2, depth=2, connect="contract", lift="interpolate"),
    "GraphUNet walk": lambda: GraphUNet(F, 4, 2, depth=2, connect="walk"),
    "OfficialGraphUNet": lambda: OfficialGraphUNet(F, 4, 2, depth=2),
    "MixedGraphUNet": lambda: MixedGraphUNet(F, 4, 2, depth=2),
    "HierarchicalReadout": lambda: HierarchicalReadout(GraphUNet(F, 4, 4, depth=2), 2),
    "SegmentationUNet": lambda: SegmentationUNet(F, 4, 2, depth=2),
    "GraphUNetAutoEncoder": lambda: GraphUNetAutoEncoder(F, 4, depth=2),
    "MaskedAutoEncoder": lambda: MaskedAutoEncoder(GraphUNet(F, 4, 4, depth=2)),
    "MaskedLinkEncoder": lambda: MaskedLinkEncoder(F, 4),
    "VariationalAutoEncoder": lambda: VariationalAutoEncoder(GraphUNetAutoEncoder(F, 4, depth=2)),
}


def with_entry(value: float) -> torch.Tensor:
    x = torch.zeros(N, F)
    x[4, 1] = value
    return x


BAD_INPUT = [
    ("x", with_entry(float("nan")), ValueError, r"'x' must be finite \(got nan at \[4, 1\]\)"),
    ("x", with_entry(float("inf")), ValueError, r"'x' must be finite \(got inf at \[4, 1\]\)"),
    ("x", torch.randn(N, F + 1), ValueError, r"'x' must have 3 channels.*\[6, 4\]"),
    ("x", torch.randn(N), ValueError, r"'x'.*\[6\]"),
    ("x", torch.ones(N, F, dtype=torch.long), TypeError, "'x'.*int64"),
    ("x", torch.randn(0, F), ValueError, r"'x' holds no node.*\[0, 3\]"),
    ("x", [[1.0] * F] * N, TypeError, "'x'.*list"),
    ("x", torch.randn(5, F), IndexError, r"'edge_index'.*5 rows of 'x' .got 5"),
    ("edge_index", EDGES.float(), TypeError, "'edge_index'.*float32"),
    ("edge_index", EDGES.bool(), TypeError, "'edge_index'.*bool"),
    ("edge_index", EDGES + 1, IndexError, r"'edge_index'.*\[0, 6\).*got 6"),
    ("edge_index", EDGES - 1, IndexError, "'edge_index'.*got -1"),
    ("edge_index", EDGES.t(), ValueError, r"'edge_index'.*\[2, E\].*\[4, 2\]"),
    ("edge_index", EDGES[0], ValueError, r"'edge_index'.*\[4\]"),
    ("edge_index", None, TypeError, "'edge_index'.*NoneType"),
    ("batch", torch.tensor([0, 1, 0, 1, 1, 1]), ValueError, "'batch' must be sorted .got 1 before"),
    ("batch", torch.zeros(5, dtype=torch.long), ValueError, r"'batch'.*\[6\].*\[5\]"),
    ("batch", torch.zeros(6, 1, dtype=torch.long), ValueError, r"'batch'.*\[6, 1\]"),
    ("batch", torch.zeros(6), TypeError, "'batch'.*float32"),
    ("batch", torch.tensor([-1, 0, 0, 0, 0, 0]), ValueError, "'batch'.*got -1"),
]


@pytest.mark.parametrize("name, value, error, match", BAD_INPUT)
@pytest.mark.parametrize("model", MODELS)
def test_graphs(model, name, value, error, match):
    given = {**GOOD, name: value}
    if name == "x" and match.startswith("'edge_index'") or match.startswith(r"'edge_index'.*5"):
        given["batch"] = GOOD["batch"][:5]
    with pytest.raises(error, match=match):
        MODELS[model]()(**given)


@pytest.mark.parametrize("model", MODELS)
def test_the_good_graph_passes(model):
    MODELS[model]()(**GOOD)


WEIGHTS = [
    (torch.ones(4, dtype=torch.long), TypeError, "int64"),
    (torch.ones(3), ValueError, r"4.*\[3\]"),
    (torch.tensor([1.0, float("nan"), 1.0, 1.0]), ValueError, "got nan at 1"),
    (torch.tensor([1.0, 1.0, 1.0, float("-inf")]), ValueError, "got -inf at 3"),
    ([1.0] * 4, TypeError, "list"),
]


WEIGHTED = [name for name in MODELS if "GPool" not in name and name != "GraphUNet conv"]


@pytest.mark.parametrize("value, error, match", [*WEIGHTS, (torch.ones(4, 1), ValueError, "4, 1")])
@pytest.mark.parametrize("model", WEIGHTED)
def test_edge_weights(model, value, error, match):
    with pytest.raises(error, match=f"'edge_weight'.*{match}"):
        MODELS[model]()(**GOOD, edge_weight=value)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("value, error, match", WEIGHTS)
def test_edge_features_of_two_hop(value, error, match, column):
    if column and isinstance(value, torch.Tensor):
        value = value.view(-1, 1)
        match = match.replace(r"\[3\]", r"\[3, 1\]")
    with pytest.raises(error, match=f"'edge_attr'.*{match}"):
        GPool(F, connect="two_hop")(**GOOD, edge_attr=value)


def test_wide_edge_features_of_two_hop_name_the_way_out():
    for wide in (torch.ones(4, 2), torch.ones(4, 1, 1)):
        with pytest.raises(ValueError, match=r"'edge_attr'.*\[4, .*'induced'"):
            GPool(F, connect="two_hop")(**GOOD, edge_attr=wide)
        GPool(F)(**GOOD, edge_attr=wide)


@pytest.mark.parametrize("value", [torch.ones(3, 2), torch.tensor(1.0)])
def test_edge_features_of_other_edges(value):
    with pytest.raises(ValueError, match="'edge_attr' must have 4 rows"):
        GPool(F)(**GOOD, edge_attr=value)


@pytest.mark.parametrize(
    "value, error, match",
    [
        (torch.ones(N, F + 1), ValueError, "3 channels"),
        (torch.ones(N - 1, F), ValueError, "6 rows"),
        (with_entry(float("nan")), ValueError, "nan"),
        (torch.ones(N, F, dtype=torch.int), TypeError, "int32"),
    ],
)
def test_features_to_score(value, error, match):
    with pytest.raises(error, match=f"'attn'.*{match}"):
        GPool(F)(**GOOD, attn=value)


@pytest.mark.parametrize(
    "name, value, error, match",
    [
        ("perm", torch.tensor([0, 9]), IndexError, r"\[0, 6\).*got 9"),
        ("perm", torch.tensor([-1, 0]), IndexError, "got -1"),
        ("perm", torch.tensor([3, 3]), ValueError, "got 3 twice"),
        ("perm", torch.tensor([0.0, 1.0]), TypeError, "float32"),
        ("perm", torch.tensor([[0, 1]]), ValueError, r"\[1, 2\]"),
        ("perm", [0, 1], TypeError, "list"),
        ("x", torch.ones(3, 2), ValueError, r"\[3, 2\]"),
        ("x", torch.ones(2), ValueError, r"\[2\]"),
        ("x", [1.0], TypeError, "list"),
        ("num_nodes", -1, ValueError, "-1"),
        ("num_nodes", 6.0, TypeError, "6.0"),
        ("num_nodes", None, TypeError, "None"),
    ],
)
def test_unpool(name, value, error, match):
    good = {"x": torch.ones(2, 3), "perm": torch.tensor([5, 0]), "num_nodes": 6}
    assert GUnpool()(**good).shape == (6, 3)
    with pytest.raises(error, match=f"'{name}'.*{match}"):
        GUnpool()(**{**good, name: value})


RATIOS = [
    (0.0, ValueError),
    (-0.1, ValueError),
    (1.1, ValueError),
    (0, ValueError),
    (-4, ValueError),
    (float("nan"), ValueError),
    ("half", TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize("value, error", RATIOS)
def test_ratios(value, error):
    shown = repr(value).replace("'", ".")
    with pytest.raises(error, match=f"'ratio'.*{shown}"):
        GPool(F, value)
    for model in (GraphUNet, GraphUNetAutoEncoder):
        for ratios in (value, [0.5, value]):
            with pytest.raises(error, match=f"'pool_ratios'.*{shown}"):
                model(F, 4, 2, depth=2, pool_ratios=ratios)
    for ratios in ([], [0.5, 0.5, 0.5]):
        with pytest.raises(ValueError, match=r"'pool_ratios' must hold at least one.*2 of them"):
            GraphUNet(F, 4, 2, depth=2, pool_ratios=ratios)


BAD_POOL = [
    ("in_channels", 0, ValueError),
    ("in_channels", 2.0, TypeError),
    ("select", "best", ValueError),
    ("connect", "three_hop", ValueError),
    ("gate", "relu", ValueError),
    ("min_score", "low", TypeError),
    ("min_score", float("nan"), ValueError),
    ("multiplier", float("inf"), ValueError),
    ("multiplier", None, TypeError),
    ("max_products", 0, ValueError),
    ("max_products", 1e6, TypeError),
    ("reduce", "max", ValueError),
    ("max_degree", 0, ValueError),
    ("ratio", None, ValueError),
]


@pytest.mark.parametrize("name, value, error", BAD_POOL)
def test_options_of_a_pool(name, value, error):
    connect = {"max_products": "two_hop", "max_degree": "sampled"}.get(name, "induced")
    with pytest.raises(error, match=f"'{name}'"):
        GPool(**{"in_channels": F, "connect": connect, name: value})


def test_options_of_a_pool_that_exclude_each_other():
    with pytest.raises(ValueError, match="'min_score'.*'spread'"):
        GPool(F, min_score=0.1, select="spread")
    with pytest.raises(ValueError, match="'gate'.*'sigmoid'"):
        GPool(F, min_score=0.1, gate="sigmoid")


BAD_MODEL = [
    ("in_channels", 0, ValueError),
    ("in_channels", None, TypeError),
    ("hidden_channels", -1, ValueError),
    ("depth", 0, ValueError),
    ("depth", 1.5, TypeError),
    ("select", "best", ValueError),
    ("connect", "three_hop", ValueError),
    ("reduce", "max", ValueError),
    ("lift", "copy", ValueError),
    ("pool", 3, TypeError),
    ("dropout", 1.5, ValueError),
    ("dropout", -0.1, ValueError),
    ("dropout", "much", TypeError),
    ("conv", "gcn", TypeError),
    ("conv", lambda i, o: None, TypeError),
    ("norm", 3, TypeError),
    ("norm", "no such norm", ValueError),
    ("act", "no such act", ValueError),
    ("act", 3, TypeError),
]


@pytest.mark.parametrize("name, value, error", BAD_MODEL)
@pytest.mark.parametrize("model", [GraphUNet, GraphUNetAutoEncoder])
def test_options_of_a_model(model, name, value, error):
    good = {"in_channels": F, "hidden_channels": 4, "depth": 2}
    if model is GraphUNet:
        good["out_channels"] = 2
    model(**good)
    with pytest.raises(error, match=f"'{name}'"):
        model(**{**good, name: value})


@pytest.mark.parametrize(
    "model, name, value, error",
    [
        (GraphUNet, "out_channels", 0, ValueError),
        (GraphUNet, "sum_res", "cat", ValueError),
        (GraphUNetAutoEncoder, "latent_channels", 0, ValueError),
        (GraphUNetAutoEncoder, "latent_channels", "wide", TypeError),
        (GraphUNetAutoEncoder, "edge_decoder", 3, TypeError),
    ],
)
def test_options_of_one_model(model, name, value, error):
    good = {"in_channels": F, "hidden_channels": 4, "depth": 2}
    if model is GraphUNet:
        good["out_channels"] = 2
    with pytest.raises(error, match=f"'{name}'"):
        model(**{**good, name: value})


@pytest.mark.parametrize("model", [GPool, GraphUNet, GraphUNetAutoEncoder])
def test_no_keyword_is_dropped_in_silence(model):
    with pytest.raises(TypeError, match="ratios"):
        model(F, ratios=0.5)


@pytest.mark.parametrize("conv", [None, SAGEConv])
def test_latents(conv):
    model = GraphUNetAutoEncoder(F, 4, depth=2, conv=conv)
    z, hierarchy = model.encode(**GOOD)
    model.decode(z, hierarchy)
    for bad, match in (
        (z[:, :-1], r"\[3, 3\]|\[2, 3\]"),
        (z[:-1], ", 4"),
        (z[0], r"\[4\]"),
    ):
        with pytest.raises(ValueError, match=f"'z'.*{match}"):
            model.decode(bad, hierarchy)
    with pytest.raises(TypeError, match="'z'.*list"):
        model.decode([1.0], hierarchy)
    broken = z.detach().clone()
    broken[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"'z' must be finite .got nan at \[1, 0\]"):
        model.decode(broken, hierarchy)


@pytest.mark.parametrize("model", MODELS)
def test_shapes_are_checked_with_the_values_switched_off(model):
    with validation(False):
        with pytest.raises(ValueError, match="'x' must have 3 channels"):
            MODELS[model]()(**{**GOOD, "x": torch.ones(N, F + 2)})
        with pytest.raises(TypeError, match="'edge_index'"):
            MODELS[model]()(**{**GOOD, "edge_index": EDGES.double()})
        MODELS[model]()(**{**GOOD, "x": with_entry(float("nan"))})
