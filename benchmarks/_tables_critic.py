"""Tables on the critics, and the README's figures from all files."""

from __future__ import annotations

from _tables import Records, block, fixed, lines, seconds, small, table

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


POISSON = (
    *("ours: quarter, gate twice", "tgp k-MIS U-Net", "bi-stride U-Net", "flat GraphSAGE"),
    "PyG GraphUNet",
)


@block(
    "headline",
    [f"{n}.json" for n in ("compression", "mesh_physics", "pooling", "scale")] + [INSTANCES],
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
    what = "Poisson on unseen meshes of the trained size, share left (3 seeds; PyG 1)"
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
    cells = [[*row[:3], f"`python benchmarks/{row[3]}`"] for row in rows]
    return table(["what", "ours", "peers", "command"], cells)
