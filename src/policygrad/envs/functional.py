"""gymnax and Brax as pure environments: their physics, our time limits and resets.

Both packages reset by themselves and thereby hide the last state of an episode. The methods used here do neither, so
:func:`policygrad.envs.core.autoreset` sees the true successor.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float

from policygrad.envs.core import Env
from policygrad.envs.stateful import did_you_mean, missing
from policygrad.spaces import per_part

NEVER = 2**30
"""A number of steps that no episode reaches."""


class Gymnax(Env):
    """An environment of gymnax (Lange 2022), of the versions 0.0.x and 1.x: ``gymnax:Breakout-MinAtar``.

    gymnax 0.0.x ends episodes after ``max_steps_in_episode``. Here that is ``time_limit``, a truncation; what it would
    end without a limit is terminated. Observations are float32, or int32 where they are Discrete.

    Args:
        name: gymnax's id.
        time_limit: in place of gymnax's own.
        options: handed to ``gymnax.make``.
    """

    def __init__(self, name: str, time_limit: int | None = None, **options: Any) -> None:
        try:
            import gymnax
        except ImportError as error:
            raise missing(f"gymnax:{name}", "gymnax", "gymnax") from error
        if name not in gymnax.registered_envs:
            near = did_you_mean(name, gymnax.registered_envs, "gymnax:")
            raise ValueError(f"gymnax has no environment {name!r}.{near}")
        self.id = f"gymnax:{name}"
        self.env, params = gymnax.make(name, **options)
        self.time_limit = int(params.max_steps_in_episode) if time_limit is None else time_limit
        kind = type(params.max_steps_in_episode)
        self.params = params.replace(max_steps_in_episode=kind(self.time_limit))
        self.endless = params.replace(max_steps_in_episode=kind(NEVER))
        self.observation_space = space_of(self.env.observation_space(self.params))
        self.action_space = space_of(self.env.action_space(self.params))

    def reset(self, noise: Array) -> tuple[Any, Any]:
        obs, state = self.env.reset_env(noise, self.params)
        return jax.tree.map(jnp.asarray, state), self.shown(obs)

    def step(self, noise: Array, state: Any, action: Any) -> tuple[Any, Any, Float[Array, ""], Bool[Array, ""]]:
        """The observation is that of the true limit, for some show the time to go; state, reward and end are those of
        an endless episode. What both have in common XLA computes once."""
        obs = self.env.step_env(noise, state, action, self.params)[0]
        _, after, reward, terminated, _ = self.env.step_env(noise, state, action, self.endless)
        after = jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), after, state)
        return after, self.shown(obs), jnp.asarray(reward, float).reshape(()), jnp.asarray(terminated, bool).reshape(())

    def shown(self, obs: Any) -> Any:
        """The observation in its space's shape and dtype."""

        def one(space: spaces.Space, x: Any) -> Array:
            return jnp.asarray(x, int if isinstance(space, spaces.Discrete) else float).reshape(space.shape)

        return per_part(one, self.observation_space, obs)


class Brax(Env):
    """An environment of Brax (Freeman et al. 2021): ``brax:ant``.

    Args:
        name: Brax's id.
        time_limit: Brax keeps its own (1000 steps) outside of its environments.
        options: handed to the environment (``backend="positional"``).
    """

    def __init__(self, name: str, time_limit: int | None = 1000, **options: Any) -> None:
        try:
            from brax import envs
        except ImportError as error:
            raise missing(f"brax:{name}", "brax", "brax") from error
        try:
            self.env = envs.get_environment(name, **options)
        except KeyError as error:
            near = did_you_mean(name, getattr(envs, "_envs", ()), "brax:")
            raise ValueError(f"Brax has no environment {name!r}.{near}") from error
        self.id, self.time_limit = f"brax:{name}", time_limit
        shape = jax.eval_shape(self.env.reset, jax.random.PRNGKey(0)).obs.shape
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.env.action_size,), np.float32)

    def reset(self, noise: Array) -> tuple[Any, Float[Array, "n"]]:
        state = self.env.reset(noise)
        return state, state.obs

    def step(
        self, noise: Array, state: Any, action: Float[Array, "k"]
    ) -> tuple[Any, Float[Array, "n"], Float[Array, ""], Bool[Array, ""]]:
        """Brax's physics is deterministic. Its ``done`` knows no time limit."""
        after = self.env.step(state, action)
        after = jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), after, state)
        return after, after.obs, after.reward, after.done > 0.5


def space_of(space: Any) -> spaces.Space:
    """A space of gymnax's as one of Gymnasium's."""
    kind = type(space).__name__
    if kind == "Discrete":
        return spaces.Discrete(int(space.n))
    if kind == "Dict":
        return spaces.Dict({key: space_of(part) for key, part in space.spaces.items()})
    if kind == "Tuple":
        return spaces.Tuple([space_of(part) for part in space.spaces])
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))
    return spaces.Box(low, high, tuple(space.shape), np.float32)
