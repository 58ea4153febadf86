"""One vector per graph from the node states of all levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from pyg_gunet.functional.validate import (
    check_batch,
    check_choice,
    check_features,
    check_positive_int,
    check_same_device,
    outermost,
)

REDUCTIONS = ("mean", "max", "sum")


class HierarchicalReadout(torch.nn.Module):
    r"""Reads a vector per graph off the node states of every level of a hierarchy.

    `Cangea et al. 2018 <https://arxiv.org/abs/1811.01287>`_ (eqs. 4 and 5) set the mean and the
    maximum over a level's nodes side by side and add these up over levels: ``reduce=("mean",
    "max"), combine="sum"``. The official code of `Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_ takes the maximum, the sum and the mean, and sets all
    levels side by side: the default, but for the order of the entries. It has no parameters.

    Args:
        reduce (tuple of str, optional): Some of ``'mean'``, ``'max'`` and ``'sum'``, each once.
            (default: ``("mean", "max", "sum")``)
        combine (str, optional): ``'cat'``, levels side by side, finest first, or ``'sum'``, levels
            added up, which then must be of one width. (default: ``'cat'``)

    Shapes:
        - **input:** `xs`, per level [N_l, F_l]; `batches`, per level [N_l] sorted, or None
        - **output:** [B, R * sum of F_l] with ``'cat'``, [B, R * F] with ``'sum'``; R reductions

    A graph without nodes at a level reads as zeros there.

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> xs = [torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[4.0], [7.0]])]
        >>> batches = [torch.tensor([0, 0, 1]), torch.tensor([0, 1])]
        >>> HierarchicalReadout()(xs, batches)  # mean, max, sum of either level
        tensor([[2., 3., 4., 4., 4., 4.],
                [5., 5., 5., 7., 7., 7.]])
        >>> HierarchicalReadout(("mean", "max"), combine="sum")(xs, batches)
        tensor([[ 6.,  7.],
                [12., 12.]])
    """

    def __init__(self, reduce: Sequence[str] = REDUCTIONS, combine: str = "cat") -> None:
        super().__init__()
        if isinstance(reduce, str) or not isinstance(reduce, Sequence):
            raise TypeError(f"'reduce' must be a tuple of names (got {reduce!r})")
        for name in reduce:
            check_choice(name, "reduce", REDUCTIONS)
        if not reduce or len(set(reduce)) != len(reduce):
            raise ValueError(f"'reduce' must name each reduction once (got {tuple(reduce)!r})")
        check_choice(combine, "combine", ("cat", "sum"))
        self.reduce = tuple(reduce)
        self.combine = combine

    def out_channels(self, channels: Sequence[int]) -> int:
        r"""The size of the read-out of levels of these sizes.

        Args:
            channels (list[int]): Channels per level.

        Example:
            >>> HierarchicalReadout().out_channels([16, 16])
            96
        """
        for size in channels:
            check_positive_int(size, "channels")
        if not channels or (self.combine == "sum" and len(set(channels)) > 1):
            raise ValueError(
                f"'channels' must hold sizes, of one value with combine='sum' "
                f"(got {list(channels)!r})"
            )
        return len(self.reduce) * (sum(channels) if self.combine == "cat" else channels[0])

    def forward(
        self,
        xs: Sequence[Tensor],
        batches: Sequence[Tensor | None],
        batch_size: int | None = None,
    ) -> Tensor:
        r"""The read-out, see above for its shape.

        Args:
            xs (list[Tensor]): Node states per level, finest first, [N_l, F_l].
            batches (list[Tensor]): Graph id per node of each level, [N_l], or None for one graph.
            batch_size (int, optional): The number of graphs B. (default: None, up to the last that
                has a node)
        """
        with outermost() as values:
            for name, value in (("xs", xs), ("batches", batches)):
                if not isinstance(value, Sequence) or isinstance(value, str):
                    raise TypeError(f"'{name}' must be a list, one entry per level (got {value!r})")
            if len(xs) != len(batches):
                raise ValueError(
                    f"'batches' must hold one entry per level, {len(xs)} of them "
                    f"(got {len(batches)})"
                )
            if not xs:
                raise ValueError("'xs' must hold a level (got none)")
            for x, batch in zip(xs, batches):
                check_features(x, None, values, name="xs")
                check_batch(batch, x.size(0), values)
                check_same_device(x, "xs", batches=batch)
            widths = [x.size(1) for x in xs]
            if self.combine == "sum" and len(set(widths)) > 1:
                raise ValueError(f"'xs' must have one width with combine='sum' (got {widths})")
            if batch_size is not None:
                check_positive_int(batch_size, "batch_size")
        if batch_size is not None and values:
            check_batch_size(batch_size, batches)
        size = num_graphs(batches) if batch_size is None else batch_size
        vectors = [self._read(x, batch, size) for x, batch in zip(xs, batches)]
        return torch.cat(vectors, 1) if self.combine == "cat" else torch.stack(vectors).sum(0)

    def _read(self, x: Tensor, batch: Tensor | None, size: int) -> Tensor:
        if batch is None:
            batch = torch.zeros(x.size(0), dtype=torch.long, device=x.device)
        batch = batch.long()
        return torch.cat([scatter(x, batch, 0, size, reduce=name) for name in self.reduce], 1)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({', '.join(self.reduce)}, combine={self.combine!r})"


def num_graphs(batches: Sequence[Tensor | None]) -> int:
    """One more than the last graph that has a node."""
    # Ids are sorted: the last is the highest.
    last = [int(ids) for batch in batches if batch is not None for ids in batch[-1:]]
    return max([0, *last]) + 1


def check_batch_size(batch_size: int, batches: Sequence[Tensor | None]) -> None:
    """A number of graphs that the nodes of every level fit."""
    found = num_graphs(batches)
    if batch_size < found:
        raise ValueError(f"'batch_size' must be at least {found} (got {batch_size!r})")


def make_readout(readout: str | HierarchicalReadout | None) -> HierarchicalReadout | None:
    """A read-out by how it combines levels, or the user's own; None for none."""
    if readout is None or isinstance(readout, HierarchicalReadout):
        return readout
    check_choice(readout, "readout", ("cat", "sum"))
    return HierarchicalReadout(combine=readout)
