"""OGB's sets: files in their layout, written from a small real graph, read by OGB's classes."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.datasets import KarateClub

from pyg_gunet.data import load
from pyg_gunet.files import check_pickle, read_torch
from pyg_gunet.train import evaluate, fit, load_run

pytest.importorskip("ogb", reason="needs ogb")


def write(path: Path, rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    np.savetxt(text, np.asarray(rows).reshape(len(rows), -1), fmt="%g", delimiter=",")
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def arxiv(root: Path) -> Path:
    """Zachary's karate club as ogbn-arxiv: directed edges, features, a class and a year a node."""
    data, folder = KarateClub()[0], root / "ogbn_arxiv"
    once = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    write(folder / "raw" / "edge.csv.gz", once.t().numpy())
    write(folder / "raw" / "node-feat.csv.gz", data.x.numpy())
    write(folder / "raw" / "node-label.csv.gz", data.y.numpy())
    write(folder / "raw" / "node_year.csv.gz", 1990 + np.arange(34))
    write(folder / "raw" / "num-node-list.csv.gz", [34])
    write(folder / "raw" / "num-edge-list.csv.gz", [once.size(1)])
    order = np.random.default_rng(0).permutation(34)
    for part, nodes in zip(("train", "valid", "test"), np.split(order, [16, 24])):
        write(folder / "split" / "time" / f"{part}.csv.gz", nodes)
    (folder / "RELEASE_v1.txt").touch()
    return folder


def molhiv(root: Path, num_graphs: int = 10) -> Path:
    """Rings as molecules of ogbg-molhiv: atoms and bonds as integers, one class a graph."""
    folder, sizes = root / "ogbg_molhiv", np.arange(num_graphs) + 3
    rings = [[(i, (i + 1) % n) for i in range(n)] for n in sizes]
    edges = np.concatenate(rings)
    rng = np.random.default_rng(0)
    write(folder / "raw" / "edge.csv.gz", edges)
    write(folder / "raw" / "edge-feat.csv.gz", rng.integers(0, 3, (len(edges), 3)))
    write(folder / "raw" / "node-feat.csv.gz", rng.integers(0, 9, (sizes.sum(), 9)))
    write(folder / "raw" / "graph-label.csv.gz", np.arange(num_graphs) % 2)
    write(folder / "raw" / "num-node-list.csv.gz", sizes)
    write(folder / "raw" / "num-edge-list.csv.gz", sizes)
    for part, graphs in zip(("train", "valid", "test"), np.split(np.arange(num_graphs), [4, 6])):
        write(folder / "split" / "scaffold" / f"{part}.csv.gz", graphs)
    (folder / "RELEASE_v1.txt").touch()
    return folder


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    """A question on the standard input, and the network, are errors."""

    def fail(*args):
        pytest.fail(f"the user was asked {args}")

    def offline(*args, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("builtins.input", fail)
    monkeypatch.setattr("urllib.request.urlopen", offline)


@pytest.mark.parametrize("below", ["", "ogb"])
def test_arxiv_is_what_was_written(tmp_path, capsys, below):
    arxiv(tmp_path / below)
    dataset = load("ogbn-arxiv", tmp_path)
    assert (len(dataset), dataset.num_classes, dataset.name) == (1, 40, "ogbn-arxiv")
    data, karate = dataset[0], KarateClub()[0]
    assert torch.equal(data.x, karate.x)
    assert torch.equal(data.y, karate.y)
    assert data.x.dtype == torch.float32
    assert data.num_edges == karate.num_edges // 2
    assert data.node_year.view(-1).tolist() == list(range(1990, 2024))
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask])
    assert masks.sum(1).tolist() == [16, 8, 10]
    assert masks.sum(0).tolist() == [1] * 34
    again = load("ogbn-arxiv", tmp_path)[0]  # from what was processed
    assert torch.equal(again.x, data.x)
    assert capsys.readouterr().out == ""


