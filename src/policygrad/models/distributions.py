"""Distributions over actions: unbatched, and sampled from noise that was drawn beforehand.

``draw(key, shape)`` gives the noise of ``shape`` many samples in one call; ``sample(noise)`` turns one noise into one
action. ``draw`` uses shapes only, so a collector can call it on the abstract output of a model
(``eqx.filter_eval_shape``).
"""

import abc
import math
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

INVALID = -1e9
"""Logit of a masked action: probability exactly zero, gradients finite."""


class AbstractDistribution(eqx.Module):
    """π(· | s): densities in nats."""

    @abc.abstractmethod
    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        """The noise of ``shape`` many samples."""

    @abc.abstractmethod
    def sample(self, noise: Any) -> Any:
        """One action from one noise."""

    @abc.abstractmethod
    def log_prob(self, action: Any) -> Float[Array, ""]:
        """log π(a)."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, ""]:
        """H(π) = −E[log π(a)]."""

    @abc.abstractmethod
    def mode(self) -> Any:
        """The greedy action."""

    @abc.abstractmethod
    def kl(self, other: Self) -> Float[Array, ""]:
        """D(self‖other)."""


class Categorical(AbstractDistribution):
    """Multinomial policy over k actions, π(a) ∝ exp(logits_a); actions where ``mask`` is False have probability
    zero."""

    logits: Float[Array, "k"]

    def __init__(self, logits: Float[Array, "k"], mask: Bool[Array, "k"] | None = None):
        self.logits = logits if mask is None else jnp.where(mask, logits, INVALID)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Two actions need one uniform number; more of them Gumbel noise, one for each."""
        k, dtype = self.logits.shape[-1], self.logits.dtype
        return jax.random.uniform(key, shape, dtype) if k == 2 else jax.random.gumbel(key, (*shape, k), dtype)

    def sample(self, noise: Array) -> Int[Array, ""]:
        """Two actions: u < σ(l₁ − l₀). More: argmax of logits + Gumbel noise (Gumbel 1954; Maddison et al. 2014)."""
        if self.logits.shape[-1] == 2:
            return (noise < jax.nn.sigmoid(self.logits[1] - self.logits[0])).astype(jnp.int32)
        return jnp.argmax(self.logits + noise).astype(jnp.int32)

    def log_prob(self, action: Int[Array, ""]) -> Float[Array, ""]:
        """l_a − log Σ_k exp(l_k)."""
        chosen = jnp.sum(
            jnp.where(jnp.arange(self.logits.shape[-1]) == action, self.logits, 0)
        )  # a gather's gradient is a slow scatter
        return chosen - jax.nn.logsumexp(self.logits)

    def entropy(self) -> Float[Array, ""]:
        """−Σ_a π(a) log π(a)."""
        return -jnp.sum(jax.nn.softmax(self.logits) * jax.nn.log_softmax(self.logits))

    def mode(self) -> Int[Array, ""]:
        return jnp.argmax(self.logits).astype(jnp.int32)

    def kl(self, other: "Categorical") -> Float[Array, ""]:
        """Σ_a π(a)·(log π(a) − log π'(a))."""
        return jnp.sum(
            jax.nn.softmax(self.logits) * (jax.nn.log_softmax(self.logits) - jax.nn.log_softmax(other.logits))
        )


class DiagGaussian(AbstractDistribution):
    """Gaussian policy N(mean, diag(exp(log_std))²) over R^d. Unbounded: an environment's bounds clip the action, not
    its density."""

    mean: Float[Array, "..."]
    log_std: Float[Array, "..."]

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, *self.event), self.mean.dtype)

    @property
    def event(self) -> tuple[int, ...]:
        return self.log_std.shape[-1:]

    def sample(self, noise: Float[Array, "d"]) -> Float[Array, "d"]:
        """mean + std·ε."""
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Float[Array, "d"]) -> Float[Array, ""]:
        """−Σ_i [½((a_i − mean_i)/std_i)² + log std_i + ½ log 2π]."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i [log std_i + ½ log 2πe]."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e))

    def mode(self) -> Float[Array, "d"]:
        return self.mean

    def kl(self, other: "DiagGaussian") -> Float[Array, ""]:
        """Σ_i [log(std'_i/std_i) + (std_i² + (mean_i − mean'_i)²)/(2 std'_i²) − ½]."""
        ratio = jnp.exp(2 * (self.log_std - other.log_std)) + ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return jnp.sum(other.log_std - self.log_std + 0.5 * ratio - 0.5)


class TanhGaussian(AbstractDistribution):
    """A Gaussian squashed into (low, high): a = low + (high − low)·(tanh u + 1)/2 with u ~ N(mean,
    diag(exp(log_std))²).

    Haarnoja et al. (2018), "Soft actor-critic", appendix C.
    """

    mean: Float[Array, "..."]
    log_std: Float[Array, "..."]
    low: Float[Array, "..."]
    high: Float[Array, "..."]

    @property
    def base(self) -> DiagGaussian:
        return DiagGaussian(self.mean, self.log_std)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.base.draw(key, shape)

    def squash(self, u: Float[Array, "d"]) -> Float[Array, "d"]:
        return self.low + (self.high - self.low) * 0.5 * (jnp.tanh(u) + 1)

    def log_jacobian(self, u: Float[Array, "... d"]) -> Float[Array, "..."]:
        """log |da/du| = Σ_i [log((high − low)/2) + log(1 − tanh² u_i)], in a form that does not underflow."""
        return jnp.sum(jnp.log((self.high - self.low) / 2) + 2 * (math.log(2) - u - jax.nn.softplus(-2 * u)), axis=-1)

    def sample(self, noise: Float[Array, "d"]) -> Float[Array, "d"]:
        return self.squash(self.base.sample(noise))

    def log_prob(self, action: Float[Array, "d"]) -> Float[Array, ""]:
        """log N(u) − log |da/du| with u = artanh of the rescaled action, kept one rounding step inside the bounds."""
        inside = 1 - 2 * jnp.finfo(self.mean.dtype).eps
        u = jnp.arctanh(jnp.clip(2 * (action - self.low) / (self.high - self.low) - 1, -inside, inside))
        return self.base.log_prob(u) - self.log_jacobian(u)

    def entropy(self) -> Float[Array, ""]:
        """H(N) + E[log |da/du|]; the expectation, a sum of one-dimensional ones, by Gauss-Hermite quadrature with 32
        nodes."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        u = self.mean + jnp.exp(self.log_std) * jnp.asarray(nodes, self.mean.dtype)[:, None]
        return self.base.entropy() + jnp.asarray(weights / weights.sum(), self.mean.dtype) @ self.log_jacobian(u)

    def mode(self) -> Float[Array, "d"]:
        """The squashed mean (the median of each coordinate)."""
        return self.squash(self.mean)

    def kl(self, other: "TanhGaussian") -> Float[Array, ""]:
        """The Gaussians' divergence: both are squashed by the same bijection, which leaves it as it is."""
        return self.base.kl(other.base)
