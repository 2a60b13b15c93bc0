"""What an environment is, and how an endless stream is made of its episodes.

An :class:`Env` is pure: single (``vmap`` batches it), traceable, and explicit about its randomness. It neither counts
steps nor resets itself; :func:`autoreset` adds both, so that no user writes them.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, Int, PyTree

from policygrad.random import standard
from policygrad.spaces import to_bounds


@runtime_checkable
class Env(Protocol):
    """A pure environment. Inherit from this class to get the default ``draw``, or write all of it.

    ``observation_space`` and ``action_space`` are Gymnasium spaces. ``time_limit`` is the number of steps after which
    an episode is *truncated* (never terminated), or None.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    time_limit: int | None

    def reset(self, noise: Any) -> tuple[Any, Any]:
        """``noise -> (state, obs)``: the first state of an episode."""
        ...

    def step(self, noise: Any, state: Any, action: Any) -> tuple[Any, Any, Array, Array]:
        """``(noise, state, action) -> (state, obs, reward, terminated)``: s_{t+1}, its observation, the reward paid for
        a_t, and whether s_{t+1} is an end."""
        ...

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        """The randomness of ``shape`` many calls of ``reset`` or ``step`` at once: leaves ``[*shape, ...]``.

        The default splits the key, so that ``noise`` is a key. Drawing the numbers themselves, in one call, is faster.
        """
        return split_keys(key, shape)


def split_keys(key: Array, shape: tuple[int, ...]) -> Array:
    """``[*shape]`` keys."""
    return jax.random.split(key, shape)


class StreamState(NamedTuple):
    """The state of one endless stream of episodes."""

    env: PyTree[Array]
    obs: PyTree[Array]
    time: Int[Array, ""]
    ret: Float[Array, ""]
    """Undiscounted return of the running episode."""


class StreamStep(NamedTuple):
    """What one step of a stream shows."""

    obs: PyTree[Array]
    """What the policy sees next: the successor, or the first observation of a new episode."""
    successor: PyTree[Array]
    """The true s_{t+1}, also where the episode ended."""
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    ret: Float[Array, ""]
    """Running return with this step's reward."""
    length: Int[Array, ""]
    """Running length with this step."""


class Stream(NamedTuple):
    """An environment with its time limit and its resets: see :func:`autoreset`."""

    env: Env
    time_limit: int | None
    finite_horizon: bool = False
    """The limit belongs to the problem: it is an end, not a cut."""

    def draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """``(step_noise, reset_noise)``: two independent draws of ``shape``."""
        step_key, reset_key = jax.random.split(key)
        draw = getattr(self.env, "draw", split_keys)
        return standard((draw(step_key, shape), draw(reset_key, shape)))

    def reset(self, noise: Any) -> StreamState:
        state, obs = self.env.reset(noise)
        return StreamState(state, obs, jnp.zeros((), jnp.int32), jnp.zeros(()))

    def step(self, noise: tuple[Any, Any], state: StreamState, action: Any) -> tuple[StreamState, StreamStep]:
        """One step of the environment, then, where the episode is over, the first state of the next one."""
        step_noise, reset_noise = noise
        action = to_bounds(self.env.action_space, action)
        env_state, successor, reward, terminated = self.env.step(step_noise, state.env, action)
        time, ret = state.time + 1, state.ret + reward
        limit = jnp.zeros((), bool) if self.time_limit is None else time >= self.time_limit
        terminated = jnp.logical_or(terminated, limit & self.finite_horizon)
        truncated = limit & jnp.logical_not(terminated)
        over = terminated | truncated
        fresh = self.reset(reset_noise)
        going = StreamState(env_state, successor, time, ret)
        state = jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, going)
        return state, StreamStep(state.obs, successor, reward, terminated, truncated, ret, time)


def autoreset(env: Any, time_limit: int | None = None, *, finite_horizon: bool = False) -> Stream:
    """An endless stream of ``env``'s episodes, each cut (``truncated``, not ``terminated``) after ``time_limit`` steps.

    ``env`` is an :class:`Env`, of which ``draw`` may be missing. ``time_limit`` overrides its own. If an end and the
    limit fall together it is an end. With ``finite_horizon`` the limit is part of the problem, as for a policy that
    sees the time to go: it ends the episode.
    """
    return Stream(env, env.time_limit if time_limit is None else time_limit, finite_horizon)
