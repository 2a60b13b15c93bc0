"""Corrections: the importance weight of data from an older policy μ. ρ_t = π(a_t|·)/μ(a_t|·); everything is ``[T,
*B]`` and positive.

On-policy every correction is one. Products are sums of logarithms.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from policygrad.types import Steps


def none(steps: Steps) -> Float[Array, "T *B"]:
    """1: the data are taken for on-policy."""
    return jnp.ones_like(steps.reward)


def trajectory(steps: Steps) -> Float[Array, "T *B"]:
    """ρ_τ = Π_t ρ_t, the same at every t: unbiased, with variance exponential in T. Needs whole episodes."""
    return jnp.broadcast_to(jnp.exp(jnp.sum(steps.log_rho, axis=0)), steps.reward.shape)


def decision(steps: Steps) -> Float[Array, "T *B"]:
    """ρ_{1:t} = Π_{k≤t} ρ_k: later decisions do not change what a_t was worth when it was taken. Goes with the target
    ``per_decision``."""
    return jnp.exp(jnp.cumsum(steps.log_rho, axis=0))


def self_normalized(steps: Steps) -> Float[Array, "T B"]:
    """N·ρ_{τ_i} / Σ_j ρ_{τ_j}: weighted importance sampling, biased and consistent. Precup, Sutton & Singh (2000)."""
    log_weight = jnp.sum(steps.log_rho, axis=0)
    valid = jnp.any(steps.mask, axis=0)
    weight = jax.nn.softmax(jnp.where(valid, log_weight, -jnp.inf), axis=-1) * jnp.sum(valid, axis=-1, keepdims=True)
    return jnp.broadcast_to(weight, steps.reward.shape)


def truncated(steps: Steps, rho_bar: Float[Array, ""] | float) -> Float[Array, "T *B"]:
    """min(ρ̄, ρ_τ): bounded, biased. Ionides (2008), "Truncated importance sampling"."""
    return jnp.minimum(rho_bar, trajectory(steps))


def vtrace(steps: Steps, rho_bar: Float[Array, ""] | float) -> Float[Array, "T *B"]:
    """min(ρ̄, ρ_t): the one-step weight of V-trace, Espeholt et al. (2018), §4.2. Goes with the target ``vtrace``."""
    return jnp.minimum(rho_bar, jnp.exp(steps.log_rho))


def effective_sample_size(log_rho: Float[Array, "T *B"], mask: Bool[Array, "T *B"]) -> Float[Array, ""]:
    """(Σ_i ρ_i)² / Σ_i ρ_i² with ρ_i a trajectory's weight: how many on-policy trajectories these are worth. Kish
    (1965); Kong (1992)."""
    log_weight = jnp.sum(jnp.where(mask, log_rho, 0), axis=0)
    return effective(jnp.where(jnp.any(mask, axis=0), log_weight, -jnp.inf).ravel())


def effective(log_weight: Float[Array, "... N"]) -> Float[Array, "..."]:
    """(Σ_i w_i)² / Σ_i w_i²; −inf where there is none."""
    weight = jnp.exp(log_weight - jnp.max(log_weight, axis=-1, keepdims=True))
    return jnp.sum(weight, axis=-1) ** 2 / jnp.sum(weight**2, axis=-1)
