"""A U-Net on meshes with edge features: heat in a plate, by the paper's words and by others.

Random triangulations of the unit square with a heat source each; the border is kept at zero. Edges
carry the way to the neighbour (dx, dy, length), on every level.
"""

import argparse

import numpy as np
import torch
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINEConv, Linear
from torch_geometric.utils import to_scipy_sparse_matrix, to_undirected

from pyg_gunet import GPool, GraphUNet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="two epochs on few meshes")
quick, rng = parser.parse_args().quick, np.random.default_rng(0)


def mesh(size: int = 400) -> Data:
    pos = rng.random((size, 2))
    triangles = torch.from_numpy(Delaunay(pos).simplices).long()
    edge_index = to_undirected(torch.cat([triangles[:, [i, i - 1]] for i in range(3)]).T)
    inner, heat = np.flatnonzero((np.abs(pos - 0.5) < 0.46).all(1)), np.zeros(size)
    source = np.exp(-40 * ((pos - rng.random(2)) ** 2).sum(1))
    matrix = laplacian(to_scipy_sparse_matrix(edge_index, num_nodes=size).tocsr()).tocsr()
    heat[inner] = 0.2 * spsolve(matrix[inner][:, inner], source[inner])  # of about 1
    way = torch.from_numpy(pos[edge_index[0]] - pos[edge_index[1]]).float()
    way = 20 * torch.cat([way, way.norm(dim=1, keepdim=True)], dim=1)  # an edge is about 1 long
    x = torch.tensor(np.stack([source, np.isin(np.arange(size), inner)], axis=1)).float()
    return Data(x, edge_index, way, torch.tensor(heat)[:, None].float())


train = DataLoader([mesh() for _ in range(8 if quick else 40)], 8, shuffle=True)
test = next(iter(DataLoader([mesh() for _ in range(8)], 8)))
for words in (("topk", "keep", "induced", "zero"), ("spread", "mean", "contract", "interpolate")):
    torch.manual_seed(0)
    conv = lambda i, o: GINEConv(Linear(i, o), edge_dim=3, aggr="mean")  # noqa: E731
    own = dict(zip(("select", "reduce", "connect"), words))
    own["multiplier"] = 2 if words[0] == "spread" else 1  # its sigmoid then starts at about one
    pool = lambda c, r, own=own: GPool(c, r, **own)  # noqa: E731
    model = GraphUNet(2, 32, 1, 3, 0.25, conv=conv, norm="layer", pool=pool, lift=words[3])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(2 if quick else 40):
        for data in train:
            optimizer.zero_grad()
            out = model(data.x, data.edge_index, data.batch, edge_attr=data.edge_attr)
            (out - data.y).square().mean().backward()
            optimizer.step()
    with torch.no_grad():
        out = model(test.x, test.edge_index, test.batch, edge_attr=test.edge_attr)
    left = (out - test.y).square().mean() / test.y.var()
    print(f"{', '.join(words)}: {100 * left:.1f}% of the variance left on unseen meshes")
