"""Running statistics, part of the model: frozen within a window, behind ``stop_gradient``, saved and loaded with the
parameters."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.spaces import unmasked

CLIP = 10.0
"""Normalised observations are clipped to ±CLIP standard deviations."""


class RunningStatistics(eqx.Module):
    """Mean and variance of all rows seen so far, merged by Chan, Golub & LeVeque (1983).

    ``mean`` and ``var`` are arrays, or trees of arrays like the rows; where they are None a part is left alone.
    """

    mean: PyTree[Float[Array, "..."]]
    var: PyTree[Float[Array, "..."]]
    count: Float[Array, ""]

    def __init__(self, shape: tuple[int, ...] = (), *, like: PyTree[Array] = None):
        """Of one array of that shape, or of trees ``like`` that one."""
        self.mean = jnp.zeros(shape) if like is None else jax.tree.map(lambda x: jnp.zeros(jnp.shape(x)), like)
        self.var, self.count = jax.tree.map(jnp.ones_like, self.mean), jnp.zeros(())

    def update(self, x: PyTree[Array], mask: Bool[Array, "..."]) -> "RunningStatistics":
        """The statistics with the rows of ``x`` where ``mask`` merged in; leaves of ``x`` are ``[*mask.shape, ...]``.
        Of a ``MaskedObs`` the observation counts."""
        n = jnp.sum(mask).astype(self.count.dtype)

        def average(rows: Array, shape: tuple[int, ...]) -> Array:
            weight = mask.reshape(-1, *[1] * len(shape))
            return jnp.sum(jnp.where(weight, rows.reshape(-1, *shape), 0), axis=0) / jnp.maximum(n, 1)

        rows, _ = unmasked(x)
        mean = per_part(lambda old, x: average(x.astype(old.dtype), old.shape), self.mean, rows)
        var = per_part(lambda mean, x: average((x - mean) ** 2, mean.shape), mean, rows)
        return self.merge(mean, var, n)

    def merge(
        self, mean: PyTree[Float[Array, "..."]], var: PyTree[Float[Array, "..."]], n: Float[Array, ""]
    ) -> "RunningStatistics":
        """The statistics of both sets of rows together."""
        total = jnp.maximum(self.count + n, 1)

        def merged(old_mean: Array, old_var: Array, mean: Array, var: Array) -> Array:
            between = (mean - old_mean) ** 2 * self.count * n / total**2
            return jnp.where(n > 0, (old_var * self.count + var * n) / total + between, old_var)

        new_var = per_part(merged, self.mean, self.var, mean, var)
        new_mean = per_part(lambda old, mean: old + (mean - old) * n / total, self.mean, mean)
        return eqx.tree_at(
            lambda s: (s.mean, s.var, s.count), self, (new_mean, new_var, self.count + n), is_leaf=lambda x: x is None
        )


def per_part(function: Callable, statistics: PyTree, *others: PyTree) -> PyTree:
    """``function`` of every part of which there are statistics; None for the others."""
    one = lambda part, *others: None if part is None else function(part, *others)  # noqa: E731
    return jax.tree.map(one, statistics, *others, is_leaf=lambda x: x is None)


class Normalizer(eqx.Module):
    """What the model divides by: statistics of observations, of discounted returns, or both. None: that one is left
    alone."""

    obs: RunningStatistics | None
    ret: RunningStatistics | None

    def observation(self, obs: PyTree[Array]) -> PyTree[Array]:
        """(obs − mean)/std, clipped; parts without statistics as they are. Leading axes (frames) are welcome."""
        if self.obs is None:
            return obs
        mean, var = jax.lax.stop_gradient((self.obs.mean, self.obs.var))

        def one(mean: Any, var: Any, x: Array) -> Array:
            return x if mean is None else jnp.clip((x - mean) / jnp.sqrt(var + 1e-8), -CLIP, CLIP)

        return jax.tree.map(one, mean, var, obs, is_leaf=lambda x: x is None)

    def reward(self, reward: Float[Array, "..."]) -> Float[Array, "..."]:
        """reward / std of the discounted return: the scale of the values, never their sign. Logs keep the original
        scale."""
        if self.ret is None:
            return reward
        return reward / jnp.sqrt(jax.lax.stop_gradient(self.ret.var) + 1e-8)


def running_return(
    ret: Float[Array, "*B"], reward: Float[Array, "T *B"], over: Bool[Array, "T *B"], gamma: Float[Array, ""] | float
) -> tuple[Float[Array, "*B"], Float[Array, "T *B"]]:
    """R_t = γ·R_{t−1} + r_t, from zero after the end of an episode: the last R and all of them."""

    def step(ret, row):
        reward, over = row
        ret = gamma * ret + reward
        return jnp.where(over, 0, ret), ret

    return jax.lax.scan(step, ret, (reward, over))
