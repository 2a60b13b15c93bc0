"""Distributions over actions: unbatched, and sampled from noise that was drawn beforehand.

``draw(key, shape)`` gives the noise of ``shape`` many samples in one call; ``sample(noise)`` turns one noise into one
action. ``draw`` uses shapes only, so a collector can call it on the abstract output of a model
(``eqx.filter_eval_shape``). Where ``shape`` is ``(T, *B)``, it is that of T steps in each of B streams.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

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


class Bernoulli(AbstractDistribution):
    """Independent bits, P(a_i = 1) = σ(l_i): actions of a MultiBinary."""

    logits: Float[Array, "*n"]

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, (*shape, *self.logits.shape), self.logits.dtype)

    def sample(self, noise: Float[Array, "*n"]) -> Int[Array, "*n"]:
        """u_i < σ(l_i)."""
        return (noise < jax.nn.sigmoid(self.logits)).astype(jnp.int32)

    def log_prob(self, action: Int[Array, "*n"]) -> Float[Array, ""]:
        """Σ_i log σ(l_i) where a_i = 1, and log σ(−l_i) where a_i = 0."""
        return jnp.sum(jax.nn.log_sigmoid(jnp.where(action == 1, self.logits, -self.logits)))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i [log(1 + e^{l_i}) − l_i·σ(l_i)]."""
        return jnp.sum(jax.nn.softplus(self.logits) - self.logits * jax.nn.sigmoid(self.logits))

    def mode(self) -> Int[Array, "*n"]:
        return (self.logits > 0).astype(jnp.int32)

    def kl(self, other: "Bernoulli") -> Float[Array, ""]:
        """Σ_i [σ(l_i)·(l_i − l'_i) − log(1 + e^{l_i}) + log(1 + e^{l'_i})]."""
        chance = jax.nn.sigmoid(self.logits)
        softplus = jax.nn.softplus
        return jnp.sum(chance * (self.logits - other.logits) - softplus(self.logits) + softplus(other.logits))


class DiagGaussian(AbstractDistribution):
    """Gaussian policy N(mean, diag(exp(log_std))²) over a Box of any shape. Unbounded: an environment's bounds clip the
    action, not its density."""

    mean: Float[Array, "*d"]
    log_std: Float[Array, "*d"]

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, *self.mean.shape), self.mean.dtype)

    def sample(self, noise: Float[Array, "*d"]) -> Float[Array, "*d"]:
        """mean + std·ε."""
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Float[Array, "*d"]) -> Float[Array, ""]:
        """−Σ_i [½((a_i − mean_i)/std_i)² + log std_i + ½ log 2π]."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i [log std_i + ½ log 2πe]."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e))

    def mode(self) -> Float[Array, "*d"]:
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

    mean: Float[Array, "*d"]
    log_std: Float[Array, "*d"]
    low: Float[Array, "*d"]
    high: Float[Array, "*d"]

    @property
    def base(self) -> DiagGaussian:
        return DiagGaussian(self.mean, self.log_std)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.base.draw(key, shape)

    def squash(self, u: Float[Array, "*d"]) -> Float[Array, "*d"]:
        return self.low + (self.high - self.low) * 0.5 * (jnp.tanh(u) + 1)

    def log_slopes(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """log |da_i/du_i| = log((high − low)/2) + log(1 − tanh² u_i), in a form that does not underflow."""
        return jnp.log((self.high - self.low) / 2) + 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))

    def sample(self, noise: Float[Array, "*d"]) -> Float[Array, "*d"]:
        return self.squash(self.base.sample(noise))

    def log_prob(self, action: Float[Array, "*d"]) -> Float[Array, ""]:
        """log N(u) − Σ_i log |da_i/du_i| with u = artanh of the rescaled action, kept one rounding step inside the
        bounds."""
        inside = 1 - 2 * jnp.finfo(self.mean.dtype).eps
        u = jnp.arctanh(jnp.clip(2 * (action - self.low) / (self.high - self.low) - 1, -inside, inside))
        return self.base.log_prob(u) - jnp.sum(self.log_slopes(u))

    def entropy(self) -> Float[Array, ""]:
        """H(N) + Σ_i E[log |da_i/du_i|]; the expectations by Gauss-Hermite quadrature with 32 nodes."""
        nodes, weights = (jnp.asarray(x, self.mean.dtype) for x in np.polynomial.hermite_e.hermegauss(32))
        u = self.mean + jnp.exp(self.log_std) * nodes.reshape(-1, *[1] * self.mean.ndim)
        return self.base.entropy() + weights / jnp.sum(weights) @ self.log_slopes(u).reshape(32, -1).sum(axis=1)

    def mode(self) -> Float[Array, "*d"]:
        """The squashed mean (the median of each coordinate)."""
        return self.squash(self.mean)

    def kl(self, other: "TanhGaussian") -> Float[Array, ""]:
        """The Gaussians' divergence: both are squashed by the same bijection, which leaves it as it is."""
        return self.base.kl(other.base)


