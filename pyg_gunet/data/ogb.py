"""Sets of the Open Graph Benchmark (Hu et al., NeurIPS 2020), read by OGB's own classes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.data.dataset import GraphDataset, with_features
from pyg_gunet.files import first_line, reading, safe_graphs

PROCESSED = "geometric_data_processed.pt"
MAX_DOWNLOAD = 2**30  # bytes that are fetched unasked


def load_ogb(name: str, root: Path) -> GraphDataset:
    r"""Loads ``ogbn-*`` or ``ogbg-*``, with OGB's split: of nodes in `train_mask`, `val_mask` and
    `test_mask`, of graphs in the data set's `parts`, three tensors of indices.

    Features become float32; a set of one label per node has ``y`` of shape [N]. Edges are as OGB
    has them. Nothing is asked on the standard input: files of another release than the package's
    are taken as they are, with a warning, and more than 1 GiB is not downloaded. `root` has
    ``ogbn_arxiv`` in it, or ``ogb/ogbn_arxiv``; the first is where OGB downloads to."""
    module, kind = _module(name)
    meta = _meta(module, name)
    folder_name = name.replace("-", "_")
    base = next((b for b in (root, root / "ogb") if (b / folder_name).is_dir()), root)
    folder = base / folder_name
    if (base / f"{folder_name}_pyg").is_dir():  # as OGB prefers it
        folder = base / f"{folder_name}_pyg"
    files = _raw_files(meta, kind)
    missing = [file for file in files if not (folder / "raw" / file).is_file()]
    done = (folder / "processed" / PROCESSED).is_file()
    if 0 < len(missing) < len(files) and not done:  # OGB would replace the folder
        raise FileNotFoundError(f"there is no {', '.join(missing)}: put it into '{folder / 'raw'}'")
    with _silent(module), safe_graphs(), reading(folder, files, PROCESSED):
        dataset = getattr(module, f"Pyg{kind}PropPredDataset")(name, root=str(base))
    split = _split(dataset, folder / "split" / meta["split"])
    classes = int(dataset.num_classes)
    if kind == "Node":
        return GraphDataset(name, [_with_masks(dataset[0], split)], num_classes=classes)
    return GraphDataset(name, map(with_features, dataset), split, classes)


def _module(name: str) -> tuple[ModuleType, str]:
    try:
        if name.startswith("ogbn-"):
            import ogb.nodeproppred.dataset_pyg as nodes

            return nodes, "Node"
        import ogb.graphproppred.dataset_pyg as graphs

        return graphs, "Graph"
    except ImportError as error:
        raise ImportError(f"'name' {name!r} needs the package ogb ({first_line(error)})") from error


def _meta(module: ModuleType, name: str) -> dict[str, str]:
    """OGB's own description of the set."""
    import pandas as pd

    table = Path(str(module.__file__)).with_name("master.csv")
    master = pd.read_csv(table, index_col=0, keep_default_na=False)
    if name not in master:
        raise ValueError(f"'name' must be one of {', '.join(master.columns)} (got {name!r})")
    meta = dict(master[name])
    if meta.get("is hetero") == "True":
        raise ValueError(
            f"'name' {name!r} is a heterogeneous graph: read it by OGB's own class, and hand on "
            "its HeteroData.to_homogeneous()"
        )
    return meta


def _raw_files(meta: dict[str, str], kind: str) -> list[str]:
    if meta["binary"] == "True":
        return ["data.npz", f"{kind.lower()}-label.npz"]
    names = ["edge", "num-node-list", "num-edge-list", f"{kind.lower()}-label"]
    names += [f"{part}-feat" for part in ("node", "edge") if meta[f"has_{part}_attr"] == "True"]
    for column in ("additional node files", "additional edge files"):
        names += [] if meta[column] == "None" else meta[column].split(",")
    return [f"{name}.csv.gz" for name in names]


@contextlib.contextmanager
def _silent(module: Any) -> Iterator[None]:
    """OGB's class asks on the standard input and prints: in here it does neither."""

    def keep(prompt: str = "") -> str:
        warnings.warn(
            "the files of this OGB set are of another release than ogb expects: used as they are",
            stacklevel=2,
        )
        return "n"

    def decide(url: str) -> bool:
        from urllib.request import urlopen

        with urlopen(url) as reply:
            size = int(reply.headers["Content-Length"])
        if size > MAX_DOWNLOAD:
            raise OSError(f"{url} has {size / 2**30:.1f} GiB, which is not fetched unasked")
        return True

    had = module.decide_download
    module.input, module.decide_download = keep, decide
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        del module.input
        module.decide_download = had


def _split(dataset: Any, folder: Path) -> tuple[Tensor, ...]:
    names = ("train", "valid", "test")
    if not (folder / "split_dict.pt").is_file():
        missing = [f"{part}.csv.gz" for part in names if not (folder / f"{part}.csv.gz").is_file()]
        if missing:
            raise FileNotFoundError(f"there is no {', '.join(missing)}: put it into '{folder}'")
    try:
        split = dataset.get_idx_split()
    except Exception as error:  # pandas and gzip have their own errors
        raise ValueError(f"cannot read the split in '{folder}': {first_line(error)}") from error
    return tuple(torch.as_tensor(split[part]) for part in names)


def _with_masks(data: Data, split: tuple[Tensor, ...]) -> Data:
    num_nodes = int(data.num_nodes or 0)
    for name, part in zip(("train_mask", "val_mask", "test_mask"), split):
        mask = torch.zeros(num_nodes, dtype=torch.bool)
        mask[part] = True
        data[name] = mask
    if data.y is not None and data.y.dim() == 2 and data.y.size(1) == 1:
        data.y = data.y.view(-1)
    return with_features(data)
