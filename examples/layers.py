"""The layers in an ordinary PyG model: GPool down and GUnpool up between PyG's convolutions.

    python examples/layers.py                                 # the paper's levels
    python examples/layers.py --connect contract --lift interpolate --select spread --reduce mean

The graph is the digits' of scikit-learn: a node is a pixel with ink, its class the digit.
"""

import argparse

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import SAGEConv

from pyg_gunet import GPool, GUnpool, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--select", default="topk")
parser.add_argument("--reduce", default="keep")
parser.add_argument("--connect", default="two_hop")
parser.add_argument("--lift", default="zero")
parser.add_argument("--quick", action="store_true", help="one epoch of few graphs")
args = parser.parse_args()


class Net(torch.nn.Module):
    def __init__(self, channels, hidden, classes):
        super().__init__()
        self.stem, self.head = SAGEConv(channels, hidden), SAGEConv(hidden, classes)
        self.pool = GPool(hidden, 0.5, select=args.select, reduce=args.reduce, connect=args.connect)
        self.unpool = GUnpool(args.lift)
        self.coarse = SAGEConv(hidden, hidden)

    def forward(self, x, edge_index, batch):
        x = self.stem(x, edge_index).relu()
        out = self.pool(x, edge_index, batch=batch)  # as TopKPooling returns it
        up = self.coarse(out.x, out.edge_index).relu()
        x = x + self.unpool(up, out.perm, x.size(0), edge_index)  # the skip connection
        return self.head(x, edge_index)


torch.manual_seed(0)
dataset = load("digits")[: 100 if args.quick else 1000]
cut = len(dataset) // 5
model, loss = Net(dataset.num_features, 64, 11), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _ in range(1 if args.quick else 15):
    for data in DataLoader(dataset[cut:], batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss(model(data.x, data.edge_index, data.batch), data.y).backward()
        optimizer.step()
test = next(iter(DataLoader(dataset[:cut], batch_size=cut)))
right = (model(test.x, test.edge_index, test.batch).argmax(-1) == test.y)[test.y > 0]
print(f"pixels with ink given to the right digit: {right.float().mean():.3f}")
