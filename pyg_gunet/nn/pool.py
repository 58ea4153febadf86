"""gPool and gUnpool, the pooling and unpooling layers of Graph U-Nets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional.connect import induced, two_hop
from pyg_gunet.functional.fill import propagate_kept
from pyg_gunet.functional.inputs import as_edges
from pyg_gunet.functional.sampled import sampled_two_hop
from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
    check_batch,
    check_choice,
    check_edge_index,
    check_edge_weight,
    check_features,
    check_memory,
    check_number,
    check_perm,
    check_positive_int,
    check_same_device,
    check_tensor,
    outermost,
)
from pyg_gunet.nn.connect import connect_walks
from pyg_gunet.nn.select import GPoolSelect

FILLS = ("zero", "nearest", "propagate")


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
    saturates into ties.

    Args:
        in_channels (int): Number of features per node, F.
        ratio (float or int, optional): A float in (0, 1] is the share of nodes that each graph
            keeps, :math:`k = \lceil \mathrm{ratio} \cdot n_g \rceil`; an int is their number. 1.0
            keeps all. (default: 0.5)
        select (str, optional): ``'topk'``, the best-scored nodes, or ``'spread'``, the best-scored
            nodes under coverage, see :func:`pyg_gunet.functional.spread.spread`.
            (default: ``'topk'``)
        connect (str, optional): ``'induced'``, the edges between kept nodes, or ``'two_hop'``,
            walks of at most two steps between them, see
            :func:`pyg_gunet.functional.connect.two_hop`, or ``'sampled'``, at most `max_degree` of
            these walks into every node, drawn at random, see
            :func:`pyg_gunet.functional.sampled.sampled_two_hop`. (default: ``'induced'``)
        gate (str, optional): ``'tanh'`` or ``'sigmoid'``. (default: None, tanh for top-k as in PyG,
            sigmoid, the paper's, for spread)
        min_score (float, optional): Keep the nodes whose softmax score within their graph is above
            this, at least one per graph, and gate by that score; `ratio` is then not used and may
            be None. (default: None)
        multiplier (float, optional): Factor on the pooled features. (default: 1)
        max_products (int, optional): The most scalar products that ``'two_hop'`` may compute.
            (default: None, from the available memory)
        max_degree (int, optional): The most walks into every kept node of ``'sampled'``.
            (default: 32)
        quantiles (int, optional): In how many quantiles of the score ``'spread'`` scans the nodes;
            with 1 the kept set holds still while the scorer learns, see
            :func:`pyg_gunet.functional.spread.spread`. (default: None, the order of the score)

    Shapes:
        - **input:** `x` [N, F], `edge_index` [2, E], `edge_attr` [E, ...] or None ([E] or [E, 1]
          but for ``'induced'``), `batch` [N] sorted or None, `attn` [N, F] or None
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
        connect: str = "induced",
        gate: str | None = None,
        min_score: float | None = None,
        multiplier: float = 1.0,
        max_products: int | None = None,
        max_degree: int = 32,
        quantiles: int | None = None,
    ) -> None:
        super().__init__()
        check_choice(connect, "connect", ("induced", "two_hop", "sampled"))
        check_positive_int(max_degree, "max_degree")
        check_number(multiplier, "multiplier")
        if max_products is not None:
            check_positive_int(max_products, "max_products", maximum=None)
        self.in_channels = in_channels
        self.ratio = ratio
        self.connect = connect
        self.gate = gate
        self.min_score = min_score
        self.multiplier = multiplier
        self.max_products = max_products
        self.max_degree = max_degree
        self.select = GPoolSelect(in_channels, ratio, min_score, gate, select, quantiles)
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
        r"""Pools the graph.

        Args:
            x (Tensor): Node features, [N, F].
            edge_index (Tensor): Edges, [2, E], or a sparse `adj_t` [N, N] as PyG's convolutions
                take it, whose values are then `edge_attr`; the result's edges are [2, E'].
            edge_attr (Tensor, optional): Edge features, [E, ...]. (default: None)
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            attn (Tensor, optional): Features to score in place of `x`, [N, F]. (default: None)
        """
        with outermost() as values:
            check_features(x, self.in_channels if attn is None else None, values)
            edge_index, edge_attr = as_edges(edge_index, edge_attr, x.size(0), "edge_attr")
            self._check(x, edge_index, edge_attr, batch, attn, values)
            y, gated = self.select.score(x if attn is None else attn, batch)
            perm = self.select.choose(y, edge_index, batch)
            score = gated[perm]
            out = x[perm] * score.view(-1, 1)
            out = self.multiplier * out if self.multiplier != 1 else out
            pooled_batch = perm.new_zeros(perm.size(0)) if batch is None else batch[perm]
            pooled_edges, pooled_attr = self._connect(x, edge_index, edge_attr, perm)
        return PoolOutput(out, pooled_edges, pooled_attr, pooled_batch, perm, score)

    def _connect(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None, perm: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(edge_index, Structure):  # inside a U-Net: the level's structure, held once
            return edge_index.pool(perm), None  # type: ignore[return-value]
        if self.connect == "induced":
            return induced(edge_index, edge_attr, perm, x.size(0))
        if edge_attr is None:  # the counts are to have the dtype of the features
            edge_attr = x.new_ones(edge_index.size(1))
        limit = self.max_products if self.connect == "two_hop" else self.max_degree
        how = two_hop if self.connect == "two_hop" else sampled_two_hop
        return connect_walks(how, edge_index, edge_attr, perm, x.size(0), limit)

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
        if isinstance(edge_index, Structure):
            return
        check_edge_index(edge_index, x.size(0), values)
        if edge_attr is not None:
            check_tensor(edge_attr, "edge_attr")
        check_same_device(x, "x", edge_index=edge_index, batch=batch, edge_attr=edge_attr)
        if edge_attr is not None:
            if edge_attr.dim() == 0 or edge_attr.size(0) != edge_index.size(1):
                raise ValueError(
                    f"'edge_attr' must have {edge_index.size(1)} rows, one per column of "
                    f"'edge_index' (got shape {list(edge_attr.shape)})"
                )
            if self.connect != "induced" and edge_attr.shape[1:] in ((), (1,)):
                weight = edge_attr.view(-1)
                check_edge_weight(weight, edge_index.size(1), values, name="edge_attr")

    def __repr__(self) -> str:
        how = f"ratio={self.ratio}" if self.min_score is None else f"min_score={self.min_score}"
        options = [f"{self.in_channels}", how, f"multiplier={self.multiplier}"]
        for name, value, default in (
            ("select", self.select.strategy, "topk"),
            ("connect", self.connect, "induced"),
            ("gate", self.gate, None),
            ("max_products", self.max_products, None),
            ("max_degree", self.max_degree, 32),
            ("quantiles", self.select.quantiles, None),
        ):
            if value != default:
                options.append(f"{name}={value!r}")
        return f"{self.__class__.__name__}({', '.join(options)})"


class GUnpool(torch.nn.Module):
    r"""gUnpool, the unpooling layer of Graph U-Nets (`Gao and Ji 2019
    <https://arxiv.org/abs/1905.05178>`_, eq. 3):

    .. math::
        \mathbf{X}' = \mathrm{distribute}(0_{N \times F}, \mathbf{X}, \mathbf{i}),

    row ``perm[j]`` of the result is ``x[j]``, all others are zero. No gate is applied again.

    With ``fill='propagate'`` a dropped node gets a mix of the rows of the kept nodes around it in
    place of zeros, see :func:`~pyg_gunet.functional.fill.propagate_kept`; with ``'nearest'`` the
    row of its nearest kept node, which is that at no iteration. Where few nodes are kept, one
    convolution cannot carry features to all dropped ones. This is no part of the paper: at a ratio
    of 0.1 it reconstructs what zeros cannot (``benchmarks/autoencoding.py``).

    Args:
        fill (str, optional): ``'zero'``, ``'nearest'`` or ``'propagate'``. (default: ``'zero'``)
        num_iterations (int, optional): Number of iterations of ``'propagate'``. (default: 40)

    Shapes:
        - **input:** `x` [K, F], `perm` [K], `num_nodes` N, `edge_index` [2, E] or None
        - **output:** [N, F]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> GUnpool()(torch.tensor([[5.0], [7.0]]), torch.tensor([2, 0]), 3)
        tensor([[7.],
                [0.],
                [5.]])
        >>> path = torch.tensor([[0, 1], [1, 2]])
        >>> GUnpool("nearest")(torch.tensor([[5.0]]), torch.tensor([0]), 3, path)
        tensor([[5.],
                [5.],
                [5.]])
    """

    def __init__(self, fill: str = "zero", num_iterations: int = 40) -> None:
        super().__init__()
        check_choice(fill, "fill", FILLS)
        check_positive_int(num_iterations, "num_iterations", 0, 10**6)
        self.fill = fill
        self.num_iterations = num_iterations

    def forward(
        self, x: Tensor, perm: Tensor, num_nodes: int, edge_index: Tensor | None = None
    ) -> Tensor:
        r"""Puts each row back where it was.

        Args:
            x (Tensor): Features of the kept nodes, [K, F].
            perm (Tensor): Index of each kept node before pooling, [K].
            num_nodes (int): Number of nodes before pooling, N.
            edge_index (Tensor, optional): Edges before pooling, [2, E]; needed unless `fill` is
                ``'zero'``, which takes none. (default: None)
        """
        check_tensor(x, "x")
        if (edge_index is None) != (self.fill == "zero"):
            given = "None" if edge_index is None else "edges"
            raise ValueError(
                f"'edge_index' must be None with fill='zero', and edges otherwise "
                f"(got {given} with fill={self.fill!r})"
            )
        if not isinstance(num_nodes, torch.SymInt):
            check_positive_int(num_nodes, "num_nodes", 0)
        with outermost() as values:
            check_perm(perm, num_nodes, values)
        if x.dim() != 2 or perm.size(0) != x.size(0):
            raise ValueError(
                f"'x' must have shape [{perm.size(0)}, F], one row per entry of 'perm' "
                f"(got {list(x.shape)})"
            )
        check_memory(num_nodes * x.size(1) * x.element_size(), "num_nodes", num_nodes)
        if edge_index is None:
            return x.new_zeros((num_nodes, x.size(1))).index_copy(0, perm.long(), x)
        num_iterations = self.num_iterations if self.fill == "propagate" else 0
        return propagate_kept(x, perm, edge_index, num_nodes, num_iterations)

    def __repr__(self) -> str:
        options = [] if self.fill == "zero" else [repr(self.fill)]
        if self.num_iterations != 40:
            options.append(f"num_iterations={self.num_iterations}")
        return f"{self.__class__.__name__}({', '.join(options)})"
