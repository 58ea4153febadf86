"""Official folds of a TU set, as Errica et al. 2020 ship them: read, checked, never copied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Fold(NamedTuple):
    """Indices of graphs, in the order of the TU set."""

    train: list[int]
    val: list[int]
    test: list[int]


def read_splits(path: str | Path, count: int) -> list[Fold]:
    """The outer folds of a file with their inner holdout.

    Args:
        path (str or Path): JSON, a list of folds, each with ``test`` and ``model_selection``, a
            list whose one entry has ``train`` and ``validation`` (`Errica et al. 2020
            <https://arxiv.org/abs/1912.09893>`_, section 4).
        count (int): The number of graphs of the set.

    Raises:
        ValueError: If the file is no such list, an index is none of the set's, a graph is in two
            parts of a fold or twice in one, a fold leaves graphs out, or two folds test one graph.
    """
    try:
        found = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"'splits' must be JSON: {error} (got {str(path)!r})") from error
    if not isinstance(found, list) or not found:
        raise ValueError(f"'splits' must hold a list of folds (got {_short(found)})")
    folds, tested = [], dict[int, int]()
    for number, fold in enumerate(found):
        where = f"fold {number} of 'splits'"
        inner = _entry(fold, "model_selection", where)
        if not isinstance(inner, list) or len(inner) != 1:
            raise ValueError(
                f"{where} must have one entry in 'model_selection' (got {_short(inner)})"
            )
        inside = f"'model_selection' of {where}"
        train, val = (_entry(inner[0], key, inside) for key in ("train", "validation"))
        parts = {"train": train, "validation": val, "test": _entry(fold, "test", where)}
        owner: dict[int, str] = {}
        for part, indices in parts.items():
            for index in _indices(indices, f"'{part}' of {where}", count):
                if index in owner:
                    raise ValueError(
                        f"{where} must hold a graph once (got {index} in '{owner[index]}' and in "
                        f"'{part}')"
                    )
                owner[index] = part
        if len(owner) != count:
            raise ValueError(f"{where} must hold all {count} graphs (got {len(owner)})")
        for index in parts["test"]:
            if index in tested:
                raise ValueError(
                    f"'splits' must test a graph once (got {index} in the folds {tested[index]} "
                    f"and {number})"
                )
            tested[index] = number
        folds.append(Fold(*parts.values()))
    return folds


def _entry(holder: Any, key: str, where: str) -> Any:
    if not isinstance(holder, dict) or key not in holder:
        raise ValueError(f"{where} must have {key!r} (got {_short(holder)})")
    return holder[key]


def _indices(found: Any, where: str, count: int) -> Sequence[int]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{where} must be a list of indices (got {_short(found)})")
    for index in found:
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"{where} must hold indices in [0, {count}) (got {index!r})")
    return found


def _short(value: Any) -> str:
    return f"the keys {list(value)}" if isinstance(value, dict) else f"{value!r:.60}"
