"""Depth inside instances and the seeded watershed, against scipy's and scikit-image's on pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pyg_gunet.functional.watershed import (
    instance_depth,
    pixel_instances,
    seeded_watershed,
    split_instances,
)
from pyg_gunet.transforms import grid_edges

segmentation = pytest.importorskip("skimage.segmentation", reason="needs scikit-image")


def case(seed, height=17, width=23, seeds=6, levels=None):
    rng = np.random.default_rng(seed)
    ground = rng.permutation(height * width).astype(float)
    if levels is None:
        ground = ndimage.gaussian_filter(ground.reshape(height, width), 1.5)
    else:
        ground = (ground % levels).reshape(height, width)
    marks = np.zeros(height * width, dtype=np.int64)
    marks[rng.choice(height * width, seeds, replace=False)] = rng.integers(1, 9, seeds)
    return ground, marks.reshape(height, width), rng.random((height, width)) < 0.85


def flooded(ground, marks, mask=None, connectivity=4, **changes):
    edges = changes.get("edges", grid_edges(*ground.shape, connectivity))
    arguments = [torch.from_numpy(marks).view(-1), torch.from_numpy(ground).view(-1), edges]
    inside = None if mask is None else torch.from_numpy(mask).view(-1)
    return seeded_watershed(*arguments, inside).view(ground.shape).numpy()


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_flood_is_that_of_skimage(seed, masked, connectivity):
    ground, marks, mask = case(seed)
    inside = mask if masked else None
    expected = segmentation.watershed(ground, marks, connectivity=connectivity // 4, mask=inside)
    assert np.array_equal(flooded(ground, marks, inside, connectivity), expected)


def test_high_seeds_and_rough_ground():
    """Where every other node is a pass of its own."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ground = rng.permutation(80).reshape(8, 10).astype(float)
        _, marks, _ = case(seed, 8, 10, 5)
        assert np.array_equal(flooded(ground, marks), segmentation.watershed(ground, marks))


@pytest.mark.parametrize("levels", [1, 3])
def test_equal_heights_go_to_the_nearer_seed(levels):
    ground, marks, _ = case(3, levels=levels)
    found = flooded(ground, marks)
    assert set(found.flat) == set(marks[marks > 0])
    if levels == 1:
        near = np.stack(
            [ndimage.distance_transform_cdt(marks != k, "taxicab") for k in np.unique(marks)[1:]]
        )
        own = np.searchsorted(np.unique(marks)[1:], found)
        assert (np.take_along_axis(near, own[None], 0)[0] == near.min(0)).all()


def test_flood_does_not_hang_on_edge_order_direction_or_repetition():
    ground, marks, mask = case(1)
    edges = grid_edges(*ground.shape, 4)
    one = edges[:, edges[0] < edges[1]]
    shuffled = one[:, torch.randperm(one.size(1), generator=torch.Generator().manual_seed(0))]
    loops = torch.arange(5).repeat(2, 1)
    expected = flooded(ground, marks, mask)
    for other in (one, one.flip(0), shuffled, torch.cat([edges] * 3 + [loops], dim=1)):
        assert np.array_equal(flooded(ground, marks, mask, edges=other), expected)


def test_flood_moves_with_the_nodes():
    ground, marks, _ = case(2)
    perm = torch.randperm(ground.size, generator=torch.Generator().manual_seed(1))
    edges = torch.empty_like(perm).scatter(0, perm, torch.arange(len(perm)))[
        grid_edges(*ground.shape, 4)
    ]
    flat = [torch.from_numpy(one).view(-1)[perm] for one in (marks, ground)]
    found = seeded_watershed(*flat, edges)
    assert np.array_equal(found.numpy(), flooded(ground, marks).ravel()[perm.numpy()])


def test_what_no_seed_reaches():
    path = torch.tensor([[0, 3, 4], [1, 4, 5]])
    height = torch.arange(6.0)
    assert (
        seeded_watershed(torch.tensor([5, 0, 0, 0, 0, 0]), height, path).tolist()
        == [5, 5] + [0] * 4
    )
    assert not seeded_watershed(torch.zeros(6).long(), height, path).any()
    mask = torch.tensor([False, True, True, True, True, True])
    assert not seeded_watershed(torch.tensor([5, 0, 0, 0, 0, 0]), height, path, mask).any()
    empty = torch.zeros(0).long()
    assert seeded_watershed(empty, torch.zeros(0), torch.zeros(2, 0).long()).shape == (0,)
    assert split_instances(empty > 0, torch.zeros(0), torch.zeros(2, 0).long()).shape == (0,)


