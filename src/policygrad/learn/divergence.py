"""The Kullback-Leibler divergence, both ways: exactly, by quadrature, and from samples.

    D(P‖Q) = E_P[log P − log Q]

With r = Q/P, and samples of P, three estimators of it (Schulman 2020, "Approximating KL divergence"):

    k1 = −log r            unbiased, and may be negative
    k2 = ½ (log r)²        biased, positive, and of little variance where P and Q are close
    k3 = (r − 1) − log r   unbiased and positive, for E_P[r] = 1 as long as P covers Q; where r has a tail, it shows

*Forward* is D(target‖model): its gradient is that of maximum likelihood, and the model covers the target. *Reverse* is
D(model‖target): its gradient is a policy gradient with the reward log target − log model, and the model seeks a mode.
"""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from policygrad.models.distributions import (
    INVALID,
    AbstractDistribution,
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Mixture,
    Product,
    StateDependent,
    TanhGaussian,
    leaves_of,
)

METHODS = ("auto", "exact", "quadrature", "k1", "k2", "k3")
NODES = {1: 12, 2: 6}
"""Gauss and Legendre's, in each panel of a line and of a plane."""
SPREAD = {1: (0, 0.5, 1, 1.5, 2, 3, 4, 5, 6.5, 8, 10, 12, 16, 20, 26, 32, 37), 2: (0, 1, 2, 3, 4.5, 6.5, 10)}
"""Panels end at so many standard deviations on both sides of every centre. On a line that is as far as float64 has a
density."""
LONGEST_SUPPORT = 2**16
RARE = -60.0
"""log of a probability that no sample will meet."""


def kl(p: Any, q: Any, *, method: str = "auto", n: int = 10_000, key: Array | None = None) -> Float[Array, ""]:
    """D(P‖Q) in nats; inf where P does what Q never does.

    Args:
        p, q: distributions over the same actions: any of :mod:`policygrad.models.distributions`.
        method: ``exact``: a closed form, or a sum over all actions. ``quadrature``: panels of Gauss and Legendre's
            nodes, over one coordinate at a time where both have independent ones, otherwise over at most two. ``k1``,
            ``k2``, ``k3``: the mean of that estimator over ``n`` samples of P. ``auto``: exact where that can be,
            otherwise quadrature.
        n: number of samples.
        key: of the samples.

    ``exact`` and ``quadrature`` can be differentiated in both. In float32 quadrature is good to about 1e-5.

    Raises:
        ValueError: p and q are about different actions, or the method cannot do this pair.
    """
    require_comparable(p, q)
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}: choose one of {', '.join(METHODS)}")
    if method in ("k1", "k2", "k3"):
        return jnp.mean(samples(p, q, n, key)[method])
    p, q = plain(p), plain(q)
    if isinstance(p, Product):
        pairs = zip(leaves_of(p.parts), leaves_of(q.parts))
        return sum((kl(one, other, method=method) for one, other in pairs), start=jnp.zeros(()))
    if method != "quadrature" and has_exact(p, q):
        return exact(p, q)
    if method == "exact":
        raise ValueError(f"{name(p)} and {name(q)} have no closed form: give method='quadrature', or 'k3' and a key")
    return by_quadrature(p, q)


# Exactly


def has_exact(p: Any, q: Any) -> bool:
    """Whether :func:`exact` knows this pair: the actions can be counted, or it is one family over the same bounds."""
    if is_discrete(p):
        return True
    if type(p) is not type(q) or isinstance(p, Mixture):
        return False
    return isinstance(p, DiagGaussian) or all(same(p.low, q.low) & same(p.high, q.high))


@eqx.filter_jit
def exact(p: Any, q: Any) -> Float[Array, ""]:
    """The family's closed form; or Σ_a P(a)·(log P(a) − log Q(a)), for independent bits one bit at a time."""
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        bits = lambda d: jnp.stack([jax.nn.log_sigmoid(-d.logits), jax.nn.log_sigmoid(d.logits)])  # noqa: E731
        return relative(proper(bits(p)), proper(bits(q)))
    if is_discrete(p):
        actions = support(p)
        return relative(log_probs(p, actions), log_probs(q, actions))
    return p.kl(q)


