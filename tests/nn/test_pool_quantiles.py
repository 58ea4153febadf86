"""Spread selection by quantiles of the score, through the layers that take it."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.utils import to_undirected

from pyg_gunet import GPool, GraphUNet, GraphUNetAutoEncoder, SegmentationUNet
from pyg_gunet.functional.spread import spread


def graph(num_nodes: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, 2 * num_nodes), generator=generator)
    return torch.randn(num_nodes, 5, generator=generator), to_undirected(edge_index)


@pytest.mark.parametrize("quantiles", [None, 1, 4])
def test_selects_as_the_function_does(quantiles: int | None) -> None:
    x, edge_index = graph()
    pool = GPool(5, 0.4, select="spread", quantiles=quantiles)
    score, _ = pool.select.score(x, None)
    if quantiles == 1:  # the graph alone decides, whatever the scores
        score = torch.zeros_like(score)
    expected = spread(score.detach(), edge_index, 0.4, quantiles=quantiles)
    assert torch.equal(pool(x, edge_index).perm, expected)


def test_the_kept_set_holds_still_with_one_quantile() -> None:
    x, edge_index = graph()
    kept = {1: set(), None: set()}
    for quantiles, sets in kept.items():
        pool = GPool(5, 0.4, select="spread", quantiles=quantiles)
        for seed in range(5):
            torch.manual_seed(seed)
            pool.reset_parameters()
            sets.add(tuple(pool(x, edge_index).perm.tolist()))
    assert len(kept[1]) == 1
    assert len(kept[None]) > 1


def test_the_scorer_still_learns() -> None:
    x, edge_index = graph()
    pool = GPool(5, 0.4, select="spread", quantiles=1)
    pool(x, edge_index).x.square().sum().backward()
    assert pool.select.weight.grad.abs().max() > 0


def test_models_hand_it_to_their_pools() -> None:
    def pool(channels: int, ratio: float) -> GPool:
        return GPool(channels, ratio, select="spread", quantiles=3)

    for model in (
        GraphUNet(5, 8, 2, 2, pool=pool),
        GraphUNetAutoEncoder(5, 8, depth=2, pool=pool),
        SegmentationUNet(5, 8, 3, 2, pool=pool).net,
    ):
        assert [pool.select.quantiles for pool in model.pools] == [3, 3]
        assert "quantiles=3" in repr(model.pools[0])
        assert not model.structural


def test_the_auto_encoder_reads_the_graph_alone_unless_told() -> None:
    model = GraphUNetAutoEncoder(5, 8, depth=2)
    assert [pool.select.quantiles for pool in model.pools] == [1, 1]
    assert model.structural
    assert not GraphUNetAutoEncoder(5, 8, depth=2, select="topk").structural
    assert not GraphUNet(5, 8, 2, depth=2, select="spread").structural


def test_bad_quantiles_are_refused() -> None:
    with pytest.raises(ValueError, match="'quantiles' must be at least 1"):
        GPool(5, select="spread", quantiles=0)
    with pytest.raises(TypeError, match="'quantiles'"):
        GPool(5, select="spread", quantiles=1.5)
    with pytest.raises(ValueError, match="'quantiles' goes with select='spread'"):
        GPool(5, quantiles=2)


def test_structural_levels_are_those_that_are_prepared() -> None:
    """Kept nodes, their order, and with it clusters and edges: the scorer has no say in them."""
    x, edge_index = graph()
    model = GraphUNet(
        5, 8, 3, 3, lift="interpolate",
        pool=lambda c, r: GPool(c, r, select="spread", quantiles=1, connect="contract"),
    )  # fmt: skip
    ready = model.prepare(edge_index, num_nodes=60)
    for seed in range(3):
        torch.manual_seed(seed)
        model.reset_parameters()
        _, hierarchy = model.states(x, edge_index)
        for a, b in zip(hierarchy.perms, ready.perms):
            assert torch.equal(a, b)
        for a, b in zip(hierarchy.levels, ready.levels):
            assert all(torch.equal(i, j) for i, j in zip(a.edges(), b.edges()))
