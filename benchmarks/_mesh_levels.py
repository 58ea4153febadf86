"""Levels that depend on the mesh alone, made once per mesh: bi-stride pooling, and the poolings of
torch-geometric-pool. A level is its edges, a restriction and a prolongation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components, shortest_path
from torch import Tensor
from torch_geometric.data import Data


class Step(NamedTuple):
    """From a level of N nodes to one of K."""

    adjacency: sparse.csr_matrix  # [K, K]
    reduce: sparse.csr_matrix  # [K, N]
    lift: sparse.csr_matrix  # [N, K]


class MeshData(Data):
    """A mesh with its levels; PyG's DataLoader batches both."""

    def __inc__(self, key, value, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN204
        kind, _, level = key.rpartition("_")
        if kind == "level_index":
            return self[f"level_nodes_{level}"]
        if kind in ("reduce_index", "lift_index"):
            fine = self.num_nodes if level == "1" else self[f"level_nodes_{int(level) - 1}"]
            coarse = self[f"level_nodes_{level}"]
            pair = (coarse, fine) if kind == "reduce_index" else (fine, coarse)
            return torch.tensor(pair).view(2, 1)
        return super().__inc__(key, value, *args, **kwargs)


def add_levels(mesh: Data, depth: int, make) -> MeshData:  # noqa: ANN001
    """The mesh with `depth` levels by ``make(adjacency, pos, weight) -> Step``, a weight per node
    being what it stands for."""
    row, col = mesh.edge_index.numpy()
    adjacency = sparse.csr_matrix((np.ones(row.size), (row, col)), shape=(mesh.num_nodes,) * 2)
    out = MeshData(**mesh.to_dict())
    pos, weight = mesh.pos.double().numpy(), np.ones(mesh.num_nodes)
    for level in range(1, depth + 1):
        step: Step = make(adjacency, pos, weight)
        out[f"level_index_{level}"] = _index(step.adjacency)[0]
        out[f"level_nodes_{level}"] = step.adjacency.shape[0]
        for name, matrix in (("reduce", step.reduce), ("lift", step.lift)):
            out[f"{name}_index_{level}"], out[f"{name}_value_{level}"] = _index(matrix)
        # Where a kept node lies: the mean of what it stands for; bi-stride alone reads it.
        share = np.maximum(np.asarray(step.reduce.sum(1)), 1e-12)
        weight, pos = step.reduce @ weight, step.reduce @ pos / share
        adjacency = step.adjacency
    return out


def _index(matrix: sparse.spmatrix) -> tuple[Tensor, Tensor]:
    coo = matrix.tocoo()
    index = np.stack([coo.row, coo.col]).astype(np.int64)
    return torch.from_numpy(index), torch.from_numpy(coo.data).float()


def bi_stride(adjacency: sparse.csr_matrix, pos: np.ndarray, weight: np.ndarray) -> Step:
    """Cao et al., "Efficient Learning of Mesh-Based Physical Simulation with Bi-Stride Multi-Scale
    Graph Neural Network" (ICML 2023, https://arxiv.org/abs/2210.02573), section 3: every other
    front of a breadth-first search from the centre stays, two hops join what stays, and features
    travel by fixed weights: a node gives each neighbour and itself an equal share of what it
    stands for; the way up is the transpose of the way down."""
    size = adjacency.shape[0]
    component = connected_components(adjacency, directed=False)[1]
    kept = np.zeros(size, dtype=bool)
    for c in range(component.max() + 1):
        nodes = np.flatnonzero(component == c)
        centre = pos[nodes].mean(0)
        seed = nodes[((pos[nodes] - centre) ** 2).sum(1).argmin()]
        hops = shortest_path(adjacency, unweighted=True, indices=seed)[nodes]
        kept[nodes] = hops % 2 == 0
    closed = (adjacency != 0).astype(float) + sparse.identity(size)
    square = sparse.csr_matrix(closed @ closed)[kept][:, kept]
    square.setdiag(0)
    square.eliminate_zeros()
    square.data[:] = 1
    given = sparse.diags(weight / np.asarray(closed.sum(1)).ravel())
    share = sparse.csr_matrix((closed @ given)[kept])
    share = sparse.csr_matrix(sparse.diags(1 / np.asarray(share.sum(1)).ravel()) @ share)
    return Step(sparse.csr_matrix(square), share, sparse.csr_matrix(share.T))


def from_tgp(name: str):  # noqa: ANN201
    """k-MIS or NDP of torch-geometric-pool with their selection by structure alone. k-MIS averages
    over a cluster and gives its row back to all of it; NDP keeps rows and gives zeros back."""
    from tgp import poolers

    pooler = {
        "kmis": lambda: poolers.KMISPooling(scorer="constant", reduce_red_op="mean"),
        "ndp": lambda: poolers.NDPPooling(),
    }[name]()

    def make(adjacency: sparse.csr_matrix, pos: np.ndarray, weight: np.ndarray) -> Step:
        index, value = _index(adjacency)
        torch.manual_seed(0)  # NDP's eigenvector starts at random
        with torch.no_grad():
            x = torch.ones(adjacency.shape[0], 1)
            out = pooler(x=x, adj=index, edge_weight=value)
        select = out.so.s.coalesce()  # [N, K]
        count = select.size(1)
        lift = sparse.csr_matrix(
            (np.ones(select.values().numel()), select.indices().numpy()), shape=tuple(select.shape)
        )
        share = sparse.diags(1 / np.maximum(np.asarray(lift.sum(0)).ravel(), 1))
        edges = out.edge_index.numpy()
        strength = np.ones(edges.shape[1])
        if out.edge_weight is not None:
            strength = out.edge_weight.double().numpy().reshape(-1)
        coarse = sparse.csr_matrix((strength, edges), shape=(count, count))
        coarse.setdiag(0)
        coarse.eliminate_zeros()
        return Step(coarse, sparse.csr_matrix(share @ lift.T), lift)

    return make
