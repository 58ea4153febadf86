"""Node segmentation: speed of the scores, quality of the networks, border weights.

    python segmentation.py --name speed     # four scores against torchmetrics and numpy
    python segmentation.py --name instances # panoptic quality and others against the peers present
    python segmentation.py --name graphs    # image to graph, and border weights
    python segmentation.py --name digits    # IoU on pixel graphs of digits, by network
    python segmentation.py --name nuclei --root DIR   # instances found with border weights
    python segmentation.py --name nuclei2018          # AP50 and PQ on 220 images, by network
    python segmentation.py --name large               # seconds and memory of one large picture

`digits`, `nuclei` and `nuclei2018` keep every finished run in a CSV beside the JSON and go on from
there; `--runs 1` does one more and stops, and the table and the JSON come when all are there.
Timings are on one thread, systems in turns, medians; memory is the peak above the start of a call.
"""

from __future__ import annotations

from pathlib import Path

from _common import parser, write_json

CASES = ("speed", "instances", "graphs", "digits", "nuclei", "nuclei2018", "large")


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--runs", type=int, default=None, help="stop after so many new runs")
    args = p.parse_args()
    if args.name is not None and args.name not in CASES:
        raise SystemExit(f"--name must be one of {', '.join(CASES)} (got {args.name!r})")
    records = []
    rows = None if args.json is None else Path(args.json).with_suffix(".csv")
    if args.name in (None, "speed"):
        import _segmentation_speed as speed

        records += speed.run(args.quick, args.seeds or 5)
    if args.name in (None, "instances"):
        import _segmentation_instances as instances

        records += instances.run(args.quick, args.seeds or 5)
    if args.name in (None, "graphs"):
        import _segmentation_graphs as graphs

        records += graphs.run(args.quick, args.seeds or 5)
    if args.name in (None, "digits"):
        import _segmentation_digits as digits

        records += digits.run(args.quick, args.seeds or 5, rows, args.runs)
    if args.name == "nuclei" or (args.name is None and args.root is not None):
        import _segmentation_nuclei as nuclei

        records += nuclei.run(args.quick, args.seeds or 5, args.root, rows, args.runs)
    if args.name == "nuclei2018":
        import _segmentation_nuclei2018 as nuclei2018

        records += nuclei2018.run(args.quick, args.seeds or 2, args.root, rows, args.runs)
    if args.name == "large":
        import _segmentation_large as large

        records += large.run(args.quick)
    if records:
        write_json(args.json, records)


if __name__ == "__main__":
    main()
