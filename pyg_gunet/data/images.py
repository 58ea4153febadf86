"""A folder of images and masks as pixel graphs, cut into tiles."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.extras import extra
from pyg_gunet.files import check_path, first_line
from pyg_gunet.functional.watershed import instance_depth
from pyg_gunet.transforms import BorderWeight, ToGrid
from pyg_gunet.validate import check_choice, check_number, check_positive_int

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif")
VOID = 255  # the label of a pixel without a class, where masks hold classes
# More classes than this are instances that nobody has said are instances, or blurred by JPEG.
_MAX_CLASSES = 100
_ENDINGS = re.compile(r"[_-](masks?|labels?|segmentation|seg|gt|images?|img)$", re.IGNORECASE)


@extra()
def read_images(
    folder: str | os.PathLike[str],
    masks: str | None = None,
    tile_size: int = 64,
    w0: float = 10.0,
    sigma: float = 5.0,
    contrast: str = "none",
) -> list[Data]:
    r"""Reads ``images/`` and ``masks/`` and cuts them into pixel graphs of 8 neighbours.

    An image and its mask have the same name but for the suffix (.png, .tif, .jpg, .bmp, .gif) and
    an ending such as ``_mask``; hidden files are skipped. Images are turned as their EXIF data say;
    an alpha channel that is the same everywhere is left out.

    * Masks of classes: `y` is the mask; 255 marks a pixel without a class. Masks of 0 and 255 alone
      hold two classes, 0 and 1. Grey levels beyond 100, and colours, are numbered in their order,
      black first; of a palette the number counts, not the colour.
    * Masks of instances, a number or a colour each: `y` is 1 on instances and 0 on the background,
      which is 0 or black in the mask, `border_weight` comes from
      :class:`pyg_gunet.transforms.BorderWeight` and `depth` from
      :func:`pyg_gunet.functional.watershed.instance_depth`, both on the whole image, so that a
      tile's edge changes neither. An image may hold no instance. Where no mask tells two instances
      apart, the connected components of the foreground (8 neighbours) are the instances, and a
      warning says so.

    Tiles lie side by side and do not overlap; those at the right and at the bottom may be smaller.

    Args:
        folder (str): The folder that holds ``images/`` and ``masks/``.
        masks (str, optional): What the masks hold, ``'class'`` or ``'instance'``; ``'none'`` reads
            images alone, from ``images/`` or from the folder itself. (default: classes, unless the
            masks look like instances, which is an error)
        tile_size (int, optional): Height and width of a tile in pixels. (default: 64)
        w0 (float, optional): See :class:`pyg_gunet.transforms.BorderWeight`. (default: 10.0)
        sigma (float, optional): The same. (default: 5.0)
        contrast (str, optional): ``'image'`` maps each image from its 1st to its 99.8th percentile
            to 0 to 1, over all of its channels, so that dim images look like bright ones;
            ``'none'`` keeps the images' own units. (default: ``'none'``)

    Returns:
        list[Data]: The tiles, image by image and row by row: `x` [n, channels], `edge_index`, `pos`
        [n, 2], `y` [n], `image_size` [1, 2], `image` [1] (which image, by name), `image_name`,
        `corner` [1, 2] (its first row and column there), where classes are grey levels or colours
        their `class_names`, and with instances `instance`, `border_weight` and `depth` [n].

    Raises:
        FileNotFoundError: If a folder is missing or empty, or an image has no mask or the reverse.
        ValueError: If a file cannot be read, an image holds NaN or infinity, a mask is of another
            size than its image, images differ in channels, the masks hold one class alone, more
            than 100 classes, or what looks like instances, or an argument is out of range.
    """
    check_choice(masks, "masks", (None, "class", "instance", "none"))
    check_positive_int(tile_size, "tile_size", minimum=2)
    check_number(w0, "w0", low=0.0)
    check_number(sigma, "sigma")
    if sigma <= 0:
        raise ValueError(f"'sigma' must be positive (got {sigma!r})")
    check_choice(contrast, "contrast", ("none", "image"))
    folder = check_path(folder, "folder")
    paths = _pairs(folder, masks != "none")
    images, labels = [], []
    for image_path, mask_path in paths:
        image = read_image(image_path, contrast)
        images.append(image)
        if image.size(0) != images[0].size(0):
            raise ValueError(
                f"'{image_path}' must have {images[0].size(0)} channels, as the others "
                f"(got {image.size(0)})"
            )
        if mask_path is not None:
            labels.append(_read_mask(mask_path))
            if labels[-1].shape[:2] != image.shape[1:]:
                raise ValueError(
                    f"'{mask_path}' must be of the size of its image, {list(image.shape[1:])} "
                    f"(got {list(labels[-1].shape[:2])})"
                )
    names = None
    if masks == "instance":
        labels = _instances(labels)
    elif labels:
        labels, names = _classes(labels, masks is None, folder)
    tiles: list[Data] = []
    grids: dict[tuple[int, ...], Data] = {}
    for number, ((path, _), image) in enumerate(zip(paths, images)):
        whole: dict[str, Tensor] = {}
        if labels:
            whole["y"] = torch.from_numpy(labels[number].astype(np.int64))
        if masks == "instance":
            whole.update(instance=whole["y"], y=(whole["y"] > 0).long())
            graph = ToGrid(4)(image[:1], **whole)
            # Without class weights, which make more pixels probable and masks too large.
            weigh = BorderWeight(w0, sigma, class_weight=None)
            depth = instance_depth(graph.instance, graph.edge_index)
            for key, value in (
                ("border_weight", weigh(graph).border_weight),
                ("depth", depth),
            ):
                whole[key] = value.view(image.shape[1:])
        tiles += _cut(image, whole, tile_size, number, path.name, grids)
    for tile in tiles if names is not None else ():
        tile.class_names = names
    return tiles


def _pairs(folder: Path, masked: bool) -> list[tuple[Path, Path | None]]:
    """Images with their masks, by name."""
    found: list[dict[str, Path]] = []
    for name in ("images", "masks") if masked else ("images",):
        part = folder / name
        if not masked and not part.is_dir():
            part = folder
        if not part.is_dir():
            wanted = "the folders images/ and masks/" if masked else "images"
            raise FileNotFoundError(f"'folder' must hold {wanted} (got '{folder}')")
        files = [path for path in sorted(part.iterdir()) if path.suffix.lower() in SUFFIXES]
        files = [path for path in files if not path.name.startswith(".")]
        if not files and not found:
            raise FileNotFoundError(f"'{part}' holds no image ({', '.join(SUFFIXES)})")
        found.append({_ENDINGS.sub("", path.stem): path for path in files})
        if len(found[-1]) < len(files):
            raise ValueError(f"'{part}' holds two files of one name but for suffix and ending")
    images, masks = found[0], found[-1]
    alone = sorted(set(images) ^ set(masks))
    if alone:
        missing = "masks" if alone[0] in images else "images"
        raise FileNotFoundError(f"'{folder / missing}' must hold a file named {alone[0]!r}")
    return [(images[key], masks[key] if masked else None) for key in sorted(images)]


def _read(path: Path, mask: bool) -> np.ndarray[Any, Any]:
    """`[H, W]` or `[H, W, channels]`. Pillow alone keeps the numbers of a palette and knows EXIF;
    of TIFF it knows too little."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            from skimage.io import imread

            return np.asarray(imread(path))
        from PIL import Image, ImageOps

        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode == "P" and not mask:
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F"):
                image = image.convert("RGB")
            return np.asarray(image)
    except ModuleNotFoundError:  # a package of the extra
        raise
    except Exception as error:  # each format has its own
        raise ValueError(f"cannot read '{path}': {first_line(error)}") from error


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of ``folder/images/``, or of the folder itself, in the order of their names."""
    return [path for path, _ in _pairs(check_path(folder, "folder"), False)]


def read_image(path: Path, contrast: str = "none") -> Tensor:
    """`[channels, H, W]`, float32, finite; `contrast` as in :func:`read_images`."""
    array = _read(path, mask=False)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"'{path}' must be one image [H, W, channels] (got {list(array.shape)})")
    array = _opaque(array[..., None] if array.ndim == 2 else array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"'{path}' must hold finite pixels (got {array[tuple(where)]} at {where})")
    if contrast == "image":
        low, high = np.percentile(array, [1.0, 99.8])
        array = (array.astype(np.float32) - low) / (high - low if high > low else 1.0)
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1).contiguous()


def _read_mask(path: Path) -> np.ndarray[Any, Any]:
    """`[H, W]` of integers, or `[H, W, 3]` of colours."""
    array = _read(path, mask=True)
    if array.ndim == 3:
        array = _opaque(array)
        if bool((array == array[..., :1]).all()):
            array = array[..., 0]
    if (
        array.ndim not in (2, 3)
        or array.shape[2:] not in ((), (3,))
        or array.dtype.kind not in "biu"
    ):
        raise ValueError(
            f"'{path}' must hold one integer or colour per pixel "
            f"(got {list(array.shape)} of {array.dtype})"
        )
    return array


def _opaque(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    alpha = array[..., -1] if array.shape[-1] in (2, 4) else None
    return array if alpha is None or (alpha != alpha.flat[0]).any() else array[..., :-1]


def _coded(labels: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Colours as numbers, black as 0."""
    if all(label.ndim == 2 for label in labels):
        return labels
    colours = [np.stack([label] * 3, -1) if label.ndim == 2 else label for label in labels]
    return [colour.astype(np.int64) @ [1 << 32, 1 << 16, 1] for colour in colours]


