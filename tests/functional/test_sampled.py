"""Sampled two-hop connectivity against the exact one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyg_gunet.functional.connect import two_hop
from pyg_gunet.functional.sampled import sampled_two_hop


def graph(n: int, e: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(n, (2, e), generator=generator)
    weight = torch.rand(e, generator=generator, dtype=torch.float64)
    return edge_index, weight, torch.randperm(n, generator=generator)[: n // 2]


def dense(edge_index: Tensor, weight: Tensor, n: int) -> Tensor:
    out = torch.zeros(n, n, dtype=weight.dtype)
    return out.index_put((edge_index[0], edge_index[1]), weight, accumulate=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_two_hop_where_walks_are_few(weighted: bool) -> None:
    edge_index, weight, perm = graph(30, 70)
    w = weight if weighted else None
    exact = two_hop(edge_index, w, perm, 30)
    drawn = sampled_two_hop(edge_index, w, perm, 30, max_degree=1000)
    assert torch.equal(drawn[0], exact[0])
    assert torch.allclose(drawn[1], exact[1])


def test_at_most_max_degree_incoming_edges_among_two_hop_neighbours() -> None:
    edge_index, weight, perm = graph(200, 3000)
    exact = dense(*two_hop(edge_index, weight, perm, 200), 100)
    for max_degree in (1, 5, 16):
        index, value = sampled_two_hop(edge_index, weight, perm, 200, max_degree)
        assert int(torch.bincount(index[1], minlength=100).max()) <= max_degree
        assert bool((exact[index[0], index[1]] > 0).all())
        assert bool((value > 0).all())
        assert bool((index[0] != index[1]).all())
        key = index[0] * 100 + index[1]
        assert bool((key[1:] > key[:-1]).all())
    assert int(torch.bincount(index[1], minlength=100).min()) >= 8


def test_weights_are_unbiased_walk_counts() -> None:
    edge_index, weight, perm = graph(24, 140)
    sign = torch.where(torch.arange(140) % 5 == 0, -1.0, 1.0).double()
    exact = dense(*two_hop(edge_index, weight * sign, perm, 24), 12)
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [
            dense(*sampled_two_hop(edge_index, weight * sign, perm, 24, 6, generator), 12)
            for _ in range(3000)
        ]
    )
    error = (draws.mean(dim=0) - exact).abs()
    bound = 5 * draws.std(dim=0) / 3000**0.5 + 1e-9
    assert bool((error <= bound).all())
    assert float(draws.std(dim=0).max()) > 0.01


def test_gradient_is_that_of_two_hop_in_expectation() -> None:
    edge_index, weight, perm = graph(12, 50)
    probe = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def gradient(*out: Tensor) -> Tensor:
        return torch.autograd.grad((out[1] * probe[out[0][0], out[0][1]]).sum(), weight)[0]

    weight.requires_grad_()
    exact = gradient(*two_hop(edge_index, weight, perm, 12))
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [
            gradient(*sampled_two_hop(edge_index, weight, perm, 12, 6, generator))
            for _ in range(2000)
        ]
    )
    error = (draws.mean(dim=0) - exact).abs()
    assert bool((error <= 5 * draws.std(dim=0) / 2000**0.5 + 1e-9).all())


def test_gradcheck_where_exact() -> None:
    edge_index, weight, perm = graph(8, 16)

    def value(w: Tensor) -> Tensor:
        return sampled_two_hop(edge_index, w, perm, 8, max_degree=100)[1]

    assert torch.autograd.gradcheck(value, (weight.requires_grad_(),))


def test_seeded() -> None:
    edge_index, weight, perm = graph(200, 3000)
    calls = [
        sampled_two_hop(edge_index, weight, perm, 200, 8, torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    ]
    assert torch.equal(calls[0][0], calls[1][0])
    assert torch.equal(calls[0][1], calls[1][1])
    assert calls[0][0].shape != calls[2][0].shape or not torch.equal(calls[0][0], calls[2][0])
    torch.manual_seed(3)
    a = sampled_two_hop(edge_index, weight, perm, 200, 8)
    torch.manual_seed(3)
    assert torch.equal(a[0], sampled_two_hop(edge_index, weight, perm, 200, 8)[0])


def test_batch_keeps_graphs_apart_and_hubs_cost_no_square() -> None:
    star = torch.stack([torch.zeros(20000, dtype=torch.long), torch.arange(1, 20001)])
    star = torch.cat([star, star.flip(0)], dim=1)
    both = torch.cat([star, star + 20001], dim=1)
    perm = torch.cat([torch.arange(1, 10001), torch.arange(1, 10001) + 20001])
    index, weight = sampled_two_hop(both, None, perm, 40002, max_degree=4)
    assert index.size(1) <= 4 * 20000
    assert bool(((index[0] < 10000) == (index[1] < 10000)).all())
    # All leaves of a star reach each other by one walk, and themselves by two.
    assert weight.sum().item() / 20000 == pytest.approx(9999, rel=0.02)


def test_no_edges_and_arguments_that_do_not_fit() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    index, weight = sampled_two_hop(none, None, torch.tensor([1]), 3)
    assert index.shape == (2, 0)
    assert weight.shape == (0,)
    with pytest.raises(ValueError, match="'max_degree' must be at least 1 \\(got 0\\)"):
        sampled_two_hop(none, None, torch.tensor([1]), 3, max_degree=0)
    with pytest.raises(IndexError, match="'perm'.*got 3"):
        sampled_two_hop(none, None, torch.tensor([3]), 3)
