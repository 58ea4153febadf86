"""Training on one citation graph, the same for every system."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, BatchNorm, Linear
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import dropout_edge, to_torch_csr_tensor

from pyg_gunet.data import load

LR, EVERY, BLOCK = 0.01, 2, 64


class Protocol(NamedTuple):
    """How every system is trained, after GRAND's own code (`grand_control.py` tells what each of
    these is worth): the epoch of lowest validation loss counts, or of highest `accuracy`, ties by
    loss, once `patience` epochs have gone by without a better one, or, where `either`, without one
    at least as good by loss or by accuracy; consistent training makes so many `passes` per step,
    and its weight grows over `ramp` epochs."""

    epochs: int = 1000
    patience: int = 200
    choose: str = "loss"
    passes: int = 4
    ramp: int = 0
    either: bool = True


PROTOCOL = Protocol()

# The part of a configuration that is of training; the rest is of the model.
SHARED: dict[str, tuple[Any, ...]] = {
    "dropout": (0.5, 0.6, 0.8),
    "weight_decay": (5e-4, 1e-3, 2e-3),
    "drop": ("entries", "nodes"),
    "edge_dropout": (0.0, 0.3),
    "consistent": (False, True),
}


def citation_graph(name: str, root: str) -> Data:
    """A Planetoid graph, its features' rows of sum 1."""
    data = load(f"Planetoid/{name}", root)[0]
    assert data.x is not None
    data.x = data.x / data.x.sum(dim=1, keepdim=True).clamp(min=1)
    return data


class Grand(torch.nn.Module):
    """Mixed features and a perceptron (Feng et al. 2020): ``MixedGraphUNet`` without its U,
    but with self loops of weight 1, as published, where that has weight 2.

    Args:
        mixed_dropout (float): Dropout on the entries of mixed features, which is published. Without
            it the mixing comes after the first linear map: the same, in a third of the time.
        scale (float): A factor on the features. Published code leaves kept rows as they are in
            training and scales all of them at the end: ``1 - dropout``.
        norm (bool): Batch norm of the mixed features and of hidden ones, published for PubMed.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        classes: int,
        steps: int,
        dropout: float,
        mixed_dropout: float = 0.0,
        scale: float = 1.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(map(BatchNorm, (in_channels, hidden) if norm else ()))
        self.first, self.last = Linear(in_channels, hidden), Linear(hidden, classes)
        self.steps, self.dropout = steps, dropout
        self.mixed_dropout, self.scale = mixed_dropout, scale
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.norms or (self.training and self.mixed_dropout):
            x = self.mixed(x * self.scale, edge_index)
            x = self.norms[0](x) if self.norms else x
            x = entry_dropout(x, self.mixed_dropout) if self.training else x
            x = F.linear(x, self.first.weight)
        else:
            x = self.mixed(self.scale * (self.first(x) - self.first.bias), edge_index)
        x = (x + self.first.bias).relu()
        x = self.norms[1](x) if self.norms else x
        return self.last(F.dropout(x, self.dropout, self.training))

    def mixed(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The mean over 0 to `steps` steps."""
        if self.kept is None or self.kept[0] is not edge_index:
            edges, weight = gcn_norm(edge_index, None, x.size(0))
            size = (x.size(0), x.size(0))
            self.kept = edge_index, to_torch_csr_tensor(edges.flip(0), weight, size)
        if x.size(1) <= BLOCK:
            return self._mean(x)
        # Few columns at a time stay in the processor's cache from step to step: twice as fast.
        return torch.cat([self._mean(part.contiguous()) for part in x.split(BLOCK, 1)], 1)

    def _mean(self, x: Tensor) -> Tensor:
        assert self.kept is not None
        total = x
        for _ in range(self.steps):
            x = Symmetric.apply(x, self.kept[1])
            total = total + x
        return total / (self.steps + 1)


