"""Who plays, where the environment is pure: ``lax.scan`` over steps, ``vmap`` over streams.

A :class:`Collector` is two pure functions. All the randomness of a window is drawn in one call before the scan.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from policygrad.envs.core import Stream, StreamState
from policygrad.models.actor_critic import initial_carry
from policygrad.random import standard
from policygrad.types import Finished, Input, Trajectory


class Collector(NamedTuple):
    """``init(model, key) -> state``, ``collect(model, state, key) -> (state, trajectory, finished)``."""

    init: Callable[[Any, Array], Any]
    collect: Callable[[Any, Any, Array], tuple[Any, Trajectory, Finished]]
    pure: bool


class CollectState(NamedTuple):
    """B streams and the model's memory of each."""

    stream: StreamState
    carry: PyTree[Array]


class Row(NamedTuple):
    """One step of B streams."""

    obs: PyTree[Array]
    action: PyTree[Array]
    reward: Array
    terminated: Array
    truncated: Array
    log_mu: Array
    time: Array
    ret: Array


def window_collector(stream: Stream, n_envs: int, n_steps: int) -> Collector:
    """Windows of ``n_steps`` rows of ``n_envs`` endless streams; episodes cross the windows' borders."""
    limit = stream.time_limit
    n_cuts = 1 if limit is None else 1 + -(-n_steps // limit)

    def init(model: Any, key: Array) -> CollectState:
        return fresh(stream, model, n_envs, key)

    def collect(model: Any, state: CollectState, key: Array) -> tuple[CollectState, Trajectory, Finished]:
        noises = draw(stream, model, state, key, (n_steps, n_envs))
        cut_obs = jax.tree.map(lambda x: jnp.zeros((n_cuts, *x.shape), x.dtype), state.stream.obs)

        def step(loop: tuple, row: tuple) -> tuple[tuple, Row]:
            state, cut_obs, slot = loop
            noise, final = row
            state, shown, successor = play(stream, model, state, noise)
            cut = shown.truncated | final
            cut_obs = jax.tree.map(lambda slots, obs: write(slots, obs, slot, cut), cut_obs, successor)
            return (state, cut_obs, slot + cut), shown

        loop = (state, cut_obs, jnp.zeros(n_envs, jnp.int32))
        (new, cut_obs, _), rows = jax.lax.scan(step, loop, (noises, jnp.arange(n_steps) == n_steps - 1))
        mask = jnp.ones((n_steps, n_envs), bool)
        return new, trajectory_of(rows, mask, state.carry, cut_obs), finished_of(rows, mask)

    return Collector(init, collect, pure=True)


def episode_collector(stream: Stream, n_episodes: int) -> Collector:
    """``n_episodes`` whole episodes, each in a column of ``time_limit`` rows; what follows the end of an episode is
    masked."""
    n_steps = stream.time_limit
    if n_steps is None:
        raise ValueError(
            "whole episodes need a time limit: give max_episode_steps, "
            "or collect windows with a preset that bootstraps (a2c)"
        )

    def init(model: Any, key: Array) -> CollectState:
        return fresh(stream, model, n_episodes, key)

    def collect(model: Any, state: CollectState, key: Array) -> tuple[CollectState, Trajectory, Finished]:
        reset_key, key = jax.random.split(key)
        start = fresh(stream, model, n_episodes, reset_key)
        noises = draw(stream, model, start, key, (n_steps, n_episodes))

        def step(loop: tuple, noise: Any) -> tuple[tuple, tuple[Row, Array]]:
            state, cut_obs, alive = loop
            state, shown, successor = play(stream, model, state, noise)
            over = alive & (shown.terminated | shown.truncated)  # of an end the successor is kept too, for datasets
            cut_obs = jax.tree.map(lambda kept, obs: jnp.where(broadcast(over, obs), obs, kept), cut_obs, successor)
            going = alive & ~over
            return (state, cut_obs, going), (shown, alive)

        loop = (start, start.stream.obs, jnp.ones(n_episodes, bool))
        (new, cut_obs, _), (rows, mask) = jax.lax.scan(step, loop, noises)
        cut_obs = jax.tree.map(lambda x: x[None], cut_obs)
        return new, trajectory_of(rows, mask, start.carry, cut_obs), finished_of(rows, mask)

    return Collector(init, collect, pure=True)


def fresh(stream: Stream, model: Any, n: int, key: Array) -> CollectState:
    """n streams at the first step of an episode."""
    _, reset_noise = stream.draw(key, (n,))
    return CollectState(jax.vmap(stream.reset)(reset_noise), initial_carry(model, (n,)))


def draw(stream: Stream, model: Any, state: CollectState, key: Array, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The environment's and the policy's noise of a whole window; the policy's shape is read off the model without
    running it."""
    env_key, action_key = jax.random.split(key)
    one = jax.tree.map(lambda x: x[0], (state.stream.obs, state.stream.time, state.carry))

    def distribution(model: Any, obs: Any, time: Any, carry: Any) -> Any:
        return model(Input(obs, time, jnp.ones((), bool)), carry)[0].distribution

    abstract = eqx.filter_eval_shape(distribution, model, *one)
    return stream.draw(env_key, shape), standard(abstract.draw(action_key, shape))


def play(
    stream: Stream, model: Any, state: CollectState, noise: tuple[Any, Any]
) -> tuple[CollectState, Row, PyTree[Array]]:
    """One step of every stream: the new state, the row, and the true successors."""
    env_noise, action_noise = noise
    now = state.stream

    def one(now: StreamState, carry: Any, env_noise: Any, action_noise: Any) -> tuple:
        output, carry = model(Input(now.obs, now.time, now.time == 0), carry)
        action = output.distribution.sample(action_noise)
        new, shown = stream.step(env_noise, now, action)
        row = Row(
            now.obs,
            action,
            shown.reward,
            shown.terminated,
            shown.truncated,
            output.distribution.log_prob(action),
            now.time,
            shown.ret,
        )
        return CollectState(new, carry), row, shown.successor

    return jax.vmap(one)(now, state.carry, env_noise, action_noise)


def trajectory_of(rows: Row, mask: Array, carry: PyTree[Array], cut_obs: PyTree[Array]) -> Trajectory:
    return Trajectory(
        obs=rows.obs,
        action=rows.action,
        reward=jnp.where(mask, rows.reward, 0),
        terminated=rows.terminated & mask,
        truncated=rows.truncated & mask,
        log_mu=rows.log_mu,
        time=rows.time,
        start=rows.time == 0,
        mask=mask,
        carry=carry,
        cut_obs=cut_obs,
    )


def finished_of(rows: Row, mask: Array) -> Finished:
    return Finished((rows.terminated | rows.truncated) & mask, rows.ret, rows.time + 1)


def write(slots: Array, obs: Array, slot: Array, where: Array) -> Array:
    """``slots[slot[b], b] = obs[b]`` where ``where[b]``."""
    here = (jnp.arange(len(slots))[:, None] == slot) & where
    return jnp.where(broadcast(here, slots), obs, slots)


def broadcast(flag: Array, x: Array) -> Array:
    """``flag`` with trailing axes, so that it selects among ``x``."""
    return flag.reshape(*flag.shape, *[1] * (x.ndim - flag.ndim))
