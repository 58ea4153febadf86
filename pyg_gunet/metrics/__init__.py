"""Torchmetrics classes on :mod:`pyg_gunet.functional.segmentation`."""

from pyg_gunet.metrics.classes import SegmentationMetrics
from pyg_gunet.metrics.instance import BoundaryMetrics, InstanceMetrics, SuperpixelMetrics
from pyg_gunet.metrics.part import PartIoU

__all__ = [
    "BoundaryMetrics",
    "InstanceMetrics",
    "PartIoU",
    "SegmentationMetrics",
    "SuperpixelMetrics",
]
