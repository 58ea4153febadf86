"""Graph U-Nets for PyTorch Geometric: pooling, auto-encoders, critics and segmentation metrics."""

from pyg_gunet.datasets import load
from pyg_gunet.functional.segmentation import (
    confusion_matrix,
    frequency_weighted_iou,
    macro_f1,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from pyg_gunet.functional.validate import validation
from pyg_gunet.metrics import PartIoU, SegmentationMetrics
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.nn.critic import (
    Estimate,
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
    fit_critic,
)
from pyg_gunet.nn.loss import BorderWeightedCrossEntropy
from pyg_gunet.nn.pool import GPool, GUnpool, PoolOutput
from pyg_gunet.nn.segmentation import SegmentationUNet
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.transforms import BorderWeight, ToGrid, ToSuperpixels, to_label_image

__version__ = "0.1.0"

__all__ = [
    "BorderWeight",
    "BorderWeightedCrossEntropy",
    "Estimate",
    "GPool",
    "GUnpool",
    "GraphUNet",
    "GraphUNetAutoEncoder",
    "KLCritic",
    "MutualInformationCritic",
    "PartIoU",
    "PoolOutput",
    "SegmentationMetrics",
    "SegmentationUNet",
    "TelescopingCritic",
    "ToGrid",
    "ToSuperpixels",
    "confusion_matrix",
    "fit_critic",
    "frequency_weighted_iou",
    "load",
    "macro_f1",
    "mean_accuracy",
    "mean_iou",
    "pixel_accuracy",
    "to_label_image",
    "validation",
]
