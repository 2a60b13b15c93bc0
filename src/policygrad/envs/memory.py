"""The last action and the last reward as part of the observation, for policies π(a_t | s_{1:t}, a_{1:t−1})."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float

from policygrad.envs.core import Env, split_keys


def remember(env: Env) -> "Remember":
    """``env`` with the flat observation ``[obs, last action, last reward]``, both zero at the start of an episode."""
    return Remember(env)


@dataclass(frozen=True, eq=False)
class Remember(Env):
    """See :func:`remember`. A Discrete observation or action enters as its one-hot, a 1-D Box as it is.

    The action is the one that the environment received: inside its bounds.
    """

    env: Env
    observation_space: spaces.Space = field(init=False)
    action_space: spaces.Space = field(init=False)
    time_limit: int | None = field(init=False)

    def __post_init__(self) -> None:
        obs_low, obs_high = bounds(self.env.observation_space, "observation")
        action_low, action_high = bounds(self.env.action_space, "action")
        # The empty memory is zero, so zero is always inside.
        low = np.concatenate([obs_low, np.minimum(action_low, 0), [-np.inf]])
        high = np.concatenate([obs_high, np.maximum(action_high, 0), [np.inf]])
        object.__setattr__(self, "observation_space", spaces.Box(low.astype(np.float32), high.astype(np.float32)))
        object.__setattr__(self, "action_space", self.env.action_space)
        object.__setattr__(self, "time_limit", self.env.time_limit)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        return getattr(self.env, "draw", split_keys)(key, shape)

    def reset(self, noise: Any) -> tuple[Any, Float[Array, "n"]]:
        state, obs = self.env.reset(noise)
        memory = jnp.zeros(width(self.env.action_space) + 1)
        return state, jnp.concatenate([flat(self.env.observation_space, obs), memory])

    def step(self, noise: Any, state: Any, action: Any) -> tuple[Any, Float[Array, "n"], Array, Array]:
        state, obs, reward, terminated = self.env.step(noise, state, action)
        memory = [flat(self.env.action_space, action), jnp.asarray(reward)[None]]
        return state, jnp.concatenate([flat(self.env.observation_space, obs), *memory]), reward, terminated


def flat(space: spaces.Space, x: Any) -> Float[Array, "n"]:
    """A vector: the one-hot of a Discrete's element, a 1-D Box's as it is."""
    return jax.nn.one_hot(x, int(space.n)) if isinstance(space, spaces.Discrete) else jnp.asarray(x)


def width(space: spaces.Space) -> int:
    """The length of :func:`flat`'s vector."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))


def bounds(space: spaces.Space, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest that :func:`flat`'s vector may hold."""
    if isinstance(space, spaces.Discrete):
        return np.zeros(width(space)), np.ones(width(space))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.low, space.high
    raise ValueError(f"remember: the {what} space is {space}, but must be Discrete or a 1-D Box. Flatten it first.")
