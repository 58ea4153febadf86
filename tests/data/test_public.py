"""Public sets from small raw files in the format of the real ones, and sets by class path."""

from __future__ import annotations

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from pyg_gunet import load
from pyg_gunet.data import split_nodes
from pyg_gunet.data.public import load_lrgb, load_shapenet


def lrgb_files(root, name="PascalVOC-SP"):
    folder = root / name.lower() / "raw"
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    written = {}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        graphs = []
        for _ in range(count):
            x = torch.rand(10, 14, generator=generator)
            edge_index = torch.stack([torch.arange(9), torch.arange(1, 10)])
            y = torch.randint(21, (10,), generator=generator)
            graphs.append((x, torch.rand(9, 2, generator=generator), edge_index, y))
        with (folder / f"{split}.pickle").open("wb") as file:
            pickle.dump(graphs, file)
        written[split] = graphs
    return written


def test_lrgb(tmp_path):
    written = lrgb_files(tmp_path)
    dataset = load_lrgb("PascalVOC-SP", tmp_path)
    assert repr(dataset) == "PascalVOC-SP(6)"
    assert [part.tolist() for part in dataset.parts] == [[0, 1, 2], [3, 4], [5]]
    for split, part in zip(("train", "val", "test"), dataset.parts, strict=True):
        for (x, _, edge_index, y), index in zip(written[split], part.tolist(), strict=True):
            data = dataset[index]
            assert data.x.equal(x)
            assert data.pos.equal(x[:, 12:])
            assert data.edge_index.equal(edge_index)
            assert data.y.equal(y)
    with pytest.raises(ValueError, match="LRGB/Peptides"):
        load_lrgb("Peptides", tmp_path)


def shapenet_files(root):
    """A chair and two airplanes in training, one airplane in validation and in test."""
    raw = root / "raw"
    airplane, chair = "02691156", "03001627"
    ids = {
        "Airplane": airplane,
        "Bag": "02773838",
        "Cap": "02954340",
        "Car": "02958343",
        "Chair": chair,
        "Earphone": "03261776",
        "Guitar": "03467517",
        "Knife": "03624134",
        "Lamp": "03636649",
        "Laptop": "03642806",
        "Motorbike": "03790512",
        "Mug": "03797390",
        "Pistol": "03948459",
        "Rocket": "04099429",
        "Skateboard": "04225987",
        "Table": "04379243",
    }
    (raw / "train_test_split").mkdir(parents=True)
    for folder in ids.values():
        (raw / folder).mkdir()
    lines = [f"{name}\t{number}" for name, number in ids.items()]
    (raw / "synsetoffset2category.txt").write_text("\n".join(lines))
    generator = torch.Generator().manual_seed(0)
    splits = {
        "train": [(airplane, "one"), (airplane, "two"), (chair, "seat")],
        "val": [(airplane, "three")],
        "test": [(airplane, "four")],
    }
    for split, shapes in splits.items():
        names = [f"shape_data/{folder}/{name}" for folder, name in shapes]
        path = raw / "train_test_split" / f"shuffled_{split}_file_list.json"
        path.write_text(json.dumps(names))
        for folder, name in shapes:
            first, kinds = (0, 4) if folder == airplane else (12, 4)
            values = torch.rand(20, 6, generator=generator)
            part = first + torch.randint(kinds, (20, 1), generator=generator)
            rows = torch.cat([values, part.float()], dim=1).tolist()
            text = "\n".join(" ".join(f"{v:.6f}" for v in row) for row in rows)
            (raw / folder / f"{name}.txt").write_text(text + "\n")


def test_shapenet(tmp_path):
    shapenet_files(tmp_path)
    dataset = load_shapenet("Airplane", tmp_path, neighbours=3)
    assert [len(part) for part in dataset.parts] == [2, 1, 1]
    assert dataset.shape_parts == [[0, 1, 2, 3]]
    data = dataset[0]
    assert data.x.shape == (20, 6)
    assert data.x[:, :3].equal(data.pos)
    assert data.category.tolist() == [0]
    assert set(data.y.tolist()) <= {0, 1, 2, 3}
    assert data.is_undirected()
    assert not data.has_self_loops()
    distance = torch.cdist(data.pos, data.pos).fill_diagonal_(torch.inf)
    for node in range(20):
        near = set(distance[node].topk(3, largest=False).indices.tolist())
        assert near <= set(data.edge_index[0][data.edge_index[1] == node].tolist())
    with pytest.raises(ValueError, match="'Boat'"):
        load_shapenet("Boat", tmp_path)


def test_shapenet_with_all_categories(tmp_path):
    shapenet_files(tmp_path)
    dataset = load_shapenet(None, tmp_path, neighbours=3)
    assert len(dataset) == 5
    assert len(dataset.shape_parts) == 16
    for data in dataset:
        assert set(data.y.tolist()) <= set(dataset.shape_parts[int(data.category)])


# Sets by class ----------------------------------------------------------------------------------


def heterophilous(root):
    """Six nodes with ten splits, in the layout of PyG's class."""
    raw = root / "roman_empire" / "raw"
    raw.mkdir(parents=True)
    masks = {
        f"{part}_masks": np.eye(10, 6, k=k) > 0 for k, part in enumerate(("train", "val", "test"))
    }
    features = np.arange(12, dtype=np.float64).reshape(6, 2)
    edges, labels = np.array([[0, 1], [2, 3]]), np.arange(6) % 2
    arrays = {"node_features": features, "node_labels": labels, "edges": edges, **masks}
    np.savez(raw / "roman_empire.npz", **arrays)


