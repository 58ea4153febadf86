"""Classes and features by their names: a number, or a column, means the same in all graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import Data


def align_names(
    graphs: Sequence[Data],
    classes: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    where: str = "'dataset'",
) -> None:
    """Numbers the classes of graphs, and orders their features, by name, in place: as given, or by
    all of them together. A graph without names keeps its numbers; a word (a feature ``KEY=WORD``)
    that none of its nodes has is a column of zeros. `where` is what an error calls the graphs.

    Raises:
        ValueError: If one has a class or a feature that is not among those given, or lacks one.
    """
    named = [data for data in graphs if "class_names" in data]
    known = _union([data.class_names for data in named]) if classes is None else list(classes)
    for data in named:
        own = list(data.class_names)
        _refuse(where, "class", set(own) - set(known), known)
        place = torch.tensor([known.index(name) for name in own], dtype=torch.long)
        if own and own != known:
            data.y = torch.where(data.y < 0, data.y, place[data.y.clamp(min=0)])
        data.class_names = known
    named = [data for data in graphs if "feature_names" in data]
    known = _union([data.feature_names for data in named]) if features is None else list(features)
    for data in named:
        own = list(data.feature_names)
        _refuse(where, "feature", set(own) - set(known), known)
        keys = {name.partition("=")[0] for name in own if "=" in name}
        zero = {name for name in known if "=" in name and name.partition("=")[0] in keys}
        _refuse(where, "feature", set(known) - set(own) - zero, own)
        if own != known:
            empty = data.x.new_zeros(len(data.x))
            columns = [data.x[:, own.index(n)] if n in own else empty for n in known]
            data.x = torch.stack(columns, dim=1)
        data.feature_names = known


def _union(lists: Sequence[Sequence[str]]) -> list[str]:
    """All names: of one order, where all have it, else numbers by size and words by letters, the
    words of a key together."""
    first = list(lists[0]) if lists else []
    if all(list(names) == first for names in lists):
        return first
    everything = {name for names in lists for name in names}
    try:
        return sorted(everything, key=float)
    except ValueError:
        pass
    keys = list(dict.fromkeys(name.partition("=")[0] for names in lists for name in names))
    if len(keys) == len(everything):  # classes
        return sorted(everything)
    return sorted(everything, key=lambda name: (keys.index(name.partition("=")[0]), name))


def _refuse(where: str, what: str, strange: set[str], known: Sequence[str]) -> None:
    if strange:
        told = ", ".join(map(repr, list(known)[:20])) or "none"
        raise ValueError(
            f"{where} must have the {what} names of all its graphs, or of the checkpoint, "
            f"{told} (got {min(strange)!r} on one side alone)"
        )
