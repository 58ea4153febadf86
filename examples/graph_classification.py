"""Graph classification on a TU set with PyG's DataLoader: gPool between PyG convolutions."""

import argparse

import torch
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_add_pool

from pyg_gunet import GPool


class Net(torch.nn.Module):
    def __init__(self, num_features, hidden, num_classes):
        super().__init__()
        self.stem, self.pool = GraphConv(num_features, hidden), GPool(hidden, ratio=0.8)
        self.conv, self.head = GraphConv(hidden, hidden), torch.nn.Linear(hidden, num_classes)

    def forward(self, x, edge_index, batch):
        x = self.stem(x, edge_index).relu()
        x, edge_index, _, batch, _, _ = self.pool(x, edge_index, batch=batch)
        return self.head(global_add_pool(self.conv(x, edge_index).relu(), batch))


parser = argparse.ArgumentParser()
parser.add_argument("--root", default="data")
parser.add_argument("--epochs", type=int, default=50)
args = parser.parse_args()
dataset = TUDataset(args.root, "MUTAG").shuffle()
model, loss = Net(dataset.num_features, 64, dataset.num_classes), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _ in range(args.epochs):
    for data in DataLoader(dataset[38:], batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss(model(data.x, data.edge_index, data.batch), data.y).backward()
        optimizer.step()
for data in DataLoader(dataset[:38], batch_size=38):
    right = model(data.x, data.edge_index, data.batch).argmax(-1) == data.y
print(f"test accuracy {right.float().mean():.3f}")
