r"""Divergences: closed forms, and objectives and read-outs for a log-ratio ``r = log p/q``."""

from pyg_gunet.functional.divergence.closed_form import (
    gaussian_mutual_information,
    kl_diagonal_gaussian,
    kl_discrete,
    kl_gaussian,
)
from pyg_gunet.functional.divergence.objective import (
    dv_loss,
    infonce_loss,
    jsd_loss,
    log_mean_exp,
    nce_loss,
)
from pyg_gunet.functional.divergence.pairs import (
    PairScores,
    dense_pairs,
    pair_loss,
    pair_readout,
)
from pyg_gunet.functional.divergence.readout import Estimate, two_sample_readout

__all__ = [
    "Estimate",
    "PairScores",
    "dense_pairs",
    "dv_loss",
    "gaussian_mutual_information",
    "infonce_loss",
    "jsd_loss",
    "kl_diagonal_gaussian",
    "kl_discrete",
    "kl_gaussian",
    "log_mean_exp",
    "nce_loss",
    "pair_loss",
    "pair_readout",
    "two_sample_readout",
]