PROPOSALS = 8
"""For each Gamma variable. One is accepted with probability 0.95 or more, so all fail about once in 10¹⁰."""


def gamma_sample(shape: Float[Array, "*d"], z: Float[Array, "n *d"], u: Float[Array, "n *d"]) -> Float[Array, "*d"]:
    """A Gamma variable with ``shape`` ≥ 1: the first proposal d·v, v = (1 + z/√(9d))³, d = shape − 1/3, with
    log u < ½z² + d − dv + d log v. Marsaglia & Tsang (2000), "A simple method for generating gamma variables"."""
    d = shape - 1 / 3
    v = jnp.maximum(1 + z / jnp.sqrt(9 * d), 1e-4) ** 3
    accepted = (v > 1e-12) & (jnp.log(u) < 0.5 * z**2 + d - d * v + d * jnp.log(v))
    chosen = jnp.arange(len(v)).reshape(-1, *[1] * d.ndim) == jnp.argmax(accepted, axis=0)
    return d * jnp.sum(jnp.where(chosen, v, 0), axis=0)


class Beta(AbstractDistribution):
    """A Beta density on each coordinate of (low, high): a = low + (high − low)·x with x_i ~ Beta(α_i, β_i).

    It ends where the bounds are, so that no probability piles up there. α and β are at least 1: one peak, inside. Chou,
    Maturana & Scherer (2017), "Improving stochastic policy gradients in continuous control with deep reinforcement
    learning using the Beta distribution".
    """

    alpha: Float[Array, "*d"]
    beta: Float[Array, "*d"]
    low: Float[Array, "*d"]
    high: Float[Array, "*d"]

    def draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Normal and uniform numbers for a few proposals of two Gamma variables."""
        normal_key, uniform_key = jax.random.split(key)
        size, dtype = (*shape, PROPOSALS, 2, *self.alpha.shape), self.alpha.dtype
        return jax.random.normal(normal_key, size, dtype), jax.random.uniform(uniform_key, size, dtype)

    def sample(self, noise: tuple[Array, Array]) -> Float[Array, "*d"]:
        """x = G_α/(G_α + G_β), of two Gamma variables."""
        first, second = gamma_sample(jnp.stack([self.alpha, self.beta]), *noise)
        return self.low + (self.high - self.low) * first / (first + second)

    def log_prob(self, action: Float[Array, "*d"]) -> Float[Array, ""]:
        """Σ_i [(α_i − 1) log x_i + (β_i − 1) log(1 − x_i) − log B(α_i, β_i) − log(high_i − low_i)], with x kept one
        rounding step inside (0, 1)."""
        eps = jnp.finfo(self.alpha.dtype).eps
        x = jnp.clip((action - self.low) / (self.high - self.low), eps, 1 - eps)
        log_density = (self.alpha - 1) * jnp.log(x) + (self.beta - 1) * jnp.log1p(-x) - self.log_beta
        return jnp.sum(log_density - jnp.log(self.high - self.low))

    @property
    def log_beta(self) -> Float[Array, "*d"]:
        """log B(α, β), the normalising constant."""
        return jax.scipy.special.betaln(self.alpha, self.beta)

    def entropy(self) -> Float[Array, ""]:
        """Σ_i [log B(α_i, β_i) − (α_i − 1)·ψ(α_i) − (β_i − 1)·ψ(β_i) + (α_i + β_i − 2)·ψ(α_i + β_i) + log(high_i −
        low_i)], ψ the digamma function."""
        a, b, psi = self.alpha, self.beta, jax.scipy.special.digamma
        unit = self.log_beta - (a - 1) * psi(a) - (b - 1) * psi(b) + (a + b - 2) * psi(a + b)
        return jnp.sum(unit + jnp.log(self.high - self.low))

    def mode(self) -> Float[Array, "*d"]:
        """x_i = (α_i − 1)/(α_i + β_i − 2); the middle where the density is flat."""
        total = self.alpha + self.beta - 2
        x = jnp.where(total > 0, (self.alpha - 1) / jnp.where(total > 0, total, 1), 0.5)
        return self.low + (self.high - self.low) * x

    def kl(self, other: "Beta") -> Float[Array, ""]:
        """Σ_i [log B(α'_i, β'_i) − log B(α_i, β_i) + (α_i − α'_i)·ψ(α_i) + (β_i − β'_i)·ψ(β_i) + (α'_i − α_i + β'_i −
        β_i)·ψ(α_i + β_i)], over the same bounds."""
        da, db, psi = self.alpha - other.alpha, self.beta - other.beta, jax.scipy.special.digamma
        gain = da * psi(self.alpha) + db * psi(self.beta) - (da + db) * psi(self.alpha + self.beta)
        return jnp.sum(other.log_beta - self.log_beta + gain)


class StateDependent(AbstractDistribution):
    """Generalised state-dependent exploration (gSDE): a = mean + (σ ∘ E)ᵀφ(s), E_ji ~ N(0, 1).

    The noise E is held over a window, so that one window explores with one smooth function of the state. At each step
    alone the action is Gaussian, a_i ~ N(mean_i, Σ_j φ_j² σ_ji²), which is the density used here. No gradient goes
    through φ. Raffin, Kober & Stulp (2022), "Smooth exploration for robotic reinforcement learning".
    """

    mean: Float[Array, "*d"]
    features: Float[Array, "f"]
    """φ(s), the last hidden layer."""
    log_std: Float[Array, "f *d"]

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """``[*shape, f, *d]``: of a shape (T, *B) all T rows of a column are the same."""
        streams = shape[1:] if len(shape) > 1 else shape
        noise = jax.random.normal(key, (*streams, *self.log_std.shape), self.mean.dtype)
        return jnp.broadcast_to(noise, (*shape, *self.log_std.shape))

    @property
    def base(self) -> DiagGaussian:
        """The Gaussian of one step."""
        variance = jnp.tensordot(jax.lax.stop_gradient(self.features) ** 2, jnp.exp(2 * self.log_std), axes=1)
        return DiagGaussian(self.mean, 0.5 * jnp.log(variance))

    def sample(self, noise: Float[Array, "f *d"]) -> Float[Array, "*d"]:
        return self.mean + jnp.tensordot(self.features, jnp.exp(self.log_std) * noise, axes=1)

    def log_prob(self, action: Float[Array, "*d"]) -> Float[Array, ""]:
        return self.base.log_prob(action)

    def entropy(self) -> Float[Array, ""]:
        return self.base.entropy()

    def mode(self) -> Float[Array, "*d"]:
        return self.mean

    def kl(self, other: "StateDependent") -> Float[Array, ""]:
        """That of one step's Gaussians."""
        return self.base.kl(other.base)


