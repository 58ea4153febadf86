from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import InMemoryDataset
from torch_geometric.utils import contains_self_loops, is_undirected, to_dense_adj

from pyg_gunet.data import load, names, split_indices
from pyg_gunet.files import check_pickle, read_torch, write_aside


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def real_data(tmp_path: Path, folder: str) -> Path:
    source = os.environ.get("PYG_GUNET_DATA")
    if not source:
        pytest.skip("PYG_GUNET_DATA is not set: no real data")
    shutil.copytree(Path(source) / folder, tmp_path / folder)
    for path in [tmp_path / folder, *(tmp_path / folder).rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path


@pytest.mark.parametrize(
    "name, nodes, edges, features",
    [
        ("karate", 34, 156, 34),
        ("grid", 64, 224, 2),
        ("ring", 64, 128, 2),
        ("bunny", 2503, 156584, 3),
        ("minnesota", 2642, 6608, 2),
        ("airfoil", 4253, 24578, 2),
        ("logo", 1130, 6262, 2),
    ],
)
def test_one_graph_sets(name, nodes, edges, features):
    dataset = load(name)
    assert isinstance(dataset, InMemoryDataset)
    assert len(dataset) == 1
    data = dataset[0]
    assert data.validate()
    assert data.x.shape == (nodes, features)
    assert data.x.dtype == torch.float32
    assert data.num_edges == edges
    assert is_undirected(data.edge_index)
    assert not contains_self_loops(data.edge_index)
    if name != "karate":
        assert torch.equal(data.pos, data.x)
        assert data.edge_weight.shape == (edges,)
        assert data.edge_weight.dtype == torch.float32


def test_pygsp_matches_its_source():
    from pygsp import graphs

    data, source = load("ring")[0], graphs.Ring(64)
    dense = to_dense_adj(data.edge_index, edge_attr=data.edge_weight)[0]
    np.testing.assert_allclose(dense.numpy(), source.W.toarray())
    np.testing.assert_allclose(data.x.numpy(), source.coords, atol=1e-7)


def test_airfoil_is_rescaled():
    x = load("airfoil")[0].x
    assert float(x.min()) >= 0
    assert 0.9 < float(x.max()) <= 1.0 + 1e-6


def test_digits_are_pixel_graphs():
    from sklearn.datasets import load_digits

    dataset = load("digits")
    assert len(dataset) == 1797
    images, digits = load_digits(return_X_y=True)
    for index in (0, 7, 1796):
        data = dataset[index]
        assert data.validate()
        np.testing.assert_allclose(data.x[:, 0].numpy(), images[index] / 16)
        assert int(data.digit) == digits[index]
        assert set(data.y.tolist()) == {0, digits[index] + 1}
        assert torch.equal(data.y > 0, data.x[:, 0] >= 0.25)
        near = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).abs().amax(1)
        assert float(near.max()) == 1  # the eight neighbours, and no others
        assert data.num_edges == 4 * 7 * 8 + 4 * 7 * 7
    assert dataset.num_classes == 11


def test_planetoid_on_real_files(tmp_path):
    root = real_data(tmp_path, "planetoid")
    for where in (root, root / "planetoid"):
        data = load("Planetoid/Cora", where)[0]
        assert data.x.shape == (2708, 1433)
        assert data.num_edges == 10556
        splits = (data.train_mask, data.val_mask, data.test_mask)
        assert [int(m.sum()) for m in splits] == [140, 500, 1000]
    assert load("Planetoid/cora", root)[0].num_nodes == 2708


def test_tu_on_real_files(tmp_path):
    dataset = load("TU/MUTAG", real_data(tmp_path, "tu"))
    assert len(dataset) == 188
    assert dataset.num_node_features == 7
    assert dataset.num_classes == 2


def write_tu(folder: Path, extra: dict[str, str]) -> None:
    """Two graphs in TU's layout: a path of three nodes and a pair."""
    name = folder.name
    (folder / "raw").mkdir(parents=True)
    files = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n",
        "graph_labels": "1\n-1\n",
        **extra,
    }
    for part, text in files.items():
        (folder / "raw" / f"{name}_{part}.txt").write_text(text)


def test_tu_without_features_gets_degree_profiles(tmp_path):
    write_tu(tmp_path / "TOY", {})
    dataset = load("TU/TOY", tmp_path)
    assert len(dataset) == 2
    assert dataset[0].x[:, 0].tolist() == [1, 2, 1]  # the degree
    assert dataset[0].x[0].tolist() == [1, 2, 2, 2, 0]  # one neighbour, of degree 2
    assert dataset.num_node_features == 5


def test_tu_with_attributes_only_keeps_them(tmp_path):
    write_tu(tmp_path / "TOY", {"node_attributes": "0.5\n1\n2\n3\n4\n"})
    assert load("TU/TOY", tmp_path)[0].x.tolist() == [[0.5], [1.0], [2.0]]


