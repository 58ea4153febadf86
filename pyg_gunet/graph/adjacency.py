"""One level's adjacency, held once: the structure that two-hop pooling and propagation share.

An :class:`Adjacency` holds :math:`B = A + I`, rows = sources, A without its self loops, as CSR or,
where the level has filled up, as a dense matrix. Two-hop connectivity of the kept nodes is then one
restricted product, :math:`B[i, :] B[:, i]` with its diagonal set back to one, which is the B of the
next level: no self loop is ever stripped from or put into a sparse structure again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_gunet.graph.gcn import GCNPropagation
from pyg_gunet.graph.graph import Connection, Graph
from pyg_gunet.graph.inputs import as_edges, with_identity
from pyg_gunet.graph.lasting import lasting
from pyg_gunet.graph.sparse import csr
from pyg_gunet.graph.sparse.csr import CSR
from pyg_gunet.graph.sparse.product import restricted_square
from pyg_gunet.graph.sparse.spmm import apply_map
from pyg_gunet.graph.transfer import Transfer
from pyg_gunet.validate import (
    FLOAT_DTYPES,
    check_choice,
    check_edge_index,
    check_edge_weight,
    check_num_nodes,
    check_perm,
    check_same_device,
    outermost,
)

# A dense float matrix takes half of what a CSR with 4-byte indices takes per entry.
DENSE_SHARE = 0.3


class Adjacency(Graph):
    """The stored adjacency of one level of a U-Net, without gradient to its weights; it pools by
    ``'two_hop'``, ``'induced'`` and ``'contract'``.

    Args:
        matrix (CSR or Tensor): :math:`B = A + I` [N, N], rows = sources, with unit diagonal, as CSR
            or dense; float32 or float64.
        loop (Tensor or None): The weight of each node's own self loop where the input had one, NaN
            where not: only the propagation reads it, two-hop connectivity drops it.
        symmetric (bool): Whether B equals its transpose.
    """

    def __init__(self, matrix: CSR | Tensor, loop: Tensor | None, symmetric: bool) -> None:
        self.matrix = matrix
        self.loop = loop
        self.symmetric = symmetric
        self.num_nodes = matrix.shape[0]
        self._transpose: CSR | Tensor | None = matrix if symmetric else None
        self._propagation: GCNPropagation | None = None
        self._absolute: Adjacency | None = None

    @classmethod
    @torch.compiler.disable  # scipy is opaque to a compiler, which would trace it for minutes
    def from_edge_index(
        cls,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        num_nodes: int,
        dtype: torch.dtype = torch.float32,
    ) -> Adjacency:
        """Builds B from edges [2, E]: parallel edges are summed, of parallel self loops the last
        one counts (as in PyG's `add_remaining_self_loops`).

        Raises:
            IndexError: If an index of `edge_index` is out of range.
            ValueError, TypeError: If a shape, a dtype or `num_nodes` is wrong, or weights learn.
        """
        learned = isinstance(edge_weight, Tensor) and edge_weight.requires_grad
        if learned and torch.is_grad_enabled():
            raise ValueError(
                "'edge_weight' must be fixed in an adjacency: pass edge_weight.detach() "
                "(got one that requires a gradient)"
            )
        return cls._stored(edge_index, edge_weight, num_nodes, dtype)

    @classmethod
    @lasting
    def _stored(
        cls,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> Adjacency:
        with outermost() as values:
            check_num_nodes(num_nodes)
            check_choice(dtype, "dtype", FLOAT_DTYPES)
            edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
            check_edge_index(edge_index, num_nodes, values, of="num_nodes")
            check_edge_weight(edge_weight, edge_index.size(1), values)
            check_same_device(edge_index, "edge_index", edge_weight=edge_weight)
        dtype = dtype if dtype == torch.float64 else torch.float32
        loops = edge_index[0] == edge_index[1]
        loop = None
        if bool(loops.any()):
            own = edge_index[0][loops]
            loop = torch.full((num_nodes,), float("nan"), dtype=dtype, device=own.device)
            loop[own] = 1.0 if edge_weight is None else edge_weight[loops].to(dtype)
        source, target, weight, _ = with_identity(edge_index, edge_weight, num_nodes, dtype)
        matrix = csr.build(source, target, weight, num_nodes)
        transpose = csr.transpose(matrix)
        symmetric = all(torch.equal(a, b) for a, b in zip(matrix.parts, transpose.parts))
        adjacency = cls(matrix, loop, symmetric)
        if not symmetric:
            adjacency._transpose = transpose
        return adjacency

    @property
    def values(self) -> Tensor:
        """The stored weights: of their dtype and on their device it propagates."""
        return self.matrix if isinstance(self.matrix, Tensor) else self.matrix.values

    @property
    def is_dense(self) -> bool:
        return isinstance(self.matrix, Tensor)

    @property
    def transpose(self) -> CSR | Tensor:
        """B with rows = targets; the same object when symmetric, built once otherwise."""
        if self._transpose is None:
            self._transpose = self._turned()
        return self._transpose

    @lasting
    def _turned(self) -> CSR | Tensor:
        return self.matrix.t() if isinstance(self.matrix, Tensor) else csr.transpose(self.matrix)

    def convolve(self, conv: Callable[..., Tensor], x: Tensor) -> Tensor:
        return conv(x, self)

    @torch.compiler.disable
    def propagate(self, x: Tensor) -> Tensor:
        return apply_map(self._made(), x)

    def _made(self) -> GCNPropagation:
        """The propagation, made once."""
        if self._propagation is None:
            make = lasting(GCNPropagation)
            self._propagation = make(self.matrix, self.transpose, self.loop, self.lasts)
        return self._propagation

    @torch.compiler.disable
    @lasting
    def absolute(self) -> Adjacency:
        if self._absolute is None:
            self._absolute = self
            signed = [self.values] if self.loop is None else [self.values, self.loop]
            if any(bool((part < 0).any()) for part in signed):
                matrix = self.matrix
                if isinstance(matrix, Tensor):
                    matrix = matrix.abs()
                else:
                    matrix = matrix._replace(values=matrix.values.abs())
                loop = None if self.loop is None else self.loop.abs()
                self._absolute = Adjacency(matrix, loop, self.symmetric)
        return self._absolute

    @torch.compiler.disable
    @lasting
    def pool(
        self, perm: Tensor, transfer: Transfer | None = None, connect: Connection | None = None
    ) -> Adjacency:
        """The next level: by ``'two_hop'``, the default, ``B[perm, :] @ B[:, perm]`` with a unit
        diagonal; by ``'induced'``, ``B[perm, :][:, perm]``, where kept nodes keep their own self
        loops; by ``'contract'``, the sums of B between the clusters of `transfer`.

        Raises:
            IndexError, ValueError, TypeError: If `perm` does not hold distinct nodes.
        """
        with outermost() as values:
            check_perm(perm, self.num_nodes, values)
        perm = perm.long()
        name = "two_hop" if connect is None else connect.name
        if name == "contract":
            assert transfer is not None
            return Adjacency(self._contracted(transfer.cluster, perm.size(0)), None, self.symmetric)
        if name == "induced":
            loop = None if self.loop is None else self.loop[perm]
            if isinstance(self.matrix, Tensor):
                return Adjacency(self.matrix[perm][:, perm], loop, self.symmetric)
            return Adjacency(csr.submatrix(self.matrix, perm), loop, self.symmetric)
        if name != "two_hop":
            raise ValueError(
                f"'connect' must be two_hop, induced or contract on an adjacency (got {name!r})"
            )
        limit = None if connect is None else connect.max_products
        matrix = restricted_square(self.matrix, perm, self.symmetric, limit, DENSE_SHARE)
        return Adjacency(matrix, None, self.symmetric)

    def _contracted(self, cluster: Tensor, size: int) -> CSR:
        edge_index, weight = self.edges()
        ends = cluster[edge_index]
        inside = ((ends >= 0).all(dim=0) & (ends[0] != ends[1])).nonzero().view(-1)
        source, target, weight, _ = with_identity(
            ends[:, inside], weight[inside], size, weight.dtype
        )
        return csr.build(source, target, weight, size)

    @torch.compiler.disable
    @lasting
    def edges(self, loops: bool = False) -> tuple[Tensor, Tensor]:
        """``(edge_index [2, E], edge_weight [E])`` of A, by source then target.

        Args:
            loops (bool, optional): Whether the input's own self loops are among them; those that
                are come last. (default: False)
        """
        if isinstance(self.matrix, Tensor):
            off = self.matrix.clone().fill_diagonal_(0)
            edge_index = off.nonzero().t().contiguous()
            weight = off[edge_index[0], edge_index[1]]
        else:
            row, col, weight = csr.to_coo(csr.sort_columns(self.matrix))
            off = row != col
            edge_index, weight = torch.stack([row[off], col[off]]), weight[off]
        if loops and self.loop is not None:
            own = (~self.loop.isnan()).nonzero().view(-1)
            edge_index = torch.cat([edge_index, own.expand(2, -1)], dim=1)
            weight = torch.cat([weight, self.loop[own]])
        return edge_index, weight

    def to(self, *args: Any, **kwargs: Any) -> Adjacency:
        loop = None if self.loop is None else self.loop.to(*args, **kwargs)
        out = Adjacency(self.matrix.to(*args, **kwargs), loop, self.symmetric)
        out.lasts = self.lasts
        return out

    def __repr__(self) -> str:
        size = "dense" if isinstance(self.matrix, Tensor) else f"nnz={self.matrix.nnz}"
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, {size})"
