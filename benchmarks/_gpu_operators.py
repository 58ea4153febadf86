"""The operators, losses, critics, metrics and transforms that a device must repeat."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _gpu_compare import Case, awake, step
from _gpu_systems import levels as fixed
from torch import Tensor
from torch_geometric.data import Data

import pyg_gunet
from pyg_gunet import (
    GPool,
    GUnpool,
    KLCritic,
    MutualInformationCritic,
    TelescopingCritic,
    prolongation,
    repeat_graph,
    sampled_two_hop,
    spread,
)
from pyg_gunet.critic import dv_loss, infonce_loss, jsd_loss, nce_loss, two_sample_readout
from pyg_gunet.functional import segmentation
from pyg_gunet.functional.border import border_weight, connected_instances
from pyg_gunet.functional.connect import contract, induced, two_hop
from pyg_gunet.functional.interpolate import nearest_kept, propagate_kept
from pyg_gunet.functional.select import topk

LEFT_OUT = {
    "ToGrid": "makes a graph of a picture, on the CPU before training",
    "ToSuperpixels": "the same, by scikit-image",
    "draw_hierarchy": "a picture",
    "hierarchy_to_networkx": "a graph of networkx, which has no device",
    "load": "reads data",
    "validation": "a switch of the checks, used where host waits are looked for",
}


def operator_cases(x: Tensor, edge_index: Tensor, batch: Tensor, weight: Tensor) -> Iterator[Case]:
    """Selection, connectivity and lifting."""
    run: Callable[..., Any]
    n = x.size(0)
    torch.manual_seed(2)
    y = torch.randn(n)
    perm = spread(y, edge_index, 0.3, batch)
    kept, graph = x[perm], (edge_index, weight, perm)
    yield Case("topk", lambda y, b: topk(y, 0.5, b), (y, batch))
    for quantiles in (None, 1):
        run = lambda y, e, b, q=quantiles: spread(y, e, 0.3, b, quantiles=q)  # noqa: E731
        yield Case(f"spread {quantiles}", run, (y, edge_index, batch), ("spread",))
    for name, connect in (("induced", induced), ("two_hop", two_hop), ("contract", contract)):
        run = lambda e, w, p, connect=connect: _with_gradient(  # noqa: E731
            lambda w: connect(e, w, p, n), w
        )
        yield Case(name, run, graph)
    # All walks are drawn where they are few; where not, only the expectation is to be compared.
    yield Case(
        "sampled, all", lambda e, w, p: sampled_two_hop(e, w, p, n, 10**6), graph,
        ("sampled_two_hop",),
    )  # fmt: skip
    yield Case("sampled, some", lambda e, w, p: _drawn(e, w, p, n), graph, ("sampled_two_hop",))
    yield Case("nearest", lambda p, e: nearest_kept(p, e, n), (perm, edge_index))
    yield Case(
        "propagate", lambda k, p, e: propagate_kept(k, p, e, n), (kept, perm, edge_index)
    )  # fmt: skip

    def transfer(k: Tensor, x: Tensor, p: Tensor, e: Tensor, w: Tensor) -> Any:
        made = prolongation(p, e, n, w)
        return made.prolong(k), made.restrict(x), made.cluster

    given = (kept, x, perm, edge_index, weight)
    yield Case("prolong and restrict", transfer, given, ("prolongation",))
    for lift in ("zero", "nearest", "interpolate", "propagate"):
        run = lambda k, p, e, lift=lift: GUnpool(lift)(k, p, n, e)  # noqa: E731
        yield Case(f"unpool {lift}", run, (kept, perm, edge_index), ("GUnpool",))
    torch.manual_seed(1)
    for name, pool in (("pool", GPool(8, 0.5, reduce="mean")), ("pool, fixed", fixed(8, 0.5))):
        run = lambda x, e, b, pool=pool: _fields(copy.deepcopy(pool).to(x.device), x, e, b)  # noqa: E731
        yield Case(name, run, (x, edge_index, batch), ("GPool", "PoolOutput"))
    yield Case(
        "repeat_graph", lambda e, w: repeat_graph(e, n, 3, w), (edge_index, weight),
        ("repeat_graph",),
    )  # fmt: skip


def _with_gradient(run: Callable[[Tensor], Any], weight: Tensor) -> Any:
    weight = weight.clone().requires_grad_()
    index, out, *_ = run(weight)
    out.square().sum().backward()
    return {"edges": index, "weights": out, "gradients": {"edge_weight": weight.grad}}


def _drawn(edge_index: Tensor, weight: Tensor, perm: Tensor, n: int) -> Any:
    """What draws do not change: how many there are at most, and that the weights are sound."""
    index, drawn = sampled_two_hop(edge_index, weight, perm, n, 3)
    there = index.numel() and int(index.min()) >= 0 and int(index.max()) < perm.size(0)
    few = int(index[1].bincount().max()) <= 3
    return bool(there), bool(few), bool(drawn.isfinite().all() and (drawn > 0).all())


def _fields(pool: GPool, x: Tensor, edge_index: Tensor, batch: Tensor) -> Any:
    return pool(x, edge_index, batch=batch)._asdict()


def segmentation_cases(edge_index: Tensor, batch: Tensor, pos: Tensor) -> Iterator[Case]:
    """Losses, scores and metrics of a segmentation, and border weights."""
    run: Callable[..., Any]
    n, classes = batch.size(0), 5
    torch.manual_seed(3)
    target = torch.randint(classes, (n,))
    logits, weight = torch.randn(n, classes), torch.rand(n) + 0.5
    preds = torch.where(torch.rand(n) < 0.7, target, torch.randint(classes, (n,)))
    for name in ("BorderWeightedCrossEntropy", "FocalLoss", "DiceLoss"):
        loss = getattr(pyg_gunet, name)()
        run = lambda x, t, w, loss=loss: step(loss, lambda own, x, t, w: own(x, t, w))(x, t, w)  # noqa: E731
        yield Case(name, run, (logits, target, weight), (name,))
    labels = (preds, target, batch, edge_index)
    of_classes = (
        "confusion_matrix", "pixel_accuracy", "mean_accuracy", "mean_iou",
        "frequency_weighted_iou", "macro_f1", "class_accuracy", "class_iou",
    )  # fmt: skip
    for name in of_classes:
        score = getattr(segmentation, name)
        run = lambda p, t, b, e, score=score: score(p, t, classes)  # noqa: E731
        yield Case(name, run, labels, (name,) if name in pyg_gunet.__all__ else ())
    for name in ("boundary_iou", "surface_dice"):
        score = getattr(segmentation, name)
        run = lambda p, t, b, e, score=score: score(p, t, e, classes, batch=b)  # noqa: E731
        yield Case(name, run, labels)
    run = lambda p, t, b, e: segmentation.matching(p, t, (0.2, 0.4), batch=b)  # noqa: E731
    yield Case("matching", run, labels)
    regions = (
        "average_precision", "panoptic_quality", "aggregated_jaccard",
        "undersegmentation_error", "achievable_accuracy",
    )  # fmt: skip
    for name in regions:
        score = getattr(segmentation, name)
        run = lambda p, t, b, e, score=score: score(p, t, batch=b)  # noqa: E731
        yield Case(name, run, labels)
    parts, category = [[0, 1], [2, 3, 4]], torch.tensor([0, 1, 1, 0])
    allowed = torch.where(category[batch] == 0, target % 2, 2 + target % 3)
    guess = torch.where(torch.rand(n) < 0.7, allowed, torch.where(category[batch] == 0, 0, 2))
    shapes = (guess, allowed, batch, category)
    run = lambda p, t, b, c: segmentation.part_iou(p, t, b, c, parts)._asdict()  # noqa: E731
    yield Case("part_iou", run, shapes)

    def scored(metric: Any, *given: Tensor, **named: Tensor) -> Any:
        metric = metric.to(given[0].device)
        metric.update(*given, **named)
        return metric.compute()

    metrics: dict[str, Callable[..., Any]] = {
        "SegmentationMetrics": lambda p, t, b, e: scored(
            pyg_gunet.SegmentationMetrics(classes, per_class=True, per_graph=True), p, t, b
        ),
        "InstanceMetrics": lambda p, t, b, e: scored(pyg_gunet.InstanceMetrics(), p, t, b),
        "BoundaryMetrics": lambda p, t, b, e: scored(
            pyg_gunet.BoundaryMetrics(classes), p, t, e, b
        ),
        "SuperpixelMetrics": lambda p, t, b, e: scored(pyg_gunet.SuperpixelMetrics(), p, t, b),
    }
    for name, run in metrics.items():
        yield Case(name, run, labels, (name,))
    run = lambda p, t, b, c: scored(pyg_gunet.PartIoU(parts), p, t, b, c)  # noqa: E731
    yield Case("PartIoU", run, shapes, ("PartIoU",))
    instance = target.clamp(max=3)
    given = (instance, pos, edge_index, batch)
    yield Case("border_weight, pos", lambda i, p, e, b: border_weight(i, p, batch=b), given)
    run = lambda i, p, e, b: border_weight(i, edge_index=e, batch=b)  # noqa: E731
    yield Case("border_weight, graph", run, given)
    yield Case("connected_instances", lambda i, p, e, b: connected_instances(i, e), given)

    def transformed(i: Tensor, p: Tensor, e: Tensor, b: Tensor) -> Any:
        return pyg_gunet.BorderWeight()(Data(instance=i, y=i, pos=p, edge_index=e)).border_weight

    yield Case("BorderWeight", transformed, given, ("BorderWeight",))
    picture = pyg_gunet.ToGrid()(torch.rand(1, 20, n // 20))

    def drawn(label: Tensor) -> Any:
        return pyg_gunet.to_label_image(label, copy.copy(picture).to(label.device))

    yield Case("to_label_image", drawn, (target,), ("to_label_image",))


def critic_cases() -> Iterator[Case]:
    """Log-ratios: forward, loss and gradients, what is read, and that training ends well."""
    run: Callable[..., Any]
    torch.manual_seed(4)
    n, graphs = 200, 10
    p, q = torch.randn(n, 4) + 0.5, torch.randn(n, 4)
    x = torch.randn(n, 4)
    y = x[:, :3] + 0.5 * torch.randn(n, 3)
    batch = torch.arange(n) // (n // graphs)
    kinds: list[tuple[Any, tuple[Tensor, ...]]]
    kinds = [(KLCritic(4, 16, objective=o), (p, q)) for o in ("jsd", "nce", "dv", "infonce")]
    kinds += [(KLCritic(4, 16, base="gaussian"), (p, q))]
    kinds += [
        (MutualInformationCritic(4, 3, 16, critic=c, base=base), given)
        for c in ("separable", "concat", "bilinear")
        for base, given in ((None, (x, y)), (None, (x, y[:graphs], batch)), ("gaussian", (x, y)))
    ]
    kinds += [(TelescopingCritic(4, 3, 16, rungs=3), (x, y))]
    for i, (critic, given) in enumerate(kinds):
        critic.prepare([given])
        awake(critic).eval()  # the turn of 'telescoping' and the mean of 'dv' are then fixed
        name = f"{type(critic).__name__} {i}, {getattr(critic, 'objective', '')}"
        of = (type(critic).__name__, "Estimate")
        run = step(critic, lambda own, *given: own.loss(*given))
        yield Case(f"{name} loss", run, given, of, quiet=("norm", "base", "x"))

        def read(*given: Tensor, critic: Any = critic) -> Any:
            own = copy.deepcopy(critic).to(given[0].device)
            found = own.estimate(*given)
            out = own(*given)
            return {"ratios": list(_tensors(out)), "read": [found.value, found.stderr]}

        yield Case(f"{name} read", read, given, of)
    r_p, r_q = torch.randn(n) + 0.5, torch.randn(n) - 0.5
    for loss in (jsd_loss, nce_loss, dv_loss, infonce_loss):
        yield Case(loss.__name__, loss, (r_p, r_q))
    run = lambda a, b: list(two_sample_readout(a, b)[:2])  # noqa: E731
    yield Case("two_sample_readout", run, (r_p, r_q))
    for name, estimate, given in (
        ("estimate_kl", pyg_gunet.estimate_kl, (p, q)),
        ("estimate_mi", pyg_gunet.estimate_mi, (x, y)),
    ):
        run = lambda a, b, f=estimate: bool(f(a, b, folds=2, steps=20).value.isfinite())  # noqa: E731
        yield Case(name, run, given, (name,))

    def fitted(p: Tensor, q: Tensor) -> Any:
        return pyg_gunet.fit_critic(KLCritic(4, 16).to(p.device), (p, q), 20).best_loss < 1.4

    yield Case("fit_critic", fitted, (p, q), ("fit_critic",))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of a result; values where a mask leaves some out are any."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "mask"):
        yield from (value.pos, value.neg.masked_fill(~value.mask, 0.0), value.target)
    else:
        yield from value
