"""Deep Graph Infomax (Velickovic et al. 2019) with a critic of pyg_gunet, and a linear probe.

    python examples/infomax.py [--root data --name Planetoid/Cora --hidden 256]

Negatives are nodes with shuffled features; the critic reads KL(real || corrupted), held out.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.transforms import RandomNodeSplit
from torch_geometric.utils import from_scipy_sparse_matrix

from pyg_gunet import MutualInformationCritic, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", help="a set with masks, as pyg_gunet.load names it")
parser.add_argument("--hidden", type=int, default=64)
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()
torch.manual_seed(0)
if args.name:
    data = load(args.name, args.root)[0]
else:  # every digit is a node
    x, y = load_digits(return_X_y=True)
    edge_index = from_scipy_sparse_matrix((near := kneighbors_graph(x, 5)) + near.T)[0]
    data = Data(torch.from_numpy(x).float(), edge_index, y=torch.from_numpy(y))
    data = RandomNodeSplit("random", num_train_per_class=5, num_val=200)(data)
x = data.x / data.x.sum(1, keepdim=True).clamp_min(1)
conv, act = GCNConv(x.size(1), args.hidden, cached=True), torch.nn.PReLU(args.hidden)
critic = MutualInformationCritic(args.hidden, args.hidden, critic="bilinear")
model = torch.nn.ModuleList([conv, act, critic])
optimizer, held_out = torch.optim.Adam(model.parameters(), lr=1e-3), torch.rand(x.size(0)) < 0.1


def probe(z: torch.Tensor) -> float:
    (x, y), (u, v) = ((z[m], data.y[m]) for m in (data.train_mask, data.test_mask))
    return float(LogisticRegression(C=10.0, max_iter=500).fit(x, y).score(u, v))


def pairs(nodes: torch.Tensor) -> tuple:
    z, other = (act(conv(h, data.edge_index)) for h in (x, x[torch.randperm(x.size(0))]))
    return z[nodes], z.mean(0, keepdim=True).sigmoid(), None, other[nodes]


for _ in range(2 if args.quick else 100):
    optimizer.zero_grad()
    critic.loss(*pairs(~held_out)).backward()
    optimizer.step()
with torch.no_grad():
    print(critic.estimate(*pairs(held_out)))
    z = act(conv(x, data.edge_index))
    print(f"{probe(x):.3f} test accuracy from features, {probe(z):.3f} from embeddings")
