"""Lightning data modules: one graph, many graphs, images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch_geometric.data import Data, Dataset
from torch_geometric.loader import DataLoader

import pyg_gunet
from pyg_gunet.data import VOID, split_indices, split_nodes
from pyg_gunet.data.dataset import check_alike
from pyg_gunet.files import check_path
from pyg_gunet.train.loading import EpochSampler, graph_loader, part_loader
from pyg_gunet.validate import check_choice, check_positive_int

MASKS = ("train_mask", "val_mask", "test_mask")
_KEYS = (
    *("x", "edge_index", "edge_weight", "pos", "y", *MASKS, "border_weight", "image_size"),
    *("instance", "depth", "category", "node_id", "image_name", "corner", "image"),
)
Source: TypeAlias = "str | Data | Dataset"


def check_dataset(dataset: Any) -> None:
    """A name or path of a data set, a graph, or a sequence of graphs."""
    named = isinstance(dataset, (str, Data, LightningDataModule))
    if not named and (isinstance(dataset, bytes) or not hasattr(dataset, "__len__")):
        raise TypeError(
            f"'dataset' must be a name or path, a Data or a Dataset (got {dataset!r:.80})"
        )


class GraphData(LightningDataModule):
    r"""The base of all data modules.

    Args:
        dataset (str, Data or Dataset): Name of a data set or path of a file, see
            :func:`pyg_gunet.load`; from Python also a graph or a data set of PyG.
            (default: bunny)
        root (str, optional): Folder of public data sets. (default: data)
        options (dict, optional): What the reader of the data set is told beside name and root; of a
            table of edges ``{nodes: FILE, labels: COLUMN, targets: [COLUMN]}`` and what else
            :func:`pyg_gunet.data.read_graphs` takes. (default: nothing)
        batch_size (int, optional): Graphs per step over all devices. (default: 32)
        seed (int, optional): Seed of drawn splits and of the order. (default: 0)
    """

    def __init__(
        self,
        dataset: Source = "bunny",
        root: str = "data",
        options: dict[str, Any] | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive_int(batch_size, "batch_size")
        check_path(root, "root")
        if options is not None and not isinstance(options, dict):
            raise TypeError(f"'options' must be a dict (got {options!r})")
        check_dataset(dataset)
        self.dataset, self.root, self.options = dataset, root, dict(options or {})
        self.batch_size, self.seed = batch_size, seed
        self.graphs: Sequence[Data] = []
        self.parts: tuple[Sequence[Data], ...] = ((), (), ())
        self.split_note = ""

    @property
    def name(self) -> str:  # type: ignore[override]
        """What the data set is called."""
        if isinstance(self.dataset, str):
            return self.dataset
        return str(getattr(self.dataset, "name", type(self.dataset).__name__))

    def read(self) -> Any:
        """The data set, read once."""
        if not len(self.graphs):
            found = self.dataset
            if isinstance(found, str):
                found = self.load(found)
            self.graphs = [found] if isinstance(found, Data) else found  # type: ignore[assignment]
            if not len(self.graphs) or not all("edge_index" in data for data in self.graphs[:1]):
                raise ValueError(f"'dataset' must hold graphs with edges (got {found!r:.80})")
        return self.graphs

    def load(self, name: str) -> Any:
        """The data set of this name; what :func:`load` calls 'name' is called 'dataset' here."""
        try:
            return pyg_gunet.load(name, self.root, **self.options)
        except (ValueError, ImportError) as error:
            text = str(error)
            if not text.startswith("'name' "):
                raise
            raise type(error)(text.replace("'name'", "'dataset'", 1)) from error

    def setup(self, stage: str | None = None) -> None:
        """Reads the data and splits it."""
        self.read()

    @property
    def one_graph(self) -> bool:
        return len(self.graphs) == 1

    @property
    def sizes(self) -> dict[str, int]:
        """What the data says of a network's sizes."""
        first = self.graphs[0]
        pos, y = first.get("pos"), first.get("y")
        sizes = {
            "in_channels": int(first.num_node_features),
            "pos_channels": 0 if pos is None else columns(pos),
            "depth_channels": int("depth" in first),
        }
        if y is None:
            return sizes
        labelled = [data for data in self.graphs if data.get("y") is not None]
        labels = torch.cat([data.y.view(-1) for data in labelled])
        if y.is_floating_point():
            sizes["out_channels"] = int(y.size(-1)) if y.dim() > 1 else 1
        else:
            known = labels[(labels != VOID) & (labels >= 0)]
            sizes["num_classes"] = max(int(known.max()) + 1, 2) if known.numel() else 2
        sizes["targets_per_graph"] = int(y.size(0) == 1 and int(first.num_nodes or 0) > 1)
        return sizes

    def describe(self, by_nodes: bool = False) -> dict[str, Any]:
        """Counts for the figures of a run, and in words who is trained on and who is tested:
        `by_nodes` where a task trains on the labels of some nodes."""
        return {
            "dataset": self.name,
            "split": self.note(by_nodes),
            "graphs": len(self.graphs),
            "nodes": int(sum(int(data.num_nodes or 0) for data in self.graphs)),
            "edges": int(sum(data.num_edges for data in self.graphs)),
            "features": int(self.graphs[0].num_node_features),
        }

    def note(self, by_nodes: bool = False) -> str:
        return self.split_note

    def score_all(self) -> None:
        """Tests on everything: what no part of was trained on."""
        self.parts = (self.parts[0], self.parts[1], [slim(data) for data in self.graphs])
        self.split_note = f"{len(self.graphs):,} graphs, all tested"

    def train_graphs(self) -> Iterable[Data]:
        """The training graphs, whole."""
        return self.parts[0]

    def predict_dataloader(self) -> TorchDataLoader:
        return DataLoader([slim(data) for data in self.graphs], self.batch_size)


