"""Two random walks colour half of a grid red: one island or two? Read off levels made beforehand.

python examples/colour_connectivity.py
"""

import argparse
import random

import torch
from scipy.ndimage import label
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, GINConv
from torch_geometric.utils import grid

from pyg_gunet import GraphUNet, HierarchicalReadout
from pyg_gunet.transforms import Coarsen

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="one epoch on small grids")
side, depth, count, epochs = (6, 2, 40, 1) if parser.parse_args().quick else (16, 4, 800, 12)
torch.manual_seed(0)
random.seed(0)
(row, col), _ = grid(side, side)
near = (row // side - col // side).abs() + (row % side - col % side).abs() == 1
row, col = row[near], col[near]  # no diagonals
neighbours = [col[row == node].tolist() for node in range(side**2)]
graphs, made = [], [0, 0]
while len(graphs) < count:
    nodes, here, other = set(), random.randrange(side**2), random.randrange(side**2)
    while len(nodes) < side**2 // 2:
        nodes.add(here)
        here, other = other, random.choice(neighbours[here])  # in turns
    red = torch.isin(torch.arange(side**2), torch.tensor(list(nodes)))
    two = label(red.view(side, side))[1] - 1
    if two < 2 and made[two] < count // 2:
        made[two] += 1
        x = torch.stack([~red, red], dim=1).float()
        edge_index = torch.stack([row, col])[:, red[row] == red[col]]
        graphs.append(Data(x=x, edge_index=edge_index, y=torch.tensor([two])))
graphs = Coarsen(depth).all(random.sample(graphs, count))
words = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
conv = lambda i, o: GINConv(MLP([i, o, o], norm=None))  # noqa: E731
model = HierarchicalReadout(GraphUNet(2, 32, 32, depth, norm="batch", conv=conv, **words), 2)
train = DataLoader(graphs[: count // 2], 32, shuffle=True)
optimizer = torch.optim.Adam(model.parameters())
cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, epochs * len(train))
for _ in range(epochs):
    for data in train:
        optimizer.zero_grad()
        cross_entropy(model(data.x, data.hierarchy(), data.batch), data.y).backward()
        optimizer.step()
        cycle.step()
model.eval()
with torch.no_grad():
    data = next(iter(DataLoader(graphs[count // 2 :], count)))
    right = model(data.x, data.hierarchy(), data.batch).argmax(-1) == data.y
print(f"{100 * right.float().mean():.1f}% of {len(right)} unseen colourings")
