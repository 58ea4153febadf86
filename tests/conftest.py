"""What the tests share: random graphs, dense oracles, real data."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_gunet.graph import adjacency
from pyg_gunet.graph.sparse import csr, product

collect_ignore = ["browser.py"]  # imports what the extra 'browser' alone brings

settings.register_profile(
    "seeded",
    derandomize=True,
    deadline=None,
    database=None,
    # Fixtures that patch a module hold for every example alike.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("seeded")


@pytest.fixture(autouse=True)
def no_process_group_left() -> Iterator[None]:
    """A group that a test leaves behind would hang the next one that starts processes."""
    yield
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        pytest.fail("a process group was left initialised")


class Graph(NamedTuple):
    """A graph as tensors; `edge_weight` is None where unweighted."""

    edge_index: Tensor
    edge_weight: Tensor | None
    num_nodes: int

    @property
    def num_edges(self) -> int:
        return self.edge_index.size(1)

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A [N, N], rows = sources: parallel edges summed, self loops left out."""
        return dense_adjacency(self.edge_index, self.edge_weight, self.num_nodes, dtype)


def dense_adjacency(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, dtype: torch.dtype
) -> Tensor:
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    row, col = edge_index.long()
    weight = torch.where(row == col, 0, weight.to(dtype))
    empty = torch.zeros(num_nodes, num_nodes, dtype=dtype)
    return empty.index_put((row, col), weight, accumulate=True)


def dense_two_hop(a: Tensor, perm: Tensor) -> Tensor:
    """The full square first, then its rows and columns, without the diagonal."""
    b = a + torch.eye(a.size(0), dtype=a.dtype)
    square = (b @ b)[perm][:, perm]
    return square * (1 - torch.eye(perm.numel(), dtype=a.dtype))


def to_dense(
    edge_index: Tensor, edge_weight: Tensor, size: int, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A pooled graph as a matrix, its own diagonal included; every edge must occur once."""
    assert edge_index.size(1) == edge_index.unique(dim=1).size(1)
    out = torch.zeros(size, size, dtype=dtype)
    out[edge_index[0].long(), edge_index[1].long()] = edge_weight.to(dtype)
    return out


@st.composite
def graphs(
    draw: st.DrawFn,
    min_nodes: int = 1,
    max_nodes: int = 10,
    max_edges: int = 30,
    weights: tuple[str, ...] = ("none", "positive", "signed"),
    directed: bool | None = None,
    dtype: torch.dtype = torch.float64,
) -> Graph:
    """Directed or undirected graphs with self loops, parallel edges and isolated nodes."""
    num_nodes = draw(st.integers(min_nodes, max_nodes))
    pairs = draw(st.lists(st.integers(0, num_nodes**2 - 1), max_size=max_edges))
    pairs = torch.tensor(pairs, dtype=torch.long)
    edge_index = torch.stack([pairs // num_nodes, pairs % num_nodes])
    kind = draw(st.sampled_from(weights))
    weight = None
    if kind != "none":
        # Eighths: sums and products of a few of them are exact, in whatever order.
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
        weight = torch.randint(1, 17, pairs.shape, generator=generator).to(dtype) / 8
        if kind == "signed":
            weight = weight * (torch.randint(2, pairs.shape, generator=generator) * 2 - 1)
    if not (draw(st.booleans()) if directed is None else directed):
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        weight = None if weight is None else torch.cat([weight, weight])
    return Graph(edge_index, weight, num_nodes)


@st.composite
def graphs_with_perm(draw: st.DrawFn, **options: object) -> tuple[Graph, Tensor]:
    """A graph and some of its nodes, in any order."""
    graph = draw(graphs(**options))  # type: ignore[arg-type]
    order = draw(st.permutations(range(graph.num_nodes)))
    kept = draw(st.integers(1, graph.num_nodes))
    return graph, torch.tensor(order[:kept])


def random_graph(
    num_nodes: int,
    num_edges: int,
    seed: int = 0,
    weighted: bool = True,
    directed: bool = True,
    loops: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Graph:
    """A larger random graph; weights are eighths up to 2, whose sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    weight = torch.randint(1, 17, (num_edges,), generator=generator).to(dtype) / 8
    if not loops:
        proper = edge_index[0] != edge_index[1]
        edge_index, weight = edge_index[:, proper], weight[proper]
    if not directed:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        weight = torch.cat([weight, weight])
    return Graph(edge_index, weight if weighted else None, num_nodes)


class Batched(NamedTuple):
    """Several graphs as one, and their parts."""

    parts: list[Graph]
    edge_index: Tensor
    edge_weight: Tensor
    batch: Tensor
    offsets: list[int]

    @property
    def num_nodes(self) -> int:
        return self.batch.numel()


def random_batch(
    sizes: tuple[int, ...] = (7, 1, 12, 5, 30), seed: int = 0, dtype: torch.dtype = torch.float32
) -> Batched:
    """Weighted directed graphs of these sizes, of three edges per node."""
    parts = [random_graph(n, 3 * n, seed + i, dtype=dtype) for i, n in enumerate(sizes)]
    offsets = [sum(sizes[:i]) for i in range(len(sizes))]
    return Batched(
        parts,
        torch.cat([part.edge_index + start for part, start in zip(parts, offsets)], dim=1),
        torch.cat([part.edge_weight for part in parts]),  # type: ignore[misc]
        torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)),
        offsets,
    )


def permuted(graph: Graph, order: Tensor) -> Graph:
    """The same graph where new node j is old node ``order[j]``; edges are shuffled, too."""
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    shuffle = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    weight = None if graph.edge_weight is None else graph.edge_weight[shuffle]
    return Graph(place[graph.edge_index][:, shuffle], weight, graph.num_nodes)


def awake(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The same model away from its start, where layers of zeros would hide what they are fed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise.to(parameter.dtype))
    return model


@pytest.fixture(scope="module")
def quick_pictures() -> Iterator[None]:
    """Drawn and written, but small and without a layout, which takes longer than training here."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        quick = lambda width, height: Figure((width / 4, height / 4), dpi=40)  # noqa: E731
        patch.setattr("pyg_gunet.train.pictures._figure", quick)
        yield


@pytest.fixture(params=["scipy", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both families of sparse kernels, the GPU's on CPU tensors."""
    if request.param == "torch":
        monkeypatch.setattr(csr, "on_scipy", lambda tensor: False)
    return request.param


@pytest.fixture
def num_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def data_root(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a folder of real data, named by PYG_GUNET_DATA, to a temporary place."""

    def copy(folder: str) -> Path:
        source = os.environ.get("PYG_GUNET_DATA")
        if not source:
            pytest.skip("PYG_GUNET_DATA is not set: no real data")
        target = tmp_path / folder
        shutil.copytree(Path(source) / folder, target)
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return target

    return copy


def force_dense(monkeypatch: pytest.MonkeyPatch, share: float = 0.0) -> None:
    """Makes every product that may be dense dense."""
    monkeypatch.setattr(product, "SPARSE_RATE", 1e-30)
    monkeypatch.setattr(adjacency, "DENSE_SHARE", share)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a process has written a file."""
    for _ in range(2400):
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert path.exists(), process.communicate()[1]
