"""Which connectivity is cheaper, decided by numbers: the rule behind ``connect='auto'``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_gunet.functional import spgemm
from pyg_gunet.functional.spgemm import CSR
from pyg_gunet.functional.spmm import csr_matmul

# From this many two-hop products per walk product on, `'auto'` takes walks: `benchmarks/scale.py
# --name auto` measures where their times cross. A two-hop product is one multiplication per step, a
# walk product one per feature and pass.
CROSSOVER = 18.0


class ProductCount(NamedTuple):
    """Scalar products that the levels of a U-Net are expected to take, features aside.

    Attributes:
        two_hop (float): To make all pooled levels, and to convolve once each way on them.
        walk (float): To convolve once each way on the same levels by walks.
    """

    two_hop: float
    walk: float


def count_products(matrix: CSR, ratios: Sequence[float | int]) -> ProductCount:
    r"""Expected products of both connectivities, from the degrees, for nodes kept uniformly.

    With in- and out-degrees of :math:`\mathbf{B} = \mathbf{A} + \mathbf{I}`, the first pooling
    takes :math:`\rho^2 \sum_j d^{in}_j d^{out}_j` products. Its :math:`w_t` walks into a kept node
    reach :math:`K (1 - e^{-w_t / K})` distinct ones of :math:`K`: the degrees for the next pooling.
    A product that BLAS does faster on a filled-up level counts as BLAS's time. By walks, a
    convolution at level :math:`l` takes :math:`2^l` products with the graph, each restricted to
    the kept share of one side.

    Args:
        matrix (CSR): :math:`\mathbf{B}` [N, N].
        ratios (sequence): Share (float) or number (int) of nodes that each pooling keeps.
    """
    num_nodes = matrix.shape[0]
    shares = _shares(ratios, num_nodes)
    kept = 1.0
    columns = torch.bincount(matrix.indices, minlength=num_nodes).to(matrix.values.dtype)
    pattern = matrix._replace(values=torch.ones_like(matrix.values))
    ones = matrix.values.new_ones((num_nodes, 1))
    rows = csr_matmul(*pattern, ones).view(-1)
    two_hop = 2.0 * matrix.nnz  # the convolutions of level 0
    out, into, hops = rows, columns, 1
    for level, share in enumerate(shares):
        size = max(share * kept * num_nodes, 1.0)
        sparse = kept * share**2 * float((out.double() * into.double()).sum())
        dense = size * size * kept * num_nodes * spgemm.SPARSE_RATE / spgemm.DENSE_RATE
        two_hop += min(sparse, dense)
        if level == 0:
            walks_out = share * csr_matmul(*pattern, columns.view(-1, 1)).view(-1)
            walks_in = share * _transposed(pattern, rows)
        else:  # the mean degree of a node's neighbours at this level, by walks
            walks_out = share * out * _mean(pattern, out, hops)
            walks_in = share * into * _mean(pattern, into, hops)
        out, into = (size * -torch.expm1(-w / size) for w in (walks_out, walks_in))
        kept *= share
        hops *= 2
        entries = kept * float(into.double().sum())
        two_hop += entries * (1.0 if level == len(shares) - 1 else 2.0)
    return ProductCount(two_hop, 2.0 * matrix.nnz * walk_share(shares))


def walk_share(shares: Sequence[float]) -> float:
    """Products of all convolutions of a U-Net by walks, in products with the whole graph, beyond
    the two of level 0; the way down and the way up, the coarsest level once."""
    kept = [1.0]
    for share in shares:
        kept.append(kept[-1] * share)

    def restricted(level: int, share: float) -> float:
        """Of ``H_level`` with one side restricted to a share of level 0's nodes."""
        if level == 0:
            return share
        return restricted(level - 1, share) + restricted(level - 1, kept[level])

    depth = len(shares)
    total = sum(
        (1 if level == depth else 2) * 2 * restricted(level - 1, kept[level])
        for level in range(1, depth + 1)
    )
    return total / 2 + 1.0


def choose_connect(matrix: CSR, ratios: Sequence[float | int]) -> str:
    """``'walk'`` where two-hop takes more than ``CROSSOVER`` times the products, else
    ``'two_hop'``. A pure function of the graph and the ratios."""
    count = count_products(matrix, ratios)
    return "walk" if count.two_hop > CROSSOVER * count.walk else "two_hop"


def _shares(ratios: Sequence[float | int], num_nodes: int) -> list[float]:
    shares, size = [], float(num_nodes)
    for ratio in ratios:
        share = min(ratio, 2**62) / max(size, 1.0) if isinstance(ratio, int) else float(ratio)
        share = min(share, 1.0)
        shares.append(share)
        size *= share
    return shares


def _transposed(matrix: CSR, x: Tensor) -> Tensor:
    row, col, _ = spgemm.to_coo(matrix)
    return x.new_zeros(matrix.shape[1]).index_add_(0, col, x[row])


def _mean(pattern: CSR, value: Tensor, hops: int) -> Tensor:
    """The mean of `value` over walks of so many steps from every node."""
    top = torch.stack([value, torch.ones_like(value)], dim=1)
    for _ in range(hops):
        top = csr_matmul(*pattern, top)
        top = top / top[:, 1:]
    return top[:, 0]