def relative(log_p: Float[Array, "..."], log_q: Float[Array, "..."]) -> Float[Array, ""]:
    """Σ p·(log p − log q) over what p does."""
    there = log_p > -jnp.inf
    gap = jnp.where(there, jnp.where(there, log_p, 0) - log_q, 0)
    return jnp.sum(jnp.where(there, jnp.exp(log_p) * gap, 0))


def support(d: Any) -> Any:
    """All actions of a discrete distribution, stacked."""
    if isinstance(d, Mixture):
        return support(d.parts[0])
    if isinstance(d, Categorical):
        return jnp.arange(d.logits.shape[-1])
    if 2**d.logits.size > LONGEST_SUPPORT:
        raise ValueError(f"{d.logits.size} bits have too many values to sum over: give method='k3' and a key")
    bits = list(itertools.product((0, 1), repeat=d.logits.size))
    return jnp.asarray(bits).reshape(-1, *d.logits.shape)


# By quadrature


@eqx.filter_jit
def by_quadrature(p: Any, q: Any) -> Float[Array, ""]:
    """∫ P·(log P − log Q). Independent coordinates add up: each is an integral over a line."""

    def integral(p: Any, q: Any) -> Float[Array, ""]:
        x, log_mass = rule(p, parts_of(q))
        return expected(log_mass, log_probs(p, x) - log_probs(q, x))

    if isinstance(p, Mixture) or isinstance(q, Mixture):
        return integral(p, q)
    lines = lambda d: jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape_of(d)).reshape(-1, 1), d)  # noqa: E731
    return jnp.sum(jax.vmap(integral)(lines(p), lines(q)))


def expected(log_mass: Float[Array, "m"], f: Float[Array, "m"]) -> Float[Array, ""]:
    """Σ_i mass_i·f_i, over the nodes that have a mass."""
    mass = jnp.exp(log_mass)
    return jnp.sum(jnp.where(mass > 0, mass * jnp.where(mass > 0, f, 0), 0))


def rule(p: Any, others: tuple[Any, ...]) -> tuple[Array, Float[Array, "m"]]:
    """Actions x_i and the logarithms of masses with Σ_i mass_i·f(x_i) = E_P[f(x)]: for discrete P all actions with
    their probabilities; otherwise nodes with weight·density, dense enough for an f that the densities ``others`` are
    in. Those of a mixture are those of its parts, one after the other.

    Raises:
        ValueError: more than two coordinates.
    """
    if is_discrete(p):
        actions = support(p)
        return actions, log_probs(p, actions)
    if isinstance(p, Mixture):
        rules = [rule(part, (*p.parts, *others)) for part in p.parts]
        masses = [log_w + log_mass for log_w, (_, log_mass) in zip(p.log_weights, rules)]
        return jnp.concatenate([x for x, _ in rules]), jnp.concatenate(masses)
    shape = shape_of(p)
    size = int(np.prod(shape))
    if size > 2:
        raise ValueError(f"quadrature is for at most two numbers, not {size}: give method='k3' and a key")
    places = [to_line(p, landmarks(d, SPREAD[size])).reshape(-1, size) for d in (p, *others)]
    edges, own = jnp.concatenate(places), places[0]
    edges = jax.lax.stop_gradient(jnp.sort(jnp.clip(edges, own.min(axis=0), own.max(axis=0)), axis=0))
    nodes, weights = (jnp.asarray(x, edges.dtype) for x in np.polynomial.legendre.leggauss(NODES[size]))
    half, middle = jnp.diff(edges, axis=0) / 2, (edges[1:] + edges[:-1]) / 2
    u = (middle[:, None] + half[:, None] * nodes[:, None]).reshape(-1, size)
    log_weight = jnp.log(half[:, None] * weights[:, None]).reshape(-1, size)
    if size == 2:
        first, second = (x.ravel() for x in np.indices((len(u), len(u))))
        u = jnp.stack([u[first, 0], u[second, 1]], axis=-1)
        log_weight = jnp.stack([log_weight[first, 0], log_weight[second, 1]], axis=-1)
    u = u.reshape(-1, *shape)
    on_line = p.base if isinstance(p, TanhGaussian) else p
    x = jax.vmap(p.squash)(u) if isinstance(p, TanhGaussian) else u
    return x, jnp.sum(log_weight, axis=-1) + jax.vmap(on_line.log_prob)(u)


