"""Streams: a bandit chooses, is paid, and learns, row after row, thousands of them in one XLA program.

Progressive validation (Blum, Kalai & Langford 1999): every row is predicted before it is learned from, so the mean
reward on the way is an honest estimate, and no row is lost to a test set.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from policygrad.bandits.bandit import Bandit, BanditState
from policygrad.bandits.explorers import sample
from policygrad.envs.core import autoreset


class Log(NamedTuple):
    """What was done on each row, and with which probability: all that others need to learn from it."""

    action: Int[Array, "T"]
    reward: Float[Array, "T"]
    """Of the chosen action; the loss where the bandit was made for losses."""
    propensity: Float[Array, "T"]
    """p(action | features) at that moment."""
    probabilities: Float[Array, "T K"]


PIECE = 2048
"""Rows that are run in one program. Between two of them a signal is heard."""


def progressive(
    bandit: Bandit,
    state: BanditState,
    key: Array,
    features: Float[ArrayLike, "T d"],
    rewards: Float[ArrayLike, "T K"],
    *,
    batch: int = 1,
) -> tuple[BanditState, Log]:
    """Choose on every row, be paid ``rewards[t, action]``, learn.

    The number drawn for a row depends on ``key`` and on how many rows were learned before: a stream that is cut in two
    is the same stream, bit for bit.

    Args:
        key: of the choices.
        rewards: of every action (losses where the bandit was made for them); only the chosen one is looked at.
        batch: rows that are chosen with the same model, and learned from together: a delay of up to ``batch`` rows.

    Raises:
        ValueError: ``batch`` is not at least 1.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; choose 1 (no delay) or more rows")
    size = max(PIECE // batch, 1) * batch
    piece = partial(progressive_piece, bandit, key=key, batch=batch)
    return in_pieces(piece, state, (features, rewards), size)


def in_pieces(step: Callable, state: BanditState, rows: Any, size: int = PIECE) -> tuple[BanditState, Any]:
    """``step(state, rows) -> (state, found)`` over ``size`` rows at a time, and what was found as one."""
    found = []
    for start in range(0, max(len(jax.tree.leaves(rows)[0]), 1), size):
        state, out = step(state, jax.tree.map(lambda x: x[start : start + size], rows))  # noqa: B023 (called at once)
        found.append(jax.block_until_ready(out))
    return state, found[0] if len(found) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


@partial(jax.jit, static_argnames=("bandit", "batch"))
def progressive_piece(
    bandit: Bandit, state: BanditState, rows: tuple[Array, Array], key: Array, batch: int
) -> tuple[BanditState, Log]:
    """:func:`progressive` in one program."""
    features, rewards = rows
    stream = features, rewards, uniforms(key, state.rows + jnp.arange(len(features)))

    def block(state: BanditState, rows: tuple) -> tuple[BanditState, Log]:
        x, paid, u = rows
        _, probabilities = bandit.predict(state, x)
        action = sample(probabilities, u)
        reward, propensity = pick(paid, action), pick(probabilities, action)
        return bandit.learn(state, x, action, reward), Log(action, reward, propensity, probabilities)

    if batch == 1:
        return jax.lax.scan(block, state, stream)
    whole = len(features) // batch * batch
    state, log = jax.lax.scan(block, state, jax.tree.map(lambda x: x[:whole].reshape(-1, batch, *x.shape[1:]), stream))
    state, last = block(state, jax.tree.map(lambda x: x[whole:], stream))
    flat = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), log)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), flat, last)


def shuffled(
    bandit: Bandit, key: Array, features: np.ndarray, rewards: np.ndarray, orders: np.ndarray, *, batch: int = 1
) -> tuple[BanditState, Log]:
    """A fresh bandit on each order ``[S, T]`` of the rows, ``[T, d]`` and ``[T, K]``: :func:`progressive` with leaves
    ``[S, ...]``."""

    def one(number: int, order: np.ndarray) -> tuple[BanditState, Log]:
        begin, choose = keys_of(key, number)
        return progressive(bandit, bandit.init(begin), choose, features[order], rewards[order], batch=batch)

    found = [one(number, order) for number, order in enumerate(orders)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def uniforms(key: Array, rows: Int[Array, "T"]) -> Float[Array, "T"]:
    """The number in [0, 1) that decides the choice of each row, a function of the key and the row's number alone."""
    return jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(rows)


def keys_of(key: Array, number: ArrayLike) -> Array:
    """``[2]``: the keys of a shuffle's initialisation and of its choices."""
    return jax.random.split(jax.random.fold_in(key, number))


class Played(NamedTuple):
    """What a bandit met in an environment."""

    reward: Float[Array, "T"]
    done: Any
    """Bool ``[T]``: the episode ended here."""
    ret: Float[Array, "T"]
    """Running undiscounted return of the episode; read it where ``done``."""


@partial(jax.jit, static_argnames=("bandit", "env", "n_steps"))
def play(bandit: Bandit, env: Any, key: Array, n_steps: int) -> tuple[BanditState, Played]:
    """A fresh bandit in a pure environment of Discrete actions: the context is the observation with a 1 behind it, and
    what follows an action is none of its business. ``n_features`` is the observation's length + 1."""
    stream = autoreset(env)
    begin, first, noises, choices = jax.random.split(key, 4)
    start = stream.reset(jax.tree.map(lambda x: x[0], stream.draw(first, (1,))[1]))

    def step(carry: tuple, noise: tuple) -> tuple[tuple, Played]:
        state, world = carry
        noise, u = noise
        features = jnp.append(jnp.ravel(world.obs), 1.0)
        action = sample(bandit.predict(state, features).probabilities, u)
        world, seen = stream.step(noise, world, action)
        done = seen.terminated | seen.truncated
        return (bandit.learn(state, features, action, seen.reward), world), Played(seen.reward, done, seen.ret)

    noise = stream.draw(noises, (n_steps,)), jax.random.uniform(choices, (n_steps,))
    (state, _), played = jax.lax.scan(step, (bandit.init(begin), start), noise)
    return state, played


def pick(table: Float[Array, "*B K"], action: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """The chosen action's entry."""
    return jnp.take_along_axis(table, action[..., None], axis=-1)[..., 0]
