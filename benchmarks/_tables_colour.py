"""Tables on colour connectivity: one island or two?"""

from __future__ import annotations

import math

from _tables import Records, block, fixed, table

OURS = "spread, mean, contract, interpolate"
SYSTEMS = {
    "counts of neighbours, logistic regression": "counts", "GCN": "GCN", "GIN": "GIN",
    "GIN, virtual node": "GIN, virtual node", "PyG's GraphUNet": "PyG GraphUNet", "ours": OURS,
    "ours, one level more": "one level more",
}  # fmt: skip
CHANGES = {
    "`topk` in place of `spread`": "topk, mean, contract, interpolate",
    "`keep` in place of `mean`": "spread, keep, contract, interpolate",
    "`induced` in place of `contract`": "spread, mean, induced, interpolate",
    "`zero` in place of `interpolate`": "spread, mean, contract, zero",
    "all four words the paper's": "topk, keep, two_hop, zero",
    "no skip connections": "no skips", "no levels: the control": "no levels",
}  # fmt: skip
METRIC = "test"


@block(
    "colour", ["colour_connectivity.json", "colour_connectivity.csv"],
    "python benchmarks/colour_connectivity.py --root DIR", "2026-11-27",
    "1 to 3 seeds; a gap of one seed has the deviation of ours", "0.2.0",
    "one thread of a busy machine",
)  # fmt: skip
def colour() -> str:
    found = Records("colour_connectivity.json")
    cases = found.names(0)

    def cell(case: str, system: str) -> str:
        row = found.rows.get((case, system, METRIC))
        if row is None:
            return ""
        text = found.text(case, system, METRIC, fixed(1), row["n"] > 1)
        return text if system == "counts" else f"{text}, `{found(case, system, 'edges')}`"

    rows = [[name, *(cell(case, s) for case in cases)] for name, s in SYSTEMS.items()]
    rows = [row for row in rows if any(row[1:])]
    for name in ("GIN", "PyG's GraphUNet", "ours"):
        spent = (found.text(case, SYSTEMS[name], "seconds", fixed(0)) for case in cases)
        rows.append([f"seconds per run, {name}", *spent])
    head = ["test %, with the edges chosen on validation", *cases]
    return f"{table(head, rows)}\n\n{changes(found)}"


def changes(found: Records) -> str:
    """What a change to ours takes off, with its error over seeds; one seed has ours' deviation."""
    case = found.names(0)[0]
    whole, rows = found.rows[case, OURS, METRIC], []
    for name, system in CHANGES.items():
        row = found.rows.get((case, system, METRIC))
        if row is not None:
            deviation = row["std"] if row["n"] > 1 else whole["std"]
            error = math.hypot(deviation / row["n"] ** 0.5, whole["std"] / whole["n"] ** 0.5)
            less = f"{whole['value'] - row['value']:.1f} +- {error:.1f}"
            text = found.text(case, system, METRIC, fixed(1), row["n"] > 1)
            rows.append([name, text, less, row["n"]])
    return table([f"{case}, ours with", "test %", "less than ours by", "seeds"], rows)
