"""A trained policy as a user holds it: NumPy in, NumPy out."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs.core import autoreset
from policygrad.envs.memory import remember, with_last
from policygrad.envs.worker import reason
from policygrad.models.actor_critic import initial_carry
from policygrad.run.recipes import RecipeError
from policygrad.spaces import MASK_KEY, flat, from_env, parts, per_part, to_bounds, to_env, unmasked, zeros
from policygrad.types import Input, MaskedObs, Output


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

    ``predict`` speaks the environment's language: what the environment showed goes in, and what comes out is in its
    action space. :meth:`act` speaks ours (:mod:`policygrad.spaces`): batches of trees of arrays, counted from 0.

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
        self.observation_space, self.action_space, self.remembers = observation_space, action_space, remembers
        self.seed(seed)
        self.renew(model)
        arrays, static = eqx.partition(model, eqx.is_array)
        structure = jax.tree.structure(arrays)
        act = partial(_act, structure, static, observation_space, action_space, remembers)
        self._greedy, self._sample = jax.jit(partial(act, None)), jax.jit(act)
        self._begin: dict[int, tuple[PolicyState, np.ndarray, np.ndarray]] = {}

    def renew(self, model: Any) -> None:
        """Play with another model of the same structure. Nothing is compiled again."""
        self.model = model
        # A list is a quicker argument than a tree of modules.
        self._leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))

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
        action_mask: Any = None,
    ) -> tuple[Any, PolicyState]:
        """Actions for one observation or for a batch of them.

        Args:
            obs: what the environment showed: an array ``[*space.shape]`` or a batch ``[n, *space.shape]``; of a Dict or
                a Tuple space a dict or a tuple of them. A key ``action_mask`` of a dict is the mask.
            deterministic: the mode of π, or a sample.
            state: what the last call returned; None: every episode begins now. A memoryless policy that does not see
                the time needs none.
            episode_start: ``[n]`` bool: these episodes begin now.
            reward: ``[n]``: the last reward, for policies that see it (``remember``).
            action_mask: ``[k]``, or ``[n, k]`` of a batch: which actions are valid. The others are never chosen.

        Returns:
            ``(action, state)``. Actions are as the environment takes them: Discrete ones count from the space's
            ``start``, Box ones lie inside the bounds.

        Raises:
            ValueError: an observation that does not fit the space, or anything else of another number of environments.
        """
        if action_mask is None and isinstance(obs, Mapping) and MASK_KEY not in self._keys():
            action_mask = obs.get(MASK_KEY)
        require_structure(self.observation_space, obs)
        seen = from_env(self.observation_space, obs)
        single = is_single(self.observation_space, seen)
        if single:
            seen = jax.tree.map(lambda x: x[None], seen)
        if action_mask is not None:
            mask = np.asarray(action_mask, bool)
            seen = MaskedObs(seen, mask[None] if single else mask)
        action, state = self.act(
            seen, deterministic=deterministic, state=state, episode_start=episode_start, reward=reward
        )
        action = to_env(self.action_space, action)
        return jax.tree.map(lambda x: x[0], action) if single else action, state

    def act(
        self,
        obs: Any,
        *,
        deterministic: bool = True,
        state: PolicyState | None = None,
        episode_start: Any = None,
        reward: Any = None,
    ) -> tuple[Any, PolicyState]:
        """:meth:`predict` of a batch in our own elements, masks inside ``MaskedObs``; so are the actions."""
        n = len(jax.tree.leaves(obs)[0])
        if n not in self._begin:
            self._begin[n] = self._beginning(n)
        begin, no_start, no_reward = self._begin[n]
        if state is None:
            state = begin
        else:
            require_state(state, n)
        start = no_start if episode_start is None else one_each("episode_start", episode_start, bool, n)
        reward = no_reward if reward is None else one_each("reward", reward, np.float64, n)
        args = (self._leaves, obs, state, start, reward)
        if deterministic:
            action, state = self._greedy(*args)
        else:
            self._key, action, state = self._sample(self._key, *args)
        return jax.tree.map(np.array, action), state

    def _keys(self) -> set[str]:
        """The keys of a Dict observation."""
        return set(self.observation_space.spaces) if isinstance(self.observation_space, spaces.Dict) else set()

    def _beginning(self, n: int) -> tuple[PolicyState, np.ndarray, np.ndarray]:
        """The state of n episodes that begin now, nobody's restart, and no rewards."""
        action = jax.tree.map(lambda x: jnp.zeros((n, *x.shape), x.dtype), zeros(self.action_space))
        return (
            PolicyState(initial_carry(self.model, (n,)), jnp.zeros(n, jnp.int32), action),
            np.zeros(n, bool),
            np.zeros(n),
        )


