"""What no one else has: the estimators themselves, measured.

The room is also a verb: ``pg.measure(env, policy)`` is :func:`policygrad.run.measuring.measure`.
"""

from policygrad.lazy import callable_package
from policygrad.measure.exact import (
    Moments,
    action_values,
    enumerate_trajectories,
    gradient,
    ladder_moments,
    log_trajectory_probability,
    moments,
    objective,
    policy_evaluation,
    policy_probabilities,
    table_critic,
    value_iteration,
)

__all__ = [
    "Moments",
    "action_values",
    "enumerate_trajectories",
    "gradient",
    "ladder_moments",
    "log_trajectory_probability",
    "moments",
    "objective",
    "policy_evaluation",
    "policy_probabilities",
    "table_critic",
    "value_iteration",
]

callable_package(__name__, "policygrad.run.measuring:measure")