class OneGraph(GraphData):
    r"""One graph, whole or in sampled parts in each step.

    Args:
        loader (str, optional): What a step sees: full (all of the graph), random (parts of its
            nodes), neighbor (training nodes and some neighbours; only those nodes count).
            (default: full)
        batch_nodes (int, optional): Nodes of a part, with neighbor training nodes. (default: 1024)
        num_neighbors (list, optional): Neighbours drawn per node, hop by hop; -1: all.
            (default: 10 10)
        shares (list, optional): Of the nodes with a label, the shares that train and validate,
            where the data has no split; the rest is tested. (default: 0.6 0.2)
    """

    def __init__(
        self,
        *args: Any,
        loader: Literal["full", "random", "neighbor"] = "full",
        batch_nodes: int = 1024,
        num_neighbors: int | list[int] | None = None,
        shares: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_choice(loader, "loader", ("full", "random", "neighbor"))
        check_positive_int(batch_nodes, "batch_nodes")
        counts = [num_neighbors] if isinstance(num_neighbors, int) else num_neighbors or [10, 10]
        if not all(isinstance(count, int) and count >= -1 and count for count in counts):
            raise ValueError(
                f"'num_neighbors' must hold a count per hop, or -1 for all (got {counts})"
            )
        self.shares = [0.6, 0.2] if shares is None else shares
        low = min([*self.shares, 1 - sum(self.shares)])
        if len(self.shares) != 2 or low <= 0:
            raise ValueError(f"'shares' must be two that leave a third (got {self.shares})")
        self.loader, self.batch_nodes, self.num_neighbors = loader, batch_nodes, counts
        self.count = 0  # of parts

    def setup(self, stage: str | None = None) -> None:
        if self.split_note:
            return
        data = slim(self.read()[0])
        if not self.one_graph:
            raise ValueError(f"'dataset' must be one graph (got {len(self.graphs)})")
        y = data.get("y")
        missing = any(mask not in data for mask in MASKS)
        if y is not None and y.size(0) == data.num_nodes and missing:
            masks = draw_nodes(y, self.seed, self.shares)
            for name, mask in zip(MASKS, masks):
                data[name] = mask
            self.split_note = f"split drawn (seed {self.seed})"
        else:
            self.split_note = "public split"
        data.whole = True
        self.whole = data
        self.parts = ([data],) * 3

    def note(self, by_nodes: bool = False) -> str:
        parts = f"trained in {self.count} parts ({self.loader})" if self.count else ""
        if not by_nodes:
            how = f"{parts}, " if parts else "trained and "
            return f"one graph, {how}tested on all its nodes"
        counts = ", ".join(f"{int(self.whole[mask].sum())} {mask[:-5]}" for mask in MASKS)
        text = f"nodes of one graph, {self.split_note}: {counts}"
        return f"{text}; {parts}" if parts else text

    def score_all(self) -> None:
        self.setup()
        if "test_mask" in self.whole:
            masks = [self.whole[mask] for mask in MASKS]
            self.whole.test_mask = masks[0] | masks[1] | masks[2]

    def train_dataloader(self) -> Any:
        if self.loader == "full":
            return self.val_dataloader()
        data, nodes = self.whole, torch.arange(int(self.whole.num_nodes or 0))
        if self.loader == "neighbor":
            if "train_mask" not in data:
                raise ValueError(
                    "'loader' neighbor goes with a data set that has training nodes "
                    f"(got {self.name!r})"
                )
            nodes = data.train_mask.nonzero().view(-1)
        part = Data(**{key: value for key, value in data.to_dict().items() if key != "whole"})
        sampled = part_loader(
            part,
            self.loader,
            nodes,
            self.batch_size,
            self.batch_nodes,
            self.num_neighbors,
            self.seed,
        )
        self.count = len(sampled.dataset)  # type: ignore[arg-type]
        return sampled

    def val_dataloader(self) -> Any:
        return TorchDataLoader([self.whole], batch_size=None)  # type: ignore[arg-type]

    test_dataloader = val_dataloader


class Graphs(GraphData):
    r"""Many graphs in batches, in the data set's own split, or 80 / 10 / 10 percent of them."""

    def setup(self, stage: str | None = None) -> None:
        if self.split_note:
            return
        graphs = self.read()
        own = [getattr(graphs, name, None) for name in ("parts", "splits")]
        parts = next((part for part in own if part is not None), None)
        self.split_note = "the data set's own split"
        if parts is None:
            if len(graphs) < 3:
                raise ValueError(
                    f"'dataset' must hold at least 3 graphs or tiles, for a split "
                    f"(got {len(graphs)}); a smaller 'tile_size' gives more tiles"
                )
            parts, what = self.draw()
            self.split_note = f"{what} split at random (seed {self.seed})"
        self.parts = tuple([slim(graphs[int(i)]) for i in part] for part in parts)
        numbers = [int(i) for part in parts for i in part]
        check_alike([data for part in self.parts for data in part], "dataset", numbers)

    def score_all(self) -> None:
        if len(self.graphs) >= 3:
            self.setup()
        super().score_all()

    def draw(self) -> tuple[Sequence[Tensor], str]:
        """Indices of training, validation and test graphs, and what was split."""
        return split_indices(len(self.graphs), self.seed), "graphs"

    def note(self, by_nodes: bool = False) -> str:
        if "all tested" in self.split_note:
            return self.split_note
        train, val, test = map(len, self.parts)
        return f"{self.split_note}: {train} train, {val} validation, {test} test"

    def train_dataloader(self) -> DataLoader:
        order = EpochSampler(len(self.parts[0]), self.seed)
        return graph_loader(self.parts[0], self.batch_size, order)

    def val_dataloader(self) -> DataLoader:
        return graph_loader(self.parts[1], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[2], self.batch_size)  # type: ignore[arg-type]


class Images(Graphs):
    r"""Tiles of the images in ``DIR/images`` with the labels in ``DIR/masks``, ``images:DIR``.
    Whole images are split; tiles of fewer than 3 images.

    Args:
        masks (str, optional): What the masks hold: class, instance. (default: class, unless they
            look like instances)
        tile_size (int, optional): Height and width of a tile in pixels. (default: 64)
        border_weight (float, optional): w0 of the border weights of instances; 0: none.
            (default: 10.0)
        contrast (str, optional): image (each image from its 1st to its 99.8th percentile), none
            (the images' own units). (default: none)
    """

    def __init__(
        self,
        *args: Any,
        masks: Literal["class", "instance", "none"] | None = None,
        tile_size: int | None = None,
        border_weight: float | None = None,
        contrast: Literal["image", "none"] = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_choice(contrast, "contrast", ("image", "none"))
        self.contrast = contrast
        given = {"masks": masks, "tile_size": tile_size, "w0": border_weight, "contrast": contrast}
        self.options.update({key: value for key, value in given.items() if value is not None})
        if not self.name.startswith("images:"):
            raise ValueError(f"'dataset' must be images:DIR for Images (got {self.name!r})")

    def draw(self) -> tuple[Sequence[Tensor], str]:
        image = torch.cat([tile.image for tile in self.graphs])
        count = int(image.max()) + 1
        if count < 3:
            return split_indices(len(image), self.seed), "tiles"
        parts = split_indices(count, self.seed)
        return [torch.isin(image, part).nonzero().view(-1) for part in parts], (
            f"tiles of {count} whole images"
        )


def slim(data: Data) -> Data:
    """Only the attributes that training, figures and pictures read."""
    out = Data(**{key: data[key] for key in _KEYS if data.get(key) is not None})
    x = out.get("x")
    if isinstance(x, Tensor) and x.layout != torch.strided:
        out.x = x.to_dense()
    if "pos" in out:
        pos = out.pos.view(-1, columns(out.pos))
        out.pos = pos if pos.is_floating_point() else pos.float()
    return out


def columns(pos: Tensor) -> int:
    """How many coordinates a place has: of [N] one."""
    return int(pos.size(1)) if pos.dim() > 1 else 1


def draw_nodes(y: Tensor, seed: int, shares: Sequence[float]) -> Sequence[Tensor]:
    """Masks of training, validation and test nodes, see :func:`pyg_gunet.data.split_nodes`; a node
    without a target (NaN) is in none."""
    if y.is_floating_point():
        y = y.view(y.size(0), -1).isfinite().all(1).long() - 1
    return split_nodes(y, seed, shares)
