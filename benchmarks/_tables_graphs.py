"""Tables on classes of whole graphs with official folds."""

from __future__ import annotations

from _tables import Records, block, fixed, table

# What Errica et al. 2020 publish of three runs per fold, on NCI1 and DD.
PUBLISHED = {
    "structure-blind": ("69.8", "78.4"),
    "GIN": ("80.0 +- 1.4", "75.3"),
    "DiffPool": ("76.9", "75.0"),
}
SYSTEMS = {
    "structure-blind": "a perceptron on counts of node labels, no edges",
    "WL kernel": "Weisfeiler-Lehman kernel, support vector machine",
    "GIN": "GIN, every layer read",
    "DiffPool": "DiffPool",
    "PyG TopKPooling": "GIN with PyG's TopKPooling",
    "PyG SAGPooling": "GIN with PyG's SAGPooling",
    "PyG GraphUNet": "PyG's GraphUNet behind the same stem",
    "ours: paper": "ours, the paper's words",
    "ours: levels": "ours, `spread`, `mean`, `contract`, `interpolate`",
    "ours: topk": "ours, `topk` in place of `spread`",
    "ours: keep": "ours, `keep` in place of `mean`",
    "ours: two_hop": "ours, `two_hop` in place of `contract`",
    "ours: zero": "ours, `zero` in place of `interpolate`",
    "no levels": "the control: ours, every node kept on every level",
}


@block(
    "official_runs", ["official_runs.json", "official_runs.csv"],
    "python benchmarks/graph_classification.py --root DIR --name NCI1 --splits FILE --runs 3 "
    "(and DD)",
    day="2026-11-27", version="0.2.0", seeds="10 folds, runs as told",
)  # fmt: skip
def official_runs() -> str:
    found = Records("official_runs.json")
    told = [f"{found(name, 'ours: levels', 'runs'):.1f} on {name}" for name in ("NCI1", "DD")]
    return f"{_official('official_runs.json')}\n\nRuns a fold of ours: {', '.join(told)}."


@block(
    "official", ["official_folds.json", "official_folds.csv"],
    "python benchmarks/graph_classification.py --root DIR --name NCI1 --splits FILE (and DD)",
    day="2026-11-27", version="0.2.0", seeds="10 folds",
)  # fmt: skip
def official() -> str:
    return _official("official_folds.json")


def _official(name: str) -> str:
    found, rows = Records(name), []
    for system, words in SYSTEMS.items():
        cells = [words]
        for i, name in enumerate(("NCI1", "DD")):
            cells.append(found.text(name, system, "test_accuracy", fixed(1), True))
            cells.append(found.text(name, system, "over_control", fixed(1), True))
            cells.append(PUBLISHED.get(system, ("", ""))[i])
        if any(cells[1:]):
            rows.append(cells)
    heads = ("{}, test %", "over the control", "published")
    return table(["", *(head.format(name) for name in ("NCI1", "DD") for head in heads)], rows)
