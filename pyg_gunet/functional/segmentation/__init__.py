"""Scores of a node segmentation: of classes, parts, instances, boundaries and superpixels."""

from pyg_gunet.functional.segmentation.boundary import boundary_iou, surface_dice
from pyg_gunet.functional.segmentation.count import (
    Counts,
    confusion_matrix,
    counts_of,
    label_counts,
)
from pyg_gunet.functional.segmentation.image import ImageNodes, image_nodes, masks_to_instances
from pyg_gunet.functional.segmentation.instance import (
    PanopticQuality,
    aggregated_jaccard,
    average_precision,
    instances_found,
    matching,
    panoptic_quality,
)
from pyg_gunet.functional.segmentation.match import IOU_THRESHOLDS, Matching
from pyg_gunet.functional.segmentation.overlap import Overlaps, overlaps
from pyg_gunet.functional.segmentation.part import PartScores, part_iou
from pyg_gunet.functional.segmentation.score import (
    class_accuracy,
    class_iou,
    class_scores,
    frequency_weighted_iou,
    macro_f1,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    scores,
)
from pyg_gunet.functional.segmentation.superpixel import (
    achievable_accuracy,
    undersegmentation_error,
)

__all__ = [
    "IOU_THRESHOLDS",
    "Counts",
    "ImageNodes",
    "Matching",
    "Overlaps",
    "PanopticQuality",
    "PartScores",
    "achievable_accuracy",
    "aggregated_jaccard",
    "average_precision",
    "boundary_iou",
    "class_accuracy",
    "class_iou",
    "class_scores",
    "confusion_matrix",
    "counts_of",
    "frequency_weighted_iou",
    "image_nodes",
    "instances_found",
    "label_counts",
    "macro_f1",
    "masks_to_instances",
    "matching",
    "mean_accuracy",
    "mean_iou",
    "overlaps",
    "panoptic_quality",
    "part_iou",
    "pixel_accuracy",
    "scores",
    "surface_dice",
    "undersegmentation_error",
]
