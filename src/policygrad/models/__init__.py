"""Whatever has parameters: unbatched, frozen Equinox modules."""

from policygrad.models.actor_critic import ActorCritic, FrameWindow, make_model, unroll
from policygrad.models.actors import Actor
from policygrad.models.distributions import (
    AbstractDistribution,
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Mixture,
    Product,
    StateDependent,
    TanhGaussian,
)
from policygrad.models.encoder import Encoder
from policygrad.models.networks import CNN, GRU, MLP, Linear, Table
from policygrad.models.normalize import Normalizer, RunningStatistics

__all__ = [
    "CNN",
    "GRU",
    "MLP",
    "AbstractDistribution",
    "Actor",
    "ActorCritic",
    "Bernoulli",
    "Beta",
    "Categorical",
    "DiagGaussian",
    "Encoder",
    "FrameWindow",
    "Linear",
    "Mixture",
    "Normalizer",
    "Product",
    "RunningStatistics",
    "StateDependent",
    "Table",
    "TanhGaussian",
    "make_model",
    "unroll",
]
