"""A folder of images and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_gunet.data import read_images
from pyg_gunet.data.images import joined
from pyg_gunet.transforms import BorderWeight, ToGrid, to_label_image

io = pytest.importorskip("skimage.io", reason="needs scikit-image")
Image = pytest.importorskip("PIL.Image", reason="needs pillow")


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
    whole = [tile for tile in tiles if tile.num_nodes == 64]
    assert len({tile.edge_index.data_ptr() for tile in whole}) == 1 < len(whole)


def test_instances_get_border_weights_of_the_whole_image(folder):
    tiles = read_images(folder, masks="instance", tile_size=8, sigma=3.0)
    _, mask = read(folder, "a")
    instance = torch.from_numpy(mask).long()
    graph = ToGrid()(torch.zeros(1, 16, 10), y=(instance > 0).long(), instance=instance)
    weight = BorderWeight(sigma=3.0, class_weight=None)(graph).border_weight.view(16, 10)
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


def test_image_folders_that_cannot_be_read_are_refused(folder):
    with pytest.raises(FileNotFoundError, match="must hold the folders images/ and masks/"):
        read_images(folder / "none")
    with pytest.raises(ValueError, match="'masks'.*'pixels'"):
        read_images(folder, masks="pixels")
    with pytest.raises(ValueError, match="'sigma' must be positive"):
        read_images(folder, sigma=0.0)
    with pytest.raises(ValueError, match="'tile_size'.*1"):
        read_images(folder, tile_size=1)
    mask = folder / "masks" / "a.png"
    io.imsave(mask, np.zeros((3, 4), dtype=np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match=r"a.png' must be of the size of its image.*\[3, 4\]"):
        read_images(folder)
    io.imsave(mask, np.arange(160, dtype=np.uint8).reshape(16, 10), check_contrast=False)
    with pytest.raises(ValueError, match="'masks' .* hold 160 labels.*masks='instance'"):
        read_images(folder)
    real = mask.rename(mask.with_suffix(".tif"))
    io.imsave(real, np.zeros((16, 10), dtype=np.float32), check_contrast=False)
    with pytest.raises(ValueError, match="a.tif' must hold one integer or colour per pixel"):
        read_images(folder)
    real.unlink()
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


# Masks of other programs ------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path):
    """Writes an image and its mask by Pillow."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()

    def save(mask, name="a", image=None, mask_name=None, **options):
        mask = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
        pixels = np.arange(mask.size[0] * mask.size[1]) % 251
        image = pixels.reshape(mask.size[::-1]).astype(np.uint8) if image is None else image
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(tmp_path / "images" / f"{name}.png")
        mask.save(tmp_path / "masks" / (mask_name or f"{name}.png"), **options)
        return tmp_path

    return save


def whole(folder, **options):
    return [to_label_image(tile.y, tile).numpy() for tile in read_images(folder, **options)]


DISCS = np.zeros((20, 24), dtype=np.uint8)
DISCS[2:6, 2:6] = DISCS[2:6, 10:14] = DISCS[12:18, 5:9] = 1


def palette(mask, colours=((200, 0, 0), (0, 200, 0), (7, 7, 7))):
    image = Image.fromarray(mask, mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def coloured(mask, colours=((0, 0, 0), (0, 200, 0), (90, 3, 0))):
    return np.array(colours, dtype=np.uint8)[mask]


MASKS = {
    "0 and 255": DISCS * 255,
    "bits": DISCS > 0,
    "palette": palette(DISCS),
    "colours": coloured(DISCS),
    "grey as colours": np.stack([DISCS] * 3, -1),
    "grey with alpha": np.stack([DISCS] * 3 + [np.full_like(DISCS, 255)], -1),
    "colours with alpha": np.concatenate([coloured(DISCS), np.full((20, 24, 1), 255, np.uint8)], 2),
    "grey levels": DISCS * 128,
    "16 bits": DISCS.astype(np.uint16) * 4000,
}


@pytest.mark.parametrize("case", MASKS)
def test_one_mask_however_it_is_written(save, case):
    (found,) = whole(save(MASKS[case]))
    assert np.array_equal(found, DISCS)


def test_colours_mean_the_same_in_every_image(save):
    save(coloured(np.array([[0, 1], [1, 1]])), "a")
    folder = save(coloured(np.array([[2, 2], [0, 2]])), "b")
    assert [label.tolist() for label in whole(folder)] == [[[0, 1], [1, 1]], [[2, 2], [0, 2]]]


def test_void_is_void_only_beside_classes(save):
    mask = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    assert whole(save(mask))[0].tolist() == mask.tolist()
    colours = [(i, 0, 255 - i) for i in range(256)]
    assert whole(save(palette(mask, colours)))[0].tolist() == mask.tolist()
    assert whole(save(np.array([[0, 128], [255, 0]], np.uint8)))[0].tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)])
