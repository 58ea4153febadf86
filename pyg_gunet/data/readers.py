"""Files of other programs as tables of nodes and edges: what libraries read, in one shape."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from pyg_gunet.data.tables import end_columns, read_table, typed
from pyg_gunet.files import read_torch, safe_graphs

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

_KONECT = re.compile(r"%\s*(sym|asym|bip)\b")


@dataclass
class Graph:
    """What a file says. `nodes` is indexed by id, as text; `edges` has the columns `source`,
    `target` and what else there is. `simple` says that a pair listed twice is one edge."""

    nodes: pd.DataFrame
    edges: pd.DataFrame
    directed: bool | None = None
    simple: bool = False


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a byte-order mark."""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8-sig")


def _from_networkx(graph: nx.Graph) -> Graph:
    """Where Gephi, Cytoscape or yEd drew a node is in the columns `_x`, `_y`, `_z`."""
    import pandas as pd

    rows = []
    for _, found in graph.nodes(data=True):
        row = {str(key): value for key, value in found.items() if not isinstance(value, dict)}
        drawn = (found.get("viz", {}).get("position"), found.get("graphics"), found.get("position"))
        for place in drawn:
            if isinstance(place, dict):
                row.update({f"_{axis}": float(place[axis]) for axis in "xyz" if axis in place})
        if "shape_type" in row and isinstance(row.get("x"), str):
            row["_x"], row["_y"] = float(row.pop("x")), float(row.pop("y"))
        rows.append(row)
    edges = pd.DataFrame([found for *_, found in graph.edges(data=True)], dtype=object)
    for end, name in enumerate(("source", "target")):
        edges[name] = [str(pair[end]) for pair in graph.edges()]
    index = [str(node) for node in graph.nodes]
    return Graph(pd.DataFrame(rows, index=index, dtype=object), edges, graph.is_directed())


def _graphml(content: bytes) -> Iterable[Graph]:
    import networkx as nx

    _refuse_entities(content)
    spaced = b'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    content = content.replace(b"<graphml>", spaced)  # networkx asks for the namespace
    return map(_from_networkx, nx.GraphMLReader(node_type=str)(path=io.BytesIO(content)))


def _gexf(content: bytes) -> Iterable[Graph]:
    import networkx as nx

    _refuse_entities(content)
    if content.count(b"<graph ") + content.count(b"<graph>") > 1:
        raise ValueError("it holds several graphs, of which networkx would read the first")
    # The namespaces and the word of other versions, of which networkx does not know all.
    version = rb'"http:///?www\.(?:gephi\.org/gexf|gexf\.net/1\.\d+(?:draft)?)(/viz)?"'
    content = re.sub(version, rb'"http://www.gexf.net/1.2draft\1"', content)
    content = content.replace(b"<attvalue id=", b"<attvalue for=")
    return [_from_networkx(nx.read_gexf(io.BytesIO(content)))]


def _gml(content: bytes) -> Iterable[Graph]:
    import networkx as nx

    text = decoded(content)
    if not re.search(r"\bmultigraph\b", text):  # else networkx refuses an edge that comes twice
        text = re.sub(r"\bgraph\s*\[", "graph [ multigraph 1 ", text, count=1)
    return [_from_networkx(nx.parse_gml(text, label="id"))]


def _cytoscape(content: bytes) -> Iterable[Graph]:
    import networkx as nx

    return [_from_networkx(nx.cytoscape_graph(json.loads(decoded(content))))]


def _refuse_entities(content: bytes) -> None:
    """Stops at the first entity declaration, before anything is expanded."""

    def refuse(name: str, *_: Any) -> None:
        raise ValueError(f"it declares the XML entity {name!r}")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.Parse(content, True)


def _pajek(content: bytes) -> Iterable[Graph]:
    """By hand: networkx reads edges after arcs as arcs, merges nodes of one label, and keeps two
    nodes of a list."""
    import pandas as pd

    nodes: dict[str, dict[str, Any]] = {}
    pairs: list[tuple[str, str, float]] = []
    section, arcs, row = "", [], 0
    for number, line in enumerate(decoded(content).splitlines(), 1):
        words = [] if line.lstrip().startswith(("%", "#")) else shlex.split(line)
        if not words:
            continue
        if words[0].startswith("*"):
            section = words[0].lower()
            if section == "*vertices":
                if len(words) != 2:
                    raise ValueError(f"line {number}: a network of two modes is no graph here")
                nodes = {str(i): {} for i in range(1, int(words[1]) + 1)}
            continue
        if section == "*vertices":
            place = [float(w) for w in words[2:5] if re.fullmatch(r"[\d.eE+-]+", w)]
            nodes[words[0]] = {
                "label": " ".join(words[1:2]),
                **dict(zip(("_x", "_y", "_z"), place)),
            }
            continue
        if section in ("*edges", "*arcs"):
            found = [(words[0], words[1], float(words[2]) if len(words) > 2 else 1.0)]
        elif section in ("*edgeslist", "*arcslist"):
            found = [(words[0], word, 1.0) for word in words[1:]]
        elif section == "*matrix":
            row += 1
            found = [(str(row), str(i), float(w)) for i, w in enumerate(words, 1) if float(w)]
        else:
            raise ValueError(f"line {number}: a graph has no section {section!r}")
        unknown = next((end for pair in found for end in pair[:2] if end not in nodes), None)
        if unknown is not None:
            raise ValueError(f"line {number} names the vertex {unknown!r}, which there is not")
        pairs += found
        arcs += [not section.startswith("*edges")] * len(found)
    directed = any(arcs)  # an edge among arcs goes both ways
    pairs += [(v, u, w) for (u, v, w), arc in zip(pairs, arcs) if directed and not arc and u != v]
    edges = pd.DataFrame(pairs, columns=["source", "target", "weight"])
    if bool((edges.weight == 1).all()):
        del edges["weight"]
    return [Graph(pd.DataFrame(list(nodes.values()), index=list(nodes)), edges, directed)]


