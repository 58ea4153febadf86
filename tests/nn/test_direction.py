"""The directed convolution, against torch's on pictures and against its formula."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from pyg_gunet.nn import direction
from pyg_gunet.nn.direction import DirectionConv, sector_means
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.transforms import ToGrid


def grid(height=5, width=7, channels=3):
    torch.manual_seed(0)
    image = torch.randn(channels, height, width)
    data = ToGrid()(image)
    row, col = data.edge_index
    return image, data.x, data.edge_index, (data.pos[col] - data.pos[row]).float()


def test_on_pixels_it_is_the_convolution_of_a_filter():
    image, x, edges, offset = grid()
    conv = DirectionConv(3, 4)
    filters = torch.zeros(4, 3, 3, 3)
    parts = conv.lin.weight.detach().view(4, 9, 3)
    filters[:, :, 1, 1] = parts[:, 0]
    for s in range(8):
        turn = 2 * math.pi * s / 8
        dx, dy = round(math.cos(turn)), round(math.sin(turn))
        # The offset points from the neighbour to the pixel.
        filters[:, :, 1 - dy, 1 - dx] = parts[:, 1 + s]
    expected = torch.nn.functional.conv2d(image[None], filters, conv.lin.bias, padding=1)[0]
    torch.testing.assert_close(conv(x, edges, offset), expected.flatten(1).t())


def dense(conv, x, edges, offset):
    """The formula, edge by edge."""
    mass = torch.zeros(len(x), conv.sectors, dtype=x.dtype)
    near = torch.zeros(len(x), conv.sectors, x.size(1), dtype=x.dtype)
    for (j, i), (dx, dy) in zip(edges.t().tolist(), offset.tolist()):
        if dx == dy == 0:
            continue
        turn = math.atan2(dy, dx) / (2 * math.pi) * conv.sectors
        for s in range(conv.sectors):
            gap = abs((turn - s + conv.sectors / 2) % conv.sectors - conv.sectors / 2)
            share = max(0.0, 1 - gap)
            mass[i, s] += share
            near[i, s] += share * x[j]
    near = near / mass.clamp(min=1e-12).unsqueeze(-1)
    return conv.lin(torch.cat([x, near.flatten(1)], dim=1))


@pytest.mark.parametrize("sectors", [2, 5, 8])
def test_formula_and_gradients(sectors):
    torch.manual_seed(1)
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    edges = torch.randint(9, (2, 40))
    offset = torch.randn(40, 2, dtype=torch.float64)
    offset[3] = 0
    conv = DirectionConv(2, 3, sectors).double()
    out, expected = conv(x, edges, offset), dense(conv, x, edges, offset)
    torch.testing.assert_close(out, expected)
    own = torch.autograd.grad(out.square().sum(), [x, conv.lin.weight])
    other = torch.autograd.grad(expected.square().sum(), [x, conv.lin.weight])
    torch.testing.assert_close(own, other)
    perm = torch.randperm(9)
    back = torch.empty_like(perm).scatter(0, perm, torch.arange(9))
    torch.testing.assert_close(conv(x[perm], back[edges], offset), out[perm])


def test_a_changed_graph_is_noticed_and_the_same_one_read_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        direction, "sector_means", lambda *args: made.append(args) or sector_means(*args)
    )
    _, x, edges, offset = grid()
    conv = DirectionConv(3, 4)
    assert torch.equal(conv(x, edges, offset), conv(x, edges, offset))
    assert len(made) == 1
    first = conv(x, edges, offset)
    other = conv(x, edges, -offset)
    assert not torch.allclose(first, other)
    offset.neg_()
    torch.testing.assert_close(conv(x, edges, offset), other)
    torch.testing.assert_close(copy.deepcopy(conv)(x, edges, offset), other)
    torch.testing.assert_close(conv.double()(x.double(), edges, offset), other.double())


def test_inside_a_unet():
    _, x, edges, offset = grid()
    words = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
    torch.manual_seed(0)
    net = GraphUNet(3, 8, 2, 2, conv=DirectionConv, **words)
    out = net(x, edges, edge_attr=offset)
    assert out.shape == (35, 2)
    out.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.down_convs.parameters())


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"edge_attr": torch.zeros(2)}, ValueError, r"'edge_attr' must hold an offset"),
        ({"edge_attr": torch.zeros(2, 3)}, ValueError, r"'edge_attr' must hold an offset"),
        ({"edge_attr": torch.zeros(1, 2)}, ValueError, "'edge_attr'"),
        ({"edge_attr": torch.full((2, 2), torch.nan)}, ValueError, "'edge_attr'"),
        ({"x": torch.zeros(3, 5)}, ValueError, "'x'"),
        ({"edge_index": torch.tensor([[0, 9], [1, 0]])}, IndexError, "'edge_index'"),
    ],
)
def test_bad_input(change, error, match):
    good = {
        "x": torch.zeros(3, 4),
        "edge_index": torch.tensor([[0, 1], [1, 0]]),
        "edge_attr": torch.ones(2, 2),
    }
    with pytest.raises(error, match=match):
        DirectionConv(4, 2)(**{**good, **change})
    with pytest.raises(ValueError, match="'sectors'"):
        DirectionConv(4, 2, 1)
