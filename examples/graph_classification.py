"""Graph classification: a GraphUNet, read off at every level, with PyG's DataLoader.

python examples/graph_classification.py                  # the digits as pixel graphs, built in
python examples/graph_classification.py --root data --name TU/MUTAG
"""

import argparse

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import SAGEConv

from pyg_gunet import GraphUNet, HierarchicalReadout, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="digits")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--quick", action="store_true", help="two epochs on few graphs")
args = parser.parse_args()
torch.manual_seed(0)
dataset = load(args.name, args.root).shuffle()[: 100 if args.quick else 1000]
graphs = list(dataset)
for data in graphs:
    data.y = data.digit if "digit" in data else data.y
classes = 1 + max(int(data.y) for data in graphs)
cut = len(graphs) // 5
net = GraphUNet(dataset.num_features, 32, 32, depth=2, conv=SAGEConv, norm="batch")
model, loss = HierarchicalReadout(net, classes), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _ in range(2 if args.quick else args.epochs):
    for data in DataLoader(graphs[cut:], batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss(model(data.x, data.edge_index, data.batch), data.y).backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    for data in DataLoader(graphs[:cut], batch_size=cut):
        right = model(data.x, data.edge_index, data.batch).argmax(-1) == data.y
print(f"test accuracy {right.float().mean():.3f}")