def discs(side=40):
    """Two discs that touch, one alone, one at the rim."""
    at = np.mgrid[:side, :side]
    label = np.zeros((side, side), dtype=np.int64)
    for k, (row, column, radius) in enumerate(
        ((10, 10, 7), (10, 22, 6), (30, 14, 5), (30, 39, 6)), start=1
    ):
        inside = (at[0] - row) ** 2 + (at[1] - column) ** 2 <= radius**2
        label[inside & (label == 0)] = k
    return torch.from_numpy(label)


def test_depth_is_the_distance_to_another_label():
    label = discs()
    edges = grid_edges(*label.shape, 4)
    found = instance_depth(label.view(-1), edges).view(label.shape).numpy()
    for k in range(1, 5):
        own = label.numpy() == k
        wide = np.pad(own, 60, mode="edge")  # the rim is no border
        far = ndimage.distance_transform_cdt(wide, "taxicab")[60:-60, 60:-60] * own
        np.testing.assert_allclose(found[own], (far / far.max())[own], rtol=1e-6)
    assert (found[label.numpy() == 0] == 0).all()


def test_depth_by_length_by_graph_and_without_a_border():
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    label = torch.tensor([0, 1, 1, 1])
    length = torch.tensor([1.0, 1.0, 2.0])
    torch.testing.assert_close(
        instance_depth(label, path, edge_length=length), torch.tensor([0, 0.25, 0.5, 1.0])
    )
    assert instance_depth(torch.ones(4).long(), path).tolist() == [1.0] * 4
    assert not instance_depth(torch.zeros(4).long(), path).any()
    twice = torch.cat([path, path + 4], dim=1)
    batch = torch.arange(2).repeat_interleave(4)
    found = instance_depth(torch.tensor([0, 1, 1, 1, 1, 1, 1, 1]), twice, batch)
    assert found[4:].tolist() == [1.0] * 4
    torch.testing.assert_close(found[:4], instance_depth(label, path))
    parallel = torch.cat([path, path], dim=1)
    torch.testing.assert_close(
        instance_depth(label, parallel, edge_length=torch.cat([length * 9, length])),
        instance_depth(label, path, edge_length=length),
    )


def test_touching_discs_part():
    label = discs()
    edges = grid_edges(*label.shape, 4)
    depth = instance_depth(label.view(-1), edges)
    found = split_instances(label.view(-1) > 0, depth, edges)
    # Numbered by their first pixels, as the discs are not: the same pairs and no others.
    pairs = {tuple(pair) for pair in torch.stack([label.view(-1), found], 1).tolist()}
    assert len(pairs) == 5
    small = split_instances(label.view(-1) > 0, depth, edges, min_size=100)
    assert 1 <= len(small.unique()) - 1 < 4
    # No peak but the highest is prominent enough: connected parts are instances.
    flat = split_instances(label.view(-1) > 0, depth, edges, prominence=2.0)
    assert len(flat.unique()) == 4


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("prominence", [0.0, 0.05, 0.2, 1.0])
def test_prominent_peaks_are_scikit_images(seed, prominence):
    """An instance for each maximum of the reconstruction from beneath, and nearly its flood: where
    two floods meet, the basins between have chosen before."""
    from skimage.measure import label as parts
    from skimage.morphology import reconstruction

    ground, _, mask = case(seed, 31, 37)
    depth = (ground - ground.min()) / (ground.max() - ground.min())
    depth[~mask] = 0.0
    cross = ndimage.generate_binary_structure(2, 1)
    # A maximum is where the reconstruction stays by the whole prominence beneath.
    least = prominence or 1e-9
    below = depth - reconstruction(depth - least, depth, footprint=cross)
    seeds = parts((below > least - 1e-12) & mask, connectivity=1)
    expected = segmentation.watershed(-depth, seeds, 1, mask=mask)
    edges = grid_edges(*depth.shape, 4)
    found = split_instances(
        torch.from_numpy(mask).view(-1), torch.from_numpy(depth).view(-1), edges, prominence
    ).numpy()
    top = seeds.ravel() > 0
    pairs = np.unique(np.stack([seeds.ravel(), found])[:, top], axis=1)
    assert pairs.shape[1] == seeds.max() == len(np.unique(pairs[1]))
    known = expected.ravel() > 0  # skimage's flood starts from no part whose peak is too low
    assert (pairs[1][expected.ravel()[known] - 1] == found[known]).mean() > 0.95
    alone = ndimage.label(mask & (expected == 0))[1]
    assert found.max() == seeds.max() + alone
    assert ((found > 0) == mask.ravel()).all()


