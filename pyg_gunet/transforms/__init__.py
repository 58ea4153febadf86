"""Transforms: levels made once, an image to a graph and back, border weights of instances."""

from pyg_gunet.transforms.border import BorderWeight
from pyg_gunet.transforms.coarsen import Coarsen, CoarsenedData, repeat_graph
from pyg_gunet.transforms.image import ToGrid, ToSuperpixels, grid_edges, to_label_image

__all__ = [
    "BorderWeight",
    "Coarsen",
    "CoarsenedData",
    "ToGrid",
    "ToSuperpixels",
    "grid_edges",
    "repeat_graph",
    "to_label_image",
]
