"""Two-hop connectivity as modules take and give it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch_geometric.nn.pool.connect import Connect, ConnectOutput
from torch_geometric.nn.pool.select import SelectOutput

from pyg_gunet.functional.connect import two_hop


class TwoHopConnect(Connect):
    r"""Two-hop connectivity of selected nodes, :func:`pyg_gunet.functional.connect.two_hop`, as a
    PyG :class:`Connect`.

    Args:
        max_products (int, optional): The most scalar products that may be computed.
            (default: None, from the available memory)
    """

    def __init__(self, max_products: int | None = None) -> None:
        super().__init__()
        self.max_products = max_products

    def forward(
        self,
        select_output: SelectOutput,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> ConnectOutput:
        perm, num_nodes = select_output.node_index, select_output.num_nodes
        index, weight = connect_walks(
            two_hop, edge_index, edge_attr, perm, num_nodes, self.max_products
        )
        return ConnectOutput(index, weight, None if batch is None else batch[perm])


def connect_walks(
    connect: Callable[..., tuple[Tensor, Tensor]],
    edge_index: Tensor,
    edge_attr: Tensor | None,
    perm: Tensor,
    num_nodes: int,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`two_hop` or :func:`sampled_two_hop` for `edge_attr` of shape [E] or [E, 1], which the
    result keeps."""
    if edge_attr is not None and edge_attr.dim() > 1 and edge_attr.shape[1:] != (1,):
        raise ValueError(
            f"'edge_attr' must be one weight per edge, [E] or [E, 1], for connect='two_hop' "
            f"or 'sampled' (got shape {list(edge_attr.shape)}); connect='induced' keeps wider ones"
        )
    column = edge_attr is not None and edge_attr.dim() == 2
    weight = edge_attr.view(-1) if column and edge_attr is not None else edge_attr
    index, weight = connect(edge_index, weight, perm, num_nodes, limit)
    return index, weight.view(-1, 1) if column else weight
