"""gPool, the pooling layer of Graph U-Nets."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn.pool.connect import Connect
from torch_geometric.nn.pool.select import Select

from pyg_gunet.functional.connect import join_attr, split_attr
from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.inputs import as_edges
from pyg_gunet.graph.level import Level
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.nn.connect import CONNECTIONS, ContractConnect, connection, make_connect
from pyg_gunet.nn.select import GPoolSelect
from pyg_gunet.validate import (
    check_batch,
    check_choice,
    check_edge_attr,
    check_edge_index,
    check_edge_weight,
    check_features,
    check_number,
    check_same_device,
    outermost,
)

REDUCTIONS = ("keep", "mean")
Made = tuple[Level, Tensor, Transfer | None]  # the next level, the nodes it keeps, what passes


class PoolOutput(NamedTuple):
    r"""What :class:`GPool` returns, in the order of PyG's :class:`TopKPooling`.

    Row j of `x`, `batch` and `score`, and index j in `edge_index`, is the input's node ``perm[j]``.

    Attributes:
        x (Tensor): Gated features of the kept nodes, [K, F].
        edge_index (Tensor): Edges between them, [2, E'].
        edge_attr (Tensor, optional): Their features [E', ...] or walk counts [E'].
        batch (Tensor): Graph id of each kept node, [K].
        perm (Tensor): The input's index of each kept node, [K].
        score (Tensor): The gate's value of each kept node, [K].
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None
    batch: Tensor
    perm: Tensor
    score: Tensor

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}={list(value.shape) if isinstance(value, Tensor) else value}"
            for name, value in zip(self._fields, self)
        )
        return f"{self.__class__.__name__}({shapes})"


