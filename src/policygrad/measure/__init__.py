"""What no one else has: the estimators themselves, measured."""

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
