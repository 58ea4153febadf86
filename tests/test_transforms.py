"""Image to graph and back, and border weights on graphs."""

from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose
from torch_geometric.utils import to_networkx

from pyg_gunet.functional.border import border_weight
from pyg_gunet.transforms import (
    BorderWeight,
    ToGrid,
    ToSuperpixels,
    grid_edges,
    to_label_image,
)


def quarters(height=30, width=40):
    """An image of four quarters of different grey, with the quarter as label."""
    row, column = np.mgrid[:height, :width]
    label = torch.from_numpy(2 * (row >= height // 2) + (column >= width // 2))
    return (label / 4.0).float().expand(3, -1, -1).clone(), label


class TestGrid:
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2), (3, 7), (6, 4)])
    @pytest.mark.parametrize("connectivity", [4, 8])
    def test_edges_by_definition(self, size, connectivity):
        height, width = size
        expected = [
            [a * width + b, c * width + d]
            for a in range(height)
            for b in range(width)
            for c in range(height)
            for d in range(width)
            if 0 < (a - c) ** 2 + (b - d) ** 2 <= (1 if connectivity == 4 else 2)
        ]
        found = grid_edges(height, width, connectivity)
        assert found.dtype == torch.int64
        assert found.shape == (2, len(expected))
        assert found.t().tolist() == sorted(expected)

    def test_against_networkx(self):
        data = ToGrid(connectivity=4)(torch.rand(1, 5, 6))
        assert data.is_undirected()
        assert data.is_coalesced()
        graph = to_networkx(data, to_undirected=True)
        assert nx.is_isomorphic(graph, nx.grid_2d_graph(5, 6))

    def test_nodes(self):
        img = torch.rand(3, 4, 5)
        label = torch.arange(20).view(4, 5).to(torch.uint8)
        data = ToGrid()(img, y=label, instance=label % 3)
        node = 2 * 5 + 3  # row 2, column 3
        assert data.x[node].equal(img[:, 2, 3])
        assert data.pos[node].tolist() == [3.0, 2.0]
        assert data.y[node] == 13
        assert data.y.dtype == data.instance.dtype == torch.int64
        assert data.instance[node] == 1
        assert data.image_size.tolist() == [[4, 5]]
        assert ToGrid()(img[0]).x.shape == (20, 1)

    def test_and_back(self):
        images = [torch.rand(1, 4, 5), torch.rand(1, 3, 6)]
        graphs = [ToGrid()(img) for img in images]
        assert to_label_image(graphs[0].x[:, 0], graphs[0]).equal(images[0][0])
        batch = Batch.from_data_list(graphs)
        back = to_label_image(batch.x[:, 0], batch)
        assert all(one.equal(img[0]) for one, img in zip(back, images, strict=True))
        assert to_label_image(torch.rand(20, 2), graphs[0]).shape == (4, 5, 2)

    def test_composes(self):
        img, _ = quarters()
        assert Compose([ToGrid(), BorderWeight()]).transforms[0].connectivity == 8
        assert Compose([ToGrid(4)])(img).num_nodes == 1200

    def test_a_megapixel_in_half_a_second(self):
        """The bound leaves room for a busy machine."""
        img = torch.rand(1, 1024, 1024)
        begin = time.process_time()
        data = ToGrid(connectivity=8)(img)
        assert time.process_time() - begin < 2.0
        assert data.num_edges == 2 * (2 * 1024 * 1023 + 2 * 1023 * 1023)

    def test_to_grid_refuses_by_name(self):
        with pytest.raises(ValueError, match="'connectivity'.*6"):
            ToGrid(6)
        with pytest.raises(TypeError, match="'img'.*ndarray"):
            ToGrid()(np.zeros((3, 4, 4)))
        with pytest.raises(TypeError, match="'img'.*uint8"):
            ToGrid()(torch.zeros(3, 4, 4, dtype=torch.uint8))
        with pytest.raises(ValueError, match=r"'img'.*\[1, 3, 4, 4\]"):
            ToGrid()(torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match=r"'img'.*\[3, 0, 4\]"):
            ToGrid()(torch.zeros(3, 0, 4))
        with pytest.raises(ValueError, match=r"'y'.*\[4, 4\].*\[4, 5\]"):
            ToGrid()(torch.zeros(3, 4, 4), y=torch.zeros(4, 5, dtype=torch.int64))
        with pytest.raises(TypeError, match="'instance'.*float32"):
            ToGrid()(torch.zeros(3, 4, 4), instance=torch.zeros(4, 4))
        with pytest.raises(ValueError, match="'height'.*0"):
            grid_edges(0, 3)


