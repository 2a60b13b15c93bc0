"""Actors: how the numbers that a network puts out become a distribution over the actions of a space.

A :class:`Family` says how many numbers it needs, and makes the distribution of them. An :class:`Actor` is a head with a
family behind it.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.models.distributions import (
    AbstractDistribution,
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Product,
    StateDependent,
    TanhGaussian,
)
from policygrad.models.networks import Linear, Table
from policygrad.spaces import per_part

LOG_STD_RANGE = (-20.0, 2.0)
CONSTANT_FEATURE = 1e-3
"""Stands behind the features of gSDE, so that its density is one even where all of them are zero."""


class Head(eqx.Module):
    """features ↦ a vector: hidden layers (none where the torso is shared) and a last linear layer, or a table."""

    net: Any
    last: Linear | Table

    def features(self, x: Any) -> Any:
        """What the last layer is given."""
        return x if self.net is None else self.net(x)

    def __call__(self, x: Any) -> Float[Array, "o"]:
        return self.last(self.features(x))


class Family(eqx.Module):
    """Numbers ↦ a distribution."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many numbers."""

    @abc.abstractmethod
    def __call__(self, numbers: Float[Array, "o"], features: Any, mask: Any) -> AbstractDistribution:
        """``features`` is what the last layer was given; ``mask`` says which actions are valid, or is None."""


class Multinomial(Family):
    """Discrete: softmax of the numbers."""

    n: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.n

    def __call__(self, numbers: Float[Array, "k"], features: Any, mask: Bool[Array, "k"] | None) -> Categorical:
        return Categorical(numbers, require_mask(mask, self.n))


