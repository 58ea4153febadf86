"""Transforms: an image to a graph and back, and the border weights of its instances."""

from pyg_gunet.transforms.border import BorderWeight
from pyg_gunet.transforms.image import ToGrid, ToSuperpixels, grid_edges, to_label_image

__all__ = ["BorderWeight", "ToGrid", "ToSuperpixels", "grid_edges", "to_label_image"]
