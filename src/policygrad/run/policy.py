"""A trained policy as a user holds it: NumPy in, NumPy out."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs.core import to_bounds
from policygrad.envs.memory import flat
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Input


class PolicyState(NamedTuple):
    """What a policy remembers between two calls, for each of n environments. Leaves ``[n, ...]``, on the device."""

    carry: Any
    """The recurrent memory; None where there is none."""
    time: Any
    """Steps since the episode began."""
    action: Any
    """The last action, as the environment received it."""


class Policy:
    """π, ready to act. ``model`` is the network (an ``eqx.Module``).

        action, state = policy.predict(obs)                                  # memoryless
        action, state = policy.predict(obs, state=state, episode_start=done)  # with memory or time-to-go

    One call is one jitted function; the first call of every batch size compiles it.
    """

    def __init__(
        self,
        model: Any,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        remembers: bool = False,
        seed: int = 0,
    ):
        self.model, self.observation_space, self.action_space, self.remembers = (
            model,
            observation_space,
            action_space,
            remembers,
        )
        self.seed(seed)
        arrays, static = eqx.partition(model, eqx.is_array)
        self._leaves, structure = jax.tree.flatten(arrays)  # a list is a quicker argument than a tree of modules
        act = partial(_act, structure, static, observation_space, action_space, remembers)
        self._greedy, self._sample = jax.jit(partial(act, None)), jax.jit(act)
        self._begin: dict[int, tuple[PolicyState, np.ndarray, np.ndarray]] = {}

    def seed(self, seed: int) -> None:
        """Begin the random numbers of sampled actions anew."""
        self._key = jax.random.key_data(jax.random.key(seed))

    def predict(
        self,
        obs: Any,
        *,
        deterministic: bool = True,
        state: PolicyState | None = None,
        episode_start: Any = None,
        reward: Any = None,
    ) -> tuple[np.ndarray, PolicyState]:
        """Actions for one observation or for a batch of them.

        Args:
            obs: ``[*space.shape]`` or ``[n, *space.shape]``.
            deterministic: the mode of π, or a sample.
            state: what the last call returned; None: every episode begins now. A memoryless policy that does not see
                the time needs none.
            episode_start: ``[n]`` bool: these episodes begin now.
            reward: ``[n]``: the last reward, for policies that see it (``remember``).

        Returns:
            ``(action, state)``. Box actions lie inside the bounds of the space.

        Raises:
            ValueError: an observation that does not fit the space.
        """
        obs = np.asarray(obs)
        single = self._is_single(obs.shape)
        obs = obs[None] if single else obs
        n = len(obs)
        if n not in self._begin:
            self._begin[n] = self._beginning(n)
        begin, no_start, no_reward = self._begin[n]
        start = no_start if episode_start is None else np.asarray(episode_start, bool).reshape(n)
        reward = no_reward if reward is None else np.asarray(reward, np.float64).reshape(n)
        args = (self._leaves, obs, begin if state is None else state, start, reward)
        if deterministic:
            action, state = self._greedy(*args)
        else:
            self._key, action, state = self._sample(self._key, *args)
        action = np.array(action)
        return action[0] if single else action, state

    def _is_single(self, shape: tuple[int, ...]) -> bool:
        """Whether that is one observation, not a batch."""
        wanted = self.observation_space.shape or ()
        if shape == wanted:
            return True
        if shape[1:] != wanted or not shape:
            batch = ", ".join(("n", *map(str, wanted)))
            raise ValueError(
                f"the observation has shape {shape}; this policy needs {wanted}, or a batch of it: ({batch})"
            )
        return False

    def _beginning(self, n: int) -> tuple[PolicyState, np.ndarray, np.ndarray]:
        """The state of n episodes that begin now, nobody's restart, and no rewards."""
        space = self.action_space
        action = jnp.zeros((n, *(space.shape or ())), jnp.int32 if isinstance(space, spaces.Discrete) else None)
        return (
            PolicyState(initial_carry(self.model, (n,)), jnp.zeros(n, jnp.int32), action),
            np.zeros(n, bool),
            np.zeros(n),
        )


def _act(
    structure: Any,
    static: Any,
    observation_space: Any,
    action_space: Any,
    remembers: bool,
    key: Any,
    leaves: Any,
    obs: Any,
    state: PolicyState,
    start: Any,
    reward: Any,
) -> Any:
    """All array work of one call. ``key`` is raw key data, or None for the mode of π."""
    model = eqx.combine(jax.tree.unflatten(structure, leaves), static)
    time = jnp.where(start, 0, state.time)
    obs = cast(obs)
    if remembers:
        obs = with_memory(observation_space, action_space, obs, state.action, reward, time == 0)

    def one(obs: Any, time: Any, carry: Any) -> tuple[Any, Any]:
        output, carry = model(Input(obs, time, time == 0), carry)
        return output.distribution, carry

    distribution, carry = jax.vmap(one)(obs, time, state.carry)
    if key is None:
        action = jax.vmap(lambda d: d.mode())(distribution)
    else:
        key, draw_key = jax.random.split(jax.random.wrap_key_data(key))
        noise = jax.tree.map(lambda x: x[0], distribution).draw(draw_key, time.shape)
        action = jax.vmap(lambda d, noise: d.sample(noise))(distribution, noise)
    action = to_bounds(action_space, action)
    state = PolicyState(carry, time + 1, action)
    return (action, state) if key is None else (jax.random.key_data(key), action, state)


def with_memory(observation_space: Any, action_space: Any, obs: Any, action: Any, reward: Any, start: Any) -> Any:
    """What :func:`policygrad.envs.memory.remember` shows: ``[obs, last action, last reward]``, zeros at the start."""
    obs = jax.vmap(partial(flat, observation_space))(obs)
    memory = jnp.concatenate([jax.vmap(partial(flat, action_space))(action), cast(reward)[:, None]], axis=1)
    return jnp.concatenate([obs, jnp.where(start[:, None], 0, memory)], axis=1)


def cast(x: Any) -> Any:
    """Floats in JAX's default precision, whole numbers as int32."""
    x = jnp.asarray(x)
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x.astype(jnp.zeros(()).dtype)
