"""A trained policy as a user holds it: NumPy in, NumPy out."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs.memory import flat, width
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Input


class PolicyState(NamedTuple):
    """What a policy remembers between two calls, for each environment of a batch."""

    carry: Any
    time: np.ndarray
    action: Any


class Policy:
    """π, ready to act. ``model`` is the network (an ``eqx.Module``).

        action, state = policy.predict(obs)                                  # memoryless
        action, state = policy.predict(obs, state=state, episode_start=done)  # with memory or time-to-go
    """

    def __init__(self, model: Any, observation_space: spaces.Space, action_space: spaces.Space, *, remembers: bool = False, seed: int = 0):
        self.model, self.observation_space, self.action_space, self.remembers = model, observation_space, action_space, remembers
        self.seed(seed)
        self._arrays, static = eqx.partition(model, eqx.is_array)

        def act(arrays: Any, obs: Any, time: Any, start: Any, carry: Any, key: Any, deterministic: bool) -> Any:
            model = eqx.combine(arrays, static)

            def one(obs: Any, time: Any, start: Any, carry: Any) -> Any:
                output, carry = model(Input(obs, time, start), carry)
                return output.distribution, carry

            distribution, carry = jax.vmap(one)(obs, time, start, carry)
            if deterministic:
                return jax.vmap(lambda d: d.mode())(distribution), carry
            noise = jax.tree.map(lambda x: x[0], distribution).draw(key, (len(time),))
            return jax.vmap(lambda d, noise: d.sample(noise))(distribution, noise), carry

        self._act = jax.jit(act, static_argnums=6)

    def seed(self, seed: int) -> None:
        """Begin the random numbers of sampled actions anew."""
        self._key = jax.random.key(seed)

    def predict(
        self, obs: Any, *, deterministic: bool = True, state: PolicyState | None = None, episode_start: Any = None, reward: Any = None
    ) -> tuple[np.ndarray, PolicyState]:
        """Actions for one observation or for a batch of them.

        Args:
            obs: ``[*space.shape]`` or ``[n, *space.shape]``.
            deterministic: the mode of π, or a sample.
            state: what the last call returned; None: every episode begins now. A memoryless policy that does not see the time needs none.
            episode_start: ``[n]`` bool: these episodes begin now.
            reward: ``[n]``: the last reward, for policies that see it (``remember``).

        Returns:
            ``(action, state)``. Box actions lie inside the bounds of the space.

        Raises:
            ValueError: an observation that does not fit the space.
        """
        obs = np.asarray(obs)
        shape = self.observation_space.shape or ()
        if obs.shape[-len(shape) :] != shape if shape else False:
            raise ValueError(f"the observation has shape {obs.shape}; this policy needs {shape} or a batch of it, [n, {', '.join(map(str, shape))}]")
        single = obs.ndim == len(shape)
        if obs.ndim > len(shape) + 1:
            raise ValueError(f"the observation has shape {obs.shape}; this policy needs {shape} or one batch axis before it")
        obs = obs[None] if single else obs
        n = len(obs)
        start = np.ones(n, bool) if state is None else np.zeros(n, bool)
        if state is None:
            state = PolicyState(initial_carry(self.model, (n,)), np.zeros(n, np.int32), np.zeros((n, *(self.action_space.shape or ())), self.action_space.dtype))
        if episode_start is not None:
            start = start | np.asarray(episode_start, bool).reshape(n)
        time = np.where(start, 0, state.time).astype(np.int32)
        seen = self._with_memory(obs, state.action, np.zeros(n) if reward is None else np.asarray(reward).reshape(n), start) if self.remembers else obs
        self._key, key = jax.random.split(self._key)
        action, carry = self._act(self._arrays, cast(seen), time, start, state.carry, key, deterministic)
        action = np.asarray(action)
        if isinstance(self.action_space, spaces.Box):
            action = np.clip(action, self.action_space.low, self.action_space.high)
        return action[0] if single else action, PolicyState(carry, time + 1, action)

    def _with_memory(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, start: np.ndarray) -> Any:
        """The observation that :func:`policygrad.envs.memory.remember` makes: ``[obs, last action, last reward]``, zeros at the start."""
        old = jax.vmap(lambda a: flat(self.action_space, a))(jnp.asarray(action))
        memory = jnp.concatenate([old, jnp.asarray(reward, old.dtype)[:, None]], axis=1)
        assert memory.shape[1] == width(self.action_space) + 1
        memory = jnp.where(start[:, None], 0, memory)
        return jnp.concatenate([jax.vmap(lambda o: flat(self.observation_space, o))(jnp.asarray(obs)), memory], axis=1)


def cast(obs: Any) -> Any:
    """Floats in JAX's default precision, whole numbers as int32."""
    obs = jnp.asarray(obs)
    return obs.astype(jnp.int32) if jnp.issubdtype(obs.dtype, jnp.integer) else obs.astype(jnp.zeros(()).dtype)