class GPool(torch.nn.Module):
    r"""gPool, the pooling layer of Graph U-Nets (`Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_, eq. 2), per graph of a batch:

    .. math::
        \mathbf{y} &= \mathbf{X} \mathbf{p} / \|\mathbf{p}\|, \qquad
        \mathbf{i} = \mathrm{select}(\mathbf{y}, k)

        \mathbf{X}' &= \mathbf{X}_{\mathbf{i}} \odot \mathrm{gate}(\mathbf{y}_{\mathbf{i}}),
        \qquad \mathbf{A}' = \mathrm{connect}(\mathbf{A}, \mathbf{i})

    Drops into code written for PyG's :class:`TopKPooling`: the same parameter `select.weight`
    [1, F] and the same order of results. Nodes are ranked by the raw :math:`\mathbf{y}`: tanh
    saturates into ties. `select` and `connect` are modules that may be exchanged, for PyG's or for
    one's own :class:`~torch_geometric.nn.pool.select.Select` of single nodes and
    :class:`~torch_geometric.nn.pool.connect.Connect`.

    Args:
        in_channels (int): Number of features per node, F.
        ratio (float or int, optional): A float in (0, 1] is the share of nodes that each graph
            keeps, :math:`k = \lceil \mathrm{ratio} \cdot n_g \rceil`; an int is their number. 1.0
            keeps all. (default: 0.5)
        select (str, optional): Which nodes stay: ``'topk'``, the best-scored nodes, or
            ``'spread'``, the best-scored nodes under coverage, see
            :func:`pyg_gunet.functional.spread.spread`. (default: ``'topk'``)
        reduce (str, optional): What kept nodes hear of dropped ones: ``'keep'``, nothing, as in the
            paper, or ``'mean'``, the restriction: each averages over the nodes that it stands for,
            see :func:`pyg_gunet.functional.interpolate.prolongation`. The gate multiplies what was
            reduced. (default: ``'keep'``)
        connect (str, optional): Which edges join kept nodes: ``'induced'``, those between them;
            ``'two_hop'``, walks of at most two steps, see
            :func:`pyg_gunet.functional.connect.two_hop`; ``'contract'``, every node merged into the
            kept node that stands for it, see :func:`pyg_gunet.functional.connect.contract`;
            ``'sampled'``, at most `max_degree` of the two-hop walks into every node, see
            :func:`pyg_gunet.functional.sampled.sampled_two_hop`. (default: ``'induced'``)
        gate (str, optional): ``'tanh'`` or ``'sigmoid'``. (default: None, tanh for top-k as in PyG,
            sigmoid, the paper's, for spread)
        min_score (float, optional): Keep the nodes whose softmax score within their graph is above
            this, at least one per graph, and gate by that score; `ratio` is then not used and may
            be None. (default: None)
        multiplier (float, optional): Factor on the pooled features. (default: 1)
        quantiles (int, optional): In how many quantiles of the score ``'spread'`` scans the nodes;
            with 1 the graph alone decides (nodes that it does not tell apart go by number) and the
            kept set holds still while the scorer learns, see
            :func:`pyg_gunet.functional.spread.spread`. (default: None, the order of the score)
        max_products (int, optional): The most scalar products that ``'two_hop'`` may compute.
            (default: None, from the available memory)
        max_degree (int, optional): The most walks into every kept node of ``'sampled'``.
            (default: 32)

    Shapes:
        - **input:** `x` [N, F], `edge_index` [2, E], `edge_attr` [E, ...] or None (weights, [E] or
          [E, 1], for ``'two_hop'`` and ``'sampled'``), `batch` [N] sorted or None, `attn` [N, F]
          or None
        - **output:** :class:`PoolOutput`

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> x, edge_index = torch.eye(4), torch.ones(4, 4).nonzero().t()
        >>> GPool(4, ratio=0.5)(x, edge_index)
        PoolOutput(x=[2, 4], edge_index=[2, 4], edge_attr=None, batch=[2], perm=[2], score=[2])
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float | int | None = 0.5,
        *,
        select: str = "topk",
        reduce: str = "keep",
        connect: str = "induced",
        gate: str | None = None,
        min_score: float | None = None,
        multiplier: float = 1.0,
        quantiles: int | None = None,
        max_products: int | None = None,
        max_degree: int = 32,
    ) -> None:
        super().__init__()
        check_choice(reduce, "reduce", REDUCTIONS)
        check_choice(connect, "connect", CONNECTIONS)
        check_number(multiplier, "multiplier")
        self.in_channels = in_channels
        self.reduce = reduce
        self.multiplier = multiplier
        self.select: Select = GPoolSelect(in_channels, ratio, min_score, gate, select, quantiles)
        self.connect: Connect = make_connect(connect, max_products, max_degree)
        # Once more, as TopKPooling does: the same seed gives the same weights.
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets the projection vector."""
        self.select.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        attn: Tensor | None = None,
    ) -> PoolOutput:
        r"""Pools the graph. Models call it on their levels, so that hooks see what is kept: in the
        place of the edges stands the coarser level then, and the transfer in that of `edge_attr`.

        Args:
            x (Tensor): Node features, [N, F].
            edge_index (Tensor): Edges, [2, E], or a sparse `adj_t` [N, N] as PyG's convolutions
                take it, whose values are then `edge_attr`; the result's edges are [2, E'].
            edge_attr (Tensor, optional): Edge features, [E, ...]. (default: None)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            attn (Tensor, optional): Features to score in place of `x`, [N, F]. (default: None)
        """
        if isinstance(edge_index, Level):
            return self._down(x, edge_index, edge_attr)  # type: ignore[arg-type]
        with outermost() as values:
            check_features(x, self.in_channels if attn is None else None, values)
            edge_index, edge_attr = as_edges(edge_index, edge_attr, x.size(0), "edge_attr")
            self._check(x, edge_index, edge_attr, batch, attn, values)
            perm, score = self._select(x if attn is None else attn, edge_index, batch)
            weight, attr = split_attr(edge_attr)
            transfer = None
            if self.uses_transfer:
                transfer = Transfer.from_edges(perm, edge_index, weight, x.size(0))
            if self.connect_name in ("two_hop", "sampled") and weight is None and attr is None:
                weight = x.new_ones(edge_index.size(1))  # counts in the dtype of the features
            index, weight, attr = connection(self.connect).edges(
                edge_index, weight, attr, perm, x.size(0), transfer
            )
            out = self.gated(x, perm, score, transfer)
        pooled_batch = perm.new_zeros(perm.size(0)) if batch is None else batch[perm]
        return PoolOutput(out, index, join_attr(edge_attr, weight, attr), pooled_batch, perm, score)

    @property
    def uses_transfer(self) -> bool:
        """Whether pooling itself needs what passes between the two levels."""
        return self.reduce == "mean" or isinstance(self.connect, ContractConnect)

    @property
    def connect_name(self) -> str:
        """The name of `connect`, empty where it was exchanged."""
        return connection(self.connect).name

    def down(
        self, x: Tensor, level: Level, transfer: bool | Made = False
    ) -> tuple[Tensor, Level, Tensor, Transfer | None]:
        """One level down inside a network, unchecked: ``(x, level, perm, transfer or None)``.

        Args:
            x (Tensor): Node features, [N, F].
            level (Level): Where they are.
            transfer (bool or tuple, optional): Whether the way up needs it; or what was made
                before: ``(level, perm, transfer)``. (default: False)
        """
        out: Any = self(x, level, transfer)
        return out.x, out.edge_index, out.perm, out.edge_attr

    def _down(self, x: Tensor, level: Level, transfer: bool | Made) -> PoolOutput:
        if isinstance(transfer, tuple):
            below, perm, between = transfer
            score = self.score(x, perm, level.batch)
            return self._packed(x, below, perm, score, between)
        near, weight = None, None
        covers = isinstance(self.select, GPoolSelect) and self.select.strategy == "spread"
        if transfer or self.uses_transfer or covers:
            near, weight = level.graph.cover_edges()
        perm, score = self._select(x, near, level.batch)
        between = None
        if near is not None and (transfer or self.uses_transfer):
            between = Transfer.from_edges(perm, near, weight, level.num_nodes)
        graph = level.graph.pool(perm, between, connection(self.connect))
        batch = None if level.batch is None else level.batch[perm]
        return self._packed(x, Level(perm.size(0), batch, graph), perm, score, between)

    def _packed(
        self, x: Tensor, below: Any, perm: Tensor, score: Tensor, between: Any
    ) -> PoolOutput:
        out = self.gated(x, perm, score, between)
        return PoolOutput(out, below, between, below.batch, perm, score)

    def gated(self, x: Tensor, perm: Tensor, score: Tensor, transfer: Transfer | None) -> Tensor:
        """What kept nodes carry on, [K, F]: `x` reduced, times the gate's value [K]."""
        out = self.reduced(x, perm, transfer) * score.view(-1, 1)
        return self.multiplier * out if self.multiplier != 1 else out

    def reduced(self, x: Tensor, perm: Tensor, transfer: Transfer | None) -> Tensor:
        """What kept nodes hear of `x` [N, F], without the gate: [K, F]."""
        if self.reduce == "keep":
            return x[perm]
        assert transfer is not None
        return transfer.restrict(x)

    def score(self, x: Tensor, perm: Tensor, batch: Tensor | None) -> Tensor:
        """The gate's value [K] of nodes that were selected before."""
        if not isinstance(self.select, GPoolSelect):
            raise ValueError(
                "'select' must be a GPoolSelect where levels were prepared "
                f"(got {type(self.select).__name__})"
            )
        return self.select(x, batch, perm=perm).weight

    def _select(
        self, x: Tensor, edge_index: Tensor | None, batch: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``(perm, score)``, both [K]."""
        if isinstance(self.select, GPoolSelect):
            chosen = self.select(x, batch, edge_index)
            return chosen.node_index, chosen.weight
        one = torch.zeros(x.size(0), dtype=torch.long, device=x.device) if batch is None else batch
        chosen = self.select(x, one)
        perm, weight = chosen.node_index, chosen.weight
        if perm.size(0) != chosen.num_clusters:
            raise ValueError(
                f"'select' must choose single nodes (got {type(self.select).__name__}, which puts "
                f"{perm.size(0)} nodes into {chosen.num_clusters} clusters)"
            )
        weight = x.new_ones(perm.size(0)) if weight is None else weight
        if batch is None:
            return perm, weight
        order = torch.sort(batch[perm], stable=True).indices  # the next level is sorted by graph
        return perm[order], weight[order]

    def _check(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None,
        batch: Tensor | None,
        attn: Tensor | None,
        values: bool,
    ) -> None:
        check_batch(batch, x.size(0), values)
        if attn is not None:
            check_features(attn, self.in_channels, values, name="attn")
            if attn.size(0) != x.size(0):
                raise ValueError(
                    f"'attn' must have {x.size(0)} rows, as 'x' (got shape {list(attn.shape)})"
                )
        if isinstance(edge_index, Graph):
            raise TypeError(
                "'edge_index' must be edges [2, E]; a prepared graph goes to a model "
                f"(got {type(edge_index).__name__})"
            )
        check_edge_index(edge_index, x.size(0), values)
        check_same_device(x, "x", edge_index=edge_index, batch=batch, edge_attr=edge_attr)
        check_edge_attr(edge_attr, edge_index.size(1))
        if edge_attr is not None and self.connect_name != "induced":
            weight, _ = split_attr(edge_attr)
            check_edge_weight(weight, edge_index.size(1), values, name="edge_attr")

    def __repr__(self) -> str:
        options = [str(self.in_channels)]
        if isinstance(self.select, GPoolSelect):
            select = self.select
            kept = f"ratio={select.ratio}" if select.min_score is None else ""
            options.append(kept or f"min_score={select.min_score}")
            shown: list[tuple[str, Any, Any]] = [
                ("select", select.strategy, "topk"),
                ("gate", select.gate, None),
            ]
            shown.append(("quantiles", select.quantiles, None))
        else:
            shown = [("select", self.select, None)]
        options.append(f"multiplier={self.multiplier}")
        shown.append(("reduce", self.reduce, "keep"))
        shown.append(("connect", self.connect_name or self.connect, "induced"))
        options += [f"{name}={value!r}" for name, value, default in shown if value != default]
        return f"{self.__class__.__name__}({', '.join(options)})"
