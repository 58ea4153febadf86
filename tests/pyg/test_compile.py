"""torch.compile, torch.export, autocast and deterministic algorithms."""

from __future__ import annotations

import copy
import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor
from torch_geometric import nn as pyg

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder, GUnpool, SegmentationUNet
from tests.conftest import awake, random_batch, random_graph

DYNAMIC = torch.export.Dim.DYNAMIC


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(deprecated|isinstance).*")
        torch._dynamo.reset()
        yield
    torch._dynamo.reset()


def inputs(num_nodes: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    graph = random_graph(num_nodes, 4 * num_nodes, seed, directed=False)
    x = torch.randn(num_nodes, 3, generator=torch.Generator().manual_seed(seed))
    return x, graph.edge_index


def close(a: object, b: object) -> None:
    for u, v in zip(a if isinstance(a, tuple) else (a,), b if isinstance(b, tuple) else (b,)):
        assert (u is None) == (v is None)
        if u is not None:
            torch.testing.assert_close(u, v)


# At most so many graph breaks with two poolings. A pooled level's adjacency is made by scipy's or
# torch.sparse's kernels, and a spread selection has as many rounds as the graph asks for: a
# compiler cannot look into them.
BREAKS: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    "GPool two_hop": (lambda: GPool(3, connect="two_hop"), 5),
    "GPool induced": (lambda: GPool(3), 7),
    "GPool spread": (lambda: GPool(3, select="spread"), 7),
    "GraphUNet two_hop": (lambda: GraphUNet(3, 8, 2, 2), 16),
    "GraphUNet walk": (lambda: GraphUNet(3, 8, 2, 2, connect="walk"), 16),
    "GraphUNetAutoEncoder": (lambda: GraphUNetAutoEncoder(3, 8, 4, 2), 22),
}


@pytest.mark.parametrize("name", BREAKS)
def test_compiled_models_are_the_models(name):
    """Forward and gradients, and with another size; few graph breaks."""
    if name != "GPool two_hop" and not os.environ.get("PYG_GUNET_SLOW"):
        pytest.skip("PYG_GUNET_SLOW is not set: a compiler takes some 10 s for a U-Net")
    torch.manual_seed(0)
    make, most = BREAKS[name]
    model = make()
    assert torch._dynamo.explain(model)(*inputs()).graph_break_count <= most
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    for seed, num_nodes in enumerate((40, 31)):
        x, edge_index = inputs(num_nodes, seed)
        found = []
        for call in (model, compiled):
            model.zero_grad()
            out = call(x, edge_index)
            (out if isinstance(out, Tensor) else out[0]).square().sum().backward()
            outputs = (out,) if isinstance(out, Tensor) else tuple(out)
            found.append((*outputs, *(p.grad.clone() for p in model.parameters())))
        close(found[0], found[1])


def test_one_graph_serves_all_sizes():
    """gPool and gUnpool as one graph without a break; five sizes, one compilation."""
    count = torch._dynamo.testing.CompileCounter()
    pool, unpool = GPool(3, 0.4), GUnpool()

    def there_and_back(x: Tensor, edge_index: Tensor) -> Tensor:
        out = pool(x, edge_index)
        return unpool(out.x, out.perm, x.size(0))

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(there_and_back, backend=count, dynamic=True, fullgraph=True)
        for seed, num_nodes in enumerate((40, 31, 17, 90, 55)):
            args = inputs(num_nodes, seed)
            close(compiled(*args), there_and_back(*args))
    assert count.frame_count == 1


class Encoder(torch.nn.Module):
    """What an export returns is tensors: the latent and the kept nodes of every level."""

    def __init__(self, model: GraphUNetAutoEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, ...]:
        z, hierarchy = self.model.encode(x, edge_index)
        return (z, *hierarchy.perms)


