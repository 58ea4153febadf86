"""Memory: nothing leaks, nothing blows up unsaid; longer forms: ``python -m tests.memory``."""

from __future__ import annotations

import math
import mmap

import pytest
import torch

from pyg_gunet import GPool, GraphUNet
from pyg_gunet.functional.connect import two_hop
from pyg_gunet.graph.sparse import product
from pyg_gunet.graph.sparse.product import ProductLimitError
from tests import memory


@pytest.mark.parametrize("connect", memory.CONNECTIONS)
def test_steps_leave_nothing_behind(connect):
    """In resident memory; spread selection is a part of every second step."""
    grown = min(memory.growth(select, connect, steps=30, warm=20) for select in memory.SELECTIONS)
    assert grown < 5


def test_the_leak_test_finds_leaks():
    before = memory.resident()
    with mmap.mmap(-1, 2**24) as pages:  # from the system: malloc could hand out freed memory again
        pages.write(bytes(2**24))
        assert memory.resident() - before > 5


@pytest.mark.parametrize("connect", ["two_hop", "walk", "sampled", "induced", "contract"])
def test_ten_thousand_tiny_graphs(connect):
    x, edge_index, batch = memory.tiny_graphs(10_000)
    torch.manual_seed(0)
    model = GraphUNet(4, 4, 2, depth=2, connect=connect).eval()
    with torch.no_grad():
        out = model(x, edge_index, batch)
        rows = batch >= 9_990
        first = int(rows.nonzero()[0])
        inside = edge_index[0] >= first
        tail = model(x[rows], edge_index[:, inside] - first, batch[rows] - 9_990)
    torch.testing.assert_close(out[rows], tail, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("connect", ["walk", "sampled", "contract"])
def test_one_large_graph(connect):
    assert math.isfinite(float(memory.large(200_000, connect)))


def test_gradients_through_fifty_levels():
    least, largest = memory.deep(50, size=20)
    assert math.isfinite(largest)
    assert least > 0


def star(n: int) -> torch.Tensor:
    return torch.stack([torch.arange(n), torch.zeros(n, dtype=torch.long)])


def test_a_product_that_would_not_fit_is_refused_with_the_way_out(monkeypatch):
    """A hub of 2 n edges joins all pairs: n^2 products, known before the first one."""
    n = 3_000
    edges = torch.cat([star(n), star(n).flip(0)], dim=1)

    class Memory:
        available = 100 * 2**20

    monkeypatch.setattr(product.psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(product, "_scipy_product", lambda *a: pytest.fail("it was computed"))
    with pytest.raises(ProductLimitError, match=r"'walk' or 'sampled'.*'ratio'.*'induced'"):
        two_hop(edges, None, torch.arange(n), n)
    pool = GPool(2, 1.0, connect="two_hop", max_products=1_000)
    with pytest.raises(MemoryError, match=r"takes 9,0\d\d,\d\d\d products.*max_products=1,000"):
        pool(torch.randn(n, 2), edges)
