"""Who plays, where the environment is stateful: a loop in NumPy with one device call per vector step.

The collectors have the same two functions as those of :mod:`policygrad.collect.xla`. The environments themselves are no
part of the state: a state that was saved and loaded goes on with :func:`HostCollector.init`, at the first step of new
episodes.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from policygrad.envs.host import HostEnv, HostStep
from policygrad.models.actor_critic import initial_carry
from policygrad.spaces import to_bounds, zeros
from policygrad.types import Finished, Input, Trajectory

LONGEST = 100_000
"""Steps after which an episode that should be played to its end is given up."""


class HostState(NamedTuple):
    """B streams between two windows: NumPy arrays, and the model's memory on the device."""

    obs: PyTree[Any]
    time: Any
    ret: Any
    """Undiscounted return of the running game, on the environment's own scale."""
    length: Any
    """Steps of the running game."""
    action: PyTree[Any]
    """The last action, as the environment received it."""
    reward: Any
    """The last reward."""
    carry: PyTree[Array]


class HostRow(NamedTuple):
    """One step of B streams."""

    obs: PyTree[Any]
    action: PyTree[Any]
    reward: Any
    """What is learned from."""
    paid: Any
    """What the environment paid."""
    terminated: Any
    truncated: Any
    log_mu: Any
    time: Any
    valid: Any
    over: Any
    ret: Any
    length: Any


