"""Graphs of every shape: what random pairs of nodes rarely make."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import Graph, graphs

KINDS = ("random", "star", "clique", "single", "isolated", "path", "parts", "multi")


@st.composite
def any_graphs(
    draw: st.DrawFn,
    weights: tuple[str, ...] = ("none", "positive", "signed"),
    names: bool = False,
    min_nodes: int = 1,
) -> Graph | tuple[str, Graph]:
    """Stars, cliques, single nodes, nodes without edges, paths, several components, parallel
    edges with self loops, and random graphs; directed or not, weighted by eighths or not."""
    kind = draw(st.sampled_from(KINDS if min_nodes == 1 else tuple(set(KINDS) - {"single"})))
    n = 1 if kind == "single" else draw(st.integers(max(min_nodes, 2), 9))
    if kind == "random":
        graph = draw(graphs(min_nodes=min_nodes, weights=weights))
    else:
        nodes = torch.arange(n)
        pairs = {
            "star": torch.stack([torch.zeros(n - 1, dtype=torch.long), nodes[1:]]),
            "clique": torch.combinations(nodes).t(),
            "path": torch.stack([nodes[:-1], nodes[1:]]),
            "single": torch.zeros(2, draw(st.integers(0, 2)), dtype=torch.long),
            "isolated": torch.zeros(2, 0, dtype=torch.long),
            "parts": torch.stack([nodes, nodes // 2 * 2]),
            "multi": torch.stack([nodes % 3 % n, nodes * 2 % n]).repeat(1, 2),
        }[kind]
        if draw(st.booleans()):
            pairs = torch.cat([pairs, pairs.flip(0)], dim=1)
        graph = Graph(pairs, _weights(draw, pairs.size(1), weights), n)
    return (kind, graph) if names else graph


def _weights(draw: st.DrawFn, count: int, kinds: tuple[str, ...]) -> Tensor | None:
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    weight = torch.randint(1, 17, (count,), generator=generator).double() / 8
    if kind == "signed":
        weight = weight * (torch.randint(2, (count,), generator=generator) * 2 - 1)
    return weight


@st.composite
def perms(draw: st.DrawFn, num_nodes: int) -> Tensor:
    """Some nodes, one at least, in any order."""
    order = draw(st.permutations(range(num_nodes)))
    return torch.tensor(order[: draw(st.integers(1, num_nodes))])


@st.composite
def scores(draw: st.DrawFn, size: int, finite: bool = False) -> Tensor:
    """Scores with ties, all equal or all different, and infinite ones."""
    kind = draw(st.sampled_from(["ties", "equal", "different"]))
    values: list[float] = [0.0] * size
    if kind == "different":
        values = [float(v) for v in draw(st.permutations(range(size)))]
    elif kind == "ties":
        among = [-1.0, 0.0, 0.5] + ([] if finite else [math.inf, -math.inf])
        values = draw(st.lists(st.sampled_from(among), min_size=size, max_size=size))
    return torch.tensor(values, dtype=torch.float64)
