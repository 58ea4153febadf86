"""Tables on the critics, and the README's figures from all files."""

from __future__ import annotations

from collections import defaultdict

from _tables import Records, block, fixed, lines, mean_of, seconds, short, small, table
from scipy.stats import binomtest

INSTANCES = "segmentation_instances.json"
MI = "mutual_information.json"
CASES = {
    **{f"exact log-ratio given, {name}": ("exact log-ratio, MI 10, 100 batches of 64", name)
       for name in ("classifier", "smile(5)", "infonce")},
    **{f"KL of shifted Gaussians, d=10, {v}": (f"KL of shifted Gaussians, d=10, {v}", "classifier")
       for v in ("0.5", "2", "8")},
    "KL(N(0, 4I), N(0, I)), Gaussian base":
        ("KL(N(0,4I) || N(0,I)), d=10, Gaussian base", "classifier, forward"),
    "its reverse": ("KL(N(0,4I) || N(0,I)), d=10, Gaussian base", "classifier, reverse"),
    "P = Q, n = 1000": ("P = Q, n = 1000", "classifier"),
    **{f"staircase d=20, MI {v}": ("staircase d=20, batch 64, one network", f"MI {v}: classifier")
       for v in (2, 4, 6, 8, 10)},
    "telescoping, Gaussian": ("staircase d=20, MI 10", "telescoping"),
    "telescoping, spiral": ("spiral of staircase d=20, MI 10", "telescoping"),
    **{f"node against graph, rho {v}": (f"node against mean-pooled graph, rho {v}", "classifier")
       for v in ("0", "0.5", "0.8")},
    "independent, graph sizes 5 and 50": ("independent, graph sizes {5, 50}", "classifier"),
    "the same, negatives not weighted by size":
        ("independent, graph sizes {5, 50}", "negatives not weighted"),
}  # fmt: skip
TASKS = (
    "normal 1x1", "Student 5x5, dof 3", "asinh of Student 2x2, dof 1", "half-cube of normal 1x1",
    "wiggly normal 1x1", "normal CDF of normal 5x5", "spiral of normal 3x3", "swiss roll 2x1",
    "additive noise 1x1, width 0.1",
)  # fmt: skip
COVER = "coverage of the 95% interval, 200 repeats: "
OURS = ("dv", "nwj", "smile(5)", "infonce", "Gaussian base", "telescoping")
MIST = tuple(f"torch-mist {name}" for name in ("smile", "js", "nwj", "infonce"))


@block(
    "critic", [MI, "mutual_information_readings.csv", "kl_forward_reverse.png"],
    "python benchmarks/mutual_information.py --root benchmarks/results --seeds 5 --mist PYTHON",
    seeds="5 seeds",
)  # fmt: skip
def critic() -> str:
    found, readings, rows = Records(MI), lines("mutual_information_readings.csv"), []
    for name, (case, system) in CASES.items():
        truth = found(case, system, "truth")
        every = [float(r["value"]) for r in readings if (r["case"], r["system"]) == (case, system)]
        far = max(every, key=lambda value: abs(value - truth))
        mean = found.text(case, system, "mean", fixed(3), True)
        rows.append([name, f"{truth:.3f}", mean, f"{far:.3f}"])
    shares = {
        "two-sample KL": ("two-sample KL", "classifier"), "pairs": ("pairs", "classifier"),
        "node against graph, clustered by graph": ("nodes and graphs", "classifier"),
        "the same, not clustered": ("nodes and graphs", "not clustered"),
    }  # fmt: skip
    cover = [[name, f"{found(COVER + case, s, 'mean'):.1%}"] for name, (case, s) in shares.items()]
    body = []
    for task in TASKS:
        default = found(task, "classifier", "mse")
        best = [min((found(task, s, "mse"), s) for s in group) for group in (OURS, MIST)]
        body.append([task, small(default), *(f"{small(value)}, {s}" for value, s in best)])
    return "\n\n".join([
        table(["nats", "truth", "mean and deviation", "farthest seed"], rows),
        table(["share of 200 intervals of 95% that hold the truth", ""], cover),
        table(["mean squared error", "default", "best other of ours", "best of torch-mist"], body),
    ])  # fmt: skip


