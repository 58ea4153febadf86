"""Critics: log-ratio networks that read divergences and mutual information."""

from pyg_gunet.functional.divergence import Estimate, PairScores
from pyg_gunet.nn.critic.fit import FitResult, fit_critic
from pyg_gunet.nn.critic.kl import KLCritic
from pyg_gunet.nn.critic.mutual_information import MutualInformationCritic
from pyg_gunet.nn.critic.telescoping import TelescopingCritic
from pyg_gunet.nn.critic.terms import InfoMaxTerm, PriorTerm

__all__ = [
    "Estimate",
    "FitResult",
    "InfoMaxTerm",
    "KLCritic",
    "MutualInformationCritic",
    "PairScores",
    "PriorTerm",
    "TelescopingCritic",
    "fit_critic",
]
