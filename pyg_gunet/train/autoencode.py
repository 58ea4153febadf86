"""Auto-encoding: node features through a small latent and back."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_gunet.critic.terms import InfoMaxTerm, PriorTerm, held_out_rows
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.train import pictures
from pyg_gunet.train.baselines import interpolation_mse, mean_mse, pca_mse
from pyg_gunet.train.module import Figures, GraphModule
from pyg_gunet.validate import check_number

COUNTING = (
    "floats of z over all test nodes; the baselines keep as many (PCA: scores; interpolation: "
    "features of kept nodes); means, axes, weights and the kept nodes' ids are not counted"
)

CALIBRATED = 256  # graphs that the network is fitted to before training


class AutoEncode(GraphModule):
    r"""A :class:`GraphUNetAutoEncoder` that is trained on the features of all nodes.

    With ``normalize='center'`` the loss is the share of the variance that is lost, and 1 is what
    predicting the mean costs.

    Args:
        latent_channels (int, optional): Latent floats per node of the coarsest level.
            (default: so many that the latent has a third of the input's floats)
        mi_weight (float, optional): Weight of the mutual information of latent nodes and their
            graphs, which is raised. (default: 0.0)
        kl_weight (float, optional): Weight of the estimated KL of all latents to a standard normal,
            which is lowered. (default: 0.0)
    """

    def __init__(
        self,
        in_channels: int,
        latent_channels: int | None = None,
        *,
        mi_weight: float = 0.0,
        kl_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, **kwargs)
        check_number(mi_weight, "mi_weight", low=0.0)
        check_number(kl_weight, "kl_weight", low=0.0)
        hidden, depth, ratios = self.shape
        if latent_channels is None:
            each = ratios if isinstance(ratios, list) else [ratios] * depth
            kept = math.prod(ratio for ratio in each if isinstance(ratio, float))
            latent_channels = min(max(math.ceil(in_channels / 3 / kept - 0.01), 1), hidden)
        self.net = GraphUNetAutoEncoder(
            in_channels, hidden, latent_channels, depth, ratios, **self.parts
        )
        self.mi_weight, self.kl_weight = mi_weight, kl_weight
        self.infomax = InfoMaxTerm(latent_channels) if mi_weight else None
        self.prior = PriorTerm(latent_channels) if kl_weight else None

    def learn_statistics(self, graphs: Iterable[Data]) -> None:
        """Mean and deviation, then what the network fits without gradient."""
        graphs = list(graphs)
        super().learn_statistics(graphs)
        data: Any = graphs[0] if len(graphs) == 1 else Batch.from_data_list(graphs[:CALIBRATED])
        if self.net.untrained:
            self.net.calibrate(self.scaled(data), *self.inputs(data, self.net))

    def encode(self, data: Data) -> tuple[Tensor, Hierarchy]:
        """``(z, hierarchy)`` of a graph or a batch."""
        return self.net.encode(self.scaled(data), *self.inputs(data, self.net))

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        """``(x_hat, z)``, the reconstruction [N, F] in the units of the data set."""
        z, hierarchy = self.encode(data)
        return self.net.decode(z, hierarchy) * self.scale + self.mean, z

    def terms(self, data: Data) -> dict[str, Tensor]:
        z, hierarchy = self.encode(data)
        terms = {"reconstruction": self.net.loss(self.net.decode(z, hierarchy), self.scaled(data))}
        if self.infomax is not None:
            terms["infomax"] = self.mi_weight * self.infomax(*self._pairs(data, z, hierarchy))
        if self.prior is not None:
            alone = self._batch(z, hierarchy)[1]
            penalty, critic_loss = self.prior(z, held_out=alone)
            terms["prior"] = self.kl_weight * penalty
            if self.training:  # the critic's own loss falls as it sees more: not what is wanted
                terms["prior_critic"] = critic_loss
        return terms

    def validation_step(self, data: Data, index: int) -> None:
        super().validation_step(data, index)
        if self.infomax is None and self.prior is None:
            return
        z, hierarchy = self.encode(data)
        batch, alone = self._batch(z, hierarchy)
        if alone and int(held_out_rows(z).sum()) < 2:
            return  # nothing that a critic has not seen
        if self.infomax is not None:
            read = self.infomax.estimate(*self._pairs(data, z, hierarchy))
            self.note("val_kl_corrupted" if alone else "val_mi", read.value.float(), data)
        if self.prior is not None:
            read = self.prior.estimate(z, batch, held_out=alone)
            self.note("val_kl_prior", read.value.float(), data)

    def _batch(self, z: Tensor, hierarchy: Hierarchy) -> tuple[Tensor, bool]:
        """The graph of every row of z, and whether there is one graph only."""
        batch = hierarchy.levels[-1].batch
        if batch is None:
            batch = torch.zeros(z.size(0), dtype=torch.long, device=z.device)
        return batch, not bool((batch != batch[0]).any())

    def _pairs(self, data: Data, z: Tensor, hierarchy: Hierarchy) -> tuple[Tensor, ...]:
        """What the critic of mutual information sees; of one graph also z of shuffled features."""
        batch, alone = self._batch(z, hierarchy)
        if not alone:
            return z, batch
        x = self.scaled(data)
        x = x[torch.randperm(x.size(0), device=x.device)]
        return z, batch, self.net.encode(x, *self.inputs(data, self.net))[0]

    def embed(self, data: Data, level: str = "nodes") -> dict[str, Tensor]:
        """Embeddings `z` of nodes, of graphs, or of the coarsest level's nodes (``'latent'``).

        Beside `z` go the graph of every row (`graph`) and, for ``'latent'``, its node in the input
        (`node`).
        """
        batch = batch_of(data)
        if level == "latent":
            z, hierarchy = self.encode(data)
            node = kept_nodes(hierarchy, hierarchy.depth)
            return {"z": z, "graph": batch[node], "node": node}
        edges, own, weight = self.inputs(data, self.net)
        z = self.net.embed(self.scaled(data), edges, own, weight, level)
        return {"z": z, "graph": batch if level == "nodes" else torch.arange(z.size(0))}

    def predict(self, data: Data) -> dict[str, Tensor]:
        """The reconstruction of every node."""
        return {"x_hat": self(data)[0], "graph": batch_of(data)}

    @torch.no_grad()
    def report(self, data: Any, folder: Path | None) -> tuple[Figures, list[Path]]:
        """The error on the test part beside the baselines, and pictures."""
        seen, outputs, floats, levels = [], [], 0, None
        for graph in data.test_dataloader():
            z, hierarchy = self.encode(graph.to(self.device))
            outputs.append(self.net.decode(z, hierarchy) * self.scale + self.mean)
            seen.append(graph)
            floats += z.numel()
            levels = hierarchy if levels is None else levels
        x, x_hat = torch.cat([self.features(graph) for graph in seen]), torch.cat(outputs)
        train_x = torch.cat([self.features(graph) for graph in data.train_graphs()])
        pca, components = pca_mse(train_x, x, floats)
        whole = seen[0] if len(seen) == 1 else Batch.from_data_list(list(data.parts[2]))
        figures = {
            "mse": (x_hat.double() - x.double()).square().mean().item(),
            "baselines": {
                "predict the mean": mean_mse(train_x, x),
                "PCA of equal latent size": pca,
                **interpolation_mse(whole, x, floats),
            },
            "latent_floats": floats,
            "latent_floats_per_node": floats / x.size(0),
            "input_floats_per_node": x.size(1),
            "pca_components": components,
            "counting": COUNTING,
        }
        if folder is None or levels is None:
            return figures, []
        return figures, self._draw(folder, seen[0], outputs[0], levels)

    def _draw(self, folder: Path, data: Data, x_hat: Tensor, levels: Hierarchy) -> list[Path]:
        data = copy.copy(data).cpu()  # a network that trains elsewhere keeps its own
        x = self.features(data)
        made = [pictures.reconstruction(folder, data, x, x_hat.cpu())]
        return made + pictures.levels(folder, data, levels)

    def draw(self, data: Any, folder: Path) -> list[Path]:
        """The pictures alone, of the network as it is."""
        graph = next(iter(data.test_dataloader())).to(self.device)
        z, hierarchy = self.encode(graph)
        x_hat = self.net.decode(z, hierarchy) * self.scale + self.mean
        return self._draw(folder, graph, x_hat, hierarchy)


SKIPS: dict[str, bool | None] = {"none": None, "sum": True, "cat": False}


def kept_nodes(hierarchy: Hierarchy, level: int) -> Tensor:
    """The input's node behind every node of a level, [K]."""
    node = torch.arange(hierarchy.levels[0].num_nodes, device=hierarchy.perms[0].device)
    for perm in hierarchy.perms[:level]:
        node = node[perm]
    return node


def batch_of(data: Data) -> Tensor:
    """The graph of every node, [N]."""
    batch = data.get("batch")
    return torch.zeros(data.num_nodes, dtype=torch.long) if batch is None else batch
