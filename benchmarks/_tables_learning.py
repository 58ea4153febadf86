"""Tables on learning from few labels, and on filling in what is missing."""

from __future__ import annotations

import statistics

from _tables import Records, block, fixed, lines, mean_of, table

PERCENT = fixed(2)
ABLATION = {
    "all parts": "all parts", "no gPool: every level is the input graph": "no gPool",
    "induced edges in place of two-hop ones": "induced", "walks in place of two-hop edges": "walk",
    "no skip connections": "no skips",
    "skips after the convolution, a stem (the official code)": "skips after, stem",
    "spread in place of top-k": "spread", "levels added up in the read-out": "read-out added up",
    "the finest level alone in the read-out": "read-out of the finest",
}  # fmt: skip


@block(
    "grand", ["grand_control.json", "grand_control.csv"],
    "python benchmarks/grand_control.py --root DIR (and --name PubMed)",
    seeds="as told", version="0.2.0", day="2026-11-27", machine="one thread of a busy machine",
)  # fmt: skip
def grand() -> str:
    found, rows = Records("grand_control.json"), []
    for name in found.names(0):
        for system in found.names(1):
            if found(name, system, "test") is None:
                continue
            cells = [found.text(name, system, m, PERCENT, True) for m in ("val", "test")]
            epoch = f"{found(name, system, 'epoch'):.0f}"
            rows.append([name, system, *cells, epoch, found.seeds(name, system, "test")])
    return table(["GRAND", "settings", "validation %", "test %", "epoch", "seeds"], rows)


@block(
    "citation", ["citation.json", "citation.csv"],
    "python benchmarks/node_classification.py --root DIR --trials 1 (and --name PubMed)",
    seeds="as told", version="0.2.0", day="2026-11-27", machine="one thread of a busy machine",
)  # fmt: skip
def citation() -> str:
    found, rows = Records("citation.json"), []
    names = {
        "GCN": "GCN", "GAT": "GAT", "GRAND, the control without a U": "GRAND",
        "PyG's GraphUNet": "PyG GraphUNet", "ours, the paper's words": "ours: two_hop",
        "ours, levels that carry information": "ours: contract",
        "ours, `MixedGraphUNet` on such levels": "ours: mixed",
    }  # fmt: skip
    for name, system in names.items():
        cells = [name]
        for case in found.names(0):
            cells.append(found.text(case, system, "test_accuracy", PERCENT, True))
            cells.append(found.seeds(case, system, "test_accuracy"))
        rows.append(cells)
    head = [part for case in found.names(0) for part in (f"{case}, test %", "seeds")]
    return table(["", *head], rows)


@block(
    "default_classify", ["default_classify.json"],
    "python benchmarks/default_classify.py --root DIR --seeds 20 (and --name PubMed --seeds 5)",
    seeds="20 and 5", version="0.2.0", day="2026-11-27", machine="one thread of a busy machine",
)  # fmt: skip
def default_classify() -> str:
    found, rows, own = Records("default_classify.json"), [], "pyg-gunet fit"
    for case in found.names(0):
        logistic = found.text(case, "logistic regression", "test_accuracy", fixed(1))
        cells = [
            found.text(case, own, m, fixed(1), True) for m in ("val_accuracy", "test_accuracy")
        ]
        rows.append([case, *cells, logistic, found.text(case, own, "seconds", fixed(0))])
    head = [
        "`fit`, as it comes",
        "validation %",
        "test %",
        "logistic regression, test %",
        "seconds",
    ]
    return table(head, rows)


