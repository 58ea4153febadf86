"""Arguments that the fuzz alone would come upon, and that by chance: one call for each refusal."""

from __future__ import annotations

import pytest
import torch
from torch import ones, tensor, zeros

from pyg_gunet import (
    BorderWeight,
    BorderWeightedCrossEntropy,
    GraphUNet,
    GraphUNetAutoEncoder,
    HierarchicalReadout,
    SegmentationMetrics,
    to_label_image,
)
from pyg_gunet.critic import (
    dense_pairs,
    fit_critic,
    nce_loss,
    pair_loss,
    pair_readout,
    two_sample_readout,
)
from pyg_gunet.critic.pairs import PairScores
from pyg_gunet.data import read_images
from pyg_gunet.files import check_path
from pyg_gunet.functional.segmentation import part_iou, pixel_accuracy
from pyg_gunet.functional.select import num_kept
from pyg_gunet.nn.segmentation import Scale, deep_supervision
from pyg_gunet.train import fit
from pyg_gunet.validate import (
    check_bool,
    check_generator,
    check_memory,
    check_positive_int,
    check_same_device,
    check_tensor,
)

TWO, SQUARE, NODES = zeros(2), zeros(2, 2), zeros(2).long()
PAIRS = PairScores(TWO, SQUARE, ~torch.eye(2).bool(), torch.arange(2), ones(2))
SCALES = [Scale(SQUARE, torch.arange(2))]
PARTS = [[0, 1]]


def levels():
    return GraphUNet(2, 4, 4, 1).states(SQUARE, tensor([[0, 1], [1, 0]]))[1]


def clusters(cluster):
    return two_sample_readout(TWO, TWO, "dv", cluster_p=NODES, cluster_q=cluster)


def paired(**changes):
    return pair_readout(PAIRS._replace(**changes), "dv")


def supervised(target=NODES, scales=SCALES, **options):
    return deep_supervision(scales, target, **options)


