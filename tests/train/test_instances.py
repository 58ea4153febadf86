"""Instances in pictures: tiles without seams, whole pictures in the split, files for new ones."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_gunet.cli import main
from pyg_gunet.data import read_images
from pyg_gunet.data.images import joined
from pyg_gunet.train import Segment, evaluate, fit, load_run, predict
from pyg_gunet.train.data import Images
from pyg_gunet.train.instances import (
    DEFAULT,
    WAYS,
    best_way,
    found_instances,
    instance_figures,
    instance_table,
    otsu_instances,
    overlay,
    stitched,
    whole_pictures,
)
from pyg_gunet.transforms import ToGrid

io = pytest.importorskip("skimage.io", reason="needs scikit-image")


def write(folder, names, masked=True, size=40, seed=0):
    """Bright squares, of which two touch, numbered with a gap; the last picture has none."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks")[: 1 + masked]:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        mask = np.zeros((size, size + i), dtype=np.uint16)
        corners = ((2, 2), (2, 9), (20, 20), (30, 5), (12, 28))[: 4 + i % 2]
        for k, (row, column) in enumerate(corners if i < len(names) - 1 or i == 0 else (), 1):
            mask[row : row + 7, column : column + 7] = k + (k > 2)
        image = (150 * (mask > 0) + rng.integers(0, 40, mask.shape)).astype(np.uint8)
        io.imsave(folder / "images" / f"{name}.png", image, check_contrast=False)
        if masked:
            io.imsave(folder / "masks" / f"{name}.png", mask, check_contrast=False)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuclei")
    write(folder / "old", "abcdefg")
    made = fit(
        f"images:{folder / 'old'}", "segment", folder / "run", masks="instance", epochs=6,
        tile_size=20, accelerator="cpu", hidden_channels=8, depth=2,
    )  # fmt: skip
    return folder, made


def test_whole_images_are_split(run):
    folder, made = run
    assert "tiles of 7 whole images split at random (seed 0)" in made.figures["split"]
    data = Images(f"images:{folder / 'old'}", masks="instance", tile_size=20)
    data.setup()
    images = [{int(tile.image) for tile in part} for part in data.parts]
    assert sorted(i for part in images for i in part) == list(range(7))
    assert [len(part) for part in images] == [5, 1, 1]
    few = Images(f"images:{write(folder / 'few', 'ab')}", masks="instance", tile_size=20)
    few.setup()
    assert few.note().startswith("tiles split at random")


def test_figures_hold_instances_and_otsu(run):
    figures = run[1].figures
    assert 0 <= figures["test_ap50"] <= 1
    assert set(figures["baselines"]) == {"majority class", "Otsu ap50", "Otsu pq"}
    again = evaluate(run[1].folder)
    for name in ("test_ap50", "test_pq", "instances", "baselines"):
        assert again[name] == figures[name]


def test_the_way_to_instances_is_settled_on_validation_pictures(run, tmp_path):
    """And kept in the checkpoint; one that is given stays."""
    folder, made = run
    model, data = load_run(made.folder)
    data.setup()
    way = tuple(model.way.tolist())
    assert way in WAYS
    assert way == (made.figures["least_probability"], made.figures["prominence"])
    model.way.zero_()
    assert model.settle(data)
    assert tuple(model.way.tolist()) == way
    given = fit(
        f"images:{folder / 'old'}", "segment", tmp_path / "run", masks="instance", epochs=1,
        tile_size=20, accelerator="cpu", hidden_channels=8, depth=2, prominence=0.35,
    )  # fmt: skip
    assert given.figures["prominence"] == 0.35
    assert load_run(given.folder)[0].way.tolist() == [0.5, 0.35]


def test_the_best_way_is_that_of_the_highest_quality():
    """Two squares side by side with a hollow between, and a rim that is less probable."""
    pair = torch.zeros(20, 40).long()
    pair[4:16, 6:20], pair[4:16, 20:34] = 1, 2
    probability = 0.9 * (pair > 0).float()
    probability[3:17, 5:35] = probability[3:17, 5:35].clamp(min=0.45)
    hollow = ((torch.arange(40) - 19.5).abs() < 4).float().expand(20, 40)
    deep, shallow = [(probability, 0.8 - rise * hollow) for rise in (0.6, 0.15)]
    assert best_way([deep], [pair], 5) == (0.5, 0.1)
    assert best_way([shallow], [pair], 5) == (0.5, 0.1)
    assert best_way([shallow], [pair.clamp(max=1)], 5) == (0.5, 0.2)
    assert best_way([deep], [pair.clamp(max=1)], 5) == (0.5, 1.0)
    assert best_way([deep, shallow], [pair, pair.clamp(max=1)], 5) == (0.5, 0.2)