@block(
    "minesweeper", ["minesweeper.json", "minesweeper.csv"],
    "python benchmarks/minesweeper.py --root DIR --released --epochs 4000 --lr 2e-3 --skips none",
    seeds="one mask", version="0.2.0", day="2026-11-27", machine="one thread of a busy machine",
)  # fmt: skip
def minesweeper() -> str:
    found, rows = Records("minesweeper.json"), []
    names = {
        "no levels": "flat",
        "top-k, zeros back": "topk, keep, induced, zero; skips: none",
        "ours, `spread`, `contract`, `interpolate`":
            "spread, keep, contract, interpolate; skips: none",
    }  # fmt: skip
    for name, words in names.items():
        system = f"{words}; training nodes, as released"
        for case in found.names(0):  # a configuration each
            if found(case, system, "test") is not None:
                area = found.text(case, system, "test", fixed(1))
                rows.append([name, area, found.text(case, system, "epoch", fixed(0))])
    head = ["Minesweeper, no skips", "area under the curve, training nodes, %", "epoch"]
    return table(head, rows)


@block(
    "nodes", ["node_classification.json", "node_classification.csv"],
    "python benchmarks/node_classification.py --root DIR",
    seeds="8 seeds to search, 20 to test",
)  # fmt: skip
def nodes() -> str:
    found = Records("node_classification.json")
    names = {
        "GCN": "GCN", "GAT": "GAT", "GRAND, the control without a U": "GRAND",
        "PyG's GraphUNet": "PyG GraphUNet", "ours, `two_hop`, top-k": "ours: two_hop",
        "ours, `walk`, top-k": "ours: walk", "ours, `two_hop`, spread": "ours: spread",
        "ours, `MixedGraphUNet`": "ours: mixed",
    }  # fmt: skip
    metrics = (("search_val_accuracy", False), ("test_accuracy", True))
    rows = [[name, *(found.text("Cora", s, m, PERCENT, spread) for m, spread in metrics)]
            for name, s in names.items()]  # fmt: skip
    return table(["Cora", "validation %", "test %"], rows)


@block(
    "walk", ["walk_accuracy.json"],
    "python benchmarks/walk_accuracy.py --root DIR",
    seeds="10 seeds",
)  # fmt: skip
def walk() -> str:
    rows = {"`walk`": "walk", "`two_hop`": "two_hop"}
    found = Records("walk_accuracy.json")
    return found.grid("Cora", rows, {"test %": ("Cora", "test")}, PERCENT, True)


@block(
    "graphs", ["graph_classification.json", "graph_classification.csv"],
    "python benchmarks/graph_classification.py --root DIR",
    seeds="10 folds",
)  # fmt: skip
def graphs() -> str:
    found = Records("graph_classification.json")
    names = {
        "GCN, mean, max and sum of its output": "GCN", "GIN, the same": "GIN",
        "PyG's GraphUNet, the same": "PyG GraphUNet",
        "PyG's TopKPooling, mean and max of every level": "PyG TopKPooling",
        **{f"ours, `{s}`, `{c}`": f"ours: {s}, {c}"
           for s in ("topk", "spread") for c in ("two_hop", "walk")},
        "ours, the best of the four on each inner split": "ours",
    }  # fmt: skip
    return found.grid("MUTAG", names, {"test %": ("MUTAG", "test_accuracy")}, fixed(1), True)


@block(
    "ablation",
    ["ablation_nodes.json", "ablation_nodes.csv", "ablation_graphs.json", "ablation_graphs.csv"],
    "python benchmarks/ablation.py --task nodes --root DIR --json FILE (and --task graphs)",
    seeds="10 seeds; 10 folds",
)  # fmt: skip
def ablation() -> str:
    cora, mutag = Records("ablation_nodes.json"), Records("ablation_graphs.json")
    sets = (("Cora", cora), ("MUTAG", mutag))
    rows = [[name, *(found.text(case, s, "test_accuracy", PERCENT, True) for case, found in sets)]
            for name, s in ABLATION.items()]  # fmt: skip
    return table(["", "Cora, test %", "MUTAG, test %"], rows)


