"""The switch of the value checks, and each check by itself."""

from __future__ import annotations

import threading
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv

from pyg_gunet import (
    GPool,
    GraphUNet,
    GraphUNetAutoEncoder,
    GUnpool,
    HierarchicalReadout,
    KLCritic,
    MutualInformationCritic,
    OfficialGraphUNet,
    SegmentationUNet,
    TelescopingCritic,
    VariationalAutoEncoder,
    validate,
    validation,
)
from pyg_gunet.files import check_path
from pyg_gunet.functional import connect
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.functional.interpolate import nearest_kept, prolongation
from pyg_gunet.functional.select import topk
from pyg_gunet.graph.sparse import product
from pyg_gunet.transforms import grid_edges, repeat_graph
from pyg_gunet.validate import (
    check_bool,
    check_generator,
    check_memory,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)
from tests.conftest import random_graph


@pytest.fixture(autouse=True)
def _default_state():
    assert validate._state.enabled
    assert validate._state.depth == 0
    yield
    assert validate._state.depth == 0
    validate._state.enabled = True


def due() -> bool:
    with outermost() as values:
        return values


def test_the_switch_as_context_manager():
    assert due()
    with validation(False):
        assert not due()
        with validation(True):
            assert due()
        assert not due()
    assert due()


def test_the_switch_as_statement():
    validation(False)
    assert not due()
    validation(True)
    assert due()


def test_the_switch_survives_an_error():
    with pytest.raises(KeyError), validation(False):
        raise KeyError
    assert due()


@pytest.mark.parametrize("value", [None, 0, 1, "off"])
def test_the_switch_takes_a_bool(value):
    with pytest.raises(TypeError, match="'enabled'"):
        validation(value)
    assert due()


