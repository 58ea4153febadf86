"""Graphs from files of other programs: tables of nodes and edges become a `Data`."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import sort_edge_index

from pyg_gunet.data.meshes import FIELDS, SURFACES, read_mesh
from pyg_gunet.data.names import align_names
from pyg_gunet.data.readers import READERS, Graph, decoded, read_edges, read_saved
from pyg_gunet.data.tables import NUMBER, read_table, typed
from pyg_gunet.extras import extra
from pyg_gunet.files import check_path, first_line
from pyg_gunet.validate import check_bool, check_choice, check_positive_int

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (*READERS, *SURFACES, *FIELDS, ".pt")
MAX_BYTES = 256 * 2**20  # networkx needs some 25 bytes of memory per byte of such a file
_IDS = ("id", "node", "node_id", "name")  # how a table of nodes calls the first of its columns
# What a node is called, by whichever program, is no feature, unless asked for.
_NAMES = ("id", "label", "name", "root_index", "SUID", "zOrder")
_SPLIT = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_MASKS = ("train_mask", "val_mask", "test_mask")
_UNKNOWN = ("", "nan", "none", "null", "na", "n/a", "?")


@extra()
def read_graph(path: str | os.PathLike[str], **options: Any) -> Data:
    """The graph of a file that holds one; see :func:`read_graphs`, which has the same options.

    Raises:
        ValueError: If the file holds several graphs.
    """
    graphs = read_graphs(path, **options)
    if len(graphs) > 1:
        raise ValueError(f"'{path}' holds {len(graphs)} graphs: read them by read_graphs or load")
    return graphs[0]


@extra()
def read_graphs(
    path: str | os.PathLike[str],
    *,
    nodes: str | os.PathLike[str] | None = None,
    directed: bool | None = None,
    header: bool | None = None,
    weight: str | None = None,
    features: Sequence[str] | None = None,
    edge_features: Sequence[str] = (),
    labels: str | None = None,
    targets: Sequence[str] = (),
    missing: str = "error",
    max_bytes: int = MAX_BYTES,
) -> list[Data]:
    r"""Reads the graphs of a file.

    ============================================ ==================================================
    suffix                                       what it is
    ============================================ ==================================================
    .graphml, .xml; .gexf; .gml; .cyjs           GraphML (of yEd, too), GEXF (Gephi), GML (igraph),
                                                 Cytoscape's JSON
    .net, .paj                                   Pajek: edges, arcs, lists of both, a matrix
    .mtx                                         MatrixMarket: a symmetric matrix is an undirected
                                                 graph, any other square one is directed
    .csv, .tsv, .txt, .edgelist, .edges, out.*   a table of edges, see below
    .obj, .ply, .stl, .off                       a mesh: `x` and `pos` are the vertices
    .vtk, .vtu, .msh                             a mesh, `x` its fields at the vertices if any
    .pt                                          what :func:`torch.save` wrote of a `Data`, of
                                                 several, or of a dict of tensors
    ============================================ ==================================================

    All but the last two rows may be packed (``.gz``).

    **Tables of edges.** A row is an edge: source, target and, without a header, perhaps a weight;
    :func:`pyg_gunet.data.tables.read_table` says which separators, headers and comments there are.
    A pair that is listed more than once, of an undirected graph in whichever order, is one edge
    with the last weight. The first line of a file of KONECT says whether it is directed.

    **Nodes.** Numeric and boolean attributes are the columns of `x`, in the order of their names,
    which are in `feature_names`. The attributes `x`, `y` (and `z`), or else the place where yEd,
    Gephi, Cytoscape or Pajek drew the node, are `pos`. An attribute `split` (train, val, test), or
    `train_mask` and its like, become masks. Nodes come in the order of their ids where all are
    integers, otherwise as the file has them; ids, as text, are in `node_id`.

    An undirected edge is two columns of `edge_index`, a self loop one.

    Args:
        path (str): The file.
        nodes (str, optional): A table of nodes with a header, which gives attributes to the nodes
            and may name more of them, by the column `id`, `node`, `node_id` or `name`, or else the
            first one. (default: :obj:`None`)
        directed (bool, optional): Whether edges are directed. (default: what the file says, and
            undirected where it says nothing)
        header (bool, optional): Whether the first row of a table of edges names its columns.
            (default: by its cells)
        weight (str, optional): The attribute of edges that is `edge_weight`. (default:
            ``'weight'``, where there is one)
        features (sequence of str, optional): The attributes of nodes that are features; each word
            of one in text becomes a column of zeros and ones. (default: all numeric ones but what a
            node is called, as `id`, `label` and `name`)
        edge_features (sequence of str, optional): Numeric attributes of edges that become
            `edge_attr`. (default: none)
        labels (str, optional): The attribute of nodes that is their class. Its values, sorted (by
            number where they are numbers), are numbered from 0 in `y` and named in `class_names`.
            A node without one has -1; so has one of class -1 where there are at least two others.
            (default: ``'class'``, where there is one)
        targets (sequence of str, optional): Numeric attributes of nodes that become `y` [N, T], for
            regression. (default: none)
        missing (str, optional): What to do where nodes lack a feature: ``'error'``, ``'fill'`` it
            with the mean of the others, or ``'drop'`` the feature. (default: ``'error'``)
        max_bytes (int, optional): Refuse larger files, packed or unpacked. (default: 256 MiB)

    Returns:
        list[Data]: The graphs. `x` is missing where there is no feature.

    Raises:
        ValueError: If the path is a folder or another kind of file; if a file is too large, is
            damaged, holds no node, declares XML entities, lacks a feature on some nodes (says
            which), or holds a number that is not finite.
        FileNotFoundError: If there is no such file.
    """
    path = check_path(path, "path")
    for name, value in (("directed", directed), ("header", header)):
        if value is not None:
            check_bool(value, name)
    for name, text in (("weight", weight), ("labels", labels)):
        if not isinstance(text, (str, type(None))):
            raise TypeError(f"'{name}' must be a str (got {text!r})")
    lists = {"features": features, "edge_features": edge_features, "targets": targets}
    for name, names in lists.items():
        if isinstance(names, str) or not all(isinstance(n, str) for n in names or ()):
            raise TypeError(f"'{name}' must be a list of names (got {names!r})")
    check_choice(missing, "missing", ("error", "fill", "drop"))
    check_positive_int(max_bytes, "max_bytes", maximum=None)
    if labels is not None and targets:
        raise ValueError(f"'labels' must be None with 'targets' (got {labels!r})")
    suffix = suffix_of(path)
    if path.is_dir():
        raise ValueError(f"'path' must be a file, not a folder (got '{path}')")
    if suffix not in SUFFIXES:
        raise ValueError(f"'path' must end in one of {', '.join(SUFFIXES)} (got '{path}')")
    content = _content(path, max_bytes)
    if suffix not in READERS:
        return read_saved(path) if suffix == ".pt" else [read_mesh(path)]
    reader = READERS[suffix]
    try:
        graphs = list(read_edges(content, header) if reader is read_edges else reader(content))
    except ModuleNotFoundError:  # a package of the extra
        raise
    except Exception as error:  # each library lets the errors of its parsers through
        raise ValueError(f"cannot read '{path}' as a graph: {first_line(error)}") from error
    if nodes is not None:
        for graph in graphs:
            _join(graph, check_path(nodes, "nodes"), max_bytes)
    made = [
        _to_data(g, str(path), directed, weight, features, edge_features, labels, targets, missing)
        for g in graphs
    ]
    align_names(made, where=f"'{path}'")
    return made


def suffix_of(path: Path) -> str:
    """What kind of file it is by its name, in lower case: of ``a.txt.gz`` it is ``.txt``."""
    outer, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    konect = path.name.startswith("out.")  # as it calls its tables
    suffix = inner if outer == ".gz" and (konect or inner in READERS) else outer
    return ".edgelist" if konect and suffix not in SUFFIXES else suffix


def _content(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"'path' names no file (got '{path}')")
    if path.stat().st_size > max_bytes:
        raise ValueError(
            f"'{path}' has {path.stat().st_size} bytes, more than 'max_bytes' ({max_bytes})"
        )
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            content = file.read(max_bytes + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot unpack '{path}': {first_line(error)}") from error
    if len(content) > max_bytes:
        raise ValueError(f"'{path}' unpacks to more than 'max_bytes' ({max_bytes})")
    return content


def _join(graph: Graph, path: Path, max_bytes: int) -> None:
    """Nodes and attributes of a table of nodes, beside those of the graph."""
    content = _content(path, max_bytes)
    try:
        cells, lines, _ = read_table(decoded(content), header=True)
    except ValueError as error:
        raise ValueError(f"cannot read '{path}' as a table: {first_line(error)}") from error
    key = next((name for name in cells if name.lower() in _IDS), cells.columns[0])
    twice = cells[key].duplicated()
    if bool(twice.any()):
        i = int(twice.argmax())
        raise ValueError(f"'{path}' names the node {cells[key][i]!r} again on line {lines[i]}")
    table = cells.set_index(key).apply(typed)
    order = table.index.append(graph.nodes.index.difference(table.index, sort=False))
    old = graph.nodes.drop(columns=table.columns, errors="ignore")
    graph.nodes = old.reindex(order).join(table)


def _to_data(
    graph: Graph,
    name: str,
    directed: bool | None,
    weight: str | None,
    features: Sequence[str] | None,
    edge_features: Sequence[str],
    labels: str | None,
    targets: Sequence[str],
    missing: str,
) -> Data:
    nodes, edges = graph.nodes, graph.edges
    if len(nodes) == 0:
        raise ValueError(f"'{name}' holds no node")
    if bool(nodes.index.str.fullmatch(r"[+-]?\d{1,18}").all()):
        nodes = nodes.iloc[np.argsort(nodes.index.astype("int64"), kind="stable")]
    weight = "weight" if weight is None and "weight" in edges else weight
    wanted = [*edge_features, *([] if weight is None else [weight])]
    for key in wanted:
        if key not in edges:
            raise ValueError(f"no edge of '{name}' has {key!r} (there are {_listed(edges)})")
    directed = bool(graph.directed) if directed is None else directed
    ends = np.stack([nodes.index.get_indexer(edges[end]) for end in ("source", "target")])
    if graph.simple:
        import pandas as pd

        pairs = ends if directed else np.sort(ends, axis=0)
        last = ~pd.DataFrame(pairs.T).duplicated(keep="last").to_numpy()
        edges, ends = edges[last], ends[:, last]
    where = "line" if graph.simple else "edge"
    values = [torch.from_numpy(_numbers(edges[key], key, name, where)).float() for key in wanted]
    attr = torch.stack(values, dim=1) if values else torch.zeros(ends.shape[1], 0)
    edge_index = torch.from_numpy(ends).long()
    if not directed:
        both = edge_index[:, edge_index[0] != edge_index[1]]
        attr = torch.cat([attr, attr[edge_index[0] != edge_index[1]]])
        edge_index = torch.cat([edge_index, both.flip(0)], dim=1)
    edge_index, attr = sort_edge_index(edge_index, attr, len(nodes))
    data = Data(edge_index=edge_index, num_nodes=len(nodes), node_id=list(nodes.index))
    if weight is not None:
        data.edge_weight = attr[:, -1].contiguous()
    if edge_features:
        data.edge_attr = attr[:, : len(edge_features)]
    _add_attributes(data, nodes, name, features, labels, targets, missing)
    return data


def _add_attributes(
    data: Data,
    nodes: pd.DataFrame,
    name: str,
    features: Sequence[str] | None,
    labels: str | None,
    targets: Sequence[str],
    missing: str,
) -> None:
    labels = "class" if labels is None and "class" in nodes and not targets else labels
    for key in (*(features or ()), *targets, *([] if labels is None else [labels])):
        if key not in nodes:
            raise ValueError(f"no node of '{name}' has {key!r} (there are {_listed(nodes)})")
    numeric = [key for key in nodes if _is_numeric(nodes[key])]
    if labels is not None:
        data.y, data.class_names = _classes(nodes[labels])
    if targets:
        data.y = _stacked([_numbers(nodes[key], key, name, "node") for key in targets])
    if "split" in nodes and "split" not in (features or ()):
        words = nodes["split"].map(lambda word: str(word).strip().lower())
        part = words.map(lambda word: -1 if word in _UNKNOWN else _SPLIT.get(word, -2)).to_numpy()
        if (part < -1).any():
            word = words.iloc[int(part.argmin())]
            raise ValueError(f"'split' of '{name}' must be train, val or test (got {word!r})")
        for i, mask in enumerate(_MASKS):
            data[mask] = torch.from_numpy(part == i)
    for mask in set(_MASKS) & set(numeric):
        data[mask] = torch.from_numpy(nodes[mask].fillna(0).astype(float).to_numpy() > 0)
    for prefix in ("", "_"):
        axes = [prefix + axis for axis in "xyz" if prefix + axis in numeric]
        if data.pos is None and len(axes) > 1 and not bool(nodes[axes].isna().any(axis=None)):
            data.pos = _stacked([_numbers(nodes[axis], axis, name, "node") for axis in axes])
    used = {*_NAMES, *_MASKS, *targets, labels, "split", "_x", "_y", "_z"}
    columns: dict[str, np.ndarray] = {}
    for key in sorted(set(numeric) - used) if features is None else features:
        if key not in numeric:
            words = nodes[key].fillna("").astype(str)
            columns.update({f"{key}={w}": (words == w).to_numpy() for w in sorted(set(words))})
        elif missing != "drop" or not bool(nodes[key].isna().any()):
            columns[key] = _numbers(nodes[key], key, name, "node", fill=missing == "fill")
    if columns:
        data.x, data.feature_names = _stacked(list(columns.values())), list(columns)


def _stacked(columns: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(columns, axis=1)).float()


def _listed(table: pd.DataFrame) -> str:
    return ", ".join(map(repr, list(table.columns)[:20])) or "none"


def _is_numeric(column: pd.Series) -> bool:
    """Whether there is a number in it; text among numbers is an error of its own."""
    return column.dtype.kind in "biuf" or any(
        isinstance(value, (int, float, np.number)) and value == value for value in column
    )


def _numbers(column: pd.Series, key: str, name: str, where: str, fill: bool = False) -> np.ndarray:
    """A column as float64 of finite numbers, those that are missing filled in where asked for;
    `where` says what the index counts."""
    if column.dtype.kind not in "biuf":
        for place, value in zip(column.index.tolist(), column):
            if isinstance(value, str) and not re.fullmatch(NUMBER, value):
                raise ValueError(
                    f"the attribute '{key}' of '{name}' must be a number "
                    f"(got {value!r} of {where} {place!r})"
                )
    try:
        array = column.astype(float).to_numpy(copy=True)
    except OverflowError as error:  # an integer beyond every float
        raise ValueError(f"the attribute '{key}' of '{name}' must be finite") from error
    if fill:
        array = np.where(np.isnan(array), np.nanmean(array), array)
    bad = ~(np.abs(array) <= np.finfo(np.float32).max)
    if bad.any():
        i = int(bad.argmax())
        place = f"{where} {column.index.tolist()[i]!r}"
        if np.isnan(array[i]):
            way = "; missing='fill' or 'drop' goes on without" if where == "node" else ""
            raise ValueError(f"the attribute '{key}' of '{name}' is missing at {place}{way}")
        raise ValueError(
            f"the attribute '{key}' of '{name}' must be finite (got {array[i]} at {place})"
        )
    return array


def _classes(column: pd.Series) -> tuple[Tensor, list[str]]:
    def word(value: Any) -> str:
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            value = int(value)
        text = str(value).strip()
        return "" if text.lower() in _UNKNOWN else text

    words = [word(value) for value in column]
    names = {w for w in words if w}
    numbers = all(re.fullmatch(NUMBER, w) for w in names)
    if numbers and len(names) > 2:
        names.discard("-1")
    ordered = sorted(names, key=float if numbers else None)
    place = {w: i for i, w in enumerate(ordered)}
    return torch.tensor([place.get(w, -1) for w in words]), ordered
