"""Compress graphs and decode them: levels made once, latents written to a file, features back.

    python examples/compress.py

Fields on random geometric graphs, 4 numbers a node, go through 1 number a node. What decodes them
is the model, the graph and the file; PCA with as many numbers is printed beside.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from pyg_gunet import Coarsen, GraphUNetAutoEncoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()
torch.manual_seed(0)


def field(size: int = 200) -> Data:
    """Points, edges to all within 0.12, and four smooth waves as features."""
    pos = torch.rand(size, 2)
    near = torch.cdist(pos, pos) < 0.12
    edge_index = near.fill_diagonal_(False).nonzero().T.contiguous()
    return Data(x=torch.sin(5 * pos @ torch.randn(2, 4) + torch.rand(4)), edge_index=edge_index)


graphs = Coarsen(depth=2).all(field() for _ in range(60))  # half of the nodes stay, twice
model = GraphUNetAutoEncoder(4, 64, latent_channels=4, depth=2)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(2 if args.quick else 60):
    for data in DataLoader(graphs[:50], batch_size=10, shuffle=True):
        optimizer.zero_grad()
        z, hierarchy = model.encode(data.x, data.hierarchy(), data.batch)
        model.loss(model.decode(z, hierarchy), data.x).backward()
        optimizer.step()

test = Batch.from_data_list(graphs[50:])
with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "z.pt"
    torch.save(model.encode(test.x, test.hierarchy(), test.batch)[0], file)
    z = torch.load(file)  # somewhere else: the graph and this file are all that is needed
    x = model.decode(z, test.hierarchy())
centred = test.x - test.x.mean(0)
first = torch.linalg.svd(centred, full_matrices=False).Vh[:1]  # one number a node, too
pca = (centred - centred @ first.T @ first).square().mean() / centred.square().mean()
left = (x - test.x).square().mean() / centred.square().mean()
print(f"{test.x.numel()} numbers as {z.numel()}: {100 * left:.2f}% of the variance lost")
print(f"PCA with one number a node: {100 * pca:.1f}%")
