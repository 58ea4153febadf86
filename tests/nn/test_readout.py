"""The hierarchical read-out, alone and as an option of GraphUNet."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet import GraphUNet, SegmentationUNet
from pyg_gunet.nn.readout import HierarchicalReadout
from tests.conftest import permuted, random_batch, random_graph

MODELS = [
    {"readout": "cat"},
    {"readout": "sum", "stem": True, "residual": "output", "norm": "batch"},
    {"readout": HierarchicalReadout(("mean", "max"), "sum"), "connect": "walk"},
    {"readout": "cat", "select": "spread", "residual": "none"},
    {"readout": "cat", "sum_res": False, "connect": "induced"},
]


ONE = torch.ones(1, 1)


def by_loop(xs, batches, size, reduce, combine):
    """One graph, one level, one reduction at a time."""
    rows = []
    for graph in range(size):
        levels = []
        for x, batch in zip(xs, batches):
            own = x[torch.zeros(len(x)).long() == graph] if batch is None else x[batch == graph]
            zero = x.new_zeros(x.size(1))
            read = {
                "mean": own.mean(0) if len(own) else zero,
                "max": own.max(0).values if len(own) else zero,
                "sum": own.sum(0),
            }
            levels.append(torch.cat([read[name] for name in reduce]))
        rows.append(torch.cat(levels) if combine == "cat" else torch.stack(levels).sum(0))
    return torch.stack(rows)


def levels(dtype=torch.float64):
    """Three levels of a batch of four graphs; the second and the last have no node."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.tensor([0] * 5 + [2] * 3), torch.tensor([0, 0, 2]), torch.tensor([0, 2])]
    xs = [torch.randn(len(batch), 3, generator=generator, dtype=dtype) for batch in batches]
    return xs, batches


@pytest.mark.parametrize("combine", ["cat", "sum"])
@pytest.mark.parametrize("reduce", [("mean", "max", "sum"), ("max", "mean"), ("sum",)])
def test_equals_a_loop(reduce, combine):
    xs, batches = levels()
    readout = HierarchicalReadout(reduce, combine)
    out = readout(xs, batches, batch_size=4)
    assert out.shape == (4, readout.out_channels([3, 3, 3]))
    torch.testing.assert_close(out, by_loop(xs, batches, 4, reduce, combine))
    assert bool((out[[1, 3]] == 0).all())
    torch.testing.assert_close(readout(xs, batches), out[:3])
    ends = readout([x[batch == 0] for x, batch in zip(xs, batches)], [None] * 3)
    torch.testing.assert_close(ends, out[:1])


def test_levels_of_other_widths_stand_side_by_side():
    xs, batches = levels()
    xs[1] = xs[1][:, :2]
    out = HierarchicalReadout()(xs, batches)
    assert out.shape == (3, 24)
    torch.testing.assert_close(out, by_loop(xs, batches, 3, ("mean", "max", "sum"), "cat"))


