"""Runs torch-mist on stored samples; started by mutual_information.py with the Python of an
environment that holds torch-mist (``pip install torch torch-mist "pandas<3"``).

Prints one JSON object per estimator: name, value, seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", help="npz file with x and y of train, val and test")
    parser.add_argument("--estimators", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from torch_mist import estimate_mi

    torch.set_num_threads(1)
    stored = np.load(args.samples)
    data = {
        part: tuple(torch.from_numpy(stored[f"{side}_{part}"]) for side in "xy")
        for part in ("train", "val", "test")
    }
    for name in args.estimators:
        torch.manual_seed(args.seed)
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            value = estimate_mi(
                data=data["train"],
                valid_data=data["val"],
                test_data=data["test"],
                estimator=name,
                max_iterations=args.steps,
                batch_size=args.batch_size,
                hidden_dims=[args.hidden, args.hidden],
                verbose=False,
                logger=False,
            )
        seconds = time.process_time() - start
        print(json.dumps({"name": name, "value": float(value), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
