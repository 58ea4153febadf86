"""Selection of nodes by a learned score, as modules take and give it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.inits import uniform
from torch_geometric.nn.pool.select import Select, SelectOutput
from torch_geometric.utils import softmax

from pyg_gunet.functional.select import graph_sizes, num_kept, topk
from pyg_gunet.functional.spread import spread
from pyg_gunet.graph.inputs import as_edges
from pyg_gunet.validate import (
    check_batch,
    check_choice,
    check_features,
    check_number,
    check_perm,
    check_positive_int,
    check_ratio,
    outermost,
)

SELECTIONS = ("topk", "spread")
GATES = (None, "tanh", "sigmoid")
# Why spread gates by sigmoid: it fills up with nodes whose score is near 0, which tanh would erase.
DEFAULT_GATE = {"topk": "tanh", "spread": "sigmoid"}


# Its rounds are as many as the graph asks for: a compiler would unroll and trace each.
_spread = torch.compiler.disable(spread)


class GPoolSelect(Select):
    r"""Scores the nodes by a learned projection and selects per graph: the first part of
    :class:`GPool`, with its arguments.

    Called with edges, it returns PyG's :class:`SelectOutput`, so that it can stand in for PyG's own
    selections.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float | int | None = 0.5,
        min_score: float | None = None,
        gate: str | None = None,
        select: str = "topk",
        quantiles: int | None = None,
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_choice(select, "select", SELECTIONS)
        if quantiles is not None:
            check_positive_int(quantiles, "quantiles")
            if select != "spread":
                raise ValueError(
                    f"'quantiles' goes with select='spread' (got {quantiles!r} with "
                    f"select={select!r})"
                )
        check_choice(gate, "gate", GATES)
        if min_score is not None:
            check_number(min_score, "min_score")
            if select != "topk":
                raise ValueError(f"'min_score' goes with select='topk' (got select={select!r})")
            if gate is not None:
                raise ValueError(f"'gate' does not go with 'min_score', a softmax (got {gate!r})")
        elif ratio is None:
            raise ValueError("'ratio' must be given where 'min_score' is None (got None)")
        if ratio is not None:
            check_ratio(ratio)
        self.in_channels = in_channels
        self.ratio = ratio
        self.min_score = min_score
        self.gate = gate
        self.strategy = select
        self.quantiles = quantiles
        self.weight = torch.nn.Parameter(torch.empty(1, in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets the projection vector."""
        uniform(self.in_channels, self.weight)

    def score(self, x: Tensor, batch: Tensor | None) -> tuple[Tensor, Tensor]:
        """``(y, gate(y))``, both [N]: what is ranked and what multiplies the features."""
        y = (x * self.weight).sum(dim=-1)
        if self.min_score is not None:
            if batch is None:
                batch = torch.zeros(x.size(0), dtype=torch.long, device=x.device)
            y = softmax(y, batch.long())  # torch before 2.8 scatters by int64 alone
            return y, y
        # A projection of zeros scores every node 0, with a finite gradient, instead of NaN.
        norm = self.weight.norm(p=2)
        y = y / norm.where(norm > 0, torch.ones_like(norm))
        gate = self.gate or DEFAULT_GATE[self.strategy]
        return y, torch.tanh(y) if gate == "tanh" else torch.sigmoid(y)

    @property
    def structural(self) -> bool:
        """Whether the graph alone decides, so that it can be done once."""
        return self.strategy == "spread" and self.quantiles == 1

    def choose(self, y: Tensor, edge_index: Tensor | None, batch: Tensor | None) -> Tensor:
        """`perm` for scores `y`."""
        y = torch.zeros_like(y) if self.structural else y.detach()
        if self.strategy == "topk":
            return topk(y, self.ratio, batch, self.min_score)
        if edge_index is None:
            raise ValueError("'edge_index' must be given for select='spread' (got None)")
        assert self.ratio is not None
        k = num_kept(self.ratio, graph_sizes(batch, y.size(0), y.device))
        return _spread(y, edge_index, k, batch, quantiles=self.quantiles)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        batch: Tensor | None = None,
        edge_index: Tensor | None = None,
        perm: Tensor | None = None,
    ) -> SelectOutput:
        """Of `x` [N, F]; nodes `perm` [K] that were selected before are scored alone."""
        with outermost() as values:
            check_features(x, self.in_channels, values)
            check_batch(batch, x.size(0), values)
            edge_index, _ = as_edges(edge_index, None, x.size(0))
            y, gated = self.score(x, batch)
            if perm is None:
                perm = self.choose(y, edge_index, batch)
            else:
                check_perm(perm, x.size(0), values)
        return SelectOutput(
            node_index=perm,
            num_nodes=x.size(0),
            cluster_index=torch.arange(perm.size(0), device=perm.device),
            num_clusters=perm.size(0),
            weight=gated[perm],
        )

    def __repr__(self) -> str:
        how = f"ratio={self.ratio}" if self.min_score is None else f"min_score={self.min_score}"
        return f"{self.__class__.__name__}({self.in_channels}, {how})"
