"""Baselines: what is subtracted from the target. A baseline may know s_t and everything before a_t, never a_t: then
E[∇log π·b] = 0.

Each takes the ``target`` ``[T, B]`` and the :class:`Steps`, and broadcasts to ``[T, B]``. Those that couple the
trajectories of a batch reduce over the last axis.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.ladder.recursion import leave_one_out_mean, masked_mean
from policygrad.types import Steps


def none(target: Float[Array, "T *B"], steps: Steps) -> Float[Array, "T *B"]:
    """0."""
    return jnp.zeros_like(target)


def constant(target: Float[Array, "T *B"], steps: Steps, b: Float[Array, "..."] | float) -> Float[Array, "T *B"]:
    """b, whatever happened. Unbiased for every b. Sutton & Barto (2018), §13.4."""
    return jnp.broadcast_to(jnp.asarray(b, target.dtype), target.shape)


def mean(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """(1/N) Σ_i of the trajectories' time averages: for the total return the lecture's b = (1/N) Σ_i R(τ_i).

    It contains the trajectory's own return, so the estimate shrinks: its expectation for the total return is exactly
    (1 − 1/N)·∇J.
    """
    valid = jnp.any(steps.mask, axis=0)
    return jnp.broadcast_to(masked_mean(masked_mean(target, steps.mask, axis=0), valid, axis=-1), target.shape)


def leave_one_out(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """b_i = (1/(N−1)) Σ_{j≠i} of the other trajectories' time averages: the mean baseline without its bias.

    Kool, van Hoof & Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!". Needs at least two
    trajectories.
    """
    at_least_two(target)
    valid = jnp.any(steps.mask, axis=0).astype(target.dtype)
    return jnp.broadcast_to(leave_one_out_mean(masked_mean(target, steps.mask, axis=0), valid), target.shape)


def per_time(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """b_t = (1/N) Σ_i target_{i,t}, over the trajectories that are still running at t.

    In-sample: with episodes of one length its expectation is exactly (1 − 1/N)·∇J. Greensmith, Bartlett & Baxter
    (2004), "Variance reduction techniques for gradient estimates in reinforcement learning", *JMLR* 5.
    """
    return jnp.broadcast_to(masked_mean(target, steps.mask, axis=-1, keepdims=True), target.shape)


def optimal(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """b*_i = Σ_{j≠i} X_j·Y_j / Σ_{j≠i} ‖X_j‖²: the constant of least variance, b* = E[X·Y]/E[‖X‖²], from the other
    trajectories.

    X = Σ_t s_t is a trajectory's score and Y = Σ_t Ψ⁰_t s_t its gradient without a baseline; for the total return b* =
    E[‖g‖²R]/E[‖g‖²].
    Weaver & Tao (2001), "The optimal reward baseline for gradient-based reinforcement learning". Needs at least two
    trajectories.
    """
    at_least_two(target)
    return jnp.broadcast_to(leave_one_out_mean(ratio(steps.score_cov, steps.score_sq), steps.score_sq), target.shape)


def optimal_in_sample(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """b* = Σ_i X_i·Y_i / Σ_i ‖X_i‖², the trajectory itself included: biased, it can even turn the direction."""
    return jnp.broadcast_to(
        ratio(jnp.sum(steps.score_cov, -1, keepdims=True), jnp.sum(steps.score_sq, -1, keepdims=True)), target.shape
    )


def optimal_per_time(target: Float[Array, "T B"], steps: Steps) -> Float[Array, "T B"]:
    """b_{i,t} = Σ_{j≠i} s_{j,t}·Y_j / Σ_{j≠i} ‖s_{j,t}‖²: one constant of least variance per time step, since
    E[s_k·s_j] = 0 for j ≠ k.

    Peters & Schaal (2008), "Reinforcement learning of motor skills with policy gradients". Memoryless policies only;
    needs at least two trajectories.
    """
    at_least_two(target)
    sq = jnp.where(steps.mask, steps.score_sq, 0)
    return leave_one_out_mean(ratio(steps.score_cov, sq), sq)


def value(target: Float[Array, "T *B"], steps: Steps) -> Float[Array, "T *B"]:
    """V(s_t). Not the baseline of least variance, but the one that a critic can learn. Sutton & Barto (2018), §13.4."""
    return steps.value


def ratio(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """a/b, zero where b is."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def at_least_two(target: Float[Array, "T B"]) -> None:
    if target.ndim < 2 or target.shape[-1] < 2:
        raise ValueError(
            "this baseline is computed from the other trajectories of the batch and needs at least two: "
            "raise n_envs, or choose 'mean' or 'value'"
        )
