"""Trajectory -> new parameters; knows no environment."""

from policygrad.learn.gradient import (
    Clipped,
    KLPenalty,
    Ratio,
    Score,
    gradient_samples,
    policy_gradient,
    steps_from,
    surrogate,
)
from policygrad.learn.learner import Batch, Hyper, Learner, LearnerState, make_learner

__all__ = [
    "Batch",
    "Clipped",
    "Hyper",
    "KLPenalty",
    "Learner",
    "LearnerState",
    "Ratio",
    "Score",
    "gradient_samples",
    "make_learner",
    "policy_gradient",
    "steps_from",
    "surrogate",
]
