"""The task ``autoencode``: node features through a small latent and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.nn import APPNP, global_mean_pool

from pyg_gunet.critic.terms import InfoMaxTerm, PriorTerm, held_out_rows
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.nn.masked import MaskedAutoEncoder
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.settings import Settings
from pyg_gunet.train.baselines import mean_mse, pca_mse
from pyg_gunet.train.pictures import draw_reconstruction
from pyg_gunet.train.probe import probe
from pyg_gunet.train.tasks import GraphModule, Splits, Task, graph_splits, register_task

COUNTING = (
    "floats of z over all test nodes; PCA keeps as many scores (whole components, then the largest "
    "scores of the next one), its mean and axes come from the training nodes and are not counted, "
    "nor are our weights and the kept nodes"
)
PROPAGATE = 10  # steps of PageRank that the probe of masked auto-encoding tries beside none


class AutoEncode(GraphModule):
    r"""A :class:`GraphUNetAutoEncoder` that is trained on the features of all nodes.

    With ``normalize='center'`` the network sees features less their mean, over one deviation that
    all channels share: the loss is then the share of the variance that is lost, and 1 is what
    predicting the mean costs.
    """

    def __init__(self, settings: dict[str, Any], channels: dict[str, int]) -> None:
        super().__init__(settings, channels)
        s = self.settings
        options: dict[str, Any] = {"norm": None if s.norm == "none" else s.norm}
        options.update(dropout=s.dropout or 0.0, act="elu", **s.words)
        size = channels["in_channels"], s.hidden_channels
        self.net: Any
        if s.mask is not None:  # with skip connections: what is hidden cannot be copied
            sum_res = {"sum": True, "cat": False}.get(s.skip or "sum")
            net = GraphUNet(*size, s.hidden_channels, s.depth, s.ratios, sum_res, **options)
            self.net = MaskedAutoEncoder(net, s.mask)
        else:
            self.net = GraphUNetAutoEncoder(*size, s.latent_channels, s.depth, s.ratios, **options)
        latent = s.latent_channels or s.hidden_channels
        self.infomax = InfoMaxTerm(latent) if s.mi_weight else None
        self.prior = PriorTerm(latent) if s.kl_weight else None

    def encode(self, data: Data) -> tuple[Tensor, Hierarchy]:
        """``(z, hierarchy)`` of a graph or a batch."""
        x = self.scaled(data)
        return self.net.encode(x, data.edge_index, data.get("batch"), data.get("edge_weight"))

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        """``(x_hat, z)``, the reconstruction [N, F] in the units of the data set."""
        z, hierarchy = self.encode(data)
        return self.net.decode(z, hierarchy) * self.scale + self.mean, z

    def terms(self, data: Data) -> dict[str, Tensor]:
        x = self.scaled(data)
        if self.settings.mask is not None:
            batch, weight = data.get("batch"), data.get("edge_weight")
            x_hat, hidden = self.net(x, data.edge_index, batch, weight)
            return {"reconstruction": self.net.loss(x_hat, x, hidden)}
        z, hierarchy = self.encode(data)
        terms = {"reconstruction": self.net.loss(self.net.decode(z, hierarchy), x)}
        batch, one_graph = self._latent_batch(z, hierarchy)
        if self.infomax is not None:
            z_corrupt = self._corrupted(data) if one_graph else None
            terms["infomax"] = self.settings.mi_weight * self.infomax(z, batch, z_corrupt)
        if self.prior is not None:
            penalty, critic_loss = self.prior(z, held_out=one_graph)
            terms["prior"] = self.settings.kl_weight * penalty
            if self.training:  # the critic's own loss falls as it sees more: not what is wanted
                terms["prior_critic"] = critic_loss
        return terms

    def validation_step(self, data: Data, index: int) -> None:
        super().validation_step(data, index)
        if self.infomax is None and self.prior is None:
            return
        z, hierarchy = self.encode(data)
        batch, one_graph = self._latent_batch(z, hierarchy)
        if one_graph and int(held_out_rows(z).sum()) < 2:
            return  # nothing that a critic has not seen
        if self.infomax is not None:
            z_corrupt = self._corrupted(data) if one_graph else None
            read = self.infomax.estimate(z, batch, z_corrupt)
            self._log("val_kl_corrupted" if one_graph else "val_mi", read.value.float(), data)
        if self.prior is not None:
            read = self.prior.estimate(z, batch, held_out=one_graph)
            self._log("val_kl_prior", read.value.float(), data)

    def _latent_batch(self, z: Tensor, hierarchy: Hierarchy) -> tuple[Tensor, bool]:
        """The graph of every row of z, and whether there is one graph only."""
        batch = hierarchy.levels[-1].batch
        if batch is None:
            batch = torch.zeros(z.size(0), dtype=torch.long, device=z.device)
        return batch, not bool((batch != batch[0]).any())

    def _corrupted(self, data: Data) -> Tensor:
        """z of the same graph with the features of its nodes shuffled."""
        x = self.scaled(data)
        x = x[torch.randperm(x.size(0), device=x.device)]
        return self.net.encode(x, data.edge_index, data.get("batch"), data.get("edge_weight"))[0]

    def embed(self, data: Data, level: str) -> dict[str, Tensor]:
        """Embeddings `z` of nodes, of graphs, or of the coarsest level's nodes (``'latent'``).

        Beside `z` go the graph of every row (`graph`) and, for ``'latent'``, its node in the input
        (`node`).
        """
        batch = data.get("batch")
        if batch is None:
            batch = torch.zeros(data.num_nodes, dtype=torch.long)
        if level == "latent":
            z, hierarchy = self.encode(data)
            node = kept_nodes(hierarchy)
            return {"z": z, "graph": batch[node], "node": node}
        x = self.scaled(data)
        weight = data.get("edge_weight")
        if self.settings.mask is None:
            z = self.net.embed(x, data.edge_index, batch, weight, level)
        else:
            z = self.net.embed(x, data.edge_index, batch, weight)
            z = z if level == "nodes" else global_mean_pool(z, batch)
        return {"z": z, "graph": batch if level == "nodes" else torch.arange(z.size(0))}


def kept_nodes(hierarchy: Hierarchy) -> Tensor:
    """The input's node behind every node of the coarsest level, [K]."""
    node = hierarchy.perms[0]
    for perm in hierarchy.perms[1:]:
        node = node[perm]
    return node


