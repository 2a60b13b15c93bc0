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
    """The last action, as the environment received it; zeros where the policy does not remember."""
    reward: Any
    """The last reward; zeros where the policy does not remember."""
    carry: PyTree[Array]


class Played(NamedTuple):
    """One step of B streams, or, stacked, a window of them."""

    obs: PyTree[Any]
    """What the policy saw."""
    action: PyTree[Any]
    log_mu: Any
    time: Any


class Paid(NamedTuple):
    """What the environment answered to a window, ``[T, B]``."""

    reward: Any
    terminated: Any
    truncated: Any
    valid: Any
    over: Any


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

    def began(self, since: float) -> None:
        """The first window is over: whatever of it is booked nowhere was compiling too."""
        self.compiling = time.perf_counter() - since - sum(self.seconds.values())

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
        self._carry: Any = None

    def init(self, model: Any, key: Array) -> HostState:
        """The first step of an episode in every environment; the key seeds them."""
        if self._act is None:
            self._compile(model)
        return self._begin(int(jax.random.bits(key, (), jnp.uint32) >> 1))

    def collect(self, model: Any, state: HostState, key: Array) -> tuple[HostState, Trajectory, Finished]:
        if self._act is None:
            self._compile(model)
        return self.play(leaves_of(model), state, key)

    def play(self, leaves: list, state: HostState, key: Array) -> tuple[HostState, Trajectory, Finished]:
        """:func:`collect` for whoever has the model's :func:`leaves_of` at hand, after :meth:`init`."""
        return self._episodes(leaves, key) if self.n_steps is None else self._window(leaves, state, key)

    def _window(self, leaves: list, state: HostState, key: Array) -> tuple[HostState, Trajectory, Finished]:
        assert self.n_steps is not None
        first, noise = state, self._draw(leaves, key, self.n_steps, *self._now(state))
        rows: list[Played] = []
        shown: list[HostStep] = []
        for t in range(self.n_steps):
            state, row, step = self._step(leaves, noise, t, state)
            rows.append(row)
            shown.append(step)
        answers = answers_of(shown)
        ret, length, sums = running_sums(first, answers)
        trajectory = self._trajectory(stack(rows), answers, answers.valid, shown, first.carry)
        return state._replace(**sums), trajectory, finished_of(answers.over & answers.valid, ret, length)

    def _episodes(self, leaves: list, key: Array) -> tuple[HostState, Trajectory, Finished]:
        """One whole episode in each environment. Those that are over go on unseen until the last one is."""
        state = first = self._begin(None)
        alive = np.ones(self.env.num_envs, bool)
        rows: list[Played] = []
        shown: list[HostStep] = []
        masks: list[np.ndarray] = []
        block = 128
        while alive.any():
            t = len(rows) % block
            if t == 0:
                key, noise_key = jax.random.split(key)
                noise = self._draw(leaves, noise_key, block, *self._now(state))
            state, row, step = self._step(leaves, noise, t, state)
            rows.append(row)
            shown.append(step)
            masks.append(alive & step.valid)
            alive = alive & ~((step.terminated | step.truncated) & step.valid)
            if len(rows) >= LONGEST:
                raise RuntimeError(
                    f"an episode did not end within {LONGEST:,} steps: set max_episode_steps, "
                    "or choose a preset that learns from windows (a2c)"
                )
        padding = power_of_two(len(rows)) - len(rows)
        played, answers, mask = jax.tree.map(
            lambda x: pad(x, padding), (stack(rows), answers_of(shown), np.stack(masks))
        )
        ret, length, sums = running_sums(first, answers)
        trajectory = self._trajectory(played, answers, mask, shown, first.carry)
        return state._replace(**sums), trajectory, finished_of(answers.over & mask, ret, length)

    def _begin(self, seed: int | None) -> HostState:
        n, now = self.env.num_envs, time.perf_counter()
        obs = self.env.reset(seed)
        self.clock.add("env", now)
        action = jax.tree.map(lambda x: np.zeros((n, *x.shape), x.dtype), zeros(self.env.action_space))
        counter = np.zeros(n, np.int32)
        return HostState(obs, counter, np.zeros(n), counter, action, np.zeros(n, np.float32), self._carry)

    def _step(self, leaves: list, noise: Any, t: int, state: HostState) -> tuple[HostState, Played, HostStep]:
        """One step of every stream: a call to the device, a call to the environment, and hardly anything besides."""
        now = time.perf_counter()
        action, log_mu, carry, remembered = self._act(leaves, noise, np.int32(t), *self._now(state))
        action, remembered = fetched(action), fetched(remembered)
        now = self.clock.add("policy", now)
        step = self.env.step(action)
        ended = step.terminated | step.truncated | ~step.valid
        after = state._replace(obs=step.obs, time=np.where(ended, 0, state.time + 1).astype(np.int32), carry=carry)
        seen = state.obs
        if remembered:
            seen, received = remembered
            after = after._replace(action=received, reward=np.where(step.valid, step.reward, 0).astype(np.float32))
        self.clock.add("env", now)
        return after, Played(seen, action, log_mu, state.time), step

    def _now(self, state: HostState) -> tuple:
        """What the policy's step is given of a state, and no more: every array costs time on its way to the device."""
        return state.obs, state.time, () if self.show is plain else (state.action, state.reward), state.carry

    def _compile(self, model: Any) -> None:
        """The policy's jitted step, and the noise of a whole window in one call."""
        arrays, static = eqx.partition(model, eqx.is_array)
        structure = jax.tree.structure(arrays)
        action_space, show = self.env.action_space, self.show
        self._carry = initial_carry(model, (self.env.num_envs,))

        def outputs(leaves: list, obs: Any, time: Any, last: tuple, carry: Any) -> tuple:
            model = eqx.combine(jax.tree.unflatten(structure, leaves), static)
            seen = show(obs, *last, time == 0) if last else obs
            output, carry = jax.vmap(lambda obs, time, carry: model(Input(obs, time, time == 0), carry))(
                seen, time, carry
            )
            return seen, output.distribution, carry

        def act(leaves, noise, t, *now):  # type: ignore[no-untyped-def]
            seen, distribution, carry = outputs(leaves, *now)
            drawn = jax.tree.map(lambda x: x[t], noise)
            action = jax.vmap(lambda d, noise: d.sample(noise))(distribution, drawn)
            log_mu = jax.vmap(lambda d, action: d.log_prob(action))(distribution, action)
            if show is plain:
                return action, log_mu, carry, ()
            return action, log_mu, carry, (seen, jax.vmap(lambda action: to_bounds(action_space, action))(action))

        def draw(leaves, key, n_steps, *now):  # type: ignore[no-untyped-def]
            one = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], outputs(leaves, *now)[1]))
            return one.draw(key, (n_steps, self.env.num_envs))

        self._act, self._draw = jax.jit(act), jax.jit(draw, static_argnums=2)

    def _trajectory(
        self, rows: Played, answers: Paid, mask: np.ndarray, shown: list[HostStep], carry: Any
    ) -> Trajectory:
        make: Any = Trajectory  # of NumPy arrays: the learner's call takes them to the device
        reward = np.where(mask, answers.reward, 0)
        terminated, truncated = answers.terminated & mask, answers.truncated & mask
        if self.finite_horizon:
            terminated = terminated | truncated
        truncated = truncated & ~terminated
        over = truncated if self.n_steps is not None else truncated | terminated  # of ends too, for datasets
        return make(
            obs=rows.obs,
            action=rows.action,
            reward=(np.sign(reward) if self.clip_reward else reward).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            log_mu=rows.log_mu,
            time=rows.time,
            start=rows.time == 0,
            mask=mask,
            carry=carry,
            cut_obs=self._cut_obs(rows, reward, mask, over, shown),
        )

    def _cut_obs(
        self, rows: Played, reward: np.ndarray, mask: np.ndarray, over: np.ndarray, shown: list[HostStep]
    ) -> PyTree[np.ndarray]:
        """The true successors at the cuts of each column, in order; their number padded to a power of two."""

        def seen(t: int) -> Any:
            """A step's true successor, as the policy would see it."""
            successor = shown[t].successor
            if self.show is plain:
                return successor
            action = to_bounds(self.env.action_space, jax.tree.map(lambda x: x[t], rows.action))
            start = np.zeros(len(mask[t]), bool)
            return jax.tree.map(np.asarray, self.show(successor, action, reward[t].astype(np.float32), start))

        cut = over.copy()
        cut[-1] |= mask[-1]
        slot = np.cumsum(cut, axis=0) - cut
        n_slots = power_of_two(max(1, int(cut.sum(axis=0).max())))
        kept = jax.tree.map(lambda x: np.zeros((n_slots, *x.shape), x.dtype), seen(-1))
        for t in np.flatnonzero(cut.any(axis=1)).tolist():
            where = np.flatnonzero(cut[t])
            for target, leaf in zip(jax.tree.leaves(kept), jax.tree.leaves(seen(t))):
                target[slot[t, where], where] = leaf[where]
        return kept


