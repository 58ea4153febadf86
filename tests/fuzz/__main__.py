"""``python -m tests.fuzz [--seed N] [--only NAME]``: fuzzes the door of the public API.

Every call has one malformed argument: a wrong type, dtype, shape, device, range, NaN, a huge int.
Each must end in a ValueError, TypeError or IndexError that names this argument, or one whose size
it does not fit.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys

from tests.fuzz.calls import all_calls
from tests.fuzz.engine import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="calls whose name begins with one of these", nargs="*")
    args = parser.parse_args(argv)
    faulthandler.enable()
    calls = [
        call for call in all_calls() if not args.only or call.name.startswith(tuple(args.only))
    ]
    for call in calls:
        call.make()(**call.good())  # what is not malformed passes
    report = run(calls, args.seed)
    for name, count in sorted(report.by_name.items()):
        print(f"{count:6d}  {name}")
    for title in ("accepted", "unnamed", "other"):
        for label in getattr(report, title):
            print(f"{title}: {label}")
    print(report)
    return int(report.refused < report.tried)


if __name__ == "__main__":
    sys.exit(main())
