"""The border weights of a graph's instances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.functional.segmentation.count import LABEL_DTYPES, check_ignore_index
from pyg_gunet.validate import (
    check_choice,
    check_number,
    check_positive_int,
    check_tensor,
)


class BorderWeight(BaseTransform):
    r"""Weighs each node by its class and by the gap between instances it lies in (Ronneberger et
    al., "U-Net", MICCAI 2015, equation 2):
    :math:`w = w_c + w_0 \exp(-(d_1 + d_2)^2 / (2 \sigma^2))`.

    :math:`d_1` and :math:`d_2` are the distances to the nearest and second-nearest instance:
    Euclidean where the graph has `pos`, and along its edges otherwise. Where their sum exceeds
    :math:`6 \sigma`, or there is no second instance, only the class weight is left.

    The instances are `data.instance` `[N]`, 0 on the background, or, without it, the connected
    components of equal label in `data.y`. The weights go to `data.border_weight` `[N]`.

    Args:
        w0 (float): The weight where two instances touch. (default: :obj:`10.0`)
        sigma (float): The width of the border, in the unit of `pos`, or in edges.
            (default: :obj:`5.0`)
        background_only (bool): Whether only the background gets the border term: the formula is
            defined there. (default: :obj:`True`)
        class_weight (str, None or sequence of float): :math:`w_c`: `'balanced'` for
            `N / (classes * nodes of the class)` in this graph, :obj:`None` for 1, or a weight per
            class, as one counted over a whole data set. (default: :obj:`'balanced'`)
        background (int): The label in `data.y` that forms no instance. (default: :obj:`0`)
        ignore_index (int, optional): Nodes with this label get weight 0, form no instance and do
            not count in the balance. (default: :obj:`None`)
        edge_length (str, optional): The attribute with the length of each edge where there is no
            `pos`. (default: 1 per edge)

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong type.
    """

    def __init__(
        self,
        w0: float = 10.0,
        sigma: float = 5.0,
        background_only: bool = True,
        *,
        class_weight: str | Sequence[float] | Tensor | None = "balanced",
        background: int = 0,
        ignore_index: int | None = None,
        edge_length: str | None = None,
    ) -> None:
        check_number(w0, "w0", low=0.0)
        check_number(sigma, "sigma")
        if sigma <= 0:
            raise ValueError(f"'sigma' must be positive (got {sigma!r})")
        check_choice(background_only, "background_only", (True, False))
        if isinstance(class_weight, str):
            check_choice(class_weight, "class_weight", ("balanced", None))
        elif class_weight is not None:
            try:
                class_weight = torch.as_tensor(class_weight, dtype=torch.float64)
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(
                    f"'class_weight' must be numbers (got {class_weight!r:.80})"
                ) from error
            if class_weight.dim() != 1 or not bool((class_weight >= 0).all()):
                raise ValueError(
                    f"'class_weight' must be one weight >= 0 per class (got {class_weight})"
                )
        check_positive_int(background, "background", -(2**63), 2**63 - 1)
        check_ignore_index(ignore_index)
        if edge_length is not None and not isinstance(edge_length, str):
            raise TypeError(f"'edge_length' must be the name of an attribute (got {edge_length!r})")
        self.w0 = w0
        self.sigma = sigma
        self.background_only = background_only
        self.class_weight = class_weight
        self.background = background
        self.ignore_index = ignore_index
        self.edge_length = edge_length

    def forward(self, data: Data) -> Data:
        if not isinstance(data, Data):
            raise TypeError(f"'data' must be a Data (got {type(data).__name__})")
        label = data.get("y")
        given = data.get("instance")
        if label is None and given is None:
            raise ValueError("'data' must hold 'y' or 'instance' (got neither)")
        if label is None:
            label = (given != 0).long()
        check_tensor(label, "y")
        if label.dtype not in LABEL_DTYPES or label.shape != (data.num_nodes,):
            raise ValueError(
                f"'y' must hold one integer label for each of {data.num_nodes} nodes "
                f"(got {list(label.shape)} of {label.dtype})"
            )
        label = label.long()
        ignored = torch.zeros_like(label, dtype=torch.bool)
        if self.ignore_index is not None:
            ignored = label == self.ignore_index
        weight = self._class_weight(label, ignored)
        weight = weight + self._border(data, label, ignored, given)
        weight = weight.masked_fill(ignored, 0.0)
        floats = data.x is not None and data.x.is_floating_point()
        data.border_weight = weight.to(data.x.dtype if floats else torch.get_default_dtype())
        return data

    def _class_weight(self, label: Tensor, ignored: Tensor) -> Tensor:
        weight = torch.ones(label.numel(), dtype=torch.float64, device=label.device)
        if self.class_weight is None:
            return weight
        kept = label[~ignored]
        if isinstance(self.class_weight, Tensor):
            known = self.class_weight.to(label.device)
            wrong = (kept < 0) | (kept >= known.numel())
            if bool(wrong.any()):
                raise ValueError(
                    f"'y' must lie in [0, {known.numel()}), one per entry of 'class_weight' "
                    f"(got {int(kept[wrong][0])})"
                )
            weight[~ignored] = known[kept]
        elif kept.numel():
            _, which, count = kept.unique(return_inverse=True, return_counts=True)
            weight[~ignored] = (kept.numel() / (count.numel() * count.double()))[which]
        return weight

    def _border(
        self, data: Data, label: Tensor, ignored: Tensor, instance: Tensor | None
    ) -> Tensor:
        if instance is None:
            if data.edge_index is None:
                raise ValueError("'data' must hold 'instance' or 'edge_index' (got neither)")
            void = label.masked_fill(ignored, self.background)
            instance = connected_instances(void, data.edge_index, self.background)
        else:
            if instance.shape != label.shape:
                raise ValueError(
                    f"'instance' must have shape {list(label.shape)} (got {list(instance.shape)})"
                )
            instance = instance.masked_fill(ignored, 0)
        length = None
        if data.pos is None and self.edge_length is not None:
            length = data.get(self.edge_length)
            if length is None:
                raise ValueError(f"'data' must hold 'edge_length' {self.edge_length!r} (got none)")
            length = length.squeeze(-1) if length.dim() == 2 else length
        return border_weight(
            instance,
            data.pos,
            data.edge_index,
            data.get("batch"),
            self.w0,
            self.sigma,
            self.background_only,
            length,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(w0={self.w0}, sigma={self.sigma})"