def _matrix(content: bytes) -> Iterable[Graph]:
    import pandas as pd
    from scipy.io import mmread
    from scipy.sparse import coo_array

    banner = content.split(b"\n", 1)[0].lower().split()
    matrix = coo_array(mmread(io.BytesIO(content)))
    if matrix.shape[0] != matrix.shape[1] or banner[3] == b"complex":
        raise ValueError(f"a graph's matrix is square and real (got {matrix.shape} {banner[3]!r})")
    directed = banner[4] != b"symmetric"
    keep = slice(None) if directed else matrix.row <= matrix.col
    ends = {"source": matrix.row[keep] + 1, "target": matrix.col[keep] + 1}
    edges = pd.DataFrame(ends).astype(str)
    if banner[3] != b"pattern":
        edges["weight"] = matrix.data[keep].astype(float)
    index = [str(i + 1) for i in range(matrix.shape[0])]
    return [Graph(pd.DataFrame(index=index), edges, directed)]


def read_edges(content: bytes, header: bool | None = None) -> Iterable[Graph]:
    """A table of edges; `edges` is indexed by the lines of the file."""
    import pandas as pd

    text = decoded(content)
    konect = _KONECT.match(text)
    if konect and konect[1] == "bip":
        raise ValueError("it is bipartite: the numbers of its two sides mean different nodes")
    cells, lines, named = read_table(text, header)
    if cells.shape[1] < 2:
        raise ValueError(f"line {lines[0]} must hold 'source target [weight]'")
    source, target = end_columns(cells)
    empty = (cells == "").any(axis=1) if not named else (cells[[source, target]] == "").any(axis=1)
    if bool(empty.any()):
        raise ValueError(f"line {lines[int(empty.argmax())]} has fewer columns than the first")
    names = {source: "source", target: "target"}
    if not named and (konect or cells.shape[1] == 3):
        names["3"] = "weight"
    elif not named and cells.shape[1] > 3:
        raise ValueError(f"line {lines[0]} must hold 'source target [weight]', or name its columns")
    edges = cells.set_axis(lines).rename(columns=names)
    if not named and len(edges) > 1 and cells.shape[1] == 2:  # counts of nodes and edges come first
        known = pd.unique(edges.iloc[1:].to_numpy().ravel())
        if edges.iloc[0].tolist() == [str(len(known)), str(len(edges) - 1)]:
            edges = edges.iloc[1:]
    for name in edges.columns.difference(["source", "target"]):
        edges[name] = typed(edges[name])
    index = pd.unique(edges[["source", "target"]].to_numpy().ravel())
    directed = None if konect is None else konect[1] == "asym"
    return [Graph(pd.DataFrame(index=index), edges, directed, simple=True)]


def read_saved(path: Path) -> list[Data]:
    """What :func:`torch.save` wrote of graphs: a `Data`, several, a dict of tensors, or what
    :meth:`torch_geometric.data.InMemoryDataset.save` writes."""
    with safe_graphs():
        found = read_torch(path, "path")
    if isinstance(found, tuple):
        dataset = InMemoryDataset()
        dataset.load(str(path))
        found = list(dataset)
    elif isinstance(found, dict):
        found = [Data.from_dict(found)]
    graphs = found if isinstance(found, list) else [found]
    for data in graphs:
        if not isinstance(data, Data) or not isinstance(data.edge_index, Tensor):
            raise ValueError(f"'{path}' must hold graphs with 'edge_index' (got {data!r:.80})")
        data.validate()
    return graphs


# By suffix; each takes the bytes of a file. Tables of edges are told whether they have a header.
READERS: dict[str, Callable[..., Iterable[Graph]]] = {
    **dict.fromkeys((".graphml", ".xml"), _graphml),
    ".gexf": _gexf,
    ".gml": _gml,
    ".cyjs": _cytoscape,
    **dict.fromkeys((".net", ".paj"), _pajek),
    ".mtx": _matrix,
    **dict.fromkeys((".edgelist", ".edges", ".txt", ".csv", ".tsv"), read_edges),
}
