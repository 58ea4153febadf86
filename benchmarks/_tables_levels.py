"""Tables on what levels carry and what they cost."""

from __future__ import annotations

import statistics

from _autoencoding_table import ranks, read
from _tables import RESULTS, Records, block, bold_least, fixed, lines, seconds, short, small, table

ONE = "one thread of a busy machine"
SETS = ("grid2d", "ring", "bunny", "airplane", "ant", "nut", "sphere")


@block(
    "compression", ["compression.json"],
    "python benchmarks/compression.py --runs RUNS", "2026-11-27", "1 seed", "0.2.0", ONE,
)  # fmt: skip
def compression() -> str:
    found, rows = Records("compression.json"), []
    for case in found.names(0):
        floats, time = found(case, "ours", "floats"), seconds(found(case, "ours", "seconds"))
        base = [found(case, s, "mse") for s in ("harmonic", "biharmonic", "spectral")]
        ours = [found(case, "ours", metric) for metric in ("untrained", "calibrated", "mse")]
        rows.append([case, f"{floats:.2f}", *bold_least([*base, *ours], small), time])
    names = ("harmonic", "biharmonic", "spectral low-pass", "ours, untrained", "calibrated", "ours")
    return table(["set", "floats per node", *names, "training"], rows)


@block(
    "picture", ["picture.json"],
    "python benchmarks/picture.py --root DATA",
    "2026-11-26", "1 seed", "0.2.0", ONE,
)  # fmt: skip
def picture() -> str:
    found = Records("picture.json")
    columns = {case: (case, "share of variance") for case in found.names(0)}
    rows = {name: name for name in found.names(1)}
    return found.grid("share of the variance left", rows, columns, lambda v: f"{v:.2g}")


MESHES = (
    "python benchmarks/mesh_physics.py --seeds {} --train 500 600 --meshes 80 "
    "--root DATA --json benchmarks/results/mesh_physics.json"
)


def _meshes(case: str, metrics: dict[str, str]) -> str:
    """The systems of a problem, the least left first; deviations over seeds where there are any."""
    found, rows = Records("mesh_physics.json"), []
    first = next(iter(metrics.values()))
    ran = [system for system in found.names(1) if found(case, system, first) is not None]
    ran = [system for system in ran if not system.startswith(("ours: +", "ours: -"))]  # mesh_words
    for system in sorted(ran, key=lambda s: found(case, s, first)):
        rows.append([system, *_mesh_cells(found, case, system, *metrics.values())])
    return table(["system", *metrics, "seeds", "seconds per epoch"], rows)


def _mesh_cells(found: Records, case: str, system: str, *metrics: str) -> list[str]:
    """The metrics, with deviations where there are several seeds, the seeds, seconds per epoch."""
    count = found.rows[case, system, metrics[0]]["n"]
    cells = [found.text(case, system, metric, fixed(3), count > 1) for metric in metrics]
    return [*cells, str(count), f"{found(case, system, 'epoch_seconds'):.2f}"]


@block(
    "poisson", ["mesh_physics.json", "mesh_physics.csv"],
    MESHES.format("3 --epochs 50 --name poisson --largest 500"),
    "2026-11-27", "seeds as told", "0.2.0", ONE,
)  # fmt: skip
def poisson() -> str:
    return _meshes("poisson", {"share of the variance left": "share_500"})


@block(
    "darcy", ["mesh_physics.json", "mesh_physics.csv"],
    MESHES.format("3 --epochs 50 --name darcy --largest 500"),
    "2026-11-27", "seeds as told", "0.2.0", ONE,
)  # fmt: skip
def darcy() -> str:
    return _meshes("darcy", {"share of the variance left": "share_500"})


@block(
    "advection", ["mesh_physics.json", "mesh_physics.csv"],
    MESHES.format("3 --epochs 100 --name advection --largest 500"),
    "2026-11-27", "seeds as told", "0.2.0", ONE,
)  # fmt: skip
def advection() -> str:
    return _meshes("advection", {"one step": "share_500", "50 steps on": "roll_500"})


@block(
    "mesh_speed", ["mesh_physics.json", "mesh_physics.csv"],
    "python benchmarks/mesh_physics.py --name speed --repeats 2 --root DATA "
    "--json benchmarks/results/mesh_physics.json",
    "2026-11-27", "medians of 2 steps", "0.2.0", ONE,
)  # fmt: skip
def mesh_speed() -> str:
    found, rows = Records("mesh_physics.json"), []
    sizes = [n for n in (2000, 8000, 32000) if f"speed {n}" in found.names(0)]
    for system in found.names(1):
        cells = [
            f"{seconds(found(f'speed {n}', system, 'step_seconds'))}, "
            f"{short(found(f'speed {n}', system, 'step_mb'))} MB"
            for n in sizes if found(f"speed {n}", system, "step_mb") is not None
        ]  # fmt: skip
        rows += [[system, *cells]] if cells else []
    return table(["processor time and memory of a step", *(f"{n:,} nodes" for n in sizes)], rows)


