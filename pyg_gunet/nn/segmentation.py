"""The segmentation network: a Graph U-Net with class scores at every level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy, Level
from pyg_gunet.nn.base import MakePool
from pyg_gunet.nn.parts import MakeConv, MakeNorm, Ratios, apply_norm, make_norm
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.validate import (
    check_bool,
    check_memory,
    check_number,
    check_positive_int,
    check_tensor,
    outermost,
)


class Scale(NamedTuple):
    """The class scores of one level: `logits` [N_l, C] of the input's nodes `node` [N_l]."""

    logits: Tensor
    node: Tensor


class SegmentationUNet(torch.nn.Module):
    r"""Class scores of every node from a :class:`GraphUNet`.

    With ``multi_scale`` the classes are scored at every level, as in Long, Shelhamer and Darrell,
    "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 4: from the
    coarsest level up, scores are lifted and added to those of the next level, by `lift`, or where
    that brings zeros back as the mean of the kept nodes within two hops (:func:`unpool_scores`).

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_classes (int): The number of classes `C`, at least 2.
        depth (int): Number of poolings. (default: 3)
        pool_ratios (float, int or list, optional): See :class:`GraphUNet`. (default: 0.5)
        multi_scale (bool, optional): Whether to score at every level. (default: False)
        sum_res, act, reduce, connect, lift, conv, dropout, pool: See :class:`GraphUNet`.
        select (str, optional): See :class:`GraphUNet`. Plain top-k leaves whole regions of a
            picture without a kept node, and they see nothing of the coarser levels.
            (default: ``'spread'``)
        norm (str or callable, optional): Normalisation after each convolution. (default: None)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None, `edge_attr` [E, D] or None
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
        pool_ratios: Ratios = 0.5,
        *,
        multi_scale: bool = False,
        sum_res: bool | None = True,
        act: str | Callable[[Tensor], Tensor] = "relu",
        select: str = "spread",
        reduce: str = "keep",
        connect: str = "two_hop",
        lift: str = "zero",
        conv: MakeConv = None,
        norm: MakeNorm = None,
        dropout: float = 0.0,
        pool: MakePool = None,
    ) -> None:
        super().__init__()
        check_positive_int(num_classes, "num_classes", minimum=2)
        check_bool(multi_scale, "multi_scale")
        check_positive_int(hidden_channels, "hidden_channels")
        check_memory(4 * hidden_channels * num_classes, "num_classes", num_classes)
        self.net = GraphUNet(
            in_channels,
            hidden_channels,
            hidden_channels,
            depth,
            pool_ratios,
            sum_res,
            act,
            select=select,
            reduce=reduce,
            connect=connect,
            lift=lift,
            conv=conv,
            norm=norm,
            dropout=dropout,
            pool=pool,
        )
        self.norm = None if norm is None else make_norm(norm, hidden_channels)
        self.num_classes = num_classes
        self.multi_scale = multi_scale
        # One head per scored level, finest first.
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(hidden_channels, num_classes)
            for _ in range(depth + 1 if multi_scale else 1)
        )

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        for module in (self.net, self.norm, *self.heads):
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()

    def prepare(self, *args: Any, **kwargs: Any) -> Graph | Hierarchy:
        r"""As :meth:`GraphUNet.prepare`."""
        return self.net.prepare(*args, **kwargs)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        r"""The class scores of every node: logits [N, num_classes]. Arguments as in
        :meth:`GraphUNet.forward`."""
        return self.scales(x, edge_index, batch, edge_weight, edge_attr=edge_attr)[0].logits

    def scales(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
    ) -> list[Scale]:
        r"""The class scores of every scored level, finest first: those of the level itself plus
        all that comes up from below. The first is :meth:`forward`'s; without `multi_scale` it is
        the only one. For :func:`deep_supervision`. Arguments as in :meth:`forward`.
        """
        states, hierarchy = self.net.states(x, edge_index, batch, edge_weight, edge_attr=edge_attr)
        if self.norm is not None:
            states[0] = apply_norm(self.norm, states[0], hierarchy.levels[0].batch)
        states[0] = self.net.act(states[0])
        logits: list[Tensor] = []
        for j in reversed(range(len(self.heads))):
            score = self.heads[j](states[j])
            if logits:
                score = score + self._lifted(logits[-1], hierarchy, j)
            logits.append(score)
        return [Scale(one, hierarchy.kept(j)) for j, one in enumerate(reversed(logits))]

    def _lifted(self, logits: Tensor, hierarchy: Hierarchy, level: int) -> Tensor:
        if self.net.unpool.lift == "zero":
            return unpool_scores(logits, hierarchy.perms[level], hierarchy.levels[level])
        return self.net.unpool.up(logits, hierarchy, level)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, multi_scale={self.multi_scale}"


def unpool_scores(scores: Tensor, perm: Tensor, level: Level) -> Tensor:
    r"""Carries scores of kept nodes to all nodes of the level above: to each the mean of the kept
    nodes that it reaches in two hops, weighted by the propagation :math:`H^2`, with `H` PyG's
    `gcn_norm` of the level's graph; zero where it reaches none. Signed weights are shared out by
    their sizes, as a sum of them may vanish: no score grows on its way.

    Args:
        scores (Tensor): Scores of the kept nodes [K, C].
        perm (Tensor): The kept nodes [K].
        level (Level): The level above, of N nodes.

    Returns:
        Tensor: Scores [N, C].
    """
    spread = scores.new_zeros(level.num_nodes, scores.size(1)).index_copy(0, perm, scores)
    mass = scores.new_zeros(level.num_nodes, 1).index_fill(0, perm, 1.0)
    sizes = level.graph.absolute()
    for _ in range(2):
        spread, mass = level.graph.propagate(spread), sizes.propagate(mass)
    return spread / mass.where(mass > 0, torch.inf)


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
