"""One run of the mesh benchmark in a process of its own: trains and tests one system, or measures
its step. Called by ``mesh_physics.py`` with the run as JSON; the last line printed is the result.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import PeakMemory
from _mesh_data import VERSION, cached, meshes
from _mesh_levels import MeshData
from _mesh_models import SYSTEMS, fit_width, parameters, target_parameters
from _runs import serve
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

NOISE = 0.01  # of the states' deviation: what a roll-out has to live with
LR = 3e-3
TEST = 3  # seed of the unseen meshes; those of seed 1 chose the numbers of nodes of our levels


class Task:
    """What a network reads and what it should say, of a batch of meshes."""

    def __init__(self, problem: str, train: list[Data]) -> None:
        self.steps = problem == "advection"
        first = train[0]
        self.inputs = first.fixed.size(1) + (1 if self.steps else first.given.size(2))
        if self.steps:
            values = torch.cat([(d.states[:, 1:] - d.states[:, :-1]).view(-1) for d in train])
        else:
            values = torch.cat([d.target.view(-1) for d in train])
        self.scale = float(values.std())

    def cases(self, batch) -> int:  # noqa: ANN001
        return batch.states.size(1) - 1 if self.steps else batch.target.size(1)

    def put(self, batch, given: Tensor):  # noqa: ANN001, ANN201
        """The batch with its input `x`; `given` [N, C] is what varies on a mesh."""
        batch.x = torch.cat([batch.fixed, given], dim=1)
        return batch

    def pick(self, batch, which: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN001
        """What is given [N, C] and the answer [N, 1] of the case `which` [B] of each mesh."""
        row, column = torch.arange(batch.num_nodes), which[batch.batch]
        if not self.steps:
            return batch.given[row, column], batch.target[row, column, None] / self.scale
        now, later = batch.states[row, column, None], batch.states[row, column + 1, None]
        return now, (later - now) / self.scale

    def draw(self, batch):  # noqa: ANN001, ANN201
        """A batch with a random case of each mesh, and the answer."""
        which = torch.randint(self.cases(batch), (batch.num_graphs,))
        given, answer = self.pick(batch, which)
        if self.steps:
            noise = NOISE * torch.randn_like(given)
            given, answer = given + noise, answer - noise / self.scale
        return self.put(batch, given), answer

    def test(self, model: torch.nn.Module, data: list[Data]) -> dict[str, float]:
        """The share of the variance left: of the answers, and of the last state of a roll-out."""
        left, values, rolled, lasts = 0.0, [], 0.0, []
        for mesh in DataLoader(data, 1):
            cases = (
                range(0, mesh.states.size(1) - 1, 10) if self.steps else range(mesh.target.size(1))
            )
            for case in cases:
                given, answer = self.pick(mesh, torch.tensor([case]))
                left += float((self.guess(model, mesh, given) - answer).square().sum())
                values.append(answer)
            if self.steps:
                u = mesh.states[:, :1]
                for _ in range(self.cases(mesh)):
                    u = u + self.scale * self.guess(model, mesh, u)
                rolled += float((u - mesh.states[:, -1:]).square().sum())
                lasts.append(mesh.states[:, -1:])
        out = {"share": left / _variation(values)}
        return out | ({"roll": rolled / _variation(lasts)} if self.steps else {})

    def guess(self, model: torch.nn.Module, batch, given: Tensor) -> Tensor:  # noqa: ANN001
        return model(self.put(batch, given)) * batch.free


def _variation(values: list[Tensor]) -> float:
    every = torch.cat(values).double()
    return float((every - every.mean()).square().sum())


def load(run: dict[str, Any], sizes: tuple[int, int], count: int, seed: int) -> list[Data]:
    """The meshes as the system of this run takes them. Levels of a peer are kept on disk: it may
    take minutes per mesh."""
    system = SYSTEMS[run["system"]]
    data = [Data(**mesh) for mesh in meshes(run["problem"], sizes, count, seed, run["root"])]
    if system.levels is None:
        return data
    if not system.peer:
        return [system.levels(mesh) for mesh in data]
    name = "-".join(map(str, (run["problem"], *sizes, count, seed, VERSION, run["system"])))
    path = Path(run["root"]) / "mesh_physics" / "levels" / f"{name.replace(' ', '_')}.pt"
    kept = cached(path, lambda: [system.levels(mesh).to_dict() for mesh in data])
    return [MeshData(**mesh) for mesh in kept]


def make(run: dict[str, Any], inputs: int) -> tuple[torch.nn.Module, int]:
    system = SYSTEMS[run["system"]]
    width = fit_width(lambda w: system.make(inputs, w, 1), target_parameters(inputs, 1))
    torch.manual_seed(run["seed"])
    return system.make(inputs, width, 1), width


def step(model: torch.nn.Module, optimizer, task: Task, batch) -> float:  # noqa: ANN001
    batch, answer = task.draw(batch)
    loss = (model(batch) * batch.free - answer).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss)


def train(run: dict[str, Any]) -> dict[str, Any]:
    start = time.process_time()
    data = load(run, tuple(run["train"]), run["meshes"], 0)
    prepare = (time.process_time() - start) / len(data)
    task = Task(run["problem"], data)
    model, width = make(run, task.inputs)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    loader = DataLoader(data, run["batch"], shuffle=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run["epochs"] * len(loader))
    start, epochs = time.process_time(), []
    for _ in range(run["epochs"]):
        losses = []
        for batch in loader:
            losses.append(step(model, optimizer, task, batch))
            rate.step()
        epochs.append(time.process_time() - start - sum(epochs))
        loss = statistics.mean(losses)
        print(f"epoch {len(epochs)}: {loss:.5f}, {epochs[-1]:.1f} s", file=sys.stderr, flush=True)
    out = {
        "width": width,
        "parameters": parameters(model),
        "prepare_seconds": prepare,
        "epoch_seconds": statistics.median(epochs),
        "train_loss": loss,
        "failed": "",
    }
    model.eval()
    for size, count in run["tests"].items():
        # A size that a system cannot do is a row with a gap, not a run lost.
        try:
            with torch.no_grad():
                found = task.test(model, load(run, (int(size),) * 2, count, TEST))
        except (RuntimeError, MemoryError, ValueError) as error:
            out["failed"] += f"{size}: {type(error).__name__} {str(error)[:100]}; "
            continue
        out |= {f"{key}_{size}": value for key, value in found.items()}
    return out


def measure(run: dict[str, Any]) -> dict[str, Any]:
    """Seconds and memory of a training step on one mesh."""
    data = load(run, (run["size"],) * 2, 1, 2)
    task = Task(run["problem"], data)
    model, width = make(run, task.inputs)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    (batch,) = DataLoader(data, 1)
    seconds: list[float] = []
    with PeakMemory() as memory:
        for _ in range(run["repeats"] + 1):
            start = time.process_time()
            step(model, optimizer, task, batch)
            seconds.append(time.process_time() - start)
    with torch.no_grad():
        start = time.process_time()
        model(batch)
        forward = time.process_time() - start
    return {
        "width": width,
        "parameters": parameters(model),
        "step_seconds": statistics.median(seconds[1:]),
        "forward_seconds": forward,
        "step_mb": memory.mb,
    }


def work(run: dict[str, Any]) -> dict[str, Any]:
    return measure(run) if "size" in run else train(run)


if __name__ == "__main__":
    serve(work)