def require_structure(space: spaces.Space, obs: Any) -> None:
    """Of a Dict space a mapping with its keys, of a Tuple space as many parts."""
    if isinstance(space, spaces.Dict):
        missing = sorted(set(space.spaces) - set(obs)) if isinstance(obs, Mapping) else sorted(space.spaces)
        if missing:
            raise ValueError(f"the observation has no {missing[0]!r}: give a dict with the keys {list(space.spaces)}")
        for key, part in space.spaces.items():
            require_structure(part, obs[key])
    elif isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple | list) or len(obs) != len(space.spaces):
            raise ValueError(f"the observation must be a tuple of {len(space.spaces)} parts, as its space is")
        for part, x in zip(space.spaces, obs):
            require_structure(part, x)


def is_single(space: spaces.Space, obs: Any) -> bool:
    """Whether that is one observation, not a batch.

    Raises:
        ValueError: it is neither.
    """
    wanted = [part.shape or () for part in parts(space)]
    shapes = [np.shape(x) for x in jax.tree.leaves(obs)]
    if shapes == wanted:
        return True
    for shape, want in zip(shapes, wanted):
        if not shape or shape[1:] != want or shape[0] != shapes[0][0]:
            batch = ", ".join(("n", *map(str, want)))
            raise ValueError(
                f"the observation has shape {shape}; this policy needs {want}, or a batch of it: ({batch})"
            )
    return False


def require_state(state: Any, n: int) -> None:
    """``state`` is what the last call returned, for as many environments as now."""
    if not isinstance(state, PolicyState):
        raise ValueError(f"state is a {type(state).__name__}: pass the state that the last call returned, or None")
    if len(state.time) != n:
        raise ValueError(
            f"the state is that of {len(state.time)} environments and the observation that of {n}: "
            "pass all of them at every call, or state=None to begin anew"
        )


def one_each(name: str, values: Any, dtype: type, n: int) -> np.ndarray:
    """``[n]``; one number will do for one environment."""
    array: np.ndarray = np.asarray(values, dtype)
    if array.shape != (n,) and not (array.shape == () and n == 1):
        raise ValueError(f"{name} has shape {array.shape}: give one for each of the {n} environments, ({n},)")
    return array.reshape(n)


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
    obs, mask = unmasked(obs)
    obs = jax.tree.map(cast, obs)
    obs = obs if mask is None else MaskedObs(obs, mask)
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
    """What :func:`policygrad.envs.memory.remember` shows, of a batch: zeros at the start."""
    last = jax.vmap(partial(flat, action_space))(action)
    last, reward = (jnp.where(start.reshape(-1, *[1] * (x.ndim - 1)), 0, x) for x in (last, cast(reward)))
    return jax.vmap(partial(with_last, observation_space, action_space))(obs, last, reward)


def cast(x: Any) -> Any:
    """Floats in JAX's default precision, whole numbers as int32, bytes as they are."""
    x = jnp.asarray(x)
    if x.dtype == jnp.uint8:
        return x
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x.astype(jnp.zeros(()).dtype)


def cast_obs(obs: Any) -> Any:
    """Observations in the types that models take; a mask of actions stays one."""
    plain, mask = unmasked(obs)
    plain = jax.tree.map(cast, plain)
    return plain if mask is None else MaskedObs(plain, jnp.asarray(mask))