def test_where_nothing_tells_ways_apart_the_default_is_next():
    blank, faint = torch.zeros(20, 20).long(), torch.zeros(20, 20)
    nearest = min(WAYS, key=lambda way: math.dist(way, DEFAULT))
    assert best_way([], [], 5) == best_way([(faint, faint)], [blank], 5) == nearest
    square = blank.clone()
    square[4:16, 4:16] = 1
    sure = square.float()
    assert best_way([(sure, sure)], [square], 5) == nearest
    false = faint.clone()
    false[4:12, 4:12] = 0.35  # an alarm at 0.3 alone
    assert best_way([(false, false)], [blank], 5) == nearest


def test_what_was_not_settled_is_said(run):
    _, made = run
    model, data = load_run(made.folder)
    data.setup()
    model.way.fill_(math.nan)
    with pytest.warns(UserWarning, match="'prominence' was not settled"):
        figures, _ = model.report(data, None)
    assert (figures["least_probability"], figures["prominence"]) == DEFAULT


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_instances_of_maps_of_any_precision(dtype):
    depth = torch.zeros(20, 20)
    depth[4:16, 4:16] = 1
    found = found_instances((depth.to(dtype), depth.to(dtype)), DEFAULT, 5)
    assert torch.equal(found, depth.long())


def test_evaluate_scores_all_of_another_folder(run):
    folder, made = run
    write(folder / "new", "pqrs", seed=1)
    figures = evaluate(made.folder, dataset=f"images:{folder / 'new'}")
    assert figures["instances"] == 4 + 5 + 4  # the last has none
    assert "all tested" in figures["split"]
    one = write(folder / "one", "z", size=18)
    assert evaluate(made.folder, dataset=f"images:{one}")["instances"] > 0


