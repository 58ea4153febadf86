"""Scores of a node segmentation: the confusion matrix and what follows from it."""

from pyg_gunet.functional.segmentation.count import (
    Counts,
    confusion_matrix,
    counts_of,
    label_counts,
)
from pyg_gunet.functional.segmentation.instance import instances_found
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

__all__ = [
    "Counts",
    "PartScores",
    "class_accuracy",
    "class_iou",
    "class_scores",
    "confusion_matrix",
    "counts_of",
    "frequency_weighted_iou",
    "instances_found",
    "label_counts",
    "macro_f1",
    "mean_accuracy",
    "mean_iou",
    "part_iou",
    "pixel_accuracy",
    "scores",
]
