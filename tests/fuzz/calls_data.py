"""The calls that are fuzzed: transforms, data sets, files and runs."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from pyg_gunet import (
    BorderWeight,
    GraphUNet,
    ToGrid,
    ToSuperpixels,
    draw_hierarchy,
    hierarchy_to_networkx,
    load,
    to_label_image,
)
from pyg_gunet.data import read_graph, read_images, split_indices
from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.train import embed, evaluate, fit
from pyg_gunet.transforms import grid_edges
from tests.fuzz.engine import Call
from tests.fuzz.values import Kind, anything, choices, flags, ints, numbers, tensors

N = 8
LABEL = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
EDGES = torch.tensor([[0, 1, 2, 4, 5, 6], [1, 2, 3, 5, 6, 7]])
OLD = {"dataset": "ring", "hidden_channels": 4, "depth": 1, "epochs": 1, "accelerator": "cpu"}
kept = anything(1.5, "3", True, [1], 2**64, -(10**30), optional=True)
batches = tensors(dtypes="int", low=0, high=2**62, optional=True)
edges = tensors(dtypes="int", low=0, high=N)


@functools.cache
def folder() -> Path:
    """A finished run, tiles and a graph file."""
    path = Path(tempfile.mkdtemp(prefix="pyg-gunet-fuzz-"))
    atexit.register(shutil.rmtree, path, True)
    from skimage.io import imsave

    for part in ("images", "masks"):
        (path / "tiles" / part).mkdir(parents=True)
        pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) % 2
        imsave(path / "tiles" / part / "a.png", pixels, check_contrast=False)
    (path / "a.edgelist").write_text("0 1\n1 2\n")
    fit(out=path / "run", **OLD)
    return path


def paths(*more: Any, optional: bool = False) -> Kind:
    """Of an existing file or folder."""
    bad = (3, 1.5, True, [], {}, b"\0", "a\0b", "x" * 5000, "no/such/file", object())
    return anything(*([] if optional else [None]), *bad, *more, optional=True)


def data_calls() -> list[Call]:
    return [*transform_calls(), *dataset_calls(), *run_calls(), *picture_calls()]


def picture_calls() -> list[Call]:
    symmetric = torch.cat([EDGES, EDGES.flip(0)], dim=1)
    _, hierarchy = GraphUNet(2, 4, 2, depth=1).states(torch.rand(N, 2), symmetric, BATCH)
    drawn = {"hierarchy": (hierarchy, anything(None, 3, "x", [], torch.ones(2)))}
    return [
        Call(
            "hierarchy_to_networkx",
            lambda: hierarchy_to_networkx,
            {
                **drawn,
                "level": (0, ints(-2, 2)),
                "directed": (True, anything("yes", 1, 0, [True], optional=True)),
            },
        ),
        Call(
            "draw_hierarchy",
            lambda: draw_hierarchy,
            {
                **drawn,
                "path": (None, anything(3, 1.5, [], b"\0", "a\0b", "x" * 5000, optional=True)),
                "pos": (torch.rand(N, 2), tensors(dtypes="float", optional=True)),
                "graph": (0, ints(0, 2)),
                "seed": (0, ints(0, 2**32)),
            },
        ),
    ]


def transform_calls() -> list[Call]:
    image = torch.rand(3, 4, 5)
    plain = tensors(dtypes="label", columns=True, optional=True)
    bad_image = (None, "x", 3, [1.0], image.long(), image[None], image[:, :0], image.to("meta"))
    border = {
        "w0": (10.0, numbers(0.0)),
        "sigma": (5.0, numbers(0.0, above=True)),
        "background_only": (True, flags()),
    }
    bad_weights = ("even", -1.0, [-1.0], [[1.0]], object(), [float("nan")], ["a"])
    bad_data = (None, 3, "x", {}, Data(), Data(y=LABEL.float()), Data(y=LABEL[None], num_nodes=8))
    instance = torch.tensor([1, 0, 0, 2, 3, 0, 0, 4])
    label = tensors(dtypes="label")
    return [
        Call(
            "ToGrid",
            lambda: ToGrid,
            {"connectivity": (8, anything(None, 3, "8", 5, 8.5, [4], True, 10**30))},
        ),
        Call(
            "ToGrid.forward",
            ToGrid,
            {
                "img": (image, anything(*bad_image)),
                "y": (torch.zeros(4, 5).long(), plain),
                "instance": (torch.ones(4, 5).long(), plain),
            },
        ),
        Call("ToSuperpixels", lambda: ToSuperpixels, {"n_segments": (5, ints(1))}),
        Call(
            "ToSuperpixels.forward",
            lambda: ToSuperpixels(4),
            {"img": (image, anything(*bad_image))},
        ),
        Call(
            "grid_edges",
            lambda: grid_edges,
            {
                "height": (3, ints(1, extra=(2**31 - 1,))),
                "width": (3, ints(1, extra=(2**31 - 1,))),
                "connectivity": (4, anything(None, 3, "8", 5, 8.5, [4], True)),
            },
        ),
        Call(
            "to_label_image",
            lambda: to_label_image,
            {
                "label": (torch.zeros(20).long(), anything(None, 3, "x", [1], torch.zeros(19))),
                "data": (ToGrid()(image), anything(None, 3, "x", {}, Data(x=image[0]))),
            },
        ),
        Call(
            "BorderWeight",
            lambda: BorderWeight,
            {
                **border,
                "class_weight": ("balanced", anything(*bad_weights, optional=True)),
                "background": (0, ints(high=2**63)),
                "ignore_index": (None, kept),
                "edge_length": (None, anything(3, 1.5, [], optional=True)),
            },
        ),
        Call(
            "BorderWeight.forward",
            BorderWeight,
            {"data": (Data(y=LABEL, edge_index=EDGES, num_nodes=N), anything(*bad_data))},
            parts={"data": ("y", "instance")},
        ),
        Call(
            "connected_instances",
            lambda: connected_instances,
            {
                "label": (LABEL, tensors(dtypes="label", rows=False)),
                "edge_index": (EDGES, edges),
                "background": (0, ints(high=2**63)),
            },
        ),
        Call(
            "border_weight",
            lambda: border_weight,
            {
                "instance": (instance, label),
                "pos": (torch.arange(float(N)).view(-1, 1), tensors(dtypes="float", optional=True)),
                "batch": (BATCH, batches),
                **border,
            },
        ),
        Call(
            "border_weight.edges",
            lambda: border_weight,
            {
                "instance": (instance, tensors(dtypes="label", rows=False)),
                "edge_index": (EDGES, edges),
                "edge_length": (torch.ones(6), tensors(dtypes="float", low=0, optional=True)),
            },
        ),
    ]


def dataset_calls() -> list[Call]:
    bad_shares = (None, 3, "ab", (0.5,), (0.9, 0.2), (-1, 0.5), (float("nan"), 0.1), ("a", "b"))
    names = (
        "",
        "rabbit",
        b"ring",
        "TU/",
        "TU/../x",
        "\0",
        "Planetoid/Pluto",
        "Planetoid/",
        "LRGB/x",
    )
    names += ("ShapeNet/x", "images:", "images:nowhere", "x" * 5000, [], None, 3, "a.graphml")
    return [
        Call(
            "split_indices",
            lambda: split_indices,
            {
                "num_graphs": (10, ints(3)),
                "seed": (0, ints(0, 2**63)),
                "shares": ((0.8, 0.1), anything(*bad_shares)),
            },
        ),
        Call(
            "load",
            lambda: load,
            {"name": ("ring", anything(*names)), "root": ("data", anything(None, 3, 1.5, []))},
            errors=(OSError,),
            parts={"name": ("path", "folder")},
        ),
        Call(
            "read_images",
            lambda: read_images,
            {
                "folder": (folder() / "tiles", paths(folder())),
                "masks": ("class", choices(optional=True)),
                "tile_size": (64, ints(2)),
                "w0": (10.0, numbers(0.0)),
                "sigma": (5.0, numbers(0.0, above=True)),
            },
            errors=(OSError,),
        ),
        Call(
            "read_graph",
            lambda: read_graph,
            {
                "path": (folder() / "a.edgelist", paths(folder(), folder() / "run" / "last.ckpt")),
                "directed": (False, anything(3, "x", [], 1.5, optional=True)),
                "max_bytes": (2**20, ints(1, high=None, extra=(3,))),
            },
            errors=(OSError,),
        ),
    ]


def option_arguments() -> dict[str, tuple[Any, Kind]]:
    """Options of the task's module and of the data module."""
    ratios = anything("ab", [0.0], [1.5], [], [0.5, 0.5, 0.5], ["a"], True, optional=True)
    return {
        "batch_size": (32, ints(1)),
        "lr": (0.1, numbers(0.0, above=True)),
        "weight_decay": (0.0, numbers(0.0)),
        "hidden_channels": (4, ints(1)),
        "latent_channels": (2, ints(1, optional=True)),
        "depth": (1, ints(1, extra=(2**20,))),
        "pool_ratios": (0.5, ratios),
        "select": ("spread", choices(optional=True)),
        "lift": ("interpolate", choices(optional=True)),
        "normalize": ("center", choices()),
        "dropout": (0.0, numbers(0.0, 0.999999)),
        "mi_weight": (0.0, numbers(0.0)),
    }


