"""What it means that a device gives the same: every tensor of a result by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

# float32: each tensor to 1e-4 of its largest value, or to 1e-6 where that is more, a gradient of
# zeros say; a hundred times that for gradients that cancel to zero, as of a bias before a
# normalisation, which are all rounding. (float64 against float32 on a CPU: at most 2e-5 of the
# largest value, and 3e-5 in all where they cancel.)
RELATIVE, ABSOLUTE, CANCELS = 1e-4, 1e-6, 100
# bfloat16 keeps 8 bits: half a step of 2^-8 for each of some 30 roundings on the way through seven
# convolutions and back, of random sign, is about 1% of a tensor's values, and its largest error
# over many entries some times that. (bfloat16 against float32 on a CPU: at most 0.02.) A gradient
# of zeros, or one twice too large, is off by 1.
HALF, HALF_ABSOLUTE = 0.1, 1e-5


class Case(NamedTuple):
    """A computation that a device must repeat.

    Attributes:
        name (str): What it is.
        run (Callable): Given tensors on a device, gives tensors, nested in tuples, lists and
            dictionaries.
        given (tuple): Tensors on the CPU.
        of (tuple): The public names that it shows.
        there (Callable, optional): What the device runs, where not the same.
        relative, absolute (float): What difference is allowed, see above.
        quiet (tuple): Patterns of the names of gradients that cancel to zero, or that are none.
    """

    name: str
    run: Callable[..., Any]
    given: tuple[Tensor, ...]
    of: tuple[str, ...] = ()
    there: Callable[..., Any] | None = None
    relative: float = RELATIVE
    absolute: float = ABSOLUTE
    quiet: tuple[str, ...] = ()


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Tensor | None]]:
    """``(name, tensor)`` of all that a result holds."""
    if value is None or isinstance(value, Tensor):
        yield name, value
        return
    if isinstance(value, (bool, int, float)):
        yield name, torch.tensor(value)
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        yield from flat(one, f"{name}.{key}".strip("."))


def difference(
    a: Any,
    b: Any,
    relative: float = RELATIVE,
    absolute: float = ABSOLUTE,
    quiet: tuple[str, ...] = (),
) -> tuple[float, str]:
    """``(the largest difference of a tensor, its name)``, relative to the largest value of that
    tensor in `a`, or to what makes of `absolute` the share `relative` of it where that is more;
    infinite where shapes, whole numbers or what is there differ, and for NaN."""
    ours, theirs = dict(flat(a)), dict(flat(b))
    if ours.keys() != theirs.keys():
        return float("inf"), ", ".join(sorted(ours.keys() ^ theirs.keys()))
    found = []
    for name, value in ours.items():
        floor = (CANCELS if silent(name, quiet) else 1) * absolute / relative
        found.append((_apart(value, theirs[name], floor), name))
    return max(found, default=(0.0, ""))


def silent(name: str, quiet: tuple[str, ...]) -> bool:
    return any(fnmatch(name.removeprefix("gradients."), pattern) for pattern in quiet)


def _apart(a: Tensor | None, b: Tensor | None, floor: float) -> float:
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    a, b = a.detach().cpu(), b.detach().cpu()
    if a.shape != b.shape:
        return float("inf")
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else float("inf")
    if not a.numel():
        return 0.0
    a, b = a.double(), b.double()
    found = float((a - b).abs().max() / a.abs().max().clamp(min=floor))
    return found if found == found else float("inf")


def asleep(case: Case, result: Any) -> list[str]:
    """Gradients too small to be compared: were they zeroed on a device, nothing would be seen."""
    if not isinstance(result, dict) or "gradients" not in result:
        return []
    return [
        name
        for name, value in flat(result["gradients"])
        if not silent(name, case.quiet)
        and (value is None or not float(value.abs().max()) > 2 * case.absolute)
    ]


def check(case: Case, device: torch.device) -> dict[str, Any]:
    """How far a device is from the CPU; what is beyond the tolerance, or fails, is 'wrong'."""
    try:
        here = case.run(*case.given)
        there = (case.there or case.run)(*(value.to(device) for value in case.given))
        far, where = difference(here, there, case.relative, case.absolute, case.quiet)
        out: dict[str, Any] = {"difference": min(far, 1e9), "in": where}
        if not far <= case.relative:
            out["wrong"] = f"differs by {far:.2e} in '{where}'"
        elif still := asleep(case, here):
            out["wrong"] = f"no gradient to compare: {', '.join(still)}"
        return out
    except Exception as error:  # all are to be seen
        return {"wrong": f"{type(error).__name__}: {error}"[:300]}


def awake(model: torch.nn.Module) -> Any:
    """The model with random numbers in all parameters that start at zero, so that a gradient
    reaches every part."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if not isinstance(parameter, torch.nn.UninitializedParameter) and not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def weighed(out: Tensor) -> Tensor:
    """A scalar whose gradients are of the size of 1: values by fixed weights, of both signs and not
    of mean zero, at which the gradient of a last bias would vanish."""
    weight = 0.2 + torch.arange(out.numel(), dtype=torch.float64).cos().view_as(out)
    return (out.float() * weight.to(out.device, torch.float32)).sum() / out.numel() ** 0.5


def gradients(model: torch.nn.Module, **inputs: Tensor) -> dict[str, Any]:
    grads = {name: value.grad for name, value in model.named_parameters()}
    return grads | {name: value.grad for name, value in inputs.items()}


def step(
    model: torch.nn.Module,
    loss: Callable[..., Any] | None = None,
    learned: bool = False,
    half: bool = False,
) -> Callable[..., Any]:
    """Output and gradients of a copy of the model on the device of its inputs. `loss` makes a
    scalar, or an output, of ``(model, *inputs)``; `learned` wants gradients of the last input,
    edge weights."""

    def run(x: Tensor, *graph: Tensor) -> dict[str, Any]:
        own = copy.deepcopy(model).to(x.device)
        inputs = {"x": x.clone().requires_grad_()}
        if learned:
            inputs["edge_weight"] = graph[-1].clone().requires_grad_()
            graph = (*graph[:-1], inputs["edge_weight"])
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            out = own(inputs["x"], *graph) if loss is None else loss(own, inputs["x"], *graph)
        (weighed(out) if out.dim() else out).backward()
        return {"out": out.float(), "gradients": gradients(own, **inputs)}

    return run