def _classes(
    labels: list[np.ndarray[Any, Any]], guess: bool, folder: Path
) -> tuple[list[np.ndarray[Any, Any]], list[str] | None]:
    """Labels as they are; grey levels and colours by number, and what they are called."""
    coded, names = _coded(labels), None
    values = np.unique(np.concatenate([np.unique(label) for label in coded]))
    levels = values[values != VOID]
    binary = set(values.tolist()) == {0, VOID}
    if binary or (len(levels) and levels[-1] > _MAX_CLASSES):  # grey levels or colours
        levels = values
        coded = [np.searchsorted(values, label) for label in coded]
        names = list(map(str, values.tolist()))
        if any(label.ndim == 3 for label in labels):
            parts = [(v >> 32, v >> 16 & 255, v & 255) for v in values.tolist()]
            names = ["#{:02x}{:02x}{:02x}".format(*part) for part in parts]
    if len(levels) > _MAX_CLASSES or (guess and _look_like_instances(coded)):
        raise ValueError(
            f"'masks' of '{folder}' hold {len(levels)} labels that look like instances: say "
            f"masks='instance', or masks='class' if they are up to {_MAX_CLASSES} classes"
        )
    if len(levels) < 2:
        raise ValueError(f"'masks' of '{folder}' must hold two classes (got {levels.tolist()})")
    return coded, names


