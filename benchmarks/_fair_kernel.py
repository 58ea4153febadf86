"""The Weisfeiler-Lehman subtree kernel and a support vector machine: the simple baseline that reads
edges (Shervashidze et al. 2011)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch_geometric.data import Batch, Data

ROUNDS = 3


def colour_counts(graphs: Sequence[Data], rounds: int = ROUNDS) -> sparse.csr_matrix:
    """How often each graph has each colour of each round, round 0 being the node labels, [B, ...].

    A round gives a node a colour for its own and the multiset of its neighbours': here the sum of a
    random 63-bit number per colour, which tells multisets apart but for accidents that no set of
    this size will meet.
    """
    batch = Batch.from_data_list([Data(x=g.x, edge_index=g.edge_index) for g in graphs])
    colour = batch.x.unique(dim=0, return_inverse=True)[1]
    (source, target), generator = batch.edge_index, torch.Generator().manual_seed(0)
    blocks = []
    for i in range(rounds + 1):
        if i:
            number = torch.randint(2**62, (2, int(colour.max()) + 1), generator=generator)
            around = torch.zeros_like(colour).index_add(0, target, number[0][colour[source]])
            colour = (around + number[1][colour]).unique(return_inverse=True)[1]
        ones = np.ones(len(colour))
        blocks.append(sparse.csr_matrix((ones, (batch.batch.numpy(), colour.numpy()))))
    return sparse.hstack(blocks).tocsr()


class Kernel:
    """The counts of a set, their cosines, and machines trained on parts of it."""

    def __init__(self, graphs: Sequence[Data]) -> None:
        counts = colour_counts(graphs)
        length = np.sqrt(counts.multiply(counts).sum(1)).A1
        scaled = sparse.diags(1 / length) @ counts
        self.cosines = (scaled @ scaled.T).toarray()
        self.y = torch.cat([data.y for data in graphs]).numpy()

    def accuracy(self, train: Sequence[int], other: Sequence[int], penalty: float) -> float:
        """Percent of `other` that a machine of `train` gets right."""
        from sklearn.svm import SVC

        machine = SVC(C=penalty, kernel="precomputed")
        machine.fit(self.cosines[np.ix_(train, train)], self.y[train])
        found = machine.predict(self.cosines[np.ix_(other, train)])
        return 100 * float((found == self.y[other]).mean())
