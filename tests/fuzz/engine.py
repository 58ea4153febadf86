"""Makes one malformed call after another and looks at what comes back."""

from __future__ import annotations

import random
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import is_tensor

from tests.fuzz.values import Kind

SECONDS = 20  # that a refusal may take
FIT = {f"a {one} {size}" for one in ("row", "column") for size in ("more", "less")}
FIT |= {"no row", "no column", "thrice the rows", "transposed", "flat"}
SIZES = ("num_nodes", "num_classes")


@dataclass(frozen=True)
class Call:
    """A public function with good arguments, each with what it should be.

    Attributes:
        name: The public name that is called.
        make: Makes the function, anew for each call: some keep state.
        arguments: ``{name: (good value, kind)}``.
        errors: What may be raised beside ValueError, TypeError and IndexError: what takes paths
            may raise OSError.
        parts: Of an argument, the names inside it that an error may name instead.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    arguments: dict[str, tuple[Any, Kind]]
    errors: tuple[type[Exception], ...] = ()
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def good(self) -> dict[str, Any]:
        return {name: value for name, (value, _) in self.arguments.items()}


@dataclass
class Report:
    """What became of the calls.

    Attributes:
        tried: How many there were.
        refused: How many ended in an error that names the malformed argument.
        accepted: Those that gave a result.
        unnamed: Those whose error does not name it.
        other: Those that ended in another error than ValueError, TypeError and IndexError.
    """

    tried: int = 0
    refused: int = 0
    accepted: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    by_name: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"tried {self.tried}, refused {self.refused}, accepted {len(self.accepted)}, "
            f"argument not named {len(self.unnamed)}, other errors {len(self.other)}"
        )


def malformed(call: Call, rng: random.Random) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """``(argument, description, arguments)`` of every malformed call."""
    good = call.good()
    for name, (value, kind) in call.arguments.items():
        for what, bad in kind.malformed(value, rng):
            yield name, what, {**good, name: bad}
    yield "no_such_argument", "unknown", {**good, "no_such_argument": 1}


def run(calls: list[Call], seed: int = 0, share: float = 1.0) -> Report:
    """Makes malformed calls, in an order that hangs on the seed: all, or a share of them."""
    rng = random.Random(seed)
    todo = [(call, *one) for call in calls for one in malformed(call, rng)]
    rng.shuffle(todo)
    todo = todo[: round(share * len(todo))]
    report = Report()
    for call, name, what, arguments in todo:
        report.tried += 1
        report.by_name[call.name] += 1
        label = f"{call.name}({name}: {what})"
        try:
            with deadline(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call.make()(**arguments)
        except (ValueError, TypeError, IndexError, *call.errors) as error:
            text = str(error).replace("`", "'")  # torchmetrics quotes so
            # A size of its own that does not fit another argument's: either may be named.
            sized = what in FIT or name in SIZES
            others = [one for one, given in arguments.items() if sized and is_tensor(given)]
            if any(f"'{one}'" in text for one in (name, *others, *call.parts.get(name, ()))):
                report.refused += 1
            else:
                report.unnamed.append(f"{label}: {type(error).__name__}: {str(error)[:150]}")
        except Exception as error:
            report.other.append(f"{label}: {type(error).__name__}: {str(error)[:150]}")
        else:
            report.accepted.append(label)
    return report


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Ends what takes longer with a TimeoutError."""

    def stop(*args: Any) -> None:
        raise TimeoutError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
