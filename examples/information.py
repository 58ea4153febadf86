"""How much node embeddings tell about their graphs and about labels: one call, no tuning.

    python examples/information.py                            # digits as pixel graphs, built in
    python examples/information.py --root data --name TU/MUTAG

Each estimate trains critics of its own, reads every graph by those that did not see it, and says
when it is not to be believed. The latent is that of an auto-encoder trained for a moment.
"""

import argparse

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_mean_pool

from pyg_gunet import GraphUNetAutoEncoder, estimate_mi, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="digits")
parser.add_argument("--epochs", type=int, default=100, help="of the auto-encoder")
parser.add_argument("--steps", type=int, default=300, help="of each estimate, at most")
parser.add_argument("--quick", action="store_true", help="ten steps on few graphs")
args = parser.parse_args()
torch.manual_seed(0)
dataset = load(args.name, args.root)[: 40 if args.quick else 400]
label = "digit" if "digit" in dataset[0] else "y"
data = next(iter(DataLoader(dataset, batch_size=len(dataset))))
conv = GraphConv(dataset.num_node_features, 8)
model = GraphUNetAutoEncoder(dataset.num_node_features, 16, 4, depth=1)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(2 if args.quick else args.epochs):
    optimizer.zero_grad()
    decoded = model.decode(*model.encode(data.x, data.edge_index, data.batch))
    model.loss(decoded, data.x).backward()
    optimizer.step()
with torch.no_grad():
    z = conv(data.x, data.edge_index).tanh()
    graph = global_mean_pool(z, data.batch)
    latent, hierarchy = model.encode(data.x, data.edge_index, data.batch)
kept = hierarchy.levels[-1].batch
options = {"steps": 10 if args.quick else args.steps, "hidden_channels": 32}
print("node, graph:  ", estimate_mi(z, graph, data.batch, **options))
print("graph, label: ", estimate_mi(graph, data[label], **options))
print("graph, graph: ", estimate_mi(graph, graph.roll(1, 0), **options))  # another's: nothing
print("latent, graph:", estimate_mi(latent, global_mean_pool(latent, kept), kept, **options))
