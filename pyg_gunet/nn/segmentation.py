"""The segmentation network: a Graph U-Net with class scores at every level."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import scatter

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_memory,
    check_number,
    check_positive_int,
    check_tensor,
    outermost,
)
from pyg_gunet.nn.levels import Hierarchy, Level
from pyg_gunet.nn.unet import GraphUNet


class Scale(NamedTuple):
    """The class scores of one level: `logits` [N_l, C] of the input's nodes `node` [N_l]."""

    logits: Tensor
    node: Tensor


class SegmentationUNet(GraphUNet):
    r"""A :class:`GraphUNet` that scores the classes of every node.

    With ``multi_scale`` the classes are scored at every level, as in Long, Shelhamer and Darrell,
    "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 4: from the
    coarsest level up, scores are unpooled and added to those of the next level. What bilinear
    interpolation is there, is here the mean of the kept nodes within two hops of the level's graph
    (:func:`unpool_scores`).

    Selection is ``'spread'`` by default: plain top-k leaves whole regions of a picture without a
    kept node, and they see nothing of the coarser levels.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_classes (int): The number of classes `C`, at least 2.
        depth (int): Number of poolings. (default: 3)
        pool_ratios (float, int or list, optional): See :class:`GraphUNet`. (default: 0.5)
        multi_scale (bool, optional): Whether to score at every level. (default: False)
        **kwargs (optional): Further arguments of :class:`GraphUNet`: `sum_res`, `act`, `conv`,
            `select` (here ``'spread'`` by default), `quantiles`, `connect`, `gate`, `norm`,
            `dropout`.

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** logits [N, num_classes]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = SegmentationUNet(3, 16, num_classes=5, depth=2, multi_scale=True)
        >>> x, edge_index = torch.randn(10, 3), torch.randint(10, (2, 30))
        >>> model(x, edge_index).shape
        torch.Size([10, 5])
        >>> [scale.logits.shape[0] for scale in model.scales(x, edge_index)]
        [10, 5, 3]
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        depth: int = 3,
        pool_ratios: float | int | list[float | int] = 0.5,
        *,
        multi_scale: bool = False,
        select: str = "spread",
        **kwargs: object,
    ) -> None:
        check_positive_int(num_classes, "num_classes", minimum=2)
        if not isinstance(multi_scale, bool):
            raise TypeError(f"'multi_scale' must be a bool (got {multi_scale!r})")
        check_positive_int(hidden_channels, "hidden_channels")
        check_memory(4 * hidden_channels * num_classes, "num_classes", num_classes)
        for name, plain in (
            ("residual", "input"),
            ("stem", False),
            ("propagate", 0),
            ("mix", 0),
            ("readout", None),
        ):
            if kwargs.get(name, plain) != plain:
                raise ValueError(f"'{name}' is an option of GraphUNet alone (got {kwargs[name]!r})")
        super().__init__(
            in_channels,
            hidden_channels,
            hidden_channels,
            depth,
            pool_ratios,
            select=select,
            **kwargs,  # type: ignore[arg-type]
        )
        self.num_classes = num_classes
        self.multi_scale = multi_scale
        # One head per scored level, finest first.
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(hidden_channels, num_classes)
            for _ in range(depth + 1 if multi_scale else 1)
        )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""The class scores of every node: logits [N, num_classes].

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor or Structure): Edges, [2, E], or a prepared adjacency.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E]. (default: None, all ones)
            batch_size (int, optional): Of :class:`GraphUNet` with `readout` alone, here None.
        """
        self._check_batch_size(batch_size)
        return self.scales(x, edge_index, batch, edge_weight)[0].logits

    def scales(
        self,
        x: Tensor,
        edge_index: Tensor | Structure,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> list[Scale]:
        r"""The class scores of every scored level, finest first: those of the level itself plus
        all that comes up from below. The first is :meth:`forward`'s; without `multi_scale` it is
        the only one. For :func:`deep_supervision`.

        Arguments as in :meth:`forward`.
        """
        with outermost() as values:
            z, hierarchy = self.descend(x, edge_index, batch, edge_weight, True, values)
            return self._score(self._ascend(z, hierarchy), hierarchy)

    def _ascend(self, x: Tensor, hierarchy: Hierarchy) -> list[Tensor]:
        """The features of the way up at every level, finest first."""
        features = [x]
        for i in range(self.depth):
            level = hierarchy.levels[self.depth - 1 - i]
            x = self.climb(x, hierarchy, i)
            x = self.act(self.normalise(self.up_norms, x, level, i))
            features.append(x)
        return features[::-1]

    def _decode(self, x: Tensor, hierarchy: Hierarchy, batch_size: int | None = None) -> Tensor:
        return self._score(self._ascend(x, hierarchy), hierarchy)[0].logits

    def _score(self, features: list[Tensor], hierarchy: Hierarchy) -> list[Scale]:
        logits: list[Tensor] = []
        for j in reversed(range(len(self.heads))):
            score = self.heads[j](features[j])
            if logits:
                below = unpool_scores(logits[-1], hierarchy.perms[j], hierarchy.levels[j])
                score = score + below
            logits.append(score)
        return [Scale(one, hierarchy.kept(j)) for j, one in enumerate(reversed(logits))]

    def __repr__(self) -> str:
        options = "" if self.select == "spread" else f", select={self.select!r}"
        options += "" if self.connect == "two_hop" else f", connect={self.connect!r}"
        options += ", multi_scale=True" if self.multi_scale else ""
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.num_classes}, depth={self.depth}, pool_ratios={self.pool_ratios}{options})"
        )


