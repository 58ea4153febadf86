"""``pyg-gunet fit | evaluate | embed``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from pyg_gunet.settings import Settings

DATASETS = (
    "karate, grid, ring, bunny, minnesota, airfoil, logo, digits, Planetoid/NAME, TU/NAME, "
    "LRGB/NAME, ogbn-NAME, ogbg-NAME, ShapeNet, ShapeNet/CATEGORY, CLASS/NAME of PyG "
    "(Amazon/Photo, Heterophilous/Minesweeper, ...), MODULE:CLASS, "
    "images:DIR (a folder with images/ and masks/), "
    "a path to a graph or mesh file or to a folder of them"
)


_PACKAGES = (
    "pyg_gunet",
    "python",
    "torch",
    "torch-geometric",
    "torchmetrics",
    "scipy",
    "pytorch-lightning",
    "torch-scatter",
    "torch-sparse",
    "pyg-lib",
    "ogb",
)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        for name in _PACKAGES:
            if name == "python":
                print(f"python {sys.version.split()[0]}")
                continue
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} is not installed")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; an option of ``fit`` is a field of :class:`Settings`."""
    parser = argparse.ArgumentParser(
        "pyg-gunet", description="Multi-scale auto-encoding on graphs.", epilog=f"Data: {DATASETS}."
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="print versions and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fit = commands.add_parser(
        "fit",
        help="train, and write checkpoints, figures and pictures",
        epilog=f"Data: {DATASETS}.",
    )
    for item in dataclasses.fields(Settings):
        _add_option(fit, item)
    fit.add_argument("--out", help="folder of the run (default: runs/DATASET-TASK)")
    fit.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    fit.add_argument("--resume", metavar="CKPT", help="go on from a checkpoint or a run's folder")

    evaluate = commands.add_parser("evaluate", help="print the figures of a checkpoint")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    embed = commands.add_parser("embed", help="write embeddings of a checkpoint's data set")
    embed.add_argument("--out", required=True, help="the .npz file to write")
    embed.add_argument("--level", default="nodes", help="nodes, graph or latent (default: nodes)")
    embed.add_argument("--overwrite", action="store_true", help="replace --out")
    for command in (evaluate, embed):
        command.add_argument("ckpt", metavar="CKPT", help="a checkpoint of fit, or a run's folder")
        command.add_argument("--dataset", default=argparse.SUPPRESS, help="another data set")
        command.add_argument("--root", default=argparse.SUPPRESS, help="its folder")
    for command in (fit, evaluate, embed):
        command.add_argument("--quiet", action="store_true", help="no progress bar, no report")
        command.add_argument("--traceback", action="store_true", help="show where an error arose")
    return parser


def _add_option(parser: argparse.ArgumentParser, item: dataclasses.Field[Any]) -> None:
    kind = str(item.type)
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": item.name}
    if kind.startswith("tuple"):
        options.update(nargs="+", type=_number, metavar="R")
    else:
        options["type"] = {"i": int, "f": float, "s": str}[kind[0]]
    value: Any = item.default
    default = "by task and data set" if value is None else value
    if isinstance(value, tuple):
        default = " ".join(map(str, value))
    text = f"{item.metadata['help']} (default: {default})"
    parser.add_argument("--" + item.name.replace("_", "-"), help=text, **options)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code: 0, 2 after an error, 130 after Ctrl-C."""
    args = vars(build_parser().parse_args(argv))
    command, traceback = args.pop("command"), args.pop("traceback")
    try:
        return {"fit": _fit, "evaluate": _evaluate, "embed": _embed}[command](args)
    except KeyboardInterrupt:
        print("pyg-gunet: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if traceback:
            raise
        text = " ".join(str(error).split()) or "no more is known"
        # What the user can put right needs no name; anything else is shown with its own.
        known = isinstance(error, (ValueError, TypeError, IndexError, OSError))
        name = "" if known and type(error).__module__ == "builtins" else f"{type(error).__name__}: "
        if isinstance(error, ModuleNotFoundError):
            name, text = "", f"{text}; the command line needs pip install 'pyg_gunet[train]'"
        print(f"pyg-gunet: error: {name}{text}", file=sys.stderr)
        return 2


def _fit(args: dict[str, Any]) -> int:
    out, overwrite = args.pop("out"), args.pop("overwrite")
    resume, quiet = args.pop("resume"), args.pop("quiet")
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    settings = Settings(**args)  # checked before anything heavy is imported

    from pyg_gunet.train import fit

    options = {"out": out, "overwrite": overwrite, "progress": not quiet}
    run = fit(resume=resume, changes=args, **options) if resume else fit(settings, **options)
    if run.rank:  # of several processes the first one speaks
        return 0
    if run.interrupted:
        saved = f"go on with: pyg-gunet fit --resume {run.folder}" if run.files else "nothing saved"
        print(f"pyg-gunet: interrupted; {saved}", file=sys.stderr)
        return 130
    if not quiet:
        _print_figures(run.figures)
        print("wrote")
        for path in run.files:
            print(f"  {path}")
    return 0


def _evaluate(args: dict[str, Any]) -> int:
    as_json, quiet = args.pop("json"), args.pop("quiet")

    from pyg_gunet.train import evaluate

    figures = evaluate(args.pop("ckpt"), **args)
    if as_json:
        print(json.dumps(figures, indent=2))
    elif not quiet:
        _print_figures(figures)
    return 0


def _embed(args: dict[str, Any]) -> int:
    quiet, out = args.pop("quiet"), args.pop("out")

    from pyg_gunet.train import embed

    shapes = embed(args.pop("ckpt"), out, **args)
    if not quiet:
        arrays = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        print(f"wrote {out}: {arrays}")
    return 0


def _print_figures(figures: dict[str, Any]) -> None:
    """A short table: ours, then what it has to beat."""
    print(f"{figures['dataset']}: {figures['split']}")
    size = ("graphs", "nodes", "edges", "features", "parameters")
    print("  " + ", ".join(f"{figures[key]:,} {key}" for key in size))
    if "epochs" in figures:
        print(
            f"  {figures['epochs']} epochs in {figures['seconds']} s, best: {figures['best_epoch']}"
        )
    measures = ("mse", "test_accuracy", "test_mean_iou", "masked_loss")
    measure = next(key for key in measures if key in figures)
    print(measure)
    for name, value in {"ours": figures[measure], **figures["baselines"]}.items():
        print(f"  {name:<28}{value:.4g}")
    for name in ("test_pixel_accuracy", "test_macro_f1", "instances_found"):
        if name in figures:
            print(f"{name:<30}{figures[name]:.4g}")
    if "per_class" in figures:
        print(f"{'class':<30}{'IoU':<10}accuracy")
        for label, scores in figures["per_class"].items():
            iou, accuracy = ("-" if v is None else f"{v:.4g}" for v in scores.values())
            print(f"  {label:<28}{iou:<10}{accuracy}")
    if "latent_floats" in figures:
        print(
            f"  latent: {figures['latent_floats']:,} floats, "
            f"{figures['latent_floats_per_node']:.3g} per node of "
            f"{figures['input_floats_per_node']} features"
        )


if __name__ == "__main__":
    sys.exit(main())
