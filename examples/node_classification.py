"""Node classification on Planetoid: a gPool between ordinary PyG convolutions."""

import argparse

import torch
from torch_geometric.datasets import Planetoid
from torch_geometric.nn import GCNConv

from pyg_gunet import GPool, GUnpool


class Net(torch.nn.Module):
    def __init__(self, hidden, num_classes):
        super().__init__()
        self.stem, self.head = GCNConv(-1, hidden), GCNConv(hidden, num_classes)
        self.pool, self.unpool = GPool(hidden, connect="two_hop"), GUnpool()
        self.coarse = GCNConv(hidden, hidden)

    def forward(self, x, edge_index):
        x = self.stem(torch.dropout(x, 0.8, self.training), edge_index).relu()
        kept = self.pool(x, edge_index)
        up = self.coarse(kept.x, kept.edge_index, kept.edge_attr).relu()
        x = x + self.unpool(up, kept.perm, x.size(0))  # the skip connection
        return self.head(torch.dropout(x, 0.5, self.training), edge_index)


parser = argparse.ArgumentParser()
parser.add_argument("--root", default="data")
parser.add_argument("--epochs", type=int, default=100)
args = parser.parse_args()
data = (dataset := Planetoid(args.root, "Cora"))[0]
model, loss = Net(64, dataset.num_classes), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-3)
for _ in range(args.epochs):
    optimizer.zero_grad()
    loss(model(data.x, data.edge_index)[data.train_mask], data.y[data.train_mask]).backward()
    optimizer.step()
pred, test = model.eval()(data.x, data.edge_index).argmax(-1), data.test_mask
print(f"test accuracy {(pred == data.y)[test].float().mean():.3f}")