class TestSuperpixels:
    skimage = pytest.importorskip("skimage", reason="needs scikit-image")

    def test_quarters(self):
        img, label = quarters()
        data = ToSuperpixels(n_segments=4, compactness=0.1)(img, y=label, instance=label + 1)
        assert data.num_nodes == 4
        order = data.y.argsort()
        assert data.y[order].tolist() == [0, 1, 2, 3]
        assert data.instance.equal(data.y + 1)
        torch.testing.assert_close(data.x[order, 0], torch.arange(4) / 4.0)
        # (column, row) of the centre of the quarter at the upper right
        assert data.pos[order][1].tolist() == [29.5, 7.0]
        assert to_label_image(data.y, data).equal(label)
        # Quarters side by side touch along 15 or 20 pixels; those across do not.
        position = order.argsort()
        edges = {
            tuple(position[e].tolist()): int(n)
            for e, n in zip(data.edge_index.t(), data.edge_attr, strict=True)
        }
        sides = {(0, 1): 15, (2, 3): 15, (0, 2): 20, (1, 3): 20}
        assert edges == {**sides, **{(b, a): n for (a, b), n in sides.items()}}

    def test_against_a_loop_over_pixels(self):
        generator = torch.Generator().manual_seed(0)
        img, _ = quarters()
        img += 0.02 * torch.rand(img.shape, generator=generator)
        label = torch.randint(-1, 3, (30, 40), generator=generator)
        data = ToSuperpixels(n_segments=30)(img, y=label)
        seg = data.seg.view(30, 40)
        assert data.num_nodes == int(seg.max()) + 1 > 10
        touching = set()
        for a in range(30):
            for b in range(40):
                for c, d in ((a + 1, b), (a, b + 1)):
                    if c < 30 and d < 40 and seg[a, b] != seg[c, d]:
                        one, other = int(seg[a, b]), int(seg[c, d])
                        touching |= {(one, other), (other, one)}
        assert set(map(tuple, data.edge_index.t().tolist())) == touching
        assert data.is_coalesced()
        for node in range(data.num_nodes):
            votes = label[seg == node].tolist()
            assert int(data.y[node]) == min(sorted(set(votes)), key=lambda v: -votes.count(v))

    def test_batch_and_back(self):
        img, label = quarters()
        graphs = [
            ToSuperpixels(4, compactness=0.1)(part, y=label[:, : part.size(2)])
            for part in (img, img[:, :, :30])
        ]
        batch = Batch.from_data_list(graphs)
        one, other = to_label_image(batch.y, batch)
        assert one.equal(label)
        assert other.shape == (30, 30)
        assert one[:, :20].equal(other[:, :20])

    def test_superpixels_refuse_by_name(self):
        with pytest.raises(ValueError, match="'n_segments'.*0"):
            ToSuperpixels(0)
        with pytest.raises(TypeError, match="'img'.*uint8"):
            ToSuperpixels()(torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_a_label_image_refuses_by_name():
    data = ToGrid()(torch.rand(1, 4, 5))
    with pytest.raises(ValueError, match=r"'label' must have 20 rows.*\[19\]"):
        to_label_image(torch.zeros(19), data)
    with pytest.raises(ValueError, match="'image_size'"):
        to_label_image(torch.zeros(20), Data(x=torch.zeros(20, 1)))
    with pytest.raises(TypeError, match="'label'.*list"):
        to_label_image([0] * 20, data)


class TestBorderWeight:
    # Two instances of one class, a gap of two pixels, and a third at the end.
    label = torch.tensor([[1, 1, 0, 0, 1, 1, 0, 2]])

    def data(self, instance=None):
        return ToGrid()(torch.rand(1, 1, 8), y=self.label, instance=instance)

    def test_components_of_equal_label(self):
        data = BorderWeight(class_weight=None)(self.data())
        expected = 1 + border_weight(torch.tensor([1, 1, 0, 0, 2, 2, 0, 3]), data.pos)
        assert data.border_weight.dtype == data.x.dtype
        torch.testing.assert_close(data.border_weight, expected.float())
        assert data.border_weight[2] > 5

    def test_given_instances(self):
        instance = torch.tensor([[7, 7, 0, 0, 7, 7, 0, 9]])
        data = BorderWeight(class_weight=None)(self.data(instance))
        expected = 1 + border_weight(instance.flatten(), data.pos)
        torch.testing.assert_close(data.border_weight, expected.float())
        data = Data(x=torch.rand(8, 1), instance=instance.flatten(), pos=data.pos)
        found = BorderWeight()(data).border_weight  # without classes: something or nothing
        assert float(found[0]) == pytest.approx(8 / (2 * 5))

    def test_balance(self):
        weight = BorderWeight(w0=0.0)(self.data()).border_weight
        expected = {0: 8 / (3 * 3), 1: 8 / (3 * 4), 2: 8 / (3 * 1)}
        torch.testing.assert_close(
            weight, torch.tensor([expected[k] for k in self.label[0].tolist()])
        )
        for k in expected:  # every class weighs the same in sum
            assert float(weight[self.label[0] == k].sum()) == pytest.approx(8 / 3)
        weight = BorderWeight(w0=0.0, class_weight=[1.0, 2.0, 5.0])(self.data()).border_weight
        assert weight.tolist() == [2, 2, 1, 1, 2, 2, 1, 5]

    def test_one_instance_and_none(self):
        for label in (torch.tensor([[0, 1, 1, 0]]), torch.zeros(1, 4, dtype=torch.int64)):
            data = ToGrid()(torch.rand(1, 1, 4), y=label)
            assert BorderWeight(class_weight=None)(data).border_weight.eq(1).all()

    def test_along_the_graph(self):
        data = self.data()
        data.pos = None
        found = BorderWeight(class_weight=None, sigma=2.0)(data).border_weight
        expected = 1 + border_weight(
            torch.tensor([1, 1, 0, 0, 2, 2, 0, 3]), edge_index=data.edge_index, sigma=2.0
        )
        torch.testing.assert_close(found, expected.float())
        data.edge_attr = torch.full((data.num_edges, 1), 2.0)
        longer = BorderWeight(class_weight=None, sigma=4.0, edge_length="edge_attr")(data)
        torch.testing.assert_close(longer.border_weight, found)

    def test_ignored_nodes(self):
        label = self.label.clone()
        label[0, 4:6] = 255
        data = ToGrid()(torch.rand(1, 1, 8), y=label)
        weight = BorderWeight(ignore_index=255)(data).border_weight
        assert weight[4:6].tolist() == [0, 0]
        assert float(weight[0]) == pytest.approx(6 / (3 * 2))
        expected = 6 / (3 * 3) + border_weight(torch.tensor([1, 1, 0, 0, 0, 0, 0, 2]), data.pos)
        assert float(weight[2]) == pytest.approx(float(expected[2]))

    def test_batch_equals_alone(self):
        graphs = [self.data(), self.data()]
        batch = Batch.from_data_list(graphs)
        together = BorderWeight(class_weight=None)(batch).border_weight
        alone = BorderWeight(class_weight=None)(graphs[0]).border_weight
        torch.testing.assert_close(together, alone.repeat(2))

    def test_leaves_its_input_alone(self):
        data = self.data()
        BorderWeight()(data)
        assert "border_weight" not in data

    def test_border_weight_refuses_by_name(self):
        data = self.data()
        with pytest.raises(ValueError, match="'y' or 'instance'"):
            BorderWeight()(Data(x=torch.rand(3, 1)))
        with pytest.raises(ValueError, match="'y' must lie in .*got 2"):
            BorderWeight(class_weight=[1.0, 2.0])(data)
        with pytest.raises(ValueError, match="'y' must hold one integer label"):
            BorderWeight()(Data(x=torch.rand(3, 1), y=torch.zeros(1, dtype=torch.int64)))
        with pytest.raises(ValueError, match="'instance' must have shape"):
            BorderWeight()(Data(x=data.x, y=data.y, instance=data.y[:3], pos=data.pos))
        with pytest.raises(ValueError, match="'instance' or 'edge_index'"):
            BorderWeight()(Data(x=data.x, y=data.y, pos=data.pos))
        with pytest.raises(ValueError, match="'edge_length' 'length'"):
            BorderWeight(edge_length="length")(Data(data.x, data.edge_index, y=data.y))
        with pytest.raises(ValueError, match="'sigma'.*0"):
            BorderWeight(sigma=0)
        with pytest.raises(ValueError, match="'w0'.*-1"):
            BorderWeight(w0=-1)
        with pytest.raises(ValueError, match="'class_weight'.*'even'"):
            BorderWeight(class_weight="even")
        with pytest.raises(ValueError, match="'class_weight'.*-1"):
            BorderWeight(class_weight=[1.0, -1.0])
        with pytest.raises(ValueError, match="'background_only'.*2"):
            BorderWeight(background_only=2)
        assert repr(BorderWeight()) == "BorderWeight(w0=10.0, sigma=5.0)"
        assert repr(ToGrid(4)) == "ToGrid(connectivity=4)"
        assert repr(ToSuperpixels(75)) == "ToSuperpixels(n_segments=75)"


def from_another_image() -> None:
    data = ToGrid()(torch.rand(1, 2, 3))
    data.image_size = torch.tensor([[3, 3]])
    to_label_image(torch.arange(6), data)


CALLS = {
    "class_weight": (
        lambda: BorderWeight(class_weight=["a"]),
        TypeError,
        r"'class_weight'.*\['a'\]",
    ),
    "edge_length": (lambda: BorderWeight(edge_length=3), TypeError, "'edge_length'.*3"),
    "data": (lambda: BorderWeight()(3), TypeError, "'data'.*int"),
    "data of an image": (lambda: to_label_image(torch.zeros(2), 3), TypeError, "'data'.*int"),
    "slic": (lambda: ToSuperpixels(9, sharpness=1), TypeError, "'sharpness'.*slic"),
    "another image": (from_another_image, ValueError, "'label' must have 9 rows.*6"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_transform_refuses_by_name(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()