# A model of the user's own, looked at before anything is compiled: what does not fit is one sentence.


def check_model(model: Any, obs: Any, action_space: spaces.Space) -> None:
    """Evaluate ``model`` once on an observation, abstractly: no number is computed.

    Args:
        model: an ``eqx.Module``, or a function ``key -> eqx.Module``.
        obs: one observation as the policy sees it, or its shapes.

    Raises:
        RecipeError: what is missing, or of another type or shape than it must be.
    """
    if not (callable(model) or isinstance(model, eqx.Module)):
        raise RecipeError(f"model is a {type(model).__name__}: give an eqx.Module, or a function key -> eqx.Module")

    def look(key: Any, obs: Any, time: Any) -> None:
        made: Any = model if isinstance(model, eqx.Module) else model(key)
        check_members(made)
        carry = made.initial()
        check_answer(made(Input(obs, time, time == 0), carry), carry, action_space)

    try:
        jax.eval_shape(look, jax.random.key(0), obs, jnp.zeros((), jnp.int32))
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"the model cannot be called with an observation of shape {jax.tree.map(jnp.shape, obs)}: {reason(error)}"
        ) from error


def first_obs(env: Any, remembers: bool = False) -> Any:
    """The shapes of a pure environment's first observation, as the policy sees it."""
    stream = autoreset(remember(env) if remembers else env)
    return jax.eval_shape(lambda key: stream.reset(stream.draw(key, ())[1]).obs, jax.random.key(0))


def some_obs(observation_space: Any, action_space: Any, remembers: bool = False) -> Any:
    """An observation of zeros, as the policy sees it, of environments that nobody wants to begin for it."""
    obs = zeros(observation_space)
    if not remembers:
        return obs
    one = jax.tree.map(lambda x: x[None], (obs, zeros(action_space), jnp.zeros(()), jnp.ones((), bool)))
    return jax.tree.map(lambda x: x[0], with_memory(observation_space, action_space, *one))


def check_members(model: Any) -> None:
    name = type(model).__name__
    if not isinstance(model, eqx.Module):
        raise RecipeError(f"model(key) made a {name}: it must make an eqx.Module")
    if not callable(getattr(model, "initial", None)):
        raise RecipeError(f"{name} has no method initial: write initial() -> carry, None for a model without memory")
    if not callable(model):
        raise RecipeError(f"{name} cannot be called: write __call__(input, carry) -> (Output, carry)")


def check_answer(answer: Any, carry: Any, action_space: spaces.Space) -> None:
    """``(Output, carry)``: a distribution of one action, a value that is one number, and a carry like the last one."""
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Output):
        raise RecipeError(f"the model returned {told(answer)}: it must return (Output, carry)")
    output, after = answer
    if not hasattr(output.distribution, "log_prob"):
        raise RecipeError(
            f"the model's distribution is {told(output.distribution)}: "
            "make it one of policygrad.models.distributions, such as Categorical"
        )
    shape = jax.tree.map(jnp.shape, output.distribution.mode())
    if shape != per_part(lambda part: tuple(part.shape), action_space):
        raise RecipeError(f"the model's actions have shape {shape}, and the action space is {action_space}")
    logits = getattr(output.distribution, "logits", None)
    if isinstance(action_space, spaces.Discrete) and logits is not None and logits.shape[-1] != action_space.n:
        raise RecipeError(f"the model has {logits.shape[-1]} logits, and the action space is {action_space}")
    if not isinstance(output.value, jax.Array | np.ndarray | np.generic | float | int) or jnp.shape(output.value) != ():
        raise RecipeError(f"the model's value is {told(output.value)}: it must be one number, of shape ()")
    before, after = (jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree) for tree in (carry, after))
    if before != after:
        raise RecipeError("the model's carry changes its structure, shapes or dtypes: return it as initial() makes it")


def told(value: Any) -> str:
    """What something is, in a word or two."""
    if isinstance(value, jax.Array):
        return f"an array of shape {value.shape}"
    return f"{len(value)} values" if type(value) is tuple else f"a {type(value).__name__}"