class Multinomials(Family):
    """MultiDiscrete: a softmax of each part."""

    kinds: tuple[int, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def size(self) -> int:
        return sum(self.kinds)

    def __call__(self, numbers: Float[Array, "k"], features: Any, mask: Bool[Array, "k"] | None) -> Product:
        ends = np.cumsum(self.kinds)[:-1]
        mask = require_mask(mask, self.size)
        masks = [None] * len(self.kinds) if mask is None else jnp.split(mask, ends)
        return Product(tuple(map(Categorical, jnp.split(numbers, ends), masks)), self.shape)


class Bits(Family):
    """MultiBinary: the log-odds of each bit."""

    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __call__(self, numbers: Float[Array, "n"], features: Any, mask: None) -> Bernoulli:
        refuse_mask(mask)
        return Bernoulli(numbers.reshape(self.shape))


class Interval(eqx.Module):
    """The bounds of a Box."""

    low: tuple[float, ...] = eqx.field(static=True)
    high: tuple[float, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, dtype: Any) -> tuple[Float[Array, "*d"], Float[Array, "*d"]]:
        low, high = (jnp.asarray(bound, dtype).reshape(self.shape) for bound in (self.low, self.high))
        return low, high


class Gaussian(Family):
    """Box: means, and the logarithms of the standard deviations. These are a parameter, or, where ``log_std`` is None,
    numbers of the network, counted from ``log_std_init``. With ``bounds`` it is squashed into them."""

    log_std: Float[Array, "*d"] | None
    bounds: Interval | None
    shape: tuple[int, ...] = eqx.field(static=True)
    log_std_init: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        return math.prod(self.shape) * (1 if self.log_std is not None else 2)

    def __call__(self, numbers: Float[Array, "o"], features: Any, mask: None) -> DiagGaussian | TanhGaussian:
        refuse_mask(mask)
        log_std = self.log_std
        if log_std is None:
            numbers, spread = jnp.split(numbers, 2)
            log_std = jnp.clip(self.log_std_init + spread, *LOG_STD_RANGE).reshape(self.shape)
        mean = numbers.reshape(self.shape)
        if self.bounds is None:
            return DiagGaussian(mean, log_std)
        return TanhGaussian(mean, log_std, *self.bounds(mean.dtype))


class Betas(Family):
    """Bounded Box: α = 1 + softplus(·), β = 1 + softplus(·). Chou et al. (2017)."""

    bounds: Interval

    @property
    def size(self) -> int:
        return 2 * math.prod(self.bounds.shape)

    def __call__(self, numbers: Float[Array, "o"], features: Any, mask: None) -> Beta:
        refuse_mask(mask)
        alpha, beta = (x.reshape(self.bounds.shape) for x in jnp.split(1 + jax.nn.softplus(numbers), 2))
        return Beta(alpha, beta, *self.bounds(numbers.dtype))


class SmoothGaussian(Family):
    """Box: means; the spread comes from the features (gSDE). Raffin et al. (2022)."""

    log_std: Float[Array, "f *d"]

    @property
    def size(self) -> int:
        return math.prod(self.log_std.shape[1:])

    def __call__(self, numbers: Float[Array, "o"], features: Float[Array, "h"], mask: None) -> StateDependent:
        refuse_mask(mask)
        features = jnp.append(features, CONSTANT_FEATURE)
        return StateDependent(numbers.reshape(self.log_std.shape[1:]), features, self.log_std)


class Joint(Family):
    """Dict and Tuple: a tree of families, whose numbers stand in a row."""

    parts: PyTree[Family]

    @property
    def size(self) -> int:
        return sum(part.size for part in self._leaves()[0])

    def __call__(self, numbers: Float[Array, "o"], features: Any, mask: None) -> Product:
        refuse_mask(mask)
        families, structure = self._leaves()
        each = jnp.split(numbers, np.cumsum([family.size for family in families])[:-1])
        made = [family(x, features, None) for family, x in zip(families, each)]
        return Product(jax.tree.unflatten(structure, made))

    def _leaves(self) -> tuple[list[Family], Any]:
        return jax.tree.flatten(self.parts, is_leaf=lambda x: isinstance(x, Family))


class Actor(eqx.Module):
    """π: a head, and the family of distributions that its numbers stand for."""

    head: Head
    family: Family

    def __call__(self, x: Any, mask: Bool[Array, "k"] | None = None) -> Any:
        features = self.head.features(x)
        return self.family(self.head.last(features), features, mask)


def make_family(
    space: spaces.Space,
    *,
    bounds: str = "clip",
    gsde: bool = False,
    n_features: int = 0,
    log_std_init: float = 0.0,
    state_dependent_std: bool = False,
) -> Family:
    """The family of a space.

    Args:
        bounds: how a bounded Box is respected: ``clip`` (a Gaussian; the environment clips), ``tanh``, ``beta``.
        gsde: exploration noise that depends on the state, held over a window.
        n_features: the width of the last hidden layer (gSDE).

    Raises:
        ValueError: options that do not fit the space, with the fix.
    """
    boxes: list[spaces.Box] = []

    def one(space: spaces.Space) -> Family:
        if isinstance(space, spaces.Discrete):
            return Multinomial(int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return Multinomials(tuple(space.nvec.reshape(-1).tolist()), space.nvec.shape)
        if isinstance(space, spaces.MultiBinary):
            return Bits(space.shape)
        if not isinstance(space, spaces.Box):
            raise ValueError(f"action space {space} is not supported: use Box, Discrete, MultiDiscrete, MultiBinary")
        boxes.append(space)
        interval = None if bounds == "clip" else interval_of(space, bounds)
        if gsde:
            return SmoothGaussian(jnp.full((n_features + 1, *space.shape), float(log_std_init)))
        if interval is not None and bounds == "beta":
            return Betas(interval)
        log_std = None if state_dependent_std else jnp.full(space.shape, float(log_std_init))
        return Gaussian(log_std, interval, space.shape, float(log_std_init))

    tree = per_part(one, space)
    if not boxes and (bounds != "clip" or gsde or state_dependent_std or log_std_init):
        raise ValueError(
            "bounds, gsde, log_std_init and state_dependent_std are about Box actions, and the action space is "
            f"{space}: drop them"
        )
    return Joint(tree) if isinstance(space, spaces.Dict | spaces.Tuple) else tree


def interval_of(space: spaces.Box, bounds: str) -> Interval:
    """A bounded Box's bounds."""
    if not space.is_bounded():
        raise ValueError(f"bounds={bounds} needs a bounded action space, not {space}: set bounds=clip")
    low, high = (tuple(bound.astype(float).reshape(-1).tolist()) for bound in (space.low, space.high))
    return Interval(low, high, space.shape)


def require_mask(mask: Any, n: int) -> Bool[Array, "n"] | None:
    """A mask with one entry for each action."""
    if mask is None:
        return None
    if jnp.shape(mask) != (n,):
        raise ValueError(f"the action mask has shape {jnp.shape(mask)}: give one entry for each action, ({n},)")
    return jnp.asarray(mask, bool)


def refuse_mask(mask: Any) -> None:
    if mask is not None:
        raise ValueError(
            "the environment masks actions, and masks are for Discrete and MultiDiscrete action spaces: "
            "show plain observations, or make the action space one of these"
        )