def channels(dataset: InMemoryDataset) -> dict[str, int]:
    return {"in_channels": int(dataset.num_node_features)}


def defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    """What measurement found good for graphs of this size.

    The latent gets about a third of the input's floats, at most `hidden_channels` per node.
    """
    if settings.mask is not None:
        return masked_defaults(settings, dataset)
    kept = math.prod(ratio for ratio in settings.ratios if isinstance(ratio, float))
    latent = math.ceil(dataset.num_node_features / 3 / kept - 0.01)
    epochs = 100
    if len(dataset) == 1:  # a step of 150,000 edges takes about half a second on two cores
        epochs = 300 if dataset[0].num_edges <= 50_000 else 150
    return {
        "epochs": epochs,
        "lr": 5e-3,
        "weight_decay": 0.0,
        "latent_channels": min(max(latent, 1), settings.hidden_channels),
        "dropout": 0.0,
        "loss_fn": "mse",
        "normalize": "center",
    }


def masked_defaults(settings: Settings, dataset: InMemoryDataset) -> dict[str, Any]:
    """Those of GraphMAE on citation graphs, where they have a meaning here; skips, because what is
    hidden cannot be copied."""
    for name in ("mi_weight", "kl_weight"):
        if getattr(settings, name):
            raise ValueError(f"'{name}' does not go with 'mask' (got {getattr(settings, name)!r})")
    return {
        "epochs": 300,
        "lr": 1e-3,
        "weight_decay": 2e-4,
        "latent_channels": settings.hidden_channels,
        "select": "spread",
        "skip": "cat",
        "dropout": 0.2,
        "loss_fn": "sce",
        "normalize": "none",
    }


@torch.no_grad()
def masked_report(module: AutoEncode, splits: Splits) -> tuple[dict[str, Any], list[Path]]:
    """The error on hidden features, and a linear probe where the data set has a public split.

    The probe reads the embeddings as they are and after ten steps of personalised PageRank; the
    validation nodes choose between the two.
    """
    torch.manual_seed(module.settings.seed)
    losses = [float(module.terms(data)["reconstruction"]) for data in splits.test]
    figures: dict[str, Any] = {
        "baselines": {},
        "masked_loss": sum(losses) / len(losses),
        "mask": module.settings.mask,
    }
    if splits.one_graph:
        data = next(iter(splits.test))
        if all(key in data for key in ("y", "train_mask", "val_mask", "test_mask")):
            masks = data.train_mask, data.val_mask, data.test_mask
            z = module.embed(data, "nodes")["z"]
            tried = {
                steps: probe(APPNP(steps, 0.1)(z, data.edge_index), data.y, *masks)
                for steps in (0, PROPAGATE)
            }
            best = max(tried, key=lambda k: (tried[k]["val_accuracy"], -tried[k]["val_loss"]))
            found, figures["propagate"] = tried[best], best
            plain = probe(data.x, data.y, *masks)
            figures["test_accuracy"] = found["test_accuracy"]  # of the probe
            figures["val_accuracy"] = found["val_accuracy"]
            figures["baselines"] = {"probe of the features": plain["test_accuracy"]}
    return figures, []


@torch.no_grad()
def report(
    module: AutoEncode, splits: Splits, folder: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """The error on the test part beside the two baselines, and a picture."""
    if module.settings.mask is not None:
        return masked_report(module, splits)
    truth, outputs, floats, first = [], [], 0, None
    for data in splits.test:
        data = data.to(module.device)
        x_hat, z = module(data)
        truth.append(module.features(data).cpu())
        outputs.append(x_hat.cpu())
        floats += z.numel()
        first = (data.cpu(), x_hat.cpu()) if first is None else first
    x, x_hat = torch.cat(truth), torch.cat(outputs)
    train_x = torch.cat([module.features(data.cpu()) for data in splits.train])
    pca, components = pca_mse(train_x, x, floats)
    figures = {
        "mse": (x_hat.double() - x.double()).square().mean().item(),
        "baselines": {"predict the mean": mean_mse(train_x, x), "PCA of equal latent size": pca},
        "latent_floats": floats,
        "latent_floats_per_node": floats / x.size(0),
        "input_floats_per_node": x.size(1),
        "pca_components": components,
        "counting": COUNTING,
    }
    pictures = []
    if folder is not None and first is not None:
        data, x_hat = first
        pictures.append(folder / "reconstruction.png")
        draw_reconstruction(pictures[-1], data, module.features(data), x_hat)
    return figures, pictures


register_task(Task("autoencode", AutoEncode, channels, defaults, graph_splits, report))
