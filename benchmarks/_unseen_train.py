"""One auto-encoder of ``unseen_graphs.py`` in a process of its own."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any, NamedTuple

import _ours
import torch
from _mesh_levels import add_levels, bi_stride, from_tgp
from _mesh_models import Fixed, TopK, UNet, fit_width, parameters
from _ours import Words
from _runs import serve
from _unseen_data import load, turned
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

LR, HIDDEN = 5e-3, 64


class Ours(NamedTuple):
    """`share`: latent numbers per kept node over the number of features."""

    words: Words = Words(reduce="keep")
    depth: int = 2
    share: int = 1


# The defaults, each word put differently alone, all put as in the paper but for the selection;
# twice the floats at half the nodes; one pooling.
OURS = {
    "ours": Ours(),
    "ours: reduce=mean": Ours(Words()),
    "ours: connect=two_hop": Ours(Words(reduce="keep", connect="two_hop")),
    "ours: lift=propagate": Ours(Words(reduce="keep", lift="propagate")),
    "ours: lift=zero": Ours(Words(reduce="keep", lift="zero")),
    "ours: select=topk": Ours(Words("topk", "keep")),
    "ours: spread alone": Ours(Words("spread", "keep", "two_hop", "zero")),
    "ours: wide latent": Ours(share=2),
    "ours: one pooling": Ours(depth=1),
}
# Those of a fixed share of a half per pooling get their floats by the width of the latent.
HALVES = {"bi-stride": lambda: bi_stride, "tgp NDP": lambda: from_tgp("ndp")}
PEERS = ("tgp NDP",)  # they need torch-geometric-pool
SYSTEMS = ("PyG TopK", *HALVES, *OURS)


class Coder:
    """A model, how it reads a batch, and the size of its latent."""

    def __init__(self, system: str, features: int, floats: float, seed: int) -> None:
        self.ours = OURS.get(system)
        self.half = HALVES.get(system)
        f = features
        if self.ours is not None:
            words, depth, share = self.ours
            self.ratios = [(floats / (share * f)) ** (1 / depth)] * depth

            def make(width: int) -> torch.nn.Module:
                return _ours.auto_encoder(f, width, share * f, depth, self.ratios, words)

        elif self.half is not None:

            def make(width: int) -> torch.nn.Module:
                return Fixed(f, width, f, 2, latent=max(1, round(4 * floats)))

        else:

            def make(width: int) -> torch.nn.Module:
                return TopK(f, width, f, 2, (floats / f) ** 0.5, latent=f)

        self.width = fit_width(make, parameters(UNet(f, HIDDEN, f, 2, latent=f)))
        torch.manual_seed(seed)
        self.model = make(self.width)

    def prepared(self, data: Data) -> Data:
        if self.ours is not None:
            return _ours.prepared(data, self.ours.depth, self.ratios, self.ours.words)
        return data if self.half is None else add_levels(data, 2, self.half())

    def __call__(self, batch) -> Tensor:  # noqa: ANN001
        if self.ours is None:
            return self.model(batch)
        return self.model(batch.x, _ours.graph(batch), batch.batch)

    def floats(self, batch) -> int:  # noqa: ANN001
        """Numbers in the latent of a batch."""
        if self.ours is None:
            self.model(batch)
            return self.model.floats
        return self.model.encode(batch.x, _ours.graph(batch), batch.batch)[0].numel()


def mse(coder: Coder, data: list[Data]) -> tuple[float, float]:
    """Mean squared error over all nodes, and floats per node."""
    coder.model.eval()
    left = floats = size = nodes = 0.0
    with torch.no_grad():
        for batch in DataLoader(data, 1):
            left += float((coder(batch) - batch.x).square().sum())
            floats += coder.floats(batch)
            size, nodes = size + batch.x.numel(), nodes + batch.num_nodes
    coder.model.train()
    return left / size, floats / nodes


def train(run: dict[str, Any]) -> dict[str, Any]:
    seen = load(run["case"], run["quick"], run["root"], test=False)
    unseen = load(run["case"], run["quick"], run["root"], test=True)
    coder = Coder(run["system"], seen[0].x.size(1), run["floats"], run["seed"])
    seen, unseen = ([coder.prepared(data) for data in part] for part in (seen, unseen))
    untrained, floats = mse(coder, unseen)
    if coder.ours is not None:
        batch = Batch.from_data_list(seen)
        coder.model.calibrate(batch.x, _ours.graph(batch), batch.batch)
    calibrated = mse(coder, unseen)[0]
    optimizer = torch.optim.Adam(coder.model.parameters(), LR)
    steps = run["epochs"] * -(-len(seen) // run["batch"])
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start, epochs = time.process_time(), []
    for _ in range(run["epochs"]):
        losses = []
        shown = [turned(d) for d in seen] if run["case"] == "surfaces" else seen
        for batch in DataLoader(shown, run["batch"], shuffle=True):
            loss = (coder(batch) - batch.x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            losses.append(float(loss))
        epochs.append(time.process_time() - start - sum(epochs))
        print(f"epoch {len(epochs)}: {statistics.mean(losses):.6f}", file=sys.stderr, flush=True)
    return {
        "width": coder.width,
        "parameters": parameters(coder.model),
        "per_node": floats,
        "untrained": untrained,
        "calibrated": calibrated,
        "train_mse": mse(coder, seen)[0],
        "mse": mse(coder, unseen)[0],
        "epoch_seconds": statistics.median(epochs),
    }


if __name__ == "__main__":
    serve(train)
