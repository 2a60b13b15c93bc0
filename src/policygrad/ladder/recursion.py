"""The one recursion every return is made of, and the masked reductions every batch statistic is made of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def backward(x: Float[Array, "T *B"], decay: Float[Array, "T *B"]) -> Float[Array, "T *B"]:
    """y_t = x_t + d_t · y_{t+1}, with y_T = 0.

    Every return of the ladder is this recursion with its own x and d.
    """

    def step(y, row):
        x_t, d_t = row
        y = x_t + d_t * y
        return y, y

    return jax.lax.scan(step, jnp.zeros_like(x[0] + decay[0]), (x, decay), reverse=True)[1]


def shift(x: Float[Array, "T *B"], fill: Float[Array, "*B"] | float = 0.0) -> Float[Array, "T *B"]:
    """x_{t+1} at row t; ``fill`` at the last row."""
    return jnp.concatenate([x[1:], jnp.broadcast_to(jnp.asarray(fill, x.dtype), x[:1].shape)])


def masked_sum(
    x: Float[Array, "..."], mask: Bool[Array, "..."], axis=None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Σ x over the rows where ``mask``; a NaN elsewhere does no harm."""
    return jnp.sum(jnp.where(mask, x, 0), axis=axis, keepdims=keepdims)


def masked_mean(
    x: Float[Array, "..."], mask: Bool[Array, "..."], axis=None, keepdims: bool = False
) -> Float[Array, "..."]:
    """Mean of x over the rows where ``mask``; zero where there is none."""
    count = jnp.sum(mask, axis=axis, keepdims=keepdims)
    return masked_sum(x, mask, axis, keepdims) / jnp.maximum(count, 1)


def leave_one_out_mean(x: Float[Array, "*S B"], weight: Float[Array, "*S B"]) -> Float[Array, "*S B"]:
    """For each i the weighted mean of the others, Σ_{j≠i} w_j x_j / Σ_{j≠i} w_j, over the last axis; zero where the
    others weigh nothing."""
    x = jnp.where(weight > 0, x, 0)
    total = jnp.sum(weight * x, -1, keepdims=True) - weight * x
    count = jnp.sum(weight, -1, keepdims=True) - weight
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), 0)