@block(
    "mesh_words", ["mesh_physics.json", "mesh_physics.csv"],
    MESHES.format("3 --epochs 50 --name poisson --largest 500"),
    "2026-11-27", "seeds as told", "0.2.0", ONE,
)  # fmt: skip
def mesh_words() -> str:
    found, rows = Records("mesh_physics.json"), []
    for system, words in {
        "ours: paper": "`topk`, `keep`, `two_hop`, `zero`",
        "ours: +select": "`spread`, `keep`, `two_hop`, `zero`",
        "ours: +reduce": "`spread`, `mean`, `two_hop`, `zero`",
        "ours: +lift": "`spread`, `mean`, `two_hop`, `interpolate`",
        "ours: +connect": "`spread`, `mean`, `contract`, `interpolate`: all four",
        "ours: -select": "`topk`, `mean`, `contract`, `interpolate`",
        "ours: -reduce": "`spread`, `keep`, `contract`, `interpolate`",
        "ours: -lift": "`spread`, `mean`, `contract`, `zero`",
    }.items():
        rows.append([words, *_mesh_cells(found, "poisson", system, "share_500")])
    return table(["Poisson", "share of the variance left", "seeds", "seconds per epoch"], rows)


@block(
    "unseen", ["unseen_graphs.json", "unseen_graphs.csv", "unseen_graphs_baselines.json"],
    "python benchmarks/unseen_graphs.py --root MESHES --seeds 3 --epochs 20 "
    "--system ours 'PyG TopK' bi-stride 'tgp NDP'",
    "2026-11-27", "3 seeds, NDP 1", "0.2.0", ONE,
)  # fmt: skip
def unseen() -> str:
    found, rows = Records("unseen_graphs.json"), []
    peers = ("PyG TopK", "bi-stride", "tgp NDP")
    for case in found.names(0):
        plain = ("mean", "harmonic", "biharmonic", "spectral low-pass")
        values = [found(case, system, "mse") for system in (*plain, *peers)]
        values += [found(case, "ours", metric) for metric in ("untrained", "calibrated", "mse")]
        cells = bold_least(values, small)
        cells[-1] += f" +- {small(found.rows[case, 'ours', 'mse']['std'])}"
        rows.append([case.replace(" floats per node", ""), *cells])
    names = ("mean", "harmonic", "biharmonic", "spectral", "PyG's top-k", "bi-stride", "NDP")
    ours = ("ours, untrained", "calibrated", "trained")
    return table(["graphs, floats per node", *names, *ours], rows)


@block(
    "poisson_sizes", ["mesh_sizes.json", "mesh_sizes.csv"],
    "python benchmarks/mesh_physics.py --name poisson --seeds 3 --train 500 2000 --meshes 80 "
    "--epochs 40 --largest 8000 --csv benchmarks/results/mesh_sizes.csv --root DATA",
    "2026-11-27", "seeds as told", "0.2.0", ONE,
)  # fmt: skip
def poisson_sizes() -> str:
    found = Records("mesh_sizes.json")
    sizes, rows = (500, 2000, 8000), []
    for system in sorted(found.names(1), key=lambda s: found("poisson", s, "share_8000")):
        count = found.rows["poisson", system, "share_500"]["n"]
        cells = [found.text("poisson", system, f"share_{n}", fixed(3), count > 1) for n in sizes]
        rows.append([system, *cells, count])
    head = ["share of the variance left", *(f"{n:,} nodes" for n in sizes), "seeds"]
    return table(head, rows)


@block(
    "pooling", ["pooling.json"],
    "python benchmarks/pooling.py",
    seeds="medians of 5 to 30 steps taken in turns",
    version="0.1.0, the last row and what is given back at once 0.2.0",
)  # fmt: skip
def pooling() -> str:
    found, rows = Records("pooling.json"), []
    names = {"cora": "Cora's size", "pubmed": "Pubmed's size", "batch128": "128 small graphs"}
    names["levels128"] = "the same, all four words, levels prepared"
    for case, name in names.items():
        peer, ours = ((s, *(found(case, s, m) for m in ("step_s", "peak_extra_mb")))
                      for s in ("PyG GraphUNet", "ours"))  # fmt: skip
        faster = f"{found(case, 'ours', 'speedup'):.1f}x"
        memory = [f"{short(peer[2])} MB", f"{short(ours[2])} MB"]
        given_back = [found(case, s, "live_mb") for s in ("PyG GraphUNet", "ours")]
        memory += [f"{short(mb)} MB" if mb else "" for mb in given_back]
        difference = small(found(case, "ours", "max_abs_difference"))
        rows.append([name, seconds(peer[1]), seconds(ours[1]), faster, *memory, difference])
    head = ["case", "PyG `GraphUNet`", "ours", "faster", "PyG, extra memory", "ours"]
    head += ["PyG, given back at once", "ours"]
    return table([*head, "largest difference of outputs"], rows)