def test_broken_tu_files_name_the_folder(tmp_path):
    write_tu(tmp_path / "TOY", {"graph_indicator": "one\n"})
    with pytest.raises(ValueError, match="cannot read the files in '.*TOY/raw'"):
        load("TU/TOY", tmp_path)


def test_unknown_names_list_the_known_ones(tmp_path):
    for name in ("rabbit", "", "Planetoid/", "x" * 5000, "a\0b"):
        with pytest.raises(ValueError, match="karate, grid, ring, bunny") as error:
            load(name, tmp_path)
        assert "Planetoid/{Cora,CiteSeer,PubMed}" in str(error.value)
    with pytest.raises(ValueError, match="Planetoid/Cora, Planetoid/CiteSeer"):
        load("Planetoid/Coral", tmp_path)
    with pytest.raises(ValueError, match="plain NAME"):
        load("TU/../secrets", tmp_path)
    with pytest.raises(TypeError, match="'name' must be a str"):
        load(3)
    with pytest.raises(TypeError, match="takes no options"):
        load("ring", size=3)
    assert names()[0] == "karate"


@pytest.mark.parametrize(
    "name, kind, file",
    [("Planetoid/Cora", "Planetoid", "ind.cora.allx"), ("TU/X", "TUDataset", "X_A.txt")],
)
def test_failed_download_says_which_file_and_where(tmp_path, monkeypatch, name, kind, file):
    import torch_geometric.datasets as pyg

    def offline(self):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(getattr(pyg, kind), "download", offline)
    with pytest.raises(FileNotFoundError, match="no network") as error:
        load(name, tmp_path / "root")
    assert file in str(error.value)
    assert str(tmp_path / "root" / name.split("/")[1] / "raw") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "root").exists()  # nothing is left behind


def test_planetoid_pickle_bomb_is_refused(tmp_path):
    raw = tmp_path / "Cora" / "raw"
    raw.mkdir(parents=True)
    (raw / "ind.cora.allx").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(ValueError, match="ind.cora.allx' as pickled arrays: it asks for"):
        load("Planetoid/Cora", tmp_path)
    assert not (tmp_path / "boom").exists()


def test_processed_pickle_bomb_is_refused(tmp_path):
    write_tu(tmp_path / "TOY", {})
    (tmp_path / "TOY" / "processed").mkdir()
    torch.save(Bomb(tmp_path / "boom"), tmp_path / "TOY" / "processed" / "data.pt")
    with pytest.raises(ValueError, match="holds more than tensors.*delete it"):
        load("TU/TOY", tmp_path)
    assert not (tmp_path / "boom").exists()


def test_array_pickles_pass(tmp_path):
    import scipy.sparse as sp

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([sp.eye(3, format="csr"), np.ones(3), {1: [2]}], protocol=2))
    check_pickle(path)
    check_pickle(tmp_path / "missing")


# Files ------------------------------------------------------------------------------------------


def test_a_bomb_as_dataset_path_does_not_run(tmp_path):
    for file in ("bomb.pkl", "bomb.edgelist", "bomb.graphml"):
        (tmp_path / file).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
        with pytest.raises(ValueError):
            load(str(tmp_path / file))
    assert not (tmp_path / "boom").exists()


def test_read_torch_refuses_what_is_not_whole_or_not_plain(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"x": torch.ones(1000)}, path)
    assert torch.equal(read_torch(path, "ckpt")["x"], torch.ones(1000))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="'ckpt' is truncated or not a file"):
            read_torch(path, "ckpt")
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w", 8) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    with pytest.raises(ValueError, match="compressed"):
        read_torch(path, "ckpt")
    torch.save(Bomb(tmp_path / "boom"), path)
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_torch(path, "ckpt")
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(ValueError, match="not a file written"):
        read_torch(path, "ckpt")
    assert not (tmp_path / "boom").exists()
    with pytest.raises(ValueError, match="must be a file"):
        read_torch(tmp_path, "ckpt")
    with pytest.raises(FileNotFoundError, match="'ckpt' does not exist"):
        read_torch(tmp_path / "missing", "ckpt")


def test_write_aside_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "a.txt"
    with write_aside(path) as file:
        file.write(b"old")

    def fail():
        with write_aside(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_split_indices():
    parts = split_indices(188, seed=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(188))
    assert [len(p) for p in parts] == [150, 19, 19]
    assert all(torch.equal(a, b) for a, b in zip(parts, split_indices(188, seed=3)))
    assert not torch.equal(parts[0], split_indices(188, seed=4)[0])
    for n in range(3, 12):
        assert min(len(p) for p in split_indices(n)) >= 1
    with pytest.raises(ValueError, match="'num_graphs'"):
        split_indices(2)
    with pytest.raises(ValueError, match="'shares'"):
        split_indices(10, shares=(0.9, 0.2))
