"""Border weights against distances computed instance by instance."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from pyg_gunet import validation
from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.transforms import grid_edges


def discs(size, per_side, radius, seed=0):
    """A label image with per_side^2 discs of different radii, some of which touch."""
    rng = np.random.default_rng(seed)
    step = size / per_side
    row, column = np.mgrid[:size, :size]
    image = np.zeros((size, size), dtype=np.int64)
    for k in range(per_side**2):
        centre = (np.array(divmod(k, per_side)) + 0.5) * step + rng.uniform(-0.1, 0.1, 2) * step
        inside = np.hypot(row - centre[0], column - centre[1]) < rng.uniform(0.5, 1.0) * radius
        image[inside & (image == 0)] = k + 1
    return image


def grid_pos(height, width):
    row, column = np.mgrid[:height, :width]
    return torch.from_numpy(np.stack([column, row], -1).reshape(-1, 2)).float()


def by_edt(image, w0, sigma, background_only):
    """A distance transform per instance, over what lies within 7 sigma of it."""
    reach = int(np.ceil(7 * sigma))
    nearest = np.full((2, *image.shape), np.inf)
    for k, box in enumerate(ndimage.find_objects(image), start=1):
        window = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        distance = ndimage.distance_transform_edt(image[window] != k)
        three = np.stack([*nearest[(slice(None), *window)], distance])
        nearest[(slice(None), *window)] = np.sort(three, axis=0)[:2]
    term = w0 * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return term * (image == 0) if background_only else term


def by_one_search_per_instance(instance, edge_index, length, w0, sigma, background_only):
    num_nodes = len(instance)
    dense = np.full((num_nodes, num_nodes), np.inf)
    row, col = edge_index.numpy()
    np.minimum.at(dense, (row, col), length)
    np.minimum.at(dense, (col, row), length)
    graph = csr_array(np.where(np.isfinite(dense), dense, 0))
    nodes = dijkstra(graph)
    ids = [k for k in np.unique(instance) if k]
    if len(ids) < 2:
        return np.zeros(num_nodes)
    distance = np.stack([nodes[instance == k].min(axis=0) for k in ids])
    first, second = np.sort(distance, axis=0)[:2]
    term = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return term * (instance == 0) if background_only else term


@pytest.mark.parametrize("background_only", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_euclidean_against_distance_transforms(seed, background_only):
    image = discs(96, 5, 12, seed)
    found = border_weight(
        torch.from_numpy(image).view(-1),
        grid_pos(96, 96),
        sigma=4.0,
        background_only=background_only,
    )
    expected = by_edt(image, 10.0, 4.0, background_only)
    np.testing.assert_allclose(found.view(96, 96).numpy(), expected, rtol=0, atol=1e-6)
    assert found.max() > 1.0


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_euclidean_in_any_dimension(dim):
    """Scattered points, many small instances: more colours than one bit, and boxes that overlap."""
    rng = np.random.default_rng(dim)
    pos = rng.uniform(0, 20, (600, dim))
    instance = rng.integers(0, 40, 600)
    found = border_weight(torch.from_numpy(instance), torch.from_numpy(pos), sigma=1.0)
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    each = np.stack([distance[:, instance == k].min(axis=1) for k in range(1, 40)])
    first, second = np.sort(each, axis=0)[:2]
    expected = 10 * np.exp(-((first + second) ** 2) / 2) * (instance == 0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("background_only", [True, False])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_along_the_graph_against_one_search_per_instance(seed, lengths, background_only):
    rng = np.random.default_rng(seed)
    edge_index = torch.from_numpy(rng.integers(0, 120, (2, 170)))  # loops and parallel edges, too
    instance = rng.integers(1, 9, 120) * (rng.random(120) < 0.25)
    length = rng.uniform(0.2, 3.0, 170) if lengths else np.ones(170)
    found = border_weight(
        torch.from_numpy(instance),
        edge_index=edge_index,
        sigma=1.3,
        background_only=background_only,
        edge_length=torch.from_numpy(length) if lengths else None,
    )
    expected = by_one_search_per_instance(instance, edge_index, length, 10, 1.3, background_only)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-7)
    assert found.max() > 0.01


def test_by_hand():
    # A path of seven nodes: the gap is nodes 2, 3, 4; d1 + d2 is 4 everywhere in it.
    instance = torch.tensor([1, 1, 0, 0, 0, 2, 2])
    path = torch.stack([torch.arange(6), torch.arange(1, 7)])
    term = 10.0 * np.exp(-16 / 50)
    for kwargs in ({"edge_index": path}, {"pos": torch.arange(7.0).unsqueeze(1)}):
        found = border_weight(instance, **kwargs)
        torch.testing.assert_close(found, torch.tensor([0, 0, term, term, term, 0, 0]).double())
        # In instance 1, d1 is 0 and d2 the way to node 5.
        found = border_weight(instance, background_only=False, **kwargs)
        assert float(found[1]) == pytest.approx(10.0 * np.exp(-16 / 50))
        assert float(found[0]) == pytest.approx(10.0 * np.exp(-25 / 50))


@pytest.mark.parametrize("kind", ["pos", "edges"])
def test_touching_one_and_no_instance(kind):
    edges = torch.stack([torch.arange(4), torch.arange(1, 5)])
    kwargs = {"edge_index": edges} if kind == "edges" else {"pos": torch.arange(5.0).view(5, 1)}
    touching = torch.tensor([0, 1, 2, 0, 0])
    found = border_weight(touching, **kwargs)
    # Left of instance 1: d = 1 and 2; right of instance 2: d = 1 and 2, then 2 and 3.
    expected = 10 * torch.exp(-torch.tensor([9.0, 9.0, 25.0]).double() / 50)
    torch.testing.assert_close(found[[0, 3, 4]], expected)
    assert found[1] == found[2] == 0
    inside = border_weight(touching, background_only=False, **kwargs)[1]
    assert float(inside) == pytest.approx(10 * np.exp(-1 / 50))
    assert border_weight(torch.tensor([0, 1, 1, 0, 0]), **kwargs).sum() == 0
    assert border_weight(torch.zeros(5, dtype=torch.int64), **kwargs).sum() == 0
    full = torch.tensor([1, 1, 2, 2, 2])  # no background
    assert border_weight(full, **kwargs).sum() == 0
    empty = {
        name: value[:, :0] if name == "edge_index" else value[:0] for name, value in kwargs.items()
    }
    assert border_weight(touching[:0], **empty).shape == (0,)


def test_cut_off():
    instance = torch.tensor([1, 0, 2])
    pos = torch.tensor([[0.0], [1.0], [6.0]])
    assert border_weight(instance, pos, sigma=1.0)[1] == pytest.approx(10 * np.exp(-18), rel=1e-9)
    assert border_weight(instance, pos, sigma=0.999)[1] == 0


@pytest.mark.parametrize("kind", ["pos", "edges"])
def test_batch_equals_alone(kind):
    image = torch.from_numpy(discs(40, 3, 7))
    size, edges, pos = 1600, grid_edges(40, 40), grid_pos(40, 40)
    other = torch.from_numpy(discs(40, 2, 9, seed=5)).flatten()  # the same numbers again
    instance = torch.cat([image.flatten(), other])
    batch = torch.tensor([0, 1]).repeat_interleave(size)
    alone = []
    for one in (image.flatten(), other):
        kwargs = {"pos": pos} if kind == "pos" else {"edge_index": edges}
        alone.append(border_weight(one, sigma=3.0, **kwargs))
    if kind == "pos":
        kwargs = {"pos": torch.cat([pos, pos])}
    else:
        kwargs = {"edge_index": torch.cat([edges, edges + size], dim=1)}
    together = border_weight(instance, batch=batch, sigma=3.0, **kwargs)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)
    assert together.max() > 0.1


def test_order_of_nodes_and_numbers_do_not_matter():
    image = torch.from_numpy(discs(32, 3, 6)).flatten()
    edges, pos = grid_edges(32, 32, 4), grid_pos(32, 32)
    perm = torch.randperm(1024, generator=torch.Generator().manual_seed(0))
    inverse = perm.argsort()
    names = torch.tensor([0, -7, 300, 2, 5, 4, 3, 8, 9, 1])
    for kwargs, moved in (
        ({"pos": pos}, {"pos": pos[perm]}),
        ({"edge_index": edges}, {"edge_index": inverse[edges]}),
    ):
        one = border_weight(image, sigma=2.0, **kwargs)
        other = border_weight(names[image][perm], sigma=2.0, **moved)
        torch.testing.assert_close(one[perm], other, rtol=0, atol=1e-12)


def test_large_image_takes_about_a_second():
    """512 x 512 with 100 instances. The bound leaves room for a busy machine."""
    image = discs(512, 10, 24)
    instance, pos = torch.from_numpy(image).flatten(), grid_pos(512, 512)
    begin = time.process_time()
    found = border_weight(instance, pos)
    assert time.process_time() - begin < 6.0
    expected = by_edt(image, 10.0, 5.0, True)
    np.testing.assert_allclose(found.view(512, 512).numpy(), expected, rtol=0, atol=1e-6)


class TestConnectedInstances:
    def test_against_scipy_ndimage(self):
        rng = np.random.default_rng(0)
        image = (rng.random((40, 50)) < 0.55).astype(np.int64)
        for connectivity, structure in ((4, None), (8, np.ones((3, 3)))):
            expected, _ = ndimage.label(image, structure)
            label = torch.from_numpy(image).flatten()
            found = connected_instances(label, grid_edges(40, 50, connectivity))
            assert np.array_equal(found.view(40, 50).numpy(), expected)

    def test_different_labels_do_not_join(self):
        path = torch.stack([torch.arange(4), torch.arange(1, 5)])
        label = torch.tensor([1, 1, 2, 2, 1])
        assert connected_instances(label, path).tolist() == [1, 1, 2, 2, 3]
        assert connected_instances(label, path.flip(0)).tolist() == [1, 1, 2, 2, 3]
        assert connected_instances(label, path, background=2).tolist() == [1, 1, 0, 0, 2]
        assert connected_instances(label * 0, path).tolist() == [0] * 5
        assert connected_instances(label[:0], path[:, :0]).shape == (0,)

    def test_instances_refuse_by_name(self):
        path = torch.tensor([[0, 1], [1, 2]])
        with pytest.raises(TypeError, match="'label'.*float32"):
            connected_instances(torch.zeros(3), path)
        with pytest.raises(IndexError, match="'edge_index'.*got 2"):
            connected_instances(torch.zeros(2, dtype=torch.int64), path)


def test_border_weight_refuses_by_name():
    instance, pos = torch.tensor([1, 0, 2]), torch.zeros(3, 2)
    edges = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="'sigma'.*-1"):
        border_weight(instance, pos, sigma=-1)
    with pytest.raises(ValueError, match="'sigma'.*0"):
        border_weight(instance, pos, sigma=0)
    with pytest.raises(ValueError, match="'w0'.*-2"):
        border_weight(instance, pos, w0=-2)
    with pytest.raises(TypeError, match="'w0'.*'10'"):
        border_weight(instance, pos, w0="10")
    with pytest.raises(TypeError, match="'background_only'.*1"):
        border_weight(instance, pos, background_only=1)
    with pytest.raises(TypeError, match="'instance'.*float32"):
        border_weight(instance.float(), pos)
    with pytest.raises(ValueError, match=r"'instance'.*\[3, 1\]"):
        border_weight(instance.view(3, 1), pos)
    with pytest.raises(ValueError, match=r"'pos' must have 3 rows.*\[2, 2\]"):
        border_weight(instance, pos[:2])
    with pytest.raises(ValueError, match="'pos' must be finite"):
        border_weight(instance, pos.log() * 0)
    with pytest.raises(ValueError, match="'pos' or 'edge_index'"):
        border_weight(instance)
    with pytest.raises(ValueError, match="'edge_length' has no use"):
        border_weight(instance, pos, edges, edge_length=torch.ones(2))
    with pytest.raises(ValueError, match="'edge_length' must be at least 0.*-1"):
        border_weight(instance, edge_index=edges, edge_length=-torch.ones(2))
    with pytest.raises(ValueError, match="'edge_length' must have shape"):
        border_weight(instance, edge_index=edges, edge_length=torch.ones(3))
    with pytest.raises(IndexError, match="'edge_index'.*got 3"):
        border_weight(instance, edge_index=edges + 1)
    with pytest.raises(ValueError, match="'batch' must be sorted"):
        border_weight(instance, pos, batch=torch.tensor([1, 0, 0]))
    with validation(False):
        border_weight(instance, pos, batch=torch.tensor([1, 0, 0]))


def test_scipy_gets_32_bit_indices(monkeypatch):
    """Of 64-bit ones older versions of scipy make wrong components in silence."""
    from pyg_gunet.functional import border

    seen = []

    def spy(call):
        def spied(graph, *args, **kwargs):
            seen.append((graph.indices.dtype, graph.indptr.dtype))
            return call(graph, *args, **kwargs)

        return spied

    for name in ("connected_components", "dijkstra"):
        monkeypatch.setattr(border, name, spy(getattr(border, name)))
    path = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    label = torch.tensor([1, 1, 2, 0, 1, 1])
    assert connected_instances(label, path).tolist() == [1, 1, 2, 0, 3, 3]
    assert border_weight(torch.tensor([1, 1, 0, 0, 2, 2]), edge_index=path)[2] > 0
    assert seen == [(np.dtype("int32"), np.dtype("int32"))] * 3
