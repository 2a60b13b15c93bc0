"""The last action and the last reward as part of the observation, for policies π(a_t | s_{1:t}, a_{1:t−1})."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float, PyTree

from policygrad.envs.core import Env, split_keys
from policygrad.spaces import flat, parts, unmasked, width
from policygrad.types import MaskedObs


def remember(env: Env) -> "Remember":
    """``env`` with an observation that holds the last action and the last reward, both zero at the start of an episode.

    Where observation and action are Discrete or a 1-D Box it is the flat vector ``[obs, last action, last reward]``,
    otherwise a Dict with the keys ``obs``, ``action`` and ``reward``.
    """
    return Remember(env)


@dataclass(frozen=True, eq=False)
class Remember(Env):
    """See :func:`remember`. Actions enter as a vector, a Discrete one (and in the flat vector a Discrete observation)
    as its one-hot.

    The action is the one that the environment received: inside its bounds.
    """

    env: Env
    observation_space: spaces.Space = field(init=False)
    action_space: spaces.Space = field(init=False)
    time_limit: int | None = field(init=False)

    def __post_init__(self) -> None:
        space = remembered_space(self.env.observation_space, self.env.action_space)
        object.__setattr__(self, "observation_space", space)
        object.__setattr__(self, "action_space", self.env.action_space)
        object.__setattr__(self, "time_limit", self.env.time_limit)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        return getattr(self.env, "draw", split_keys)(key, shape)

    def reset(self, noise: Any) -> tuple[Any, PyTree[Array]]:
        state, obs = self.env.reset(noise)
        return state, self._with(obs, jnp.zeros(width(self.env.action_space)), jnp.zeros(()))

    def step(self, noise: Any, state: Any, action: Any) -> tuple[Any, PyTree[Array], Array, Array]:
        state, obs, reward, terminated = self.env.step(noise, state, action)
        return state, self._with(obs, flat(self.env.action_space, action), reward), reward, terminated

    def _with(self, obs: PyTree[Array], action: Float[Array, "n"], reward: Float[Array, ""]) -> PyTree[Array]:
        return with_last(self.env.observation_space, self.env.action_space, obs, action, reward)


def with_last(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    obs: PyTree[Array],
    action: Float[Array, "n"],
    reward: Float[Array, ""],
) -> PyTree[Array]:
    """One observation with the last action, a vector, and the last reward."""
    obs, mask = unmasked(obs)
    reward = jnp.asarray(reward)
    if is_plain(observation_space) and is_plain(action_space):
        seen: Any = jnp.concatenate([flat(observation_space, obs), action, reward[None]])
    else:
        seen = {"obs": obs, "action": action, "reward": reward}
    return seen if mask is None else MaskedObs(seen, mask)


def remembered_space(observation_space: spaces.Space, action_space: spaces.Space) -> spaces.Space:
    """The space of :func:`remember`'s observations."""
    obs_bounds, action_bounds = bounds(observation_space), bounds(action_space)
    # The empty memory is zero, so zero is always inside.
    action_low, action_high = np.minimum(action_bounds[0], 0), np.maximum(action_bounds[1], 0)
    if is_plain(observation_space) and is_plain(action_space):
        low = np.concatenate([obs_bounds[0], action_low, [-np.inf]])
        high = np.concatenate([obs_bounds[1], action_high, [np.inf]])
        return spaces.Box(low.astype(np.float32), high.astype(np.float32))
    action = spaces.Box(action_low.astype(np.float32), action_high.astype(np.float32))
    return spaces.Dict({"obs": observation_space, "action": action, "reward": spaces.Box(-np.inf, np.inf, ())})


def is_plain(space: spaces.Space) -> bool:
    """Whether an element is, or is easily made, one short vector."""
    return isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) == 1)


def bounds(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest that the vector of an element may hold (:func:`policygrad.spaces.flat`)."""

    def one(part: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(part, spaces.Box):
            return part.low.reshape(-1), part.high.reshape(-1)
        return np.zeros(width(part)), np.ones(width(part))

    lows, highs = zip(*map(one, parts(space)))
    return np.concatenate(lows), np.concatenate(highs)
