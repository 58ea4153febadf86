"""What a trained run says of data: embeddings and predictions as files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_gunet.data.images import image_files, read_image
from pyg_gunet.files import check_path, write_aside
from pyg_gunet.train import config as configs
from pyg_gunet.train import pictures
from pyg_gunet.train.data import Images, slim
from pyg_gunet.train.instances import COLUMNS, instance_table, overlay
from pyg_gunet.train.launch import PathLike
from pyg_gunet.train.module import GraphModule
from pyg_gunet.train.restore import load_run, stored, trained
from pyg_gunet.train.segment import Segment
from pyg_gunet.validate import check_bool, check_choice

Arrays = dict[str, Any]


def embed(
    ckpt: PathLike,
    out: PathLike,
    *,
    level: str | None = None,
    overwrite: bool = False,
    picture: bool = True,
    **changes: Any,
) -> dict[str, tuple[int, ...]]:
    r"""Writes the embeddings of all graphs of a checkpoint's data set to an ``.npz`` file, and a
    picture of them beside it.

    Args:
        ckpt (str): A checkpoint of :func:`fit`, or a run's folder.
        out (str): The file: arrays `z`, `graph` (of each row), `node` (of each row, with
            ``'latent'``), `node_id` (as in the input, where it names nodes) and `y`, where the data
            set has one label per row.
        level (str, optional): ``'nodes'``, ``'graph'`` or ``'latent'``, the nodes of the coarsest
            level. (default: nodes; of a task on graphs: graph)
        overwrite (bool, optional): Replace `out`. (default: False)
        picture (bool, optional): Draw them in the plane, by t-SNE or principal components, coloured
            by label. (default: True)
        **changes: See :func:`load_run`.

    Returns:
        The shapes of the arrays.
    """
    check_choice(level, "level", (None, "nodes", "graph", "latent"))
    path = _writable(out, overwrite)
    model, data = _module(ckpt, changes)
    options = {} if level is None else {"level": level}
    parts, graphs, nodes = [], 0, 0
    for batch in _batches(data):
        part = {key: value.numpy() for key, value in model.embed(batch, **options).items()}
        part["graph"] = part["graph"] + graphs
        if "node" in part:
            part["node"] = part["node"] + nodes
        part.update(_told(batch, len(part["z"])))
        graphs, nodes = graphs + batch.num_graphs, nodes + batch.num_nodes
        parts.append(part)
    arrays = _joined(parts)
    with write_aside(path) as file:
        np.savez_compressed(file, **arrays)
    if picture and len(arrays["z"]) > 2:
        pictures.embedding(path.with_suffix(".png"), arrays["z"], arrays.get("y"))
    return {key: value.shape for key, value in arrays.items()}


def predict(
    ckpt: PathLike, out: PathLike, *, overwrite: bool = False, **changes: Any
) -> dict[str, tuple[int, ...]]:
    r"""Writes what a checkpoint says of all graphs of a data set, which needs no labels: classes
    and probabilities, targets, or reconstructions.

    Args:
        ckpt (str): A checkpoint of :func:`fit`, or a run's folder.
        out (str): A ``.csv`` or ``.npz`` file with a row per node or graph and the node ids of the
            input, or, of images, a folder: of label images and, where instances were learned, a
            table of all of them, ``instances.csv``, and ``overlays/`` to look at. Image files
            (``images:DIR``) are read one by one, whole, and may be of any size; label images of
            instances are PNG files of 16 bits, or TIFF files of 32 where there are more than
            65,535.
        overwrite (bool, optional): Replace `out`. (default: False)
        **changes: See :func:`load_run`.

    Returns:
        The shapes of what was written.
    """
    images = not Path(check_path(out, "out")).suffix
    path = _writable(out, overwrite, images)
    if path.suffix not in ("", ".csv", ".npz"):
        raise ValueError(f"'out' must end in .csv or .npz, or be a folder of images (got '{path}')")
    if images:
        checkpoint = stored(ckpt)
        config = checkpoint["run"]["config"]
        options = {**config["data"], **changes}
        files = str(options.get("dataset", "")).startswith("images:")
        if files and issubclass(configs.task_class(config["task"]), Segment):
            return _pictures(checkpoint, path, options, changes)
    model, data = _module(ckpt, changes)
    parts, graphs, tiles = [], 0, []
    for batch in _batches(data):
        part = {key: value.numpy() for key, value in model.predict(batch).items()}
        rows = len(next(iter(part.values())))
        whole = np.zeros(batch.num_nodes, int) if "batch" not in batch else batch.batch.numpy()
        part["graph"] = (whole if rows == batch.num_nodes else np.arange(rows)) + graphs
        part.update({key: value for key, value in _told(batch, rows).items() if key != "y"})
        graphs += batch.num_graphs
        parts.append(part)
        if images and "label" in part:
            sizes = np.cumsum(batch.ptr.diff().numpy())[:-1]
            tiles += list(zip(batch.to_data_list(), np.split(part["label"], sizes)))
    if images:
        return _label_images(path, tiles)
    arrays = _joined(parts)
    if path.suffix == ".npz":
        with write_aside(path) as file:
            np.savez_compressed(file, **arrays)
        return {key: value.shape for key, value in arrays.items()}
    names = model.class_names
    if names is not None and "probability" in arrays:  # of one name there are two classes
        count = arrays["probability"].shape[1]
        names = [*names, *map(str, range(len(names), count))]
    features = getattr(data.graphs[0], "feature_names", None)
    columns: Arrays = {key: arrays.pop(key) for key in ("graph", "node_id") if key in arrays}
    columns.setdefault("node_id", np.arange(len(columns["graph"])))
    for key, value in arrays.items():
        if key == "label" and names is not None:
            value = np.asarray(names)[value]
        wide = value[:, None] if value.ndim == 1 else value
        for i in range(wide.shape[1]):
            called = {"probability": names, "x_hat": features}.get(key)
            suffix = called[i] if called else i
            columns[key if value.ndim == 1 else f"{key}_{suffix}"] = wide[:, i]
    _write_csv(path, columns, zip(*columns.values()))
    return {key: value.shape for key, value in columns.items()}


def _module(ckpt: PathLike, changes: Arrays) -> tuple[GraphModule, Any]:
    model, data = load_run(ckpt, **changes)
    if not isinstance(model, GraphModule):
        raise ValueError(f"'ckpt' must be of a GraphModule (got a {type(model).__name__})")
    return model, data


def _batches(data: Any) -> Any:
    for batch in DataLoader([slim(graph) for graph in data.graphs], batch_size=data.batch_size):
        with torch.no_grad():
            yield batch


def _told(batch: Data, rows: int) -> Arrays:
    """Labels and node ids, where there is one per row."""
    told: Arrays = {}
    y = batch.get("y")
    if y is not None and y.dim() == 1 and len(y) == rows:
        told["y"] = y.numpy()
    ids = batch.get("node_id")
    if ids is not None:
        ids = [one for own in ids for one in own] if isinstance(ids[0], list) else list(ids)
        if len(ids) == rows:
            told["node_id"] = np.asarray([str(one) for one in ids])
    return told


def _joined(parts: list[Arrays]) -> Arrays:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _label_images(folder: Path, tiles: list[tuple[Data, np.ndarray]]) -> dict[str, tuple[int, ...]]:
    """Labels of graphs that are pictures, an image each."""
    if not tiles or "image_size" not in tiles[0][0]:
        raise ValueError(f"'out' must be a .csv or .npz file for this data (got '{folder}')")
    shapes = {}
    for i, (graph, label) in enumerate(tiles):
        size = tuple(graph.image_size.view(-1).tolist())
        write_image(folder / f"{i}.png", label.reshape(size).astype(np.uint8))
        shapes[str(i)] = size
    return shapes


def _pictures(
    checkpoint: Arrays, folder: Path, options: Arrays, changes: Arrays
) -> dict[str, tuple[int, ...]]:
    """Label images, tables and overlays of image files, one by one."""
    takes = configs.parameters(Images)
    if set(changes) - takes:
        raise TypeError(
            f"'changes' must be among {sorted(takes)} (got {sorted(set(changes) - takes)})"
        )
    model: Any = trained(checkpoint)
    channels, contrast = len(model.mean), options.get("contrast", "none")
    check_choice(contrast, "contrast", ("image", "none"))
    files = image_files(str(options["dataset"]).removeprefix("images:"))
    for file in files:  # before anything is written
        own = read_image(file).size(0)
        if own != channels:
            raise ValueError(
                f"'dataset' must fit the checkpoint, {channels} channels (got {own} in '{file}')"
            )
    shapes, rows = {}, []
    for file in files:
        image = read_image(file, contrast)
        found = model.picture(image)
        name, label = file.stem, found["label"].numpy().astype(np.uint8)
        if "instance" in found:
            label = found["instance"].numpy().astype(np.int32)
            del found
            columns = instance_table(label)
            rows += [(name, *row) for row in zip(*(column.tolist() for column in columns.values()))]
            write_image(folder / "overlays" / f"{name}.png", overlay(image, label))
            label = label.astype(np.uint16) if label.max() <= 65_535 else label
        suffix = "tif" if label.dtype == np.int32 else "png"
        write_image(folder / f"{name}.{suffix}", label)
        shapes[name] = label.shape
    if model.depth_channels:
        _write_csv(folder / "instances.csv", ("image", *COLUMNS), rows)
    return shapes


def write_image(path: Path, image: np.ndarray[Any, Any]) -> None:
    """A PNG or TIFF file, whole or not at all."""
    from PIL import Image

    whole = io.BytesIO()
    Image.fromarray(image).save(whole, "PNG" if path.suffix == ".png" else "TIFF")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as file:
        file.write(whole.getbuffer())


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with write_aside(path) as file:
        file.write(text.getvalue().encode())


def _writable(out: PathLike, overwrite: bool, folder: bool = False) -> Path:
    check_bool(overwrite, "overwrite")
    path = check_path(out, "out").expanduser()
    if path.is_dir() and not folder:
        raise FileExistsError(f"'out' is a folder (got '{path}')")
    if path.exists() and not overwrite:
        raise FileExistsError(f"'out' exists (got '{path}'); --overwrite replaces a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise FileNotFoundError(f"'out' must lie in a folder that can be written (got '{path}')")
    return path
