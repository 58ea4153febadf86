"""Terms of a training loss that pull embeddings by an estimated divergence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from pyg_gunet.critic.kl import KLCritic
from pyg_gunet.critic.mutual_information import MutualInformationCritic
from pyg_gunet.critic.readout import Estimate

# Of one graph, every tenth row is kept from the critic, to read from.
HELD_OUT = 10


class InfoMaxTerm(torch.nn.Module):
    r"""Raises the mutual information of node embeddings and the mean of their graph.

    The loss is that of a :class:`MutualInformationCritic`, which encoder and critic minimise
    together (Hjelm et al. 2019); less a constant it is minus twice a Jensen-Shannon information.
    Where there is one graph only, negatives are embeddings of corrupted features, as in Deep Graph
    Infomax, and the reading is :math:`\mathrm{KL}(\text{real} \,\|\, \text{corrupted})`.

    Args:
        channels (int): Size of the embeddings.
        hidden_channels (int): Width of the critic. (default: ``64``)

    Example:
        >>> term = InfoMaxTerm(4, 16)
        >>> z, batch = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> term(z, batch)  # an untrained critic: 2 log 2
        tensor(1.3863, grad_fn=<DivBackward0>)
    """

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        self.critic = MutualInformationCritic(channels, channels, hidden_channels)

    def forward(self, z: Tensor, batch: Tensor, z_corrupt: Tensor | None = None) -> Tensor:
        r"""The loss of embeddings `z` [K, channels] of the graphs `batch` [K]; with `z_corrupt`
        [K, channels] the first tenth of every ten rows is left out, for :meth:`estimate`."""
        return self.critic.loss(*self._pairs(z, batch, z_corrupt, held_out=False))

    def estimate(self, z: Tensor, batch: Tensor, z_corrupt: Tensor | None = None) -> Estimate:
        r"""The reading, from graphs that were not trained on, or with `z_corrupt` from the rows
        that :meth:`forward` leaves out."""
        return self.critic.estimate(*self._pairs(z, batch, z_corrupt, held_out=True))

    def _pairs(
        self, z: Tensor, batch: Tensor, z_corrupt: Tensor | None, held_out: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        summary = scatter(z, batch, dim=0, reduce="mean")
        if z_corrupt is None:
            return z, summary, batch, None
        rows = held_out_rows(z) if held_out else ~held_out_rows(z)
        return z[rows], summary, batch[rows], z_corrupt[rows]


class PriorTerm(torch.nn.Module):
    r"""Pulls embeddings, all nodes of all graphs together, towards :math:`\mathcal{N}(0, I)` by the
    estimated :math:`\mathrm{KL}(q(z) \,\|\, \mathcal{N}(0, I))` of the aggregated posterior
    (Makhzani et al. 2016; Mescheder et al. 2017): no noise is added to z, and only the whole cloud
    has to be normal, not every node.

    Args:
        channels (int): Size of the embeddings.
        hidden_channels (int): Width of the critic. (default: ``64``)

    Example:
        >>> term = PriorTerm(4, 16)
        >>> penalty, critic_loss = term(torch.randn(6, 4))
        >>> critic_loss
        tensor(1.3863, grad_fn=<AddBackward0>)
    """

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        self.critic = KLCritic(channels, hidden_channels)

    def forward(self, z: Tensor, held_out: bool = False) -> tuple[Tensor, Tensor]:
        r"""``(penalty, critic_loss)``: the first moves `z` [K, channels] and not the critic, the
        second the critic and not `z`. Weigh the first and add the second.

        Args:
            z (Tensor): Embeddings.
            held_out (bool): Keep every tenth row from the critic, to read from.
                (default: ``False``)
        """
        seen = z[~held_out_rows(z)] if held_out and z.size(0) > 2 else z
        return self.critic.penalty(z), self.critic.loss(seen.detach(), torch.randn_like(seen))

    def estimate(self, z: Tensor, batch: Tensor, held_out: bool = False) -> Estimate:
        r"""The reading from embeddings that were not trained on; its error is over graphs where
        there are at least two."""
        if held_out:
            rows = held_out_rows(z)
            z, batch = z[rows], batch[rows]
        cluster = batch if bool((batch != batch[0]).any()) else None
        prior = torch.randn_like(z)
        own = None if cluster is None else torch.arange(len(z), device=z.device) + batch.max() + 1
        return self.critic.estimate(z, prior, cluster_p=cluster, cluster_q=own)


def held_out_rows(z: Tensor) -> Tensor:
    """Which rows of one graph's embeddings the critics do not train on, boolean [K]."""
    return torch.arange(z.size(0), device=z.device) % HELD_OUT == 0