def _look_like_instances(labels: list[np.ndarray[Any, Any]]) -> bool:
    """Whether images number their patches anew, 1 to k of differing k, all in one piece; where
    there are many, whether nearly all do."""
    from skimage.measure import label as components

    counts, anew, patches, pieces = set(), 0, 0, 0
    for label in labels:
        known = np.unique(label[(label > 0) & (label != VOID)])
        anew += known.tolist() == list(range(1, len(known) + 1))
        pieces += int(components(np.where(label == VOID, 0, label), background=0).max())
        patches += len(known)
        counts.add(len(known))
    if len(counts) < 2 or max(counts) <= 3:
        return False
    slack = 0.1 if max(counts) > 20 else 0.0
    return anew >= (1 - slack) * len(labels) and pieces <= (1 + slack) * patches


def _instances(labels: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    coded = [
        np.unique(label, return_inverse=True)[1].reshape(label.shape) + (label.min() > 0)
        for label in _coded(labels)
    ]
    if max(label.max() for label in coded) > 1:
        return coded
    from skimage.measure import label as components

    warnings.warn(
        "no mask tells two instances apart: the connected components of the foreground are taken",
        stacklevel=3,
    )
    return [components(label, background=0) for label in coded]


def _cut(
    image: Tensor,
    whole: dict[str, Tensor],
    size: int,
    number: int,
    name: str,
    grids: dict[tuple[int, ...], Data],
) -> list[Data]:
    """Tiles of one size share their edges and positions, which are most of a tile's memory."""
    tiles = []
    for top in range(0, image.size(1), size):
        for left in range(0, image.size(2), size):
            window = (slice(top, top + size), slice(left, left + size))
            tile = ToGrid()(image[(slice(None), *window)])
            grid = grids.setdefault(tuple(tile.image_size.view(-1).tolist()), tile)
            tile.edge_index, tile.pos = grid.edge_index, grid.pos
            for key, values in whole.items():
                tile[key] = values[window].reshape(-1)
            tile.image, tile.image_name = torch.tensor([number]), name
            tile.corner = torch.tensor([[top, left]])
            tiles.append(tile)
    return tiles


def joined(tiles: list[Data], key: str) -> Tensor:
    """The picture `[H, W, *]` of an attribute of one image's tiles: the way back from cutting."""
    corners = [tile.corner.view(-1).tolist() for tile in tiles]
    sizes = [tile.image_size.view(-1).tolist() for tile in tiles]
    ends = [[a + b for a, b in zip(*pair)] for pair in zip(corners, sizes)]
    values = tiles[0][key]
    size = [max(end[k] for end in ends) for k in (0, 1)]
    out = values.new_zeros(*size, *values.shape[1:])
    for tile, (top, left), (bottom, right) in zip(tiles, corners, ends):
        part = tile[key].view(bottom - top, right - left, *values.shape[1:])
        out[top:bottom, left:right] = part
    return out
