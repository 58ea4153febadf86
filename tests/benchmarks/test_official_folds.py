"""Official folds: what a file may hold, and what of it the runs use."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from types import SimpleNamespace

import pytest


def two_folds() -> list[dict]:
    """Six graphs, tested by halves."""
    return [
        {"test": [4, 0, 2], "model_selection": [{"train": [1, 5], "validation": [3]}]},
        {"test": [1, 3, 5], "model_selection": [{"train": [0, 2], "validation": [4]}]},
    ]


def written(tmp_path, found) -> str:
    path = tmp_path / "splits.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return str(path)


def test_folds_keep_their_order(tmp_path):
    from _fair_splits import read_splits

    first, second = read_splits(written(tmp_path, two_folds()), 6)
    assert first == ([1, 5], [3], [4, 0, 2])
    assert (second.train, second.val, second.test) == ([0, 2], [4], [1, 3, 5])


def inner(fold: dict) -> dict:
    return fold["model_selection"][0]


BAD = {
    "no test": (lambda f: f[1].pop("test"), "fold 1 of 'splits' must have 'test' (got the keys"),
    "no inner": (lambda f: f[0].pop("model_selection"), "fold 0 of 'splits' must have 'model_"),
    "no train": (lambda f: inner(f[0]).pop("train"), "fold 0 of 'splits' must have 'train'"),
    "no validation": (lambda f: inner(f[1]).pop("validation"), "must have 'validation'"),
    "two inner": (lambda f: f[0]["model_selection"].append({}), "one entry in 'model_selection'"),
    "a fold no dict": (lambda f: f.append([1]), "fold 2 of 'splits' must have 'model_selection'"),
    "out of range": (lambda f: f[0]["test"].append(6), "indices in [0, 6) (got 6)"),
    "negative": (lambda f: inner(f[0])["train"].append(-1), "indices in [0, 6) (got -1)"),
    "a float": (lambda f: f[0]["test"].append(1.0), "indices in [0, 6) (got 1.0)"),
    "a truth": (lambda f: f[0]["test"].append(True), "indices in [0, 6) (got True)"),
    "empty": (lambda f: inner(f[0]).update(validation=[]), "'validation' of 'model_selection' of"),
    "no list": (lambda f: f[0].update(test="042"), "must be a list of indices (got '042')"),
    "train in test": (lambda f: f[0]["test"].append(5), "(got 5 in 'train' and in 'test')"),
    "val in train": (lambda f: inner(f[0])["validation"].append(1), "(got 1 in 'train' and in 'v"),
    "twice": (lambda f: inner(f[0])["train"].append(1), "(got 1 in 'train' and in 'train')"),
    "left out": (lambda f: inner(f[0])["train"].pop(), "must hold all 6 graphs (got 5)"),
    "tested twice": (lambda f: f.__setitem__(1, deepcopy(f[0])), "(got 4 in the folds 0 and 1)"),
    "no folds": (lambda f: f.clear(), "'splits' must hold a list of folds (got [])"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name_and_value(name, tmp_path):
    from _fair_splits import read_splits

    folds = two_folds()
    spoil, message = BAD[name]
    spoil(folds)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_splits(written(tmp_path, folds), 6)


@pytest.mark.parametrize("text", ["{", '{"test": []}', "7"])
def test_no_list_of_folds(text, tmp_path):
    from _fair_splits import read_splits

    with pytest.raises(ValueError, match="'splits' must"):
        read_splits(written(tmp_path, text), 6)
