"""The public sets of node segmentation, from small raw files in the format of the real ones."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

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
