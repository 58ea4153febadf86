r"""Divergences and mutual information of known size: our read-outs, critics and telescope, and
its peers on the same samples.

    python benchmarks/mutual_information.py --seeds 5 --json table.json

Every trained reading is from samples that neither trained nor stopped the critic. Readings are
kept in `--root`, one line per case, system and seed, written as soon as they are there, and only
missing ones are computed, so the table can be made in parts (`--name`, `--budget`). Seconds are CPU
seconds of training. Peers run in environments of their own, `--peer torch-mist=PYTHON`, say;
without it their rows come from `--root`, if there.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _mi_cases import Case, cases

BENCHMARK = "mutual_information"
FIELDS = ("part", "case", "system", "truth", "seed", "value", "stderr", "seconds", "flagged")
NUMBERS = ("truth", "value", "stderr", "seconds", "flagged")


def load(path: Path) -> list[dict[str, Any]]:
    """The readings made so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row["seed"] = int(row["seed"])
        row.update({k: float(row[k]) for k in NUMBERS})
    return rows


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Adds readings to the store."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def compute(todo: list[Case], path: Path, seeds: int, quick: bool, budget: float) -> bool:
    """Computes what is missing, first seeds first; returns whether nothing is missing now."""
    start = time.monotonic()
    for seed in range(max(case.repeats or seeds for case in todo) if todo and not quick else 1):
        for case in todo:
            if seed >= (case.repeats or seeds):
                continue
            done = {(r["part"], r["case"], r["seed"], r["system"]) for r in load(path)}
            if any(d[:3] == (case.part, case.name, seed) and case.owns(d[3]) for d in done):
                continue
            if time.monotonic() - start > budget:
                return False
            readings = list(case.run(seed, quick))
            append(
                path,
                [
                    {"part": case.part, "case": case.name, "seed": seed, **asdict(reading)}
                    for reading in readings
                ],
            )
            for r in readings:
                line = f"{case.name}, seed {seed}: {r.system} {r.value:.3f}"
                print(f"{line} +- {r.stderr:.3f} (truth {r.truth:.3f})", flush=True)
    return True


