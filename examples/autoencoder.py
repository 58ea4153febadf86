"""A graph auto-encoder: PyGSP's bunny through an eighth of its nodes and back.

python examples/autoencoder.py
"""

import argparse

import torch

from pyg_gunet import GraphUNetAutoEncoder
from pyg_gunet.data import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="bunny")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()

data = load(args.name, args.root)[0]
x = (data.x - data.x.mean(0)) / data.x.std()
torch.manual_seed(0)
model = GraphUNetAutoEncoder(x.size(1), 64, latent_channels=8, depth=3)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(2 if args.quick else args.epochs):
    optimizer.zero_grad()
    z, hierarchy = model.encode(x, data.edge_index)
    loss = model.loss(model.decode(z, hierarchy), x)  # no feature gets past z
    loss.backward()
    optimizer.step()
print(f"{x.numel()} numbers through {z.numel()}: {100 * loss.item():.3g}% of the variance lost")
