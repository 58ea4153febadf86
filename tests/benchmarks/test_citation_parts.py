"""What the benchmarks on citation graphs take for speed gives the figures of the plain way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCN
from torch_geometric.utils import to_undirected


def words(n: int = 60, f: int = 150, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(n, f, generator=generator) < 0.05).float()
    x[0], x[:, 3] = 0.0, 0.0  # a node without words, and a word in no node
    edge_index = to_undirected(torch.randint(n, (2, 150), generator=generator), num_nodes=n)
    return Data(x=x, edge_index=edge_index, y=torch.randint(3, (n,), generator=generator))


def grads(model, x, edge_index):
    model.zero_grad()
    out = model(x, edge_index)
    out.square().sum().backward()
    return out, [p.grad.clone() for _, p in sorted(model.named_parameters())]


@pytest.mark.parametrize("kind", ["gcn", "gat", "grand", "mixed"])
def test_words_enter_as_through_a_linear_map(kind):
    from _classification_nodes import Grand, WordLinear, enter_by_words

    from pyg_gunet import MixedGraphUNet

    data = words()
    torch.manual_seed(0)
    model = {
        "gcn": lambda: GCN(150, 8, 2, 3),
        "gat": lambda: GAT(150, 8, 2, 3),
        "grand": lambda: Grand(150, 8, 3, 2, 0.5),
        "mixed": lambda: MixedGraphUNet(150, 8, 3, 1, steps=2),
    }[kind]()
    model.eval()
    before = grads(model, data.x, data.edge_index)
    enter_by_words(model, data.x)
    assert sum(isinstance(m, WordLinear) for m in model.modules()) == 1
    dropped = data.x * (torch.rand(60, 1) < 0.5)
    for x, expected in ((data.x, before), (dropped, None)):
        after = grads(model, x, data.edge_index)
        if expected is not None:
            torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
        elif kind == "grand":  # rows left out count as zeros
            lin = model.first
            torch.testing.assert_close(lin(x), F.linear(x, lin.weight, lin.bias))


def test_a_network_that_drops_mixed_features_keeps_its_linear_map():
    from _classification_nodes import WordLinear, enter_by_words

    from pyg_gunet import MixedGraphUNet

    model = MixedGraphUNet(150, 8, 3, 1, mixed_dropout=0.5)
    enter_by_words(model, words().x)
    assert not any(isinstance(module, WordLinear) for module in model.modules())


def test_mixing_by_blocks_of_columns_and_its_gradient():
    from _classification_nodes import BLOCK, Grand

    data = words()
    assert data.x.size(1) > BLOCK
    model = Grand(150, 8, 3, 3, 0.0)
    x = data.x.clone().requires_grad_()
    a = torch.eye(60)
    a[data.edge_index[0], data.edge_index[1]] = 1.0
    scale = a.sum(0).rsqrt()
    a = scale[:, None] * a * scale
    mean = sum(torch.matrix_power(a, k) for k in range(4)) / 4
    out = model.mixed(x, data.edge_index)
    torch.testing.assert_close(out, mean @ data.x)
    weight = torch.randn(60, 150)
    (out * weight).sum().backward()
    torch.testing.assert_close(x.grad, mean.T @ weight)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_dropout_by_bits_is_dropout(p):
    from _classification_nodes import entry_dropout

    torch.manual_seed(0)
    x = torch.ones(301, 70)
    out = entry_dropout(x, p)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    assert (out == 0).float().mean() == pytest.approx(p, abs=0.02)
    assert (out == 0).float().mean(0).sub(p).abs().max() < 0.15  # no column apart
    bits = (out > 0).float() - (1 - p)
    assert (bits[1:] * bits[:-1]).mean().abs() < 0.01  # nor neighbours alike
    assert not torch.equal(out, entry_dropout(x, p))


def test_the_coarse_encoder_of_links_has_the_same_weights():
    from _masked_links import Settings, make

    data = words()
    settings = Settings(width=8, layers=3, dropout=0.0)
    flat, ours = (make(150, settings, levels).eval() for levels in (False, True))
    assert ours.coarse == [False, True, False]
    own = [name for name, _ in ours.named_parameters() if not name.startswith("net.")]
    assert own == [name for name, _ in flat.named_parameters()]
    # The middle layer of ours by hand: restriction, a convolution of the coarse level, prolongation
    first, middle, last = ours(data.x, data.edge_index)[0]
    hierarchy = ours.net.prepare(data.edge_index, num_nodes=60)
    transfer, (edges, weight) = hierarchy.transfers[0], hierarchy.levels[1].edges()
    x = ours.norms[1](ours.convs[1](transfer.restrict(first), edges, weight))
    torch.testing.assert_close(middle, transfer.prolong(F.elu(x)))
    x = ours.norms[2](ours.convs[2](first + middle, data.edge_index))
    torch.testing.assert_close(last, F.elu(x))


def test_a_seed_repeats_a_run_on_links():
    from _masked_links import Settings, train_links

    data, settings = words(), Settings(width=8, layers=2, decoder_width=4)
    (one, row), (again, _) = (train_links(data, True, 3, 3, settings) for _ in range(2))
    assert torch.equal(one, again)
    assert row["steps"] == 3
    assert not torch.equal(one, train_links(data, True, 4, 3, settings)[0])