def fetched(tree: Any) -> Any:
    """NumPy's arrays of JAX's."""
    return np.asarray(tree) if isinstance(tree, jax.Array) else jax.tree.map(np.asarray, tree)


def leaves_of(model: Any) -> list[Array]:
    """A model's arrays, as the policy's jitted step takes them. Traceable."""
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def stack(rows: list[Any]) -> Any:
    """Rows over time, ``[T, B, ...]``: fresh arrays, which nobody writes to."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def answers_of(shown: list[HostStep]) -> Paid:
    """What the environment answered, over time."""
    return Paid(*(np.stack([getattr(step, name) for step in shown]) for name in Paid._fields))


def finished_of(over: Any, ret: Any, length: Any) -> Finished:
    """Of NumPy arrays."""
    return Finished(over, ret, length)


def running_sums(first: HostState, answers: Paid) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """``(return, length)`` of the running games after each step, ``[T, B]``, and what the next window begins with."""
    ret, length = first.ret, first.length
    rets, lengths = np.empty(answers.over.shape), np.empty(answers.over.shape, np.int32)
    paid = np.where(answers.valid, answers.reward, 0)
    for t, over in enumerate(answers.over):
        rets[t], lengths[t] = ret + paid[t], length + answers.valid[t]
        ret, length = np.where(over, 0, rets[t]), np.where(over, 0, lengths[t])
    return rets, lengths, {"ret": ret, "length": length}


def pad(x: np.ndarray, n: int) -> np.ndarray:
    """``n`` rows of zeros behind."""
    return np.concatenate([x, np.zeros((n, *x.shape[1:]), x.dtype)]) if n else x


def power_of_two(n: int) -> int:
    """The least power of two that is at least n: few shapes, so few compilations."""
    return 1 << (n - 1).bit_length()