def test_predictions_of_new_images(run):
    folder, made = run
    new = write(folder / "blind", ["u", "v"], masked=False, size=300)
    shapes = predict(made.folder, folder / "labels", dataset=f"images:{new}")
    assert shapes == {"u": (300, 300), "v": (300, 301)}
    label = io.imread(folder / "labels" / "u.png")
    assert label.dtype == np.uint16
    with (folder / "labels" / "instances.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == "u"]
    assert [int(row["id"]) for row in rows] == list(np.unique(label)[1:])
    for row in rows:
        where = np.argwhere(label == int(row["id"]))
        assert int(row["area"]) == len(where)
        assert [float(row["row"]), float(row["column"])] == pytest.approx(where.mean(0).tolist())
        assert [int(row["top"]), int(row["left"])] == where.min(0).tolist()
        assert [int(row["bottom"]), int(row["right"])] == (where.max(0) + 1).tolist()
    assert io.imread(folder / "labels" / "overlays" / "u.png").shape == (300, 300, 3)
    with pytest.raises(FileExistsError, match="--overwrite"):
        predict(made.folder, folder / "labels", dataset=f"images:{new}")
    colour = folder / "colour" / "images"
    colour.mkdir(parents=True)
    io.imsave(colour / "a.png", np.zeros((8, 8, 3), np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="must fit the checkpoint, 1 channels.*got 3"):
        predict(made.folder, folder / "x", dataset=f"images:{colour.parent}")
    with pytest.raises(TypeError, match="'changes' must be among"):
        predict(made.folder, folder / "x", dataset=f"images:{new}", tile=3)


def test_more_instances_than_16_bits(run, monkeypatch):
    folder, made = run
    many = torch.arange(70_000).view(250, 280)
    monkeypatch.setattr(Segment, "picture", lambda self, image: {"label": many, "instance": many})
    monkeypatch.setattr("pyg_gunet.train.output.instance_table", lambda label: {"id": label[0]})
    monkeypatch.setattr(
        "pyg_gunet.train.output.overlay", lambda image, label: np.zeros((2, 2, 3), np.uint8)
    )
    new = write(folder / "many", ["u"], masked=False)
    predict(made.folder, folder / "wide", dataset=f"images:{new}")
    names = sorted(path.name for path in (folder / "wide").iterdir())
    assert names == ["instances.csv", "overlays", "u.tif"]
    assert np.array_equal(io.imread(folder / "wide" / "u.tif"), many.numpy())


def test_the_command_prints_the_scores(run, capsys):
    folder, made = run
    assert main(["evaluate", str(made.folder)]) == 0
    text = capsys.readouterr().out
    shown = [line.split()[:2] for line in text.splitlines()]
    for name in ("test_ap50,", "test_pq,"):
        assert [name, "ours"] in shown
        assert [name, "Otsu"] in shown
    assert ["test_mean_iou,", "majority"] in shown
    assert not any(words[:1] == ["test_pq"] for words in shown)
    assert main(["evaluate", str(made.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_pq"] is not None


def test_levels_are_made_once_per_kind_of_batch(run):
    model, data = load_run(run[1].folder)
    tiles = [tile for tile in data.graphs if tile.num_nodes == 400][:3]
    with torch.no_grad():
        first = [model.predict(tile)["depth"] for tile in tiles]
        assert len(model._levels) == 1
        model._levels = []
        again = [model.predict(tile)["depth"] for tile in reversed(tiles)]
        assert all(torch.equal(a, b) for a, b in zip(first, reversed(again)))
        moved = tiles[0].clone()
        moved.pos = moved.pos.flip(1)  # the same edges with other offsets
        assert not torch.allclose(model.predict(moved)["depth"], first[0])


# Tiles ------------------------------------------------------------------------------------------


def test_scores_of_a_pixel_alone_pass_unchanged():
    image = torch.rand(2, 75, 51)
    found = stitched(lambda tile: tile.x * 3 + 1, image, tile=32, overlap=8)
    torch.testing.assert_close(found, image * 3 + 1)
    small = torch.rand(2, 5, 7)
    torch.testing.assert_close(stitched(lambda tile: tile.x, small, 32, 8), small)
    exact = torch.rand(1, 64, 32)
    torch.testing.assert_close(stitched(lambda tile: tile.x, exact, 32, 0), exact)


def test_no_seams():
    """Tiles that disagree by 1 blend over the overlap; side by side they would jump by 1."""
    image, count = torch.zeros(1, 100, 100), [0]

    def score(tile: Data) -> torch.Tensor:
        count[0] += 1
        return torch.full((tile.num_nodes, 1), float(count[0] % 2))

    found = stitched(score, image, tile=40, overlap=20)[0]
    assert max(float(found.diff(dim=d).abs().max()) for d in (0, 1)) < 0.1
    assert 0 <= float(found.min()) <= float(found.max()) <= 1 + 1e-6


def test_all_tiles_have_one_size():
    seen = set()

    def score(tile: Data) -> torch.Tensor:
        seen.add(tuple(tile.image_size.view(-1).tolist()))
        return tile.x

    stitched(score, torch.zeros(1, 101, 57), tile=32, overlap=5)
    assert seen == {(32, 32)}
    with pytest.raises(ValueError, match="'overlap' must lie in"):
        stitched(score, torch.zeros(1, 9, 9), tile=4, overlap=4)


def test_tiles_join_to_their_picture(tmp_path):
    write(tmp_path, "ab")
    tiles = read_images(tmp_path, masks="instance", tile_size=16)
    own = [tile for tile in tiles if int(tile.image) == 1]
    assert np.array_equal(
        joined(own, "x")[..., 0].numpy(), io.imread(tmp_path / "images" / "b.png")
    )
    pictures = list(whole_pictures(tiles))
    assert [tuple(one["instance"].shape) for one in pictures] == [(40, 40), (40, 41)]
    part = list(whole_pictures([tiles[0], tiles[4]]))  # of a picture that is not all there
    assert [tuple(one["x"].shape) for one in part] == [(1, 16, 16)] * 2


# Scores and files -------------------------------------------------------------------------------


def test_figures_of_a_perfect_and_of_a_blind_finder(tmp_path):
    write(tmp_path, "abc")
    tiles = read_images(tmp_path, masks="instance", tile_size=16)
    truth = iter([one["instance"] for one in whole_pictures(tiles)])
    perfect = instance_figures(lambda image: next(truth), tiles, 5)
    assert perfect["test_ap50"] == perfect["test_pq"] == 1.0
    assert perfect["instances_found"] == 1.0
    blind = instance_figures(lambda image: torch.zeros(image.shape[1:]).long(), tiles, 5)
    assert blind["test_ap50"] == blind["test_pq"] == blind["instances_found"] == 0.0
    # Otsu joins the two squares that touch.
    assert 0 < blind["baselines"]["Otsu ap50"] < 1


def test_otsu_takes_the_smaller_side():
    image = torch.zeros(1, 20, 20)
    image[0, 2:6, 2:6] = image[0, 10:14, 10:14] = 1.0
    for one in (image, 1 - image):
        assert otsu_instances(one, 1).max() == 2
    assert otsu_instances(torch.ones(1, 4, 4), 1).max() == 0


def test_table_and_overlay_of_nothing():
    empty = np.zeros((6, 5), dtype=np.int32)
    assert all(len(column) == 0 for column in instance_table(empty).values())
    for channels in (1, 2, 3, 4):
        assert overlay(torch.zeros(channels, 6, 5), empty).tolist() == np.zeros((6, 5, 3)).tolist()
    label = empty.copy()
    label[1:4, 1:4] = 7
    shown = overlay(torch.zeros(1, 6, 5), label)
    assert (shown[..., 0] > 0).sum() == 8  # the rim of 3 x 3 pixels


def test_a_directed_convolution_needs_places():
    words = {"conv": "pyg_gunet.nn.direction.DirectionConv", "depth": 1, "hidden_channels": 4}
    with pytest.raises(ValueError, match="'conv' DirectionConv needs positions in the plane"):
        Segment(1, 2, 3, **words)
    model = Segment(1, 2, 2, **words)
    graph = ToGrid()(torch.rand(1, 4, 4))
    del graph.pos
    with pytest.raises(ValueError, match=r"needs 'pos' in the plane, \[N, 2\] \(got none\)"):
        model(graph)
