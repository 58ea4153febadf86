"""One page that holds a run: figures, pictures, settings."""

from __future__ import annotations

import base64
import html
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyg_gunet.files import write_aside

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ccc;"
    "text-align:left;vertical-align:top}img{max-width:100%}"
)


def write_report(path: Path, figures: dict[str, Any], pictures: Iterable[Path]) -> None:
    """Writes ``report.html``, which needs no other file."""
    title = html.escape(f"{figures.get('dataset', 'run')}: {figures['task']}")
    parts = [f"<h1>{title}</h1>", f"<p>{html.escape(str(figures.get('split', '')))}</p>"]
    counts = [(name, figures[name]) for name in (*COUNTS, "epochs", "seconds") if name in figures]
    parts.append("<h2>Figures</h2>" + _table([*summary(figures), *counts]))
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        name = html.escape(picture.stem)
        parts.append(f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{data}">')
    for name in ("settings", "versions"):
        parts.append(f"<h2>{name}</h2>" + _table(flat(figures.get(name, {}))))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    with write_aside(path) as file:
        file.write(page.encode())


COUNTS = ("graphs", "nodes", "edges", "features", "parameters")
MEASURES = ("mse", "test_accuracy", "test_mean_iou", "test_mse", "masked_loss")


def summary(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """The lines of a run's table: the measure of ours beside the baselines', then the rest. A
    baseline may name the measure that it is one of: ``'Otsu pq'`` stands beside ``test_pq``."""
    measure = next((name for name in MEASURES if name in figures), None)
    beside: dict[str, dict[str, Any]] = {} if measure is None else {measure: {}}
    for name, value in figures.get("baselines", {}).items() if beside else ():
        who, _, own = name.rpartition(" ")
        other = bool(who) and f"test_{own}" in figures
        beside.setdefault(f"test_{own}" if other else str(measure), {})[who if other else name] = (
            value
        )
    lines: list[tuple[str, Any]] = []
    for name, values in beside.items():
        lines += [(f"{name}, {who}", v) for who, v in {"ours": figures[name], **values}.items()]
    told = {*beside, *COUNTS, "dataset", "task", "seed", "split", "counting", "epochs", "seconds"}
    for key, value in figures.items():
        if key not in told and key != "best_epoch" and not isinstance(value, (dict, list)):
            lines.append((key, value))
    for label, scores in figures.get("per_class", {}).items():
        lines.append((f"class {label}: IoU, accuracy", ", ".join(map(shown, scores.values()))))
    return lines


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += flat(value, f"{prefix}{key}.")
        elif value is not None:
            lines.append((prefix + key, value))
    return lines


def shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "-" if value is None else str(value)


def _table(lines: Iterable[tuple[str, Any]]) -> str:
    rows = (f"<tr><th>{html.escape(k)}<td>{html.escape(shown(v))}" for k, v in lines)
    return f"<table>{''.join(rows)}</table>"


def print_seeds(figures: list[dict[str, Any]]) -> None:
    """Mean and deviation over seeds of every figure, over those that have it."""
    print(f"{figures[0].get('dataset', '')}: seeds 0 to {len(figures) - 1}, mean and deviation")
    flat = [{**one, **{f"{k} (baseline)": v for k, v in one.get("baselines", {}).items()}}
            for one in figures]  # fmt: skip
    for name in dict.fromkeys(name for one in flat for name in one):
        values = [one[name] for one in flat if one.get(name) is not None]
        if values and (isinstance(values[0], float) or name in ("epochs", "best_epoch")):
            spread = f"{statistics.stdev(values):.2g}" if len(values) > 1 else "-"
            told = "" if len(values) == len(flat) else f"  ({len(values)} of {len(flat)} seeds)"
            print(f"  {name:<38}{statistics.mean(values):<12.5g}{spread}{told}")


def print_figures(figures: dict[str, Any]) -> None:
    """A short table: ours, then what it has to beat."""
    if "dataset" in figures:
        print(f"{figures['dataset']}: {figures['split']}")
        print("  " + ", ".join(_count(figures[key], key) for key in COUNTS))
    if "epochs" in figures:
        epochs = _count(figures["epochs"], "epochs")
        print(f"  {epochs} in {figures['seconds']} s, best: {figures['best_epoch']}")
    for name, value in summary(figures):
        print(f"  {name:<38}{shown(value)}")


def _count(number: int, words: str) -> str:
    return f"{number:,} {words.removesuffix('s') if number == 1 else words}"
