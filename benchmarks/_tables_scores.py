"""Tables on segmentation: scores, their speed, networks."""

from __future__ import annotations

from _tables import Records, block, fixed, seconds, short, small, table

MANY = "1e6 nodes, 5041 instances"


@block(
    "instances", ["segmentation_instances.json"],
    "python benchmarks/segmentation.py --name instances --seeds 3",
    "2026-11-26", "medians of 3", "0.2.0",
)  # fmt: skip
def instances() -> str:
    found, rows = Records("segmentation_instances.json"), []
    for system in ("pyg_gunet", "numpy.unique of pairs", "stardist", "panoptica", "torchmetrics"):
        time, times = (found(MANY, system, m) for m in ("seconds", "times ours"))
        gap = found(MANY, system, "greatest difference of PQ, SQ, RQ")
        memory = short(found(MANY, system, "extra MB"))
        rows.append([system, f"{time:.2f}", f"{times:.1f}", memory, small(gap)])
    head = ["panoptic quality of 1e6 nodes, 5,041 instances", "seconds", "times ours", "extra MB"]
    gaps = [[case, *(found.text(case, s, "greatest difference", small) for s in PEERS)]
            for case in found.names(0) if case != MANY]  # fmt: skip
    second = table(["greatest difference from a peer", *PEERS], gaps)
    return f"{table([*head, 'greatest difference'], rows)}\n\n{second}"


PEERS = ("stardist", "torchmetrics", "panoptica", "monai", "skimage", "scipy's erosion")


@block(
    "speed", ["segmentation_speed.json"],
    "python benchmarks/segmentation.py --name speed --seeds 3",
    seeds="medians of 3",
)  # fmt: skip
def speed() -> str:
    found, case = Records("segmentation_speed.json"), "1e7 nodes, 21 classes"
    rows = [[s, f"{found(case, s, 'seconds'):.3f}", short(found(case, s, "times ours"))]
            for s in found.names(1)]  # fmt: skip
    return table([f"four scores of {case}", "seconds", "times ours"], rows)


@block(
    "digits", ["segmentation_digits.json", "segmentation_digits.csv"],
    "python benchmarks/segmentation.py --name digits",
    seeds="5 seeds, 20 epochs",
)  # fmt: skip
def digits() -> str:
    found = Records("segmentation_digits.json")
    order = sorted(found.names(1), key=lambda s: found("digits", s, "digit_iou"))
    columns = {"mean IoU of the ten digits": ("digits", "digit_iou")}
    rows = {
        name.replace("ours, ", "ours, `SAGEConv`, ", name.count("ours, GCN") == 0): name
        for name in order
    }
    return found.grid("8x8 digits", rows, columns, fixed(3), True)


@block(
    "nuclei", ["segmentation_nuclei.json", "segmentation_nuclei.csv"],
    "python benchmarks/segmentation.py --name nuclei --root DIR",
    seeds="5 seeds, a quarter of one image held out",
)  # fmt: skip
def nuclei() -> str:
    found, rows = Records("segmentation_nuclei.json"), []
    for system in found.names(1):
        share, low, high = (found("nuclei", system, m) for m in ("found", "low", "high"))
        more = [
            found.text("nuclei", system, m, fixed(3), True) for m in ("mean_iou", "gap_accuracy")
        ]
        rows.append([system, f"{share:.3f} [{low:.3f}, {high:.3f}]", *more])
    head = ["loss", "nuclei found at IoU 0.5", "mean IoU", "background between nuclei kept"]
    return table(head, rows)


@block(
    "borders", ["segmentation_graphs.json"],
    "python benchmarks/segmentation.py --name graphs",
    seeds="medians of 5",
)  # fmt: skip
def borders() -> str:
    found = Records("segmentation_graphs.json")
    rows = [[case, system, seconds(row["value"])] for (case, system, _), row in found.rows.items()]
    return table(["", "way", "time"], rows)


@block(
    "nuclei2018",
    ["segmentation_nuclei2018.json", "segmentation_nuclei2018.csv"],
    "python benchmarks/segmentation.py --name nuclei2018",
    "2026-11-27", "differences over images with 95% intervals", "0.2.0",
    "one thread of a busy machine",
)  # fmt: skip
def nuclei2018() -> str:
    found, case = Records("segmentation_nuclei2018.json"), "nuclei2018"
    rows = []
    for system in found.names(1):
        row = found.rows[case, system, "pq"]
        scores = [found.text(case, system, m, fixed(3)) for m in ("ap50", "pq", "sq")]
        gains = [found.rows[case, system, f"ours less it, {m}"] for m in ("ap50", "pq")]
        less = ["" if system == "ours" else f"{g['value']:+.3f} +- {g['std']:.3f}" for g in gains]
        counts = [f"{found(case, system, m):,.0f}" for m in ("seconds", "steps", "parameters")]
        speed = f"{found(case, system, 'seconds per image'):.2f}"
        rows.append([system, row["n"], *scores, *less, *counts, speed])
    head = ["", "folds", "AP50", "PQ", "SQ", "ours less it, AP50", "ours less it, PQ"]
    return table([*head, "seconds of training", "steps", "parameters", "seconds per image"], rows)