def entry_dropout(x: Tensor, p: float) -> Tensor:
    """``F.dropout``, where one bit per entry decides if it is a fair coin: a tenth of the draws'
    time, which is a third of a step's on wide features."""
    if p != 0.5 or x.device.type != "cpu":
        return F.dropout(x, p)
    count = x.numel()
    words = torch.randint(-(2**63), 2**63 - 1, ((count + 63) // 64,), dtype=torch.long)
    octets = words.view(torch.uint8)
    bits = ((octets.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1).mul_(2)
    return x * bits.view(-1)[:count].view(x.shape)


class Prepared(torch.nn.Module):
    """A network of this package on the graph that it has prepared, or, in a step that leaves out
    edges, on those that are left; then `propagate` steps of personalised PageRank. `scale` as of
    :class:`Grand`."""

    def __init__(self, net: Any, data: Data, propagate: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.net, self.scale = net, scale
        self.edge_index = data.edge_index
        self.graph = net.prepare(data.edge_index, num_nodes=data.num_nodes)
        self.smooth = APPNP(propagate, 0.1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        whole = edge_index is self.edge_index
        x = x if self.scale == 1 else self.scale * x  # a copy of a wide matrix
        out = self.net(x, self.graph if whole else edge_index)
        return self.smooth(out, edge_index) if self.smooth.K else out


class WordDropout:
    """Dropout on a feature matrix that is mostly zero: draws for the others alone.

    The same distribution as ``F.dropout``, which on Cora takes most of a training step. A buffer
    per pass through the network, whose entries are overwritten by the next step.

    Args:
        x (Tensor): Features, [N, F].
        passes (int): Passes per step.
        rows (bool): Whether whole rows are dropped (DropNode) in place of entries.
    """

    def __init__(self, x: Tensor, passes: int, rows: bool) -> None:
        self.index = x.view(-1).nonzero().view(-1)
        self.row = self.index // x.size(1) if rows else None
        self.ones = x.new_ones(x.size(0))
        self.values = x.view(-1)[self.index]
        self.buffers = [x.clone() for _ in range(passes)]

    def __call__(self, i: int, p: float) -> Tensor:
        buffer = self.buffers[i]
        if self.row is None:
            buffer.view(-1)[self.index] = F.dropout(self.values, p)
        else:
            buffer.view(-1)[self.index] = self.values * F.dropout(self.ones, p)[self.row]
        return buffer


class Symmetric(torch.autograd.Function):
    """A sparse symmetric matrix, held fixed, times `x`: PyTorch would transpose it at every step
    backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix @ grad, None


class WordProduct(torch.autograd.Function):
    """``x @ weight.t()`` of features that are mostly zero; none flows back to the features."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, words: Words) -> Tensor:
        values = x.view(-1)[words.index]
        ctx.words, ctx.values = words, values
        return words.rows(values) @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, (ctx.words.columns(ctx.values) @ grad).t(), None


class Words:
    """Where a feature matrix is not zero, by rows and by columns."""

    def __init__(self, x: Tensor) -> None:
        self.size, pattern = x.shape, x.to_sparse_csr()
        self.index = x.view(-1).nonzero().view(-1)
        self.ptr, self.col = pattern.crow_indices(), pattern.col_indices()
        self.turn = self.col.argsort(stable=True)
        self.row_t = torch.arange(len(x)).repeat_interleave(self.ptr.diff())[self.turn]
        counts = torch.bincount(self.col, minlength=x.size(1))
        self.ptr_t = torch.cat((counts.new_zeros(1), counts.cumsum(0)))

    def rows(self, values: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(self.ptr, self.col, values, self.size)

    def columns(self, values: Tensor) -> Tensor:
        parts = self.ptr_t, self.row_t, values[self.turn]
        return torch.sparse_csr_tensor(*parts, self.size[::-1])


class WordLinear(torch.nn.Module):
    """A linear map of words, with the parameters of the one that it stands for: the same figures in
    a tenth of the time of a step."""

    def __init__(
        self, weight: torch.nn.Parameter, bias: torch.nn.Parameter | None, words: Words
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.words = weight, bias, words

    def forward(self, x: Tensor) -> Tensor:
        out = WordProduct.apply(x, self.weight, self.words)
        return out if self.bias is None else out + self.bias


def enter_by_words(model: torch.nn.Module, x: Tensor) -> torch.nn.Module:
    """Puts a `WordLinear` in place of every linear map of the input features."""
    words = Words(x)
    for module in list(model.modules()):
        if getattr(module, "mixed_dropout", 0.0):  # what it maps is no longer mostly zero
            continue
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and child.in_channels == x.size(1):
                setattr(module, name, WordLinear(child.weight, child.bias, words))
    return model


def consistency(outs: list[Tensor], temperature: float = 0.5) -> Tensor:
    """The mean squared distance of predictions to their sharpened mean, which is held fixed."""
    probability = torch.stack([out.exp() for out in outs])
    target = probability.mean(0).detach() ** (1 / temperature)
    target = target / target.sum(-1, keepdim=True)
    return (probability - target).square().sum(-1).mean()


def train(
    data: Data,
    make: Callable[[], torch.nn.Module],
    config: dict[str, Any],
    seed: int,
    final: bool,
    protocol: Protocol = PROTOCOL,
) -> dict[str, float | None]:
    """One run, its epoch as the protocol says. The test nodes are read at that epoch, and only
    where the run is `final`."""
    torch.manual_seed(seed)
    model = enter_by_words(make(), data.x)
    lr, temperature = config.get("lr", LR), config.get("temperature", 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr, weight_decay=config["weight_decay"])
    passes = protocol.passes if config["consistent"] else 1
    ramp = config.get("ramp", protocol.ramp)
    p, q = config.get("node_dropout", config["dropout"]), config["edge_dropout"]
    words = WordDropout(data.x, passes, config["drop"] == "nodes")
    best = (-float("inf"), -float("inf"))
    least, most = float("inf"), 0.0
    row: dict[str, float | None] = {}
    at, start = 0, time.process_time()
    for epoch in range(protocol.epochs):
        model.train()
        outs = []
        for i in range(passes):
            edge_index = data.edge_index
            if q:
                edge_index = dropout_edge(edge_index, q, force_undirected=True)[0]
            outs.append(model(words(i, p), edge_index).log_softmax(-1))
        loss = torch.stack(
            [F.nll_loss(out[data.train_mask], data.y[data.train_mask]) for out in outs]
        ).mean()
        if passes > 1:
            loss = loss + min(1.0, epoch / max(ramp, 1)) * consistency(outs, temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % EVERY != EVERY - 1 and epoch != protocol.epochs - 1:
            continue
        model.eval()
        with torch.no_grad():
            out = model(data.x, data.edge_index).log_softmax(-1)
        val_loss = float(F.nll_loss(out[data.val_mask], data.y[data.val_mask]))
        val = accuracy(out, data, data.val_mask)
        rank = (-val_loss, val) if protocol.choose == "loss" else (val, -val_loss)
        if protocol.either and (val_loss <= least or val >= most):
            least, most, at = min(val_loss, least), max(val, most), epoch
        if rank > best:
            best, at = rank, epoch
            test = accuracy(out, data, data.test_mask) if final else None
            row = {"val": val, "val_loss": val_loss, "epoch": epoch + 1, "test": test}
        elif epoch - at >= protocol.patience:
            break
    return {**row, "seconds": round(time.process_time() - start, 2)}


def accuracy(out: Tensor, data: Data, mask: Tensor) -> float:
    """In percent."""
    return 100 * float((out[mask].argmax(1) == data.y[mask]).double().mean())
