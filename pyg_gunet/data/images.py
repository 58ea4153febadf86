"""A folder of images and masks as pixel graphs, cut into tiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.files import check_path, first_line
from pyg_gunet.functional.validate import check_choice, check_number, check_positive_int
from pyg_gunet.transforms import BorderWeight, ToGrid

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif")
VOID = 255  # the label of a pixel without a class, where masks hold classes
# More classes than this are instances that nobody has said are instances.
_MAX_CLASSES = 100


def read_images(
    folder: str | os.PathLike[str],
    masks: str = "class",
    tile_size: int = 64,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> list[Data]:
    r"""Reads ``images/`` and ``masks/`` and cuts them into pixel graphs of 8 neighbours.

    An image and its mask have the same name but for the suffix (.png, .tif, .jpg, .bmp, .gif).

    * Masks of classes: `y` is the mask; 255 marks a pixel without a class.
    * Masks of instances: `y` is 1 on instances and 0 on the background, which is 0 in the mask, and
      `border_weight` comes from :class:`pyg_gunet.transforms.BorderWeight` on the whole image, so
      that a tile's edge changes no weight.

    Tiles lie side by side and do not overlap; those at the right and at the bottom may be smaller.

    Args:
        folder (str): The folder that holds ``images/`` and ``masks/``.
        masks (str, optional): What the masks hold, ``'class'`` or ``'instance'``.
            (default: ``'class'``)
        tile_size (int, optional): Height and width of a tile in pixels. (default: 64)
        w0 (float, optional): See :class:`pyg_gunet.transforms.BorderWeight`. (default: 10.0)
        sigma (float, optional): The same. (default: 5.0)

    Returns:
        list[Data]: The tiles, image by image and row by row: `x` [n, channels] in the images' own
        units, `edge_index`, `pos` [n, 2], `y` [n], `image_size` [1, 2], `image` [1] (which image,
        by name), `corner` [1, 2] (its first row and column there), and with instances
        `instance` [n] and `border_weight` [n].

    Raises:
        FileNotFoundError: If a folder is missing or empty, or an image has no mask or the reverse.
        ValueError: If a file cannot be read, a mask is of another size than its image, images
            differ in channels, or an argument is out of range.
    """
    check_choice(masks, "masks", ("class", "instance"))
    check_positive_int(tile_size, "tile_size", minimum=2)
    check_number(w0, "w0", low=0.0)
    check_number(sigma, "sigma")
    if sigma <= 0:
        raise ValueError(f"'sigma' must be positive (got {sigma!r})")
    folder = check_path(folder, "folder")
    tiles: list[Data] = []
    channels = None
    for number, (image_path, mask_path) in enumerate(_pairs(folder)):
        image, mask = _read_image(image_path), _read_mask(mask_path)
        if mask.shape != image.shape[1:]:
            raise ValueError(
                f"'{mask_path}' must be of the size of its image, {list(image.shape[1:])} "
                f"(got {list(mask.shape)})"
            )
        channels = image.size(0) if channels is None else channels
        if image.size(0) != channels:
            raise ValueError(
                f"'{image_path}' must have {channels} channels, as the others (got {image.size(0)})"
            )
        tiles += _cut(image, mask, masks, tile_size, w0, sigma, number)
    label = torch.cat([tile.y for tile in tiles])
    label = label[label != VOID]
    classes = int(label.max()) + 1 if label.numel() else 0
    if classes > _MAX_CLASSES:
        raise ValueError(
            f"'masks' hold {classes} classes in '{folder}': say masks='instance' if their numbers "
            f"are instances"
        )
    return tiles


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Images with their masks, by name."""
    found: list[dict[str, Path]] = []
    for name in ("images", "masks"):
        part = folder / name
        if not part.is_dir():
            raise FileNotFoundError(
                f"'folder' must hold the folders images/ and masks/ (got '{folder}')"
            )
        files = [path for path in sorted(part.iterdir()) if path.suffix.lower() in SUFFIXES]
        stems = {path.stem: path for path in files}
        if len(stems) < len(files):
            raise ValueError(f"'{part}' holds two files of one name but for the suffix")
        found.append(stems)
    images, masks = found
    if not images:
        raise FileNotFoundError(f"'{folder / 'images'}' holds no image ({', '.join(SUFFIXES)})")
    alone = sorted(set(images) ^ set(masks))
    if alone:
        missing = "masks" if alone[0] in images else "images"
        raise FileNotFoundError(f"'{folder / missing}' must hold a file named {alone[0]!r}")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _read(path: Path) -> np.ndarray[Any, Any]:
    from skimage.io import imread

    try:
        return np.asarray(imread(path))
    except Exception as error:  # each format has its own
        raise ValueError(f"cannot read '{path}': {first_line(error)}") from error


def _read_image(path: Path) -> Tensor:
    """`[channels, H, W]`, float32."""
    array = _read(path)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"'{path}' must be one image [H, W, channels] (got {list(array.shape)})")
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1).contiguous()


def _read_mask(path: Path) -> Tensor:
    """`[H, W]`, int64."""
    array = _read(path)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise ValueError(
            f"'{path}' must hold one integer per pixel (got {list(array.shape)} of {array.dtype})"
        )
    return torch.from_numpy(array.astype(np.int64))


def _cut(
    image: Tensor, mask: Tensor, masks: str, size: int, w0: float, sigma: float, number: int
) -> list[Data]:
    whole: dict[str, Tensor] = {"y": mask}
    if masks == "instance":
        whole = {"y": (mask > 0).long(), "instance": mask}
        height, width = mask.shape
        graph = ToGrid()(image[:1], y=whole["y"], instance=mask)
        weight = BorderWeight(w0, sigma)(graph).border_weight
        whole["border_weight"] = weight.view(height, width)
    tiles = []
    for top in range(0, mask.size(0), size):
        for left in range(0, mask.size(1), size):
            window = (slice(top, top + size), slice(left, left + size))
            tile = ToGrid()(image[(slice(None), *window)])
            for name, values in whole.items():
                tile[name] = values[window].reshape(-1)
            tile.image = torch.tensor([number])
            tile.corner = torch.tensor([[top, left]])
            tiles.append(tile)
    return tiles
