"""The convolution of a Graph U-Net on prepared graphs, and what other modules take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GCNConv, MessagePassing

from pyg_gunet.graph.gcn import gcn_edges
from pyg_gunet.graph.graph import Graph


class UNetConv(GCNConv):
    r"""PyG's ``GCNConv(improved=True)``, which also takes a prepared
    :class:`~pyg_gunet.graph.graph.Graph` in place of `edge_index`.

    The propagation of a level is then normalised once for all its convolutions, and runs at the
    narrower side of the linear map. Parameters, their names and their initial values are those of
    :class:`GCNConv`. Weights may be negative: degrees count absolute ones, see
    :mod:`pyg_gunet.graph.gcn`.

    Hooks on messages and :mod:`torch_geometric.explain` need messages: where there are any, a
    prepared graph is propagated edge by edge.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Size of each output sample.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, improved=True)

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        r"""Convolves `x` [N, F] along the edges.

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor or Graph): Edges [2, E], or a prepared graph.
            edge_weight (Tensor, optional): Weights [E]; None with a graph. (default: None)
        """
        if isinstance(edge_index, Graph):
            if edge_weight is not None:
                raise ValueError("'edge_weight' must be None with a prepared graph (got a tensor)")
            if not watched(self):
                return self._along(x, edge_index)
            edge_index, edge_weight = edge_index.messages()
        if not isinstance(edge_index, Tensor) or edge_index.layout is not torch.strided:
            return super().forward(x, edge_index, edge_weight)
        x = self.lin(x)
        edge_index, edge_weight = gcn_edges(edge_index, edge_weight, x.size(0), x.dtype)
        return self._biased(self.propagate(edge_index, x=x, edge_weight=edge_weight))

    def _along(self, x: Tensor, graph: Graph) -> Tensor:
        if self.in_channels < self.out_channels:
            return self._biased(self.lin(graph.propagate(x)))
        return self._biased(graph.propagate(self.lin(x)))

    def _biased(self, out: Tensor) -> Tensor:
        # Not in place: a hook may hold what it has seen.
        return out if self.bias is None else out + self.bias


HOOKED = ("_propagate", "_message", "_aggregate", "_edge_update")


def watched(conv: MessagePassing) -> bool:
    """Whether somebody looks at the messages of a convolution, or masks them."""
    hooks = (name for name in vars(conv) if name.endswith("_hooks") and name.startswith(HOOKED))
    return bool(conv.explain) or any(getattr(conv, name) for name in hooks)


@contextmanager
def explained(model: torch.nn.Module, edge_weight: Tensor | None) -> Iterator[Tensor | None]:
    """The weights of the edges, times the mask [E] that :mod:`torch_geometric.explain` has set on a
    model's convolutions.

    A pooled level has other edges than the mask, so it multiplies the weights of the input's edges,
    once, and everything follows from these; meanwhile the convolutions mask nothing. A prepared
    graph, whose weights are fixed, refuses them.
    """
    masked = [
        module
        for module in model.modules()
        if isinstance(module, MessagePassing) and module.explain and module._edge_mask is not None
    ]
    if not masked:
        yield edge_weight
        return
    mask = masked[0]._edge_mask
    mask = mask.sigmoid() if masked[0]._apply_sigmoid else mask
    try:
        for module in masked:
            module.explain = None
        yield mask if edge_weight is None else mask * edge_weight
    finally:
        for module in masked:
            module.explain = True


def takes(module: torch.nn.Module, name: str) -> bool:
    """Whether a module's forward takes an argument: by its attribute ``supports_{name}``, as PyG's
    models declare it, or else by its parameters.

    Raises:
        ValueError: Where they do not tell, as ``**kwargs``.
    """
    module = getattr(module, "_orig_mod", module)  # of torch.compile, which tells nothing
    declared = getattr(module, f"supports_{name}", None)
    if declared is not None:
        return bool(declared)
    parameters = inspect.signature(module.forward).parameters
    if name in parameters:
        return True
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"'{name}': the forward of {type(module).__name__} does not tell whether it takes it; "
            f"set its attribute 'supports_{name}' to True or False (got **kwargs)"
        )
    return False
