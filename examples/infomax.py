"""Deep Graph Infomax (Velickovic et al. 2019) with the critics of pyg_gunet, and a linear probe.

    python examples/infomax.py --root data

One graph has no other graph to contrast with, so negatives are nodes with shuffled features. The
critic then reads KL(real || corrupted), from nodes that it was not trained on.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.linear_model import LogisticRegression
from torch_geometric.nn import GCNConv

from pyg_gunet import load
from pyg_gunet.critic import MutualInformationCritic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="Planetoid/Cora")
parser.add_argument("--hidden", type=int, default=256)
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--seeds", type=int, default=1)
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
data = load(args.name, args.root)[0].to(device)
data.x = data.x / data.x.sum(1, keepdim=True).clamp_min(1)


class Encoder(torch.nn.Module):
    """One graph convolution, as in the paper."""

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.conv = GCNConv(in_channels, hidden_channels, cached=True)
        self.act = torch.nn.PReLU(hidden_channels)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x, edge_index))


def corrupt(x: torch.Tensor) -> torch.Tensor:
    """Every node gets the features of another one; the graph stays."""
    return x[torch.randperm(x.size(0), device=x.device)]


def probe(z: torch.Tensor) -> float:
    """Test accuracy of logistic regression on the frozen embeddings; C by the validation nodes."""
    z, y = z.cpu().numpy(), data.y.cpu().numpy()
    train, val, test = (m.cpu().numpy() for m in (data.train_mask, data.val_mask, data.test_mask))
    fits = [
        LogisticRegression(C=c, max_iter=500).fit(z[train], y[train]) for c in (1.0, 10.0, 100.0)
    ]
    return float(max(fits, key=lambda fit: fit.score(z[val], y[val])).score(z[test], y[test]))


def run(seed: int) -> float:
    torch.manual_seed(seed)
    encoder = Encoder(data.num_features, args.hidden).to(device)
    critic = MutualInformationCritic(args.hidden, args.hidden, critic="bilinear").to(device)
    params = [*encoder.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(params, lr=1e-3)
    held_out = torch.rand(data.num_nodes, device=device) < 0.1

    def pairs(nodes: torch.Tensor) -> tuple:
        z = encoder(data.x, data.edge_index)
        z_corrupt = encoder(corrupt(data.x), data.edge_index)
        return z[nodes], z.mean(0, keepdim=True).sigmoid(), None, z_corrupt[nodes]

    for epoch in range(1, args.epochs + 1):
        encoder.train()
        optimizer.zero_grad()
        critic.loss(*pairs(~held_out)).backward()
        optimizer.step()
        if epoch % 50 == 0 or epoch == args.epochs:
            with torch.no_grad():
                print(f"epoch {epoch:3d}: {critic.estimate(*pairs(held_out))}")
    with torch.no_grad():
        return probe(encoder(data.x, data.edge_index))


accuracies = torch.tensor([run(seed) for seed in range(args.seeds)])
print(f"raw features: {probe(data.x):.3f} test accuracy")
spread = f" +- {accuracies.std():.3f}" if args.seeds > 1 else ""
print(f"embeddings:   {accuracies.mean():.3f}{spread} test accuracy")
