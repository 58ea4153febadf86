"""Levels, systems and measures of the mesh benchmark."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.utils import subgraph


def grid(rows: int, cols: int) -> Data:
    node = np.arange(rows * cols).reshape(rows, cols)
    pairs = [(node[:, :-1], node[:, 1:]), (node[:-1], node[1:])]
    edges = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in pairs], axis=1)
    edges = torch.from_numpy(np.concatenate([edges, edges[::-1]], axis=1))
    pos = torch.from_numpy(np.stack(np.divmod(np.arange(rows * cols), cols), axis=1)).float()
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows * cols, 3, generator=generator)
    return Data(x=x, pos=pos, edge_index=edges)


def adjacency(data: Data) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (np.ones(data.num_edges), data.edge_index.numpy()), shape=(data.num_nodes,) * 2
    )


def test_bi_stride_on_a_path():
    from _mesh_levels import bi_stride

    data = grid(1, 9)
    step = bi_stride(adjacency(data), data.pos.double().numpy(), np.ones(9))
    # From the centre, 4, every other front: 4; 2 and 6; 0 and 8.
    assert (step.adjacency.toarray() == adjacency(grid(1, 5)).toarray()).all()
    third = 1 / 3
    expected = np.zeros((5, 9))
    for row, kept in enumerate(range(0, 9, 2)):
        for near in {max(kept - 1, 0), kept, min(kept + 1, 8)}:
            expected[row, near] = 1 / 2 if near in (0, 8) else third
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(step.reduce.toarray(), expected)
    np.testing.assert_allclose(step.lift.toarray(), expected.T)


def test_bi_stride_weighs_nodes_by_what_they_stand_for():
    from _mesh_levels import bi_stride

    data = grid(1, 3)
    weight = np.array([1.0, 5.0, 2.0])
    step = bi_stride(adjacency(data), data.pos.double().numpy(), weight)
    # Of nodes 0, 1 and 2 the middle stays; they give 1/2, 5/3 and 2/2.
    np.testing.assert_allclose(step.reduce.toarray(), np.array([[3, 10, 6]]) / 19)


def test_bi_stride_keeps_components_connected():
    from _mesh_levels import bi_stride

    one, two = grid(6, 7), grid(3, 4)
    matrix = sparse.block_diag([adjacency(one), adjacency(two)], format="csr")
    pos = torch.cat([one.pos, two.pos + 50]).double().numpy()
    step = bi_stride(matrix, pos, np.ones(54))
    assert 0.3 < step.adjacency.shape[0] / 54 < 0.7
    assert connected_components(step.adjacency)[0] == 2
    np.testing.assert_allclose(np.asarray(step.reduce.sum(1)), 1)
    assert step.adjacency.diagonal().sum() == 0


def meshes_with_levels(depth: int) -> list[Data]:
    from _mesh_levels import add_levels, bi_stride

    return [add_levels(grid(*shape), depth, bi_stride) for shape in ((5, 6), (4, 4), (7, 3))]


@pytest.mark.parametrize("latent", [None, 2])
def test_levels_in_a_batch_are_those_of_each_mesh(latent):
    from _mesh_models import Fixed

    torch.manual_seed(0)
    model = Fixed(3, 8, 2, 2, latent=latent)
    data = meshes_with_levels(2)
    (batch,) = DataLoader(data, 3)
    alone = torch.cat([model(mesh) for mesh in data])
    torch.testing.assert_close(model(batch), alone, atol=1e-5, rtol=1e-5)
    if latent:
        assert model.floats == 2 * int(batch.level_nodes_2.sum())


def test_fixed_levels_multiply_what_dense_matrices_multiply():
    from _mesh_models import _product

    mesh = meshes_with_levels(1)[0]
    shape = (mesh.level_nodes_1, 30)
    dense = torch.zeros(shape).index_put(tuple(mesh.reduce_index_1), mesh.reduce_value_1)
    x = torch.randn(30, 4, requires_grad=True)
    out = _product(mesh, "reduce_{}_1", shape, x)
    torch.testing.assert_close(out, dense @ x)
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(grad, 2 * dense.T @ (dense @ x))


class Half(torch.nn.Module):
    """Keeps the first half of the nodes, whatever their features."""

    def forward(self, x, edges, batch=None):
        perm = torch.arange((x.size(0) + 1) // 2)
        return x[perm], subgraph(perm, edges, relabel_nodes=True)[0], None, batch, perm, None


@pytest.mark.parametrize("kind", ["TopK", "Fixed"])
def test_an_auto_encoder_reads_the_features_through_its_latent_alone(kind):
    from _mesh_models import Fixed, TopK

    torch.manual_seed(0)
    mesh = meshes_with_levels(2)[0]
    model = {
        "TopK": lambda latent: TopK(3, 8, 3, 2, 0.5, latent=latent),
        "Fixed": lambda latent: Fixed(3, 8, 3, 2, latent=latent),
    }[kind]

    def moves(net: torch.nn.Module) -> float:
        """How far the output moves with the input while the latent stands still."""
        if net.latent is None:
            net.bottom = lambda x: torch.zeros_like(x)
        else:
            torch.nn.init.zeros_(net.squeeze.weight)
        if kind == "TopK":  # the kept nodes stand still, too
            net.pools = torch.nn.ModuleList(Half() for _ in net.pools)
        with torch.no_grad():
            first = net(mesh)
            again = net(mesh.clone().update({"x": mesh.x.flip(0)}))
        return float((first - again).abs().max())

    assert moves(model(2)) == 0
    assert moves(model(None)) > 1e-3


def test_parameters_agree():
    from _mesh_models import SYSTEMS, fit_width, parameters, target_parameters

    target = target_parameters(6, 1)
    for name, system in SYSTEMS.items():
        width = fit_width(lambda w, system=system: system.make(6, w, 1), target)
        assert abs(parameters(system.make(6, width, 1)) - target) < 0.1 * target, name
    with pytest.raises(ValueError, match="within 10%"):
        fit_width(lambda w: torch.nn.Linear(10**4, w), 50)


class Answers(torch.nn.Module):
    """Says `factor` times the right answer, and what it always says."""

    def __init__(self, task, factor: float) -> None:
        super().__init__()
        self.task, self.factor = task, factor

    def forward(self, batch) -> torch.Tensor:
        given = batch.x[:, -1:]
        if self.task.steps:
            case = (batch.states - given).abs().sum(0).argmin()
        else:
            case = (batch.given[:, :, 0] - given).abs().sum(0).argmin()
        return self.factor * self.task.pick(batch, case.view(1))[1]


@pytest.mark.parametrize("problem", ["poisson", "advection"])
def test_share_of_the_variance_left(problem):
    from _mesh_train import Task

    torch.manual_seed(0)
    mesh = grid(5, 6)
    mesh.fixed, mesh.free = torch.randn(30, 4), torch.ones(30, 1)
    if problem == "advection":
        mesh.states = torch.randn(30, 11)
    else:
        mesh.given, mesh.target = torch.randn(30, 2, 1), torch.randn(30, 2) + 5
    task = Task(problem, [mesh])
    assert task.inputs == 5
    every = torch.cat(
        [
            task.pick(next(iter(DataLoader([mesh]))), torch.tensor([i]))[1]
            for i in range(task.cases(mesh))
        ]
    )
    assert float(every.std()) == pytest.approx(1, rel=1e-4)
    right, none = (task.test(Answers(task, factor), [mesh]) for factor in (1.0, 0.0))
    assert right["share"] == pytest.approx(0, abs=1e-9)
    if problem == "poisson":
        answer = mesh.target.double()
        expected = answer.square().sum() / (answer - answer.mean()).square().sum()
    else:
        answer = (mesh.states[:, 1] - mesh.states[:, 0]).double()  # of the moments 0, 10, ...
        expected = answer.square().sum() / (answer - answer.mean()).square().sum()
        assert right["roll"] == pytest.approx(0, abs=1e-8)
        first, last = mesh.states[:, 0].double(), mesh.states[:, -1].double()
        left = (last - first).square().sum() / (last - last.mean()).square().sum()
        assert none["roll"] == pytest.approx(float(left), rel=1e-5)
    assert none["share"] == pytest.approx(float(expected), rel=1e-5)


def test_steps_are_drawn_with_the_noise_that_they_are_to_take_back():
    from _mesh_train import Task

    mesh = grid(5, 6)
    mesh.fixed, mesh.states = torch.randn(30, 4), torch.randn(30, 11)
    task = Task("advection", [mesh])
    (batch,) = DataLoader([mesh], 1)
    torch.manual_seed(0)
    batch, answer = task.draw(batch)
    later = batch.x[:, -1:] + task.scale * answer
    gap = (mesh.states - later).abs().amax(0)
    assert float(gap.min()) < 1e-5
    assert int(gap.argmin()) > 0
    assert float((mesh.states - batch.x[:, -1:]).abs().amax(0).min()) > 1e-3


FIELDS = ("system", "seed", "value", "failed")


def test_runs_resume(tmp_path):
    from _runs import read, resume

    path, calls = tmp_path / "runs.csv", []

    def one(run, python):
        calls.append((run["system"], run["seed"], python))
        if run["system"] == "new":
            return {"skipped": "not here"}
        return {"failed": "no memory"} if run["system"] == "big" else {"value": 1.5, "failed": ""}

    todo = [({"system": s, "seed": i}, "py") for i in range(2) for s in ("a", "big", "new")]
    rows = resume(path, ("system", "seed"), FIELDS, todo, one)
    assert [row["value"] for row in rows] == ["1.5", "", "1.5", ""]
    assert calls.count(("new", 0, "py")) == 1
    assert ("new", 1, "py") not in calls
    assert read(path) == rows
    calls.clear()
    assert resume(path, ("system", "seed"), FIELDS, todo, one) == rows
    assert calls == [("new", 0, "py")]  # a version that has it would do it now
    calls.clear()
    again = resume(path, ("system", "seed"), FIELDS, todo, one, retry=True)
    assert sorted(map(str, again)) == sorted(map(str, rows))
    assert calls == [("big", 0, "py"), ("new", 0, "py"), ("big", 1, "py")]


def test_a_run_that_breaks_says_why(tmp_path):
    import sys

    from _runs import child

    script = tmp_path / "broken.py"
    script.write_text("print('so far'); raise ValueError('too large')")
    out = child(script, 60)({"a": 1}, sys.executable)
    assert out == {"failed": "exit 1: ValueError: too large"}
    script.write_text("import time; time.sleep(60)")
    assert child(script, 0.2)({}, sys.executable) == {"failed": "more than 0.2 s"}
    script.write_text("print('first'); print('{\"mse\": 2}')")
    assert child(script, 60)({}, sys.executable) == {"mse": 2}


def test_a_peer_that_is_missing_is_skipped_and_nothing_else():
    from _runs import attempt

    def work(run):
        __import__(run["needs"])
        return {"mse": 1}

    assert attempt(work, {"needs": "json"}) == {"failed": "", "mse": 1}

    def lacks(run):
        raise ModuleNotFoundError("No module named 'tgp.poolers'", name="tgp.poolers")

    assert attempt(lacks, {}) == {"skipped": "No module named 'tgp.poolers'"}
    with pytest.raises(ModuleNotFoundError, match="not_a_peer"):
        attempt(work, {"needs": "not_a_peer"})


def test_two_processes_share_a_file(tmp_path):
    from _runs import append, read, resume

    path = tmp_path / "runs.csv"

    def one(run, python):  # meanwhile the other one does a run, and the next of ours
        if run["seed"] == 0:
            for seed in (7, 1):
                append(path, FIELDS, {"system": "a", "seed": seed, "value": 2, "failed": ""})
        return {"value": 1, "failed": ""}

    resume(
        path, ("system", "seed"), FIELDS, [({"system": "a", "seed": i}, "") for i in (0, 1)], one
    )
    assert [(row["seed"], row["value"]) for row in read(path)] == [
        ("7", "2"),
        ("1", "2"),
        ("0", "1"),
    ]
