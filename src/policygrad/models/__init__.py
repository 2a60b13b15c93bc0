"""Whatever has parameters: unbatched, frozen Equinox modules."""

from policygrad.models.actor_critic import ActorCritic, make_model, unroll
from policygrad.models.distributions import AbstractDistribution, Categorical, DiagGaussian, TanhGaussian
from policygrad.models.networks import GRU, MLP, Linear, Table
from policygrad.models.normalize import Normalizer, RunningStatistics

__all__ = [
    "GRU",
    "MLP",
    "AbstractDistribution",
    "ActorCritic",
    "Categorical",
    "DiagGaussian",
    "Linear",
    "Normalizer",
    "RunningStatistics",
    "Table",
    "TanhGaussian",
    "make_model",
    "unroll",
]