def test_plateaus_and_equal_peaks():
    """A peak may be many nodes wide, and of two that are equal the pass tells whether one stays."""
    path = torch.stack([torch.arange(9), torch.arange(1, 10)])
    depth = torch.tensor([0.5, 0.5, 0.9, 0.9, 0.7, 0.9, 0.3, 0.4, 0.4, 0.4])
    inside = torch.ones(10).bool()
    assert split_instances(inside, depth, path, 0.25).unique().tolist() == [1]
    assert split_instances(inside, depth, path, 0.15).tolist() == [1] * 4 + [1] + [2] * 2 + [2] * 3
    assert split_instances(inside, depth, path, 0.05).tolist() == [1] * 4 + [1] + [2] * 2 + [3] * 3
    for shift in (-1.0, 5.0):  # by how much peaks stand out is all that counts
        assert split_instances(inside, depth + shift, path, 0.15).max() == 2
    shoulder = torch.tensor([0.5, 0.5, 0.5, 0.9])
    assert split_instances(inside[:4], shoulder, path[:, :3], 0.0).tolist() == [1] * 4
    flat = torch.full((10,), 0.3)
    assert split_instances(inside, flat, path, 0.0).unique().tolist() == [1]
    assert split_instances(flat > 1, flat, path).tolist() == [0] * 10
    with pytest.raises(ValueError, match="'prominence' must"):
        split_instances(inside, flat, path, -0.1)


@pytest.mark.parametrize(
    "changes, error, match",
    [
        ({"seed": torch.tensor([-1, 0])}, ValueError, "'seed' must be at least 0"),
        ({"seed": torch.zeros(2)}, TypeError, "'seed' must hold integers"),
        ({"height": torch.tensor([0.0, float("nan")])}, ValueError, "NaN at node 1"),
        ({"height": torch.zeros(3)}, ValueError, r"'height' must have shape \[2\]"),
        ({"height": torch.zeros(2).long()}, TypeError, "'height'"),
        ({"mask": torch.ones(2)}, TypeError, "'mask' must be bool"),
        ({"edge_index": torch.tensor([[0], [2]])}, IndexError, "'edge_index'"),
    ],
)
def test_bad_input(changes, error, match):
    good = {
        "seed": torch.tensor([1, 0]),
        "height": torch.zeros(2),
        "edge_index": torch.tensor([[0], [1]]),
    }
    with pytest.raises(error, match=match):
        seeded_watershed(**{**good, **changes})


def test_bad_depths():
    edges = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="'edge_length' must be above 0"):
        instance_depth(torch.ones(2).long(), edges, edge_length=torch.zeros(1))
    with pytest.raises(TypeError, match="'foreground' must be bool"):
        split_instances(torch.ones(2), torch.ones(2), edges)
    with pytest.raises(ValueError, match="'depth' and 'foreground' must have one shape"):
        split_instances(torch.ones(2) > 0, torch.ones(3), edges)
    with pytest.raises(ValueError, match="NaN"):
        split_instances(torch.ones(2) > 0, torch.tensor([1.0, float("nan")]), edges)


@pytest.mark.parametrize("pixels", [1, 150, 2**19])
def test_pixels_alone(pixels, monkeypatch):
    """The foreground's own graph gives what the whole grid gives, however few pixels at a time."""
    monkeypatch.setattr("pyg_gunet.functional.watershed.PIXELS", pixels)
    label = discs()
    label[0, :3] = 9
    edges = grid_edges(*label.shape, 4)
    depth = instance_depth(label.view(-1), edges)
    whole = split_instances(label.view(-1) > 0, depth, edges, min_size=4)
    found = pixel_instances(label > 0, depth.view(label.shape), min_size=4)
    assert torch.equal(found.view(-1), whole)
    assert pixel_instances(torch.zeros(3, 4) > 0, torch.zeros(3, 4)).sum() == 0
    assert pixel_instances(torch.ones(1, 1) > 0, torch.ones(1, 1)).tolist() == [[1]]
    with pytest.raises(ValueError, match=r"must have one shape \[H, W\]"):
        pixel_instances(label > 0, depth)
    with pytest.raises(TypeError, match="'foreground' must be bool"):
        pixel_instances(label, depth.view(label.shape))
