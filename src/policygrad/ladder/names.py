"""The rungs by name, and what goes with what. No arrays: the command line reads this without importing JAX.

:mod:`policygrad.ladder.psi` has a table of functions under the same names.
"""

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

TARGETS = ("total_return", "reward_to_go", "td0", "n_step", "lambda_return", "mixture", "vtrace", "per_decision")
BASELINES = (
    "none", "constant", "mean", "leave_one_out", "per_time",
    "optimal", "optimal_in_sample", "optimal_per_time", "value",
)  # fmt: skip
CORRECTIONS = ("none", "trajectory", "decision", "self_normalized", "truncated", "vtrace")
CRITIC_TARGETS = ("monte_carlo", "td0", "n_step", "lambda_return", "vtrace")
"""What a critic regresses on, at each row: r-to-go, or a bootstrapped return of the target copy V^{φ'}."""

BOOTSTRAPPING = frozenset({"td0", "n_step", "lambda_return", "mixture", "vtrace"})
"""Targets that continue a cut stream with V."""
WHOLE_EPISODES = frozenset(
    {
        "total_return",
        "reward_to_go",
        "per_decision",
        "monte_carlo",
        "trajectory",
        "decision",
        "self_normalized",
        "truncated",
    }
)
"""Names that mean something on whole episodes only: a window would cut their sums and products without a word."""
COUPLING = frozenset(
    {"mean", "leave_one_out", "per_time", "optimal", "optimal_in_sample", "optimal_per_time", "self_normalized"}
)
"""Names that couple the trajectories of a batch."""


OBJECTIVES = ("discounted", "undiscounted", "approximation")
"""What is climbed: E[Σ γ^t r_t]; E[Σ r_t]; or, with γ in the returns and γ^t dropped, neither."""

RUNGS: Mapping[str, dict[str, Any]] = {
    "reinforce": {"target": "total_return"},
    "reinforce-total-mean": {"target": "total_return", "baseline": "mean"},
    "reinforce-togo": {"target": "reward_to_go"},
    "reinforce-mean": {"target": "reward_to_go", "baseline": "leave_one_out"},
    "mean-in-sample": {"target": "reward_to_go", "baseline": "mean"},
    "per-time": {"target": "reward_to_go", "baseline": "per_time"},
    "reinforce-optimal": {"target": "reward_to_go", "baseline": "optimal"},
    "optimal-in-sample": {"target": "reward_to_go", "baseline": "optimal_in_sample"},
    "optimal-per-time": {"target": "reward_to_go", "baseline": "optimal_per_time"},
    "standardized": {"target": "reward_to_go", "standardize": True},
    "reinforce-value": {"target": "reward_to_go", "baseline": "value"},
    "actor-critic": {"target": "td0", "baseline": "value"},
    "n-step": {"target": "n_step", "baseline": "value", "n": 5},
    "gae": {"target": "lambda_return", "baseline": "value", "lam": 0.95},
    "lambda-return": {"target": "lambda_return", "lam": 0.95},
    "mixture": {"target": "mixture", "baseline": "value", "weights": (1 / 3, 1 / 3, 1 / 3)},
    "importance": {"target": "reward_to_go", "correction": "trajectory"},
    "per-decision": {"target": "per_decision", "correction": "decision"},
    "self-normalized": {"target": "reward_to_go", "correction": "self_normalized"},
    "truncated": {"target": "reward_to_go", "correction": "truncated"},
    "vtrace": {"target": "vtrace", "baseline": "value", "correction": "vtrace"},
}
"""Every rung: what makes its :class:`~policygrad.ladder.psi.Psi`, but for γ and the objective."""
NUMBERS = {"n-step": "n", "gae": "lam", "lambda-return": "lam", "vtrace": "lam"}
"""Which number ``name:number`` sets: ``gae:0.9``, ``n-step:20``."""
ALONE = ("reinforce", "reinforce-togo", "reinforce-mean", "reinforce-optimal")
WITH_CRITIC = ("reinforce-value", "actor-critic", "n-step", "gae")
OFF_POLICY = ("importance", "per-decision", "self-normalized", "truncated", "vtrace")
"""Those that say something new only on another policy's data."""


def needs(target: str, baseline: str, correction: str, standardize: bool = False) -> frozenset[str]:
    """What this choice asks for beyond rewards.

    ``value``, ``log_rho``, ``scores``, ``row_scores``, ``whole_episodes``, ``batch``.
    """
    chosen = {target, baseline, correction}
    asked = {
        "value": baseline == "value" or target in BOOTSTRAPPING,
        "log_rho": correction != "none" or target in ("vtrace", "per_decision"),
        "scores": baseline in ("optimal", "optimal_in_sample"),
        "row_scores": baseline == "optimal_per_time",
        "whole_episodes": bool(chosen & WHOLE_EPISODES),
        "batch": bool(chosen & COUPLING) or standardize,
    }
    return frozenset(name for name, needed in asked.items() if needed)


def refuse(target: str, baseline: str, correction: str, discounted: bool) -> None:
    """Combinations that make no sense, each with its fix."""
    if discounted and target == "total_return":
        raise ValueError(
            "discounted=True with target='total_return' would count γ^t twice: "
            "the total return R^γ is counted from the start already; drop discounted"
        )
    if (target == "per_decision") != (correction == "decision"):
        raise ValueError(
            "target='per_decision' and correction='decision' are two halves of one estimator "
            "(ρ_{1:t} and ρ_{t+1:t'}): choose both or neither"
        )
    if (target == "vtrace") != (correction == "vtrace"):
        raise ValueError(
            "target='vtrace' and correction='vtrace' are two halves of one estimator: choose both or neither"
        )
    if correction in ("trajectory", "self_normalized", "truncated") and target in BOOTSTRAPPING:
        raise ValueError(
            f"correction={correction!r} weighs whole trajectories and does not fit target={target!r}, "
            "which bootstraps: choose target='reward_to_go', or correction='vtrace'"
        )


def one_of(kind: str, name: str, known: Collection[str]) -> None:
    """A ValueError with the nearest name, unless ``name`` is known."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {kind} {name!r}: {hint}choose one of {', '.join(known)}")


def in_range(name: str, number: Any, low: float, high: float) -> None:
    """Only Python numbers are checked: an array may be traced."""
    if isinstance(number, int | float) and not low <= number <= high:
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"at least {low:g}"
        raise ValueError(f"{name} must be {bounds}, not {number!r}")
