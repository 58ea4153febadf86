"""The auto-encoder of the protocol, at one or more pooling levels."""

from __future__ import annotations

import math

import torch
from _autoencoding_poolers import Adjacency, Pooled, make
from torch import Tensor
from torch.nn import Linear, ModuleList, ReLU, Sequential

HIDDEN = 256


class _Propagate(torch.autograd.Function):
    """A constant sparse matrix times features: its backward is the transpose."""

    @staticmethod
    def forward(ctx, x, matrix, transpose):  # noqa: ANN001, ANN205
        ctx.transpose = transpose
        return matrix @ x

    @staticmethod
    def backward(ctx, grad):  # noqa: ANN001, ANN205
        return ctx.transpose @ grad.contiguous(), None, None


class Operator:
    """``A`` as a product; coarse adjacencies are divided by their row sums."""

    def __init__(self, adjacency: Adjacency, normalise: bool) -> None:
        self.dense = adjacency.dense
        if self.dense is not None:
            if normalise:
                self.dense = self.dense / self.dense.sum(1, keepdim=True).clamp(min=1e-12)
            return
        assert adjacency.edge_index is not None
        assert adjacency.weight is not None
        (source, target), weight = adjacency.edge_index, adjacency.weight
        if normalise:
            total = torch.zeros(adjacency.num_nodes).index_add_(0, target, weight)
            weight = weight / total.clamp(min=1e-12)[target]
        shape = (adjacency.num_nodes, adjacency.num_nodes)
        self.matrix = torch.sparse_coo_tensor(torch.stack([target, source]), weight, shape)
        self.transpose = self.matrix.t().coalesce().to_sparse_csr()
        self.matrix = self.matrix.coalesce().to_sparse_csr()

    def __call__(self, x: Tensor) -> Tensor:
        if self.dense is not None:
            return self.dense @ x
        return _Propagate.apply(x, self.matrix, self.transpose)


def _linear(inputs: int, outputs: int) -> Linear:
    layer = Linear(inputs, outputs)
    torch.nn.init.xavier_uniform_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


class Conv(torch.nn.Module):
    """``[A relu(X W + b), X]``: a sum over the weighted neighbours, the input concatenated."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = _linear(inputs, HIDDEN)

    def forward(self, x: Tensor, operator: Operator) -> Tensor:
        return torch.cat([operator(self.linear(x).relu()), x], dim=-1)


class AutoEncoder(torch.nn.Module):
    """MLP, then convolution and pooling per level; lift and convolution back; MLP.

    With one level it is the model of the protocol. Deeper ones repeat its two halves, with one
    more layer of HIDDEN units between levels. Nothing but the adjacencies passes by the poolings.
    """

    def __init__(self, method: str, channels: int, nodes: int, ratio: float, levels: int) -> None:
        super().__init__()
        levels = 0 if method == "none" else levels
        self.levels = levels
        self.pre = Sequential(_linear(channels, HIDDEN), ReLU(), _linear(HIDDEN, HIDDEN))
        depth = max(levels, 1)
        self.down = ModuleList(Conv(HIDDEN) for _ in range(depth))
        self.mix_down = ModuleList(_linear(2 * HIDDEN, HIDDEN) for _ in range(1, depth))
        self.pools = ModuleList()
        for level in range(levels):
            nodes = math.ceil(ratio * nodes - 1e-6)
            self.pools.append(make(method, 2 * HIDDEN, nodes, ratio, level == levels - 1))
        self.up = ModuleList(Conv(2 * HIDDEN) for _ in range(depth))
        self.mix_up = ModuleList(_linear(3 * HIDDEN, 2 * HIDDEN) for _ in range(1, depth))
        self.post = Sequential(_linear(3 * HIDDEN, HIDDEN), ReLU(), _linear(HIDDEN, channels))
        self.cache: dict[int, tuple[Tensor, Operator]] = {}

    def forward(
        self, x: Tensor, adjacency: Adjacency
    ) -> tuple[Tensor, Tensor | float, list[Pooled]]:
        h, loss, pooled = self.pre(x), 0.0, []
        operators = []
        for level, conv in enumerate(self.down):
            if level > 0:
                h = self.mix_down[level - 1](h).relu()
            operators.append(self.operator(adjacency, level))
            h = conv(h, operators[-1])
            if self.levels:
                pooled.append(self.pools[level](h, adjacency))
                h, adjacency = pooled[-1].x, pooled[-1].adjacency
                loss = loss + pooled[-1].loss
        for level in reversed(range(len(self.up))):
            if self.levels:
                h = pooled[level].lift(h)
            h = self.up[level](h, operators[level])
            if level > 0:
                h = self.mix_up[level - 1](h).relu()
        return self.post(h), loss, pooled

    def operator(self, adjacency: Adjacency, level: int) -> Operator:
        if adjacency.dense is not None:
            return Operator(adjacency, level > 0)
        assert adjacency.edge_index is not None
        edges, made = self.cache.get(level, (None, None))
        if made is None or edges is not adjacency.edge_index:
            made = Operator(adjacency, level > 0)
            self.cache[level] = adjacency.edge_index, made
        return made
