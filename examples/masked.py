"""Masked pre-training: hide the features of half the nodes, predict them, then probe embeddings.

    python examples/masked.py

The graph joins each of scikit-learn's digits to its nearest; a linear probe reads the frozen
embeddings with five labels a class, and the pixels themselves beside.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from torch_geometric.utils import from_scipy_sparse_matrix, to_undirected

from pyg_gunet import GraphUNet, MaskedAutoEncoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="two steps")
args = parser.parse_args()
torch.manual_seed(0)
pixels, label = load_digits(return_X_y=True)
x = torch.from_numpy(pixels / 16).float()
edge_index = to_undirected(from_scipy_sparse_matrix(kneighbors_graph(pixels, 5))[0])
y = torch.from_numpy(label)
order = torch.randperm(y.numel())
labelled = torch.cat([order[y[order] == digit][:5] for digit in range(10)])
rest = order[~torch.isin(order, labelled)]


def probe(z: torch.Tensor) -> float:
    z = (z - z.mean(0)) / z.std(0).clamp_min(1e-6)
    fitted = LogisticRegression(max_iter=1000).fit(z[labelled].numpy(), label[labelled])
    return float(fitted.score(z[rest].numpy(), label[rest]))


model = MaskedAutoEncoder(GraphUNet(64, 128, 128, depth=2, connect="induced"), mask=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(2 if args.quick else 100):
    model.train()
    optimizer.zero_grad()
    x_hat, hidden = model(x, edge_index)
    model.loss(x_hat, x, hidden).backward()  # of the hidden nodes alone
    optimizer.step()
with torch.no_grad():
    z = model.eval().embed(x, edge_index)
print(f"50 labels: {probe(x):.3f} from pixels, {probe(z):.3f} from embeddings")