def landmarks(d: Any, spread: tuple[float, ...]) -> Float[Array, "m *d"]:
    """Places between which the density is smooth: some standard deviations off the centre; for a Beta density also ever
    nearer to its bounds."""
    if isinstance(d, Beta):
        grades = np.concatenate([[0.0], np.logspace(-9, -1, 9), [0.2, 0.3, 0.4, 0.5]])
        centre, total = d.alpha / (d.alpha + d.beta), d.alpha + d.beta
        std = jnp.sqrt(centre * (1 - centre) / (total + 1))
        places = jnp.concatenate([fan(centre, std, spread), across(np.concatenate([grades, 1 - grades]), centre)])
        return d.low + (d.high - d.low) * jnp.clip(places, 0, 1)
    gaussian = d.base if isinstance(d, TanhGaussian) else d
    places = fan(gaussian.mean, jnp.exp(gaussian.log_std), spread)
    return jax.vmap(d.squash)(places) if isinstance(d, TanhGaussian) else places


def fan(centre: Float[Array, "*d"], std: Float[Array, "*d"], spread: tuple[float, ...]) -> Float[Array, "m *d"]:
    """Both sides of the centre."""
    return centre + across(np.concatenate([-np.array(spread), spread[1:]]), centre) * std


def across(numbers: np.ndarray, like: Float[Array, "*d"]) -> Float[Array, "m *d"]:
    return jnp.broadcast_to(jnp.asarray(numbers, like.dtype).reshape(-1, *[1] * like.ndim), (len(numbers), *like.shape))


def to_line(d: Any, x: Float[Array, "m *d"]) -> Float[Array, "m *d"]:
    """Where a squashed action was before it was squashed; all others as they are."""
    if not isinstance(d, TanhGaussian):
        return x
    inside = 1 - 2 * jnp.finfo(x.dtype).eps
    return jnp.arctanh(jnp.clip(2 * (x - d.low) / (d.high - d.low) - 1, -inside, inside))


# From samples


def estimators(log_r: Float[Array, "..."]) -> dict[str, Float[Array, "..."]]:
    """k1, k2 and k3 of log r = log Q(x) − log P(x), with x drawn from P."""
    return {"k1": -log_r, "k2": 0.5 * log_r**2, "k3": jnp.expm1(log_r) - log_r}


def samples(p: Any, q: Any, n: int, key: Array | None) -> dict[str, Float[Array, "n"]]:
    """The three estimators of D(P‖Q) at each of ``n`` samples of P."""
    require_comparable(p, q)
    if key is None or n < 1:
        raise ValueError("samples need a key, such as key=jax.random.key(0), and a positive n")
    return of_samples(p, q, n, key)


@eqx.filter_jit
def of_samples(p: Any, q: Any, n: int, key: Array) -> dict[str, Float[Array, "n"]]:
    x = drawn(p, n, key)
    return estimators(log_probs(q, x) - log_probs(p, x))


class Moments(NamedTuple):
    """Of one sample of an estimator."""

    mean: Float[Array, ""]
    std: Float[Array, ""]
    """inf where the variance is infinite, or where most of it comes from what happens with a chance below 1e-26: no
    sample will show it."""


def estimator_moments(p: Any, q: Any) -> dict[str, Moments]:
    """The exact mean and standard deviation of k1, k2 and k3 of D(P‖Q), by a sum over all actions or by quadrature.

    Where P does what Q never does all are infinite. Where Q has a longer tail than P, the variance of k3 may be.

    Raises:
        ValueError: products, and densities over more than one number.
    """
    require_comparable(p, q)
    p, q = plain(p), plain(q)
    if isinstance(p, Product) or not (is_discrete(p) or np.prod(shape_of(parts_of(p)[0])) == 1):
        raise ValueError("moments are of one number or of discrete actions: otherwise take the spread of samples(p, q)")
    return all_moments(p, q)