class Product(AbstractDistribution):
    """Independent parts: π(a) = Π_i π_i(a_i). Log-probability, entropy and divergence are sums.

    ``parts`` is a tree of distributions (dicts and tuples), and actions are trees like it. With ``shape`` they are one
    array of that shape instead, the parts' actions in a row: those of a MultiDiscrete.
    """

    parts: PyTree[AbstractDistribution]
    shape: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        """A list: the noise of each part."""
        parts = leaves_of(self.parts)
        return [part.draw(key, shape) for part, key in zip(parts, jax.random.split(key, len(parts)))]

    def sample(self, noise: Any) -> Any:
        return self._join([part.sample(x) for part, x in zip(leaves_of(self.parts), noise)])

    def log_prob(self, action: Any) -> Float[Array, ""]:
        """Σ_i log π_i(a_i)."""
        return self._sum(lambda part, action: part.log_prob(action), self._split(action))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i H(π_i)."""
        return self._sum(lambda part: part.entropy())

    def mode(self) -> Any:
        return self._join([part.mode() for part in leaves_of(self.parts)])

    def kl(self, other: "Product") -> Float[Array, ""]:
        """Σ_i D(π_i‖π'_i)."""
        return self._sum(lambda part, other: part.kl(other), leaves_of(other.parts))

    def _sum(self, function: Callable, *others: list) -> Float[Array, ""]:
        return sum(map(function, leaves_of(self.parts), *others), start=jnp.zeros(()))

    def _join(self, actions: list) -> Any:
        """One action of the parts' actions."""
        if self.shape is not None:
            return jnp.stack(actions).reshape(self.shape)
        return jax.tree.unflatten(jax.tree.structure(self.parts, is_leaf=is_distribution), actions)

    def _split(self, action: Any) -> list:
        """The parts' actions."""
        if self.shape is not None:
            return list(jnp.ravel(action))
        structure: Any = jax.tree.structure(self.parts, is_leaf=is_distribution)
        return structure.flatten_up_to(action)


class Mixture(AbstractDistribution):
    """One part is chosen with probability w_i, and the action is the part's: π(a) = Σ_i w_i π_i(a).

    The parts are of one family, over the same actions. Entropy and divergence have no closed form:
    :func:`policygrad.learn.divergence.kl` computes the latter.
    """

    parts: tuple[AbstractDistribution, ...]
    logits: Float[Array, "k"]
    """log w_i, up to a constant."""

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        """Gumbel noise for the choice, and the noise of each part."""
        choice, *keys = jax.random.split(key, 1 + len(self.parts))
        gumbel = jax.random.gumbel(choice, (*shape, len(self.parts)), self.logits.dtype)
        return gumbel, [part.draw(key, shape) for part, key in zip(self.parts, keys)]

    def sample(self, noise: Any) -> Any:
        gumbel, noises = noise
        chosen = jnp.argmax(self.logits + gumbel)
        actions = [part.sample(x) for part, x in zip(self.parts, noises)]
        return jax.tree.map(lambda *x: jnp.stack(x)[chosen], *actions)

    def log_prob(self, action: Any) -> Float[Array, ""]:
        """log Σ_i w_i π_i(a)."""
        return jax.nn.logsumexp(self.log_weights + jnp.stack([part.log_prob(action) for part in self.parts]))

    @property
    def log_weights(self) -> Float[Array, "k"]:
        """log w_i."""
        return jax.nn.log_softmax(self.logits)

    def entropy(self) -> Float[Array, ""]:
        raise ValueError("a mixture's entropy has no closed form: average −log_prob over samples of it")

    def mode(self) -> Any:
        """The likeliest of the parts' modes: the mode itself where the parts lie far apart."""
        modes = [part.mode() for part in self.parts]
        chosen = jnp.argmax(jnp.stack([self.log_prob(mode) for mode in modes]))
        return jax.tree.map(lambda *x: jnp.stack(x)[chosen], *modes)

    def kl(self, other: "Mixture") -> Float[Array, ""]:
        raise ValueError("a mixture's divergence has no closed form: use policygrad.kl(p, q)")


def is_distribution(x: Any) -> bool:
    return isinstance(x, AbstractDistribution)


def leaves_of(tree: PyTree[AbstractDistribution]) -> list[Any]:
    """The distributions in a tree, in the tree's order."""
    return jax.tree.leaves(tree, is_leaf=is_distribution)
