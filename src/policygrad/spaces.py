"""Gymnasium's spaces, nested ones too: which are supported, and how their elements become arrays and back.

On our side an element is a tree of arrays: that of a ``Dict`` is a dict, that of a ``Tuple`` a tuple; ``Discrete`` and
``MultiDiscrete`` count from 0, whatever their ``start``; a ``Box`` is as it is, uint8 included.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float

from policygrad.types import MaskedObs

SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict, spaces.Tuple)
FIXES = {
    "Text": "turn the text into numbers of a fixed shape (token ids in a MultiDiscrete, an embedding in a Box)",
    "Graph": "give nodes and edges as Boxes of a fixed shape, padded, in a Dict",
    "Sequence": "pad it to a fixed length, in a Box or a MultiDiscrete",
    "OneOf": "give every alternative in a Dict, with a Discrete that says which one counts",
}


def require_supported(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """A ValueError for a space that has no arrays of a fixed shape; it names the space and the fix."""
    for what, space in (("observation", observation_space), ("action", action_space)):
        for leaf in parts(space):
            if not isinstance(leaf, SUPPORTED):
                kind = type(leaf).__name__
                fix = FIXES.get(kind, "use Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these")
                raise ValueError(f"{name}: its {what} space holds a {kind}, which has no fixed shape: {fix}.")
            if 0 in (leaf.shape or ()):
                kind = f"{type(leaf).__name__} of shape {leaf.shape}"
                raise ValueError(f"{name}: its {what} space holds a {kind}, which has no numbers: leave it out.")


def parts(space: spaces.Space) -> list[spaces.Space]:
    """The spaces that a nested one is made of, in the order of ``jax.tree.leaves`` of an element."""
    if isinstance(space, spaces.Dict):
        return [part for key in sorted(space.spaces) for part in parts(space[key])]
    if isinstance(space, spaces.Tuple):
        return [part for inner in space.spaces for part in parts(inner)]
    return [space]


def per_part(function: Callable, space: spaces.Space, *elements: Any) -> Any:
    """``function(part, *arrays)`` of every part of a space, with the structure of its elements."""
    if isinstance(space, spaces.Dict):
        return {key: per_part(function, space[key], *(x[key] for x in elements)) for key in space.spaces}
    if isinstance(space, spaces.Tuple):
        return tuple(per_part(function, inner, *(x[i] for x in elements)) for i, inner in enumerate(space.spaces))
    return function(space, *elements)


def from_env(space: spaces.Space, element: Any) -> Any:
    """What an environment gave, batched or not, as we keep it. The arrays are copies: environments reuse theirs."""

    def one(space: spaces.Space, x: Any) -> np.ndarray:
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return (np.asarray(x) - space.start).astype(np.int32)
        return np.array(x)

    return per_part(one, space, element)


def to_env(space: spaces.Space, element: Any) -> Any:
    """An action of ours, batched or not, as an environment wants it: inside the bounds, in the space's own dtype, of
    whole numbers the nearest."""

    def one(space: spaces.Space, x: Any) -> np.ndarray:
        if isinstance(space, spaces.Box):
            inside = np.clip(x, space.low, space.high)
            return (np.rint(inside) if space.dtype.kind in "iu" else inside).astype(space.dtype)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return (np.asarray(x) + space.start).astype(space.dtype)
        return np.asarray(x).astype(space.dtype)

    return per_part(one, space, element)


def to_bounds(space: spaces.Space, action: Any) -> Any:
    """The action that a pure environment is given: clipped to a Box's bounds, otherwise unchanged.

    The trajectory keeps the action that was *sampled*, whose log-probability is the one the gradient needs.
    """

    def one(space: spaces.Space, x: Any) -> Any:
        return jnp.clip(x, space.low, space.high) if isinstance(space, spaces.Box) else x

    return per_part(one, space, action)


def zeros(space: spaces.Space) -> Any:
    """One element of zeros: a policy's memory before the first action."""

    def one(space: spaces.Space) -> Array:
        if isinstance(space, spaces.Box):
            return jnp.zeros(space.shape, jnp.uint8 if space.dtype == np.uint8 else None)
        return jnp.zeros(space.shape or (), jnp.int32)

    return per_part(one, space)


def flat(space: spaces.Space, element: Any) -> Float[Array, "n"]:
    """One vector of one element: the one-hots of Discrete and MultiDiscrete, everything else as it is."""

    def one(space: spaces.Space, x: Any) -> Array:
        if isinstance(space, spaces.Discrete):
            return jax.nn.one_hot(x, int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            kinds, chosen = space.nvec.reshape(-1), jnp.ravel(x)
            return jnp.concatenate([jax.nn.one_hot(chosen[i], int(k)) for i, k in enumerate(kinds)])
        return jnp.ravel(jnp.asarray(x)).astype(jnp.zeros(()).dtype)

    vectors = jax.tree.leaves(per_part(one, space, element))
    return vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors)


def width(space: spaces.Space) -> int:
    """The length of :func:`flat`'s vector."""

    def one(space: spaces.Space) -> int:
        if isinstance(space, spaces.Discrete):
            return int(space.n)
        if isinstance(space, spaces.MultiDiscrete):
            return int(space.nvec.sum())
        return int(np.prod(space.shape or ()))

    return sum(one(part) for part in parts(space))


def channel_axis(space: spaces.Space) -> int | None:
    """The axis of a picture's channels: 0 or 2, whichever is shorter than both others. None: it is no picture."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return None
    first, middle, last = space.shape
    if last < min(first, middle):
        return 2
    return 0 if first < min(middle, last) else None


class StaticSpace:
    """A space as a static field of a module: spaces can be compared, but have no hash of their own."""

    def __init__(self, space: spaces.Space):
        self.space = space
        self._hash = hash(repr(space))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticSpace) and self.space == other.space

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self.space)


# Observations that say which actions are valid

MASK_KEY = "action_mask"
"""The key of a Dict observation that holds the mask."""


def masked(space: spaces.Space, obs: Any, key: str = MASK_KEY) -> Any:
    """``MaskedObs`` of a Dict's element, batched or not, in which ``key`` is the mask; any other element as it is."""
    if not has_mask(space, key):
        return obs
    return MaskedObs({name: x for name, x in obs.items() if name != key}, np.asarray(obs[key], bool))


def without(space: Any, key: str = MASK_KEY) -> spaces.Space:
    """The space of :func:`masked`'s observations: a Dict without ``key``; any other space as it is."""
    if not has_mask(space, key):
        return space
    return spaces.Dict({name: part for name, part in space.spaces.items() if name != key})


def has_mask(space: Any, key: str = MASK_KEY) -> bool:
    """Whether the observations are Dicts with a mask, and something beside it."""
    return isinstance(space, spaces.Dict) and key in space.spaces and len(space.spaces) > 1


def unmasked(obs: Any) -> tuple[Any, Any]:
    """``(obs, mask)`` of a ``MaskedObs``; the mask is None where every action is valid."""
    return (obs.obs, obs.mask) if isinstance(obs, MaskedObs) else (obs, None)