def summarize(rows: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Mean, bias, deviation, mean squared error and seconds over seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["seed"] < seeds or row["part"] in ("intervals", "verdicts"):
            part = "tasks" if row["part"] in ("peer", "default") else row["part"]
            groups[part, row["case"], row["system"]].append(row)
    out = []
    for (part, case, system), group in groups.items():
        values = torch.tensor([r["value"] for r in group], dtype=torch.float64)
        truths = torch.tensor([r["truth"] for r in group], dtype=torch.float64)
        errors = [r["stderr"] for r in group if not math.isnan(r["stderr"])]
        worst = max(group, key=lambda r: abs(r["value"] - r["truth"]))["value"]
        out.append(
            {
                "part": part,
                "case": case,
                "system": system,
                "truth": float(truths.mean()),
                "mean": float(values.mean()),
                "bias": float((values - truths).mean()),
                "deviation": float(values.std()) if len(group) > 1 else math.nan,
                "mse": float((values - truths).square().mean()),
                "stderr": sum(errors) / len(errors) if errors else math.nan,
                "seconds": sum(r["seconds"] for r in group) / len(group),
                "worst": worst,
                "values": values.tolist(),
                "n": len(group),
                "held": sum(abs(r["value"] - r["truth"]) <= 1.96 * r["stderr"] for r in group),
                "flagged": sum(r["flagged"] == 1 for r in group),
            }
        )
    return out


def verdict(entry: dict[str, Any], limits: tuple) -> str:
    """Whether every seed keeps the case's tolerance for this system."""
    for system, kind, numbers in limits:
        if system != entry["system"]:
            continue
        if kind == "held":
            share = entry["held"] / entry["n"]
            good = "ok" if numbers[0] <= share <= numbers[1] else "MISSED"
            return f"held by {share:.1%} of {entry['n']}: {good}; flagged {entry['flagged']}"
        if kind == "flagged":
            good = "ok" if entry["flagged"] <= numbers[0] else "MISSED"
            return f"flagged {entry['flagged']} of {entry['n']}, {numbers[0]} at most: {good}"
        target = {"within": entry["truth"], "near": numbers[0]}.get(kind, math.nan)
        keeps = {
            "within": lambda v, target=target, n=numbers: abs(v - target) <= n[-1],
            "near": lambda v, target=target, n=numbers: abs(v - target) <= n[-1],
            "min": lambda v, n=numbers: v >= n[0],
            "max": lambda v, n=numbers: v <= n[0] + 1e-9,
            "between": lambda v, n=numbers: n[0] <= v <= n[1],
        }[kind]
        text = {
            "within": f"+-{numbers[-1]:g}",
            "near": f"{numbers[0]:g}+-{numbers[-1]:g}",
            "min": f">= {numbers[0]:g}",
            "max": f"<= {numbers[0]:.3f}",
            "between": f"{numbers[0]:g}..{numbers[-1]:g}",
        }[kind]
        good = sum(keeps(v) for v in entry["values"])
        mean = "mean ok" if keeps(entry["mean"]) else "mean MISSED"
        return f"{text}: {mean}, {good}/{entry['n']} seeds"
    return ""


def report(entries: list[dict[str, Any]], all_cases: list[Case]) -> None:
    """Prints the table, and who wins where estimators compete."""
    limits: dict[str, tuple] = defaultdict(tuple)
    for case in all_cases:
        limits[case.name] += case.limits
    last = None
    head = (
        f"{'system':28}{'truth':>8}{'mean':>9}{'bias':>9}{'dev':>8}{'mse':>10}{'stderr':>8}{'s':>7}"
    )
    order = list(dict.fromkeys(case.name for case in all_cases))
    for entry in sorted(entries, key=lambda e: order.index(e["case"])):
        if entry["case"] != last:
            last = entry["case"]
            print(f"\n{last}\n{head}  tolerance")
        numbers = "".join(
            f"{entry[k]:>{w}.{p}g}" if abs(entry[k]) >= 1e4 else f"{entry[k]:>{w}.{p}f}"
            for k, w, p in (
                ("truth", 8, 3),
                ("mean", 9, 3),
                ("bias", 9, 3),
                ("deviation", 8, 3),
                ("mse", 10, 4),
                ("stderr", 8, 3),
                ("seconds", 7, 1),
            )
        )
        print(f"{entry['system']:28}{numbers}  {verdict(entry, limits[last])}")
    competing = defaultdict(list)
    for entry in entries:
        if entry["part"] == "tasks":
            competing[entry["case"]].append(entry)
    for level in (entry for entry in entries if entry["system"] == "MI 10: smile(5)"):
        ours = next(
            e for e in entries if (e["case"], e["system"]) == (level["case"], "MI 10: classifier")
        )
        print(
            f"\nMSE of smile(5) over ours at MI 10, same critic: {level['mse'] / ours['mse']:.1f}"
        )
    if competing:
        wins = [min(group, key=lambda e: e["mse"])["system"] for group in competing.values()]
        own = wins.count("estimate_mi")
        print(f"\nLowest mean squared error per task; the default's on {own} of {len(wins)}")
        for name, group in competing.items():
            ranked = sorted(group, key=lambda e: e["mse"])
            places = ", ".join(f"{e['system']} {e['mse']:.5f}" for e in ranked[:4])
            print(f"{name:28} {places}")


def records(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Flat records for the JSON file."""
    out = []
    for e in entries:
        for metric in ("truth", "mean", "bias", "mse", "seconds"):
            out.append(
                {
                    "benchmark": BENCHMARK,
                    "case": e["case"],
                    "system": e["system"],
                    "metric": metric,
                    "value": e[metric],
                    "std": None
                    if metric != "mean" or math.isnan(e["deviation"])
                    else e["deviation"],
                    "n": e["n"],
                }
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="runs", help="folder of the readings (default: runs)")
    parser.add_argument("--name", default="", help="only parts or cases with this in their name")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", help="write the table as flat records")
    parser.add_argument(
        "--quick", action="store_true", help="two cases a part, few steps, one seed: a smoke test"
    )
    parser.add_argument(
        "--peer", action="append", default=[], metavar="PACKAGE=PYTHON", help="a peer's environment"
    )
    parser.add_argument("--budget", type=float, default=math.inf, help="stop after S seconds")
    args = parser.parse_args()
    seeds = 1 if args.quick else args.seeds
    torch.set_num_threads(1)
    stem = f"{BENCHMARK}_quick" if args.quick else f"{BENCHMARK}_readings"
    path = Path(args.root) / f"{stem}.csv"
    all_cases = cases(dict(pair.split("=", 1) for pair in args.peer))
    todo = [c for c in all_cases if args.name in f"{c.part}: {c.name}"]
    if args.quick:  # two cases of every part
        todo = [c for c in todo if c in [o for o in todo if o.part == c.part][:2]]
    complete = compute(todo, path, seeds, args.quick, args.budget)
    entries = summarize(load(path), seeds)
    report(entries, all_cases)
    if not complete:
        print("\nThe table is not complete: run again.")
    if args.json:
        Path(args.json).write_text(json.dumps(records(entries), indent=1) + "\n")


if __name__ == "__main__":
    main()
