"""Ψ_t = correction_t · (target_t − baseline_t): one of each by name.

∇J(θ) = E_τ [ Σ_t ∇log π_θ(a_t | s_{0:t}) · Ψ_t ]
"""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.ladder import baselines, corrections, names, targets
from policygrad.ladder.names import in_range, one_of, refuse
from policygrad.ladder.recursion import masked_mean
from policygrad.types import Steps

TARGETS: Mapping[str, Any] = {
    "total_return": lambda steps, psi: targets.total_return(steps, psi.gamma),
    "reward_to_go": lambda steps, psi: targets.reward_to_go(steps),
    "td0": lambda steps, psi: targets.n_step_return(steps, 1),
    "n_step": lambda steps, psi: targets.n_step_return(steps, psi.n),
    "lambda_return": lambda steps, psi: targets.lambda_return(steps, psi.lam),
    "mixture": lambda steps, psi: targets.mixture(steps, jnp.asarray(psi.weights, steps.reward.dtype)),
    "vtrace": lambda steps, psi: targets.vtrace(steps, psi.lam, psi.rho_bar, psi.c_bar),
    "per_decision": lambda steps, psi: targets.per_decision(steps),
}
BASELINES: Mapping[str, Any] = {
    "none": lambda target, steps, psi: baselines.none(target, steps),
    "constant": lambda target, steps, psi: baselines.constant(target, steps, psi.b),
    "mean": lambda target, steps, psi: baselines.mean(target, steps),
    "leave_one_out": lambda target, steps, psi: baselines.leave_one_out(target, steps),
    "per_time": lambda target, steps, psi: baselines.per_time(target, steps),
    "optimal": lambda target, steps, psi: baselines.optimal(target, steps),
    "optimal_in_sample": lambda target, steps, psi: baselines.optimal_in_sample(target, steps),
    "optimal_per_time": lambda target, steps, psi: baselines.optimal_per_time(target, steps),
    "value": lambda target, steps, psi: baselines.value(target, steps),
}
CORRECTIONS: Mapping[str, Any] = {
    "none": lambda steps, psi: corrections.none(steps),
    "trajectory": lambda steps, psi: corrections.trajectory(steps),
    "decision": lambda steps, psi: corrections.decision(steps),
    "self_normalized": lambda steps, psi: corrections.self_normalized(steps),
    "truncated": lambda steps, psi: corrections.truncated(steps, psi.rho_bar),
    "vtrace": lambda steps, psi: corrections.vtrace(steps, psi.rho_bar),
}
CRITIC_TARGETS: Mapping[str, Any] = {
    "monte_carlo": lambda steps, psi: targets.reward_to_go(steps),
    "td0": TARGETS["td0"],
    "n_step": TARGETS["n_step"],
    "lambda_return": TARGETS["lambda_return"],
    "vtrace": lambda steps, psi: targets.vtrace_value(steps, psi.lam, psi.rho_bar, psi.c_bar),
}
"""What a critic regresses on, at each row: r-to-go, or a bootstrapped return of the target copy V^{φ'}."""


class Psi(eqx.Module):
    """The weight of ∇log π(a_t): a target, a baseline and a correction, each by name. A pytree: its numbers are leaves
    and sweep under ``vmap``.

    Args:
        target: one of ``TARGETS``.
        baseline: one of ``BASELINES``.
        correction: one of ``CORRECTIONS``.
        n: steps of ``n_step``.
        discounted: multiply Ψ_t by γ^t, as ∇J of the discounted objective asks. Dropping it (the default, and the
            field's habit) is a bias.
        standardize: subtract the batch's mean of Ψ and divide by its standard deviation. A bias, and a change of scale.
        gamma: γ in [0, 1].
        lam: λ in [0, 1].
        alpha: temperature of maximum entropy: the reward becomes r − α log π(a_t).
        rho_bar, c_bar: the clips of ``vtrace`` and ``truncated``.
        b: the constant of ``constant`` (a number, or anything that broadcasts to ``[T, *B]``).
        weights: w_1 … w_n of ``mixture``.

    Raises:
        ValueError: unknown names, numbers out of range and combinations that make no sense.
    """

    target: str = eqx.field(static=True)
    baseline: str = eqx.field(static=True)
    correction: str = eqx.field(static=True)
    n: int = eqx.field(static=True)
    discounted: bool = eqx.field(static=True)
    standardize: bool = eqx.field(static=True)
    gamma: Any
    lam: Any
    alpha: Any
    rho_bar: Any
    c_bar: Any
    b: Any
    weights: Any

    def __init__(
        self,
        target: str = "reward_to_go",
        baseline: str = "none",
        correction: str = "none",
        *,
        n: int = 1,
        discounted: bool = False,
        standardize: bool = False,
        gamma: Any = 0.99,
        lam: Any = 1.0,
        alpha: Any = 0.0,
        rho_bar: Any = 1.0,
        c_bar: Any = 1.0,
        b: Any = 0.0,
        weights: Any = (1.0,),
    ):
        for kind, name, table in (
            ("target", target, TARGETS),
            ("baseline", baseline, BASELINES),
            ("correction", correction, CORRECTIONS),
        ):
            one_of(kind, name, table)
        for name, number, low, high in (
            ("gamma", gamma, 0, 1),
            ("lam", lam, 0, 1),
            ("alpha", alpha, 0, math.inf),
            ("rho_bar", rho_bar, 0, math.inf),
            ("c_bar", c_bar, 0, math.inf),
        ):
            in_range(name, number, low, high)
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a positive whole number of steps, not {n!r}")
        refuse(target, baseline, correction, discounted)
        self.target, self.baseline, self.correction = target, baseline, correction
        self.n, self.discounted, self.standardize = n, discounted, standardize
        self.gamma, self.lam, self.alpha, self.rho_bar, self.c_bar, self.b = gamma, lam, alpha, rho_bar, c_bar, b
        self.weights = tuple(weights) if isinstance(weights, list | tuple) else weights

    @property
    def needs(self) -> frozenset[str]:
        """What this choice asks for beyond rewards: ``value``, ``log_rho``, ``scores``, ``row_scores``,
        ``whole_episodes``, ``batch``."""
        return names.needs(self.target, self.baseline, self.correction, self.standardize)

    def target_of(self, steps: Steps) -> Float[Array, "T *B"]:
        """The target alone, Ψ⁰."""
        return TARGETS[self.target](steps, self)

    def score_factor(self, steps: Steps) -> Float[Array, "T *B"]:
        """c_t·γ^t: the correction, and γ^t if ``discounted``; zero on masked rows. It multiplies ∇log π_t whatever the
        target is."""
        factor = CORRECTIONS[self.correction](steps, self)
        if self.discounted:
            factor = factor * self.gamma**steps.time
        return jnp.where(steps.mask, factor, 0)

    def __call__(self, steps: Steps) -> Float[Array, "T *B"]:
        """Ψ_t; zero on masked rows."""
        target = self.target_of(steps)
        weights = self.score_factor(steps) * (target - BASELINES[self.baseline](target, steps, self))
        weights = jnp.where(steps.mask, weights, 0)
        return standardize(weights, steps.mask) if self.standardize else weights


def standardize(x: Float[Array, "..."], mask: Any) -> Float[Array, "..."]:
    """(x − mean)/(std + 1e-8) over the rows where ``mask``; zero elsewhere."""
    centred = x - masked_mean(x, mask)
    return jnp.where(mask, centred / (jnp.sqrt(masked_mean(centred**2, mask)) + 1e-8), 0)
