"""Graphs from GraphML and edge-list files, through networkx."""

from __future__ import annotations

import contextlib
import os
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_gunet.files import check_path, first_line
from pyg_gunet.validate import check_bool, check_positive_int

if TYPE_CHECKING:
    import networkx as nx

GRAPHML = (".graphml", ".xml")
EDGE_LISTS = (".edgelist", ".edges", ".txt", ".csv", ".tsv")
SUFFIXES = GRAPHML + EDGE_LISTS
MAX_BYTES = 256 * 2**20  # networkx needs some 25 bytes of memory per byte of such a file


def read_graph(
    path: str | os.PathLike[str], *, directed: bool = False, max_bytes: int = MAX_BYTES
) -> Data:
    r"""Reads one graph from a GraphML file or an edge list.

    **GraphML.** Numeric and boolean node attributes, by name, are the columns of ``x``; those
    called ``x``, ``y`` and ``z`` are in ``pos`` as well. A node attribute ``class`` becomes ``y``:
    its values, sorted, are numbered from 0. Other text attributes are left out. The edge attribute
    ``weight`` becomes ``edge_weight``. The file says whether the graph is directed.

    **Edge list.** One edge per line, ``source target`` or ``source target weight``, separated by
    white space or commas; ``#`` starts a comment. A pair that is listed more than once is one edge
    with the last weight.

    Nodes come in the order of their ids where all ids are integers, otherwise as the file has them;
    the ids, as text, are in ``node_id``. An undirected edge is two columns of ``edge_index``.

    Args:
        path (str): The file.
        directed (bool, optional): Whether an edge list holds directed edges.
            (default: :obj:`False`)
        max_bytes (int, optional): Refuse larger files. (default: 256 MiB)

    Returns:
        The graph. ``x`` is missing where the file has no node attribute that fits.

    Raises:
        ValueError: If the path is a folder or another kind of file; if the file is too large, is
            damaged, holds no node, declares XML entities, lacks an attribute on some nodes, or
            holds a weight or an attribute that is not finite.
        FileNotFoundError: If there is no such file.
    """
    import networkx as nx

    path = check_path(path, "path")
    check_bool(directed, "directed")
    check_positive_int(max_bytes, "max_bytes", maximum=None)
    _check_path(path, max_bytes)
    try:
        if path.suffix.lower() in GRAPHML:
            _refuse_entities(path)
            graph = nx.read_graphml(path)
        else:
            graph = _read_edges(path, nx.DiGraph if directed else nx.Graph)
    except Exception as error:  # networkx lets the errors of its parsers through
        raise ValueError(f"cannot read '{path}' as a graph: {first_line(error)}") from error
    if graph.number_of_nodes() == 0:
        raise ValueError(f"'{path}' holds no node")
    return _to_data(graph, str(path))


def _check_path(path: Path, max_bytes: int) -> None:
    if path.is_dir():
        raise ValueError(f"'path' must be a file, not a folder (got '{path}')")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"'path' must end in one of {', '.join(SUFFIXES)} (got '{path}')")
    if not path.is_file():
        raise FileNotFoundError(f"'path' names no file (got '{path}')")
    if path.stat().st_size > max_bytes:
        raise ValueError(
            f"'{path}' has {path.stat().st_size} bytes, more than 'max_bytes' ({max_bytes})"
        )


def _refuse_entities(path: Path) -> None:
    """Stops at the first entity declaration, before anything is expanded."""

    def refuse(name: str, *_: Any) -> None:
        raise ValueError(f"it declares the XML entity {name!r}")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    with open(path, "rb") as file:
        parser.ParseFile(file)


def _read_edges(path: Path, kind: type[nx.Graph]) -> nx.Graph:
    import networkx as nx

    with open(path, encoding="utf-8") as file:
        lines = (line.partition("#")[0].strip() for line in file)
        first = next((line for line in lines if line), "")
    delimiter = "," if "," in first else None
    columns = len(first.split(delimiter))
    if first and columns not in (2, 3):
        raise ValueError(f"a line must hold 'source target [weight]' (got {first[:80]!r})")
    data: Any = (("weight", float),) if columns == 3 else False
    return nx.read_edgelist(path, delimiter=delimiter, data=data, create_using=kind)


def _to_data(graph: nx.Graph, name: str) -> Data:
    nodes = list(graph.nodes)
    with contextlib.suppress(ValueError):
        nodes.sort(key=int)
    position = {node: i for i, node in enumerate(nodes)}
    # An undirected edge is two arcs here, and a self loop is one.
    arcs = list((graph if graph.is_directed() else graph.to_directed()).edges(data="weight"))
    pairs = [(position[u], position[v]) for u, v, _ in arcs]
    edge_index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t().contiguous()
    data = Data(edge_index=edge_index, num_nodes=len(nodes), node_id=[str(n) for n in nodes])
    if any(weight is not None for _, _, weight in arcs):
        data.edge_weight = _floats([weight for _, _, weight in arcs], "weight", name)

    columns = {key for node in nodes for key in graph.nodes[node]}
    values = {key: [graph.nodes[node].get(key) for node in nodes] for key in sorted(columns)}
    if "class" in values:
        classes = sorted({str(v) for v in values["class"]}, key=_natural)
        data.y = torch.tensor([classes.index(str(v)) for v in values.pop("class")])
    numeric = {
        key: _floats(column, key, name)
        for key, column in values.items()
        if any(isinstance(v, Real) for v in column)
    }
    if numeric:
        data.x = torch.stack(list(numeric.values()), dim=1)
    if "x" in numeric and "y" in numeric:
        data.pos = torch.stack([numeric[key] for key in "xyz" if key in numeric], dim=1)
    return data


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (2**62, text)


def _floats(values: list[Any], key: str, name: str) -> Tensor:
    bad = [v for v in values if not isinstance(v, Real)]
    if bad:
        raise ValueError(f"the attribute '{key}' of '{name}' must be a number (got {bad[0]!r})")
    try:
        column = torch.tensor([float(v) for v in values])
    except OverflowError as error:  # an integer beyond every float
        raise ValueError(f"the attribute '{key}' of '{name}' must be finite") from error
    if not bool(torch.isfinite(column).all()):
        worst = column[~torch.isfinite(column)][0].item()
        raise ValueError(f"the attribute '{key}' of '{name}' must be finite (got {worst})")
    return column