def test_one_class_is_refused(save, mask):
    with pytest.raises(ValueError, match="must hold two classes"):
        read_images(save(mask))


@pytest.mark.parametrize("case", MASKS)
def test_a_binary_mask_of_instances_is_cut_into_components(save, case):
    folder = save(MASKS[case])
    with pytest.warns(UserWarning, match="connected components"):
        (tile,) = read_images(folder, masks="instance")
    found = to_label_image(tile.instance, tile).numpy()
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    assert np.array_equal(found > 0, DISCS > 0)
    assert len({found[3, 3], found[3, 11], found[13, 6]}) == 3
    assert tile.y.unique().tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_instances_of_16_bits_and_of_colours(save):
    labels = DISCS.astype(np.uint16)
    labels[2:6, 10:14], labels[12:18, 5:9] = 700, 40000
    for mask in (labels, coloured(np.searchsorted([0, 1, 700, 40000], labels), np.eye(4, 3) * 255)):
        (tile,) = read_images(save(mask.astype(mask.dtype)), masks="instance")
        found = to_label_image(tile.instance, tile).numpy()
        assert len(np.unique(found)) == 4
        assert (found[labels == 700] == found[3, 11]).all()


def test_instances_given_as_classes_are_found_out(save):
    numbered = DISCS.copy()
    numbered[2:6, 10:14], numbered[12:18, 5:9] = 2, 3
    save(numbered, "a")
    more = np.zeros((20, 24), dtype=np.uint8)
    for i in range(4):
        more[2 * i + i : 2 * i + i + 2, 3:6] = i + 1
    folder = save(more, "b")
    with pytest.raises(ValueError, match="look like instances.*masks='class'"):
        read_images(folder)
    assert len(read_images(folder, masks="class")) == 2
    more[19, 23] = 1  # one number, two patches: a class
    assert len(read_images(save(more, "b"))) == 2


def test_photos_are_turned_as_they_say(save, tmp_path):
    upright = np.zeros((6, 10, 3), dtype=np.uint8)
    upright[:3] = 200
    lying = Image.fromarray(np.rot90(upright).copy())
    exif = lying.getexif()
    exif[0x0112] = 6  # show it turned by a quarter, clockwise
    folder = save((upright[..., 0] > 100).astype(np.uint8))
    lying.save(folder / "images" / "a.png", exif=exif)
    (tile,) = read_images(folder)
    assert tile.image_size.tolist() == [[6, 10]]
    assert np.array_equal(to_label_image(tile.x, tile).numpy(), upright)


def test_images_of_16_bits_palettes_and_useless_alpha(save):
    deep = np.arange(480, dtype=np.uint16).reshape(20, 24) * 100
    (tile,) = read_images(save(DISCS, image=deep))
    assert np.array_equal(to_label_image(tile.x[:, 0], tile).numpy(), deep)
    (tile,) = read_images(save(DISCS, image=palette(DISCS)))
    assert tile.x.unique(dim=0).tolist() == [[0, 200, 0], [200, 0, 0]]
    rgba = np.concatenate([coloured(DISCS), np.full((20, 24, 1), 255, np.uint8)], 2)
    (tile,) = read_images(save(DISCS, image=rgba))
    assert tile.num_node_features == 3
    rgba[0, 0, 3] = 0
    (tile,) = read_images(save(DISCS, image=rgba))
    assert tile.num_node_features == 4


def test_names_with_endings_and_hidden_files(save):
    folder = save(DISCS, "a_image", mask_name="a_mask.png")
    save(DISCS, "b", mask_name="b-Labels.gif")
    for name in (".DS_Store", "._a_image.png", "Thumbs.db"):
        for kind in ("images", "masks"):
            (folder / kind / name).write_bytes(b"no picture")
    tiles = read_images(folder)
    assert [tile.image_name for tile in tiles] == ["a_image.png", "b.png"]
    (folder / "masks" / "b.png").write_bytes((folder / "masks" / "a_mask.png").read_bytes())
    with pytest.raises(ValueError, match="two files of one name"):
        read_images(folder)


