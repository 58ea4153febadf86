"""Minesweeper (Platonov et al. 2023): half of a grid's nodes tell how many of their neighbours are
mines. Twelve layers, and the same with two on a coarser level: a task where levels do not pay.

python examples/minesweeper.py
"""

import argparse

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import dropout, one_hot
from torch_geometric.nn import BatchNorm, GCNConv
from torch_geometric.utils import grid, remove_self_loops
from torchmetrics.functional.classification import binary_auroc

from pyg_gunet import GraphUNet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=150)
parser.add_argument("--quick", action="store_true", help="a small grid")
args = parser.parse_args()
side, width = (10, 8) if args.quick else (100, 64)
torch.manual_seed(0)
edges, _ = remove_self_loops(grid(side, side)[0])
mine = (torch.rand(side**2) < 0.2).float()
near = torch.zeros(side**2).index_add(0, edges[1], mine[edges[0]]).long()
x = one_hot(torch.where(torch.rand(side**2) < 0.5, 9, near), 10).float()
train, val, test = torch.randperm(side**2).tensor_split([side**2 // 2, 3 * side**2 // 4])


class Layers(torch.nn.Module):
    """Graph convolutions, each with the node's own state, batch norm and dropout."""

    def __init__(self, inputs: int, outputs: int, count: int) -> None:
        super().__init__()
        sizes = [inputs] + (count - 1) * [width]
        self.convs = torch.nn.ModuleList(GCNConv(i, width) for i in sizes)
        self.roots = torch.nn.ModuleList(torch.nn.Linear(i, width) for i in sizes)
        self.norms = torch.nn.ModuleList(BatchNorm(width) for _ in sizes)
        self.head = torch.nn.Linear(width, outputs)

    def forward(self, x, edge_index, edge_weight=None):
        for conv, root, norm in zip(self.convs, self.roots, self.norms):
            x = dropout(norm(conv(x, edge_index, edge_weight) + root(x)).relu(), 0.2, self.training)
        return self.head(x)


words = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
counts = iter([5, 2, 5])
u = GraphUNet(10, width, 1, 1, conv=lambda i, o: Layers(i, o, next(counts)), **words)
for name, model in (("one level", Layers(10, 1, 12)), ("two levels", u)):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(args.epochs):
        optimizer.zero_grad()
        cross_entropy(model.train()(x, edges).view(-1)[train], mine[train]).backward()
        optimizer.step()
    out = model.eval()(x, edges).detach().view(-1)
    area = [100 * binary_auroc(out[part], mine[part].long()) for part in (val, test)]
    print(f"{name}: area under the curve {area[1]:.1f}, on validation nodes {area[0]:.1f}")
