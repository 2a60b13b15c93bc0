"""Running statistics, part of the model: frozen within a window, behind ``stop_gradient``, saved and loaded with the
parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

CLIP = 10.0
"""Normalised observations are clipped to ±CLIP standard deviations."""


class RunningStatistics(eqx.Module):
    """Mean and variance of all rows seen so far, merged by Chan, Golub & LeVeque (1983)."""

    mean: Float[Array, "*shape"]
    var: Float[Array, "*shape"]
    count: Float[Array, ""]

    def __init__(self, shape: tuple[int, ...] = ()):
        self.mean, self.var, self.count = jnp.zeros(shape), jnp.ones(shape), jnp.zeros(())

    def update(self, x: Float[Array, "..."], mask: Bool[Array, "..."]) -> "RunningStatistics":
        """The statistics with the rows of ``x`` where ``mask`` merged in; ``x`` is ``[*mask.shape, *shape]``."""
        rows = x.reshape(-1, *self.mean.shape)
        weight = mask.reshape(-1, *([1] * self.mean.ndim))
        n = jnp.sum(mask).astype(self.count.dtype)
        mean = jnp.sum(jnp.where(weight, rows, 0), axis=0) / jnp.maximum(n, 1)
        var = jnp.sum(jnp.where(weight, (rows - mean) ** 2, 0), axis=0) / jnp.maximum(n, 1)
        return self.merge(mean, var, n)

    def merge(
        self, mean: Float[Array, "*shape"], var: Float[Array, "*shape"], n: Float[Array, ""]
    ) -> "RunningStatistics":
        """The statistics of both sets of rows together."""
        total = jnp.maximum(self.count + n, 1)
        delta = mean - self.mean
        merged = (self.var * self.count + var * n) / total + delta**2 * self.count * n / total**2
        new = (self.mean + delta * n / total, jnp.where(n > 0, merged, self.var), self.count + n)
        return eqx.tree_at(lambda s: (s.mean, s.var, s.count), self, new)


class Normalizer(eqx.Module):
    """What the model divides by: statistics of observations, of discounted returns, or both. None: that one is left
    alone."""

    obs: RunningStatistics | None
    ret: RunningStatistics | None

    def observation(self, obs: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(obs − mean)/std, clipped."""
        if self.obs is None:
            return obs
        mean, var = jax.lax.stop_gradient((self.obs.mean, self.obs.var))
        return jnp.clip((obs - mean) / jnp.sqrt(var + 1e-8), -CLIP, CLIP)

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
