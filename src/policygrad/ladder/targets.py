"""Targets: what a_t is credited with, before any baseline. Arrays in, arrays out, ``[T, *B]``, in units of return.

``discount`` is γ·(1 − terminated), ``last`` is where a stream is cut (end, truncation, window's end, masked row): a
recursion never crosses it.
A Monte-Carlo target ends at a cut; a bootstrapping one continues there with ``next_value``, the value of the true
successor, which is zero at ends.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.ladder.recursion import backward, masked_sum, shift
from policygrad.types import Steps


def total_return(steps: Steps, gamma: Float[Array, ""] | float) -> Float[Array, "T *B"]:
    """R^γ(τ) = Σ_{t'} γ^{t'} r_{t'}, counted from the start, the same at every t.

    Williams (1992), "Simple statistical gradient-following algorithms", *Machine Learning* 8: REINFORCE. Needs whole
    episodes.
    """
    total = masked_sum(gamma**steps.time * steps.reward, steps.mask, axis=0)
    return jnp.broadcast_to(total, steps.reward.shape)


def reward_to_go(steps: Steps) -> Float[Array, "T *B"]:
    """G_t = Σ_{t'≥t} γ^{t'−t} r_{t'}, counted from now: what came before a_t is no consequence of it (causality).

    Monte-Carlo: nothing is bootstrapped. Sutton & Barto (2018), §13.3. Needs whole episodes.
    """
    return backward(steps.reward, jnp.where(steps.last, 0, steps.discount))


def n_step_return(steps: Steps, n: int) -> Float[Array, "T *B"]:
    """R^{(n)}_t = Σ_{i<n} γ^i r_{t+i} + γ^n V(s_{t+n}), fewer steps where the stream is cut earlier.

    n = 1 is the TD(0) target r_t + γ V(s_{t+1}). With n ≥ T every row runs to the window's end, as in Mnih et al.
    (2016), "Asynchronous methods for deep reinforcement learning", algorithm S3.
    """
    if n >= len(steps.reward):
        return lambda_return(steps, 1.0)
    return jax.lax.fori_loop(1, n, lambda _, ret: one_step(steps, ret), one_step(steps, None))


def one_step(steps: Steps, ret: Float[Array, "T *B"] | None) -> Float[Array, "T *B"]:
    """r_t + d_t·(ret_{t+1} where the stream goes on, else V(s_{t+1})): from the k-step return to the (k+1)-step one."""
    following = steps.next_value if ret is None else jnp.where(steps.last, steps.next_value, shift(ret))
    return steps.reward + steps.discount * following


def lambda_return(steps: Steps, lam: Float[Array, ""] | float) -> Float[Array, "T *B"]:
    """G^λ_t = r_t + d_t·[(1 − λ)·V(s_{t+1}) + λ·G^λ_{t+1}] = (1 − λ) Σ_k λ^{k−1} R^{(k)}_t; at a cut G^λ_{t+1} is
    V(s_{t+1}).

    Sutton & Barto (2018), §12.1. G^λ − V is the generalised advantage estimator, Schulman et al. (2016),
    "High-dimensional continuous control using generalized advantage estimation", eq. 16.
    """
    lam = jnp.where(steps.last, 0, lam)
    return backward(steps.reward + steps.discount * (1 - lam) * steps.next_value, steps.discount * lam)


def mixture(steps: Steps, weights: Float[Array, "n"]) -> Float[Array, "T *B"]:
    """Σ_k w_k R^{(k)}_t, k = 1 … n: any mixture of k-step returns. Weights that do not sum to one bias the return.

    Sutton & Barto (2018), §12.1: compound updates.
    """

    def add(carry, weight):
        ret, total = carry
        return (one_step(steps, ret), total + weight * ret), None

    first = one_step(steps, None)
    return jax.lax.scan(add, (first, jnp.zeros_like(first)), weights)[0][1]


def vtrace_value(
    steps: Steps, lam: Float[Array, ""] | float, rho_bar: Float[Array, ""] | float, c_bar: Float[Array, ""] | float
) -> Float[Array, "T *B"]:
    """v_t = V_t + ρ_t δ_t + d_t c_t (v_{t+1} − V_{t+1}), δ_t = r_t + d_t V_{t+1} − V_t, ρ_t = min(ρ̄, π/μ), c_t =
    λ·min(c̄, π/μ).

    What the critic regresses on. Espeholt et al. (2018), "IMPALA", eq. 1 and remark 1.
    """
    rho = jnp.minimum(rho_bar, jnp.exp(steps.log_rho))
    c = lam * jnp.minimum(c_bar, jnp.exp(steps.log_rho))
    delta = steps.reward + steps.discount * steps.next_value - steps.value
    return steps.value + backward(rho * delta, jnp.where(steps.last, 0, steps.discount * c))


def vtrace(
    steps: Steps, lam: Float[Array, ""] | float, rho_bar: Float[Array, ""] | float, c_bar: Float[Array, ""] | float
) -> Float[Array, "T *B"]:
    """q_t = r_t + d_t·[(1 − λ) V_{t+1} + λ v_{t+1}]: the policy's target. Its correction min(ρ̄, ρ_t) is a factor
    outside (v_t − V_t holds ρ_t already).

    Espeholt et al. (2018), §4.2; on-policy with ρ̄, c̄ ≥ 1 it is the λ-return.
    """
    following = jnp.where(steps.last, steps.next_value, shift(vtrace_value(steps, lam, rho_bar, c_bar)))
    return steps.reward + steps.discount * ((1 - lam) * steps.next_value + lam * following)


def per_decision(steps: Steps) -> Float[Array, "T *B"]:
    """G_t = Σ_{t'≥t} γ^{t'−t} ρ_{t+1:t'} r_{t'}: each reward is weighted by the decisions that led to it from t on.
    Its correction is ρ_{1:t}.

    Precup, Sutton & Singh (2000), "Eligibility traces for off-policy policy evaluation". Needs whole episodes.
    """
    return backward(steps.reward, jnp.where(steps.last, 0, steps.discount * jnp.exp(shift(steps.log_rho))))