def test_images_without_masks(save):
    folder = save(DISCS)
    for where in (folder, folder / "images"):
        (tile,) = read_images(where, masks="none")
        assert tile.y is None
        assert tile.num_nodes == 480
    with pytest.raises(FileNotFoundError, match="must hold images"):
        read_images(folder / "none", masks="none")


def test_pixels_must_be_finite(save, tmp_path):
    folder = save(DISCS)
    (folder / "images" / "a.png").unlink()
    for wrong in (np.nan, np.inf):
        image = np.ones((20, 24), dtype=np.float32)
        image[3, 4] = wrong
        io.imsave(folder / "images" / "a.tif", image, check_contrast=False)
        with pytest.raises(ValueError, match=r"a.tif' must hold finite pixels .*at \[3, 4, 0\]"):
            read_images(folder, masks="instance")
        with pytest.raises(ValueError, match="must hold finite pixels"):
            read_images(folder, masks="none")


def test_an_image_without_instances(save):
    folder = save(np.zeros((20, 24), np.uint8), "b")
    save(np.where(DISCS > 0, np.arange(24, dtype=np.uint8), 0), "a")
    first, second = read_images(folder, masks="instance")
    assert first.y.any()
    for key in ("y", "instance", "depth"):
        assert not second[key].any()
    assert second.border_weight.isfinite().all()


def test_depth_and_weights_do_not_see_the_edge_of_a_tile(save):
    folder = save(np.where(DISCS > 0, np.arange(24, dtype=np.uint8) // 8 + 1, 0).astype(np.uint8))
    (big,) = read_images(folder, masks="instance")
    tiles = read_images(folder, masks="instance", tile_size=5)
    for key in ("depth", "border_weight"):
        assert torch.equal(joined(tiles, key), joined([big], key))


def test_contrast_of_each_image(save):
    folder = save(DISCS, image=np.arange(480, dtype=np.uint16).reshape(20, 24) * 40)
    save(DISCS, "b", image=(np.arange(480).reshape(20, 24) // 8).astype(np.uint8))
    one, two = read_images(folder, contrast="image")
    for tile in (one, two):
        low, high = np.percentile(tile.x.numpy(), [1.0, 99.8])
        assert [low, high] == pytest.approx([0.0, 1.0], abs=1e-4)
    with pytest.raises(ValueError, match="'contrast' must be one of"):
        read_images(folder, contrast="all")
    flat = save(DISCS, "c", image=np.full((20, 24), 7, np.uint8))
    assert read_images(flat, contrast="image")[2].x.abs().max() == 0


def test_many_instances_are_found_out_in_spite_of_some_in_two_pieces(save):
    for name, count in (("a", 30), ("b", 24)):
        mask = np.zeros((60, 60), dtype=np.uint16)
        for k in range(count):
            row, column = divmod(k, 8)
            mask[7 * row + 1 : 7 * row + 5, 7 * column + 1 : 7 * column + 5] = k + 1
        mask[59, 59] = 3  # a crumb of another's
        folder = save(mask, name)
    with pytest.raises(ValueError, match="look like instances"):
        read_images(folder)


def test_grey_levels_and_colours_have_names(tmp_path):
    colours = {"#000000": (0, 0, 0), "#ff8000": (255, 128, 0), "#00ff07": (0, 255, 7)}
    for kind, values in (("grey", {"0": 0, "128": 128, "255": 255}), ("colour", colours)):
        for part in ("images", "masks"):
            (tmp_path / kind / part).mkdir(parents=True)
        rows = [np.full((8, 4, *np.shape(value)), value, np.uint8) for value in values.values()]
        Image.fromarray(np.concatenate(rows, axis=1)).save(tmp_path / kind / "masks" / "a.png")
        Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / kind / "images" / "a.png")
        (tile,) = read_images(tmp_path / kind)
        assert len(tile.class_names) == 3
        assert [tile.class_names[int(tile.y[4 * i])] for i in range(3)] == list(values)