READINGS = "mutual_information_readings.csv"
INTERVALS = "intervals of trained estimates: "


def _error(rows: list[dict[str, str]]) -> float:
    """Mean squared error."""
    return sum((float(r["value"]) - float(r["truth"])) ** 2 for r in rows) / len(rows)


def _share(count: int, of: int) -> str:
    low, high = binomtest(count, of).proportion_ci()
    return f"{count} of {of} ({low:.0%} to {high:.0%})"


def _held(row: dict[str, str]) -> bool:
    return abs(float(row["value"]) - float(row["truth"])) <= 1.96 * float(row["stderr"])


@block(
    "estimates", [READINGS], "python benchmarks/mutual_information.py --root benchmarks/results "
    "--peer diffusion-mi=PYTHON --json benchmarks/results/mutual_information.json",
    day="2026-11-27", version="0.2.0", seeds="as many seeds as each table says",
)  # fmt: skip
def estimates() -> str:
    by = defaultdict(list)
    for row in lines(READINGS):
        by[row["case"], row["system"]].append(row)
    ours = (*OURS, "classifier")
    body, won = [], 0
    for task in TASKS:
        own = by.get((task, "estimate_mi"), [])
        seeds = {row["seed"] for row in own if row["part"] == "default"}
        error = {
            system: _error([r for r in rows if r["seed"] in seeds])
            for (case, system), rows in by.items()
            if case == task and seeds and seeds <= {r["seed"] for r in rows}
        }  # fmt: skip
        if not error:
            continue
        groups = [[e for e in error.items() if keep(e[0])] for keep in (
            ours.__contains__, "KSG".__eq__, lambda s: "torch-mist" in s,
        )]  # fmt: skip
        won += min(error, key=error.get) == "estimate_mi"
        least = (min((value, name) for name, value in group) for group in groups)
        held = sum(map(_held, own))
        body.append([
            task, len(seeds), small(error["estimate_mi"]),
            *(f"{small(v)}, {name.removeprefix('torch-mist ')}" for v, name in least),
            f"{held} of {len(own)}",
        ])  # fmt: skip
    tasks = table(
        [f"mean squared error; `estimate_mi` lowest on {won} of {len(body)}", "seeds",
         "`estimate_mi`", "best critic alone", "k nearest neighbours", "best of torch-mist",
         "intervals that hold"], body,
    )  # fmt: skip
    cover = [
        [case.removeprefix(INTERVALS), _share(sum(map(_held, rows)), len(rows)),
         fixed(3)(mean_of(rows, "value")), rows[0]["truth"][:5], fixed(3)(mean_of(rows, "stderr"))]
        for (case, _), rows in by.items() if case.startswith(INTERVALS)
    ]  # fmt: skip
    doubts = [
        [name, _share(sum(float(r["flagged"]) == 1 for r in rows), len(rows))]
        for (case, name), rows in by.items() for name in [name if name != "estimate" else case]
        if rows[0]["part"] == "verdicts"
    ]  # fmt: skip
    families = [
        [case, fixed(2)(float(own[0]["truth"])),
         *(fixed(2)(mean_of(by[case, s], "value")) for s in ("estimate_mi", "KSG")),
         fixed(2)(mean_of(own, "stderr")), "yes" if float(own[0]["flagged"]) else ""]
        for (case, system), own in by.items()
        if own[0]["part"] == "families" and system == "estimate_mi"
    ]  # fmt: skip
    timed = [
        [system, fixed(3)(mean_of(rows, "value")), short(mean_of(rows, "seconds")) + " s"]
        for (case, system), rows in by.items() if rows[0]["part"] == "time"
    ]  # fmt: skip
    parts = [
        (tasks, body),
        (table(["intervals of trained estimates", "hold the truth (95% of the share)", "mean",
                "truth", "mean standard error"], cover), cover),
        (table(["verdicts", "flagged (95% of the share)"], doubts), doubts),
        (table(["family, 10,000 pairs", "truth", "`estimate_mi`", "k nearest neighbours",
                "standard error", "flagged"], families), families),
        (table(["10,000 pairs, d=5, truth 2", "reading", "processor"], timed), timed),
    ]  # fmt: skip
    return "\n\n".join(text for text, rows in parts if rows)


