"""Graph U-Nets for PyTorch Geometric."""

from pyg_gunet.functional.validate import validation

__version__ = "0.1.0"

__all__ = ["validation"]
