"""Old data: episodes of another policy μ, seen by the policy π that learns from them.

Nothing about the gradient changes: ``steps_from`` reads log ρ_t = log π − log μ off any trajectory, and the ladder's
corrections weigh it. What is new is the question of how much such data say about π.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from policygrad.ladder.corrections import effective
from policygrad.learn.gradient import COLUMNS
from policygrad.models.actor_critic import initial_carry, unroll
from policygrad.types import Trajectory

CHUNK = 64
"""Episodes that are looked at together."""


def seen_by(
    model: Any, trajectory: Trajectory, *, chunk: int = CHUNK
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """log π(a_t | s_{0:t}), in nats, and V(s_t) along whole episodes; zeros on padded rows."""

    def one(column: Trajectory) -> tuple[Array, Array]:
        output, _ = unroll(model, column._replace(carry=initial_carry(model, ())))
        value = jnp.broadcast_to(output.value, column.mask.shape)
        return jnp.where(column.mask, output.log_prob, 0), jnp.where(column.mask, value, 0)

    columns = jax.tree.map(
        lambda axis, leaf: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), leaf), COLUMNS, trajectory
    )
    log_prob, value = jax.lax.map(one, columns, batch_size=chunk)
    return log_prob.T, value.T


def overlap(log_rho: Float[Array, "T B"], mask: Bool[Array, "T B"], correction: str) -> Float[Array, ""]:
    """ESS/N · min(1, w̄) in [0, 1]: the share of the data that is left once the weights are counted, with
    ESS = (Σw)² / Σw², Kong (1992), and their mean w̄.

    ESS compares the weights with each other: where all are equally tiny it sees nothing. But E_μ[w] is the probability
    that π does what μ may do, one where the data cover π, and w̄ falls short of it by what they miss.

    The weights are those that the correction is made of: ρ_τ of each episode; of ``decision`` ρ_{1:t}, and of
    ``vtrace`` ρ_t, both at each time among the episodes that are still running, in the mean over rows. (In the mean w̄
    of ``decision`` those that have ended keep their ρ_{1:T}: so its expectation is one.)
    """
    log_rho = jnp.where(mask, log_rho, 0)
    if correction not in ("decision", "vtrace"):
        log_weight = jnp.sum(log_rho, axis=0)
        return effective(log_weight) / len(log_weight) * jnp.minimum(1, jnp.mean(jnp.exp(log_weight)))
    decision = correction == "decision"
    log_weight = jnp.cumsum(log_rho, axis=0) if decision else log_rho
    mean = jnp.mean(jnp.exp(log_weight), axis=1, where=mask | decision)
    left = effective(jnp.where(mask, log_weight, -jnp.inf)) * jnp.minimum(1, mean)
    return jnp.sum(jnp.where(mask.any(axis=1), left, 0)) / jnp.sum(mask)