def test_figures_are_those_of_ogbs_evaluator(tmp_path, quick_pictures):
    """The split is that of OGB's own class, and our accuracy what its evaluator says."""
    from ogb.nodeproppred import Evaluator

    arxiv(tmp_path)
    run = fit(
        "ogbn-arxiv", "classify", tmp_path / "run",
        root=str(tmp_path), epochs=20, depth=1, hidden_channels=16, accelerator="cpu",
    )  # fmt: skip
    module, held = load_run(run.folder)
    held.setup()
    data = held.whole
    with torch.no_grad():
        pred = module(data).argmax(1, keepdim=True)
    test = data.test_mask
    score = Evaluator("ogbn-arxiv").eval({"y_true": data.y[test].view(-1, 1), "y_pred": pred[test]})
    assert run.figures["test_accuracy"] == pytest.approx(score["acc"])
    assert evaluate(run.folder)["test_accuracy"] == run.figures["test_accuracy"]
    assert 0 < score["acc"] <= 1


def test_molhiv_has_parts_and_trains(tmp_path, quick_pictures):
    from ogb.graphproppred import Evaluator

    molhiv(tmp_path)
    dataset = load("ogbg-molhiv", tmp_path)
    assert len(dataset) == 10
    assert [data.num_nodes for data in dataset] == list(range(3, 13))
    assert dataset[3].x.dtype == torch.float32
    assert dataset[3].num_edges == 12  # OGB adds the inverse edges of a molecule
    assert [part.tolist() for part in dataset.parts] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]
    y = torch.cat([dataset[int(i)].y for i in dataset.parts[2]])
    score = Evaluator("ogbg-molhiv").eval({"y_true": y, "y_pred": y.float() + 0.1})
    assert score["rocauc"] == 1.0
    run = fit(
        "ogbg-molhiv", out=tmp_path / "run",
        root=str(tmp_path), epochs=2, depth=1, hidden_channels=8, accelerator="cpu",
    )  # fmt: skip
    assert run.figures["split"] == "the data set's own split: 4 train, 2 validation, 4 test"


def test_files_of_another_release_are_taken_without_a_question(tmp_path):
    (arxiv(tmp_path) / "RELEASE_v1.txt").unlink()
    with pytest.warns(UserWarning, match="another release"):
        assert load("ogbn-arxiv", tmp_path)[0].num_nodes == 34


@pytest.mark.parametrize(
    "name, file", [("ogbn-arxiv", "node-feat.csv.gz"), ("ogbg-molhiv", "graph-label.csv.gz")]
)
def test_a_failed_download_says_which_files_and_where(tmp_path, name, file):
    with pytest.raises(FileNotFoundError, match="cannot download .*no network") as error:
        load(name, tmp_path / "data")
    assert file in str(error.value)
    assert str(tmp_path / "data" / name.replace("-", "_") / "raw") in str(error.value)
    assert not (tmp_path / "data").exists()  # nothing is left behind


def test_more_than_a_gigabyte_is_not_fetched(tmp_path, monkeypatch):
    class Reply(io.BytesIO):
        headers = {"Content-Length": str(3 * 2**30)}

    monkeypatch.setattr("urllib.request.urlopen", lambda url: Reply())
    with pytest.raises(FileNotFoundError, match="3.0 GiB, which is not fetched unasked"):
        load("ogbn-products", tmp_path)


