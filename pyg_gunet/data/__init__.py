"""Data sets by name, and graphs and images from files: :func:`load` finds all of them."""

from pyg_gunet.data.catalog import load, names
from pyg_gunet.data.dataset import GraphDataset, split_indices, split_nodes, with_features
from pyg_gunet.data.graphs import read_graph, read_graphs
from pyg_gunet.data.images import VOID, read_images

__all__ = [
    "VOID",
    "GraphDataset",
    "load",
    "names",
    "read_graph",
    "read_graphs",
    "read_images",
    "split_indices",
    "split_nodes",
    "with_features",
]