@eqx.filter_jit
def all_moments(p: Any, q: Any) -> dict[str, Moments]:
    x, log_mass = rule(p, parts_of(q))
    log_r = log_probs(q, x) - log_probs(p, x)
    return {name: moments(log_mass, k) for name, k in estimators(log_r).items()}


def moments(log_mass: Float[Array, "m"], k: Float[Array, "m"]) -> Moments:
    """Second moments in logarithms, since k² alone may overflow where the mass makes up for it."""
    mean = expected(log_mass, k)
    there = log_mass > -jnp.inf
    far = jnp.where(there, jnp.abs(k - mean), 1)
    terms = jnp.exp(jnp.where(there, log_mass + 2 * jnp.log(far), -jnp.inf))
    variance = jnp.sum(terms)
    unseen = jnp.sum(jnp.where(log_mass < RARE, terms, 0)) > 0.5 * variance
    return Moments(mean, jnp.where(unseen | ~jnp.isfinite(mean), jnp.inf, jnp.sqrt(variance)))


# A model of a target


def fit(
    target: Any,
    start: Any,
    direction: str,
    *,
    key: Array,
    steps: int = 400,
    n: int = 256,
    learning_rate: float = 0.05,
    gradient: str = "pathwise",
) -> PyTree:
    """Minimise a divergence between ``target`` and a model by Adam: the models along the way, leaves ``[steps + 1,
    ...]``.

    - ``forward``: D(target‖model), whose gradient is −E_target[∇log model(x)]: maximum likelihood on samples of the
      target.
    - ``reverse``: D(model‖target). ``pathwise``: the gradient through the sample x(ε) of log model(x) − log target(x)
      (a Gaussian, squashed or not). ``score``: E_model[∇log model(x)·(log model(x) − log target(x))], with the mean of
      the other samples as the baseline: REINFORCE, for any family.

    Args:
        start: the model to begin with: Categorical, Bernoulli, DiagGaussian, TanhGaussian, or a Mixture of these.
            Bounds stay as they are.
        n: samples of each gradient, at least 2.

    Raises:
        ValueError: the divergence is infinite from the start, or there is no such gradient.
    """
    require_comparable(target, start)
    if n < 2 or steps < 1:
        raise ValueError(f"a fit needs n of at least 2 and steps of at least 1, not {n} and {steps}")
    if direction not in ("forward", "reverse") or gradient not in ("pathwise", "score"):
        raise ValueError("direction is 'forward' or 'reverse', and gradient 'pathwise' or 'score'")
    if any(isinstance(part, Beta | StateDependent) for part in parts_of(start)):
        raise ValueError(f"{name(start)} cannot be fitted: give a Gaussian, squashed or not, or a discrete model")
    if direction == "reverse" and gradient == "pathwise" and not isinstance(start, DiagGaussian | TanhGaussian):
        raise ValueError(f"no gradient goes through a sample of {name(start)}: give gradient='score'")
    doer, other = (target, start) if direction == "forward" else (start, target)
    beyond = on_whole_line(doer) and not on_whole_line(other)
    if beyond or not jnp.all(jnp.isfinite(of_samples(doer, other, n, key)["k1"])):
        raise ValueError(f"the {direction} divergence is infinite: {name(doer)} does what {name(other)} never does")
    params, static = eqx.partition(start, trainable(start))
    optimizer = optax.adam(learning_rate)

    def loss(params: PyTree, key: Array) -> Float[Array, ""]:
        model = eqx.combine(params, static)
        x = drawn(target if direction == "forward" else model, n, key)
        if direction == "forward":
            return -jnp.mean(log_probs(model, x))
        if gradient == "pathwise":
            return jnp.mean(log_probs(model, x) - log_probs(target, x))
        x = jax.lax.stop_gradient(x)
        cost = jax.lax.stop_gradient(log_probs(model, x) - log_probs(target, x))
        return jnp.sum((cost - jnp.mean(cost)) * log_probs(model, x)) / (n - 1)

    def step(state: Any, key: Array) -> tuple[Any, PyTree]:
        params, memory = state
        delta, memory = optimizer.update(jax.grad(loss)(params, key), memory)
        params = optax.apply_updates(params, delta)
        return (params, memory), params

    keys = jax.random.split(key, steps)
    _, path = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), keys))(params)
    whole = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, path)
    return eqx.combine(whole, jax.tree.map(lambda x: jnp.broadcast_to(x, (steps + 1, *x.shape)), static))


