"""``pyg-gunet fit | validate | test | predict | embed``. Nothing heavy is imported before a command
runs.

Settings are parsed by jsonargparse from the signatures of the task's module, the data module and
Lightning's Trainer, as LightningCLI does. LightningCLI itself would not carry what a run promises:
its defaults cannot hang on the data that was read, it writes ``config.yaml`` before the first step
(a run that fails leaves nothing here), it imports the classes that a checkpoint names, and its help
takes as long as the imports of torch, PyG and Lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyg_gunet import options
from pyg_gunet.extras import extra

DATASETS = (
    "karate, grid, ring, bunny, minnesota, airfoil, logo, digits, Planetoid/NAME, TU/NAME, "
    "LRGB/NAME, ogbn-NAME, ogbg-NAME, ShapeNet, ShapeNet/CATEGORY, CLASS/NAME of PyG, "
    "MODULE:CLASS, images:DIR (a folder with images/ and masks/), a path to a graph or mesh file "
    "or to a folder of them"
)
_PACKAGES = (
    *("pyg_gunet", "python", "torch", "torch-geometric", "torchmetrics", "scipy", "ogb"),
    *("pytorch-lightning", "jsonargparse", "torch-scatter", "torch-sparse", "pyg-lib"),
)
COMMANDS = {
    "fit": "train, and write checkpoints, figures and pictures",
    "validate": "print what a checkpoint reads on the validation part",
    "test": "print the figures of a checkpoint (evaluate is the same)",
    "predict": "write what a checkpoint says of data, with or without labels",
    "embed": "write embeddings of data, and a picture of them",
    "completion": "print what a shell completes commands and options by",
}
SHELLS = ("bash", "zsh", "tcsh")
INTERRUPTED = 130


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        from pyg_gunet import __version__

        known = {"python": sys.version.split()[0], "pyg_gunet": __version__}
        for name in _PACKAGES:
            if name in known:
                print(f"{name} {known[name]}")
                continue
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} is not installed")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of commands and of what is no setting of a run."""
    parser = argparse.ArgumentParser(
        "pyg-gunet",
        description="Multi-scale networks on graphs: auto-encoding, classification, segmentation.",
        epilog=f"Data: {DATASETS}. 'pyg-gunet fit --task TASK --help' shows all options of a task.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        aliases = ["evaluate"] if name == "test" else []
        command = commands.add_parser(
            name, help=text, aliases=aliases, add_help=False, allow_abbrev=False,
            epilog=f"Data: {DATASETS}.",
            usage=f"pyg-gunet {name} [options]" if name == "fit" else None,
        )  # fmt: skip
        add = command.add_argument
        add("-h", "--help", action="store_true", help="show this help and exit")
        add("--quiet", action="store_true", help="no progress bar, no report")
        add("--traceback", action="store_true", help="show where an error arose")
        add("--import", metavar="MODULE", action="append", dest="imports", default=[],
            help="import a module first: a checkpoint may then name its classes")  # fmt: skip
        if name == "fit":
            _add_fit(add)
            continue
        if name == "completion":
            add(
                "shell",
                nargs="?",
                choices=SHELLS,
                help='as in: eval "$(pyg-gunet completion bash)"',
            )
            continue
        add("ckpt", metavar="CKPT", nargs="?", help="a checkpoint of fit, or a run's folder")
        if name in ("test", "validate"):
            add("--json", action="store_true", help="print JSON")
        else:
            add("--out", help="the file to write: .npz, of predict also .csv or a folder of images")
            add("--overwrite", action="store_true", help="replace --out")
        if name == "embed":
            add("--level", help="nodes, graph or latent")
    return parser


def _add_fit(add: Any) -> None:
    add("--task", "--model", metavar="TASK",
        help=f"what to train: {', '.join(options.TASKS)}, or the class path of a LightningModule "
        "(default: autoencode)")  # fmt: skip
    add("--dataset", "--data.dataset", metavar="NAME", help="data set or path (default: bunny)")
    add("--datamodule", "--data", metavar="CLASS",
        help="OneGraph, Graphs, Images, or a class path (default: by the data)")  # fmt: skip
    add("--config", action="append", default=[], metavar="FILE", help="settings, a YAML file")
    add("--print_config", "--print-config", action="store_true",
        help="print the settings and exit")  # fmt: skip
    add("--epochs", metavar="N", help="passes over the training data (of one graph: steps)")
    add("--seed", type=int, help="seed of weights, splits, order and dropout (default: 0)")
    add("--seeds", type=int, metavar="N", help="N runs, of seeds 0 to N - 1: mean and deviation")
    add("--patience", type=int,
        help="stop after so many epochs without a better validation value; 0: never")  # fmt: skip
    add("--logger", help="csv or tensorboard, in the run's folder, or a class path")
    add("--callback", help="class path of a Lightning callback", metavar="CLASS", action="append",
        default=[])  # fmt: skip
    add("--out", help="folder of the run (default: runs/DATASET-TASK)")
    add("--overwrite", action="store_true", help="replace the run in --out")
    add("--resume", metavar="CKPT", help="go on from a checkpoint or a run's folder")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code: 0, 2 after an error, 130 after Ctrl-C, 143 after
    SIGTERM."""
    args, rest = build_parser().parse_known_args(argv)
    try:
        with extra(), warnings.catch_warnings():
            # Of PyG's import, on torch 2.15: nothing a user can mend.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
            code = _run(args, rest)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        _say("pyg-gunet: interrupted")
        return INTERRUPTED
    except Exception as error:
        if args.traceback:
            raise
        _say(f"pyg-gunet: error: {_told(error)}")
        return 2


def _told(error: Exception) -> str:
    """An error in one line. What the user can put right needs no name; anything else is shown with
    its own."""
    text = " ".join(str(error).split()) or "no more is known"
    known = isinstance(error, (ValueError, TypeError, IndexError, OSError, ModuleNotFoundError))
    known = known and type(error).__module__ == "builtins"
    told = known or isinstance(error, argparse.ArgumentError)
    return text if told else f"{type(error).__name__}: {text}"


def _say(text: str) -> None:
    if sys.stderr is not None and not sys.stderr.closed:
        print(text, file=sys.stderr)


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    if args.help:
        _help(args, rest)
        return 0
    for module in args.imports:
        import importlib

        sys.path.insert(0, os.getcwd())
        importlib.import_module(module)
    if args.command == "fit":
        return _fit(args, rest)
    if args.command == "completion":
        import shtab

        _changes(rest)  # takes none
        if args.shell is None:
            raise ValueError(f"'shell' must be one of {', '.join(SHELLS)} (got none)")
        parser = build_parser()
        _add_options(_command(parser, "fit"), "autoencode", "OneGraph")
        print(shtab.complete(parser, args.shell))
        return 0
    changes = _changes(rest)
    if args.ckpt is None:
        raise ValueError("'CKPT' must name a checkpoint or a run's folder (got none)")
    if args.command in ("predict", "embed"):
        if args.out is None:
            raise ValueError("'out' must name the file to write (got none)")
        from pyg_gunet.train import output

        more = {"level": args.level} if args.command == "embed" else {}
        write = output.embed if args.command == "embed" else output.predict
        shapes = write(args.ckpt, args.out, overwrite=args.overwrite, **more, **changes)  # type: ignore[operator]
        if not args.quiet:
            arrays = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
            print(f"wrote {args.out}: {arrays}")
        return 0
    from pyg_gunet import train
    from pyg_gunet.train import report

    read = train.validate if args.command == "validate" else train.evaluate
    figures = read(args.ckpt, **changes)
    if args.json:
        print(json.dumps(figures, indent=2))
    elif not args.quiet:
        report.print_figures(figures)
    return 0


def _changes(rest: list[str]) -> dict[str, Any]:
    """Options of the data module, for a checkpoint's."""
    import yaml

    names = {option.name for kind in options.DATA
             for option in options.groups("", kind)["data"]}  # fmt: skip
    changes: dict[str, Any] = {}
    for token in options.routed(rest, "", "Images"):
        key, _, text = token.removeprefix("--").partition("=")
        name = key.removeprefix("data.")
        value = yaml.safe_load(text)
        if name.startswith("options."):
            changes.setdefault("options", {})[name.removeprefix("options.")] = value
        elif not token.startswith("--") or name not in names:
            raise ValueError(f"unrecognized argument {token.partition('=')[0]!r}")
        else:
            changes[name] = str(value) if name in ("dataset", "root") else value
    return changes


def _command(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    subparsers: Any = parser._subparsers
    return subparsers._group_actions[0].choices[name]


def _add_options(command: argparse.ArgumentParser, task: str, datamodule: str) -> None:
    import yaml

    path = Path(__file__).parent / "configs" / f"{task}.yaml"
    shipped = yaml.safe_load(path.read_text()) if path.is_file() else {}
    options.add_help(command, task, datamodule, shipped or {})


def _help(args: argparse.Namespace, rest: list[str]) -> None:
    command = _command(build_parser(), args.command)
    if args.command == "fit":
        task, datamodule = args.task or "autoencode", args.datamodule or "OneGraph"
        if task in ("classify_graphs", "segment") and args.datamodule is None:
            datamodule = "Images" if task == "segment" else "Graphs"
        _add_options(command, task, datamodule)
    command.print_help()


# Fit --------------------------------------------------------------------------------------------


def _fit(args: argparse.Namespace, rest: list[str]) -> int:
    if args.resume is not None:
        if args.seeds is not None or args.config:
            raise ValueError("'resume' goes without 'seeds' and 'config': the checkpoint has them")
        return _finish(args, [_resume(args, rest)])
    if args.seeds is None:
        return _finish(args, [_train(args, rest, args.seed, args.out)])
    if args.seeds < 1:
        raise ValueError(f"'seeds' must be at least 1 (got {args.seeds})")
    runs = []
    for seed in range(args.seeds):
        out = None if args.out is None else str(Path(args.out) / f"seed-{seed}")
        runs.append(_train(args, rest, seed, out))
        if runs[-1].signal:
            break
    return _finish(args, runs)


def _resume(args: argparse.Namespace, rest: list[str]) -> Any:
    import yaml

    from pyg_gunet.train.restore import read_checkpoint
    from pyg_gunet.train.run import resume_run

    ckpt = Path(args.resume).expanduser()
    path = ckpt / "last.ckpt" if ckpt.is_dir() else ckpt
    checkpoint = read_checkpoint(path, "resume")
    config = checkpoint["run"]["config"]
    tokens = [*rest, *_typed(args)]
    changes: dict[str, Any] = {}
    for token in options.routed(tokens, config["task"], config["datamodule"]):
        name, equals, text = token.removeprefix("--").partition("=")
        if not equals:
            raise ValueError(f"unrecognized argument {token!r}")
        changes[name.rpartition(".")[2]] = yaml.safe_load(text)
    own = {"task": args.task, "seed": args.seed, "patience": args.patience, "logger": args.logger}
    for name, value in own.items():
        if value is not None and name != "logger" and value != config.get(name):
            raise ValueError(
                f"'{name}' cannot change on 'resume': the checkpoint has {config.get(name)!r} "
                f"(got {value!r})"
            )
    run = resume_run(
        ckpt, changes, args.out, logger=args.logger, overwrite=args.overwrite,
        progress=not args.quiet,
    )  # fmt: skip
    done = run.figures.get("epochs")
    if done is not None and done == checkpoint.get("epoch", -1) + 1:
        _say(f"pyg-gunet: all {done} epochs were done already; --epochs {2 * done} trains on")
    return run


def _typed(args: argparse.Namespace) -> list[str]:
    """What the outer parser has taken from the settings, given back to them."""
    tokens = [f"--dataset={args.dataset}"] if args.dataset is not None else []
    tokens += [f"--epochs={args.epochs}"] if args.epochs is not None else []
    return tokens + [f"--callback={path}" for path in args.callback]


def _train(args: argparse.Namespace, rest: list[str], seed: int | None, out: str | None) -> Any:
    import yaml

    files = [yaml.safe_load(Path(path).expanduser().read_text()) or {} for path in args.config]
    if not all(isinstance(config, dict) for config in files):
        raise ValueError(f"'config' must hold settings by name (got {args.config})")
    stored: dict[str, Any] = {}
    for config in files:
        stored.update(config)
    task = str(args.task or stored.get("task") or "autoencode")
    datamodule = args.datamodule or stored.get("datamodule")
    found = (stored.get("data") or {}).get("dataset", "bunny")
    dataset = str(args.dataset if args.dataset is not None else found)
    if args.dataset is None and found == "bunny":
        args.dataset = "bunny"
    top = {"seed": seed, "patience": args.patience}
    tokens = [f"--{name}={value}" for name, value in top.items() if value is not None]

    from pyg_gunet.train import run as runs
    from pyg_gunet.train.command import parse
    from pyg_gunet.train.config import data_class, parameters, prepare, task_class

    runs.check_out(out, args.overwrite)

    def settings(kind: str, shipped: dict[str, Any]) -> dict[str, Any]:
        more = {} if task in options.TASKS else {"model": parameters(task_class(task))}
        more |= {} if kind in options.DATA else {"data": parameters(data_class(kind))}
        given = options.routed([*rest, *_typed(args)], task, kind, more)
        return parse(task, kind, [shipped, *files], [*tokens, *given])

    if args.print_config:
        from pyg_gunet.train.config import defaults, kind_of

        try:
            config, _ = prepare(task, datamodule, settings, dataset)
        except (OSError, ImportError) as error:
            kind, name = kind_of(task, dataset)
            config = settings(datamodule or kind, defaults(name))
            print(f"# by the name of the data alone, which cannot be read: {_told(error)}")
        print(yaml.safe_dump(config, sort_keys=False), end="")
        raise SystemExit(0)
    config, data = prepare(task, datamodule, settings, dataset)
    return runs.train(
        config, data, out=out, logger=args.logger, overwrite=args.overwrite,
        progress=not args.quiet, verbose=not args.quiet,
    )  # fmt: skip


def _finish(args: argparse.Namespace, runs: list[Any]) -> int:
    last = runs[-1]
    if last.rank:  # of several processes the first one speaks
        return 0
    if last.signal:
        saved = (
            f"go on with: pyg-gunet fit --resume {last.folder}" if last.files else "nothing saved"
        )
        _say(f"pyg-gunet: interrupted; {saved}")
        return 128 + last.signal
    if args.quiet:
        return 0
    from pyg_gunet.train import report

    if len(runs) > 1:
        report.print_seeds([run.figures for run in runs])
    else:
        report.print_figures(last.figures)
    print("wrote")
    for run in runs:
        for path in run.files:
            print(f"  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
