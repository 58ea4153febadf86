"""How much a node's embedding tells about its graph's, in nats, of graphs not trained on.

python examples/mutual_information.py
"""

import argparse

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_mean_pool

from pyg_gunet import MutualInformationCritic, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="digits")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--graphs", type=int, default=400)
parser.add_argument("--quick", action="store_true", help="one epoch on few graphs")
args = parser.parse_args()
torch.manual_seed(0)
dataset = load(args.name, args.root)[: 80 if args.quick else args.graphs]
test = next(iter(DataLoader(dataset[: len(dataset) // 4], batch_size=len(dataset))))
conv, out = GraphConv(dataset.num_node_features, 32), GraphConv(32, 32)
critic = MutualInformationCritic(32, 32, hidden_channels=64)  # r(node, graph) = log p/q


def embed(data):
    z = out(conv(data.x, data.edge_index).relu(), data.edge_index)
    return z, global_mean_pool(z, data.batch)


parameters = [p for module in (conv, out, critic) for p in module.parameters()]
optimizer = torch.optim.Adam(parameters, lr=5e-3)
for _ in range(1 if args.quick else args.epochs):
    for data in DataLoader(dataset[len(dataset) // 4 :], batch_size=32, shuffle=True):
        optimizer.zero_grad()
        critic.loss(*embed(data), data.batch).backward()  # encoder and critic, both maximise it
        optimizer.step()
with torch.no_grad():
    z, graph = embed(test)
    print("nodes with their graphs: ", critic.estimate(z, graph, test.batch))
    print("with another's:          ", critic.estimate(z, graph.roll(1, 0), test.batch))