def run_calls() -> list[Call]:
    run = folder() / "run"
    elsewhere = {"root": ("data", anything(3, 1.5, [])), "dataset": ("ring", anything(3, "", "no"))}
    blocked = run / "last.ckpt" / "below"
    where = {
        "out": (folder() / "again", anything(3, 1.5, [], blocked, optional=True)),
        "overwrite": (True, flags()),
        "progress": (False, flags()),
    }
    return [
        Call(
            "fit",
            lambda: fit,
            {
                "dataset": ("ring", anything(None, 3, b"ring", [], True, "no such")),
                "model": ("autoencode", anything(None, 3, b"x", [], "no such")),
                "seed": (0, ints(0, 2**63)),
                "patience": (0, ints(0, optional=True)),
                "epochs": (1, ints(1, optional=True)),
                **where,
                **option_arguments(),
            },
            errors=(OSError,),
            parts={"model": ("task",), "epochs": ("max_epochs",)},
        ),
        Call(
            "fit.resume",
            lambda: fit,
            {
                "resume": (run, paths(folder() / "a.edgelist", folder(), optional=True)),
                **where,
                "depth": (1, anything("x", 2)),
            },
            errors=(OSError,),
        ),
        Call(
            "evaluate",
            lambda: evaluate,
            {"ckpt": (run, paths(folder() / "a.edgelist", folder())), **elsewhere},
            errors=(OSError,),
        ),
        Call(
            "embed",
            lambda: embed,
            {
                "ckpt": (run, paths(folder() / "a.edgelist", folder())),
                "out": (folder() / "z.npz", paths(folder(), blocked)),
                "level": ("nodes", choices(optional=True)),
                "overwrite": (True, flags()),
                **elsewhere,
            },
            errors=(OSError,),
        ),
    ]