@block(
    "masked", ["masked_autoencoding.json", "masked_autoencoding.csv"],
    "python benchmarks/masked_autoencoding.py --root DIR (and --name PubMed)",
    seeds="as told", version="0.2.0", day="2026-11-27", machine="one thread of a busy machine",
)  # fmt: skip
def masked() -> str:
    found, runs = Records("masked_autoencoding.json"), lines("masked_autoencoding.csv")
    names = {
        "links hidden: graph convolutions, no U": "links: plain GNN",
        "links hidden: ours, all but the first and last on a coarser level": "links: ours",
        "links hidden, by own shares: graph convolutions, no U": "links, own share: plain GNN",
        "links hidden, by own shares: ours, on a coarser level": "links, own share: ours",
        "features hidden: ours, `two_hop`": "ours: two_hop",
        "features hidden: ours, `induced`": "ours: induced",
        "features hidden: two attention layers, no U": "plain GNN",
        "features hidden: ours, `induced`, before training": "untrained",
        "the words themselves": "words",
    }  # fmt: skip
    rows = []
    for case in found.names(0):
        for name, system in names.items():
            mine = [row for row in runs if (row["name"], row["system"]) == (case, system)]
            if mine:
                steps, val = f"{mean_of(mine, 'steps'):.0f}", f"{mean_of(mine, 'val'):.1f}"
                test = found.text(case, system, "probe_accuracy", PERCENT, True)
                rows.append([case, name, steps, val, test, len(mine)])
    return table(["", "linear probe", "steps", "validation %", "test %", "seeds"], rows)


@block(
    "words", ["feature_reconstruction.json", "feature_reconstruction.csv"],
    "python benchmarks/feature_reconstruction.py --root DIR",
    seeds="5 seeds",
)  # fmt: skip
def words() -> str:
    found = Records("feature_reconstruction.json")
    names = {
        "zero": "zero", "the word's mean": "mean", "the mean of the neighbours": "neighbours",
        "PCA, fitted with entries missing": "PCA", "GAE with a feature decoder": "GAE",
        "ours, skip-free": "ours", "ours, skip-free, `lift='propagate'`": "ours: propagate",
    }  # fmt: skip
    metrics = {"mse": fixed(5), "recall5": fixed(3), "recall10": fixed(3)}
    rows = [[name, *(found.text("Cora", s, m, form, True) for m, form in metrics.items())]
            for name, s in names.items()]  # fmt: skip
    return table(["Cora's hidden words", "mean squared error", "recall@5", "recall@10"], rows)


@block(
    "stations", ["imputation.json", "imputation.csv"],
    "python benchmarks/imputation.py --root WEATHER",
    seeds="5 seeds",
)  # fmt: skip
def stations() -> str:
    found = Records("imputation.json")
    names = {
        "`examples/imputation`: field and network": "ours",
        "its Gaussian field alone, untrained": "Gaussian field", "PCA (probabilistic)": "PCA",
        "k nearest stations": "k nearest", "graph Tikhonov": "Tikhonov",
        "GCN auto-encoder, best of three rates": "GCN auto-encoder", "the day's mean": "day's mean",
    }  # fmt: skip
    columns = {f"{float(c.split()[1]):.0%}": (c, "test_mae") for c in found.names(0)}
    return found.grid("error in degrees; stations silent", names, columns, fixed(3))


@block(
    "scatter", ["scatter.json"],
    "python benchmarks/scatter.py", seeds="15 calls",
)  # fmt: skip
def scatter() -> str:
    found = Records("scatter.json")
    rows = [[case, str(found(case, "torch-scatter", "calls")),
             *(f"{found(case, s, 'times_faster'):.2f}" for s in ("torch-scatter", "torch again"))]
            for case in found.names(0)]  # fmt: skip
    middle = statistics.median(float(row[2]) for row in rows)
    head = ["case", "calls of torch-scatter", "times faster with it", "without, measured again"]
    return f"{table(head, rows)}\n\nMedian {middle:.2f}."
