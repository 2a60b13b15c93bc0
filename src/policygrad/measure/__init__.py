"""What no one else has: the estimators themselves, measured.

The room is also a verb: ``pg.measure(env, policy)`` is :func:`policygrad.run.measuring.measure`.
"""

from policygrad.lazy import callable_package
from policygrad.measure.dynamic import (
    Solution,
    policy_iteration,
    soft_policy_evaluation,
    soft_value_iteration,
    value_iteration,
)
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
)

__all__ = [
    "Moments",
    "Solution",
    "action_values",
    "enumerate_trajectories",
    "gradient",
    "ladder_moments",
    "log_trajectory_probability",
    "moments",
    "objective",
    "policy_evaluation",
    "policy_iteration",
    "policy_probabilities",
    "soft_policy_evaluation",
    "soft_value_iteration",
    "table_critic",
    "value_iteration",
]

callable_package(__name__, "policygrad.run.measuring:measure")
