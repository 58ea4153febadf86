"""How kept nodes connect, as modules that a user can exchange: each a PyG :class:`Connect`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.pool.connect import Connect, ConnectOutput
from torch_geometric.nn.pool.select import SelectOutput

from pyg_gunet.functional.connect import induced, join_attr, split_attr, two_hop
from pyg_gunet.functional.sampled import sampled_two_hop
from pyg_gunet.graph.inputs import refuse_tangent
from pyg_gunet.graph.transfer import Transfer, contracted
from pyg_gunet.validate import check_generator, check_positive_int

CONNECTIONS = ("induced", "two_hop", "contract", "sampled")


class LevelConnect(Connect):
    """What all of ours share: PyG's call, on top of :meth:`edges`."""

    name = ""
    max_products: int | None = None

    def edges(
        self,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        perm: Tensor,
        num_nodes: int,
        transfer: Transfer | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """``(edge_index [2, E'], weights [E'] or None, features [E', ...] or None)`` between the
        kept nodes `perm` [K].

        Args:
            edge_index (Tensor): Edges, [2, E].
            edge_weight (Tensor, optional): Weights, [E].
            edge_attr (Tensor, optional): Features, [E, ...].
            perm (Tensor): Kept nodes, [K].
            num_nodes (int): Number of nodes, N.
            transfer (Transfer, optional): Of the same nodes, where it is in hand.
                (default: None)
        """
        raise NotImplementedError

    def forward(
        self,
        select_output: SelectOutput,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> ConnectOutput:
        perm = select_output.node_index
        weight, attr = split_attr(edge_attr)
        index, weight, attr = self.edges(edge_index, weight, attr, perm, select_output.num_nodes)
        carried = join_attr(edge_attr, weight, attr)
        return ConnectOutput(index, carried, None if batch is None else batch[perm])


class InducedConnect(LevelConnect):
    r"""The edges between kept nodes, :func:`pyg_gunet.functional.connect.induced`."""

    name = "induced"

    def edges(self, edge_index, edge_weight, edge_attr, perm, num_nodes, transfer=None):  # type: ignore[no-untyped-def]
        if edge_weight is None or edge_attr is None:
            carried = edge_attr if edge_weight is None else edge_weight
            index, carried = induced(edge_index, carried, perm, num_nodes)
            return (index, None, carried) if edge_weight is None else (index, carried, None)
        ids = torch.arange(edge_index.size(1), device=edge_index.device)
        index, kept = induced(edge_index, ids, perm, num_nodes)
        return index, edge_weight[kept], edge_attr[kept]


class ContractConnect(LevelConnect):
    r"""Every node merged into the kept node that stands for it,
    :func:`pyg_gunet.functional.connect.contract`."""

    name = "contract"

    def edges(self, edge_index, edge_weight, edge_attr, perm, num_nodes, transfer=None):  # type: ignore[no-untyped-def]
        refuse_tangent(edge_weight)
        if transfer is None:
            transfer = Transfer.from_edges(perm, edge_index, edge_weight, num_nodes)
        return contracted(edge_index, edge_weight, edge_attr, transfer.cluster, perm.size(0))


class TwoHopConnect(LevelConnect):
    r"""Walks of at most two steps, :func:`pyg_gunet.functional.connect.two_hop`.

    Args:
        max_products (int, optional): The most scalar products that may be computed.
            (default: None, from the available memory)
    """

    name = "two_hop"

    def __init__(self, max_products: int | None = None) -> None:
        super().__init__()
        if max_products is not None:
            check_positive_int(max_products, "max_products", maximum=None)
        self.max_products = max_products

    def edges(self, edge_index, edge_weight, edge_attr, perm, num_nodes, transfer=None):  # type: ignore[no-untyped-def]
        refuse_features(edge_attr, self.name)
        return *two_hop(edge_index, edge_weight, perm, num_nodes, self.max_products), None


class SampledConnect(LevelConnect):
    r"""Some of these walks, :func:`pyg_gunet.functional.sampled.sampled_two_hop`. In `eval` mode
    the draws are the same at every call.

    Args:
        max_degree (int, optional): The most walks into every kept node. (default: 32)

    Attributes:
        generator (torch.Generator, optional): Source of the draws in training mode, on the device
            of the edges. (default: None, torch's own)
    """

    name = "sampled"

    def __init__(self, max_degree: int = 32) -> None:
        super().__init__()
        check_positive_int(max_degree, "max_degree")
        self.max_degree = max_degree
        self.generator: torch.Generator | None = None

    def edges(self, edge_index, edge_weight, edge_attr, perm, num_nodes, transfer=None):  # type: ignore[no-untyped-def]
        refuse_features(edge_attr, self.name)
        check_generator(self.generator)
        generator = self.generator
        if not self.training:
            generator = torch.Generator(perm.device).manual_seed(0)
        walks = sampled_two_hop(
            edge_index, edge_weight, perm, num_nodes, self.max_degree, generator
        )
        return *walks, None


def refuse_features(edge_attr: Tensor | None, name: str) -> None:
    """Walks of two steps have counts, not features."""
    if edge_attr is not None:
        raise ValueError(
            f"'edge_attr' must be one weight per edge, [E] or [E, 1], with connect={name!r} "
            f"(got shape {list(edge_attr.shape)}); connect='induced' and 'contract' keep wider ones"
        )


def make_connect(name: str, max_products: int | None, max_degree: int) -> LevelConnect:
    """The module of a name."""
    walks, sampled = (
        TwoHopConnect(max_products),
        SampledConnect(max_degree),
    )  # either checks its own
    if name in ("two_hop", "sampled"):
        return walks if name == "two_hop" else sampled
    return InducedConnect() if name == "induced" else ContractConnect()


class Exchanged:
    """Any other PyG :class:`Connect` in the place of ours."""

    name = ""
    max_products: int | None = None

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def edges(self, edge_index, edge_weight, edge_attr, perm, num_nodes, transfer=None):  # type: ignore[no-untyped-def]
        """As :meth:`LevelConnect.edges`; it can carry weights or features, not both."""
        if edge_weight is not None and edge_attr is not None:
            raise ValueError(
                f"'edge_weight' and 'edge_attr' go together with a 'connect' of {CONNECTIONS} "
                f"(got {type(self.connect).__name__})"
            )
        clusters = torch.arange(perm.size(0), device=perm.device)
        selected = SelectOutput(perm, num_nodes, clusters, perm.size(0))
        out = self.connect(selected, edge_index, edge_weight if edge_attr is None else edge_attr)
        if edge_attr is None:
            return out.edge_index, out.edge_attr, None
        return out.edge_index, None, out.edge_attr


def connection(connect: Connect) -> LevelConnect | Exchanged:
    """What a graph pools by."""
    return connect if isinstance(connect, LevelConnect) else Exchanged(connect)
