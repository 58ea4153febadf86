"""One level's adjacency, held once: the structure that two-hop pooling and propagation share.

An :class:`Adjacency` holds :math:`B = A + I`, rows = sources, A without its self loops, as CSR or,
where the level has filled up, as a dense matrix. Two-hop connectivity of the kept nodes is then one
restricted product, :math:`B[i, :] B[:, i]` with its diagonal set back to one, which is the B of the
next level: no self loop is ever stripped from or put into a sparse structure again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_gunet.functional import spgemm
from pyg_gunet.functional.gcn import GCNPropagation
from pyg_gunet.functional.inputs import as_edges
from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.structure import Structure
from pyg_gunet.functional.validate import (
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


class Adjacency(Structure):
    """The stored adjacency of one level of a U-Net, without gradient to its weights.

    Args:
        matrix (CSR or Tensor): :math:`B = A + I` [N, N], rows = sources, with unit diagonal, as CSR
            or dense; float32 or float64.
        loop (Tensor, optional): The weight of each node's own self loop where the input had one,
            NaN where not: only the propagation reads it, two-hop connectivity drops it.
        symmetric (bool): Whether B equals its transpose.
        connect (str): How the next level connects, ``'two_hop'`` or ``'induced'``.
        max_products (int, optional): See :func:`pyg_gunet.functional.connect.two_hop`.
    """

    def __init__(
        self,
        matrix: CSR | Tensor,
        loop: Tensor | None = None,
        symmetric: bool = False,
        connect: str = "two_hop",
        max_products: int | None = None,
    ) -> None:
        self.matrix = matrix
        self.loop = loop
        self.symmetric = symmetric
        self.connect = connect
        self.max_products = max_products
        self._transpose: CSR | Tensor | None = matrix if symmetric else None
        self._propagation: GCNPropagation | None = None

    @classmethod
    @torch.compiler.disable  # scipy is opaque to a compiler, which would trace it for minutes
    def from_edge_index(
        cls,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        num_nodes: int,
        dtype: torch.dtype = torch.float32,
        connect: str = "two_hop",
        max_products: int | None = None,
    ) -> Adjacency:
        """Builds B from edges [2, E]: parallel edges are summed, of parallel self loops the last
        one counts (as in PyG's `add_remaining_self_loops`).

        Raises:
            IndexError: If an index of `edge_index` is out of range.
            ValueError, TypeError: If a shape, a dtype or `num_nodes` is wrong.
        """
        with outermost() as values:
            check_num_nodes(num_nodes)
            check_choice(dtype, "dtype", FLOAT_DTYPES)
            check_choice(connect, "connect", ("two_hop", "induced"))
            edge_index, edge_weight = as_edges(edge_index, edge_weight, num_nodes)
            check_edge_index(edge_index, num_nodes, values)
            check_edge_weight(edge_weight, edge_index.size(1), values)
            check_same_device(edge_index, "edge_index", edge_weight=edge_weight)
        dtype = dtype if dtype == torch.float64 else torch.float32
        row, col = edge_index[0], edge_index[1]
        if edge_weight is None:
            weight = torch.ones(row.size(0), dtype=dtype, device=row.device)
        else:
            weight = edge_weight.detach().to(dtype)
        loops = row == col
        loop = None
        if bool(loops.any()):
            loop = torch.full((num_nodes,), float("nan"), dtype=dtype, device=row.device)
            loop[row[loops]] = weight[loops]
            row, col, weight = row[~loops], col[~loops], weight[~loops]
        nodes = torch.arange(num_nodes, dtype=row.dtype, device=row.device)
        ones = torch.ones(num_nodes, dtype=dtype, device=row.device)
        matrix = spgemm.build(
            torch.cat([row, nodes]), torch.cat([col, nodes]), torch.cat([weight, ones]), num_nodes
        )
        transpose = spgemm.transpose(matrix)
        symmetric = all(torch.equal(a, b) for a, b in zip(matrix.parts, transpose.parts))
        adjacency = cls(matrix, loop, symmetric, connect, max_products)
        if not symmetric:
            adjacency._transpose = transpose
        return adjacency

    @property
    def num_nodes(self) -> int:
        return self.matrix.shape[0]

    @property
    def values(self) -> Tensor:
        return self.matrix if isinstance(self.matrix, Tensor) else self.matrix.values

    @property
    def is_dense(self) -> bool:
        return isinstance(self.matrix, Tensor)

    @property
    def transpose(self) -> CSR | Tensor:
        """B with rows = targets; the same object when symmetric, built once otherwise."""
        if self._transpose is None:
            if isinstance(self.matrix, Tensor):
                self._transpose = self.matrix.t()
            else:
                self._transpose = spgemm.transpose(self.matrix)
        return self._transpose

    @torch.compiler.disable
    def pool(self, perm: Tensor) -> Adjacency:
        """The next level: by ``'two_hop'``, ``B[perm, :] @ B[:, perm]`` with a unit diagonal; by
        ``'induced'``, ``B[perm, :][:, perm]``, where kept nodes keep their own self loops.

        Raises:
            IndexError, ValueError, TypeError: If `perm` does not hold distinct nodes.
        """
        with outermost() as values:
            check_perm(perm, self.num_nodes, values)
        perm = perm.long()
        loop = None
        matrix: CSR | Tensor
        if self.connect == "two_hop":
            matrix = spgemm.restricted_square(
                self.matrix, perm, self.symmetric, self.max_products, DENSE_SHARE
            )
        else:
            loop = None if self.loop is None else self.loop[perm]
            if isinstance(self.matrix, Tensor):
                matrix = self.matrix[perm][:, perm]
            else:
                matrix = spgemm.submatrix(self.matrix, perm)
        return Adjacency(matrix, loop, self.symmetric, self.connect, self.max_products)

    @torch.compiler.disable
    def propagation(self) -> GCNPropagation:
        if self._propagation is None:
            self._propagation = GCNPropagation(self.matrix, self.transpose, self.loop)
        return self._propagation

    @torch.compiler.disable
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
            row, col, weight = spgemm.to_coo(spgemm.sort_columns(self.matrix))
            off = row != col
            edge_index, weight = torch.stack([row[off], col[off]]), weight[off]
        if loops and self.loop is not None:
            own = (~self.loop.isnan()).nonzero().view(-1)
            edge_index = torch.cat([edge_index, own.expand(2, -1)], dim=1)
            weight = torch.cat([weight, self.loop[own]])
        return edge_index, weight

    def __repr__(self) -> str:
        size = "dense" if isinstance(self.matrix, Tensor) else f"nnz={self.matrix.nnz}"
        return f"{self.__class__.__name__}(num_nodes={self.num_nodes}, {size})"
