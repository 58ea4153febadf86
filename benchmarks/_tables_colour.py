"""Tables on colour connectivity: one island or two?"""

from __future__ import annotations

import math

from _tables import Records, block, fixed, table

OURS = "spread, mean, contract, interpolate"
SYSTEMS = {
    "counts of neighbours, logistic regression": "counts", "GCN": "GCN", "GIN": "GIN",
    "GIN, virtual node": "GIN, virtual node", "PyG's GraphUNet": "PyG GraphUNet", "ours": OURS,
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
    "1 seed to search, as many to test as told", "0.2.0", "one thread of a busy machine",
)  # fmt: skip
def colour() -> str:
    found = Records("colour_connectivity.json")
    cases = found.names(0)

    def cell(case: str, system: str) -> str:
        text = found.text(case, system, METRIC, fixed(1), system != "counts")
        edges = found.text(case, system, "edges", fixed(1))
        return text if not text or system == "counts" else f"{text}, `{edges}`"

    rows = [[name, *(cell(case, s) for case in cases)] for name, s in SYSTEMS.items()]
    rows += [["seeds", *(str(found.rows[case, OURS, METRIC]["n"]) for case in cases)]]
    for name in ("GIN", "PyG's GraphUNet", "ours"):
        spent = (found.text(case, SYSTEMS[name], "seconds", fixed(0)) for case in cases)
        rows.append([f"seconds per run, {name}", *spent])
    head = ["test %, with the edges chosen on validation", *cases]
    return f"{table(head, rows)}\n\n{changes(found)}"


def changes(found: Records) -> str:
    """What a change to ours takes off, with its error over seeds."""
    case = found.names(0)[0]
    whole, rows = found.rows[case, OURS, METRIC], []
    for name, system in CHANGES.items():
        row = found.rows.get((case, system, METRIC))
        if row is not None:
            error = math.hypot(*(r["std"] / math.sqrt(r["n"]) for r in (row, whole)))
            less = f"{whole['value'] - row['value']:.1f} +- {error:.1f}"
            rows.append([name, found.text(case, system, METRIC, fixed(1), True), less, row["n"]])
    return table([f"{case}, ours with", "test %", "less than ours by", "seeds"], rows)
