"""Graph U-Nets for PyTorch Geometric."""

from pyg_gunet.functional.validate import validation
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.nn.pool import GPool, GUnpool, PoolOutput
from pyg_gunet.nn.unet import GraphUNet

__version__ = "0.1.0"

__all__ = ["GPool", "GUnpool", "GraphUNet", "GraphUNetAutoEncoder", "PoolOutput", "validation"]
