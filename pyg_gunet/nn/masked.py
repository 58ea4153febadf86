"""Masked auto-encoding of node features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch_geometric.nn import Linear

from pyg_gunet.graph.edges import Edges
from pyg_gunet.graph.graph import Graph
from pyg_gunet.graph.level import Hierarchy
from pyg_gunet.nn.autoencoder import GraphUNetAutoEncoder
from pyg_gunet.nn.base import LevelModel
from pyg_gunet.nn.conv import UNetConv, explained, takes
from pyg_gunet.nn.parts import MakeConv, check_pair, make_conv
from pyg_gunet.nn.unet import GraphUNet
from pyg_gunet.validate import check_features, check_number, outermost


class MaskedAutoEncoder(torch.nn.Module):
    r"""Hides the features of random nodes and predicts them, as in `GraphMAE
    <https://arxiv.org/abs/2205.10803>`_ (section 3.2): a learned token in place of hidden features,
    hidden nodes hidden once more between the network and a decoder of one convolution, which so has
    to read them off their neighbours, and the scaled cosine error.

    Args:
        model (GraphUNetAutoEncoder or GraphUNet): What embeds nodes: the auto-encoder's
            :meth:`~GraphUNetAutoEncoder.embed`, whose own read-off gets zeros for a gradient, or a
            :class:`GraphUNet` from features to embeddings, skip connections and all (what is hidden
            cannot be copied).
        mask (float, optional): The share of nodes that are hidden, in (0, 1). (default: 0.5)
        replace (float, optional): The share of these that get another node's features in place of
            the token. (default: 0.05)
        gamma (float, optional): The exponent of the scaled cosine error, at least 1.
            (default: 2.0)
        conv (callable, optional): Makes the decoder, see :class:`GraphUNet`. (default: None)

    Shapes:
        - **input:** `x` [N, in_channels], `edge_index` [2, E], `batch` [N] sorted or None,
          `edge_weight` [E] or None
        - **output:** `x_hat` [N, in_channels] and the nodes that were hidden, [N]

    Raises:
        ValueError, TypeError, IndexError: On bad input, naming the argument and the value.

    Example:
        >>> model = MaskedAutoEncoder(GraphUNet(3, 16, 16, depth=1))
        >>> x, edge_index = torch.randn(12, 3), torch.randint(12, (2, 40))
        >>> x_hat, hidden = model(x, edge_index)
        >>> model.loss(x_hat, x, hidden).shape, model.embed(x, edge_index).shape
        (torch.Size([]), torch.Size([12, 16]))
    """

    def __init__(
        self,
        model: LevelModel,
        mask: float = 0.5,
        replace: float = 0.05,
        gamma: float = 2.0,
        conv: MakeConv = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, (GraphUNetAutoEncoder, GraphUNet)):
            raise TypeError(
                f"'model' must be a GraphUNetAutoEncoder or a GraphUNet (got {model!r:.80})"
            )
        check_number(mask, "mask", 0.0, 1.0)
        if mask in (0, 1):
            raise ValueError(f"'mask' must lie between 0 and 1 (got {mask!r})")
        check_number(replace, "replace", 0.0, 1.0)
        check_number(gamma, "gamma", 1.0)
        self.model = model
        self.mask, self.replace, self.gamma = float(mask), float(replace), float(gamma)
        hidden = model.out_channels if isinstance(model, GraphUNet) else model.hidden_channels
        self.token = torch.nn.Parameter(torch.empty(1, model.in_channels))
        self.lin = Linear(hidden, hidden, bias=False)
        self.conv = make_conv(conv, hidden, model.in_channels)
        self._reset_own()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters; the token starts at zero."""
        self.model.reset_parameters()
        self._reset_own()

    def _reset_own(self) -> None:
        torch.nn.init.zeros_(self.token)
        self.lin.reset_parameters()
        reset = getattr(self.conv, "reset_parameters", None)
        if callable(reset):
            reset()

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Embeddings of all nodes, nothing hidden. Arguments as in :meth:`forward`."""
        if isinstance(self.model, GraphUNetAutoEncoder):
            return self.model.embed(x, edge_index, batch, edge_weight)
        return self.model(x, edge_index, batch, edge_weight)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph | Hierarchy,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""``(x_hat [N, in_channels], hidden [N])``, for ``loss(x_hat, x, hidden)``.

        Args:
            x (Tensor): Node features, [N, in_channels].
            edge_index (Tensor, Graph or Hierarchy): Edges, [2, E], or what the model's
                :meth:`prepare` made.
            batch (Tensor, optional): Sorted graph id per node, [N]. (default: None, one graph)
            edge_weight (Tensor, optional): Edge weights, [E]. (default: None, all ones)
        """
        with outermost() as values:
            check_features(x, self.model.in_channels, values)
        seen, hidden = self._hide(x)
        with explained(self, edge_weight) as edge_weight:
            h = self.lin(self.embed(seen, edge_index, batch, edge_weight))
            h = h.masked_fill(hidden.view(-1, 1), 0.0)
            x_hat = self._finest(x, edge_index, edge_weight).convolve(self.conv, h)
        return x_hat + self._resting() if self.training else x_hat, hidden

    def _resting(self) -> Tensor:
        """Zero, out of none of the numbers of each parameter that no prediction reads: these get a
        gradient, of zeros, for which data-parallel training waits."""
        zero = self.token.new_zeros(())
        if isinstance(self.model, GraphUNetAutoEncoder):
            for part in (self.model.head, self.model.lin_out, self.model.edge_decoder):
                for parameter in part.parameters():
                    if not is_lazy(parameter):
                        zero = zero + parameter.flatten()[:0].sum()
        return zero

    def _finest(
        self, x: Tensor, edge_index: Tensor | Graph | Hierarchy, edge_weight: Tensor | None
    ) -> Graph:
        """The input's graph as the decoder takes it."""
        if isinstance(edge_index, Hierarchy):
            edge_index = edge_index.levels[0].graph
        attr = None
        if isinstance(edge_index, Graph):
            if isinstance(edge_index, Edges):
                attr = edge_index.edge_attr
            elif isinstance(self.conv, UNetConv):
                return edge_index
            edge_index, edge_weight = edge_index.edges(loops=True)
        if attr is not None and not takes(self.conv, "edge_attr"):
            attr = None
        return Edges(edge_index, x.size(0), edge_weight, attr, takes(self.conv, "edge_weight"))

    def _hide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features with exactly ``round(mask * N)`` nodes hidden, at least one, and which."""
        n = x.size(0)
        order = torch.randperm(n, device=x.device)
        chosen = order[: max(1, round(self.mask * n))]
        noisy = chosen[: int(self.replace * chosen.numel())]
        hidden = torch.zeros(n, dtype=torch.bool, device=x.device)
        hidden[chosen] = True
        out = torch.where(hidden.view(-1, 1), self.token.to(x.dtype), x)
        if noisy.numel():
            other = torch.randint(n, noisy.shape, device=x.device)
            out = out.index_copy(0, noisy, x[other])
        return out, hidden

    def loss(self, x_hat: Tensor, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        r"""The scaled cosine error of GraphMAE (eq. 2), a scalar to minimise.

        Args:
            x_hat (Tensor): Prediction, [N, in_channels].
            x (Tensor): Features, [N, in_channels].
            hidden (Tensor, optional): The nodes that count, [N], boolean. (default: None, all)
        """
        x_hat, x = check_pair(x_hat, x, hidden, "hidden")
        far = 1.0 - F.cosine_similarity(x_hat, x, dim=-1)
        return far.clamp(min=0).pow(self.gamma).mean()

    def extra_repr(self) -> str:
        return f"mask={self.mask}, replace={self.replace}, gamma={self.gamma}"
