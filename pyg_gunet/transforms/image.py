"""An image to a graph, by pixels or by superpixels, and back."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform, ToSLIC
from torch_geometric.utils import coalesce

from pyg_gunet.extras import extra
from pyg_gunet.functional.segmentation.count import LABEL_DTYPES
from pyg_gunet.validate import (
    check_choice,
    check_memory,
    check_positive_int,
    check_tensor,
)

# Neighbours in the order of their pixels, so that the edges come out sorted.
_STEPS = {
    4: ((-1, 0), (0, -1), (0, 1), (1, 0)),
    8: ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)),
}


def grid_edges(height: int, width: int, connectivity: int = 8, device: Any = None) -> Tensor:
    r"""The edges of a pixel grid, where pixel (row, column) is node `row * width + column`.

    Args:
        height (int): The number of rows.
        width (int): The number of columns.
        connectivity (int): 4 or 8 neighbours. (default: :obj:`8`)
        device (torch.device, optional): Where to make them. (default: :obj:`None`)

    Returns:
        Tensor: Both directions of each edge `[2, E]`, sorted by row and without repetition.

    Raises:
        ValueError: If a size is below 1 or `connectivity` is neither 4 nor 8.
        TypeError: If a size is not an int.

    Example:
        >>> grid_edges(2, 2, connectivity=4)
        tensor([[0, 0, 1, 1, 2, 2, 3, 3],
                [1, 2, 0, 3, 0, 3, 1, 2]])
    """
    check_positive_int(height, "height")
    check_positive_int(width, "width")
    check_choice(connectivity, "connectivity", (4, 8))
    size = max((height, "height"), (width, "width"))
    check_memory(16 * connectivity * height * width, size[1], size[0])
    first = _row_edges(False, height > 1, width, connectivity, device)
    if height == 1:
        return first
    middle = _row_edges(True, True, width, connectivity, device)
    last = _row_edges(True, False, width, connectivity, device)
    top, inner = first.size(1), (height - 2) * middle.size(1)
    # The rows in between differ by a shift only: one addition writes them all.
    edge_index = first.new_empty(2, top + inner + last.size(1))
    edge_index[:, :top] = first
    shift = torch.arange(1, height - 1, device=device) * width
    for end in (0, 1):
        rows = edge_index[end, top : top + inner].view(height - 2, middle.size(1))
        torch.add(shift.unsqueeze(1), middle[end], out=rows)
    edge_index[:, top + inner :] = last + (height - 1) * width
    return edge_index


def _row_edges(above: bool, below: bool, width: int, connectivity: int, device: Any) -> Tensor:
    """The edges that leave a row of the grid, as if it were the first."""
    steps = [(d, r) for d, r in _STEPS[connectivity] if (d >= 0 or above) and (d <= 0 or below)]
    step = torch.tensor(steps, dtype=torch.int64, device=device).view(-1, 2)
    source = torch.arange(width, device=device).unsqueeze(1)
    column = source + step[:, 1]
    inside = (column >= 0) & (column < width)
    target = column + step[:, 0] * width
    return torch.stack([source.expand_as(target)[inside], target[inside]])


class ToGrid(BaseTransform):
    r"""Turns an image into a graph with a node per pixel, row by row.

    The graph holds `x` `[H * W, channels]`, `pos` `[H * W, 2]` (column, row), in pixels, as
    PyG's :class:`~torch_geometric.transforms.ToSLIC`, `edge_index` `[2, E]`, `image_size`
    `[1, 2]` (height, width), and `y` and `instance` `[H * W]` where their images are given.

    Args:
        connectivity (int): 4 or 8 neighbours. (default: :obj:`8`)

    Raises:
        ValueError: If `connectivity` is neither 4 nor 8.

    Example:
        >>> ToGrid(connectivity=4)(torch.rand(3, 4, 5))
        Data(x=[20, 3], edge_index=[2, 62], pos=[20, 2], image_size=[1, 2])
    """

    def __init__(self, connectivity: int = 8) -> None:
        check_choice(connectivity, "connectivity", (4, 8))
        self.connectivity = connectivity

    def __call__(self, img: Any, y: Tensor | None = None, instance: Tensor | None = None) -> Any:
        # PyG's __call__ takes one argument.
        return self.forward(img, y, instance)

    def forward(self, img: Any, y: Tensor | None = None, instance: Tensor | None = None) -> Data:
        r"""The graph of an image.

        Args:
            img (Tensor): The image `[channels, H, W]` or `[H, W]`, floating point.
            y (Tensor, optional): The class of each pixel `[H, W]`. (default: :obj:`None`)
            instance (Tensor, optional): The instance of each pixel `[H, W]`, 0 on the background.
                (default: :obj:`None`)

        Raises:
            TypeError: If the image is not floating point, or labels are not integers.
            ValueError: If shapes do not fit.
        """
        img = _check_image(img, y, instance)
        height, width = img.shape[1:]
        row = torch.arange(height, device=img.device, dtype=img.dtype)
        column = torch.arange(width, device=img.device, dtype=img.dtype)
        pos = torch.stack([column.repeat(height), row.repeat_interleave(width)], dim=1)
        data = Data(
            x=img.flatten(1).t().contiguous(),
            edge_index=grid_edges(height, width, self.connectivity, img.device),
            pos=pos,
            image_size=torch.tensor([[height, width]], device=img.device),
        )
        for name, image in (("y", y), ("instance", instance)):
            if image is not None:
                data[name] = image.reshape(-1).long()
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(connectivity={self.connectivity})"


class ToSuperpixels(BaseTransform):
    r"""Turns an image into a graph with a node per superpixel, by PyG's
    :class:`~torch_geometric.transforms.ToSLIC`, with edges between those that touch.

    The graph holds `x` `[N, channels]` (the mean colour), `pos` `[N, 2]` (the centroid: column,
    row), `edge_index` `[2, E]` (superpixels with pixels side by side), `edge_attr` `[E, 1]` (the
    number of such pairs of pixels), `seg` `[H * W]` (the superpixel of each pixel), `image_size`
    `[1, 2]`, and where their images are given `y` and `instance` `[N]`: the most frequent label of
    its pixels, the least of several. Needs scikit-image.

    Args:
        n_segments (int): About how many superpixels. (default: :obj:`100`)
        **kwargs (optional): Arguments of :func:`skimage.segmentation.slic`, as `compactness`.

    Raises:
        ValueError: If `n_segments` is below 1.
        TypeError: If `n_segments` is not an int.
    """

    @extra()
    def __init__(self, n_segments: int = 100, **kwargs: Any) -> None:
        check_positive_int(n_segments, "n_segments")
        if kwargs:
            from skimage.segmentation import slic

            unknown = set(kwargs) - set(inspect.signature(slic).parameters)
            if unknown:
                raise TypeError(f"'{min(unknown)}' is no argument of skimage's slic")
        self.n_segments = n_segments
        self.kwargs = kwargs

    def __call__(self, img: Any, y: Tensor | None = None, instance: Tensor | None = None) -> Any:
        # PyG's __call__ takes one argument.
        return self.forward(img, y, instance)

    @extra()
    def forward(self, img: Any, y: Tensor | None = None, instance: Tensor | None = None) -> Data:
        r"""The graph of an image; arguments and errors are those of :meth:`ToGrid.forward`."""
        img = _check_image(img, y, instance)
        kwargs = {"n_segments": self.n_segments, "channel_axis": -1, **self.kwargs}
        data = ToSLIC(add_seg=True, **kwargs)(img.cpu().contiguous()).to(img.device)
        seg = data.seg[0]
        data.seg = seg.reshape(-1)
        data.x = data.x.to(img.dtype)
        data.image_size = torch.tensor([seg.shape], device=img.device)
        pairs = [(seg[:, :-1], seg[:, 1:]), (seg[:-1], seg[1:])]
        touching = torch.cat([torch.stack([a.flatten(), b.flatten()]) for a, b in pairs], dim=1)
        touching = touching[:, touching[0] != touching[1]]
        touching = torch.cat([touching, touching.flip(0)], dim=1)
        count = torch.ones(touching.size(1), 1, device=img.device, dtype=img.dtype)
        data.edge_index, data.edge_attr = coalesce(touching, count, data.x.size(0))
        for name, image in (("y", y), ("instance", instance)):
            if image is not None:
                data[name] = _most_frequent(image.reshape(-1), data.seg, data.x.size(0))
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_segments={self.n_segments})"


def to_label_image(label: Tensor, data: Data | Batch) -> Tensor | list[Tensor]:
    r"""The image of a label per node: the way back from :class:`ToGrid` and
    :class:`ToSuperpixels`.

    Args:
        label (Tensor): A value per node `[N]`, or several `[N, K]`.
        data (Data or Batch): The graph that the image became, or a batch of such graphs.

    Returns:
        Tensor or list[Tensor]: The image `[H, W]` or `[H, W, K]`; of a batch, one per graph.

    Raises:
        ValueError: If the graph comes from no image, or `label` does not fit it.

    Example:
        >>> data = ToGrid()(torch.rand(1, 2, 3))
        >>> to_label_image(torch.arange(6), data)
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    check_tensor(label, "label")
    if not isinstance(data, Data):
        raise TypeError(f"'data' must be a Data (got {type(data).__name__})")
    if "image_size" not in data:
        raise ValueError("'data' must come from an image and hold 'image_size' (got none)")
    if label.dim() == 0 or label.size(0) != data.num_nodes:
        raise ValueError(
            f"'label' must have {data.num_nodes} rows, one per node (got {list(label.shape)})"
        )
    if isinstance(data, Batch):
        parts = label.split(data.ptr.diff().tolist())
        graphs = data.to_data_list()
        return [_label_image(part, one) for part, one in zip(parts, graphs, strict=True)]
    return _label_image(label, data)


