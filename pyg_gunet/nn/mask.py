"""What masked auto-encoding adds to an auto-encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.nn import Linear

from pyg_gunet.functional.validate import check_number
from pyg_gunet.nn.levels import make_conv


class MaskDecoder(torch.nn.Module):
    r"""The token, the second hiding and the decoder of `GraphMAE
    <https://arxiv.org/abs/2205.10803>`_ (section 3.2).

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each node embedding.
        conv (callable, optional): Makes the decoder, see :class:`GraphUNet`.
        share (float): The share of nodes to hide, in (0, 1).
        replace (float): The share of these that get another node's features.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        conv: Callable[[int, int], torch.nn.Module] | None,
        share: float,
        replace: float,
    ) -> None:
        super().__init__()
        check_number(share, "mask", 0.0, 1.0)
        if share in (0, 1):
            raise ValueError(f"'mask' must lie between 0 and 1 (got {share!r})")
        check_number(replace, "replace", 0.0, 1.0)
        self.share, self.replace = float(share), float(replace)
        self.token = torch.nn.Parameter(torch.empty(1, in_channels))
        self.lin = Linear(hidden_channels, hidden_channels, bias=False)
        self.conv = make_conv(conv, hidden_channels, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters; the token starts at zero."""
        torch.nn.init.zeros_(self.token)
        self.lin.reset_parameters()
        reset = getattr(self.conv, "reset_parameters", None)
        if callable(reset):
            reset()

    def hide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(features [N, F], hidden [N])``: exactly ``round(share * N)`` nodes are hidden, at
        least one."""
        n = x.size(0)
        order = torch.randperm(n, device=x.device)
        hidden = order[: max(1, round(self.share * n))]
        noisy = hidden[: int(self.replace * hidden.numel())]
        mask = torch.zeros(n, dtype=torch.bool, device=x.device)
        mask[hidden] = True
        out = torch.where(mask.view(-1, 1), self.token.to(x.dtype), x)
        if noisy.numel():
            other = torch.randint(n, noisy.shape, device=x.device)
            out = out.index_copy(0, noisy, x[other])
        return out, mask

    def hide_again(self, h: Tensor, mask: Tensor) -> Tensor:
        """Node embeddings as the decoder reads them: zero where hidden."""
        return self.lin(h).masked_fill(mask.view(-1, 1), 0.0)

    def extra_repr(self) -> str:
        return f"mask={self.share}, replace={self.replace}"