def trainable(model: Any) -> PyTree:
    """True for all numbers but bounds."""
    is_bound = lambda path: getattr(path[-1], "name", "") in ("low", "high")  # noqa: E731
    return jax.tree_util.tree_map_with_path(lambda path, leaf: not is_bound(path), model)


# What the pieces share


def drawn(d: Any, n: int, key: Array) -> Any:
    return jax.vmap(d.sample)(d.draw(key, (n,)))


def log_probs(d: Any, x: Any) -> Float[Array, "m"]:
    return jax.vmap(lambda x: log_density(d, x))(x)


def log_density(d: Any, x: Any) -> Float[Array, ""]:
    """log d(x); −inf for what d never does: masked actions, and numbers beyond its bounds."""
    if isinstance(d, Mixture):
        return jax.nn.logsumexp(d.log_weights + jnp.stack([log_density(part, x) for part in d.parts]))
    if isinstance(d, Product):
        return sum(map(log_density, leaves_of(d.parts), d._split(x)), start=jnp.zeros(()))
    if isinstance(d, Categorical | Bernoulli):
        return proper(d.log_prob(x))
    if isinstance(d, TanhGaussian | Beta):
        inside = jnp.all((x >= d.low) & (x <= d.high))
        return jnp.where(inside, d.log_prob(jnp.clip(x, d.low, d.high)), -jnp.inf)
    return d.log_prob(x)


def proper(log_prob: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logit of a masked action stands for −inf."""
    return jnp.where(log_prob < INVALID / 2, -jnp.inf, log_prob)


def plain(d: Any) -> Any:
    """State-dependent exploration is, at one step, a Gaussian."""
    if isinstance(d, StateDependent):
        return d.base
    return Mixture(tuple(map(plain, d.parts)), d.logits) if isinstance(d, Mixture) else d


def parts_of(d: Any) -> tuple[Any, ...]:
    return d.parts if isinstance(d, Mixture) else (d,)


def is_discrete(d: Any) -> bool:
    return isinstance(parts_of(d)[0], Categorical | Bernoulli)


def on_whole_line(d: Any) -> bool:
    """Whether there is a density everywhere: a Gaussian, or a mixture that has one."""
    weights = np.exp(d.log_weights) if isinstance(d, Mixture) else np.ones(1)
    return any(isinstance(plain(part), DiagGaussian) and w > 0 for part, w in zip(parts_of(d), weights))


def shape_of(d: Any) -> tuple[int, ...]:
    return (d.alpha if isinstance(d, Beta) else d.logits if isinstance(d, Bernoulli) else d.mean).shape


def same(x: Array, y: Array) -> Any:
    """Whether two bounds are equal; inside a compiled function that cannot be seen, and they are taken to be."""
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return np.array([True])
    return np.ravel(np.asarray(x) == np.asarray(y))


def name(d: Any) -> str:
    return type(d).__name__


def require_comparable(p: Any, q: Any) -> None:
    """A ValueError unless both are over the same actions."""
    if (mine := actions(p)) != (theirs := actions(q)):
        raise ValueError(f"P is over {mine} and Q over {theirs}: a divergence needs both over the same actions")


def actions(d: Any) -> str:
    """What a distribution is over, in words."""
    if not isinstance(d, AbstractDistribution):
        raise ValueError(f"{name(d)} is no distribution of this library: give one of policygrad.models")
    if isinstance(d, Mixture):
        kinds = {actions(part) for part in d.parts}
        if len(kinds) != 1 or d.parts[0].__class__ is Product or isinstance(d.parts[0], Mixture):
            raise ValueError("the parts of a mixture must be over the same actions, and neither mixtures nor products")
        return kinds.pop()
    if isinstance(d, Product):
        return f"({', '.join(map(actions, leaves_of(d.parts)))})"
    if isinstance(d, Categorical):
        return f"{d.logits.shape[-1]} choices"
    return f"{'bits' if isinstance(d, Bernoulli) else 'numbers'} of shape {shape_of(d)}"
