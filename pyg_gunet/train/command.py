"""Settings from files and the command line, by jsonargparse: types are checked, names are known."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser
from pytorch_lightning import Trainer

from pyg_gunet.train.config import (
    GIVEN,
    Config,
    adapted,
    data_class,
    merged,
    parameters,
    task_class,
)


def make_parser(task: str, datamodule: str) -> ArgumentParser:
    """The parser of the settings of a task on a data module."""
    parser = ArgumentParser(prog="pyg-gunet fit", exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--task", type=str, default=task)
    parser.add_argument("--datamodule", type=str, default=datamodule)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=int, default=0)
    for cls, group in ((task_class(task), "model"), (data_class(datamodule), "data")):
        skip = GIVEN & parameters(cls) if group == "model" else {"seed"} & parameters(cls)
        parser.add_class_arguments(cls, group, skip=skip, fail_untyped=False, instantiate=False)
    parser.add_class_arguments(
        Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True
    )
    parser.set_defaults(
        {"trainer.check_val_every_n_epoch": None, "trainer.devices": 1, "trainer.logger": None}
    )
    return parser


def parse(task: str, datamodule: str, configs: Sequence[Config], tokens: Sequence[str]) -> Config:
    """The settings from `configs`, later ones over earlier ones, and the command line's over all.

    Raises:
        ValueError: If an option is unknown or of the wrong type.
    """
    parser = make_parser(task, datamodule)
    named: Config = {}
    for token in tokens:
        name, _, value = token.removeprefix("--model.").partition("=")
        named[name.partition(".")[0]] = int(value) if value.isdecimal() else value
    shipped, *files = configs
    shipped = adapted(shipped, merged(*files, {"model": named})["model"])
    args = []
    for config in (shipped, *files):
        left = {k: v for k, v in config.items() if k not in ("task", "datamodule", "config")}
        if left:
            args.append(f"--config={yaml.safe_dump(left)}")
    try:
        found = parser.parse_args([*args, *tokens])
    except argparse.ArgumentError as error:
        raise ValueError(_short(str(error))) from error
    plain = yaml.safe_load(parser.dump(found, skip_validation=True))
    config = {key: plain.get(key) or {} for key in ("model", "data", "trainer")}
    for group, values in config.items():
        config[group] = {key: value for key, value in values.items() if value is not None}
    config = {"task": task, "datamodule": datamodule, "seed": found.seed, **config}
    config["patience"] = found.patience
    standard = yaml.safe_load(parser.dump(parser.get_defaults(), skip_validation=True))["trainer"]
    config["trainer"] = {k: v for k, v in config["trainer"].items() if v != standard.get(k)}
    devices = config["trainer"].get("devices")
    if isinstance(devices, str) and devices.isdecimal():  # the Trainer takes both, and so reads one
        config["trainer"]["devices"] = int(devices)
    return config


def _short(text: str) -> str:
    """jsonargparse's words for what is wrong, in ours."""
    text = " ".join(text.split())
    key = re.search(r'[Kk]ey "?([\w.]+)"?', text)
    got = re.search(r"(?:Got value:|value:|got:?|Invalid value) *['\"]?([^'\"]{1,60})", text)
    if text.lower().startswith("unrecognized arguments:"):
        return "unrecognized argument" + text.partition(":")[2]
    if key and got:
        name = key.group(1).rpartition(".")[2]
        choices = re.search(r"Literal\[([^\]]*)\]|Expected (?:a |an )?([^.]*)", text)
        wanted = "" if choices is None else choices.group(1) or choices.group(2)
        what = "one of " if choices and choices.group(1) else ""
        return f"'{name}' must be {what}{wanted} (got {got.group(1).strip()!r})"
    return text
