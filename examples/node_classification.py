"""Node classification, full batch: a GraphUNet in an ordinary PyG training loop.

python examples/node_classification.py                     # digits as one graph, built in
python examples/node_classification.py --root data --name Planetoid/Cora
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph
from torch_geometric.data import Data
from torch_geometric.transforms import RandomNodeSplit
from torch_geometric.utils import from_scipy_sparse_matrix, to_undirected

from pyg_gunet import GraphUNet, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", help="a set with masks, as pyg_gunet.load names it")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()


def digits() -> Data:
    """1,797 images as nodes, each joined to its 5 nearest; 5 labels a class."""
    x, y = load_digits(return_X_y=True)
    edge_index = to_undirected(from_scipy_sparse_matrix(kneighbors_graph(x, 5))[0])
    x, y = torch.from_numpy(x / 16).float(), torch.from_numpy(y)
    split = RandomNodeSplit("random", num_train_per_class=5, num_val=200, num_test=1500)
    return split(Data(x=x, edge_index=edge_index, y=y))


torch.manual_seed(0)
data = load(args.name, args.root)[0] if args.name else digits()
model = GraphUNet(data.num_features, 64, int(data.y.max()) + 1, depth=3, dropout=0.5)
levels = model.prepare(data.edge_index)  # once; `data.edge_index` itself does as well
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-3)
for _ in range(2 if args.quick else args.epochs):
    model.train()
    optimizer.zero_grad()
    out = model(F.dropout(data.x, 0.5), levels)
    F.cross_entropy(out[data.train_mask], data.y[data.train_mask]).backward()
    optimizer.step()
with torch.no_grad():
    right = model.eval()(data.x, levels).argmax(-1) == data.y
print(f"test accuracy {right[data.test_mask].float().mean():.3f}")
