"""Reconstruct a graph from half of its nodes: top-k keeps one corner, spread keeps them all near.

    python examples/autoencode.py

An 8 x 8 grid is encoded into half of its nodes, and the coordinates of all nodes are decoded from
those alone: nothing else passes the pooling. Prints the error and the kept nodes of both.
"""

import argparse

import torch
from torch import Tensor
from torch.nn import Linear, ReLU, Sequential
from torch_geometric.nn import GraphConv
from torch_geometric.utils import grid

from pyg_gunet import GPool, GUnpool


class AutoEncoder(torch.nn.Module):
    def __init__(self, select: str, channels: int = 2, hidden: int = 128) -> None:
        super().__init__()
        self.encode = Sequential(Linear(channels, hidden), ReLU(), Linear(hidden, hidden))
        self.down = GraphConv(hidden, hidden)
        self.pool = GPool(hidden, ratio=0.5, select=select)
        self.unpool = GUnpool()
        self.up = GraphConv(hidden, hidden)
        self.decode = Sequential(ReLU(), Linear(hidden, hidden), ReLU(), Linear(hidden, channels))

    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        h = self.down(self.encode(x), edge_index).relu()
        pooled = self.pool(h, edge_index)
        h = self.unpool(pooled.x, pooled.perm, x.size(0))  # dropped nodes come back as zeros
        return self.decode(self.up(h, edge_index)), pooled.perm


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--quick", action="store_true", help="two steps")
args = parser.parse_args()
edge_index, x = grid(8, 8)
for select in ("topk", "spread"):
    torch.manual_seed(0)
    model = AutoEncoder(select)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    best = float("inf")
    for _ in range(2 if args.quick else args.steps):
        optimizer.zero_grad()
        out, perm = model(x / 8, edge_index)
        loss = (out - x / 8).square().mean()
        if loss.item() < best:
            best, kept = loss.item(), set(perm.tolist())
        loss.backward()
        optimizer.step()
    print(f"\n{select}: mean squared error {best:.1e} from {len(kept)} of {x.size(0)} nodes")
    print("\n".join(" ".join(".#"[8 * r + c in kept] for c in range(8)) for r in range(8)))