def unpool_scores(scores: Tensor, perm: Tensor, level: Level) -> Tensor:
    r"""Carries scores of kept nodes to all nodes of the level above: to each the mean of the kept
    nodes that it reaches in two hops, weighted by the propagation :math:`H^2`, with `H` PyG's
    `gcn_norm` of the level's graph; zero where it reaches none.

    Args:
        scores (Tensor): Scores of the kept nodes [K, C].
        perm (Tensor): The kept nodes [K].
        level (Level): The level above, of N nodes.

    Returns:
        Tensor: Scores [N, C].
    """
    marked = torch.cat([scores, scores.new_ones(scores.size(0), 1)], dim=1)
    spread = scores.new_zeros(level.num_nodes, marked.size(1)).index_copy(0, perm, marked)
    if level.structure is not None:
        propagation = level.structure.propagation()
        spread = propagation.matmul(propagation.matmul(spread))
    else:
        assert level.edge_index is not None
        # Without weights, gcn_norm would give the self loops it adds weight 1 instead of 2.
        weight = scores.new_ones(level.edge_index.size(1))
        if level.edge_weight is not None:
            weight = level.edge_weight.detach().to(scores.dtype)
        (source, target), norm = gcn_norm(level.edge_index, weight, level.num_nodes, improved=True)
        for _ in range(2):
            messages = spread[source] * norm.unsqueeze(-1)
            spread = scatter(messages, target, dim=0, dim_size=level.num_nodes)
    mass = spread[:, -1:].detach()
    return spread[:, :-1] / mass.where(mass > 0, torch.inf)


def deep_supervision(
    scales: list[Scale],
    target: Tensor,
    criterion: Callable[..., Tensor] = F.cross_entropy,
    weight: Tensor | None = None,
    share: float = 0.5,
) -> Tensor:
    r"""The loss of every level against the classes of its nodes, :math:`\sum_l s^l L_l` over
    :math:`\sum_l s^l`, l = 0 the input's level: Lee et al., "Deeply-Supervised Nets", AISTATS
    2015, section 2.

    Args:
        scales (list[Scale]): From :meth:`SegmentationUNet.scales`.
        target (Tensor): The class of each node of the input [N].
        criterion (callable, optional): The loss ``(logits, target)`` of a level, or ``(logits,
            target, node_weight)`` with `weight`. (default: :func:`F.cross_entropy`)
        weight (Tensor, optional): A weight per node of the input [N], for
            :class:`BorderWeightedCrossEntropy`. (default: None)
        share (float, optional): The weight `s` of each level beside that above it, in [0, 1].
            (default: 0.5)

    Returns:
        Tensor: A scalar.

    Raises:
        ValueError: If there is no scale, or `share` is out of range.
    """
    if not isinstance(scales, (list, tuple)) or not all(isinstance(s, Scale) for s in scales):
        raise TypeError(f"'scales' must be a list of Scale (got {type(scales).__name__})")
    if not scales:
        raise ValueError("'scales' must hold at least one level (got none)")
    num_nodes = scales[0].logits.size(0)
    labelled = {"target": target} if weight is None else {"target": target, "weight": weight}
    for name, value in labelled.items():
        check_tensor(value, name)
        if value.shape != (num_nodes,):
            raise ValueError(f"'{name}' must have shape [{num_nodes}] (got {list(value.shape)})")
    if target.dtype not in LABEL_DTYPES:
        raise TypeError(f"'target' must hold integer labels (got {target.dtype})")
    with outermost() as values:
        if values and criterion is F.cross_entropy:
            wrong = ((target < 0) | (target >= scales[0].logits.size(1))) & (target != -100)
            if bool(wrong.any()):
                raise IndexError(
                    f"'target' must lie in [0, {scales[0].logits.size(1)}) "
                    f"(got {int(target[wrong][0])})"
                )
    if not callable(criterion):
        raise TypeError(f"'criterion' must be callable (got {criterion!r})")
    check_number(share, "share", 0.0, 1.0)
    target = target.long()
    total = scales[0].logits.new_zeros(())
    for level, (logits, node) in enumerate(scales):
        arguments = () if weight is None else (weight[node],)
        total = total + share**level * criterion(logits, target[node], *arguments)
    return total / sum(share**level for level in range(len(scales)))
