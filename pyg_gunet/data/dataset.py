"""Graphs in memory as a PyG data set, and splits of them and of their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.transforms import LocalDegreeProfile
from torch_geometric.utils import cumsum

from pyg_gunet.validate import check_positive_int, check_tensor


class GraphDataset(InMemoryDataset):
    r"""Graphs that are already in memory, as a PyG data set.

    Args:
        name (str): The name of the data set.
        graphs (list[Data]): The graphs, each with the same attributes and number of features.
        parts (sequence of Tensor, optional): The indices of the training, validation and test
            graphs, where the set has a split of its own. (default: :obj:`None`)
        num_classes (int, optional): How many classes there are. (default: by the labels)
        shape_parts (list of list of int, optional): The part labels of each category of shapes.
            (default: :obj:`None`)

    Raises:
        ValueError: If the graphs do not have the same attributes.
    """

    def __init__(
        self,
        name: str,
        graphs: Iterable[Data],
        parts: Sequence[Tensor] | None = None,
        num_classes: int | None = None,
        shape_parts: list[list[int]] | None = None,
    ) -> None:
        super().__init__(None)
        self.name = name
        self.parts = None if parts is None else tuple(parts)
        self.shape_parts = shape_parts
        self._classes = num_classes
        graphs = list(graphs)
        check_alike(graphs, name)
        self.data, self.slices = self.collate(graphs)

    @property
    def num_classes(self) -> int:
        return super().num_classes if self._classes is None else self._classes

    def __repr__(self) -> str:
        return f"{self.name}({len(self)})"


def check_alike(graphs: Sequence[Data], name: str, numbers: Sequence[int] | None = None) -> None:
    """Refuses, by its number, a graph that has not what the first one has: they go in one batch."""
    for i, data in enumerate(graphs):
        for what in (lambda data: sorted(data.keys()), lambda data: data.num_node_features):
            if what(data) != what(graphs[0]):
                number, first = (i, 0) if numbers is None else (numbers[i], numbers[0])
                raise ValueError(
                    f"graph {number} of '{name}' must have the attributes and features of graph "
                    f"{first}, {what(graphs[0])} (got {what(data)})"
                )


def with_features(data: Data) -> Data:
    """A graph with float32 features `x`: its own, or else its local degree profile."""
    if data.x is None or data.x.size(1) == 0:
        data.x = None
        data.num_nodes = int(data.num_nodes or 0)
        return LocalDegreeProfile()(data)
    data.x = data.x.float()
    return data


def split_indices(
    num_graphs: int, seed: int = 0, shares: Sequence[float] = (0.8, 0.1)
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws disjoint train, validation and test sets of graphs.

    Args:
        num_graphs (int): How many graphs there are; at least 3, so that no part is empty.
        seed (int, optional): Seed of the draw. (default: :obj:`0`)
        shares (tuple[float, float], optional): Shares of train and validation; the rest is test.
            (default: :obj:`(0.8, 0.1)`)

    Returns:
        Three sorted int64 tensors of graph indices.

    Raises:
        ValueError: If there are fewer than 3 graphs, or the shares leave no test set.

    Example:
        >>> [len(part) for part in split_indices(188)]
        [150, 19, 19]
    """
    check_positive_int(num_graphs, "num_graphs", minimum=3)
    train, val = _check_split(seed, shares)
    order = torch.randperm(num_graphs, generator=torch.Generator().manual_seed(seed))
    n_train = min(max(round(train * num_graphs), 1), num_graphs - 2)
    n_val = min(max(round(val * num_graphs), 1), num_graphs - n_train - 1)
    parts = order.split([n_train, n_val, num_graphs - n_train - n_val])
    return parts[0].sort().values, parts[1].sort().values, parts[2].sort().values


def split_nodes(
    y: Tensor, seed: int = 0, shares: Sequence[float] = (0.6, 0.2)
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws disjoint train, validation and test nodes, the same shares of every class.

    Args:
        y (Tensor): The class of every node [N]; a node of class -1 is in no part.
        seed (int, optional): Seed of the draw. (default: :obj:`0`)
        shares (tuple[float, float], optional): Shares of train and validation; the rest is test.
            A class of one node trains, one of two trains and is tested. (default:
            :obj:`(0.6, 0.2)`)

    Returns:
        `train_mask`, `val_mask` and `test_mask`, boolean, [N] each.

    Raises:
        ValueError: If `y` is not [N], no node has a class, or the shares leave no test set.

    Example:
        >>> [mask.nonzero().numel() for mask in split_nodes(torch.tensor([0, 1] * 50 + [-1]))]
        [60, 20, 20]
    """
    check_tensor(y, "y")
    if y.dim() != 1 or y.is_floating_point() or not bool((y >= 0).any()):
        raise ValueError(f"'y' must be one class per node, [N] (got {y.dtype} {list(y.shape)})")
    train, val = _check_split(seed, shares)
    known = (y >= 0).nonzero().view(-1)
    draw = torch.randperm(known.numel(), generator=torch.Generator().manual_seed(seed))
    known = known[draw]
    known = known[y[known].argsort(stable=True)]  # class by class, in the order of the draw
    count = y[known].bincount()
    rank = torch.arange(known.numel()) - cumsum(count)[y[known]]
    size = count[y[known]]
    n_train = (train * size).round().clamp(min=1)
    # What is left is tested; where little is, testing comes before choosing.
    n_val = (val * size).round().clamp(min=1).minimum((size - n_train - 1).clamp(min=0))
    masks = torch.zeros(3, y.numel(), dtype=torch.bool)
    masks[(rank >= n_train).long() + (rank >= n_train + n_val), known] = True
    return masks[0], masks[1], masks[2]


def _check_split(seed: int, shares: Sequence[float]) -> tuple[float, float]:
    check_positive_int(seed, "seed", 0, 2**63 - 1)
    try:
        train, val = (float(share) for share in shares)
    except (TypeError, ValueError) as error:
        raise TypeError(f"'shares' must be two numbers (got {shares!r})") from error
    if not (train > 0 and val > 0 and train + val < 1):
        raise ValueError(f"'shares' must be positive and sum to less than 1 (got {shares!r})")
    return train, val