POISSON = (
    *("ours: 128, 32, 8 nodes", "tgp k-MIS U-Net", "bi-stride U-Net", "flat GraphSAGE"),
    "PyG GraphUNet",
)


@block(
    "headline",
    [f"{n}.json" for n in ("compression", "mesh_physics", "pooling", "scale")]
    + [INSTANCES, "segmentation_nuclei2018.json"],
)
def headline() -> str:
    error, step, cost = (Records(f"{name}.json") for name in ("compression", "pooling", "scale"))
    rows = []
    for case in error.names(0):
        what = f"error of {case} at {error(case, 'ours', 'floats'):.2f} floats a node"
        peers = {s: small(error(case, s, "mse")) for s in ("harmonic", "biharmonic", "spectral")}
        text = ", ".join(f"{name} {value}" for name, value in peers.items())
        rows.append([what, small(error(case, "ours", "mse")), text, "compression.py"])
    mesh = Records("mesh_physics.json")
    ours, *others = (mesh.text("poisson", s, "share_500", fixed(3)) for s in POISSON)
    what = "Poisson on unseen meshes of the trained size, share left (3 seeds; PyG {})"
    what = what.format(mesh.seeds("poisson", "PyG GraphUNet", "share_500"))
    text = ", ".join(f"{name} {value}" for name, value in zip(POISSON[1:], others))
    rows.append([what, ours, text, "mesh_physics.py --name poisson"])
    for case, name in (("cora", "Cora"), ("pubmed", "Pubmed")):
        peer, ours = (seconds(step(case, s, "step_s")) for s in ("PyG GraphUNet", "ours"))
        text = f"PyG's, with the same outputs, {peer}"
        rows.append([f"`GraphUNet`'s step at {name}'s size (0.1.0)", ours, text, "pooling.py"])
    walk, peer = (seconds(cost("unet pubmed", s, "seconds")) for s in ("walk", "pyg.GraphUNet"))
    what = "`connect='walk'`, hidden 64, at Pubmed's size (0.1.0)"
    rows.append([what, walk, f"PyG's GraphUNet {peer}", "scale.py"])
    many, case = Records(INSTANCES), "1e6 nodes, 5041 instances"
    names = ("pyg_gunet", "stardist", "torchmetrics", "numpy.unique of pairs")
    ours, *times = (f"{many(case, s, 'seconds'):.2f} s" for s in names)
    text = ", ".join(f"{name} {time}" for name, time in zip(names[1:], times))
    what = "panoptic quality of 1e6 nodes, 5,041 instances"
    rows.append([what, ours, text, "segmentation.py --name instances"])
    nuclei = Records("segmentation_nuclei2018.json")
    names = ("ours", "convolutional U-Net", "flat GNN, SAGE", "Otsu, untrained", "PyG GraphUNet")
    ours, *others = (f"{nuclei('nuclei2018', s, 'pq'):.3f}" for s in names)
    text = ", ".join(f"{name} {value}" for name, value in zip(names[1:], others))
    what = "panoptic quality of unseen microscope images, nuclei2018 (2 folds; PyG 1)"
    rows.append([what, ours, text, "segmentation.py --name nuclei2018"])
    cells = [[*row[:3], f"`python benchmarks/{row[3]}`"] for row in rows]
    return table(["what", "ours", "peers", "command"], cells)