def test_the_switch_is_of_its_thread():
    seen = []
    with validation(False):
        thread = threading.Thread(target=lambda: seen.append(due()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_only_the_outermost_call_checks():
    with outermost() as first:
        assert first
        with outermost() as second:
            assert not second
        assert not due()
    assert due()


def test_an_error_inside_leaves_the_checks_on():
    pool = GPool(2)
    with pytest.raises(IndexError):
        pool(torch.ones(2, 2), torch.tensor([[0], [9]]))
    assert due()
    with pytest.raises(IndexError):
        pool(torch.ones(2, 2), torch.tensor([[0], [9]]))


@pytest.mark.parametrize(
    "model",
    [
        GPool(3, connect="two_hop"),
        GPool(3, select="spread"),
        GraphUNet(3, 4, 2, depth=3),
        GraphUNet(3, 4, 2, depth=2, select="spread", connect="induced"),
        GraphUNetAutoEncoder(3, 4, depth=2),
        VariationalAutoEncoder(GraphUNetAutoEncoder(3, 4, depth=2)),
        OfficialGraphUNet(3, 4, 2, depth=2),
        HierarchicalReadout(GraphUNet(3, 4, 4, depth=2), 2),
        SegmentationUNet(3, 4, 2, depth=2, multi_scale=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_checks_values_once(model, monkeypatch):
    """Nested layers check neither the edges nor the finiteness again."""
    calls = []
    for module in (product, connect):  # whose limit is not one of the door
        monkeypatch.setattr(module, "check_counts", lambda counts: counts)
    aminmax, isfinite = torch.aminmax, torch.isfinite
    monkeypatch.setattr(
        validate.torch, "aminmax", lambda *a, **k: calls.append("range") or aminmax(*a, **k)
    )
    monkeypatch.setattr(
        validate.torch, "isfinite", lambda *a, **k: calls.append("finite") or isfinite(*a, **k)
    )
    graph = random_graph(20, 60)
    model(torch.randn(20, 3), graph.edge_index)
    assert sorted(calls) == ["finite", "range"]
    calls.clear()
    with validation(False):
        model(torch.randn(20, 3), graph.edge_index)
    assert calls == []


def test_off_means_values_pass_and_shapes_do_not():
    x = torch.full((4, 2), float("nan"))
    edge_index = torch.tensor([[0, 1], [1, 2]])
    with validation(False):
        GPool(2)(x, edge_index)
        with pytest.raises(ValueError, match="'x'"):
            GPool(3)(x, edge_index)
        with pytest.raises(TypeError, match="'edge_index'"):
            GPool(2)(x, edge_index.float())
    with pytest.raises(ValueError, match="'x' must be finite"):
        GPool(2)(x, edge_index)


def test_off_under_compile():
    seen = []

    def function(x):
        with outermost() as values:
            if values:
                seen.append("checked")
                return x + 1
            return x + 2

    x = torch.zeros(3)
    assert function(x)[0] == 1
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert compiled(x)[0] == 2
    assert seen == ["checked"]
    assert function(x)[0] == 1  # and on again outside


@pytest.mark.filterwarnings("ignore:.*")
def test_a_compiled_layer_equals_the_layer():
    """The compiler stays out of scipy, which it would trace for a minute."""
    graph = random_graph(20, 60)
    pool = GPool(3, connect="two_hop")
    x = torch.randn(20, 3)
    out = torch.compile(pool, backend="eager")(x, *graph[:2])
    for a, b in zip(pool(x, *graph[:2]), out):
        torch.testing.assert_close(a, b)


def test_finite_errors_say_where():
    x = torch.ones(3, 2)
    x[2, 1] = float("-inf")
    with pytest.raises(ValueError, match=r"'h' must be finite \(got -inf at \[2, 1\]\)"):
        validate.check_features(x, name="h")


@pytest.mark.parametrize("ratio", [1e-9, 0.5, 1.0, 1, 7, np.float32(0.5), np.int64(3)])
def test_ratios(ratio):
    validate.check_ratio(ratio)


@pytest.mark.parametrize(
    "ratio, error",
    [
        (0.0, ValueError),
        (-0.5, ValueError),
        (1.5, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (0, ValueError),
        (-2, ValueError),
        (True, TypeError),
        ("0.5", TypeError),
        (None, TypeError),
        (0.5 + 0j, TypeError),
        (Fraction(3, 2), ValueError),
    ],
)
def test_bad_ratios(ratio, error):
    with pytest.raises(error, match=r"'ratio'.*got"):
        validate.check_ratio(ratio)


def test_batch_errors_say_where():
    with pytest.raises(ValueError, match="'batch' must be sorted .got 2 before 1 at 1"):
        validate.check_batch(torch.tensor([0, 2, 1]), 3)
    with pytest.raises(ValueError, match="'batch' must be non-negative .got -1"):
        validate.check_batch(torch.tensor([-1, 0, 1]), 3)
    with pytest.raises(ValueError, match=r"'batch' must have shape \[4\]"):
        validate.check_batch(torch.tensor([0, 0, 1]), 4)
    with pytest.raises(TypeError, match="'batch'.*float32"):
        validate.check_batch(torch.zeros(3), 3)
    validate.check_batch(None, 3)
    validate.check_batch(torch.tensor([0, 0, 5], dtype=torch.int32), 3)


def test_choices_are_compared_by_type_too():
    validate.check_choice(None, "gate", (None, "tanh"))
    for value in ("Tanh", 0, True, ["tanh"]):
        with pytest.raises(ValueError, match="'gate' must be one of None, 'tanh'"):
            validate.check_choice(value, "gate", (None, "tanh"))


def test_numbers_and_counts():
    validate.check_number(2, "n", 0, 2)
    for value in (3, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'n' must lie in"):
            validate.check_number(value, "n", 0, 2)
    for value in (True, "1", None, torch.tensor(1.0)):
        with pytest.raises(TypeError, match="'n' must be a number"):
            validate.check_number(value, "n")
    for value in (1.0, True, None):
        with pytest.raises(TypeError, match="'k' must be an int"):
            validate.check_positive_int(value, "k")


def test_devices_are_compared():
    with pytest.raises(ValueError, match="'batch' must be on the device of 'x', cpu .got meta"):
        validate.check_same_device(
            torch.ones(1), "x", edge_attr=None, batch=torch.ones(1, device="meta")
        )
    elsewhere = torch.zeros(2, 1, dtype=torch.long, device="meta")
    with validation(False), pytest.raises(ValueError, match="'edge_index' must hold data"):
        GPool(2)(torch.ones(3, 2), elsewhere)
    model = GraphUNet(
        2, 4, 1, depth=1, connect="induced", conv=lambda i, o: GATv2Conv(i, o, edge_dim=1)
    )
    edge_index, edge_attr = torch.tensor([[0, 1], [1, 0]]), torch.ones(2, 1, device="meta")
    with pytest.raises(ValueError, match="'edge_attr' must be on the device of 'x', cpu .got meta"):
        model(torch.ones(2, 2), edge_index, edge_attr=edge_attr)


def test_functions_check_by_themselves():
    with pytest.raises(IndexError, match="'perm'"):
        GUnpool()(torch.ones(1, 1), torch.tensor([3]), 3)
    with pytest.raises(IndexError, match="'perm'"):
        two_hop(torch.tensor([[0], [1]]), None, torch.tensor([5]), 2)


NONE, FIRST = torch.empty(2, 0, dtype=torch.long), torch.tensor([0])
SIZES = {  # the argument, and GiB
    "telescope": ("hidden_channels", 4, lambda: TelescopingCritic(1, 1, 2**15)),
    "features of a telescope": ("x_channels", 4, lambda: TelescopingCritic(2**15, 1, 4)),
    "rungs": ("rungs", 4, lambda: TelescopingCritic(1, 1, 2**9, 2**12)),
    "divergence": ("hidden_channels", 4, lambda: KLCritic(1, 2**15)),
    "information": ("hidden_channels", 4, lambda: MutualInformationCritic(1, 1, 2**15)),
    "model": ("hidden_channels", 4, lambda: GraphUNet(1, 2**15, 1, 1)),
    "features of a model": ("in_channels", 4, lambda: GraphUNet(2**20, 2**10, 1, 1)),
    "outputs": ("out_channels", 4, lambda: GraphUNet(1, 2**10, 2**20, 1)),
    "latent": ("latent_channels", 4, lambda: GraphUNetAutoEncoder(1, 2**10, 2**20)),
    "classes": ("num_classes", 4, lambda: SegmentationUNet(1, 2**10, 2**20)),
    "lifted": ("num_nodes", 2, lambda: GUnpool()(torch.ones(1, 1), FIRST, 2**29)),
    "prepared": ("num_nodes", 2, lambda: GraphUNet(1, 8, 1, 1).prepare(NONE, num_nodes=2**27)),
    "prolonged": ("num_nodes", 3, lambda: prolongation(FIRST, NONE, 2**27)),
    "nearest": ("num_nodes", 3, lambda: nearest_kept(FIRST, NONE, 2**27)),
    "graphs": ("batch", 8, lambda: topk(torch.ones(1), 0.5, FIRST + 2**27)),
    "repetitions": ("times", 4, lambda: repeat_graph(NONE, 2**20, 2**8)),
    "pixels": ("width", 8, lambda: grid_edges(2**13, 2**13)),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_the_memory_are_named_before_they_are_asked_for(name, monkeypatch):
    argument, size, call = SIZES[name]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=2**30))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=f"'{argument}' asks for {size} GiB, more than .*, 1 GiB"):
        call()


TWO = torch.zeros(2)
CALLS = {
    "path": (lambda: check_path(3, "out"), TypeError, "'out' must be a str or a Path.*3"),
    "long path": (lambda: check_path("a" * 300, "out"), ValueError, "'out' has a part too long"),
    "empty path": (lambda: check_path("", "out"), ValueError, "'out' must name a file"),
    "null byte": (lambda: check_path("a\0b", "out"), ValueError, r"'out'.*a\\x00b"),
    "too large": (lambda: check_positive_int(9, "k", maximum=8), ValueError, "'k'.*most 8 .got 9"),
    "bool": (lambda: check_bool(1, "cached"), TypeError, "'cached' must be a bool .got 1"),
    "memory": (lambda: check_memory(2**60, "n", 7), ValueError, "'n' asks for .* GiB.*got 7"),
    "sparse": (lambda: check_tensor(TWO.to_sparse(), "x"), TypeError, "'x'.*torch.sparse_coo"),
    "generator": (lambda: check_generator(3), TypeError, "'generator'.*3"),
    "no tensor": (lambda: check_same_device(TWO, "x", batch=3), TypeError, "'batch'.*int"),
    "device": (
        lambda: check_same_device(TWO, "x", batch=TWO.to("meta")),
        ValueError,
        "'batch' must be on the device of 'x', cpu .got meta",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_check_refuses_by_name(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()
