"""Masked auto-encoding: what is hidden stays hidden."""

import pytest
import torch
from torch_geometric.utils import to_undirected

from pyg_gunet import GraphUNetAutoEncoder
from pyg_gunet.train.probe import probe
from tests.conftest import random_graph


def _model(**options):
    torch.manual_seed(0)
    return GraphUNetAutoEncoder(
        5, 8, depth=1, skip="cat", loss_fn="sce", **{"mask": 0.5, **options}
    )


def _graph():
    edge_index = random_graph(40, 80, weighted=False, loops=False).edge_index
    return torch.randn(40, 5), to_undirected(edge_index, num_nodes=40)


def test_as_many_nodes_as_asked_are_hidden_and_loss_learns_every_part():
    model, (x, edge_index) = _model(), _graph()
    x_hat, mask = model.masked(x, edge_index)
    assert x_hat.shape == x.shape
    assert int(mask.sum()) == 20
    model.loss(x_hat, x, mask).backward()
    for name, parameter in model.mask_decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_hidden_features_do_not_reach_the_prediction():
    model, (x, edge_index) = _model(replace=0.0), _graph()
    torch.manual_seed(1)
    first, mask = model.masked(x, edge_index)
    other = torch.where(mask.view(-1, 1), 100 * torch.randn_like(x), x)
    torch.manual_seed(1)
    second, again = model.masked(other, edge_index)
    assert torch.equal(mask, again)
    assert torch.equal(first, second)


def test_decoder_reads_nothing_of_hidden_nodes():
    model = _model()
    mask = torch.arange(40) % 3 == 0
    h = model.mask_decoder.hide_again(torch.randn(40, 8), mask)
    assert (h[mask] == 0).all()
    assert (h[~mask] != 0).any(1).all()


def test_replaced_nodes_take_rows_of_the_input():
    model, (x, _) = _model(replace=1.0), _graph()
    seen, mask = model.mask_decoder.hide(x)
    rows = {tuple(row) for row in x.tolist()}
    assert all(tuple(row) in rows for row in seen[mask].tolist())


def test_without_mask_there_are_no_such_parts():
    model, (x, edge_index) = GraphUNetAutoEncoder(5, 8), _graph()
    assert not [name for name in model.state_dict() if "mask" in name]
    with pytest.raises(ValueError, match="'mask'"):
        model.masked(x, edge_index)


@pytest.mark.parametrize("options", [{"mask": 0.0}, {"mask": 1}, {"mask": -0.2}, {"replace": 2.0}])
def test_bad_shares_are_named(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}'"):
        _model(**options)


def test_probe_reads_separable_classes_and_chooses_by_validation():
    torch.manual_seed(3)
    y = torch.arange(90) % 3
    h = torch.eye(3)[y] + 0.1 * torch.randn(90, 3)
    part = torch.arange(90) // 30
    found = probe(h, y, part == 0, part == 1, part == 2)
    assert found["test_accuracy"] == 1.0
    shuffled = y.clone()
    shuffled[part == 2] = (y[part == 2] + 1) % 3  # wrong test labels change no choice
    wrong = probe(h, shuffled, part == 0, part == 1, part == 2)
    assert wrong["epoch"] == found["epoch"]
    assert wrong["test_accuracy"] == 0.0


@pytest.mark.parametrize("dataset", ["karate", "ring"])
def test_fit_masked(tmp_path, capsys, dataset):
    from pyg_gunet.cli import main

    fit = ["fit", "--task", "autoencode", "--mask", "0.5", "--dataset", dataset, "--epochs", "2"]
    assert main([*fit, "--hidden-channels", "8", "--out", str(tmp_path / "run")]) == 0
    assert "masked_loss" in capsys.readouterr().out
