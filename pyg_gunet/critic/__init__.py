"""Critics: log-ratio networks that read divergences and mutual information."""

from pyg_gunet.critic.closed_form import gaussian_mutual_information
from pyg_gunet.critic.estimate import estimate_kl, estimate_mi
from pyg_gunet.critic.fit import FitResult, fit_critic
from pyg_gunet.critic.kl import KLCritic
from pyg_gunet.critic.mutual_information import MutualInformationCritic
from pyg_gunet.critic.objective import dv_loss, infonce_loss, jsd_loss, nce_loss
from pyg_gunet.critic.pairs import PairScores, dense_pairs, pair_loss, pair_readout
from pyg_gunet.critic.readout import Estimate, two_sample_readout
from pyg_gunet.critic.telescoping import TelescopingCritic
from pyg_gunet.critic.terms import InfoMaxTerm, PriorTerm

__all__ = [
    "Estimate",
    "FitResult",
    "InfoMaxTerm",
    "KLCritic",
    "MutualInformationCritic",
    "PairScores",
    "PriorTerm",
    "TelescopingCritic",
    "dense_pairs",
    "dv_loss",
    "estimate_kl",
    "estimate_mi",
    "fit_critic",
    "gaussian_mutual_information",
    "infonce_loss",
    "jsd_loss",
    "nce_loss",
    "pair_loss",
    "pair_readout",
    "two_sample_readout",
]