def test_export_of_an_encoder_of_any_size(tmp_path):
    """With top-k selection, induced edges and a convolution of PyG's; through a file. What is
    lifted later does not matter to an encoder: zeros need nothing of the way down."""
    torch.manual_seed(0)
    trained = GraphUNetAutoEncoder(3, 8, 4, 1, conv=pyg.SAGEConv, connect="induced", select="topk")
    model = GraphUNetAutoEncoder(
        3, 8, 4, 1, conv=pyg.SAGEConv, connect="induced", select="topk", lift="zero"
    ).eval()
    model.load_state_dict(awake(trained).state_dict())
    encoder = Encoder(model)
    exported = torch.export.export(
        encoder, inputs(), dynamic_shapes={"x": {0: DYNAMIC}, "edge_index": {1: DYNAMIC}}
    )
    torch.export.save(exported, tmp_path / "encoder.pt2")
    again = torch.export.load(tmp_path / "encoder.pt2").module()
    for seed, num_nodes in enumerate((40, 31, 90)):
        args = inputs(num_nodes, seed)
        close(again(*args), encoder(*args))


# Numbers ----------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "GraphUNet": lambda: GraphUNet(3, 16, 2, 2),
    "GraphUNet GAT": lambda: GraphUNet(3, 16, 2, 2, conv=pyg.GATConv, connect="induced"),
    "GraphUNet walk": lambda: GraphUNet(3, 16, 2, 2, connect="walk"),
    "GraphUNet sampled": lambda: GraphUNet(
        3, 16, 2, 2, pool=lambda c, r: GPool(c, r, connect="sampled", max_degree=4)
    ),
    "GraphUNet levels": lambda: GraphUNet(
        3, 16, 2, 2, select="spread", reduce="mean", connect="contract", lift="interpolate"
    ),
    "GraphUNetAutoEncoder": lambda: GraphUNetAutoEncoder(3, 16, 4, 2),
    "SegmentationUNet": lambda: SegmentationUNet(3, 16, 2, 2),
}


def train(model: torch.nn.Module, dtype: torch.dtype | None, device: str = "cpu") -> list[float]:
    """Ten steps that fit a smooth signal, under autocast or not."""
    data = random_batch(sizes=(12, 9, 20))
    torch.manual_seed(0)
    x, model = torch.randn(data.num_nodes, 3).to(device), model.to(device)
    edge_index, batch = data.edge_index.to(device), data.batch.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16, init_scale=256.0)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            out = model(x, edge_index, batch)
            loss = (out.float() - x[:, : out.size(1)].sin()).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        ),
    ],
)
def test_mixed_precision_trains_as_single_precision(name, dtype, device):
    torch.manual_seed(0)
    model = MODELS[name]()
    single = train(copy.deepcopy(model), None, device)
    mixed = train(model, dtype, device)
    assert mixed[-1] < mixed[0]
    assert mixed[0] == pytest.approx(single[0], rel=0.05)
    assert mixed[-1] == pytest.approx(single[-1], rel=0.2)
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_deterministic_algorithms_are_enough(name):
    """No operation is without one, and two runs are the same to the last bit."""
    torch.use_deterministic_algorithms(True)
    try:
        torch.manual_seed(0)
        model = MODELS[name]()
        assert train(copy.deepcopy(model), None) == train(model, None)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_files_are_the_model(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    args = inputs()

    def out(of: torch.nn.Module) -> Tensor:
        torch.manual_seed(1)  # 'sampled' draws
        return of(*args)

    expected = out(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = MODELS[name]().eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(out(other), expected)
        assert all(a is not b for a, b in zip(model.parameters(), other.parameters()))


def test_weights_go_to_pygs_unet_and_back():
    """Through files, as a user moves them."""
    args = inputs()
    theirs = pyg.GraphUNet(3, 16, 2, depth=3, pool_ratios=[0.5, 0.25, 0.5])
    ours = GraphUNet(3, 16, 2, depth=3, pool_ratios=[0.5, 0.25, 0.5])
    for source, target in ((theirs, ours), (GraphUNet(3, 16, 2, 3, [0.5, 0.25, 0.5]), theirs)):
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        result = target.load_state_dict(torch.load(file, weights_only=True))
        assert not result.missing_keys
        assert not result.unexpected_keys
        torch.testing.assert_close(target.eval()(*args), source.eval()(*args))