@pytest.mark.parametrize("combine", ["cat", "sum"])
def test_gradients(combine):
    xs, batches = levels()
    readout = HierarchicalReadout(combine=combine)
    inputs = [x.requires_grad_() for x in xs]
    assert torch.autograd.gradcheck(lambda *xs: readout(list(xs), batches, 4), inputs)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: HierarchicalReadout(("mean", "min")), ValueError, "'reduce'.*'min'"),
        (lambda: HierarchicalReadout(("max", "max")), ValueError, "'reduce'.*'max', 'max'"),
        (lambda: HierarchicalReadout(()), ValueError, r"'reduce'.*\(\)"),
        (lambda: HierarchicalReadout("max"), TypeError, "'reduce'.*'max'"),
        (lambda: HierarchicalReadout(combine="add"), ValueError, "'combine'.*'add'"),
        (lambda: HierarchicalReadout().out_channels([]), ValueError, r"'channels'.*\[\]"),
        (lambda: HierarchicalReadout().out_channels([0]), ValueError, "'channels'.*0"),
        (
            lambda: HierarchicalReadout(combine="sum")([ONE, torch.ones(1, 2)], [None, None]),
            ValueError,
            r"'xs'.*\[1, 2\]",
        ),
        (lambda: HierarchicalReadout()([torch.ones(2, 1)], []), ValueError, "'batches'.*0"),
        (lambda: HierarchicalReadout()([torch.ones(2)], [None]), ValueError, r"'xs'.*\[2\]"),
        (
            lambda: HierarchicalReadout()([torch.ones(2, 1)], [torch.tensor([0, 3])], 2),
            ValueError,
            "'batch_size'.*4.*2",
        ),
        (
            lambda: HierarchicalReadout()([torch.ones(2, 1)], [None], 0),
            ValueError,
            "'batch_size'.*0",
        ),
        (lambda: GraphUNet(4, 6, 3, 2, readout="mean"), ValueError, "'readout'.*'mean'"),
        (
            lambda: GraphUNet(4, 6, 3, 2, readout="cat", propagate=2),
            ValueError,
            "'propagate'.*'readout'.*2",
        ),
        (
            lambda: GraphUNet(4, 6, 3, 1)(torch.ones(2, 4), torch.tensor([[0], [1]]), batch_size=1),
            ValueError,
            "'batch_size'.*'readout'.*1",
        ),
        (lambda: SegmentationUNet(4, 6, 3, 2, readout="cat"), ValueError, "'readout'.*'cat'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- in GraphUNet


@pytest.mark.parametrize("options", MODELS)
def test_batch_equals_alone(options):
    torch.manual_seed(0)
    graphs = random_batch(dtype=torch.float64)
    x = torch.randn(graphs.num_nodes, 4, dtype=torch.float64)
    model = GraphUNet(4, 6, 3, 2, act="elu", **options).double().eval()
    out = model(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    assert out.shape == (5, 3)
    for i, (part, start) in enumerate(zip(graphs.parts, graphs.offsets)):
        own = x[start : start + part.num_nodes]
        alone = model(own, part.edge_index, None, part.edge_weight)
        torch.testing.assert_close(out[i : i + 1], alone)


@pytest.mark.parametrize("options", MODELS)
def test_the_order_of_nodes_does_not_matter(options):
    torch.manual_seed(1)
    graph = random_graph(25, 80, dtype=torch.float64)
    x = torch.randn(25, 4, dtype=torch.float64)
    order = torch.randperm(25)
    other = permuted(graph, order)
    model = GraphUNet(4, 6, 3, 2, act="elu", **options).double().eval()
    torch.testing.assert_close(
        model(x, graph.edge_index, None, graph.edge_weight),
        model(x[order], other.edge_index, None, other.edge_weight),
    )


@pytest.mark.parametrize("options", MODELS)
def test_every_parameter_learns(options):
    torch.manual_seed(2)
    graphs = random_batch(sizes=(9, 12))
    model = GraphUNet(4, 6, 3, 2, act="elu", dropout=0.1, **options)
    out = model(torch.randn(21, 4), graphs.edge_index, graphs.batch)
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    before = model.mlp.lins[0].weight.clone()
    model.reset_parameters()
    assert not torch.equal(before, model.mlp.lins[0].weight)


def test_reads_the_coarsest_level_and_those_of_the_way_up():
    """Without skips, written out: one pooling, two levels."""
    torch.manual_seed(3)
    graphs = random_batch(sizes=(6, 9), dtype=torch.float64)
    x = torch.randn(15, 4, dtype=torch.float64)
    model = GraphUNet(4, 6, 3, 1, act="tanh", residual="none", readout="cat").double().eval()
    z, hierarchy = model.encode(x, graphs.edge_index, graphs.batch, graphs.edge_weight)
    assert hierarchy.skips == []
    up = z.new_zeros(15, 6).index_copy(0, hierarchy.perms[0], z)
    up = model.up_convs[0](up, graphs.edge_index, graphs.edge_weight).tanh()
    batches = [graphs.batch, graphs.batch[hierarchy.perms[0]]]
    vector = by_loop([up, z], batches, 2, ("mean", "max", "sum"), "cat")
    torch.testing.assert_close(model.decode(z, hierarchy), model.mlp(vector))


def test_empty_graphs_in_the_batch():
    torch.manual_seed(4)
    graphs = random_batch(sizes=(6, 9), dtype=torch.float64)
    x = torch.randn(15, 4, dtype=torch.float64)
    model = GraphUNet(4, 6, 3, 2, readout="cat").double().eval()
    plain = model(x, graphs.edge_index, graphs.batch)
    out = model(x, graphs.edge_index, 2 * graphs.batch, batch_size=4)
    assert out.shape == (4, 3)
    torch.testing.assert_close(out[[0, 2]], plain)
    torch.testing.assert_close(out[1], out[3])


@pytest.mark.parametrize("connect", ["two_hop", "walk"])
def test_gradient_of_the_whole_model(connect):
    torch.manual_seed(5)
    graphs = random_batch(sizes=(4, 2), dtype=torch.float64)
    model = GraphUNet(2, 3, 2, 1, act="tanh", readout="cat", connect=connect).double()
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: model(x, graphs.edge_index, graphs.batch, graphs.edge_weight), (x,)
    )
