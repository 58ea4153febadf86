"""Runs one estimator of a peer on stored samples; started by mutual_information.py with the Python
of an environment that holds the peer: ``pip install torch torch-mist "pandas<3"``,
``pip install diffusion-mi==0.1.0`` or ``pip install latentmi==0.1.3``.

Prints a JSON object, value and seconds of CPU, as its last line. What a package leaves open is set
here: the hidden sizes of ours, and training several times as long where it is a diffusion.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Arrays = dict[str, tuple[Any, Any]]


def torch_mist(name: str, data: Arrays, quick: bool) -> float:
    from torch_mist import estimate_mi

    parts = {k: tuple(map(torch.from_numpy, v)) for k, v in data.items()}
    value = estimate_mi(
        data=parts["train"],
        valid_data=parts["val"],
        test_data=parts["test"],
        estimator=name,
        max_iterations=40 if quick else 2000,
        batch_size=128,
        hidden_dims=[64, 64],
        verbose=False,
        logger=False,
    )
    return float(value)


def diffusion_mi(name: str, data: Arrays, quick: bool) -> float:
    from dmi import estimators

    standard = {}
    for side in (0, 1):
        train = data["train"][side]
        shift, scale = train.mean(0), train.std(0)
        for part, pair in data.items():
            standard[part, side] = (pair[side] - shift) / scale
    fit = [standard[part, side] for part in ("train", "val") for side in (0, 1)]
    read = [standard["test", side] for side in (0, 1)]
    if name == "MINDE":  # the conditional one; no held-out part stops it, so it learns from both
        model = estimators.MINDEEstimator(
            learning_rate=1e-3, batch_size=128, max_epochs=1 if quick else 100
        )
        fit = [np.concatenate([fit[side], fit[2 + side]]) for side in (0, 1)]
    elif name == "MMG":
        model = estimators.MMGEstimator(learning_rate=1e-3, max_n_steps=20 if quick else 4000)
    else:
        model = estimators.DIMEEstimator(
            learning_rate=1e-3,
            max_n_steps=20 if quick else 2000,
            max_epochs=None,
            hidden_layers=(64, 64),
        )
    model.fit(*fit)
    return float(model.estimate(*read))


def latentmi(name: str, data: Arrays, quick: bool) -> float:
    from latentmi import lmi

    x, y = (np.concatenate([pair[side] for pair in data.values()]) for side in (0, 1))
    dims = min(8, max(x.shape[1], y.shape[1]))
    read = lmi.estimate(x, y, N_dims=dims, epochs=2 if quick else 300, lr=1e-3)
    return float(np.nanmean(read[0]))


PACKAGES: dict[str, Callable[[str, Arrays, bool], float]] = {
    "torch-mist": torch_mist,
    "diffusion-mi": diffusion_mi,
    "latentmi": latentmi,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", help="npz file with x, y and the sizes of train, val and test")
    parser.add_argument("--package", required=True, choices=PACKAGES)
    parser.add_argument("--estimator", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    stored = np.load(args.samples)
    cuts = np.cumsum(stored["sizes"])[:2]
    parts = zip(("train", "val", "test"), np.split(stored["x"], cuts), np.split(stored["y"], cuts))
    data = {name: (x, y) for name, x, y in parts}
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002, peers draw from it
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        value = PACKAGES[args.package](args.estimator, data, args.quick)
    print(json.dumps({"value": value, "seconds": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    main()