@block(
    "kernels", ["kernels.json"],
    "python benchmarks/kernels.py",
    "2026-11-26", "medians of 5 to 100 calls", "0.2.0",
)  # fmt: skip
def kernels() -> str:
    found = Records("kernels.json")
    rows = [[case, *(short(found(case, s, "ms")) for s in ("private", "public"))]
            for case in found.names(0)]  # fmt: skip
    used = "scipy's private kernels (in use where it has them), ms"
    return table(["case", used, "its public ones, ms"], rows)


@block(
    "scale", ["scale.json", "scale.png"],
    "python benchmarks/scale.py", "2026-11-27", "medians",
    "0.1.0, `contract` and what stands beside it at arxiv's size 0.2.0",
)  # fmt: skip
def scale() -> str:
    found = Records("scale.json")

    def cost(case: str, system: str) -> str:
        if found(case, system, "step"):
            return f"{found(case, system, 'step')} at 16 GB"
        return (
            f"{seconds(found(case, system, 'seconds'))}, {short(found(case, system, 'peak_mb'))} MB"
        )

    sizes = {
        "Cora's, 10,556 edges": "unet cora",
        "Pubmed's, 88,648 edges": "unet pubmed",
        "a quarter of ogbn-arxiv's, 578,900 edges": "unet arxiv/4",
    }
    systems = ("pyg.GraphUNet", "two_hop", "sampled", "walk")
    first = [[size, *(cost(case, s) for s in systems)] for size, case in sizes.items()]
    head = ["size, hidden 64", "PyG `GraphUNet`", *(f"ours, `{s}`" for s in systems[1:])]
    flat = {
        "PyG `GCN`, 7 layers, on `edge_index`": "GCN edge_index",
        "PyG `GCN`, 7 layers, on a CSR adjacency": "GCN csr",
        "ours, `walk`, depth 3 (7 convolutions)": "walk",
        "the same on a prepared adjacency": "walk prepared",
        "ours, `walk`, depth 4": "walk depth 4",
        "ours, `contract`, depth 3, levels made in every step": "contract",
        "the same on prepared levels": "contract prepared",
        "with `reduce='mean'`, `lift='interpolate'`": "contract, mean, interpolate prepared",
    }
    second = [[name, *cost("gcn arxiv", system).split(", ")] for name, system in flat.items()]
    most = found("products", "walk", "process_peak_mb") / 1e3
    third = {
        size: f"slope {size}" for size in (10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7, 3 * 10**7)
    }
    body = []
    for name, system in {
        "`contract` step, levels prepared": "contract prepared",
        "`walk` step": "walk",
        "the same on 2 MB pages": "walk, huge pages",
        "one bare CSR product": "bare product, small pages",
    }.items():
        taken = [found(case, system, "seconds") for case in third.values()]
        cells = ["" if one is None else short(1e3 * one) for one in taken]
        body.append([name, *cells, f"{found('slope', system, 'slope'):.2f}"])
    floor = [f"{found('floor arxiv', s, 'over_floor'):.2f}" for s in ("step", "prepared")]
    growth = found("growth cora", "walk", "mb_over_300_steps")
    products = found("floor arxiv", "walk", "products")
    return "\n\n".join([
        table(head, first),
        table(["ogbn-arxiv's size, 169,343 nodes, hidden 64", "step", "extra memory"], second),
        f"ogbn-products' size, 2.4M nodes and 124M directed edges, hidden 32: "
        f"{seconds(found('products', 'walk', 'seconds'))} a step in a process of {most:.1f} GB. "
        f"{growth:.1f} MB more after 300 steps at Cora's size. Over the {products:.1f} sparse "
        f"products that a step must do: {floor[0]}, prepared {floor[1]}.",
        "Milliseconds against directed edges, 13.7 a node, hidden 32; a slope of 1.1 was the goal:",
        table(["directed edges", *(f"{size:.0e}" for size in third), "slope"], body),
    ])  # fmt: skip