class Clock:
    """Seconds spent on the environment, the policy and learning. The first call of either of the last two compiles, and
    is kept apart."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("env", "policy", "learning"), 0.0)
        self.compiling = 0.0
        self._before = dict(self.seconds)
        self._compiled = {"env"}

    def add(self, what: str, since: float) -> float:
        """Book the time since then; returns now."""
        now = time.perf_counter()
        if what in self._compiled:
            self.seconds[what] += now - since
        else:
            self._compiled.add(what)
            self.compiling += now - since
        return now

    def shares(self) -> dict[str, float]:
        """The share of each since this was last asked, under the keys of a log row."""
        spent = {what: seconds - self._before[what] for what, seconds in self.seconds.items()}
        self._before = dict(self.seconds)
        whole = sum(spent.values()) or 1.0
        return {f"time/share_{what}": seconds / whole for what, seconds in spent.items()}


def plain(obs: Any, action: Any, reward: Any, start: Any) -> Any:
    """What the policy sees where it does not remember: the observation."""
    return obs


class HostCollector:
    """Windows, or whole episodes, of a :class:`HostEnv`.

    Args:
        env: B environments.
        n_steps: rows of a window; None: whole episodes, one in each environment, padded to a power of two.
        show: ``(obs, last action, last reward, start) -> obs``, what the policy sees; leaves ``[B, ...]``, traceable.
        clock: where seconds are booked.
        clip_reward: learn from the rewards' signs (Mnih et al. 2015); what is logged keeps its scale.
        finite_horizon: the time limit belongs to the problem: it is an end, not a cut.
    """

    pure = False

    def __init__(
        self,
        env: HostEnv,
        n_steps: int | None,
        *,
        clock: Clock,
        show: Callable[..., Any] = plain,
        clip_reward: bool = False,
        finite_horizon: bool = False,
    ):
        self.env, self.n_steps, self.show, self.clock = env, n_steps, show, clock
        self.clip_reward, self.finite_horizon = clip_reward, finite_horizon
        self._act: Any = None

    def init(self, model: Any, key: Array) -> HostState:
        """The first step of an episode in every environment; the key seeds them."""
        return self._begin(model, int(jax.random.bits(key, (), jnp.uint32) >> 1))

    def collect(self, model: Any, state: HostState, key: Array) -> tuple[HostState, Trajectory, Finished]:
        if self._act is None:
            self._compile(model)
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
        if self.n_steps is None:
            return self._episodes(model, leaves, key)
        first = state
        noise = self._draw(leaves, key, self.n_steps, state)
        rows: list[HostRow] = []
        shown: list[HostStep] = []
        for t in range(self.n_steps):
            state, row, step = self._play(leaves, noise, t, state)
            rows.append(row)
            shown.append(step)
        stacked = stack(rows)
        return state, self._trajectory(stacked, stacked.valid, shown, first.carry), finished_of(stacked, stacked.valid)

    def _episodes(self, model: Any, leaves: list, key: Array) -> tuple[HostState, Trajectory, Finished]:
        """One whole episode in each environment. Those that are over go on unseen until the last one is."""
        state = first = self._begin(model, None)
        alive = np.ones(self.env.num_envs, bool)
        rows: list[HostRow] = []
        shown: list[HostStep] = []
        masks: list[np.ndarray] = []
        block = 128
        while alive.any():
            t = len(rows) % block
            if t == 0:
                key, noise_key = jax.random.split(key)
                noise = self._draw(leaves, noise_key, block, state)
            state, row, step = self._play(leaves, noise, t, state)
            rows.append(row)
            shown.append(step)
            masks.append(alive & row.valid)
            alive = alive & ~((row.terminated | row.truncated) & row.valid)
            if len(rows) >= LONGEST:
                raise RuntimeError(
                    f"an episode did not end within {LONGEST:,} steps: set max_episode_steps, "
                    "or choose a preset that learns from windows (a2c)"
                )
        padding = power_of_two(len(rows)) - len(rows)
        stacked = jax.tree.map(lambda x: pad(x, padding), stack(rows))
        mask = pad(np.stack(masks), padding)
        return state, self._trajectory(stacked, mask, shown, first.carry), finished_of(stacked, mask)

    def _begin(self, model: Any, seed: int | None) -> HostState:
        n, now = self.env.num_envs, time.perf_counter()
        obs = self.env.reset(seed)
        self.clock.add("env", now)
        action = jax.tree.map(lambda x: np.zeros((n, *x.shape), x.dtype), zeros(self.env.action_space))
        counter = np.zeros(n, np.int32)
        carry = initial_carry(model, (n,))
        return HostState(obs, counter, np.zeros(n), counter, action, np.zeros(n, np.float32), carry)

    def _play(self, leaves: list, noise: Any, t: int, state: HostState) -> tuple[HostState, HostRow, HostStep]:
        """One step of every stream."""
        now = time.perf_counter()
        seen, action, received, log_mu, carry = self._act(
            leaves, noise, t, state.obs, state.time, state.action, state.reward, state.carry
        )
        action, received, log_mu = jax.tree.map(np.asarray, (action, received, log_mu))
        seen = state.obs if self.show is plain else jax.tree.map(np.asarray, seen)
        now = self.clock.add("policy", now)
        step = self.env.step(action)
        ended = step.terminated | step.truncated | ~step.valid
        paid = np.where(step.valid, step.reward, 0)
        ret, length = state.ret + paid, state.length + step.valid
        terminated = step.terminated | (step.truncated & self.finite_horizon)
        row = HostRow(
            obs=seen,
            action=action,
            reward=np.sign(paid) if self.clip_reward else paid,
            paid=paid,
            terminated=terminated,
            truncated=step.truncated & ~terminated,
            log_mu=log_mu,
            time=state.time,
            valid=step.valid,
            over=step.over,
            ret=ret,
            length=length,
        )
        state = HostState(
            obs=step.obs,
            time=np.where(ended, 0, state.time + 1).astype(np.int32),
            ret=np.where(step.over, 0, ret),
            length=np.where(step.over, 0, length).astype(np.int32),
            action=received,
            reward=paid.astype(np.float32),
            carry=carry,
        )
        self.clock.add("env", now)
        return state, row, step

    def _compile(self, model: Any) -> None:
        """The policy's jitted step, and the noise of a whole window in one call."""
        arrays, static = eqx.partition(model, eqx.is_array)
        structure = jax.tree.structure(arrays)
        action_space, show = self.env.action_space, self.show

        def outputs(leaves: list, obs: Any, time: Any, action: Any, reward: Any, carry: Any) -> tuple:
            model = eqx.combine(jax.tree.unflatten(structure, leaves), static)
            seen = show(obs, action, reward, time == 0)
            output, carry = jax.vmap(lambda obs, time, carry: model(Input(obs, time, time == 0), carry))(
                seen, time, carry
            )
            return seen, output.distribution, carry

        def act(leaves, noise, t, obs, time, action, reward, carry):  # type: ignore[no-untyped-def]
            seen, distribution, carry = outputs(leaves, obs, time, action, reward, carry)
            now = jax.tree.map(lambda x: x[t], noise)
            action = jax.vmap(lambda d, noise: d.sample(noise))(distribution, now)
            log_mu = jax.vmap(lambda d, action: d.log_prob(action))(distribution, action)
            received = jax.vmap(lambda action: to_bounds(action_space, action))(action)
            return seen, action, received, log_mu, carry

        def draw(leaves, key, n_steps, state):  # type: ignore[no-untyped-def]
            now = (state.obs, state.time, state.action, state.reward, state.carry)
            one = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], outputs(leaves, *now)[1]))
            return one.draw(key, (n_steps, len(state.time)))

        self._act, self._draw = jax.jit(act), jax.jit(draw, static_argnums=2)

    def _trajectory(self, rows: HostRow, mask: np.ndarray, shown: list[HostStep], carry: Any) -> Trajectory:
        make: Any = Trajectory  # of NumPy arrays: the learner's call takes them to the device
        return make(
            obs=rows.obs,
            action=rows.action,
            reward=np.where(mask, rows.reward, 0).astype(np.float32),
            terminated=rows.terminated & mask,
            truncated=rows.truncated & mask,
            log_mu=rows.log_mu,
            time=rows.time,
            start=rows.time == 0,
            mask=mask,
            carry=carry,
            cut_obs=self._cut_obs(rows, mask, shown),
        )

    def _cut_obs(self, rows: HostRow, mask: np.ndarray, shown: list[HostStep]) -> PyTree[np.ndarray]:
        """The true successors at the cuts of each column, in order; their number padded to a power of two."""
        cut = mask & rows.truncated & ~rows.terminated
        cut[-1] |= mask[-1]
        slot = np.cumsum(cut, axis=0) - cut
        n_slots = power_of_two(max(1, int(cut.sum(axis=0).max())))
        kept = jax.tree.map(lambda x: np.zeros((n_slots, *x.shape), x.dtype), self._seen(shown[-1], rows, -1))
        for t in np.flatnonzero(cut.any(axis=1)).tolist():
            where = np.flatnonzero(cut[t])
            successor = self._seen(shown[t], rows, t)
            for target, leaf in zip(jax.tree.leaves(kept), jax.tree.leaves(successor)):
                target[slot[t, where], where] = leaf[where]
        return kept

    def _seen(self, step: HostStep, rows: HostRow, t: int) -> Any:
        """A step's true successor, as the policy would see it."""
        if self.show is plain:
            return step.successor
        action, reward = jax.tree.map(lambda x: x[t], (rows.action, rows.paid.astype(np.float32)))
        action = jax.vmap(lambda action: to_bounds(self.env.action_space, action))(action)
        start = np.zeros(len(reward), bool)
        return jax.tree.map(np.asarray, self.show(step.successor, action, reward, start))


def stack(rows: list[HostRow]) -> HostRow:
    """Rows over time, ``[T, B, ...]``: fresh arrays, which nobody writes to."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def pad(x: np.ndarray, n: int) -> np.ndarray:
    """``n`` rows of zeros behind."""
    return np.concatenate([x, np.zeros((n, *x.shape[1:]), x.dtype)]) if n else x


def power_of_two(n: int) -> int:
    """The least power of two that is at least n: few shapes, so few compilations."""
    return 1 << (n - 1).bit_length()


def finished_of(rows: HostRow, mask: np.ndarray) -> Finished:
    return Finished(rows.over & mask, rows.ret, rows.length)
