"""Variational auto-encoding: fields are drawn, also on graphs that were not trained on.

    python examples/variational.py

Waves of random phase on rings of 40 to 80 nodes; a latent per graph. Drawn waves should look like
true ones: neighbours differ by little, and a node's values vary as much as theirs.
"""

import argparse
import math

import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet import GraphUNetAutoEncoder, VariationalAutoEncoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()
torch.manual_seed(0)


def ring(size: int) -> Data:
    node = torch.arange(size)
    edge_index = torch.stack([node, (node + 1) % size])
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    angle = 2 * math.pi * (node / size + torch.rand(1))
    return Data(x=angle.sin()[:, None], edge_index=edge_index, pos=node[:, None] / size)


def rough(x: torch.Tensor) -> float:
    """The mean squared step between neighbours over the variance; of independent values 2."""
    return float((x[1:] - x[:-1]).square().mean() / x.var())


graphs = [ring(int(size)) for size in torch.randint(40, 81, (20 if args.quick else 200,))]
model = VariationalAutoEncoder(GraphUNetAutoEncoder(1, 32, 8, depth=3), beta=0.02)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(2 if args.quick else 40):
    for data in DataLoader(graphs, batch_size=20, shuffle=True):
        optimizer.zero_grad()
        model.loss(data.x, data.edge_index, data.batch).backward()
        optimizer.step()
unseen = ring(100)
model.eval()
drawn = torch.stack([model.sample(unseen.edge_index, num_nodes=100) for _ in range(50)])
print(f"roughness: {rough(unseen.x):.3f} of a true wave, {rough(drawn[0]):.3f} of a drawn one")
print(f"deviation at a node: 0.707 of true waves, {drawn.std(0).mean():.3f} of drawn ones")
