"""A folder of images and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_gunet.data import read_images
from pyg_gunet.transforms import BorderWeight, ToGrid, to_label_image

io = pytest.importorskip("skimage.io", reason="needs scikit-image")


@pytest.fixture
def folder(tmp_path):
    """Two images of different size with two touching instances each, and class masks."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name, size, suffix in (("b", (20, 30), ".png"), ("a", (16, 10), ".tif")):
        image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, dtype=np.uint8)
        mask[2:8, 1:4], mask[2:8, 6:9] = 1, 2
        io.imsave(tmp_path / "images" / f"{name}{suffix}", image, check_contrast=False)
        io.imsave(tmp_path / "masks" / f"{name}.png", mask, check_contrast=False)
    return tmp_path


def read(folder, name):
    image = next((folder / "images").glob(f"{name}.*"))
    return io.imread(image), io.imread(folder / "masks" / f"{name}.png")


def test_tiles_put_together_are_the_image(folder):
    tiles = read_images(folder, tile_size=8)
    assert len(tiles) == 2 * 2 + 3 * 4  # a, then b; the last row and column are smaller
    for number, name in enumerate("ab"):
        image, mask = read(folder, name)
        seen = np.zeros(mask.shape, dtype=int)
        for tile in tiles:
            if int(tile.image) != number:
                continue
            (top, left), (height, width) = tile.corner[0].tolist(), tile.image_size[0].tolist()
            window = (slice(top, top + height), slice(left, left + width))
            seen[window] += 1
            assert np.array_equal(to_label_image(tile.x, tile).numpy(), image[window])
            assert np.array_equal(to_label_image(tile.y, tile).numpy(), mask[window])
            assert tile.edge_index.equal(ToGrid()(torch.zeros(1, height, width)).edge_index)
        assert (seen == 1).all()
    assert "border_weight" not in tiles[0]


def test_instances_get_border_weights_of_the_whole_image(folder):
    tiles = read_images(folder, masks="instance", tile_size=8, sigma=3.0)
    _, mask = read(folder, "a")
    instance = torch.from_numpy(mask).long()
    graph = ToGrid()(torch.zeros(1, 16, 10), y=(instance > 0).long(), instance=instance)
    weight = BorderWeight(sigma=3.0)(graph).border_weight.view(16, 10)
    first, second = tiles[0], tiles[1]
    torch.testing.assert_close(first.border_weight.view(8, 8), weight[:8, :8])
    torch.testing.assert_close(second.border_weight.view(8, 2), weight[:8, 8:])
    assert first.y.unique().tolist() == [0, 1]
    assert first.instance.unique().tolist() == [0, 1, 2]
    assert float(weight[4, 4]) > 3  # the gap


def test_void_pixels(folder):
    _, mask = read(folder, "a")
    mask[0] = 255
    io.imsave(folder / "masks" / "a.png", mask, check_contrast=False)
    tiles = read_images(folder, tile_size=64)
    assert tiles[0].y.max() == 255


def test_errors(folder):
    with pytest.raises(FileNotFoundError, match="must hold the folders images/ and masks/"):
        read_images(folder / "none")
    with pytest.raises(ValueError, match="'masks'.*'pixels'"):
        read_images(folder, masks="pixels")
    with pytest.raises(ValueError, match="'tile_size'.*1"):
        read_images(folder, tile_size=1)
    mask = folder / "masks" / "a.png"
    io.imsave(mask, np.zeros((3, 4), dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match=r"a.png' must be of the size of its image.*\[3, 4\]"):
        read_images(folder)
    io.imsave(mask, np.full((16, 10), 200, dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="'masks' hold 201 classes.*masks='instance'"):
        read_images(folder)
    io.imsave(mask, np.zeros((16, 10, 3), dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="a.png' must hold one integer per pixel"):
        read_images(folder)
    mask.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot read .*a.png"):
        read_images(folder)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match="masks' must hold a file named 'a'"):
        read_images(folder)
    io.imsave(mask, np.zeros((16, 10), dtype=np.uint8), check_contrast=False)
    io.imsave(folder / "images" / "a.tif", np.zeros((16, 10), dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="b.png' must have 1 channels.*got 3"):
        read_images(folder)
    io.imsave(folder / "images" / "a.png", np.zeros((16, 10), dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="two files of one name"):
        read_images(folder)