def _check_image(img: Any, y: Tensor | None, instance: Tensor | None) -> Tensor:
    """The image as `[channels, H, W]`."""
    check_tensor(img, "img")
    if not img.is_floating_point():
        raise TypeError(f"'img' must be floating point (got {img.dtype})")
    if img.dim() not in (2, 3) or 0 in img.shape:
        raise ValueError(f"'img' must have shape [channels, H, W] (got {list(img.shape)})")
    img = img.unsqueeze(0) if img.dim() == 2 else img
    for name, image in (("y", y), ("instance", instance)):
        if image is None:
            continue
        check_tensor(image, name)
        if image.dtype not in LABEL_DTYPES:
            raise TypeError(f"'{name}' must hold integers (got {image.dtype})")
        if image.shape != img.shape[1:]:
            raise ValueError(
                f"'{name}' must have shape {list(img.shape[1:])} (got {list(image.shape)})"
            )
    return img


def _label_image(label: Tensor, data: Data) -> Tensor:
    height, width = data.image_size.view(-1).tolist()
    if "seg" in data:
        label = label[data.seg]
    elif label.size(0) != height * width:
        raise ValueError(
            f"'label' must have {height * width} rows, one per pixel (got {label.size(0)})"
        )
    return label.view(height, width, *label.shape[1:])


def _most_frequent(label: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The most frequent label of each group, the least of several."""
    known, which = label.long().unique(return_inverse=True)
    kinds = known.numel()
    count = torch.bincount(group * kinds + which, minlength=num_groups * kinds)
    rank = torch.arange(kinds - 1, -1, -1, device=label.device)
    return known[(count.view(num_groups, kinds) * kinds + rank).argmax(dim=1)]
