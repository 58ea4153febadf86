"""Node classification by neighbour sampling: a GraphUNet on what is sampled around each batch.

    python examples/neighbour_sampling.py

Where pyg-lib or torch-sparse is installed, PyG's `NeighborLoader` does what `neighbourhood` does
here. A subgraph is new at every step and so are its levels; `induced` ones are the cheapest.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import SAGEConv
from torch_geometric.utils import stochastic_blockmodel_graph

from pyg_gunet import GraphUNet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a small graph, one epoch")
args = parser.parse_args()
torch.manual_seed(0)
block, classes = (60 if args.quick else 600), 5
p = torch.full((classes, classes), 1.2 / block).fill_diagonal_(9.0 / block)
edge_index = stochastic_blockmodel_graph([block] * classes, p)
y = torch.arange(classes).repeat_interleave(block)
x = F.one_hot(y).float() + 1.5 * torch.randn(y.numel(), classes)  # alone they tell little
train, test = torch.randperm(y.numel()).split([y.numel() // 5, y.numel() - y.numel() // 5])
degree = torch.bincount(edge_index[1], minlength=y.numel())
first = degree.cumsum(0) - degree  # edges are sorted by target below
edge_index = edge_index[:, edge_index[1].argsort(stable=True)]


def neighbourhood(seeds: Tensor, fanout: tuple[int, ...] = (10, 5)) -> tuple[Tensor, Tensor]:
    """Nodes, the seeds first, and the edges among them: `fanout` neighbours a node and hop."""
    nodes = front = seeds
    for count in fanout:
        front = front[degree[front] > 0]
        draw = (torch.rand(front.numel(), count) * degree[front, None]).long()
        front = edge_index[0, (first[front, None] + draw).view(-1)].unique()
        front = front[~torch.isin(front, nodes)]
        nodes = torch.cat([nodes, front])
    place = torch.full_like(y, -1)
    place[nodes] = torch.arange(nodes.numel())
    return nodes, place[edge_index][:, (place[edge_index] >= 0).all(0)]


model = GraphUNet(classes, 32, classes, depth=2, connect="induced", conv=SAGEConv)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005, weight_decay=1e-3)
for _ in range(1 if args.quick else 15):
    for seeds in train[torch.randperm(train.numel())].split(50):
        nodes, edges = neighbourhood(seeds)
        optimizer.zero_grad()
        F.cross_entropy(model(x[nodes], edges)[: seeds.numel()], y[seeds]).backward()
        optimizer.step()
with torch.no_grad():
    right = model.eval()(x, edge_index).argmax(-1) == y
alone = (x.argmax(-1) == y)[test].float().mean()
print(f"test accuracy {right[test].float().mean():.3f}; of the features alone {alone:.3f}")