def test_any_class_of_pyg_by_its_name(tmp_path):
    for below in ("Heterophilous", "."):
        heterophilous(tmp_path / below)
        for name in ("Heterophilous/Roman-empire", "HeterophilousGraphDataset/Roman-empire"):
            data = load(name, tmp_path)[0]
            assert data.x.dtype == torch.float32
            assert data.train_mask.tolist() == [True] + [False] * 5
            assert load(name, tmp_path, fold=3)[0].train_mask.nonzero().tolist() == [[3]]
    with pytest.raises(ValueError, match=r"'fold' must lie in \[0, 10\) \(got 10\)"):
        load("Heterophilous/Roman-empire", tmp_path, fold=10)


def test_what_a_class_cannot_download_is_named(tmp_path, monkeypatch):
    from torch_geometric.datasets import Amazon

    def offline(self):
        raise ConnectionError("no network")

    monkeypatch.setattr(Amazon, "download", offline)
    with pytest.raises(FileNotFoundError, match="no network.*put them into '.*Photo/raw'"):
        load("Amazon/Photo", tmp_path / "root")
    assert not (tmp_path / "root").exists()
    with pytest.raises(ValueError, match="cannot read the files in .*AssertionError"):
        load("Amazon/Films", tmp_path)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    (tmp_path / "mine.py").write_text(
        """
import torch
from torch_geometric.data import Data, Dataset, HeteroData, InMemoryDataset

def graph(n=3, **more):
    return Data(x=torch.ones(n, 2), edge_index=torch.tensor([[0], [1]]), **more)

class Few(InMemoryDataset):
    def __init__(self, root, name="plain", size=3):
        super().__init__(None)
        self.data, self.slices = self.collate([graph(size), graph(4)])
        self.given = root, name

class Split(InMemoryDataset):
    def __init__(self, root, split="train"):
        super().__init__(None)
        count = {"train": 3, "val": 2, "test": 1}[split]
        pair = torch.tensor([[0, 1], [1, 0]])
        self.data, self.slices = self.collate([Data(edge_index=pair, num_nodes=2 + count)] * count)

class Lazy(Dataset):
    def len(self): return 2
    def get(self, i): return graph(i + 2)

def one(): return graph()
def hetero(): return [HeteroData()]
def broken(): raise RuntimeError("no graphs today")
"""
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine", None)


def test_sets_by_class_path(module, tmp_path):
    before = list(sys.path)
    dataset = load("mine:Few", "there", size=5)
    assert [data.num_nodes for data in dataset] == [5, 4]
    assert dataset.given == ("there", "plain")
    assert load("mine:Few/other", "there").given == ("there", "other")
    assert [data.num_nodes for data in load("mine:Lazy")] == [2, 3]
    assert len(load("mine:one")) == 1
    assert load("torch_geometric.datasets:KarateClub")[0].num_nodes == 34
    split = load("mine:Split")
    assert [len(part) for part in split.parts] == [3, 2, 1]
    assert split[5].x.shape == (3, 5)
    assert sys.path == before
    for name, match in (
        ("mine:hetero", "must give homogeneous graphs"),
        ("mine:broken", "no graphs today"),
        ("mine:None", "MODULE:CLASS that can be imported"),
        ("nowhere.at.all:None", "MODULE:CLASS that can be imported"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=match):
            load(name)
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "a.pickle").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="a.pickle' as pickled arrays: it asks for"):
        load("mine:Few")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises((ValueError, FileNotFoundError), match="colour"):
        load("mine:Few", colour=3)


@pytest.mark.parametrize("kind", ["node_labels", "node_attributes", "edge_labels"])
def test_short_files_of_a_tu_set_are_named(tmp_path, kind):
    raw = tmp_path / "TOY" / "raw"
    raw.mkdir(parents=True)
    files = {"A": "1, 2\n2, 1\n", "graph_indicator": "1\n1\n", "graph_labels": "1\n"}
    for part, text in {**files, kind: "0\n"}.items():
        (raw / f"TOY_{part}.txt").write_text(text)
    first = "A" if kind.startswith("edge") else "graph_indicator"
    with pytest.raises(ValueError, match=f"TOY_{kind}.txt has 1 lines, TOY_{first}.txt 2"):
        load("TU/TOY", tmp_path)


# Splits -----------------------------------------------------------------------------------------


def test_drawn_splits_of_nodes_are_stratified():
    y = torch.tensor([0] * 50 + [1] * 20 + [2] * 2 + [3] + [-1] * 7)[torch.randperm(80)]
    masks = torch.stack(split_nodes(y, seed=1))
    assert masks.sum(0).equal((y >= 0).long())
    counts = [[int((y[mask] == c).sum()) for c in range(4)] for mask in masks]
    assert counts == [[30, 12, 1, 1], [10, 4, 0, 0], [10, 4, 1, 0]]
    assert masks.equal(torch.stack(split_nodes(y, seed=1)))
    assert not masks.equal(torch.stack(split_nodes(y, seed=2)))
    few = torch.stack(split_nodes(y, shares=(0.1, 0.1)))
    assert few.sum(1).tolist() == [9, 7, 57]
    for wrong in (torch.full((3,), -1), torch.zeros(3), torch.zeros(2, 2).long()):
        with pytest.raises(ValueError, match="'y' must be one class per node"):
            split_nodes(wrong)
    with pytest.raises(ValueError, match="'shares'"):
        split_nodes(y, shares=(0.9, 0.1))
