"""The picture of the README: where the levels of PyG's GraphUNet err, and where ours do.

Above, Poisson's equation on an unseen mesh (:mod:`_mesh_data`): both networks have equal
parameters, data, steps and learning rate. Below, the bunny through one number per node: PyG's
GraphUNet without its skip connection, with a linear map to 3 numbers per kept node and back; our
auto-encoder; both of width 64, with one pooling to a third of the nodes, trained alike. The error
at every node is the distance to the truth, on one scale in each row.

    python benchmarks/picture.py --root DATA --json benchmarks/results/picture.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import parser, record, write_json
from _mesh_data import VERSION, cached, meshes
from _mesh_models import SYSTEMS, fit_width, target_parameters
from _mesh_train import LR, Task, step
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphUNet

import pyg_gunet

PEER, OURS = "PyG GraphUNet", "ours"
SIZES, MESHES, EPOCHS, STEPS = (400, 1000), 48, 60, 200
Found = dict[str, Any]  # error [N], out [N, D], share of the variance left


class Skipless(GraphUNet):
    """PyG's GraphUNet of one pooling without its skip connection: `latent` numbers per kept node.
    Its two-hop edges are made once: they hang on the graph alone."""

    def __init__(
        self, channels: int, hidden: int, latent: int, ratio: float, edges: Tensor
    ) -> None:
        super().__init__(channels, hidden, channels, 1, ratio)
        self.squeeze = torch.nn.Linear(hidden, latent)
        self.widen = torch.nn.Linear(latent, hidden)
        ones = torch.ones(edges.size(1))
        self.two_hop = self.augment_adj(edges, ones, int(edges.max()) + 1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        h = self.act(self.down_convs[0](x, edge_index))
        h, edges, weight, _, perm, _ = self.pools[0](h, *self.two_hop)
        h = self.act(self.widen(self.squeeze(self.act(self.down_convs[1](h, edges, weight)))))
        wide = h.new_zeros(x.size(0), h.size(1)).index_copy(0, perm, h)
        return self.up_convs[0](wide, edge_index)


def share(out: Tensor, target: Tensor) -> float:
    """The share of the variance left."""
    return float((out - target).square().sum() / (target - target.mean(0)).square().sum())


def solve(system: str, root: str, epochs: int, count: int) -> Found:
    """Trains on `count` meshes; what it answers on one that it has not seen."""
    made = SYSTEMS["ours: 128, 32, 8 nodes" if system == OURS else system]
    graphs = [Data(**mesh) for mesh in meshes("poisson", SIZES, count, 0, root)]
    task = Task("poisson", graphs)

    def network(width: int) -> torch.nn.Module:
        torch.manual_seed(0)
        return made.make(task.inputs, width, 1)

    levels = made.levels or (lambda mesh: mesh)
    model = network(fit_width(network, target_parameters(task.inputs, 1)))
    loader = DataLoader([levels(mesh) for mesh in graphs], 8, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
        for batch in loader:
            step(model, optimizer, task, batch)
            rate.step()
    (mesh,) = meshes("poisson", (1000, 1000), 1, 1, root)
    test = Batch.from_data_list([levels(Data(**mesh))])
    given, answer = task.pick(test, torch.tensor([0]))
    with torch.no_grad():
        out = task.guess(model.eval(), test, given)
    error = (out - answer).abs().view(-1) * task.scale
    return {"error": error, "out": out, "share": share(out, answer)}


def compress(system: str, steps: int) -> Found:
    """Trains on the bunny; what comes back of its coordinates."""
    data = pyg_gunet.load("bunny")[0]
    mean = data.x.mean(0)
    scale = (data.x - mean).square().mean().sqrt()
    x = (data.x - mean) / scale
    torch.manual_seed(0)
    if system == OURS:
        model = pyg_gunet.GraphUNetAutoEncoder(3, 64, 3, depth=1, pool_ratios=1 / 3)
        edges = model.prepare(data.edge_index, num_nodes=data.num_nodes)
        model.calibrate(x, edges)
    else:
        model, edges = Skipless(3, 64, 3, 1 / 3, data.edge_index), data.edge_index
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x, edges) - x).square().mean().backward()
        optimizer.step()
        rate.step()
    with torch.no_grad():
        out = model(x, edges)
    error = (out - x).norm(dim=1) * scale
    return {"error": error, "out": out * scale + mean, "share": share(out, x)}


def draw(mesh: dict[str, Tensor], bunny: Tensor, found: dict[str, Found], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm
    from matplotlib.tri import Triangulation
    from PIL import Image

    plt.rcParams["font.size"] = 11
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
    pos, given = mesh["pos"].numpy(), mesh["given"][:, 0, 0].numpy()
    flat = Triangulation(*pos.T)
    near = set(map(tuple, mesh["edge_index"].T.tolist()))
    sides = [[(a, b) in near, (b, c) in near, (c, a) in near] for a, b, c in flat.triangles]
    flat.set_mask(~np.array(sides).all(1))
    shown = axes[0, 0].tripcolor(flat, given, cmap="cividis", shading="gouraud")
    figure.colorbar(shown, ax=axes[0, 0], label="f", location="left", shrink=0.85)
    axes[0, 0].set_title(f"given: f of −Δu = f\n{len(pos)} nodes, unseen")
    seen = bunny.numpy()[:, :2]
    axes[1, 0].scatter(*seen.T, s=3, c="0.25", linewidths=0)
    axes[1, 0].set_title(f"given: the bunny\n{len(seen)} nodes")
    units = ("|error| of u", "distance to the truth\n(units of the coordinates)")
    for row, (task, unit) in enumerate(zip(("mesh", "bunny"), units)):
        both = torch.cat([found[f"{task} {system}"]["error"] for system in (PEER, OURS)])
        low, high = torch.quantile(both[both > 0], torch.tensor([0.02, 0.995])).tolist()
        for axis, system in zip(axes[row, 1:], (PEER, OURS)):
            one = found[f"{task} {system}"]
            colours = {"norm": LogNorm(low, high), "cmap": "inferno_r"}
            value = one["error"].clamp(low, high).numpy()
            if task == "mesh":
                shown = axis.tripcolor(flat, value, shading="gouraud", **colours)
            else:
                shown = axis.scatter(*one["out"][:, :2].numpy().T, s=4, c=value, **colours)
            axis.set_title(f"{system}\n{_percent(one['share'])} of the variance lost")
        figure.colorbar(shown, ax=axes[row, 1:], label=unit, shrink=0.85)
        limits = axes[row, 0].axis()
        for axis in axes[row]:
            axis.axis(limits)
            axis.set_aspect("equal")
            axis.locator_params(nbins=4)
            axis.set_xlabel("x in roots of the area" if row == 0 else "x, y as given")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)  # a third of the bytes


def _percent(value: float) -> str:
    return f"{100 * value:.2g}%" if value < 0.995 else f"{100 * value:.0f}%"


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--out", default="benchmarks/results/picture.png")
    args = p.parse_args()
    root = Path(args.root or "data")
    steps, epochs, count = (5, 1, 2) if args.quick else (STEPS, EPOCHS, MESHES)
    found, records = {}, []
    for system in (PEER, OURS):
        for task in ("mesh", "bunny"):
            name = f"{task} {system}"

            def run(task: str = task, system: str = system) -> list[Found]:
                if task == "mesh":
                    return [solve(system, str(root), epochs, count)]
                return [compress(system, steps)]

            at = f"{name.replace(' ', '_')}-{epochs}-{count}-{steps}-v{VERSION}.pt"
            found[name] = cached(root / "picture" / at, run)[0]
            print(f"{name}: {found[name]['share']:.3e} of the variance left", flush=True)
            case = "Poisson, an unseen mesh" if task == "mesh" else "bunny, 1 float per node"
            value = found[name]["share"]
            records.append(record("picture", case, system, "share of variance", value, None, 1))
    (mesh,) = meshes("poisson", (1000, 1000), 1, 1, str(root))
    draw(mesh, pyg_gunet.load("bunny")[0].x, found, Path(args.out))
    print(f"wrote {args.out}")
    write_json(args.json, records)


if __name__ == "__main__":
    main()
