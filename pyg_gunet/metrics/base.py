"""What the metrics share: sums that a refused update leaves alone, and means over graphs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Scores(Metric):
    """A metric whose states are sums: an update computes what it adds, then adds it."""

    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    graph_sums: Tensor
    graph_counts: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Updates, and gives the scores of these arguments alone."""
        kept = dict(self.__dict__)
        try:
            return super().forward(*args, **kwargs)
        except Exception:
            # It empties the states before it updates: a batch that is refused would take with it
            # all that was counted, and leave the metric set not to synchronise.
            self.__dict__.update(kept)
            raise

    def add(self, **counts: Tensor) -> None:
        """Adds to the states of these names."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    def add_graph_means(self, kinds: int) -> None:
        """States for the means over graphs of so many scores."""
        self.add_state("graph_sums", torch.zeros(kinds, dtype=torch.float64), "sum")
        self.add_state("graph_counts", torch.zeros(kinds, dtype=torch.int64), "sum")

    def graph_means(self, scores: Iterable[Tensor]) -> dict[str, Tensor]:
        """What scores `[B]` each add to those states; a graph without a score does not count."""
        values = torch.stack(list(scores))
        return {"graph_sums": values.nansum(dim=-1), "graph_counts": (~values.isnan()).sum(dim=-1)}

    def means_of_graphs(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The means, as `graph_<name>`."""
        means = (self.graph_sums / self.graph_counts).unbind()
        return {f"graph_{name}": mean for name, mean in zip(names, means, strict=True)}