CALLS = {
    "path": (lambda: check_path(3, "out"), TypeError, "'out' must be a str or a Path.*3"),
    "long path": (lambda: check_path("a" * 300, "out"), ValueError, "'out' has a part too long"),
    "weight shape": (lambda: nce_loss(TWO, TWO, weight_q=ones(3)), ValueError, r"'weight_q'.*\[3"),
    "weight": (lambda: nce_loss(TWO, TWO, weight_q=-ones(2)), ValueError, r"'weight_q'.*-1\.0"),
    "target dtype": (lambda: dense_pairs(SQUARE, TWO), TypeError, "'target'.*float32"),
    "pair weights": (lambda: dense_pairs(SQUARE, NODES, ones(3)), ValueError, r"'weight'.*\[3\]"),
    "target": (lambda: dense_pairs(SQUARE, NODES + 2), IndexError, r"'target'.*\[0, 2\) .got 2"),
    "negative pair weight": (
        lambda: dense_pairs(SQUARE, NODES, -ones(2)),
        ValueError,
        r"'weight'.*-1\.0",
    ),
    "pairs": (lambda: pair_readout(3, "dv"), TypeError, "'pairs'.*int"),
    "pairs of a loss": (lambda: pair_loss(3), TypeError, "'pairs'.*int"),
    "neg": (lambda: paired(neg=TWO), ValueError, r"'neg'.*\[2\]"),
    "pos": (lambda: paired(pos=zeros(3)), ValueError, r"'pos'.*\[2\] .got \[3\]"),
    "weights of pairs": (lambda: paired(weight=ones(3)), ValueError, r"'weight'.*\[2\] .got \[3\]"),
    "cluster dtype": (lambda: clusters(TWO), TypeError, "'cluster_q'.*float32"),
    "cluster": (lambda: clusters(zeros(3).long()), ValueError, r"'cluster_q'.*\[2\] .got \[3\]"),
    "ignore_index": (
        lambda: pixel_accuracy(NODES, NODES, 2, ignore_index=2**70),
        ValueError,
        "'ignore_index' must fit.*1180591620717411303424",
    ),
    "scalar preds": (
        lambda: part_iou(tensor(1), NODES, NODES, tensor([0]), PARTS),
        ValueError,
        "'preds'.*scalar",
    ),
    "logits of integers": (
        lambda: part_iou(SQUARE.long(), NODES, NODES, tensor([0]), PARTS),
        TypeError,
        "'preds'.*int64",
    ),
    "parts": (
        lambda: part_iou(NODES, NODES, NODES, tensor([0]), "ab"),
        TypeError,
        "'parts'.*'ab'",
    ),
    "sizes dtype": (lambda: num_kept(0.5, TWO), TypeError, "'sizes'.*float32"),
    "sizes": (lambda: num_kept(0.5, SQUARE.long()), ValueError, r"'sizes'.*\[2, 2\]"),
    "negative size": (lambda: num_kept(0.5, tensor([-3])), ValueError, "'sizes'.*-3 for graph 0"),
    "too large": (lambda: check_positive_int(9, "k", maximum=8), ValueError, "'k'.*most 8 .got 9"),
    "bool": (lambda: check_bool(1, "cached"), TypeError, "'cached' must be a bool .got 1"),
    "memory": (lambda: check_memory(2**60, "n", 7), ValueError, "'n' asks for .* GiB.*got 7"),
    "sparse": (lambda: check_tensor(SQUARE.to_sparse(), "x"), TypeError, "'x'.*torch.sparse_coo"),
    "generator": (lambda: check_generator(3), TypeError, "'generator'.*3"),
    "device": (lambda: check_same_device(TWO, "x", batch=3), TypeError, "'batch'.*int"),
    "sigma": (lambda: read_images("none", sigma=0.0), ValueError, r"'sigma'.*0\.0"),
    "class_names": (
        lambda: SegmentationMetrics(2, class_names="ab"),
        TypeError,
        "'class_names'.*'ab'",
    ),
    "hierarchy": (
        lambda: GraphUNetAutoEncoder(2, 4, depth=1).decode(SQUARE, 3),
        TypeError,
        "'hierarchy' must be a Hierarchy of 1 poolings.*3",
    ),
    "critic": (
        lambda: fit_critic(torch.nn.Linear(1, 1), lambda: (TWO, TWO), 1),
        TypeError,
        "'critic'.*Linear",
    ),
    "logits": (
        lambda: BorderWeightedCrossEntropy()(SQUARE * torch.nan, NODES),
        ValueError,
        "'logits' must not hold NaN",
    ),
    "net": (lambda: HierarchicalReadout(3, 2), TypeError, "'net' must be a GraphUNet .got 3"),
    "width of a net": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 3, 1), 2),
        ValueError,
        "'net' must give its 4 hidden channels .got 3",
    ),
    "reduce": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 4, 1), 2, "mean"),
        TypeError,
        "'reduce' must be a tuple of names .got 'mean'",
    ),
    "states": (
        lambda: HierarchicalReadout(GraphUNet(2, 4, 4, 1), 2).read([SQUARE], levels()),
        ValueError,
        "'states' must hold one entry per level, 2 of them .got 1",
    ),
    "scales": (lambda: supervised(scales=3), TypeError, "'scales'.*int"),
    "labels shape": (lambda: supervised(zeros(3).long()), ValueError, r"'target'.*\[2\] .got \[3"),
    "labels dtype": (lambda: supervised(TWO), TypeError, "'target'.*float32"),
    "labels": (lambda: supervised(NODES + 2), IndexError, r"'target'.*\[0, 2\) .got 2"),
    "criterion": (lambda: supervised(criterion=3), TypeError, "'criterion'.*3"),
    "dataset": (lambda: fit(3), TypeError, "'dataset'.*3"),
    "class_weight": (
        lambda: BorderWeight(class_weight=["a"]),
        TypeError,
        r"'class_weight'.*\['a'\]",
    ),
    "edge_length": (lambda: BorderWeight(edge_length=3), TypeError, "'edge_length'.*3"),
    "data": (lambda: BorderWeight()(3), TypeError, "'data'.*int"),
    "data of an image": (lambda: to_label_image(NODES, 3), TypeError, "'data'.*int"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name):
    call, error, match = CALLS[name]
    with pytest.raises(error, match=match):
        call()