def test_a_missing_file_is_named(tmp_path):
    folder = arxiv(tmp_path)
    (folder / "split" / "time" / "valid.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match="no valid.csv.gz: put it into '.*split/time'"):
        load("ogbn-arxiv", tmp_path)
    (folder / "raw" / "node_year.csv.gz").unlink()
    (folder / "processed" / "geometric_data_processed.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no node_year.csv.gz: put it into '.*raw'"):
        load("ogbn-arxiv", tmp_path)
    assert (folder / "raw" / "edge.csv.gz").is_file()  # and the others are still there


def test_a_broken_file_is_named(tmp_path):
    folder = arxiv(tmp_path)
    (folder / "raw" / "edge.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="cannot read the files in '.*ogbn_arxiv/raw'"):
        load("ogbn-arxiv", tmp_path)


@pytest.mark.parametrize(
    "name, match",
    [
        ("ogbn-", "'name' must be one of ogbn-proteins, .*ogbn-arxiv"),
        ("ogbg-molhiw", "'name' must be one of .*ogbg-molhiv"),
        ("ogbn-mag", "heterogeneous graph.*to_homogeneous"),
    ],
)
def test_other_names_are_refused(tmp_path, name, match):
    with pytest.raises(ValueError, match=match):
        load(name, tmp_path)


def test_what_is_safe_in_ogbs_files_is_not_safe_elsewhere(tmp_path):
    """Not after a set was read, and never in a checkpoint."""
    from torch_geometric.data.storage import GlobalStorage

    folder = arxiv(tmp_path)
    before = set(torch.serialization.get_safe_globals())
    load("ogbn-arxiv", tmp_path)
    assert set(torch.serialization.get_safe_globals()) == before
    torch.save({"state_dict": GlobalStorage()}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_torch(tmp_path / "a.ckpt", "ckpt")
    torch.save(Bomb(tmp_path / "boom"), folder / "processed" / "geometric_data_processed.pt")
    with pytest.raises(ValueError, match="holds more than tensors.*delete it"):
        load("ogbn-arxiv", tmp_path)
    assert not (tmp_path / "boom").exists()


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


# LRGB -------------------------------------------------------------------------------------------


def test_peptides(tmp_path):
    raw = tmp_path / "peptides-struct" / "raw"
    raw.mkdir(parents=True)
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    graph = (torch.arange(27).view(3, 9), torch.zeros(4, 3), edge_index, torch.ones(1, 11))
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        torch.save([graph] * count, raw / f"{split}.pt")
    dataset = load("LRGB/Peptides-struct", tmp_path)
    assert [len(part) for part in dataset.parts] == [3, 2, 1]
    assert dataset[5].x.tolist() == graph[0].tolist()
    assert dataset[0].x.dtype == torch.float32
    assert dataset[0].y.shape == (1, 11)


@pytest.mark.parametrize(
    "name, file", [("PascalVOC-SP", "val.pickle"), ("Peptides-func", "val.pt")]
)
def test_lrgb_offline_says_which_files_and_where(tmp_path, monkeypatch, name, file):
    from torch_geometric.datasets import LRGBDataset

    def offline(self):
        raise ConnectionError("no network")

    monkeypatch.setattr(LRGBDataset, "download", offline)
    with pytest.raises(FileNotFoundError, match="no network") as error:
        load(f"LRGB/{name}", tmp_path / "data")
    assert file in str(error.value)
    assert str(tmp_path / "data" / name.lower() / "raw") in str(error.value)


def test_a_bomb_in_a_pickle_of_superpixels_does_not_run(tmp_path):
    raw = tmp_path / "pascalvoc-sp" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (raw / f"{split}.pickle").write_bytes(pickle.dumps([Bomb(tmp_path / "boom")]))
    with pytest.raises(ValueError, match="train.pickle' as pickled arrays: it asks for"):
        load("LRGB/PascalVOC-SP", tmp_path)
    inner = io.BytesIO()
    torch.save(Bomb(tmp_path / "boom"), inner)

    class Inner:
        def __reduce__(self):
            return (torch.storage._load_from_bytes, (inner.getvalue(),))

    (tmp_path / "inner.pickle").write_bytes(pickle.dumps(Inner()))
    with pytest.raises(ValueError, match="inner.pickle"):
        check_pickle(tmp_path / "inner.pickle", tensors=True)
    assert not (tmp_path / "boom").exists()
    (tmp_path / "good.pickle").write_bytes(pickle.dumps([(torch.ones(2, 3), [1, 2])]))
    check_pickle(tmp_path / "good.pickle", tensors=True)
    with pytest.raises(ValueError, match="it asks for"):
        check_pickle(tmp_path / "good.pickle")
