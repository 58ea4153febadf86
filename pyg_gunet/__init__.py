"""Graph U-Nets for PyTorch Geometric: pooling, auto-encoders, critics and segmentation metrics."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_gunet.critic import (
        Estimate,
        KLCritic,
        MutualInformationCritic,
        TelescopingCritic,
        estimate_kl,
        estimate_mi,
        fit_critic,
    )
    from pyg_gunet.data import load
    from pyg_gunet.functional.interpolate import prolongation
    from pyg_gunet.functional.sampled import sampled_two_hop
    from pyg_gunet.functional.segmentation import (
        confusion_matrix,
        frequency_weighted_iou,
        macro_f1,
        mean_accuracy,
        mean_iou,
        pixel_accuracy,
    )
    from pyg_gunet.functional.spread import spread
    from pyg_gunet.graph.level import Hierarchy, Level
    from pyg_gunet.metrics import (
        BoundaryMetrics,
        InstanceMetrics,
        PartIoU,
        SegmentationMetrics,
        SuperpixelMetrics,
    )
    from pyg_gunet.networks import draw_hierarchy, hierarchy_to_networkx
    from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
    from pyg_gunet.nn.loss import BorderWeightedCrossEntropy, DiceLoss, FocalLoss
    from pyg_gunet.nn.masked import MaskedAutoEncoder
    from pyg_gunet.nn.masked_links import MaskedLinkEncoder
    from pyg_gunet.nn.pool import GPool, PoolOutput
    from pyg_gunet.nn.readout import HierarchicalReadout
    from pyg_gunet.nn.recipes import MixedGraphUNet, OfficialGraphUNet
    from pyg_gunet.nn.segmentation import SegmentationUNet
    from pyg_gunet.nn.unet import GraphUNet
    from pyg_gunet.nn.unpool import GUnpool
    from pyg_gunet.nn.variational import VariationalAutoEncoder
    from pyg_gunet.transforms import (
        BorderWeight,
        Coarsen,
        ToGrid,
        ToSuperpixels,
        repeat_graph,
        to_label_image,
    )
    from pyg_gunet.validate import validation

__version__ = "0.2.0"

# Each public name and its module. Loaded at first use: `pyg-gunet --help` needs no torch.
_HOME = {
    "BorderWeight": "pyg_gunet.transforms",
    "BorderWeightedCrossEntropy": "pyg_gunet.nn.loss",
    "BoundaryMetrics": "pyg_gunet.metrics",
    "Coarsen": "pyg_gunet.transforms",
    "DiceLoss": "pyg_gunet.nn.loss",
    "Estimate": "pyg_gunet.critic",
    "FocalLoss": "pyg_gunet.nn.loss",
    "GPool": "pyg_gunet.nn.pool",
    "GUnpool": "pyg_gunet.nn.unpool",
    "GraphUNet": "pyg_gunet.nn.unet",
    "GraphUNetAutoEncoder": "pyg_gunet.nn.autoencoder",
    "HierarchicalReadout": "pyg_gunet.nn.readout",
    "Hierarchy": "pyg_gunet.graph.level",
    "InstanceMetrics": "pyg_gunet.metrics",
    "KLCritic": "pyg_gunet.critic",
    "Level": "pyg_gunet.graph.level",
    "MaskedAutoEncoder": "pyg_gunet.nn.masked",
    "MaskedLinkEncoder": "pyg_gunet.nn.masked_links",
    "MixedGraphUNet": "pyg_gunet.nn.recipes",
    "MutualInformationCritic": "pyg_gunet.critic",
    "OfficialGraphUNet": "pyg_gunet.nn.recipes",
    "PartIoU": "pyg_gunet.metrics",
    "PoolOutput": "pyg_gunet.nn.pool",
    "SegmentationMetrics": "pyg_gunet.metrics",
    "SegmentationUNet": "pyg_gunet.nn.segmentation",
    "SuperpixelMetrics": "pyg_gunet.metrics",
    "TelescopingCritic": "pyg_gunet.critic",
    "ToGrid": "pyg_gunet.transforms",
    "ToSuperpixels": "pyg_gunet.transforms",
    "VariationalAutoEncoder": "pyg_gunet.nn.variational",
    "confusion_matrix": "pyg_gunet.functional.segmentation",
    "draw_hierarchy": "pyg_gunet.networks",
    "estimate_kl": "pyg_gunet.critic",
    "estimate_mi": "pyg_gunet.critic",
    "fit_critic": "pyg_gunet.critic",
    "frequency_weighted_iou": "pyg_gunet.functional.segmentation",
    "hierarchy_to_networkx": "pyg_gunet.networks",
    "load": "pyg_gunet.data",
    "macro_f1": "pyg_gunet.functional.segmentation",
    "mean_accuracy": "pyg_gunet.functional.segmentation",
    "mean_iou": "pyg_gunet.functional.segmentation",
    "pixel_accuracy": "pyg_gunet.functional.segmentation",
    "prolongation": "pyg_gunet.functional.interpolate",
    "repeat_graph": "pyg_gunet.transforms",
    "sampled_two_hop": "pyg_gunet.functional.sampled",
    "spread": "pyg_gunet.functional.spread",
    "to_label_image": "pyg_gunet.transforms",
    "validation": "pyg_gunet.validate",
}

__all__ = [
    "BorderWeight",
    "BorderWeightedCrossEntropy",
    "BoundaryMetrics",
    "Coarsen",
    "DiceLoss",
    "Estimate",
    "FocalLoss",
    "GPool",
    "GUnpool",
    "GraphUNet",
    "GraphUNetAutoEncoder",
    "HierarchicalReadout",
    "Hierarchy",
    "InstanceMetrics",
    "KLCritic",
    "Level",
    "MaskedAutoEncoder",
    "MaskedLinkEncoder",
    "MixedGraphUNet",
    "MutualInformationCritic",
    "OfficialGraphUNet",
    "PartIoU",
    "PoolOutput",
    "SegmentationMetrics",
    "SegmentationUNet",
    "SuperpixelMetrics",
    "TelescopingCritic",
    "ToGrid",
    "ToSuperpixels",
    "VariationalAutoEncoder",
    "confusion_matrix",
    "draw_hierarchy",
    "estimate_kl",
    "estimate_mi",
    "fit_critic",
    "frequency_weighted_iou",
    "hierarchy_to_networkx",
    "load",
    "macro_f1",
    "mean_accuracy",
    "mean_iou",
    "pixel_accuracy",
    "prolongation",
    "repeat_graph",
    "sampled_two_hop",
    "spread",
    "to_label_image",
    "validation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