@block(
    "coverage", ["spread_coverage.json", "spread.json"],
    "python benchmarks/spread.py --root MESHES --json FILE", seeds="2 seeds; 5 calls per time",
)  # fmt: skip
def coverage() -> str:
    found, time = Records("spread_coverage.json"), Records("spread.json")
    systems = ("top-k", "random", "k-MIS", "NDP", "spread")
    rows = [[s, *(found.text(f"{s}, ratio 0.1", m, "largest distance", fixed(1)) for m in systems)]
            for s in SETS]  # fmt: skip
    every = {size: [r["value"] for key, r in time.rows.items() if size in key[0] and key[2] == "s"]
             for size in ("1e+05", "1e+06")}  # fmt: skip
    text = "; ".join(f"{size} edges {min(v):.2g} to {max(v):.2g} s" for size, v in every.items())
    made = "Processor time of `spread`, version 0.2.0, one thread of a faster machine, 2026-11-27"
    return f"{table(['hops, at ratio 0.1', *systems], rows)}\n\n{made}: {text}."


@block(
    "selection", ["selection.json"],
    "python benchmarks/selection.py --root MESHES",
    seeds="3 seeds, 600 steps",
)  # fmt: skip
def selection() -> str:
    columns = {name: (name, "mean mse") for name in SETS}
    rows = {f"`{name}`": name for name in ("topk", "spread", "spread, quantiles=1")}
    return Records("selection.json").grid(
        "share of the variance", rows, columns, lambda v: f"{v:.2g}"
    )


@block(
    "autoencoding", ["autoencoding.json", "autoencoding.csv"],
    "python benchmarks/autoencoding.py --root MESHES", seeds="3 seeds on grid and ring, else 1",
    version="0.1.0; cells of meshes that have no rank 0.2.0, 2026-11-27, on another machine",
)  # fmt: skip
def autoencoding() -> str:
    found = Records("autoencoding.json")
    names = {
        "predict the mean": "mean", "PyG `TopKPooling`": "pyg-topk", "`GPool`, top-k": "gpool-topk",
        "PyG `SAGPooling`": "pyg-sag", "a fixed random half": "random", "NMF": "nmf",
        "LaPool": "lapool", "DiffPool": "diffpool", "MinCut": "mincut", "Graclus": "graclus",
        "k-MIS": "kmis", "NDP": "ndp", "`GPool`, spread": "gpool-spread",
        "the same, `quantiles=1`": "gpool-spread-fixed",
        "the same, and `lift='propagate'`": "gpool-spread-propagate",
        "all four words on a level made once (0.2.0)": "gpool-words", "no pooling": "none",
    }  # fmt: skip
    cut = {(f"{r['name']}, ratio {r['ratio']}, {r['levels']} level(s)", r["method"])
           for r in lines("autoencoding.csv") if r["stop"] == "time"}  # fmt: skip

    def rows(cases: list[str], systems: dict[str, str]) -> list[list[str]]:
        body = []
        for name, system in systems.items():
            cells = [found.text(case, system, "mse", small) for case in cases]
            marks = [" <" if (case, system) in cut else "" for case in cases]
            body.append([name, *(cell + mark for cell, mark in zip(cells, marks))])
        return [row for row in body if any(row[1:])]

    half = [f"{name}, ratio 0.5, 1 level(s)" for name in SETS]
    deeper = [(name, *way) for name in SETS[:2] for way in ((0.25, 1), (0.1, 1), (0.5, 3))]
    ways = {
        f"{name}, {ratio} x{levels}": f"{name}, ratio {ratio}, {levels} level(s)"
        for name, ratio, levels in deeper
    }
    fewer = {n: s for n, s in names.items() if found("ring, ratio 0.1, 1 level(s)", s, "mse")}
    return "\n\n".join(
        [
            table(["ratio 0.5", *SETS], rows(half, names)),
            _average_ranks(names),
            table(["smaller ratios, deeper", *ways], rows(list(ways.values()), fewer)),
        ]
    )


def _average_ranks(names: dict[str, str]) -> str:
    """Of those that pool and were run on all sets at one half: with ties, by plain order."""
    words = {system: name for name, system in names.items()}
    cells = read(RESULTS / "autoencoding.csv")["0.5", "1"]
    everywhere = set.intersection(*({*cells[name]} for name in SETS))
    whole = {name: {m: cells[name][m] for m in everywhere} for name in SETS}
    shared, plain = ({m: statistics.mean(at) for m, at in ranks(whole, within).items()}
                     for within in (1e-6, 0.0))  # fmt: skip
    told = [f"{words[m]} {shared[m]:.2f} ({plain[m]:.2f})" for m in sorted(shared, key=shared.get)]
    rule = "Average rank at one half, errors within the tolerance sharing one (by plain order)"
    return f"{rule}: {', '.join(told)}."
